"""summarise, called as its two callers do: records in; summaries, dead letters, progress and offsets out."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.codecs import At, EventTime, Source
from streamdrift.codecs import Mapping as EventMapping
from streamdrift.entries import (
    LogEntry,
    Progress,
    SummaryPart,
    admission_rank,
    decode,
    from_part,
    partition_of,
)
from streamdrift.errors import FatalError, StateError
from streamdrift.events import SourceKind
from streamdrift.grids import MAX_BINS, SCORE, Column, Grid, Kind, Role, blind_grid
from streamdrift.packing import MAX_PART_BYTES
from streamdrift.records import NO_TIMESTAMP, Commit, Headers, OutputRecord, Position, RecordBatch, TopicPartition
from streamdrift.stages import summarise
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM, Idle
from streamdrift.stages.stage import Stage
from streamdrift.stages.summarise import Summarise, SummariseConfig
from streamdrift.status import SourceStatus
from streamdrift.summaries import Summary, SummaryKey
from streamdrift.ticks import END_OF_TIME, MICROSECONDS, NEVER
from tests.support.books import book

unhurried = settings(deadline=None)  # a busy machine is no failure

TICK = 10
"""Seconds, as all times here are unless they say otherwise."""
NOW = 1_800_000_000.0
T0 = 1_799_999_000
"""A while before now, on a tick's boundary."""
GRID = Grid(
    "fraud",
    "7",
    (Column("amount", Kind.NUMERIC, edges=(5.0,)), Column(SCORE, Kind.NUMERIC, Role.PREDICTION, edges=(0.5,))),
)
MARKER: tuple[bytes | None, Headers] = (None, [(CONTROL_HEADER, END_OF_STREAM)])
PREDICTIONS = Source("predictions", lateness_us=30 * MICROSECONDS)
P0, P1, P2 = (TopicPartition("predictions", number) for number in range(3))

Message = bytes | tuple[bytes | None, Headers] | None


def event(time: float, amount: float = 1.0, *, model: str = "fraud", version: str = "7", more: str = "") -> bytes:
    document = {
        "prediction_id": f"{model}/{time}/{amount}/{more}",
        "model_id": model,
        "model_version": version,
        "timestamp": time,
        "features": {"amount": amount},
        "prediction": {"score": 0.25},
    }
    return json.dumps(document).encode()


class Feed:
    """A stage, and where its reader stands in each partition."""

    def __init__(
        self,
        *,
        sources: Sequence[Source] = (PREDICTIONS,),
        grids: Mapping[tuple[str, str], Grid] | None = None,
        partitions: int = 1,
        raw: Sequence[str] = (),
        assign: bool = True,
        **config: Any,  # noqa: ANN401 — fields of SummariseConfig
    ) -> None:
        known = {("fraud", "7"): GRID} if grids is None else grids
        settings_ = SummariseConfig(**{"tick_us": TICK * MICROSECONDS, "idle": Idle.HOLD, **config})
        self.stage = Summarise(settings_, sources, book(grids=known.values()), lambda _: raw)
        self.grids = known
        self.now = NOW
        self.offsets: Counter[TopicPartition] = Counter()
        self.stage.topology({source.topic: partitions for source in sources})
        self.committed: dict[TopicPartition, Position] = {}
        self.outputs: list[OutputRecord] = []
        if assign:
            for source in sources:
                for number in range(partitions):
                    self.assign(TopicPartition(source.topic, number))

    def assign(self, tp: TopicPartition, start: Position = Position(0)) -> None:  # noqa: B008 — unchanging
        self.stage.assigned(tp, start, {})
        self.offsets[tp] = start.offset

    def send(
        self, messages: Iterable[Message], tp: TopicPartition = P0, *, recorded: int | None = None, size: int = 10**6
    ) -> None:
        """Let the stage process messages, ``size`` at a time; ``recorded`` is their Kafka time in milliseconds."""
        rows = [m if isinstance(m, tuple) else (m, ()) for m in messages]
        milliseconds = int(self.now * 1_000) if recorded is None else recorded
        for start in range(0, len(rows), size):
            values, headers = zip(*rows[start : start + size], strict=True)
            first, n = self.offsets[tp], len(values)
            keys = [b"key"] * n
            batch = RecordBatch(*tp, range(first, first + n), [milliseconds] * n, keys, values, headers)
            self.stage.process(batch, self.now)
            self.offsets[tp] += n

    def take(self, *, final: bool = True) -> Commit:
        commit = self.stage.take(self.now, final=final)
        self.outputs += commit.outputs
        self.committed |= commit.offsets
        return commit

    @property
    def status(self) -> SourceStatus:
        [status] = self.stage.status()
        return status

    def summaries(self) -> dict[SummaryKey, Summary]:
        """The sum of all summaries so far, as detect would read them."""
        total: dict[SummaryKey, Summary] = {}
        for entry in entries(self.outputs):
            if isinstance(entry, SummaryPart):
                model = entry.key.model_id, entry.key.model_version
                grid = self.grids.get(model) or blind_grid(*model)
                assert entry.grid_id == grid.id
                part = from_part(entry, grid)
                total[entry.key] = total[entry.key] + part if entry.key in total else part
        return total

    def counted(self) -> dict[SummaryKey, int]:
        return {key: summary.events for key, summary in self.summaries().items()}

    def dead_letters(self) -> list[OutputRecord]:
        return [record for record in self.outputs if record.topic == "dead-letters"]

    def watermark(self, tp: TopicPartition = P0) -> int:
        """What the last commit says of a partition, as detect reads it; seconds, or one of the two ends of time."""
        said = [p for e in entries(self.outputs) if isinstance(e, Progress) for p in e.positions]
        watermark = [p.watermark for p in said if (p.topic, p.partition) == tp][-1]
        return watermark if watermark in {NEVER, END_OF_TIME} else watermark // MICROSECONDS


def entries(outputs: Iterable[OutputRecord]) -> list[LogEntry]:
    return [decode(record.value or b"") for record in outputs if record.topic == "streamdrift-summaries"]


def key(tick_start: int, model: str = "fraud", version: str = "7") -> SummaryKey:
    return SummaryKey(model, version, "", tick_start // TICK)


def balance(status: SourceStatus) -> int:
    """Messages that are unaccounted for."""
    counted = status.summarised + status.late + sum(status.dead.values()) + status.over_bound + status.control
    return status.consumed + status.exploded - counted - status.eventless


def headers_of(record: OutputRecord) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


def test_it_is_a_stage() -> None:
    stage: Stage = Feed().stage
    assert stage.name == "summarise"
    assert stage.inputs == ("predictions",)
    assert stage.state_topic is None


# ---- events become summaries -----------------------------------------------------------------------------------------


def test_events_are_added_up_by_model_and_tick() -> None:
    feed = Feed(raw=(SCORE,))
    feed.send([event(T0), event(T0 + 9.9, 7.0), event(T0 + 10), event(T0, model="new", version="")])
    feed.take()
    summaries = feed.summaries()
    assert {k: s.events for k, s in summaries.items()} == {key(T0): 2, key(T0 + 10): 1, key(T0, "new", ""): 1}
    assert summaries[key(T0)].counts[:2].tolist() == [1, 1]
    assert summaries[key(T0)].pairs[SCORE].series().tolist() == [0.25, 0.25]


def test_summaries_of_all_partitions_go_out_as_one_record_a_model_and_tick() -> None:
    feed = Feed(partitions=3)
    for tp in (P0, P1, P2):
        feed.send([event(T0), event(T0 + 1)], tp)
    commit = feed.take()
    assert [e.events for e in entries(commit.outputs) if isinstance(e, SummaryPart)] == [6]


def test_a_models_summaries_go_to_its_partition() -> None:
    feed = Feed(summaries_partitions=5)
    feed.send([event(T0, model=f"model-{i}") for i in range(40)])
    for record in feed.take().outputs:
        if record.key is not None:
            assert record.partition == partition_of(record.key.decode(), 5)


def test_feature_and_prediction_events_of_a_model_add_up() -> None:
    features = Source("features", SourceKind.FEATURES)
    feed = Feed(sources=(PREDICTIONS, features))
    feed.send([event(T0, 7.0)], TopicPartition("features", 0))
    feed.send(
        [json.dumps({"model_id": "fraud", "model_version": "7", "timestamp": T0, "prediction": {"score": 1}}).encode()]
    )
    feed.take()
    [summary] = feed.summaries().values()
    assert summary.events == 2
    assert np.add.reduceat(summary.counts, GRID.offsets[:-1]).tolist() == [1, 1]


SUMS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(-60, 60), st.sampled_from(["fraud", "a", "b", "c"])),
        st.tuples(st.sampled_from(["null", "malformed", "future", "marker"]), st.just(0), st.just("")),
    ),
    max_size=40,
)


def messages_of(log: Iterable[tuple[str, int, str]]) -> list[Message]:
    made: list[Message] = []
    for i, (what, offset, model) in enumerate(log):
        special: dict[str, Message] = {"null": None, "malformed": b"{", "marker": MARKER, "future": event(NOW + 10_000)}
        made.append(event(T0 + offset, model=model, more=str(i)) if what == "event" else special[what])
    return made


@unhurried
@given(st.lists(SUMS, min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_every_message_is_accounted_for(
    logs: list[list[tuple[str, int, str]]],
    size: int,
    commits: int,
    honoured: bool,  # noqa: FBT001 — a drawn value
) -> None:
    source = Source("predictions", lateness_us=5 * MICROSECONDS, end_of_stream=honoured)
    feed = Feed(sources=(source,), partitions=3, max_models=2)
    turn = 0
    for number, log in enumerate(logs):
        messages = messages_of(log)
        for start in range(0, len(messages), size):
            feed.send(messages[start : start + size], TopicPartition("predictions", number))
            turn += 1
            if turn % commits == 0:
                feed.take()
    feed.take()
    status = feed.status
    assert status.consumed == sum(map(len, logs))
    assert balance(status) == 0
    assert status.summarised == sum(feed.counted().values())
    assert sum(status.dead.values()) == len(feed.dead_letters())
    assert Counter(headers_of(letter)["streamdrift.error.class"] for letter in feed.dead_letters()) == status.dead
    assert status.control == sum(what == "marker" for log in logs for what, _, _ in log)


# ---- late events -----------------------------------------------------------------------------------------------------


@unhurried
@given(st.lists(st.integers(-90, 90), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 40))
def test_what_is_late_does_not_depend_on_the_batches(times: list[int], size: int, lateness: int) -> None:
    source = Source("predictions", lateness_us=lateness * MICROSECONDS)
    whole, parts = Feed(sources=(source,)), Feed(sources=(source,))
    messages = [event(T0 + time, more=str(i)) for i, time in enumerate(times)]
    whole.send(messages)
    parts.send(messages, size=size)
    whole.take()
    parts.take()
    assert parts.summaries() == whole.summaries()
    assert parts.status == whole.status
    assert parts.committed == whole.committed


def test_an_event_is_late_once_its_tick_is_over() -> None:
    feed = Feed()
    feed.send([event(T0 + 40), event(T0), event(T0 + 9), event(T0 + 10)])
    feed.take()
    assert feed.status.late == 2
    assert feed.counted() == {key(T0 + 40): 1, key(T0 + 10): 1}
    assert feed.watermark() == T0 + 10


def test_lateness_is_the_partitions_own() -> None:
    feed = Feed(partitions=2)
    feed.send([event(T0 + 500)], P0)
    feed.send([event(T0)], P1)
    feed.take()
    assert feed.status.late == 0
    assert (feed.watermark(P0), feed.watermark(P1)) == (T0 + 470, T0 - 30)


# ---- the future ------------------------------------------------------------------------------------------------------


def test_an_event_from_the_future_is_a_dead_letter_and_moves_no_watermark() -> None:
    feed = Feed(skew_us=300 * MICROSECONDS)
    feed.send([event(T0), event(NOW + 301), event(NOW + 300), event(2**33)])
    feed.take()
    assert feed.status.dead == {"future": 2}
    assert feed.counted() == {key(T0): 1, key(int(NOW) + 300): 1}
    assert feed.watermark() == NOW + 270
    assert [headers_of(letter)["streamdrift.error.offset"] for letter in feed.dead_letters()] == ["1", "3"]


def test_the_future_begins_behind_the_records_time_where_that_is_earlier() -> None:
    feed = Feed(skew_us=300 * MICROSECONDS)
    feed.send([event(T0 + 301), event(T0 + 300)], recorded=T0 * 1_000)
    feed.take()
    assert feed.status.dead == {"future": 1}
    assert feed.watermark() == T0 + 270


@pytest.mark.parametrize("recorded", [NO_TIMESTAMP, int(NOW + 9_999) * 1_000, 2**53, 2**62, 2**63 - 1])
def test_a_record_without_a_time_or_with_an_absurd_one_is_held_against_the_clock(recorded: int) -> None:
    feed = Feed(skew_us=300 * MICROSECONDS)
    feed.send([event(NOW + 301), event(NOW + 300)], recorded=recorded)
    feed.take()
    assert feed.status.dead == {"future": 1}
    assert feed.status.summarised == 1


def test_a_record_from_before_1970_is_behind_every_event() -> None:
    feed = Feed()
    feed.send([event(T0)], recorded=-(2**62))
    feed.take()
    assert feed.status.dead == {"future": 1}


def test_a_broker_with_a_wrong_clock_closes_no_ticks() -> None:
    feed = Feed(sources=(Source("predictions", event_time=EventTime.RECORD),))
    feed.send([event(T0)], recorded=int(NOW + 10_000) * 1_000)
    feed.send([event(T0)], recorded=2**62)
    feed.take()
    assert feed.status.dead == {"future": 1, "timestamp": 1}
    assert feed.watermark() == NEVER


# ---- traffic that stops ----------------------------------------------------------------------------------------------


def test_time_goes_on_where_traffic_stopped() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=60.0)
    feed.send([event(T0)])
    feed.stage.reached_end(P0, NOW)
    feed.stage.reached_end(P0, NOW + 59)
    feed.take()
    assert feed.watermark() == T0 - 30
    feed.stage.reached_end(P0, NOW + 60)
    feed.take()
    assert feed.watermark() == NOW + 60 - 30


def test_the_clock_is_written_down_only_when_it_brings_a_new_tick() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=0.0)
    feed.stage.reached_end(P0, NOW)
    assert feed.take()
    feed.stage.reached_end(P0, NOW + TICK - 1)
    assert not feed.take()
    feed.stage.reached_end(P0, NOW + TICK)
    assert feed.take()


def test_a_partition_that_never_had_an_event_goes_on_too() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=60.0)
    feed.stage.reached_end(P0, NOW)
    feed.take()
    assert feed.watermark() == NEVER
    feed.stage.reached_end(P0, NOW + 60)
    feed.take()
    assert feed.watermark() == NOW + 30


def test_a_record_begins_the_wait_anew() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=60.0)
    feed.stage.reached_end(P0, NOW)
    feed.send([event(T0)])
    feed.stage.reached_end(P0, NOW + 50)
    feed.stage.reached_end(P0, NOW + 109)
    feed.take()
    assert feed.watermark() == T0 - 30
    feed.stage.reached_end(P0, NOW + 110)
    feed.take()
    assert feed.watermark() == NOW + 80


def test_a_clock_that_was_put_back_begins_the_wait_anew() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=60.0)
    feed.stage.reached_end(P0, NOW)
    feed.stage.reached_end(P0, NOW - 10_000)
    feed.stage.reached_end(P0, NOW - 10_000 + 60)
    feed.take()
    assert feed.watermark() == NOW - 10_000 + 30


def test_an_idle_partition_is_only_that_partition() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=0.0, partitions=2)
    feed.send([event(T0)], P0)
    feed.send([event(T0)], P1)
    feed.stage.reached_end(P1, NOW)
    feed.take()
    assert (feed.watermark(P0), feed.watermark(P1)) == (T0 - 30, NOW - 30)


def test_an_absent_owner_is_never_idleness() -> None:
    """Who has not reached the end does not know whether traffic stopped."""
    feed = Feed(idle=Idle.ADVANCE, idle_after=0.0)
    feed.send([event(T0)])
    feed.now += 10_000
    feed.take()
    assert feed.watermark() == T0 - 30


def test_held_time_does_not_go_on() -> None:
    feed = Feed(idle=Idle.HOLD, idle_after=0.0)
    feed.send([event(T0)])
    feed.stage.reached_end(P0, NOW)
    feed.stage.reached_end(P0, NOW + 10_000)
    feed.take()
    assert feed.watermark() == T0 - 30


def test_what_comes_after_time_went_on_is_late() -> None:
    feed = Feed(idle=Idle.ADVANCE, idle_after=0.0)
    feed.stage.reached_end(P0, NOW)
    feed.send([event(T0), event(NOW)])
    feed.take()
    assert (feed.status.late, feed.status.summarised) == (1, 1)


# ---- the end of a stream ---------------------------------------------------------------------------------------------


def test_an_end_of_stream_is_the_end_of_time_where_it_is_honoured() -> None:
    feed = Feed(sources=(Source("predictions", end_of_stream=True),), idle=Idle.ADVANCE, idle_after=0.0)
    feed.send([event(T0), event(T0 + 500), MARKER, event(T0 + 501), MARKER])
    feed.stage.reached_end(P0, NOW)
    feed.take()
    assert feed.watermark() == END_OF_TIME
    status = feed.status
    assert (status.summarised, status.late, status.control) == (2, 1, 2)
    assert status.watermark_us is None


def test_what_comes_behind_the_end_of_a_stream_is_told_but_not_with_every_commit() -> None:
    feed = Feed(sources=(Source("predictions", end_of_stream=True),))
    feed.send([event(T0), MARKER])
    assert feed.take().warnings == ()
    again = Feed(sources=(Source("predictions", end_of_stream=True),), assign=False)
    again.assign(P0, replace(feed.committed[P0], committed=True))
    again.send([event(T0 + 1), event(T0 + 2)])
    [warning] = again.take().warnings
    assert warning.startswith("2 events of predictions came behind the end-of-stream marker")
    again.send([event(T0 + 3)])
    again.now += 59
    assert again.take().warnings == ()
    again.now += 1
    [warning] = again.take().warnings
    assert warning.startswith("1 events of predictions")
    assert again.status.late == 3


def test_a_late_event_is_no_event_behind_the_end() -> None:
    feed = Feed()
    feed.send([event(T0 + 500), event(T0)])
    assert feed.take().warnings == ()
    assert feed.status.late == 1


def test_an_offset_that_somebody_else_committed_stops_the_stage() -> None:
    feed = Feed(assign=False)
    with pytest.raises(StateError, match=r"committed offset 7 of predictions\[0\] carries no watermark.*reset"):
        feed.assign(P0, Position(7, committed=True))
    feed.assign(P0, Position(7))


def test_an_end_of_stream_is_passed_over_elsewhere() -> None:
    feed = Feed()
    feed.send([event(T0), MARKER, event(T0 + 1)])
    feed.take()
    assert feed.watermark() == T0 + 1 - 30
    assert (feed.status.summarised, feed.status.control) == (2, 1)
    assert feed.committed[P0].offset == 3


@pytest.mark.parametrize(
    "message",
    [
        (None, ()),
        (None, [(CONTROL_HEADER, b"something else")]),
        (None, [("other", END_OF_STREAM)]),
        (b"", [(CONTROL_HEADER, END_OF_STREAM)]),
    ],
)
def test_a_null_value_alone_ends_nothing(message: Message) -> None:
    feed = Feed(sources=(Source("predictions", end_of_stream=True),))
    feed.send([event(T0), message])
    feed.take()
    assert feed.status.dead == {"empty": 1}
    assert feed.status.control == 0
    assert feed.watermark() == T0 - 30


def test_a_batch_of_markers_only_is_fine() -> None:
    feed = Feed(sources=(Source("predictions", end_of_stream=True),), partitions=2)
    feed.send([MARKER, MARKER], P1)
    feed.take()
    assert (feed.watermark(P0), feed.watermark(P1)) == (NEVER, END_OF_TIME)


# ---- the share of dead letters ---------------------------------------------------------------------------------------


def test_a_source_of_which_most_is_dead_stops_the_stage_and_says_why() -> None:
    feed = Feed(dead_letter_share=0.5)
    feed.send([event(T0)] * 499 + [b"{"] * 2)
    feed.take()
    why = (
        r"^501 of the last 1,000 messages of predictions are dead letters, most \(501\) of class malformed; "
        r"for example predictions\[0\] at offset 501: malformed: .*bounds.dead_letter_share"
    )
    with pytest.raises(FatalError, match=why):
        feed.send([b"{"] * 499)
    assert feed.committed[P0].offset == 501, "what lies behind is read again"


def test_few_messages_or_half_of_many_stop_nothing() -> None:
    few, half = Feed(), Feed()
    few.send([b"{"] * 999, size=10)
    half.send([event(T0), b"{"] * 2_000, size=10)
    assert (few.status.dead, half.status.dead) == ({"malformed": 999}, {"malformed": 2_000})


def test_what_was_good_long_ago_hides_nothing() -> None:
    feed = Feed(dead_letter_share=0.5)
    feed.send([event(T0)] * 5_000, size=100)
    with pytest.raises(FatalError, match=r"^(501|600) of the last 1,\d00 messages"):
        feed.send([b"{"] * 5_000, size=100)
    assert feed.status.consumed <= 5_600


def test_other_sources_do_not_make_up_for_a_dead_one() -> None:
    good, bad = PREDICTIONS, Source("other")
    feed = Feed(sources=(good, bad))
    feed.send([event(T0)] * 5_000)
    with pytest.raises(FatalError, match="messages of other"):
        feed.send([b"{"] * 1_000, TopicPartition("other", 0))


def test_a_share_of_one_never_stops() -> None:
    feed = Feed(dead_letter_share=1.0)
    feed.send([b"{"] * 3_000, size=500)
    assert feed.status.dead == {"malformed": 3_000}


# ---- progress and offsets --------------------------------------------------------------------------------------------


def test_progress_follows_the_summaries_of_what_it_covers_and_goes_everywhere() -> None:
    feed = Feed(partitions=2, summaries_partitions=3)
    feed.send([event(T0, model=f"model-{i}") for i in range(9)], P0)
    feed.send([event(T0 + 70)], P1)
    outputs = [record for record in feed.take().outputs if record.topic == "streamdrift-summaries"]
    for partition in range(3):
        kinds = [type(decode(r.value or b"")) for r in outputs if r.partition == partition]
        assert kinds.count(Progress) == 1
        assert kinds[-1] is Progress
    [progress] = {r.value: decode(r.value or b"") for r in outputs if r.key is None}.values()
    assert isinstance(progress, Progress)
    assert progress.counts == {"predictions": 2}
    assert [(p.partition, p.next_offset, p.watermark // MICROSECONDS) for p in progress.positions] == [
        (0, 9, T0 - 30),
        (1, 1, T0 + 40),
    ]


def test_progress_tells_only_of_what_changed() -> None:
    feed = Feed(partitions=2)
    feed.take()
    feed.send([event(T0)], P1)
    commit = feed.take()
    assert set(commit.offsets) == {P1}
    for entry in entries(commit.outputs):
        if isinstance(entry, Progress):
            assert [p.partition for p in entry.positions] == [1]


def test_offsets_carry_the_watermark_for_the_next_owner() -> None:
    feed = Feed()
    feed.send([event(T0 + 500), b"dead"])
    feed.take()
    position = feed.committed[P0]
    assert position.offset == 2
    assert len(position.metadata.encode()) <= 64
    other = Feed(assign=False)
    other.assign(P0, position)
    other.send([event(T0), event(T0 + 500)])
    other.take()
    assert (other.status.late, other.status.summarised) == (1, 1)
    assert other.committed[P0].offset == 4


@pytest.mark.parametrize("watermark", [NEVER, END_OF_TIME, -5, 0])
def test_any_watermark_fits_the_metadata(watermark: int) -> None:
    feed = Feed(assign=False)
    feed.assign(P0, Position(7, f"w1:{watermark}"))
    position = feed.take().offsets[P0]
    assert position == Position(7, f"w1:{watermark}")
    assert len(position.metadata) <= 64


def test_a_start_is_committed_before_anything_is_read() -> None:
    feed = Feed(assign=False)
    feed.assign(P0, Position(41))
    commit = feed.take()
    assert commit.offsets[P0].offset == 41
    assert feed.watermark() == NEVER


@pytest.mark.parametrize("metadata", ["w2:5", "5", "w1:", "w1:x", "w1:1.5", "{}", "w1"])
def test_metadata_of_another_version_stops_loudly(metadata: str) -> None:
    with pytest.raises(StateError, match="not a watermark that this version knows"):
        Feed(assign=False).assign(P0, Position(7, metadata))


def test_new_partition_counts_are_told_at_once() -> None:
    feed = Feed()
    feed.take()
    feed.stage.topology({"predictions": 1})
    assert not feed.take()
    feed.stage.topology({"predictions": 4})
    assert {tuple(e.counts.items()) for e in entries(feed.take().outputs) if isinstance(e, Progress)} == {
        (("predictions", 4),)
    }


def test_a_commit_is_due_after_the_interval() -> None:
    feed = Feed(commit_interval=5.0)
    assert feed.take(final=False)
    feed.send([event(T0)])
    feed.now += 4.5
    assert not feed.take(final=False)
    feed.now += 0.5
    assert feed.take(final=False).outputs
    feed.now += 5
    assert not feed.take(final=False)
    feed.send([event(T0)])
    feed.now += 5
    assert feed.take(final=False)


def test_a_final_commit_is_always_due() -> None:
    feed = Feed(commit_interval=1e9)
    feed.take()
    feed.send([event(T0)])
    assert not feed.take(final=False)
    assert feed.take(final=True).offsets[P0].offset == 1


def test_a_clock_that_was_put_back_does_not_hold_commits_up() -> None:
    feed = Feed(commit_interval=5.0)
    feed.take()
    feed.send([event(T0)])
    feed.now -= 10_000
    assert feed.take(final=False)


def test_nothing_is_committed_twice() -> None:
    feed = Feed()
    feed.send([event(T0), b"dead"])
    feed.take()
    feed.send([event(T0 + 1)])
    feed.take()
    assert feed.counted() == {key(T0): 2}
    assert len(feed.dead_letters()) == 1
    assert not feed.take()


# ---- hand-over -------------------------------------------------------------------------------------------------------


def test_what_is_revoked_is_dropped_and_nothing_else() -> None:
    feed = Feed(partitions=2)
    feed.send([event(T0), b"dead"], P0)
    feed.send([event(T0, model="other"), b"dead"], P1)
    feed.stage.revoked(P0)
    commit = feed.take()
    assert set(commit.offsets) == {P1}
    assert feed.counted() == {key(T0, "other"): 1}
    assert [headers_of(letter)["streamdrift.error.partition"] for letter in feed.dead_letters()] == ["1"]
    assert {p.partition for e in entries(commit.outputs) if isinstance(e, Progress) for p in e.positions} == {1}


def test_what_was_lost_is_read_again_by_the_next_owner() -> None:
    feed = Feed()
    feed.send([event(T0)])
    feed.stage.revoked(P0)
    feed.assign(P0, Position(0))
    feed.send([event(T0)])
    feed.take()
    assert feed.counted() == {key(T0): 1}


def test_a_partition_that_is_not_owned_may_be_revoked_or_lost_again() -> None:
    feed = Feed()
    feed.stage.revoked(P1)
    feed.stage.revoked(P0)
    feed.stage.revoked(P0)
    assert not feed.take()


@unhurried
@given(st.lists(st.integers(-90, 90), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_a_hand_over_at_any_commit_changes_nothing(times: list[int], cuts: list[int]) -> None:
    messages = [event(T0 + time, more=str(i)) for i, time in enumerate(times)]
    alone = Feed()
    alone.send(messages)
    alone.take()
    position, outputs, late = Position(0), [], 0
    for start, stop in pairwise(sorted({0, len(messages), *(min(cut, len(messages)) for cut in cuts)})):
        owner = Feed(assign=False)
        owner.assign(P0, position)
        owner.send(messages[start:stop])
        position = owner.take().offsets[P0]
        outputs += owner.outputs
        late += owner.status.late
    alone_summaries, alone.outputs = alone.summaries(), outputs
    assert alone.summaries() == alone_summaries
    assert late == alone.status.late
    assert position in {alone.committed[P0], Position(0)}


# ---- who runs ahead --------------------------------------------------------------------------------------------------


def test_a_partition_too_far_ahead_is_paused_until_the_others_come_up() -> None:
    feed = Feed(partitions=2, max_ahead=10)
    feed.send([event(T0)], P1)
    feed.send([event(T0 + 100)], P0)
    assert not feed.stage.paused()
    feed.send([event(T0 + 101)], P0)
    assert feed.stage.paused() == [P0]
    feed.send([event(T0 + 1)], P1)
    assert not feed.stage.paused()


def test_a_partition_at_its_end_is_not_waited_for() -> None:
    feed = Feed(partitions=2, max_ahead=10)
    feed.send([event(T0)], P1)
    feed.send([event(T0 + 500)], P0)
    assert feed.stage.paused() == [P0]
    feed.stage.reached_end(P1, NOW)
    assert not feed.stage.paused()
    feed.send([event(T0 + 1)], P1)
    assert feed.stage.paused() == [P0]


def test_a_partition_of_which_nothing_is_known_is_not_waited_for() -> None:
    feed = Feed(partitions=2, max_ahead=10)
    feed.send([event(T0), event(T0 + 5_000 - 1_000)], P0)
    assert not feed.stage.paused()


def test_a_stream_that_ended_is_not_paused() -> None:
    feed = Feed(sources=(Source("predictions", end_of_stream=True),), partitions=2, max_ahead=10)
    feed.send([event(T0)], P0)
    feed.send([event(T0), MARKER], P1)
    assert not feed.stage.paused()


@unhurried
@given(st.lists(st.tuples(st.sampled_from([P0, P1, P2]), st.integers(-5_000, 900), st.booleans()), max_size=12))
def test_never_everything_that_has_something_to_read_is_paused(
    steps: list[tuple[TopicPartition, int, bool]],
) -> None:
    feed = Feed(partitions=3, max_ahead=3)
    reading = {P0, P1, P2}
    for tp, time, to_the_end in steps:
        if tp in feed.stage.paused():
            continue
        feed.send([event(T0 + time)], tp)
        reading.add(tp)
        if to_the_end:
            feed.stage.reached_end(tp, NOW)
            reading.discard(tp)
        assert not reading or reading - set(feed.stage.paused())


# ---- models that nobody configured -----------------------------------------------------------------------------------


def bomb(models: int, copies: int = 2) -> list[bytes]:
    return [event(T0 + i % TICK, model=f"model-{i}") for i in range(models)] * copies


@pytest.mark.parametrize(("partitions", "size"), [(1, 10**6), (1, 7), (3, 11)])
def test_models_over_the_bound_are_chosen_by_hash_and_counted(partitions: int, size: int) -> None:
    feed = Feed(partitions=partitions, max_models=5)
    messages = [event(T0), *bomb(60)]
    for number in range(partitions):
        feed.send(messages[number::partitions], TopicPartition("predictions", number), size=size)
    feed.take()
    kept = sorted((f"model-{i}" for i in range(60)), key=lambda model: admission_rank(model, "7"))[:5]
    assert feed.counted() == {key(T0): 1} | {key(T0, model): 2 for model in kept}
    assert feed.status.over_bound == 110
    assert balance(feed.status) == 0


def test_whatever_the_commits_those_with_the_smallest_hashes_are_complete() -> None:
    feed = Feed(max_models=5)
    messages = bomb(60, copies=3)
    for start in range(0, len(messages), 17):
        feed.send(messages[start : start + 17])
        feed.take()
    ranked = sorted((f"model-{i}" for i in range(60)), key=lambda model: admission_rank(model, "7"))
    counted = feed.counted()
    assert [counted[key(T0, model)] for model in ranked[:5]] == [3] * 5
    assert balance(feed.status) == 0


def test_the_bound_is_a_ticks() -> None:
    feed = Feed(max_models=1)
    feed.send([event(T0, model="a"), event(T0 + 10, model="b")])
    feed.take()
    assert len(feed.counted()) == 2


def test_configured_models_are_not_bounded() -> None:
    grids = {(f"model-{i}", "7"): Grid(f"model-{i}", "7", GRID.columns) for i in range(20)}
    feed = Feed(grids=grids, max_models=0)
    feed.send(bomb(21, copies=1))
    feed.take()
    assert feed.status.summarised == 20
    assert feed.status.over_bound == 1


# ---- dead letters ----------------------------------------------------------------------------------------------------


def test_a_dead_letter_says_what_was_wrong_and_where_it_lies() -> None:
    feed = Feed(partitions=2)
    feed.send([event(T0), b'{"model_id": 5.5}'], P1, recorded=1_799_999_123_456)
    feed.take()
    [letter] = feed.dead_letters()
    assert (letter.key, letter.value) == (b"key", b'{"model_id": 5.5}')
    assert headers_of(letter) == {
        "streamdrift.error.class": "schema",
        "streamdrift.error.message": "model_id: expected a text",
        "streamdrift.error.topic": "predictions",
        "streamdrift.error.partition": "1",
        "streamdrift.error.offset": "1",
        "streamdrift.error.timestamp": "1799999123456",
    }


def test_a_dead_letter_can_do_without_the_message() -> None:
    feed = Feed(dead_letter_values=False)
    feed.send([b'{"model_id": 5.5}', event(NOW + 9_999)])
    feed.take()
    for letter in feed.dead_letters():
        assert (letter.key, letter.value) == (None, None)
        assert headers_of(letter)["streamdrift.error.topic"] == "predictions"
    assert feed.status.dead == {"schema": 1, "future": 1}


@pytest.mark.parametrize("size", [950_000, 1_048_576, 3_000_000])
def test_a_message_that_no_producer_could_write_again_is_told_of_without_its_bytes(size: int) -> None:
    """Else one message would end the process again and again: producers refuse records over 1,000,000 bytes."""
    feed = Feed()
    feed.send([b"{" * size, b"{" * 100_000])
    feed.take()
    large, small = feed.dead_letters()
    assert (large.key, large.value) == (None, None)
    assert headers_of(large)["streamdrift.error.offset"] == "0"
    assert small.value == b"{" * 100_000


def test_dead_letters_go_out_with_the_offsets_behind_them() -> None:
    feed = Feed()
    feed.send([b"x"] * 3)
    commit = feed.take()
    assert len(feed.dead_letters()) == 3
    assert commit.offsets[P0].offset == 3
    assert feed.watermark() == NEVER


# ---- bounds ----------------------------------------------------------------------------------------------------------


def wide_grid(columns: int) -> Grid:
    edges = tuple(map(float, range(MAX_BINS - 1)))
    return Grid("fraud", "7", tuple(Column(f"f{i}", Kind.NUMERIC, edges=edges) for i in range(columns)))


def filled(grid: Grid, time: float) -> bytes:
    features = {column.name: i % MAX_BINS for i, column in enumerate(grid.columns)}
    document = {"model_id": "fraud", "model_version": "7", "timestamp": time, "features": features, "prediction": {}}
    return json.dumps(document).encode()


def test_no_record_is_larger_than_a_broker_takes() -> None:
    grid = wide_grid(2_000)
    feed = Feed(grids={("fraud", "7"): grid})
    for _ in range(3):
        feed.send([filled(grid, T0)] * 100)
    parts = [record for record in feed.take().outputs if record.key is not None]
    assert len(parts) > 1
    assert max(len(record.value or b"") for record in parts) <= MAX_PART_BYTES
    assert feed.counted() == {key(T0): 300}
    assert feed.summaries()[key(T0)].counts.sum() == 300 * 2_000


def test_a_backlog_of_an_event_a_tick_takes_little_memory() -> None:
    grid = wide_grid(100)
    feed = Feed(grids={("fraud", "7"): grid})
    messages = [filled(grid, T0 - 20_000 + i * TICK) for i in range(1_500)]
    tracemalloc.start()
    feed.send(messages)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6  # as arrays, the summaries would take 320 MB beside what it takes to make them
    feed.take()
    assert set(feed.counted().values()) == {1}
    assert feed.status.summarised == 1_500


def test_events_that_wait_to_be_added_up_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarise, "_MOST_COLLECTED", 500_000)
    grid = wide_grid(100)
    feed = Feed(grids={("fraud", "7"): grid})
    messages = [filled(grid, T0)] * 100
    feed.send(messages)
    tracemalloc.start()
    for _ in range(50):
        feed.send(messages)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6  # the values alone are 4 MB
    feed.take()
    assert feed.counted() == {key(T0): 5_100}


@unhurried
@given(SUMS, st.integers(1, 9), st.sampled_from([1, 5_000, 20_000]))
def test_however_many_events_are_added_up_at_once_the_summaries_are_the_same(
    log: list[tuple[str, int, str]], size: int, room: int
) -> None:
    feed, other = Feed(raw=(SCORE,)), Feed(raw=(SCORE,))
    feed.send(messages_of(log))
    feed.take()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarise, "_MOST_COLLECTED", room)
        other.send(messages_of(log), size=size)
        other.take()
    assert other.summaries() == feed.summaries()
    assert other.status == feed.status


@unhurried
@given(SUMS, st.integers(1, 9), st.sampled_from([1, 30, 100]))
def test_summaries_that_are_written_for_want_of_room_add_up_to_the_same(
    log: list[tuple[str, int, str]], size: int, room: int
) -> None:
    feed, other = Feed(max_models=2, raw=(SCORE,)), Feed(max_models=2, raw=(SCORE,))
    feed.send(messages_of(log))
    feed.take()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarise, "_MOST_SLOTS", room)
        other.send(messages_of(log), size=size)
        commit = other.take()
    assert balance(other.status) == 0
    known = [k for k in feed.summaries() if (k.model_id, k.model_version) in feed.grids]
    assert {k: other.summaries()[k] for k in known} == {k: feed.summaries()[k] for k in known}
    # Of the others, more are kept, but those that are to be kept are complete.
    assert feed.counted().items() <= other.counted().items()
    kinds = [type(entry) for entry in entries(commit.outputs)]
    assert Progress not in kinds[: -4 if kinds else None]


def test_what_was_written_for_want_of_room_is_dropped_with_its_partition() -> None:
    feed = Feed(partitions=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarise, "_MOST_SLOTS", 1)
        feed.send([event(T0)], P0)
        feed.send([event(T0)], P1)
        feed.stage.revoked(P0)
    feed.take()
    feed.send([event(T0)], P1)
    feed.take()
    assert feed.counted() == {key(T0): 2}
    assert feed.status.summarised == 2


def test_the_bound_on_models_holds_for_what_is_written_for_want_of_room() -> None:
    feed = Feed(max_models=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarise, "_MOST_SLOTS", 20)
        feed.send([event(T0), *bomb(30, copies=1)])
    feed.take()
    assert feed.counted() == {key(T0): 1}
    assert feed.status.over_bound == 30


# ---- messages that hold several events -----------------------------------------------------------------------------

EXPLODED = Source(
    "predictions",
    lateness_us=30 * MICROSECONDS,
    mapping=EventMapping(timestamp=At(("ts",), ("rows",)), features=At((), ("rows",)), explode=("rows",)),
)


def exploded(*rows: object, more: object = None) -> bytes:
    head = {"model_id": "fraud", "model_version": "7", "prediction": {"score": 0.25}, "more": more}
    return json.dumps(head | {"rows": rows}).encode()


def row(time: float, amount: float = 1.0) -> dict[str, float]:
    return {"ts": time, "amount": amount}


def test_every_event_of_a_message_is_counted() -> None:
    feed = Feed(sources=[EXPLODED])
    feed.send([exploded(row(T0), 5, row(T0 - 100), row(T0 + 10), row(NOW + 10_000), {"ts": "x"}, []), exploded()])
    feed.send([exploded(row(T0 + 60)), exploded(row(T0 + 10)), event(T0)])
    feed.take()
    status = feed.status
    assert feed.counted() == {key(T0 - 100): 1, key(T0): 1, key(T0 + 10): 1, key(T0 + 60): 1}
    assert (status.consumed, status.exploded, status.eventless, status.late) == (5, 6, 1, 1)
    assert status.dead == {"schema": 3, "future": 1, "timestamp": 1}
    assert balance(status) == 0


def test_elements_that_are_refused_for_one_reason_share_a_dead_letter() -> None:
    feed = Feed(sources=[EXPLODED])
    feed.send([exploded(*range(100), row(NOW + 10_000), row(NOW + 20_000))])
    feed.take()
    assert feed.status.dead == {"schema": 100, "future": 2}
    messages = {headers_of(letter)["streamdrift.error.class"]: headers_of(letter) for letter in feed.dead_letters()}
    assert messages.keys() == {"schema", "future"}
    assert messages["schema"]["streamdrift.error.message"].endswith("(and 99 more)")


@given(st.permutations([0, 20, 45, 70, 200]), st.integers(0, 300))
def test_events_of_one_message_do_not_make_each_other_late(seconds: list[int], before: int) -> None:
    feed = Feed(sources=[EXPLODED])
    feed.send([exploded(row(T0 + before)), exploded(*(row(T0 + second) for second in seconds)), exploded(row(T0))])
    feed.take()
    ordered = Feed(sources=[EXPLODED])
    ordered.send([exploded(row(T0 + before)), exploded(*(row(T0 + s) for s in sorted(seconds))), exploded(row(T0))])
    ordered.take()
    assert feed.counted() == ordered.counted()
    if not before:
        assert feed.status.late == 1
