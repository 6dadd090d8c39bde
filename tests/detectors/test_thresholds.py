"""Quantiles against those of scipy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from streamdrift.detectors.thresholds import (
    WeightedChiSquare,
    cornish_fisher,
    noncentral_chi_square_quantile,
    normal_quantile,
)

alphas = st.sampled_from([0.1, 1e-2, 1e-4, 1e-7, 1e-10])
freedoms = st.floats(1, 40)


@given(st.floats(1e-300, 0.5))
def test_the_normal_quantile_is_that_of_scipy_however_far_out(alpha: float) -> None:
    assert normal_quantile(np.array(alpha)) == pytest.approx(stats.norm.isf(alpha), rel=1e-9, abs=1e-12)


@given(freedoms, st.floats(0, 2_000), alphas)
def test_the_noncentral_quantile_errs_a_little_and_to_the_careful_side(
    df: float, noncentrality: float, alpha: float
) -> None:
    z = normal_quantile(np.array(alpha))
    found = float(noncentral_chi_square_quantile(np.array(df), np.array(noncentrality), z))
    true = stats.ncx2.isf(alpha, df, noncentrality) if noncentrality else stats.chi2.isf(alpha, df)
    assert 0.97 * true <= found <= 1.3 * true


@given(freedoms, alphas)
def test_without_any_floor_no_more_chance_alarms_than_wanted(df: float, alpha: float) -> None:
    found = noncentral_chi_square_quantile(np.array(df), np.array(0.0), normal_quantile(np.array(alpha)))
    assert stats.chi2.sf(found, df) <= 1.05 * alpha


def of_weights(weights: Sequence[float], floor: float, alpha: float) -> float:
    sums = WeightedChiSquare.of(*(np.array(sum(weight**power for weight in weights)) for power in (1, 2, 3)))
    return float(sums.quantile(np.array(1.0), np.array(floor), normal_quantile(np.array(alpha))))


@given(st.integers(1, 30), st.floats(1e-6, 10), st.floats(0, 5), alphas)
def test_equal_weights_are_a_scaled_noncentral_chi_square(
    terms: int, weight: float, floor: float, alpha: float
) -> None:
    z = normal_quantile(np.array(alpha))
    expected = weight * noncentral_chi_square_quantile(np.array(float(terms)), np.array(floor), z)
    assert of_weights([weight] * terms, floor * weight, alpha) == pytest.approx(expected, rel=1e-6)


WEIGHTS = [(1.0, 2.0, 0.5, 3.0), (19.0, 8.0, 4.0, 3.0), (10.0, 1.0, 1.0, 1.0), (19.0, 8.0, 4.0, 3.0, *[2.0] * 24)]


@pytest.mark.parametrize("weights", WEIGHTS, ids=["mixed", "autocorrelated", "one alone", "of many bins"])
@pytest.mark.parametrize("alpha", [1e-3, 1e-5, 1e-7])
def test_unequal_weights_alarm_about_as_rarely_as_wanted(weights: tuple[float, ...], alpha: float) -> None:
    tail = tail_of_weighted_chi_squares(np.array(weights), of_weights(weights, 0.0, alpha))
    assert 0.05 * alpha < tail < 2.5 * alpha


def tail_of_weighted_chi_squares(weights: NDArray[np.float64], x: float) -> float:
    """Saddlepoint approximation of P(Σ vᵢχ²₁ > x): Lugannani & Rice 1980, "Saddle point approximation …"."""

    def excess(s: float) -> float:
        return float((weights / (1 - 2 * s * weights)).sum()) - x

    s = optimize.brentq(excess, 1e-9, (1 - 1e-12) / (2 * weights.max()))
    terms = 1 - 2 * s * weights
    w = np.sqrt(2 * (s * x + 0.5 * np.log(terms).sum()))
    u = s * np.sqrt((2 * weights**2 / terms**2).sum())
    return float(stats.norm.sf(w) + stats.norm.pdf(w) * (1 / u - 1 / w))


@given(st.floats(1, 1e3), st.floats(10, 1e4), st.floats(0, 12))
def test_a_quantile_grows_with_the_floor_and_with_care(df: float, floor: float, z: float) -> None:
    def quantile(floor: float, z: float) -> float:
        return float(noncentral_chi_square_quantile(np.array(df), np.array(floor), np.array(z)))

    assert quantile(floor, z) <= quantile(floor, z + 0.5)
    assert quantile(floor, z) <= quantile(floor + 1, z)


@pytest.mark.parametrize("shape", [4.0, 25.0, 400.0])
def test_the_correction_for_skewness_is_that_of_a_gamma(shape: float) -> None:
    z = normal_quantile(np.array(1e-4))
    true = (stats.gamma.isf(1e-4, shape) - shape) / np.sqrt(shape)
    found = float(cornish_fisher(z, np.array(2 / np.sqrt(shape))))
    assert z < found
    assert found == pytest.approx(true, rel=0.06)


def test_what_leans_to_the_other_side_is_not_made_use_of() -> None:
    assert cornish_fisher(np.array(5.0), np.array(-1.0)) == 5.0
