"""The model under watch: a logistic regression, trained on payments whose outcome is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.generator.world import CATEGORIES, Columns, sigmoid

FLAG_FROM: Final = 0.15
"""Score from which a payment is labelled as fraud: a missed fraud costs more than a second look."""

_RIDGE: Final = 1.0
_MAX_STEPS: Final = 25
_CONVERGED: Final = 1e-8
_SKEWED: Final = frozenset(
    {
        "amount", "account.age_days", "account.orders_90d", "velocity.count_1h", "velocity.count_24h",
        "velocity.amount_24h", "distance_km", "basket.items", "session.duration_s", "device.age_days",
    }
)  # fmt: skip
"""Columns that enter as log(1 + x)."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """Weights on standardised numbers and one-hot categories. It scores columns as they arrive, errors included."""

    names: tuple[str, ...]
    """Numeric columns, in the order of ``centers``, ``scales`` and the first weights."""
    centers: NDArray[np.float64]
    scales: NDArray[np.float64]
    weights: NDArray[np.float64]
    categories: dict[str, NDArray[np.float64]]
    """Weight of each category, and 0 at the end for one that was not seen in training."""
    intercept: float

    @classmethod
    def train(cls, columns: Columns, fraud: NDArray[np.bool_]) -> Classifier:
        """Maximum likelihood with a light ridge, by Newton's method (iteratively reweighted least squares).

        Raises ``ValueError`` if no payment was fraud, or all were.
        """
        if not 0 < fraud.mean() < 1:
            raise ValueError("training needs payments of both outcomes")
        names = tuple(sorted(columns.keys() - CATEGORIES.keys()))
        numbers = np.column_stack([_transformed(name, columns[name]) for name in names])
        centers, scales = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        parts = [np.ones((len(fraud), 1)), np.nan_to_num((numbers - centers) / scales)]
        parts += [columns[name][:, None] == np.arange(len(CATEGORIES[name])) for name in CATEGORIES]
        weights = _newton(np.hstack(parts), fraud.astype(np.float64))
        ends = 1 + len(names) + np.cumsum([0, *map(len, CATEGORIES.values())])
        return cls(
            names,
            centers,
            scales,
            weights[1 : 1 + len(names)],
            {
                name: np.append(weights[start:end], 0.0)
                for name, start, end in zip(CATEGORIES, ends[:-1], ends[1:], strict=True)
            },
            float(weights[0]),
        )

    def logits(self, columns: Columns) -> NDArray[np.float64]:
        """Log odds of fraud; a missing number counts as the training mean. Shape (n,)."""
        logits = np.full(len(columns["amount"]), self.intercept)
        for name, center, scale, weight in zip(self.names, self.centers, self.scales, self.weights, strict=True):
            logits += np.nan_to_num((_transformed(name, columns[name]) - center) * (weight / scale))
        for name, weights in self.categories.items():
            logits += weights[columns[name].astype(np.int64)]
        return logits


def _transformed(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log1p(values) if name in _SKEWED else values


def _newton(X: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that maximise the penalised likelihood. Shapes (n, k), (n,) -> (k,)."""
    penalty = np.full(X.shape[1], _RIDGE)
    penalty[0] = 1e-6  # the intercept is free; one-hot columns without a dropped one need the ridge to be unique
    weights = np.zeros(X.shape[1])
    for _ in range(_MAX_STEPS):
        p = sigmoid(X @ weights)
        gradient = X.T @ (y - p) - penalty * weights
        step = np.linalg.solve((X.T * (p * (1 - p))) @ X + np.diag(penalty), gradient)
        weights += step
        if np.abs(step).max() < _CONVERGED:
            break
    return weights
