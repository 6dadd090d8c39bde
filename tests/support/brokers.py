"""The brokers that the tests run on, seen through one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from streamdrift.kafka.client import Cluster
from streamdrift.kafka.embedded import EmbeddedBroker
from streamdrift.kafka.topics import TopicSpec, ensure_topics


class Broker(Protocol):
    """A running cluster on which a test may make topics."""

    @property
    def cluster(self) -> Cluster: ...

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Returns once the topic can be used."""


class EmbeddedTestBroker(EmbeddedBroker):
    """The embedded broker: topics come with 4 partitions and without configuration."""

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Make the topic appear; ``config`` has no effect there."""
        del config
        found = ensure_topics(self.cluster, [TopicSpec(name)])[name]
        assert found == partitions, f"topics of the embedded broker have {found} partitions"
