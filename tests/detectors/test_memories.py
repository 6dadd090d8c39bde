"""Memories: exponentially weighted counts, against the sums written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.detectors.memories import FADED, Memories, ladder
from streamdrift.errors import StateError

ticks = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 700)), min_size=1, max_size=30)
"""Counts of two bins of one row, and the events of the tick beyond these."""


def fed(lengths: list[float], drawn: list[tuple[int, int, int]], rows: int = 1) -> Memories:
    subject = Memories(lengths, rows, 2)
    for one, other, more in drawn:
        counts = np.full((rows, 2), (one, other), np.float32)
        subject.add(counts, counts.sum(axis=1), one + other + more)
    return subject


@given(ticks)
def test_sums_are_those_written_out(drawn: list[tuple[int, int, int]]) -> None:
    subject = fed([64.0, 1_024.0], drawn)
    for place, length in enumerate(subject.lengths):
        ages = np.cumsum([0, *(sum(tick) for tick in drawn[:0:-1])])[::-1]
        decays = np.exp(-ages / length)
        counts = np.array([tick[:2] for tick in drawn], dtype=np.float64)
        weights = (decays * counts.sum(axis=1)).sum()
        if weights < 1:
            continue  # nothing is left of it, or hardly anything
        squares = (decays**2 * counts.sum(axis=1)).sum()
        assert subject.weights[place, 0] == pytest.approx(weights, rel=1e-5)
        assert subject.effective(place)[0] == pytest.approx(weights**2 / squares, rel=3e-5)
        expected = (decays[:, None] * counts).sum(axis=0) / weights
        assert subject.shares(place)[0] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("length", ladder(4_096.0))
def test_a_memory_is_worth_twice_its_length_in_the_long_run(length: float) -> None:
    subject = fed([length], [(1, 1, 0)] * int(6 * length))
    assert subject.effective(0)[0] == pytest.approx(2 * length, rel=0.05)


def test_it_is_looked_at_each_time_that_it_has_passed() -> None:
    subject = Memories([64.0, 256.0], 1, 2)
    looks: list[tuple[int, float]] = []
    for _ in range(64):
        subject.add(np.ones((1, 2), np.float32), np.array([2.0], np.float32), 16)
        looks += subject.due()
    assert [place for place, _ in looks].count(0) == 16
    assert [place for place, _ in looks].count(1) == 4
    assert sum(events for place, events in looks if place == 1) == 1_024


def test_it_is_looked_at_less_often_where_that_is_wanted() -> None:
    subject = Memories([64.0, 256.0], 1, 2)
    looks: list[tuple[int, float]] = []
    for _ in range(64):
        subject.add(np.ones((1, 2), np.float32), np.array([2.0], np.float32), 16)
        looks += subject.due(at_least=128.0)
    assert looks.count((0, 128.0)) == 8
    assert looks.count((1, 256.0)) == 4


@pytest.mark.parametrize("longest", [1.0, 511.0, 512.0, 5_000.0, 131_072.0])
def test_the_ladder_has_two_steps_at_least_and_goes_no_further_than_asked_for(longest: float) -> None:
    lengths = ladder(longest)
    assert lengths[:2] == [128.0, 512.0]
    assert all(b == 4 * a for a, b in itertools.pairwise(lengths))
    assert lengths[-1] <= max(longest, 512.0) < 4 * lengths[-1] + 1


def test_a_row_that_gets_no_more_values_keeps_its_shares_until_nothing_is_left_of_it() -> None:
    subject = Memories([64.0], 2, 2)
    subject.add(np.array([[30, 10], [30, 10]], np.float32), np.array([40.0, 40.0], np.float32), 40)
    seen = []
    for _ in range(200):
        subject.add(np.array([[0, 0], [3, 1]], np.float32), np.array([0.0, 4.0], np.float32), 64)
        assert subject.shares(0)[1] == pytest.approx([0.75, 0.25])
        seen.append((subject.weights[0, 0] > 0, *subject.shares(0)[0].tolist()))
    held = [shares for holds, *shares in seen if holds]
    assert held == [pytest.approx([0.75, 0.25], rel=1e-4)] * len(held)
    assert 10 < len(held) < np.log(40 / FADED) + 1
    assert seen[-1] == (False, 0.0, 0.0)
    assert subject.effective(0)[0] == 0


def test_what_is_forgotten_is_gone_in_these_rows_alone() -> None:
    subject = fed([64.0, 256.0], [(5, 7, 0)] * 10, rows=3)
    subject.forget(np.array([False, True, False]))
    assert subject.effective(0)[1] == subject.effective(1)[1] == 0
    assert subject.shares(1).tolist()[1] == [0, 0]
    assert subject.effective(0)[0] == subject.effective(0)[2] > 0


def test_the_chosen_ones_go_on_as_if_there_had_been_no_others() -> None:
    several, one = fed([64.0, 256.0, 1_024.0], [(5, 7, 3)] * 30), fed([256.0], [(5, 7, 3)] * 30)
    several.keep(np.array([False, True, False]))
    assert several.state() == one.state()


@given(ticks)
def test_it_goes_on_from_its_state_to_the_bit(drawn: list[tuple[int, int, int]]) -> None:
    whole = fed([64.0, 256.0], drawn + drawn)
    subject = Memories([64.0], 1, 2)
    subject.restore(fed([64.0, 256.0], drawn).state())
    for one, other, more in drawn:
        counts = np.array([[one, other]], np.float32)
        subject.add(counts, counts.sum(axis=1), one + other + more)
    assert subject.state() == whole.state()


def test_the_state_of_other_rows_is_refused() -> None:
    with pytest.raises(StateError, match="2 rows of 2 bins"):
        Memories([64.0], 2, 2).restore(fed([64.0], [(1, 2, 3)]).state())
