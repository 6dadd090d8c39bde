"""The scores against scipy, against their laws, and against chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from streamdrift.detectors import effects
from streamdrift.detectors.effects import Counts

unhurried = settings(deadline=None)  # a busy machine is no failure

Score = Callable[[Counts, Counts], NDArray[np.float64]]
Pair = tuple[NDArray[np.int64], NDArray[np.int64]]


def at_unit_edges(baseline: Counts, current: Counts) -> NDArray[np.float64]:
    edges = np.arange(baseline.shape[-1] - 1, dtype=np.float64)
    return effects.wasserstein(baseline, current, edges, sd=1.0)


SCORES: Sequence[Score] = (
    effects.psi,
    effects.corrected_psi,
    effects.jensen_shannon_divergence,
    effects.jensen_shannon_distance,
    effects.corrected_jensen_shannon_distance,
    effects.kolmogorov_smirnov,
    effects.l_infinity,
    at_unit_edges,
)
every_score = pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)


def histograms(bins: int, largest: int = 10**7) -> st.SearchStrategy[NDArray[np.int64]]:
    counts = st.lists(st.integers(0, largest), min_size=bins, max_size=bins).filter(any)
    return counts.map(lambda counts: np.array(counts, dtype=np.int64))


pairs = st.integers(1, 20).flatmap(lambda bins: st.tuples(histograms(bins), histograms(bins)))


# ---- scipy says the same ---------------------------------------------------------------------------------------------


@unhurried
@given(pairs)
def test_psi_is_the_symmetrised_kullback_leibler_divergence(pair: Pair) -> None:
    occupied = sum(pair) > 0
    p, q = (effects.proportions(side[occupied]) for side in pair)
    assert effects.psi(*pair) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-9, abs=1e-12)


@unhurried
@given(pairs)
def test_jensen_shannon_distance_is_that_of_scipy_with_its_default_base(pair: Pair) -> None:
    occupied = sum(pair) > 0
    p, q = (effects.proportions(side[occupied]) for side in pair)
    distance = effects.jensen_shannon_distance(*pair)
    # scipy takes the root of what cancellation leaves: 1e-8 where ours may be 0.
    assert distance == pytest.approx(jensenshannon(p, q), rel=1e-6, abs=1e-7)
    assert distance <= math.sqrt(math.log(2))


def test_kolmogorov_smirnov_of_bins_with_an_edge_between_all_values_is_that_of_the_values() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=300), rng.normal(0.3, 1.5, size=170)
    values = np.sort(np.concatenate((before, after)))
    edges = (values[1:] + values[:-1]) / 2
    p, q = (np.bincount(np.searchsorted(edges, side), minlength=len(values)) for side in (before, after))
    assert effects.kolmogorov_smirnov(p, q) == pytest.approx(stats.ks_2samp(before, after).statistic, abs=1e-12)


@unhurried
@given(pairs, st.integers(0, 2**32 - 1))
def test_wasserstein_is_that_of_scipy_for_values_spread_evenly_in_their_bins(pair: Pair, seed: int) -> None:
    bins, parts = len(pair[0]), 64
    assume(bins > 1)
    edges = np.cumsum(np.random.default_rng(seed).uniform(0.1, 3, size=bins - 1))
    # Each inner bin as 64 points in the middle of its 64 parts, the open bins as one point on their edge.
    starts, widths = edges[:-1, None], np.diff(edges)[:, None]
    inner = (starts + widths * (np.arange(parts) + 0.5) / parts).ravel()
    points, of_bin = np.concatenate((edges[:1], inner, edges[-1:])), np.r_[1, np.full(bins - 2, parts), 1]
    p, q = (np.repeat(side / of_bin, of_bin) for side in pair)
    expected = stats.wasserstein_distance(points, points, p, q)
    # 64 points stand for the whole width to within half a part.
    tolerance = (widths.max(initial=0) / parts) / 2 + 1e-9
    assert effects.wasserstein(*pair, edges, sd=2.0) == pytest.approx(expected / 2.0, abs=tolerance / 2.0)


def test_wasserstein_of_a_shifted_normal_is_the_shift() -> None:
    edges = np.linspace(-6, 7, 400)
    before, after = (np.diff(stats.norm.cdf(np.r_[-np.inf, edges, np.inf], mean)) for mean in (0.0, 0.7))
    assert effects.wasserstein(before * 1e6, after * 1e6, edges, sd=1.0) == pytest.approx(0.7, abs=1e-4)


# ---- what each score means -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0])
def test_psi_of_a_normal_shifted_by_delta_sd_is_delta_squared_in_fine_bins(shift: float) -> None:
    edges = stats.norm.ppf(np.arange(1, 128) / 128)
    after = np.diff(stats.norm.cdf(np.r_[-np.inf, edges, np.inf], shift))
    assert effects.psi(np.full(128, 1e9), after * 128e9) == pytest.approx(shift**2, rel=0.01)


def test_psi_is_eight_times_the_jensen_shannon_divergence_where_both_are_small() -> None:
    before = np.full(10, 10**7)
    after = before + np.arange(-45, 46, 10) * 10**4
    eighth = effects.jensen_shannon_divergence(before, after)
    assert effects.psi(before, after) / 8 == pytest.approx(eighth, rel=1e-3)


@unhurried
@given(pairs)
def test_what_the_bins_give_adds_up_to_the_psi(pair: Pair) -> None:
    terms = effects.psi_terms(*pair)
    assert (terms >= 0).all()
    assert terms.sum() == pytest.approx(effects.psi(*pair))


@unhurried
@given(pairs, st.data())
def test_merging_two_bins_never_raises_the_psi(pair: Pair, data: st.DataObject) -> None:
    bins = len(pair[0])
    assume(bins > 1)
    at = data.draw(st.integers(0, bins - 2))
    # Millions of events in every bin: what half an event of smoothing adds is below the tolerance.
    fine = [(side + 1) * 10**7 for side in pair]
    merged = [np.delete(side, at) + np.where(np.arange(bins - 1) == at, side[at], 0) for side in fine]
    assert effects.psi(*merged) <= effects.psi(*fine) + 1e-6


def test_l_infinity_is_the_largest_change_of_a_share() -> None:
    assert effects.l_infinity(np.array([80, 10, 10]), np.array([7, 2, 1])) == pytest.approx(0.1)


@unhurried
@given(pairs)
def test_the_means_raise_wasserstein_where_the_bins_are_blind_and_never_lower_it(pair: Pair) -> None:
    edges = np.arange(len(pair[0]) - 1, dtype=np.float64)
    plain = effects.wasserstein(*pair, edges, sd=1.0)
    assert effects.wasserstein_with_means(*pair, edges, 1.0, mean_shift=0.0) == plain
    assert effects.wasserstein_with_means(*pair, edges, 1.0, mean_shift=-99.0) == 99.0


def test_a_baseline_that_never_varied_makes_every_shift_infinite() -> None:
    assert effects.mean_shift_sd(5.0, 5.0, sd=0.0) == 0.0
    assert effects.mean_shift_sd(5.0, 4.0, sd=0.0) == -math.inf
    edges = np.array([4.0, 6.0, 8.0])
    stays, moves = np.array([0, 9, 0, 0]), np.array([0, 8, 1, 0])
    assert effects.wasserstein(stays, stays, edges, sd=0.0) == 0.0
    assert effects.wasserstein(stays, moves, edges, sd=0.0) == math.inf


def test_one_bin_or_one_edge_has_no_width() -> None:
    assert effects.wasserstein(np.array([5]), np.array([9]), np.array([]), sd=1.0) == 0.0
    assert effects.wasserstein(np.array([5, 0]), np.array([0, 5]), np.array([3.0]), sd=1.0) == 0.0


# ---- laws of every score ---------------------------------------------------------------------------------------------


@unhurried
@given(pairs)
def test_a_score_is_finite_not_negative_and_the_same_from_both_sides(pair: Pair) -> None:
    for score in SCORES:
        there, back = score(*pair), score(*pair[::-1])
        assert np.isfinite(there)
        assert there >= 0
        # Roots of small differences keep half of the digits.
        assert there == pytest.approx(back, rel=1e-6, abs=1e-7)


@unhurried
@given(st.integers(1, 20).flatmap(histograms))
def test_a_score_of_equal_histograms_is_zero(counts: NDArray[np.int64]) -> None:
    assert [float(score(counts, counts)) for score in SCORES] == [0.0] * len(SCORES)


@unhurried
@given(counts=st.integers(2, 20).flatmap(lambda bins: histograms(bins, 10**4)), data=st.data())
def test_a_raw_score_of_different_histograms_is_not_zero(counts: NDArray[np.int64], data: st.DataObject) -> None:
    moved = counts.copy()
    source = data.draw(st.sampled_from(np.flatnonzero(counts).tolist()))
    target = data.draw(st.sampled_from([bin_ for bin_ in range(len(counts)) if bin_ != source]))
    moved[source] -= 1
    moved[target] += 1
    for score in (effects.psi, effects.jensen_shannon_distance, effects.kolmogorov_smirnov, effects.l_infinity):
        assert score(counts, moved) > 0


@unhurried
@given(pairs, st.integers(1, 5))
def test_bins_that_are_empty_on_both_sides_are_no_bins(pair: Pair, padding: int) -> None:
    padded = [np.append(side, np.zeros(padding, dtype=np.int64)) for side in pair]
    for score in SCORES:
        if score is not at_unit_edges:  # there each bin has its own edges
            assert score(*padded) == pytest.approx(score(*pair), rel=1e-6, abs=1e-7)


@every_score
def test_many_histograms_at_once_score_as_one_by_one(score: Score) -> None:
    rng = np.random.default_rng(2)
    before, after = rng.integers(0, 50, size=(2, 3, 4, 7))
    scores = score(before, after)
    assert scores.shape == (3, 4)
    assert scores[2, 1] == pytest.approx(score(before[2, 1], after[2, 1]))
    against_one = score(before[0, 0], after)
    assert against_one[2, 1] == pytest.approx(score(before[0, 0], after[2, 1]))


@every_score
@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ([0, 0], [1, 2], "without events"),
        ([1, 2], [0, 0], "without events"),
        ([1, 2], [1, 2, 3], "cannot be compared"),
        ([1, -2], [1, 2], "not negative"),
        ([1, math.nan], [1, 2], "finite"),
        ([], [], "at least one bin"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    score: Score, before: list[float], after: list[float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        score(np.array(before, dtype=np.float64), np.array(after, dtype=np.float64))


@pytest.mark.parametrize("edges", [[0.0], [0.0, 0.0], [1.0, 0.0], [0.0, math.inf], [0.0, 1.0, 2.0]])
def test_edges_that_do_not_fit_the_bins_are_refused(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="3 bins need 2 finite, strictly ascending edges"):
        effects.wasserstein(np.ones(3), np.ones(3), np.array(edges), sd=1.0)


@pytest.mark.parametrize("sd", [-1.0, math.nan, math.inf])
def test_a_standard_deviation_that_is_none_is_refused(sd: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        effects.wasserstein(np.ones(2), np.ones(2), np.zeros(1), sd=sd)
    with pytest.raises(ValueError, match="standard deviation"):
        effects.mean_shift_sd(0.0, 1.0, sd=sd)


# ---- chance ----------------------------------------------------------------------------------------------------------

FLAT_10 = np.full(10, 0.1)
WITH_MISSING = np.r_[np.full(10, 0.099), 0.01, 0.0, 0.0]  # 10 bins, 1 % missing; unseen and mistyped never happen
CATEGORIES = np.arange(1, 14) ** -1.5 / (np.arange(1, 14) ** -1.5).sum()


@pytest.mark.parametrize("n_current", [200, 1000, 5000])
@pytest.mark.parametrize("n_baseline", [1000, 50_000])
@pytest.mark.parametrize("shares", [FLAT_10, WITH_MISSING, CATEGORIES], ids=["flat", "with missing", "categories"])
def test_under_no_drift_the_bias_is_what_the_scores_average(
    shares: NDArray[np.float64], n_baseline: int, n_current: int
) -> None:
    rng = np.random.default_rng(n_baseline + n_current)
    repetitions = 4000
    before, after = (rng.multinomial(n, shares, size=repetitions) for n in (n_baseline, n_current))
    # A share of 0 is no bin; a rare one is a bin wherever it occurred, hence the average over the repetitions.
    bins = effects.occupied_bins(before, after)
    bias = np.mean([effects.psi_bias(b, n_baseline, n_current) for b in bins.tolist()])
    # Asymptotics: 5 % (8 % for JSD) off at n = 200, 2 % from n = 1,000 on. Noise: sd √(2(B−1))/(B−1) of the bias.
    noise = 4 * math.sqrt(2 / (bins.mean() - 1) / repetitions)
    small = n_current < 1000
    raw = effects.psi(before, after).mean()
    assert raw / bias == pytest.approx(1, abs=noise + (0.05 if small else 0.02))
    eighth = effects.jensen_shannon_divergence(before, after).mean() * 8
    assert eighth / bias == pytest.approx(1, abs=noise + (0.08 if small else 0.02))
    # What is published is close to nothing, while the raw score of 200 events is not.
    assert effects.corrected_psi(before, after).mean() < raw / 4
    assert effects.corrected_psi(before, after).mean() <= 0.41 * effects.psi(before, after).std()


def test_raw_psi_on_32_bins_and_200_events_averages_0_145_with_no_drift_at_all() -> None:
    rng = np.random.default_rng(3)
    before, after = (rng.multinomial(n, np.full(32, 1 / 32), size=4000) for n in (50_000, 200))
    assert effects.psi(before, after).mean() == pytest.approx(0.145, abs=0.003)
    assert effects.corrected_psi(before, after).mean() < 0.015


def test_a_real_shift_keeps_its_size_when_the_bias_is_taken_off() -> None:
    edges = stats.norm.ppf(np.arange(1, 10) / 10)
    shifted = np.diff(stats.norm.cdf(np.r_[-np.inf, edges, np.inf], 0.5))
    rng = np.random.default_rng(4)
    before, after = rng.multinomial(50_000, FLAT_10, size=4000), rng.multinomial(1000, shifted, size=4000)
    expected = effects.psi(FLAT_10 * 1e9, shifted * 1e9)
    assert effects.corrected_psi(before, after).mean() == pytest.approx(expected, rel=0.03)
