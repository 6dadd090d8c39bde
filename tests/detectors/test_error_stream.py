"""Concept drift on error streams: what opens an alarm, what ends it, and that nothing but the values decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift.detectors.error_stream import (
    BLOCK,
    DEFAULT,
    FROZEN,
    RENEWED,
    ErrorShift,
    ErrorStream,
    ErrorStreamConfig,
)
from streamdrift.detectors.river import RiverDetector, RiverSpec
from streamdrift.errors import StateError
from tests.support.concepts import in_bursts

Floats = NDArray[np.float64]
CLASSES, NUMBERS = ErrorStreamConfig(binary=True), ErrorStreamConfig(binary=False)
TICK = 500


def rates(*levels: tuple[int, float], seed: int = 1) -> Floats:
    """Errors of a classifier: so many values at each rate."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.random(n) < rate for n, rate in levels]).astype(np.float64)


def sizes(*levels: tuple[int, float], seed: int = 1) -> Floats:
    """|errors| of a regression, of a tail without a variance, scaled."""
    rng = np.random.default_rng(seed)
    return np.concatenate([scale * np.abs(rng.standard_t(2, n)) for n, scale in levels])


def fed(stream: ErrorStream, values: Floats, tick: int = TICK) -> list[ErrorShift]:
    return [stream.close(i, values[start : start + tick]) for i, start in enumerate(range(0, len(values), tick))]


def told(shifts: Sequence[ErrorShift]) -> list[tuple[int, bool]]:
    """The ticks in which an alarm began (true) or ended (false)."""
    return [(tick, shift.alarm) for tick, shift in enumerate(shifts) if shift.changed]


def through_msgpack(stream: ErrorStream) -> dict[str, Any]:
    state: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(stream.state()))
    return state


@pytest.mark.parametrize(
    ("config", "values", "before", "after"),
    [
        (CLASSES, rates((5_000, 0.1), (3_000, 0.3), (4_000, 0.1)), 0.1, 0.3),
        (CLASSES, rates((5_000, 0.3), (3_000, 0.1), (4_000, 0.3)), 0.3, 0.1),
        (CLASSES, rates((5_000, 0.0), (3_000, 0.1), (4_000, 0.0)), 0.0, 0.1),
        (CLASSES, rates((5_000, 1.0), (3_000, 0.8), (4_000, 1.0)), 1.0, 0.8),
        (NUMBERS, np.abs(sizes((5_000, 1e6), (3_000, 2e6), (4_000, 1e6))), 1.4e6, 2.8e6),
        (NUMBERS, np.abs(sizes((5_000, 1e-6), (3_000, 2e-6), (4_000, 1e-6))), 1.4e-6, 2.8e-6),
    ],
    ids=["more errors", "fewer errors", "first errors", "always wrong", "large numbers", "small numbers"],
)
def test_a_change_opens_an_alarm_with_both_levels_and_the_way_back_ends_it(
    config: ErrorStreamConfig, values: Floats, before: float, after: float
) -> None:
    shifts = fed(ErrorStream(config), values)
    (began, _), (ended, _) = told(shifts)
    assert 10 <= began <= 12
    assert 16 <= ended <= 19
    last = shifts[15]
    assert last.alarm
    assert last.worse == (after > before)
    assert last.before == pytest.approx(before, rel=0.2)
    assert last.after == pytest.approx(after, rel=0.2)
    assert last.onset is not None
    assert 10 <= last.onset <= began
    assert not shifts[-1].alarm


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.4])
def test_a_level_that_stays_alarms_not(rate: float) -> None:
    assert told(fed(ErrorStream(CLASSES), rates((100_000, rate)))) == []


def test_errors_in_bursts_are_no_change_although_river_cuts() -> None:
    streams = [in_bursts(50_000, seed) for seed in range(4)]
    cuts = sum(len(RiverDetector(DEFAULT).feed(values)) for values in streams)
    alarms = sum(shift.changed and shift.alarm for values in streams for shift in fed(ErrorStream(CLASSES), values))
    assert cuts > 100
    assert alarms <= 2


def test_a_change_below_the_minimum_is_none_of_an_alarm() -> None:
    values = rates((40_000, 0.1), (40_000, 0.14))
    assert told(fed(ErrorStream(CLASSES), values))
    assert told(fed(ErrorStream(ErrorStreamConfig(binary=True, minimum_effect=0.08)), values)) == []


def test_a_slow_drift_is_told_of_although_no_step_is_large() -> None:
    rng = np.random.default_rng(4)
    shifts = fed(ErrorStream(CLASSES), (rng.random(60_000) < np.linspace(0.1, 0.3, 60_000)).astype(np.float64))
    assert [alarm for _, alarm in told(shifts)] == [True]
    assert shifts[-1].after is not None
    assert shifts[-1].after > 0.2


def test_the_reference_stops_growing() -> None:
    shifts = fed(ErrorStream(CLASSES), rates((60_000, 0.1)))
    learned = [shift.n_before for shift in shifts]
    assert learned == sorted(learned)
    assert FROZEN * BLOCK <= learned[-1] < 2 * FROZEN * BLOCK
    assert learned[-1] == learned[-20]


def test_what_came_after_a_cut_for_nothing_joins_the_reference() -> None:
    """Bursts make River cut early, and the reference is known better in the end than it was then."""
    shifts = fed(ErrorStream(CLASSES), in_bursts(30_000, seed=3))
    first = next(shift for shift in shifts if shift.detections and shift.before is not None)
    assert shifts[-1].n_before >= 2 * first.n_before


def test_an_alarm_says_what_the_level_is_and_not_what_it_was() -> None:
    """At a level that stays River has nothing to cut; all the same, what is told is never of more than 4,096 values."""
    shifts = fed(ErrorStream(CLASSES), rates((5_000, 0.1), (20_000, 0.3)))
    assert [alarm for _, alarm in told(shifts)] == [True]
    counted = [shift.n_after for shift in shifts if shift.alarm]
    assert 0.8 * RENEWED * BLOCK < max(counted) <= RENEWED * BLOCK


def test_an_alarm_does_not_end_and_begin_again_where_the_errors_come_back_in_part() -> None:
    for seed in range(8):
        values = rates((10_000, 0.1), (3_000, 0.6), (6_000, 0.25), seed=seed)
        assert [alarm for _, alarm in told(fed(ErrorStream(CLASSES), values, tick=32))] == [True]


def test_what_an_alarm_left_behind_does_not_become_the_reference() -> None:
    """Hardly far enough from the reference for an alarm, as that is known from few values, and yet not the same."""
    for seed in range(5):
        shifts = fed(ErrorStream(CLASSES), rates((2_000, 0.06), (2_000, 0.5), (12_000, 0.085), seed=seed))
        assert [alarm for _, alarm in told(shifts)][:2] == [True, False]
        assert shifts[-1].before == shifts[5].before


def test_what_changes_before_anything_is_known_begins_the_reference_anew() -> None:
    shifts = fed(ErrorStream(CLASSES), rates((400, 0.05), (6_000, 0.6)), tick=100)
    assert told(shifts) == []
    assert shifts[-1].before == pytest.approx(0.6, abs=0.05)


# ---- laws ------------------------------------------------------------------------------------------------------------

both_kinds = pytest.mark.parametrize(
    ("config", "values"),
    [
        (CLASSES, rates((3_000, 0.1), (2_000, 0.4), (2_000, 0.1), seed=5)),
        (NUMBERS, sizes((3_000, 1.0), (2_000, 4.0), (2_000, 1.0), seed=5)),
    ],
    ids=["classes", "numbers"],
)


@both_kinds
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 7_000), max_size=6))
def test_how_the_stream_is_cut_changes_nothing(config: ErrorStreamConfig, values: Floats, cuts: list[int]) -> None:
    whole, pieces = ErrorStream(config), ErrorStream(config)
    whole.close(0, values)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(values)], strict=True):
        pieces.close(0, values[start:end])
    assert pieces.state() == whole.state()


@both_kinds
@settings(max_examples=25)
@given(at=st.integers(0, 14))
def test_a_snapshot_in_the_middle_changes_nothing(config: ErrorStreamConfig, values: Floats, at: int) -> None:
    straight = ErrorStream(config)
    before = fed(straight, values[: at * TICK])
    resumed = ErrorStream(config)
    resumed.restore(through_msgpack(straight))
    after = fed(resumed, values[at * TICK :])
    assert after == fed(straight, values[at * TICK :])
    assert through_msgpack(resumed) == through_msgpack(straight)
    assert [alarm for _, alarm in told(before + after)] == [True, False]


@pytest.mark.parametrize("exponent", [-300, -20, 20, 300])
def test_the_unit_of_the_errors_changes_no_decision(exponent: int) -> None:
    values = sizes((3_000, 1.0), (2_000, 4.0), (2_000, 1.0), seed=5)
    scaled = np.ldexp(values, exponent)
    assert told(fed(ErrorStream(NUMBERS), scaled)) == told(fed(ErrorStream(NUMBERS), values))


@pytest.mark.parametrize(
    ("config", "wrong"), [(CLASSES, [np.nan, np.inf, -1.0, 0.5]), (NUMBERS, [np.nan, np.inf, -np.inf, -1.0, 1e200])]
)
def test_what_is_no_error_is_left_out_and_counted(config: ErrorStreamConfig, wrong: list[float]) -> None:
    values = rates((2_000, 0.1), (2_000, 0.4))
    clean, dirty = ErrorStream(config), ErrorStream(config)
    clean.close(0, values)
    dirty.close(0, np.insert(values, np.full(len(wrong), 1_234), wrong))
    assert dirty.left_out == len(wrong)
    levels: Any = dirty.state()["levels"]
    assert levels | {"left_out": 0} == clean.state()["levels"]


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (ErrorStreamConfig(binary=False, river=RiverSpec("drift.binary.HDDMA")), "errors of numbers are neither"),
        (ErrorStreamConfig(binary=True, river=RiverSpec("drift.ADVIN")), "unknown River detector"),
        (ErrorStreamConfig(binary=True, minimum_effect=0.0), "minimum_effect"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: ErrorStreamConfig, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ErrorStream(config)


@pytest.mark.parametrize("state", [{}, {"river": {}, "levels": {}}, {"river": 3, "levels": None}])
def test_what_was_never_a_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(StateError):
        ErrorStream(CLASSES).restore(state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reference", [-1, 1.0, 1.0, 1.0, 1.0]),
        ("reference", [4, 1.0, 1.0, 1.0, 1.0]),
        ("reference", [40, float("nan"), 1.0, 1.0, 1.0]),
        ("reference", [40, float("inf"), 1.0, 1.0, 1.0]),
        ("current", [0, 0.0, 0.0, 0.0, 0.0]),
        ("partial", [[0.0, 0.0]] * (BLOCK + 1)),
        ("told", 7.0),
        ("scale", -1.0),
    ],
)
def test_levels_that_no_values_had_are_refused(name: str, value: object) -> None:
    stream = ErrorStream(CLASSES)
    fed(stream, rates((3_000, 0.1), (1_000, 0.4)))
    state = through_msgpack(stream)
    ErrorStream(CLASSES).restore(state)
    state["levels"][name] = value
    with pytest.raises(StateError):
        stream.restore(state)


def test_a_state_of_another_stream_is_refused() -> None:
    for one, other in ((CLASSES, NUMBERS), (NUMBERS, CLASSES)):
        with pytest.raises(StateError, match="error stream: the state is of errors of"):
            ErrorStream(one).restore(through_msgpack(ErrorStream(other)))
    tuned = ErrorStreamConfig(binary=True, river=RiverSpec(DEFAULT.class_name, {"delta": 0.5}))
    with pytest.raises(StateError, match="other parameters"):
        ErrorStream(tuned).restore(through_msgpack(ErrorStream(CLASSES)))
