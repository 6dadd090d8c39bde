"""What must not leave the codec does not: a canary is looked for in everything that is written or shown."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from streamdrift.assembly import topology
from streamdrift.baselines import Baseline
from streamdrift.codecs import Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.events import Batch
from streamdrift.grids import Column, Derived, Grid, Kind
from streamdrift.http import api, page
from streamdrift.privacy import Fate, Privacy
from streamdrift.records import OutputRecord, RecordBatch
from streamdrift.settings import Settings
from streamdrift.status import Snapshot
from streamdrift.tables import baseline_from_columns
from streamdrift.telemetry import StreamdriftCollector
from streamdrift.topology import Topology, TopologyDriver

RULES = Privacy(drop=("customer", "*.secret", "prediction.label"), hash=("email", "card.*"), salt=b"salt")

# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fate"),
    [
        ("customer", Fate.DROPPED), ("customer.name", Fate.DROPPED), ("customers", Fate.KEPT), ("secret", Fate.KEPT),
        ("a.b.secret", Fate.DROPPED), ("a.b.secret.x", Fate.DROPPED), ("email", Fate.HASHED), ("card", Fate.KEPT),
        ("card.number", Fate.HASHED), ("card.secret", Fate.DROPPED), ("prediction.label", Fate.DROPPED),
        ("prediction.score", Fate.KEPT),
    ],
)  # fmt: skip
def test_a_glob_covers_what_it_matches_and_all_below(name: str, fate: Fate) -> None:
    assert RULES.fate(name) is fate


def test_dropped_values_are_gone_and_hashed_ones_are_pseudonyms() -> None:
    kept = RULES.features({
        "customer": {"name": "Ada"}, "email": "ada@x.org", "amount": 3, "customer.city": "Paris",
        "card": {"number": 4711, "valid": True, "gone": None, "nan": float("nan"), "list": [1, 2], "secret": 1},
    })  # fmt: skip
    assert kept == {
        "email": RULES.hashed("ada@x.org"), "amount": 3,
        "card": {"number": RULES.hashed("4711"), "valid": RULES.hashed("true"), "gone": None, "nan": None, "list": []},
    }  # fmt: skip
    assert RULES.prediction({"label": "fraud", "score": 0.5}) == {"score": 0.5}
    assert Privacy(salt=b"other").hashed("ada@x.org") != RULES.hashed("ada@x.org")


def test_without_rules_values_are_not_touched() -> None:
    features = {"customer": {"name": "Ada"}}
    assert Privacy().features(features) is features


def test_what_is_too_deep_to_be_looked_into_is_left_out() -> None:
    deep: dict[str, Any] = {"email": "x"}
    for _ in range(100):
        deep = {"d": deep}
    assert "email" not in json.dumps(RULES.features(deep))


@given(
    st.dictionaries(st.sampled_from(["email", "amount"]), st.sampled_from(["a", "b", "new", True, 3, 3.0, None, []]))
)
def test_a_hashed_column_counts_as_the_values_themselves_would(features: dict[str, Any]) -> None:
    plain = Grid("m", "1", tuple(Column(name, Kind.CATEGORICAL, categories=("a", "b", "true")) for name in ("email",)))
    hidden = Grid("m", "1", tuple(filter(None, map(RULES.column, plain.columns))))
    one, other = (decoded(features, plain, Privacy()), decoded(features, hidden, RULES))
    if features.get("email") not in (True, 3):  # of which the type is lost
        assert one.values[0].tolist() == pytest.approx(other.values[0].tolist(), nan_ok=True)
        assert one.type_errors.tolist() == other.type_errors.tolist()
        assert len(one.unseen) == len(other.unseen)


def decoded(features: dict[str, Any], grid: Grid, privacy: Privacy) -> Batch:
    value = json.dumps({"model_id": "m", "model_version": "1", "features": features, "prediction": {}}).encode()
    decoder = JsonDecoder(Source("t", privacy=privacy), lambda *_: grid)
    [part] = decoder.decode(RecordBatch("t", 0, [0], [1], [None], [value], [()])).batches
    return part.events


def test_a_column_of_numbers_or_of_derived_values_cannot_be_hashed() -> None:
    assert RULES.column(Column("email", Kind.NUMERIC)) is None
    assert RULES.column(Column("email.length", Kind.NUMERIC, derived=Derived.LENGTH)) is None
    assert RULES.column(Column("customer", Kind.CATEGORICAL)) is None
    assert RULES.column(Column("amount", Kind.NUMERIC)) == Column("amount", Kind.NUMERIC)


# ---- the canary ------------------------------------------------------------------------------------------------------

CANARY = "canary7f3a"


class Recording(TopologyDriver):
    """Keeps everything that was ever written, to whatever topic."""

    def __init__(self, topology: Topology, **more: Any) -> None:  # noqa: ANN401
        self.written: list[OutputRecord] = []
        super().__init__(topology, **more)

    def _produce(self, record: OutputRecord) -> None:
        self.written.append(record)
        super()._produce(record)

    def topics_with(self, text: str) -> set[str]:
        return {record.topic for record in self.written if any(text.encode() in part for part in _parts(record))}

    def shown(self) -> dict[str, str]:
        snapshot = Snapshot(self.summarise.status(), tuple(self.detect.models.values()), (), 0)
        registry = CollectorRegistry()
        registry.register(StreamdriftCollector(lambda: snapshot))
        return {
            "page": str(page.render(snapshot, self.now)),
            "api": json.dumps(api.status(snapshot, self.now)),
            "metrics": generate_latest(registry).decode(),
        }


def _parts(record: OutputRecord) -> list[bytes]:
    value = record.value or b""
    with suppress(zlib.error):
        value = zlib.decompress(value)
    headers = [part for name, text in record.headers for part in (name.encode(), text or b"")]
    return [record.key or b"", value, *headers]


def settings(tmp_path: Path, **more: Any) -> Settings:  # noqa: ANN401
    baseline(tmp_path / "shop.json")
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "localhost:9092"},
            "sources": [{"topic": "t", "kind": "predictions", "end_of_stream": True}],
            "models": {"shop": {"baselines": {"1": tmp_path / "shop.json"}}},
            "defaults": {"warm_up": {"events": 400, "at_least": 100}},
            **more,
        }
    )


def baseline(path: Path, count: int = 2_000) -> Baseline:
    columns: dict[str, Any] = {
        "email": [f"{CANARY}-{i % 3}" for i in range(count)],
        "customer.name": [f"{CANARY}-{i % 4}" for i in range(count)],
        "amount": [i % 97 / 7 for i in range(count)],
        "country": [("DE", "FR", "IT")[i % 3] for i in range(count)],
        "prediction.score": [i % 89 / 89 for i in range(count)],
    }
    built = baseline_from_columns(columns, model_id="shop", model_version="1")
    path.write_bytes(built.to_json())
    return built


def event(i: int, model: str, **features: object) -> bytes:
    return json.dumps(
        {
            "model_id": model,
            "model_version": "1",
            "prediction_id": f"{CANARY}-{i}",
            "timestamp": 1_795_000_000 + i // 10,
            "features": {
                "email": f"{CANARY}-{5 if i > 1_000 else i % 3}",
                "customer": {"name": f"{CANARY} {i}", "note": [CANARY]},
                "amount": i % 97 / 7 + (50 if i > 1_000 else 0),
                "country": ("DE", "FR", "IT")[i % 3],
                **features,
            },
            "prediction": {"score": i % 89 / 89},
        }
    ).encode()


BROKEN = (
    b'{"model_id": "shop", "features": "%s"',
    b'{"model_id": "shop", "timestamp": "%s", "prediction": {}, "features": {}}',
    b'{"model_id": "shop", "features": "%s", "prediction": "%s"}',
    b'["%s"]',
    b"\xff%s",
)


def driven(configuration: Settings, count: int = 5_000) -> Recording:
    driver = Recording(topology(configuration), now=1_795_010_000.0)
    for i in range(count):
        headers = [("trace", CANARY.encode())]
        for model in ("shop", "wild"):
            driver.send("t", event(i, model), key=f"{CANARY}-{i}".encode(), headers=headers)
    for broken in BROKEN:
        driver.send("t", broken.replace(b"%s", CANARY.encode()), key=CANARY.encode(), headers=headers)
    driver.run()
    driver.end_of_stream()
    driver.run()
    driver.stop()
    return driver


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    rules = {"drop": ["customer"], "hash": ["email"], "salt": "pepper"}
    return driven(settings(tmp_path_factory.mktemp("private"), privacy=rules))


def test_nothing_that_is_dropped_or_hashed_is_written_to_any_topic(private: Recording) -> None:
    assert {record.topic for record in private.written} >= {
        "streamdrift-summaries", "streamdrift-state", "streamdrift-grids", "drift-alerts", "dead-letters",
    }  # fmt: skip
    assert len(private.read("dead-letters")) == len(BROKEN)
    assert private.topics_with(CANARY) == set()


def test_nothing_that_is_dropped_or_hashed_is_shown(private: Recording) -> None:
    shown = private.shown()
    assert {name for name, text in shown.items() if CANARY in text} == set()
    assert all("shop" in text and "email" in text for text in shown.values())


def test_a_change_of_a_hashed_feature_is_still_seen(private: Recording) -> None:
    features = {feature["feature"] for alert in private.alerts for feature in alert["features"]}
    assert {"email", "amount"} <= features
    assert "customer.name" not in features
    assert private.topics_with(Privacy(salt=b"pepper").hashed(f"{CANARY}-5")) >= {"drift-alerts"}


def test_without_privacy_the_canary_is_found(tmp_path: Path) -> None:
    driver = driven(settings(tmp_path), 1_500)
    assert driver.topics_with(CANARY) >= {"streamdrift-summaries", "streamdrift-grids", "dead-letters"}


def test_dead_letters_carry_the_message_only_where_that_is_meant(tmp_path: Path) -> None:
    rules = {"drop": ["customer"]}
    for more, carried in (
        ({}, True),
        ({"privacy": rules}, False),
        ({"dead_letters": "metadata_only"}, False),
        ({"privacy": rules, "dead_letters": "raw"}, True),
    ):
        driver = Recording(topology(settings(tmp_path, **more)), now=1_795_010_000.0)
        driver.send("t", b'{"%s": ' % CANARY.encode(), key=CANARY.encode())
        driver.run()
        [letter] = driver.read("dead-letters")
        assert (letter.value is not None, letter.key is not None) == (carried, carried)
        assert ("dead-letters" in driver.topics_with(CANARY)) is carried


def test_a_rare_category_is_not_named_outside(tmp_path: Path) -> None:
    driver = Recording(topology(settings(tmp_path)), now=1_795_010_000.0)
    for i in range(5_000):
        country = f"rare-{i}" if i % 400 == 1 else "Atlantis" if i > 1_000 else "DE"
        driver.send("t", event(i, "shop", country=country, email=f"{CANARY}-0", customer={"name": f"{CANARY}-1"}))
    driver.end_of_stream()
    driver.run()
    [*_, alert] = [a for a in driver.alerts if any(f["feature"] == "country" for f in a["features"])]
    assert "Atlantis" in json.dumps(alert)
    assert "drift-alerts" not in driver.topics_with("rare-")
    assert not [name for name, text in driver.shown().items() if "rare-" in text]


def test_the_salt_is_never_shown(tmp_path: Path) -> None:
    configuration = settings(tmp_path, privacy={"hash": ["email"], "salt": "pepper"})
    assert "pepper" not in repr(configuration)
    assert "pepper" not in configuration.model_dump_json()
    assert "pepper" not in msgspec.json.encode(topology(configuration).baselines["shop", "1"].grid).decode()
