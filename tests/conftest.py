"""Brokers as fixtures: the embedded one anew for each test, Apache Kafka once for all tests that ask for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.support.apache_kafka import ApacheKafka, KafkaUnavailable
from tests.support.brokers import Broker, EmbeddedTestBroker
from tests.support.secured_kafka import SecuredKafka

Node = TypeVar("Node", bound=ApacheKafka)


@pytest.fixture
def embedded_broker() -> Iterator[EmbeddedTestBroker]:
    with EmbeddedTestBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka]:
    yield from running(ApacheKafka())


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[SecuredKafka]:
    """Asks everybody for a name and a permission."""
    yield from running(SecuredKafka())


def running(kafka: Node) -> Iterator[Node]:
    """Skips what asks for it where Apache Kafka cannot be had; with CI=true that is a failure."""
    try:
        kafka.__enter__()
    except KafkaUnavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true: nothing may be skipped, and Apache Kafka is not available: {reason}")
        pytest.skip(f"this test runs on Apache Kafka: {reason}")
    try:
        yield kafka
    finally:
        kafka.__exit__(None, None, None)


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Both brokers, one after the other."""
    chosen: Broker = request.getfixturevalue("embedded_broker" if request.param == "embedded" else "apache_kafka")
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever uses Apache Kafka, so that ``-m 'not kafka'`` leaves it out."""
    for item in items:
        if {"apache_kafka", "secured_kafka"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
