"""The fold of one partition of the summaries topic: log entries in, alerts out.

Whatever detect knows of the world comes from this one log, in its order: summaries, progress that closes ticks, and
controls. Whoever folds the same entries gets the same alerts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

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
from streamdrift.fold_state import FOLD_VERSION, PartitionState, chunk_key, model_key, partition_key, read_records
from streamdrift.gridbook import ModelKey
from streamdrift.grids import NO_GRID, Grid, blind_grid
from streamdrift.incidents import Alert
from streamdrift.monitor import REBASELINED, VERSION_RETIRED, difference_of_ticks
from streamdrift.provenance import Provenance
from streamdrift.records import TopicPartition
from streamdrift.status import ModelStatus
from streamdrift.summaries import Summary, SummaryKey
from streamdrift.ticks import END_OF_TIME, MICROSECONDS, NEVER, Completeness, last_closed
from streamdrift.watch import Known, Watch, WatchConfig
from streamdrift.windows import Reference

LEARNING_BYTES: Final = 64 << 20
"""Bytes of events that are kept to learn from, a partition."""
MAX_VERSIONS: Final = 16
"""Versions of a configured model that are admitted beyond the bound: their names are the users' events' to choose."""


@dataclass(frozen=True, slots=True)
class FoldConfig:
    """How a partition is folded."""

    tick_us: int
    watch: Callable[[str], WatchConfig]
    """How a model is watched, by model id."""
    configured: Collection[ModelKey]
    """Model versions that have a configured baseline: always admitted, never retired."""
    topics: Collection[str]
    """The input topics that a tick waits for."""
    max_models: int = 1_000
    """Other model versions that are watched, a partition."""
    listed: Collection[str] = ()
    """Ids of models whose versions are admitted first, and up to ``MAX_VERSIONS`` of each beyond the bound."""
    retire_after_us: int = 30 * 86_400 * MICROSECONDS
    """Event time without events after which a model version is retired."""


@dataclass(frozen=True, slots=True)
class PublishedAlert:
    """An alert, and the input offsets that its evidence lies between: {topic: {partition: (from, to)}}."""

    alert: Alert
    offsets: Mapping[str, Mapping[int, tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class News:
    """What the other stages must know of a model version: its grid, and the baseline that was learned on it.

    Without a grid it is watched no more.
    """

    model: ModelKey
    grid: Grid | None = None
    baseline: Baseline | None = None


@dataclass(slots=True)
class FoldCounts:
    """What the fold did not take, since start. Events, except for ``replayed`` (records)."""

    late: int = 0
    over_bound: int = 0
    other_grid: int = 0
    replayed: int = 0

    @property
    def refused(self) -> Mapping[str, int]:
        """Events that no detector saw, by reason."""
        return {"late": self.late, "over_bound": self.over_bound, "other_grid": self.other_grid}

    def __add__(self, other: FoldCounts) -> FoldCounts:
        return FoldCounts(
            self.late + other.late,
            self.over_bound + other.over_bound,
            self.other_grid + other.other_grid,
            self.replayed + other.replayed,
        )


@dataclass(slots=True)
class _Open:
    """A tick that is not closed yet."""

    first_offset: int
    read_from: Mapping[TopicPartition, int]
    """Input offsets at or behind which its events lie; without a partition of which that is not known."""
    parts: dict[ModelKey, dict[str, Summary]] = field(default_factory=dict)
    """Summaries of each model version by the id of the grid on which they are counted."""


class PartitionFold:
    """Ticks, watches and completeness of one partition. ``known`` finds baselines and grids by their ids."""

    def __init__(self, config: FoldConfig, known: Known) -> None:
        self._config = config
        self._known = known
        self._completeness = Completeness()
        self._closed: int | None = None
        self._open: dict[int, _Open] = {}
        self._watches: dict[ModelKey, Watch] = {}
        self._kept_bytes = 0
        """Of events that are kept to learn from."""
        self._due: dict[ModelKey, int] = {}
        self._dirty: set[ModelKey] = set()
        self._dirty_status: set[ModelKey] = set()
        self._position = 0
        self._ended = False
        """Whether all input streams have ended: then no time passes any more."""
        self._replay_until = 0
        self.restored_at: int | None = None
        """Where to read on from the restored state; None without any."""
        self._provenance = Provenance()
        self._chunks: dict[ModelKey, int] = {}
        """Numbered records that lie in the state topic."""
        self._retired: set[ModelKey] = set()
        """Model versions whose snapshot is to be deleted."""
        self._news: list[News] = []
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
                self._ended = self.watermark == END_OF_TIME
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

    @property
    def models(self) -> Collection[ModelKey]:
        """The model versions that are watched."""
        return self._watches.keys()

    def status(self) -> dict[ModelKey, ModelStatus]:
        """The models whose status changed since this was called last."""
        changed, self._dirty_status = self._dirty_status, set()
        return {key: self._watches[key].status() for key in changed if key in self._watches}

    def news(self) -> list[News]:
        """What the other stages must know since this was called last."""
        news, self._news = self._news, []
        return news

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
        parts = opened.parts.setdefault(_model(part.key), {})
        summary = from_part(part, grid)
        parts[grid.id] = parts[grid.id] + summary if grid.id in parts else summary

    def _grid(self, part: SummaryPart) -> Grid | None:
        """The grid on which a summary is counted, if it can be of use: in ticks of this length, blind or the model's.

        The grid of a model that has none here may be in the topic all the same, if the state was lost.
        """
        key = _model(part.key)
        if part.start_us != part.key.tick * self._config.tick_us:
            return None
        if part.grid_id == NO_GRID:
            return blind_grid(*key)
        watch = self._watches.get(key)
        if watch and not watch.grid.blind:
            return watch.grid if watch.grid.id == part.grid_id else None
        found = self._known.grid(part.grid_id)
        return found if found and (found.model_id, found.model_version) == key else None

    def _set_baseline(self, control: BaselineSet) -> list[PublishedAlert]:
        key = control.model_id, control.model_version
        before = self._watches.get(key)
        baseline = before.monitor.baseline if before else None
        configured = before.configured if before else None
        if before and baseline and control.baseline_id == baseline.id:
            if not control.promoted and configured != control.baseline_id:
                before.configured = control.baseline_id
                self._dirty.add(key)
            return []
        if not control.promoted and control.baseline_id == configured:
            return []
        watch = Watch(self._config.watch(key[0]), *key, self._known(control.baseline_id))
        watch.configured = configured if control.promoted else control.baseline_id
        self._drop_open(key, watch.grid)
        self._replace(key, watch)
        return [] if before is None else self._published(before.retire(REBASELINED))

    def _drop_open(self, key: ModelKey, grid: Grid) -> None:
        """Open summaries of a model are counted on a grid that is no longer its own; rows can be counted on any."""
        for opened in self._open.values():
            parts = opened.parts.get(key, {})
            for grid_id in parts.keys() - {NO_GRID, grid.id}:
                self.counts.other_grid += parts.pop(grid_id).events

    def _replace(self, key: ModelKey, watch: Watch | None) -> None:
        """Watch a model version from now on, or no more."""
        before = self._watches.pop(key, None)
        self._kept_bytes -= before.size if before else 0
        self._due.pop(key, None)
        self._dirty_status.add(key)
        if watch:
            self._watches[key] = watch
            self._dirty.add(key)
        else:
            self._dirty.discard(key)
            self._retired.add(key)
            self._news.append(News(key))

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
        parts: dict[ModelKey, dict[str, Summary]] = {}
        if opened:
            self._provenance.keep(tick, opened.read_from)
            parts = opened.parts
            self._admit(parts)
        due = {key for key, at in self._due.items() if at <= tick}
        for key in sorted(due | parts.keys()):
            watch = self._watches[key]
            if key not in parts and self._is_over(key, watch, tick):
                yield from self._published(watch.retire(VERSION_RETIRED))
                self._replace(key, None)
                continue
            if key in parts or self._is_due(watch, tick):
                yield from self._published(self._close_watch(key, watch, tick, parts.get(key, {})))
                self._dirty.add(key)
                self._dirty_status.add(key)
            self._schedule(key, watch, tick + 1)

    @staticmethod
    def _is_due(watch: Watch, tick: int) -> bool:
        at = watch.due()
        return at is not None and tick >= at

    def _schedule(self, key: ModelKey, watch: Watch, earliest: int) -> None:
        """Note when something happens to a model version even without events."""
        self._due.pop(key, None)
        dues = [due for due in (watch.due(), self._retires_at(key, watch)) if due is not None]
        if dues:
            self._due[key] = max(min(dues), earliest)

    def _close_watch(self, key: ModelKey, watch: Watch, tick: int, parts: dict[str, Summary]) -> list[Alert]:
        """Fold the tick of one model version, and keep what the others must know of it."""
        grid, baseline, lost, size = watch.grid, watch.monitor.baseline, watch.lost, watch.size
        alerts: list[Alert] = []
        unknown = {grid_id: part.events for grid_id, part in parts.items() if grid_id not in {NO_GRID, grid.id}}
        if grid.blind and unknown:
            found = self._known.grid(min(unknown, key=lambda grid_id: (-unknown[grid_id], grid_id)))
            alerts += watch.adopt(found) if found else []
        room = LEARNING_BYTES - self._kept_bytes
        alerts += watch.close(tick, parts, room, lambda: self._predecessor(key))
        self._kept_bytes += watch.size - size
        self.counts.other_grid += watch.lost - lost
        if watch.grid is not grid or watch.monitor.baseline is not baseline:
            self._news.append(News(key, watch.grid, watch.monitor.baseline))
        return alerts

    def _predecessor(self, key: ModelKey) -> Reference | None:
        """The version of the same model that is watched since most lately."""
        monitors = [watch.monitor for other, watch in self._watches.items() if other[0] == key[0] and other != key]
        watching = [monitor for monitor in monitors if monitor.reference and monitor.first_tick is not None]
        latest = max(watching, key=lambda m: (m.first_tick, m.grid.model_version), default=None)
        return latest.reference if latest else None

    def _admit(self, parts: dict[ModelKey, dict[str, Summary]]) -> None:
        """Give new model versions a watch, in an order that no arrival decides, up to the bound."""
        versions = Counter(key[0] for key in self._watches if key not in self._config.configured)
        taken = sum(max(0, n - self._free_places(model_id)) for model_id, n in versions.items())
        new = [key for key in parts if key not in self._watches]
        for key in sorted(new, key=lambda k: (k[0] not in self._config.listed, *admission_rank(*k))):
            model_id = key[0]
            needs_place = key not in self._config.configured and versions[model_id] >= self._free_places(model_id)
            if needs_place and taken >= self._config.max_models:
                self.counts.over_bound += sum(part.events for part in parts.pop(key).values())
                continue
            taken += needs_place
            versions[model_id] += key not in self._config.configured
            self._watches[key] = Watch(self._config.watch(model_id), *key)

    def _free_places(self, model_id: str) -> int:
        """Versions of a model that take none of the places that are bounded."""
        return MAX_VERSIONS if model_id in self._config.listed else 0

    def _is_over(self, key: ModelKey, watch: Watch, tick: int) -> bool:
        at = self._retires_at(key, watch)
        return at is not None and tick >= at

    def _retires_at(self, key: ModelKey, watch: Watch) -> int | None:
        """The tick at whose close a model version without events until then is retired; at no end of all streams."""
        last = watch.monitor.last_event_us
        if last is None or key in self._config.configured or self._ended:
            return None
        return -(-(last + self._config.retire_after_us) // self._config.tick_us) - 1

    def _published(self, alerts: Iterable[Alert]) -> list[PublishedAlert]:
        end = self._completeness.offsets
        return [PublishedAlert(alert, self._provenance.since(alert.onset, end)) for alert in alerts]

    # Snapshots

    def snapshot(self, partition: int) -> dict[bytes, bytes | None]:
        """State records of everything that changed since the last call, None for those to be deleted.

        Numbered records come before the one that counts on them, and the partition's own comes last.
        """
        records: dict[bytes, bytes | None] = {model_key(key): None for key in sorted(self._retired)}
        for key in sorted({*self._dirty, *self._chunks}):
            records |= self._chunk_records(key)
            if key in self._dirty:
                records[model_key(key)] = self._watches[key].snapshot()
        self._dirty.clear()
        self._retired.clear()
        state = PartitionState(
            FOLD_VERSION,
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
        records[partition_key(partition)] = state.encode()
        return records

    def _chunk_records(self, key: ModelKey) -> dict[bytes, bytes | None]:
        """The numbered records of a model version that are new, or needed no more."""
        watch = self._watches.get(key)
        records: dict[bytes, bytes | None] = {}
        for number, value in watch.new_chunks() if watch else ():
            records[chunk_key(key, number)] = value
        needed = watch.chunks if watch else 0
        records |= {chunk_key(key, number): None for number in range(needed, self._chunks.pop(key, 0))}
        if needed:
            self._chunks[key] = needed
        return records

    def restore(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        """Go on from state records. Raises ``StateError`` if that cannot be."""
        found = read_records(records, partition)
        if found.partition is not None:
            self._restore_partition(found.partition)
        self._chunks = {key: max(numbered) + 1 for key, numbered in found.chunks.items()}
        for key, snapshot in found.watches.items():
            self._restore_watch(key, snapshot, found.chunks.get(key, {}))

    def _restore_partition(self, saved: PartitionState) -> None:
        if saved.tick_us != self._config.tick_us:
            raise StateError(
                f"the state has {difference_of_ticks(saved.tick_us, self._config.tick_us)}; another time.tick needs "
                "another kafka.application, or internal topics that are empty"
            )
        self._position = self._replay_until = saved.position
        self.restored_at = saved.resume_at
        self._closed = saved.closed
        self._provenance.forget(saved.closed)
        # Topics that are configured no more must not be waited for.
        self._completeness.learn(
            {topic: n for topic, n in saved.counts.items() if topic in self._config.topics},
            ((TopicPartition(p.topic, p.partition), p.next_offset, p.watermark) for p in saved.progress),
        )
        self._ended = self.watermark == END_OF_TIME

    def _restore_watch(self, key: ModelKey, snapshot: bytes, chunks: Mapping[int, bytes]) -> None:
        watch = Watch.restored(self._config.watch(key[0]), key, snapshot, chunks, self._known)
        self._watches[key] = watch
        self._kept_bytes += watch.size
        self._dirty_status.add(key)
        self._schedule(key, watch, 0 if self._closed is None else self._closed + 1)


def _model(key: SummaryKey) -> ModelKey:
    return key.model_id, key.model_version
