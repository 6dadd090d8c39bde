"""Performance: metrics of each window of predictions, held against benchmarks once its labels have had their time.

::

    predictions  |── window w ──|── window w+1 ──|
    labels           x  x    x  |x  x   x   x    |   x      x
                                |◀── label delay ──▶|
    its metrics   ···provisional··················──┤ measured, judged once, and closed

Labels that come early may differ from those that come late (a fraud is reported before "no fraud" is certain), so what
an open window says is provisional, and nothing is decided by it. A window with too few labels is no reason for
anything: it neither adds to a row of bad windows nor ends one.

A metric is *below* where it is worse than its benchmark by more than the tolerance. ``in_a_row`` windows below are an
alarm, which lasts until a window is worse by at most half the tolerance: a metric that hovers at the bound is one
alarm, not many.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from streamdrift.errors import StateError
from streamdrift.metrics import METRICS, Estimate, Undefined
from streamdrift.outcome_entries import (
    PackedCoverage,
    PackedOutcomes,
    pack_coverage,
    pack_outcomes,
    unpack_coverage,
    unpack_outcomes,
)
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcomes import Outcomes

RECOVERED: Final = 0.5
"""Share of the tolerance by which a metric may still be worse for an alarm to end."""

ROUNDING: Final = 1e-9
"""Share of a benchmark that is no difference: 0.81 - 0.79 is more than 0.02 in floating point."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a metric is held against."""

    metric: str
    """A name in ``METRICS``."""
    benchmark: float | None = None
    """None: the metric is reported, and not judged."""
    tolerance: float = 0.0

    def worse_by(self, value: float) -> float | None:
        """By how much a value is worse than the benchmark, negative where it is better; None without a benchmark."""
        return None if self.benchmark is None else METRICS[self.metric].better.shortfall(value, self.benchmark)

    def is_worse(self, value: float, share: float = 1.0) -> bool | None:
        """Whether that is more than ``share`` of the tolerance; None without a benchmark."""
        worse = self.worse_by(value)
        if worse is None or self.benchmark is None:
            return None
        return worse > share * self.tolerance + ROUNDING * abs(self.benchmark)


@dataclass(frozen=True, slots=True)
class PerformanceConfig:
    """How the performance of a model is judged. Durations in microseconds."""

    window_us: int
    label_delay_us: int
    min_labels: int
    """Fewest labels of a window that make a number."""
    targets: Sequence[Target]
    in_a_row: int = 1
    """Windows below the bound that are an alarm."""

    def closes_us(self, window: int) -> int:
        """When a window's labels have had their time."""
        return (window + 1) * self.window_us + self.label_delay_us


class Standing(StrEnum):
    """What stands behind a reading."""

    MEASURED = "measured"
    PROVISIONAL = "provisional"
    """The window is open: more labels may come."""
    TOO_FEW = "too_few_labels"
    UNDEFINED = "undefined"
    """There are labels, but the metric has no value for them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric in a window: an estimate, or why there is none."""

    metric: str
    standing: Standing
    estimate: Estimate | None
    reason: str = ""
    """Why there is no estimate."""


@dataclass(frozen=True, slots=True)
class Report:
    """A window as of now."""

    window: int
    coverage: Coverage
    readings: Sequence[Reading]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a window that closed says of one metric."""

    window: int
    target: Target
    reading: Reading
    worse_by: float | None
    """By how much it is worse than the benchmark, negative where better; None without a number, or a benchmark."""
    below: bool | None
    """Whether that is more than the tolerance; None likewise."""
    in_a_row: int
    """Judged windows below, up to and with this one."""
    alarm: bool
    """Whether the metric is in alarm as of this window."""
    changed: bool
    """Whether this window began or ended the alarm."""
    coverage: float | None = None
    """Share of the window's predictions that are labelled; None where no prediction was seen."""

    @property
    def errors_beyond(self) -> float | None:
        """How many standard errors the metric lies beyond the tolerance, negative within it: below 2 may be chance.

        None where there is nothing to compare, or no standard error.
        """
        estimate = self.reading.estimate
        if estimate is None or self.worse_by is None or not estimate.standard_error:
            return None
        return (self.worse_by - self.target.tolerance) / estimate.standard_error

    @property
    def sentence(self) -> str:
        """What a person is told: ``accuracy 0.781 ± 0.013 of 1,000 labels, 0.029 worse than 0.81 (tolerance 0.02)``."""
        estimate = self.reading.estimate
        if estimate is None:
            return f"{self.target.metric}: {self.reading.reason}"
        error = f" ± {estimate.standard_error:.2g}" if estimate.standard_error is not None else ""
        said = f"{self.target.metric} {estimate.value:.4g}{error} of {estimate.n:,} labels"
        if self.worse_by is None:
            return said
        side = "worse" if self.worse_by > 0 else "better"
        said += (
            f", {abs(self.worse_by):.2g} {side} than {self.target.benchmark:g} (tolerance {self.target.tolerance:g})"
        )
        return f"{said}, in {self.in_a_row} windows in a row" if self.in_a_row > 1 else said


def read(metric: str, outcomes: Outcomes, min_labels: int, *, closed: bool) -> Reading:
    """A metric of the outcomes of a window."""
    if outcomes.n < min_labels:
        return Reading(metric, Standing.TOO_FEW, None, f"{outcomes.n} of at least {min_labels} labels")
    result = METRICS[metric].of(outcomes)
    if isinstance(result, Undefined):
        return Reading(metric, Standing.UNDEFINED, None, result.reason)
    return Reading(metric, Standing.MEASURED if closed else Standing.PROVISIONAL, result)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of outcomes as of one moment. They never change, so that another thread may measure them."""

    config: PerformanceConfig
    windows: Sequence[tuple[int, Outcomes, Coverage, bool]] = ()
    """Number, outcomes, coverage, and whether it is closed; the newest first."""

    def reports(self) -> list[Report]:
        """What each of them says of every target."""
        config = self.config
        return [
            Report(w, coverage, [read(t.metric, outcomes, config.min_labels, closed=closed) for t in config.targets])
            for w, outcomes, coverage, closed in self.windows
        ]


class _Row(msgspec.Struct, array_like=True):
    """How a metric stands over windows."""

    below: int = 0
    alarm: bool = False


class _Window(msgspec.Struct, array_like=True, frozen=True):
    window: int
    outcomes: PackedOutcomes
    coverage: PackedCoverage


class _State(msgspec.Struct, array_like=True, frozen=True):
    grid_id: str
    window_us: int
    now_us: int | None
    late: int
    rows: dict[str, _Row]
    windows: list[_Window]
    last: _Window | None


class Performance:
    """The windows of one model version and segment. A pure fold: ``take`` outcomes, then ``close`` up to a time."""

    def __init__(self, config: PerformanceConfig, grid: OutcomeGrid) -> None:
        """Raises ``ValueError`` for a metric that there is not, or that is none of this task."""
        for target in config.targets:
            if target.metric not in METRICS:
                raise ValueError(f"{target.metric} is no metric; expected one of {', '.join(sorted(METRICS))}")
            if grid.task not in METRICS[target.metric].tasks:
                raise ValueError(f"{target.metric} is no metric of a {grid.task} task")
        self._config = config
        self._grid = grid
        self._now_us: int | None = None
        self._rows = {target.metric: _Row() for target in config.targets}
        self._open: dict[int, tuple[Outcomes, Coverage]] = {}
        self._last: tuple[int, Outcomes, Coverage] | None = None
        self.late = 0
        """Labels that came after their window had closed; they are in no metric."""

    def take(self, window: int, outcomes: Outcomes, coverage: Coverage) -> None:
        """Add to a window; what comes after its close is counted and left out."""
        if self._is_over(window):
            self.late += coverage[Fate.LABELLED] + coverage[Fate.REVISED]
        elif window in self._open:
            ours, theirs = self._open[window]
            self._open[window] = ours + outcomes, theirs + coverage
        else:
            self._open[window] = Outcomes.empty(self._grid) + outcomes, coverage

    def close(self, now_us: int) -> list[Verdict]:
        """Judge the windows whose labels have had their time, in order; event time never goes back."""
        self._now_us = now_us if self._now_us is None else max(now_us, self._now_us)
        verdicts = []
        for window in sorted(window for window in self._open if self._is_over(window)):
            outcomes, coverage = self._open.pop(window)
            self._last = window, outcomes, coverage
            verdicts += [self._judge(window, target, outcomes, coverage.ratio) for target in self._config.targets]
        return verdicts

    def due(self) -> int | None:
        """The next time at which a window closes, in microseconds since the epoch."""
        return min(map(self._config.closes_us, self._open), default=None)

    def settles(self) -> int | None:
        """When the last window that is open closes, in microseconds since the epoch; None if none is."""
        return max(map(self._config.closes_us, self._open), default=None)

    @property
    def alarms(self) -> Collection[str]:
        """The metrics that are in alarm."""
        return {metric for metric, row in self._rows.items() if row.alarm}

    def windows(self) -> Windows:
        """The open windows and the last closed one."""
        open_ = ((w, *counted, False) for w, counted in self._open.items())
        last = () if self._last is None else ((*self._last, True),)
        return Windows(self._config, tuple(sorted((*open_, *last), key=lambda each: -each[0])))

    def reports(self) -> list[Report]:
        """The open windows and the last closed one, newest first."""
        return self.windows().reports()

    def _is_over(self, window: int) -> bool:
        return self._now_us is not None and self._config.closes_us(window) <= self._now_us

    def _judge(self, window: int, target: Target, outcomes: Outcomes, coverage: float | None) -> Verdict:
        reading = read(target.metric, outcomes, self._config.min_labels, closed=True)
        row = self._rows[target.metric]
        worse, below, before = None, None, row.alarm
        if reading.estimate is not None and target.benchmark is not None:
            value = reading.estimate.value
            worse, below = target.worse_by(value), target.is_worse(value)
            row.below = row.below + 1 if below else 0
            if row.below >= self._config.in_a_row:
                row.alarm = True
            elif not target.is_worse(value, RECOVERED):
                row.alarm = False
        return Verdict(window, target, reading, worse, below, row.below, row.alarm, row.alarm != before, coverage)

    def state(self) -> object:
        """All that is needed to go on, as values that MessagePack can hold."""
        windows = [_packed(window, *counted) for window, counted in sorted(self._open.items())]
        last = None if self._last is None else _packed(*self._last)
        state = _State(self._grid.id, self._config.window_us, self._now_us, self.late, self._rows, windows, last)
        return msgspec.to_builtins(state, builtin_types=(bytes,))

    def restore(self, state: object) -> None:
        """Go on from ``state``. Metrics that are judged no more are dropped, new ones start anew.

        Windows of another length, or outcomes on another grid, are not these: then all starts anew. Raises
        ``StateError`` for what ``state`` never gave.
        """
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
            if (saved.grid_id, saved.window_us) != (self._grid.id, self._config.window_us):
                return
            self._open = {w.window: self._unpacked(w) for w in saved.windows}
            self._last = None if saved.last is None else (saved.last.window, *self._unpacked(saved.last))
        except (msgspec.ValidationError, ValueError) as error:
            raise StateError(f"performance: {error}") from None
        self._now_us, self.late = saved.now_us, saved.late
        judged = {target.metric for target in self._config.targets if target.benchmark is not None}
        self._rows |= {metric: row for metric, row in saved.rows.items() if metric in judged}

    def _unpacked(self, window: _Window) -> tuple[Outcomes, Coverage]:
        return unpack_outcomes(window.outcomes, self._grid), unpack_coverage(window.coverage)


def _packed(window: int, outcomes: Outcomes, coverage: Coverage) -> _Window:
    return _Window(window, pack_outcomes(outcomes), pack_coverage(coverage))
