"""Coverage and outcome summaries add up, and belong to the tick of a label and the window of its prediction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.summaries.coverage import DELAY_BINS, DELAY_EDGES_US, Coverage, Fate
from streamdrift.summaries.outcome_summary import OutcomeKey, OutcomeSummary, WindowKey
from streamdrift.summaries.summary import SummaryKey
from streamdrift.ticks import MICROSECONDS
from tests.support.outcomes import BINARY, coverages, outcome_summaries

few = settings(max_examples=50, deadline=None)
DAY_US = 86_400 * MICROSECONDS


@few
@given(coverages, coverages, coverages)
def test_coverage_is_a_commutative_group(a: Coverage, b: Coverage, c: Coverage) -> None:
    assert a + Coverage.empty() == a
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + b - b == a
    assert (a + b).pending == a.pending + b.pending


@few
@given(st.lists(outcome_summaries(BINARY), min_size=3, max_size=3))
def test_outcome_summaries_add_up_in_any_order(three: list[OutcomeSummary]) -> None:
    a, b, c = three
    assert a + OutcomeSummary.empty(BINARY) == a
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)


def test_what_is_left_of_the_predictions_is_pending() -> None:
    coverage = Coverage.of({Fate.PREDICTED: 10, Fate.SAMPLED_OUT: 1, Fate.LABELLED: 4, Fate.EXPIRED: 2, Fate.ORPHAN: 9})
    assert coverage.pending == 3
    assert coverage.ratio == 0.4
    assert coverage[Fate.ORPHAN] == 9
    assert Coverage.empty().ratio is None


@few
@given(st.lists(st.integers(-DAY_US, 500 * DAY_US), min_size=1), st.floats(0, 1))
def test_a_quantile_of_the_delays_is_at_most_a_root_of_two_too_long(delays: list[int], share: float) -> None:
    coverage = Coverage.of({}, np.array(delays))
    assert coverage.delays.counts.sum() == len(delays)
    assert coverage.delays.keys.max() < DELAY_BINS
    found = coverage.delay_quantile_us(share)
    exact = sorted(delays)[max(1, int(np.ceil(share * len(delays)))) - 1]
    assert found is not None
    if MICROSECONDS <= exact <= DELAY_EDGES_US[-1]:
        assert exact <= found <= exact * 2**0.5 + 1
    else:
        assert found == min(max(exact, MICROSECONDS), DELAY_EDGES_US[-1])


def test_without_labels_there_is_no_delay() -> None:
    assert Coverage.of({Fate.PREDICTED: 5}).delay_quantile_us(0.5) is None


def test_bins_of_delays_reach_from_a_second_to_more_than_a_year() -> None:
    assert DELAY_EDGES_US[0] == MICROSECONDS
    assert DELAY_EDGES_US[-1] > 366 * DAY_US
    assert DELAY_EDGES_US[1:] / DELAY_EDGES_US[:-1] == pytest.approx(2**0.5, rel=1e-6)


def test_a_key_has_both_times() -> None:
    key = OutcomeKey("fraud", "7", "eu", tick=170, window=3)
    assert key.of_tick == SummaryKey("fraud", "7", "eu", 170)
    assert key.of_window == WindowKey("fraud", "7", "eu", 3)
