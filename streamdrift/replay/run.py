"""The replay itself: a history through all stages in memory, chunk by chunk."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from streamdrift.assembly import topology
from streamdrift.errors import ConfigurationError
from streamdrift.events import Batch, SourceKind
from streamdrift.joining.state import Stores
from streamdrift.records import OutputRecord
from streamdrift.replay.chronicle import AlertData, Chronicle
from streamdrift.replay.messages import History, Message, Refusals
from streamdrift.replay.plan import Plan
from streamdrift.replay.rivals import Rivals
from streamdrift.settings import Settings
from streamdrift.topology import TopologyDriver

CHUNK: Final = 8_192
"""Messages after which all stages read what there is."""
SNAPSHOT_EVERY: Final = 32
"""Chunks after which detect commits, so that what was read can be forgotten."""
_CLOCK: Final = 221_845_392_000.0
"""The year 9000: no history that is meant is ahead of the clock, and what is ahead of that has no business here."""


@dataclass(slots=True)
class Told:
    """What a replay told and counted."""

    chronicle: Chronicle
    refusals: Refusals
    rivals: Rivals | None
    requests: list[AlertData] = field(default_factory=list)
    """What was told of retraining."""
    events: int = 0
    labels: int = 0
    late: dict[str, int] = field(default_factory=dict)
    """By source: events that came too late for their tick."""
    unwatched: dict[str, int] = field(default_factory=dict)
    """Events that were read and could not be watched, by reason."""

    def summary(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "events": self.events,
            "labels": self.labels,
            "counted": self.chronicle.events,
            "refused": dict(self.refusals.counts),
            "late": self.late,
            "unwatched": self.unwatched,
            **self.chronicle.summary(),
            "retraining_requests": self.requests,
            "river": self.rivals.summary() if self.rivals else None,
        }


class Replay:
    """One run of a history. ``step`` until it says that all is told."""

    def __init__(self, history: History, plan: Plan, *, with_river: bool = True, stores: Stores | None = None) -> None:
        """``stores`` are those of the join, in memory if None. Raises ``ConfigurationError``."""
        self.told = Told(Chronicle(), Refusals(), Rivals(history.survey.events) if with_river else None)
        self._history = history
        self._plan = plan
        self._settings: Settings = plan.settings
        planned = replace(topology(plan.settings), observe=self._observe)
        self._driver = TopologyDriver(
            planned, partitions=history.partitions, batch_size=CHUNK, now=_CLOCK, stores=stores, restarts=False
        )
        self._messages = history.messages()
        self._places: dict[tuple[str, int], array[int]] = {}
        self._chunks = 0
        self.done = 0
        """Messages that were taken."""

    def steps(self, tell: Callable[[AlertData], None], ask: Callable[[AlertData], None]) -> Iterator[int]:
        """Replay all; yields how many messages are through. ``tell`` is given alerts, ``ask`` requests to train."""
        while chunk := list(islice(self._messages, CHUNK)):
            for message in chunk:
                self._send(message)
            self._run(tell, ask)
            self.done += len(chunk)
            yield self.done
        self._driver.end_of_stream()
        self._run(tell, ask)
        self._driver.stop()
        self._close()
        self._count()

    def _observe(self, events: Batch) -> None:
        self.told.chronicle.observe(events)
        if self.told.rivals is not None:
            self.told.rivals.observe(events)

    def _send(self, message: Message) -> None:
        told, topic = self.told, self._plan.topics.get(message.kind)
        if message.kind is SourceKind.LABELS:
            told.labels += 1
        else:
            told.events += 1
        if topic is None and message.kind is not SourceKind.LABELS:
            topic = self._plan.topics.get(SourceKind.PREDICTIONS, self._plan.topics.get(SourceKind.FEATURES))
        if topic is None:
            where = self._history.place(message.kind, message.partition, message.place)
            told.refusals.note(where, "no_source", f"no source of the configuration is of kind {message.kind}")
            return
        self._places.setdefault((topic, message.partition), array("Q")).append(message.place)
        self._driver.send(
            topic,
            message.value,
            key=message.key,
            partition=message.partition,
            timestamp=message.recorded_ms,
            headers=message.headers,
        )

    def _run(self, tell: Callable[[AlertData], None], ask: Callable[[AlertData], None]) -> None:
        self._chunks += 1
        if self._chunks % SNAPSHOT_EVERY == 0:
            self._driver.advance(self._settings.snapshot_interval.seconds)
        self._driver.run()
        topics = self._settings.topics
        for alert in sorted(map(data_of, self._driver.take(topics.alerts)), key=lambda alert: str(alert["event_time"])):
            self.told.chronicle.tell(alert)
            tell(alert)
        for record in self._driver.take(topics.retraining_requests):
            self.told.requests.append(data_of(record))
            ask(self.told.requests[-1])
        for record in self._driver.take(topics.dead_letters):
            self._bury(record)
        if self.told.rivals is not None:
            self.told.rivals.feed()

    def _bury(self, record: OutputRecord) -> None:
        facts = {name.removeprefix("streamdrift.error."): (value or b"").decode() for name, value in record.headers}
        topic, partition = facts["topic"], int(facts["partition"])
        kind = next(kind for kind, name in self._plan.topics.items() if name == topic)
        place = self._places[topic, partition][int(facts["offset"])]
        self.told.refusals.note(self._history.place(kind, partition, place), facts["class"], facts["message"])

    def _close(self) -> None:
        """A grid that was learned from the last events of all has counted none of them as they were read."""
        for key, volume in self.told.chronicle.volumes.items():
            volume.grid = volume.grid or self._driver.grid_of(*key)
            if volume.grid is not None and self.told.rivals is not None:
                self.told.rivals.close(key, volume.grid)

    def _count(self) -> None:
        driver, told = self._driver, self.told
        sources = [*driver.summarise.status(), *(driver.join.status() if driver.join else ())]
        told.late = {source.topic: source.late for source in sources if source.late}
        unwatched = {"over_bound": sum(source.over_bound for source in sources), **driver.detect.counts.refused}
        told.unwatched = {reason: count for reason, count in unwatched.items() if count}
        told.refusals.counts.update(self._history.refusals.counts)
        told.refusals.examples[:0] = self._history.refusals.examples
        if told.events and not told.chronicle.events:
            examples = "".join(f"\n  {example}" for example in told.refusals.examples)
            raise ConfigurationError(f"{self._history.name}: none of {told.events:,} messages is an event{examples}")


def data_of(record: OutputRecord) -> Mapping[str, Any]:
    """What an alert says but for its provenance, which a replay has none of."""
    data: dict[str, Any] = json.loads(record.value or b"{}")
    data.pop("provenance", None)
    return data
