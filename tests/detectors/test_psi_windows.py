"""The rule of ``psi_windows``, number by number.

The values are laid out evenly instead of drawn: a quiet window has a PSI of 0 to three digits, a drifted one 2.9.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.baselines import Baseline
from streamdrift.detectors import effects
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.detectors.psi_windows import PsiWindows, threshold
from streamdrift.grids import Column, Grid, Kind
from streamdrift.summaries import Summary
from streamdrift.windows import Reference, Window
from tests.support.windows import Values, batch, summary, told, window

unhurried = settings(deadline=None)  # a busy machine is no failure

HOUR = Ticks(3_600_000_000)
DAY = 24
TWO_COLUMNS = Grid(
    "m",
    "1",
    (
        Column("amount", Kind.NUMERIC, edges=tuple(float(edge) for edge in range(5, 100, 5)), center=50.0),
        Column("size", Kind.CATEGORICAL, categories=("s", "m", "l", "xl")),
    ),
)


def amounts(n: int, shift: float = 0.0) -> Values:
    """Evenly from 0 to 100, in an order without trend."""
    return (np.arange(n) * 0.6180339887 % 1) * 100 + shift


def sizes(n: int) -> Values:
    return np.arange(n) % 4


@functools.cache
def reference() -> Reference:
    rows = 20_000
    return Reference(Baseline(TWO_COLUMNS, summary(TWO_COLUMNS, {"amount": amounts(rows), "size": sizes(rows)})))


@functools.cache
def quiet(n: int) -> Window:
    return window(reference(), {"amount": amounts(n), "size": sizes(n)})


@functools.cache
def drifted(n: int) -> Window:
    return window(reference(), {"amount": amounts(n, shift=50), "size": sizes(n)})


def run(*windows: Window | None, start: int = 0) -> list[tuple[int, Finding]]:
    """What is said of the amount."""
    return [(tick, f) for tick, f in told(PsiWindows(reference(), HOUR), enumerate(windows, start)) if f.column == 0]


def looks(found: Sequence[tuple[int, Finding]]) -> list[tuple[int, bool]]:
    """When a window ended, and whether the amount was in alarm then."""
    return [(tick, finding.alarm) for tick, finding in found]


# ---- the threshold ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 10**7), st.integers(200, 10**7))
def test_the_threshold_is_moderate_and_three_standard_deviations_of_chance(bins: int, n0: int, n: int) -> None:
    assert threshold(bins, n0, n) == pytest.approx(0.1 + 3 * (2 * (bins - 1)) ** 0.5 * (1 / n + 1 / n0))


def test_the_evidence_is_the_corrected_psi_over_the_threshold_of_the_bins_in_use() -> None:
    [(_, finding)] = run(drifted(3_000))
    ours, theirs = reference().published[0], reference().publish(drifted(3_000))[0]
    bins = int(effects.occupied_bins(ours, theirs))
    assert bins <= 12
    assert finding.evidence_ratio == pytest.approx(effects.corrected_psi(ours, theirs) / threshold(bins, 20_000, 3_000))
    assert finding.window is not None
    assert finding.window.counts.tolist() == drifted(3_000).counts.tolist()
    assert not finding.calibrated


def test_below_the_threshold_is_no_evidence_and_at_it_is() -> None:
    """Of 1,000 events, so many are moved that the PSI comes to lie just below and just above 0.1127."""

    def moved(share: int) -> float:
        values = amounts(1_000)
        values[:share] = 99.0
        [*_, (_, finding)] = run(*[window(reference(), {"amount": values, "size": sizes(1_000)})] * 3)
        assert finding.alarm == (finding.evidence_ratio >= 1)
        return finding.evidence_ratio

    ratios = [moved(share) for share in range(60, 160, 5)]
    assert ratios == sorted(ratios)
    assert ratios[0] < 1 < ratios[-1]


def test_evidence_of_one_comes_with_the_alarm_not_before_it() -> None:
    """The gauge says ``1 or more is an alarm``: evidence is what all windows that must agree have shown."""
    found = run(*[quiet(1_000)] * 2, *[drifted(1_000)] * 3)
    assert [finding.evidence_ratio >= 1 for _, finding in found] == [False, False, False, False, True]
    assert [finding.alarm for _, finding in found] == [False, False, False, False, True]


# ---- when a window ends ----------------------------------------------------------------------------------------------


def test_a_window_ends_with_the_tick_that_brings_its_thousandth_event() -> None:
    found = run(quiet(400), quiet(599), None, quiet(1), quiet(999), quiet(5_000))
    assert [(tick, f.window.events) for tick, f in found if f.window] == [(3, 1_000), (5, 5_999)]


def test_a_window_of_two_hundred_events_ends_after_a_day_in_an_empty_tick_too() -> None:
    subject = PsiWindows(reference(), HOUR)
    assert subject.close(10, quiet(200)) == []
    assert subject.due() == 10 + DAY - 1, "a day after the start of the tick in which it began"
    assert subject.close(10 + DAY - 2, None) == []
    assert len(subject.close(10 + DAY - 1, None)) == 2
    assert subject.due() is None


def test_a_window_of_fewer_events_waits_for_the_two_hundredth() -> None:
    subject = PsiWindows(reference(), HOUR)
    assert subject.close(0, quiet(199)) == []
    assert subject.due() is None
    assert subject.close(30 * DAY, None) == []
    assert len(subject.close(60 * DAY, quiet(1))) == 2, "then at once, for a day has passed"


def test_a_day_is_counted_in_whole_ticks_of_any_length() -> None:
    subject = PsiWindows(reference(), Ticks(7 * 3_600_000_000))
    subject.close(1, quiet(200))
    assert subject.due() == 4, "7 h + 24 h = 31 h, and the tick that ends at or after that ends at 35 h"


# ---- when a column alarms --------------------------------------------------------------------------------------------


def test_a_column_alarms_in_the_third_window_in_a_row() -> None:
    assert looks(run(*[drifted(1_000)] * 3)) == [(0, False), (1, False), (2, True)]


def test_a_quiet_window_in_between_starts_the_count_again() -> None:
    found = run(*[drifted(1_000)] * 2, quiet(1_000), *[drifted(1_000)] * 3)
    assert looks(found) == [(0, False), (1, False), (2, False), (3, False), (4, False), (5, True)]


@pytest.mark.parametrize(
    ("sizes_of_ticks", "alarm_at"),
    [((3_000,), 0), ((10**4,), 0), ((2_999,), None), ((2_999, 1_000), 1), ((1_999, 1_000), None), ((2_000, 1_999), 1)],
)
def test_a_window_counts_once_for_each_full_thousand_events(
    sizes_of_ticks: tuple[int, ...], alarm_at: int | None
) -> None:
    alarms = [tick for tick, finding in run(*map(drifted, sizes_of_ticks)) if finding.alarm]
    assert alarms[:1] == ([] if alarm_at is None else [alarm_at])


@pytest.mark.parametrize(("hours", "alarm_at"), [(7, 20), (8, 23), (15, 44), (16, 31), (23, 45), (24, 23)])
def test_a_window_counts_once_for_each_eight_hours_from_its_first_to_its_last_event(hours: int, alarm_at: int) -> None:
    """Windows of 1,000 events in so many hours: 7 h three windows, 16 h two, a day or more one."""
    found = run(*[drifted(500), *[None] * (hours - 2), drifted(500)] * 3)
    assert next(tick for tick, finding in found if finding.alarm) == alarm_at


def test_two_hundred_events_over_a_day_decide_and_in_a_burst_do_not() -> None:
    assert looks(run(drifted(100), *[None] * (DAY - 2), drifted(100))) == [(DAY - 1, True)]
    assert looks(run(drifted(200), *[None] * (DAY - 1))) == [(DAY - 1, False)], "whatever silence follows"


def test_fifty_events_a_day_reach_an_alarm() -> None:
    """A window takes the four days in which 200 events come together; the one in which it happens may be too early."""
    days = 40
    values = np.concatenate((amounts(days // 2 * 50), amounts(days // 2 * 50, shift=50)))
    ticks = np.arange(len(values)) * days * DAY // len(values)
    hours = [values[ticks == tick] for tick in range(days * DAY)]
    found = run(*[window(reference(), {"amount": few, "size": sizes(len(few))}) if len(few) else None for few in hours])
    alarms = [tick for tick, finding in found if finding.alarm]
    assert 20 * DAY < alarms[0] <= 28 * DAY
    assert {finding.window.events for _, finding in found if finding.window} <= {200, 201, 202}


def test_the_onset_is_the_start_of_the_first_window_of_the_run() -> None:
    halves = [quiet(500)] * 6 + [drifted(500)] * 12
    found = run(*halves, start=100)
    alarms = [(tick, finding.onset) for tick, finding in found if finding.alarm]
    assert alarms[0] == (111, 106)
    assert {onset for _, onset in alarms} == {106}, "and stays so while the alarm lasts"


def test_the_onset_of_an_interrupted_run_is_not_that_of_its_first_part() -> None:
    found = run(*[drifted(1_000)] * 2, quiet(1_000), *[drifted(1_000)] * 3)
    assert found[-1][1].onset == 3


def test_the_next_alarm_has_an_onset_of_its_own() -> None:
    found = run(*[drifted(1_000)] * 4, *[quiet(1_000)] * 3, *[drifted(1_000)] * 3)
    assert [finding.onset for _, finding in found if finding.alarm] == [0, 0, 0, 0, 7]


# ---- when it recovers ------------------------------------------------------------------------------------------------


def test_an_alarm_ends_with_the_third_window_in_a_row_below_half_of_the_threshold() -> None:
    found = run(*[drifted(1_000)] * 3, *[quiet(1_000)] * 4)
    assert looks(found)[2:] == [(2, True), (3, True), (4, True), (5, False), (6, False)]


def test_one_large_quiet_window_ends_an_alarm() -> None:
    assert looks(run(drifted(3_000), quiet(3_000))) == [(0, True), (1, False)]


def test_between_half_of_the_threshold_and_the_threshold_nothing_changes() -> None:
    values = amounts(3_000)
    values[:270] = 99.0
    between = window(reference(), {"amount": values, "size": sizes(3_000)})
    [(_, finding)] = run(between)
    assert 0.5 < finding.evidence_ratio < 1
    assert looks(run(between, drifted(3_000), between, between)) == [(0, False), (1, True), (2, True), (3, True)]
    assert {
        finding.onset for _, finding in run(quiet(3_000), drifted(3_000), between, drifted(3_000)) if finding.alarm
    } == {1}
    interrupted = [drifted(3_000), quiet(1_000), quiet(1_000), between, quiet(1_000), quiet(1_000), quiet(1_000)]
    assert [alarm for _, alarm in looks(run(*interrupted))] == [True] * 6 + [False]


# ---- which columns are judged ----------------------------------------------------------------------------------------


def with_amounts(n: int, carried: int) -> Window:
    """``n`` drifted events, the first ``carried`` of which carry features at all."""
    events, without = batch(TWO_COLUMNS, {"amount": amounts(n, shift=50), "size": sizes(n)}), np.arange(n) >= carried
    events.values[without] = np.nan
    return reference().reduce(Summary.of(replace(events, without_features=without)))


def test_a_column_with_fewer_than_two_hundred_values_is_not_judged() -> None:
    assert run(*[with_amounts(1_000, 199)] * 5) == []
    assert looks(run(*[with_amounts(1_000, 200)] * 3)) == [(0, False), (1, False), (2, True)]


def test_a_window_in_which_a_column_is_not_judged_neither_counts_nor_interrupts() -> None:
    mixed = [drifted(1_000), with_amounts(1_000, 0), drifted(1_000), with_amounts(1_000, 0), drifted(1_000)]
    assert looks(run(*mixed)) == [(0, False), (2, False), (4, True)]


def test_missing_values_are_values() -> None:
    gone = window(reference(), {"amount": np.full(3_000, np.nan), "size": sizes(3_000)})
    assert looks(run(gone)) == [(0, True)]


def test_a_column_of_which_the_baseline_holds_nothing_is_not_judged() -> None:
    values = {"amount": amounts(3_000), "size": sizes(3_000)}
    whole = summary(TWO_COLUMNS, values)
    counts = whole.counts.copy()
    counts[: TWO_COLUMNS.offsets[1]] = 0
    nothing = Reference(Baseline(TWO_COLUMNS, replace(whole, counts=counts)))
    found = PsiWindows(nothing, HOUR).close(0, window(nothing, values))
    assert [finding.column for finding in found] == [1]


def test_only_the_column_that_drifted_alarms() -> None:
    found = PsiWindows(reference(), HOUR).close(0, drifted(3_000))
    assert {finding.column: finding.alarm for finding in found} == {0: True, 1: False}


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([1_000, 2_000, 3_500])), max_size=30))
def test_the_alarm_is_that_of_counting_runs_by_hand(ticks: list[tuple[bool, int]]) -> None:
    expected, beyond, below, alarm = [], 0, 0, False
    for tick, (drifts, n) in enumerate(ticks):
        beyond, below = (beyond + n // 1_000, 0) if drifts else (0, below + n // 1_000)
        alarm = below < 3 if alarm else beyond >= 3
        expected.append((tick, alarm))
    assert looks(run(*[(drifted if drifts else quiet)(n) for drifts, n in ticks])) == expected
