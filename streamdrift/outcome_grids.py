"""How the outcomes of one model version are counted: its task, its classes, its unit of error.

The counterpart of a grid. Counts on the same outcome grid add up; a unit is a power of two that is stated here, never
taken from the values at hand, so that the sums do not depend on how the outcomes were split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec

from streamdrift.grids import content_id

UNIT_BITS: Final = 30
"""Sums of losses are integers in units of 2**-30 of their scale: what rounding adds to a mean is below 5e-10 of it."""
MAX_CLASSES: Final = 256
"""Most classes that may be named: a confusion matrix has their square of cells."""
CONFIDENCE: Final = "confidence"
"""The curve of the largest probability against "that class was the true one"; it stands beside those of classes."""


class Task(StrEnum):
    """What a model predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class OutcomeGrid(msgspec.Struct, frozen=True, dict=True, omit_defaults=True):
    """How the outcomes of one model version are counted.

    Binary tasks name (negative, positive) in ``classes``, multiclass ones any number of classes, which are then exempt
    from every bound; regression has no classes, but ``scale_exponent`` and ``center``.
    """

    task: Task
    classes: tuple[str, ...] = ()
    threshold: float = 0.5
    """Binary: a score from here on predicts the positive class where the prediction names none."""
    scale_exponent: int = 0
    """Regression: 2**scale_exponent is about the range of the outcomes; errors beyond 1,024 times it are limited."""
    center: float = 0.0
    """Regression: an outcome in the middle of the range."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class stands twice among the classes")
        if self.task is Task.BINARY and len(self.classes) != 2:  # noqa: PLR2004 — the two of binary
            raise ValueError(f"a binary task has a negative and a positive class, not {len(self.classes)}")
        if self.task is Task.REGRESSION and self.classes:
            raise ValueError("a regression has no classes")
        if len(self.classes) > MAX_CLASSES:
            raise ValueError(f"{len(self.classes)} classes, at most {MAX_CLASSES} are allowed")
        if not (math.isfinite(self.center) and abs(self.scale_exponent) <= _LARGEST_EXPONENT):
            raise ValueError("the center and the scale of a regression must be finite")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected a probability, got {self.threshold}")

    @classmethod
    def regression(cls, low: float, high: float) -> OutcomeGrid:
        """The grid of a regression whose outcomes lie between ``low`` and ``high``, for example those of its baseline.

        >>> OutcomeGrid.regression(0.0, 1000.0).scale_exponent
        10
        """
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"expected the range of the outcomes, got {low} to {high}")
        spread = high / 2 - low / 2  # the difference itself may be beyond float64
        exponent = math.frexp(spread)[1] + 1 if spread else math.frexp(high)[1]
        bounded = min(max(exponent, -_LARGEST_EXPONENT), _LARGEST_EXPONENT)
        return cls(Task.REGRESSION, scale_exponent=bounded, center=low / 2 + high / 2)

    @cached_property
    def id(self) -> str:
        """Content id: equal grids have the same id, whether a default was stated or not."""
        return content_id(msgspec.json.encode(msgspec.structs.astuple(self)))

    @cached_property
    def curves(self) -> tuple[str, ...]:
        """What probabilities are held against what happened: the positive class, or each class and their confidence."""
        if self.task is Task.BINARY:
            return self.classes[1:]
        return (*self.classes, CONFIDENCE) if self.task is Task.MULTICLASS and self.classes else ()

    @property
    def scale(self) -> float:
        """The scale of a regression's outcomes, in their own unit."""
        return math.ldexp(1.0, self.scale_exponent)

    def check(self, others: Iterable[OutcomeGrid]) -> None:
        """Raises ``ValueError`` if one of ``others`` counts differently: such counts do not add up."""
        if any(other is not self and other != self for other in others):
            raise ValueError("outcomes of different grids do not add up")


_LARGEST_EXPONENT: Final = 500
"""Squares of errors up to the limit stay finite."""
