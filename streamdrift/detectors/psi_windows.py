"""PSI of tumbling windows: an alarm after three windows in a row beyond a threshold that knows its own noise.

The events of a model are cut into windows. A window ends at the close of a tick, once it holds 1,000 events, or 200
events and a day has passed. In each, the corrected PSI of every column (``effects.corrected_psi``: of at most ten
bins, with missing, unseen and mistyped values as bins of their own) is compared with

    threshold = 0.1 + 3·√(2(B − 1))·(1/n + 1/n₀)

with B the bins that either side uses, n the column's events and n₀ the baseline's: 0.1 is where PSI is called
"moderate", and the second term is three standard deviations of the PSI that n events of an unchanged stream have by
chance::

    window         |  w0  |  w1  |  w2  |  w3  |  w4  |  w5  |  w6  |  w7  |
    PSI/threshold    0.1    1.3    2.0    1.8    0.7    0.3    0.2    0.1
    alarm                   onset         ├──────────────────────────►│
                            ·· three ··   from here      ·· three ··   to here

Three windows must agree because traffic comes in bursts, not because one would be too few: a window of 200 events is
beyond the threshold by chance once in 100,000, one of 1,000 never. So a window counts once for each thousand of its
events, and once for each eight hours from its first to its last event, if that is more: a dump of 3,000 events decides
at once, and so does the window of a day over which 300 came. A column alarms once windows that count three in a row
were beyond the threshold, and recovers once windows that count three in a row were below half of it. Its evidence is
the lowest ratio of these three: 1 is an alarm. A column with fewer than 200 events in a window is not judged in it.

What it sees: a shift of the mean from about 0.35 standard deviations on (PSI ≈ δ²), and from about 2 % of events on a
value that was never missing, or a category that never was. What it misses: smaller changes, however long they last, and
whatever happens inside a bin. Its delay is three windows, or one of a day or of 3,000 events. Here 500 events come in
a tick, and from tick 6 to 13 their mean is one standard deviation higher:

>>> from streamdrift.events import Batch
>>> from streamdrift.summaries import Summary
>>> from streamdrift.tables import baseline_from_columns
>>> rng = np.random.default_rng(1)
>>> training = {"amount": rng.normal(40, 12, 20_000)}
>>> reference = Reference(baseline_from_columns(training, model_id="shop", model_version="3"))
>>> def window(mean, n=500):
...     times, hashes, errors = np.zeros(n, np.int64), np.zeros(n, np.uint64), np.zeros((0, 2), np.int64)
...     batch = Batch(reference.grid, times, hashes, rng.normal(mean, 12, (n, 1)), errors)
...     return reference.reduce(Summary.of(batch))
>>> detector = PsiWindows(reference, Ticks(60 * MICROSECONDS))
>>> for tick in range(22):
...     for finding in detector.close(tick, window(mean=52 if 6 <= tick < 14 else 40)):
...         print(tick, f"{finding.evidence_ratio:.2f}", f"since {finding.onset}" if finding.alarm else "quiet")
1 0.00 quiet
3 0.00 quiet
5 0.00 quiet
7 0.01 quiet
9 0.01 quiet
11 8.08 since 6
13 7.90 since 6
15 0.00 since 6
17 0.00 since 6
19 0.00 quiet
21 0.00 quiet

No rate of false alarms is promised (``calibrated`` is false): the budgeted detectors will replace this rule.

Source: for the noise, Yurdakul & Naranjo 2020, "Statistical properties of the population stability index".
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
from streamdrift.windows import Reference, Window, WindowState, to_state

FULL: Final = 1_000
"""Events after which a window ends."""
SMALLEST: Final = 200
"""Events without which nothing is said."""
PATIENCE_US: Final = 86_400 * MICROSECONDS
"""Time after which a window of at least ``SMALLEST`` events ends."""
IN_A_ROW: Final = 3
"""Windows that must agree, for an alarm and for its end."""
BURST_US: Final = PATIENCE_US // IN_A_ROW
"""A window counts once for each span of this length: what fills it is no burst."""
RECOVERED: Final = 0.5
"""Share of the threshold below which windows speak for the end of an alarm."""
CALIBRATED: Final = False
MODERATE: Final = 0.1
"""PSI in nats below which a change is not called one."""


def threshold(
    bins: int | NDArray[np.int64], n_baseline: int | NDArray[np.int64], n: int | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Corrected PSI, in nats, from which a window of ``n`` events on ``bins`` bins speaks for a change."""
    chance = np.sqrt(2 * (np.asarray(bins) - 1)) * (1 / np.asarray(n) + 1 / np.asarray(n_baseline))
    return np.asarray(MODERATE + 3 * chance, dtype=np.float64)


class PsiWindows:
    """The rule above for all columns of one model version."""

    name: Final = "psi_windows"
    names: Final = (name,)
    calibrated: Final = CALIBRATED

    def __init__(self, reference: Reference, ticks: Ticks) -> None:
        self._reference = reference
        self._ticks = ticks
        columns = len(reference.grid.columns)
        self._window = reference.empty()
        self._start: int | None = None
        self._last = 0
        """The window's first tick with events, and the last one."""
        self._ratios = np.zeros((columns, IN_A_ROW))
        """Corrected PSI over threshold of the last windows, newest last; once for each that a window counts."""
        self._onset = np.zeros(columns, dtype=np.int64)
        self._alarm = np.zeros(columns, dtype=np.bool_)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """The lowest ratio of the windows that must agree. Shape (columns,)."""
        return np.asarray(self._ratios.min(axis=1), dtype=np.float64)

    def close(self, tick: int, window: Window | None) -> list[Finding]:
        if window is not None and window.events:
            self._start, self._last = tick if self._start is None else self._start, tick
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
        n0, n = baseline.sum(axis=1), published.sum(axis=1)
        judged = np.flatnonzero((n >= SMALLEST) & (n0 > 0))
        if not len(judged):
            return []
        ours, theirs = baseline[judged], published[judged]
        bins = effects.occupied_bins(ours, theirs)
        ratios = effects.corrected_psi(ours, theirs) / threshold(bins, n0[judged], n[judged])
        lasted_us = (self._last + 1 - start) * self._ticks.length_us
        self._count(judged, ratios, max(1, window.events // FULL, lasted_us // BURST_US), start)
        return [
            Finding(
                column,
                self.name,
                CALIBRATED,
                bool(self._alarm[column]),
                float(self._ratios[column].min()),
                int(self._onset[column]),
                window,
            )
            for column in judged.tolist()
        ]

    def _count(self, judged: NDArray[np.int64], ratios: NDArray[np.float64], weight: int, start: int) -> None:
        """Take the ratios of the judged columns in a window that began at ``start``. Shapes (judged,)."""
        before, alarm = self._ratios[judged], self._alarm[judged]
        begins = (ratios >= 1) & (before[:, -1] < 1) & ~alarm
        self._onset[judged[begins]] = start
        last = np.column_stack((before, *[ratios] * min(weight, IN_A_ROW)))[:, -IN_A_ROW:]
        self._ratios[judged] = last
        self._alarm[judged] = np.where(alarm, last.max(axis=1) >= RECOVERED, last.min(axis=1) >= 1)

    def state(self) -> object:
        return msgspec.to_builtins(
            _State(
                to_state(self._window),
                self._start,
                self._ratios.ravel().tolist(),
                self._onset.tolist(),
                self._alarm.tolist(),
                self._last,
            ),
            builtin_types=(bytes,),
        )

    def restore(self, state: object) -> None:
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise StateError(f"{self.name}: {error}") from None
        window, columns = self._reference.from_state(saved.window), len(self._reference.grid.columns)
        if not len(saved.ratios) / IN_A_ROW == len(saved.onset) == len(saved.alarm) == columns:
            raise StateError(f"{self.name}: the state is not of {columns} columns")
        self._window, self._start, self._last = window, saved.start, saved.last
        self._ratios = np.array(saved.ratios, dtype=np.float64).reshape(columns, IN_A_ROW)
        self._onset = np.array(saved.onset, dtype=np.int64)
        self._alarm = np.array(saved.alarm, dtype=np.bool_)


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    window: WindowState
    start: int | None
    ratios: list[float]
    onset: list[int]
    alarm: list[bool]
    last: int
