"""Labels in the service as it runs: on brokers, over restarts, rebalances and moves to another machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import yaml

from streamdrift.assembly import Service
from streamdrift.entries import decode
from streamdrift.errors import ConfigurationError, FatalError
from streamdrift.joining.placing import PARTITIONERS
from streamdrift.kafka.commit import publish
from streamdrift.kafka.subscriber import Subscriber
from streamdrift.outcome_entries import OutcomePart, from_part
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.records import OutputRecord
from streamdrift.settings import Settings
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM
from streamdrift.summaries.coverage import Fate
from streamdrift.summaries.outcome_summary import OutcomeSummary
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.support.waiting import wait_until

PATIENCE = 60.0
START = 1_700_000_000
GRID = OutcomeGrid(Task.BINARY, ("legit", "fraud"))


class World:
    """Predictions of an hour, and labels of nine in ten of them, some said twice and some revised."""

    def __init__(self, n: int = 2_000) -> None:
        rng = np.random.default_rng(5)
        self.names = [f"p{i}" for i in range(n)]
        self.at = np.sort(rng.uniform(0, 3_600, n)).round(3)
        self.score = rng.random(n).round(6)
        self.true = np.where(rng.random(n) < self.score, "fraud", "legit")
        self.labelled = np.flatnonzero(rng.random(n) < 0.9).tolist()
        self.revised = set(np.flatnonzero(rng.random(n) < 0.2).tolist())

    def predictions(self) -> list[tuple[str, bytes]]:
        return [
            (name, json.dumps({
                "prediction_id": name, "model_id": "fraud", "model_version": "7", "timestamp": START + at,
                "features": {"amount": score}, "prediction": {"score": score},
            }).encode())
            for name, at, score in zip(self.names, self.at.tolist(), self.score.tolist(), strict=True)
        ]  # fmt: skip

    def labels(self) -> list[tuple[str, bytes]]:
        said: list[tuple[float, str, str, int]] = []
        for i in self.labelled:
            truth, other = str(self.true[i]), "legit" if self.true[i] == "fraud" else "fraud"
            said.append((self.at[i] + 60, self.names[i], other if i in self.revised else truth, 0))
            said.append((self.at[i] + 90, self.names[i], truth, 1 if i in self.revised else 0))
        return [
            (name, json.dumps({
                "prediction_id": name, "model_id": "fraud", "label": label, "revision": revision,
                "outcome_timestamp": START + at,
            }).encode())
            for at, name, label, revision in sorted(said)
        ]  # fmt: skip

    @property
    def cells(self) -> dict[tuple[str, str], int]:
        predicted = np.where(self.score >= 0.5, "fraud", "legit")
        return Counter((str(self.true[i]), str(predicted[i])) for i in self.labelled)


class Site:
    """One installation on a broker that others use too: every name of it is its own."""

    def __init__(self, broker: Broker, partitions: int = 4) -> None:
        self.broker, self.partitions = broker, partitions
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.rekey = False
        self.topics = {"predictions": f"{self.name}-predictions", "labels": f"{self.name}-labels"}
        for topic in self.topics.values():
            broker.create_topic(topic, partitions)

    def document(self, directory: Path) -> dict[str, Any]:
        own = ("summaries", "state", "grids", "alerts", "dead_letters", "join", "rekeyed", "retraining_requests")
        return {
            "kafka": {
                "bootstrap_servers": self.broker.cluster.bootstrap_servers,
                "application": self.name,
                "start_from": "earliest",
            },
            "topics": {key: f"{self.name}-{key}" for key in own},
            "sources": [
                {"topic": self.topics["predictions"], "kind": "predictions", "end_of_stream": True},
                {
                    "topic": self.topics["labels"],
                    "kind": "labels",
                    "event_time": "event",
                    **({"rekey": True} if self.rekey else {"end_of_stream": True}),
                },
            ],
            "time": {"tick": "5m", "idle": "hold"},
            "join": {"path": str(directory), "wait": "1d", "memory_bytes": 32 << 20},
            "models": {"fraud": {"outcome": {"positive": "fraud", "negative": "legit"}}},
            "http": {"host": "127.0.0.1", "port": 0},
            "commit_interval": "50ms",
            "snapshot_interval": "500ms",
        }

    def settings(self, directory: Path) -> Settings:
        return Settings.model_validate(self.document(directory))

    @contextmanager
    def running(self, directory: Path) -> Iterator[Service]:
        service = Service(self.settings(directory), cluster=self.broker.cluster)
        service.start()
        try:
            yield service
        finally:
            service.stop()
        if service.failed is not None:
            raise service.failed

    def send(self, kind: str, events: Sequence[tuple[str, bytes]], partitioner: str = "CRC32") -> None:
        place, topic = PARTITIONERS[partitioner], self.topics[kind]
        publish(
            self.broker.cluster,
            (OutputRecord(topic, k.encode(), v, (), place(k.encode(), self.partitions)) for k, v in events),
        )

    def end_streams(self) -> None:
        marker = [(CONTROL_HEADER, END_OF_STREAM)]
        for topic in self.topics.values():
            records = (OutputRecord(topic, None, None, marker, number) for number in range(self.partitions))
            publish(self.broker.cluster, records)

    def total(self) -> OutcomeSummary:
        """All that the log says of the model."""
        with Subscriber(self.broker.cluster, f"{self.name}-summaries") as subscriber:
            entries = [decode(record.value) for record in subscriber.rest() if record.value]
        found = [from_part(entry) for entry in entries if isinstance(entry, OutcomePart)]
        return reduce(add, (s for s in found if isinstance(s, OutcomeSummary)), OutcomeSummary.empty(GRID))

    def wait_for(self, fate: Fate, count: int, *services: Service) -> None:
        def reached() -> bool:
            failed = [service.failed for service in services if service.failed]
            return bool(failed) or self.total().coverage[fate] >= count

        wait_until(reached, PATIENCE, f"{count} {fate.name}")


def check(total: OutcomeSummary, world: World) -> None:
    """Nothing is lost, and nothing counted twice."""
    n, labelled = len(world.names), len(world.labelled)
    revised = len(world.revised.intersection(world.labelled))
    coverage = total.coverage
    assert (coverage[Fate.PREDICTED], coverage[Fate.LABELLED], coverage[Fate.REVISED]) == (n, labelled, revised)
    assert (coverage[Fate.DUPLICATE], coverage[Fate.ORPHAN], coverage[Fate.REPEATED]) == (labelled - revised, 0, 0)
    assert total.outcomes.n == labelled
    assert dict(total.outcomes.confusion.cells) == world.cells


def test_another_machine_takes_over_after_a_clean_stop(broker: Broker, tmp_path: Path) -> None:
    site, world = Site(broker), World()
    predictions, labels = world.predictions(), world.labels()
    with site.running(tmp_path / "a") as first:
        site.send("predictions", predictions)
        site.send("labels", labels[:1_000])
        site.wait_for(Fate.PREDICTED, len(predictions), first)
    directory = tmp_path / "a" if broker.cluster.embedded else tmp_path / "b"  # the embedded one compacts nothing
    with site.running(directory) as second:
        site.send("labels", labels[1_000:])
        site.wait_for(Fate.LABELLED, len(world.labelled), second)
        site.end_streams()
        site.wait_for(Fate.EXPIRED, len(predictions) - len(world.labelled), second)
        [status] = second.status().joins
        assert (status.pending, status.fates["predicted"]) == (0, len(predictions))
        assert sum(source.consumed for source in second.status().sources if source.kind == "labels") >= 1_000
    check(site.total(), world)


def test_members_come_and_go_and_every_pair_is_counted_once(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    site, world = Site(apache_kafka, 6), World()
    predictions, labels = world.predictions(), world.labels()
    with site.running(tmp_path / "b") as second:
        with site.running(tmp_path / "a") as first:
            site.send("predictions", predictions)
            site.send("labels", labels[:1_500])
            site.wait_for(Fate.PREDICTED, len(predictions), first, second)
            wait_until(lambda: all(len(_owned(s)) == 6 for s in (first, second)), PATIENCE, "both own something")
            for service in (first, second):
                numbers = Counter(number for _, number in _owned(service))
                assert set(numbers.values()) == {2}, "a partition of predictions and that of its labels go together"
        site.send("labels", labels[1_500:])
        site.wait_for(Fate.LABELLED, len(world.labelled), second)
    check(site.total(), world)


def _owned(service: Service) -> list[tuple[str, int]]:
    [loop] = [loop for loop in service.status().loops if loop.stage == "join"]
    return list(loop.lag)


def test_another_process_takes_over_after_a_clean_stop(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    site, world = Site(apache_kafka), World()
    predictions, labels = world.predictions(), world.labels()
    site.send("predictions", predictions)
    site.send("labels", labels[:1_200])
    with process(site, tmp_path / "a"):
        site.wait_for(Fate.PREDICTED, len(predictions))
    site.send("labels", labels[1_200:])
    with process(site, tmp_path / "b"):
        site.wait_for(Fate.LABELLED, len(world.labelled))
    check(site.total(), world)


@contextmanager
def process(site: Site, directory: Path) -> Iterator[None]:
    """``streamdrift run`` in a process of its own, stopped as an orchestrator stops it."""
    directory.mkdir()
    configuration = directory / "streamdrift.yaml"
    configuration.write_text(yaml.safe_dump(site.document(directory / "store")), encoding="utf-8")
    command = [sys.executable, "-m", "streamdrift", "run", "--config", str(configuration)]
    with (directory / "log").open("wb") as log:
        running = subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONHASHSEED": "1"})
        try:
            said = directory / "log"
            wait_until(lambda: running.poll() is not None or b'"started"' in said.read_bytes(), PATIENCE, "a start")
            yield
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE) == 0, (directory / "log").read_text(encoding="utf-8")
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()


def test_events_that_are_keyed_otherwise_are_sent_on_and_meet(broker: Broker, tmp_path: Path) -> None:
    site, world = Site(broker), World(1_000)
    site.rekey = True
    with site.running(tmp_path) as service:
        site.send("predictions", world.predictions(), "murmur2")
        site.wait_for(Fate.PREDICTED, 1_000, service)
        site.send("labels", world.labels(), "FNV-1a")
        site.wait_for(Fate.LABELLED, len(world.labelled), service)
        [status] = service.status().joins
        assert status.labels == f"{site.name}-rekeyed-{site.topics['labels']}"
    total = site.total()
    assert dict(total.outcomes.confusion.cells) == world.cells
    assert (total.coverage[Fate.PREDICTED], total.coverage[Fate.ORPHAN]) == (1_000, 0)


def test_labels_that_another_partitioner_placed_are_an_error_at_the_start(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    site, world = Site(apache_kafka), World(100)
    site.send("predictions", world.predictions(), "murmur2")
    site.send("labels", world.labels()[:20], "CRC32")
    with pytest.raises(ConfigurationError, match="cannot meet the predictions"), site.running(tmp_path):
        pass


def test_topics_of_different_partition_counts_are_an_error_at_the_start(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    site = Site(apache_kafka)
    site.topics["labels"] = f"{site.name}-few"
    apache_kafka.create_topic(site.topics["labels"], 3)
    with pytest.raises(FatalError, match="has 4 partitions"), site.running(tmp_path):
        pass


def test_the_partitioner_of_the_tests_is_librdkafkas() -> None:
    assert PARTITIONERS["CRC32"](b"key", 7) == crc32(b"key") % 7
