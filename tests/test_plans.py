"""What is judged: benchmarks meet the version and the task that they are of."""

from __future__ import annotations

import pytest

from streamdrift.metrics import METRICS
from streamdrift.outcome_grids import Task
from streamdrift.performance import Target
from streamdrift.plans import FROM_BASELINE, USUAL, PerformancePlan, WantedMetric

DAY_US = 86_400_000_000
WANTED = (
    WantedMetric("accuracy", FROM_BASELINE, 0.02),
    WantedMetric("precision", 0.81, 0.03),
    WantedMetric("rmse", 4.0, 1.0),
    WantedMetric("roc_auc", None, 0.0),
)
PLAN = PerformancePlan(DAY_US, 7 * DAY_US, 500, 2, WANTED, {"7": {"accuracy": 0.9}, "8": {"accuracy": 0.94}})


def targets(version: str, task: Task = Task.BINARY, plan: PerformancePlan = PLAN) -> dict[str, Target]:
    return {target.metric: target for target in plan.config(version, task).targets}


def test_a_version_is_held_against_what_its_own_table_measured() -> None:
    assert targets("7")["accuracy"] == Target("accuracy", 0.9, 0.02)
    assert targets("8")["accuracy"] == Target("accuracy", 0.94, 0.02)


def test_a_version_without_a_baseline_is_to_be_as_good_as_the_one_that_is_listed_last() -> None:
    assert targets("9")["accuracy"].benchmark == 0.94


def test_a_number_holds_for_every_version_and_null_for_none() -> None:
    for version in ("7", "9"):
        assert targets(version)["precision"] == Target("precision", 0.81, 0.03)
        assert targets(version)["roc_auc"].benchmark is None


def test_metrics_of_another_task_are_left_out() -> None:
    assert set(targets("7")) == {"accuracy", "precision", "roc_auc"}
    assert set(targets("7", Task.REGRESSION)) == {"rmse"}


@pytest.mark.parametrize("task", Task)
def test_without_metrics_the_usual_ones_of_the_task_are_reported_and_none_is_judged(task: Task) -> None:
    config = PerformancePlan(DAY_US, 0, 1, 1, benchmarks={"7": {"accuracy": 0.9}}).config("7", task)
    assert [target.metric for target in config.targets] == list(USUAL[task])
    assert all(target.benchmark is None for target in config.targets)
    assert all(task in METRICS[name].tasks for name in USUAL[task])


def test_the_rest_of_the_plan_is_the_configuration() -> None:
    config = PLAN.config("7", Task.BINARY)
    assert (config.window_us, config.label_delay_us, config.min_labels, config.in_a_row) == (DAY_US, 7 * DAY_US, 500, 2)
