"""An installation on a secured Kafka: its settings, what it is permitted, and traffic that it should alert on."""

from __future__ import annotations

import csv
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streamdrift.assembly import Service, group_id, groups, topic_specs, topology
from streamdrift.generator import LABELS_TOPIC, MODEL_ID, PREDICTIONS_TOPIC
from streamdrift.kafka.topics import ensure_topics
from streamdrift.settings import Settings
from streamdrift.topology import TopologyDriver
from tests.support import fraud
from tests.support.secured_kafka import SERVICE, Permission, SecuredKafka
from tests.support.waiting import wait_until
from tests.test_service import PATIENCE, Site, wait_for_records

HOURS: Final = 10
"""Of traffic: an incident has started by then."""
ACLS: Final = Path(__file__).parents[2] / "deploy/kafka/acls.csv"


def shipped(who: str) -> list[Permission]:
    """The shipped list of what ``who`` needs."""
    with ACLS.open(newline="", encoding="utf-8") as file:
        return [Permission(r["resource"], r["name"], r["operation"]) for r in csv.DictReader(file) if r["who"] == who]


@functools.cache
def expected_alerts() -> list[dict[str, Any]]:
    """What a subscriber should know after ``HOURS`` of traffic."""
    with tempfile.TemporaryDirectory() as directory:
        driver = TopologyDriver(topology(fraud.settings(Path(directory))))
    for event in fraud.fraud_events(HOURS):
        driver.send(PREDICTIONS_TOPIC, event.value)
    driver.end_of_stream()
    driver.run()
    return fraud.told(driver.alerts)


class Installation(Site):
    """Every name of it is its own; the traffic and the topics are its administrator's work."""

    def __init__(self, kafka: SecuredKafka, directory: Path) -> None:
        super().__init__(kafka, directory, 2)
        self.kafka = kafka
        self.directory = directory
        self.labels = f"{self.name}-labels"
        kafka.create_topic(self.labels, 2)

    def on(self, listener: str, client: Mapping[str, object], **changes: object) -> Settings:
        """Settings for a listener, with client properties."""
        address = {"kafka.bootstrap_servers": self.kafka.addresses[listener], "kafka.client": client}
        return self.settings({**address, **changes})

    def with_scram(self, **changes: object) -> Settings:
        password = self.secret(self.kafka.passwords[SERVICE])
        return self.on("SASL", {**self.kafka.scram(SERVICE), "sasl.password": password}, **changes)

    def with_everything(self) -> Settings:
        """Settings that need all that is on the list."""
        sources = [
            {"topic": self.source, "kind": "predictions", "rekey": True},
            {"topic": self.labels, "kind": "labels"},
        ]
        topics = {"topics.join": f"{self.name}-join", "topics.rekeyed": f"{self.name}-rekeyed"}
        return self.with_scram(sources=sources, **topics, **POLICIES)

    def secret(self, value: str) -> dict[str, str]:
        """``value`` in a file, as the configuration names it."""
        place = self.directory / "secret"
        place.write_text(value + "\n", encoding="utf-8")
        return {"file": str(place)}

    def permissions(self, who: str, settings: Settings) -> list[Permission]:
        """The shipped list with the names of this installation, without what these settings do not use."""
        default = Settings.load(None, _DEFAULTS, {})
        names = {PREDICTIONS_TOPIC: self.source, LABELS_TOPIC: self.labels}
        names |= {f"{default.kafka.application}-{stage}": group_id(settings, stage) for stage in _STAGES}
        names |= {default.topics.in_use()[key]: name for key, name in settings.topics.in_use().items()}
        names[f"{default.topics.join}-{LABELS_TOPIC}"] = f"{settings.topics.join}-{self.labels}"
        for topic in (PREDICTIONS_TOPIC, LABELS_TOPIC):
            names[default.rekeyed_topic(topic)] = settings.rekeyed_topic(names[topic])
        named = [permission._replace(name=names.get(permission.name, permission.name)) for permission in shipped(who)]
        used = {spec.name for spec in topic_specs(settings)} | set(groups(settings))
        return [permission for permission in named if permission.name in used]

    def prepare(self, settings: Settings) -> None:
        """Make the topics, and give the service what the list says."""
        ensure_topics(self.kafka.cluster, topic_specs(settings))
        self.kafka.allow(SERVICE, self.permissions("service", settings))

    def check_that_it_alerts(self, settings: Settings, service: Service) -> None:
        """Send the traffic, and wait for the alerts of the same events in memory."""
        events, expected = fraud.fraud_events(HOURS), expected_alerts()
        self.send(events)
        self.end_stream()
        wait_for_records(service, len(events) + self.partitions)
        complete = len(expected)
        wait_until(lambda: service.failed or len(self.alerts(settings)) >= complete, PATIENCE, "alerts should be there")
        assert service.failed is None
        assert fraud.told(self.alerts(settings)) == expected
        assert expected


POLICIES: Final = {f"models.{MODEL_ID}.retraining.policies.hourly.schedule": "0 * * * *"}
"""With these, the topic of retraining requests is used, and written to within an hour of traffic."""
_STAGES: Final = ("summarise", "rekey", "join", "detect")
_DEFAULTS: Final = {
    "kafka.bootstrap_servers": "localhost:9092",
    "sources": [{"topic": PREDICTIONS_TOPIC, "kind": "predictions"}],
}
