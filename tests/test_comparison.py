"""A new version and its predecessor: which numbers are compared, and which side is the better one."""

from __future__ import annotations

import math

from streamdrift.comparison import compare, estimates
from streamdrift.metrics import Estimate
from streamdrift.performance import Reading, Report, Standing
from streamdrift.summaries.coverage import Coverage


def report(window: int, standing: Standing, accuracy: float) -> Report:
    estimate = Estimate(accuracy, 0.01, 100) if standing in {Standing.MEASURED, Standing.PROVISIONAL} else None
    return Report(window, Coverage.empty(), [Reading("accuracy", standing, estimate)])


def test_the_last_closed_window_says_more_than_an_open_one() -> None:
    reports = [report(3, Standing.PROVISIONAL, 0.5), report(2, Standing.MEASURED, 0.9)]
    assert estimates(reports)["accuracy"].value == 0.9
    assert estimates(reports[:1])["accuracy"].value == 0.5


def test_a_window_without_a_number_says_nothing() -> None:
    assert estimates([]) == {}
    few = report(4, Standing.TOO_FEW, 0.1)
    assert estimates([few, report(3, Standing.PROVISIONAL, 0.5)])["accuracy"].value == 0.5


def test_only_what_both_have_is_compared() -> None:
    before = {"accuracy": Estimate(0.8, 0.01, 100), "recall": Estimate(0.7, 0.01, 100)}
    after = {"recall": Estimate(0.6, 0.01, 100), "roc_auc": Estimate(0.9, 0.01, 100)}
    [recall] = compare(before, after)
    assert recall.metric == "recall"
    assert math.isclose(recall.better_by, -0.1)
    assert compare(before, {}) == []


def test_less_of_an_error_is_better() -> None:
    [rmse] = compare({"rmse": Estimate(4.0, 0.3, 50)}, {"rmse": Estimate(3.0, 0.4, 50)})
    assert rmse.better_by == 1.0
    assert rmse.standard_error == 0.5
    assert rmse.errors_apart == 2.0
    assert "1 better than the 4 of its predecessor, by 2 standard errors" in rmse.sentence


def test_without_standard_errors_nothing_is_said_of_chance() -> None:
    [auc] = compare({"roc_auc": Estimate(0.9, None, 50)}, {"roc_auc": Estimate(0.8, 0.1, 50)})
    assert auc.standard_error is None
    assert auc.errors_apart is None
    assert auc.sentence.endswith("0.1 worse than the 0.9 of its predecessor")
    assert auc.data["standard_error"] is None
