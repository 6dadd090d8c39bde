"""Plans: which metrics of a model are reported and judged, before its version and its task are known.

A configuration speaks of a model, its benchmarks are those of one version, and the task may be known from the first
labels only. ``PerformancePlan.config`` puts them together.

>>> wanted = WantedMetric("accuracy", FROM_BASELINE, tolerance=0.02)
>>> plan = PerformancePlan(86_400_000_000, 0, 500, 1, [wanted], {"7": {"accuracy": 0.9}})
>>> plan.config("7", Task.BINARY).targets
(Target(metric='accuracy', benchmark=0.9, tolerance=0.02),)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamdrift.metrics import METRICS
from streamdrift.outcome_grids import Task
from streamdrift.performance import PerformanceConfig, Target

FROM_BASELINE: Final = "from_baseline"
"""The benchmark that the baseline of the model version measured."""

USUAL: Final[Mapping[Task, Sequence[str]]] = {
    Task.BINARY: ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"),
    Task.MULTICLASS: ("accuracy", "precision_macro", "recall_macro", "f1_macro", "log_loss"),
    Task.REGRESSION: ("mae", "rmse", "bias", "r2"),
}
"""What is reported of a task where nobody says which metrics are wanted."""


@dataclass(frozen=True, slots=True)
class WantedMetric:
    """A metric that the configuration names."""

    metric: str
    benchmark: float | str | None
    """A number, ``FROM_BASELINE``, or None: it is not judged."""
    tolerance: float


@dataclass(frozen=True, slots=True)
class PerformancePlan:
    """How the performance of all versions of a model is judged. Durations in microseconds."""

    window_us: int
    label_delay_us: int
    min_labels: int
    in_a_row: int
    metrics: Sequence[WantedMetric] = ()
    """None: the usual ones of the task are reported."""
    benchmarks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of each version that has a baseline, in the order of the configuration: what its table measured, by metric."""

    def config(self, version: str, task: Task) -> PerformanceConfig:
        """How one version is judged; a metric that is none of its task is left out."""
        wanted = self.metrics or [WantedMetric(name, None, 0.0) for name in USUAL[task]]
        targets = tuple(self._target(metric, version) for metric in wanted if task in METRICS[metric.metric].tasks)
        return PerformanceConfig(self.window_us, self.label_delay_us, self.min_labels, targets, self.in_a_row)

    def _target(self, wanted: WantedMetric, version: str) -> Target:
        benchmark = wanted.benchmark
        if isinstance(benchmark, str):
            benchmark = self.measured(version).get(wanted.metric)
        return Target(wanted.metric, benchmark, wanted.tolerance)

    def measured(self, version: str) -> Mapping[str, float]:
        """The version's own benchmarks; of one without a baseline, those of the version that is listed last.

        A version that was trained because its predecessor was no longer good enough is to be as good as that once was.
        """
        return self.benchmarks.get(version) or next(reversed(list(self.benchmarks.values())), {})
