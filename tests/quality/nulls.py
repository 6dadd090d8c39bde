"""Traffic in which nothing changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter

from streamdrift.windows import Reference
from tests.quality import laws
from tests.quality.laws import Law, Values, normal
from tests.quality.model import Counts, counted, expected

DAY_S: Final = 86_400
PHASES: Final = 96
"""Parts of a day in which the season stands still: quarters of an hour, as long as the ticks of seasonal traffic."""
BLOCK: Final = 100
"""Ticks that are drawn at a time."""
TOGETHER: Final = 100
"""Features of a training table that are drawn at a time: 100,000 rows of 1,000 are a gigabyte."""


@dataclass(frozen=True)
class Null:
    """Stationary traffic, or traffic that is the same every day.

    Values of one feature depend on those before them by ``feedback`` (the coefficient of an AR(1) process), those of
    one event on one another by ``shared`` (the share of their variance that all features have in common). Both are
    for a standard normal law, as is ``season``.
    """

    name: str
    law: Law = laws.NORMAL
    feedback: float = 0.0
    shared: float = 0.0
    season: float = 0.0
    """Amplitude of a daily sine that is added."""
    tick_s: float = 100.0
    per_tick: int = 100

    @property
    def independent(self) -> bool:
        return not (self.feedback or self.shared)

    def training(self, rng: Generator, features: int, rows: int) -> Iterator[Values]:
        """A training table, some features at a time: events in a row, of seasonal traffic a random sample."""
        for start in range(0, features, TOGETHER):
            size = min(TOGETHER, features - start)
            if self.season:
                yield self.law.draw(rng, (size, rows)) + self._shift(rng.integers(PHASES, size=rows))
            else:
                yield next(self.values(rng, size, rows))

    def values(self, rng: Generator, features: int, n: int) -> Iterator[Values]:
        """Events without end, ``n`` at a time. Shapes (features, n)."""
        last = self.law.draw(rng, (features, 1)) if self.feedback else np.zeros((features, 1))
        event = 0
        while True:
            x = self.law.draw(rng, (features, n))
            if self.shared:
                x = math.sqrt(self.shared) * self.law.draw(rng, (1, n)) + math.sqrt(1 - self.shared) * x
            if self.feedback:
                x *= math.sqrt(1 - self.feedback**2)
                x = lfilter([1.0], [1.0, -self.feedback], x, zi=self.feedback * last)[0]
                last = x[:, -1:]
            if self.season:
                x += self._shift((event + np.arange(n)) // self.per_tick)
            event += n
            yield x

    def counts(self, rng: Generator, reference: Reference) -> Iterator[Counts]:
        """The same, tick by tick, as counts of a window: drawn as such where values are independent."""
        features = len(reference.grid.columns)
        if not self.independent:
            for block in self.values(rng, features, BLOCK * self.per_tick):
                yield from counted(reference, block, BLOCK)
        kept = np.arange(int(np.diff(reference.offsets).max())) < np.diff(reference.offsets)[:, None]
        shares = [expected(reference, [law] * features) for law in self._of_the_day()]
        while True:
            for share in shares:
                yield rng.multinomial(self.per_tick, share)[kept]

    def _of_the_day(self) -> list[Law]:
        """The law of each tick of a day; a single one without a season."""
        if not self.season:
            return [self.law]
        return [normal(float(shift)) for shift in self._shift(np.arange(PHASES))]

    def _shift(self, phase: NDArray[np.int64]) -> Values:
        return np.asarray(self.season * np.sin(2 * math.pi / PHASES * phase), dtype=np.float64)


SEASON: Final = Null("daily season", season=0.5, tick_s=DAY_S / PHASES, per_tick=21)
"""2,016 events a day."""
NULLS: Final[Mapping[str, Null]] = {
    null.name: null
    for null in (
        Null("normal"),
        Null("N(1000, 250)", laws.NORMAL_250),
        Null("t(2)", laws.T2),
        Null("lognormal", laws.LOGNORMAL),
        Null("Poisson", laws.POISSON),
        Null("Bernoulli", laws.bernoulli(0.05)),
        Null("AR(0.5)", feedback=0.5),
        Null("AR(0.9)", feedback=0.9),
        SEASON,
        Null("correlated", shared=0.9),
    )
}
