"""Predictions and labels as messages, a topology that joins them, and what its log says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any
from zlib import crc32

from streamdrift.assembly import topology
from streamdrift.entries import OutcomeProgress, decode
from streamdrift.outcome_entries import OutcomePart, from_part
from streamdrift.outcome_rows import added
from streamdrift.records import TopicPartition
from streamdrift.settings import Settings
from streamdrift.summaries.coverage import Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeKey
from streamdrift.ticks import END_OF_TIME, NEVER
from streamdrift.topology import TopologyDriver

START_S = 1_700_000_000
PREDICTIONS, LABELS, SUMMARIES = "predictions", "labels", "streamdrift-summaries"


def settings(**changes: Any) -> Settings:  # noqa: ANN401 — values of the configuration
    """A configuration that joins; ``changes`` are keys below the top, with __ for dots."""
    document: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "localhost:9092", "start_from": "earliest"},
        "sources": [
            {"topic": PREDICTIONS, "kind": "predictions", "end_of_stream": True},
            {"topic": LABELS, "kind": "labels", "end_of_stream": True},
        ],
        "time": {"tick": "10s", "idle": "hold"},
        "join": {"wait": "1h", "wait_for_prediction": "30m"},
        "models": {"fraud": {"outcome": {"positive": "fraud", "negative": "legit"}}},
        "topics": {"partitions": 2},
    }
    return Settings.model_validate(document | changes)


@dataclass(frozen=True)
class Event:
    """A prediction or a label, to be sent."""

    topic: str
    prediction_id: str
    seconds: float
    """Of its record, and of the prediction itself, after the start."""
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> bytes:
        own = {"prediction_id": self.prediction_id, "model_id": "fraud"}
        if self.topic == PREDICTIONS:
            own |= {"model_version": "7", "timestamp": START_S + self.seconds, "features": {"amount": 1.0}}  # type: ignore[dict-item]
        return json.dumps(own | self.body).encode()

    @property
    def timestamp(self) -> int:
        return int((START_S + self.seconds) * 1_000)


def prediction(name: str, seconds: float, score: float = 0.3, **more: Any) -> Event:  # noqa: ANN401
    said = {"prediction": {"label": "fraud" if score >= 0.5 else "legit", "score": score}}
    return Event(PREDICTIONS, name, seconds, said | more)


def label(name: str, seconds: float, says: str = "legit", revision: int = 0, **more: Any) -> Event:  # noqa: ANN401
    return Event(LABELS, name, seconds, {"label": says, "revision": revision} | more)


def place_of(prediction_id: str, partitions: int) -> int:
    """The partition in which an id lies, on both sides."""
    return crc32(prediction_id.encode()) % partitions


class Joined:
    """A driver, and everything that its join has written so far."""

    def __init__(self, configuration: Settings | None = None, **options: Any) -> None:  # noqa: ANN401 — the driver's
        self.partitions = options.get("partitions", 1)
        self.scattered = False
        """Whether events lie in any partition, whatever their id."""
        self.driver = TopologyDriver(topology(configuration or settings()), keep_log=True, **options)

    def send(self, *events: Event) -> None:
        for event in events:
            key = event.prediction_id.encode()
            number = place_of(repr(event) if self.scattered else event.prediction_id, self.partitions)
            self.driver.send(event.topic, event.value, key=key, partition=number, timestamp=event.timestamp)

    def run(self, *events: Event) -> None:
        self.send(*events)
        self.driver.run()

    def end(self) -> None:
        self.driver.end_of_stream()
        self.driver.run()

    @property
    def fates(self) -> dict[Fate, int]:
        """As the stage's gauges have them."""
        assert self.driver.join is not None
        [status] = self.driver.join.joins()
        return {fate: status.fates[fate.name.lower()] for fate in Fate}

    @property
    def pending(self) -> int:
        assert self.driver.join is not None
        return self.driver.join.joins()[0].pending

    def parts(self) -> Iterator[OutcomePart]:
        for record in self.records():
            entry = decode(record)
            if isinstance(entry, OutcomePart):
                yield entry

    def records(self) -> list[bytes]:
        """Every record of the summaries topic, partition by partition."""
        values: list[bytes] = []
        for number in range(2):
            values += [value for value in self.driver.log(TopicPartition(SUMMARIES, number)) if value]
        return values

    def summaries(self) -> dict[OutcomeKey, AnySummary]:
        """The log, added up."""
        found: dict[OutcomeKey, list[AnySummary]] = {}
        for part in self.parts():
            found.setdefault(part.key, []).append(from_part(part))
        return {key: reduce(added, parts) for key, parts in found.items()}

    def never_in_a_closed_tick(self, tick_us: int) -> bool:
        """Whether no record is of a tick that progress before it had closed, for all partitions together."""
        for number in range(2):
            watermarks: dict[tuple[str, int], int] = {}
            for value in self.driver.log(TopicPartition(SUMMARIES, number)):
                entry = decode(value or b"")
                if isinstance(entry, OutcomeProgress):
                    for p in entry.positions:
                        place = (p.topic, p.partition)
                        watermarks[place] = max(p.watermark, watermarks.get(place, NEVER))
                elif isinstance(entry, OutcomePart):
                    closed = min(watermarks.values()) if len(watermarks) == 2 * self.partitions else NEVER
                    if closed == END_OF_TIME or (entry.key.tick + 1) * tick_us <= closed:
                        return False
        return True


def shuffled_together(events: Sequence[Event]) -> list[Event]:
    """Events of both topics by the time of their records, as a broker would get them."""
    return sorted(events, key=lambda event: event.seconds)
