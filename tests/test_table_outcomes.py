"""Benchmarks of a training table: those that scikit-learn gives, of the outcomes that live traffic will have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from streamdrift.baseline_command import build_command
from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.privacy import Privacy
from streamdrift.tables import Fields, baseline_from_columns
from tests.test_tables import write_csv

ROWS = 2_000
RNG = np.random.default_rng(11)
AMOUNT = RNG.lognormal(3, 1, ROWS)
TRUE = RNG.random(ROWS) < 0.3
SCORE = np.clip(np.where(TRUE, RNG.beta(4, 2, ROWS), RNG.beta(2, 4, ROWS)), 0, 1)
NAMES = np.where(TRUE, "fraud", "legit").tolist()
PREDICTED = np.where(SCORE >= 0.5, "fraud", "legit").tolist()
FRAUD = Fields(score="score", label="predicted", target="outcome")


def table(**columns: object) -> dict[str, Any]:
    return {"amount": AMOUNT, **columns}


def fraud_table() -> dict[str, Any]:
    return table(score=SCORE, predicted=PREDICTED, outcome=NAMES)


def built(columns: Mapping[str, Any], fields: Fields) -> Baseline:
    return baseline_from_columns(columns, model_id="fraud", model_version="7", fields=fields)


def values(baseline: Baseline) -> dict[str, float]:
    return {name: benchmark.value for name, benchmark in baseline.benchmarks.items()}


def classes_of(codes: NDArray[np.int64]) -> list[str]:
    return [("cat", "dog", "eel")[code] for code in codes]


# ---- what is measured


def test_benchmarks_of_a_binary_table_are_scikit_learns() -> None:
    baseline = built(fraud_table(), FRAUD)
    assert baseline.outcome == OutcomeGrid(Task.BINARY, ("legit", "fraud"))
    predicted = SCORE >= 0.5
    found = values(baseline)
    for name, function in (
        ("accuracy", oracle.accuracy_score),
        ("precision", oracle.precision_score),
        ("recall", oracle.recall_score),
        ("f1", oracle.f1_score),
    ):
        assert math.isclose(found[name], function(TRUE, predicted), rel_tol=1e-12), name
    assert math.isclose(found["log_loss"], oracle.log_loss(TRUE, SCORE), rel_tol=1e-6)
    assert abs(found["roc_auc"] - oracle.roc_auc_score(TRUE, SCORE)) < 1e-3
    accuracy = baseline.benchmarks["accuracy"]
    assert accuracy.n == ROWS
    assert accuracy.standard_error == pytest.approx(math.sqrt(accuracy.value * (1 - accuracy.value) / ROWS), rel=1e-3)


def test_the_labels_of_the_table_are_counted() -> None:
    labels = built(fraud_table(), FRAUD).labels
    assert labels is not None
    assert labels.n == ROWS
    assert labels.classes == {"legit": int((~TRUE).sum()), "fraud": int(TRUE.sum())}


def test_benchmarks_of_a_regression_are_scikit_learns() -> None:
    predicted = AMOUNT * 1.1 + RNG.normal(size=ROWS)
    baseline = built(table(forecast=predicted, outcome=AMOUNT.tolist()), Fields(value="forecast", target="outcome"))
    assert baseline.outcome is not None
    assert baseline.outcome.task is Task.REGRESSION
    found, labels = values(baseline), baseline.labels
    assert math.isclose(found["mae"], oracle.mean_absolute_error(AMOUNT, predicted), rel_tol=1e-6)
    assert math.isclose(found["r2"], oracle.r2_score(AMOUNT, predicted), rel_tol=1e-6)
    assert labels is not None
    assert labels.mean == pytest.approx(AMOUNT.mean(), rel=1e-6)
    assert labels.sd == pytest.approx(AMOUNT.std(), rel=1e-6)


def test_benchmarks_of_several_classes_are_scikit_learns() -> None:
    true = RNG.integers(0, 3, ROWS)
    probabilities = RNG.dirichlet(np.ones(3), ROWS) * 0.5 + 0.5 * np.eye(3)[true] * (RNG.random(ROWS) < 0.8)[:, None]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    columns = {f"prediction.probabilities.{name}": probabilities[:, i] for i, name in enumerate(("cat", "dog", "eel"))}
    baseline = built(table(**columns, outcome=classes_of(true)), Fields(target="outcome"))
    assert baseline.outcome == OutcomeGrid(Task.MULTICLASS, ("cat", "dog", "eel"))
    found, predicted = values(baseline), probabilities.argmax(axis=1)
    assert math.isclose(found["accuracy"], oracle.accuracy_score(true, predicted))
    assert math.isclose(found["f1_macro"], oracle.f1_score(true, predicted, average="macro"))
    assert math.isclose(found["log_loss"], oracle.log_loss(true, probabilities), rel_tol=1e-6)


def test_rows_without_a_label_are_in_no_benchmark() -> None:
    columns = fraud_table()
    columns["outcome"] = [None if i % 4 == 0 else name for i, name in enumerate(NAMES)]
    labelled = np.arange(ROWS) % 4 != 0
    baseline = built(columns, FRAUD)
    assert baseline.benchmarks["accuracy"].n == labelled.sum()
    assert values(baseline)["accuracy"] == oracle.accuracy_score(TRUE[labelled], (SCORE >= 0.5)[labelled])


# ---- how outcomes are counted


def test_the_positive_class_is_the_one_that_high_scores_predict_or_the_one_that_is_named() -> None:
    inverse = fraud_table() | {"score": 1 - SCORE}
    assert built(inverse, FRAUD).outcome == OutcomeGrid(Task.BINARY, ("fraud", "legit"))
    assert built(inverse, replace(FRAUD, positive="fraud")).outcome == OutcomeGrid(Task.BINARY, ("legit", "fraud"))


def test_a_score_alone_predicts_by_the_threshold() -> None:
    fields = Fields(score="score", target="outcome", threshold=0.7)
    baseline = built(table(score=SCORE, outcome=TRUE.tolist()), fields)
    assert baseline.outcome == OutcomeGrid(Task.BINARY, ("false", "true"), threshold=0.7)
    assert math.isclose(values(baseline)["recall"], oracle.recall_score(TRUE, SCORE >= 0.7))


@pytest.mark.parametrize("positive", ["frau", "cat"])
def test_a_positive_class_that_is_not_there_is_refused(positive: str) -> None:
    with pytest.raises(ConfigurationError, match="expected one of two classes; the table has legit, fraud"):
        built(fraud_table(), replace(FRAUD, positive=positive))


def test_a_positive_class_needs_labels() -> None:
    columns = fraud_table()
    del columns["outcome"]
    with pytest.raises(ConfigurationError, match="needs labels"):
        built(columns, Fields(score="score", label="predicted", positive="fraud"))


# ---- the file


def test_a_baseline_without_labels_is_what_it_was() -> None:
    columns = fraud_table()
    with_labels = built(columns, FRAUD)
    without = built({k: v for k, v in columns.items() if k != "outcome"}, Fields(score="score", label="predicted"))
    assert without.measured is None
    assert "measured" not in json.loads(without.to_json())
    assert json.loads(without.to_json())["counts"] == json.loads(with_labels.to_json())["counts"]


def test_benchmarks_are_read_as_they_were_written_and_kept_by_whatever_is_left_out() -> None:
    baseline = built(fraud_table(), FRAUD)
    read = Baseline.from_json(baseline.to_json())
    assert read.measured == baseline.measured
    assert read.id == baseline.id
    assert read.only(lambda *_: False, "excluded").benchmarks == baseline.benchmarks
    assert read.under(Privacy(drop=("amount",))).benchmarks == baseline.benchmarks


@pytest.mark.parametrize(
    "change",
    [
        {"benchmarks": {"accuracy": {"value": 0.9, "n": -1}}},
        {"benchmarks": {"accuracy": {"value": "good", "n": 1}}},
        {"outcome": {"task": "binary", "classes": ["one"]}},
        {"labels": {"n": -5}},
    ],
)
def test_benchmarks_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    document = json.loads(built(fraud_table(), FRAUD).to_json())
    document["measured"] |= change
    with pytest.raises(ValueError, match="not a baseline"):
        Baseline.from_json(json.dumps(document).encode())


# ---- the command


def test_the_command_shows_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "train.csv", fraud_table())
    options: dict[str, Any] = {"model": "fraud", "version": "7", "score": "score", "target": "outcome"}
    build_command(path, output=tmp_path / "b.json", label_prediction="predicted", **options)
    shown = capsys.readouterr().out
    assert f"outcomes: binary, {ROWS:,} labels: legit" in shown
    assert "positive is fraud" in shown
    assert f"accuracy {oracle.accuracy_score(TRUE, SCORE >= 0.5):.4g} ±" in shown
    build_command(path, output=tmp_path / "c.json", label_prediction="predicted", as_json=True, **options)
    report = json.loads(capsys.readouterr().out)
    assert report["outcome"] == {"task": "binary", "classes": ["legit", "fraud"]}
    [accuracy] = [b for b in report["benchmarks"] if b["metric"] == "accuracy"]
    assert accuracy["value"] == oracle.accuracy_score(TRUE, SCORE >= 0.5)
    assert report["labels"]["n"] == ROWS


def test_text_of_a_file_counts_as_the_values_of_a_table(tmp_path: Path) -> None:
    """Labels that look like numbers and truth values have the names that those of events have."""
    columns = table(score=SCORE, outcome=TRUE.astype(int).tolist())
    path = write_csv(tmp_path / "train.csv", columns)
    build_command(path, model="fraud", version="7", output=tmp_path / "b.json", score="score", target="outcome")
    baseline = Baseline.read(tmp_path / "b.json")
    assert baseline.outcome == OutcomeGrid(Task.BINARY, ("0", "1"))
    assert baseline.measured == built(columns, Fields(score="score", target="outcome")).measured


def test_too_few_labels_are_told_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = fraud_table() | {"outcome": [name if i < 150 else None for i, name in enumerate(NAMES)]}
    path = write_csv(tmp_path / "train.csv", columns)
    build_command(path, model="fraud", version="7", output=tmp_path / "b.json", score="score", target="outcome")
    assert "there are no benchmarks: fewer than 200 rows have a label" in capsys.readouterr().out
