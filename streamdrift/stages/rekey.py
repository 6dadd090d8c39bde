"""rekey: sends predictions and labels on by their prediction id, where their own topics are keyed otherwise.

::

    predictions-0 ─┐                   ┌─ streamdrift-rekeyed-predictions-0 ─┐
    predictions-1 ─┼─ decode, by id ───┼─ …                                  ├─ join
    labels-0 …    ─┘                   └─ streamdrift-rekeyed-labels-1      ─┘

What is sent on is the contract's event with all that the join needs of it: ids, times, the prediction; no features. It
was read by the source's mapping, under the rules of privacy, and its time is that of the source.

A partition behind it is filled from several, so event time in it is as even as these are read: no further apart than
``max_ahead`` ticks while a backlog is read, and by fractions of a second later. Lateness is decided there, as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from streamdrift.codecs import EventTime, Source, TimestampUnit
from streamdrift.events import SourceKind
from streamdrift.joining.decoding import LabelReader, PredictionReader
from streamdrift.joining.join import LabelEvent, PredictionEvent
from streamdrift.joining.placing import PARTITIONERS
from streamdrift.joining.rows import Prediction
from streamdrift.records import Commit, OutputRecord, Position, RecordBatch, TopicPartition
from streamdrift.stages.attempts import Attempts
from streamdrift.stages.inputs import (
    DeadLetters,
    InputConfig,
    InputPartition,
    ahead_of_others,
    from_metadata,
    from_the_future,
    of_the_future,
    pieces,
)

_place: Final = PARTITIONERS["murmur2"]
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Route:
    """A source, and the topic to which its events are sent on."""

    source: Source
    topic: str
    partitions: int

    @property
    def target(self) -> Source:
        """The topic as the join reads it: the contract's events, with times in microseconds, as they are."""
        source = self.source
        return Source(
            self.topic, source.kind, EventTime.EVENT, TimestampUnit.MICROSECONDS, lateness_us=source.lateness_us
        )


@dataclass(slots=True)
class _Owned(InputPartition):
    """One input partition, and what was read of it since the last commit."""

    newest: int = field(kw_only=True)
    """Highest event time, in microseconds."""
    records: list[OutputRecord] = field(default_factory=list)


class Rekey:
    """The stage. It keeps nothing between commits."""

    name = "rekey"
    state_topic: str | None = None
    together = False

    def __init__(self, config: InputConfig, routes: Sequence[Route]) -> None:
        self._config = config
        self._routes = {route.source.topic: route for route in routes}
        self._readers = {topic: _reader(route.source) for topic, route in self._routes.items()}
        self._dead = {topic: DeadLetters(topic, config) for topic in self._routes}
        self._owned: dict[TopicPartition, _Owned] = {}
        self._committed_at = 0.0
        self.refused: Counter[str] = Counter()
        """Predictions that take no part in the join, by why; dead letters of them are summarise's."""

    @property
    def inputs(self) -> Collection[str]:
        return tuple(self._routes)

    def topology(self, counts: Mapping[str, int]) -> None:
        """Whatever the number of partitions, an id is sent to the same one."""

    def assigned(self, tp: TopicPartition, start: Position, state: Mapping[bytes, bytes]) -> int:  # noqa: ARG002 — a stage without state
        newest, attempts = from_metadata(tp, start)
        tried = Attempts(start.offset, attempts, self._config.attempts)
        self._owned[tp] = _Owned(self._routes[tp.topic].source, tried, start.offset, newest=newest)
        return start.offset

    def revoked(self, tp: TopicPartition) -> None:
        self._owned.pop(tp, None)

    def begin(self, tp: TopicPartition) -> None:
        self._owned[tp].begin()

    def process(self, batch: RecordBatch, now: float) -> None:
        part, dead = self._owned[batch.source], self._dead[batch.topic]
        for piece, _ in pieces(batch, dead.set_aside(part, batch)):
            if len(piece):
                self._read(part, piece, now)
        dead.read(batch)
        part.read(batch)

    def _read(self, part: _Owned, batch: RecordBatch, now: float) -> None:
        reader, dead = self._readers[batch.topic], self._dead[batch.topic]
        events: list[PredictionEvent | LabelEvent]
        if isinstance(reader, LabelReader):
            labels = reader.read(batch)
            dead.bury(part, batch, labels.dead)
            events, index = [*labels.events], np.array(labels.places, dtype=np.int64)
        else:
            predictions = reader.read(batch)
            self.refused += predictions.refused
            events, index = [*predictions.events], predictions.index
        times = np.array([event.time for event in events], dtype=np.int64)
        future = from_the_future(times, index, batch, now, self._config.skew_us)
        if future.any() and part.source.kind is SourceKind.LABELS:
            dead.bury(part, batch, of_the_future(index[future]))
        route = self._routes[batch.topic]
        for event, ahead in zip(events, future.tolist(), strict=True):
            if not ahead:
                part.newest = max(part.newest, event.time)
                part.records.append(_sent_on(route, event))

    def reached_end(self, tp: TopicPartition, now: float) -> None:
        part = self._owned[tp]
        part.at_end_since = now if part.at_end_since is None else min(now, part.at_end_since)

    def careful(self, tp: TopicPartition) -> bool:
        return self._owned[tp].careful

    def paused(self) -> Collection[TopicPartition]:
        newest = {tp: part.newest for tp, part in self._owned.items()}
        return ahead_of_others(newest, self._owned, self._config)

    def take(self, now: float, *, final: bool = False) -> Commit:
        due = not 0 <= now - self._committed_at < self._config.commit_interval
        if not (final or due or any(part.is_due for part in self._owned.values())):
            return Commit()
        self._committed_at = now
        changed = {tp: part for tp, part in self._owned.items() if part.changed}
        outputs = [record for part in changed.values() for record in (*part.dead_letters, *part.records)]
        offsets = {tp: part.position(part.newest, final=final) for tp, part in changed.items()}
        for part in changed.values():
            part.changed, part.unmarked, part.dead_letters, part.records = False, False, [], []
        return Commit(outputs, offsets)

    def carried_out(self, ends: Mapping[TopicPartition, int]) -> None:
        """Nothing waits for that."""

    def expendable(self, now: float) -> Mapping[TopicPartition, int]:  # noqa: ARG002 — the inputs are somebody else's
        return {}


def _reader(source: Source) -> LabelReader | PredictionReader:
    return LabelReader(source) if source.kind is SourceKind.LABELS else PredictionReader(source)


def _sent_on(route: Route, event: PredictionEvent | LabelEvent) -> OutputRecord:
    """The record of an event, which lies where its id says."""
    key = event.prediction_id.encode("utf-8", "replace")
    return OutputRecord(route.topic, key, _encode(_document(event)), (), _place(key, route.partitions))


def _document(event: PredictionEvent | LabelEvent) -> dict[str, Any]:
    prediction = event.prediction
    document: dict[str, Any] = {"prediction_id": event.prediction_id, "model_id": event.model_id}
    if event.model_version:
        document["model_version"] = event.model_version
    if prediction is not None:
        document["prediction"] = _parts(prediction)
    if isinstance(event, PredictionEvent):
        return {**document, "timestamp": event.time}
    told = {"label": event.label, "value": event.value}
    document |= {name: value for name, value in told.items() if value is not None}
    return {**document, "outcome_timestamp": event.time, "revision": event.revision}


def _parts(prediction: Prediction) -> dict[str, Any]:
    parts = {
        "label": prediction.label,
        "score": prediction.score,
        "probabilities": prediction.probabilities,
        "value": prediction.value,
    }
    return {name: part for name, part in parts.items() if part is not None}
