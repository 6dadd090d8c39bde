"""JSON events of any shape that a mapping describes; by default the contract's.

Two ways through. Nearly every message takes the fast one: its model's grid is known, so a type made for just the
grid's columns decodes it without a dict (``schema``), and whole blocks of events become columns (``columns``).
Whatever that refuses (a wrong type, a NaN literal, a dotted key, no features) is read again in the slow way, as a
document (``documents``, ``places``, ``rows``), which decides between a type error of one feature and a dead letter.
Which of the two a message takes follows from the message and its model's grid alone, so that it means the same
whatever was read before it, and by whom. A bad message never costs another.

The fast way has a shortcut: messages that look like one that was read before need no decoding at all (``template``,
``kernel``). What they are read as is the same to the bit.

Columnar JSON parsers were 1.5 to 3 times slower than msgspec's types, and misalign rows on empty payloads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamdrift.codecs.columns import Columns
from streamdrift.codecs.documents import Rejected, dead_letters
from streamdrift.codecs.fields import without
from streamdrift.codecs.places import Event, Finder, Model, model_of
from streamdrift.codecs.rows import Rows
from streamdrift.codecs.schema import MAX_TEMPLATES, Names, Schema
from streamdrift.codecs.source import Decoded, DecodedBatch, Source
from streamdrift.events import DeadLetter
from streamdrift.grids import Grid, blind_grid
from streamdrift.layout import Layout
from streamdrift.records import RecordBatch

GridLookup = Callable[[str, str], Grid | None]
"""(model_id, model_version) -> the grid on which its values are counted; None without a baseline."""

_MAX_SCHEMAS: Final = 1_000
"""Schemas kept. Models beyond that are decoded with a schema that is made anew: slower, but bounded."""
_MOST_TRIED: Final = 3
"""With up to so many models in the last batch, each is tried on a message before the message is asked for its own."""


@dataclass(slots=True)
class _Work:
    """A batch of messages while it is decoded."""

    records: RecordBatch
    parts: dict[Model, list[DecodedBatch]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[Model, Rows] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    exploded: int = 0
    eventless: int = 0

    def reject(self, place: int, rejected: Rejected) -> None:
        self.dead.append(DeadLetter(place, rejected.reason, str(rejected)))


class JsonDecoder:
    """Decodes the messages of one source. Holds nothing of a batch once it is decoded."""

    def __init__(self, source: Source, grids: GridLookup, max_templates: int = MAX_TEMPLATES) -> None:
        self._source = source
        self._max_templates = max_templates
        self._grids = grids
        self._finder = Finder(source)
        self._names = Names(source.mapping)
        self._schemas: dict[Model, Schema] = {}
        self._recent: list[Schema] = []

    def decode(self, records: RecordBatch) -> Decoded:
        """The events and dead letters of a batch; control records must have been taken out before."""
        work = _Work(records)
        places = self._readable(work)
        if self._names.are_of_messages:
            places = self._take_fast(places, work)
        self._take_slowly(sorted(places), work)
        for model, rows in work.rows.items():
            work.parts[model].append(rows.batch(self._source.kind))
        known = [self._schemas[model] for model in work.parts if model in self._schemas]
        self._recent = known if len(known) <= _MOST_TRIED else []
        batches = [DecodedBatch.joined(parts) for parts in work.parts.values()]
        dead = sorted(work.dead, key=lambda letter: letter.index)
        return Decoded([part for part in batches if len(part.events)], dead, work.exploded, work.eventless)

    def forget(self) -> None:
        """Drop the decoders made so far: grids may have changed."""
        self._schemas.clear()
        self._recent.clear()

    def _readable(self, work: _Work) -> Sequence[int]:
        """The messages that are neither empty nor too large; the others are rejected."""
        limit, values = self._source.max_message_bytes, work.records.values
        if all(values) and max(map(len, values), default=0) <= limit:  # type: ignore[arg-type]  # none is None then
            return range(len(values))
        places = []
        for place, value in enumerate(values):
            if not value:
                work.reject(place, Rejected("empty", "the message has no value"))
            elif len(value) > limit:
                work.reject(place, Rejected("too_large", f"{len(value)} bytes, at most {limit} are read"))
            else:
                places.append(place)
        return places

    def _take_fast(self, places: Sequence[int], work: _Work) -> Sequence[int]:
        """Take what can be taken in the fast way. Returns the places of the others."""
        # Where the type tells whose a message is, the models of late need no asking.
        tried = self._recent if self._names.are_typed else []
        for schema in tried:
            places = self._take(schema, places, work)
        left: list[int] = []
        for model, theirs in self._by_model(places, left, work).items():
            schema = self._schema(model, work.records.values[theirs[0]])
            left += theirs if schema in tried else self._take(schema, theirs, work)
        return left

    def _take(self, schema: Schema, places: Sequence[int], work: _Work) -> Sequence[int]:
        """Take the events of one model. Returns the places of the messages that its type refuses."""
        columns = Columns(schema, self._source, work.records, len(places))
        refused = columns.take(places)
        if len(places) > len(refused):
            part, dead = columns.batch()
            work.parts[schema.model].append(part)
            work.dead += dead
            work.exploded += columns.exploded
            work.eventless += columns.eventless
        return refused

    def _by_model(self, places: Sequence[int], unclear: list[int], work: _Work) -> dict[Model, list[int]]:
        """Places by the model that a message names; those that only the slow way can tell go to ``unclear``."""
        models: dict[Model, list[int]] = {}
        names, refused = self._names.of(work.records, places)
        unclear += [places[i] for i in refused]
        for place, (model_id, model_version) in zip(without(places, refused), names, strict=True):
            try:
                models.setdefault(model_of(model_id, model_version), []).append(place)
            except Rejected as rejected:
                work.reject(place, rejected)
        return models

    def _schema(self, model: Model, example: bytes | None) -> Schema:
        schema = self._schemas.get(model)
        if schema is None:
            layout = Layout(self._grids(*model) or blind_grid(*model), self._source.kind)
            if len(self._schemas) >= _MAX_SCHEMAS:
                self._schemas.clear()
            schema = self._schemas[model] = Schema(layout, self._source, example or b"", self._max_templates)
        return schema

    def _take_slowly(self, places: Sequence[int], work: _Work) -> None:
        for place in places:
            try:
                found = list(self._finder.events(work.records, place))
            except Rejected as rejected:
                work.reject(place, rejected)
                continue
            work.exploded += max(0, len(found) - 1)
            work.eventless += not found
            work.dead += dead_letters(place, (event for event in found if isinstance(event, Rejected)))
            for event in found:
                if isinstance(event, Event):
                    self._add(event, place, work)

    def _add(self, event: Event, place: int, work: _Work) -> None:
        rows = work.rows.get(event.model)
        if rows is None:
            rows = work.rows[event.model] = Rows(self._schema(event.model, work.records.values[place]).layout)
        rows.add(event, place)
