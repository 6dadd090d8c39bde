"""Finds the parts of events at the places that a mapping names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamdrift.codecs import mapping as places
from streamdrift.codecs.documents import Rejected, follow, model_name, parse, without
from streamdrift.codecs.mapping import At, Const, Header, Key, Path, Place
from streamdrift.codecs.source import Source
from streamdrift.events import SourceKind
from streamdrift.records import Headers, RecordBatch

MAX_ELEMENTS: Final = 10_000
"""Most events of one message: an array of a million empty objects would take gigabytes as columns."""

ABSENT: Final = object()
"""Stands for what is not there; null is there."""
_NUMBER: Final = re.compile(r"(?P<integer>[-+]?\d{1,20})|[-+]?\d+\.\d*(?:[eE][-+]?\d{1,3})?", re.ASCII)


Model = tuple[str, str]
"""(model_id, model_version)"""


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

    def events(self, records: RecordBatch, index: int) -> Iterator[Event | Rejected]:
        """The events of a message, which has a value; in place of each that is none why not.

        Raises:
            Rejected: the message as a whole is none.
        """
        document = parse(records.values[index] or b"")
        if not isinstance(document, list if self._is_array else dict):
            raise Rejected("schema", f"expected a JSON {'array' if self._is_array else 'object'}")
        if self._mapping.explode is None:
            return iter([self._event(_Found(records, index, document, {}))])
        arrays = self._arrays_of(document)
        rows = (dict(zip(arrays, elements, strict=True)) for elements in zip(*arrays.values(), strict=True))
        return (self._element(_Found(records, index, document, found, row)) for row, found in enumerate(rows))

    def _arrays_of(self, document: object) -> dict[Path, list[Any]]:
        """The arrays whose elements are events, by path; all of one length. Raises ``Rejected``."""
        arrays: dict[Path, list[Any]] = {}
        for path in self._arrays:
            where = At((), path)
            array = arrays[path] = follow(document, path)
            if not isinstance(array, list):
                raise Rejected("schema", f"{where}: expected an array")
            if len(array) > MAX_ELEMENTS:
                raise Rejected("too_large", f"{where}: {len(array)} elements, at most {MAX_ELEMENTS} are read")
            size = len(arrays[self._arrays[0]])
            if len(array) != size:
                exploded = At((), self._arrays[0])
                raise Rejected("schema", f"{where}: expected {size} elements as in {exploded}, found {len(array)}")
        return arrays

    def _element(self, found: _Found) -> Event | Rejected:
        try:
            return self._event(found)
        except Rejected as rejected:
            return Rejected(rejected.reason, str(rejected), found.row)

    def _model(self, found: _Found) -> Model:
        return model_of(found.at(self._mapping.model_id), found.at(self._mapping.model_version))

    def _event(self, found: _Found) -> Event:
        model, time = self._model(found), self._time(found)
        features, prediction = self._features(found), self._prediction(found)
        if self._source.kind is SourceKind.PREDICTIONS and prediction is None:
            raise Rejected("schema", "prediction: expected an object")
        if features is None and prediction is None:
            raise Rejected("schema", "features: expected an object")
        privacy = self._source.privacy
        return Event(model, time, self._identity(found), privacy.features(features), privacy.prediction(prediction))

    def _time(self, found: _Found) -> int:
        try:
            return self._source.time(
                timestamp(found.at(self._mapping.timestamp)), found.records.timestamps[found.place]
            )
        except ValueError as error:
            raise Rejected("timestamp", str(error)) from None

    def _identity(self, found: _Found) -> bytes:
        place = self._mapping.prediction_id
        return identity_of(place, found.at(place), found.records.values[found.place] or b"", found.row)

    def _features(self, found: _Found) -> Mapping[str, Any] | None:
        value, names = found.at(self._mapping.features), self._mapping.feature_names
        if value is None or value is ABSENT:
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
            return {name: value for name, value in parts.items() if value is not ABSENT}
        value = found.at(place)
        if value is None or value is ABSENT:
            return None
        if not isinstance(value, dict):
            raise Rejected("schema", "prediction: expected an object")
        return value


class _Found(NamedTuple):
    """What places lead into: a record, its document, and the elements of its arrays at one index."""

    records: RecordBatch
    place: int
    document: object
    elements: Mapping[Path, object]
    row: int | None = None

    def at(self, place: Place) -> Any:  # noqa: ANN401 — a JSON value, or the bytes of a header or key
        if not isinstance(place, At):
            return beside(place, self.records, [self.place])[0]
        document = self.document if place.array is None else self.elements[place.array]
        return follow(document, place.path, ABSENT)


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


def beside(place: Const | Header | Key, records: RecordBatch, places: Sequence[int]) -> list[Any]:
    """What stands outside the messages' values: the bytes of headers and keys as they are; ``ABSENT`` if nothing."""
    match place:
        case Const(value):
            return [value] * len(places)
        case Header(name):
            headers = records.headers
            return [_header(headers[i], name) for i in places]
        case Key(()):
            keys = records.keys
            return [ABSENT if keys[i] is None else keys[i] for i in places]
        case Key(path):
            return [_in_key(records.keys[i], path) for i in places]


def _header(headers: Headers, name: str) -> object:
    for key, text in reversed(headers or ()):
        if key == name and text is not None:
            return text
    return ABSENT


def _in_key(key: bytes | None, path: Path) -> Any:  # noqa: ANN401 — a JSON value
    try:
        return follow(parse(key or b""), path, ABSENT)
    except Rejected:
        return ABSENT


def model_of(model_id: object, model_version: object) -> Model:
    """Whose an event is, from what stands at the two places. Raises ``Rejected``."""
    version = "" if model_version is ABSENT else model_name(_text(model_version), "model_version")
    return model_name(_text(model_id), "model_id"), version


def identity_of(place: Place, said: object, message: bytes, row: int | None) -> bytes:
    """What is hashed of an event: the id that is said, or the message where there is none.

    Of a message that is exploded, ``row`` is the element: the id of the whole message is completed by it.
    """
    if isinstance(said, str | int):
        said = str(said).encode("utf-8", "surrogatepass")
    whole = said if isinstance(said, bytes) else message
    if row is None or (whole is said and isinstance(place, At) and place.array is not None):
        return whole
    return b"%b/%d" % (whole, row)


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def timestamp(value: object) -> object:
    """A timestamp as a source reads it: the texts of headers and keys may be numbers."""
    if not isinstance(value, bytes):
        return None if value is ABSENT else value
    text = value.decode("utf-8", "replace")
    match = _NUMBER.fullmatch(text)
    return text if match is None else int(text) if match["integer"] else float(text)
