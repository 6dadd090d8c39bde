"""From settings and baselines to what is judged: the plan of a model's performance, and its retraining policies.

``check`` and the composition root ask here, so what passes the one is what the other builds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamdrift.baselines import Baseline
from streamdrift.gridbook import ModelKey
from streamdrift.metrics import METRICS
from streamdrift.outcome_grids import Task
from streamdrift.outcome_watch import OutcomeConfig
from streamdrift.plans import FROM_BASELINE, PerformancePlan, WantedMetric
from streamdrift.policies import Condition, Policy, Scheduled, parse
from streamdrift.problems import Path as KeyPath
from streamdrift.problems import Problem, dotted
from streamdrift.schedules import Schedule
from streamdrift.settings import Settings, refusal

Baselines = Mapping[ModelKey, Baseline]


def performance_plan(settings: Settings, baselines: Baselines, model_id: str) -> PerformancePlan:
    """How the performance of a model is judged. Raises ``ConfigurationError`` with all that is missing for it."""
    problems = [Problem(dotted(at), message) for at, message in missing(settings, baselines, model_id)]
    if problems:
        raise refusal(problems)
    performance = settings.performance(model_id)
    return PerformancePlan(
        performance.window.microseconds,
        performance.label_delay.microseconds,
        performance.min_labels,
        performance.windows,
        tuple(WantedMetric(name, m.benchmark, m.tolerance) for name, m in performance.metrics.items()),
        {
            version: {name: benchmark.value for name, benchmark in baseline.benchmarks.items()}
            for version, baseline in _of_model(baselines, model_id).items()
            if baseline.benchmarks
        },
    )


def retraining_policies(settings: Settings, model_id: str) -> tuple[Policy, ...]:
    """The retraining policies of a model; schedules run in ``time.zone``."""
    retraining = settings.model(model_id).retraining
    policies = []
    for name, policy in {} if retraining is None else retraining.policies.items():
        conditions: list[Condition] = [parse(policy.when, policy.windows)] if policy.when else []
        if policy.schedule:
            conditions.append(Scheduled(Schedule(policy.schedule, settings.time.zone)))
        cooldown_us = policy.cooldown.microseconds
        policies.append(Policy(name, tuple(conditions), cooldown_us, policy.min_labels, policy.requires_approval))
    return tuple(policies)


def outcome_config(settings: Settings, baselines: Baselines, model_id: str) -> OutcomeConfig:
    """How the outcomes of a model are watched. Raises ``ConfigurationError``, as ``performance_plan`` does."""
    of_model = _of_model(baselines, model_id)
    return OutcomeConfig(
        settings.time.tick.microseconds,
        performance_plan(settings, baselines, model_id),
        {version: baseline.measured for version, baseline in of_model.items() if baseline.measured},
        {version: baseline.id for version, baseline in of_model.items()},
        mutes=settings.mutes(model_id),
        sensitivity=settings.sensitivity(model_id),
        shown_us=settings.window(model_id).microseconds,
    )


def missing(settings: Settings, baselines: Baselines, model_id: str) -> Iterator[tuple[KeyPath, str]]:
    """Metrics that are none of the model's task, and benchmarks that no baseline has: (path, what is wrong)."""
    of_model = _of_model(baselines, model_id)
    for name, metric in settings.performance(model_id).metrics.items():
        at: KeyPath = ("models", model_id, "performance", "metrics", name)
        if strange := _of_other_task(name, settings, model_id, of_model):
            yield at, strange
        elif metric.benchmark == FROM_BASELINE:
            where = (*at, "benchmark")
            if not of_model:
                yield where, "the model has no baseline; expected a number, null, or a baseline with labels"
            for version, baseline in of_model.items():
                if name not in baseline.benchmarks:
                    yield where, f"the baseline of version {version} {_lacks(name, baseline)}"
                elif (other := _counted_otherwise(settings, model_id, baseline)) is not None:
                    yield where, f"the baseline of version {version} was measured with {other}"


def _of_other_task(name: str, settings: Settings, model_id: str, of_model: Mapping[str, Baseline]) -> str | None:
    """Why a metric is none of the model's, by its settings or else by its baselines; None if it is."""
    outcome = settings.model(model_id).outcome
    if outcome is not None:
        tasks = {f"models.{model_id}.outcome": outcome.grid().task}
    else:
        tasks = {f"version {version}": b.outcome.task for version, b in of_model.items() if b.outcome is not None}
    for who, task in tasks.items():
        if task not in METRICS[name].tasks:
            others = ", ".join(other for other, metric in METRICS.items() if task in metric.tasks)
            return f"is no metric of a {task} task, as {who} has it; expected one of {others}"
    return None


def _counted_otherwise(settings: Settings, model_id: str, baseline: Baseline) -> str | None:
    """What the table's benchmarks were measured with where the settings count otherwise; None where they agree.

    The unit of a regression's errors changes nothing that is measured.
    """
    outcome, measured = settings.model(model_id).outcome, baseline.outcome
    if outcome is None or measured is None or measured.task is Task.REGRESSION:
        return None
    wanted = outcome.grid()
    ordered = Task.BINARY in (wanted.task, measured.task)  # the positive class is the last of two
    if wanted.classes != measured.classes if ordered else set(wanted.classes) != set(measured.classes):
        return f"classes {', '.join(measured.classes)}, and models.{model_id}.outcome has {', '.join(wanted.classes)}"
    if wanted.threshold != measured.threshold:
        return f"a threshold of {measured.threshold:g}, and models.{model_id}.outcome has {wanted.threshold:g}"
    return None


def _lacks(name: str, baseline: Baseline) -> str:
    if baseline.measured is None:
        return "was built without labels (baseline build --target); expected a number, null, or a baseline with labels"
    return f"has no {name}; expected a number, null, or one of {', '.join(baseline.benchmarks)}"


def notes(settings: Settings, baselines: Baselines, model_id: str) -> Iterator[tuple[KeyPath, str]]:
    """What is judged, and what asks for a training, for people: (path, a sentence)."""
    plan = performance_plan(settings, baselines, model_id)
    window = settings.performance(model_id).window
    for wanted in plan.metrics:
        at: KeyPath = ("models", model_id, "performance", "metrics", wanted.metric)
        if wanted.benchmark is None:
            yield at, "is reported, and not judged"
        elif wanted.benchmark == FROM_BASELINE:
            measured = ", ".join(f"{of[wanted.metric]:.4g} in version {v}" for v, of in plan.benchmarks.items())
            yield at, f"is judged a window of {window}: benchmark {measured}, tolerance {wanted.tolerance:g}"
        else:
            yield at, f"is judged a window of {window}: benchmark {wanted.benchmark:g}, tolerance {wanted.tolerance:g}"
    retraining = settings.model(model_id).retraining
    for name, policy in {} if retraining is None else retraining.policies.items():
        schedule = f"by schedule {policy.schedule} ({settings.time.zone})" if policy.schedule else None
        when = f"{policy.when} in {policy.windows} windows in a row" if policy.windows > 1 else policy.when
        reasons = ", or ".join(reason for reason in (when, schedule) if reason)
        approval = ", once a person approves" if policy.requires_approval else ""
        yield ("models", model_id, "retraining", "policies", name), f"asks for a training: {reasons}{approval}"


def _of_model(baselines: Baselines, model_id: str) -> dict[str, Baseline]:
    return {version: baseline for (model, version), baseline in baselines.items() if model == model_id}
