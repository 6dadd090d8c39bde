"""True labels in a table of their own: joined by the prediction's id, refused where it is not clear what is what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.replay.command import refusal, replayed
from tests.replay.test_tables import columns, write_csv

ROWS = 4_000


def write(directory: Path, *, labelled: range = range(ROWS)) -> None:
    """A log in ``log.csv``, the labels of some of its rows in ``truth.csv``, the last one first, and both together."""
    table = columns(ROWS, wrong_from=ROWS // 2)
    log = {"id": list(range(ROWS)), "amount": table["amount"], "y_pred_proba": table["score"]}
    write_csv(directory / "log.csv", log)
    write_csv(directory / "together.csv", {**log, "repaid": table["label"]})
    rows = labelled[::-1]
    write_csv(directory / "truth.csv", {"id": list(rows), "repaid": [table["label"][row] for row in rows]})


def test_labels_of_another_table_are_those_of_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    apart = replayed(monkeypatch, tmp_path, "-i", "log.csv", "--labels", "truth.csv", "--model", "m")
    assert "score: y_pred_proba, target: repaid" in apart.err
    assert "truth.csv: 4,000 of these rows have a label in it" in apart.err
    options = ("--model", "m", "--prediction-id", "id", "--target", "repaid")
    together = replayed(monkeypatch, tmp_path, "-i", "together.csv", *options)
    assert "concept_drift" in {alert["kind"] for alert in apart.alerts}
    assert apart.alerts == together.alerts


def test_rows_without_a_label_are_predictions_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, labelled=range(0, ROWS, 4))
    with (tmp_path / "truth.csv").open("a", encoding="utf-8") as file:
        file.write(",1\n")  # of no prediction: and the ids are numbers of which one is missing now
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv", "--labels", "truth.csv")
    assert (said.summary["events"], said.summary["labels"]) == (ROWS, ROWS // 4)


def test_labels_may_be_rows_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In which an id may be text that is a number in the other table."""
    write(tmp_path)
    labels = columns(ROWS, wrong_from=ROWS // 2)["label"]
    lines = [json.dumps({"prediction": str(row), "label": label}) for row, label in enumerate(labels)]
    (tmp_path / "truth.jsonl").write_text("\n".join(lines), encoding="utf-8")
    table = columns(ROWS, wrong_from=ROWS // 2)
    write_csv(tmp_path / "log.csv", {"prediction": list(range(ROWS)), "amount": table["amount"]})
    options = ("--prediction-id", "prediction")
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv", "--labels", "truth.jsonl", *options)
    assert (said.summary["events"], said.summary["labels"]) == (ROWS, ROWS)


def test_columns_of_a_baseline_that_the_log_lacks_are_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the true label mostly is one."""
    write(tmp_path)
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv", "--baseline", "together.csv")
    assert said.summary["incidents"] == []
    assert "together.csv: the replayed table has no repaid: not compared" in said.err
    assert "taken as usual" not in said.err


@pytest.mark.parametrize(
    ("header", "options", "says"),
    [
        ("number,repaid", (), "truth.csv: --prediction-id is to say which column it is: none fits"),
        ("id,amount,repaid", (), "--prediction-id is to say which column it is: id, amount"),
        ("id,amount", ("--prediction-id", "id"), "the table has labels of its own, in 'amount'"),
        ("id,paid,late", (), "--target is to say which column it is: paid, late"),
        ("id,repaid", ("--prediction-id", "number"), "only one of both tables has the column 'number'"),
        ("id,repaid", ("--target", "paid"), "no column 'paid'"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, options: Sequence[str], says: str
) -> None:
    write(tmp_path)
    row = ",".join("1" for _ in header.split(","))
    (tmp_path / "truth.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert says in refusal(monkeypatch, tmp_path, "-i", "log.csv", "--labels", "truth.csv", *options)


def test_a_file_of_events_holds_its_labels_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    event = {"model_id": "m", "timestamp": "2026-01-01T00:00:00Z", "features": {"amount": 1.0}}
    (tmp_path / "log.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    assert "holds events" in refusal(monkeypatch, tmp_path, "-i", "log.jsonl", "--labels", "truth.csv")
    assert "no such file" in refusal(monkeypatch, tmp_path, "-i", "log.csv", "--labels", "none.csv")
