"""The fold of one model version: closed ticks in, alerts out.

``close`` is a pure step: what it returns, and what the monitor is afterwards, depend on the ticks it was given and on
nothing else. A snapshot taken between two ticks and restored elsewhere goes on the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.changes import MAX_UNSEEN_NAMED
from streamdrift.column_watch import ColumnWatch
from streamdrift.detectors.detector import Detector, Finding, Ticks
from streamdrift.errors import StateError
from streamdrift.facts import incidents_now
from streamdrift.grids import SPECIAL_SLOTS, Grid, Kind, blind_grid
from streamdrift.incident_history import HistoryState, IncidentHistory
from streamdrift.incidents import Alert, Incidents, Severity, Subject, sighting
from streamdrift.muting import Mute
from streamdrift.published import PANES
from streamdrift.retraining import IncidentNow
from streamdrift.sensitivity import Sensitivity
from streamdrift.status import FeatureState, FeatureStatus, Lately, ModelState, ModelStatus
from streamdrift.streams import RiverStream, watches
from streamdrift.summaries import Moments, Summary
from streamdrift.summaries.names import MAX_NAMES
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import PUBLISHED_BINS, WINDOW_BINS, Reference, Window

SNAPSHOT_VERSION: Final = 2
INPUTS: Final = 0.8
"""Share of a model's budget of false alarms that its inputs have; the rest is for its outcomes."""
REBASELINED: Final = "rebaselined"
VERSION_RETIRED: Final = "version_retired"
NO_DATA: Final = "no_data"


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """How one model is watched. Durations in microseconds."""

    tick_us: int
    window_us: int
    """Length of the window of published effects."""
    river: Sequence[RiverStream] = ()
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    mutes: Sequence[Mute] = ()


class _Snapshot(msgspec.Struct, frozen=True):
    """A monitor between two ticks; stands alone."""

    version: int
    tick_us: int
    baseline_id: str | None
    fence: int | None
    """The last tick that is in it, None before the first: what is read of older ticks is there already."""
    events: int
    first_tick: int | None
    last_event_tick: int | None
    columns: Any
    """None without a baseline."""
    river: dict[str, Any]
    incidents: Any
    history: HistoryState


class Monitor:
    """One model version. Without a baseline only River watches it, and its state says so.

    ``grid`` is the one on which a baseline is being learned; without it and a baseline, a blind one.
    """

    def __init__(
        self,
        config: MonitorConfig,
        model_id: str,
        model_version: str,
        baseline: Baseline | None,
        *,
        grid: Grid | None = None,
    ) -> None:
        self._config = config
        self._ticks = Ticks(config.tick_us)
        self.baseline = baseline
        self.grid: Grid = baseline.grid if baseline else grid or blind_grid(model_id, model_version)
        reference = self.reference = Reference(baseline) if baseline else None
        of_inputs = config.sensitivity.part(INPUTS)
        self._columns = ColumnWatch(reference, self._ticks, of_inputs, config.window_us) if reference else None
        self._streams = watches(config.river, self.grid, config.window_us, self._ticks)
        subject = Subject(model_id, model_version, {}, baseline.id if baseline else None)
        self._incidents = Incidents(subject, self._ticks, len(self.grid.columns), config.mutes)
        self.stream_ended = False
        """Whether nothing can come any more, so that silence means nothing."""
        self.fence: int | None = None
        """The last tick that was closed here."""
        self._events = 0
        self._first_tick: int | None = None
        self._last_event_tick: int | None = None
        self._left_over: Sequence[Finding] = ()
        self._history = IncidentHistory(self._ticks)
        self._state_bytes = 0

    @property
    def state(self) -> ModelState:
        """Whether it watches, or what is missing for it."""
        if self._columns:
            return ModelState.WATCHING if self._columns.calibrated else ModelState.CALIBRATING
        return ModelState.LEARNING if self.grid.blind else ModelState.CALIBRATING

    def close(self, tick: int, summary: Summary | None) -> list[Alert]:
        """Fold a closed tick, None for one without events. A tick that was folded before changes nothing."""
        if self.fence is not None and tick <= self.fence:
            return []
        self.fence = tick
        self._history.begin(tick)
        self._first_tick = tick if self._first_tick is None else self._first_tick
        window = self.reference.reduce(summary) if summary and self.reference else None
        if summary:
            self._events += summary.events
            self._last_event_tick = tick
        findings = [*self._left_over, *self._detect(tick, window), *self._listen(tick, summary)]
        self._left_over = ()
        seen = (sighting(finding, self.grid, self.reference, self._ticks) for finding in findings)
        self._incidents.model_state = self.state
        alerts = self._incidents.close(tick, seen)
        if self._is_silent(tick):
            alerts += self._incidents.end(tick, NO_DATA)
        return self._remembered(tick, alerts)

    def _remembered(self, tick: int, alerts: list[Alert]) -> list[Alert]:
        self._history.remember(alerts)
        self._history.remember_unheard(self._incidents.take_unheard(), tick)
        return alerts

    def _is_silent(self, tick: int) -> bool:
        at = self._silent_at()
        return at is not None and tick >= at

    def _silent_at(self) -> int | None:
        """The tick at whose close nothing that detectors remember is recent, if no events come until then.

        Incidents end with it. If the columns still drift when events come again, these are others.
        """
        if self._last_event_tick is None or self.stream_ended or not self._incidents.open:
            return None
        last_us = self._ticks.end_us(self._last_event_tick)
        return self._ticks.ending_at(last_us + self._config.sensitivity.longest_us)

    def due(self) -> int | None:
        """The next tick at whose close something happens even without events."""
        if self._left_over and self.fence is not None:
            return self.fence + 1
        columns = (self._columns,) if self._columns else ()
        dues = [part.due() for part in (*columns, *self._streams, self._incidents)]
        return min((tick for tick in (*dues, self._silent_at()) if tick is not None), default=None)

    def retire(self, resolution: str) -> list[Alert]:
        """End all incidents, since nobody will watch them any more; the monitor is not used after this."""
        return [] if self.fence is None else self._remembered(self.fence, self._incidents.end(self.fence, resolution))

    def inherit(self, before: Monitor) -> None:
        """Remember the incidents of the monitor that watched the same model version on another baseline."""
        self._history = before._history

    def succeed(self, before: Monitor) -> list[Alert]:
        """Go on where the same model's monitor stood that had no baseline: River's detectors, and what was counted.

        Returns the ends of its incidents, which name columns of its grid.
        """
        alerts = before.retire(REBASELINED)
        self.inherit(before)
        self.fence, self._events, self._first_tick = before.fence, before._events, before._first_tick
        self._last_event_tick = before._last_event_tick
        states = {stream.key: stream.state() for stream in before._streams}
        for stream in self._streams:
            if stream.key in states:
                stream.restore(states[stream.key])
        return alerts

    def recent(self) -> Baseline | None:
        """What the published window holds as a baseline on the same grid; None without a window or events in it."""
        if self._columns is None or not self._columns.published.events:
            return None
        measured = self.baseline.measured if self.baseline else None
        return Baseline(self.grid, self._columns.reference.refine(self._columns.published.whole), measured)

    @property
    def last_event_us(self) -> int | None:
        """The end of the last tick with events."""
        return None if self._last_event_tick is None else self._ticks.end_us(self._last_event_tick)

    @property
    def detectors(self) -> Collection[Detector]:
        """Those that watch its columns; none without a baseline."""
        return self._columns.detectors if self._columns else ()

    @property
    def first_tick(self) -> int | None:
        """The first tick that was closed here."""
        return self._first_tick

    @property
    def incidents(self) -> Sequence[IncidentNow]:
        """Those that are open."""
        return incidents_now(self._incidents.open)

    def _detect(self, tick: int, window: Window | None) -> Iterable[Finding]:
        if self._columns is None:
            return ()
        # Nobody is told that it is worse by what was seen when it began.
        risen = self._incidents.due()
        return self._columns.close(tick, window, again=risen is not None and tick >= risen)

    def _listen(self, tick: int, summary: Summary | None) -> Iterator[Finding]:
        for stream in self._streams:
            pairs = summary.pairs.get(stream.stream.column) if summary else None
            findings, detections = stream.close(tick, pairs)
            for detection in detections:
                self._incidents.corroborate(detection)
            yield from findings

    # Snapshots

    def snapshot(self) -> bytes:
        """The monitor as it is between two ticks."""
        data = msgspec.msgpack.encode(
            _Snapshot(
                SNAPSHOT_VERSION,
                self._ticks.length_us,
                self.baseline.id if self.baseline else None,
                self.fence,
                self._events,
                self._first_tick,
                self._last_event_tick,
                self._columns.state() if self._columns else None,
                {stream.key: stream.state() for stream in self._streams},
                self._incidents.state(),
                self._history.state(),
            )
        )
        self._state_bytes = len(data)
        return data

    @staticmethod
    def baseline_of(snapshot: bytes) -> str | None:
        """The id of the baseline that a snapshot goes with. Raises ``StateError``."""
        return _read(snapshot).baseline_id

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot of the same baseline. Raises ``StateError`` if that cannot be."""
        saved = _read(snapshot)
        if saved.tick_us != self._ticks.length_us:
            raise StateError(f"a model's snapshot has {difference_of_ticks(saved.tick_us, self._ticks.length_us)}")
        if saved.baseline_id != (self.baseline.id if self.baseline else None):
            raise StateError(f"a model's snapshot goes with another baseline, {saved.baseline_id}")
        self.fence = saved.fence
        self._events, self._first_tick = saved.events, saved.first_tick
        self._last_event_tick = saved.last_event_tick
        if self._columns:
            self._columns.restore(saved.columns)
        for stream in self._streams:
            if stream.key in saved.river:
                stream.restore(saved.river[stream.key])
        self._incidents.restore(saved.incidents)
        self._incidents.model_state = self.state
        self._history.restore(saved.history)
        self._left_over = tuple(self._abandoned())
        self._state_bytes = len(snapshot)

    def _abandoned(self) -> Iterator[Finding]:
        """The end of alarms whose detector is not configured any more: nobody else would ever end them."""
        watched = {(stream.index, stream.name) for stream in self._streams}
        detectors = self._columns.names if self._columns else ()
        for incident in self._incidents.open:
            for c in incident.contributions.values():
                if c.detector not in detectors and (c.column, c.detector) not in watched:
                    yield Finding(c.column, c.detector, False, False, 0.0, c.onset, None)  # noqa: FBT003 — neither calibrated nor in alarm

    # Status

    def status(self) -> ModelStatus:
        """What pages and metrics show of the model, as of the last closed tick."""
        ticks = 0 if self.fence is None or self._first_tick is None else self.fence - self._first_tick + 1
        grid = self.grid
        return ModelStatus(
            grid.model_id,
            grid.model_version,
            self.state,
            self.baseline.id if self.baseline else None,
            self._events,
            ticks,
            self.last_event_us,
            self._columns.published.events if self._columns else 0,
            tuple(self._feature_status()),
            {field.name: field.reason for field in grid.unmonitored},
            tuple(stream.status() for stream in self._streams),
            self._history.shown(self._incidents.open),
            self._history.alerts,
            self._state_bytes,
            lately=self._lately(),
        )

    def _lately(self) -> Lately | None:
        if self.fence is None:
            return None
        incidents, known_us = self._history.lately(self.fence)
        return Lately(incidents, self._config.sensitivity.false_alarms * known_us, known_us)

    def _feature_status(self) -> Iterator[FeatureStatus]:
        if self._columns is None:
            if not self.grid.blind:
                for column in self.grid.columns:
                    yield FeatureStatus(column.name, str(column.kind), str(column.role), FeatureState.LEARNING)
            return
        evidence, strongest = self._columns.strongest()
        by_severity = sorted(self._incidents.open, key=lambda incident: incident.severity)
        contributions = [(c, incident.severity) for incident in by_severity for c in incident.contributions.values()]
        severity = {c.column: severity for c, severity in contributions}
        muted = {c.column: c.muted for c, _ in contributions}
        for i, column in enumerate(self.grid.columns):
            view = self._columns.published.column(i)
            state = FeatureState.NO_DATA if view is None else FeatureState.OK
            if i in severity:
                state = _STATES[severity[i]]
            shown: Mapping[str, Any] = {} if view is None else view
            yield FeatureStatus(
                column.name,
                str(column.kind),
                str(column.role),
                state,
                evidence_ratio=evidence[i],
                detector=strongest[i],
                muted=muted.get(i, ""),
                **shown,
            )


_STATES: Final = {
    Severity.INFO: FeatureState.INFO,
    Severity.WARNING: FeatureState.WARNING,
    Severity.CRITICAL: FeatureState.CRITICAL,
}


def _read(snapshot: bytes) -> _Snapshot:
    try:
        saved = msgspec.msgpack.decode(snapshot, type=_Snapshot)
    except msgspec.DecodeError as error:
        raise StateError(f"a model's snapshot cannot be read: {error}") from None
    if saved.version != SNAPSHOT_VERSION:
        raise StateError(f"a model's snapshot has version {saved.version}, this program reads {SNAPSHOT_VERSION}")
    return saved


def difference_of_ticks(found_us: int, wanted_us: int) -> str:
    """Why a state cannot be continued from: what is numbered by ticks means other times."""
    return f"ticks of {found_us / MICROSECONDS:g} s, not of {wanted_us / MICROSECONDS:g} s"


_CONTRIBUTION_BYTES: Final = 1_600
"""What an incident holds of one numeric column: its effects and both histograms."""
_NAME_BYTES: Final = 48
"""A category's name that is not unusually long, and its count."""


def snapshot_bytes_estimate(grid: Grid) -> int:
    """Size of a monitor's snapshot when all columns drift; River's detectors and unusually long names come on top."""
    slots = sum(min(column.bins, WINDOW_BINS) + SPECIAL_SLOTS for column in grid.columns)
    words = slots + Moments.empty(len(grid.columns)).limbs.size
    categorical = sum(column.kind is Kind.CATEGORICAL for column in grid.columns)
    names = categorical * (MAX_NAMES + PUBLISHED_BINS + MAX_UNSEEN_NAMED) * _NAME_BYTES
    return 4_096 + (PANES + 2) * 8 * words + len(grid.columns) * _CONTRIBUTION_BYTES + names
