"""Outcomes: what became of predictions, once their labels are there.

A commutative group, as far as ``confusion`` says: ``empty``, ``of``, ``+``, and ``−``, which takes back what a revised
label had said. All counts and sums are integers, so any split, order and tree of additions gives the same outcomes to
the bit. What metrics need of them is in ``streamdrift.metrics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.confusion import Cell, Confusion
from streamdrift.summaries.curves import Curves
from streamdrift.summaries.logarithm import natural_log
from streamdrift.summaries.losses import Losses
from streamdrift.summaries.moments import MAX_ROWS

EPSILON: Final = float(np.finfo(np.float64).eps)
"""Probabilities are kept so far from 0 and 1 in the log loss, as scikit-learn does."""

LOG_LOSS, BRIER = "log_loss", "brier"
ERROR, ABSOLUTE, SQUARED, PERCENTAGE = "error", "absolute", "squared", "percentage"
Z, Z2, Z3, SQUARED_Z, SQUARED_Z2 = "z", "z2", "z3", "squared_z", "squared_z2"
_PROBABLE: Final = (LOG_LOSS, BRIER)
_NUMERIC: Final = (ERROR, ABSOLUTE, SQUARED, PERCENTAGE, Z, Z2, Z3, SQUARED_Z, SQUARED_Z2)
"""With e the error and z the outcome less the grid's center, both over its scale: e, |e|, e², |e/y|, and the mixed
moments that the standard error of R² asks for."""
_FAR: Final = 2.0**20
"""In units of the scale: far beyond the limit of a loss, and yet no product of mixed moments is beyond float64."""


def loss_names(grid: OutcomeGrid) -> tuple[str, ...]:
    """The losses that are summed for a task."""
    return _NUMERIC if grid.task is Task.REGRESSION else _PROBABLE


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Labelled predictions of classes, a row each."""

    grid: OutcomeGrid
    names: Sequence[str]
    """Every class that occurs in ``true`` or ``predicted``, each once."""
    true: NDArray[np.int64]
    """Places in ``names``. Shape (n,)."""
    predicted: NDArray[np.int64]
    """Likewise; -1 where the prediction names no class: the score, or the largest probability, then says which."""
    probabilities: NDArray[np.float64] | None = None
    """Of the positive class, shape (n, 1); or of each of the grid's classes, shape (n, classes). NaN: none.

    A row with a value outside [0, 1], or whose true class is not the grid's, has no probabilities for a metric.
    """

    @classmethod
    def of(
        cls,
        grid: OutcomeGrid,
        true: Sequence[str],
        predicted: Sequence[str | None],
        probabilities: NDArray[np.float64] | None = None,
    ) -> LabelRows:
        """Rows from the names of classes, as ``category_name`` writes them; None where the prediction names none."""
        places: dict[str | None, int] = {name: i for i, name in enumerate(grid.classes)}
        for name in (*true, *predicted):
            if name is not None and name not in places:
                places[name] = len(places)
        names = tuple(name for name in places if name is not None)
        places[None] = -1

        def codes(column: Sequence[str | None]) -> NDArray[np.int64]:
            return np.array([places[name] for name in column], dtype=np.int64)

        return cls(grid, names, codes(true), codes(predicted), probabilities)

    def __len__(self) -> int:
        return len(self.true)

    def take(self, places: NDArray[np.int64]) -> LabelRows:
        """The rows at these places."""
        told = None if self.probabilities is None else self.probabilities[places]
        return LabelRows(self.grid, self.names, self.true[places], self.predicted[places], told)


@dataclass(frozen=True, slots=True)
class ValueRows:
    """Labelled predictions of numbers, a row each. A row in which either is not finite has no error."""

    grid: OutcomeGrid
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.true)

    def take(self, places: NDArray[np.int64]) -> ValueRows:
        """The rows at these places."""
        return ValueRows(self.grid, self.true[places], self.predicted[places])


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Labelled predictions of one model version, added up."""

    grid: OutcomeGrid
    n: int
    """Labelled predictions, whatever they carried."""
    confusion: Confusion
    curves: Curves
    losses: Losses

    @classmethod
    def empty(cls, grid: OutcomeGrid) -> Outcomes:
        return cls(
            grid, 0, Confusion.empty(grid.classes), Curves.empty(len(grid.curves)), Losses.empty(loss_names(grid))
        )

    @classmethod
    def of(cls, rows: LabelRows | ValueRows) -> Outcomes:
        """Outcomes of all rows."""
        return of_groups(rows, np.zeros(len(rows), dtype=np.int64))[0] if len(rows) else cls.empty(rows.grid)

    def __add__(self, other: Outcomes) -> Outcomes:
        """Raises ``ValueError`` for outcomes on another grid."""
        self.grid.check([other.grid])
        return Outcomes(
            self.grid,
            self.n + other.n,
            self.confusion + other.confusion,
            self.curves + other.curves,
            self.losses + other.losses,
        )

    @property
    def possible(self) -> bool:
        """Whether they may be those of some predictions, and not only a difference: nothing is below 0."""
        counts = (self.n, *self.confusion.cells.values())
        return min(counts) >= 0 and bool((self.curves.histograms.counts >= 0).all()) and self.losses.possible

    def __neg__(self) -> Outcomes:
        return Outcomes(self.grid, -self.n, -self.confusion, -self.curves, -self.losses)

    def __sub__(self, other: Outcomes) -> Outcomes:
        return self + -other


def of_groups(rows: LabelRows | ValueRows, groups: NDArray[np.int64]) -> list[Outcomes]:
    """Outcomes of the groups of a batch, in one pass. ``groups`` numbers each row's group from 0, none empty."""
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows in one batch, at most {MAX_ROWS} keep the partial sums exact")
    grid, size = rows.grid, int(groups.max()) + 1
    order: slice | NDArray[np.int64] = (
        slice(None) if (np.diff(groups) >= 0).all() else np.argsort(groups, kind="stable")
    )
    starts = np.searchsorted(groups[order], np.arange(size))
    counts = np.bincount(groups, minlength=size).tolist()
    if isinstance(rows, ValueRows):
        confusions = [Confusion.empty(())] * size
        curves = [Curves.empty(0)] * size
        values = _numeric_losses(rows)
    else:
        probabilities, hits = _probable(rows)
        confusions = _confusions(rows, groups, size)
        scored = np.flatnonzero(~np.isnan(probabilities[:, 0])) if grid.curves else np.zeros(0, dtype=np.int64)
        curves = Curves.of_groups(probabilities[scored], hits[scored], groups[scored], size)
        values = _probable_losses(grid, probabilities, hits)
    losses = Losses.of_groups(loss_names(grid), values[:, order], starts)
    return [Outcomes(grid, *parts) for parts in zip(counts, confusions, curves, losses, strict=True)]


def predicted_classes(rows: LabelRows) -> tuple[list[str], NDArray[np.int64]]:
    """The predicted class of each row as a place in the names that are returned; −1: nothing says which."""
    names, predicted = list(rows.names), rows.predicted
    silent = np.flatnonzero(predicted < 0)
    if rows.probabilities is None or not len(silent) or not rows.grid.classes:
        return names, predicted
    for name in rows.grid.classes:
        if name not in names:
            names.append(name)
    places = np.array([names.index(name) for name in rows.grid.classes])
    told = rows.probabilities[silent]
    if rows.grid.task is Task.BINARY:
        chosen = (told[:, 0] >= rows.grid.threshold).astype(np.int64)
    else:
        chosen = np.argmax(told, axis=1)
    predicted = predicted.copy()
    predicted[silent] = np.where(_is_probability(told), places[chosen], -1)
    return names, predicted


def errors(rows: LabelRows | ValueRows) -> NDArray[np.float64]:
    """What a value-by-value detector is fed: 1 for a wrong class and 0 for the right one, or |error|. Shape (n,).

    NaN where a row has neither; the caller leaves it out.
    """
    if isinstance(rows, ValueRows):
        with np.errstate(over="ignore", invalid="ignore"):
            return np.abs(rows.predicted - rows.true)
    _, predicted = predicted_classes(rows)
    return np.where(predicted < 0, np.nan, predicted != rows.true)


def log_losses(rows: LabelRows) -> NDArray[np.float64]:
    """Minus the logarithm of the probability of the true class; NaN where a row has none. Shape (n,)."""
    return np.asarray(_probable_losses(rows.grid, *_probable(rows))[_PROBABLE.index(LOG_LOSS)])


def _confusions(rows: LabelRows, groups: NDArray[np.int64], size: int) -> list[Confusion]:
    names, predicted = predicted_classes(rows)
    told = predicted >= 0
    cells = (groups[told] * len(names) + rows.true[told]) * len(names) + predicted[told]
    found, counts = np.unique(cells, return_counts=True)
    by_group: list[dict[Cell, int]] = [{} for _ in range(size)]
    for cell, count in zip(found.tolist(), counts.tolist(), strict=True):
        pair, guess = divmod(cell, len(names))
        group, true = divmod(pair, len(names))
        by_group[group][names[true], names[guess]] = count
    return [Confusion.of(rows.grid.classes, counts) for counts in by_group]


def _is_probability(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows hold probabilities alone. Shape (n,)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((values >= 0) & (values <= 1)).all(axis=1))


def _probable(rows: LabelRows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability and hit of each curve; NaN where a row has none to be scored. Shapes (n, curves)."""
    grid = rows.grid
    if rows.probabilities is None or not grid.curves:
        shape = (len(rows), len(grid.curves))
        return np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
    place = {name: i for i, name in enumerate(grid.classes)}
    true = np.array([place.get(name, -1) for name in rows.names], dtype=np.int64)[rows.true]
    usable = (true >= 0) & _is_probability(rows.probabilities)
    probabilities = np.where(usable[:, None], rows.probabilities, np.nan)
    if grid.task is Task.BINARY:
        return probabilities, (true == 1)[:, None]
    largest = np.argmax(np.where(usable[:, None], probabilities, 0.0), axis=1)
    confidence = probabilities[np.arange(len(rows)), largest]
    hits = true[:, None] == np.arange(len(grid.classes))
    return np.column_stack((probabilities, confidence)), np.column_stack((hits, largest == true))


def _probable_losses(
    grid: OutcomeGrid, probabilities: NDArray[np.float64], hits: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log loss and Brier score of each row. Shape (2, n).

    Binary as scikit-learn's ``brier_score_loss``, (p − hit)²; with more classes the sum of it over them (Brier 1950).
    """
    if not grid.curves:
        return np.full((len(_PROBABLE), len(probabilities)), np.nan)
    if grid.task is Task.BINARY:
        p, hit = probabilities[:, 0], hits[:, 0]
        given, brier = np.where(hit, p, 1 - p), np.square(p - hit)
    else:
        of_class, true = probabilities[:, :-1], hits[:, :-1]
        given = np.where(np.isnan(of_class[:, 0]), np.nan, np.where(true, of_class, 0.0).sum(axis=1))
        brier = np.square(of_class - true).sum(axis=1)
    return np.stack((-natural_log(np.clip(given, EPSILON, 1 - EPSILON)), brier))


def _numeric_losses(rows: ValueRows) -> NDArray[np.float64]:
    """The losses ``_NUMERIC`` of each row. Shape (9, n)."""
    # What is beyond float64 is limited, and counted.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        finite = np.isfinite(rows.true) & np.isfinite(rows.predicted)
        difference = np.where(finite, rows.predicted - rows.true, np.nan)
        e, z = difference / rows.grid.scale, np.where(finite, rows.true - rows.grid.center, np.nan) / rows.grid.scale
        # An outcome of 0 has no percentage. scikit-learn divides by 2.2e-16 instead: one such row makes its mean huge.
        percentage = np.where(rows.true == 0, np.nan, np.abs(difference / rows.true))
        bounded, distance = np.clip(e, -_FAR, _FAR), np.clip(z, -_FAR, _FAR)
        squared = np.square(bounded)
        z2 = np.square(distance)
        return np.stack((e, np.abs(e), squared, percentage, z, z2, z2 * distance, squared * distance, squared * z2))
