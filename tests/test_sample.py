"""``check --sample`` shows what becomes of the newest messages, on both brokers, and leaves no trace there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from streamdrift.cli import main
from streamdrift.codecs import At, Const, Mapping, Source
from streamdrift.errors import BrokerUnreachable
from streamdrift.grids import SCORE, Column, Grid, Kind, Role
from streamdrift.kafka.newest import newest
from streamdrift.privacy import Privacy
from streamdrift.records import RecordBatch
from streamdrift.sample import SourceSample, examine, sample, to_json
from streamdrift.settings import Settings
from tests.support.brokers import Broker

GRID = Grid(
    "fraud",
    "7",
    (
        Column("amount", Kind.NUMERIC),
        Column("country", Kind.CATEGORICAL, categories=("DE",)),
        Column("email", Kind.CATEGORICAL, categories=()),
        Column(SCORE, Kind.NUMERIC, Role.PREDICTION),
    ),
)


def examined(values: Sequence[object], source: Source = Source("t"), grid: Grid | None = None) -> SourceSample:  # noqa: B008
    encoded = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    n = len(encoded)
    batch = RecordBatch("t", 3, range(10, 10 + n), [1_795_000_000_000] * n, [None] * n, encoded, [()] * n)
    return examine(source, [batch], lambda *_: grid, "sources[0]")


def event(**features: object) -> dict[str, Any]:
    return {"model_id": "fraud", "model_version": "7", "features": features, "prediction": {"score": 0.5}}


def test_an_event_is_shown_as_its_baseline_counts_it() -> None:
    found = examined([event(amount="3", country="FR")], grid=GRID)
    [message] = found.messages
    [shown] = message.events
    assert (message.partition, message.offset) == (3, 10)
    assert (shown.model_id, shown.model_version, shown.time) == ("fraud", "7", "2026-11-18T11:06:40Z")
    assert [(value.name, value.value, value.kind) for value in shown.values] == [
        ("amount", "wrong type", "numeric"),
        ("country", "FR (unseen)", "categorical"),
        ("email", None, "categorical"),
        (SCORE, 0.5, "numeric"),
    ]


def test_an_event_without_a_baseline_is_shown_as_what_can_be_counted() -> None:
    found = examined([event(amount=3, nested={"a": None}, vector=[1, 2, 3], mixed=[1, "a"], text="x" * 200)])
    values = {value.name: value.value for value in found.messages[0].events[0].values}
    assert values == {
        "amount": 3, "nested.a": None, "vector": "array of 3 numbers", "mixed": "cannot be counted",
        "text": "x" * 128 + "… (200 characters)", SCORE: 0.5,
    }  # fmt: skip


def test_what_is_refused_is_counted_by_reason() -> None:
    found = examined([event(), b"{", {"model_id": "m", "prediction": {}, "timestamp": "soon"}])
    assert found.refused == {"malformed": 1, "timestamp": 1}
    assert found.summary == "t: 3 read, 1 good (33% of events), 1 refused as malformed, 1 refused as timestamp"
    assert found.hint == ""


def test_where_all_are_refused_alike_the_key_to_set_is_named_and_no_value_is_shown() -> None:
    found = examined([{"inputs": {"secret": "canary"}, "ts": 1}, {"outputs": 2}])
    assert found.hint == (
        "sources[0].mapping.model_id says where it stands, or {const: name} what it is; "
        "the messages have the keys inputs, outputs, ts"
    )
    assert "canary" not in json.dumps(to_json([found]))


def test_a_hint_follows_the_mapping_that_is_there() -> None:
    mapping = Mapping(model_id=Const("m"), prediction=At(("out",)))
    found = examined([{"features": {}, "result": {}}], Source("t", mapping=mapping))
    assert (
        found.hint == "sources[0].mapping.prediction says where it stands; the messages have the keys features, result"
    )


def test_what_is_private_is_not_shown() -> None:
    privacy = Privacy(drop=("customer",), hash=("email",))
    found = examined([event(customer={"name": "canary"}, email="canary")], Source("t", privacy=privacy))
    assert "canary" not in json.dumps(to_json([found]))
    assert {value.name for value in found.messages[0].events[0].values} == {"email", SCORE}


# ---- on brokers ------------------------------------------------------------------------------------------------------


def produce(broker: Broker, topic: str, values: Sequence[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.cluster.bootstrap_servers})
    for i, value in enumerate(values):
        producer.produce(topic, value, partition=i % 4, timestamp=1_795_000_000_000 + i)
    assert producer.flush(10) == 0


def configuration(broker: Broker, *topics: str) -> dict[str, Any]:
    return {
        "kafka": {"bootstrap_servers": broker.cluster.bootstrap_servers},
        "sources": [{"topic": topic, "kind": "predictions"} for topic in topics],
    }


def test_the_newest_messages_are_read_of_all_partitions(broker: Broker) -> None:
    broker.create_topic("sampled", 4)
    produce(broker, "sampled", [json.dumps(event(amount=i)).encode() for i in range(50)])
    [found] = sample(Settings.model_validate(configuration(broker, "sampled")), 6)
    amounts = [
        value.value for message in found.messages for value in message.events[0].values if value.name == "amount"
    ]
    assert sorted(amounts) == list(range(44, 50))
    assert found.summary == "sampled: 6 read, 6 good (100% of events)"


def test_an_empty_topic_is_told_at_once(broker: Broker) -> None:
    broker.create_topic("sampled-empty", 4)
    [found] = sample(Settings.model_validate(configuration(broker, "sampled-empty")), 5, seconds=600)
    assert (found.exists, found.messages) == (True, ())


def test_a_topic_that_is_not_there_is_told_and_not_made(broker: Broker) -> None:
    for _ in range(2):
        [found] = sample(Settings.model_validate(configuration(broker, "sampled-nowhere")), 5)
        assert found.summary == "sampled-nowhere: there is no such topic"


def test_a_broker_that_does_not_answer_is_an_error() -> None:
    from streamdrift.kafka.client import Cluster

    with pytest.raises(BrokerUnreachable):
        newest(Cluster("127.0.0.1:9", request_timeout=0.5), ["t"], 5, 1.0)


def test_the_command_prints_tables_for_people_and_json_for_programs(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic("sampled-cli", 4)
    produce(broker, "sampled-cli", [json.dumps(event(amount=3.5)).encode(), b"{"])
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(configuration(broker, "sampled-cli")), encoding="utf-8")

    def output(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["streamdrift", "check", "--sample", "5", *options, str(path)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    printed = output()
    assert "amount" in printed
    assert "sampled-cli: 2 read, 1 good (50% of events), 1 refused as malformed" in printed
    answer = json.loads(output("--json"))
    assert answer["ok"]
    assert [(s["read"], s["events"], s["refused"]) for s in answer["sources"]] == [(2, 1, {"malformed": 1})]
