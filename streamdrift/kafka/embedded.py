"""A Kafka broker inside this process, for the demo and for tests: librdkafka's mock cluster.

Real TCP listeners on loopback that any Kafka client can attach to, ready within 0.1 s, gone with the
process. What it cannot do:

- no topic administration: topics appear when they are first asked for, always with 4 partitions, and
  nothing compacts or expires them;
- only about the last 5 MiB of each partition are kept, so slow readers lose records;
- transactions are accepted but mean nothing, and their offsets are dropped: at_least_once only;
- classic groups take 3 s to join and 44 s to rejoin: use ``group_protocol="consumer"``;
- nothing is stored on disk.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from streamdrift.errors import BrokerUnreachable
from streamdrift.kafka.client import Cluster

EMBEDDED_PARTITIONS = 4
"""How many partitions every topic has there."""

START_TIMEOUT = 10.0
"""Seconds; it takes a hundredth of that."""


class EmbeddedBroker:
    """The broker lives from ``__enter__`` to ``__exit__``; end its clients before it."""

    def __init__(self, brokers: int = 1) -> None:
        self._count = brokers
        self._owner: Producer | None = None
        self.bootstrap_servers = ""

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.bootstrap_servers, group_protocol="consumer", embedded=True)

    def __enter__(self) -> Self:
        # Any client can own a mock cluster; this one does nothing else. It logs emergencies only: there is nobody to
        # read that a client of the broker went away.
        self._owner = Producer({"test.mock.num.brokers": self._count, "log_level": 0})
        brokers = self._owner.list_topics(timeout=START_TIMEOUT).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        if not self.bootstrap_servers:
            raise BrokerUnreachable(f"the embedded broker did not start within {START_TIMEOUT:g} s")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._owner is not None:
            self._owner.close()
            self._owner = None
