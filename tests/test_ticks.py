"""Event time: who is late, how far a partition is, and when a tick is over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift.records import TopicPartition
from streamdrift.ticks import END_OF_TIME, NEVER, Completeness, PartitionClock, last_closed, tick_of

unhurried = settings(deadline=None)  # a busy machine is no failure

TICK = 10
times_of_day = st.one_of(st.integers(-45, 45), st.sampled_from([-(2**61), 2**61, 0, 2**53 + 1]))
logs = st.lists(times_of_day, max_size=40)
latenesses = st.integers(0, 25)
starts = st.one_of(st.just(NEVER), st.integers(-30, 30), st.just(END_OF_TIME))


def array(times: list[int]) -> NDArray[np.int64]:
    return np.array(times, dtype=np.int64)


# ---- ticks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "tick"), [(0, 0), (9, 0), (10, 1), (-1, -1), (-10, -1), (-11, -2), (2**61, 2**61 // 10)]
)
def test_a_tick_holds_its_start_and_not_its_end(time: int, tick: int) -> None:
    assert tick_of(time, TICK) == tick


@pytest.mark.parametrize(("watermark", "tick"), [(0, -1), (9, -1), (10, 0), (19, 0), (20, 1), (-1, -2), (-10, -2)])
def test_a_tick_is_closed_once_the_watermark_reaches_its_end(watermark: int, tick: int) -> None:
    assert last_closed(watermark, TICK) == tick


@given(st.integers(-(2**62), 2**62), st.integers(1, 10**12))
def test_the_last_closed_tick_has_ended_and_the_next_one_has_not(watermark: int, tick_us: int) -> None:
    closed = last_closed(watermark, tick_us)
    assert (closed + 1) * tick_us <= watermark < (closed + 2) * tick_us
    assert tick_of(watermark, tick_us) == closed + 1


# ---- the clock of a partition ----------------------------------------------------------------------------------------


def one_by_one(times: list[int], lateness: int, watermark: int) -> tuple[list[bool], int]:
    """The rule as it is said: an event is late if its tick was over when it was read."""
    in_time = []
    for time in times:
        end = (time // TICK + 1) * TICK
        in_time.append(end > watermark)
        if in_time[-1]:
            watermark = max(watermark, time - lateness)
    return in_time, watermark


@unhurried
@given(logs, latenesses, starts)
def test_late_is_what_reading_one_by_one_finds_late(log: list[int], lateness: int, start: int) -> None:
    clock = PartitionClock(TICK, lateness, start)
    in_time, watermark = one_by_one(log, lateness, start)
    assert clock.accept(array(log)).tolist() == in_time
    assert clock.watermark == watermark


@unhurried
@given(logs, latenesses, starts, st.lists(st.integers(0, 40), max_size=5))
def test_it_does_not_matter_in_which_batches_a_log_is_read(
    log: list[int], lateness: int, start: int, cuts: list[int]
) -> None:
    whole, parts = PartitionClock(TICK, lateness, start), PartitionClock(TICK, lateness, start)
    expected = whole.accept(array(log)).tolist()
    watermarks, in_time = [start], []
    for part in np.split(array(log), sorted(min(cut, len(log)) for cut in cuts)):
        in_time += parts.accept(part).tolist()
        watermarks.append(parts.watermark)
    assert in_time == expected
    assert watermarks == sorted(watermarks)
    assert parts.watermark == whole.watermark


def test_nothing_is_late_for_a_clock_that_knows_nothing() -> None:
    clock = PartitionClock(TICK, 0)
    assert clock.accept(array([-(2**61)])).tolist() == [True]
    assert clock.watermark == -(2**61)


def test_reading_nothing_leaves_the_watermark_where_it_is() -> None:
    clock = PartitionClock(TICK, 5)
    assert clock.accept(array([])).tolist() == []
    assert clock.watermark == NEVER


def test_an_event_whose_tick_ends_at_the_watermark_is_late_and_one_of_the_next_tick_is_not() -> None:
    clock = PartitionClock(TICK, 0, watermark=20)
    assert clock.accept(array([19, 20])).tolist() == [False, True]


def test_an_event_of_an_open_tick_is_in_time_though_the_watermark_has_passed_it() -> None:
    clock = PartitionClock(TICK, 0, watermark=28)
    assert clock.accept(array([20])).tolist() == [True]
    assert clock.watermark == 28


def test_everything_is_late_after_the_end_of_the_stream() -> None:
    clock = PartitionClock(TICK, 0)
    clock.advance(END_OF_TIME)
    assert clock.accept(array([5, 2**61])).tolist() == [False, False]
    assert clock.watermark == END_OF_TIME


def test_a_clock_is_not_put_back() -> None:
    clock = PartitionClock(TICK, 0, watermark=7)
    clock.advance(3)
    assert clock.watermark == 7


# ---- completeness ----------------------------------------------------------------------------------------------------

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def test_nothing_is_complete_while_no_topic_is_known() -> None:
    assert Completeness().watermark == NEVER


def test_nothing_is_complete_before_every_expected_partition_was_heard_of() -> None:
    known = Completeness()
    known.learn({"a": 2, "b": 1}, [(A, 10, 50), (B, 3, 70)])
    assert known.watermark == NEVER
    known.learn({"a": 2, "b": 1}, [(TopicPartition("a", 1), 1, 60)])
    assert known.watermark == 50


def test_a_partition_of_a_topic_that_is_not_expected_is_not_waited_for() -> None:
    known = Completeness()
    known.learn({"a": 1}, [(A, 10, 50), (B, 3, 7)])
    assert known.watermark == 50


def test_a_partition_that_is_added_is_waited_for() -> None:
    known = Completeness()
    known.learn({"a": 1}, [(A, 10, 50)])
    known.learn({"a": 2}, [])
    assert known.watermark == NEVER


def test_a_writer_that_knows_fewer_partitions_takes_none_away() -> None:
    known = Completeness()
    known.learn({"a": 2}, [(A, 10, 50)])
    known.learn({"a": 1}, [])
    assert known.watermark == NEVER


reports = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
        st.lists(
            st.tuples(
                st.builds(TopicPartition, st.sampled_from("ab"), st.integers(0, 2)),
                st.integers(0, 99),
                st.one_of(st.just(NEVER), st.integers(-50, 50), st.just(END_OF_TIME)),
            ),
            max_size=4,
        ),
    ),
    max_size=8,
)
Reports = list[tuple[dict[str, int], list[tuple[TopicPartition, int, int]]]]


@unhurried
@given(reports)
def test_the_watermark_is_the_lowest_of_the_highest_of_each_partition(said: Reports) -> None:
    known = Completeness()
    for counts, positions in said:
        known.learn(counts, positions)
    expected = []
    for topic in "ab":
        for number in range(max((counts.get(topic, 0) for counts, _ in said), default=0)):
            ours = [w for _, positions in said for tp, _, w in positions if tp == (topic, number)]
            expected.append(max(ours, default=NEVER))
    assert known.watermark == min(expected, default=NEVER)


@unhurried
@given(reports, st.integers(0, 8), st.integers(0, 8))
def test_reading_a_stretch_again_changes_nothing(said: Reports, first: int, last: int) -> None:
    once, again = Completeness(), Completeness()
    for counts, positions in said:
        once.learn(counts, positions)
        again.learn(counts, positions)
    for counts, positions in said[first:last]:
        again.learn(counts, positions)
    assert again == once


@unhurried
@given(reports)
def test_nothing_moves_back(said: Reports) -> None:
    known = Completeness()
    for counts, positions in said:
        watermarks, offsets, partitions = dict(known.watermarks), dict(known.offsets), dict(known.counts)
        known.learn(counts, positions)
        assert all(known.watermarks[tp] >= watermark for tp, watermark in watermarks.items())
        assert all(known.offsets[tp] >= offset for tp, offset in offsets.items())
        assert all(known.counts[topic] >= count for topic, count in partitions.items())
