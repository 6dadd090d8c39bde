"""Metrics of predicted numbers: mean absolute, root mean squared and percentage error, bias, R².

Errors are prediction − outcome. Standard errors of means are sd/√n; those of RMSE and R² come from the delta method:
an outcome with error e and distance z from the mean outcome moves RMSE by (e² − MSE) / (2·RMSE·n), and R² = 1 − A/B,
with A = MSE and B the variance of the outcomes, by (A·z²/B − e²) / (B·n).

Source of the method: van der Vaart 1998, "Asymptotic Statistics", chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Final

from streamdrift.metrics.estimate import Estimate, Result, Undefined
from streamdrift.summaries.outcomes import (
    ABSOLUTE,
    ERROR,
    PERCENTAGE,
    SQUARED,
    SQUARED_Z,
    SQUARED_Z2,
    Z2,
    Z3,
    Outcomes,
    Z,
)

_FEWEST: Final = 2
"""Outcomes that a variance takes."""


def _of_errors(metric: Callable[[Outcomes], Result]) -> Callable[[Outcomes], Result]:
    """The metric where there is an error at all."""

    @wraps(metric)
    def guarded(outcomes: Outcomes) -> Result:
        return metric(outcomes) if outcomes.losses.count(ERROR) > 0 else Undefined("no outcome has an error", 0)

    return guarded


@_of_errors
def mean_absolute_error(outcomes: Outcomes) -> Result:
    """Mean of |e|, in the outcomes' unit."""
    return _mean(outcomes, ABSOLUTE, outcomes.grid.scale)


@_of_errors
def bias(outcomes: Outcomes) -> Result:
    """Mean of e, in the outcomes' unit: above 0 where the model predicts too much."""
    return _mean(outcomes, ERROR, outcomes.grid.scale)


@_of_errors
def mean_absolute_percentage_error(outcomes: Outcomes) -> Result:
    """Mean of |e/y|, 0.1 for ten per cent; of the outcomes that are not 0, which ``n`` counts.

    scikit-learn divides by 2.2e-16 where the outcome is 0, and so gives a number near 10¹⁵ as soon as there is one.
    """
    if outcomes.losses.count(PERCENTAGE) <= 0:
        return Undefined("all outcomes are 0", outcomes.losses.count(ERROR))
    return _mean(outcomes, PERCENTAGE, 1.0)


@_of_errors
def root_mean_squared_error(outcomes: Outcomes) -> Result:
    """√(mean of e²), in the outcomes' unit."""
    losses, scale = outcomes.losses, outcomes.grid.scale
    root = math.sqrt(losses.mean_square(ERROR))
    error = losses.standard_error(SQUARED) / (2 * root) if root else 0.0
    return Estimate(scale * root, scale * error, losses.count(ERROR))


@_of_errors
def r_squared(outcomes: Outcomes) -> Result:
    """Share of the outcomes' variance that the predictions explain; below 0 if their mean would do better.

    Undefined where all outcomes are equal; scikit-learn puts 1 or 0 there, for the sake of its grid search.
    """
    losses = outcomes.losses
    n, A, B = losses.count(ERROR), losses.mean_square(ERROR), losses.variance(Z)
    if n < _FEWEST or B <= 0:
        return Undefined("fewer than two outcomes" if n < _FEWEST else "all outcomes are equal", n)
    mean, z2, z3, z4 = losses.mean(Z), losses.mean(Z2), losses.mean(Z3), losses.mean_square(Z2)
    fourth = z4 - 4 * mean * z3 + 6 * mean**2 * z2 - 3 * mean**4
    mixed = losses.mean(SQUARED_Z2) - 2 * mean * losses.mean(SQUARED_Z) + mean**2 * losses.mean(SQUARED)
    variance = (losses.mean_square(SQUARED) - 2 * A * mixed / B + A**2 * fourth / B**2) / B**2
    return Estimate(1 - A / B, math.sqrt(max(0.0, variance) / n), n)


def _mean(outcomes: Outcomes, loss: str, unit: float) -> Estimate:
    losses = outcomes.losses
    return Estimate(unit * losses.mean(loss), unit * losses.standard_error(loss), losses.count(loss))
