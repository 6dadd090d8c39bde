"""A password is nowhere to be seen: not in what is printed, compared, dumped, logged or raised."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from streamdrift import logs
from streamdrift.assembly import Service, cluster_of
from streamdrift.check import check
from streamdrift.errors import BrokerUnreachable, ConfigurationError
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors, Cluster, try_properties
from streamdrift.settings import Settings
from tests.support import fraud

CANARY = "canary-51ab-password"


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    (tmp_path / "password").write_text(CANARY, encoding="utf-8")
    properties = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "streamdrift",
        "sasl.password": {"file": "password"},
    }
    return fraud.settings(tmp_path, {"kafka.client": properties})


def test_nothing_that_holds_the_password_shows_it(configured: Settings) -> None:
    cluster = cluster_of(configured)
    service = Service(configured)
    assert CANARY in cluster.client.values(), "the search has to have an object"
    shown = [
        repr(configured),
        str(configured),
        repr(configured.kafka),
        configured.model_dump_json(),
        str(configured.model_dump()),
        repr(cluster),
        str(cluster),
        repr(service),
        repr(vars(service)),
        repr(client.producer(cluster, ClientErrors())),
    ]
    assert [text for text in shown if CANARY in text] == []


def test_neither_check_nor_its_json_shows_it(tmp_path: Path, configured: Settings) -> None:
    assert configured.kafka.client
    path = tmp_path / "streamdrift.yaml"
    flags = {
        "kafka.client.sasl.password": CANARY,
        "kafka.client.sasl.mechanism": CANARY,
        "kafka.client.security.protocol": CANARY,
        "kafka.client.linger.ms": CANARY,
        "kafka.client.no.such": CANARY,
        "http.port": "x",
    }
    for given in [{name: value} for name, value in flags.items()] + [flags]:
        report = check(path, given, {})
        assert CANARY not in str(report) + report.to_json() + repr(report)


@pytest.mark.parametrize("name", ["security.protocol", "linger.ms", "builtin.features", "ssl.key.pem", "no.such"])
def test_a_password_at_the_wrong_property_is_not_repeated(name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        client.producer(Cluster("localhost:9092", {"security.protocol": "ssl", name: CANARY}), ClientErrors())
    assert CANARY not in "".join(traceback.format_exception(refused.value))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The service's own log at its most talkative."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.set_up("debug", "json", stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_the_log_of_a_client_does_not_show_it_whatever_librdkafka_is_asked_to_tell(log: io.StringIO) -> None:
    secrets = {
        "sasl.username": "streamdrift",
        "sasl.password": CANARY,
        "ssl.key.password": CANARY,
        "sasl.mechanism": CANARY,  # in the wrong place, and not refused without SASL
        "sasl.oauthbearer.client.secret": CANARY,
        "debug": "all",
    }
    producer = client.producer(Cluster("127.0.0.1:9", secrets), ClientErrors())
    producer.poll(0.5)
    producer.close()
    assert "sasl.password" in log.getvalue()
    assert "sasl.mechanism" in log.getvalue()
    assert CANARY not in log.getvalue()


def test_check_writes_nothing_else_even_where_librdkafka_is_to_tell_all(
    configured: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    structlog.reset_defaults()  # prints, as where nobody has set a log up
    try_properties({**configured.kafka.properties(), "debug": "all"})
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ConfigurationError):
        try_properties({**configured.kafka.properties(), "debug": "everything"})


def test_a_start_that_fails_does_not_show_it_in_its_traceback(configured: Settings, log: io.StringIO) -> None:
    service = Service(configured, cluster=Cluster("127.0.0.1:9", configured.kafka.properties(), request_timeout=0.5))
    with pytest.raises(BrokerUnreachable) as unreachable:
        service.start()
    structlog.get_logger().error("start failed", exc_info=unreachable.value)
    assert "Traceback" in log.getvalue()
    assert CANARY not in "".join(traceback.format_exception(unreachable.value)) + log.getvalue()
