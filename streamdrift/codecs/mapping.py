"""Where the parts of an event stand in a message, so that existing topics work unchanged.

A *place* is a path of keys in the message, a constant, a header, or (a part of) the key of the record. One message
may hold an array of events (``explode``): places then stand in the message, for all of its events alike, or in an
element of that array, or in the element at the same index of an array alongside::

    {"meta": {"ts": 1795341600123}, "instances": [{"amount": 3}, {"amount": 5}], "predictions": [0.1, 0.7]}

    explode: instances[*]      timestamp: meta.ts      features: instances[*]      prediction: {score: predictions[*]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

Path = tuple[str, ...]
"""Keys, one inside the other; () is the whole. Keys are taken as they are: dots in them mean nothing."""

_KEY: Final = r'(?:"(?:[^"\\]|\\.)*"|[^."\[\]]+)'
_KEYS: Final = rf"{_KEY}(?:\.{_KEY})*"
_TEXT: Final = re.compile(rf"(?P<array>{_KEYS})?(?P<each>\[\*\])\.?(?P<rest>(?<=\.){_KEYS})?|(?P<path>{_KEYS})")


@dataclass(frozen=True, slots=True)
class At:
    """A place in the message: ``path`` from its top, or from an element of the array that stands at ``array``."""

    path: Path
    array: Path | None = None

    @classmethod
    def parse(cls, text: str) -> At:
        """``meta.ts``, ``a."key.with.dots".b``, ``instances[*].age``, ``[*]`` for a message that is an array.

        Raises:
            ValueError: says what a path looks like.
        """
        match = _TEXT.fullmatch(text)
        if match is None or text.endswith("."):
            raise ValueError('expected a path, for example meta.ts, a."b.c".d or instances[*].age')
        if not match["each"]:
            return cls(_keys(match["path"]))
        return cls(_keys(match["rest"]), _keys(match["array"]))

    def __str__(self) -> str:
        path = ".".join(map(_quoted, self.path))
        if self.array is None:
            return path or "the message"
        each = ".".join(map(_quoted, self.array)) + "[*]"
        return f"{each}.{path}" if path else each


def _keys(text: str | None) -> Path:
    return tuple(json.loads(key) if key[0] == '"' else key for key in re.findall(_KEY, text or ""))


def _quoted(key: str) -> str:
    return key if re.fullmatch(_KEY, key) and key[0] != '"' else json.dumps(key, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Const:
    """The same for all messages of the source."""

    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """The text of a header of the record; of several of one name, the last."""

    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A place in the record's key, which is JSON; with an empty path the whole key, as text."""

    path: Path = ()


Place = At | Const | Header | Key


@dataclass(frozen=True, slots=True)
class PredictionParts:
    """The prediction, where its parts do not stand together in one object. A part that is not there is missing."""

    label: At | None = None
    score: At | None = None
    value: At | None = None
    probabilities: At | None = None
    """An object: the probability of each class by its name."""
    outputs: At | None = None
    """An object: the parts of each output by its name."""

    def items(self) -> Iterator[tuple[str, At]]:
        """The parts that are named, as (name, place)."""
        for field in fields(self):
            place = getattr(self, field.name)
            if place is not None:
                yield field.name, place


@dataclass(frozen=True, slots=True)
class LabelMapping:
    """Where the parts of a label stand in a message; by default where the contract puts them.

    Raises:
        ValueError: a place that cannot be; says which and what was expected.
    """

    model_id: Place = At(("model_id",))
    model_version: Place = At(("model_version",))
    """Of a label that carries its own prediction."""
    prediction_id: Place = At(("prediction_id",))
    label: Place = At(("label",))
    """The true class."""
    value: Place = At(("value",))
    """The true number."""
    outcome_timestamp: Place = At(("outcome_timestamp",))
    revision: Place = At(("revision",))
    prediction: At | PredictionParts = At(("prediction",))
    explode: Path | None = None

    def __post_init__(self) -> None:
        _check_places(self.places(), self.explode)

    def places(self) -> Iterator[tuple[str, Place]]:
        """Every place, by the name under which it is configured."""
        for name in _LABEL_PLACES:
            yield name, getattr(self, name)
        yield from _prediction_places(self.prediction)


_LABEL_PLACES: Final = ["model_id", "model_version", "prediction_id", "label", "value", "outcome_timestamp", "revision"]


def _prediction_places(prediction: At | PredictionParts) -> Iterator[tuple[str, Place]]:
    if isinstance(prediction, At):
        yield "prediction", prediction
    else:
        yield from ((f"prediction.{name}", place) for name, place in prediction.items())


def _check_places(places: Iterable[tuple[str, Place]], explode: Path | None) -> None:
    for name, place in places:
        if isinstance(place, At):
            if place.array is not None and explode is None:
                raise ValueError(f"{name}: [*] stands for the elements of an array: `explode` must name one")
            if not place.path and place.array is None and name != "features":
                raise ValueError(f"{name}: expected a path with at least one key")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where the parts of an event stand; by default where the contract puts them.

    Raises:
        ValueError: a place that cannot be; says which and what was expected.
    """

    model_id: Place = At(("model_id",))
    model_version: Place = At(("model_version",))
    """Where nothing stands there, the version is the empty text."""
    timestamp: Place = At(("timestamp",))
    """Where nothing stands there, the time of the record counts."""
    prediction_id: Place = At(("prediction_id",))
    """Of a message that is exploded, one outside the array is completed to ``id/row``."""
    features: At = At(("features",))
    """An object, or an array of as many values as ``feature_names``; () is the whole message. What stands at the other
    places is no feature."""
    feature_names: tuple[str, ...] = ()
    prediction: At | PredictionParts = At(("prediction",))
    explode: Path | None = None
    """The array whose elements are events; () is the message itself."""

    def __post_init__(self) -> None:
        if len(set(self.feature_names)) != len(self.feature_names):
            raise ValueError("feature_names: a name stands there twice")
        _check_places(self.places(), self.explode)

    def places(self) -> Iterator[tuple[str, Place]]:
        """Every place, by the name under which it is configured."""
        for name in ("model_id", "model_version", "timestamp", "prediction_id", "features"):
            yield name, getattr(self, name)
        yield from _prediction_places(self.prediction)
