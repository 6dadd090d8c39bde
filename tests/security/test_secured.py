"""The service on a Kafka that demands TLS, a name and a permission for everything: each way in, end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka
import pytest

from streamdrift.assembly import Service, cluster_of, topic_specs
from streamdrift.errors import FatalError
from streamdrift.kafka.commit import publish
from streamdrift.kafka.subscriber import Subscriber
from streamdrift.records import OutputRecord
from streamdrift.settings import Settings
from streamdrift.stages import detect
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM
from tests.security.installation import HOURS, POLICIES, Installation, shipped
from tests.support import fraud
from tests.support.secured_kafka import SERVICE, SUBSCRIBER, SecuredKafka
from tests.support.waiting import wait_until
from tests.test_service import PATIENCE, source_of


@contextmanager
def running(settings: Settings) -> Iterator[Service]:
    """Exactly as ``streamdrift run`` has it, but in this process."""
    service = Service(settings)
    service.start()
    try:
        yield service
    finally:
        service.stop()


# ---- each way in ---------------------------------------------------------------------------------------------------


def test_with_a_client_certificate_the_service_alerts_and_uses_every_permission_that_the_list_gives_it(
    secured_kafka: SecuredKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "KEEP_LOG_FOR", 0)  # so that it comes to delete something
    here = Installation(secured_kafka, tmp_path)
    identity = secured_kafka.identity
    settings = here.on(
        "MTLS",
        {
            **secured_kafka.tls("SSL"),
            "ssl.certificate.location": str(identity.certificate),
            "ssl.key.location": str(identity.key),
        },
        **POLICIES,
    )
    here.prepare(settings)
    denied_before = secured_kafka.denied(SERVICE)
    with running(settings) as service:
        here.check_that_it_alerts(settings, service)
        publish(secured_kafka.cluster, [OutputRecord(here.source, None, b"{not json", (), 0)])
        wait_until(lambda: source_of(service).dead, PATIENCE, "the message should be a dead letter")
    needed = set(here.permissions("service", settings))
    with running(settings):  # restores the state
        wait_until(lambda: needed <= secured_kafka.used(SERVICE), PATIENCE, "all permissions should be used")
    assert secured_kafka.denied(SERVICE) == denied_before, "it asked for what it does not need"


def test_with_openid_connect_the_service_needs_properties_only(secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    here = Installation(secured_kafka, tmp_path)
    provider = secured_kafka.provider
    settings = here.on(
        "SASL",
        {
            **secured_kafka.oauth(),
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": provider.endpoint,
            "sasl.oauthbearer.client.id": provider.client_id,
            "sasl.oauthbearer.client.secret": here.secret(provider.client_secret),
        },
    )
    here.prepare(settings)
    with running(settings) as service:
        here.check_that_it_alerts(settings, service)


def test_with_a_token_provider_the_service_alerts_and_asks_for_few_tokens(
    secured_kafka: SecuredKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Installation(secured_kafka, tmp_path)
    (tmp_path / "our_cloud.py").write_text(
        "import time\n"
        "asked = []\n"
        "def token(config):\n"
        "    asked.append(config)\n"
        f"    return {secured_kafka.provider.token(SERVICE)!r}, time.time() + 300\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    client = {**secured_kafka.oauth(), "sasl.oauthbearer.config": "region=eu"}
    settings = here.on("SASL", client, **{"kafka.token_provider": "our_cloud:token"})
    here.prepare(settings)
    with running(settings) as service:
        here.check_that_it_alerts(settings, service)
    asked = sys.modules.pop("our_cloud").asked
    assert set(asked) == {"region=eu"}
    assert len(asked) <= 4, "a dozen clients that start together share a token"


def test_the_command_alerts_with_scram_and_shows_its_password_to_nobody(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    """With default names and exactly the shipped permissions; the service makes its topics itself."""
    secured_kafka.create_topic("predictions", 2)
    secured_kafka.allow(SERVICE, shipped("service") + shipped("creator"))
    denied_before = secured_kafka.denied(SERVICE)
    secured_kafka.allow(SUBSCRIBER, shipped("subscriber"))
    settings = fraud.settings(tmp_path)
    canary = secured_kafka.passwords[SERVICE]
    (tmp_path / "password").write_text(canary, encoding="utf-8")
    client = {**secured_kafka.scram(SERVICE), "debug": "conf,security"}
    variables = {f"STREAMDRIFT__KAFKA__CLIENT__{k.upper().replace('.', '_')}": v for k, v in client.items()}
    variables |= {
        "STREAMDRIFT__KAFKA__CLIENT__SASL_PASSWORD__FILE": str(tmp_path / "password"),
        "STREAMDRIFT__KAFKA__BOOTSTRAP_SERVERS": secured_kafka.addresses["SASL"],
        "STREAMDRIFT__LOG__LEVEL": "debug",
        "STREAMDRIFT__LOG__FORMAT": "json",
        "STREAMDRIFT__SNAPSHOT_INTERVAL": "1s",
    }
    config = str(tmp_path / "streamdrift.yaml")
    checked = subprocess.run(
        [sys.executable, "-m", "streamdrift", "check", "--json", config],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamdrift", "--debug", "run", "--config", config],
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: process.poll() is not None or '"url"' in log.read_text(), PATIENCE, "a start")
        url = next(json.loads(line)["url"] for line in log.read_text().splitlines() if '"url"' in line)
        records = [
            OutputRecord("predictions", None, e.value, (), i % 2) for i, e in enumerate(fraud.fraud_events(HOURS))
        ]
        ends = [OutputRecord("predictions", None, None, [(CONTROL_HEADER, END_OF_STREAM)], number) for number in (0, 1)]
        publish(secured_kafka.cluster, [*records, *ends])
        alerts = alerts_for_the_subscriber(secured_kafka, 3)
        shown = [read(url + path) for path in ("/", "/api/v1/status", "/metrics", "/readyz", "/livez")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    stored = []
    for topic in (spec.name for spec in topic_specs(settings) if spec.create):
        with Subscriber(secured_kafka.cluster, topic) as subscriber:
            stored += subscriber.rest()
    assert "data_drift" in (kinds := {json.loads(alert)["kind"] for alert in alerts})
    assert kinds <= {"data_drift", "prediction_drift"}, "the score follows the amount"
    assert stored
    assert "sasl.password" in log.read_text(), "the search has to have an object"
    for text in [log.read_text(), *shown, checked.stdout, checked.stderr, *map(repr, stored)]:
        assert canary not in text
    assert secured_kafka.denied(SERVICE) == denied_before, "it asked for what it does not need"


def alerts_for_the_subscriber(kafka: SecuredKafka, count: int) -> list[bytes]:
    """What a program of somebody else's reads from the alerts topic, as a member of its own group."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": kafka.addresses["SASL"],
            **kafka.scram(SUBSCRIBER),
            "sasl.password": kafka.passwords[SUBSCRIBER],
            "group.id": "on-call",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["drift-alerts"])
    values: list[bytes] = []

    def read_on() -> bool:
        for message in consumer.consume(100, 0.5):
            assert message.error() is None, message.error()
            values.append(message.value() or b"")
        return len(values) >= count

    try:
        wait_until(read_on, PATIENCE, "the alerts should be there")
    finally:
        consumer.close()
    return values


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 — the service's own address
        text: str = answer.read().decode()
        return text


# ---- permissions that go -------------------------------------------------------------------------------------------


def test_a_permission_that_is_taken_away_ends_the_service_with_a_reason(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    here = Installation(secured_kafka, tmp_path)
    settings = here.with_scram()
    here.prepare(settings)
    with running(settings) as service:
        here.send(fraud.fraud_events(HOURS)[:100])
        wait_until(lambda: source_of(service).consumed >= 100, PATIENCE, "records should be read")
        secured_kafka.forbid(SERVICE, [p for p in here.permissions("service", settings) if p.name == here.source])
        assert service.wait(PATIENCE)
    assert isinstance(service.failed, FatalError)
    assert "uthorization failed" in str(service.failed)
    assert cluster_of(settings).bootstrap_servers not in str(service.failed)
