"""Labels, errors and losses as columns: so that what watches features watches them as well.

Spreads count on fine bins that follow from the outcome grid; a reference wants at most 128 bins of a column, chosen by
what is usual::

    label   a category a class that is usual; or the number, on merged bins
    error   one category, right; what is wrong is unseen by it, so that errors are watched by their rate
    loss    |error|, or the log loss of the true class
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.grids import MAX_BINS, UNSEEN, Column, Grid, Kind
from streamdrift.merging import merge_bins
from streamdrift.outcome_grids import UNIT_BITS, OutcomeGrid, Task
from streamdrift.summaries import Moments, Names, Summary
from streamdrift.summaries import spreads as places
from streamdrift.summaries.spreads import LOSS_EDGES, RIGHT, WRONG, Spreads, label_bins, label_edges, span
from streamdrift.windows import Reference, Window

LABEL: Final = "label"
ERROR: Final = "error"
LOSS: Final = "loss"
_RIGHT: Final = "right"
_MOMENTS: Final = {LABEL: places.LABEL, LOSS: places.LOSS}


class OutcomeColumns:
    """Those of ``names`` of which ``usual`` has counts, of one model version."""

    def __init__(self, model: tuple[str, str], usual: Spreads, names: Collection[str]) -> None:
        found = [column for column in (LABEL, ERROR, LOSS) if column in names and _counts(usual, column).any()]
        made = [_column(usual, name) for name in found]
        grid = Grid(*model, tuple(column for column, _ in made))
        self._slots = np.full(span(usual.grid), grid.slots, dtype=np.int64)
        """Slot of each place in the row of counts; one more for what is of no column here."""
        for name, offset, (_, slots) in zip(found, grid.offsets[:-1].tolist(), made, strict=True):
            self._slots[_place(usual.grid, name)] = offset + slots
        self._names = found
        self.reference = Reference(Baseline(grid, self._summary(grid, usual, Names())))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._names)

    @property
    def names(self) -> Sequence[str]:
        """Of the columns, in their order."""
        return self._names

    def window(self, spreads: Spreads, strangers: dict[str, int]) -> Window:
        """Spreads of a tick as a window; ``strangers``: how often classes came that are not usual, as far as known."""
        names = Names({self._names.index(LABEL): strangers}) if strangers and LABEL in self._names else Names()
        return self.reference.reduce(self._summary(self.reference.grid, spreads, names))

    def _summary(self, grid: Grid, spreads: Spreads, names: Names) -> Summary:
        row = spreads.histograms
        counts = np.zeros(grid.slots + 1, dtype=np.int64)
        np.add.at(counts, self._slots[row.keys], row.counts)
        moments = Moments.empty(len(grid.columns))
        for i, column in enumerate(grid.columns):
            if column.kind is Kind.NUMERIC:
                moments.limbs[i] = spreads.moments.limbs[_MOMENTS[column.name]]
        return Summary(spreads.events, counts[:-1], moments, names, {})


def usual_classes(usual: Spreads) -> tuple[str, ...]:
    """The classes that are a category of their own."""
    return tuple(name for name, n in zip(usual.grid.classes, usual.labels.tolist(), strict=False) if n)


def _place(grid: OutcomeGrid, name: str) -> slice:
    """Where a column stands in the row of counts."""
    start = label_bins(grid)
    return {LABEL: slice(0, start), ERROR: slice(start, start + 2), LOSS: slice(start + 2, span(grid))}[name]


def _counts(spreads: Spreads, name: str) -> NDArray[np.int64]:
    place = _place(spreads.grid, name)
    return spreads.histograms.dense(place.start, place.stop)


def _column(usual: Spreads, name: str) -> tuple[Column, NDArray[np.int64]]:
    """A column, and the slot of each of its places."""
    grid, counts = usual.grid, _counts(usual, name)
    if name == ERROR:
        slots = np.empty(2, dtype=np.int64)
        slots[RIGHT], slots[WRONG] = 0, 1 + UNSEEN
        return Column(ERROR, Kind.CATEGORICAL, categories=(_RIGHT,)), slots
    if name == LABEL and grid.task is not Task.REGRESSION:
        known = counts[:-1] > 0
        slots = np.where(np.append(known, False), np.cumsum(counts > 0) - 1, int(known.sum()) + UNSEEN)
        return Column(LABEL, Kind.CATEGORICAL, categories=usual_classes(usual)), slots
    fine = label_edges(grid) if name == LABEL else grid.scale * LOSS_EDGES
    cuts = np.flatnonzero(np.diff(merge_bins(counts, MAX_BINS)))
    edges = np.unique(fine[cuts])
    slots = np.append(np.searchsorted(edges, fine), len(edges))
    center = grid.center if name == LABEL else 0.0
    unit = grid.scale_exponent - UNIT_BITS
    return Column(name, Kind.NUMERIC, edges=tuple(edges.tolist()), unit_exponent=unit, center=center), slots
