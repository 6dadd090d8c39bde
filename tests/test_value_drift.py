"""Outcomes of a regression that lie elsewhere than they did."""

from __future__ import annotations

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.benchmarks import LabelDistribution
from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.incidents import Sighting
from streamdrift.outcome_evidence import LARGEST_PSI
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.summaries.outcomes import Outcomes, ValueRows
from streamdrift.value_drift import ValueDrift
from tests.support.windows import through_msgpack

HOUR_US = 3_600_000_000
GRID = OutcomeGrid.regression(0.0, 200.0)
USUAL = LabelDistribution(10_000, mean=100.0, sd=10.0)


def outcomes(mean: float, n: int = 1_000, seed: int = 1, sd: float = 10.0) -> Outcomes:
    true = np.random.default_rng(seed).normal(mean, sd, n)
    return Outcomes.of(ValueRows(GRID, true, true + 1))


NOTHING = Outcomes.empty(GRID)


def drift(usual: LabelDistribution | None = None, delay_hours: int = 0) -> ValueDrift:
    return ValueDrift(GRID, Ticks(HOUR_US), delay_hours * HOUR_US, usual)


def lived(subject: ValueDrift, ticks: list[Outcomes], start: int = 0) -> dict[int, list[Sighting]]:
    return {tick: subject.close(tick, each) for tick, each in enumerate(ticks, start)}


def alarms(found: dict[int, list[Sighting]]) -> list[int]:
    return [tick for tick, seen in found.items() if any(each.contribution for each in seen)]


def test_outcomes_where_the_training_table_has_them_are_no_drift() -> None:
    ticks = [outcomes(100.0, seed=seed) for seed in range(100)]
    assert alarms(lived(drift(USUAL), ticks)) == []


def test_a_shift_of_half_a_deviation_is_told_of_until_it_ends() -> None:
    ticks = [outcomes(100.0)] * 4 + [outcomes(105.0)] * 5 + [outcomes(100.0)] * 5
    found = lived(drift(USUAL), ticks)
    assert alarms(found) == [6, 7, 8, 9, 10], "three windows that agree begin it, and three end it"
    [seen] = found[6]
    assert seen.kind == "label_drift"
    assert seen.contribution is not None
    assert seen.contribution.onset == 4
    assert seen.contribution.psi == pytest.approx(0.25, abs=0.06)
    assert seen.contribution.phrase == "label shifted up 0.45 sd (mean 100 to 104.5)"


def test_without_a_table_the_first_outcomes_are_compared_with() -> None:
    assert alarms(lived(drift(), [outcomes(100.0)] * 3 + [outcomes(90.0)] * 3)) == [5]


def test_outcomes_that_come_early_are_not_looked_at() -> None:
    ticks = [outcomes(130.0)] * 6 + [outcomes(100.0)] * 6
    assert alarms(lived(drift(USUAL, delay_hours=6), ticks)) == []
    assert alarms(lived(drift(USUAL), ticks)) != []


def test_outcomes_that_never_varied_have_moved_by_any_difference() -> None:
    constant = LabelDistribution(1_000, mean=5.0, sd=0.0)
    found = lived(drift(constant), [outcomes(5.0, sd=0.0)] * 3 + [outcomes(6.0, sd=0.0)] * 3)
    assert alarms(found) == [5]
    contribution = found[5][0].contribution
    assert contribution is not None
    assert contribution.psi == LARGEST_PSI
    assert contribution.phrase == "label moved from 5 to 6"
    json.dumps(dict(contribution.data), allow_nan=False)


def test_few_outcomes_wait_for_a_day_and_a_day_counts_for_three_windows() -> None:
    subject = drift(USUAL)
    for hour in range(23):
        assert subject.close(hour, outcomes(110.0, 20, hour)) == []
    assert subject.due() == 23
    [seen] = subject.close(23, NOTHING)
    assert seen.contribution is None, "two thirds of a day, of two windows"
    [seen] = [each for hour in range(24, 48) for each in subject.close(hour, outcomes(110.0, 20, hour))]
    assert seen.contribution is not None


def test_chance_alone_passes_the_threshold_of_small_windows_seldom() -> None:
    rng = np.random.default_rng(5)
    psi = [((rng.normal(0, 1, 200).mean()) ** 2 - 1 / 200) for _ in range(2_000)]
    assert np.mean(np.array(psi) > 0.1 + 3 * math.sqrt(2) / 200) < 1e-3


ticks = st.lists(
    st.sampled_from([outcomes(100.0), outcomes(120.0), outcomes(120.0, 30), NOTHING, -outcomes(100.0, 10)]), max_size=14
)


@settings(deadline=None)
@given(ticks, st.integers(0, 14), st.sampled_from([None, USUAL]), st.integers(0, 3))
def test_a_snapshot_at_any_tick_changes_nothing(
    log: list[Outcomes], cut: int, usual: LabelDistribution | None, delay: int
) -> None:
    whole, first, second = drift(usual, delay), drift(usual, delay), drift(usual, delay)
    expected = lived(whole, log)
    found = lived(first, log[:cut])
    assert second.restore(through_msgpack(first.state()))
    found |= lived(second, log[cut:], min(cut, len(log)))
    assert found == expected
    assert msgspec.msgpack.encode(second.state()) == msgspec.msgpack.encode(whole.state())


def test_another_training_table_begins_anew() -> None:
    first, second = drift(USUAL), drift(LabelDistribution(10_000, mean=120.0, sd=10.0))
    lived(first, [outcomes(120.0)] * 5)
    assert not second.restore(first.state())
    assert alarms(lived(second, [outcomes(120.0)] * 5, 5)) == []


@pytest.mark.parametrize("state", [None, [], [1, None], [None, None, b"", None, 0, [], 0, False]])
def test_damaged_state_is_refused(state: object) -> None:
    with pytest.raises(StateError):
        drift().restore(state)
