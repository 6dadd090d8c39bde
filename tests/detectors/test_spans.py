"""Spans: sums over the last w events, against all events kept one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.detectors.spans import LOOKS, RUNS, SHORTEST, Spans
from streamdrift.errors import StateError

LENGTHS = [64.0, 128.0, 256.0, 512.0, 1_024.0]
several_ticks = st.lists(st.integers(1, 900) | st.integers(1, 5), min_size=1, max_size=60)
"""Events of each tick."""


def add(subject: Spans, tick: int, events: int, rows: int = 1) -> None:
    """Events whose only value is the number of their tick."""
    sums, totals = np.full((1, rows), tick * events, np.float32), np.full(rows, events, np.float32)
    subject.add(tick, sums, totals, events)


def fed(ticks: list[int], rows: int = 1) -> Spans:
    subject = Spans(LENGTHS, rows, 1)
    for tick, events in enumerate(ticks):
        add(subject, tick, events, rows)
        subject.due()
    return subject


@given(several_ticks)
def test_a_span_holds_the_last_events_and_hardly_more_than_it_is_long(ticks: list[int]) -> None:
    subject = Spans(LENGTHS, 1, 1)
    for tick, events in enumerate(ticks):
        add(subject, tick, events)
        behind = np.cumsum(ticks[tick::-1])
        sums_behind = np.cumsum([t * ticks[t] for t in range(tick, -1, -1)])
        suffixes = {int(n): float(s) for n, s in zip(behind, sums_behind, strict=True)}
        for spans, sums, totals in zip(*subject.due(), strict=True):
            held, length = int(totals[0]), LENGTHS[spans[-1]]
            assert held >= length
            assert sums[0, 0] == pytest.approx(suffixes[held]), "whole ticks, the newest ones"
            # The run that reaches over its end is of little more than two ticks, or a fraction of what is newer.
            assert held < 1.5 * length + SHORTEST + 2 * max(ticks[: tick + 1])


@given(several_ticks)
def test_runs_are_few_whatever_the_ticks(ticks: list[int]) -> None:
    subject = fed(ticks)
    sizes = subject._sizes
    assert len(sizes) <= (RUNS + 1) * (max(sizes).bit_length() + 1)
    kept = sum(sizes)
    assert kept == sum(ticks) or sum(sizes[1:]) < LENGTHS[-1] <= kept
    assert len(sizes) == len(subject._ticks) == len(subject._sums) == len(subject._totals)
    assert subject._ticks == sorted(subject._ticks)


def test_runs_are_few_after_a_million_ticks_of_one_event() -> None:
    subject = fed([1] * 20_000)
    assert len(subject._sizes) <= (RUNS + 1) * 8


@given(several_ticks)
def test_a_span_is_looked_at_at_most_eight_times_in_its_length(ticks: list[int]) -> None:
    subject = Spans(LENGTHS, 1, 1)
    looks = np.zeros(len(LENGTHS))
    for tick, events in enumerate(ticks):
        add(subject, tick, events)
        for spans in subject.due()[0]:
            looks[spans.start : spans.stop] += 1
    assert (looks <= LOOKS * sum(ticks) / np.array(LENGTHS)).all()


@given(several_ticks)
def test_suffixes_reach_back_run_by_run(ticks: list[int]) -> None:
    sums, totals, sizes, begun = fed(ticks).suffixes(0)
    for total, size, first, of_values in zip(totals, sizes, begun, sums[:, 0], strict=True):
        events = sum(ticks[first:])
        assert total == size <= events
        assert events - size < SHORTEST or events == size, "a run begins with its first tick"
        assert of_values <= sum(tick * n for tick, n in enumerate(ticks[first:], first)) + 0.5
    assert sizes == sorted(sizes)


def test_what_is_forgotten_is_gone_in_these_rows_alone() -> None:
    subject = fed([100] * 12, rows=2)
    subject.forget(np.array([True, False]))
    add(subject, 12, 200, rows=2)
    due, _, totals = subject.due()
    assert due == [range(2), range(2, 3), range(3, 4), range(4, 5)], "whatever holds the same events stands together"
    assert totals[:, 0].tolist() == [200.0] * 4
    assert totals[-1, 1] >= 1_024


@given(several_ticks, st.integers(0, 60))
def test_it_goes_on_from_its_state_to_the_bit(ticks: list[int], cut: int) -> None:
    whole, subject = fed(ticks), Spans(LENGTHS[:2], 1, 1)
    subject.restore(fed(ticks[:cut]).state())
    for tick, events in enumerate(ticks[cut:], min(cut, len(ticks))):
        add(subject, tick, events)
        subject.due()
    assert subject.state() == whole.state()


def test_the_chosen_ones_go_on_as_before() -> None:
    subject = fed([50] * 40)
    subject.keep(np.array([False, True, False, True, False]))
    add(subject, 40, 70)
    due, sums, totals = subject.due()
    assert [subject.lengths[spans[-1]] for spans in due] == [128.0, 512.0]
    assert (totals[:, 0] >= subject.lengths).all()
    assert sums[0, 0] == 40 * 70 + 39 * 50 + 38 * 50


def test_the_state_of_others_is_refused() -> None:
    with pytest.raises(StateError, match="do not fit 3 rows"):
        Spans(LENGTHS, 3, 1).restore(fed([100] * 5).state())
