"""What a single value of the configuration may be: how it is read, refused, shown, and said in the schema.

Validators raise ``ValueError`` with what was expected; ``problems`` puts before it what was given.
"""

# No `from __future__ import annotations`, as in `settings`.

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)

from streamdrift.quantities import DURATION_PATTERN, RATE_PATTERN, Duration, Rate


def _duration(value: object) -> Duration:
    if isinstance(value, Duration):
        return value
    bare = isinstance(value, int | float) and not isinstance(value, bool)
    return Duration.parse(str(value) if bare else _text(value))


def _rate(value: object) -> Rate:
    return value if isinstance(value, Rate) else Rate.parse(_text(value))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def at_least(shortest: str) -> AfterValidator:
    """Refuses shorter durations."""
    least = Duration.parse(shortest)

    def check(value: Duration) -> Duration:
        if value < least:
            raise ValueError(f"expected at least {shortest}")
        return value

    return AfterValidator(check)


def _no_boolean(value: object) -> object:
    """``true`` would be read as 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004 — pydantic collects ValueErrors only
    return value


def _not_empty(value: object) -> object:
    if isinstance(value, list | tuple) and not value:
        raise ValueError("expected at least one")
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in {".", ".."}:
        raise ValueError("expected a topic's name: at most 249 letters, digits, dots, hyphens and underscores")
    return value


_SERVER: Final = re.compile(r"(\w+://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/,@\[\]]+)(:[0-9]{1,5})?")


def _servers(value: str) -> str:
    if not all(_SERVER.fullmatch(server.strip()) for server in value.split(",")):
        raise ValueError("expected host:port, several separated by commas, for example localhost:9092")
    return value


def _function(value: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", value):
        raise ValueError("expected a function as package.module:function")
    return value


def _zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(_text(value))
    except (ValueError, OSError, LookupError):  # LookupError: no such zone; the others: no such name
        raise ValueError("expected a time zone's name, for example UTC or Europe/Berlin") from None


def _hidden(value: object) -> SecretStr:
    """``layers`` has hidden whatever is a value by now."""
    if not isinstance(value, SecretStr):
        raise ValueError("expected text, a number, true, false or {file: path}")  # noqa: TRY004 — as above
    return value


def _scalar(value: object) -> object:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("expected text, a number, true or false")
    return value


def _delivery(value: str) -> str:
    if value == "exactly_once":
        raise ValueError("exactly_once comes with transactions, in a later version; use at_least_once")
    return value


AnyDuration = Annotated[
    Duration,
    PlainValidator(_duration),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["10s", "5m", "7d"]}),
]
PositiveDuration = Annotated[AnyDuration, at_least("1ms")]
AnyRate = Annotated[
    Rate,
    PlainValidator(_rate),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["1 per week"]}),
]
NUMBER: Final = BeforeValidator(_no_boolean)
"""Stands behind the limits of a number, so that the schema shows them."""
NOT_EMPTY: Final = BeforeValidator(_not_empty)
"""Looks at the list as it was given: pydantic's own limit counts the valid items only."""
Count = Annotated[int, Field(ge=1), NUMBER]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), NUMBER]
Text = Annotated[str, Field(min_length=1, max_length=256)]
TopicName = Annotated[str, AfterValidator(_topic)]
Servers = Annotated[str, AfterValidator(_servers)]
FunctionName = Annotated[str, AfterValidator(_function)]
Delivery = Annotated[Literal["exactly_once", "at_least_once"], AfterValidator(_delivery)]
Zone = Annotated[ZoneInfo, PlainValidator(_zone), PlainSerializer(str), WithJsonSchema({"type": "string"})]
Hidden = Annotated[
    SecretStr,
    PlainValidator(_hidden),
    PlainSerializer(str),  # asterisks
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["string", "number", "boolean"]},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string"}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
Scalar = Annotated[Any, AfterValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]


def _combined(value: object) -> object:
    """A name on its own is a combination of one."""
    return (value,) if isinstance(value, str) else value


Segment = Annotated[
    tuple[Text, ...],
    NOT_EMPTY,
    BeforeValidator(_combined),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


@dataclass(frozen=True, slots=True)
class NoEffectYet:
    """Marks a key that is understood and checked, but does nothing in this version: whoever sets it is told."""


LATER: Final = NoEffectYet()


class Section(BaseModel):
    """A mapping of the configuration. Unknown keys are errors; docstrings become the schema's descriptions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )
