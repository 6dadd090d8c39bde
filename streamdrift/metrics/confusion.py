"""Metrics of confusion counts: accuracy, and precision, recall and F1 of classes and their averages.

With d the diagonal of the confusion matrix, r its row sums (outcomes of a true class) and c its column sums (of a
predicted one), precision d/c, recall d/r and F1 2d/(r + c) are all α·d / (β·r + γ·c), and accuracy is recall weighted
by r. So one delta method serves them all: an outcome in cell (i, j) moves class k's ratio T_k by

    I_k(i, j) = (α·[i = j = k] − T_k·(β·[i = k] + γ·[j = k])) / (β·r_k + γ·c_k)

and the variance of a ratio, or of an average, is the sum of the squares of what each outcome moves it by. That is the
multinomial delta method; for accuracy, precision and recall it gives the binomial √(p(1 − p)/n).

A class of which nothing was predicted has no precision, as one without outcomes has no recall: None, where
scikit-learn warns and gives 0; averages leave it out (scikit-learn's ``zero_division=nan``). Outcomes of names beyond
the bound count in accuracy and in the sums of other classes, but are no class of their own.

Sources: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 21 (influence functions and the delta
method); Takahashi et al. 2022, "Confidence interval for micro-averaged F1 and macro-averaged F1 scores".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.metrics.estimate import Estimate, Result, Undefined
from streamdrift.summaries.confusion import FOLDED
from streamdrift.summaries.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Ratio:
    """α·d / (β·r + γ·c) of a class."""

    alpha: int
    beta: int
    gamma: int
    nothing: str
    """Why a class has none."""


PRECISION: Final = Ratio(1, 0, 1, "no outcome was predicted as {}")
RECALL: Final = Ratio(1, 1, 0, "no outcome is {}")
F1: Final = Ratio(2, 1, 1, "no outcome is or was predicted as {}")

_UNPREDICTED: Final = "no prediction names a class"


def accuracy(outcomes: Outcomes) -> Result:
    """Share of right predictions."""
    cells = outcomes.confusion.cells
    n = outcomes.confusion.n
    if n <= 0:
        return Undefined(_UNPREDICTED, 0)
    right = sum(count for (true, predicted), count in cells.items() if true == predicted)
    share = right / n
    return Estimate(share, math.sqrt(max(0.0, share * (1 - share)) / n), n)


def of_class(ratio: Ratio) -> Callable[[Outcomes, str], Result]:
    """The metric of one class against all others."""

    def metric(outcomes: Outcomes, name: str) -> Result:
        if outcomes.confusion.n <= 0:
            return Undefined(_UNPREDICTED, 0)
        classes, matrix = outcomes.confusion.classes, outcomes.confusion.matrix()
        weights = np.array([float(each == name) for each in classes])
        return _average(ratio, matrix, weights) or Undefined(ratio.nothing.format(name), outcomes.confusion.n)

    return metric


def of_positive(ratio: Ratio) -> Callable[[Outcomes], Result]:
    """The metric of a binary task's positive class."""
    return lambda outcomes: of_class(ratio)(outcomes, outcomes.grid.classes[1])


def macro(ratio: Ratio) -> Callable[[Outcomes], Result]:
    """Mean over classes, each counting alike."""
    return lambda outcomes: _over_classes(ratio, outcomes, by_outcomes=False)


def weighted(ratio: Ratio) -> Callable[[Outcomes], Result]:
    """Mean over classes, each counting by its outcomes."""
    return lambda outcomes: _over_classes(ratio, outcomes, by_outcomes=True)


def _over_classes(ratio: Ratio, outcomes: Outcomes, *, by_outcomes: bool) -> Result:
    if outcomes.confusion.n <= 0:
        return Undefined(_UNPREDICTED, 0)
    matrix = outcomes.confusion.matrix()
    named = np.array([name not in FOLDED for name in outcomes.confusion.classes])
    estimate = _average(ratio, matrix, None if by_outcomes else named.astype(np.float64), named)
    return estimate or Undefined(ratio.nothing.format("of any class that is counted by name"), outcomes.confusion.n)


def _average(
    ratio: Ratio,
    matrix: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    classes: NDArray[np.bool_] | None = None,
) -> Estimate | None:
    """Average of a ratio over the ``classes`` that have one; without ``weights`` each counts by its outcomes."""
    diagonal, rows, columns = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    denominator = ratio.beta * rows + ratio.gamma * columns
    there = denominator > 0 if classes is None else (denominator > 0) & classes
    shares = np.where(there, rows if weights is None else weights, 0.0)
    total = shares.sum()
    if total <= 0:
        return None
    shares /= total
    below = np.where(there, denominator, 1)
    of_each = np.where(there, ratio.alpha * diagonal / below, 0.0)
    value = float((shares * of_each).sum())
    pull = shares * of_each / below
    influence = -ratio.beta * pull[:, None] - ratio.gamma * pull[None, :]
    influence += np.diag(ratio.alpha * shares / below)
    if weights is None:  # an outcome adds to the weight of its own class too
        influence += (there * (of_each - value) / total)[:, None]
    variance = float((matrix * np.square(influence)).sum())
    return Estimate(value, math.sqrt(max(0.0, variance)), int(matrix.sum()))
