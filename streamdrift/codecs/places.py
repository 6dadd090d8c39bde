"""Finds the parts of events at the places that a mapping names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from streamdrift.codecs import mapping as places
from streamdrift.codecs.documents import Rejected, follow, model_name, parse, without
from streamdrift.codecs.mapping import At, Const, Header, Key, Path, Place
from streamdrift.codecs.source import Source
from streamdrift.events import SourceKind
from streamdrift.records import Headers, RecordBatch

MAX_ELEMENTS: Final = 10_000
"""Most events of one message: an array of a million empty objects would take gigabytes as columns."""

_ABSENT: Final = object()
_NUMBER: Final = re.compile(r"(?P<integer>[-+]?\d{1,20})|[-+]?\d+\.\d*(?:[eE][-+]?\d{1,3})?", re.ASCII)


Model = tuple[str, str]
"""(model_id, model_version)"""


class Message(NamedTuple):
    """A record, as far as an event can be made from it."""

    value: bytes
    key: bytes | None
    headers: Headers
    recorded: int
    """The record's time in milliseconds, or ``NO_TIMESTAMP``."""

    @classmethod
    def of(cls, records: RecordBatch, place: int) -> Message:
        """The record at a place of a batch, which has a value."""
        return cls(records.values[place] or b"", records.keys[place], records.headers[place], records.timestamps[place])


class Event(NamedTuple):
    """The parts of an event; its values as raw as they were found."""

    model: Model
    time: int
    """Microseconds since the epoch."""
    identity: bytes
    """What the event's hash is made of."""
    features: Mapping[str, Any] | None
    prediction: Mapping[str, Any] | None


class Finder:
    """The slow way through a mapping: takes any message, and says of one that is no event what is wrong with it."""

    def __init__(self, source: Source) -> None:
        mapping = source.mapping
        self._source = source
        self._mapping = mapping
        # By the path of an array, the first place that needs it; the exploded one is measure for the others.
        self._arrays = [] if mapping.explode is None else [mapping.explode]
        for _, place in mapping.places():
            if isinstance(place, At) and place.array is not None and place.array not in self._arrays:
                self._arrays.append(place.array)
        self._used = list(used_paths(mapping))
        whole = mapping.features == At(()) and mapping.feature_names
        self._is_array = mapping.explode == () or bool(whole)

    def events(self, message: Message, document: object) -> Iterator[Event | Rejected]:
        """The events of a message, in place of each that is none why not. Raises ``Rejected`` where it holds none."""
        if not isinstance(document, list if self._is_array else dict):
            raise Rejected("schema", f"expected a JSON {'array' if self._is_array else 'object'}")
        if self._mapping.explode is None:
            return iter([self._event(_Found(message, document, {}))])
        return self._explode(message, document)

    def _explode(self, message: Message, document: object) -> Iterator[Event | Rejected]:
        arrays = {}
        for path in self._arrays:
            where = str(At((), path))
            array = arrays[path] = follow(document, path)
            if not isinstance(array, list):
                raise Rejected("schema", f"{where}: expected an array")
            if len(array) > MAX_ELEMENTS:
                raise Rejected("too_large", f"{where}: {len(array)} elements, at most {MAX_ELEMENTS} are read")
            first = arrays[self._arrays[0]]
            if len(array) != len(first):
                explode = At((), self._arrays[0])
                raise Rejected(
                    "schema", f"{where}: expected {len(first)} elements, as in {explode}, found {len(array)}"
                )
        return self._elements(message, document, arrays)

    def _elements(
        self, message: Message, document: object, arrays: Mapping[Path, list[Any]]
    ) -> Iterator[Event | Rejected]:
        for row, elements in enumerate(zip(*arrays.values(), strict=True)):
            try:
                yield self._event(_Found(message, document, dict(zip(arrays, elements, strict=True)), row))
            except Rejected as rejected:
                yield Rejected(rejected.reason, f"element {row}: {rejected}")

    def _model(self, found: _Found) -> Model:
        return model_of(found.at(self._mapping.model_id), found.at(self._mapping.model_version))

    def _event(self, found: _Found) -> Event:
        model, time = self._model(found), self._time(found)
        features, prediction = self._features(found), self._prediction(found)
        if self._source.kind is SourceKind.PREDICTIONS and prediction is None:
            raise Rejected("schema", "prediction: expected an object")
        if features is None and prediction is None:
            raise Rejected("schema", "features: expected an object")
        return Event(model, time, found.identity(self._mapping.prediction_id), features, prediction)

    def _time(self, found: _Found) -> int:
        try:
            return self._source.time(timestamp(found.at(self._mapping.timestamp)), found.message.recorded)
        except ValueError as error:
            raise Rejected("timestamp", str(error)) from None

    def _features(self, found: _Found) -> Mapping[str, Any] | None:
        value, names = found.at(self._mapping.features), self._mapping.feature_names
        if value is None or value is _ABSENT:
            return None
        if names:
            if not isinstance(value, list):
                raise Rejected("schema", "features: expected an array")
            if len(value) != len(names):
                raise Rejected("schema", f"features: expected {len(names)} values, found {len(value)}")
            return dict(zip(names, value, strict=True))
        if not isinstance(value, dict):
            raise Rejected("schema", "features: expected an object")
        return without(value, self._used) if self._used else value

    def _prediction(self, found: _Found) -> Mapping[str, Any] | None:
        place = self._mapping.prediction
        if not isinstance(place, At):
            parts = {name: found.at(part) for name, part in place.items()}
            return {name: value for name, value in parts.items() if value is not _ABSENT}
        value = found.at(place)
        if value is None or value is _ABSENT:
            return None
        if not isinstance(value, dict):
            raise Rejected("schema", "prediction: expected an object")
        return value


class _Found(NamedTuple):
    """What places lead into: a message, and the elements of its arrays at one index."""

    message: Message
    document: object
    elements: Mapping[Path, object]
    row: int | None = None

    def at(self, place: Place) -> Any:  # noqa: ANN401 — a JSON value, or the bytes of a header or key
        if not isinstance(place, At):
            return of_record(place, self.message)
        document = self.document if place.array is None else self.elements[place.array]
        return follow(document, place.path, _ABSENT)

    def identity(self, place: Place) -> bytes:
        """The id, or the message itself where there is none; with the row where several events would share it."""
        identity = identity_bytes(self.at(place))
        if identity is not None and isinstance(place, At) and place.array is not None:
            return identity
        whole = self.message.value if identity is None else identity
        return whole if self.row is None else b"%b/%d" % (whole, self.row)


def used_paths(mapping: places.Mapping) -> Iterator[Path]:
    """Paths below that of the features, and relative to it, where something stands that is no feature."""
    base = mapping.features
    used = [place for name, place in mapping.places() if name != "features" and isinstance(place, At)]
    if base.array is None:
        arrays = {place.array for _, place in mapping.places() if isinstance(place, At)} | {mapping.explode}
        used += [At(array) for array in arrays if array is not None]
    for place in dict.fromkeys(used):
        depth = len(base.path)
        if place.array == base.array and place.path[:depth] == base.path and len(place.path) > depth:
            yield place.path[depth:]


def of_record(place: Place, message: Message) -> Any:  # noqa: ANN401 — a JSON value of the key
    """What stands outside the message's value: bytes of headers and keys as they are; ``_ABSENT`` if nothing."""
    match place:
        case At():
            raise TypeError("a place in the message")
        case Const(value):
            return value
        case Header(name):
            return next(
                (text for key, text in reversed(message.headers or ()) if key == name and text is not None), _ABSENT
            )
        case Key(()):
            return _ABSENT if message.key is None else message.key
        case Key(path):
            try:
                return follow(parse(message.key or b""), path, _ABSENT)
            except Rejected:
                return _ABSENT


def model_of(model_id: object, model_version: object) -> Model:
    """Whose an event is, from what stands at the two places. Raises ``Rejected``."""
    version = "" if model_version is _ABSENT else model_name(_text(model_version), "model_version")
    return model_name(_text(model_id), "model_id"), version


def identity_bytes(value: object) -> bytes | None:
    """What is hashed of a prediction id; None for what is none."""
    if isinstance(value, str | int):
        return str(value).encode("utf-8", "surrogatepass")
    return value if isinstance(value, bytes) else None


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def timestamp(value: object) -> object:
    """A timestamp as a source reads it: the texts of headers and keys may be numbers."""
    if not isinstance(value, bytes):
        return None if value is _ABSENT else value
    text = value.decode("utf-8", "replace")
    match = _NUMBER.fullmatch(text)
    return text if match is None else int(text) if match["integer"] else float(text)
