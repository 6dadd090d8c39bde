"""Factors: φ of every statistic of ``shape``, measured on live traffic, pane by pane (see ``overdispersion``).

A memory that is looked at is compared with the mean of all that came in the present pane. In the warm-up factors are
measured after 1,024 events, and again each time that as many have come; afterwards at the end of panes.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.contrasts import CONTRASTS
from streamdrift.detectors.nulls import Null
from streamdrift.detectors.overdispersion import (
    FIRST_MEASURE,
    UNMEASURED,
    Overdispersion,
    OverdispersionState,
    Pane,
    PaneState,
)
from streamdrift.errors import StateError
from streamdrift.packing import pack_floats, unpack_floats
from streamdrift.sensitivity import WarmUp

BETWEEN: Final = 2.0
"""Memories that pass between two of the looks that are taken: then one is independent of the other."""
ENOUGH_PANES: Final = 3
"""Panes from which factors are measured anew after the warm-up."""
_BINS_PER_SQUARE: Final = 4.0
"""Bins of X that vary like one independent square, on the careful side."""

Floats = NDArray[np.float64]


class Factors:
    """φ of the contrasts and of X, at each memory, for the rows of ``null``."""

    def __init__(self, null: Null, memories: int, warm_up: WarmUp) -> None:
        rows, bins = null.shares.shape
        self._null = null
        self._warm_up = warm_up
        self._dispersion = Overdispersion(memories, CONTRASTS + 1, rows)
        self._pane = Pane(np.zeros((rows, bins), np.float32), np.zeros(rows))
        self._next_measure = FIRST_MEASURE
        self._since = np.zeros(memories)
        """Events since the last look that was taken at each memory."""
        self.values = np.full((memories, CONTRASTS + 1, rows), UNMEASURED)
        """Shape (memories, 5, rows)."""

    def begin(self, start_us: int) -> None:
        """The first pane begins."""
        self._pane.start_us = start_us
        self._dispersion.begin_pane()

    def begin_anew(self, now_us: int, events: float) -> None:
        """Measure on other values from now on; the next four panes are to see so many events, or a warm-up."""
        self._dispersion.begin_anew()
        self._pane.begin_anew(now_us, self._warm_up, events)

    def take(self, counts: NDArray[np.float32], totals: Floats, events: int, usable: NDArray[np.bool_]) -> None:
        """What came in a tick; of ``usable`` rows it is usual. Shapes (rows, bins) and (rows,) twice."""
        self._pane.add(counts * usable[:, None], totals * usable, events)

    def forget(self, rows: NDArray[np.bool_], events: NDArray[np.int64]) -> None:
        """What came of some rows in the last so many events is not usual. Shapes (rows,)."""
        self._pane.forget(rows)
        self._dispersion.forget(rows)
        self._dispersion.forget(rows & (events > self._pane.events), panes=2)

    def measure(
        self,
        due: Sequence[tuple[int, float, float]],
        shares: NDArray[np.float32],
        effective: Floats,
        usable: NDArray[np.bool_],
    ) -> None:
        """Take looks at memories: which, of what length, and the events since the last look at each.

        ``shares`` and ``effective`` are those of the memories, shapes (looks, rows, bins) and (looks, rows); only the
        ``usable`` rows, shape (rows,), tell what is usual.
        """
        settled = []
        for i, (memory, length, events) in enumerate(due):
            self._since[memory] += events
            is_apart = self._since[memory] >= max(BETWEEN * length, self._pane.between_looks)
            if is_apart and self._pane.is_settled(length):
                settled.append(i)
        if not settled:
            return
        totals, freedom, worth = self._pane.totals, self._null.freedom, effective[settled]
        usable = (totals >= 2 * worth) & (worth > 0) & usable & (freedom > 0)
        expected = np.where(usable, 1 / np.where(usable, worth, 1.0) - 1 / np.where(usable, totals, 2.0), 1.0)
        moved = shares[settled] - (self._pane.counts / np.maximum(totals, 1.0)[:, None]).astype(np.float32)
        contrast = self._null.contrast(moved)
        chi_square = self._null.chi_square(moved) / np.maximum(freedom, 1.0).astype(np.float32)
        squares = np.concatenate((contrast * contrast, chi_square[:, None]), axis=1)
        squares *= (1 / expected).astype(np.float32)[:, None]
        for i, of_memory, usable_rows in zip(settled, squares, usable, strict=True):
            memory, length, _ = due[i]
            self._dispersion.add(
                memory, of_memory[:, usable_rows], usable_rows, float(self._since[memory]) / (BETWEEN * length)
            )
            self._since[memory] = 0.0

    def warm_up(self, events: int) -> bool:
        """So many events have come, and more are to come before anything is promised. Whether factors changed."""
        is_due = events >= self._next_measure and self._dispersion.known
        if is_due:
            self._next_measure = 2 * events
            self._estimate(cautious=True)
        return is_due

    def end_warm_up(self, chosen: NDArray[np.bool_], *, sparse: bool) -> None:
        """Let go of the memories that are not chosen. Shape (memories,).

        ``sparse``: whether so few events came in all that time that they are taken to be independent.
        """
        self._dispersion.keep(chosen)
        self._since = self._since[chosen]
        self.values = self.values[chosen]
        if self._dispersion.known or sparse:
            self._estimate()

    def close(self, now_us: int, *, calibrated: bool) -> bool:
        """Begin another pane, if the present one is full. Whether factors changed."""
        if not self._pane.is_over(now_us, self._warm_up):
            return False
        is_due = calibrated and self._dispersion.known and self._dispersion.panes >= ENOUGH_PANES
        if is_due:
            self._estimate()
        self._pane.begin(now_us, longer=self._dispersion.begin_pane())
        return is_due

    def _estimate(self, *, cautious: bool = False) -> None:
        components = np.ones_like(self.values)
        components[:, CONTRASTS] = np.maximum(self._null.freedom / _BINS_PER_SQUARE, 1.0)
        # Rounded as a snapshot keeps them, which therefore changes nothing.
        self.values = self._dispersion.factors(components, cautious=cautious).astype(np.float32).astype(np.float64)

    def state(self) -> FactorsState:
        """Everything, to the bit."""
        return FactorsState(
            len(self.values),
            self._dispersion.state(),
            self._pane.state(),
            pack_floats(self.values.astype(np.float32)),
            self._next_measure,
            self._since.tolist(),
        )

    def restore(self, state: FactorsState) -> None:
        """Raises ``StateError`` for the state of other rows."""
        _, tests, rows = self.values.shape
        try:
            values = unpack_floats(state.values, (state.memories, tests, rows), np.float32).astype(np.float64)
        except ValueError as error:
            raise StateError(f"factors do not fit {rows} rows: {error}") from None
        if len(state.since) != state.memories:
            raise StateError("factors are not of as many memories as they say")
        dispersion, pane = copy(self._dispersion), copy(self._pane)
        dispersion.restore(state.dispersion, state.memories)
        pane.restore(state.pane)
        self._dispersion, self._pane = dispersion, pane
        self.values, self._next_measure, self._since = values, state.next_measure, np.array(state.since, np.float64)


class FactorsState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Factors in a snapshot."""

    memories: int
    dispersion: OverdispersionState
    pane: PaneState
    values: bytes
    next_measure: int
    since: list[float]
