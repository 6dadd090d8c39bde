"""Performance metrics of outcomes, by the names that stand in the configuration. A new one is a line in ``METRICS``.

A metric is a function of ``Outcomes`` that gives an ``Estimate``, or says why there is none: ``Undefined``.

>>> from streamdrift.outcome_grids import OutcomeGrid
>>> from streamdrift.summaries.outcomes import LabelRows
>>> true = ["fraud"] * 100 + ["legit"] * 900
>>> predicted = ["fraud"] * 80 + ["legit"] * 20 + ["fraud"] * 10 + ["legit"] * 890
>>> grid = OutcomeGrid(Task.BINARY, ("legit", "fraud"))
>>> outcomes = Outcomes.of(LabelRows.of(grid, true, predicted))
>>> METRICS["recall"].of(outcomes)
Estimate(value=0.8, standard_error=0.04, n=1000, error=0.0)
>>> METRICS["roc_auc"].of(outcomes)
Undefined(reason='no outcome has probabilities', n=0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from streamdrift.metrics import confusion, probabilities, regression
from streamdrift.metrics.confusion import F1, PRECISION, RECALL
from streamdrift.metrics.estimate import Estimate, Result, Undefined
from streamdrift.metrics.probabilities import calibration_error_of_class, roc_auc_of_class
from streamdrift.outcome_grids import Task
from streamdrift.summaries.outcomes import Outcomes

__all__ = ["METRICS", "Better", "Estimate", "Metric", "Result", "Undefined", "evaluate"]


class Better(StrEnum):
    """Which values of a metric are good."""

    HIGHER = "higher"
    LOWER = "lower"
    NEARER_ZERO = "nearer_zero"

    def shortfall(self, value: float, benchmark: float) -> float:
        """By how much a value is worse than a benchmark; negative where it is better.

        >>> Better.LOWER.shortfall(0.3, 0.25) > 0
        True
        """
        match self:
            case Better.HIGHER:
                return benchmark - value
            case Better.LOWER:
                return value - benchmark
            case Better.NEARER_ZERO:
                return abs(value) - abs(benchmark)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is of, which values are good, and the function."""

    name: str
    tasks: frozenset[Task]
    better: Better
    function: Callable[[Outcomes], Result]
    class_function: Callable[[Outcomes, str], Result] | None = None
    """The same of one class against all others, where that means something."""

    def of(self, outcomes: Outcomes) -> Result:
        """The metric of these outcomes."""
        return self.function(outcomes) if outcomes.possible else _IMPOSSIBLE

    def of_class(self, outcomes: Outcomes, name: str) -> Result:
        """The metric of one class against all others."""
        if self.class_function is None:
            return Undefined(f"{self.name} is not of single classes", 0)
        return self.class_function(outcomes, name) if outcomes.possible else _IMPOSSIBLE


_IMPOSSIBLE: Final = Undefined("more was taken back than had been added", 0)
_BINARY: Final = frozenset({Task.BINARY})
_MULTICLASS: Final = frozenset({Task.MULTICLASS})
_CLASSES: Final = _BINARY | _MULTICLASS
_NUMBERS: Final = frozenset({Task.REGRESSION})
_HIGHER, _LOWER, _NEARER_ZERO = Better

_TABLE: Final = (
    Metric("accuracy", _CLASSES, _HIGHER, confusion.accuracy),
    Metric("precision", _BINARY, _HIGHER, confusion.of_positive(PRECISION), confusion.of_class(PRECISION)),
    Metric("recall", _BINARY, _HIGHER, confusion.of_positive(RECALL), confusion.of_class(RECALL)),
    Metric("f1", _BINARY, _HIGHER, confusion.of_positive(F1), confusion.of_class(F1)),
    Metric("precision_macro", _CLASSES, _HIGHER, confusion.macro(PRECISION), confusion.of_class(PRECISION)),
    Metric("recall_macro", _CLASSES, _HIGHER, confusion.macro(RECALL), confusion.of_class(RECALL)),
    Metric("f1_macro", _CLASSES, _HIGHER, confusion.macro(F1), confusion.of_class(F1)),
    Metric("precision_weighted", _CLASSES, _HIGHER, confusion.weighted(PRECISION)),
    Metric("recall_weighted", _CLASSES, _HIGHER, confusion.weighted(RECALL)),
    Metric("f1_weighted", _CLASSES, _HIGHER, confusion.weighted(F1)),
    Metric("roc_auc", _BINARY, _HIGHER, probabilities.of_positive(roc_auc_of_class)),
    Metric("roc_auc_macro", _MULTICLASS, _HIGHER, probabilities.macro(roc_auc_of_class), roc_auc_of_class),
    Metric("roc_auc_weighted", _MULTICLASS, _HIGHER, probabilities.weighted(roc_auc_of_class)),
    Metric("log_loss", _CLASSES, _LOWER, probabilities.log_loss),
    Metric("brier", _CLASSES, _LOWER, probabilities.brier),
    Metric("calibration_error", _CLASSES, _LOWER, probabilities.calibration_error, calibration_error_of_class),
    Metric("calibration_error_macro", _MULTICLASS, _LOWER, probabilities.macro(calibration_error_of_class)),
    Metric("mae", _NUMBERS, _LOWER, regression.mean_absolute_error),
    Metric("rmse", _NUMBERS, _LOWER, regression.root_mean_squared_error),
    Metric("mape", _NUMBERS, _LOWER, regression.mean_absolute_percentage_error),
    Metric("bias", _NUMBERS, _NEARER_ZERO, regression.bias),
    Metric("r2", _NUMBERS, _HIGHER, regression.r_squared),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _TABLE}
"""Every metric by its name."""


def evaluate(outcomes: Outcomes) -> Mapping[str, Result]:
    """Every metric of the outcomes' task: of a baseline, the benchmarks."""
    return {name: metric.of(outcomes) for name, metric in METRICS.items() if outcomes.grid.task in metric.tasks}
