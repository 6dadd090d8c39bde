"""Laws of merging bins, on any counts that a baseline may hold."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift.merging import MARGIN, merge_bins, merge_categories

counts_of_bins = st.lists(st.one_of(st.just(0), st.integers(0, 20), st.integers(0, 10**12)), max_size=128).map(
    lambda counts: np.array(counts, dtype=np.int64)
)
limits = st.integers(1, 40)


def masses(merged: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(int(merged.max(initial=-1)) + 1, dtype=np.int64)
    np.add.at(total, merged, counts)
    return total


@given(counts_of_bins, limits, st.booleans())
def test_merged_bins_are_at_most_so_many_consecutive_runs(
    counts: NDArray[np.int64],
    limit: int,
    margins: bool,  # noqa: FBT001 — hypothesis gives it
) -> None:
    merged = merge_bins(counts, limit, margins=margins)
    assert merged.shape == counts.shape
    assert merged.dtype == np.int64
    if len(merged):
        assert merged[0] == 0
        assert set(np.diff(merged).tolist()) <= {0, 1}
        assert merged[-1] < limit


@given(counts_of_bins, limits)
def test_without_margins_no_merged_bin_is_empty(counts: NDArray[np.int64], limit: int) -> None:
    total = masses(merge_bins(counts, limit, margins=False), counts)
    assert (total > 0).all() or not counts.any()


@given(counts_of_bins, limits)
def test_only_the_range_beyond_both_ends_may_be_empty(counts: NDArray[np.int64], limit: int) -> None:
    assert (masses(merge_bins(counts, limit), counts)[1:-1] > 0).all()


@given(counts_of_bins, limits, st.booleans())
def test_merging_what_is_merged_changes_nothing(
    counts: NDArray[np.int64],
    limit: int,
    margins: bool,  # noqa: FBT001 — hypothesis gives it
) -> None:
    once = masses(merge_bins(counts, limit, margins=margins), counts)
    assert merge_bins(once, limit, margins=margins).tolist() == list(range(len(once)))


@given(st.lists(st.integers(50, 150), min_size=128, max_size=128), st.sampled_from([8, 10, 32]))
def test_bins_of_like_mass_merge_to_bins_of_like_mass(counts: list[int], limit: int) -> None:
    total = masses(merge_bins(np.array(counts), limit), np.array(counts))
    assert len(total) == limit
    assert total.max() <= 2 * total.min()


def test_no_other_cut_has_a_smaller_sum_of_squares() -> None:
    counts = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    ours = (masses(merge_bins(counts, 3), counts) ** 2).sum()
    cuts = [(a, b) for a in range(1, 7) for b in range(a + 1, 8)]
    assert ours == min(counts[:a].sum() ** 2 + counts[a:b].sum() ** 2 + counts[b:].sum() ** 2 for a, b in cuts)


@given(
    st.lists(st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 1_000), st.just(50_000)), max_size=40),
    st.integers(1, 12),
)
def test_the_cut_is_the_one_that_trying_every_cut_would_choose(counts: list[int], limit: int) -> None:
    """Of equal ones, the one whose last run is longest, and so on to the first."""
    runs = min(limit, max(1, sum(count > 0 for count in counts)))

    @functools.cache
    def best(end: int, left: int) -> tuple[float, tuple[int, ...]]:
        """The least Σ mass² of the first ``end`` bins in ``left`` runs, and where these begin, last one first."""
        if left == 1:
            return sum(counts[:end]) ** 2 or math.inf, (0,)
        cuts = [(best(start, left - 1), start, sum(counts[start:end])) for start in range(end)]
        ways = [(cost + mass**2, (start, *before)) for (cost, before), start, mass in cuts if mass]
        return min(ways, default=(math.inf, ()))

    _, begins = best(len(counts), runs)
    expected = [sum(place >= begin for begin in begins) - 1 for place in range(len(counts))]
    assert merge_bins(np.array(counts, dtype=np.int64), limit, margins=False).tolist() == expected


@pytest.mark.parametrize("limit", [10, 32])
def test_values_beyond_the_seen_range_stay_apart(limit: int) -> None:
    counts = np.concatenate((np.zeros(6, int), np.full(116, 400), np.zeros(6, int)))
    merged = merge_bins(counts, limit)
    assert (merged[:6] == 0).all()
    assert merged[6] == 1
    assert (merged[-6:] == limit - 1).all()
    assert merged[-7] == limit - 2


def test_a_tail_of_less_than_a_ten_thousandth_is_beyond_the_range() -> None:
    counts = np.array([5000, 5000, 5000, 5000, 1, 0])
    assert counts.sum() * MARGIN > 1
    assert merge_bins(counts, 5).tolist() == [0, 1, 2, 3, 4, 4]


def test_two_bins_cannot_hold_the_margins_too() -> None:
    assert merge_bins(np.array([0, 5, 5, 0]), 2).tolist() == [0, 0, 1, 1]


def test_a_heavy_bin_stays_alone() -> None:
    counts = np.array([10, 10, 10, 900, 10, 10, 10])
    merged = merge_bins(counts, 3)
    assert merged.tolist() == [0, 0, 0, 1, 2, 2, 2]


def test_nothing_counted_is_one_bin() -> None:
    assert merge_bins(np.zeros(5, dtype=np.int64), 10).tolist() == [0] * 5
    assert merge_bins(np.zeros(0, dtype=np.int64), 10).tolist() == []


@given(counts_of_bins, limits)
def test_categories_keep_their_bin_unless_others_are_more_frequent(counts: NDArray[np.int64], limit: int) -> None:
    merged = merge_categories(counts, limit)
    total = masses(merged, counts)
    assert len(total) == min(limit, len(counts))
    alone = [i for i, bin_ in enumerate(merged) if (merged == bin_).sum() == 1]
    together = [i for i in range(len(counts)) if i not in alone]
    assert min(counts[alone], default=0) >= max(counts[together], default=0) or not alone
    assert merge_categories(total, limit).tolist() == list(range(len(total)))


def test_of_equally_frequent_categories_the_first_keeps_its_bin() -> None:
    assert merge_categories(np.array([7, 9, 7, 7, 1]), 3).tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("merge", [merge_bins, merge_categories])
def test_no_bins_at_all_is_no_limit(merge: type) -> None:
    with pytest.raises(ValueError, match="at least one"):
        merge(np.array([1, 2]), 0)
