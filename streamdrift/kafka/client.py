"""Building the Kafka clients: one place for the properties that the guarantees rest on.

A user's own properties reach every client, but for those that would break a guarantee: they are refused
by name. What librdkafka logs goes to structlog, and what it reports as errors is counted. Neither repeats the
value of a property: passwords are among them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from logging import DEBUG
from threading import Thread
from typing import Any, Literal, Protocol, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata

from streamdrift.errors import BrokerUnreachable, ConfigurationError, FatalError
from streamdrift.kafka import codes
from streamdrift.kafka.repeats import Repeats
from streamdrift.kafka.tokens import Tokens

Properties = Mapping[str, str | int | float | bool]
"""librdkafka's configuration properties by name."""

GroupProtocol = Literal["classic", "consumer"]

T = TypeVar("T")
Factory = Callable[[dict[str, Any]], T]

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
    "oauth_cb": "it is kafka.token_provider",
}

_HIDDEN = "[hidden]"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster and how to speak to it."""

    bootstrap_servers: str
    """``host:port``, several separated by commas."""
    client: Properties = field(default_factory=dict, repr=False)
    """The user's own librdkafka properties, given to every client; passwords in clear."""
    group_protocol: GroupProtocol = "classic"
    """How consumer groups rebalance; ``consumer`` is KIP-848, the only quick one on the embedded broker."""
    embedded: bool = False
    """Whether it is the embedded broker, which has no topic administration."""
    request_timeout: float = 10.0
    """Seconds that a broker may take to answer one request."""
    patience: float = 60.0
    """Seconds for which requests that may succeed later are repeated before the process gives up."""
    tokens: Tokens | None = None
    """Where OAUTHBEARER tokens come from, if not from librdkafka itself."""
    reader_group: str = "streamdrift-reader"
    """Named by readers, which never join it nor commit to it: librdkafka demands a name of every consumer, and asks
    the brokers about it until it is told. Best one that the user is permitted to read anyway."""
    repeats: Repeats = field(default_factory=Repeats, repr=False, compare=False)
    """What was told lately; shared by all clients, for they all tell of the same outage."""

    def __post_init__(self) -> None:
        for name in self.client:
            if name in REFUSED_PROPERTIES:
                raise ConfigurationError(f"kafka.client.{name} cannot be set: {REFUSED_PROPERTIES[name]}")


class ClientErrors:
    """Counts what a client reports as an error, and logs it; clients call it from the thread that polls them.

    These are information: librdkafka goes on trying. What cannot go on is raised where it matters.
    """

    def __init__(self, repeats: Repeats | None = None) -> None:
        """``repeats`` are those of the cluster, if other clients of it may report the same."""
        self._counts: Counter[str] = Counter()
        self._repeats = repeats or Repeats()
        self.reason = ""
        """Why there is no connection, as far as the client has said; empty if it has not."""
        self.refusal = ""
        """Why there will be none, whoever is asked and however often: credentials or certificates."""

    def __call__(self, error: KafkaError) -> None:
        self._counts[error.name()] += 1
        if error.code() != codes.ALL_BROKERS_DOWN:  # which says no more than that
            self.reason = error.str()
        if _refuses(error):
            self.refusal = error.str()
        if times := self._repeats.told(error.name()):
            structlog.get_logger().warning("kafka client error", error=error.name(), reason=error.str(), times=times)

    def disconnected(self, message: str) -> None:
        """Hear what is not reported as an error: the other side has closed the connection."""
        self.reason = f"{message}; does the listener expect another kafka.client.security.protocol?"

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each error was reported, by librdkafka's name for it."""
        return dict(self._counts)


def _refuses(error: KafkaError) -> bool:
    """Whether the same client will be refused again. With TLS 1.3 a broker's refusal comes after the handshake."""
    return error.code() in codes.CREDENTIALS_REFUSED or "SSL alert number" in error.str()


class _Lines(Protocol):
    """What the client asks of a logger."""

    def log(self, level: int, template: str, *values: str) -> None:
        """Take one line."""


class _Silence:
    """Where the lines of a client go that is made for its properties to be looked at."""

    def log(self, level: int, template: str, *values: str) -> None:
        """Nobody asked."""


class _LogLines:
    """librdkafka's log lines as structlog events; has the one method that the client calls on a logger."""

    def __init__(self, cluster: Cluster, errors: ClientErrors) -> None:
        self._repeats = cluster.repeats
        self._errors = errors
        self._values = [str(value) for value in cluster.client.values()]

    def log(self, level: int, template: str, *values: str) -> None:
        """Log ``values``, which are a facility (such as FAIL), the client's name and the message."""
        facility, name, message = values
        # The user's properties are given to consumers and producers alike: that each ignores some is no news.
        if message.endswith(_IGNORED):
            return
        times = 1 if level == DEBUG else self._repeats.told(facility)
        if facility == "FAIL" and "Disconnected" in message:
            self._errors.disconnected(message.partition("]: ")[2])
        elif facility == "FAIL":
            level = DEBUG  # it is reported as an error too, and told there
        if times:
            if facility.startswith("CONF"):
                # librdkafka hides passwords, but not one that stands at the wrong property.
                message = _redacted(message, self._values)
            line = template % (facility, name, message)
            structlog.get_logger().log(level, "librdkafka", message=line, times=times)


_IGNORED = ("will be ignored by this producer instance", "will be ignored by this consumer instance")


def group_consumer(cluster: Cluster, group_id: str, errors: ClientErrors, *, together: bool = False) -> Consumer:
    """A member of the group, that reads only what was committed and commits only what it is told to.

    ``together`` shares partitions out by their number: that of each topic goes to the same member.
    """
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
        # The sticky one moves little, but gives partitions of one number to different members.
        group["partition.assignment.strategy"] = "range" if together else "cooperative-sticky"
    elif together and not cluster.embedded:
        group["group.remote.assignor"] = "range"
    return _made(Consumer, cluster, queue, {**_reading("error"), **group}, errors)


def reader(cluster: Cluster, errors: ClientErrors) -> Consumer:
    """A consumer that is told which partitions to read, from their beginning; it is in no group."""
    return _made(Consumer, cluster, {}, {**_reading("earliest"), "group.id": cluster.reader_group}, errors)


def producer(cluster: Cluster, errors: ClientErrors, lines: _Lines | None = None) -> Producer:
    """An idempotent producer that places keys as Java clients do, so that all writers agree on the partition."""
    defaults: dict[str, Any] = {
        "compression.type": "lz4",
        "linger.ms": 5,
        "queue.buffering.max.kbytes": 65_536,
        # Less than max.poll.interval.ms, so that a record that cannot be delivered is the error that is seen.
        "delivery.timeout.ms": 60_000,
    }
    fixed: dict[str, Any] = {"enable.idempotence": True, "partitioner": "murmur2_random"}
    return _made(Producer, cluster, defaults, fixed, errors, lines)


def admin(cluster: Cluster, errors: ClientErrors) -> AdminClient:
    """Administers. It asks as producers do: where brokers make topics by themselves, asking for one makes it."""
    return _made(AdminClient, cluster, {}, {}, errors)


def try_properties(properties: Properties) -> None:
    """Raises ``ConfigurationError`` for what librdkafka does not accept. Nothing is connected to."""
    # A client asks for its first token when it is made: no secret may leave because somebody looks at a configuration.
    endpoint = "sasl.oauthbearer.token.endpoint.url"
    nowhere = {endpoint: "http://127.0.0.1:9"} if endpoint in properties else {}
    producer(Cluster("", {**properties, **nowhere}), ClientErrors(), _Silence()).close()


def reach(cluster: Cluster, client: AdminClient, errors: ClientErrors) -> ClusterMetadata:
    """All topics of the cluster that the user may see, which shows that it answers.

    Raises ``BrokerUnreachable`` with what the client saw last, or ``ConfigurationError`` if that was a
    refusal (credentials, certificates) and stayed so for a moment. A signal's handler may raise through it.
    """
    limit = cluster.request_timeout
    # In the background, for librdkafka waits without listening: neither to signals nor to what its threads report.
    answer = _in_background(lambda: insist(lambda: client.list_topics(timeout=limit), limit))
    until = time.monotonic() + 2 * limit
    while not wait([answer], _GLANCE).done and time.monotonic() < until:
        client.poll(0)
        if errors.refusal:
            # Another broker may accept, or this one in a moment, if it has just started.
            until = min(until, time.monotonic() + _SECOND_THOUGHTS)
    client.poll(0)
    if answer.done() and answer.exception() is None:
        return answer.result()
    if errors.refusal:
        raise ConfigurationError(f"kafka: no access to {cluster.bootstrap_servers}: {errors.refusal}")
    seen = errors.reason or (str(answer.exception()) if answer.done() else "no answer")
    raise BrokerUnreachable(f"no broker answered at {cluster.bootstrap_servers} within {limit:g} s: {seen}")


_GLANCE = 0.1
_SECOND_THOUGHTS = 3.0
"""Seconds."""


def _in_background(call: Callable[[], T]) -> Future[T]:
    """The result of ``call``, which runs on a thread that no end of the process waits for."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as failure:  # noqa: BLE001 — raised again where the answer is asked for
            answer.set_exception(failure)

    Thread(target=run, name="kafka metadata", daemon=True).start()
    return answer


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
    factory: Factory[T],
    cluster: Cluster,
    defaults: dict[str, Any],
    fixed: dict[str, Any],
    errors: ClientErrors,
    lines: _Lines | None = None,
) -> T:
    """A client: our defaults, which the user's properties override, and what nobody overrides."""
    # Bounds what has no time-out of its own, such as committing offsets while no broker answers.
    common: dict[str, Any] = {"client.id": "streamdrift", "socket.timeout.ms": round(1000 * cluster.request_timeout)}
    properties = {**common, **defaults, **cluster.client, **fixed}
    surroundings: dict[str, Any] = {"logger": lines or _LogLines(cluster, errors), "error_cb": errors}
    if cluster.tokens is not None:
        # Without a token the client would be made after ten seconds of silence, or not, and say nothing.
        cluster.tokens.try_once(cluster.client.get("sasl.oauthbearer.config"))
        surroundings["oauth_cb"] = cluster.tokens
    connection = {"bootstrap.servers": cluster.bootstrap_servers}
    try:
        return factory({**connection, **properties, **surroundings})
    except (KafkaException, TypeError, ValueError) as refused:
        reason = refused.args[0].str() if isinstance(refused, KafkaException) else str(refused)
    # Not from what was refused: librdkafka repeats values, and a traceback would show them.
    raise ConfigurationError(f"kafka.client: {_redacted(reason, map(str, cluster.client.values()))}")


def _redacted(text: str, values: Iterable[str]) -> str:
    """``text`` without any of ``values``; short ones, which are words of the language too, only in quotes."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        for quote in '"`':
            text = text.replace(f"{quote}{value}{quote}", f"{quote}{_HIDDEN}{quote}")
        if len(value) > _SHORT:
            text = text.replace(value, _HIDDEN)
    return text


_SHORT = 5
"""Characters."""
