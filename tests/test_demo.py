"""The demo as a user runs it: a process, its two streams, its exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamdrift.baselines import Baseline
from streamdrift.demo import _interruptible, cloud_event
from streamdrift.demo.view import sparkline
from streamdrift.records import Record
from streamdrift.settings import Settings

Outcome = tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]
"""The process, and the lines of its stdout."""

STREAMDRIFT = [sys.executable, "-m", "streamdrift"]


def demo(*arguments: str) -> Outcome:
    command = [*STREAMDRIFT, "demo", "--for", "20s", "--json", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    return process, [msgspec.json.decode(line) for line in process.stdout.splitlines()]


@pytest.fixture(scope="module")
def eventful() -> Outcome:
    return demo("--seed", "11")


@pytest.mark.timeout(180)
def test_every_scripted_incident_that_can_be_found_is_found_and_nothing_else(
    eventful: Outcome,
) -> None:
    process, lines = eventful
    last = lines[-1]
    assert process.returncode == 0, process.stderr
    assert last["missed"] == []
    assert last["unexpected"] == []
    assert len(last["found"]) == 6
    assert set(last["incidents_expected"]) == {*last["found"], *last["missed"]}
    assert re.search(r"^bootstrap 127\.0\.0\.1:\d+$", process.stderr, re.MULTILINE)
    assert re.search(r"^page http://127\.0\.0\.1:\d+/?$", process.stderr, re.MULTILINE)


def test_labels_lead_to_a_new_version_that_is_better(eventful: Outcome) -> None:
    _, lines = eventful
    loop = lines[-1]["loop"]
    assert list(loop) == ["performance", "requested", "fulfilled", "better", "resolved"]
    assert loop["performance"] < loop["requested"] < loop["fulfilled"] < loop["better"]
    told = [event["data"] for event in lines[:-1] if event["type"].startswith("io.streamdrift.retraining.")]
    assert [data["phase"] for data in told] == ["requested", "fulfilled", "fulfilled"]
    assert told[0]["model_version"] == "7"
    assert {data["request_id"] for data in told} == {told[0]["request_id"]}
    assert {data["new_version"] for data in told[1:]} == {"8"}


def test_every_alert_is_a_structured_cloud_event_and_every_incident_that_starts_is_resolved(
    eventful: Outcome,
) -> None:
    events = eventful[1][:-1]
    for event in events:
        assert event.keys() >= {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
        assert event["specversion"] == "1.0"
        about = "incident" if "incident_id" in event["data"] else "retraining"
        assert event["type"] == f"io.streamdrift.{about}.{event['data']['phase']}"
    assert len({event["id"] for event in events}) == len(events)
    incidents = {
        phase: sorted(str(event["data"].get("incident_id")) for event in events if event["data"]["phase"] == phase)
        for phase in ("started", "resolved")
    }
    assert incidents["started"] == incidents["resolved"]


def test_two_incidents_of_one_release_are_told_as_one(
    eventful: Outcome,
) -> None:
    quality = [event["data"] for event in eventful[1][:-1] if event["data"].get("kind") == "data_quality"]
    assert len({data["incident_id"] for data in quality}) == 1
    assert {feature["feature"] for feature in quality[-1]["features"]} == {"device.age_days", "device.os"}


@pytest.mark.timeout(180)
def test_without_incidents_nothing_is_reported() -> None:
    process, lines = demo("--no-incidents")
    assert process.returncode == 0, process.stderr
    (last,) = lines
    assert {name: last[name] for name in ("incidents_expected", "found", "missed", "unexpected", "loop")} == {
        "loop": {},
        "incidents_expected": [],
        "found": [],
        "missed": [],
        "unexpected": [],
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_cleanly_with_a_summary(number: signal.Signals) -> None:
    command = [*STREAMDRIFT, "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        opened = [process.stdout.readline(), process.stdout.readline()]
        assert re.fullmatch(r"bootstrap 127\.0\.0\.1:\d+\n", opened[0])
        assert re.fullmatch(r"page http://127\.0\.0\.1:\d+/?\n", opened[1])
        time.sleep(2)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.search(r"^Cut short: stopped after .* 0 unexpected$", out, re.MULTILINE)
    assert "Traceback" not in err


def test_a_signal_while_a_kafka_client_calls_back_is_not_lost() -> None:
    with _interruptible() as heed:
        heed()
        signal.raise_signal(signal.SIGINT)  # nothing is raised here: a callback could not pass it on
        with pytest.raises(KeyboardInterrupt):
            heed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_whoever_reads_no_further_ends_the_demo_without_a_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*STREAMDRIFT, "demo", "--for", "5s", "--json"]
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=110, check=False)
    os.close(write)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr


def test_the_written_configuration_is_one_that_run_takes(tmp_path: Path) -> None:
    command = [*STREAMDRIFT, "demo", "--write-config", str(tmp_path / "demo"), "--to", "kafka:9092"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert process.returncode == 0, process.stderr
    path = tmp_path / "demo" / "streamdrift.yaml"
    assert str(path) in process.stderr
    settings = Settings.load(path, environment={})
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.warnings() == []
    set_aside = {"transaction_id", "sequence", "received_at", "note", "fraud"}
    for version in ("7", "8"):
        baseline = Baseline.read(settings.models["fraud"].baselines[version])
        assert {field.name for field in baseline.grid.unmonitored} == set_aside
        assert baseline.benchmarks["recall"].value > 0.4


def test_a_cloud_event_of_binary_mode_becomes_one_of_the_json_format() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"i-0"), ("content-type", b"application/json"), ("other", b"x")]
    record = Record(0, 0, b"i", b'{"phase": "started"}', headers)
    assert cloud_event(record) == {
        "specversion": "1.0",
        "id": "i-0",
        "datacontenttype": "application/json",
        "data": {"phase": "started"},
    }


def test_a_sparkline_has_a_sign_a_value() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.5, 9.0]) == "▁██"
