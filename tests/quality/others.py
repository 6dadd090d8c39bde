"""What others do on the same streams, with default settings: River value by value, and tests of windows.

Each is a function of the law (what kind of values), a training table and a stream, and yields the numbers of events by
which it has alarmed. River's detectors remember their past themselves and need no training table. What cannot be given
to a detector as it is, is given in the way in which it can do most: missing values as whether a value is missing,
categories by number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from river import drift
from scipy import stats

from streamdrift.detectors import effects
from tests.quality.laws import Law, Values

WINDOW: Final = 1_000
"""Events of a window, which is compared with the training table."""
BINS: Final = 10

Other = Callable[[Law, Values, Values], Iterator[int]]


def heard(law: Law, values: Values) -> Values:
    """Values as numbers, all of them there."""
    return np.isnan(values).astype(np.float64) if any(np.isnan(atom) for atom in law.atoms) else values


def value_by_value(make: Callable[[], Any]) -> Other:
    def alarms(law: Law, _: Values, values: Values) -> Iterator[int]:
        detector = make()
        for number, value in enumerate(heard(law, values).tolist(), 1):
            detector.update(value)
            if detector.drift_detected:
                yield number

    return alarms


def kolmogorov_smirnov(level: float) -> Other:
    """P < ``level`` in scipy's two-sample test, as it computes it for large samples."""

    def alarms(law: Law, training: Values, values: Values) -> Iterator[int]:
        before = np.sort(heard(law, training))
        windows = _windows(heard(law, values))
        n = len(before) * WINDOW / (len(before) + WINDOW)
        for number, window in enumerate(windows, 1):
            if stats.kstwo.sf(distance(before, np.sort(window)), round(n)) < level:
                yield number * WINDOW

    return alarms


def distance(before: Values, now: Values) -> float:
    """Largest difference of two empirical distribution functions. Both sorted."""
    difference = 0.0
    for side in ("left", "right"):
        theirs = np.searchsorted(before, now, side=side) / len(before)
        ours = np.searchsorted(now, now, side=side) / len(now)
        difference = max(difference, float(np.abs(theirs - ours).max()))
    return difference


def population_stability(level: float) -> Other:
    """PSI of ``BINS`` bins of equal mass of the training table, or of its categories, with missing ones as one more."""

    def alarms(_: Law, training: Values, values: Values) -> Iterator[int]:
        known = np.unique(training[~np.isnan(training)])
        few = len(known) <= BINS
        edges = known if few else np.unique(np.nanquantile(training, np.arange(1, BINS) / BINS))
        before = _histogram(edges, training)
        for number, window in enumerate(_windows(values), 1):
            if effects.psi(before, _histogram(edges, window)) >= level:
                yield number * WINDOW

    return alarms


def _histogram(edges: Values, values: Values) -> np.ndarray[Any, np.dtype[np.int64]]:
    bins = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values))
    return np.bincount(bins, minlength=len(edges) + 2)


def _windows(values: Values) -> Values:
    return values[: len(values) // WINDOW * WINDOW].reshape(-1, WINDOW)


KSWIN: Final = "River KSWIN"
OTHERS: Final[Mapping[str, Other]] = {
    "River ADWIN": value_by_value(drift.ADWIN),
    "River PageHinkley": value_by_value(drift.PageHinkley),
    KSWIN: value_by_value(lambda: drift.KSWIN(seed=1)),
    "KS p < .05": kolmogorov_smirnov(0.05),
    "KS p < .001": kolmogorov_smirnov(0.001),
    "PSI ≥ 0.1": population_stability(0.1),
}
