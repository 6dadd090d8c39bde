"""Coverage: what became of predictions and of labels, and how long labels took.

::

    prediction ──┬─ sampled out     the join had no room for it: no label can reach it
                 ├─ labelled ──── revised, as often as a later label replaces the one before
                 ├─ expired         the label delay is over
                 └─ pending         none of these yet: what is left of the predictions

    label ───────┬─ labels or revises its prediction
                 ├─ duplicate       says again what is known
                 ├─ unheard         of a prediction that is sampled out
                 └─ orphan          of a prediction that nobody saw, or that expired
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.summaries.tally import Tally
from streamdrift.ticks import MICROSECONDS


class Fate(IntEnum):
    """What is counted; the values stand in records."""

    PREDICTED = 0
    SAMPLED_OUT = 1
    LABELLED = 2
    EXPIRED = 3
    REVISED = 4
    DUPLICATE = 5
    ORPHAN = 6
    REPEATED = 7
    """A prediction event that came again: it is no second prediction."""
    UNHEARD = 8
    """A label whose prediction is sampled out: no orphan, but of no use."""


DELAY_EDGES_US: Final = np.array([isqrt(MICROSECONDS**2 << k) for k in range(51)], dtype=np.int64)
"""Upper ends of the bins of label delays: one second, and each √2 times the one before, up to more than a year."""
DELAY_BINS: Final = len(DELAY_EDGES_US) + 1


@dataclass(frozen=True, slots=True)
class Coverage:
    """Counts of fates and of label delays. A commutative group, as outcomes are."""

    fates: tuple[int, ...]
    """By ``Fate``."""
    delays: Tally
    """Labels by the time since their prediction; bin i holds DELAY_EDGES_US[i-1] < delay <= DELAY_EDGES_US[i]."""

    @classmethod
    def empty(cls) -> Coverage:
        return cls((0,) * len(Fate), Tally.empty())

    @classmethod
    def of(cls, counts: Mapping[Fate, int], delays_us: NDArray[np.int64] | None = None) -> Coverage:
        """So many of each fate, and the delays of labels that arrived, in microseconds."""
        bins = np.empty(0, np.int64) if delays_us is None else np.searchsorted(DELAY_EDGES_US, delays_us)
        return cls(tuple(counts.get(fate, 0) for fate in Fate), Tally.of(bins))

    def __add__(self, other: Coverage) -> Coverage:
        fates = tuple(a + b for a, b in zip(self.fates, other.fates, strict=True))
        return Coverage(fates, self.delays + other.delays)

    def __neg__(self) -> Coverage:
        return Coverage(tuple(-n for n in self.fates), -self.delays)

    def __sub__(self, other: Coverage) -> Coverage:
        return self + -other

    def __getitem__(self, fate: Fate) -> int:
        return self.fates[fate]

    @property
    def pending(self) -> int:
        """Predictions that a label may still reach."""
        return self[Fate.PREDICTED] - self[Fate.SAMPLED_OUT] - self[Fate.LABELLED] - self[Fate.EXPIRED]

    @property
    def ratio(self) -> float | None:
        """Share of all predictions that are labelled; None without predictions."""
        return self[Fate.LABELLED] / self[Fate.PREDICTED] if self[Fate.PREDICTED] > 0 else None

    def delay_quantile_us(self, share: float) -> int | None:
        """The delay that this share of the labels did not exceed, at most √2 times too long; None without labels.

        Of labels that took longer than all bins, the last end is said.
        """
        counts = self.delays.dense(0, DELAY_BINS)
        if counts.sum() <= 0:
            return None
        place = int(np.searchsorted(np.cumsum(counts), max(1, np.ceil(share * counts.sum()))))
        return int(DELAY_EDGES_US[min(place, len(DELAY_EDGES_US) - 1)])
