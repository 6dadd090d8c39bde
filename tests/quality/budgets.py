"""False incidents against what was promised, while nothing changes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from scipy import stats

from tests.quality.model import Asked, Model, baseline_of
from tests.quality.nulls import DAY_S, Null

PATIENCE_DAYS = 8.0
"""Longest that live traffic may calibrate: a week, and what it takes to notice that it is over."""


@dataclass(frozen=True)
class NullPlan:
    """Models of so many features, each with a baseline of its own, that run for so many days once calibrated."""

    null: Null
    rows: int
    features: int
    models: int
    days: float
    """Of each model."""
    per_day: float
    """The budget: false incidents of a model a day."""
    minimum_effect: float = 0.02

    @property
    def name(self) -> str:
        return f"{self.null.name}, {self.rows:,} rows, {self.features:,} features, floor {self.minimum_effect:g}"


@dataclass
class Exposure:
    """What happened in all models of a plan together."""

    plan: NullPlan
    incidents: int = 0
    """Starts: ticks at whose end some column is in alarm, after one at whose end none was."""
    alarms: Counter[str] = field(default_factory=Counter)
    """Of single columns, by detector: an incident may have many."""
    days: float = 0.0
    """Of all models, since each was calibrated."""
    days_in_incidents: float = 0.0
    """Of these, those in which no incident could start, since one was open."""
    open_at_start: int = 0
    """Models that came out of calibration in alarm: no budget is promised for these alarms, and they do not count."""
    never_calibrated: int = 0

    @property
    def expected(self) -> float:
        """Incidents that the budget allows in the days in which one could start."""
        return self.plan.per_day * (self.days - self.days_in_incidents)

    @property
    def ratio(self) -> float:
        return self.incidents / self.expected if self.expected else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the ratio, for a Poisson number of incidents."""
        if not self.expected:
            return 0.0, math.inf
        low, high = poisson_interval(self.incidents)
        return low / self.expected, high / self.expected


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Garwood's exact interval of a Poisson mean, of which ``count`` was seen.

    >>> [round(bound, 2) for bound in poisson_interval(10)]
    [4.8, 18.39]
    """
    tail = (1 - level) / 2
    low = float(stats.chi2.ppf(tail, 2 * count) / 2) if count else 0.0
    return low, float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2)


def run(plan: NullPlan, rng: np.random.Generator) -> Exposure:
    found = Exposure(plan)
    for _ in range(plan.models):
        _watch(plan, rng, found)
    return found


def _watch(plan: NullPlan, rng: np.random.Generator, found: Exposure) -> None:
    null = plan.null
    baseline = baseline_of(null.law, null.training(rng, plan.features, plan.rows))
    model = Model(baseline, null.tick_s, Asked(plan.per_day, plan.minimum_effect))
    ticks = null.counts(rng, model.reference)
    for counts in islice(ticks, round(PATIENCE_DAYS * DAY_S / null.tick_s)):
        if model.calibrated:
            break
        model.close(counts)
    else:
        found.never_calibrated += 1
        return
    known = set(model.alarms)
    found.open_at_start += bool(known)
    before: set[int] = set()
    for counts in islice(ticks, round(plan.days * DAY_S / null.tick_s)):
        earlier = set(model.alarms)
        model.close(counts)
        found.alarms.update(name for name, _ in model.alarms - earlier)
        known &= model.alarms
        now = {column for _, column in model.alarms - known}
        found.incidents += bool(now) and not before
        found.days += null.tick_s / DAY_S
        found.days_in_incidents += null.tick_s / DAY_S if now else 0.0
        before = now
