"""The predictions and labels of a training table: how its outcomes are counted, and what the model achieved there.

The rows go the way of live ones: the outcome grid is learned from a sample as detect learns it from the first labels,
and every row counts as ``outcome_rows`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.cells import Reading, names, numbers, read
from streamdrift.errors import ConfigurationError
from streamdrift.grids import LABEL, SCORE, VALUE
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.outcome_learning import learned_grid
from streamdrift.outcome_rows import OutcomeColumns, rows_on
from streamdrift.readers import Chunk
from streamdrift.summaries.outcomes import Outcomes
from streamdrift.summaries.spreads import Spreads

PROBABILITIES: Final = "prediction.probabilities."


@dataclass(frozen=True, slots=True)
class Place:
    """A column of the table, and how its cells are read."""

    name: str
    reading: Reading = Reading.TEXT

    def cells(self, chunk: Chunk) -> NDArray[Any]:
        """Its values in a chunk. Shape (n,)."""
        return read(chunk[self.name], self.reading)


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Where the outcomes of a table stand."""

    target: Place
    parts: Mapping[str, Place]
    """Parts of the prediction by their names in events: ``prediction.score``, ``.label``, ``.value`` …"""

    @property
    def is_regression(self) -> bool:
        """Whether the model predicts numbers: it has no part that is of classes."""
        return set(self.parts) == {VALUE}

    def columns(self, chunk: Chunk) -> OutcomeColumns:
        """The rows of a chunk that have a label."""
        truth = self.target.cells(chunk)
        n = len(truth)
        labels = [None] * n if self.is_regression else names(truth).tolist()
        values = numbers(truth)[0] if self.is_regression else np.full(n, np.nan)
        known = np.isfinite(values) | np.array([label is not None for label in labels], dtype=np.bool_)
        return OutcomeColumns(
            times=np.zeros(n, dtype=np.int64),
            hashes=np.zeros(n, dtype=np.uint64),
            signs=np.ones(n, dtype=np.int8),
            heard=np.zeros(n, dtype=np.bool_),
            predicted_labels=names(self.parts[LABEL].cells(chunk)).tolist() if LABEL in self.parts else [None] * n,
            scores=self._numbers(SCORE, chunk, n),
            probabilities=self._probabilities(chunk, n),
            predicted_values=self._numbers(VALUE, chunk, n),
            true_labels=labels,
            true_values=values,
        ).take(np.flatnonzero(known))

    def outcomes(self, grid: OutcomeGrid, chunk: Chunk) -> tuple[Outcomes, Spreads]:
        """The rows of a chunk, counted."""
        rows = rows_on(grid, self.columns(chunk))
        return Outcomes.of(rows), Spreads.of(rows)

    def _numbers(self, part: str, chunk: Chunk, n: int) -> NDArray[np.float64]:
        return numbers(self.parts[part].cells(chunk))[0] if part in self.parts else np.full(n, np.nan)

    def _probabilities(self, chunk: Chunk, n: int) -> Sequence[Mapping[str, float] | None]:
        parts = [part for part in self.parts if part.startswith(PROBABILITIES)]
        if not parts:
            return [None] * n
        classes = [part.removeprefix(PROBABILITIES) for part in parts]
        rows = zip(*(self._numbers(part, chunk, n).tolist() for part in parts), strict=True)
        return [dict(zip(classes, row, strict=True)) for row in rows]

    def grid(self, sample: Chunk, positive: str | None, threshold: float) -> OutcomeGrid | None:
        """How the outcomes are counted; None for too few labels. Raises ``ConfigurationError``.

        ``positive`` names the positive class of two, ``threshold`` the score from which on it is predicted.
        """
        grid = learned_grid(self.columns(sample))
        if positive is not None:
            grid = _binary(grid, positive)
        if grid is None or grid.task is not Task.BINARY or grid.threshold == threshold:
            return grid
        return msgspec.structs.replace(grid, threshold=threshold)


def outcome_table(target: Place | None, parts: Mapping[str, Place]) -> OutcomeTable | None:
    """The outcomes of a table; None without labels, or without a prediction that they could be held against."""
    known = {part: at for part, at in parts.items() if part in {LABEL, SCORE, VALUE} or part.startswith(PROBABILITIES)}
    return OutcomeTable(target, known) if target is not None and known else None


def _binary(grid: OutcomeGrid | None, positive: str) -> OutcomeGrid:
    classes = () if grid is None else grid.classes
    others = [name for name in classes if name != positive]
    if positive not in classes or len(others) != 1:
        found = ", ".join(classes[:10]) or "none"
        raise ConfigurationError(f"--positive {positive}: expected one of two classes; the table has {found}")
    return OutcomeGrid(Task.BINARY, (others[0], positive))
