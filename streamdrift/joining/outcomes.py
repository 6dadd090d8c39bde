"""What comes out of the join, by column: outcomes to be added up, and fates to be counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdrift.joining.rows import Label, Predicted, Prediction, rank_of
from streamdrift.summaries.coverage import Fate


class Version(NamedTuple):
    """A model version, as outcomes and fates are grouped."""

    model_id: str
    model_version: str


@dataclass(frozen=True, slots=True)
class OutcomeBatch:
    """Labelled predictions of one model version, a row each; sign −1 takes back what a revised label had said.

    All columns have length n; texts and maps are None and numbers NaN where there is none.
    """

    version: Version
    prediction_times: NDArray[np.int64]
    """Microseconds: whose window reports the outcome."""
    label_times: NDArray[np.int64]
    """Microseconds."""
    decided: NDArray[np.int64]
    """Microseconds: whose tick folds it; later than the label's time where that one's tick may be over."""
    signs: NDArray[np.int8]
    hashes: NDArray[np.uint64]
    """Half the hash of model and prediction id: orders and samples raw values."""
    revised: NDArray[np.bool_]
    """Rows of a revision, both those taken back and those that replace them: detectors have heard the first."""
    predicted_labels: Sequence[str | None]
    scores: NDArray[np.float64]
    probabilities: Sequence[dict[str, float] | None]
    predicted_values: NDArray[np.float64]
    true_labels: Sequence[str | None]
    true_values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.signs)


@dataclass(frozen=True, slots=True)
class FateBatch:
    """Fates of one model version. All columns have shape (n,)."""

    version: Version
    fates: NDArray[np.int8]
    """By ``Fate``."""
    times: NDArray[np.int64]
    """Microseconds: of the prediction, whose window counts it; of an orphan, its own."""
    decided: NDArray[np.int64]
    """Microseconds: whose tick folds it."""
    delays: NDArray[np.int64]
    """Microseconds from a labelled prediction to its label; 0 for other fates."""

    def __len__(self) -> int:
        return len(self.fates)


_Outcome = tuple[int, bool, bytes, int, int, Prediction, Label]


@dataclass(slots=True)
class Collected:
    """Outcomes and fates as they arise, by number of the version."""

    outcomes: dict[int, list[_Outcome]] = field(default_factory=dict)
    fates: dict[int, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    counts: list[int] = field(default_factory=lambda: [0] * len(Fate))
    """By ``Fate``."""

    def outcome(
        self, sign: int, key: bytes, row: Predicted, label: Label, decided: int, *, revised: bool = False
    ) -> None:
        told = (sign, revised, key, row.time, decided, row.prediction, label)
        self.outcomes.setdefault(row.version, []).append(told)

    def fate(self, fate: Fate, version: int, time: int, decided: int, delay: int = 0) -> None:
        self.counts[fate] += 1
        self.fates.setdefault(version, []).append((fate, time, decided, delay))

    def outcome_batches(self, versions: Sequence[Version]) -> list[OutcomeBatch]:
        """``versions`` by their numbers. In the order of the versions' names."""
        found = [_outcome_batch(versions[number], rows) for number, rows in self.outcomes.items()]
        return sorted(found, key=lambda batch: batch.version)

    def fate_batches(self, versions: Sequence[Version]) -> list[FateBatch]:
        """``versions`` by their numbers. In the order of the versions' names."""
        found = []
        for number, rows in self.fates.items():
            columns = np.array(rows, dtype=np.int64).T
            found.append(FateBatch(versions[number], columns[0].astype(np.int8), *columns[1:]))
        return sorted(found, key=lambda batch: batch.version)


def _outcome_batch(version: Version, rows: Sequence[_Outcome]) -> OutcomeBatch:
    signs, revised, keys, times, decided, predictions, labels = zip(*rows, strict=True)
    return OutcomeBatch(
        version,
        np.array(times, dtype=np.int64),
        np.array([label.time for label in labels], dtype=np.int64),
        np.array(decided, dtype=np.int64),
        np.array(signs, dtype=np.int8),
        np.array([rank_of(key) for key in keys], dtype=np.uint64),
        np.array(revised, dtype=np.bool_),
        [prediction.label for prediction in predictions],
        np.array([prediction.score for prediction in predictions], dtype=np.float64),
        [prediction.probabilities for prediction in predictions],
        np.array([prediction.value for prediction in predictions], dtype=np.float64),
        [label.label for label in labels],
        np.array([label.value for label in labels], dtype=np.float64),
    )
