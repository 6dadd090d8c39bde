"""The event vocabulary, and the columnar batch in which events reach the summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from streamdrift.grids import Grid


class SourceKind(StrEnum):
    """What the events of a topic tell of."""

    PREDICTIONS = "predictions"
    FEATURES = "features"
    LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one model version, a row each; the columns are those of ``grid``."""

    grid: Grid
    times: NDArray[np.int64]
    """Event times in microseconds since the epoch. Shape (n,)."""
    hashes: NDArray[np.uint64]
    """Hash of the prediction id, or of the raw message where there is none. Shape (n,)."""
    values: NDArray[np.float64]
    """Numbers, or numbers of categories (``len(categories)``: unseen); NaN: no value. Shape (n, columns); the codec
    lays the values of a column side by side."""
    type_errors: NDArray[np.int64]
    """(row, column) of the values of a wrong type; NaN in ``values``. Shape (m, 2)."""
    unseen: tuple[tuple[int, int, str], ...] = ()
    """(row, column, name) of categories that the grid does not know."""
    without_features: NDArray[np.bool_] | None = None
    """Events without features: their feature columns, all NaN, are not counted. Shape (n,); None: all carry them."""
    without_prediction: NDArray[np.bool_] | None = None
    """Events that carry no prediction, likewise."""
    rows: tuple[bytes, ...] | None = None
    """Where the grid is blind: each event's payload (see ``streamdrift.rows``), from which a grid can be learned."""

    def __len__(self) -> int:
        return len(self.times)

    def where(self, keep: NDArray[np.bool_]) -> Batch:
        """The events that ``keep`` marks. Shape (n,)."""
        return self.take(np.flatnonzero(keep))

    def take(self, places: NDArray[np.int64]) -> Batch:
        """The events at these places, each at most once, in this order."""
        row = np.full(len(self), -1)
        row[places] = np.arange(len(places))
        errors = self.type_errors[row[self.type_errors[:, 0]] >= 0]
        return Batch(
            self.grid,
            self.times[places],
            self.hashes[places],
            self.values.T[:, places].T,
            np.column_stack((row[errors[:, 0]], errors[:, 1])),
            tuple((int(row[r]), column, name) for r, column, name in self.unseen if row[r] >= 0),
            None if self.without_features is None else self.without_features[places],
            None if self.without_prediction is None else self.without_prediction[places],
            None if self.rows is None else tuple(map(self.rows.__getitem__, places.tolist())),
        )

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        """The events of batches on one grid, one batch after the other."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        return cls(
            parts[0].grid,
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.values.T for part in parts], axis=1).T,
            np.concatenate(
                [part.type_errors + np.array((start, 0)) for part, start in zip(parts, starts, strict=False)]
            ),
            tuple(
                (row + start, *what) for part, start in zip(parts, starts, strict=False) for row, *what in part.unseen
            ),
            _joined([(part.without_features, len(part)) for part in parts]),
            _joined([(part.without_prediction, len(part)) for part in parts]),
            None if parts[0].rows is None else tuple(row for part in parts for row in part.rows or ()),
        )


def _joined(marks: Sequence[tuple[NDArray[np.bool_] | None, int]]) -> NDArray[np.bool_] | None:
    if all(mark is None for mark, _ in marks):
        return None
    return np.concatenate([np.zeros(size, dtype=np.bool_) if mark is None else mark for mark, size in marks])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be read as an event."""

    index: int
    """Place of the message in the batch that was decoded."""
    reason: str
    """One of a few classes: ``malformed``, ``schema``, ``timestamp``, ``future``, ``too_large``, ``empty``."""
    message: str
    """What was expected and where, for a person; never holds the value itself."""
    events: int = 1
    """How many events it stands for: those of one message that are refused for one reason share a letter."""
