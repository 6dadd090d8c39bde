"""Standard errors are what repeating the whole thing on other outcomes of the same model gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from streamdrift.metrics import METRICS, Estimate, evaluate
from streamdrift.metrics.estimate import Result
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows
from tests.support.outcomes import BINARY, MULTICLASS, REGRESSION, Rows, taken

N, RESAMPLES = 800, 400


def binary(rng: np.random.Generator) -> LabelRows:
    score = rng.beta(0.7, 2.5, N)
    true = (rng.random(N) < score**1.3).astype(np.int64)
    return LabelRows(BINARY, BINARY.classes, true, np.full(N, -1), score[:, None])


def multiclass(rng: np.random.Generator) -> LabelRows:
    told = rng.dirichlet((0.5, 1.0, 0.3), N)
    true = np.array([rng.choice(3, p=0.7 * p + 0.1) for p in told])
    return LabelRows(MULTICLASS, MULTICLASS.classes, true, np.full(N, -1), told)


def numbers(rng: np.random.Generator) -> ValueRows:
    true = 30 + 10 * rng.gamma(2.0, 1.0, N)
    return ValueRows(REGRESSION, true, true + rng.normal(1, 3, N) + 0.1 * (true - 50))


MADE: dict[Task, Callable[[np.random.Generator], Rows]] = {
    Task.BINARY: binary,
    Task.MULTICLASS: multiclass,
    Task.REGRESSION: numbers,
}


def bootstrapped(rows: Rows, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Each metric of many resamples of the rows."""
    samples = [Outcomes.of(taken(rows, rng.integers(0, len(rows), len(rows)))) for _ in range(RESAMPLES)]
    values = [{name: value_of(result) for name, result in evaluate(sample).items()} for sample in samples]
    return {name: np.array([value[name] for value in values]) for name in values[0]}


def value_of(result: Result) -> float:
    assert isinstance(result, Estimate)
    return result.value


UPPER_BOUNDS = ("roc_auc_macro", "roc_auc_weighted", "calibration_error", "calibration_error_macro")
"""Standard errors that are too large rather than too small, and say so."""


@pytest.mark.parametrize("task", Task)
def test_standard_errors_are_those_of_the_bootstrap(task: Task) -> None:
    rng = np.random.default_rng(5)
    rows = MADE[task](rng)
    whole = Outcomes.of(rows)
    for name, values in bootstrapped(rows, rng).items():
        found = METRICS[name].of(whole)
        assert isinstance(found, Estimate)
        assert found.standard_error is not None
        ratio = found.standard_error / values.std(ddof=1)
        # The standard deviation of 400 resamples is itself known to 3.5 % (one standard error).
        assert 0.85 < ratio < (2.5 if name in UPPER_BOUNDS else 1.15), (name, ratio)


def test_errors_of_accuracy_precision_and_recall_are_binomial() -> None:
    grid = OutcomeGrid(Task.BINARY, ("0", "1"))
    true, predicted = np.repeat([1, 0], [100, 900]), np.repeat([1, 0, 1, 0], [80, 20, 10, 890])
    outcomes = Outcomes.of(LabelRows(grid, grid.classes, true, predicted))
    for name, share, n in (("accuracy", 0.97, 1000), ("precision", 80 / 90, 90), ("recall", 0.8, 100)):
        found = METRICS[name].of(outcomes)
        assert isinstance(found, Estimate)
        assert found.value == pytest.approx(share)
        assert found.standard_error == pytest.approx((share * (1 - share) / n) ** 0.5)


def test_the_error_of_an_area_follows_hanley_and_mcneil_where_scores_are_exponential() -> None:
    """Hanley & McNeil 1982 assume just that; DeLong assumes nothing."""
    rng = np.random.default_rng(11)
    P, N, ratio = 4_000, 4_000, 3.0
    scores = 1 - np.exp(-np.concatenate((rng.exponential(ratio, P), rng.exponential(1.0, N))) / 4)
    true = np.repeat([1, 0], [P, N])
    found = METRICS["roc_auc"].of(Outcomes.of(LabelRows(BINARY, BINARY.classes, true, true, scores[:, None])))
    assert isinstance(found, Estimate)
    A = found.value
    Q1, Q2 = A / (2 - A), 2 * A**2 / (1 + A)
    expected = ((A * (1 - A) + (P - 1) * (Q1 - A**2) + (N - 1) * (Q2 - A**2)) / (P * N)) ** 0.5
    assert found.standard_error == pytest.approx(expected, rel=0.05)


def test_the_error_of_a_large_calibration_error_is_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    score = rng.random(N)
    true = (rng.random(N) < score / 3).astype(np.int64)
    rows = LabelRows(BINARY, BINARY.classes, true, np.full(N, -1), score[:, None])
    found = METRICS["calibration_error"].of(Outcomes.of(rows))
    assert isinstance(found, Estimate)
    values = bootstrapped(rows, rng)["calibration_error"]
    assert found.standard_error == pytest.approx(values.std(ddof=1), rel=0.15)


def test_one_positive_is_too_few_for_an_error_of_the_area() -> None:
    rows = LabelRows(BINARY, BINARY.classes, np.array([1, 0, 0]), np.full(3, -1), np.array([[0.9], [0.2], [0.95]]))
    found = METRICS["roc_auc"].of(Outcomes.of(rows))
    assert isinstance(found, Estimate)
    assert found.standard_error is None
    assert found.value == pytest.approx(0.5, abs=found.error)
