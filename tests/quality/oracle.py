"""What can be done at best: Page's CUSUM, which knows the law before and after the change.

W ← max(0, W + ln f₁(x)/f₀(x)); an alarm once W ≥ h, for an average of 100,000 events between false ones. No
procedure with as few false alarms has a shorter worst delay (Moustakides 1986, "Optimal stopping times for detecting
changes in distributions"). Nobody has it: it knows what is to come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from tests.quality.laws import Law, Values, log_likelihood_ratio

ARL: Final = 100_000
"""Events between two false alarms, on average."""
_SIMULATED: Final = 1_000_000
_RARE: Final = 1_000
"""Excursions whose rate is measured; from there on it falls like exp(-h), as for any likelihood ratio."""


def threshold(before: Law, after: Law, rng: np.random.Generator) -> float:
    """The h for which W, which starts anew after an alarm, reaches it once in ``ARL`` events of ``before``."""
    evidence = log_likelihood_ratio(before, after, before.draw(rng, (_SIMULATED,)))
    walk = np.cumsum(evidence)
    lowest = np.minimum.accumulate(np.minimum(walk, 0.0))
    above = walk - lowest
    starts = np.flatnonzero(np.diff(lowest, prepend=0.0) < 0)
    excursions = np.maximum.reduceat(above, starts) if len(starts) else above
    highest = np.sort(excursions[excursions > 0])
    if len(highest) == 0:
        return 1e-9  # nothing of before ever looks like after: the first value that does is an alarm
    known = min(_RARE, len(highest))
    return float(highest[-known] + math.log(known * ARL / _SIMULATED))


def alarms(before: Law, after: Law, at: float, values: Values) -> Iterator[int]:
    """Numbers of events by which W has reached ``at``."""
    w = 0.0
    for number, evidence in enumerate(log_likelihood_ratio(before, after, values).tolist(), 1):
        w = max(0.0, w + evidence)
        if w >= at:
            yield number
            w = 0.0
