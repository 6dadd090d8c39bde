"""The watch over one model version: it learns what is usual if nobody said so, and then looks for what is not.

A model with a baseline is watched from its first event on. One without goes through the states of ``learning`` first;
what a learner finds is news for the other stages: the grid on which they are to count, and the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.grids import NO_GRID, Grid
from streamdrift.incidents import Alert
from streamdrift.learning import Learner, LearnerState, LearningConfig, counted_on
from streamdrift.monitor import VERSION_RETIRED, Monitor, MonitorConfig
from streamdrift.retraining import IncidentNow
from streamdrift.status import Comparison, FeatureChange, LearningStatus, ModelState, ModelStatus
from streamdrift.summaries import Row, Summary
from streamdrift.windows import Reference

STATE_VERSION: Final = 2
"""Of a watch's snapshot. Version 1, a monitor's snapshot alone, is still read."""


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """How one model is watched, and how its baseline is learned."""

    monitor: MonitorConfig
    learning: LearningConfig


class Known(Protocol):
    """Baselines and grids by their ids: see ``gridbook``."""

    def __call__(self, baseline_id: str) -> Baseline:
        """Raises ``StateError`` for a baseline that is not known."""

    def grid(self, grid_id: str) -> Grid | None:
        """None for a grid that is not known."""


MAX_COMPARED: Final = 20
"""Columns of a comparison that are shown: those that changed most."""

Parts = Mapping[str, Summary]
"""What a tick holds of a model version: summaries by the id of the grid on which they are counted."""


class _State(msgspec.Struct, frozen=True):
    version: int
    monitor: bytes
    learner: LearnerState | None = None
    configured: str | None = None
    compared_with: Comparison | None = None


class _Head(msgspec.Struct, frozen=True):
    version: int


class Watch:
    """One model version. Its grid is blind until one is learned."""

    def __init__(
        self, config: WatchConfig, model_id: str, model_version: str, baseline: Baseline | None = None
    ) -> None:
        self._config = config
        self._model = model_id, model_version
        self._ticks = Ticks(config.monitor.tick_us)
        self.monitor = Monitor(config.monitor, model_id, model_version, baseline)
        self.learner = None if baseline else Learner(model_id, model_version, config.learning, self._ticks)
        self.configured: str | None = None
        """The id of the configured baseline that was set last: setting it again changes nothing."""
        self._stream_ended = False
        self.lost = 0
        """Events that could not be counted: on another grid, or without their rows."""
        self._compared_with: Comparison | None = None

    @property
    def grid(self) -> Grid:
        return self.monitor.grid

    @property
    def size(self) -> int:
        """Bytes of the rows that it keeps."""
        return self.learner.size if self.learner else 0

    @property
    def last_event_us(self) -> int | None:
        """The end of the last tick with events."""
        return self.monitor.last_event_us

    @property
    def incidents(self) -> Sequence[IncidentNow]:
        """Those that are open."""
        return self.monitor.incidents

    @property
    def warming_up(self) -> bool:
        """Whether there is no baseline yet."""
        return self.learner is not None

    def close(self, tick: int, parts: Parts, room: int, predecessor: Callable[[], Reference | None]) -> list[Alert]:
        """Fold a closed tick; without ``parts`` it had no events. ``room``: bytes that may be kept in addition.

        ``predecessor`` finds the reference of the model version before, with which a learned one is compared.
        """
        if self.monitor.fence is not None and tick <= self.monitor.fence:
            return []
        summary = self._on_grid(parts)
        alerts = self.monitor.close(tick, summary)
        if self.learner is None:
            return alerts
        self.learner.close(tick, summary, room)
        rows = self.learner.take_rows() if self.learner.grid else ()
        if rows:
            self._compared_with = _compare(rows, predecessor())
        return [*alerts, *self._step(self.learner)]

    def adopt(self, grid: Grid) -> list[Alert]:
        """Count on a grid that was learned before, of which nothing else is known any more."""
        if self.learner is None or self.learner.grid:
            return []
        self.learner.adopt(grid)
        self.learner.take_rows()
        return self._step(self.learner)

    def end_of_stream(self) -> None:
        """All input has ended: what is still to be closed is closed at no particular time."""
        self._stream_ended = self.monitor.stream_ended = True

    def due(self) -> int | None:
        """The next tick at whose close something happens even without events."""
        dues = (self.monitor.due(), self.learner.due() if self.learner else None)
        return min((tick for tick in dues if tick is not None), default=None)

    def retire(self, resolution: str = VERSION_RETIRED) -> list[Alert]:
        """End all incidents, since nobody will watch them any more; the watch is not used after this."""
        return self.monitor.retire(resolution)

    def _on_grid(self, parts: Parts) -> Summary | None:
        """The sum of the parts, on the grid of this model; what is on none was counted from its rows."""
        found = [parts[self.grid.id]] if self.grid.id in parts else []
        blind = parts.get(NO_GRID)
        if blind and not self.grid.blind:
            found.append(counted_on(self.grid, blind.rows.series(), self._config.learning.raw))
            self.lost += blind.events - blind.rows.total
        self.lost += sum(part.events for grid_id, part in parts.items() if grid_id not in {NO_GRID, self.grid.id})
        return sum(found[1:], found[0]) if found else None

    def _step(self, learner: Learner) -> list[Alert]:
        """Go on to the state that the learner has reached."""
        before = self.monitor
        if learner.baseline:
            self.learner = None
        elif learner.grid is None or not before.grid.blind:
            return []
        self.monitor = Monitor(self._config.monitor, *self._model, learner.baseline, grid=learner.grid)
        self.monitor.stream_ended = self._stream_ended
        return self.monitor.succeed(before)

    # Snapshots

    @property
    def chunks(self) -> int:
        """How many numbered records go with the snapshot: 0 and up; any others are needed no more."""
        return self.learner.chunks if self.learner else 0

    def new_chunks(self) -> Iterator[tuple[int, bytes]]:
        """The numbered records that the last snapshot did not have."""
        return self.learner.new_chunks() if self.learner else iter(())

    def snapshot(self) -> bytes:
        """The watch as it is between two ticks; written after ``new_chunks``."""
        learner = self.learner.state() if self.learner else None
        state = _State(STATE_VERSION, self.monitor.snapshot(), learner, self.configured, self._compared_with)
        return msgspec.msgpack.encode(state)

    @classmethod
    def restored(
        cls, config: WatchConfig, model: tuple[str, str], snapshot: bytes, chunks: Mapping[int, bytes], known: Known
    ) -> Watch:
        """Go on from a snapshot. Raises ``StateError`` if that cannot be."""
        state = _read(snapshot)
        baseline_id = Monitor.baseline_of(state.monitor)
        watch = cls(config, *model, known(baseline_id) if baseline_id else None)
        watch.configured, watch._compared_with = state.configured, state.compared_with
        if watch.learner and state.learner:
            watch._restore_learner(watch.learner, state.learner, chunks, known)
        watch.monitor.restore(state.monitor)
        return watch

    def _restore_learner(
        self, learner: Learner, state: LearnerState, chunks: Mapping[int, bytes], known: Known
    ) -> None:
        grid = known.grid(state.grid_id) if state.grid_id else None
        if state.grid_id and grid is None:
            raise StateError(f"grid {state.grid_id} is not in the grids topic")
        learner.restore(state, chunks, grid)
        if grid:
            self.monitor = Monitor(self._config.monitor, *self._model, None, grid=grid)

    # Status

    def status(self) -> ModelStatus:
        """What pages and metrics show of the model, as of the last closed tick."""
        status = replace(self.monitor.status(), compared_with=self._compared_with)
        if self.learner is None:
            return status
        last = self.learner.last_tick
        until_us = None if last is None else self._ticks.end_us(last)
        learning = LearningStatus(self.learner.events, self.learner.needed, until_us)
        state = ModelState.WAITING if self.learner.waiting else status.state
        return replace(status, state=state, learning=learning)


def _read(snapshot: bytes) -> _State:
    try:
        version = msgspec.msgpack.decode(snapshot, type=_Head).version
        if version != STATE_VERSION:
            raise StateError(f"a model's snapshot has version {version}, this program reads {STATE_VERSION}")
        return msgspec.msgpack.decode(snapshot, type=_State)
    except msgspec.DecodeError as error:
        raise StateError(f"a model's snapshot cannot be read: {error}") from None


def _compare(rows: Sequence[Row], other: Reference | None) -> Comparison | None:
    """How events differ from the baseline of another version of the model, the most changed column first."""
    if other is None:
        return None
    window = other.reduce(counted_on(other.grid, rows))
    names = (column.name for column in other.grid.columns)
    effects = map(FeatureChange, names, other.effects(window))
    changes = sorted((e for e in effects if e.effects), key=lambda e: (-e.effects["psi"], e.name))
    return Comparison(other.grid.model_version, window.events, tuple(changes[:MAX_COMPARED]))
