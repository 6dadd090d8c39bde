"""The demo's verdict: what counts as found, missed and unexpected."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from streamdrift.demo.verdict import AlertData, Verdict, to_document, verdict
from streamdrift.generator import ScriptedIncident
from streamdrift.generator.effects import Scaled

ONSET = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = HOUR

BUG = ScriptedIncident(
    "bug",
    "data_drift",
    "amount",
    ONSET,
    ONSET + 4 * HOUR,
    ONSET + 8 * HOUR,
    Scaled("amount", 100.0),
    "eu",
    frozenset({"prediction.score", "velocity"}),
)
MOVED = ScriptedIncident(
    "moved", "concept_drift", "error",
    ONSET + 20 * HOUR, ONSET + 30 * HOUR, ONSET + 40 * HOUR, Scaled("amount", 1.0), explains=frozenset({"recall"}),
)  # fmt: skip


def alert(
    hours: float, *features: str, onset: float = 0.0, kind: str = "data_drift", phase: str = "started"
) -> AlertData:
    """An alert so many hours after the bug's onset, whose contributors began ``onset`` hours after it."""
    began = (ONSET + onset * HOUR).isoformat()
    return {
        "incident_id": "i1",
        "phase": phase,
        "kind": kind,
        "features": [{"feature": feature, "onset": began} for feature in features],
        "event_time": (ONSET + hours * HOUR).isoformat().replace("+00:00", "Z"),
    }


def judge(*alerts: AlertData, script: tuple[ScriptedIncident, ...] = (BUG,)) -> Verdict:
    return verdict(script, alerts, WINDOW)


def test_an_alert_of_the_kind_that_names_the_feature_in_time_finds_the_incident() -> None:
    judged = judge(alert(3, "amount"))
    assert judged.passed
    assert judged.found == {"bug": ONSET + 3 * HOUR}
    assert (judged.expected, judged.missed, judged.unexpected) == (("bug",), (), ())


def test_the_first_alert_counts_as_the_time_of_the_finding() -> None:
    assert judge(alert(3, "amount"), alert(2, "amount")).found == {"bug": ONSET + 2 * HOUR}


def test_a_feature_that_joins_an_open_incident_is_found_too() -> None:
    assert judge(alert(1, "velocity"), alert(2, "velocity", "amount", phase="updated")).passed


def test_silence_misses_every_incident_that_can_be_found() -> None:
    judged = judge()
    assert judged.missed == ("bug",)
    assert not judged.passed


def test_an_alert_after_the_deadline_finds_nothing_and_is_explained_all_the_same() -> None:
    judged = judge(alert(4.1, "amount"))
    assert judged.missed == ("bug",)
    assert judged.unexpected == ()


def test_an_alert_at_the_deadline_is_in_time() -> None:
    assert judge(alert(4, "amount")).passed


def test_another_kind_finds_nothing_and_is_unexpected() -> None:
    judged = judge(alert(3, "amount", kind="data_quality"))
    assert judged.missed == ("bug",)
    assert [told.kind for told in judged.unexpected] == ["data_quality"]


def test_a_resolved_alert_finds_nothing_and_tells_of_nothing_unexpected() -> None:
    judged = judge(alert(3, "amount", "country", phase="resolved"))
    assert judged.missed == ("bug",)
    assert judged.unexpected == ()


def test_an_alert_before_the_onset_is_unexpected_even_about_the_right_feature() -> None:
    judged = judge(alert(-0.1, "amount", onset=-0.5))
    assert judged.missed == ("bug",)
    assert len(judged.unexpected) == 1


def test_a_contributor_may_begin_a_window_before_the_onset_but_not_earlier() -> None:
    assert judge(alert(3, "amount", onset=-1)).passed
    assert len(judge(alert(3, "amount", onset=-1.1)).unexpected) == 1


def test_an_update_long_after_the_end_is_explained_while_its_contributor_began_in_the_span() -> None:
    assert judge(alert(3, "amount"), alert(12, "amount", phase="updated")).passed


def test_a_contributor_that_begins_more_than_a_window_after_the_end_is_unexpected() -> None:
    assert judge(alert(3, "amount"), alert(12, "amount", onset=9)).passed
    assert len(judge(alert(3, "amount"), alert(12, "amount", onset=9.1)).unexpected) == 1


def test_a_feature_that_the_script_knows_nothing_of_is_unexpected_and_told_once() -> None:
    judged = judge(alert(3, "amount", "country"), alert(4, "amount", "country", phase="updated"))
    assert judged.found
    assert not judged.passed
    (told,) = judged.unexpected
    assert (told.incident_id, told.kind, told.feature) == ("i1", "data_drift", "country")
    assert told.event_time == "2026-03-02T11:00:00Z"


def test_consequences_are_explained_in_their_own_kind() -> None:
    found = alert(3, "amount", "velocity")
    assert judge(found, alert(3, "prediction.score", kind="prediction_drift")).passed
    assert len(judge(found, alert(3, "prediction.score")).unexpected) == 1
    assert len(judge(found, alert(3, "velocity", kind="prediction_drift")).unexpected) == 1


def test_consequences_alone_find_nothing() -> None:
    assert judge(alert(3, "velocity")).missed == ("bug",)


# ---- labels, and what follows from them ------------------------------------------------------------------------------


def of_errors(hours: float, *, onset: float = 22, phase: str = "started") -> AlertData:
    return {**alert(hours, "error", onset=onset, kind="concept_drift", phase=phase), "incident_id": "i2"}


def of_recall(hours: float, *, onset: float = 17, phase: str = "started") -> AlertData:
    metrics = [{"metric": "recall", "onset": (ONSET + onset * HOUR).isoformat()}]
    return {**alert(hours, kind="performance", phase=phase), "incident_id": "i3", "metrics": metrics}


def retraining(hours: float, phase: str, better_by: float | None = None) -> AlertData:
    comparison = [] if better_by is None else [{"metric": "recall", "better_by": better_by}]
    return {"phase": phase, "event_time": (ONSET + hours * HOUR).isoformat(), "comparison": comparison}


ALERTS = (
    of_errors(24), of_recall(28), of_errors(29, phase="updated"), of_errors(44, phase="resolved"),
    of_recall(44, phase="resolved"),
)  # fmt: skip
REQUESTS = (retraining(30, "requested"), retraining(35, "fulfilled"), retraining(46, "fulfilled", 0.4))


def test_a_change_of_concept_is_closed_by_a_version_that_is_better() -> None:
    judged = verdict((MOVED,), ALERTS, WINDOW, REQUESTS)
    assert judged.passed
    assert judged.found == {"moved": ONSET + 24 * HOUR}
    hours = {step: time and (time - ONSET) / HOUR for step, time in judged.loop.items()}
    assert hours == {"performance": 28, "requested": 30, "fulfilled": 35, "better": 46, "resolved": 44}


def test_each_step_that_is_not_told_of_is_missing() -> None:
    missing = {
        "performance": ([a for a in ALERTS if a["kind"] != "performance"], REQUESTS),
        "requested": (ALERTS, REQUESTS[1:]),
        "fulfilled": (ALERTS, REQUESTS[:1]),
        "better": (ALERTS, [*REQUESTS[:2], retraining(46, "fulfilled", -0.1)]),
        "resolved": ([a for a in ALERTS if (a["incident_id"], a["phase"]) != ("i2", "resolved")], REQUESTS),
    }
    for step, (alerts, requests) in missing.items():
        judged = verdict((MOVED,), alerts, WINDOW, requests)
        assert judged.loop[step] is None
        assert not judged.passed


def test_a_request_before_the_change_is_no_step() -> None:
    judged = verdict((MOVED,), ALERTS, WINDOW, [retraining(19, "requested"), *REQUESTS[1:]])
    assert judged.loop["requested"] is None


def test_labels_may_tell_of_an_incident_hours_after_it_and_not_before() -> None:
    wrong = dataclasses.replace(BUG, explains=frozenset({"error"}))
    resolved = {**of_errors(30, phase="resolved")}
    late = [alert(3, "amount"), of_errors(19, onset=18), resolved]
    assert verdict((wrong,), late, WINDOW).unexpected == ()
    assert len(verdict((wrong,), [of_errors(-1, onset=-2)], WINDOW).unexpected) == 1
    assert len(verdict((wrong,), [of_errors(40, onset=39)], WINDOW).unexpected) == 1
    assert len(verdict((BUG,), late, WINDOW).unexpected) == 1


@pytest.mark.parametrize(("feature", "kind"), [("loss", "concept_drift"), ("label", "label_drift")])
def test_losses_and_labels_tell_of_a_consequence_as_errors_do(feature: str, kind: str) -> None:
    wrong = dataclasses.replace(BUG, explains=frozenset({feature}))
    told = {**alert(19, feature, onset=18, kind=kind), "incident_id": "i2"}
    assert verdict((wrong,), [alert(3, "amount"), told], WINDOW).passed
    assert len(verdict((wrong,), [{**told, "kind": "data_drift"}], WINDOW).unexpected) == 1
    assert len(verdict((BUG,), [told], WINDOW).unexpected) == 1


# ---- the document ----------------------------------------------------------------------------------------------------


def test_without_incidents_any_alert_is_unexpected_also_one_without_contributors() -> None:
    assert judge(script=()).passed
    assert len(judge(alert(3, "amount"), script=()).unexpected) == 1
    judged = judge(alert(3, kind="no_data"), script=())
    assert [(told.kind, told.feature) for told in judged.unexpected] == [("no_data", None)]


def test_the_document_is_the_last_line_of_the_demo() -> None:
    script = (BUG, MOVED)
    judged = verdict(script, [alert(3, "amount", "country"), of_recall(28)], WINDOW, REQUESTS[:1])
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(to_document(judged, script)))
    assert document["incidents_expected"] == ["bug", "moved"]
    assert (document["found"], document["missed"]) == (["bug"], ["moved"])
    assert document["loop"] == {
        "performance": "2026-03-03T12:00:00Z",
        "requested": "2026-03-03T14:00:00Z",
        "fulfilled": None,
        "better": None,
        "resolved": None,
    }
    assert document["unexpected"] == [
        {"incident_id": "i1", "kind": "data_drift", "feature": "country", "event_time": "2026-03-02T11:00:00Z"}
    ]
    assert document["script"][0] == {
        "id": "bug",
        "kind": "data_drift",
        "feature": "amount",
        "segment": {"region": "eu"},
        "onset": "2026-03-02T08:00:00Z",
        "deadline": "2026-03-02T12:00:00Z",
        "end": "2026-03-02T16:00:00Z",
    }
