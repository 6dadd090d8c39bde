"""Benchmarks: how well a model did on a table whose outcomes are known, and how its labels were distributed there.

They stand in the baseline, beside the counts, and are what ``benchmark: from_baseline`` means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from streamdrift.metrics import Estimate, evaluate
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.outcomes import ERROR, Outcomes, Z


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


class Measured(msgspec.Struct, frozen=True):
    """What a table says whose rows have a prediction and its label."""

    outcome: OutcomeGrid
    """How its outcomes were counted, and those of live traffic are."""
    benchmarks: Mapping[str, Benchmark]
    """Every metric of the task that has a value there, by name."""
    labels: LabelDistribution

    def __post_init__(self) -> None:
        numbers = [value for b in self.benchmarks.values() for value in (b.value, b.standard_error or 0.0)]
        counts = [self.labels.n, *self.labels.classes.values(), *(b.n for b in self.benchmarks.values())]
        if not all(map(math.isfinite, numbers)) or min(counts) < 0:
            raise ValueError("a benchmark is no number, or a count is negative")

    @classmethod
    def of(cls, outcomes: Outcomes) -> Measured:
        """Benchmarks and labels of all outcomes of a table."""
        measured = {name: result for name, result in evaluate(outcomes).items() if isinstance(result, Estimate)}
        return cls(
            outcomes.grid,
            {name: Benchmark(e.value, e.n, e.standard_error) for name, e in measured.items()},
            _labels(outcomes),
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
