"""The AsyncAPI document: of the topics that there are, with headers as they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from streamdrift.events import SourceKind
from streamdrift.records import OutputRecord
from streamdrift.requests_topic import EVENT_TYPE as RETRAINING
from streamdrift.requests_topic import REQUESTED
from streamdrift.retraining import End
from streamdrift.settings import Settings
from streamdrift.stages.detect import EVENT_TYPE as INCIDENT
from tests.test_requests_topic import headers, written

HERE = Path(__file__).parents[1] / "config/schemas"
DOCUMENT: dict[str, Any] = yaml.safe_load((HERE / "asyncapi.yaml").read_text(encoding="utf-8"))


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolved(reference: str) -> dict[str, Any]:
    found = DOCUMENT
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    if reference.startswith("#/"):
        assert resolved(reference)
    else:
        assert (HERE / reference).is_file()


def test_the_channels_are_the_topics_that_others_read_and_write() -> None:
    settings = Settings.load(
        None, {"kafka.bootstrap_servers": "a:9092", "sources": [{"topic": "p", "kind": "predictions"}]}, {}
    )
    written_by_us = {settings.topics.alerts, settings.topics.retraining_requests, settings.topics.dead_letters}
    actions = {
        resolved(operation["channel"]["$ref"])["address"]: operation["action"]
        for operation in DOCUMENT["operations"].values()
    }
    assert {topic for topic, action in actions.items() if action == "send"} == written_by_us
    assert {topic for topic, action in actions.items() if action == "receive"} == {str(kind) for kind in SourceKind}
    assert set(actions) == set(DOCUMENT["channels"])


def test_the_types_of_events_are_those_that_are_sent() -> None:
    types = DOCUMENT["components"]["schemas"]["cloudEvent"]["properties"]["ce_type"]["enum"]
    phases = [INCIDENT + phase for phase in ("started", "updated", "resolved")]
    assert types == [*phases, RETRAINING + REQUESTED, *(RETRAINING + end for end in End)]


@pytest.mark.parametrize("record", written(), ids=lambda record: headers(record)["ce_id"])
def test_headers_are_as_the_document_says(record: OutputRecord) -> None:
    Draft202012Validator(DOCUMENT["components"]["schemas"]["cloudEvent"]).validate(headers(record))
