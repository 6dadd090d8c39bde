"""The window of published effects: how far it reaches back, when it is scored, and that it can be interrupted."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.published import ENOUGH, PANES, PublishedWindow
from streamdrift.windows import Window
from tests.support.windows import rows, small_reference, some, through_msgpack, window

unhurried = settings(deadline=None, max_examples=60)  # a busy machine is no failure

SECOND = 1_000_000
HOUR = 3_600 * SECOND
TICKS = Ticks(10 * SECOND)
TICKS_A_PANE = 30


def published(window_us: int = HOUR, ticks: Ticks = TICKS) -> PublishedWindow:
    return PublishedWindow(small_reference(), ticks, window_us)


@functools.cache
def events(n: int) -> Window:
    return window(small_reference(), rows(np.random.default_rng(n), n))


def close_all(subject: PublishedWindow, traffic: Mapping[int, int], until: int) -> None:
    """Close the ticks with events, those that are due, and the last one."""
    arrivals = sorted(traffic)
    while True:
        due = subject.due()
        tick = min([t for t in (arrivals[0] if arrivals else None, due) if t is not None], default=until)
        if tick >= until:
            break
        subject.close(tick, events(traffic[tick]) if tick in traffic else None)
        arrivals = [t for t in arrivals if t > tick]


def shown(subject: PublishedWindow) -> list[Any]:
    return [subject.column(i) for i in range(len(small_reference().grid.columns))]


# ---- how far it reaches back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tick_s", "window_s"),
    [(10, 3_600), (60, 3_600), (300, 3_600), (600, 3_600), (1_200, 3_600), (10, 130), (7, 1_000)],
)
def test_in_steady_traffic_the_window_spans_the_configured_time_in_at_most_twelve_panes(
    tick_s: int, window_s: int
) -> None:
    ticks = Ticks(tick_s * SECOND)
    subject = published(window_s * SECOND, ticks)
    spanned = set()
    for tick in range(5 * window_s // tick_s):
        subject.close(tick, events(500))
        assert len(subject._panes) <= PANES
        if tick > 2 * window_s // tick_s:
            spanned.add(subject.events // 500 * tick_s)
    [span] = spanned
    assert window_s <= span <= window_s * (1 + 1 / 12) + tick_s, "whole panes, and a pane is whole ticks"


@pytest.mark.parametrize("tick_s", [7_200, 86_400])
def test_a_tick_longer_than_the_window_is_a_window(tick_s: int) -> None:
    subject = published(HOUR, Ticks(tick_s * SECOND))
    for tick in range(5):
        subject.close(tick, events(2_000))
        assert subject.events == 2_000


def test_in_slow_traffic_the_window_reaches_back_to_a_thousand_events_in_at_most_twelve_panes() -> None:
    subject = published()
    for tick in range(3 * 8_640):
        subject.close(tick, events(1) if tick % 60 == 0 else None)
        assert len(subject._panes) <= PANES
        if tick > 60 * 1_000 + TICKS_A_PANE:
            assert subject.events >= ENOUGH


def test_in_slow_traffic_the_window_reaches_back_not_much_further() -> None:
    """Else a change of last week would hide behind all the years before it."""
    subject, reach = published(), []
    for event in range(12_000):
        subject.close(60 * event, events(1))
        if event > 1_100:
            reach.append(subject.events)
    assert min(reach) >= ENOUGH
    assert max(reach) <= 1.3 * ENOUGH


def test_what_lies_before_the_window_is_dropped_once_the_rest_is_enough() -> None:
    """A dump of yesterday has no part in the last hour, however few ticks of the hour had events."""
    subject = published()
    day = 8_640
    close_all(subject, {0: 5_000, day: 500, day + 60: 499}, until=day + 200)
    assert subject.events == 5_999, "999 events of the last hour are too few to stand alone"
    close_all(subject, {day + 120: 1}, until=day + 200)
    assert subject.events == 1_000


@unhurried
@given(st.dictionaries(st.integers(0, 3_000), st.sampled_from([1, 50, 400, 1_000, 4_000]), max_size=40))
def test_nothing_in_the_window_is_kept_without_need_and_nothing_needed_is_dropped(traffic: dict[int, int]) -> None:
    subject = published()
    end = 3_000 + 2 * TICKS_A_PANE
    close_all(subject, traffic, until=end)
    assert len(subject._panes) <= PANES
    last = max(traffic, default=0) // TICKS_A_PANE
    in_window = {t: n for t, n in traffic.items() if t // TICKS_A_PANE > last - PANES}
    assert subject.events >= sum(in_window.values())
    assert subject.events >= min(ENOUGH, sum(traffic.values()))
    if sum(in_window.values()) >= ENOUGH and len({t // TICKS_A_PANE for t in traffic}) <= PANES:
        assert subject.events == sum(in_window.values())


# ---- when it is scored -----------------------------------------------------------------------------------------------


def test_below_a_thousand_events_there_is_no_data() -> None:
    subject = published()
    subject.close(0, events(999))
    subject.close(TICKS_A_PANE - 1, None)
    assert subject.events == 999
    assert shown(subject) == [None] * 4
    subject.close(TICKS_A_PANE, events(1))
    subject.close(2 * TICKS_A_PANE - 1, None)
    assert all(shown(subject))


def test_a_column_of_which_fewer_events_tell_has_no_data_alone() -> None:
    subject = published()
    features = window(small_reference(), rows(np.random.default_rng(1), 999))
    subject.close(0, features + events(1))
    grid = small_reference().grid
    few = events(1_000)
    counts = few.counts.copy()
    counts[small_reference().offsets[0] : small_reference().offsets[1]] = 0
    subject = published()
    subject.close(TICKS_A_PANE - 1, Window(few.events, counts, few.moments, few.names))
    assert [view is None for view in shown(subject)] == [name == grid.names[0] for name in grid.names]


def test_before_anything_came_there_is_no_data() -> None:
    assert shown(published()) == [None] * 4
    assert published().due() is None


def test_a_dump_into_one_tick_followed_by_silence_is_scored_once_its_pane_is_over() -> None:
    subject = published()
    subject.close(70, events(4_000))
    assert subject.due() == 89, "panes lie on a raster of event time: this one ends with the 15th minute"
    assert shown(subject) == [None] * 4
    subject.close(89, None)
    assert subject.events == 4_000
    assert all(shown(subject))
    assert subject.due() is None, "silence changes nothing more"


def test_effects_and_shares_are_those_of_the_window() -> None:
    reference, subject = small_reference(), published()
    values = rows(np.random.default_rng(2), 2_000)
    values |= {"amount": some(values["amount"], 0.25, None), "country": some(values["country"], 0.1, "XX")}
    live = window(reference, values)
    subject.close(TICKS_A_PANE - 1, live)
    for i, column in enumerate(reference.grid.columns):
        view = subject.column(i)
        assert view is not None
        plain = reference.effects(live)[i]
        assert (view["mean"], view["baseline_mean"]) == (plain.pop("mean_after", None), plain.pop("mean_before", None))
        assert view["effects"] == plain
        assert view["missing_ratio"] == (0.25 if column.name == "amount" else 0)
        assert view["unseen_ratio"] == (0.1 if column.name == "country" else 0)
        assert view["type_error_ratio"] == 0


def test_the_bounds_of_panes_do_not_depend_on_the_first_event() -> None:
    ends = set()
    for first in range(TICKS_A_PANE - 1):
        subject = published()
        subject.close(first, events(1))
        ends.add(subject.due())
    assert ends == {TICKS_A_PANE - 1}


# ---- state -----------------------------------------------------------------------------------------------------------


def interrupted(traffic: Iterable[tuple[int, int]], cuts: set[int]) -> tuple[list[Any], object]:
    subject, views = published(), []
    for tick, n in traffic:
        if tick in cuts:
            state = through_msgpack(subject.state())
            subject = published()
            subject.restore(state)
        subject.close(tick, events(n) if n else None)
        views.append((subject.events, subject.due(), shown(subject) if tick % 7 == 0 else None))
    return views, through_msgpack(subject.state())


@settings(deadline=None, max_examples=15)
@given(cuts=st.sets(st.integers(0, 800), max_size=5))
def test_going_on_from_a_snapshot_equals_going_on(cuts: set[int]) -> None:
    traffic = [(tick, (0, 0, 120, 0, 3)[tick % 5] if tick < 500 else (tick % 90 == 0) * 40) for tick in range(800)]
    assert interrupted(traffic, cuts) == uninterrupted()


@functools.cache
def uninterrupted() -> tuple[list[Any], object]:
    traffic = [(tick, (0, 0, 120, 0, 3)[tick % 5] if tick < 500 else (tick % 90 == 0) * 40) for tick in range(800)]
    return interrupted(traffic, set())


def test_the_state_holds_the_names_of_the_last_panes_alone() -> None:
    """Names of unknown categories are text of any length: an alert shows some of them, and no score needs them."""
    subject, values = published(), rows(np.random.default_rng(3), 200)
    for pane in range(40):
        named = window(small_reference(), values | {"country": some(values["country"], 0.5, f"pane-{pane:02}")})
        for tick in range(pane * TICKS_A_PANE, (pane + 1) * TICKS_A_PANE):
            subject.close(tick, named)
    assert set(re.findall(r"pane-\d\d", repr(subject.state()))) == {"pane-39"}


def test_the_state_of_another_window_can_be_gone_on_from() -> None:
    before, after = published(HOUR), published(2 * HOUR)
    for tick in range(1_000):
        before.close(tick, events(50))
    after.restore(through_msgpack(before.state()))
    for tick in range(1_000, 3_000):
        after.close(tick, events(50))
        assert len(after._panes) <= PANES
    assert after.events == 720 * 50


@pytest.mark.parametrize(
    "state", [None, 3, [], {}, [[], None], [[], None, "x"], [[[0, 30]], None, 0], [[], [1, b"", b"", {}], 30]]
)
def test_damaged_state_is_refused_and_changes_nothing(state: object) -> None:
    subject = published()
    for tick in range(100):
        subject.close(tick, events(50))
    before = through_msgpack(subject.state())
    with pytest.raises(StateError):
        subject.restore(state)
    assert through_msgpack(subject.state()) == before
    assert list(itertools.chain(before)) == before
