"""Building the Kafka clients: one place for the properties that the guarantees rest on.

A user's own properties reach every client, but for those that would break a guarantee: they are refused
by name. What librdkafka logs goes to structlog, and what it reports as errors is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import DEBUG
from typing import Any, Literal, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata

from streamdrift.errors import BrokerUnreachable, ConfigurationError, FatalError
from streamdrift.kafka import codes

Properties = Mapping[str, str | int | float | bool]
"""librdkafka's configuration properties by name."""

GroupProtocol = Literal["classic", "consumer"]

T = TypeVar("T")
Factory = Callable[[dict[str, Any]], T]

READER_GROUP = "streamdrift-reader"
"""A name that librdkafka demands of every consumer; a reader never joins it nor commits to it."""

OFFSETS_ARE_OURS = "offsets are committed together with what was made of the records"
REFUSED_PROPERTIES: Mapping[str, str] = {
    "bootstrap.servers": "it is kafka.bootstrap_servers",
    "metadata.broker.list": "it is kafka.bootstrap_servers",
    "group.id": "every stage has a group of its own",
    "group.protocol": "streamdrift chooses it for the cluster",
    "group.remote.assignor": "streamdrift chooses how partitions are shared out",
    "partition.assignment.strategy": "streamdrift chooses how partitions are shared out",
    "enable.auto.commit": OFFSETS_ARE_OURS,
    "auto.commit.enable": OFFSETS_ARE_OURS,
    "auto.commit.interval.ms": OFFSETS_ARE_OURS,
    "enable.auto.offset.store": OFFSETS_ARE_OURS,
    "offset.store.method": OFFSETS_ARE_OURS,
    "auto.offset.reset": "it is kafka.start_from; a position that was lost must stop the service, not move it",
    "isolation.level": "records of aborted transactions must never be counted",
    "enable.partition.eof": "without it a partition without traffic stops time",
    "check.crcs": "damaged records must not be counted",
    "allow.auto.create.topics": "a misspelt topic must be an error",
    "enable.idempotence": "retries must not repeat or reorder records",
    "acks": "a record counts as written once all replicas in sync have it",
    "request.required.acks": "a record counts as written once all replicas in sync have it",
    "max.in.flight": "retries must not repeat or reorder records",
    "max.in.flight.requests.per.connection": "retries must not repeat or reorder records",
    "retries": "it is bounded by delivery.timeout.ms",
    "message.send.max.retries": "it is bounded by delivery.timeout.ms",
    "delivery.report.only.error": "every record is checked to have been acknowledged",
    "transactional.id": "streamdrift names its transactions by stage and instance",
    "partitioner": "records of one key must meet in one partition, whoever writes them",
    "log.queue": "log lines go to streamdrift's own log",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster and how to speak to it."""

    bootstrap_servers: str
    """``host:port``, several separated by commas."""
    client: Properties = field(default_factory=dict)
    """The user's own librdkafka properties, given to every client."""
    group_protocol: GroupProtocol = "classic"
    """How consumer groups rebalance; ``consumer`` is KIP-848, the only quick one on the embedded broker."""
    embedded: bool = False
    """Whether it is the embedded broker, which has no topic administration."""
    request_timeout: float = 10.0
    """Seconds that a broker may take to answer one request."""
    patience: float = 60.0
    """Seconds for which requests that may succeed later are repeated before the process gives up."""

    def __post_init__(self) -> None:
        for name in self.client:
            if name in REFUSED_PROPERTIES:
                raise ConfigurationError(f"kafka.client.{name} cannot be set: {REFUSED_PROPERTIES[name]}")


class ClientErrors:
    """Counts what a client reports as an error, and logs it; clients call it from the thread that polls them.

    These are information: librdkafka goes on trying. What cannot go on is raised where it matters.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last: KafkaError | None = None
        self._seldom = _Seldom()

    def __call__(self, error: KafkaError) -> None:
        self._counts[error.name()] += 1
        self._last = error
        if self._seldom.due(error.name()):
            seen = self._counts[error.name()]
            structlog.get_logger().warning("kafka client error", error=error.name(), reason=error.str(), seen=seen)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each error was reported, by librdkafka's name for it."""
        return dict(self._counts)

    @property
    def last(self) -> KafkaError | None:
        return self._last


class _LogLines:
    """librdkafka's log lines as structlog events; has the one method that the client calls on a logger."""

    def __init__(self) -> None:
        self._seldom = _Seldom()

    def log(self, level: int, template: str, *values: str) -> None:
        """Log ``values``, which are a facility (such as FAIL), the client's name and the message."""
        facility, _, message = values
        # The user's properties are given to consumers and producers alike: that each ignores some is no news.
        if message.endswith(_IGNORED) or (level > DEBUG and not self._seldom.due(facility)):
            return
        structlog.get_logger().log(level, "librdkafka", message=template % values)


class _Seldom:
    """Lets one event of a kind pass in ten seconds: without a broker each client fails to connect 40 times a second."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def due(self, kind: str) -> bool:
        now = time.monotonic()
        if now < self._next.get(kind, 0.0):
            return False
        self._next[kind] = now + _SELDOM
        return True


_SELDOM = 10.0
_IGNORED = ("will be ignored by this producer instance", "will be ignored by this consumer instance")


def group_consumer(cluster: Cluster, group_id: str, errors: ClientErrors) -> Consumer:
    """A member of the group, that reads only what was committed and commits only what it is told to."""
    # Bounds the memory of a catch-up: librdkafka holds this much of what was not polled yet, and one answer more.
    # The back-off is how long a full queue stops fetching; its default of 1 s makes a fast reader wait.
    queue: dict[str, Any] = {
        "queued.max.messages.kbytes": 16_384,
        "fetch.max.bytes": 16_777_216,
        "fetch.queue.backoff.ms": 20,
        # New partitions are found as quickly as the loop finds them.
        "topic.metadata.refresh.interval.ms": 30_000,
    }
    group: dict[str, Any] = {"group.id": group_id, "group.protocol": cluster.group_protocol}
    if cluster.group_protocol == "classic":
        group["partition.assignment.strategy"] = "cooperative-sticky"
    return _made(Consumer, cluster, queue, {**_reading("error"), **group}, errors)


def reader(cluster: Cluster, errors: ClientErrors) -> Consumer:
    """A consumer that is told which partitions to read, from their beginning; it is in no group."""
    return _made(Consumer, cluster, {}, {**_reading("earliest"), "group.id": READER_GROUP}, errors)


def producer(cluster: Cluster, errors: ClientErrors) -> Producer:
    """An idempotent producer that places keys as Java clients do, so that all writers agree on the partition."""
    defaults: dict[str, Any] = {
        "compression.type": "lz4",
        "linger.ms": 5,
        "queue.buffering.max.kbytes": 65_536,
        # Less than max.poll.interval.ms, so that a record that cannot be delivered is the error that is seen.
        "delivery.timeout.ms": 60_000,
    }
    fixed: dict[str, Any] = {"enable.idempotence": True, "partitioner": "murmur2_random"}
    return _made(Producer, cluster, defaults, fixed, errors)


def admin(cluster: Cluster, errors: ClientErrors) -> AdminClient:
    """Administers. It asks as producers do: where brokers make topics by themselves, asking for one makes it."""
    return _made(AdminClient, cluster, {}, {}, errors)


def reach(cluster: Cluster, client: AdminClient, errors: ClientErrors) -> ClusterMetadata:
    """All topics of the cluster, which shows that it answers.

    Raises ``BrokerUnreachable`` with what the client saw last, or ``ConfigurationError`` if that was a
    refusal (credentials, certificates).
    """
    try:
        return insist(lambda: client.list_topics(timeout=cluster.request_timeout), cluster.request_timeout)
    except FatalError as unanswered:
        client.poll(0)  # what happened behind the time-out waits to be told
        last = errors.last
        seen = str(unanswered) if last is None else last.str()
        if last is not None and last.code() in codes.CREDENTIALS_REFUSED:
            raise ConfigurationError(f"kafka: {cluster.bootstrap_servers} refused the client: {seen}") from None
        raise BrokerUnreachable(
            f"no broker answered at {cluster.bootstrap_servers} within {cluster.request_timeout:g} s: {seen}"
        ) from None


def insist(call: Callable[[], T], patience: float, beat: Callable[[], None] = lambda: None) -> T:
    """The result of ``call``, repeated for ``patience`` seconds while it fails in a way that may pass.

    ``beat`` is called before every try. Raises ``FatalError`` once patience has run out, and at once for
    errors that do not pass.
    """
    deadline = time.monotonic() + patience
    pause = 0.05
    while True:
        beat()
        try:
            return call()
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if not _may_pass(error) or time.monotonic() + pause > deadline:
                raise FatalError(f"kafka: {error.str()} ({error.name()})") from failure
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _may_pass(error: KafkaError) -> bool:
    """Whether the same request may succeed a moment later."""
    return error.retriable() or error.code() in codes.PASSING


def _reading(reset: str) -> dict[str, Any]:
    """What every consumer has in common; ``reset`` is what it does where its position does not exist."""
    return {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": reset,
        "enable.partition.eof": True,
        "check.crcs": True,
        "allow.auto.create.topics": False,
    }


def _made(
    factory: Factory[T], cluster: Cluster, defaults: dict[str, Any], fixed: dict[str, Any], errors: ClientErrors
) -> T:
    """A client: our defaults, which the user's properties override, and what nobody overrides."""
    # Bounds what has no time-out of its own, such as committing offsets while no broker answers.
    common: dict[str, Any] = {"client.id": "streamdrift", "socket.timeout.ms": round(1000 * cluster.request_timeout)}
    properties = {**common, **defaults, **cluster.client, **fixed}
    connection = {"bootstrap.servers": cluster.bootstrap_servers}
    try:
        return factory({**connection, **properties, "logger": _LogLines(), "error_cb": errors})
    except (KafkaException, TypeError, ValueError) as refused:
        reason = refused.args[0].str() if isinstance(refused, KafkaException) else str(refused)
        raise ConfigurationError(f"kafka.client: {reason}") from refused
