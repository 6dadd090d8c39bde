"""The service as it runs: on the embedded broker and on Apache Kafka, against what the same events give in memory."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from streamdrift import assembly
from streamdrift.assembly import YOUNG_OBJECTS, Service, settle, topology
from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.fold_state import read_records
from streamdrift.generator import MODEL_ID, MODEL_VERSION, PREDICTIONS_TOPIC, Message
from streamdrift.inspection import promote, show, watches
from streamdrift.kafka.commit import publish
from streamdrift.kafka.compacted import read_compacted
from streamdrift.kafka.subscriber import Subscriber
from streamdrift.records import OutputRecord, Record
from streamdrift.settings import Settings
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM
from streamdrift.status import SourceStatus
from streamdrift.topic_baseline import build_from_topic
from streamdrift.topology import TopologyDriver
from tests.support import fraud
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.support.waiting import wait_until

PATIENCE = 60.0


class Site:
    """One installation on a broker that others use too: every name of it is its own."""

    def __init__(self, broker: Broker, directory: Path, partitions: int) -> None:
        self.broker = broker
        self.partitions = partitions
        self._directory = directory
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.source = f"{self.name}-predictions"
        broker.create_topic(self.source, partitions)

    def settings(self, changes: Mapping[str, Any] | None = None, *, baseline: bool = True) -> Settings:
        names = ("summaries", "state", "grids", "alerts", "dead_letters", "retraining_requests")
        return fraud.settings(
            self._directory,
            {
                "kafka.bootstrap_servers": self.broker.cluster.bootstrap_servers,
                "kafka.application": self.name,
                "topics": {key: f"{self.name}-{key}" for key in names},
                "sources": [{"topic": self.source, "kind": "predictions", "end_of_stream": True}],
                "commit_interval": "100ms",
                "snapshot_interval": "500ms",
                **(changes or {}),
            },
            baseline=baseline,
        )

    def send(self, events: Sequence[Message]) -> None:
        publish(self.broker.cluster, (self._record(event.value) for event in events))

    def _record(self, value: bytes) -> OutputRecord:
        return OutputRecord(self.source, None, value, (), xxh3_64_intdigest(value) % self.partitions)

    def end_stream(self) -> None:
        marker = [(CONTROL_HEADER, END_OF_STREAM)]
        publish(
            self.broker.cluster,
            (OutputRecord(self.source, None, None, marker, number) for number in range(self.partitions)),
        )

    @contextmanager
    def running(self, settings: Settings) -> Iterator[Service]:
        service = Service(settings, cluster=self.broker.cluster)
        service.start()
        try:
            yield service
        finally:
            service.stop()
        if service.failed is not None:
            raise service.failed

    def alerts(self, settings: Settings) -> list[dict[str, Any]]:
        with Subscriber(self.broker.cluster, settings.topics.alerts) as subscriber:
            return [json.loads(record.value or b"") for record in subscriber.rest()]


def source_of(service: Service) -> SourceStatus:
    (source,) = service.status().sources
    return source


def wait_for_records(service: Service, count: int) -> None:
    wait_until(
        lambda: service.failed or source_of(service).consumed >= count, PATIENCE, f"{count} records should be read"
    )


def wait_for_the_end(service: Service) -> None:
    """All partitions ended: every tick is closed and every incident that will end has ended."""
    wait_until(
        lambda: (
            service.failed
            or (
                [model for model in service.status().models if model.ticks_closed]
                and not any(sum(loop.lag.values()) for loop in service.status().loops)
                and source_of(service).control
            )
        ),
        PATIENCE,
        "the stream should be read to its end",
    )


def expected_alerts(directory: Path) -> list[dict[str, Any]]:
    driver = TopologyDriver(topology(fraud.settings(directory)))
    for event in fraud.fraud_events():
        driver.send(PREDICTIONS_TOPIC, event.value)
    driver.end_of_stream()
    driver.run()
    return fraud.told(driver.alerts)


def check_a_run_with_a_restart(site: Site, directory: Path) -> None:
    expected = expected_alerts(directory)
    settings, events = site.settings(), fraud.fraud_events()
    half = len(events) // 2
    with site.running(settings) as service:
        site.send(events[:half])
        wait_for_records(service, half)
        first = source_of(service)
    with site.running(settings) as service:
        site.send(events[half:])
        site.end_stream()
        wait_for_records(service, len(events) - half + site.partitions)
        wait_until(
            lambda: service.failed or len(site.alerts(settings)) >= len(expected),
            PATIENCE,
            "all alerts should be there",
        )
        second = source_of(service)
    assert first.consumed + second.consumed == len(events) + site.partitions, "a clean stop repeats nothing"
    assert second.control == site.partitions
    assert (second.late, second.dead, second.over_bound) == (0, {}, 0)
    assert fraud.told(site.alerts(settings)) == expected


def test_a_service_that_is_stopped_and_started_alerts_as_in_memory(broker: Broker, tmp_path: Path) -> None:
    check_a_run_with_a_restart(Site(broker, tmp_path, 4), tmp_path)


@pytest.mark.parametrize("partitions", [1, 3, 8])
def test_alerts_on_apache_kafka_are_those_in_memory_for_any_number_of_partitions(
    apache_kafka: ApacheKafka, tmp_path: Path, partitions: int
) -> None:
    check_a_run_with_a_restart(Site(apache_kafka, tmp_path, partitions), tmp_path)


def test_a_dump_with_one_timestamp_is_alerted_soon_after_traffic_stops(broker: Broker, tmp_path: Path) -> None:
    site = Site(broker, tmp_path, 4)
    settings = site.settings(
        {
            "time": {"tick": "10s", "idle": "advance", "idle_after": "2s", "allowed_lateness": "5s"},
        }
    )
    dumped_at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    drifted = [event for event in fraud.fraud_events() if 9 * 3600 < event.time_us / 1e6 % 86_400 < 16 * 3600]
    with site.running(settings) as service:
        site.send([_at(event, dumped_at) for event in drifted])
        last_record = time.monotonic()
        wait_for_records(service, len(drifted))
        wait_until(lambda: service.failed or site.alerts(settings), PATIENCE, "the dump should be alerted")
        waited = time.monotonic() - last_record
    assert waited < 30, "idle after 2 s, lateness 5 s, and the tick ended long ago"
    assert {alert["kind"] for alert in site.alerts(settings)} == {"data_drift", "prediction_drift"}


def _at(event: Message, timestamp: str) -> Message:
    document = json.loads(event.value)
    document["timestamp"] = timestamp
    return event._replace(value=json.dumps(document).encode())


def test_dead_letters_carry_the_message_and_where_it_lay(broker: Broker, tmp_path: Path) -> None:
    site = Site(broker, tmp_path, 4)
    settings = site.settings()
    with site.running(settings) as service:
        publish(broker.cluster, [OutputRecord(site.source, b"key", b"{not json", (), 2)])
        wait_until(lambda: service.failed or source_of(service).dead, PATIENCE, "the message should be counted")
        with Subscriber(broker.cluster, settings.topics.dead_letters) as subscriber:
            letters: list[Record] = []

            def poll() -> bool:
                letters.extend(subscriber.poll(0.1))
                return bool(letters)

            wait_until(poll, PATIENCE, "the dead letter should be there")
    (letter,) = letters
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"key", b"{not json")
    assert headers["streamdrift.error.class"] == b"malformed"
    assert headers["streamdrift.error.topic"] == site.source.encode()
    assert (headers["streamdrift.error.partition"], headers["streamdrift.error.offset"]) == (b"2", b"0")


def test_health_metrics_and_page_answer_while_the_service_runs(embedded_broker: Broker, tmp_path: Path) -> None:
    site = Site(embedded_broker, tmp_path, 4)
    with site.running(site.settings()) as service:
        site.send(fraud.fraud_events()[:2_000])
        wait_for_records(service, 2_000)
        wait_until(lambda: _get(service.url + "/readyz")[0] == 200, PATIENCE, "the service should be ready")
        assert _get(service.url + "/livez")[0] == 200
        closed = 'streamdrift_ticks_closed_total{model="fraud",model_version="7"}'
        wait_until(lambda: closed in _get(service.url + "/metrics")[1], PATIENCE, "a tick should be closed")
        status, metrics = _get(service.url + "/metrics")
        assert status == 200
        assert f'streamdrift_records_consumed_total{{source="{site.source}"}} 2000.0' in metrics
        assert "fraud" in _get(service.url + "/")[1]
    if promtool := shutil.which("promtool"):
        subprocess.run([promtool, "check", "metrics"], input=metrics, text=True, check=True, capture_output=True)
    elif os.environ.get("CI") == "true":
        pytest.fail("CI=true: promtool is missing (Debian package prometheus), the metrics were not checked with it")


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 — the service's own address
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_a_model_without_a_baseline_learns_one_and_is_watched(embedded_broker: Broker, tmp_path: Path) -> None:
    site = Site(embedded_broker, tmp_path, 4)
    settings = site.settings({"defaults.warm_up": {"events": 5_000}}, baseline=False)
    events = fraud.fraud_events()[:14_000]
    with site.running(settings) as service:
        site.send(events[:4_000])
        wait_until(
            lambda: [m for m in service.status().models if m.state == "calibrating"], PATIENCE, "a grid should be cut"
        )
        assert "calibrating: counting what is usual" in _get(service.url + "/")[1]
    with site.running(settings) as service:
        site.send(events[4_000:])
        site.end_stream()
        wait_for_the_end(service)
        wait_until(
            lambda: [m for m in service.status().models if m.state == "watching" and m.events == 14_000],
            PATIENCE,
            "all events should be in closed ticks",
        )
        (model,) = service.status().models
        assert service._detect.counts.other_grid == 0
    driver = TopologyDriver(topology(settings))
    for event in events:
        driver.send(site.source, event.value)
    driver.end_of_stream()
    driver.run()
    assert model.baseline_id == driver.detect.models[MODEL_ID, MODEL_VERSION].baseline_id
    assert driver.alerts
    assert fraud.told(site.alerts(settings)) == fraud.told(driver.alerts)


def test_recent_traffic_is_promoted_to_the_baseline_of_a_running_service(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    site = Site(embedded_broker, tmp_path, 4)
    settings, model = site.settings(), (MODEL_ID, MODEL_VERSION)
    configured = fraud.fraud_baseline()

    def written() -> Collection[tuple[str, str]]:
        return read_records(read_compacted(site.broker.cluster, settings.topics.state)).watches

    with site.running(settings) as service:
        site.send(fraud.fraud_events()[:3_000])
        wait_until(
            lambda: (
                service.failed
                or (model in written() and watches(settings, site.broker.cluster, *model)[model].monitor.recent())
            ),
            PATIENCE,
            "a snapshot with a window should be there",
        )
        shown = json.loads(show(settings, MODEL_ID, None, as_json=True, cluster=site.broker.cluster))
        assert [(s["state"], s["baseline_id"]) for s in shown] == [("calibrating", configured.id)]
        said = promote(settings, model, window=True, cluster=site.broker.cluster)
        assert "takes effect" in said
        wait_until(
            lambda: [m for m in service.status().models if m.baseline_id not in {None, configured.id}],
            PATIENCE,
            "the promoted baseline should be in effect",
        )
        (promoted,) = service.status().models
    with site.running(settings) as service:  # which says again what is configured
        site.send(fraud.fraud_events()[3_000:3_500])
        wait_until(lambda: [m for m in service.status().models if m.events >= 300], PATIENCE, "further events")
        (model_status,) = service.status().models
        assert model_status.baseline_id == promoted.baseline_id


def test_a_baseline_is_built_from_the_events_of_a_topic(
    embedded_broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(embedded_broker, tmp_path, 4)
    settings = site.settings(baseline=False)
    site.send(fraud.fraud_events()[:2_500])
    site.end_stream()
    file, other = tmp_path / "built.json", tmp_path / "again.json"
    key, origin = (MODEL_ID, MODEL_VERSION), f"topic:{site.source}"
    assert build_from_topic(settings, origin, key, file, as_json=True, cluster=site.broker.cluster) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2_500
    baseline = Baseline.read(file)
    assert {"amount", "country", "basket.items", "prediction.score"} <= set(baseline.grid.names)
    assert {field.name for field in baseline.grid.unmonitored} >= {"sequence", "transaction_id"}
    build_from_topic(settings, origin, key, other, cluster=site.broker.cluster)
    assert Baseline.read(other).id == baseline.id
    with pytest.raises(ConfigurationError, match="exists already"):
        build_from_topic(settings, origin, key, file, cluster=site.broker.cluster)
    with pytest.raises(ConfigurationError, match="holds 0 events of model fraud, version 8"):
        build_from_topic(settings, origin, (MODEL_ID, "8"), tmp_path / "x", cluster=site.broker.cluster)
    with pytest.raises(ConfigurationError, match=f"expected a source of the configuration: {origin}"):
        build_from_topic(settings, "topic:nowhere", key, tmp_path / "x", cluster=site.broker.cluster)


@pytest.mark.kafka
def test_the_command_stops_cleanly_at_sigterm_and_has_committed(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    site = Site(apache_kafka, tmp_path, 3)
    settings = site.settings()
    names = {f"STREAMDRIFT__TOPICS__{key.upper()}": f"{site.name}-{key}" for key in settings.topics.in_use()}
    variables = {
        "STREAMDRIFT__KAFKA__BOOTSTRAP_SERVERS": apache_kafka.cluster.bootstrap_servers,
        "STREAMDRIFT__KAFKA__APPLICATION": site.name,
        "STREAMDRIFT__SOURCES": f"[{{topic: {site.source}, kind: predictions, end_of_stream: true}}]",
        **names,
    }
    site.send(fraud.fraud_events()[:2_000])
    process = subprocess.Popen(
        [sys.executable, "-m", "streamdrift", "run", "--config", str(tmp_path / "streamdrift.yaml")],
        env=os.environ | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        url = next(json.loads(line)["url"] for line in process.stderr if '"url"' in line)
        consumed = f'streamdrift_records_consumed_total{{source="{site.source}"}} 2000.0'
        wait_until(lambda: consumed in _metrics(url, process), PATIENCE, "2,000 records should be read")
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(PATIENCE) == 0, log
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    with site.running(settings) as service:
        site.end_stream()
        wait_for_records(service, 3)
        assert source_of(service).consumed == 3, "what the command had read was committed"


def _metrics(url: str, process: subprocess.Popen[str]) -> str:
    """Of a process that must be running; nothing yet if it was too busy to answer."""
    assert process.poll() is None, process.stderr and process.stderr.read()
    try:
        return _get(url + "/metrics")[1]
    except (ConnectionError, TimeoutError):
        return ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_service_that_waits_for_its_first_broker(number: signal.Signals, tmp_path: Path) -> None:
    fraud.settings(tmp_path, {})
    with socket.socket() as nobody:  # bound, and not listening: whoever connects is refused
        nobody.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{nobody.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "streamdrift", "run", "--config", str(tmp_path / "streamdrift.yaml")],
            env=os.environ | {"STREAMDRIFT__KAFKA__BOOTSTRAP_SERVERS": servers},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        try:
            waiting = next(line for line in process.stderr if servers in line)
            process.send_signal(number)
            asked = time.monotonic()
            _, log = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, waiting + log
    assert time.monotonic() - asked < 10
    assert "asked to stop while starting" in log
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"
    assert "Traceback" not in log


def test_a_stop_that_a_kafka_client_does_not_pass_on_is_one_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Starting(Service):
        def start(self) -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException as lost:
                raise SystemError("returned NULL without setting an exception") from lost

    monkeypatch.setattr(assembly, "Service", Starting)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert assembly.serve(fraud.settings(tmp_path)) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_has_started_is_left_alone_by_the_garbage_collector() -> None:
    thresholds = gc.get_threshold()
    try:
        settle()
        assert gc.get_freeze_count() > YOUNG_OBJECTS
        assert gc.get_threshold() == (YOUNG_OBJECTS, *thresholds[1:])
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
