"""How the shape of a distribution of numbers changed, in words, where its mean does not tell.

::

    before        ▁▃▆█▆▃▁      its spread grew        ▂▄▅▆▅▄▂      fewer in the middle    ▁▅▇▄▇▅▁
    one value     ▁▃▆█▆█▁      its spread shrank      ▁▂▆█▆▂▁      heavier tails          ▂▂▅█▅▂▂
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

SPREAD_GREW: Final = 1.15
SPREAD_SHRANK: Final = 0.87
"""Ratios of standard deviations that a person should hear of."""
CERTAIN: Final = 5.0
"""Standard deviations by which one bin must have gained to be named."""
LIKELY: Final = 3.0
"""Those by which a third of the distribution must have changed."""
MIDDLE: Final = (0.4, 0.6)
SHOULDERS: Final = (0.1, 0.9)
"""Parts of the baseline, as cumulated shares: what is beyond the shoulders are its ends."""


def reshaped(
    before: NDArray[np.int64], after: NDArray[np.int64], edges: NDArray[np.float64], sds: tuple[float, float]
) -> str:
    """What happened to the shape; empty where nothing simple did. ``sds``: standard deviation before and after.

    Counts of shape (bins,), inner edges of shape (bins - 1,).

    >>> before = np.full(8, 1_000)
    >>> after = before + np.array([0, 0, 0, 400, 0, 0, 0, 0])
    >>> reshaped(before, after, np.arange(1.0, 8.0), (2.0, 2.0))
    '17 % of its values lie between 3 and 4 (12 % before), as if one had stuck'
    >>> reshaped(before, before, np.arange(1.0, 8.0), (2.0, 3.0))
    'its spread grew 1.5 times (sd 2 → 3)'
    """
    n0, n = int(before.sum()), int(after.sum())
    if not n0 or not n:
        return ""
    p, q = before / n0, after / n
    noise = np.sqrt(np.maximum(p, 0.5 / n0) * (1 / n0 + 1 / n))
    return _stuck(p, q, noise, edges) or _spread(*sds) or _middle(p, q, 1 / n0 + 1 / n)


def _stuck(
    p: NDArray[np.float64], q: NDArray[np.float64], noise: NDArray[np.float64], edges: NDArray[np.float64]
) -> str:
    """One bin gained, and no other gained half as surely."""
    gains = (q - p) / noise
    top = int(gains.argmax())
    if gains[top] < CERTAIN or (np.delete(gains, top) > gains[top] / 2).any() or not 0 < top < len(edges):
        return ""
    where = f"between {edges[top - 1]:.4g} and {edges[top]:.4g}"
    return f"{100 * q[top]:.2g} % of its values lie {where} ({100 * p[top]:.2g} % before), as if one had stuck"


def _spread(before: float, after: float) -> str:
    if not (before > 0 and after > 0 and math.isfinite(after / before)):
        return ""
    ratio = after / before
    if SPREAD_SHRANK < ratio < SPREAD_GREW:
        return ""
    how = f"grew {ratio:.2g} times" if ratio > 1 else f"shrank to {100 * ratio:.2g} %"
    return f"its spread {how} (sd {before:.3g} → {after:.3g})"


def _middle(p: NDArray[np.float64], q: NDArray[np.float64], per_event: float) -> str:
    """The spread is what it was, but values went from the middle to its sides, or to it and to the ends."""
    place = np.cumsum(p) - p / 2
    middle = (place >= MIDDLE[0]) & (place <= MIDDLE[1])
    beside = (place >= SHOULDERS[0]) & (place <= SHOULDERS[1]) & ~middle

    def moved(part: NDArray[np.bool_]) -> float:
        share = float(p[part].sum())
        return float((q - p)[part].sum()) / math.sqrt(share * (1 - share) * per_event) if 0 < share < 1 else 0.0

    if moved(middle) <= -LIKELY:
        sides = (moved(beside & (place < MIDDLE[0])), moved(beside & (place > MIDDLE[1])))
        return "fewer values lie in the middle" + (", more on both sides of it: two peaks" if min(sides) > 0 else "")
    if moved(middle) >= LIKELY:
        return "more values lie in the middle and far from it: heavier tails"
    return ""
