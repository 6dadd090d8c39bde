"""Label drift of a regression: whether the outcomes that turn out to be true lie where they did.

Of outcomes the exact sums of their values and squares are kept, so what can be seen is a shift of their mean: δ of the
usual standard deviations is a PSI of δ², the value that two normal distributions so far apart have. Windows, what they
count, and how many must agree are those of ``detectors.psi_windows``; chance alone gives δ² an average of 1/n + 1/n₀,
which is taken off, and it is compared with the threshold of one degree of freedom. A change of spread or shape that
leaves the mean where it was is not seen.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from streamdrift.benchmarks import LabelDistribution
from streamdrift.detectors import effects
from streamdrift.detectors.detector import Ticks
from streamdrift.detectors.psi_windows import BURST_US, FULL, IN_A_ROW, PATIENCE_US, RECOVERED, SMALLEST, threshold
from streamdrift.errors import StateError
from streamdrift.evidence import Contribution, rfc3339
from streamdrift.incidents import DriftKind, Sighting
from streamdrift.label_drift import FIRST_LABELS, LABEL
from streamdrift.outcome_entries import pack_integers, unpack_integers
from streamdrift.outcome_evidence import LABEL_COLUMN, LARGEST_PSI
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.summaries.losses import Losses
from streamdrift.summaries.outcomes import ERROR, Outcomes, Z, loss_names

DETECTOR: Final = "mean_windows"


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    since: int | None
    usual: LabelDistribution | None
    window: bytes
    start: int | None
    last: int
    ratios: list[float]
    onset: int
    alarm: bool


class ValueDrift:
    """The outcomes of one version of a regression. ``usual`` is how they were distributed in its training table."""

    def __init__(
        self, grid: OutcomeGrid, ticks: Ticks, label_delay_us: int, usual: LabelDistribution | None = None
    ) -> None:
        self._grid = grid
        self._ticks = ticks
        self._label_delay_us = label_delay_us
        self._given = self._usual = usual if usual and usual.n and usual.mean is not None else None
        self._empty = self._window = Losses.empty(loss_names(grid))
        self._since: int | None = None
        """The first tick with labels."""
        self._start: int | None = None
        self._last = 0
        """The window's first tick with labels, and the last one."""
        self._ratios = [0.0] * IN_A_ROW
        self._onset = 0
        self._alarm = False

    def close(self, tick: int, outcomes: Outcomes) -> list[Sighting]:
        """Take the outcomes of a closed tick."""
        came = outcomes.losses.count(ERROR) > 0
        if self._since is None:
            self._since = tick if came else None
        if self._since is None or tick < self._ticks.ending_at(self._ticks.end_us(self._since) + self._label_delay_us):
            return []
        if came:
            self._start, self._last = tick if self._start is None else self._start, tick
            self._window += outcomes.losses
        if self._start is None or not self._is_over(tick):
            return []
        window, start = self._window, self._start
        self._window, self._start = self._empty, None
        if self._usual is None:
            self._usual = self._described(window)
            return []
        return [self._judge(window, start, self._usual)]

    def due(self) -> int | None:
        """The next tick at whose close something happens even without labels."""
        if self._usual is None or self._start is None or self._window.count(ERROR) < SMALLEST:
            return None
        return self._ticks.ending_at(self._start * self._ticks.length_us + PATIENCE_US)

    def _is_over(self, tick: int) -> bool:
        due = self.due()
        return self._window.count(ERROR) >= (FULL if self._usual else FIRST_LABELS) or (due is not None and tick >= due)

    def _described(self, window: Losses) -> LabelDistribution:
        grid = self._grid
        mean, sd = grid.center + grid.scale * window.mean(Z), grid.scale * math.sqrt(max(window.variance(Z), 0.0))
        return LabelDistribution(window.count(ERROR), mean=mean, sd=sd)

    def _judge(self, window: Losses, start: int, usual: LabelDistribution) -> Sighting:
        now = self._described(window)
        shift = effects.mean_shift_sd(usual.mean or 0.0, now.mean or 0.0, usual.sd or 0.0)
        psi = min(max(shift * shift - 1 / now.n - 1 / usual.n, 0.0), LARGEST_PSI)
        self._count(psi, now.n, usual.n, start)
        contribution = self._described_drift(psi, shift, usual, now) if self._alarm else None
        return Sighting(f"{LABEL_COLUMN}/{DETECTOR}", DriftKind.LABEL_DRIFT, contribution)

    def _count(self, psi: float, n: int, n_usual: int, start: int) -> None:
        """Take the PSI of a window that began at ``start``."""
        ratio = psi / float(threshold(2, n_usual, n))
        lasted_us = (self._last + 1 - start) * self._ticks.length_us
        if ratio >= 1 and self._ratios[-1] < 1 and not self._alarm:
            self._onset = start
        weight = min(max(1, n // FULL, lasted_us // BURST_US), IN_A_ROW)
        self._ratios = [*self._ratios, *[ratio] * weight][-IN_A_ROW:]
        self._alarm = max(self._ratios) >= RECOVERED if self._alarm else min(self._ratios) >= 1

    def _described_drift(
        self, psi: float, shift: float, usual: LabelDistribution, now: LabelDistribution
    ) -> Contribution:
        before, after = usual.mean or 0.0, now.mean or 0.0
        effect = {"psi": psi, "mean_before": before, "mean_after": after}
        moved = f"moved from {before:.4g} to {after:.4g}"
        if math.isfinite(shift):
            effect["mean_shift_sd"] = shift
            moved = f"shifted {'up' if shift > 0 else 'down'} {abs(shift):.2g} sd (mean {before:.4g} to {after:.4g})"
        data: dict[str, Any] = {
            "feature": LABEL,
            "detector": DETECTOR,
            "calibrated": False,
            "evidence_ratio": min(self._ratios),
            "effect": effect,
            "onset": rfc3339(self._onset * self._ticks.length_us),
            "n_baseline": usual.n,
            "n_current": now.n,
        }
        return Contribution(
            LABEL_COLUMN,
            DETECTOR,
            LABEL,
            psi,
            psi,
            self._onset,
            False,  # noqa: FBT003 — no matter of missing values
            f"{LABEL} {moved}",
            data,
            recovery=f"is close to its mean of {before:.4g} again",
        )

    def state(self) -> object:
        """Values that MessagePack can hold."""
        window = pack_integers(self._window.totals)
        state = _State(
            self._since, self._usual, window, self._start, self._last, self._ratios, self._onset, self._alarm
        )
        return msgspec.to_builtins(state, builtin_types=(bytes,))

    def restore(self, state: object) -> bool:
        """Go on from ``state``; whether that could be: with another training table the comparison starts anew.

        Raises ``StateError`` for what ``state`` never gave.
        """
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
            window = Losses(self._empty.names, unpack_integers(saved.window, len(self._empty.totals)))
        except (msgspec.ValidationError, ValueError) as error:
            raise StateError(f"label drift: {error}") from None
        if len(saved.ratios) != IN_A_ROW:
            raise StateError(f"label drift: {len(saved.ratios)} windows, not {IN_A_ROW}")
        self._since = saved.since
        if self._given is not None and saved.usual != self._given:
            return False
        self._usual, self._window = saved.usual, window
        self._start, self._last, self._ratios = saved.start, saved.last, saved.ratios
        self._onset, self._alarm = saved.onset, saved.alarm
        return True
