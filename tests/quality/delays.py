"""How long changes take to be found, and what is not found.

A run is one feature that changes. It has a stretch of ``WATCHED`` events before its change: with an alarm in that
stretch, or one that is still up when it begins, the run finds nothing whatever happens later, for everybody alike.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.random import Generator

from tests.quality import oracle
from tests.quality.changes import WATCHED, Change
from tests.quality.laws import Values, log_likelihood_ratio
from tests.quality.model import Asked, Model, baseline_of, counted
from tests.quality.nulls import TOGETHER
from tests.quality.others import KSWIN, OTHERS

PER_TICK: Final = 100
TICK_S: Final = 1.0
"""A hundred events a second."""
PER_DAY: Final = 1 / 7
"""One false alarm a week."""
BLOCK: Final = 5_000
"""Events that are drawn at a time."""
STREAMDRIFT: Final = "streamdrift"
ORACLE: Final = "oracle CUSUM"
SLOW: Final = 10
"""KSWIN takes five hundred times as long as the others: it has one run in so many."""
WEEK_EVENTS: Final = 7 * 86_400 * PER_TICK


@dataclass
class Runs:
    """What one detector found in some runs of a change."""

    delays: list[int] = field(default_factory=list)
    """Events from the change to the alarm."""
    early: int = 0
    """Runs with an alarm before the change."""
    missed: int = 0
    """Runs without any."""
    again: int = 0
    """Alarms that began anew while the change lasted: more than one incident for one change."""
    skew_reported: int = 0
    """Runs with an alarm before the change, which there had to be: live traffic was off its baseline from the start."""

    @property
    def count(self) -> int:
        return len(self.delays) + self.early + self.missed

    @property
    def median(self) -> float | None:
        return statistics.median(self.delays) if self.delays else None

    def add(self, delay: int | None, *, early: bool) -> None:
        if early:
            self.early += 1
        elif delay is None:
            self.missed += 1
        else:
            self.delays.append(delay)


@dataclass(frozen=True)
class ChangePlan:
    """Models of so many features, of which some change at the same event: each of these is a run."""

    change: Change
    rows: int
    features: int
    changed: int
    models: int
    minimum_effect: float

    def __post_init__(self) -> None:
        if self.changed > self.features:
            raise ValueError("more features change than there are")


def run(plan: ChangePlan, rng: Generator) -> Runs:
    """All runs of a plan, by streamdrift, each model until all that changes is found."""
    runs, change = Runs(), plan.change
    for _ in range(plan.models):
        sizes = [min(TOGETHER, plan.features - start) for start in range(0, plan.features, TOGETHER)]
        tables = (change.baseline.draw(rng, (size, plan.rows)) for size in sizes)
        follow(plan, tables, change.stream(rng, plan.features, plan.changed, BLOCK), runs)
    return runs


def follow(
    plan: ChangePlan, tables: Iterable[Values], stream: Iterable[Values], runs: Runs, *, to_the_end: bool = False
) -> None:
    """One model, from its training table through the stream, or until all that changes is found."""
    change, changed = plan.change, set(range(plan.changed))
    model = Model(baseline_of(change.baseline, tables), TICK_S, Asked(PER_DAY, plan.minimum_effect))
    seen, event = _Seen(is_skewed=change.training is not None), -change.earlier
    for block in stream:
        for counts in counted(model.reference, block, BLOCK // PER_TICK):
            before = set(model.alarms)
            model.close(counts)
            event += PER_TICK
            seen.take(event, model.columns_in_alarm, {column for _, column in model.alarms - before})
        if event > 0 and not to_the_end and changed <= seen.early | seen.found.keys():
            break
    for column in changed:
        runs.add(seen.found.get(column), early=column in seen.early)
    runs.again += sum(seen.again[column] for column in changed - seen.early)
    runs.skew_reported += len(changed & seen.skewed)


@dataclass
class _Seen:
    """Which columns of one model have been in alarm."""

    is_skewed: bool
    """Whether all columns should be, before the change."""
    skewed: set[int] = field(default_factory=set)
    early: set[int] = field(default_factory=set)
    found: dict[int, int] = field(default_factory=dict)
    """Event at which an alarm began after the change, the first one."""
    again: Counter[int] = field(default_factory=Counter)
    """How many began later."""

    def take(self, event: int, in_alarm: set[int], started: set[int]) -> None:
        """Take the end of a tick: which columns are in alarm, and which ones' alarms began now."""
        if event > 0:
            self.again.update(started & self.found.keys())
            self.found = dict.fromkeys(started, event) | self.found
        elif self.is_skewed:
            self.skewed |= in_alarm
            self.early |= started if event > -WATCHED else set()
        elif event >= -WATCHED:
            self.early |= in_alarm


def side_by_side(change: Change, rows: int, count: int, rng: Generator) -> Mapping[str, Runs]:
    """Models of one feature, everybody on the same streams: streamdrift, the others, and the oracle."""
    found = {name: Runs() for name in (STREAMDRIFT, *OTHERS, ORACLE)}
    plan = ChangePlan(change, rows, 1, 1, count, 0.02)
    best = oracle.threshold(change.before, change.after, rng) if change.before is not change.after else None
    for number in range(count):
        training = change.baseline.draw(rng, (1, rows))
        blocks = list(change.stream(rng, 1, 1, BLOCK))
        follow(plan, [training], blocks, found[STREAMDRIFT], to_the_end=True)
        values = np.concatenate(blocks, axis=1)[0]
        for name, alarms in OTHERS.items():
            if name == KSWIN and number % SLOW:
                continue
            left_out = change.earlier - WATCHED if name == KSWIN else 0  # it remembers 100 values
            heard = alarms(change.baseline, training[0], values[left_out:])
            _judge(found[name], change, (left_out + event for event in heard))
        if best is not None:
            since = next(oracle.alarms(change.before, change.after, best, values[change.earlier :]), None)
            found[ORACLE].add(since, early=False)
    return found


def _judge(runs: Runs, change: Change, alarms: Iterator[int]) -> None:
    """What the first alarm since ``WATCHED`` events before the change makes of a run."""
    first = next((number for number in alarms if number > change.earlier - WATCHED), None)
    early = first is not None and first <= change.earlier
    runs.add(None if first is None else first - change.earlier, early=early)


def bound(change: Change, features: int, rng: Generator) -> float:
    """Events without which nobody can find a change with so few false alarms: ln(features x horizon) / KL.

    The horizon is the number of events in which one false alarm is allowed, KL what an event tells on average. This is
    Lorden's bound (1971, "Procedures for reacting to a change in distribution") with a false alarm rate that is shared
    by the features.
    """
    values = change.after.draw(rng, (200_000,))
    told = float(log_likelihood_ratio(change.before, change.after, values).mean())
    return float(np.log(features * WEEK_EVENTS) / told)
