"""A logarithm that is the same on every processor.

Libraries choose their routine by what the processor has, and these differ in the last bit; rarely, but then the sum of
rounded losses would depend on which replica read an event. Sums, products and quotients are rounded alike everywhere,
so this one is made of them alone, and in one order.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROOT_HALF: Final = math.sqrt(0.5)
_LN2: Final = 0.6931471805599453
_TERMS: Final = 11


def natural_log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of positive finite x to about 3e-16 of its value, or of 1 where it is less; NaN stays NaN.

    With x = m·2ᵏ, √½ <= m < √2 and s = (m − 1)/(m + 1): ln x = k·ln 2 + 2·(s + s³/3 + s⁵/5 + …), |s| < 0.172.

    >>> natural_log(np.array([1.0, 0.5])).tolist()
    [0.0, -0.6931471805599453]
    """
    m, k = np.frexp(x)
    small = m < _ROOT_HALF
    m, k = np.where(small, 2 * m, m), k - small
    s = (m - 1) / (m + 1)
    square, series = s * s, np.full_like(s, 1 / (2 * _TERMS + 1))
    for term in range(_TERMS - 1, -1, -1):
        series = series * square + 1 / (2 * term + 1)
    logarithm: NDArray[np.float64] = k * _LN2 + 2 * s * series
    return logarithm
