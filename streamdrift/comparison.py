"""A new version and its predecessor, by the same metrics.

>>> from streamdrift.metrics import Estimate
>>> [accuracy] = compare({"accuracy": Estimate(0.78, 0.012, 1_000)}, {"accuracy": Estimate(0.91, 0.009, 1_000)})
>>> accuracy.sentence
'accuracy 0.91 of 1,000 labels, 0.13 better than the 0.78 of its predecessor, by 8.7 standard errors'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamdrift.metrics import METRICS, Estimate
from streamdrift.performance import Report, Standing

_TRUSTED: Final = (Standing.MEASURED, Standing.PROVISIONAL)
"""Readings that have a number, the more certain first."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of both."""

    metric: str
    before: Estimate
    after: Estimate

    @property
    def better_by(self) -> float:
        """By how much the new version is better, in the metric's own unit; negative where it is worse."""
        return METRICS[self.metric].better.shortfall(self.before.value, self.after.value)

    @property
    def standard_error(self) -> float | None:
        """Of the difference: the two versions have seen different events, so their errors are independent.

        None where either has no known one.
        """
        errors = self.before.standard_error, self.after.standard_error
        return None if None in errors else math.hypot(*(error for error in errors if error is not None))

    @property
    def errors_apart(self) -> float | None:
        """The difference in its standard errors, positive where the new version is better: within ±2 may be chance."""
        error = self.standard_error
        return self.better_by / error if error else None

    @property
    def sentence(self) -> str:
        """What a person is told."""
        side = "better" if self.better_by >= 0 else "worse"
        said = f"{self.metric} {self.after.value:.4g} of {self.after.n:,} labels, {abs(self.better_by):.2g} {side} than"
        said += f" the {self.before.value:.4g} of its predecessor"
        return said if self.errors_apart is None else f"{said}, by {abs(self.errors_apart):.2g} standard errors"

    @property
    def data(self) -> Mapping[str, Any]:
        """For messages and the API."""
        return {
            "metric": self.metric,
            "before": _estimate(self.before),
            "after": _estimate(self.after),
            "better_by": self.better_by,
            "standard_error": self.standard_error,
        }


def compare(before: Mapping[str, Estimate], after: Mapping[str, Estimate]) -> list[Compared]:
    """Every metric that both have, in the order of the predecessor's."""
    return [Compared(name, estimate, after[name]) for name, estimate in before.items() if name in after]


def estimates(reports: Sequence[Report]) -> Mapping[str, Estimate]:
    """The numbers of the window that says most, by metric: a closed one if there is one, else the newest that is open.

    ``reports`` are newest first.
    """
    for standing in _TRUSTED:
        for report in reports:
            found = {r.metric: r.estimate for r in report.readings if r.estimate and r.standing is standing}
            if found:
                return found
    return {}


def _estimate(estimate: Estimate) -> Mapping[str, Any]:
    return {"value": estimate.value, "standard_error": estimate.standard_error, "n": estimate.n}
