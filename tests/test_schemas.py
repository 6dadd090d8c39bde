"""JSON Schemas: valid, up to date, and true of what is read and written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from streamdrift.codecs import Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.codecs.labels import decode_label
from streamdrift.events import Batch, SourceKind
from streamdrift.monitor import Monitor, MonitorConfig
from streamdrift.records import RecordBatch
from streamdrift.schemas import SETTINGS_FILE, settings_schema
from streamdrift.settings import Settings
from streamdrift.summaries import Summary
from streamdrift.tables import baseline_from_columns

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "config/schemas"
NAMES = ("settings", "drift-alert", "retraining-request", "prediction", "feature", "label")


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_so_are_its_examples(name: str) -> None:
    validator = schema(name)
    assert isinstance(validator.schema, dict)
    Draft202012Validator.check_schema(validator.schema)
    for example in validator.schema.get("examples", ()):
        validator.validate(example)


def test_no_schema_is_forgotten() -> None:
    assert sorted(path.stem for path in SCHEMAS.glob("*.json")) == sorted(NAMES)


# ---- settings


def test_the_schema_of_the_settings_is_up_to_date() -> None:
    written = (ROOT / SETTINGS_FILE).read_text(encoding="utf-8")
    assert written == settings_schema(), "python -m streamdrift.schemas writes it anew"


@pytest.mark.parametrize("path", ["config/streamdrift.yaml", "deploy/kubernetes/base/streamdrift.yaml"])
def test_a_shipped_configuration_is_as_the_schema_says_and_is_read(path: str) -> None:
    schema("settings").validate(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))
    settings = Settings.load(ROOT / path, environment={"STREAMDRIFT__KAFKA__BOOTSTRAP_SERVERS": "localhost:9092"})
    assert settings.warnings() == []


def test_what_is_commented_out_in_the_example_is_right_too(tmp_path: Path) -> None:
    """Prose has one space behind its ``#``, and configuration none or more."""
    text = (ROOT / "config/streamdrift.yaml").read_text(encoding="utf-8")
    everything = re.sub(r"^( *)#(?=\S|  )", r"\1", text, flags=re.MULTILINE)
    assert yaml.safe_load(everything)["kafka"]["client"]["sasl.username"] == "streamdrift"
    schema("settings").validate(yaml.safe_load(everything))
    (tmp_path / "password").write_text("secret", encoding="utf-8")
    path = tmp_path / "streamdrift.yaml"
    path.write_text(everything.replace("/run/secrets/streamdrift/password", "password"), encoding="utf-8")
    settings = Settings.load(path, environment={})
    assert settings.kafka.properties()["sasl.password"] == "secret"
    assert settings.models["fraud"].features.named["amount"].river[0].alarm
    assert settings.warnings() == []


@pytest.mark.parametrize(
    "broken",
    [
        {"time": {"tick": 10}},
        {"time": {"tik": "10s"}},
        {"http": {"port": 65_536}},
        {"sources": [{"topic": "a"}]},
        {"fleet": {"false_alarms": "1 week"}},
        {"models": {"m": {"features": {"amount": {"wieght": 2}}}}},
        {"kafka": {"client": {"sasl.password": {"fil": "x"}}}},
    ],
)
def test_what_is_refused_is_not_as_the_schema_says(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schema("settings").validate(broken)


# ---- events


def decoded(name: str, event: object) -> int:
    source = Source("t", SourceKind.PREDICTIONS if name == "prediction" else SourceKind.FEATURES)
    value = json.dumps(event).encode()
    batch = RecordBatch("t", 0, [0], [1_700_000_000_000], [None], [value], [()])
    return len(JsonDecoder(source, lambda _model, _version: None).decode(batch).batches)


@pytest.mark.parametrize("name", ["prediction", "feature"])
def test_an_event_that_the_schema_allows_is_decoded_and_one_that_it_refuses_is_not(name: str) -> None:
    validator = schema(name)
    [good] = validator.schema["examples"]  # type: ignore[index]  # a schema is no boolean here
    assert decoded(name, good) == 1
    part = "prediction" if name == "prediction" else "features"
    wrong: list[dict[str, Any]] = [{"model_id": None}, {part: None}, {"features": [1]}, {"timestamp": {}}]
    for change in [*wrong, {"model_id": True}]:
        assert not validator.is_valid(good | change)
        assert decoded(name, good | change) == 0, change
    fine: list[dict[str, Any]] = [{"timestamp": None}, {"prediction_id": 7}, {"features": {}}, {"more": 1}]
    for change in [*fine, {"model_version": 7}]:
        assert validator.is_valid(good | change), change
        assert decoded(name, good | change) == 1, change


def test_a_label_that_the_schema_allows_is_decoded_and_one_that_it_refuses_is_not() -> None:
    validator = schema("label")
    [good] = validator.schema["examples"]  # type: ignore[index]
    assert decode_label(json.dumps(good).encode()).label == "fraud"
    for change in ({"label": None}, {"prediction_id": None}, {"label": [1]}, {"revision": "x"}):
        assert not validator.is_valid(good | change)
        with pytest.raises(ValueError, match=r"Expected|neither"):
            decode_label(json.dumps(good | change).encode())
    assert validator.is_valid(good | {"label": None, "value": 1.5})


# ---- alerts


def test_alerts_are_as_the_schema_says() -> None:
    rng = np.random.default_rng(1)
    columns = {
        "amount": rng.normal(size=5_000),
        "country": rng.choice(["DE", "FR"], size=5_000).tolist(),
        "prediction.score": rng.random(5_000),
    }
    baseline = baseline_from_columns(columns, model_id="fraud", model_version="7")
    monitor = Monitor(MonitorConfig(60_000_000, 3_600_000_000), "fraud", "7", baseline)
    alerts = []
    for tick, shift in enumerate([0.0] * 4 + [2.0] * 30 + [0.0] * 40):
        values = np.column_stack([rng.normal(shift, size=500), rng.integers(0, 2 + (shift > 0), 500), rng.random(500)])
        unseen = tuple((int(row), 1, "US") for row in np.flatnonzero(values[:, 1] == 2))
        batch = Batch(
            baseline.grid,
            np.full(500, tick * 60_000_000),
            rng.integers(0, 1 << 62, 500).astype(np.uint64),
            values,
            np.empty((0, 2), dtype=np.int64),
            unseen,
        )
        alerts += monitor.close(tick, Summary.of(batch))
    validator = schema("drift-alert")
    provenance = {
        "published_at": "2026-11-22T10:00:00Z",
        "catching_up": False,
        "offsets": {"predictions": {"0": [1, 2]}},
    }
    for alert in alerts:
        validator.validate(json.loads(msgspec.json.encode({**alert.data, "provenance": provenance})))
    assert {str(alert.phase) for alert in alerts} == {"started", "updated", "resolved"}
    assert {alert.data["kind"] for alert in alerts} == {"data_drift", "data_quality"}
    assert not validator.is_valid({**alerts[0].data, "severity": "bad"})
    assert not validator.is_valid({**alerts[0].data, "resolution": "recovered"})
