"""What a person sees of labels in the demo: metrics next to their benchmarks, and what became of requests."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from streamdrift.demo.verdict import verdict
from streamdrift.demo.view import LiveDisplay, Picture, PlainDisplay, report
from streamdrift.outcome_status import OutcomeStatus
from tests.support.decay import log_of, partition, told, world
from tests.test_demo_verdict import ALERTS, MOVED, REQUESTS, WINDOW

REQUESTED: dict[str, Any] = {
    "phase": "requested",
    "event_time": "2026-11-22T02:00:00Z",
    "model_version": "7",
    "reason": "recall is worse than its benchmark",
}
FULFILLED: dict[str, Any] = {
    "phase": "fulfilled",
    "event_time": "2026-11-22T22:00:00Z",
    "new_version": "8",
    "comparison": [{"metric": "recall", "before": {"value": 0.16}, "after": {"value": 0.574}, "better_by": 0.414}],
}


def outcomes() -> list[OutcomeStatus]:
    subject = partition()
    told(subject, log_of(world(), end=False))
    return list(subject.outcome_status().values())


def shown(*objects: object) -> str:
    console = Console(file=io.StringIO(), width=140, height=60)
    for each in objects:
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]  # it is a StringIO


def test_the_live_view_shows_the_metrics_of_a_version_next_to_their_benchmarks() -> None:
    display = LiveDisplay(Console(width=140, height=60))
    display.retraining(REQUESTED)
    text = shown(display._render(Picture(1.0, 10, 100, None, outcomes=outcomes())))
    assert "version 8   accuracy 0.9" in text
    assert "(benchmark 0.900, tolerance 0.05)" in text
    assert "version 7: recall is worse than its benchmark" in text


def test_before_any_label_the_live_view_says_so() -> None:
    display = LiveDisplay(Console(width=140, height=60))
    assert "no labels so far" in shown(display._render(Picture(1.0, 10, 100, None)))


def test_plain_lines_tell_of_a_request_and_of_what_became_of_it() -> None:
    out = io.StringIO()
    display = PlainDisplay(Console(file=out, width=200))
    display.retraining(REQUESTED)
    display.retraining(FULFILLED)
    assert out.getvalue().splitlines() == [
        "11-22 02:00  retrain  requested version 7: recall is worse than its benchmark",
        "11-22 22:00  retrain  fulfilled version 8 is in service; recall 0.160 → 0.574",
    ]


def test_the_report_has_a_line_for_each_step_and_counts_those_that_are_missing() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    report(console, verdict((MOVED,), ALERTS, WINDOW, REQUESTS), (MOVED,))
    report(console, verdict((MOVED,), ALERTS, WINDOW, REQUESTS[:1]), (MOVED,))
    text = out.getvalue()
    assert "training requested                   03-03 14:00" in text
    assert "Everything was found, and nothing else." in text
    assert "2 missed, 0 unexpected." in text
