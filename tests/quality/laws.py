"""What the values of a feature are like: distributions, and values that come up again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from streamdrift.grids import MISSING, UNSEEN, Column, Kind, category_name

Values = NDArray[np.float64]
"""Numbers, or numbers that stand for categories; NaN where a value is missing."""
CERTAIN: Final = 50.0
"""Largest log likelihood ratio: of a value that only one of two laws can give."""


@dataclass(frozen=True)
class Law:
    """A mixture of distributions of scipy (``parts``, with their weights) and of single values (``atoms``)."""

    parts: tuple[tuple[float, Any], ...] = ()
    atoms: Mapping[float, float] = field(default_factory=dict)
    """Probability by value; None stands for a missing one, NaN here."""
    categorical: bool = False

    def draw(self, rng: Generator, shape: tuple[int, ...]) -> Values:
        if len(self.parts) == 1 and not self.atoms:
            return np.asarray(self.parts[0][1].rvs(size=shape, random_state=rng), dtype=np.float64)
        values = np.empty(shape)
        weights = [weight for weight, _ in self.parts] + list(self.atoms.values())
        part = np.searchsorted(np.cumsum(weights)[:-1], rng.random(shape), side="right")
        for i, (_, distribution) in enumerate(self.parts):
            chosen = part == i
            values[chosen] = distribution.rvs(size=int(chosen.sum()), random_state=rng)
        for i, value in enumerate(self.atoms, len(self.parts)):
            values[part == i] = value
        return values

    def shares(self, column: Column) -> Values:
        """Probability of each slot of a column. Shape (column.slots,)."""
        shares = np.zeros(column.slots)
        if column.kind is Kind.NUMERIC:
            edges = np.asarray(column.edges)
            below = sum((weight * part.cdf(edges) for weight, part in self.parts), np.zeros(len(edges)))
            total = sum(weight for weight, _ in self.parts)
            shares[: column.bins] = np.diff(np.concatenate(([0.0], below, [total])))
        for value, probability in self.atoms.items():
            shares[int(slots(column, np.array([value]))[0])] += probability
        return np.asarray(np.clip(shares, 0.0, None) / shares.sum(), dtype=np.float64)

    def names(self, values: Values) -> NDArray[Any]:
        """Values as a training table or an event holds them: categories by their names."""
        return np.array([category_name(v) for v in values.tolist()], dtype=object) if self.categorical else values


def slots(column: Column, values: Values) -> NDArray[np.int64]:
    """Number of each value's slot in its column. Shape (n,)."""
    if column.kind is Kind.NUMERIC:
        found = np.searchsorted(np.asarray(column.edges), values)  # side left: edges[i - 1] < x <= edges[i]
        missing = np.isnan(values)
        if missing.any():
            found[missing] = column.bins + MISSING
        return found
    found = np.full(len(values), column.bins + UNSEEN)
    for i, name in enumerate(column.categories):
        found[values == float(name)] = i
    found[np.isnan(values)] = column.bins + MISSING
    return found


def log_likelihood_ratio(before: Law, after: Law, values: Values) -> Values:
    """Logarithm of how much more probable each value is under ``after``, within ± ``CERTAIN``. Shape (n,)."""
    densities = []
    for law in (before, after):
        density = sum((weight * part.pdf(values) for weight, part in law.parts), np.zeros(len(values)))
        for atom in {*before.atoms, *after.atoms}:
            density[(values == atom) | (np.isnan(values) & np.isnan(atom))] = law.atoms.get(atom, 0.0)
        densities.append(density)
    with np.errstate(divide="ignore"):
        ratio = np.log(densities[1]) - np.log(densities[0])
    return np.asarray(np.clip(ratio, -CERTAIN, CERTAIN), dtype=np.float64)


# ---- the laws that streams are made of ------------------------------------------------------------------------------

MISSING_VALUE: Final = float("nan")
"""One object: as a key it is found again, which another NaN is not."""


def normal(mean: float = 0.0, sd: float = 1.0) -> Law:
    return Law(((1.0, stats.norm(mean, sd)),))


NORMAL: Final = normal()
NORMAL_250: Final = normal(1000, 250)
T2: Final = Law(((1.0, stats.t(2)),))
LOGNORMAL: Final = Law(((1.0, stats.lognorm(1.0)),))
POISSON: Final = Law(((1.0, stats.poisson(4)),))
T3: Final = Law(((1.0, stats.t(3, scale=3**-0.5)),))
"""Mean 0 and variance 1, as a standard normal has."""
BIMODAL: Final = Law(((0.5, stats.norm(-0.8, 0.6)), (0.5, stats.norm(0.8, 0.6))))
"""Likewise: 0.8² + 0.6² = 1."""
EXPONENTIAL: Final = Law(((1.0, stats.expon(-1.0)),))
"""Likewise, and nothing below -1."""
STUCK: Final = Law(((0.95, stats.norm()),), {0.5: 0.05})


def bernoulli(p: float) -> Law:
    return Law(atoms={0.0: 1 - p, 1.0: p})


def with_missing(share: float) -> Law:
    return Law(((1 - share, stats.norm()),), {MISSING_VALUE: share})


def categories(*shares: float) -> Law:
    return Law(atoms=dict(enumerate(shares)), categorical=True)
