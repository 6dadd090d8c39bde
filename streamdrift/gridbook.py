"""The grids topic: grids and baselines by content id, and which grid is in effect for each model version.

Compacted; every content stands there once however often it is written. Three kinds of key::

    "3f0c…"                       a baseline, by its id
    "grid/91ab…"                  a grid, by its id
    ["effect","fraud","7"]        the id of the grid on which events of this model version are counted

Configured grids are put into effect by ``run``, learned ones by detect; summarise counts on what is in effect. Until
it has heard of a grid, its summaries carry the events themselves, so that nobody has to wait for anybody.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.errors import StateError
from streamdrift.grids import Grid, content_id
from streamdrift.records import OutputRecord

ModelKey = tuple[str, str]
"""model_id, model_version"""
Entries = Iterable[tuple[bytes, bytes | None]]
"""Keys and values of the topic, in its order; None deletes."""

_GRID: Final = "grid/"
_EFFECT: Final = "effect"


def baseline_record(topic: str, baseline: Baseline) -> OutputRecord:
    """A baseline by its id. The headers say, to a person, what it is of."""
    return OutputRecord(topic, baseline.id.encode(), zlib.compress(baseline.to_json()), _headers(baseline.grid))


def grid_records(topic: str, grid: Grid) -> Iterator[OutputRecord]:
    """A grid, and that it is in effect."""
    yield OutputRecord(topic, f"{_GRID}{grid.id}".encode(), zlib.compress(msgspec.json.encode(grid)), _headers(grid))
    yield OutputRecord(topic, _effect_key((grid.model_id, grid.model_version)), grid.id.encode(), _headers(grid))


def retired_record(topic: str, model: ModelKey) -> OutputRecord:
    """That no grid is in effect for a model version any more."""
    return OutputRecord(topic, _effect_key(model), None)


def _headers(grid: Grid) -> list[tuple[str, bytes | None]]:
    return [("model", grid.model_id.encode()), ("model_version", grid.model_version.encode())]


def _effect_key(model: ModelKey) -> bytes:
    return msgspec.json.encode((_EFFECT, *model))


class GridBook:
    """What the grids topic holds. ``read`` gives the records that were not given before, or all of them again."""

    def __init__(self, read: Callable[[], Entries]) -> None:
        self._read = read
        self._contents: dict[str, bytes] = {}
        self._effects: dict[ModelKey, str] = {}
        self._baselines: dict[str, Baseline] = {}
        self._grids: dict[str, Grid] = {}
        self._unknown: set[str] = set()
        self.refresh()

    def refresh(self) -> bool:
        """Read on; whether another grid is in effect for some model version."""
        before = self._in_effect()
        entries = list(self._read())
        for key, value in entries:
            self._take(key.decode("utf-8", "replace"), value)
        return bool(entries) and self._in_effect() != before

    def __call__(self, baseline_id: str) -> Baseline:
        """A baseline by its id. Raises ``StateError`` if it is not in the topic, or cannot be read."""
        if baseline_id not in self._baselines:
            if not self._find(baseline_id):
                raise StateError(f"baseline {baseline_id} is not in the grids topic")
            try:
                baseline = Baseline.from_json(self._content(baseline_id, baseline_id))
            except (zlib.error, ValueError) as error:
                raise StateError(f"baseline {baseline_id} in the grids topic cannot be read: {error}") from None
            self._baselines[baseline_id] = baseline
        return self._baselines[baseline_id]

    def grid(self, grid_id: str) -> Grid | None:
        """A grid by its id; None if it is not in the topic. Raises ``StateError`` if it cannot be read."""
        if grid_id not in self._grids:
            if not self._find(_GRID + grid_id):
                return None
            try:
                grid = _decode_grid(self._content(_GRID + grid_id, grid_id))
            except (zlib.error, ValueError, msgspec.DecodeError, RecursionError) as error:
                raise StateError(f"grid {grid_id} in the grids topic cannot be read: {error}") from None
            self._grids[grid_id] = grid
        return self._grids[grid_id]

    def grid_of(self, model_id: str, model_version: str) -> Grid | None:
        """The grid that is in effect for a model version."""
        grid_id = self._effects.get((model_id, model_version))
        return self.grid(grid_id) if grid_id and _GRID + grid_id in self._contents else None

    def _content(self, key: str, named: str) -> bytes:
        """What a record holds. Raises ``ValueError`` if it is not what its name says."""
        content = zlib.decompress(self._contents[key])
        if content_id(content) != named:
            raise ValueError(f"it is another one, {content_id(content)}")
        return content

    def _in_effect(self) -> dict[ModelKey, str]:
        """The effects whose grid is there: it lies in another partition, and may come later."""
        return {model: grid_id for model, grid_id in self._effects.items() if _GRID + grid_id in self._contents}

    def _take(self, key: str, value: bytes | None) -> None:
        if key.startswith("["):
            model = _model_of(key)
            if value is None:
                self._effects.pop(model, None)
            else:
                self._effects[model] = value.decode("ascii", "replace")
        elif value is None:
            self._contents.pop(key, None)
        else:
            self._contents[key] = value
            self._unknown.discard(key)

    def _find(self, key: str) -> bool:
        """Whether a content is there, if need be after looking again: it may have been written since."""
        if key not in self._contents and key not in self._unknown:
            self.refresh()
            if key not in self._contents and len(self._unknown) < _MAX_UNKNOWN:
                # A content is written before it is named: what is not there will hardly come.
                self._unknown.add(key)
        return key in self._contents


_MAX_UNKNOWN: Final = 1_000
"""Ids remembered that stand for nothing."""
_decode_grid: Final = msgspec.json.Decoder(Grid).decode


def _model_of(key: str) -> ModelKey:
    try:
        kind, model_id, model_version = msgspec.json.decode(key, type=tuple[str, str, str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"a key of the grids topic cannot be read: {error}") from None
    if kind != _EFFECT:
        raise StateError(f"a key of the grids topic is of no kind that this program knows: {key!r}")
    return model_id, model_version
