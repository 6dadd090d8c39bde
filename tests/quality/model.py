"""A model that is watched: the detectors that streamdrift runs, fed with counts of ticks.

This is the one place that builds detectors; nothing in this benchmark knows any of them by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.detectors import build
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.grids import Grid
from streamdrift.monitor import INPUTS
from streamdrift.sensitivity import DAY_US, Sensitivity
from streamdrift.summaries import Moments, Names, Summary
from streamdrift.tables import Fields, baseline_from_columns
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import Reference, Window
from tests.quality.laws import Law, Values, slots

Counts = NDArray[np.int64]
MONDAY: Final = 20_094 * 86_400
"""Seconds since the epoch at which all streams begin."""


def baseline_of(law: Law, tables: Iterable[Values]) -> Baseline:
    """What streamdrift makes of a training table, which comes some features at a time. Shapes (features, rows)."""
    parts: list[Baseline] = []
    for number, table_of_some in enumerate(tables):
        columns = {f"f{number}_{i:03}": law.names(values) for i, values in enumerate(table_of_some)}
        fields = Fields(categorical=tuple(columns)) if law.categorical else Fields()
        parts.append(baseline_from_columns(columns, model_id="quality", model_version="1", fields=fields))
        if left_out := parts[-1].grid.unmonitored:
            raise ValueError(f"not all columns are watched: {left_out}")
    grid = Grid("quality", "1", tuple(column for part in parts for column in part.grid.columns))
    counts = np.concatenate([part.summary.counts for part in parts])
    moments = Moments(np.concatenate([part.summary.moments.limbs for part in parts]))
    return Baseline(grid, Summary(parts[0].summary.events, counts, moments, Names(), {}))


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operator asks for; everything else is the default."""

    false_alarms_per_day: float
    minimum_effect: float = 0.02
    """PSI."""

    @property
    def sensitivity(self) -> Sensitivity:
        """The same in event time; all that is found may be a warning."""
        rate = self.false_alarms_per_day / DAY_US
        return Sensitivity(false_alarms=rate, warnings=rate, minimum_effect=self.minimum_effect)


class Model:
    """One model, from its first event on. Ticks are given without gaps."""

    def __init__(self, baseline: Baseline, tick_s: float, asked: Asked) -> None:
        self.reference = Reference(baseline)
        self._ticks = Ticks(round(tick_s * MICROSECONDS))
        self._tick = MONDAY * MICROSECONDS // self._ticks.length_us
        self._detectors = build(self.reference, self._ticks, asked.sensitivity.part(INPUTS))
        self._no_moments = Moments.empty(len(baseline.grid.columns))
        self.alarms: set[tuple[str, int]] = set()
        """Detectors in alarm, and the columns for which they are."""

    @property
    def calibrated(self) -> bool:
        """Whether the budget is promised by now."""
        return all(detector.calibrated for detector in self._detectors.values())

    @property
    def columns_in_alarm(self) -> set[int]:
        return {column for _, column in self.alarms}

    def close(self, counts: Counts) -> list[Finding]:
        """Close the next tick, with the events of a window's ``counts``. Shape (reference.slots,)."""
        events = int(self.reference.of_column(counts, 0).sum())
        window = Window(events, counts, self._no_moments, Names()) if events else None
        findings = [finding for d in self._detectors.values() for finding in d.close(self._tick, window)]
        for finding in findings:
            (self.alarms.add if finding.alarm else self.alarms.discard)((finding.detector, finding.column))
        self._tick += 1
        return findings

    def state_bytes(self) -> int:
        """Size of all that the detectors remember, as it is stored."""
        return sum(len(msgspec.msgpack.encode(detector.state())) for detector in self._detectors.values())


def counted(reference: Reference, values: Values, ticks: int) -> Counts:
    """Values of so many ticks of equal length as the windows of each. Shape (features, n) to (ticks, slots)."""
    found = np.empty((ticks, reference.slots), dtype=np.int64)
    grid, tick = reference.grid, np.repeat(np.arange(ticks), values.shape[1] // ticks)
    for i, (start, end) in enumerate(pairwise(reference.offsets.tolist())):
        of_window = window_slots(reference, i)
        flat = tick * (end - start) + of_window[slots(grid.columns[i], values[i])]
        found[:, start:end] = np.bincount(flat, minlength=ticks * (end - start)).reshape(ticks, -1)
    return found


def window_slots(reference: Reference, column: int) -> NDArray[np.int64]:
    """In which of a column's slots in a window each of its slots in the grid is. Shape (column.slots,)."""
    offsets = reference.grid.offsets
    of_grid = reference._slot_of_grid_slot[offsets[column] : offsets[column + 1]]
    return np.asarray(of_grid - reference.offsets[column], dtype=np.int64)


def expected(reference: Reference, laws: Sequence[Law]) -> Values:
    """Probability of each slot of each column in a window, padded with zeros. Shape (columns, slots of the widest)."""
    found = np.zeros((len(laws), int(np.diff(reference.offsets).max())))
    for i, law in enumerate(laws):
        np.add.at(found[i], window_slots(reference, i), law.shares(reference.grid.columns[i]))
    return found
