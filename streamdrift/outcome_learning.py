"""How the outcomes of a model are counted, learned from its first ones, where neither settings nor a baseline say it.

A task is of classes as soon as one label is a class. Of two classes one is *positive*: the one that high scores
predict, or without scores the one that is called ``1`` or ``true``. Where nothing tells, they are two classes like any
others, and only the metrics of several classes are reported.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import numpy as np

from streamdrift.outcome_grids import MAX_CLASSES, OutcomeGrid, Task
from streamdrift.outcome_rows import OutcomeColumns

ENOUGH: Final = 200
"""Outcomes from which on the grid is learned."""
PATIENCE: Final = 2_000
"""Outcomes after which a task may have one class only."""
_POSITIVE: Final = ({"0", "1"}, {"false", "true"})
"""Pairs of classes of which the last in the order of names is positive."""


def learned_grid(columns: OutcomeColumns) -> OutcomeGrid | None:
    """The grid of these outcomes, in whatever order they stand; None while they are too few to tell."""
    columns = columns.take(np.flatnonzero(columns.signs > 0))
    if len(columns) < ENOUGH:
        return None
    counts = Counter(name for name in columns.true_labels if name is not None)
    if not counts:
        values = columns.true_values[np.isfinite(columns.true_values)]
        return OutcomeGrid.regression(float(values.min()), float(values.max())) if len(values) >= ENOUGH else None
    counts.update(name for name in columns.predicted_labels if name is not None)
    counts.update(dict.fromkeys((name for row in columns.probabilities if row for name in row), 1))
    if len(counts) == 1 and len(columns) < PATIENCE:
        return None
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_CLASSES]
    classes = tuple(sorted(frequent))
    positive = _positive(classes, columns)
    if positive is None:
        return OutcomeGrid(Task.MULTICLASS, classes)
    [negative] = set(classes) - {positive}
    return OutcomeGrid(Task.BINARY, (negative, positive))


def _positive(classes: tuple[str, ...], columns: OutcomeColumns) -> str | None:
    if len(classes) != 2:  # noqa: PLR2004 — the two of binary
        return None
    means = [_mean_score(name, columns) for name in classes]
    known = [mean for mean in means if mean is not None]
    if len(known) == len(means) and known[0] != known[1]:
        return classes[known.index(max(known))]
    return classes[1] if set(classes) in _POSITIVE else None


def _mean_score(name: str, columns: OutcomeColumns) -> float | None:
    """Mean score where the model predicts a class; where it names none, where that turned out to be true."""
    named = columns.predicted_labels if any(columns.predicted_labels) else columns.true_labels
    scores = [s for s, label in zip(columns.scores.tolist(), named, strict=True) if label == name and math.isfinite(s)]
    return math.fsum(scores) / len(scores) if scores else None
