"""Messages as documents: read whole, without knowing a grid, and judged piece by piece.

This is the slow way, and the measure of the fast one: it decides between a wrong value, which costs one feature, and
a message that is no event.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from streamdrift.events import DeadLetter

MAX_NAME_LENGTH: Final = 256
"""Most characters of a model's id and version: they stand in the key and value of every summary."""


_MOST_DIGITS: Final = 4_000
"""Python itself refuses to read more than 4,300."""


class Rejected(Exception):
    """A message, or an element of one, that is not an event: control flow inside the codecs."""

    def __init__(self, reason: str, message: str, element: int | None = None) -> None:
        super().__init__(message if element is None else f"element {element}: {message}")
        self.reason = reason


def dead_letters(place: int, refusals: Iterable[Rejected]) -> Iterator[DeadLetter]:
    """What becomes of a message: elements that are refused for one reason share a letter."""
    by_reason: dict[str, list[str]] = {}
    for rejected in refusals:
        by_reason.setdefault(rejected.reason, []).append(str(rejected))
    for reason, (first, *others) in by_reason.items():
        message = f"{first} (and {len(others)} more)" if others else first
        yield DeadLetter(place, reason, message, 1 + len(others))


def parse(value: bytes) -> Any:  # noqa: ANN401 — a JSON value
    """The document that a message is. Raises ``Rejected``."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(value)


def _parse_leniently(value: bytes) -> object:
    """The standard library also reads the NaN and Infinity that Python programs write, and other encodings."""
    try:
        try:
            return json.loads(value, parse_int=_integer)
        except UnicodeDecodeError:
            # A few bytes in the wrong encoding cost the text that they stand in, as a wrong type would.
            return json.loads(value.decode("utf-8", "replace"), parse_int=_integer)
    except (ValueError, RecursionError):
        raise Rejected("malformed", "the message is not JSON") from None


def _integer(digits: str) -> int | float:
    """More digits than Python reads are beyond all numbers: a wrong value, which costs one feature."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def follow(document: object, path: Sequence[str], default: object = None) -> Any:  # noqa: ANN401 — a JSON value
    """What stands at a path of keys; ``default`` where the path leads nowhere."""
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return default
        document = document[key]
    return document


def without(document: Mapping[str, Any], paths: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The object without what stands at the paths."""
    left = dict(document)
    for key, *rest in paths:
        inner = left.get(key)
        if not rest:
            left.pop(key, None)
        elif isinstance(inner, dict):
            left[key] = without(inner, [rest])
    return left


def model_name(value: object, part: str) -> str:
    """``model_id`` or ``model_version``, as ``part`` says. Raises ``Rejected`` for what cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 1 << 64 else None
    if not isinstance(value, str) or (part == "model_id" and not value):
        raise Rejected("schema", f"{part}: expected a text")
    if len(value) > MAX_NAME_LENGTH:
        raise Rejected("schema", f"{part}: longer than {MAX_NAME_LENGTH} characters")
    return value.encode("utf-8", "replace").decode()  # a lone surrogate could not be written on
