"""Skew: what columns are compared with that differed from the first event on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamdrift.detectors.nulls import Binning, Null
from streamdrift.detectors.skew import Skew
from streamdrift.errors import StateError
from tests.support.windows import small_reference


def made() -> tuple[Null, Skew, NDArray[np.float64]]:
    binning = Binning(small_reference())
    baseline = binning.reduce(small_reference().window.counts)
    null = Null(baseline, binning)
    return null, Skew(null, baseline), baseline


def shifted(baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Other counts on the bins that each row has: the fullest one takes half of all."""
    found = baseline / 2
    found[np.arange(len(found)), baseline.argmax(axis=1)] += baseline.sum(axis=1) / 2
    return found


EVERYWHERE = np.ones(len(small_reference().grid.columns), dtype=np.bool_)


def test_a_skewed_column_is_compared_with_its_live_self_and_the_others_with_their_baseline() -> None:
    null, subject, baseline = made()
    before = null.shares.copy()
    subject.rows[0] = True
    subject.gather(shifted(baseline))
    subject.end_warm_up()
    assert null.shares[0].max() > before[0].max() + 0.2
    assert (null.shares[1:] == before[1:]).all()


def test_it_is_compared_with_its_baseline_again_when_it_is_close_to_that() -> None:
    null, subject, baseline = made()
    before = null.shares.copy()
    subject.rows[0] = True
    subject.gather(shifted(baseline))
    subject.end_warm_up()
    assert not subject.end(shifted(baseline).astype(np.float32), EVERYWHERE).any(), "nothing has changed"
    assert not subject.end(baseline.astype(np.float32), ~EVERYWHERE).any(), "too few events say so"
    assert subject.end(baseline.astype(np.float32), EVERYWHERE).tolist() == [True] + [False] * (len(baseline) - 1)
    assert (null.shares == before).all()
    assert not subject.rows.any()


def test_it_goes_on_from_its_state_and_refuses_that_of_other_columns() -> None:
    null, subject, baseline = made()
    subject.rows[0] = True
    subject.gather(np.round(shifted(baseline)))
    subject.end_warm_up()
    other_null, other, _ = made()
    other.restore(subject.state(warm_up=False), warm_up=False)
    assert (other_null.shares == null.shares).all()
    assert other.state(warm_up=False) == subject.state(warm_up=False)
    state = subject.state(warm_up=False)
    with pytest.raises(StateError):
        other.restore(type(state)(state.rows[1:], state.live, state.size), warm_up=False)
    with pytest.raises(StateError):
        other.restore(type(state)(state.rows, state.live[:-8], state.size), warm_up=False)
