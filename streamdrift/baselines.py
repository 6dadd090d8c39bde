"""A baseline: the summary of a model version's training table, on its grid, and the file that holds it.

Of a table with predictions and labels it holds the benchmarks too (``measured``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from streamdrift.benchmarks import Benchmark, LabelDistribution, Measured
from streamdrift.errors import ConfigurationError
from streamdrift.grids import Column, Grid, Kind, Role, Unmonitored, content_id
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.privacy import Privacy
from streamdrift.summaries import Moments, Names, Summary

FORMAT: Final = "streamdrift-baseline/1"


@dataclass(frozen=True)
class Baseline:
    """Counts on a grid. ``summary`` has no names and no raw values."""

    grid: Grid
    summary: Summary
    measured: Measured | None = None
    """How the model did on the table; None where it has no predictions, or no labels."""

    @property
    def outcome(self) -> OutcomeGrid | None:
        """How the model's outcomes are counted; None if the table does not say."""
        return self.measured.outcome if self.measured else None

    @property
    def benchmarks(self) -> Mapping[str, Benchmark]:
        """The metrics of the table, by name."""
        return self.measured.benchmarks if self.measured else {}

    @property
    def labels(self) -> LabelDistribution | None:
        """The labels of the table."""
        return self.measured.labels if self.measured else None

    @cached_property
    def id(self) -> str:
        """Content id: the same baseline has the same id wherever it was made."""
        return content_id(self.to_json())

    def to_json(self) -> bytes:
        """The file's content; equal baselines give equal bytes."""
        offsets = self.grid.offsets
        columns = tuple(self._column(i, slice(start, end)) for i, (start, end) in enumerate(pairwise(offsets)))
        return msgspec.json.encode(_File(FORMAT, self.grid, self.summary.events, columns, self.measured))

    def _column(self, index: int, slots: slice) -> _ColumnCounts:
        *bins, unseen, missing, type_errors = self.summary.counts[slots].tolist()
        moments = self.summary.moments.limbs[index].tolist()
        return _ColumnCounts(self.grid.columns[index].name, bins, unseen, missing, type_errors, moments)

    def only(self, watched: Callable[..., bool], reason: str) -> Baseline:
        """The same without the features whose names are not ``watched``; these are unmonitored for ``reason``.

        A derived column is asked for by its own name and that of its source.
        """
        return self._with(
            [c if c.role is not Role.FEATURE or watched(*c.known_as) else None for c in self.grid.columns], reason
        )

    def under(self, privacy: Privacy) -> Baseline:
        """The same with the columns that count what ``privacy`` leaves of their values."""
        return self._with([privacy.column(c) for c in self.grid.columns], "private") if privacy else self

    def _with(self, columns: Sequence[Column | None], reason: str) -> Baseline:
        """The same with these columns in place of its own; where there is None, that one is unmonitored."""
        grid = self.grid
        if columns == list(grid.columns):
            return self
        kept = [i for i, column in enumerate(columns) if column is not None]
        left_out = [Unmonitored(c.name, reason) for i, c in enumerate(grid.columns) if i not in set(kept)]
        part = Grid(
            grid.model_id,
            grid.model_version,
            tuple(column for column in columns if column is not None),
            (*grid.unmonitored, *left_out),
        )
        slots = np.concatenate(
            [np.arange(grid.offsets[i], grid.offsets[i + 1]) for i in kept] or [np.zeros(0, np.int64)]
        )
        summary = self.summary
        moments = Moments(summary.moments.limbs[kept])
        return replace(self, grid=part, summary=Summary(summary.events, summary.counts[slots], moments, Names(), {}))

    @classmethod
    def from_json(cls, data: bytes) -> Baseline:
        """Read a file's content. Raises ``ValueError`` saying what is wrong where."""
        try:
            head = msgspec.json.decode(data, type=_Head)
            if head.format != FORMAT:
                raise ValueError(f"format is {head.format!r}, expected {FORMAT!r}")
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not a baseline: {error}") from None
        if file.grid.blind:
            raise ValueError("`grid` is blind: it stands for a baseline that is not there")
        if tuple(column.name for column in file.counts) != file.grid.names:
            raise ValueError("the columns of `counts` are not those of `grid`")
        summary = Summary.empty(file.grid)
        for i, counts in enumerate(file.counts):
            _fill(summary, file.grid, i, counts, file.events)
        if not 0 <= file.events <= _MOST:
            raise ValueError("`events` is no number of rows")
        return cls(file.grid, Summary(file.events, summary.counts, summary.moments, Names(), {}), file.measured)

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a file. Raises ``ConfigurationError`` naming it."""
        try:
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}") from None


_MOST: Final = 1 << 53
"""More rows than any table has; sums of so many counts stay exact."""


def _fill(summary: Summary, grid: Grid, i: int, read: _ColumnCounts, events: int) -> None:
    """Put what a file says of a column into the summary. Raises ``ValueError`` for what cannot be."""
    column, slots = grid.columns[i], [*read.bins, read.unseen, read.missing, read.type_errors]
    limbs = summary.moments.limbs
    if len(read.bins) != column.bins or min(slots) < 0:
        raise ValueError(f"column {column.name}: expected {column.bins} counts that are not negative")
    if sum(slots) > min(events, _MOST):
        raise ValueError(f"column {column.name}: the counts are more than the `events`")
    if len(read.moments) != limbs.shape[1] or max(map(abs, read.moments)) > _MOST:
        raise ValueError(f"column {column.name}: expected {limbs.shape[1]} moments")
    summary.counts[grid.offsets[i] : grid.offsets[i + 1]] = slots
    limbs[i] = read.moments
    values = sum(read.bins) if column.kind is Kind.NUMERIC else 0
    if not summary.moments.possible(i, values):
        raise ValueError(f"column {column.name}: no {values} values have these moments")


class _Head(msgspec.Struct, frozen=True):
    format: str


class _ColumnCounts(msgspec.Struct, frozen=True):
    name: str
    bins: list[int]
    unseen: int
    missing: int
    type_errors: int
    moments: list[int]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    format: str
    grid: Grid
    events: int
    counts: tuple[_ColumnCounts, ...]
    measured: Measured | None = None
