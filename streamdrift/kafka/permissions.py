"""What the user of the clients may do, asked before anything is done.

A permission that is missing would otherwise be noticed when it is first needed, which for alerts is the worst moment.
Brokers that do not say what is permitted are believed to permit it. All that streamdrift needs is listed in
``deploy/kafka/acls.csv``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from streamdrift.errors import ConfigurationError
from streamdrift.kafka import codes
from streamdrift.kafka.client import Cluster


class Access(Enum):
    """Operations of Kafka's access control lists, by the names that its tools use."""

    READ = "Read"
    WRITE = "Write"
    DELETE = "Delete"
    DESCRIBE_CONFIGS = "DescribeConfigs"


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be permitted on a topic or a group."""

    kind: str
    """``topic`` or ``group``."""
    name: str
    access: Collection[Access]

    def __str__(self) -> str:
        return f"{', '.join(access.value for access in self.access)} on {self.kind} {self.name}"


def require(cluster: Cluster, admin: AdminClient, needs: Sequence[Need]) -> None:
    """Raises ``ConfigurationError`` that names all of ``needs`` that are not permitted."""
    lacking = missing(cluster, admin, needs)
    if lacking:
        listed = "; ".join(map(str, lacking))
        raise ConfigurationError(f"not permitted on {cluster.bootstrap_servers}: {listed} (see deploy/kafka/acls.csv)")


def missing(cluster: Cluster, admin: AdminClient, needs: Sequence[Need]) -> list[Need]:
    """What is not permitted of ``needs``. Topics that do not exist are left out, unless they may not even be seen."""
    topics = [need.name for need in needs if need.kind == "topic"]
    groups = [need.name for need in needs if need.kind == "group"]
    limit = cluster.request_timeout
    answers: dict[tuple[str, str], Future[Any]] = {}
    if topics:
        found = admin.describe_topics(
            TopicCollection(topics), include_authorized_operations=True, request_timeout=limit
        )
        answers |= {("topic", name): answer for name, answer in found.items()}
    if groups:
        found = admin.describe_consumer_groups(groups, include_authorized_operations=True, request_timeout=limit)
        answers |= {("group", name): answer for name, answer in found.items()}
    permitted = {asked: _permitted(answer) for asked, answer in answers.items()}
    lacking = [Need(need.kind, need.name, _lacking(need, permitted)) for need in needs]
    return [need for need in lacking if need.access]


def _lacking(need: Need, permitted: Mapping[tuple[str, str], Collection[AclOperation] | None]) -> list[Access]:
    operations = permitted[need.kind, need.name]
    return [] if operations is None else [access for access in need.access if _OPERATIONS[access] not in operations]


def _permitted(answer: Future[Any]) -> Collection[AclOperation] | None:
    """What the answer's topic or group permits; None if that is not known."""
    try:
        # Who may see anything may at least do that: an empty list is from a broker that does not tell.
        return answer.result().authorized_operations or None
    except KafkaException as failure:
        return () if failure.args[0].code() in codes.NOT_PERMITTED else None


_OPERATIONS = {
    Access.READ: AclOperation.READ,
    Access.WRITE: AclOperation.WRITE,
    Access.DELETE: AclOperation.DELETE,
    Access.DESCRIBE_CONFIGS: AclOperation.DESCRIBE_CONFIGS,
}
