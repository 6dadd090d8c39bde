"""Counts and sums of columns of values, for groups of rows: where the service sees every number.

Two ways to the same counts. Groups of many rows are sorted, column by column, and the grid's cuts are looked up among
the sorted values: 4 ns a value to sort it, where a search for it costs 50. Many groups of a few rows are searched
instead, all columns and groups at once: a call a column and group would cost more than their values.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.events import Batch
from streamdrift.grids import MISSING, TYPE_ERROR, Grid, Role
from streamdrift.summaries.moments import WIDTH, limbs_of

BLOCK: Final = 1 << 16
"""Values that are worked on at once: half a megabyte, which stays in the processor's cache."""
MANY: Final = 80
"""Rows a group from which on sorting is the cheaper way."""


def count(
    batch: Batch, groups: NDArray[np.int64], order: NDArray[np.int64] | None, starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts on the grid, and the limbs of the moments, of each group of rows: (groups, slots), (groups, columns, 6).

    ``groups`` numbers each row's group. ``order`` sorts the rows by it (None: they are), and group g begins at row
    ``starts[g]`` of that order; no group is empty.
    """
    grid, rows, columns = batch.grid, len(batch), len(batch.grid.columns)
    counts = np.zeros((len(starts), grid.slots), dtype=np.int64)
    limbs = np.zeros((len(starts), columns, WIDTH), dtype=np.int64)
    missing = np.zeros((len(starts), columns), dtype=np.int64)
    count_bins = _by_sorting if rows >= MANY * len(starts) else _by_searching
    at_once = max(1, BLOCK // rows)
    for first in range(0, columns, at_once):
        block = slice(first, first + at_once)
        x = np.array(batch.values.T[block] if order is None else batch.values.T[block, order], order="C")
        count_bins(grid, block, x, starts, counts)
        gaps = np.isnan(x)
        if gaps.any():
            missing[:, block] = np.add.reduceat(gaps, starts, axis=1, dtype=np.int64).T
        limbs[:, block] = limbs_of(_quanta(grid, block, x, gaps), starts).swapaxes(0, 1)
    limbs[:, grid.categorical] = 0
    counts[:, grid.last_bins] -= missing  # as which NaN was counted, being beyond every cut
    counts[:, grid.specials[:, MISSING]] = missing
    _tell_from_missing(batch, groups, counts)
    return counts, limbs


def _by_sorting(
    grid: Grid, block: slice, x: NDArray[np.float64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Count ``x`` (columns of the block, rows) and leave it sorted within each group."""
    columns = list(zip(grid.cuts[block], grid.offsets[:-1][block].tolist(), strict=True))
    for group, (start, stop) in enumerate(pairwise([*starts.tolist(), x.shape[1]])):
        part, of_group = x[:, start:stop], counts[group]
        part.sort(axis=1)
        for values, (cuts, offset) in zip(part, columns, strict=True):
            ends = values.searchsorted(cuts, side="right")
            of_column = of_group[offset : offset + len(cuts) + 1]
            of_column[:-1] = ends
            of_column[-1] = stop - start
            of_column[1:] -= ends


def _by_searching(
    grid: Grid, block: slice, x: NDArray[np.float64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Count ``x`` (columns of the block, rows): a binary search for all values at once."""
    ladder = grid.ladder[block]
    rungs, width = ladder.ravel(), ladder.shape[1]
    bottom = np.arange(len(ladder))[:, None] * width
    place = np.zeros(x.shape, dtype=np.int64) + bottom
    step = width // 2
    while step:
        place += step * ~(x <= rungs[place + (step - 1)])
        step //= 2
    slots = np.minimum(place - bottom + grid.offsets[:-1][block, None], grid.last_bins[block, None])
    slots += np.repeat(np.arange(len(starts)) * grid.slots, np.diff(starts, append=x.shape[1]))
    counts += np.bincount(slots.ravel(), minlength=counts.size).reshape(counts.shape)


def _quanta(grid: Grid, block: slice, x: NDArray[np.float64], gaps: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values in units of their columns' moments, 0 for those that are missing; in the place of ``x``."""
    with np.errstate(over="ignore"):  # what overflows here is limited and counted as such
        x -= grid.centers[block, None]
        x /= grid.units[block, None]
    x[gaps] = 0.0
    return x


def _tell_from_missing(batch: Batch, groups: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Put right what was counted as missing, but is of a wrong type, or not to be counted at all."""
    grid = batch.grid
    rows, columns = batch.type_errors.T
    np.subtract.at(counts, (groups[rows], grid.specials[columns, MISSING]), 1)
    np.add.at(counts, (groups[rows], grid.specials[columns, TYPE_ERROR]), 1)
    for without, role in ((batch.without_features, Role.FEATURE), (batch.without_prediction, Role.PREDICTION)):
        if without is not None:
            of_role = [i for i, column in enumerate(grid.columns) if column.role is role]
            counts[:, grid.specials[of_role, MISSING]] -= np.bincount(groups[without], minlength=len(counts))[:, None]
