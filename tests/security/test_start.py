"""A service whose brokers do not answer: few words, no waiting for whoever asks it to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streamdrift import assembly
from streamdrift.assembly import Service
from streamdrift.errors import BrokerUnreachable, FatalError
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.repeats import Repeats
from tests.support import fraud
from tests.support.brokers import EmbeddedTestBroker
from tests.support.waiting import wait_until
from tests.test_service import PATIENCE, Site, wait_for_records

NOBODY = "127.0.0.1:9"
"""The discard port, where nobody listens."""
FEW = 4
"""Lines of log: that a connection failed, and that all of them did, each told by librdkafka or by its client."""


# ---- repeats -------------------------------------------------------------------------------------------------------


def test_what_repeats_is_told_once_and_then_counted_once_in_an_interval() -> None:
    now = 100.0
    repeats = Repeats(interval=60, clock=lambda: now)
    assert [repeats.told("gone") for _ in range(4)] == [1, 0, 0, 0]
    assert repeats.told("refused") == 1, "another kind is news"
    now = 159.9
    assert repeats.told("gone") == 0
    now = 160.0
    assert repeats.told("gone") == 5, "the four that were not told, and this one"
    now = 1000.0
    assert repeats.told("gone") == 1


# ---- few words -----------------------------------------------------------------------------------------------------


def test_many_clients_without_a_broker_say_so_together_and_count_the_rest() -> None:
    cluster = Cluster(NOBODY)
    errors = ClientErrors(cluster.repeats)
    with capture_logs() as log:
        clients = [client.producer(cluster, errors) for _ in range(6)]
        turns = count()

        def many() -> bool:
            clients[next(turns) % len(clients)].poll(0.05)
            return errors.counts.get("_TRANSPORT", 0) >= 12

        wait_until(many, PATIENCE, "connections should fail")
        for one in clients:
            one.close()
    told = [entry for entry in log if entry["log_level"] != "debug"]
    assert {(entry["error"], entry["times"]) for entry in told} == {("_TRANSPORT", 1), ("_ALL_BROKERS_DOWN", 1)}


def test_a_start_without_a_broker_ends_with_3_and_says_little(tmp_path: Path) -> None:
    service = Service(fraud.settings(tmp_path), cluster=Cluster(NOBODY, request_timeout=1.0))
    with capture_logs() as log, pytest.raises(BrokerUnreachable, match=r"within 1 s: .*Connection refused") as ended:
        service.start()
    assert ended.value.exit_code == 3
    assert len(log) <= FEW


def test_a_broker_that_goes_is_told_in_few_lines_and_a_stop_is_not_waited_for_without_end(
    embedded_broker: EmbeddedTestBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "JOIN_TIMEOUT", 1.0)
    site = Site(embedded_broker, tmp_path, 4)
    settings = site.settings({"snapshot_interval": "1h", "commit_interval": "1h"})
    service = Service(
        settings,
        cluster=Cluster(
            embedded_broker.bootstrap_servers, {"delivery.timeout.ms": 2500, "linger.ms": 0}, "consumer", embedded=True
        ),
    )
    service.start()
    site.send(fraud.fraud_events(1))
    wait_for_records(service, len(fraud.fraud_events(1)))
    begun = time.monotonic()
    with capture_logs() as log:
        embedded_broker.__exit__(None, None, None)
        service.stop()
        assert time.monotonic() - begun < 4
        assert isinstance(service.failed, FatalError)
        assert str(service.failed).endswith("could not commit within 1 s, and will read again")
        wait_until(lambda: not any(running.thread.is_alive() for running in service._running), PATIENCE, "an end")
    assert "has been closed" not in str(log), "what a stage still uses is left to it"
    told = [
        entry
        for entry in log
        if entry["event"] in {"librdkafka", "kafka client error"} and entry["log_level"] != "debug"
    ]
    assert len(told) <= FEW


# ---- a stop while it waits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_waits_for_brokers(tmp_path: Path, number: signal.Signals) -> None:
    fraud.settings(tmp_path)
    command = ("run", "--config", str(tmp_path / "streamdrift.yaml"), "--set", f"kafka.bootstrap_servers={NOBODY}")
    process = subprocess.Popen([sys.executable, "-m", "streamdrift", *command], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        try:
            next(line for line in process.stderr if json.loads(line).get("error") == "_TRANSPORT")
            asked = time.monotonic()
            process.send_signal(number)
            rest = process.stderr.read().splitlines()
            assert process.wait(PATIENCE) == 0
            assert time.monotonic() - asked < 4, "a broker would be waited for ten seconds"
        finally:
            process.kill()
    assert json.loads(rest[-1])["event"] == "stopped"
    assert len(rest) <= FEW
