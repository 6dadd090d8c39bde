"""What the events of a month are drawn from: ten features and a score, and what may happen to them.

The same columns can be drawn value by value, for events as JSON and the training table, or tick by tick as counts on a
grid: 100,000 events a tick are then a few multinomial draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from streamdrift.baselines import Baseline
from streamdrift.grids import MISSING, SCORE, SPECIAL_SLOTS, UNSEEN, Column, Grid, Kind
from streamdrift.tables import baseline_from_columns

MODEL: Final = ("shop", "3")
POINTS: Final = 64
"""Quantiles of a bin from which the moments of its values are taken."""


class Frozen(Protocol):
    """The part of scipy's frozen distributions that is used."""

    def rvs(self, size: int, random_state: Generator) -> NDArray[Any]: ...

    def cdf(self, x: NDArray[np.float64]) -> NDArray[np.float64]: ...

    def ppf(self, q: NDArray[np.float64]) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """A numeric column: its distribution, and the share of events without a value."""

    values: Frozen
    missing: float = 0.0

    def drawn(self, rng: Generator, n: int) -> list[Any]:
        values = self.values.rvs(n, random_state=rng).astype(object)
        if self.missing:
            values[rng.random(n) < self.missing] = None
        return list(values)

    def shares(self, column: Column) -> NDArray[np.float64]:
        ends = np.concatenate(([0.0], self.values.cdf(np.asarray(column.edges)), [1.0]))
        return np.concatenate((np.diff(ends) * (1 - self.missing), self._specials()))

    def _specials(self) -> NDArray[np.float64]:
        specials = np.zeros(SPECIAL_SLOTS)
        specials[MISSING] = self.missing
        return specials

    def bin_moments(self, column: Column) -> NDArray[np.float64]:
        """Mean and mean square of what stands in each slot, in moment units. Shape (slots, 2)."""
        ends = np.concatenate(([0.0], self.values.cdf(np.asarray(column.edges)), [1.0]))
        middles = ends[:-1, None] + np.diff(ends)[:, None] * (np.arange(POINTS) + 0.5) / POINTS
        q = np.rint((self.values.ppf(np.clip(middles, 1e-12, 1 - 1e-12)) - column.center) / 2.0**column.unit_exponent)
        moments = np.column_stack((q.mean(axis=1), (q * q).mean(axis=1)))
        return np.concatenate((moments, np.zeros((SPECIAL_SLOTS, 2))))


@dataclass(frozen=True, slots=True)
class Categories:
    """A categorical column: the share of each category."""

    of: Mapping[str | bool, float]

    def drawn(self, rng: Generator, n: int) -> list[Any]:
        names = list(self.of)
        return [names[i] for i in rng.choice(len(names), n, p=list(self.of.values())).tolist()]

    def shares(self, column: Column) -> NDArray[np.float64]:
        by_name = {str(name).lower() if isinstance(name, bool) else name: share for name, share in self.of.items()}
        named = [by_name[name] for name in column.categories]
        specials = [0.0] * SPECIAL_SLOTS
        specials[UNSEEN] = 1.0 - sum(named) if len(named) < len(by_name) else 0.0  # too rare for a learned grid
        return np.array(named + specials)

    def bin_moments(self, column: Column) -> NDArray[np.float64]:
        return np.zeros((column.slots, 2))


Population = Mapping[str, Numbers | Categories]

USUAL: Final[Population] = {
    "amount": Numbers(stats.norm(40, 12)),
    "income": Numbers(stats.lognorm(0.9, scale=33)),
    "heavy": Numbers(stats.t(2)),
    "items": Numbers(stats.poisson(3)),
    "visits": Numbers(stats.poisson(40)),
    "ratio": Numbers(stats.uniform()),
    "age": Numbers(stats.norm(44, 15), missing=0.02),
    "member": Categories({True: 0.3, False: 0.7}),
    "country": Categories({"DE": 0.4, "FR": 0.3, "IT": 0.15, "PL": 0.1, "AT": 0.04, "LU": 0.01}),
    "device": Categories({"phone": 0.6, "desktop": 0.35, "tablet": 0.05}),
    SCORE: Numbers(stats.beta(2, 8)),
}

CHANGES: Final[Mapping[str, Population]] = {
    "amount up 0.5 sd": {"amount": Numbers(stats.norm(46, 12))},
    "age missing 2 → 20 %": {"age": Numbers(stats.norm(44, 15), missing=0.2)},
    "DE 40 → 20 %, PL 10 → 30 %": {
        "country": Categories({"DE": 0.2, "FR": 0.3, "IT": 0.15, "PL": 0.3, "AT": 0.04, "LU": 0.01})
    },
    "score up 0.6 sd": {SCORE: Numbers(stats.beta(3, 8))},
}
"""Large changes: PSI of about 0.25 and more."""


def columns(population: Population, rng: Generator, n: int) -> dict[str, list[Any]]:
    """``n`` events, column by column."""
    return {name: column.drawn(rng, n) for name, column in population.items()}


def baseline(seed: int, rows: int = 50_000) -> Baseline:
    """What the model was trained on: ``rows`` of the usual population."""
    model_id, version = MODEL
    found = baseline_from_columns(
        columns(USUAL, np.random.default_rng([seed, 0]), rows), model_id=model_id, model_version=version
    )
    if len(found.grid.columns) != len(USUAL):
        raise ValueError(f"not all columns are watched: {found.grid.unmonitored}")
    return found


class Counted:
    """A population on a grid: draws the summaries of many ticks at once."""

    def __init__(self, population: Population, grid: Grid) -> None:
        self.grid = grid
        self._population = population
        self._shares = [population[c.name].shares(c) for c in grid.columns]
        self._moments = [population[c.name].bin_moments(c) for c in grid.columns]

    def drawn(self, rng: Generator, events: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of shape (ticks, slots), and moments' limbs of shape (ticks, columns, 6), of ``events`` a tick.

        Of a bin's values the mean and the mean square are those of the distribution within the bin.
        """
        counts = [rng.multinomial(events, shares) for shares in self._shares]
        limbs = np.zeros((len(events), len(counts), 6), dtype=np.int64)
        for i, (counted, moments, column) in enumerate(zip(counts, self._moments, self.grid.columns, strict=True)):
            if column.kind is Kind.NUMERIC:
                total, squares = np.rint(counted @ moments).astype(np.int64).T
                for limb, part in enumerate((total, squares)):
                    limbs[:, i, 2 * limb] = part & 0xFFFFFFFF
                    limbs[:, i, 2 * limb + 1] = part >> 32
        return np.concatenate(counts, axis=1), limbs

    def scores(self, rng: Generator, n: int) -> NDArray[np.float64]:
        """Raw scores."""
        score = self._population[SCORE]
        assert isinstance(score, Numbers)
        return np.asarray(score.values.rvs(n, random_state=rng), dtype=np.float64)


def changed(change: str | None) -> Population:
    """The usual population, or what a change makes of it."""
    return {**USUAL, **(CHANGES[change] if change else {})}


def names_of(change: str) -> Sequence[str]:
    """The columns that a change concerns."""
    return list(CHANGES[change])
