"""The layers of a configuration, one over the other: YAML file, environment, flags; and secrets from files.

::

    time: {tick: 10s}                                     the file
    STREAMDRIFT__TIME__TICK=1m                            wins over it
    --set time.tick=5m                                    wins over both
    kafka: {client: {sasl.password: {file: /run/secrets/kafka}}}      a value that stands in a file of its own
    STREAMDRIFT__KAFKA__CLIENT__SASL_PASSWORD__FILE=/run/secrets/kafka    the same as a variable

Mappings are merged key by key, everything else is replaced as a whole. A value that begins with ``[`` or ``{``
is read as YAML wherever it comes from. Every value remembers where it came from, so that a message can say so.

The sources that pydantic-settings has itself are not used, because they pass over what must be an error: a
variable whose first part is misspelt (its issue 985), a key that stands twice; and they lower the case of model ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import yaml
from pydantic import SecretStr

from streamdrift.problems import SECRETS, Path, Problem, dotted, kind

PREFIX: Final = "STREAMDRIFT__"
"""What the names of variables begin with; two underscores stand between keys."""

_MAX_SECRET_BYTES: Final = 64 * 1024
_MAX_VALUES: Final = 100_000
"""More values than any configuration has: aliases of aliases can make a small file as large as one likes."""
_TAG: Final = "tag:yaml.org,2002:"

# YAML 1.2's plain values. YAML 1.1, PyYAML's own choice, makes booleans of `no` and `on`, sixties of `10:30` and
# dates of `2026-01-01`.
_SCALARS: Final = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]{1,19}"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)


@dataclass(slots=True)
class Layers:
    """The merged configuration, as yet unchecked."""

    directory: FilePath
    """What relative paths are relative to."""
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    """File and line, variable or flag of every value."""
    problems: list[Problem] = field(default_factory=list)

    def add_file(self, path: FilePath) -> None:
        """The bottom layer: a YAML file. What is wrong with it is added to ``problems``."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            self.problems.append(Problem("", f"{path}: cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            self.problems.append(Problem("", f"{path}: byte {error.start} is not UTF-8 text"))
        else:
            value = _Document(str(path), self.problems, self.origins).read(text)
            if isinstance(value, dict):
                self.data = value
            elif value is not None:
                message = f"{path}: holds {kind(value)}; expected a mapping, with a line for each key"
                self.problems.append(Problem("", message))

    def add_variables(self, environment: Mapping[str, str]) -> None:
        """The layer of environment variables. Capitals mean a key that exists in any case, else small letters."""
        for name in sorted(environment):
            if name.upper().startswith(PREFIX):
                self._set(self._keys(name[len(PREFIX) :].split("__")), environment[name], name)

    def add_flags(self, flags: Mapping[str, object]) -> None:
        """The top layer: values by dotted key, ``{"time.tick": "5m"}``."""
        for name, value in flags.items():
            self._set(_joined_secrets(name.split(".")), value, f"--set {name}")

    def _keys(self, parts: Sequence[str]) -> Sequence[str]:
        """Keys that the parts of a variable's name mean."""
        below = tuple(part.lower() for part in parts)
        if below[: len(SECRETS)] == SECRETS and len(below) > len(SECRETS):
            # librdkafka's names have dots, which a shell's names cannot have, and no underscores.
            return (*SECRETS, below[2].replace("_", "."), *below[3:])
        at: object = self.data
        keys: list[str] = []
        for part in parts:
            existing = at if isinstance(at, dict) else {}
            same = [key for key in existing if key.lower() == part.lower()]
            keys.append(part if part in existing else same[0] if same else part.lower() if part.isupper() else part)
            at = existing.get(keys[-1])
        return keys

    def _set(self, path: Sequence[str], value: object, where: str) -> None:
        secret = tuple(path[: len(SECRETS)]) == SECRETS and len(path) > len(SECRETS)
        if isinstance(value, str) and value.startswith(("[", "{")) and not secret:
            value = _Document(where, self.problems, self.origins, tuple(path)).read(value)
            if value is None:
                return
        at = self.data
        for key in path[:-1]:
            below = at.get(key)
            if not isinstance(below, dict):
                below = at[key] = {}
            at = below
        at[path[-1]] = _merged(at.get(path[-1]), value)
        kept = {known: place for known, place in self.origins.items() if known[: len(path)] != tuple(path)}
        self.origins = {**kept, tuple(path): where}

    def resolve(self) -> None:
        """Read secrets from their files, hide them, and make relative paths absolute."""
        section = self.data.get(SECRETS[0])
        client = section.get(SECRETS[1]) if isinstance(section, dict) else None
        if isinstance(client, dict):
            for key in list(client):
                client[key] = self._secret((*SECRETS, key), client[key])
        join = self.data.get("join")
        if isinstance(join, dict) and "path" in join:
            join["path"] = self._absolute(join["path"])
        models = self.data.get("models")
        for model in models.values() if isinstance(models, dict) else ():
            baselines = model.get("baselines") if isinstance(model, dict) else None
            if isinstance(baselines, dict):
                model["baselines"] = {key: self._absolute(path) for key, path in baselines.items()}

    def _absolute(self, path: object) -> object:
        return str(self.directory / path) if isinstance(path, str) and path else path

    def _secret(self, path: Path, value: object) -> object:
        """A property's value, hidden. What is neither a value nor a file stays as it is, to be refused."""
        if isinstance(value, bool):
            return SecretStr(str(value).lower())
        if isinstance(value, str | int | float):
            return SecretStr(str(value))
        if isinstance(value, dict) and set(value) == {"file"} and isinstance(value["file"], str):
            try:
                return SecretStr(_read_secret(self.directory / value["file"]))
            except (OSError, ValueError) as error:
                reason = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
                message = f"the file {self.directory / value['file']}: {reason}"
                self.problems.append(Problem(dotted(path), message, self.origins.get(path, "")))
                return SecretStr("")
        return value


def _merged(below: object, above: object) -> object:
    """``above`` over ``below``; mappings are new ones, so that nobody else's change."""
    if not isinstance(above, Mapping):
        return above
    kept = below if isinstance(below, Mapping) else {}
    return {**kept, **{key: _merged(kept.get(key), value) for key, value in above.items()}}


def _joined_secrets(keys: Sequence[str]) -> Sequence[str]:
    """``kafka.client.sasl.password`` is one property, whatever its dots."""
    depth = len(SECRETS)
    if tuple(keys[:depth]) != SECRETS or len(keys) == depth:
        return keys
    return (*SECRETS, ".".join(keys[depth:]))


def _read_secret(path: FilePath) -> str:
    """A file's text without the line break at its end. Raises ``OSError``, or ``ValueError`` saying what is wrong."""
    content = path.read_bytes()
    if len(content) > _MAX_SECRET_BYTES:
        raise ValueError(f"larger than {_MAX_SECRET_BYTES} bytes")
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    if not text:
        raise ValueError("is empty")
    return text


class _TooMany(Exception):
    """The text stands for too many values."""


class _Document:
    """A YAML text as plain values. Keys are always text: ``7`` and ``1.10`` are versions, ``no`` is a country."""

    def __init__(self, name: str, problems: list[Problem], origins: dict[Path, str], path: Path = ()) -> None:
        self._name = name
        self._problems = problems
        self._origins = origins
        self._top = path
        self._open: list[yaml.Node] = []
        self._values = 0

    def read(self, text: str) -> object:
        """The value; None for an empty text, and for one that cannot be read."""
        try:
            node = yaml.compose(text, yaml.SafeLoader)
            return None if node is None else self._value(node, self._top)
        except yaml.YAMLError as error:
            message, place = self._syntax(error)
        except RecursionError:
            message, place = "not a configuration: nested too deeply", self._name
        except _TooMany:
            message, place = f"not a configuration: more than {_MAX_VALUES:,} values", self._name
        self._problems.append(Problem(dotted(self._top), message, place))
        return None

    def _syntax(self, error: yaml.YAMLError) -> tuple[str, str]:
        """What is wrong with the text and where, without repeating any of it: it may be a password."""
        if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
            reason = str(error).splitlines()[0] if isinstance(error, yaml.reader.ReaderError) else "cannot be parsed"
            return f"not YAML: {reason}", self._name
        reason = (error.problem or "").split(" '")[0] if _names_input(error) else error.problem or ""
        if "alias" in f"{error.context} {error.problem}":
            reason += " (text that begins with * or & is written in quotes)"
        return f"not YAML: {reason}", self._place(error.problem_mark)

    def _place(self, mark: yaml.Mark) -> str:
        return f"{self._name}:{mark.line + 1}:{mark.column + 1}"

    def _refuse(self, path: Path, message: str, node: yaml.Node) -> None:
        self._problems.append(Problem(dotted(path), message, self._place(node.start_mark)))

    def _value(self, node: yaml.Node, path: Path) -> object:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise _TooMany
        self._origins.setdefault(path, f"{self._name}:{node.start_mark.line + 1}")
        if any(node is outer for outer in self._open):
            self._refuse(path, "an alias inside the value that it stands for", node)
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key, value in self._entries(node, path):
            name = key.value
            if name in lines:
                self._refuse((*path, name), f"stands twice, first in line {lines[name]}", key)
                continue
            lines[name] = key.start_mark.line + 1
            self._origins[(*path, name)] = f"{self._name}:{lines[name]}"
            values[name] = self._value(value, (*path, name))
        return values

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(path, "a key that is no text", key)
            elif key.tag == f"{_TAG}merge":
                self._refuse(path, "merge keys (<<) are not understood; write the keys out", key)
            else:
                yield key, value

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        text: str = node.value
        if not node.tag.startswith(_TAG):
            self._refuse(path, "tags (!) are not understood", node)
            return None
        if getattr(node, "style", None) is None:
            for pattern, convert in _SCALARS:
                if pattern.fullmatch(text):
                    return convert(text)
        return text


def _names_input(error: yaml.MarkedYAMLError) -> bool:
    """Whether PyYAML's words repeat what was written, rather than what kind of thing it met."""
    return any(word in (error.problem or "") for word in ("alias", "anchor", "tag", "directive", "escape"))
