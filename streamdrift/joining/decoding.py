"""What the join reads of messages: whose prediction it is, and what was predicted; and labels. No features.

Predictions that are no events are only counted here: summarise reads the same records, and writes what is wrong with
them to the dead letters. Of labels the join is the only reader, so it writes theirs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs.documents import MAX_NAME_LENGTH, Rejected, dead_letters
from streamdrift.codecs.labels import Label, LabelFinder, decode_label
from streamdrift.codecs.mapping import LabelMapping
from streamdrift.codecs.mapping import Mapping as Places
from streamdrift.codecs.places import Event, Finder
from streamdrift.codecs.source import EventTime, Source
from streamdrift.codecs.times import event_times
from streamdrift.events import DeadLetter
from streamdrift.grids import category_name
from streamdrift.joining.join import LabelEvent, PredictionEvent
from streamdrift.joining.rows import Prediction
from streamdrift.privacy import Fate, Privacy
from streamdrift.records import RecordBatch
from streamdrift.summaries.names import MAX_LENGTH

MAX_CLASSES: Final = 256
"""Most classes of which probabilities are kept: those beyond cannot be named in a model's outcomes either."""
WITHOUT_ID: Final = "without_id"
"""Why a good prediction event takes no part: no label can name it."""
PREDICTION_ID: Final = "prediction_id"
"""Under which name privacy rules speak of the ids by which labels find their predictions."""


class Rules:
    """What privacy rules leave of predictions and of truths: one rule for both, or they would never be equal."""

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy
        self._label, self._score, self._value = (privacy.fate(f"prediction.{part}") for part in _PARTS)
        self._id = privacy.fate(PREDICTION_ID)

    def __bool__(self) -> bool:
        """Whether anything is dropped or hashed at all."""
        return bool(self._privacy)

    def id(self, prediction_id: str) -> str:
        """The id under which both are joined."""
        return self._privacy.hashed(prediction_id) if self._id is Fate.HASHED else prediction_id

    def label(self, name: str | None) -> str | None:
        """A class, predicted or true."""
        if name is None or self._label is Fate.DROPPED:
            return None
        return self._privacy.hashed(name) if self._label is Fate.HASHED else name

    def value(self, value: float | None) -> float | None:
        """A number, likewise; what is hashed is no number any more."""
        return value if self._value is Fate.KEPT else None

    def prediction(self, prediction: Prediction) -> Prediction:
        """All parts of a prediction."""
        probabilities = prediction.probabilities
        if probabilities is not None:
            kept = [name for name in probabilities if self._keeps(name)]
            probabilities = {self.label(name) or "": probabilities[name] for name in kept}
        score = prediction.score if self._score is Fate.KEPT else None
        return Prediction(self.label(prediction.label), score, probabilities, self.value(prediction.value))

    def _keeps(self, name: str) -> bool:
        fate = self._privacy.fate(f"prediction.probabilities.{name}")
        return fate is Fate.KEPT and self._label is not Fate.DROPPED


_PARTS: Final = ("label", "score", "value")

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
_Version = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]


class _Parts(msgspec.Struct, gc=False):
    label: str | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None


class _Event(msgspec.Struct, gc=False):
    """The contract's prediction event, as nearly all are; msgspec skips the features."""

    model_id: _Name
    prediction: _Parts
    prediction_id: str | int | None = None
    model_version: _Version = ""
    timestamp: str | int | float | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode
_REFUSED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Found(NamedTuple):
    """A prediction event before its time is known."""

    place: int
    """Of its message in the batch."""
    prediction_id: str
    model_id: str
    model_version: str
    prediction: Prediction


@dataclass(slots=True)
class Predictions:
    """The prediction events of a batch, in the order of their messages."""

    events: list[PredictionEvent] = field(default_factory=list)
    index: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Place of each event's message in the batch."""
    times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    refused: Counter[str] = field(default_factory=Counter)
    """Events that take no part, by why."""


class PredictionReader:
    """Reads the prediction events of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rules = Rules(source.privacy)
        # The rules of privacy are applied to what is kept, whichever way it was read.
        self._finder = Finder(replace(source, privacy=Privacy()))
        self._is_contract = source.mapping == Places()

    def read(self, records: RecordBatch) -> Predictions:
        """The events of a batch; control records must have been taken out before."""
        read = Predictions()
        found: list[_Found] = []
        said: list[Any] = []
        known: dict[int, int] = {}
        """Times by the place in ``found``, where the slow way has read them already."""
        limit = self._source.max_message_bytes
        for i, value in enumerate(records.values):
            if not value or len(value) > limit:
                read.refused["too_large" if value else "empty"] += 1
            elif (event := self._fast(value)) is None:
                for slow in self._slowly(records, i, read):
                    known[len(found)] = slow.time
                    found.append(self._of_event(i, slow))
                    said.append(None)
            elif event.prediction_id in {None, ""}:
                read.refused[WITHOUT_ID] += 1
            else:
                said.append(event.timestamp)
                found.append(self._of_fast(i, event))
        self._complete(read, found, said, known, records)
        return read

    def _fast(self, value: bytes) -> _Event | None:
        if not self._is_contract:
            return None
        try:
            return _decode(value)
        except _REFUSED:
            return None

    def _slowly(self, records: RecordBatch, index: int, read: Predictions) -> list[Event]:
        events = []
        try:
            for event in self._finder.events(records, index):
                if not isinstance(event, Event):
                    read.refused[event.reason] += 1
                elif event.prediction_id is None:
                    read.refused[WITHOUT_ID] += 1
                else:
                    events.append(event)
        except Rejected as rejected:
            read.refused[rejected.reason] += 1
        return events

    def _of_fast(self, index: int, event: _Event) -> _Found:
        parts = event.prediction
        if parts.probabilities is not None and len(parts.probabilities) > MAX_CLASSES:
            parts.probabilities = None
        label = parts.label if parts.label is None else parts.label[:MAX_LENGTH]
        prediction = Prediction(label, parts.score, parts.probabilities, parts.value)
        return self._kept(_Found(index, str(event.prediction_id), event.model_id, event.model_version, prediction))

    def _of_event(self, index: int, event: Event) -> _Found:
        return self._kept(_Found(index, event.prediction_id or "", *event.model, prediction_of(event.prediction or {})))

    def _kept(self, found: _Found) -> _Found:
        if not self._rules:
            return found
        return found._replace(
            prediction_id=self._rules.id(found.prediction_id), prediction=self._rules.prediction(found.prediction)
        )

    def _complete(
        self, read: Predictions, found: list[_Found], said: list[Any], known: Mapping[int, int], records: RecordBatch
    ) -> None:
        """Find the times, and leave out what has none."""
        if self._source.event_time is EventTime.RECORD:
            said = [None] * len(said)
        times, wrong = event_times(self._source, [said], lambda row: records.timestamps[found[row].place])
        for row, time in known.items():
            times[row] = time
            wrong.pop(row, None)
        read.refused["timestamp"] += len(wrong)
        kept = [row for row in range(len(found)) if row not in wrong]
        offsets = records.offsets
        read.times = times[kept]
        read.index = np.array([found[row].place for row in kept], dtype=np.int64)
        read.events = [
            PredictionEvent(offsets[place], model_id, version, prediction_id, time, prediction)
            for (place, prediction_id, model_id, version, prediction), time in zip(
                (found[row] for row in kept), read.times.tolist(), strict=True
            )
        ]


@dataclass(slots=True)
class Labels:
    """The labels of a batch, in the order of their messages."""

    events: list[LabelEvent] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Place of each label's message in the batch."""
    dead: list[DeadLetter] = field(default_factory=list)
    exploded: int = 0
    """Labels beyond the first of a message."""
    eventless: int = 0
    """Messages whose array of labels is empty."""


class LabelReader:
    """Reads the labels of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rules = Rules(source.privacy)
        self._finder = LabelFinder(source.label_mapping)
        self._is_contract = source.label_mapping == LabelMapping()

    def read(self, records: RecordBatch) -> Labels:
        """The labels and dead letters of a batch; control records must have been taken out before."""
        read = Labels()
        for i, value in enumerate(records.values):
            taken = [self._take(label, i, records, read) for label in self._labels(value, records, i)]
            read.exploded += max(0, len(taken) - 1)
            read.eventless += not taken
            read.dead += dead_letters(i, filter(None, taken))
        return read

    def _labels(self, value: bytes | None, records: RecordBatch, place: int) -> Sequence[Label | Rejected]:
        limit = self._source.max_message_bytes
        if not value:
            return [Rejected("empty", "the message has no value")]
        if len(value) > limit:
            return [Rejected("too_large", f"{len(value)} bytes, at most {limit} are read")]
        try:
            if self._is_contract:
                with suppress(ValueError):  # the other way says what is wrong, if anything is
                    return [decode_label(value)]
            return list(self._finder.events(records, place))
        except Rejected as rejected:
            return [rejected]

    def _take(self, label: Label | Rejected, index: int, records: RecordBatch, read: Labels) -> Rejected | None:
        if isinstance(label, Rejected):
            return label
        try:
            time = self._source.time(label.outcome_timestamp, records.timestamps[index])
        except ValueError as error:
            return Rejected("timestamp", str(error))
        event = label_event(label, records.offsets[index], time)
        if self._rules:
            rules, own = self._rules, event.prediction
            event = event._replace(
                prediction_id=rules.id(event.prediction_id),
                label=rules.label(event.label),
                value=rules.value(event.value),
                prediction=None if own is None else rules.prediction(own),
            )
        read.events.append(event)
        read.places.append(index)
        return None


def label_event(label: Label, offset: int, time: int) -> LabelEvent:
    """A decoded label as the join takes it; ``time`` in microseconds is what the source says of it."""
    return LabelEvent(
        offset,
        label.model_id,
        str(label.prediction_id),
        time,
        None if label.label is None else _class_name(label.label),
        label.value,
        label.revision,
        None if label.prediction is None else prediction_of(label.prediction),
        label.model_version,
    )


def prediction_of(parts: Mapping[str, Any]) -> Prediction:
    """What the join keeps of a prediction that was read as an object. What is of a wrong type is missing."""
    label, probabilities = parts.get("label"), parts.get("probabilities")
    if isinstance(probabilities, Mapping) and len(probabilities) <= MAX_CLASSES:
        numbers = {name: _number(p) for name, p in probabilities.items()}
        probabilities = {_class_name(name): p for name, p in numbers.items() if p is not None}
    else:
        probabilities = None
    if not isinstance(label, str | bool):
        label = _number(label)
    text = None if label is None else _class_name(label)
    return Prediction(text, _number(parts.get("score")), probabilities, _number(parts.get("value")))


def _class_name(label: str | bool | float) -> str:  # noqa: FBT001 — a value of an event, not a switch
    """The name of a class as it is counted; a lone surrogate could not be written on."""
    return category_name(label)[:MAX_LENGTH].encode("utf-8", "replace").decode()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
