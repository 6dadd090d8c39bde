"""What is wrong with a configuration: where, what was given, and what was expected instead."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]
"""Keys from the top of the configuration down; integers are places in a list."""

SECRETS: Final = ("kafka", "client")
"""Nothing below this key is ever shown: passwords are librdkafka properties."""

_SHOWN: Final = 60
"""Longest text that a message repeats, in characters."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth knowing."""

    path: str
    """Dotted path of the key, as in ``sources[1].kind``; empty for the file as a whole."""
    message: str
    where: str = ""
    """File and line, variable or flag that the value came from; empty if nothing was given."""

    def __str__(self) -> str:
        """One line, whatever the keys and files are called."""
        text = f"{self.path}: {self.message}" if self.path else self.message
        text = f"{text} ({self.where})" if self.where else text
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def dotted(path: Sequence[str | int]) -> str:
    """A path as people write it.

    >>> dotted(("sources", 1, "kind"))
    'sources[1].kind'
    """
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def explain(error: ErrorDetails, root: type[BaseModel], origins: Mapping[Path, str]) -> Problem:
    """What pydantic found, in the words of the configuration file. ``origins`` says where a value came from."""
    path = error["loc"]
    if path[-1:] == ("[key]",):  # pydantic's way to speak of a key itself
        path = path[:-1]
    if error["type"] == "extra_forbidden":
        message = f"unknown key; {_hint(path, root)}"
    elif error["type"] == "missing":
        message = f"is missing; expected {_described(path, root)}"
    elif path[: len(SECRETS)] == SECRETS or (error["type"] == "value_error" and isinstance(error["input"], Mapping)):
        message = _expected(error)
    elif error["type"] in _WHOLE:
        message = f"got {kind(error['input'])}; {_expected(error)}"
    else:
        message = f"got {given(error['input'])}; {_expected(error)}"
    return Problem(dotted(path), message, origin(path, origins))


def origin(path: Path, origins: Mapping[Path, str]) -> str:
    """Where the value came from, else what is in it, else what it is in."""
    if path in origins:
        return origins[path]
    within = [place for known, place in origins.items() if known[: len(path)] == path]
    around = [origins[path[:n]] for n in range(len(path) - 1, 0, -1) if path[:n] in origins]
    return next(iter(within + around), "")


def given(value: object) -> str:
    """A value as a message may repeat it: scalars themselves, of anything larger only what it is."""
    if not isinstance(value, bool | int | float | str):
        return kind(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def kind(value: object) -> str:
    """What a value is, without the value."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Sequence):
        return "a list"
    return "true or false" if isinstance(value, bool) else "a number" if isinstance(value, int | float) else "something"


_EXPECTED: Final = {
    "string_type": "expected text (in quotes if it looks like a number)",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a whole number of ordinary size",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "greater_than_equal": "expected at least {ge}",
    "greater_than": "expected more than {gt}",
    "less_than_equal": "expected at most {le}",
    "less_than": "expected less than {lt}",
    "string_too_short": "expected text that is not empty",
    "string_too_long": "expected at most {max_length} characters",
    "enum": "expected {expected}",
    "literal_error": "expected {expected}",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping, with a line for each key",
    "model_type": "expected a mapping, with a line for each key",
    "path_type": "expected the path of a file",
    "timezone_aware": "expected a time with a zone, for example 2026-11-22T10:00:00Z",
    "datetime_from_date_parsing": "expected a time with a zone, for example 2026-11-22T10:00:00Z",
    "datetime_type": "expected a time with a zone, for example 2026-11-22T10:00:00Z",
}


_WHOLE: Final = {"model_type", "dict_type", "list_type", "tuple_type"}
"""Errors of a value that stands where keys or a list are expected. It may be what belongs below, so it is not shown."""


def _expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    template = _EXPECTED.get(error["type"])
    return template.format(**context).replace("'", "") if template else error["msg"]


def _hint(path: Path, root: type[BaseModel]) -> str:
    """What an unknown key was probably meant to be."""
    key, known = str(path[-1]), keys_at(path[:-1], root)
    elsewhere = [found for found in _paths(root) if found[-1] == key]
    if len(elsewhere) == 1:
        return f"did you mean {dotted(elsewhere[0])}?"
    if near := difflib.get_close_matches(key, known, n=1):
        return f"did you mean {near[0]}?"
    return f"expected one of {', '.join(known)}"


def keys_at(path: Path, root: type[BaseModel]) -> list[str]:
    """The keys that the section at ``path`` knows, in the order of their declaration."""
    section = _section(path, root)
    return [] if section is None else [field.alias or name for name, field in section.model_fields.items()]


def _paths(root: type[BaseModel], above: Path = ()) -> Iterator[Path]:
    """The paths of all keys whose names are fixed."""
    for key in keys_at(above, root):
        yield (*above, key)
        yield from _paths(root, (*above, key))


def _described(path: Path, root: type[BaseModel]) -> str:
    section = _section(path[:-1], root)
    for name, field in section.model_fields.items() if section else ():
        if path[-1] in {name, field.alias} and field.description:
            first = field.description.split(". ")[0].removesuffix(".").replace("`", "")
            return first[0].lower() + first[1:]
    return "a value"


def _section(path: Path, root: type[BaseModel]) -> type[BaseModel] | None:
    """The class of the section at ``path``; None if there is none."""
    at: Any = root
    for key in path:
        at = _plain(at)
        if fields := getattr(at, "model_fields", None):
            by_key = {field.alias or name: field.annotation for name, field in fields.items()}
            further = get_args(at.__annotations__.get("__pydantic_extra__"))
            at = by_key.get(str(key)) or (further[-1] if further else None)
        elif get_origin(at) in {dict, list, tuple}:
            at = get_args(at)[0 if isinstance(key, int) else -1]
        else:
            return None
    at = _plain(at)
    return at if hasattr(at, "model_fields") else None


def _plain(annotation: Any) -> Any:  # noqa: ANN401 — a type expression has no type of its own
    """A type without what surrounds it: ``Section`` for ``Annotated[Section | None, …]``."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return _plain(next(part for part in get_args(annotation) if part is not types.NoneType))
    return annotation
