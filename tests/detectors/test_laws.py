"""What holds for every detector in the table: a new one is covered by its line there.

Streams are those of a small model (``tests.support.windows``): 500 events a tick, ticks of a minute. A detector that
must be slower than these laws allow says so here, with its reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift import detectors
from streamdrift.detectors import table
from streamdrift.detectors.detector import Detector, DetectorFactory, Ticks
from streamdrift.errors import StateError
from streamdrift.grids import SCORE
from streamdrift.sensitivity import Sensitivity, WarmUp
from streamdrift.windows import Window
from tests.support.windows import (
    MISTYPED,
    Rows,
    plain,
    rows,
    small_reference,
    some,
    through_msgpack,
    told,
    window,
    with_due,
)

unhurried = settings(deadline=None, max_examples=30)  # a busy machine is no failure

TICKS = Ticks(60_000_000)
EVENTS = 500
WINDOWS = 200
"""Ticks of a null stream: 100 windows of 1,000 events."""

Change = Callable[[Rows], Rows]
CHANGES: dict[str, tuple[str, Change]] = {
    "a unit bug": ("amount", lambda r: r | {"amount": 100 * r["amount"]}),
    "a shift of one standard deviation": ("amount", lambda r: r | {"amount": r["amount"] + 12}),
    "three times the spread": ("amount", lambda r: r | {"amount": 40 + 3 * (r["amount"] - 40)}),
    "a constant": ("age_days", lambda r: r | {"age_days": np.zeros(len(r["age_days"]))}),
    "missing values": ("age_days", lambda r: r | {"age_days": some(r["age_days"], 0.5, np.nan).astype(float)}),
    "values of the wrong type": ("amount", lambda r: r | {"amount": some(r["amount"], 0.5, MISTYPED)}),
    "a new category": ("country", lambda r: r | {"country": some(r["country"], 0.3, "XX")}),
    "another mix of categories": ("country", lambda r: r | {"country": some(r["country"], 0.6, "PL")}),
    "higher scores": (SCORE, lambda r: r | {SCORE: r[SCORE] ** 0.5}),
}

SENSITIVITY = Sensitivity(warm_up=WarmUp(events=5_000))

every_detector = pytest.mark.parametrize("build", [factory for factory, _ in table().values()], ids=table().keys())
every_change = pytest.mark.parametrize("change", CHANGES)


def detector(build: DetectorFactory) -> Detector:
    return build(small_reference(), TICKS, SENSITIVITY)


def name(column: int) -> str:
    return small_reference().grid.names[column]


def drawn(seed: int, ticks: int, change: Change = lambda r: r) -> list[Window]:
    rng = np.random.default_rng(seed)
    return [window(small_reference(), change(rows(rng, EVENTS))) for _ in range(ticks)]


@functools.cache
def eventful() -> tuple[Window | None, ...]:
    """A stream in which everything happens: quiet, drift, another column's drift, recovery, gaps."""
    both: Change = lambda r: CHANGES["a unit bug"][1](CHANGES["a new category"][1](r))  # noqa: E731 — reads as it is used
    quiet, one, two = (
        drawn(seed, 12, change) for seed, change in enumerate((lambda r: r, CHANGES["a unit bug"][1], both))
    )
    return (*quiet, None, None, *one, None, *two, *[None] * 20, *quiet, None, *quiet[:3])


# ---- alarms ----------------------------------------------------------------------------------------------------------


@every_detector
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_alarms_in_a_hundred_thousand_events_that_look_like_the_baseline(
    build: DetectorFactory, seed: int
) -> None:
    subject = detector(build)
    assert list(told(subject, enumerate(drawn(seed, WINDOWS)))) == []
    assert subject.calibrated
    assert subject.evidence.shape == (4,)
    assert 0 < subject.evidence.max() < 1, "it says how far from an alarm it is"


@every_change
def test_a_large_change_is_found_in_its_column_alone_and_its_end_as_well(change: str) -> None:
    column, changed = CHANGES[change]
    before, during, after = drawn(4, 20), drawn(5, 40, changed), drawn(6, 40)
    state: dict[tuple[str, str], bool] = {}
    firsts: dict[tuple[str, bool], int] = {}
    begun: list[tuple[str, str]] = []
    subjects = detectors.build(small_reference(), TICKS, SENSITIVITY)
    known_as = {name for subject in subjects.values() for name in subject.names}
    for tick, events in enumerate([*before, *during, *after]):
        for finding in (finding for subject in subjects.values() for finding in subject.close(tick, events)):
            key = name(finding.column), finding.detector
            if finding.alarm and not state.get(key, False):
                begun.append(key)
            state[key] = finding.alarm
            firsts.setdefault((name(finding.column), finding.alarm), tick)
            assert finding.detector in known_as
            assert finding.calibrated
            if finding.alarm:
                assert finding.evidence_ratio >= 1
                assert finding.onset in range(14, tick + 1), "about when it began"
    assert {key for key, alarm in firsts if alarm} == {column}
    assert 20 <= firsts[column, True] < 60, "while the change lasts"
    assert not any(state.values()), "recovered in the end"
    assert len(begun) == len(set(begun)), "and not before"


@pytest.mark.parametrize("grown", [4, 20, 100])
@pytest.mark.parametrize("shift", [3.0, 5.0, 12.0])
def test_an_alarm_ends_as_well_when_ticks_hold_more_than_all_that_it_was_seen_in(shift: float, grown: int) -> None:
    rng, subjects = np.random.default_rng(9), detectors.build(small_reference(), TICKS, SENSITIVITY)
    state: dict[tuple[str, str], bool] = {}
    changes = [0.0] * 20 + [shift] * 10 + [0.0] * 22
    for tick, (events, by) in enumerate(zip([EVENTS] * 30 + [grown * EVENTS] * 22, changes, strict=True)):
        drawn_rows = rows(rng, events)
        of_tick = window(small_reference(), drawn_rows | {"amount": drawn_rows["amount"] + by})
        for finding in (finding for subject in subjects.values() for finding in subject.close(tick, of_tick)):
            state[name(finding.column), finding.detector] = finding.alarm
    assert ("amount", "shape") in state, "it was found"
    assert not any(state.values())


@every_detector
def test_the_twelfth_change_of_a_kind_is_found_as_the_first_one_was(build: DetectorFactory) -> None:
    subject = detector(build)
    both: Change = lambda r: CHANGES["a unit bug"][1](CHANGES["missing values"][1](r))  # noqa: E731 — reads as it is used
    quiet, changed = drawn(7, 60), drawn(8, 4, both)
    starts = list[int]()
    tick = 0
    for _ in range(12):
        found = 0
        for events in (*quiet, *changed):
            found += sum(finding.alarm for finding in subject.close(tick, events) if finding.confirmed)
            tick += 1
        starts.append(found)
    assert min(starts[1:]) >= 1, "what was in alarm says nothing of what is usual"


@every_detector
def test_a_gap_in_the_traffic_ends_no_alarm(build: DetectorFactory) -> None:
    subject = detector(build)
    last = {
        (f.column, f.detector): f.alarm for _, f in told(subject, enumerate(drawn(7, 20, CHANGES["a unit bug"][1])))
    }
    assert any(last.values())
    assert list(told(subject, ((tick, None) for tick in range(20, 20_000)))) == []


# ---- state -----------------------------------------------------------------------------------------------------------


@every_detector
@unhurried
@given(cuts=st.sets(st.integers(0, 60), max_size=4))
def test_a_snapshot_in_mid_stream_changes_nothing(build: DetectorFactory, cuts: set[int]) -> None:
    expected = [(tick, plain(f)) for tick, f in told(detector(build), enumerate(eventful()))]
    subject, found = detector(build), []
    for tick, events in enumerate(eventful()):
        if tick in cuts:
            state = through_msgpack(subject.state())
            subject = detector(build)
            subject.restore(state)
            assert through_msgpack(subject.state()) == state
        found += [(tick, plain(f)) for tick, f in told(subject, [(tick, events)])]
    assert found == expected


@every_detector
def test_a_snapshot_does_not_change_with_its_detector(build: DetectorFactory) -> None:
    subject = detector(build)
    list(told(subject, enumerate(drawn(8, 3))))
    state = subject.state()
    before = through_msgpack(state)
    list(told(subject, enumerate(drawn(9, 5), start=3)))
    assert through_msgpack(state) == before


def wrong_states(state: Any) -> Iterator[Any]:  # noqa: ANN401 — whatever the state is made of
    """States that no detector wrote: one leaf of another type, a list without its last element, bytes cut short."""
    if isinstance(state, dict):
        yield "no mapping"
        for key, value in state.items():
            yield from ({**state, key: wrong} for wrong in wrong_states(value))
        return
    yield {"not": "what was written"}
    if isinstance(state, bytes):
        yield from (b"", state[: len(state) // 2], state + b"\0", b"\x07" + state[1:])
    if isinstance(state, list):
        yield from ([], state[:-1], [*state, state[-1]])
        for i, value in enumerate(state):
            yield from ([*state[:i], wrong, *state[i + 1 :]] for wrong in wrong_states(value))


@every_detector
def test_damaged_state_is_refused_and_changes_nothing(build: DetectorFactory) -> None:
    subject = detector(build)
    list(told(subject, enumerate(eventful()[:31])))
    state = through_msgpack(subject.state())
    other = detector(build)
    fresh = through_msgpack(other.state())
    for wrong in [None, 3, "x", b"", [], {}, *wrong_states(state)]:
        if wrong != state:
            with pytest.raises(StateError):
                other.restore(wrong)
            assert through_msgpack(other.state()) == fresh


# ---- time ------------------------------------------------------------------------------------------------------------


@every_detector
@unhurried
@given(
    gaps=st.lists(st.one_of(st.integers(0, 3), st.sampled_from([60, 1_500, 4_400])), min_size=6, max_size=24),
    sizes=st.lists(st.sampled_from([1, 120, 500]), min_size=24, max_size=24),
)
def test_an_empty_tick_that_is_not_due_changes_nothing(
    build: DetectorFactory, gaps: list[int], sizes: list[int]
) -> None:
    drawn_once = {n: [window(small_reference(), rows(np.random.default_rng(n), n))] for n in (1, 120, 500)}
    stream: list[Window | None] = []
    for gap, size in zip(gaps, sizes, strict=False):
        stream += [*drawn_once[size], *[None] * gap]
    every, relevant = detector(build), detector(build)
    assert [(tick, plain(f)) for tick, f in with_due(relevant, enumerate(stream))] == [
        (tick, plain(f)) for tick, f in told(every, enumerate(stream))
    ]
    assert through_msgpack(relevant.state()) == through_msgpack(every.state())


@every_detector
def test_what_is_due_lies_ahead_and_comes_to_an_end(build: DetectorFactory) -> None:
    """Else closing all ticks at the end of time would go on for ever."""
    subject, tick = detector(build), 0
    for tick, events in enumerate(eventful()):
        subject.close(tick, events)
        due = subject.due()
        assert due is None or due > tick
    for _ in range(1_000):
        if (due := subject.due()) is None:
            break
        assert due > tick
        tick = due
        subject.close(tick, None)
    assert subject.due() is None
