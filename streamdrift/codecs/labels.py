"""Label events: outcomes of predictions, in the contract's shape."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from streamdrift.codecs.documents import MAX_NAME_LENGTH

_SOURCES: Final = ("system", "human")


class Label(msgspec.Struct, frozen=True):
    """The outcome of a prediction, hours or days later."""

    prediction_id: Annotated[str, msgspec.Meta(min_length=1)]
    model_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
    label: str | bool | int | float | None = None
    value: float | None = None
    outcome_timestamp: datetime | int | float | None = None
    source: str = "system"
    revision: int = 0
    prediction: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(Label).decode


def decode_label(value: bytes) -> Label:
    """One label event. Raises ``ValueError`` saying what is wrong where."""
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
