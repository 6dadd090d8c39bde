"""Contrasts: four directions in which a distribution usually changes, and how far it went in each.

Of p, the share of each bin in the baseline, h₁ … h₄ are the polynomials of degree 1 to 4 in the bins' normal scores
that are orthonormal under p: Σ_b p_b·h_j(b)·h_k(b) = 1 if j = k, else 0, and Σ_b p_b·h_k(b) = 0. The contrast of
another distribution q is g_k = Σ_b (q_b − p_b)·h_k(b): about how far its mean, spread, skewness and peakedness went, in
standard deviations of n = 1 event. So the contrast of n events of an unchanged stream has the variance 1/n.

Source: Neyman 1937, "Smooth test for goodness of fit"; Thomas & Pierce 1979 for bins.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

CONTRASTS: Final = 4
_FAR: Final = 1e-9
"""Normal scores are taken of shares so far from 0 and 1."""


def contrasts(shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """The contrasts of rows of ordered bins. ``shares`` has shape (rows, bins), 0 where a row has no such bin.

    Returns shape (rows, 4, bins); a row of B bins has B − 1 contrasts, those beyond are 0.

    >>> p = np.full((1, 10), 0.1)
    >>> h = contrasts(p).astype(float)[0]
    >>> np.round(np.einsum("jb,kb,b->jk", h, h, p[0]), 3).tolist() == np.eye(4).tolist()
    True
    >>> q = np.array([37, 52, 63, 73, 83, 94, 107, 124, 149, 218]) / 1000  # the mean is 0.5 sd higher
    >>> [round(float(g), 2) for g in h @ (q - p[0])]
    [0.48, 0.14, 0.04, 0.01]
    """
    rows, bins = shares.shape
    used = shares > 0
    centers = np.clip(np.cumsum(shares, axis=1) - shares / 2, _FAR, 1 - _FAR)
    scores = np.where(used, ndtri(centers), 0.0)
    roots = np.sqrt(shares)
    powers = np.stack([scores**k for k in range(CONTRASTS + 1)], axis=2) * roots[:, :, None]
    if bins <= CONTRASTS:
        powers = np.concatenate([powers, np.zeros((rows, CONTRASTS + 1 - bins, CONTRASTS + 1))], axis=1)
    orthonormal = np.linalg.qr(powers)[0]
    # A decomposition may turn any direction round: upwards is where its polynomial ascends.
    orthonormal *= np.where((orthonormal * powers).sum(axis=1) < 0, -1.0, 1.0)[:, None, :]
    inverse = np.where(used, 1.0 / np.where(used, roots, 1.0), 0.0)
    found = orthonormal[:, :bins, 1:] * inverse[:, :, None]
    exists = np.arange(CONTRASTS) < (used.sum(axis=1) - 1)[:, None]
    return np.ascontiguousarray(np.where(exists[:, None, :], found, 0.0).transpose(0, 2, 1), dtype=np.float32)
