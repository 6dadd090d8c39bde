"""Files of events: what is replayed from them, and that it is told as a service tells it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from streamdrift.assembly import topology
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.generator import MODEL_ID, MODEL_VERSION, PREDICTIONS_TOPIC
from streamdrift.replay.lines import EventFile
from streamdrift.topology import TopologyDriver
from tests.replay.command import refusal, replayed, run
from tests.support import fraud
from tests.support.brokers import EmbeddedTestBroker
from tests.support.waiting import wait_until
from tests.test_service import Site, wait_for_records


def write(path: Path, documents: Iterable[object]) -> Path:
    path.write_bytes(b"".join((d if isinstance(d, bytes) else json.dumps(d).encode()) + b"\n" for d in documents))
    return path


def fraud_file(directory: Path) -> Path:
    return write(directory / "events.jsonl", (event.value for event in fraud.fraud_events()))


def event(number: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 — parts of an event
    return {
        "prediction_id": f"p{number}",
        "model_id": "m",
        "model_version": "1",
        "timestamp": 1_795_000_000 + number,
        "features": {"a": float(number % 7), "b": number % 3 == 0},
        "prediction": {"score": (number % 10) / 10},
        **more,
    }


def test_the_alerts_are_those_of_a_service_on_the_same_messages(
    embedded_broker: EmbeddedTestBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(embedded_broker, tmp_path, 4)
    settings, events = site.settings(), fraud.fraud_events()
    said = replayed(monkeypatch, tmp_path, "-c", "streamdrift.yaml", "-i", fraud_file(tmp_path))
    assert {alert["phase"] for alert in said.alerts} == {"started", "updated", "resolved"}
    with site.running(settings) as service:
        site.send(events)
        site.end_stream()
        wait_for_records(service, len(events) + site.partitions)
        wait_until(
            lambda: service.failed or len(site.alerts(settings)) >= len(said.alerts), 60.0, "all alerts should be there"
        )
    assert fraud.told(said.alerts) == fraud.told(site.alerts(settings))


def test_the_chunks_in_which_a_file_is_read_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = TopologyDriver(topology(fraud.settings(tmp_path)))
    for one in fraud.fraud_events():
        driver.send(PREDICTIONS_TOPIC, one.value)
    driver.end_of_stream()
    driver.run()
    file = fraud_file(tmp_path)
    for chunk in (97, 100_000):
        monkeypatch.setattr("streamdrift.replay.run.CHUNK", chunk)
        said = replayed(monkeypatch, tmp_path, "-c", "streamdrift.yaml", "-i", file)
        assert fraud.told(said.alerts) == fraud.told(driver.alerts)


def test_alerts_come_in_the_order_of_event_time_and_the_summary_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_bytes(fraud.fraud_baseline().to_json())
    said = replayed(monkeypatch, tmp_path, "-i", fraud_file(tmp_path), "--baseline", baseline, "--set", "time.tick=5m")
    times = [alert["event_time"] for alert in said.alerts]
    assert times
    assert times == sorted(times)
    summary = said.summary
    assert summary["events"] == summary["counted"] == len(fraud.fraud_events())
    assert summary["alerts"] == len(times)
    assert summary["timeline"] == "events.timeline.html"
    bug = next(each for each in summary["incidents"] if each["kind"] == "data_drift")
    assert (bug["model"], bug["version"], bug["feature"]) == (MODEL_ID, MODEL_VERSION, "amount")
    assert bug["onset"] <= bug["started"] < bug["resolved"]
    started = next(alert for alert in said.alerts if alert["incident_id"] == bug["incident_id"])
    assert started["event_time"] == bug["started"]
    assert sum(each["incidents"] for each in summary["per_week"]) >= len(summary["incidents"])


def test_without_a_configuration_a_baseline_is_learned_from_the_first_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = replayed(monkeypatch, tmp_path, "-i", fraud_file(tmp_path), "--set", "time.tick=5m")
    assert "events of a model are taken as usual" in said.err
    assert any("amount" in each["features"] for each in said.summary["incidents"])


def test_a_packed_file_is_read_as_it_is_without_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fraud_file(tmp_path)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = (replayed(monkeypatch, tmp_path, "-i", file, "--set", "time.tick=5m") for file in (plain, packed))
    assert one.alerts
    assert one.alerts == other.alerts


def test_lines_that_are_no_events_are_counted_and_shown_by_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [event(0), b"{", b"", event(1), event(2, timestamp="soon"), event(3)]
    said = replayed(monkeypatch, tmp_path, "-i", write(tmp_path / "some.jsonl", lines))
    assert said.summary["refused"] == {"malformed": 1, "timestamp": 1}
    assert said.summary["counted"] == 3
    assert "some.jsonl, line 2: " in said.err
    assert "some.jsonl, line 5: " in said.err


def test_late_events_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(number) for number in (*range(1_000), 3, *range(1_000, 1_100))]
    said = replayed(monkeypatch, tmp_path, "-i", write(tmp_path / "late.jsonl", events))
    assert said.summary["late"] == {"predictions": 1}
    assert said.summary["counted"] == 1_100


@pytest.mark.parametrize("start", [0, 86_400 * 365 * 300], ids=["1970", "2270"])
def test_old_and_future_files_are_replayed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    events = [event(number, timestamp=start + number) for number in range(600)]
    said = replayed(monkeypatch, tmp_path, "-i", write(tmp_path / "e.jsonl", events))
    assert (said.summary["counted"], said.summary["refused"]) == (600, {})


def labelled(wrong_from: int, count: int, separate: bool) -> list[dict[str, Any]]:  # noqa: FBT001 — a case of the tests
    """Predictions and their labels a minute later; from some point on, half of the labels are the other way round."""
    events: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for i in range(count):
        score = (i * 37 % 100) / 100
        truth = (score > 0.5) != (i >= wrong_from and i % 2 == 0)
        events.append(event(i, prediction={"score": score, "label": str(int(score > 0.5))}))
        time = 1_795_000_060 + i
        body = {"prediction_id": f"p{i}", "model_id": "m", "label": str(int(truth)), "outcome_timestamp": time}
        (labels if separate else events).append(body)
    return events + labels


@pytest.mark.parametrize("separate", [False, True], ids=["between", "behind"])
def test_labels_are_recognised_and_joined_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, separate: bool
) -> None:
    path = write(tmp_path / "labelled.jsonl", labelled(6_000, 9_000, separate))
    said = replayed(monkeypatch, tmp_path, "-i", path)
    assert (said.summary["events"], said.summary["labels"]) == (9_000, 9_000)
    assert said.summary["late"] == {}
    assert {each["kind"] for each in said.summary["incidents"]} == {"concept_drift"}


def test_a_mapping_is_followed_as_it_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(
        "kafka: {bootstrap_servers: localhost:9092}\n"
        "sources: [{topic: t, kind: predictions, mapping: {model_id: {const: m}, timestamp: at, features: in, "
        "prediction: out}}]\n",
        encoding="utf-8",
    )
    lines = [{"at": 1_795_000_000 + i, "in": {"a": i}, "out": {"score": 0.5}} for i in range(50)]
    said = replayed(monkeypatch, tmp_path, "-c", "c.yaml", "-i", write(tmp_path / "e.jsonl", lines))
    assert (said.summary["counted"], said.summary["refused"]) == (50, {})


def test_events_that_name_no_model_are_of_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{key: value for key, value in event(i).items() if key != "model_id"} for i in range(20)]
    path = write(tmp_path / "e.jsonl", lines)
    assert replayed(monkeypatch, tmp_path, "-i", path, "--model", "risk").summary["counted"] == 20


def test_feature_events_need_no_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{key: value for key, value in event(i).items() if key != "prediction"} for i in range(20)]
    said = replayed(monkeypatch, tmp_path, "-i", write(tmp_path / "e.jsonl", lines))
    assert (said.summary["counted"], said.summary["refused"]) == (20, {})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.jsonl", b"nothing\nof this\nis JSON\n", "none of 3 messages is an event"),
        ("e.xlsx", b"", "unknown format"),
        ("e.jsonl.gz", b"not packed at all", "cannot be read"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refusal(monkeypatch, tmp_path, "-i", name)


def test_an_empty_file_is_replayed_and_said_to_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e.jsonl").touch()
    said = replayed(monkeypatch, tmp_path, "-i", "e.jsonl")
    assert (said.summary["events"], said.summary["incidents"]) == (0, [])
    assert "is empty" in said.err


def test_people_see_a_line_an_alert_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(monkeypatch, tmp_path, "-i", fraud_file(tmp_path), "--set", "time.tick=5m")
    lines = said.out.splitlines()
    assert lines[0][:11] == "2026-11-02 "
    assert any(line.startswith("data_drift") for line in lines)
    assert any(line.startswith("river ADWIN: ") for line in lines)
    assert lines[-1] == "timeline: events.timeline.html"


def test_a_label_comes_at_its_own_time_or_when_the_event_before_it_did(tmp_path: Path) -> None:
    label = {"prediction_id": "p", "model_id": "m", "value": 3.5}
    documents = [event(0), label, {**label, "outcome_timestamp": 1_795_000_500}, label, event(9)]
    messages = [*EventFile(write(tmp_path / "e.jsonl", documents)).messages()]
    assert [message.kind for message in messages] == [
        *("predictions", "labels", "labels", "labels", "predictions"),
    ]
    came = [message.recorded_ms for message in messages if message.kind is SourceKind.LABELS]
    assert came == [1_795_000_000_000, 1_795_000_500_000, 1_795_000_500_000]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        EventFile(tmp_path / "none.jsonl")
