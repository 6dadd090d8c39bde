"""summarise: reads events, adds them up to summaries a model and tick, and says how far it has read.

It keeps nothing between commits but the watermark of each partition, which lies in the metadata of the
committed offset: any replica can be thrown away, and another goes on where it stood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs import Decoded, Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.entries import PartitionProgress, admission_rank, encode, partition_of, progress, to_parts
from streamdrift.events import Batch
from streamdrift.grids import Grid
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
from streamdrift.status import SourceStatus
from streamdrift.summaries import Summary, SummaryKey, summarise
from streamdrift.ticks import END_OF_TIME, NEVER, PartitionClock

WARNING_INTERVAL: Final = 60.0
"""Seconds between warnings of the same thing."""

_MOST_COLLECTED: Final = 8 << 20
"""Bytes of events of a partition that wait to be added up together. Many at once cost a fraction of a few each."""
_BATCH_BYTES: Final = 2_000
"""What a batch takes beside its events."""
_SLOT_BYTES: Final = 8
_MOST_SLOTS: Final = 1 << 22
"""Slots of summaries that are held as arrays (32 MB). A backlog of few events a tick would otherwise take gigabytes."""


@dataclass(frozen=True, slots=True)
class SummariseConfig(InputConfig):
    """How summarise works."""

    max_models: int = 1_000
    """Model versions without a grid that are followed, a tick: those of ``listed`` models first, then by hash."""
    listed: Collection[str] = ()
    """Ids of the models that are configured."""


@dataclass(slots=True)
class _Tally:
    """Counters of one source since start."""

    consumed: int = 0
    summarised: int = 0
    late: int = 0
    control: int = 0
    over_bound: int = 0
    exploded: int = 0
    eventless: int = 0
    behind_end: int = 0
    """Those of ``late`` that lie behind the end-of-stream marker of their partition."""


@dataclass(slots=True)
class _Owned(InputPartition):
    """One input partition, and what was read of it since the last commit."""

    clock: PartitionClock = field(kw_only=True)
    collected: dict[int, list[Batch]] = field(default_factory=dict)
    """Events that are not added up yet, by the identity of their grid."""
    collected_bytes: int = 0
    summaries: dict[SummaryKey, tuple[Grid, Summary]] = field(default_factory=dict)
    slots: int = 0
    """Size of ``summaries``, in slots of their grids; raw rows by what they take."""
    written: list[OutputRecord] = field(default_factory=list)
    """Summaries for which there was no more room, as the records that they become."""
    events_written: int = 0
    """Events in ``written``."""

    def clear(self) -> None:
        """Everything has been handed over."""
        self.changed, self.unmarked, self.summaries, self.slots = False, False, {}, 0
        self.written, self.events_written, self.dead_letters = [], 0, []


class GridsInEffect(Protocol):
    """Which grid is in effect for which model version: see ``streamdrift.gridbook``."""

    def refresh(self) -> bool:
        """Learn what has been written since; whether another grid is in effect for some model version."""

    def grid_of(self, model_id: str, model_version: str) -> Grid | None:
        """The grid on which the events of a model version are counted; None for one that has none yet."""


class Summarise:
    """The stage. ``raw`` names the columns of a model, by its id, that are kept value by value.

    A grid that comes into effect is picked up behind a commit. It does not matter when: until then, summaries of the
    model carry its events.
    """

    name = "summarise"
    state_topic: str | None = None

    def __init__(
        self,
        config: SummariseConfig,
        sources: Sequence[Source],
        grids: GridsInEffect,
        raw: Callable[[str], Collection[str]],
        observe: Callable[[Batch], None] | None = None,
    ) -> None:
        """``observe`` is shown the events that were accepted, in the order in which they were read."""
        self._config = config
        self._sources = {source.topic: source for source in sources}
        self._grids = grids
        self._raw = raw
        self._observe = observe
        self._decoders = {source.topic: JsonDecoder(source, grids.grid_of) for source in sources}
        self._owned: dict[TopicPartition, _Owned] = {}
        self._counts: dict[str, int] = {}
        self._tallies = {source.topic: _Tally() for source in sources}
        self._dead = {source.topic: DeadLetters(source.topic, config) for source in sources}
        self._committed_at = 0.0
        self._warned_at = -WARNING_INTERVAL
        self._told_behind_end: Counter[str] = Counter()

    @property
    def inputs(self) -> Collection[str]:
        return tuple(self._sources)

    @property
    def together(self) -> bool:
        return False

    def topology(self, counts: Mapping[str, int]) -> None:
        if dict(counts) != self._counts:
            self._counts = dict(counts)
            for part in self._owned.values():
                part.changed = True

    def assigned(self, tp: TopicPartition, start: Position, state: Mapping[bytes, bytes]) -> int:  # noqa: ARG002 — a stage without state
        source = self._sources[tp.topic]
        watermark, attempts = from_metadata(tp, start)
        clock = PartitionClock(self._config.tick_us, source.lateness_us, watermark)
        tried = Attempts(start.offset, attempts, self._config.attempts)
        self._owned[tp] = _Owned(source, tried, start.offset, clock=clock)
        return start.offset

    def revoked(self, tp: TopicPartition) -> None:
        self._owned.pop(tp, None)

    def begin(self, tp: TopicPartition) -> None:
        self._owned[tp].begin()

    def process(self, batch: RecordBatch, now: float) -> None:
        part = self._owned[batch.source]
        tally = self._tallies[batch.topic]
        tally.consumed += len(batch)
        for piece, ends in pieces(batch, self._dead[batch.topic].set_aside(part, batch)):
            self._read(part, piece, now)
            tally.control += ends
            if ends and part.source.end_of_stream:
                part.clock.advance(END_OF_TIME)
        self._dead[batch.topic].read(batch)
        part.read(batch)

    def reached_end(self, tp: TopicPartition, now: float) -> None:
        part = self._owned[tp]
        moved = part.moved_by_silence(part.clock.watermark, part.clock.lateness_us, now, self._config)
        if moved is not None:
            part.clock.advance(moved)
            part.changed = True

    def careful(self, tp: TopicPartition) -> bool:
        return self._owned[tp].careful

    def paused(self) -> Collection[TopicPartition]:
        watermarks = {tp: part.clock.watermark for tp, part in self._owned.items()}
        return ahead_of_others(watermarks, self._owned, self._config)

    def carried_out(self, ends: Mapping[TopicPartition, int]) -> None:
        """Nothing waits for that."""

    def expendable(self, now: float) -> Mapping[TopicPartition, int]:  # noqa: ARG002 — the inputs are somebody else's
        return {}

    def take(self, now: float, *, final: bool = False) -> Commit:
        if not (final or self._is_due(now)):
            return Commit()
        self._committed_at = now
        commit = replace(self._commit(final=final), warnings=self._warnings(now))
        # Nothing is half counted now.
        if not any(part.summaries or part.collected for part in self._owned.values()) and self._grids.refresh():
            for decoder in self._decoders.values():
                decoder.forget()
        return commit

    def _is_due(self, now: float) -> bool:
        if not 0 <= now - self._committed_at < self._config.commit_interval:
            return True
        return any(part.is_due for part in self._owned.values())

    def _warnings(self, now: float) -> Sequence[str]:
        """What came behind the end of a stream since this was said last: the partition is not watched any more."""
        behind = Counter({topic: tally.behind_end for topic, tally in self._tallies.items()})
        grown = behind - self._told_behind_end
        if not grown or 0 <= now - self._warned_at < WARNING_INTERVAL:
            return ()
        self._warned_at, self._told_behind_end = now, behind
        return [
            f"{count:,} events of {topic} came behind the end-of-stream marker of their partition and are late for "
            "ever: take end_of_stream from the source, and run under another kafka.application to watch them"
            for topic, count in grown.items()
        ]

    def _commit(self, *, final: bool) -> Commit:
        changed = {tp: part for tp, part in self._owned.items() if part.changed}
        if not changed:
            return Commit()
        for part in changed.values():
            self._add_collected(part)
        outputs = [record for part in changed.values() for record in part.dead_letters]
        outputs += self._summary_records(changed.values())
        outputs += self._progress_records(changed)
        for part in changed.values():
            part.clear()
        offsets = {tp: part.position(part.clock.watermark, final=final) for tp, part in changed.items()}
        return Commit(outputs, offsets)

    def status(self) -> list[SourceStatus]:
        """Counters of every source, as of now."""
        return [
            SourceStatus(
                topic,
                str(source.kind),
                tally.consumed,
                tally.summarised,
                tally.late,
                tally.control,
                tally.over_bound,
                dict(self._dead[topic].counts),
                self._watermark(topic),
                tally.exploded,
                tally.eventless,
            )
            for (topic, source), tally in zip(self._sources.items(), self._tallies.values(), strict=True)
        ]

    def _watermark(self, topic: str) -> int | None:
        owned = [part for part in list(self._owned.values()) if part.source.topic == topic]
        watermark = min((part.clock.watermark for part in owned), default=NEVER)
        return None if watermark in {NEVER, END_OF_TIME} else watermark

    def _read(self, part: _Owned, batch: RecordBatch, now: float) -> None:
        """Decode, sort out what is in time, and keep it until it is added up."""
        if not len(batch):
            return
        decoded = self._decoders[batch.topic].decode(batch)
        tally = self._tallies[batch.topic]
        tally.exploded += decoded.exploded
        tally.eventless += decoded.eventless
        for d, keep in zip(decoded.batches, self._in_time(part, batch, decoded, now), strict=True):
            accepted = d.events if keep.all() else d.events.where(keep)
            if len(accepted):
                self._collect(part, accepted)
        self._dead[batch.topic].bury(part, batch, decoded.dead)

    def _in_time(self, part: _Owned, batch: RecordBatch, decoded: Decoded, now: float) -> list[NDArray[np.bool_]]:
        """Which events of each decoded batch are neither late nor from the future. Shape (n,) each."""
        if not decoded.batches:
            return []
        times = np.concatenate([d.events.times for d in decoded.batches])
        index = np.concatenate([d.index for d in decoded.batches])
        future = from_the_future(times, index, batch, now, self._config.skew_us)
        if future.any():
            self._dead[batch.topic].bury(part, batch, of_the_future(index[future]))
        # The events of one message are read at once: in the order of time, none of them makes another late.
        order = np.arange(len(times)) if (np.diff(index) > 0).all() else np.lexsort((times, index))
        order = order[~future[order]]
        keep = np.zeros(len(times), dtype=np.bool_)
        ended = part.clock.watermark == END_OF_TIME
        keep[order] = part.clock.accept(times[order])
        late = len(order) - int(keep.sum())
        tally = self._tallies[batch.topic]
        tally.late += late
        tally.behind_end += late if ended else 0
        return np.split(keep, np.cumsum([len(d.index) for d in decoded.batches])[:-1])

    def _collect(self, part: _Owned, events: Batch) -> None:
        """Keep events to be added up with others: at the next commit, or when there are enough of them."""
        if self._observe is not None:
            self._observe(events)
        part.collected.setdefault(id(events.grid), []).append(events)
        part.collected_bytes += _BATCH_BYTES + events.values.nbytes + sum(map(len, events.rows or ()))
        if part.collected_bytes > _MOST_COLLECTED:
            self._add_collected(part)

    def _add_collected(self, part: _Owned) -> None:
        for batches in part.collected.values():
            self._add(part, Batch.joined(batches))
        part.collected, part.collected_bytes = {}, 0

    def _add(self, part: _Owned, events: Batch) -> None:
        ticks, groups = np.unique(events.times // self._config.tick_us, return_inverse=True)
        at_once = max(1, _MOST_SLOTS // (events.grid.slots + 1))
        if len(ticks) <= at_once:
            self._add_ticks(part, events, ticks.tolist(), groups)
            return
        for start in range(0, len(ticks), at_once):
            rows = (groups >= start) & (groups < start + at_once)
            self._add_ticks(part, events.where(rows), ticks[start : start + at_once].tolist(), groups[rows] - start)

    def _add_ticks(self, part: _Owned, events: Batch, ticks: Sequence[int], groups: NDArray[np.int64]) -> None:
        """Add up the events; ``groups`` tells the place of each one's tick among ``ticks``."""
        grid = events.grid
        for tick, summary in zip(ticks, summarise(events, groups, self._raw(grid.model_id)), strict=True):
            key = SummaryKey(grid.model_id, grid.model_version, "", tick)
            before = part.summaries.get(key)
            part.summaries[key] = (grid, before[1] + summary if before else summary)
            part.slots += (0 if before else grid.slots) + summary.rows.size // _SLOT_BYTES
        if part.slots > _MOST_SLOTS:
            self._drop_over_bound([part])
            part.events_written += sum(summary.events for _, summary in part.summaries.values())
            part.written += self._records_of([part])  # several records of a tick add up as one would
            part.summaries, part.slots = {}, 0

    def _summary_records(self, parts: Collection[_Owned]) -> Iterator[OutputRecord]:
        """The summaries of all partitions, merged: one (or a few) records a model and tick."""
        self._drop_over_bound(parts)
        for part in parts:
            events = sum(summary.events for _, summary in part.summaries.values())
            self._tallies[part.source.topic].summarised += part.events_written + events
            yield from part.written
        yield from self._records_of(parts)

    def _records_of(self, parts: Iterable[_Owned]) -> Iterator[OutputRecord]:
        merged: dict[SummaryKey, tuple[Grid, Summary]] = {}
        for part in parts:
            for key, (grid, summary) in part.summaries.items():
                merged[key] = (grid, merged[key][1] + summary) if key in merged else (grid, summary)
        for key, (grid, summary) in sorted(merged.items(), key=lambda item: item[0]):
            partition = partition_of(key.model_id, self._config.summaries_partitions)
            for record in to_parts(key, key.tick * self._config.tick_us, grid, summary):
                yield OutputRecord(
                    self._config.summaries_topic, key.model_id.encode("utf-8"), encode(record), (), partition
                )

    def _drop_over_bound(self, parts: Collection[_Owned]) -> None:
        """Of the model versions without a grid, keep those that come first, tick by tick."""
        unknown: dict[int, set[SummaryKey]] = {}
        for part in parts:
            for key in part.summaries:
                if self._grids.grid_of(key.model_id, key.model_version) is None:
                    unknown.setdefault(key.tick, set()).add(key)
        for keys in unknown.values():
            for key in sorted(keys, key=self._rank)[self._config.max_models :]:
                for part in parts:
                    dropped = part.summaries.pop(key, None)
                    if dropped:
                        self._tallies[part.source.topic].over_bound += dropped[1].events

    def _rank(self, key: SummaryKey) -> tuple[bool, tuple[int, str, str]]:
        return key.model_id not in self._config.listed, admission_rank(key.model_id, key.model_version)

    def _progress_records(self, parts: Mapping[TopicPartition, _Owned]) -> Iterator[OutputRecord]:
        entry = progress(
            self._counts,
            (PartitionProgress(*tp, part.next_offset, part.clock.watermark) for tp, part in parts.items()),
        )
        value = encode(entry)
        for partition in range(self._config.summaries_partitions):
            yield OutputRecord(self._config.summaries_topic, None, value, (), partition)
