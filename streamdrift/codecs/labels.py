"""Label events: outcomes of predictions, in the contract's shape or in one that a mapping describes.

As with predictions there are two ways. Nearly every message of the contract's shape takes the fast one; the other way
reads any message, and judges what the fast one refuses.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

import msgspec

from streamdrift.codecs.documents import MAX_NAME_LENGTH, Rejected, model_name
from streamdrift.codecs.mapping import At, LabelMapping, Place
from streamdrift.codecs.places import ABSENT, Documents, Found, id_of, model_of, prediction_at, text_of, timestamp

_SOURCES: Final = ("system", "human")
_SOURCE: Final = At(("source",))

LabelValue = str | bool | int | float | None


class Label(msgspec.Struct, frozen=True):
    """The outcome of a prediction, hours or days later."""

    prediction_id: Annotated[str, msgspec.Meta(min_length=1)] | int
    model_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
    label: LabelValue = None
    value: float | None = None
    outcome_timestamp: int | float | str | None = None
    source: str = "system"
    revision: int = 0
    prediction: dict[str, Any] | None = None
    model_version: Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)] = ""
    """Of the label's own prediction."""


_decode: Final = msgspec.json.Decoder(Label).decode


def decode_label(value: bytes) -> Label:
    """One label event of the contract's shape. Raises ``ValueError`` saying what is wrong where."""
    try:
        label = _decode(value)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    except UnicodeDecodeError:
        raise ValueError("the message is not UTF-8") from None
    except RecursionError:
        raise ValueError("the message is nested too deep") from None
    if label.label is None and label.value is None:
        raise ValueError("neither `label` nor `value` is there")
    if label.source not in _SOURCES:
        raise ValueError(f"source: expected one of {', '.join(_SOURCES)}")
    return label


class LabelFinder(Documents[Label]):
    """Finds the parts of labels wherever a mapping says."""

    def __init__(self, mapping: LabelMapping) -> None:
        self._mapping = mapping
        super().__init__((place for _, place in mapping.places()), mapping.explode, is_array=mapping.explode == ())

    def _event(self, found: Found) -> Label:
        mapping = self._mapping
        prediction_id = id_of(mapping.prediction_id, found)
        if prediction_id is None:
            raise Rejected("schema", "prediction_id: expected a text")
        model_id = model_name(text_of(found.at(mapping.model_id)), "model_id")
        label, value = _label(found.at(mapping.label)), _value(found.at(mapping.value))
        if label is None and value is None:
            raise Rejected("schema", "neither `label` nor `value` is there")
        source = found.at(_SOURCE)
        if source is not ABSENT and source not in _SOURCES and mapping == LabelMapping():
            raise Rejected("schema", f"source: expected one of {', '.join(_SOURCES)}")
        prediction = prediction_at(mapping.prediction, found) or None
        _, version = model_of(model_id, found.at(mapping.model_version)) if prediction else ("", "")
        outcome_timestamp: Any = timestamp(found.at(mapping.outcome_timestamp))
        revision = _revision(found, mapping.revision)
        return Label(
            prediction_id,
            model_id,
            label,
            value,
            outcome_timestamp,
            revision=revision,
            prediction=None if prediction is None else dict(prediction),
            model_version=version,
        )


def _label(found: object) -> LabelValue:
    """The true class; what stands in headers and keys is text."""
    label = text_of(found)
    if label is ABSENT or label is None:
        return None
    if not isinstance(label, str | bool | int | float) or (isinstance(label, float) and not math.isfinite(label)):
        raise Rejected("schema", "label: expected a text, a number, true or false")
    return label


def _value(found: object) -> float | None:
    """The true number; what stands in headers and keys may be the text of one."""
    if found is ABSENT or found is None:
        return None
    try:
        value = float(found) if isinstance(found, int | float | bytes) and not isinstance(found, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise Rejected("schema", "value: expected a number")
    return value


def _revision(found: Found, place: Place) -> int:
    said = found.at(place)
    if said is ABSENT or said is None:
        return 0
    try:
        revision = int(said) if isinstance(said, int | bytes) and not isinstance(said, bool) else None
    except ValueError:
        revision = None
    if revision is None or abs(revision) >= _LARGEST_REVISION:
        raise Rejected("schema", "revision: expected a whole number")
    return revision


_LARGEST_REVISION: Final = 1 << 63
