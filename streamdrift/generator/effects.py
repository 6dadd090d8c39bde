"""What can go wrong between a payment and its event: each effect is one class.

Traffic asks every active effect three times, for the rows that it concerns: while features are collected, after
the model scored them, and when the world decides what was fraud.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streamdrift.generator.pace import HOUR_US
from streamdrift.generator.world import CATEGORIES, Columns, Payments

Rows = NDArray[np.int64]
"""Indices of the events that an effect concerns."""


class Effect:
    """Does nothing; effects override what they change. Arrays are changed in place."""

    @property
    def new_category(self) -> tuple[str, str] | None:
        """(column, name) of a category that only this effect brings up; it is numbered behind the known ones."""
        return None

    def on_features(self, columns: Columns, rows: Rows, elapsed_us: NDArray[np.int64], rng: Generator) -> None:
        """Change what the pipeline collected. ``elapsed_us``: time since the onset, shape of ``rows``."""

    def on_score(self, logits: NDArray[np.float64], rows: Rows) -> None:
        """Change the model's log odds. Shape (n,)."""

    def on_truth(self, payments: Payments, logits: NDArray[np.float64], rows: Rows) -> None:
        """Change the true log odds of fraud. Shape (n,)."""


@dataclass(frozen=True, slots=True)
class Scaled(Effect):
    """A number is multiplied: at once, or growing geometrically over ``ramp_hours``."""

    feature: str
    factor: float
    ramp_hours: float = 0.0

    def on_features(self, columns: Columns, rows: Rows, elapsed_us: NDArray[np.int64], rng: Generator) -> None:  # noqa: ARG002
        ramp_us = max(self.ramp_hours * HOUR_US, 1.0)
        columns[self.feature][rows] *= self.factor ** np.minimum(elapsed_us / ramp_us, 1.0)


@dataclass(frozen=True, slots=True)
class GoesMissing(Effect):
    """A share of the values does not arrive."""

    feature: str
    share: float

    def on_features(self, columns: Columns, rows: Rows, elapsed_us: NDArray[np.int64], rng: Generator) -> None:  # noqa: ARG002
        columns[self.feature][rows[rng.random(len(rows)) < self.share]] = np.nan


@dataclass(frozen=True, slots=True)
class NewCategory(Effect):
    """A share of the events has a category that training never saw."""

    feature: str
    name: str
    share: float

    @property
    def new_category(self) -> tuple[str, str]:
        return self.feature, self.name

    def on_features(self, columns: Columns, rows: Rows, elapsed_us: NDArray[np.int64], rng: Generator) -> None:  # noqa: ARG002
        columns[self.feature][rows[rng.random(len(rows)) < self.share]] = len(CATEGORIES[self.feature])


@dataclass(frozen=True, slots=True)
class ScoreShifted(Effect):
    """The service adds a constant to the model's log odds: a wrong calibration file, say."""

    logits: float

    def on_score(self, logits: NDArray[np.float64], rows: Rows) -> None:
        logits[rows] += self.logits


@dataclass(frozen=True, slots=True)
class FraudMoves(Effect):
    """Fraud goes from large to small amounts: same payments, same scores, other outcomes."""

    per_sd: float
    """Added to the log odds of fraud for each standard deviation of the (log) amount."""
    constant: float

    def on_truth(self, payments: Payments, logits: NDArray[np.float64], rows: Rows) -> None:
        logits[rows] += self.constant + self.per_sd * payments.normals["amount"][rows]
