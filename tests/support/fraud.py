"""The fraud model's traffic, and configurations that watch it, for tests that run whole topologies."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from streamdrift.baselines import Baseline
from streamdrift.generator import (
    MODEL_ID,
    MODEL_VERSION,
    PREDICTIONS_TOPIC,
    Message,
    Traffic,
    fixed_script,
    training_table,
)
from streamdrift.generator.script import EVENTS_PER_HOUR
from streamdrift.records import OutputRecord
from streamdrift.settings import Settings
from streamdrift.tables import baseline_from_columns

SEED = 7
START = datetime(2026, 11, 2, tzinfo=UTC)


@functools.cache
def fraud_baseline(rows: int = 20_000) -> Baseline:
    """What the model was trained on; made once, since that takes longer than most tests."""
    return baseline_from_columns(training_table(SEED, rows), model_id=MODEL_ID, model_version=MODEL_VERSION)


@functools.cache
def fraud_events(hours: int = 22, *, incidents: bool = True) -> tuple[Message, ...]:
    """The demo's first hours: with incidents, a unit bug from 8:00 to 17:00 that starts and resolves two of them."""
    script = fixed_script(START) if incidents else ()
    traffic = Traffic(SEED, START, EVENTS_PER_HOUR / 3600, script, labels=False)
    return tuple(traffic.messages(until=START + timedelta(hours=hours)))


def settings(directory: Path, changes: Mapping[str, Any] | None = None, *, baseline: bool = True) -> Settings:
    """A configuration for these events, as a user would write it; ``changes`` by dotted key."""
    document: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "localhost:9092", "start_from": "earliest"},
        "sources": [{"topic": PREDICTIONS_TOPIC, "kind": "predictions", "end_of_stream": True}],
        "time": {"tick": "5m", "idle": "hold"},
        "http": {"host": "127.0.0.1", "port": 0},
    }
    if baseline:
        (directory / "fraud-7.json").write_bytes(fraud_baseline().to_json())
        document["models"] = {MODEL_ID: {"baselines": {MODEL_VERSION: "fraud-7.json"}}}
    path = directory / "streamdrift.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return Settings.load(path, changes, {})


def told(alerts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a subscriber knows in the end: the data of every alert without provenance, incident by incident.

    Within an incident the order stays; between incidents it is not promised, for they lie in several partitions.
    """
    data = [{key: value for key, value in alert.items() if key != "provenance"} for alert in alerts]
    return sorted(data, key=lambda alert: str(alert["incident_id"]))


def alert_data(record: OutputRecord) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(record.value or b"")
    return data
