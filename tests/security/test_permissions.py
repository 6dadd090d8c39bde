"""The shipped list of permissions: nothing in it can be left out, and whoever leaves something out is told what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from streamdrift.assembly import cluster_of, groups, topic_specs
from streamdrift.errors import ConfigurationError
from streamdrift.kafka.topics import ensure_topics
from streamdrift.settings import Settings
from tests.security.installation import Installation, shipped
from tests.support.apache_kafka import ApacheKafka
from tests.support.secured_kafka import SERVICE, SUBSCRIBER, Permission, SecuredKafka
from tests.test_service import Site


def start(settings: Settings) -> None:
    """The first step of a start, which looks at everything that the others will need."""
    ensure_topics(cluster_of(settings), topic_specs(settings), groups(settings))


@pytest.fixture(scope="module")
def installed(secured_kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    here = Installation(secured_kafka, tmp_path_factory.mktemp("installed"))
    here.prepare(here.with_everything())
    yield here
    secured_kafka.forbid(SERVICE)


@contextmanager
def without(kafka: SecuredKafka, permission: Permission) -> Iterator[None]:
    kafka.forbid(SERVICE, [permission])
    try:
        yield
    finally:
        kafka.allow(SERVICE, [permission])


OPTIONAL = [permission for permission in shipped("service") if permission.operation == "Delete"]
NEEDED = [permission for permission in shipped("service") if permission not in OPTIONAL]


@pytest.mark.parametrize("index", range(len(NEEDED)), ids=["-".join(permission) for permission in NEEDED])
def test_without_one_permission_the_service_does_not_start_and_says_which(installed: Installation, index: int) -> None:
    settings = installed.with_everything()
    named = [p for p in installed.permissions("service", settings) if p.operation != "Delete"]
    missing = named[index]
    with without(installed.kafka, missing), pytest.raises(ConfigurationError) as refused:
        start(settings)
    assert f"{missing.operation} on {missing.kind} {missing.name}" in str(refused.value)
    assert "deploy/kafka/acls.csv" in str(refused.value)


def test_all_that_is_not_permitted_is_said_at_once(installed: Installation) -> None:
    settings = installed.with_everything()
    installed.kafka.forbid(SERVICE)
    try:
        with pytest.raises(ConfigurationError) as refused:
            start(settings)
    finally:
        installed.kafka.allow(SERVICE, installed.permissions("service", settings))
    for permission in installed.permissions("service", settings):
        assert f" {permission.kind} {permission.name}" in str(refused.value)


@pytest.mark.parametrize("optional", OPTIONAL, ids="-".join)
def test_without_the_permission_to_delete_the_service_runs_and_says_so(
    installed: Installation, optional: Permission
) -> None:
    settings = installed.with_everything()
    named = installed.permissions("service", settings)[shipped("service").index(optional)]
    with without(installed.kafka, named), capture_logs() as log:
        start(settings)
    assert [entry["need"] for entry in log] == [f"Delete on topic {named.name}"]


@pytest.mark.parametrize("missing", shipped("creator"), ids="-".join)
def test_without_one_permission_to_create_that_topic_is_missing_and_named(
    secured_kafka: SecuredKafka, tmp_path: Path, missing: Permission
) -> None:
    here = Installation(secured_kafka, tmp_path)
    settings = here.with_everything()
    secured_kafka.allow(SERVICE, here.permissions("service", settings) + here.permissions("creator", settings))
    name = here.permissions("creator", settings)[shipped("creator").index(missing)]
    message = rf"topic {name.name} is missing on .*, and Create on it is not permitted"
    with without(secured_kafka, name), pytest.raises(ConfigurationError, match=message):
        start(settings)
    start(settings)


@pytest.mark.parametrize(
    ("who", "missing"), [(who, missing) for who in ("subscriber", "trainer") for missing in shipped(who)]
)
def test_without_one_permission_a_subscriber_hears_nothing(
    secured_kafka: SecuredKafka, who: str, missing: Permission
) -> None:
    kept = [permission for permission in shipped(who) if permission != missing]
    names = {permission.kind: permission.name for permission in shipped(who)}
    secured_kafka.forbid(SUBSCRIBER)
    secured_kafka.allow(SUBSCRIBER, kept)
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": secured_kafka.addresses["SASL"],
            **secured_kafka.scram(SUBSCRIBER),
            "sasl.password": secured_kafka.passwords[SUBSCRIBER],
            "group.id": names["group"],
            "log_level": 0,
        }
    )
    consumer.subscribe([names["topic"]])
    try:
        (message,) = consumer.consume(1, 20)
    finally:
        consumer.close()
    error = message.error()
    assert error is not None
    assert error.code() in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


def test_where_no_permissions_are_managed_none_is_missing(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    settings = Site(apache_kafka, tmp_path, 1).settings()
    with capture_logs() as log:
        start(settings)
    assert log == []
