"""The fold of one partition of the summaries topic: log entries in, alerts out.

Whatever detect knows of the world comes from this one log, in its order: summaries, progress that closes ticks, and
controls. Whoever folds the same entries gets the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Final

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.entries import (
    BaselineSet,
    LogEntry,
    PartitionProgress,
    Progress,
    SummaryPart,
    admission_rank,
    from_part,
)
from streamdrift.errors import StateError
from streamdrift.grids import Grid, blind_grid
from streamdrift.incidents import Alert
from streamdrift.monitor import Monitor, MonitorConfig, difference_of_ticks
from streamdrift.records import TopicPartition
from streamdrift.status import ModelStatus
from streamdrift.summaries import Summary, SummaryKey
from streamdrift.ticks import NEVER, Completeness, last_closed

STATE_VERSION: Final = 1
CHECKPOINTS: Final = 512
"""Closed ticks, or runs of them, of which is kept from where their events were read."""

ModelKey = tuple[str, str]
"""model_id, model_version"""


@dataclass(frozen=True, slots=True)
class FoldConfig:
    """How a partition is folded."""

    tick_us: int
    monitor: Callable[[str], MonitorConfig]
    """The configuration of a model's monitor, by model id."""
    configured: Collection[ModelKey]
    """Model versions that are always admitted."""
    topics: Collection[str]
    """The input topics that a tick waits for."""
    max_models: int = 1_000
    """Other model versions that are watched, a partition."""


@dataclass(frozen=True, slots=True)
class PublishedAlert:
    """An alert, and the input offsets that its evidence lies between: {topic: {partition: (from, to)}}."""

    alert: Alert
    offsets: Mapping[str, Mapping[int, tuple[int, int]]]


@dataclass(slots=True)
class FoldCounts:
    """What the fold did not take, since start. Events, except for ``replayed`` (records)."""

    late: int = 0
    over_bound: int = 0
    other_grid: int = 0
    replayed: int = 0

    def __add__(self, other: FoldCounts) -> FoldCounts:
        return FoldCounts(
            self.late + other.late,
            self.over_bound + other.over_bound,
            self.other_grid + other.other_grid,
            self.replayed + other.replayed,
        )


class _PartitionState(msgspec.Struct, array_like=True, frozen=True):
    version: int
    tick_us: int
    position: int
    resume_at: int
    """The committed offset that goes with it."""
    closed: int | None
    counts: dict[str, int]
    progress: list[PartitionProgress]


@dataclass(slots=True)
class _Open:
    """A tick that is not closed yet."""

    first_offset: int
    read_from: Mapping[TopicPartition, int]
    """Input offsets at or behind which its events lie; without a partition of which that is not known."""
    summaries: dict[SummaryKey, Summary] = field(default_factory=dict)


class PartitionFold:
    """Ticks, monitors and completeness of one partition.

    ``baselines`` finds a baseline by its id; it may raise ``StateError`` for one that is not known yet.
    """

    def __init__(self, config: FoldConfig, baselines: Callable[[str], Baseline]) -> None:
        self._config = config
        self._baselines = baselines
        self._completeness = Completeness()
        self._closed: int | None = None
        self._open: dict[int, _Open] = {}
        self._monitors: dict[ModelKey, Monitor] = {}
        self._due: dict[ModelKey, int] = {}
        self._dirty: set[ModelKey] = set()
        self._dirty_status: set[ModelKey] = set()
        self._position = 0
        self._replay_until = 0
        self.restored_at: int | None = None
        """Where to read on from the restored state; None without any."""
        self._read_from: list[tuple[int, Mapping[TopicPartition, int]]] = []
        """Of the ticks closed here, or of runs of them: the last one, and from where its events were read."""
        self._restored_tick: int | None = None
        self.counts = FoldCounts()

    def apply(self, offset: int, entry: LogEntry) -> list[PublishedAlert]:
        """Take the entry at ``offset``. Offsets ascend; those below the restored position are read again."""
        self._position = max(self._position, offset + 1)
        match entry:
            case SummaryPart():
                self._add(offset, entry)
            case BaselineSet():
                if offset >= self._replay_until:  # else the restored monitors know it already
                    return self._set_baseline(entry)
            case Progress():
                self._completeness.learn(
                    {topic: n for topic, n in entry.counts.items() if topic in self._config.topics},
                    ((TopicPartition(p.topic, p.partition), p.next_offset, p.watermark) for p in entry.positions),
                )
                # Until the reader is back where it was, nothing closes: what is known of completeness may be further
                # than what was read again.
                if offset + 1 >= self._replay_until:
                    return list(self._close_until(last_closed(self.watermark, self._config.tick_us)))
        return []

    @property
    def resume_at(self) -> int:
        """The first offset that a successor must read: of the oldest open tick, else the next one."""
        return min((tick.first_offset for tick in self._open.values()), default=self._position)

    @property
    def watermark(self) -> int:
        """The time up to which all input is complete, in microseconds; ``NEVER`` while a topic is unheard of."""
        known = self._completeness.counts
        return self._completeness.watermark if all(topic in known for topic in self._config.topics) else NEVER

    def status(self) -> dict[ModelKey, ModelStatus]:
        """The models whose status changed since this was called last."""
        changed, self._dirty_status = self._dirty_status, set()
        return {key: self._monitors[key].status() for key in changed if key in self._monitors}

    # Summaries and controls

    def _add(self, offset: int, part: SummaryPart) -> None:
        tick = part.key.tick
        if self._closed is not None and tick <= self._closed:
            if offset < self._replay_until:
                self.counts.replayed += 1
            else:
                self.counts.late += part.events
            return
        grid = self._grid(part)
        if grid is None:
            self.counts.other_grid += part.events
            return
        opened = self._open.get(tick)
        if opened is None:
            # What progress was told before the first summary of a tick lies before all its events.
            known = dict(self._completeness.offsets) if offset >= self._replay_until else {}
            opened = self._open[tick] = _Open(offset, known)
        before, summary = opened.summaries.get(part.key), from_part(part, grid)
        opened.summaries[part.key] = summary if before is None else before + summary

    def _grid(self, part: SummaryPart) -> Grid | None:
        """The model's grid, if the summary is counted on it, in ticks of this length."""
        if part.start_us != part.key.tick * self._config.tick_us:
            return None
        grid = self._grid_of(_model(part.key))
        return grid if grid.id == part.grid_id else None

    def _grid_of(self, key: ModelKey) -> Grid:
        monitor = self._monitors.get(key)
        return monitor.grid if monitor else blind_grid(*key)

    def _set_baseline(self, control: BaselineSet) -> list[PublishedAlert]:
        key = control.model_id, control.model_version
        before = self._monitors.get(key)
        if before and before.baseline and before.baseline.id == control.baseline_id:
            return []
        baseline = self._baselines(control.baseline_id)
        if self._grid_of(key).id != baseline.grid.id:
            self._drop_open(key)
        self._monitors[key] = Monitor(self._config.monitor(control.model_id), *key, baseline)
        self._due.pop(key, None)
        self._dirty.add(key)
        self._dirty_status.add(key)
        if before is None:
            return []
        return [PublishedAlert(alert, self._offsets_since(alert.onset)) for alert in before.retire("rebaselined")]

    def _drop_open(self, key: ModelKey) -> None:
        """Open summaries of a model are counted on a grid that is no longer its own."""
        for opened in self._open.values():
            for summary_key in [k for k in opened.summaries if _model(k) == key]:
                self.counts.other_grid += opened.summaries.pop(summary_key).events

    # Ticks

    def _close_until(self, last: int) -> Iterator[PublishedAlert]:
        """Close every tick up to ``last``; those in which nothing can happen are passed over."""
        while (tick := self._next_tick()) is not None and tick <= last:
            yield from self._close(tick)
            self._closed = tick if self._closed is None else max(self._closed, tick)
        if self.watermark != NEVER:
            self._closed = last if self._closed is None else max(self._closed, last)

    def _next_tick(self) -> int | None:
        return min((*self._open, *self._due.values()), default=None)

    def _close(self, tick: int) -> Iterator[PublishedAlert]:
        opened = self._open.pop(tick, None)
        summaries: dict[ModelKey, Summary] = {}
        if opened:
            self._keep(tick, opened.read_from)
            summaries = {_model(key): summary for key, summary in opened.summaries.items()}
            self._admit(summaries)
        due = {key for key, at in self._due.items() if at <= tick}
        for key in sorted(due | summaries.keys()):
            monitor = self._monitors[key]
            alerts = monitor.close(tick, summaries.get(key))
            self._dirty.add(key)
            self._dirty_status.add(key)
            next_due = monitor.due()
            if next_due is None:
                self._due.pop(key, None)
            else:
                self._due[key] = max(next_due, tick + 1)
            for alert in alerts:
                yield PublishedAlert(alert, self._offsets_since(alert.onset))

    def _admit(self, summaries: dict[ModelKey, Summary]) -> None:
        """Give new model versions a monitor, in an order that no arrival decides, up to the bound."""
        new = [key for key in summaries if key not in self._monitors]
        room = self._config.max_models - sum(key not in self._config.configured for key in self._monitors)
        for key in sorted(new, key=lambda k: admission_rank(*k)):
            if key in self._config.configured or room > 0:
                room -= key not in self._config.configured
                self._monitors[key] = Monitor(self._config.monitor(key[0]), *key, None)
            else:
                self.counts.over_bound += summaries.pop(key).events

    # Provenance

    def _keep(self, tick: int, read_from: Mapping[TopicPartition, int]) -> None:
        """Remember from where a tick was read; of long ago for two ticks together, so that there is a bound."""
        kept = self._read_from
        kept.append((tick, read_from))
        if len(kept) > CHECKPOINTS:
            half = CHECKPOINTS // 2
            older = zip(kept[0:half:2], kept[1:half:2], strict=True)
            self._read_from = [*((last, _lower(a, b)) for (_, a), (last, b) in older), *kept[half:]]

    def _offsets_since(self, tick: int) -> dict[str, dict[int, tuple[int, int]]]:
        """Between which input offsets the events since ``tick`` lie; from 0 where that is not known any more."""
        end = self._completeness.offsets
        start: Mapping[TopicPartition, int] = {}
        if self._restored_tick is None or tick > self._restored_tick:
            start = reduce(_lower, (read_from for last, read_from in self._read_from if last >= tick), end)
        offsets: dict[str, dict[int, tuple[int, int]]] = {}
        for tp in sorted(end):
            offsets.setdefault(tp.topic, {})[tp.partition] = (start.get(tp, 0), end[tp])
        return offsets

    # Snapshots

    def snapshot(self, partition: int) -> dict[bytes, bytes]:
        """State records of everything that changed since the last call; the partition's own comes last."""
        records = {model_key(key): self._monitors[key].snapshot() for key in sorted(self._dirty)}
        self._dirty.clear()
        state = _PartitionState(
            STATE_VERSION,
            self._config.tick_us,
            self._position,
            self.resume_at,
            self._closed,
            self._completeness.counts,
            [
                PartitionProgress(*tp, offset, self._completeness.watermarks[tp])
                for tp, offset in sorted(self._completeness.offsets.items())
            ],
        )
        records[partition_key(partition)] = msgspec.msgpack.encode(state)
        return records

    def restore(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        """Go on from state records. Raises ``StateError`` if that cannot be."""
        for name, value in records.items():
            match _decode_key(name):
                case ["partition", number]:
                    if number == str(partition):
                        self._restore_partition(value)
                case ["model", model_id, version]:
                    self._restore_model((model_id, version), value)
                case _:
                    raise StateError(f"a key of the state topic is of no kind that this program knows: {name!r}")

    def _restore_partition(self, value: bytes) -> None:
        try:
            saved = msgspec.msgpack.decode(value, type=_PartitionState)
        except msgspec.DecodeError as error:
            raise StateError(f"a partition's snapshot cannot be read: {error}") from None
        if saved.version != STATE_VERSION:
            raise StateError(f"a partition's snapshot has version {saved.version}, this program reads {STATE_VERSION}")
        if saved.tick_us != self._config.tick_us:
            raise StateError(
                f"the state has {difference_of_ticks(saved.tick_us, self._config.tick_us)}; another time.tick needs "
                "another kafka.application, or internal topics that are empty"
            )
        self._position = self._replay_until = saved.position
        self.restored_at = saved.resume_at
        self._closed = self._restored_tick = saved.closed
        # Topics that are configured no more must not be waited for.
        self._completeness.learn(
            {topic: n for topic, n in saved.counts.items() if topic in self._config.topics},
            ((TopicPartition(p.topic, p.partition), p.next_offset, p.watermark) for p in saved.progress),
        )

    def _restore_model(self, key: ModelKey, value: bytes) -> None:
        baseline_id = Monitor.baseline_of(value)
        baseline = self._baselines(baseline_id) if baseline_id else None
        monitor = Monitor(self._config.monitor(key[0]), *key, baseline)
        monitor.restore(value)
        self._monitors[key] = monitor
        self._dirty_status.add(key)
        due = monitor.due()
        if due is not None:
            self._due[key] = due


def _lower(a: Mapping[TopicPartition, int], b: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """The lower offset of each partition that both sides know."""
    return {tp: min(offset, b[tp]) for tp, offset in a.items() if tp in b}


def _model(key: SummaryKey) -> ModelKey:
    return key.model_id, key.model_version


def model_key(key: ModelKey) -> bytes:
    """Key of a model's snapshot in the state topic."""
    return msgspec.json.encode(("model", *key))


def partition_key(partition: int) -> bytes:
    """Key of a partition's own record in the state topic."""
    return msgspec.json.encode(("partition", str(partition)))


def _decode_key(key: bytes) -> list[str]:
    try:
        return msgspec.json.decode(key, type=list[str])
    except msgspec.DecodeError as error:
        raise StateError(f"a key of the state topic cannot be read: {error}") from None
