"""What stands on the topic of retraining requests: one key a request, readable by whoever begins at its start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from streamdrift.metrics import Estimate
from streamdrift.performance import Reading, Standing, Target, Verdict
from streamdrift.policies import Policy, Worse
from streamdrift.records import OutputRecord
from streamdrift.requests_topic import retraining_record
from streamdrift.retraining import LAPSES_AFTER_US, Ended, News, Request, Retraining

HOUR = 3_600_000_000
DAY = 24 * HOUR
POLICY = Policy("decay", (Worse("accuracy"),), DAY, min_labels=100, requires_approval=True)
PROVENANCE = {"published_at": "2026-11-22T10:00:00Z", "catching_up": False, "offsets": {"labels": {"0": [3, 9]}}}
SCHEMA = Draft202012Validator(
    json.loads((Path(__file__).parents[1] / "config/schemas/retraining-request.json").read_text(encoding="utf-8"))
)


def verdict(value: float, *, below: bool) -> Verdict:
    reading = Reading("accuracy", Standing.MEASURED, Estimate(value, 0.01, 1_000))
    return Verdict(0, Target("accuracy", 0.9), reading, 0.9 - value, below, int(below), alarm=below, changed=False)


def lived() -> list[Request | Ended]:
    """A model that decays, is trained anew, and decays again with nobody to train it."""
    retraining = Retraining("fraud", [POLICY])
    events: list[Request | Ended] = []
    for news in (
        News(HOUR, "7", labels=500),
        News(2 * HOUR, "7", verdicts=[verdict(0.78, below=True)]),
        News(2 * DAY, "8", labels=200),
        News(3 * DAY, "8", verdicts=[verdict(0.91, below=False)]),
        News(4 * DAY, "8", verdicts=[verdict(0.7, below=True)]),
        News(4 * DAY + LAPSES_AFTER_US, "8", verdicts=[verdict(0.9, below=False)]),
    ):
        events += retraining.step(news)
    return events


def written() -> list[OutputRecord]:
    return [retraining_record("retraining-requests", "/streamdrift", event, PROVENANCE) for event in lived()]


def data(record: OutputRecord) -> dict[str, Any]:
    assert record.value is not None
    found: dict[str, Any] = json.loads(record.value)
    return found


def headers(record: OutputRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers if value is not None}


def test_a_request_says_why_and_what_there_is_to_train_on() -> None:
    record = written()[0]
    found = data(record)
    assert record.topic == "retraining-requests"
    assert record.key == found["request_id"].encode()
    assert found == {
        "request_id": found["request_id"],
        "phase": "requested",
        "model_id": "fraud",
        "model_version": "7",
        "policy": "decay",
        "reason": "accuracy is worse than its benchmark by more than the tolerance",
        "incident_ids": [],
        "data_window": {"from": "1970-01-01T01:00:00Z", "to": "1970-01-01T02:00:00Z"},
        "labels": {"fresh": 500},
        "not_before": "1970-01-01T02:00:00Z",
        "requires_approval": True,
        "event_time": "1970-01-01T02:00:00Z",
        "provenance": PROVENANCE,
    }


def test_what_becomes_of_a_request_has_its_key_and_stands_for_itself() -> None:
    requested, fulfilled, compared, again, lapsed = written()
    assert requested.key == fulfilled.key == compared.key
    assert again.key == lapsed.key != requested.key
    assert [data(each)["new_version"] for each in (fulfilled, compared, lapsed)] == ["8", "8", None]
    assert all(data(each)["model_version"] == "7" for each in (requested, fulfilled, compared))
    assert data(compared)["requested_at"] == data(requested)["event_time"]
    assert [data(each)["comparison"] == [] for each in (fulfilled, compared, lapsed)] == [True, False, True]


def test_a_new_version_is_compared_with_its_predecessor_once_it_is_judged() -> None:
    [comparison] = data(written()[2])["comparison"]
    assert comparison["before"] == {"value": 0.78, "standard_error": 0.01, "n": 1_000}
    assert comparison["after"] == {"value": 0.91, "standard_error": 0.01, "n": 1_000}
    assert abs(comparison["better_by"] - 0.13) < 1e-12
    assert abs(comparison["standard_error"] - 0.01 * 2**0.5) < 1e-12


def test_every_message_is_a_cloud_event_with_an_id_of_its_own() -> None:
    found = [headers(record) for record in written()]
    assert [each["ce_type"].rpartition(".")[2] for each in found] == [
        *("requested", "fulfilled", "fulfilled", "requested", "lapsed")
    ]
    assert len({each["ce_id"] for each in found}) == len(found)
    for each in found:
        assert each["ce_type"].startswith("io.streamdrift.retraining.")
        assert (each["ce_specversion"], each["ce_source"], each["ce_subject"]) == ("1.0", "/streamdrift", "fraud")
        assert each["content-type"] == "application/json"


def test_the_same_events_give_the_same_bytes() -> None:
    assert written() == written()


def test_messages_are_as_the_schema_says() -> None:
    for record in written():
        SCHEMA.validate(data(record))
    request, _, compared, _, lapsed = map(data, written())
    assert not SCHEMA.is_valid({**request, "phase": "wanted"})
    assert not SCHEMA.is_valid({name: value for name, value in request.items() if name != "requires_approval"})
    assert not SCHEMA.is_valid({name: value for name, value in lapsed.items() if name != "comparison"})
    assert not SCHEMA.is_valid({**compared, "new_version": None})
