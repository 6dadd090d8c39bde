"""``streamdrift check --sample``: what becomes of the newest messages of each source, before anything is run.

Nothing is written to Kafka, no group is joined, and what privacy drops is not shown either.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final

from streamdrift.assembly import cluster_of, topology
from streamdrift.codecs import Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.derived import LongText, Unsupported, Vector
from streamdrift.events import Batch
from streamdrift.evidence import rfc3339
from streamdrift.grids import Column, Grid, Kind
from streamdrift.kafka.newest import newest
from streamdrift.records import RecordBatch
from streamdrift.rows import columns_of
from streamdrift.settings import Settings
from streamdrift.stages.inputs import CONTROL_HEADER

SECONDS: Final = 10.0
"""Longest time that is waited for the messages of one topic."""
MAX_KEYS: Final = 30
"""Keys that a hint lists."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an event, and as what it is counted (``numeric``, ``categorical``; empty without a baseline)."""

    name: str
    value: Any
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event as it would be counted."""

    model_id: str
    model_version: str
    time: str
    id: str
    """The hash of its prediction id, or of the message."""
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why (a part of) a message is no event."""

    reason: str
    message: str
    events: int = 1


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message, and what became of it."""

    partition: int
    offset: int
    events: tuple[ShownEvent, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class SourceSample:
    """What became of the newest messages of a source."""

    topic: str
    exists: bool
    messages: tuple[ShownMessage, ...] = ()
    hint: str = ""
    """What to try if no message is an event."""

    @property
    def events(self) -> int:
        """How many events the messages hold."""
        return sum(len(message.events) for message in self.messages)

    @property
    def refused(self) -> Mapping[str, int]:
        """How many events were refused, by reason."""
        counts: Counter[str] = Counter()
        for refused in chain.from_iterable(message.refused for message in self.messages):
            counts[refused.reason] += refused.events
        return dict(counts)

    @property
    def summary(self) -> str:
        """The same in a line."""
        if not self.exists:
            return f"{self.topic}: there is no such topic"
        if not self.messages:
            return f"{self.topic}: no message could be read, the topic seems to be empty"
        lost = self.refused
        share = self.events / max(self.events + sum(lost.values()), 1)
        reasons = "".join(f", {count} refused as {reason}" for reason, count in sorted(lost.items()))
        return f"{self.topic}: {len(self.messages)} read, {self.events} good ({share:.0%} of events){reasons}"


def sample(settings: Settings, count: int, seconds: float = SECONDS) -> list[SourceSample]:
    """What becomes of the newest ``count`` messages of each source. Raises ``BrokerUnreachable`` and its like."""
    planned = topology(settings)
    grids = {key: baseline.grid for key, baseline in planned.baselines.items()}
    found = newest(cluster_of(settings), [source.topic for source in planned.sources], count, seconds)
    places = {source.topic: f"sources[{i}]" for i, source in enumerate(settings.sources)}
    return [
        SourceSample(source.topic, exists=False)
        if (batches := found[source.topic]) is None
        else examine(source, batches, lambda *model: grids.get(model), places[source.topic])
        for source in planned.sources
    ]


def examine(
    source: Source, batches: Sequence[RecordBatch], grids: Callable[[str, str], Grid | None], where: str
) -> SourceSample:
    """What becomes of records of a source; ``where`` it stands in the configuration."""
    decoder = JsonDecoder(source, grids)
    messages, values = [], []
    for batch in batches:
        for i in range(len(batch)):
            if CONTROL_HEADER in dict(batch.headers[i] or ()):
                continue
            decoded = decoder.decode(batch.part(i, i + 1))
            events = tuple(event for part in decoded.batches for event in _events(part.events))
            refused = tuple(Refused(letter.reason, letter.message, letter.events) for letter in decoded.dead)
            messages.append(ShownMessage(batch.partition, batch.offsets[i], events, refused))
            values.append(batch.values[i] or b"")
    return SourceSample(
        source.topic, exists=True, messages=tuple(messages), hint=_hint(source, messages, values, where)
    )


def _events(batch: Batch) -> Iterator[ShownEvent]:
    grid, fields = batch.grid, columns_of(batch.rows or ())
    wrong = set(map(tuple, batch.type_errors.tolist()))
    unseen = {(row, column): name for row, column, name in batch.unseen}
    for row, (time, hash_) in enumerate(zip(batch.times.tolist(), batch.hashes.tolist(), strict=True)):
        if grid.blind:
            cells = sorted((role, name, cells[row]) for (role, name), cells in fields.items())
            values = tuple(Value(name, _shown(cell)) for _, name, cell in cells)
        else:
            values = tuple(
                Value(
                    column.name,
                    "wrong type" if (row, i) in wrong else _counted(column, batch.values[row, i], unseen.get((row, i))),
                    str(column.kind),
                )
                for i, column in enumerate(grid.columns)
            )
        yield ShownEvent(grid.model_id, grid.model_version, rfc3339(time), f"{hash_:016x}", values)


def _counted(column: Column, value: float, unseen: str | None) -> object:
    if value != value:  # noqa: PLR0124 — NaN
        return None
    if column.kind is Kind.NUMERIC:
        return float(value)
    return column.categories[int(value)] if unseen is None else f"{unseen} (unseen)"


def _shown(cell: object) -> object:
    match cell:
        case Vector(dimension=dimension):
            return f"array of {dimension} numbers"
        case LongText(beginning=beginning, length=length):
            return f"{beginning}… ({length} characters)"
        case Unsupported():
            return "cannot be counted"
    return cell


def _hint(source: Source, messages: Sequence[ShownMessage], values: Sequence[bytes], where: str) -> str:
    """What to try where all messages are refused alike."""
    complaints = {refused.message.split(":")[0] for message in messages for refused in message.refused}
    if not messages or any(message.events for message in messages) or len(complaints) != 1:
        return ""
    keys = sorted({key for value in values for key in _keys(value) if source.privacy.fate(key).value != "dropped"})
    [part] = complaints
    named = {name.split(".")[0] for name, _ in source.mapping.places()} | {"model_version", "prediction"}
    advice = (
        f"{where}.mapping.{part} says where it stands" if part in named else f"{where}.mapping says what stands where"
    )
    if part in {"model_id", "model_version"}:
        advice += ", or {const: name} what it is"
    listed = ", ".join(keys[:MAX_KEYS]) + (", …" if len(keys) > MAX_KEYS else "")
    return f"{advice}; the messages have the keys {listed}" if keys else advice


def _keys(value: bytes) -> list[str]:
    """The keys of a message that is an object, or of the objects that are its elements."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return []
    objects = (
        [element for element in document if isinstance(element, dict)] if isinstance(document, list) else [document]
    )
    return [key for one in objects if isinstance(one, dict) for key in one]


# ---- what is printed -------------------------------------------------------------------------------------------------


def to_json(samples: Sequence[SourceSample]) -> list[dict[str, Any]]:
    """For programs: an element a source."""
    return [
        {
            "topic": one.topic,
            "exists": one.exists,
            "read": len(one.messages),
            "events": one.events,
            "refused": one.refused,
            "hint": one.hint,
            "messages": [asdict(message) for message in one.messages],
        }
        for one in samples
    ]


def show(samples: Sequence[SourceSample]) -> None:
    """For people, on stdout."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for one in samples:
        for message in one.messages:
            _show_message(console, one.topic, message)
        console.print(one.summary, markup=False)
        if one.hint:
            console.print(f"hint: {one.hint}", markup=False)


def _show_message(console: Any, topic: str, message: ShownMessage) -> None:  # noqa: ANN401 — rich is imported late
    from rich.markup import escape
    from rich.table import Table

    for event in message.events:
        sheet = Table(box=None, header_style="bold", title_justify="left")
        sheet.title = escape(
            f"{topic}[{message.partition}]@{message.offset}: model {event.model_id}, version {event.model_version!r}, "
            f"{event.time}, id {event.id}"
        )
        for heading in ("name", "value", "counted as"):
            sheet.add_column(heading, overflow="fold")
        for value in event.values:
            text = "missing" if value.value is None else str(value.value)
            sheet.add_row(escape(value.name), escape(text), value.kind or "no baseline yet")
        console.print(sheet)
    for refused in message.refused:
        place = f"{topic}[{message.partition}]@{message.offset}"
        console.print(f"{place}: refused ({refused.reason}): {refused.message}", markup=False)
