"""Metrics of added-up outcomes are scikit-learn's metrics of the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle
from sklearn.exceptions import UndefinedMetricWarning

from streamdrift.metrics import METRICS, Estimate, Undefined
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.curves import EDGES
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows
from tests.support.outcomes import BINARY, MULTICLASS, REGRESSION

LARGEST_LOSS = 1_024
"""Of an outcome of nearly 0, a share of it can be anything: it is limited."""
few = settings(max_examples=40, deadline=None)
sizes, seeds = st.integers(1, 300), st.integers(0, 2**32 - 1)


# scikit-learn gives NaN where a metric is not defined, as it is asked to here, and warns on top.
undefined_is_nan = pytest.mark.filterwarnings(f"ignore::{UndefinedMetricWarning.__module__}.UndefinedMetricWarning")


def agrees(name: str, outcomes: Outcomes, expected: float, slack: float = 1e-12) -> None:
    found = METRICS[name].of(outcomes)
    if math.isnan(expected):
        assert isinstance(found, Undefined), name
    else:
        assert isinstance(found, Estimate), name
        assert found.value == pytest.approx(expected, rel=1e-12, abs=slack + found.error), name


def grid_of(classes: int) -> OutcomeGrid:
    return BINARY if classes == 2 else OutcomeGrid(Task.MULTICLASS, tuple(map(str, range(classes))))


def classified(classes: int, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True and predicted classes, some of them absent."""
    present = rng.random(classes) ** 4
    true = rng.choice(classes, n, p=present / present.sum())
    return true, np.where(rng.random(n) < rng.random(), true, rng.integers(0, rng.integers(1, classes + 1), n))


@undefined_is_nan
@few
@given(classes=st.integers(2, 7), n=sizes, seed=seeds)
def test_metrics_of_confusion_counts_are_the_same(classes: int, n: int, seed: int) -> None:
    true, predicted = classified(classes, n, np.random.default_rng(seed))
    grid = grid_of(classes)
    outcomes = Outcomes.of(LabelRows(grid, grid.classes, true, predicted))
    agrees("accuracy", outcomes, oracle.accuracy_score(true, predicted))
    scores: Iterable[tuple[str, Callable[..., float]]] = (
        ("precision", oracle.precision_score),
        ("recall", oracle.recall_score),
        ("f1", oracle.f1_score),
    )
    for name, score in scores:
        of_each = score(true, predicted, average=None, labels=range(classes), zero_division=np.nan)
        for label, expected in zip(grid.classes, np.asarray(of_each).tolist(), strict=True):
            found = METRICS[f"{name}_macro"].of_class(outcomes, label)
            value = found.value if isinstance(found, Estimate) else math.nan
            assert value == pytest.approx(expected, nan_ok=True, abs=1e-12)
        for average in ("macro", "weighted"):
            expected = score(true, predicted, average=average, zero_division=np.nan)
            if average == "weighted" and name == "precision" and not np.isin(true, predicted).any():
                expected = math.nan  # every weight is 0: scikit-learn takes the classes alike then
            agrees(f"{name}_{average}", outcomes, expected)
        if classes == 2:
            agrees(name, outcomes, score(true, predicted, zero_division=np.nan))


probabilities = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 1e-30, 1 - 1e-16, 0.5, float(EDGES[7])])), st.booleans()
    ),
    min_size=1,
    max_size=80,
)


@undefined_is_nan
@few
@given(probabilities)
@example([(0.1, True), (0.2, True)])
@example([(0.1, False)])
def test_metrics_of_binary_scores_are_the_same(rows: list[tuple[float, bool]]) -> None:
    scores, true = np.array([p for p, _ in rows]), np.array([int(hit) for _, hit in rows])
    outcomes = Outcomes.of(LabelRows(BINARY, BINARY.classes, true, np.full(len(rows), -1), scores[:, None]))
    agrees("log_loss", outcomes, oracle.log_loss(true, scores, labels=[0, 1]), 1e-9)
    agrees("brier", outcomes, oracle.brier_score_loss(true, scores, pos_label=1), 1e-9)
    agrees("roc_auc", outcomes, oracle.roc_auc_score(true, scores))
    agrees("accuracy", outcomes, oracle.accuracy_score(true, scores >= 0.5))


@undefined_is_nan
@few
@given(classes=st.integers(3, 6), n=st.integers(5, 300), seed=seeds)
def test_metrics_of_several_probabilities_are_the_same(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    told = rng.dirichlet(np.ones(classes), n)
    told /= told.sum(axis=1, keepdims=True)
    true, _ = classified(classes, n, rng)
    grid = grid_of(classes)
    outcomes = Outcomes.of(LabelRows(grid, grid.classes, true, np.full(n, -1), told))
    labels = list(range(classes))
    agrees("log_loss", outcomes, oracle.log_loss(true, told, labels=labels), 1e-9)
    agrees("brier", outcomes, oracle.brier_score_loss(true, told, labels=labels), 1e-9)
    agrees("accuracy", outcomes, oracle.accuracy_score(true, told.argmax(axis=1)))
    for average in ("macro", "weighted"):
        expected = oracle.roc_auc_score(true, told, multi_class="ovr", average=average, labels=labels)
        agrees(f"roc_auc_{average}", outcomes, expected)


def test_the_error_of_binning_is_small_where_scores_crowd_at_an_end() -> None:
    rng = np.random.default_rng(7)
    scores = rng.beta(0.2, 40, 20_000)
    true = (rng.random(20_000) < scores).astype(np.int64)
    found = METRICS["roc_auc"].of(Outcomes.of(LabelRows(BINARY, BINARY.classes, true, true, scores[:, None])))
    assert isinstance(found, Estimate)
    assert 0 < found.error < 0.01
    assert abs(found.value - oracle.roc_auc_score(true, scores)) < found.error
    assert abs(found.value - oracle.roc_auc_score(true, scores)) < 1e-4


def calibration_error(p: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    bins = np.minimum((p * 16).astype(np.int64), 15)
    return float(sum(abs(p[bins == b].sum() - hit[bins == b].sum()) for b in range(16)) / len(p))


@few
@given(classes=st.integers(2, 5), n=sizes, seed=seeds)
def test_the_calibration_error_is_what_its_definition_gives(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    told, (true, _) = rng.dirichlet(np.ones(classes), n), classified(classes, n, rng)
    grid = grid_of(classes)
    outcomes = Outcomes.of(LabelRows(grid, grid.classes, true, np.full(n, -1), told[:, 1:] if classes == 2 else told))
    if classes == 2:
        agrees("calibration_error", outcomes, calibration_error(told[:, 1], true == 1), 1e-9)
    else:
        agrees("calibration_error", outcomes, calibration_error(told.max(axis=1), told.argmax(axis=1) == true), 1e-9)
        of_each = [calibration_error(told[:, k], true == k) for k in range(classes)]
        agrees("calibration_error_macro", outcomes, float(np.mean(of_each)), 1e-9)


@few
@given(n=sizes, seed=seeds, round_to=st.sampled_from([0, 6]))
def test_metrics_of_numbers_are_the_same(n: int, seed: int, round_to: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.round(rng.normal(30, rng.choice([0.0, 1.0, 20.0]), n), round_to)
    predicted = np.round(true + rng.normal(rng.normal(), rng.choice([0.0, 1.0, 10.0]), n), round_to)
    outcomes = Outcomes.of(ValueRows(REGRESSION, true, predicted))
    slack = 1e-9 * REGRESSION.scale
    agrees("mae", outcomes, oracle.mean_absolute_error(true, predicted), slack)
    agrees("rmse", outcomes, oracle.root_mean_squared_error(true, predicted), slack)
    agrees("bias", outcomes, float(np.mean(predicted - true)), slack)
    nonzero = true != 0
    shares = np.abs(predicted - true)[nonzero] / np.abs(true[nonzero])
    if nonzero.any() and shares.max() > LARGEST_LOSS:  # scikit-learn limits nothing
        agrees("mape", outcomes, float(np.minimum(shares, LARGEST_LOSS).mean()), 1e-9)
    elif nonzero.any():
        agrees("mape", outcomes, oracle.mean_absolute_percentage_error(true[nonzero], predicted[nonzero]), 1e-9)
    if np.ptp(true) == 0:
        agrees("r2", outcomes, math.nan)
    else:
        expected = oracle.r2_score(true, predicted)
        agrees("r2", outcomes, expected, 1e-6 * max(1.0, abs(expected)) / min(1.0, float(np.var(true))))


def test_an_outcome_of_zero_has_no_percentage_where_scikit_learn_has_a_huge_one() -> None:
    true, predicted = np.array([0.0, 10.0]), np.array([1.0, 11.0])
    assert oracle.mean_absolute_percentage_error(true, predicted) > 1e15
    outcomes = Outcomes.of(ValueRows(REGRESSION, true, predicted))
    found = METRICS["mape"].of(outcomes)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(0.1)
    assert found.n == 1
    assert METRICS["mape"].of(Outcomes.of(ValueRows(REGRESSION, true[:1], predicted[:1]))) == Undefined(
        "all outcomes are 0", 1
    )


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_nothing_says_why(name: str) -> None:
    for grid in (BINARY, MULTICLASS, REGRESSION):
        if grid.task in METRICS[name].tasks:
            found = METRICS[name].of(Outcomes.empty(grid))
            assert isinstance(found, Undefined)
            assert found.reason
