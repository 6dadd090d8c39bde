"""A baseline: the summary of a model version's training table, on its grid, and the file that holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.errors import ConfigurationError
from streamdrift.grids import Grid, Role, Unmonitored, content_id
from streamdrift.summaries import Moments, Names, Summary

FORMAT: Final = "streamdrift-baseline/1"


@dataclass(frozen=True)
class Baseline:
    """Counts on a grid. ``summary`` has no names and no raw values."""

    grid: Grid
    summary: Summary

    @cached_property
    def id(self) -> str:
        """Content id: the same baseline has the same id wherever it was made."""
        return content_id(self.to_json())

    def to_json(self) -> bytes:
        """The file's content; equal baselines give equal bytes."""
        offsets = self.grid.offsets
        columns = tuple(self._column(i, slice(start, end)) for i, (start, end) in enumerate(pairwise(offsets)))
        return msgspec.json.encode(_File(FORMAT, self.grid, self.summary.events, columns))

    def _column(self, index: int, slots: slice) -> _ColumnCounts:
        *bins, unseen, missing, type_errors = self.summary.counts[slots].tolist()
        moments = self.summary.moments.limbs[index].tolist()
        return _ColumnCounts(self.grid.columns[index].name, bins, unseen, missing, type_errors, moments)

    def only(self, watched: Callable[[str], bool], reason: str) -> Baseline:
        """The same without the features whose name is not ``watched``; these are unmonitored for ``reason``."""
        grid = self.grid
        kept = [i for i, c in enumerate(grid.columns) if c.role is not Role.FEATURE or watched(c.name)]
        if len(kept) == len(grid.columns):
            return self
        left_out = [Unmonitored(c.name, reason) for i, c in enumerate(grid.columns) if i not in set(kept)]
        part = Grid(
            grid.model_id,
            grid.model_version,
            tuple(grid.columns[i] for i in kept),
            (*grid.unmonitored, *left_out),
        )
        slots = np.concatenate(
            [np.arange(grid.offsets[i], grid.offsets[i + 1]) for i in kept] or [np.zeros(0, np.int64)]
        )
        summary = self.summary
        moments = Moments(summary.moments.limbs[kept])
        return Baseline(part, Summary(summary.events, summary.counts[slots], moments, Names(), {}))

    @classmethod
    def from_json(cls, data: bytes) -> Baseline:
        """Read a file's content. Raises ``ValueError`` saying what is wrong where."""
        try:
            file = msgspec.json.decode(data, type=_File)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a baseline: {error}") from None
        if file.format != FORMAT:
            raise ValueError(f"format is {file.format!r}, expected {FORMAT!r}")
        if tuple(column.name for column in file.counts) != file.grid.names:
            raise ValueError("the columns of `counts` are not those of `grid`")
        summary = Summary.empty(file.grid)
        for i, (column, counts) in enumerate(zip(file.grid.columns, file.counts, strict=True)):
            slots = [*counts.bins, counts.unseen, counts.missing, counts.type_errors]
            if len(counts.bins) != column.bins or min(slots) < 0:
                raise ValueError(f"column {column.name}: expected {column.bins} counts that are not negative")
            if len(counts.moments) != summary.moments.limbs.shape[1]:
                raise ValueError(f"column {column.name}: expected {summary.moments.limbs.shape[1]} moments")
            summary.counts[file.grid.offsets[i] : file.grid.offsets[i + 1]] = slots
            summary.moments.limbs[i] = counts.moments
        if file.events < int(_column_totals(file.grid, summary).max(initial=0)):
            raise ValueError("`events` is smaller than the counts of a column")
        return cls(file.grid, Summary(file.events, summary.counts, summary.moments, Names(), {}))

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a file. Raises ``ConfigurationError`` naming it."""
        try:
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}") from None


def _column_totals(grid: Grid, summary: Summary) -> NDArray[np.int64]:
    return np.add.reduceat(summary.counts, grid.offsets[:-1]) if grid.columns else np.zeros(0, dtype=np.int64)


class _ColumnCounts(msgspec.Struct, frozen=True):
    name: str
    bins: list[int]
    unseen: int
    missing: int
    type_errors: int
    moments: list[int]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    grid: Grid
    events: int
    counts: tuple[_ColumnCounts, ...]
