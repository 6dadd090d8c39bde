"""The fold of one partition of the summaries topic: log entries in, alerts out.

Whatever detect knows of the world comes from this one log, in its order: summaries, progress that closes ticks, and
controls. Whoever folds the same entries gets the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamdrift.admission import Admission
from streamdrift.baselines import Baseline
from streamdrift.entries import BaselineSet, LogEntry, Progress, SummaryPart, from_part
from streamdrift.fold_state import chunk_key, model_key, partition_key, read_records
from streamdrift.gridbook import ModelKey
from streamdrift.grids import NO_GRID, Grid, blind_grid
from streamdrift.incidents import Alert
from streamdrift.monitor import REBASELINED
from streamdrift.outcome_fold import OutcomesConfig
from streamdrift.policies import Policy
from streamdrift.status import ModelStatus
from streamdrift.summaries import Summary, SummaryKey
from streamdrift.tick_fold import RETIRE_AFTER_US, PublishedAlert, Scope, TickFold
from streamdrift.watch import Known, Watch, WatchConfig
from streamdrift.windows import Reference

LEARNING_BYTES: Final = 64 << 20
"""Bytes of events that are kept to learn from, a partition."""


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
    retire_after_us: int = RETIRE_AFTER_US
    """Event time without events after which a model version is retired."""
    outcomes: OutcomesConfig | None = None
    """How outcomes are folded; None where there are no labels."""
    policies: Mapping[str, Sequence[Policy]] = field(default_factory=dict)
    """When models are to be trained anew, by model id."""

    @property
    def scope(self) -> Scope:
        """The same as any fold knows it."""
        admission = Admission(self.configured, self.max_models, self.listed)
        return Scope(self.tick_us, self.topics, admission, self.retire_after_us)


@dataclass(frozen=True, slots=True)
class News:
    """What the other stages must know of a model version: its grid, and the baseline that was learned on it.

    Without a grid it is watched no more.
    """

    model: ModelKey
    grid: Grid | None = None
    baseline: Baseline | None = None


class PartitionFold(TickFold[str, Summary, Watch]):
    """The inputs of one partition; parts of a tick are by grid. ``known`` finds baselines and grids by their ids."""

    def __init__(self, config: FoldConfig, known: Known) -> None:
        super().__init__(config.scope)
        self._config = config
        self._known = known
        self._kept_bytes = 0
        """Of events that are kept to learn from."""
        self._chunks: dict[ModelKey, int] = {}
        """Numbered records that lie in the state topic."""
        self._news: list[News] = []

    def apply(self, offset: int, entry: LogEntry) -> list[PublishedAlert]:
        """Take the entry at ``offset``. Offsets ascend; those below the restored position are read again."""
        self.seen(offset)
        match entry:
            case SummaryPart():
                self._add(offset, entry)
            case BaselineSet():
                if not self._is_replayed(offset):  # else the restored monitors know it already
                    return self._set_baseline(entry)
            case Progress():
                return self._progress(offset, entry.counts, entry.positions)
        return []

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
        if self._is_late(tick, offset, part.events):
            return
        grid = self._grid(part)
        if grid is None:
            self.counts.other_grid += part.events
            return
        parts = self._parts(tick, offset, _model(part.key))
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
        if before is None:
            return []
        alerts = before.retire(REBASELINED)
        watch.monitor.inherit(before.monitor)
        return self._published(alerts)

    def _drop_open(self, key: ModelKey, grid: Grid) -> None:
        """Open summaries of a model are counted on a grid that is no longer its own; rows can be counted on any."""
        for opened in self._open.values():
            parts = opened.parts.get(key, {})
            for grid_id in parts.keys() - {NO_GRID, grid.id}:
                self.counts.other_grid += parts.pop(grid_id).events

    def _replace(self, key: ModelKey, watch: Watch | None) -> None:
        before = self._watches.get(key)
        self._kept_bytes -= before.size if before else 0
        super()._replace(key, watch)
        if watch is None:
            self._news.append(News(key))

    # Ticks

    def _new_watch(self, key: ModelKey) -> Watch:
        return Watch(self._config.watch(key[0]), *key)

    def _events(self, part: Summary) -> int:
        return part.events

    def _close_watch(self, key: ModelKey, watch: Watch, tick: int, parts: dict[str, Summary]) -> list[Alert]:
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
        self._tell(tick, key, watch)
        return alerts

    def _predecessor(self, key: ModelKey) -> Reference | None:
        """The version of the same model that is watched since most lately."""
        monitors = [watch.monitor for other, watch in self._watches.items() if other[0] == key[0] and other != key]
        watching = [monitor for monitor in monitors if monitor.reference and monitor.first_tick is not None]
        latest = max(watching, key=lambda m: (m.first_tick, m.grid.model_version), default=None)
        return latest.reference if latest else None

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
        records[partition_key(partition)] = self._partition_state().encode()
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
            numbered = found.chunks.get(key, {})
            watch = Watch.restored(self._config.watch(key[0]), key, snapshot, numbered, self._known)
            self._kept_bytes += watch.size
            self._restore_watch(key, watch)


def _model(key: SummaryKey) -> ModelKey:
    return key.model_id, key.model_version
