"""Finds the parts of events at the places that a mapping names."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from streamdrift.codecs import mapping as places
from streamdrift.codecs.documents import Rejected, follow, model_name, parse, without
from streamdrift.codecs.mapping import At, Const, Header, Key, Path, Place, PredictionParts
from streamdrift.codecs.source import Source
from streamdrift.events import SourceKind
from streamdrift.records import Headers, RecordBatch

MAX_ELEMENTS: Final = 10_000
"""Most events of one message: an array of a million empty objects would take gigabytes as columns."""

ABSENT: Final = object()
"""Stands for what is not there; null is there."""
_NUMBER: Final = re.compile(r"(?P<integer>[-+]?\d{1,20})|[-+]?\d+\.\d*(?:[eE][-+]?\d{1,3})?", re.ASCII)


T = TypeVar("T")
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
    prediction_id: str | None = None
    """As labels name it; None where the event has none."""


class Documents(ABC, Generic[T]):
    """The slow way through a mapping: takes any message, and says of one that is no event what is wrong with it."""

    def __init__(self, found_at: Iterable[Place], explode: Path | None, *, is_array: bool) -> None:
        """``found_at`` are all places that are looked at; ``is_array`` whether a message is an array, not an object."""
        self._explode = explode
        # By the path of an array, the first place that needs it; the exploded one is measure for the others.
        self._arrays = [] if explode is None else [explode]
        for place in found_at:
            if isinstance(place, At) and place.array is not None and place.array not in self._arrays:
                self._arrays.append(place.array)
        self._is_array = is_array

    @abstractmethod
    def _event(self, found: Found) -> T:
        """The event that was found. Raises ``Rejected``."""

    def events(self, records: RecordBatch, index: int) -> Iterator[T | Rejected]:
        """The events of a message, which has a value; in place of each that is none why not.

        Raises:
            Rejected: the message as a whole is none.
        """
        document = parse(records.values[index] or b"")
        if not isinstance(document, list if self._is_array else dict):
            raise Rejected("schema", f"expected a JSON {'array' if self._is_array else 'object'}")
        if self._explode is None:
            return iter([self._event(Found(records, index, document, {}))])
        arrays = self._arrays_of(document)
        rows = (dict(zip(arrays, elements, strict=True)) for elements in zip(*arrays.values(), strict=True))
        return (self._element(Found(records, index, document, found, row)) for row, found in enumerate(rows))

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

    def _element(self, found: Found) -> T | Rejected:
        try:
            return self._event(found)
        except Rejected as rejected:
            return Rejected(rejected.reason, str(rejected), found.row)


class Finder(Documents[Event]):
    """Finds the parts of predictions and of features."""

    def __init__(self, source: Source) -> None:
        mapping = source.mapping
        self._source = source
        self._mapping = mapping
        self._used = list(used_paths(mapping))
        whole = mapping.features == At(()) and mapping.feature_names
        is_array = mapping.explode == () or bool(whole)
        super().__init__((place for _, place in mapping.places()), mapping.explode, is_array=is_array)

    def _model(self, found: Found) -> Model:
        return model_of(found.at(self._mapping.model_id), found.at(self._mapping.model_version))

    def _event(self, found: Found) -> Event:
        model, time = self._model(found), self._time(found)
        features, prediction = self._features(found), self._prediction(found)
        if self._source.kind is SourceKind.PREDICTIONS and prediction is None:
            raise Rejected("schema", "prediction: expected an object")
        if features is None and prediction is None:
            raise Rejected("schema", "features: expected an object")
        privacy = self._source.privacy
        kept = privacy.features(features), privacy.prediction(prediction)
        return Event(model, time, self._identity(found), *kept, id_of(self._mapping.prediction_id, found))

    def _time(self, found: Found) -> int:
        try:
            return self._source.time(
                timestamp(found.at(self._mapping.timestamp)), found.records.timestamps[found.place]
            )
        except ValueError as error:
            raise Rejected("timestamp", str(error)) from None

    def _identity(self, found: Found) -> bytes:
        place = self._mapping.prediction_id
        return identity_of(place, found.at(place), found.records.values[found.place] or b"", found.row)

    def _features(self, found: Found) -> Mapping[str, Any] | None:
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

    def _prediction(self, found: Found) -> Mapping[str, Any] | None:
        return prediction_at(self._mapping.prediction, found)


def prediction_at(place: At | PredictionParts, found: Found) -> Mapping[str, Any] | None:
    """The prediction that was found, by the names of its parts; None if there is none. Raises ``Rejected``."""
    if not isinstance(place, At):
        parts = {name: found.at(part) for name, part in place.items()}
        return {name: value for name, value in parts.items() if value is not ABSENT}
    value = found.at(place)
    if value is None or value is ABSENT:
        return None
    if not isinstance(value, dict):
        raise Rejected("schema", "prediction: expected an object")
    return value


class Found(NamedTuple):
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
    version = "" if model_version is ABSENT else model_name(text_of(model_version), "model_version")
    return model_name(text_of(model_id), "model_id"), version


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


def id_of(place: Place, found: Found) -> str | None:
    """The id of a prediction, as text; of one of several in a message, completed by the element's number."""
    said = found.at(place)
    if isinstance(said, bool) or not isinstance(said, str | int | bytes) or said in {"", b""}:
        return None
    whole = identity_of(place, said, b"", found.row)
    return whole.decode("utf-8", "surrogatepass" if isinstance(said, str) else "replace")


def text_of(value: object) -> object:
    """What stands in a header or key as text; anything else as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def timestamp(value: object) -> object:
    """A timestamp as a source reads it: the texts of headers and keys may be numbers."""
    if not isinstance(value, bytes):
        return None if value is ABSENT else value
    text = value.decode("utf-8", "replace")
    match = _NUMBER.fullmatch(text)
    return text if match is None else int(text) if match["integer"] else float(text)
