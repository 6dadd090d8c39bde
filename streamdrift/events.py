"""The event vocabulary, and the columnar batch in which events reach the summaries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

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
    """Numbers, or numbers of categories (``len(categories)``: unseen); NaN: no value. Shape (n, columns)."""
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
        row = np.cumsum(keep) - 1
        errors = self.type_errors[keep[self.type_errors[:, 0]]]
        return Batch(
            self.grid,
            self.times[keep],
            self.hashes[keep],
            self.values[keep],
            np.column_stack((row[errors[:, 0]], errors[:, 1])),
            tuple((int(row[r]), column, name) for r, column, name in self.unseen if keep[r]),
            None if self.without_features is None else self.without_features[keep],
            None if self.without_prediction is None else self.without_prediction[keep],
            None if self.rows is None else tuple(compress(self.rows, keep.tolist())),
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be read as an event."""

    index: int
    """Place of the message in the batch that was decoded."""
    reason: str
    """One of a few classes: ``malformed``, ``schema``, ``timestamp``, ``future``, ``too_large``, ``empty``."""
    message: str
    """What was expected and where, for a person; never holds the value itself."""
