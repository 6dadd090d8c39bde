"""Metrics of probabilities: ROC AUC, log loss, Brier score, expected calibration error.

ROC AUC comes from histograms. Pairs of a positive and a negative in one bin count as ties; had they been told apart,
each could have counted 0 or 1, so the error of binning is at most ½·Σ_b p_b·n_b / (P·N) over bins b, which stands in
``Estimate.error``. Its standard error is that of DeLong, DeLong & Clarke-Pearson 1988, "Comparing the areas under two
or more correlated receiver operating characteristic curves", whose placement values the same histograms give.

Expected calibration error is Σ_b |Σp − hits|_b / n over 16 equal bins: Naeini, Cooper & Hauskrecht 2015, "Obtaining
well calibrated probabilities using Bayesian binning"; with more than two classes of the confidence, as in Guo et al.
2017, "On calibration of modern neural networks", and of each class against the rest. Chance alone makes it positive:
perfect probabilities have about √(32/(π·n))·√(mean p(1 − p)), 0.05 at n = 1,000 and p around 0.5. An outcome moves it
by ±(p − hit), so its variance is (Brier score − ECE²) / n; near 0, where signs change by chance, that is too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.metrics.estimate import Estimate, Result, Undefined
from streamdrift.outcome_grids import CONFIDENCE
from streamdrift.summaries.outcomes import BRIER, LOG_LOSS, Outcomes

_NO_PROBABILITIES: Final = "no outcome has probabilities"
_FEWEST: Final = 2
"""Positives, and negatives, that a variance takes."""

OfClass = Callable[[Outcomes, str], Result]


def roc_auc_of_class(outcomes: Outcomes, name: str) -> Result:
    """Area under the ROC curve of one class against all others."""
    if name not in outcomes.grid.curves:
        return Undefined(f"{name} has no probabilities", 0)
    negatives, positives = outcomes.curves.histogram(outcomes.grid.curves.index(name))
    P, N = int(positives.sum()), int(negatives.sum())
    if P <= 0 or N <= 0:
        lacking = f"is {name}" if P <= 0 else f"is anything but {name}"
        return Undefined(f"no outcome with probabilities {lacking}" if P + N > 0 else _NO_PROBABILITIES, P + N)
    # Twice the negatives that a positive of each bin beats, ties half; and the positives that beat a negative.
    beaten = _exact(2 * np.cumsum(negatives) - negatives)
    beating = _exact(2 * P - 2 * np.cumsum(positives) + positives)
    p, n = _exact(positives), _exact(negatives)
    pairs = 2 * P * N
    standard_error = None
    if min(P, N) >= _FEWEST:
        of_positives = _spread(p, beaten, P) / (4 * N * N)
        of_negatives = _spread(n, beating, N) / (4 * P * P)
        standard_error = math.sqrt(of_positives + of_negatives)
    return Estimate((p * beaten).sum() / pairs, standard_error, P + N, (p * n).sum() / pairs)


def _exact(counts: NDArray[np.int64]) -> NDArray[np.object_]:
    """As Python's integers: pairs of millions and their squares are beyond 64 bits. Shape (bins,)."""
    return counts.astype(np.object_)


def _spread(counts: NDArray[np.object_], placements: NDArray[np.object_], n: int) -> float:
    """Variance of the mean of ``n`` integer placements, of which there are ``counts`` of each."""
    total, squares = (counts * placements).sum(), (counts * placements * placements).sum()
    spread: float = (n * squares - total * total) / (n * n * (n - 1))
    return spread


def calibration_error_of_class(outcomes: Outcomes, name: str) -> Result:
    """Expected calibration error of the probability of one class, or of the confidence."""
    if name not in outcomes.grid.curves:
        return Undefined(f"{name} has no probabilities", 0)
    curve = outcomes.grid.curves.index(name)
    rows, sums, hits = outcomes.curves.calibration(curve)
    n = int(rows.sum())
    if n <= 0:
        return Undefined(_NO_PROBABILITIES, 0)
    value = float(np.abs(sums - hits).sum()) / n
    spread = outcomes.curves.squared_error(curve) / n - value * value
    return Estimate(value, math.sqrt(max(0.0, spread) / n), n)


def log_loss(outcomes: Outcomes) -> Result:
    """Mean of −ln p(true class), p kept 2.2e-16 away from 0 and 1 as in scikit-learn."""
    return _mean(outcomes, LOG_LOSS)


def brier(outcomes: Outcomes) -> Result:
    """Mean squared error of the probabilities: of the positive class, or summed over classes."""
    return _mean(outcomes, BRIER)


def of_positive(metric: OfClass) -> Callable[[Outcomes], Result]:
    """The metric of a binary task's positive class."""
    return lambda outcomes: metric(outcomes, outcomes.grid.classes[1])


def calibration_error(outcomes: Outcomes) -> Result:
    """Expected calibration error of the positive class, or of the confidence where there are more classes."""
    return calibration_error_of_class(outcomes, outcomes.grid.curves[-1] if outcomes.grid.curves else CONFIDENCE)


def macro(metric: OfClass) -> Callable[[Outcomes], Result]:
    """Mean over the grid's classes, one against the rest; undefined where one of them is.

    The classes' errors are not independent, and their covariance is not counted: the standard error is the mean of
    theirs, which no covariance can exceed.
    """
    return lambda outcomes: _over_classes(metric, outcomes, [1.0] * len(outcomes.grid.classes))


def weighted(metric: OfClass) -> Callable[[Outcomes], Result]:
    """As ``macro``, over the classes that have outcomes and by their number; what chance does to it is not counted."""

    def average(outcomes: Outcomes) -> Result:
        hits = [outcomes.curves.histogram(curve)[1] for curve in range(len(outcomes.grid.classes))]
        return _over_classes(metric, outcomes, [float(of_class.sum()) for of_class in hits])

    return average


def _over_classes(metric: OfClass, outcomes: Outcomes, weights: Sequence[float]) -> Result:
    estimates, counted = [], [weight for weight in weights if weight > 0]
    for name, weight in zip(outcomes.grid.classes, weights, strict=True):
        if weight > 0:
            result = metric(outcomes, name)
            if isinstance(result, Undefined):
                return result
            estimates.append(result)
    if not estimates:
        return Undefined(_NO_PROBABILITIES, 0)
    errors = [estimate.standard_error for estimate in estimates if estimate.standard_error is not None]
    return Estimate(
        _mean_of([estimate.value for estimate in estimates], counted),
        _mean_of(errors, counted) if len(errors) == len(estimates) else None,
        estimates[0].n,
        _mean_of([estimate.error for estimate in estimates], counted),
    )


def _mean_of(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights)


def _mean(outcomes: Outcomes, loss: str) -> Result:
    n = outcomes.losses.count(loss)
    if n <= 0:
        return Undefined(_NO_PROBABILITIES, 0)
    return Estimate(outcomes.losses.mean(loss), outcomes.losses.standard_error(loss), n)
