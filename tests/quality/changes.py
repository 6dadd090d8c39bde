"""Streams in which something changes, at an event that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from tests.quality import laws
from tests.quality.laws import Law, Values, normal

WATCHED: Final = 10_000
"""Events before the change in which an alarm is a false one, and the run finds nothing."""
BEFORE: Final = 20_000 + WATCHED
"""Events before the change: those of a default warm-up come first."""
AFTER: Final = 20_000
"""Events after the change."""
PULSE: Final = 5_000
PAUSE: Final = 30_000

Shares = NDArray[np.float64]
Profile = Callable[[NDArray[np.int64]], Shares]
"""Probability that an event follows the law of afterwards, by its number since the change (the first one is 0)."""


def at_once(event: NDArray[np.int64]) -> Shares:
    return (event >= 0).astype(np.float64)


def gradually(event: NDArray[np.int64]) -> Shares:
    """All events after ``WATCHED`` of them."""
    return np.clip(event / WATCHED, 0.0, 1.0)


def again(event: NDArray[np.int64]) -> Shares:
    """Once for ``PULSE`` events, and after a ``PAUSE`` for good: this is the change that is to be found."""
    first = (event >= -PAUSE - PULSE) & (event < -PAUSE)
    return (first | (event >= 0)).astype(np.float64)


@dataclass(frozen=True)
class Change:
    """From one law to another."""

    name: str
    after: Law
    before: Law = laws.NORMAL
    training: Law | None = None
    """The law of the baseline, if it is not ``before``: then there is training-serving skew."""
    profile: Profile = at_once
    earlier: int = BEFORE
    """Events before the change."""

    @property
    def baseline(self) -> Law:
        return self.training or self.before

    def values(self, rng: Generator, start: int, shape: tuple[int, int]) -> Values:
        """Events from number ``start`` on, counted from the change. Shape (features, events)."""
        share = self.profile(start + np.arange(shape[1]))
        before = self.before.draw(rng, shape)
        if not share.any():
            return before
        after = self.after.draw(rng, shape)
        return after if share.all() else np.where(rng.random(shape) < share, after, before)

    def stream(self, rng: Generator, features: int, changed: int, block: int) -> Iterator[Values]:
        """The whole stream, in which the first of the features change. Shapes (features, block)."""
        unchanged = Change("", self.before, self.before)
        for start in range(-self.earlier, AFTER, block):
            values = self.values(rng, start, (changed, block))
            yield np.vstack((values, unchanged.values(rng, start, (features - changed, block))))


def shift(sd: float) -> Change:
    return Change(f"mean +{sd:g} sd", normal(sd))


NO_CHANGE: Final = Change("no change", laws.NORMAL)
SKEW: Final = Change("skew 0.5 sd, then +0.5 sd", normal(1.0), before=normal(0.5), training=laws.NORMAL)
VARIANCE: Final = Change("variance x1.5", normal(0.0, 1.5**0.5))
CHANGES: Final[Mapping[str, Change]] = {
    change.name: change
    for change in (
        NO_CHANGE,
        shift(0.1),
        shift(0.25),
        shift(0.5),
        shift(1.0),
        VARIANCE,
        Change("t3, same mean and variance", laws.T3),
        Change("bimodal, same mean and variance", laws.BIMODAL),
        Change("exponential, same mean and variance", laws.EXPONENTIAL),
        Change("5 % stuck at one value", laws.STUCK),
        Change("missing 1 → 3 %", laws.with_missing(0.03), laws.with_missing(0.01)),
        Change(
            "new category at 2 %",
            laws.categories(0.392, 0.294, 0.196, 0.098, 0.02),
            laws.categories(0.4, 0.3, 0.2, 0.1),
        ),
        Change("lognormal x1.25", Law(((1.0, stats.lognorm(1.0, scale=1.25)),)), laws.LOGNORMAL),
        Change("Bernoulli 0.05 → 0.10", laws.bernoulli(0.1), laws.bernoulli(0.05)),
        Change("gradual +0.5 sd", normal(0.5), profile=gradually),
        Change("recurring +0.5 sd", normal(0.5), profile=again, earlier=BEFORE + PULSE + PAUSE),
        SKEW,
    )
}
