"""join: reads predictions and labels, lets them meet, and writes what became of them: outcomes and fates, added up.

::

    predictions-p ─┐  decode   ┌──────┐  result   outcomes, fates ─► summaries topic, by model
                   ├──────────►│ Join │──────────►
    labels-p      ─┘           └──────┘           rows that changed ─► changelog-p (compacted)

Partition p of both topics has one owner, which has one store for it (see ``streamdrift.joining.join``). A commit is in
this order: outcomes, progress and the changelog are written; the store; Kafka's offsets. The store and its changelog
say where reading goes on, Kafka's offsets only follow: whoever sets these back changes nothing.

What summarise says of a prediction that is no event is not said again: here such messages are only counted. Labels are
read by nobody else, so theirs are dead letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs import Source
from streamdrift.entries import PartitionProgress, encode, outcome_progress, partition_of
from streamdrift.errors import FatalError, StateError
from streamdrift.events import SourceKind
from streamdrift.joining.changelog import Changelog, Restore
from streamdrift.joining.decoding import LabelReader, PredictionReader
from streamdrift.joining.join import Change, Join, Result
from streamdrift.joining.matching import Bounds
from streamdrift.joining.state import Store, Stores
from streamdrift.joining.store import StoreDamaged
from streamdrift.outcome_entries import to_parts
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.outcome_rows import summaries_of
from streamdrift.records import Commit, OutputRecord, Position, RecordBatch, TopicPartition
from streamdrift.stages.attempts import Attempts
from streamdrift.stages.inputs import (
    DeadLetters,
    InputConfig,
    InputPartition,
    ahead_of_others,
    from_metadata,
    from_the_future,
    of_the_future,
    pieces,
)
from streamdrift.status import JoinStatus, SourceStatus
from streamdrift.summaries.coverage import Fate
from streamdrift.ticks import END_OF_TIME, MICROSECONDS, NEVER, PartitionClock

DAY_US: Final = 86_400 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class JoinConfig(InputConfig):
    """How join works; durations in microseconds."""

    label_delay_us: int = 30 * DAY_US
    """How long predictions wait for their labels."""
    orphan_wait_us: int = DAY_US
    """How long labels wait for their predictions."""
    max_rows: int = 10_000_000
    """Predictions and labels that wait, of one partition; beyond it ids are left out by their hashes."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A source of predictions and the source of their labels, which have as many partitions."""

    predictions: Source
    labels: Source
    changelog: str
    """The topic of the rows that wait, with as many partitions again."""
    internal: bool = False
    """Whether both were sent on by prediction id, and nobody else reads them."""


@dataclass(slots=True)
class _Tally:
    """Counters of one source since start."""

    consumed: int = 0
    in_time: int = 0
    late: int = 0
    """Those whose tick was over. They are joined all the same, unless their stream had ended."""
    control: int = 0
    exploded: int = 0
    eventless: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Owned:
    """Partition p of a pair: what is owned of it, and where its rows are."""

    pair: Pair
    store: Store
    join: Join
    owed: Sequence[Change]
    """What must be written to the changelog before all else."""
    halves: dict[str, InputPartition] = field(default_factory=dict)
    """By topic."""
    handed_out: int | None = None
    """Records of the changelog that wait for being carried out; None: nothing does."""
    more: bool = False
    """Whether more was due than went into the last commit."""

    def watermark(self, half: InputPartition) -> int:
        watermarks = self.join.watermarks
        return watermarks.labels if half.source.kind is SourceKind.LABELS else watermarks.predictions

    @property
    def changed(self) -> bool:
        return bool(self.owed) or self.more or any(half.changed for half in self.halves.values())


class Joiner:
    """The stage. ``grid_of`` says how outcomes of a model version are counted, ``window_us`` how long windows are."""

    name = "join"
    state_topic: str | None = None
    together = True

    def __init__(
        self,
        config: JoinConfig,
        pairs: Sequence[Pair],
        stores: Stores,
        changelog: Changelog,
        *,
        grid_of: Callable[[str, str], OutcomeGrid | None],
        window_us: Callable[[str], int],
    ) -> None:
        self._config = config
        self._pairs = {source.topic: pair for pair in pairs for source in (pair.predictions, pair.labels)}
        self._sources = {source.topic: source for pair in pairs for source in (pair.predictions, pair.labels)}
        self._stores = stores
        self._changelog = changelog
        self._grid_of = grid_of
        self._window_us = window_us
        self._predictions = {pair.predictions.topic: PredictionReader(pair.predictions) for pair in pairs}
        self._labels = {pair.labels.topic: LabelReader(pair.labels) for pair in pairs}
        self._owned: dict[TopicPartition, _Owned] = {}
        """By the partition of the changelog."""
        self._counts: dict[str, int] = {}
        self._tallies = {topic: _Tally() for topic in self._sources}
        self._dead = {topic: DeadLetters(topic, config) for topic in self._sources}
        self._committed_at = 0.0

    @property
    def inputs(self) -> Collection[str]:
        return tuple(self._sources)

    def topology(self, counts: Mapping[str, int]) -> None:
        for pair in self._pairs.values():
            require_equal_counts(pair, counts)
        if dict(counts) != self._counts:
            self._counts = dict(counts)
            for half in self._halves().values():
                half.changed = True

    # ---- ownership -------------------------------------------------------------------------------------------------

    def assigned(self, tp: TopicPartition, start: Position, state: Mapping[bytes, bytes]) -> int:  # noqa: ARG002 — the store's changelog is read instead
        owned = self._owned.get(self._place(tp)) or self._open(tp)
        _, attempts = from_metadata(tp, start)
        source, read = self._sources[tp.topic], owned.join.positions
        position = read.labels if source.kind is SourceKind.LABELS else read.predictions
        if start.committed and start.offset > position:
            raise StateError(
                f"{tp.topic}[{tp.partition}] was read up to offset {start.offset}, but the changelog "
                f"{owned.pair.changelog} ends before that, at {position}: it was deleted, or has lost records. To "
                "begin anew, delete the offsets of the join's group for both topics, and the files of the join"
            )
        position = position or start.offset  # of a log that nothing was read of, as the caller has resolved it
        owned.halves[tp.topic] = InputPartition(source, Attempts(position, attempts, self._config.attempts), position)
        self._take(owned, source, [], position)
        return position

    def _open(self, tp: TopicPartition) -> _Owned:
        """The store of a partition, at the end of its changelog."""
        pair, place = self._pairs[tp.topic], self._place(tp)
        bounds = Bounds(
            self._config.label_delay_us + pair.labels.lateness_us,
            self._config.orphan_wait_us + pair.predictions.lateness_us,
            self._config.max_rows,
            pair.predictions.lateness_us,
            pair.labels.lateness_us,
        )
        try:
            store, owed = self._restored(place, bounds)
        except StoreDamaged:
            self._stores.discard(place)  # the changelog has it all
            store, owed = self._restored(place, bounds)
        owned = self._owned[place] = _Owned(pair, store, Join(store, bounds), owed)
        return owned

    def _restored(self, place: TopicPartition, bounds: Bounds) -> tuple[Store, Sequence[Change]]:
        store = self._stores.open(place)
        try:
            return store, self._brought_to_end(place, store, bounds)
        except BaseException:
            store.close()
            raise

    def _brought_to_end(self, place: TopicPartition, store: Store, bounds: Bounds) -> Sequence[Change]:
        end, restore = self._changelog.end(place), Restore(store, bounds)
        if store.changelog_offset > end:
            raise StateError(
                f"the join's store of {place.topic}[{place.partition}] is ahead of its changelog, which was made anew "
                "or has lost records: delete the files of the join to go on with what the changelog has"
            )
        for entries in self._changelog.entries(place, store.changelog_offset, end):
            restore.take(entries)
        return restore.finish(end)

    def revoked(self, tp: TopicPartition) -> None:
        owned = self._owned.pop(self._place(tp), None)
        if owned is not None:
            owned.store.close()

    def _place(self, tp: TopicPartition) -> TopicPartition:
        return TopicPartition(self._pairs[tp.topic].changelog, tp.partition)

    def _halves(self) -> dict[TopicPartition, InputPartition]:
        return {
            TopicPartition(topic, place.partition): half
            for place, owned in self._owned.items()
            for topic, half in owned.halves.items()
        }

    # ---- reading ---------------------------------------------------------------------------------------------------

    def begin(self, tp: TopicPartition) -> None:
        self._owned[self._place(tp)].halves[tp.topic].begin()

    def process(self, batch: RecordBatch, now: float) -> None:
        owned = self._owned.get(self._place(batch.source))
        if owned is None:
            raise StateError(f"{batch.topic}[{batch.partition}] is owned without the other topic's partition")
        half, tally, dead = owned.halves[batch.topic], self._tallies[batch.topic], self._dead[batch.topic]
        tally.consumed += len(batch)
        for piece, ends in pieces(batch, dead.set_aside(half, batch)):
            if len(piece):
                self._read(owned, half, piece, now)
            tally.control += ends
            if ends and half.source.end_of_stream:
                is_labels = half.source.kind is SourceKind.LABELS
                owned.join.end(predictions=not is_labels, labels=is_labels)
        dead.read(batch)
        half.read(batch)
        self._take(owned, half.source, [], half.next_offset)

    def _read(self, owned: _Owned, half: InputPartition, batch: RecordBatch, now: float) -> None:
        """Decode, and let what is in time meet."""
        if half.source.kind is SourceKind.LABELS:
            labels = self._labels[batch.topic].read(batch)
            self._dead[batch.topic].bury(half, batch, labels.dead)
            self._tallies[batch.topic].exploded += labels.exploded
            self._tallies[batch.topic].eventless += labels.eventless
            index = np.array(labels.places, dtype=np.int64)
            times = np.array([event.time for event in labels.events], dtype=np.int64)
            self._accept(owned, half, batch, labels.events, times, index, now)
        else:
            read = self._predictions[batch.topic].read(batch)
            self._tallies[batch.topic].refused += read.refused
            self._accept(owned, half, batch, read.events, read.times, read.index, now)

    def _accept(
        self,
        owned: _Owned,
        half: InputPartition,
        batch: RecordBatch,
        events: Sequence[object],
        times: NDArray[np.int64],
        index: NDArray[np.int64],
        now: float,
    ) -> None:
        tally, is_labels = self._tallies[batch.topic], half.source.kind is SourceKind.LABELS
        future = from_the_future(times, index, batch, now, self._config.skew_us)
        if future.any():
            if is_labels:
                self._dead[batch.topic].bury(half, batch, of_the_future(index[future]))
            else:
                tally.refused["future"] += int(future.sum())
        # The events of one message are read at once: in the order of time, none of them makes another late.
        order = np.lexsort((times, index))
        order = order[~future[order]]
        clock = PartitionClock(self._config.tick_us, half.source.lateness_us, owned.watermark(half))
        in_time = int(clock.accept(times[order]).sum())
        tally.late += len(order) - in_time
        tally.in_time += in_time
        if owned.join.state.labels_ended if is_labels else owned.join.state.predictions_ended:
            return
        self._take(owned, half.source, [events[i] for i in order.tolist()], batch.offsets[-1] + 1)

    @staticmethod
    def _take(owned: _Owned, source: Source, events: Sequence[object], next_offset: int) -> None:
        if source.kind is SourceKind.LABELS:
            owned.join.take_labels(events, next_offset)  # type: ignore[arg-type]  # of the kind of their source
        else:
            owned.join.take_predictions(events, next_offset)  # type: ignore[arg-type]

    def reached_end(self, tp: TopicPartition, now: float) -> None:
        owned = self._owned[self._place(tp)]
        half = owned.halves[tp.topic]
        lateness_us = half.source.lateness_us
        moved = half.moved_by_silence(owned.watermark(half), lateness_us, now, self._config)
        if moved is not None:
            if half.source.kind is SourceKind.LABELS:
                owned.join.advance(labels_us=moved + lateness_us)
            else:
                owned.join.advance(predictions_us=moved + lateness_us)
            half.changed = True

    def careful(self, tp: TopicPartition) -> bool:
        return self._owned[self._place(tp)].halves[tp.topic].careful

    def paused(self) -> Collection[TopicPartition]:
        return ahead_of_others(self._watermarks(), self._halves(), self._config)

    def _watermarks(self) -> dict[TopicPartition, int]:
        return {tp: self._owned[self._place(tp)].watermark(half) for tp, half in self._halves().items()}

    def expendable(self, now: float) -> Mapping[TopicPartition, int]:  # noqa: ARG002 — what is in the store is enough
        internal = {place: owned for place, owned in self._owned.items() if owned.pair.internal}
        return {
            TopicPartition(source.topic, place.partition): offset
            for place, owned in internal.items()
            for source, offset in (
                (owned.pair.predictions, owned.store.state.predictions_offset),
                (owned.pair.labels, owned.store.state.labels_offset),
            )
            if source.topic in owned.halves
        }

    # ---- committing ------------------------------------------------------------------------------------------------

    def take(self, now: float, *, final: bool = False) -> Commit:
        changed = {place: owned for place, owned in self._owned.items() if owned.changed}
        if not changed or not (final or self._is_due(now)):
            return Commit()
        self._committed_at = now
        results = {place: owned.join.result() for place, owned in changed.items()}
        halves = {
            TopicPartition(topic, place.partition): half
            for place, owned in changed.items()
            for topic, half in owned.halves.items()
        }
        watermarks = self._watermarks()
        outputs = [record for half in halves.values() for record in half.dead_letters]
        outputs += self._outcome_records(results.values())
        outputs += self._progress_records(halves, watermarks)
        changes = {place: list(self._changes(place, owned, results[place])) for place, owned in changed.items()}
        state = list(chain.from_iterable(changes.values()))
        offsets = {tp: half.position(watermarks[tp], final=final) for tp, half in halves.items()}
        for half in halves.values():
            half.changed, half.unmarked, half.dead_letters = False, False, []
        for place, owned in changed.items():
            owned.handed_out, owned.owed, owned.more = len(changes[place]), (), not owned.join.settled
        return Commit(outputs, offsets, state, more=any(owned.more for owned in changed.values()))

    def _is_due(self, now: float) -> bool:
        if not 0 <= now - self._committed_at < self._config.commit_interval:
            return True
        urgent = any(owned.join.full or owned.more for owned in self._owned.values())
        return urgent or any(half.is_due for half in self._halves().values())

    def carried_out(self, ends: Mapping[TopicPartition, int]) -> None:
        for place, owned in self._owned.items():
            if owned.handed_out is not None:
                expected, owned.handed_out = owned.store.changelog_offset + owned.handed_out, None
                if ends[place] != expected:
                    raise StateError(
                        f"somebody else has written to {place.topic}[{place.partition}] (its end is {ends[place]}, not "
                        f"{expected}): a member that was taken for dead? A start reads what is there now"
                    )
                owned.join.commit(ends[place])

    def _outcome_records(self, results: Collection[Result]) -> Iterator[OutputRecord]:
        summaries = summaries_of(
            chain.from_iterable(result.outcomes for result in results),
            chain.from_iterable(result.fates for result in results),
            tick_us=self._config.tick_us,
            window_us=self._window_us,
            grid_of=self._grid_of,
        )
        for key, summary in sorted(summaries.items(), key=lambda item: item[0]):
            partition = partition_of(key.model_id, self._config.summaries_partitions)
            for part in to_parts(key, key.tick * self._config.tick_us, summary):
                yield OutputRecord(
                    self._config.summaries_topic, key.model_id.encode("utf-8"), encode(part), (), partition
                )

    def _progress_records(
        self, halves: Mapping[TopicPartition, InputPartition], watermarks: Mapping[TopicPartition, int]
    ) -> Iterator[OutputRecord]:
        positions = (PartitionProgress(*tp, half.next_offset, watermarks[tp]) for tp, half in halves.items())
        value = encode(outcome_progress(self._counts, positions))
        for partition in range(self._config.summaries_partitions):
            yield OutputRecord(self._config.summaries_topic, None, value, (), partition)

    @staticmethod
    def _changes(place: TopicPartition, owned: _Owned, result: Result) -> Iterator[OutputRecord]:
        for key, value in (*owned.owed, *result.changes):
            yield OutputRecord(place.topic, key, value, (), place.partition)

    # ---- what it shows ---------------------------------------------------------------------------------------------

    def status(self) -> list[SourceStatus]:
        """Counters of the sources of labels, as of now; those of predictions are summarise's."""
        return [self._source_status(topic) for topic in self._labels]

    def _source_status(self, topic: str) -> SourceStatus:
        tally, source = self._tallies[topic], self._sources[topic]
        watermarks = [mark for tp, mark in self._watermarks().items() if tp.topic == topic]
        watermark = min(watermarks, default=NEVER)
        return SourceStatus(
            topic,
            str(source.kind),
            tally.consumed,
            tally.in_time,
            tally.late,
            tally.control,
            0,
            dict(self._dead[topic].counts),
            None if watermark in {NEVER, END_OF_TIME} else watermark,
            tally.exploded,
            tally.eventless,
        )

    def joins(self) -> list[JoinStatus]:
        """What became of the predictions and labels of the partitions that are owned, since their stores began."""
        return [self._join_status(pair) for pair in dict.fromkeys(self._pairs.values())]

    def _join_status(self, pair: Pair) -> JoinStatus:
        states = [owned.join.state for owned in list(self._owned.values()) if owned.pair is pair]
        counts = {fate: sum(state.counts[fate] for state in states) for fate in Fate}
        return JoinStatus(
            pair.predictions.topic,
            pair.labels.topic,
            {fate.name.lower(): count for fate, count in counts.items()},
            sum(state.pending for state in states),
            sum(state.rows for state in states),
            dict(self._tallies[pair.predictions.topic].refused),
        )


def require_equal_counts(pair: Pair, counts: Mapping[str, int]) -> None:
    """Raises ``FatalError`` if a prediction and its label cannot be in partitions of one number."""
    predictions, labels = counts.get(pair.predictions.topic, 0), counts.get(pair.labels.topic, 0)
    if predictions != labels:
        raise FatalError(
            f"{pair.predictions.topic} has {predictions} partitions, {pair.labels.topic} has {labels}: labels can only "
            "meet their predictions in partitions of the same number; sources[].rekey: true sends both on by their id"
        )
