"""The settings of sources: which topics are read, from where on, and where the parts of an event stand in a message."""

# No `from __future__ import annotations`, as in `settings`.

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from streamdrift.codecs import mapping as places
from streamdrift.codecs.mapping import At, Const, Header, Key, Place, PredictionParts
from streamdrift.codecs.source import EventTime, TimestampUnit
from streamdrift.events import SourceKind
from streamdrift.quantities import Duration
from streamdrift.stages.stage import StartFrom
from streamdrift.values import AnyDuration, Section, Text, TopicName, Zone

# ---- places in a message -------------------------------------------------------------------------------------------

_WHOLE: Final = "."
"""The message itself, or the element of an array."""
_PATH: Final = 'a path such as meta.ts, a."key.with.dots" or instances[*].age'


def _path(value: object) -> At:
    if isinstance(value, At):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected {_PATH}")  # noqa: TRY004 — pydantic collects ValueErrors only
    return At(()) if value == _WHOLE else At.parse(value)


def _array(value: object) -> places.Path:
    at = At.parse(value) if isinstance(value, str) else None
    if at is None or at.array is None or at.path:
        raise ValueError("expected the path of an array and [*], for example instances[*]")
    return at.array


def _place(value: object) -> Place:
    if isinstance(value, Const | Header | Key):
        return value
    if not isinstance(value, Mapping):
        return _path(value)
    match dict(value):
        case {"const": str(text), **rest} if text and not rest:
            return Const(text)
        case {"header": str(name), **rest} if name and not rest:
            return Header(name)
        case {"key": True, **rest} if not rest:
            return Key()
        case {"key": str(path), **rest} if not rest:
            at = At.parse(path)
            if at.array is None:
                return Key(at.path)
    raise ValueError(f"expected {_PATH}, or one of {{const: text}}, {{header: name}}, {{key: path}}, {{key: true}}")


def _written(value: object) -> Any:  # noqa: ANN401 — as YAML has it
    match value:
        case Const(value=text):
            return {"const": text}
        case Header(name=name):
            return {"header": name}
        case Key(path=path):
            return {"key": str(At(path)) if path else True}
        case tuple():
            return str(At((), value))
    return _WHOLE if value == At(()) else None if value is None else str(value)


_TEXT: Final = {"type": "string"}


def _one_of(name: str, what: Mapping[str, object]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: what}, "required": [name], "additionalProperties": False}


AnyPath = Annotated[At, PlainValidator(_path), PlainSerializer(_written), WithJsonSchema(_TEXT)]
AnyArray = Annotated[
    places.Path,
    PlainValidator(_array),
    PlainSerializer(_written),
    WithJsonSchema({"type": "string", "pattern": r"\[\*\]$", "examples": ["instances[*]"]}),
]
AnyPlace = Annotated[
    Place,
    PlainValidator(_place),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                _one_of("const", _TEXT),
                _one_of("header", _TEXT),
                _one_of("key", {"anyOf": [_TEXT, {"const": True}]}),
            ]
        }
    ),
]
_CONTRACT: Final = places.Mapping()


class PredictionPlaces(Section):
    """The places of a prediction's parts, where they do not stand together in one object."""

    label: AnyPath | None = None
    """The predicted class."""
    score: AnyPath | None = None
    """The probability of the positive class."""
    value: AnyPath | None = None
    """The predicted number."""
    probabilities: AnyPath | None = None
    """An object: the probability of each class by its name."""
    outputs: AnyPath | None = None
    """An object: the parts of each output by its name."""

    @property
    def parts(self) -> PredictionParts:
        """The same as the codec knows it."""
        return PredictionParts(self.label, self.score, self.value, self.probabilities, self.outputs)


def _prediction(value: object) -> At | PredictionPlaces:
    if isinstance(value, PredictionPlaces):
        return value
    return PredictionPlaces.model_validate(value) if isinstance(value, Mapping) else _path(value)


class EventMapping(Section):
    """Where the parts of an event stand in a message: a path, or {const: text}, {header: name}, {key: path}."""

    model_id: AnyPlace = _CONTRACT.model_id
    """The model's id."""
    model_version: AnyPlace = _CONTRACT.model_version
    """The version; where nothing stands there, it is empty."""
    timestamp: AnyPlace = _CONTRACT.timestamp
    """The event's time; where nothing stands there, the record's counts."""
    prediction_id: AnyPlace = _CONTRACT.prediction_id
    """The id by which labels find their prediction."""
    features: AnyPath = _CONTRACT.features
    """An object, or an array together with ``feature_names``; ``.`` takes whatever has no other use."""
    feature_names: tuple[Text, ...] = ()
    """The names of features that come as an array, in its order."""
    prediction: Annotated[
        At | PredictionPlaces,
        PlainValidator(_prediction),
        PlainSerializer(lambda value: value if isinstance(value, PredictionPlaces) else _written(value)),
        WithJsonSchema(
            {
                "anyOf": [
                    _TEXT,
                    {
                        "type": "object",
                        "properties": dict.fromkeys(PredictionPlaces.model_fields, _TEXT),
                        "additionalProperties": False,
                    },
                ]
            }
        ),
    ] = At(("prediction",))
    """An object, or a place for each of label, score, value, probabilities and outputs."""
    explode: AnyArray | None = None
    """An array each of whose elements is an event, for example ``instances[*]``."""
    label: AnyPlace | None = None
    """Of labels: the true class; null for ``label``."""
    value: AnyPlace | None = None
    """Of labels: the true number; null for ``value``."""
    outcome_timestamp: AnyPlace | None = None
    """Of labels: their own time, in place of ``timestamp``; null for ``outcome_timestamp``."""
    revision: AnyPlace | None = None
    """Of labels: a higher number replaces what a lower one said; null for ``revision``."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.mapping()
        self.label_mapping()
        return self

    def foreign(self, kind: SourceKind) -> list[str]:
        """The keys that were set, but say nothing of a source of this kind."""
        others = _OF_EVENTS if kind is SourceKind.LABELS else _OF_LABELS
        return [name for name in others if name in self.model_fields_set]

    def label_mapping(self) -> places.LabelMapping:
        """The places of labels as the codec knows them. Raises ``ValueError`` for places that cannot be together."""
        prediction, usual = self.prediction, places.LabelMapping()
        return places.LabelMapping(
            self.model_id,
            self.model_version,
            self.prediction_id,
            self.label or usual.label,
            self.value or usual.value,
            self.outcome_timestamp or usual.outcome_timestamp,
            self.revision or usual.revision,
            prediction.parts if isinstance(prediction, PredictionPlaces) else prediction,
            self.explode,
        )

    def mapping(self) -> places.Mapping:
        """The same as the codec knows it. Raises ``ValueError`` for places that cannot be together."""
        prediction = self.prediction
        return places.Mapping(
            self.model_id,
            self.model_version,
            self.timestamp,
            self.prediction_id,
            self.features,
            self.feature_names,
            prediction.parts if isinstance(prediction, PredictionPlaces) else prediction,
            self.explode,
        )


_OF_LABELS: Final = ("label", "value", "outcome_timestamp", "revision")
_OF_EVENTS: Final = ("timestamp", "features", "feature_names")


# ---- where reading begins ------------------------------------------------------------------------------------------

StartPoint = StartFrom | Duration | datetime


def _start(value: object) -> StartPoint:
    if isinstance(value, StartFrom | Duration):
        return value
    text = value.isoformat() if isinstance(value, datetime) else value if isinstance(value, str) else ""
    for read in _READINGS:
        try:
            return read(text)
        except ValueError:
            continue
    raise ValueError("expected earliest, latest, a duration such as 7d, or a time such as 2026-11-22T10:00:00Z")


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("names no zone")
    return time


_READINGS: Final[tuple[Callable[[str], StartPoint], ...]] = (StartFrom, Duration.parse, _time)

AnyStart = Annotated[
    StartPoint,
    PlainValidator(_start),
    PlainSerializer(lambda start: start.isoformat() if isinstance(start, datetime) else str(start)),
    WithJsonSchema({"type": "string", "examples": ["earliest", "latest", "7d", "2026-11-22T10:00:00Z"]}),
]


class Source(Section):
    """An input topic."""

    topic: TopicName
    """The topic's name."""
    kind: SourceKind
    """What its events are: predictions, features or labels."""
    predictions: TopicName | None = None
    """Of labels: the topic of their predictions; null takes the only one."""
    rekey: bool = False
    """Whether what the join reads of it is sent through an internal topic, by prediction id: for predictions and labels
    that are keyed otherwise, or have other numbers of partitions. One of the two is enough to say it of both."""
    mapping: EventMapping = Field(default_factory=EventMapping)
    """Where the parts of an event stand in a message, if not where the contract puts them."""
    start_from: AnyStart | None = None
    """Where a group that never read the topic begins: earliest, latest, so long ago (7d), or at a time; null takes
    ``kafka.start_from``."""
    event_time: EventTime | None = None
    """Whose time decides an event's tick: its own (``event``) or Kafka's (``record``); null takes the event's, and
    for labels Kafka's."""
    allowed_lateness: AnyDuration | None = None
    """How long an event may come after a later one; null takes ``time.allowed_lateness``."""
    end_of_stream: bool = False
    """Whether a record that marks the end of the stream is honoured."""
    zone: Zone | None = None
    """Zone of times that name none, for example Europe/Berlin; without one such times are refused."""
    timestamp_unit: TimestampUnit = TimestampUnit.AUTO
    """How times are written; ``auto`` takes text as RFC 3339, and numbers by their size."""

    def time_of(self) -> EventTime:
        """``event_time``, or what the kind of source takes by default."""
        return self.event_time or (EventTime.RECORD if self.kind is SourceKind.LABELS else EventTime.EVENT)
