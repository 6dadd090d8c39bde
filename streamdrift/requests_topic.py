"""Retraining requests as records: what becomes of a request is one key, so that compaction keeps how it stands.

    requested ──▶ fulfilled   a new version took over; once more when its first window says how it compares
              └─▶ lapsed      nobody trained for so long

A record stands for itself: whoever reads the topic from its start knows all open requests without a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streamdrift.cloud_events import attributes
from streamdrift.evidence import rfc3339
from streamdrift.records import OutputRecord
from streamdrift.retraining import Ended, Request

EVENT_TYPE: Final = "io.streamdrift.retraining."
REQUESTED: Final = "requested"


def retraining_record(topic: str, source: str, event: Request | Ended, provenance: Mapping[str, Any]) -> OutputRecord:
    """The record of a request, or of its end, on ``topic``.

    ``source`` is the ``ce_source``; ``provenance`` says how the message came about (``published_at``, ``catching_up``,
    and the ``offsets`` between which the data window lies) and is no part of its identity.
    """
    if isinstance(event, Request):
        phase, sequence, data = REQUESTED, 0, request_data(event)
    else:
        phase, sequence, data = str(event.end), 2 if event.comparison else 1, end_data(event)
    return OutputRecord(
        topic,
        event.request_id.encode(),
        msgspec.json.encode({**data, "provenance": provenance}),
        attributes(EVENT_TYPE + phase, f"{event.request_id}-{sequence}", source, event.model_id, event.now_us),
    )


def request_data(request: Request) -> Mapping[str, Any]:
    """What is asked for, why, and what there is to train on."""
    return {
        "request_id": request.request_id,
        "phase": REQUESTED,
        "model_id": request.model_id,
        "model_version": request.model_version,
        "policy": request.policy,
        "reason": request.reason.sentence,
        "incident_ids": list(request.reason.incident_ids),
        "data_window": {"from": rfc3339(request.fresh_since_us), "to": rfc3339(request.now_us)},
        "labels": {"fresh": request.fresh_labels},
        "not_before": rfc3339(request.now_us),
        "requires_approval": request.requires_approval,
        "event_time": rfc3339(request.now_us),
    }


def end_data(ended: Ended) -> Mapping[str, Any]:
    """How a request ended, and how the new version compares."""
    return {
        "request_id": ended.request_id,
        "phase": str(ended.end),
        "model_id": ended.model_id,
        "model_version": ended.model_version,
        "policy": ended.policy,
        "requested_at": rfc3339(ended.asked_us),
        "new_version": ended.version if ended.version != ended.model_version else None,
        "comparison": [compared.data for compared in ended.comparison],
        "event_time": rfc3339(ended.now_us),
    }
