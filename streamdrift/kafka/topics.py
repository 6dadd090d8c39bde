"""The topics that streamdrift needs: created where they are missing, verified where they exist."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, TopicMetadata

from streamdrift.errors import ConfigurationError
from streamdrift.kafka import client, codes, permissions
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.permissions import Access, Need


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it has to be."""

    name: str
    partitions: int | None = None
    """How many; None takes what is there, and the broker's default for a new topic."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Topic configuration that a new topic is given, such as ``cleanup.policy``."""
    verified: Collection[str] = ()
    """The names in ``config`` that an existing topic must agree with; the others are its operator's choice."""
    replication: int = -1
    """How many replicas a new topic has; -1 is the broker's default."""
    create: bool = True
    """False for a topic that somebody else owns: it must exist."""
    access: Collection[Access] = ()
    """What will be done to its records."""
    wished: Collection[Access] = ()
    """The same, but only logged if it is not permitted."""

    @property
    def need(self) -> Need:
        config = [Access.DESCRIBE_CONFIGS] if self.verified else []
        return Need("topic", self.name, [*self.access, *config])


def ensure_topics(cluster: Cluster, specs: Sequence[TopicSpec], groups: Collection[str] = ()) -> dict[str, int]:
    """Create what is missing, verify what is there, and say how many partitions each topic has.

    Nothing that exists is changed. That ``groups`` may be joined is verified too. The embedded broker has no
    administration: there every topic appears as it is, with 4 partitions. Raises ``BrokerUnreachable``, and
    ``ConfigurationError`` that names the topic and what it should be.
    """
    errors = ClientErrors(cluster.repeats)
    admin = client.admin(cluster, errors)
    existing = client.reach(cluster, admin, errors).topics
    if cluster.embedded:
        return {spec.name: _touch(cluster, admin, spec.name) for spec in specs}
    joined = [Need("group", group, [Access.READ]) for group in groups]
    permissions.require(cluster, admin, [*(spec.need for spec in specs), *joined])
    present = [spec for spec in specs if spec.name in existing]
    missing = [spec for spec in specs if spec.name not in existing]
    _refuse_absent([spec.name for spec in missing if not spec.create], cluster)
    for spec in present:
        _verify_partitions(spec, existing[spec.name])
    _verify_configs(cluster, admin, [spec for spec in present if spec.verified])
    if missing:
        _create(cluster, admin, missing)
        existing = client.insist(lambda: _described(cluster, admin, specs), cluster.patience)
        permissions.require(cluster, admin, [spec.need for spec in missing])
    for need in permissions.missing(cluster, admin, [Need("topic", s.name, s.wished) for s in specs if s.wished]):
        structlog.get_logger().warning("not permitted", need=str(need))
    return {spec.name: len(existing[spec.name].partitions) for spec in specs}


def partition_counts(cluster: Cluster, names: Collection[str]) -> dict[str, int]:
    """The partitions of those of the topics that exist. Raises ``BrokerUnreachable``."""
    errors = ClientErrors(cluster.repeats)
    admin = client.admin(cluster, errors)
    existing = client.reach(cluster, admin, errors).topics
    if cluster.embedded:
        return {name: _touch(cluster, admin, name) for name in names}
    return {name: len(existing[name].partitions) for name in names if name in existing}


def _touch(cluster: Cluster, admin: AdminClient, name: str) -> int:
    """Ask for a topic, which makes it on the embedded broker; the number of its partitions."""
    return len(admin.list_topics(name, timeout=cluster.request_timeout).topics[name].partitions)


def _refuse_absent(names: Sequence[str], cluster: Cluster) -> None:
    if names:
        raise ConfigurationError(f"missing on {cluster.bootstrap_servers}: topic {', '.join(names)}")


def _verify_partitions(spec: TopicSpec, found: TopicMetadata) -> None:
    if found.error is not None:
        raise ConfigurationError(f"topic {spec.name}: {found.error.str()}")
    if spec.partitions is not None and len(found.partitions) != spec.partitions:
        raise ConfigurationError(
            f"topic {spec.name} has {len(found.partitions)} partitions, but should have {spec.partitions}; "
            "its records are placed by key, so that its partition count cannot change while its data is used"
        )


def _verify_configs(cluster: Cluster, admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """Compare the configuration entries that matter with those of the existing topics."""
    if not specs:
        return
    asked = [ConfigResource(ConfigResource.Type.TOPIC, spec.name) for spec in specs]
    answers = admin.describe_configs(asked, request_timeout=cluster.request_timeout)
    found = {resource.name: future for resource, future in answers.items()}
    for spec in specs:
        try:
            entries = found[spec.name].result()
        except KafkaException as failure:
            raise ConfigurationError(
                f"topic {spec.name}: its configuration is not readable: {_said(failure)}"
            ) from None
        for name in spec.verified:
            actual = entries[name].value
            if _normal(actual) != _normal(spec.config[name]):
                raise ConfigurationError(f"topic {spec.name} has {name}={actual}, but should have {spec.config[name]}")


def _normal(value: str | None) -> list[str]:
    """Lists in configuration values have no order: ``compact,delete`` is ``delete,compact``."""
    return sorted(part.strip() for part in (value or "").split(","))


def _create(cluster: Cluster, admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    wanted = [
        NewTopic(
            spec.name,
            num_partitions=-1 if spec.partitions is None else spec.partitions,
            replication_factor=spec.replication,
            config=dict(spec.config),
        )
        for spec in specs
    ]
    for name, future in admin.create_topics(wanted, request_timeout=cluster.request_timeout).items():
        try:
            future.result()
        except KafkaException as failure:
            code = failure.args[0].code()
            if code in codes.NOT_PERMITTED:
                raise ConfigurationError(
                    f"topic {name} is missing on {cluster.bootstrap_servers}, and Create on it is not permitted"
                ) from None
            # Another replica that starts at the same time may have been quicker.
            if code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConfigurationError(f"topic {name} cannot be created: {_said(failure)}") from None


def _described(cluster: Cluster, admin: AdminClient, specs: Sequence[TopicSpec]) -> dict[str, TopicMetadata]:
    """The topics' metadata, once every broker that answers knows the new ones."""
    topics = admin.list_topics(timeout=cluster.request_timeout).topics
    for spec in specs:
        if spec.name not in topics:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE, f"topic {spec.name} is not there yet"))
        _verify_partitions(spec, topics[spec.name])
    return topics


def _said(failure: KafkaException) -> str:
    return str(failure.args[0].str())
