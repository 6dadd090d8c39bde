"""The settings of performance and retraining: what is reported and judged, and when a training is asked for."""

# No `from __future__ import annotations`, as in `settings`.

import difflib
import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from streamdrift.incidents import DriftKind
from streamdrift.metrics import METRICS
from streamdrift.plans import FROM_BASELINE
from streamdrift.policies import FreshLabels, Worse, parse
from streamdrift.problems import Path as KeyPath
from streamdrift.quantities import Duration
from streamdrift.schedules import Schedule
from streamdrift.values import NUMBER, AnyDuration, Count, NotNegative, PositiveDuration, Section, Text


def _metric(name: str) -> str:
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(METRICS)}"
        raise ValueError(f"is no metric; {hint}")
    return name


def _benchmark(value: object) -> object:
    if value is None or value == FROM_BASELINE:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected {FROM_BASELINE}, a number, or null")
    return float(value)


def _condition(text: str) -> str:
    parse(text)
    return text


def _schedule(text: str) -> str:
    Schedule(text, ZoneInfo("UTC"))
    return text


MetricName = Annotated[str, AfterValidator(_metric)]
ConditionText = Annotated[Text, AfterValidator(_condition)]
ScheduleText = Annotated[Text, AfterValidator(_schedule)]
Benchmark = Annotated[
    Any,
    AfterValidator(_benchmark),
    WithJsonSchema({"anyOf": [{"const": FROM_BASELINE}, {"type": "number"}, {"type": "null"}]}),
]


class Metric(Section):
    """What a performance metric is held against."""

    benchmark: Benchmark = FROM_BASELINE
    """A number, or ``from_baseline``: what the training table of the version measured, else that of the version whose
    baseline is listed last; null reports the metric without judging it."""
    tolerance: NotNegative = 0.0
    """How much worse than the benchmark still counts as good."""


class Performance(Section):
    """Metrics of predictions whose labels have arrived."""

    window: PositiveDuration = Duration.parse("1d")
    """Length of the windows, of predictions."""
    min_labels: Count = 500
    """Fewest labels of a window that make a number."""
    label_delay: AnyDuration = Duration.parse("7d")
    """How long a window waits for its labels before it is judged."""
    windows: Count = 1
    """Windows in a row below benchmark and tolerance that open an incident."""
    metrics: dict[MetricName, Metric] = Field(default_factory=dict)
    """Metrics by name; without any, the usual ones of the task are reported, and none is judged."""


class RetrainingPolicy(Section):
    """When a model should be trained anew: a condition, a schedule, or either."""

    when: ConditionText | None = None
    """A condition: ``accuracy below benchmark``, ``drift critical for 30m``, ``prediction_drift warning`` or
    ``5000 fresh labels``."""
    schedule: ScheduleText | None = None
    """A cron expression of five fields, in ``time.zone``."""
    windows: Count = 1
    """Windows in a row for which a metric is below its benchmark."""
    cooldown: AnyDuration = Duration.parse("1d")
    """Shortest time between two requests of the model."""
    min_labels: Annotated[int, Field(ge=0), NUMBER] = 0
    """Fewest labels since the last training that are worth another."""
    requires_approval: bool = False
    """Whether a person decides."""

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if self.when is None and self.schedule is None:
            raise ValueError("expected when, schedule, or both")
        return self


class Retraining(Section):
    """Requests to train a model anew."""

    policies: dict[Text, RetrainingPolicy] = Field(default_factory=dict)
    """Policies by name."""


_OF_LABELS: Final = {DriftKind.CONCEPT_DRIFT, DriftKind.PERFORMANCE, DriftKind.LABEL_DRIFT}
"""Kinds of incidents that only labels can open."""


def contradictions(
    performance: Performance | None, retraining: Retraining | None, *, with_labels: bool
) -> Iterator[tuple[KeyPath, str]]:
    """Policies that could never ask: (path below the model, what is wrong)."""
    judged = {} if performance is None else {n: m for n, m in performance.metrics.items() if m.benchmark is not None}
    for name, policy in {} if retraining is None else retraining.policies.items():
        at: KeyPath = ("retraining", "policies", name)
        condition = parse(policy.when) if policy.when else None
        if isinstance(condition, Worse) and condition.metric not in judged:
            expected = f"expected a benchmark in performance.metrics.{condition.metric}"
            yield (*at, "when"), f"{condition.metric} is not judged; {expected}"
        if not with_labels:
            if isinstance(condition, Worse | FreshLabels) or getattr(condition, "kind", None) in _OF_LABELS:
                yield (*at, "when"), "needs labels; expected a source of kind labels"
            if policy.min_labels:
                yield (*at, "min_labels"), "needs labels; expected a source of kind labels"
