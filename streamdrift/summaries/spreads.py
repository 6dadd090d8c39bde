"""Spreads: histograms of what turned out to be true, of right and wrong, and of the losses; what detectors compare.

A commutative monoid: ``empty``, ``of_groups`` and ``+``. Bins follow from the outcome grid alone, so that histograms of
any parts add up, whoever counted them. All of them stand in one sparse row of counts::

    | label                                   | right | wrong | loss                                |
      a bin a class, one for all others                         of |error|, or the log loss of the true
      numbers: 1,023 edges, 1/512 of the scale apart            class: four bins an octave

Beside them are exact sums of the numbers and of their squares, from which their means and deviations follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.outcome_grids import UNIT_BITS, OutcomeGrid, Task
from streamdrift.summaries.moments import Moments
from streamdrift.summaries.outcomes import LabelRows, ValueRows, errors, log_losses
from streamdrift.summaries.tally import Tally

LABEL, LOSS = range(2)
"""Numbers that are summed."""
RIGHT, WRONG = range(2)
_STEPS: Final = 512
"""Bins of a number's label between the grid's center and one scale beyond it, on either side."""
_OCTAVES: Final = range(-20, 10)
_PER_OCTAVE: Final = 4


def _loss_edges() -> NDArray[np.float64]:
    steps = 1 + np.arange(_PER_OCTAVE) / _PER_OCTAVE
    return np.concatenate([np.ldexp(steps, octave) for octave in _OCTAVES])


LOSS_EDGES: Final = _loss_edges()
"""Inner edges of losses, in units of the scale: bin i holds LOSS_EDGES[i-1] < x <= LOSS_EDGES[i]. Shape (120,)."""


def label_edges(grid: OutcomeGrid) -> NDArray[np.float64]:
    """Inner edges of a regression's labels, in their own unit; never descending. Shape (1023,)."""
    steps = np.arange(1 - _STEPS, _STEPS) / _STEPS
    return np.asarray(grid.center + grid.scale * steps, dtype=np.float64)


def label_bins(grid: OutcomeGrid) -> int:
    """Number of bins of the labels, that of all other classes among them."""
    return 2 * _STEPS if grid.task is Task.REGRESSION else len(grid.classes) + 1


def span(grid: OutcomeGrid) -> int:
    """Length of the row of counts."""
    return label_bins(grid) + 2 + len(LOSS_EDGES) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Spreads:
    """Histograms of labelled predictions on one outcome grid."""

    grid: OutcomeGrid
    histograms: Tally
    """Counts by place in the row."""
    moments: Moments
    """Of a regression's labels less the center, and of losses, in units of 2**-30 of the scale. Two rows."""

    @classmethod
    def empty(cls, grid: OutcomeGrid) -> Spreads:
        return cls(grid, Tally.empty(), Moments.empty(2))

    @classmethod
    def of(cls, rows: LabelRows | ValueRows) -> Spreads:
        """Of all rows."""
        return cls.of_groups(rows, np.zeros(len(rows), dtype=np.int64), 1)[0]

    @classmethod
    def of_groups(cls, rows: LabelRows | ValueRows, groups: NDArray[np.int64], size: int) -> list[Spreads]:
        """Of each of ``size`` groups of rows; ``groups`` numbers each row's group from 0. Shape (n,)."""
        found = [cls.empty(rows.grid)] * size
        if not len(rows):
            return found
        grid = rows.grid
        if (np.diff(groups) < 0).any():
            order = np.argsort(groups, kind="stable")
            rows, groups = rows.take(order), groups[order]
        present, starts, dense = np.unique(groups, return_index=True, return_inverse=True)
        keys, of_rows = _places(rows)
        tallies = Tally.of_groups(keys, dense[of_rows], len(present), span(grid))
        moments = Moments.of(_quanta(rows), starts)
        for group, tally, of_group in zip(present.tolist(), tallies, moments, strict=True):
            found[group] = cls(grid, tally, of_group)
        return found

    def __add__(self, other: Spreads) -> Spreads:
        """Raises ``ValueError`` for outcomes on another grid."""
        self.grid.check([other.grid])
        return Spreads(self.grid, self.histograms + other.histograms, self.moments + other.moments)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Spreads)
            and self.grid == other.grid
            and self.histograms == other.histograms
            and self.moments == other.moments
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays: equal spreads could not hash alike cheaply

    @property
    def events(self) -> int:
        """How many labels there were."""
        return int(self.histograms.dense(0, label_bins(self.grid)).sum())

    @property
    def possible(self) -> bool:
        """Whether these are of some predictions: no count is below 0, and no variance."""
        numbers = int(self.labels.sum()) if self.grid.task is Task.REGRESSION else 0
        return (
            bool((self.histograms.counts > 0).all())
            and self.moments.possible(LABEL, numbers)
            and self.moments.possible(LOSS, int(self.losses.sum()))
        )

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels in each bin. Shape (label_bins(grid),)."""
        return self.histograms.dense(0, label_bins(self.grid))

    @property
    def verdicts(self) -> NDArray[np.int64]:
        """How many predictions were right, and how many wrong. Shape (2,)."""
        start = label_bins(self.grid)
        return self.histograms.dense(start, start + 2)

    @property
    def losses(self) -> NDArray[np.int64]:
        """Losses in each bin. Shape (121,)."""
        start = label_bins(self.grid) + 2
        return self.histograms.dense(start, span(self.grid))


def _places(rows: LabelRows | ValueRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in the row of counts, and the rows that they are of. Shapes (places,)."""
    start = label_bins(rows.grid)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    if isinstance(rows, ValueRows):
        told = np.flatnonzero(np.isfinite(rows.true))
        found.append((np.searchsorted(label_edges(rows.grid), rows.true[told]), told))
    else:
        place = {name: i for i, name in enumerate(rows.grid.classes)}
        classes = np.array([place.get(name, start - 1) for name in rows.names], dtype=np.int64)
        found.append((classes[rows.true], np.arange(len(rows))))
        wrong = errors(rows)
        told = np.flatnonzero(~np.isnan(wrong))
        found.append((start + wrong[told].astype(np.int64), told))
    losses = _losses(rows)
    told = np.flatnonzero(np.isfinite(losses))
    found.append((start + 2 + np.searchsorted(LOSS_EDGES, losses[told]), told))
    keys, of_rows = zip(*found, strict=True)
    return np.concatenate(keys), np.concatenate(of_rows)


def _quanta(rows: LabelRows | ValueRows) -> NDArray[np.float64]:
    """What is summed, 0 where there is nothing. Shape (2, n)."""
    losses = _losses(rows)
    labels = np.zeros(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float64 is limited, and counted
        if isinstance(rows, ValueRows):
            labels = np.where(np.isfinite(rows.true), (rows.true - rows.grid.center) / rows.grid.scale, 0.0)
        return np.stack((labels, np.where(np.isfinite(losses), losses, 0.0))) * (1 << UNIT_BITS)


def _losses(rows: LabelRows | ValueRows) -> NDArray[np.float64]:
    """Loss of each row in units of the scale; NaN where it has none. Shape (n,)."""
    if not isinstance(rows, ValueRows):
        return log_losses(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        return errors(rows) / rows.grid.scale
