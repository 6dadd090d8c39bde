"""PSI of tumbling windows: an alarm after three windows in a row beyond a threshold that knows its own noise.

The events of a model are cut into windows. A window ends at the close of a tick, once it holds 1,000 events, or 200
events and three days have passed. In each, the corrected PSI of every column is compared with

    threshold = 0.1 + 3·√(2(B − 1))/n

with B the bins that either side uses and n the column's events: 0.1 is where PSI is called "moderate", and the second
term is three standard deviations of the PSI that n events of an unchanged stream have by chance (Yurdakul & Naranjo
2020). A window of n events counts as max(1, ⌊n/1000⌋) windows; a column alarms once windows that count three in a row
were beyond the threshold, and recovers once windows that count three in a row were below half of it.

>>> print(f"{threshold(bins=10, n=1000):.4f} {threshold(bins=10, n=200):.4f}")
0.1127 0.1636

No rate of false alarms is promised (``calibrated`` is false): the budgeted detectors will replace this rule.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors import effects
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.errors import StateError
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import Reference, Window, WindowState, from_state, to_state

FULL: Final = 1_000
"""Events after which a window ends."""
SMALLEST: Final = 200
"""Events without which nothing is said."""
PATIENCE_US: Final = 3 * 86_400 * MICROSECONDS
"""Time after which a window of at least ``SMALLEST`` events ends."""
IN_A_ROW: Final = 3
"""Windows that must agree, for an alarm and for its end."""
CALIBRATED: Final = False
MODERATE: Final = 0.1
"""PSI in nats below which a change is not called one."""


def threshold(bins: int | NDArray[np.int64], n: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Corrected PSI, in nats, from which a window of ``n`` events on ``bins`` bins speaks for a change."""
    return np.asarray(MODERATE + 3 * np.sqrt(2 * (np.asarray(bins) - 1)) / np.asarray(n), dtype=np.float64)


class PsiWindows:
    """The rule above for all columns of one model version."""

    name: Final = "psi_windows"

    def __init__(self, reference: Reference, ticks: Ticks) -> None:
        self._reference = reference
        self._ticks = ticks
        columns = len(reference.grid.columns)
        self._window = reference.empty()
        self._start: int | None = None
        self._beyond = np.zeros(columns, dtype=np.int64)
        self._below = np.zeros(columns, dtype=np.int64)
        self._onset = np.zeros(columns, dtype=np.int64)
        self._alarm = np.zeros(columns, dtype=np.bool_)

    def close(self, tick: int, window: Window | None) -> list[Finding]:
        if window is not None and window.events:
            self._start = tick if self._start is None else self._start
            self._window += window
        if self._start is None or not self._is_over(tick):
            return []
        findings = self._judge(self._start, self._window)
        self._window, self._start = self._reference.empty(), None
        return findings

    def due(self) -> int | None:
        if self._start is None or self._window.events < SMALLEST:
            return None
        return self._ticks.ending_at(self._start * self._ticks.length_us + PATIENCE_US)

    def _is_over(self, tick: int) -> bool:
        due = self.due()
        return self._window.events >= FULL or (due is not None and tick >= due)

    def _judge(self, start: int, window: Window) -> list[Finding]:
        baseline, published = self._reference.published, self._reference.publish(window)
        n = published.sum(axis=1)
        judged = np.flatnonzero((n >= SMALLEST) & (baseline.sum(axis=1) > 0))
        if not len(judged):
            return []
        ours, theirs = baseline[judged], published[judged]
        ratio = effects.corrected_psi(ours, theirs) / threshold(effects.occupied_bins(ours, theirs), n[judged])
        weight = max(1, window.events // FULL)
        for column, evidence in zip(judged.tolist(), ratio.tolist(), strict=True):
            self._count(column, evidence, weight, start)
        return [
            Finding(
                column, self.name, CALIBRATED, bool(self._alarm[column]), evidence, int(self._onset[column]), window
            )
            for column, evidence in zip(judged.tolist(), ratio.tolist(), strict=True)
        ]

    def _count(self, column: int, ratio: float, weight: int, start: int) -> None:
        if ratio >= 1:
            if not self._beyond[column] and not self._alarm[column]:
                self._onset[column] = start
            self._beyond[column] += weight
        else:
            self._beyond[column] = 0
        self._below[column] = self._below[column] + weight if ratio < 0.5 else 0  # noqa: PLR2004 — half the threshold
        if self._alarm[column]:
            self._alarm[column] = self._below[column] < IN_A_ROW
        else:
            self._alarm[column] = self._beyond[column] >= IN_A_ROW

    def state(self) -> object:
        return msgspec.to_builtins(
            _State(
                to_state(self._window),
                self._start,
                self._beyond.tolist(),
                self._below.tolist(),
                self._onset.tolist(),
                self._alarm.tolist(),
            ),
            builtin_types=(bytes,),
        )

    def restore(self, state: object) -> None:
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise StateError(f"{self.name}: {error}") from None
        self._window, self._start = from_state(saved.window), saved.start
        self._beyond = np.array(saved.beyond, dtype=np.int64)
        self._below = np.array(saved.below, dtype=np.int64)
        self._onset = np.array(saved.onset, dtype=np.int64)
        self._alarm = np.array(saved.alarm, dtype=np.bool_)


class _State(msgspec.Struct, array_like=True, frozen=True):
    window: WindowState
    start: int | None
    beyond: list[int]
    below: list[int]
    onset: list[int]
    alarm: list[bool]
