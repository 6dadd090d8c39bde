"""What the page and the document say of labels: performance, coverage, comparison, retraining."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from streamdrift.detectors.error_stream import ErrorShift
from streamdrift.http.api import status
from streamdrift.http.page import render
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.status import ModelState, ModelStatus, Snapshot
from tests.support.statuses import CONFIG, DAY_US, OUTCOMES, RETRAINING, WINDOWS, coverage

NOW_S = 12.5 * DAY_US / 1e6
MODEL = ModelStatus("fraud", "7", ModelState.WATCHING, "b1", 2_000, 40, 12 * DAY_US, 900)
SNAPSHOT = Snapshot(models=[MODEL], outcomes=[OUTCOMES], retraining=[RETRAINING])


def text(snapshot: Snapshot) -> str:
    """The page as it is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", render(snapshot, NOW_S)))


@pytest.mark.parametrize(
    "expected",
    [
        "1,205 of 2,000 predictions",
        "waiting for a label 450",
        "expired 300",
        "sampled out 45",
        "too late for their window 11",
        "delay of 90% of the labels at most 1 h 8 min",
        "accuracy below 0.78 ± 0.013 1,000 labels 0.9 0.02 0.9 ± 0.021 200 labels",
        "recall not judged 0.78",
        "roc auc undefined no outcome has probabilities",
        "Measured: 1970-01-04 00:00:00 UTC to 1970-01-05 00:00:00 UTC, 80.0 % of the predictions labelled",
        "Provisional: 1970-01-12 00:00:00 UTC to 1970-01-13 00:00:00 UTC, 50.0 % of the predictions labelled",
        "performance since",
        "Against version 6 accuracy 0.78 of 1,000 labels, 0.12 worse than the 0.9 of its predecessor, by 7.4 standard",
        "request 5f3c1b9a7d20e486 is open.",
        "labels since the last training 1,205",
        "decay waits: a request is open",
    ],
)
def test_the_page_says(expected: str) -> None:
    assert expected in text(SNAPSHOT)


def test_an_incident_of_labels_counts_among_the_open_ones() -> None:
    assert "<title>(1) streamdrift</title>" in render(SNAPSHOT, NOW_S)
    assert "1 critical" in text(SNAPSHOT)


def test_before_a_window_can_be_measured_it_is_said_why() -> None:
    few = replace(OUTCOMES, windows=replace(WINDOWS, windows=WINDOWS.windows[:1]))
    assert "No window can be measured yet: 5 of at least 100 labels." in text(Snapshot(models=[MODEL], outcomes=[few]))
    nothing = replace(OUTCOMES, windows=None)
    assert "No window can be measured yet." in text(Snapshot(models=[MODEL], outcomes=[nothing]))


def test_while_the_task_is_learned_that_is_said() -> None:
    learning = replace(OUTCOMES, grid=None, targets=(), windows=None)
    assert "Learning from the first labels what is predicted." in text(Snapshot(models=[MODEL], outcomes=[learning]))


def test_the_errors_are_told_of_in_a_sentence() -> None:
    errors = ErrorShift(
        alarm=True,
        changed=False,
        worse=True,
        before=0.1,
        after=0.3,
        n_before=900,
        n_after=900,
        onset=3,
        evidence_ratio=2.0,
        detections=0,
        binary=True,
    )
    shown = text(Snapshot(models=[MODEL], outcomes=[replace(OUTCOMES, errors=errors)]))
    assert "The error rate rose from 0.1 to 0.3." in shown


def test_labels_of_no_known_prediction_are_shown_too() -> None:
    orphans = OutcomeStatus("fraud", "", None, DAY_US, (), None, coverage(0, 0, orphan=17), None)
    shown = text(Snapshot(models=[MODEL], outcomes=[orphans]))
    assert "fraud labels of no known prediction" in shown
    assert "orphaned labels 17" in shown


def test_a_model_without_labels_has_neither_performance_nor_retraining() -> None:
    shown = text(Snapshot(models=[MODEL]))
    assert "Performance" not in shown
    assert "Retraining" not in shown


def test_hostile_names_stay_text() -> None:
    evil = "<script>alert(1)</script>"
    retraining = RetrainingStatus(evil, evil, None, evil, 0, {evil: evil}, {evil: 1})
    outcomes = replace(OUTCOMES, model_id=evil, model_version=evil)
    model = replace(MODEL, model_id=evil, model_version=evil)
    page = render(Snapshot(models=[model], outcomes=[outcomes], retraining=[retraining]), NOW_S)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_the_document_holds_what_the_page_shows() -> None:
    document = json.loads(json.dumps(status(SNAPSHOT, NOW_S)))
    [outcomes], [retraining] = document["outcomes"], document["retraining"]
    assert (outcomes["task"], outcomes["classes"]) == ("binary", ["legit", "fraud"])
    assert outcomes["window_seconds"] == CONFIG.window_us / 1e6
    assert [window["coverage"] for window in outcomes["windows"]] == [5 / 300, 0.5, 0.8]
    newest, _, closed = (window["metrics"][0] for window in outcomes["windows"])
    assert (newest["standing"], newest["value"], newest["reason"]) == (
        "too_few_labels",
        None,
        "5 of at least 100 labels",
    )
    assert (closed["standing"], closed["value"], closed["n"]) == ("measured", 0.78, 1_000)
    fates = outcomes["coverage"]
    gone = fates["labelled"] + fates["expired"] + fates["sampled_out"]
    assert gone + outcomes["pending"] == fates["predicted"] == 2_000
    assert retraining["open_request"] == "5f3c1b9a7d20e486"
    assert retraining["held_back"] == {"decay": "a request is open"}
    [accuracy] = retraining["comparison"]
    assert (accuracy["metric"], accuracy["before"]["value"], accuracy["after"]["value"]) == ("accuracy", 0.9, 0.78)
