"""What a metric says of some outcomes: a number with its sampling error, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric as the outcomes at hand estimate it."""

    value: float
    standard_error: float | None
    """Of ``value``, had other outcomes of the same model come; None where it has no known form.

    Outcomes count as independent: where they come in clumps (several of one customer), it is too small. It is 0 where
    all agree, as the textbook has it; then 3 / n is a rule of thumb for what may still hide.
    """
    n: int
    """Outcomes that it is of."""
    error: float = 0.0
    """How far ``value`` may be from that of the same outcomes one by one, because they were counted in bins."""


@dataclass(frozen=True, slots=True)
class Undefined:
    """A metric that the outcomes at hand have no number for."""

    reason: str
    n: int


Result = Estimate | Undefined
