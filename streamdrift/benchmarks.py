"""Benchmarks: how well a model did on a table whose outcomes are known, and how its labels were distributed there.

They stand in the baseline, beside the counts, and are what ``benchmark: from_baseline`` means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import msgspec
import numpy as np

from streamdrift.metrics import Estimate, evaluate
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.moments import Moments
from streamdrift.summaries.outcomes import ERROR, Outcomes, Z
from streamdrift.summaries.spreads import RIGHT, WRONG, Spreads, label_bins, span
from streamdrift.summaries.tally import Tally


class Benchmark(msgspec.Struct, frozen=True, omit_defaults=True):
    """A metric as the table measured it."""

    value: float
    n: int
    """Outcomes that it is of."""
    standard_error: float | None = None


class LabelDistribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """The labels of the table."""

    n: int
    classes: Mapping[str, int] = {}
    """How often each class was the true one; empty for a regression."""
    mean: float | None = None
    """Of a regression's outcomes, in their own unit."""
    sd: float | None = None


class SpreadCounts(msgspec.Struct, frozen=True):
    """Spreads of the table, on the outcome grid beside which they stand."""

    places: tuple[int, ...]
    counts: tuple[int, ...]
    """Of the places in the row of counts that hold any (see ``streamdrift.summaries.spreads``)."""
    moments: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, spreads: Spreads) -> Self:
        row = spreads.histograms
        return cls(
            tuple(row.keys.tolist()), tuple(row.counts.tolist()), tuple(map(tuple, spreads.moments.limbs.tolist()))
        )

    def on(self, grid: OutcomeGrid) -> Spreads:
        """The spreads themselves. Raises ``ValueError`` for what cannot be theirs."""
        keys, counts = np.array(self.places, dtype=np.int64), np.array(self.counts, dtype=np.int64)
        limbs = np.array(self.moments, dtype=np.int64)
        fits = len(keys) == len(counts) and (np.diff(keys, prepend=-1, append=span(grid)) > 0).all()
        if not fits or limbs.shape != Moments.empty(2).limbs.shape:
            raise ValueError("the spreads of labels and losses are not of the outcome grid")
        spreads = Spreads(grid, Tally(keys, counts), Moments(limbs))
        if not spreads.possible:
            raise ValueError("no predictions have these spreads of labels and losses")
        return spreads


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a table says whose rows have a prediction and its label."""

    outcome: OutcomeGrid
    """How its outcomes were counted, and those of live traffic are."""
    benchmarks: Mapping[str, Benchmark]
    """Every metric of the task that has a value there, by name."""
    labels: LabelDistribution
    spreads: SpreadCounts | None = None
    """Histograms of labels, errors and losses; None in what earlier versions wrote."""

    def __post_init__(self) -> None:
        numbers = [value for b in self.benchmarks.values() for value in (b.value, b.standard_error or 0.0)]
        counts = [self.labels.n, *self.labels.classes.values(), *(b.n for b in self.benchmarks.values())]
        if not all(map(math.isfinite, numbers)) or min(counts) < 0:
            raise ValueError("a benchmark is no number, or a count is negative")
        if self.spreads:
            self.spreads.on(self.outcome)

    def usual(self, grid: OutcomeGrid) -> Spreads | None:
        """What live outcomes on ``grid`` are compared with: as far as the table tells that, None where it does not.

        Without histograms, or with those of another grid, that is the classes, and the errors that go with accuracy.
        """
        if self.spreads and self.outcome == grid:
            return self.spreads.on(grid)
        if grid.task is Task.REGRESSION or not any(self.labels.classes.values()):
            return None
        row, others = np.zeros(span(grid), dtype=np.int64), label_bins(grid) - 1
        place = {name: i for i, name in enumerate(grid.classes)}
        for name, n in self.labels.classes.items():
            row[place.get(name, others)] += n
        accuracy = self.benchmarks.get("accuracy")
        if accuracy:
            wrong = round((1 - accuracy.value) * accuracy.n)
            row[others + 1 + WRONG], row[others + 1 + RIGHT] = wrong, accuracy.n - wrong
        held = np.flatnonzero(row)
        return Spreads(grid, Tally(held, row[held]), Moments.empty(2))

    @classmethod
    def of(cls, outcomes: Outcomes, spreads: Spreads | None = None) -> Measured:
        """Benchmarks and labels of all outcomes of a table."""
        measured = {name: result for name, result in evaluate(outcomes).items() if isinstance(result, Estimate)}
        return cls(
            outcomes.grid,
            {name: Benchmark(e.value, e.n, e.standard_error) for name, e in measured.items()},
            _labels(outcomes),
            SpreadCounts.of(spreads) if spreads else None,
        )


def _labels(outcomes: Outcomes) -> LabelDistribution:
    grid, losses = outcomes.grid, outcomes.losses
    if grid.task is not Task.REGRESSION:
        matrix = outcomes.confusion.matrix()
        counts = dict(zip(outcomes.confusion.classes, matrix.sum(axis=1).tolist(), strict=True))
        return LabelDistribution(outcomes.confusion.n, counts)
    if not losses.count(ERROR):
        return LabelDistribution(0)
    mean, sd = grid.center + grid.scale * losses.mean(Z), grid.scale * math.sqrt(losses.variance(Z))
    return LabelDistribution(losses.count(ERROR), mean=mean, sd=sd)
