"""Apache Kafka for the tests: fetched with Maven, one node, gone after the tests.

``python -m tests.support.apache_kafka --fetch`` puts its jars into ``.cache/kafka`` of the checkout, once.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from streamdrift.kafka import client
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.offsets import Side, list_offsets
from streamdrift.records import TopicPartition

VERSION = "4.1.0"
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    # Kafka logs through slf4j, and ships no binding in Maven.
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
)
CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
JARS = CACHE / VERSION

FETCH_TIMEOUT = 900.0
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
TELL_EVERY = 5.0
"""Seconds, all of them."""

JVM = (
    "-Xms256m",
    "-Xmx512m",
    # Starts in half the time; nothing here runs long enough for the other compiler to pay.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
)
SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    # One node.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Quick rather than gentle: members join at once, dead ones are noticed soon, aborted transactions end soon.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    # Small: many short-lived topics on one disk.
    "log.segment.bytes": "1048576",
    "log.index.size.max.bytes": "1048576",
    "offsets.topic.segment.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "4194304",
}
LOG4J = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
"""


class KafkaUnavailable(Exception):
    """Apache Kafka cannot be had here; the message says what is missing."""


def missing() -> str | None:
    """What keeps Apache Kafka from running here; None when nothing does."""
    if shutil.which("java") is None:
        return "Java 17 or newer is not installed"
    if not JARS.is_dir():
        return "its jars are not fetched: python -m tests.support.apache_kafka --fetch (needs Maven)"
    return None


def fetch() -> None:
    """Put the jars into the cache unless they are there; of two at once, one waits for the other.

    Raises ``KafkaUnavailable``.
    """
    if JARS.is_dir():
        return
    if shutil.which("mvn") is None:
        raise KafkaUnavailable("Maven is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    with _lock(CACHE / "lock"), tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as place:
        if JARS.is_dir():
            return
        jars = Path(place) / "jars"
        _run_maven(Path(place), jars)
        # All or nothing: a fetch that was broken off leaves nothing that looks complete.
        jars.rename(JARS)
    print(f"Apache Kafka {VERSION}: {len(list(JARS.iterdir()))} jars in {JARS}", flush=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another process that fetches Apache Kafka …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_maven(place: Path, jars: Path) -> None:
    pom = place / "pom.xml"
    pom.write_text(_pom())
    log = place / "maven.log"
    command = ["mvn", "-B", "-q", "-f", str(pom), MAVEN_PLUGIN, "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
    print(f"Fetching Apache Kafka {VERSION} for the tests with Maven (45 MB, once) …", flush=True)
    begun = time.monotonic()
    with log.open("w") as output:
        maven = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            while not _ended(maven):
                passed = time.monotonic() - begun
                if passed > FETCH_TIMEOUT:
                    raise KafkaUnavailable(f"Maven did not end within {FETCH_TIMEOUT:g} s")
                print(f"… still fetching, {passed:.0f} s", flush=True)
        finally:
            maven.kill()
            maven.wait()
    if maven.returncode:
        raise KafkaUnavailable(f"Maven failed:\n{_tail(log)}")


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(TELL_EVERY)
    except subprocess.TimeoutExpired:
        return False
    return True


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in DEPENDENCIES
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>streamdrift</groupId><artifactId>apache-kafka-for-tests</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a node is reached, and by whom."""

    listeners: Mapping[str, str]
    """Name: security protocol; the first is what ``bootstrap_servers`` is of."""
    controller: str = "PLAINTEXT"
    """Security protocol of the controller."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further ``server.properties``."""
    format_options: Sequence[str] = ()
    """What ``StorageTool format`` is told."""
    jvm_options: Sequence[str] = ()
    log4j: str = ""
    """Further lines of the logging's configuration."""
    administrator: Mapping[str, str] = field(default_factory=dict)
    """Client properties of who may do everything."""


class ApacheKafka:
    """A single node (KRaft) on free loopback ports; its data is in a temporary directory."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        """``host:port`` by the name of the listener."""
        self._wiring = Wiring({"PLAINTEXT": "PLAINTEXT"})
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return self.addresses[next(iter(self._wiring.listeners))]

    @property
    def cluster(self) -> Cluster:
        # Members hear of a rebalance with their next heartbeat; the default of 3 s would be most of a test.
        return Cluster(self.bootstrap_servers, {"heartbeat.interval.ms": 100, "session.timeout.ms": 6000})

    def __enter__(self) -> Self:
        """Raises ``KafkaUnavailable`` if it cannot be started."""
        reason = missing()
        if reason is not None:
            raise KafkaUnavailable(reason)
        self._directory = Path(tempfile.mkdtemp(prefix="streamdrift-kafka-"))
        try:
            self._wiring = self._wire(self._directory)
            self._configure(self._directory)
            self._start(self._directory)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Returns once the topic can be written to."""
        topic = NewTopic(name, partitions, 1, config=dict(config or {}))
        admin = self._admin()  # its answers end with it
        admin.create_topics([topic], operation_timeout=START_TIMEOUT)[name].result()
        # It exists, but its leader may refuse it for some milliseconds yet.
        numbers = [TopicPartition(name, number) for number in range(partitions)]
        client.insist(lambda: list_offsets(admin, numbers, Side.END, START_TIMEOUT), START_TIMEOUT)

    def _admin(self) -> AdminClient:
        address = {"bootstrap.servers": self.bootstrap_servers, "log_level": "0"}
        return AdminClient({**address, **self._wiring.administrator})

    def _wire(self, directory: Path) -> Wiring:  # noqa: ARG002 — for nodes whose wiring needs files
        """Called once, before anything is started."""
        return self._wiring

    def _configure(self, directory: Path) -> None:
        wiring = self._wiring
        protocols = {**wiring.listeners, "CONTROLLER": wiring.controller}
        places = {name: f"127.0.0.1:{port}" for name, port in zip(protocols, _free_ports(len(protocols)), strict=True)}
        self.addresses = {name: places[name] for name in wiring.listeners}
        settings = {
            **SETTINGS,
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "listeners": ",".join(f"{name}://{place}" for name, place in places.items()),
            "advertised.listeners": ",".join(f"{name}://{place}" for name, place in self.addresses.items()),
            "controller.quorum.voters": f"1@{places['CONTROLLER']}",
            "log.dirs": str(directory / "data"),
            **wiring.settings,
        }
        (directory / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (directory / "log4j2.properties").write_text(LOG4J + wiring.log4j)

    def _start(self, directory: Path) -> None:
        formatting = ("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", "server.properties")
        format_command = _java(*formatting, *self._wiring.format_options)
        serve_command = _java(*self._wiring.jvm_options, "kafka.Kafka", "server.properties")
        with (directory / "server.log").open("w") as log:
            subprocess.run(format_command, cwd=directory, stdout=log, stderr=log, check=True, timeout=START_TIMEOUT)
            self._process = subprocess.Popen(serve_command, cwd=directory, stdout=log, stderr=log)
        self._await_readiness(directory / "server.log")

    def _await_readiness(self, log: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        admin = self._admin()
        while True:
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise KafkaUnavailable(f"Apache Kafka did not start:\n{_tail(log)}")
            try:
                admin.list_topics(timeout=0.5)
            except KafkaException:
                continue
            return

    def _end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def _java(*command: str) -> list[str]:
    return ["java", *JVM, "-Dlog4j2.configurationFile=log4j2.properties", "-cp", f"{JARS}/*", *command]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main() -> int:
    """Fetch, and say what is done; exit code 1 when it could not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.apache_kafka", description=__doc__)
    parser.add_argument("--fetch", action="store_true", required=True, help="put the jars into .cache/kafka")
    parser.parse_args()
    try:
        fetch()
    except KafkaUnavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
