"""The watch over the outcomes of one model version: closed ticks of labels in, alerts and verdicts out.

::

    outcomes of a tick ─┬─ windows of their predictions ── metrics ── benchmarks ── performance
                        ├─ errors, value by value ──────── River ────────────────── concept_drift
                        └─ labels, errors, losses ──────── detectors of features ─── label_drift, concept_drift

All three are incidents of one book. Until it is known how outcomes are to be counted they are kept row by row, and
counted once it is. A pure step like ``monitor``'s: what follows from a tick depends on the ticks alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, Final

import msgspec

from streamdrift.benchmarks import Measured
from streamdrift.detectors.detector import Ticks
from streamdrift.detectors.error_stream import DEFAULT, ErrorShift, ErrorStream, ErrorStreamConfig
from streamdrift.detectors.river import RiverSpec
from streamdrift.errors import StateError
from streamdrift.facts import incidents_now
from streamdrift.incident_history import HistoryState, IncidentHistory
from streamdrift.incidents import Alert, Incidents, Sighting, Subject
from streamdrift.monitor import REBASELINED, difference_of_ticks
from streamdrift.muting import Mute
from streamdrift.outcome_drift import OutcomeDrift, OutcomeDriftConfig
from streamdrift.outcome_entries import PackedCoverage, pack_coverage, unpack_coverage
from streamdrift.outcome_evidence import (
    BENCHMARK,
    COLUMNS,
    ERROR_COLUMN,
    beside_benchmark,
    column_of,
    of_shift,
    of_verdict,
)
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.outcome_learning import learned_grid
from streamdrift.outcome_rows import OutcomeColumns, counted, counted_by_tick
from streamdrift.outcome_status import OutcomeStatus
from streamdrift.outcome_waiting import PackedWaiting, Waiting
from streamdrift.performance import Performance, Verdict
from streamdrift.plans import PerformancePlan
from streamdrift.retraining import IncidentNow
from streamdrift.sensitivity import Sensitivity
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.spreads import Spreads
from streamdrift.ticks import MICROSECONDS

SNAPSHOT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class OutcomeConfig:
    """How the outcomes of one model are watched."""

    tick_us: int
    plan: PerformancePlan
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """What the training table says, by version."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Id of the configured baseline, by version."""
    river: RiverSpec = DEFAULT
    """What listens to the errors."""
    mutes: Sequence[Mute] = ()
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    """That of the whole model."""
    shown_us: int = 3_600 * MICROSECONDS
    """Length of the window from which an alert shows how labels and losses are since a change."""


Parts = Mapping[tuple[int, str], AnySummary]
"""What a tick holds of a model version: by window, and the id of the grid; "" for what is not counted yet."""


@dataclass(frozen=True, slots=True)
class OutcomeNews:
    """What follows from a closed tick of one model version."""

    alerts: Sequence[Alert] = ()
    verdicts: Sequence[Verdict] = ()
    labels: int = 0
    """Predictions that were labelled in it."""


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    tick_us: int
    fence: int | None
    first_tick: int | None
    last_tick: int | None
    grid: OutcomeGrid | None
    coverage: PackedCoverage
    waiting: list[PackedWaiting]
    window_us: int
    below_since: dict[str, int]
    performance: Any
    river: dict[str, Any]
    errors: Any
    incidents: Any
    history: HistoryState = HistoryState()
    drift: Any = None
    """None also in what earlier versions wrote, which watched labels in another way."""


class OutcomeWatch:
    """The outcomes of one model version."""

    def __init__(self, config: OutcomeConfig, model_id: str, model_version: str) -> None:
        self._config = config
        self._model = model_id, model_version
        self._ticks = Ticks(config.tick_us)
        self.fence: int | None = None
        """The last tick that was closed here."""
        self.first_tick: int | None = None
        self.last_tick: int | None = None
        """The first tick, and the last one, with labels or predictions."""
        self.lost = 0
        """Labels that could not be counted: on another grid, or without their rows."""
        self._coverage = Coverage.empty()
        self._waiting = Waiting()
        self._history = IncidentHistory(self._ticks)
        self._state_bytes = 0
        self._count_on(None)

    def _count_on(self, grid: OutcomeGrid | None) -> None:
        """Begin anew, on a grid."""
        config, (_, version) = self._config, self._model
        self._grid = grid
        performance = config.plan.config(version, grid.task) if grid else None
        self._targets = performance.targets if performance else ()
        self._performance = Performance(performance, grid) if performance and grid else None
        self._errors = ErrorStream(self._stream_config(grid)) if grid else None
        self._shift: ErrorShift | None = None
        self._drift = self._drift_on(grid) if grid else None
        subject = Subject(*self._model, {}, config.baselines.get(version))
        self._incidents = Incidents(subject, self._ticks, COLUMNS, config.mutes)
        self._left_over: Sequence[Sighting] = ()
        self._below_since: dict[str, int] = {}
        """The first window of the row of bad ones, by metric."""

    def _drift_on(self, grid: OutcomeGrid) -> OutcomeDrift:
        config = self._config
        drift = OutcomeDriftConfig(config.plan.label_delay_us, config.sensitivity, config.shown_us)
        return OutcomeDrift(self._model, grid, self._ticks, drift, config.measured.get(self._model[1]))

    def _stream_config(self, grid: OutcomeGrid) -> ErrorStreamConfig:
        binary = grid.task is not Task.REGRESSION
        # A detector of right and wrong cannot listen to the sizes of errors.
        return ErrorStreamConfig(binary, self._config.river if binary or not self._config.river.binary else DEFAULT)

    def close(self, tick: int, parts: Parts) -> OutcomeNews:
        """Fold a closed tick; one that was folded before changes nothing."""
        if self.fence is not None and tick <= self.fence:
            return OutcomeNews()
        self.fence = tick
        coverage = reduce(add, (summary.coverage for summary in parts.values()), Coverage.empty())
        self._coverage += coverage
        if came(coverage):
            self.first_tick, self.last_tick = tick if self.first_tick is None else self.first_tick, tick
        alerts = self._settle(tick, parts)
        before = self._caught_up(tick)
        sightings, verdicts = self._look(tick, self._counted(parts))
        alerts += self._incidents.close(tick, [*self._left_over, *before, *sightings])
        self._left_over = ()
        self._history.remember(alerts)
        self._history.remember_unheard(self._incidents.take_unheard(), tick)
        return OutcomeNews(alerts, verdicts, coverage[Fate.LABELLED])

    def end_of_stream(self) -> None:
        """All input has ended. Nothing follows from that: windows close by their labels' delay."""

    def due(self) -> int | None:
        """The next tick at whose close something happens even without outcomes."""
        if self._left_over and self.fence is not None:
            return self.fence + 1
        closes_us = self._performance.due() if self._performance else None
        window = None if closes_us is None else self._ticks.ending_at(closes_us)
        dues = (window, self._drift.due() if self._drift else None, self._incidents.due())
        return min((tick for tick in dues if tick is not None), default=None)

    def settles_at(self) -> int | None:
        """The tick at whose close all its windows have closed; None before anything came."""
        if self.last_tick is None:
            return None
        closes_us = self._performance.settles() if self._performance else None
        return self.last_tick if closes_us is None else max(self.last_tick, self._ticks.ending_at(closes_us))

    def retire(self, resolution: str) -> list[Alert]:
        """End all incidents, since nobody will watch them any more; the watch is not used after this."""
        return [] if self.fence is None else self._incidents.end(self.fence, resolution)

    @property
    def last_event_us(self) -> int | None:
        """The end of the last tick in which something came; of the last one at all if nothing but fates did."""
        last = self.fence if self.last_tick is None else self.last_tick
        return None if last is None else self._ticks.end_us(last)

    @property
    def warming_up(self) -> bool:
        """Never: metrics have benchmarks from the first label on, or are not judged."""
        return False

    @property
    def incidents(self) -> Sequence[IncidentNow]:
        """Those that are open."""
        return incidents_now(self._incidents.open)

    # A tick

    def _settle(self, tick: int, parts: Parts) -> list[Alert]:
        """Decide on which grid outcomes are counted from this tick on; another one begins everything anew."""
        grid = self._grid_of(parts) or self._grid or self._learned(parts)
        if grid == self._grid:
            return []
        alerts = self._incidents.end(tick, REBASELINED)
        self._count_on(grid)
        return alerts

    def _grid_of(self, parts: Parts) -> OutcomeGrid | None:
        """The grid on which the join counts: the present one if any part is on it, else that of most outcomes."""
        counts: dict[OutcomeGrid, int] = {}
        for summary in parts.values():
            if isinstance(summary, OutcomeSummary):
                grid = summary.outcomes.grid
                counts[grid] = counts.get(grid, 0) + summary.outcomes.n
        if self._grid in counts:
            return self._grid
        return min(counts, key=lambda grid: (-counts[grid], grid.id), default=None)

    def _learned(self, parts: Parts) -> OutcomeGrid | None:
        came = (each.rows for each in parts.values() if isinstance(each, UncountedOutcomes))
        return learned_grid(OutcomeColumns.of_rows(reduce(add, came, self._waiting.rows)))

    def _counted(self, parts: Parts) -> dict[int, OutcomeSummary]:
        """Outcomes of the tick by window, as far as they can be counted."""
        if self._grid is None:
            self.lost += self._waiting.take((w, s) for (w, _), s in parts.items() if isinstance(s, UncountedOutcomes))
            return {}
        waited, nothing = self._waiting.release(), Spreads.empty(self._grid)
        found = {window: replace(self._on_grid(self._grid, rows), spreads=nothing) for window, rows in waited.items()}
        for (window, _), summary in sorted_parts(parts):
            on_grid = self._on_grid(self._grid, summary)
            found[window] = found[window] + on_grid if window in found else on_grid
        return found

    def _caught_up(self, until: int) -> list[Sighting]:
        """The drift of outcomes that waited to be counted, in the ticks in which they came."""
        drift, grid, seen = self._drift, self._grid, list[Sighting]()
        if not (drift and grid and self._waiting):
            return []
        rows = self._waiting.rows
        heard = {tick: s for tick, s in counted_by_tick(rows, grid, self._ticks.length_us).items() if s.spreads.events}
        nothing = OutcomeSummary.empty(grid)
        for tick in (*heard, until):
            while (due := drift.due()) is not None and due < tick:
                seen += drift.close(due, nothing.spreads, nothing.outcomes.confusion)
            if tick < until:
                seen += drift.close(tick, heard[tick].spreads, heard[tick].outcomes.confusion)
        return seen

    def _on_grid(self, grid: OutcomeGrid, summary: AnySummary) -> OutcomeSummary:
        if isinstance(summary, UncountedOutcomes):
            self.lost += summary.rows.total - sum(summary.rows.rows.values())
            return counted(summary, grid)
        if summary.outcomes.grid == grid:
            return summary
        self.lost += summary.outcomes.n
        return replace(OutcomeSummary.empty(grid), coverage=summary.coverage)

    def _look(self, tick: int, found: Mapping[int, OutcomeSummary]) -> tuple[list[Sighting], list[Verdict]]:
        """What there is to see of the outcomes of the tick."""
        if self._grid is None or self._performance is None or self._drift is None:
            return [], []
        for window, summary in found.items():
            self._performance.take(window, summary.outcomes, summary.coverage)
        verdicts = self._performance.close(self._ticks.end_us(tick))
        summary = reduce(add, found.values(), OutcomeSummary.empty(self._grid))
        sightings = [*self._judged(verdicts), *self._heard(tick, summary)]
        # Nobody is told that it is worse by what was seen when it began.
        risen = self._incidents.due()
        again = risen is not None and tick >= risen
        sightings += self._drift.close(tick, summary.spreads, summary.outcomes.confusion, again=again)
        return [beside_benchmark(seen, self._targets) for seen in sightings], verdicts

    def _judged(self, verdicts: Sequence[Verdict]) -> Iterator[Sighting]:
        for verdict in verdicts:
            metric = verdict.target.metric
            if verdict.in_a_row == 1 and verdict.below:
                self._below_since.setdefault(metric, verdict.window)
            seen = of_verdict(
                verdict, self._below_since.get(metric, verdict.window), self._config.plan.window_us, self._ticks
            )
            if not verdict.alarm and verdict.below is False:
                self._below_since.pop(metric, None)
            if seen:
                yield seen

    def _heard(self, tick: int, summary: OutcomeSummary) -> Iterator[Sighting]:
        values = summary.errors.series()
        if not len(values) or self._errors is None:
            return
        self._shift = self._errors.close(tick, values)
        seen = of_shift(self._shift, self._errors.config.river.name, self._ticks)
        if seen:
            yield seen

    # Snapshots

    def snapshot(self) -> bytes:
        """The watch as it is between two ticks."""
        data = msgspec.msgpack.encode(
            _Snapshot(
                SNAPSHOT_VERSION,
                self._ticks.length_us,
                self.fence,
                self.first_tick,
                self.last_tick,
                self._grid,
                pack_coverage(self._coverage),
                self._waiting.packed(),
                self._config.plan.window_us,
                self._below_since,
                self._performance.state() if self._performance else None,
                _identity(self._config.river),
                self._errors.state() if self._errors else None,
                self._incidents.state(),
                self._history.state(),
                self._drift.state() if self._drift else None,
            )
        )
        self._state_bytes = len(data)
        return data

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot. Raises ``StateError`` if that cannot be."""
        saved = _read(snapshot)
        if saved.tick_us != self._ticks.length_us:
            raise StateError(f"a snapshot of outcomes has {difference_of_ticks(saved.tick_us, self._ticks.length_us)}")
        self._count_on(saved.grid)
        self.fence, self.first_tick, self.last_tick = saved.fence, saved.first_tick, saved.last_tick
        if saved.window_us == self._config.plan.window_us:
            self._below_since = saved.below_since
        try:
            self._coverage = unpack_coverage(saved.coverage)
            self._waiting.restore(saved.waiting)
        except ValueError as error:
            raise StateError(f"a snapshot of outcomes cannot be read: {error}") from None
        if self._performance:
            self._performance.restore(saved.performance)
        hears_on = saved.river == _identity(self._config.river)
        if self._errors and hears_on:
            self._errors.restore(saved.errors)
        looks_on = bool(self._drift and saved.drift is not None and self._drift.restore(saved.drift))
        self._incidents.restore(saved.incidents)
        self._history.restore(saved.history)
        watched = {(column_of(metric), BENCHMARK) for metric in (self._performance.alarms if self._performance else ())}
        watched |= {(ERROR_COLUMN, self._errors.config.river.name)} if self._errors and hears_on else set()
        watched |= self._drift.watched if self._drift and looks_on else set()
        self._left_over = tuple(self._abandoned(watched))
        self._state_bytes = len(snapshot)

    def _abandoned(self, watched: Collection[tuple[int, str]]) -> Iterator[Sighting]:
        """The end of alarms that nobody would ever end: what raised them is configured in another way now."""
        for incident in self._incidents.open:
            for key, contribution in incident.contributions.items():
                if (contribution.column, contribution.detector) not in watched:
                    yield Sighting(key, incident.kind, None)

    # Status

    def status(self) -> OutcomeStatus:
        """What pages and metrics show of the outcomes, as of the last closed tick."""
        return OutcomeStatus(
            *self._model,
            self._grid,
            self._config.plan.window_us,
            self._targets,
            self._performance.windows() if self._performance else None,
            self._coverage,
            None if self.last_tick is None else self._ticks.end_us(self.last_tick),
            self._performance.late if self._performance else 0,
            self._shift,
            self._history.shown(self._incidents.open),
            self._history.alerts,
            self._state_bytes,
            0 if self.fence is None else self._history.lately(self.fence)[0],
        )


def came(coverage: Coverage) -> int:
    """Predictions and labels that came. Other fates are told of when there is time for it, and decide nothing."""
    return coverage[Fate.PREDICTED] + coverage[Fate.LABELLED] + coverage[Fate.REVISED]


def sorted_parts(parts: Parts) -> list[tuple[tuple[int, str], AnySummary]]:
    """In an order that no arrival decides."""
    return sorted(parts.items(), key=lambda item: item[0])


def _identity(spec: RiverSpec) -> dict[str, Any]:
    return {"class": spec.class_name, "parameters": dict(spec.parameters)}


def _read(snapshot: bytes) -> _Snapshot:
    try:
        saved = msgspec.msgpack.decode(snapshot, type=_Snapshot)
    except msgspec.DecodeError as error:
        raise StateError(f"a snapshot of outcomes cannot be read: {error}") from None
    if saved.version != SNAPSHOT_VERSION:
        raise StateError(f"a snapshot of outcomes has version {saved.version}, this program reads {SNAPSHOT_VERSION}")
    return saved
