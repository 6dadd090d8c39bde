"""The little of a message that the join needs: whose prediction it is, and what was predicted. Not its features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from streamdrift.codecs.documents import MAX_NAME_LENGTH
from streamdrift.codecs.labels import Label
from streamdrift.grids import category_name
from streamdrift.joining.join import LabelEvent
from streamdrift.joining.rows import Prediction

MAX_CLASSES: Final = 256
"""Most classes of which probabilities are kept: those beyond cannot be named in a model's outcomes either."""


class Decoded(NamedTuple):
    """A prediction event, before its time is judged."""

    prediction_id: str
    model_id: str
    model_version: str
    timestamp: datetime | int | float | str | None
    """What the event says; ``Source.time`` makes microseconds of it."""
    prediction: Prediction


Decode = Callable[[bytes], Decoded]
"""Of any format or mapping. Raises ``ValueError`` for what is no prediction event, saying what is wrong where."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
_Version = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]


class _Parts(msgspec.Struct, gc=False):
    label: str | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None


class _Event(msgspec.Struct, gc=False):
    """The contract's prediction event, as nearly all are; msgspec skips the features."""

    prediction_id: str | int
    model_id: _Name
    prediction: _Parts
    model_version: _Version = ""
    timestamp: datetime | int | float | None = None


class _OddEvent(msgspec.Struct, gc=False):
    """One of which some part is of a wrong type."""

    prediction_id: str | int
    model_id: _Name | int
    prediction: dict[str, Any]
    model_version: _Version | int = ""
    timestamp: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_odd: Final = msgspec.json.Decoder(_OddEvent).decode


def decode_prediction(value: bytes) -> Decoded:
    """A prediction event of the contract's shape. A part of the prediction of a wrong type is missing.

    Raises:
        ValueError: no prediction id, no model, no prediction, or no JSON; says what is wrong where.
    """
    try:
        event = _decode(value)
    except msgspec.DecodeError:
        return _decode_slowly(value)
    except (UnicodeDecodeError, RecursionError):
        raise ValueError("the message is not UTF-8, or nested too deep") from None
    parts = event.prediction
    if parts.probabilities is not None and len(parts.probabilities) > MAX_CLASSES:
        parts.probabilities = None
    prediction = Prediction(parts.label, parts.score, parts.probabilities, parts.value)
    return Decoded(str(event.prediction_id), event.model_id, event.model_version, event.timestamp, prediction)


def prediction_of(parts: Mapping[str, Any]) -> Prediction:
    """What the join keeps of a prediction that was read as an object. What is of a wrong type is missing."""
    label, probabilities = parts.get("label"), parts.get("probabilities")
    if isinstance(probabilities, Mapping) and len(probabilities) <= MAX_CLASSES:
        numbers = {name: _number(p) for name, p in probabilities.items()}
        probabilities = {name: p for name, p in numbers.items() if p is not None}
    else:
        probabilities = None
    if not isinstance(label, str | bool):
        label = _number(label)
    text = None if label is None else category_name(label)
    return Prediction(text, _number(parts.get("score")), probabilities, _number(parts.get("value")))


def label_event(label: Label, offset: int, time: int) -> LabelEvent:
    """A decoded label as the join takes it; ``time`` in microseconds is what the source says of it."""
    return LabelEvent(
        offset,
        label.model_id,
        label.prediction_id,
        time,
        None if label.label is None else category_name(label.label),
        label.value,
        label.revision,
        None if label.prediction is None else prediction_of(label.prediction),
    )


def _decode_slowly(value: bytes) -> Decoded:
    try:
        event = _decode_odd(value)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    return Decoded(
        str(event.prediction_id),
        str(event.model_id),
        str(event.model_version),
        event.timestamp,
        prediction_of(event.prediction),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
