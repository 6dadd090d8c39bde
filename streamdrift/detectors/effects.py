"""How far two histograms are apart, in the scores that people know.

Each score compares counts of the same bins: the baseline's, and those of the current window. All functions take
arrays of shape (..., bins) and give shape (...), so that many features are one call; features with fewer bins are
padded with zeros, because **a bin that is empty on both sides is no bin**. What cannot be compared (no events,
negative counts, other bins) is a ``ValueError``: whether there is enough to publish is for the caller to say.

=========================  ===========  =======================  ============================================
score                      range        conventional band        what it is blind to
=========================  ===========  =======================  ============================================
PSI                        0 … ∞ nats   0.1 moderate, 0.25 much  the order of the bins
Jensen–Shannon distance    0 … 0.833    0.1                      the order of the bins
Kolmogorov–Smirnov         0 … 1        none                     what moves inside a bin; tails
normed Wasserstein         0 … ∞ sd     0.1                      the shape, when the mean moves far
L∞                         0 … 1        none                     many small changes
=========================  ===========  =======================  ============================================

Chance alone makes PSI and Jensen–Shannon positive, the more so the smaller the window: on 32 bins, 200 events of
an unchanged stream have a PSI of 0.145 on average, beyond the band that is called moderate. That average is known,
so the published scores are the ``corrected_`` ones, which take it off. The other scores have no such closed form
and are published as they are; under no drift Kolmogorov–Smirnov is at most 0.87·√(1/n + 1/n₀) on average, 0.03 at
n = 1,000.

Score or noise? 1,000 events each, on ten bins that held a tenth of the baseline; the second moved by 0.5 sd:

>>> baseline = np.full(10, 1000)
>>> unchanged = np.array([92, 108, 95, 104, 99, 110, 97, 89, 105, 101])
>>> shifted = np.array([37, 52, 63, 73, 83, 94, 107, 124, 149, 218])
>>> for current in unchanged, shifted:
...     print(f"{psi(baseline, current):.4f} {corrected_psi(baseline, current):.4f}")
0.0042 0.0000
0.2378 0.2279
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64] | NDArray[np.float64]
"""Events in each bin. Shape (..., bins)."""

Spread = float | NDArray[np.float64]
"""Standard deviations. Shape (...)."""


def proportions(counts: Counts) -> NDArray[np.float64]:
    """Share of each bin, as (count + ½) / (n + B/2), so that no share is 0. Shape (..., bins).

    Half an event a bin is Jeffreys' prior: a bin that the baseline never saw costs a finite score, which grows as
    it fills, instead of an infinite one at its first event.

    >>> proportions(np.array([0, 1, 8])).tolist()
    [0.047619047619047616, 0.14285714285714285, 0.8095238095238095]
    """
    smoothed = _checked(counts) + 0.5
    shares: NDArray[np.float64] = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return shares


def occupied_bins(baseline: Counts, current: Counts) -> NDArray[np.int64]:
    """B, the number of bins in which either side has events. Shape (...).

    >>> int(occupied_bins(np.array([5, 0, 0, 1]), np.array([7, 0, 1, 0])))
    3
    """
    p, q = _checked_pair(baseline, current)
    return np.asarray(((p + q) > 0).sum(axis=-1), dtype=np.int64)


def psi_terms(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """What each bin gives to the PSI, in nats: (q − p)·ln(q/p), never negative. Shape (..., bins).

    >>> terms = psi_terms(np.array([500, 500, 0]), np.array([480, 470, 50]))
    >>> [round(term, 4) for term in terms.tolist()]  # a category that the baseline never saw
    [0.0008, 0.0019, 0.2304]
    """
    p, q = _smoothed_pair(baseline, current)
    terms: NDArray[np.float64] = (q - p) * np.log(q / p)
    return terms


def psi(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """Population stability index in nats, of smoothed ``proportions`` and not corrected. Shape (...).

    PSI = Σ_b (q_b − p_b)·ln(q_b/p_b) = KL(p‖q) + KL(q‖p), Jeffreys' divergence. Two normal distributions whose means
    are δ standard deviations apart have a PSI of δ² (in ten bins 5 % less): 0.1 is a shift of 0.32 sd, 0.25 one of
    0.5 sd.

    Source: Jeffreys 1946, "An invariant form for the prior probability in estimation problems"; the name and the
    bands 0.1 and 0.25 come from credit scoring (Siddiqi 2006, "Credit Risk Scorecards").

    >>> print(f"{psi(np.array([100, 800, 100]), np.array([50, 750, 200])):.4f}")
    0.1065
    """
    return np.asarray(psi_terms(baseline, current).sum(axis=-1))


def psi_bias(bins: int, n_baseline: float, n_current: float) -> float:
    """The PSI that chance alone gives on average, in nats: (B − 1)·(1/n + 1/n₀).

    With no drift PSI/(1/n + 1/n₀) follows χ² with B − 1 degrees of freedom, asymptotically; so its standard deviation
    is √(2(B − 1))·(1/n + 1/n₀). Measured on 10 to 13 bins, 20,000 windows each: right to 1 % at n = 1,000, 2–5 % too
    much at n = 200, up to 10 % too much where bins expect less than one event. Too much is the careful side.

    Source: Yurdakul & Naranjo 2020, "Statistical properties of the population stability index".

    >>> print(f"{psi_bias(32, n_baseline=50_000, n_current=200):.4f}")
    0.1556
    """
    return (bins - 1) * (1 / n_current + 1 / n_baseline)


def corrected_psi(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """PSI less its ``psi_bias``, in nats, and 0 where that is negative. Shape (...). This is what is published.

    A negative distance would only raise questions. Nothing that alarms is lost by the cut, since thresholds are
    positive; but an average of many cut scores is above 0 even where nothing drifts, by at most 0.4 of their
    standard deviation.

    >>> print(f"{corrected_psi(np.array([100, 800, 100]), np.array([50, 750, 200])):.4f}")
    0.1025
    """
    return np.maximum(psi(baseline, current) - _bias(baseline, current), 0.0)


def jensen_shannon_divergence(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """Jensen–Shannon divergence in nats, of smoothed ``proportions`` and not corrected. Shape (...).

    JSD = ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2; at most ln 2. Small ones are PSI/8.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy".

    >>> print(f"{jensen_shannon_divergence(np.array([100, 800, 100]), np.array([50, 750, 200])):.5f}")
    0.01307
    """
    p, q = _smoothed_pair(baseline, current)
    middle = (p + q) / 2
    terms = (p * np.log(p / middle) + q * np.log(q / middle)) / 2
    # Rounding leaves −1e-17 of equal histograms, of which there is no root.
    return np.asarray(np.maximum(terms.sum(axis=-1), 0.0))


def jensen_shannon_distance(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """Jensen–Shannon distance √JSD with the natural logarithm: 0 … √ln 2 = 0.833, a metric. Shape (...).

    The band 0.1 is Evidently's, which calls ``scipy.spatial.distance.jensenshannon`` with its default base e; in
    these units 0.1 is a PSI of 0.08, next to PSI's own band of 0.1. NannyML takes base 2, in which the same drift
    reads 1.20 times as much (1/√ln 2).

    Source: Endres & Schindelin 2003, "A new metric for probability distributions".

    >>> print(f"{jensen_shannon_distance(np.array([100, 800, 100]), np.array([50, 750, 200])):.4f}")
    0.1143
    """
    return np.sqrt(jensen_shannon_divergence(baseline, current))


def jensen_shannon_bias(bins: int, n_baseline: float, n_current: float) -> float:
    """The Jensen–Shannon *divergence* that chance alone gives on average, in nats: ``psi_bias``/8.

    To second order in q − p both are sums of (q_b − p_b)²/p_b: PSI once, JSD an eighth of it.

    >>> print(f"{jensen_shannon_bias(32, n_baseline=50_000, n_current=200):.4f}")
    0.0195
    """
    return psi_bias(bins, n_baseline, n_current) / 8


def corrected_jensen_shannon_distance(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """√(JSD less its ``jensen_shannon_bias``), and 0 where that is negative. Shape (...). This is what is published.

    The divergence is corrected, not the distance: only the former has a bias that is known. The root of what noise is
    left is no small number: expect up to 0.04 at n = 1,000 where nothing drifts.

    >>> print(f"{corrected_jensen_shannon_distance(np.array([100, 800, 100]), np.array([50, 750, 200])):.4f}")
    0.1121
    """
    divergence = jensen_shannon_divergence(baseline, current) - _bias(baseline, current) / 8
    return np.sqrt(np.maximum(divergence, 0.0))


def kolmogorov_smirnov(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """Kolmogorov–Smirnov distance of *ordered* bins: max_b |F(b) − G(b)|, 0 … 1. Shape (...).

    Of the shares as they are, not smoothed: nothing is divided. It is the distance of the values themselves where an
    edge lies between any two of them, otherwise at most that; so give it the bins of the grid, not merged ones.

    Source: Smirnov 1939.

    >>> print(f"{kolmogorov_smirnov(np.array([100, 800, 100]), np.array([50, 750, 200])):.4f}")
    0.1000
    """
    p, q = _checked_pair(baseline, current)
    return np.asarray(np.abs(_cumulated(p) - _cumulated(q)).max(axis=-1))


def wasserstein(baseline: Counts, current: Counts, edges: NDArray[np.float64], sd: Spread) -> NDArray[np.float64]:
    """Wasserstein distance W₁ of numeric bins, in the baseline's standard deviations. Shape (...).

    W₁ = ∫ |F(x) − G(x)| dx / sd, for values limited to [first edge, last edge] — what lies in the two open bins stands
    on their edge — and spread evenly between two edges. Where F and G cross inside a bin, the two triangles are
    counted, not their difference. Bins of a column with ``edges`` e_0 < … < e_{B-2} are (−∞, e_0], (e_0, e_1], …,
    (e_{B-2}, ∞)::

        F − G          ╱╲
                   ╱──╯  ╲            with one edge or none there is no width: 0
          ──┬─────┬────┬──╲──┬───
            e_0   e_1  e_2 ╲╱e_3

    Limiting can only lower the true distance, spreading may err by half a bin's width either way; so give it the
    bins of the grid, not merged ones, and see ``wasserstein_with_means`` for what goes beyond the edges.

    Args:
        baseline: counts of shape (..., bins).
        current: counts of shape (..., bins).
        edges: inner edges, strictly ascending, in the unit of the values. Shape (..., bins − 1); NaN at the right end
            of features that have fewer.
        sd: standard deviation of the baseline, in the unit of the values; shape (...). With sd = 0 every distance but
            0 is ∞.

    Source: Vallender 1974, "Calculation of the Wasserstein distance between probability distributions on the line".

    >>> edges = np.array([0.0, 1.0, 2.0, 3.0])
    >>> print(wasserstein(np.array([0, 10, 10, 0, 0]), np.array([0, 0, 10, 10, 0]), edges, sd=0.5))
    2.0
    """
    p, q = _checked_pair(baseline, current)
    edges = np.asarray(edges, dtype=np.float64)
    if edges.shape[-1] != p.shape[-1] - 1 or np.isinf(edges).any() or not _ascend(edges):
        raise ValueError(f"{p.shape[-1]} bins need {p.shape[-1] - 1} finite, strictly ascending edges")
    gaps = (_cumulated(p) - _cumulated(q))[..., :-1]  # F − G at each edge
    left, right = gaps[..., :-1], gaps[..., 1:]
    ends = np.abs(left) + np.abs(right)
    # Same sign: a trapezium, mean height ends/2. A change of sign: two triangles, (left² + right²)/(2·ends).
    crossing = left * right < 0
    heights = np.where(crossing, (left**2 + right**2) / np.where(crossing, ends, 1.0), ends) / 2
    distance = np.asarray((heights * np.nan_to_num(np.diff(edges), nan=0.0)).sum(axis=-1))
    constant = _checked_sd(sd) == 0
    return np.where(constant, np.where(distance > 0, np.inf, 0.0), distance / np.where(constant, 1.0, sd))


def wasserstein_with_means(
    baseline: Counts,
    current: Counts,
    edges: NDArray[np.float64],
    sd: Spread,
    mean_shift: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """``wasserstein``, or the mean's shift where that is more: max(W₁ of the bins, |Δmean|/sd). Shape (...).

    The bins cannot see how far beyond the last edge a value lies: amounts in cents instead of euros all stand on it.
    The mean can, and W₁ ≥ |Δmean| always (Kantorovich & Rubinstein 1958: W₁ is the largest difference of the means of
    any function of slope ≤ 1, and f(x) = x is one).

    Args:
        baseline: counts of shape (..., bins).
        current: counts of shape (..., bins).
        edges: inner edges. Shape (..., bins − 1).
        sd: standard deviation of the baseline. Shape (...).
        mean_shift: ``mean_shift_sd`` of the same two sides, from their exact moments. Shape (...).

    >>> edges, before, after = np.array([0.0, 1.0, 2.0]), np.array([0, 50, 50, 0]), np.array([0, 0, 0, 100])
    >>> print(wasserstein(before, after, edges, sd=0.5), wasserstein_with_means(before, after, edges, 0.5, 198.0))
    2.0 198.0
    """
    return np.maximum(wasserstein(baseline, current, edges, sd), np.abs(mean_shift))


def mean_shift_sd(mean_before: float, mean_after: float, sd: float) -> float:
    """By how many of the baseline's standard deviations the mean moved; negative when it fell.

    A baseline that never varied has sd = 0: then any shift is ±∞, and none is 0. (JSON has no ∞: publish null.)

    >>> mean_shift_sd(41.0, 59.0, sd=20.0)
    0.9
    """
    shift = mean_after - mean_before
    if _checked_sd(sd) > 0:
        return shift / sd
    return math.copysign(math.inf, shift) if shift else 0.0


def l_infinity(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """Largest change of one category's share: max_b |q_b − p_b|, 0 … 1. Shape (...).

    Of the shares as they are, not smoothed. Source: the L∞ (Chebyshev) distance, as TensorFlow Data Validation and
    Vertex AI use it for categories.

    >>> print(f"{l_infinity(np.array([500, 500, 0]), np.array([480, 470, 50])):.2f}")
    0.05
    """
    p, q = _checked_pair(baseline, current)
    return np.asarray(np.abs(_shares(p) - _shares(q)).max(axis=-1))


def _checked_sd(sd: Spread) -> NDArray[np.float64]:
    spread = np.asarray(sd, dtype=np.float64)
    if not (np.isfinite(spread).all() and (spread >= 0).all()):
        raise ValueError(f"a standard deviation is finite and not negative, this one is {sd}")
    return spread


def _ascend(edges: NDArray[np.float64]) -> bool:
    """Whether edges ascend strictly up to the first NaN, and nothing but NaN follows."""
    known = ~np.isnan(edges)
    pairs = known[..., 1:]
    return bool((known[..., :-1] >= pairs).all() and (np.diff(edges)[pairs] > 0).all())


def _bias(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    """``psi_bias`` of many pairs of histograms at once. Shape (...)."""
    p, q = _checked_pair(baseline, current)
    return np.asarray((occupied_bins(p, q) - 1) * (1 / q.sum(axis=-1) + 1 / p.sum(axis=-1)))


def _smoothed_pair(baseline: Counts, current: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``proportions`` of both sides over the bins that either occupies; both 1 elsewhere, where ln(p/q) is to be 0."""
    p, q = _checked_pair(baseline, current)
    occupied = (p + q) > 0
    p, q = (side + 0.5 * occupied for side in (p, q))
    return np.where(occupied, _shares(p), 1.0), np.where(occupied, _shares(q), 1.0)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def _cumulated(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution function at the upper end of each bin; the last is exactly 1."""
    sums = np.cumsum(counts, axis=-1)
    cumulated: NDArray[np.float64] = sums / sums[..., -1:]
    return cumulated


def _checked_pair(baseline: Counts, current: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, q = _checked(baseline), _checked(current)
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(f"{p.shape[-1]} and {q.shape[-1]} bins cannot be compared")
    if (p.sum(axis=-1) <= 0).any() or (q.sum(axis=-1) <= 0).any():
        raise ValueError("a histogram without events cannot be compared")
    return p, q


def _checked(counts: Counts) -> NDArray[np.float64]:
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim == 0 or counts.shape[-1] == 0:
        raise ValueError("a histogram has at least one bin")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("counts are finite and not negative")
    return counts
