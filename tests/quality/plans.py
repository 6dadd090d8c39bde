"""How much of everything is run: in full, and in short for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from tests.quality.budgets import NullPlan
from tests.quality.changes import CHANGES, NO_CHANGE, SKEW, VARIANCE, Change, shift
from tests.quality.delays import ChangePlan
from tests.quality.nulls import NULLS, Null

A_DAY: Final = 10.0
"""The larger budget, in false alarms a day."""
A_WEEK: Final = 1 / 7
"""The smaller one."""
LONG: Final = Null("normal, 1 per week")
LONG_WIDE: Final = Null("normal, 1 per week, ticks of 1,000 events", tick_s=1_000.0, per_tick=1_000)


@dataclass(frozen=True)
class Amount:
    """What is run."""

    budgets: Sequence[NullPlan]
    weekly: Sequence[NullPlan]
    alarms: Sequence[Null]
    alarm_streams: int
    """Streams of ``false_alarms.STREAM`` events each, of every null."""
    changes: Sequence[str]
    runs: int
    """Of every change, side by side."""
    rows: int
    """Of the training table, side by side."""
    delays: Sequence[ChangePlan]
    cost: Sequence[int]
    """Numbers of features."""
    cost_ticks: int


def full() -> Amount:
    return Amount(
        budgets=[
            *(NullPlan(null, rows, 100, 2, 4.0, A_DAY, 0.0) for null in NULLS.values() for rows in (1_000, 10_000)),
            *(
                _daily(null, rows, features)
                for features, null, rows in product(_SIZES, NULLS.values(), (1_000, 10_000, 100_000))
                if _is_run(null, features)
            ),
        ],
        weekly=[
            NullPlan(LONG, 10_000, 1, 10, 14.0, A_WEEK, 0.0),
            *(NullPlan(LONG, rows, 100, 10, 14.0, A_WEEK, 0.0) for rows in (1_000, 10_000, 100_000)),
            NullPlan(LONG_WIDE, 10_000, 1_000, 5, 35.0, A_WEEK, 0.0),
        ],
        alarms=[null for null in NULLS.values() if not null.shared],
        alarm_streams=3,
        changes=list(CHANGES),
        runs=50,
        rows=100_000,
        delays=[
            *(_wide(change, 0.02, 100_000, f) for change in (shift(0.25), shift(0.5)) for f in _SIZES),
            *(_wide(change, 0.02, 10_000, f) for change in (shift(0.25), shift(0.5)) for f in _SIZES),
            *(_wide(change, 0.0, 100_000, f) for change in (shift(0.25), shift(0.5), VARIANCE) for f in _SIZES),
            *(_wide(CHANGES[name], 0.02, rows, 100) for name in SHAPES for rows in (10_000, 100_000)),
        ],
        cost=[300, 3_000],
        cost_ticks=2_000,
    )


def short() -> Amount:
    return Amount(
        budgets=[NullPlan(null, 10_000, 20, 1, 1.0, A_DAY, floor) for null in NULLS.values() for floor in (0.02, 0.0)],
        weekly=[NullPlan(LONG_WIDE, 10_000, 20, 1, 21.0, A_WEEK)],
        alarms=[NULLS["normal"], NULLS["AR(0.9)"]],
        alarm_streams=1,
        changes=[NO_CHANGE.name, shift(0.5).name, "missing 1 → 3 %", "new category at 2 %", SKEW.name],
        runs=2,
        rows=20_000,
        delays=[_wide(shift(0.5), 0.0, 20_000, 100)],
        cost=[300],
        cost_ticks=200,
    )


SHAPES: Final = (
    "bimodal, same mean and variance",
    "t3, same mean and variance",
    "5 % stuck at one value",
    "missing 1 → 3 %",
    "new category at 2 %",
)
"""What has to be found in every run."""
_SIZES: Final = (1, 100, 1_000)
_MODELS: Final = {1: 10, 100: 2, 1_000: 1}
_DAYS: Final = {1: 1.0, 100: 4.0, 1_000: 3.0}


def _is_run(null: Null, features: int) -> bool:
    """Features that have something in common are several; a thousand of them would say no more than a hundred."""
    return not null.shared or features == 100


def _daily(null: Null, rows: int, features: int) -> NullPlan:
    """Ten days of small models, eight and three of large ones; four times as many where a day has few ticks."""
    days = _DAYS[features] * (4 if null.season else 1)
    return NullPlan(null, rows, features, _MODELS[features], days, A_DAY)


def _wide(change: Change, minimum_effect: float, rows: int, features: int) -> ChangePlan:
    """Fifty runs, in as many models as it takes when every twentieth feature changes."""
    changed = max(1, features // 20)
    return ChangePlan(change, rows, features, changed, 50 // changed, minimum_effect)
