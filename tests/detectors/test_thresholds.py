"""Quantiles against those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streamdrift.detectors.thresholds import (
    cornish_fisher,
    noncentral_chi_square_quantile,
    normal_quantile,
    weighted_chi_square_quantile,
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
    assert found == pytest.approx(true, rel=0.12)
    assert found >= 0.985 * true


@given(freedoms, alphas)
def test_without_any_floor_no_more_chance_alarms_than_wanted(df: float, alpha: float) -> None:
    found = noncentral_chi_square_quantile(np.array(df), np.array(0.0), normal_quantile(np.array(alpha)))
    assert stats.chi2.sf(found, df) <= 1.05 * alpha


@given(st.integers(1, 30), st.floats(1e-6, 10), st.floats(0, 5), alphas)
def test_equal_weights_are_a_scaled_noncentral_chi_square(
    terms: int, weight: float, floor: float, alpha: float
) -> None:
    z = normal_quantile(np.array(alpha))
    found = weighted_chi_square_quantile(
        np.array(terms * weight), np.array(terms * weight**2), np.array(floor * weight), z
    )
    expected = weight * noncentral_chi_square_quantile(np.array(float(terms)), np.array(floor), z)
    assert found == pytest.approx(expected, rel=1e-9)


def test_unequal_weights_are_met_by_simulation() -> None:
    weights = np.array([1.0, 2.0, 0.5, 3.0])
    drawn = np.random.default_rng(0).chisquare(1, (400_000, 4)) @ weights
    for alpha in (0.1, 0.01, 1e-3):
        z = normal_quantile(np.array(alpha))
        limit = weighted_chi_square_quantile(np.array(weights.sum()), np.array((weights**2).sum()), np.array(0.0), z)
        assert (drawn > limit).mean() == pytest.approx(alpha, rel=0.35)


@given(st.floats(1, 1e3), st.floats(0, 1e4), st.floats(0, 30))
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
