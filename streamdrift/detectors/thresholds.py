"""Thresholds: how large a statistic must be before chance gives it so rarely as a budget allows.

All are of the *noncentral* null, "the effect is at most the floor": a statistic is compared with what the largest
effect that does not matter would give, and not with no effect at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Reals = NDArray[np.floating]
"""Of either precision: what is computed has that of the arguments."""


_ALMOST_NONE = 1e-30


def normal_quantile(alpha: Floats) -> Floats:
    """The z with P(Z > z) = ``alpha`` for a standard normal Z.

    >>> [round(float(z), 3) for z in normal_quantile(np.array([0.025, 1e-7]))]
    [1.96, 5.199]
    """
    return np.asarray(-ndtri(alpha), dtype=np.float64)


def cornish_fisher(z: Reals, skewness: Reals) -> Reals:
    """The quantile at ``z`` of a standardised variable of some skewness: z + γ(z² − 1)/6, never below ``z``.

    A sum that leans to the other side would have a lower quantile; that is not made use of.

    Source: Cornish & Fisher 1938, "Moments and cumulants in the specification of distributions".
    """
    corrected: Reals = z + np.maximum(skewness, 0.0) * (z * z - 1.0) / 6.0
    return corrected


def noncentral_chi_square_quantile(df: Reals, noncentrality: Reals, z: Reals) -> Reals:
    """The quantile of χ² with ``df`` degrees of freedom at the probability at which a normal has ``z``.

    Sankaran's power transformation of the variable to a normal one. Against scipy: the tail beyond it is 0.97 to 1.00
    of the wanted one for large noncentrality, and smaller without any (at 1e-7, 0.29 for four degrees of freedom):
    it errs to the careful side.

    Source: Sankaran 1963, "Approximations to the non-central chi-square distribution".

    >>> round(float(noncentral_chi_square_quantile(np.array(4.0), np.array(50.0), np.array(5.199))), 1)  # scipy: 154.4
    154.8
    """
    a = df + noncentrality
    b = a + noncentrality
    c = b + noncentrality
    p = b / (a * a)
    h = 1.0 - a * c / (1.5 * b * b)
    # m·p/2 of the paper
    half = (h - 1.0) * (0.5 - 1.5 * h) * p
    inner = 1.0 + h * (p * (h - 1.0 - (2.0 - h) * half) + z * np.sqrt(p + p) * (1.0 + half))
    # exp and log take a fraction of the time of a power.
    quantile: Reals = a * np.exp(np.log(np.maximum(inner, _ALMOST_NONE)) / h)
    return quantile


@dataclass(frozen=True, slots=True)
class WeightedChiSquare:
    """Σ vᵢχ²₁ for independent χ²₁ of one degree of freedom each, as a scaled χ² that stands in for it far out.

    a·χ² of Σv/a degrees of freedom, a = Σv³/Σv². Far out a sum is as large as its largest terms make it, so a scale
    that leans to these is nearly right, between 1e-5 and 1e-7, for weights as they are in autocorrelated traffic:
    (19, 8, 4, 3, and 24 times 2) give a tail of 0.6 to 1.2 of the wanted one. The scale that Satterthwaite takes,
    Σv²/Σv, gives the variance its due and a tail of 46 to 550 times the wanted one.

    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components", for the idea.
    """

    scale: Reals
    freedom: Reals

    @classmethod
    def of(cls, total: Reals, squares: Reals, cubes: Reals) -> WeightedChiSquare:
        """From Σv, Σv² and Σv³; where there is nothing to sum, of one weight of 1."""
        total, squares, cubes = (np.where(total > 0, each, 1.0) for each in (total, squares, cubes))
        scale = cubes / squares
        return cls(scale.astype(np.float32), (total / scale).astype(np.float32))

    def at(self, places: NDArray[np.int64]) -> WeightedChiSquare:
        """At some places of the first axis."""
        return WeightedChiSquare(self.scale.take(places, axis=0), self.freedom.take(places, axis=0))

    def quantile(self, variance: Reals, floor: Reals | np.float32, z: Reals) -> Reals:
        """Of ``variance`` times the sum, shifted by an effect of ``floor``, at the probability of ``z``."""
        scale = self.scale * variance
        quantile: Reals = scale * noncentral_chi_square_quantile(self.freedom, floor / scale, z)
        return quantile
