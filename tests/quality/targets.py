"""What has to be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.quality.budgets import Exposure
from tests.quality.changes import SKEW, shift
from tests.quality.cost import Cost
from tests.quality.delays import PER_TICK, STREAMDRIFT, ChangePlan, Runs
from tests.quality.plans import SHAPES

RATIO: Final = 1.2
"""Of false alarms to the larger budget: the lower end of the interval must not be beyond it."""
WEEKLY_RATIO: Final = 2.0
"""Of the smaller one: the upper end must not be beyond it."""
LARGE_BASELINE: Final = 100_000
MOST_EVENTS: Final = {shift(0.25).name: 3_800, shift(0.5).name: 400}
"""Median delays with the default floor."""
WITHIN_REACH: Final = {shift(0.25).name: 1, shift(0.5).name: 1_000}
"""Most features with which anybody could: 0.25 sd are 0.109 beyond a floor of 0.141 sd, so with 100 features and one
false alarm a week at 100 events a second, ln(6e9)/(0.109²/2) = 3,800 events are the bound itself."""
MOSTLY: Final = 0.9
"""Share of runs in which a change of shape is to be found with a baseline of 10,000 rows. Its own noise is then as
large as that of the live events: of bimodal columns, the best test of the fourth contrast misses one in a hundred."""
OF_BOUND: Final = 1.6
STRETCH: Final = 1.3
TICK_MS: Final = {300: 1.0, 3_000: 10.0}
STATE_BYTES: Final = 3_000


@dataclass(frozen=True)
class Target:
    """One of them."""

    name: str
    found: str
    wanted: str
    met: bool


def of_budgets(exposures: Sequence[Exposure]) -> Iterator[Target]:
    """A null fails if it does with any baseline and any number of features."""
    for name in dict.fromkeys(exposure.plan.null.name for exposure in exposures):
        cells = [exposure for exposure in exposures if exposure.plan.null.name == name]
        most = worst(cells)
        low, high = most.interval
        late = sum(cell.never_calibrated for cell in cells)
        found = f"{most.ratio:.2f} [{low:.2f}, {high:.2f}]" + (f", {late} never calibrated" if late else "")
        yield Target(f"budget of 10 a day: {name}", found, f"lower end ≤ {RATIO}", low <= RATIO and not late)


def of_weekly(exposures: Sequence[Exposure]) -> Iterator[Target]:
    for cell in exposures:
        low, high = cell.interval
        name, found = f"budget of 1 a week: {cell.plan.name}", f"{cell.ratio:.2f} [{low:.2f}, {high:.2f}]"
        yield Target(name, found, f"upper end ≤ {WEEKLY_RATIO}", high <= WEEKLY_RATIO)


def worst(exposures: Sequence[Exposure]) -> Exposure:
    """That whose interval of the ratio begins highest: the one that speaks most against the promise."""
    return max(exposures, key=lambda exposure: (exposure.interval[0], exposure.ratio))


def of_delays(found: Sequence[tuple[ChangePlan, Runs, float]]) -> Iterator[Target]:
    """``found``: plans, what came of them, and their information bound."""
    for plan, runs, bound in found:
        name = f"{plan.change.name}, {plan.rows:,} rows, floor {plan.minimum_effect:g}, {plan.features:,} features"
        median = "never" if runs.median is None else f"{runs.median:,.0f} events"
        if plan.change.name in SHAPES:
            least = runs.count if plan.rows >= LARGE_BASELINE else MOSTLY * runs.count
            wanted = "all" if least == runs.count else f"≥ {MOSTLY:.0%}"
            yield Target(name, f"found {len(runs.delays)} of {runs.count}", wanted, len(runs.delays) >= least)
        elif plan.rows == LARGE_BASELINE and plan.minimum_effect == 0 and plan.features > 1:
            most, stretch = (factor * bound + 2 * PER_TICK for factor in (OF_BOUND, STRETCH))
            met = runs.median is not None and runs.median <= most
            yield Target(name, median, f"≤ {most:,.0f} (stretch {stretch:,.0f}; bound {bound:,.0f})", met)
        elif (
            plan.rows == LARGE_BASELINE
            and plan.minimum_effect > 0
            and plan.features <= WITHIN_REACH.get(plan.change.name, 0)
        ):
            limit = MOST_EVENTS[plan.change.name]
            yield Target(name, median, f"≤ {limit:,}", runs.median is not None and runs.median <= limit)


def of_sides(found: Mapping[str, Mapping[str, Runs]]) -> Iterator[Target]:
    """What is asked of streamdrift where it stands beside the others."""
    for change in SHAPES:
        if change in found:
            runs = found[change][STREAMDRIFT]
            here = f"found {len(runs.delays)} of {runs.count}"
            yield Target(f"{change}, one feature", here, "all", len(runs.delays) == runs.count)
    if SKEW.name in found:
        skewed, plain = found[SKEW.name][STREAMDRIFT], found[shift(0.5).name][STREAMDRIFT]
        reported = f"reported {skewed.skew_reported} of {skewed.count}"
        yield Target("skew of 0.5 sd from the first event", reported, "all", skewed.skew_reported == skewed.count)
        delays = (skewed.median, plain.median)
        met = delays[0] is not None and delays[1] is not None and delays[0] <= 2 * delays[1]
        further = " against ".join("never" if d is None else f"{d:,.0f}" for d in delays)
        yield Target("a further 0.5 sd, and without skew", further, "≤ twice", met and not skewed.missed)


def of_costs(costs: Sequence[Cost]) -> Iterator[Target]:
    for cost in costs:
        limit, spent = TICK_MS[cost.features], f"{cost.tick_ms:.2f} ms"
        yield Target(f"CPU of a tick, {cost.features:,} features", spent, f"≤ {limit:g} ms", cost.tick_ms <= limit)
        state = f"{cost.state_bytes:,.0f} bytes a feature"
        yield Target(f"state, {cost.features:,} features", state, f"≤ {STATE_BYTES:,}", cost.state_bytes <= STATE_BYTES)
