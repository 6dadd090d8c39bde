"""Contrasts: orthonormal under any baseline, and upwards is more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from streamdrift.detectors.contrasts import CONTRASTS, contrasts

Shares = NDArray[np.float64]


def shares_of(counts: list[int]) -> Shares:
    found = np.array(counts, np.float64) + 0.5
    return np.asarray(found / found.sum())


histograms = st.lists(st.integers(0, 10_000), min_size=2, max_size=32).map(shares_of)


@given(histograms)
def test_contrasts_are_orthonormal_and_say_nothing_of_an_unchanged_distribution(p: Shares) -> None:
    h = contrasts(p[None])[0].astype(np.float64)
    there = min(CONTRASTS, len(p) - 1)
    expected = np.diag([1.0] * there + [0.0] * (CONTRASTS - there))
    assert np.einsum("jb,kb,b->jk", h, h, p) == pytest.approx(expected, abs=2e-3)
    assert h @ p == pytest.approx(np.zeros(CONTRASTS), abs=1e-3)


@given(histograms, histograms)
def test_together_they_never_see_more_than_chi_square_does(p: Shares, q: Shares) -> None:
    q = np.resize(q, len(p)) / np.resize(q, len(p)).sum()
    contrast = contrasts(p[None])[0].astype(np.float64) @ (q - p)
    assert (contrast**2).sum() <= ((q - p) ** 2 / p).sum() * 1.01 + 1e-4


@given(histograms)
def test_mass_that_moves_upwards_has_a_positive_first_contrast(p: Shares) -> None:
    q = p.copy()
    q[-1] += p[0] / 2
    q[0] -= p[0] / 2
    assert contrasts(p[None])[0, 0] @ (q - p) > 0


def binned(mean: float = 0.0, sd: float = 1.0, bins: int = 24) -> Shares:
    edges = stats.norm.ppf(np.arange(1, bins) / bins)
    return np.diff(stats.norm.cdf(np.r_[-np.inf, edges, np.inf], mean, sd))


@pytest.mark.parametrize("shift", [-0.4, -0.1, 0.1, 0.25])
def test_of_a_normal_distribution_the_first_is_the_shift_of_its_mean(shift: float) -> None:
    found = contrasts(binned()[None])[0] @ (binned(shift) - binned())
    assert found[0] == pytest.approx(shift, rel=0.06)


def test_of_a_normal_distribution_the_second_is_the_spread() -> None:
    wider = contrasts(binned()[None])[0] @ (binned(sd=1.2) - binned())
    narrower = contrasts(binned()[None])[0] @ (binned(sd=0.8) - binned())
    assert wider[1] > 0.2
    assert narrower[1] < -0.2
    assert abs(wider[0]) < 1e-4


def test_rows_of_different_widths_are_each_as_they_are_alone() -> None:
    wide, narrow = np.full(10, 0.1), np.array([0.2, 0.5, 0.3])
    together = contrasts(np.stack((wide, np.r_[narrow, np.zeros(7)])))
    assert together[0] == pytest.approx(contrasts(wide[None])[0], abs=1e-5)
    assert together[1, :, :3] == pytest.approx(contrasts(narrow[None])[0], abs=1e-5)
    assert not together[1, :, 3:].any()
    assert not together[1, 2:].any()


def test_a_constant_has_none() -> None:
    assert not contrasts(np.array([[1.0, 0.0, 0.0]])).any()
    assert contrasts(np.zeros((0, 8))).shape == (0, CONTRASTS, 8)
