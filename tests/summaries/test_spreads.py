"""Spreads add up to the same to the bit however they were split, and hold what counting by hand gives."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.outcome_entries import pack_spreads, unpack_spreads
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.summaries.outcomes import LabelRows, ValueRows
from streamdrift.summaries.spreads import LABEL, LOSS, LOSS_EDGES, Spreads, label_bins, label_edges
from tests.support.outcomes import BINARY, GRIDS, MULTICLASS, REGRESSION, Rows, rows_of

few = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)
some_rows = st.sampled_from(GRIDS).flatmap(rows_of)
three = st.sampled_from(GRIDS).flatmap(lambda grid: st.lists(rows_of(grid), min_size=3, max_size=3))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.task} {len(grid.classes)}")
def test_empty_and_empty_is_empty(grid: OutcomeGrid) -> None:
    assert Spreads.empty(grid) + Spreads.empty(grid) == Spreads.empty(grid)
    assert Spreads.empty(grid).possible


@few
@given(three)
def test_order_and_grouping_do_not_matter(parts: list[Rows]) -> None:
    a, b, c = map(Spreads.of, parts)
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Spreads.empty(a.grid) == a


@few
@given(rows=some_rows, seed=seeds, parts=st.integers(1, 5))
def test_rows_split_in_any_way_and_any_order_add_up_to_the_whole(rows: Rows, seed: int, parts: int) -> None:
    places = np.random.default_rng(seed).permutation(len(rows))
    pieces = [Spreads.of(rows.take(piece)) for piece in np.array_split(places, parts)]
    whole = Spreads.of(rows)
    assert reduce(add, pieces, Spreads.empty(rows.grid)) == whole
    assert whole.possible
    assert unpack_spreads(pack_spreads(whole), rows.grid) == whole


@few
@given(rows=some_rows, seed=seeds, size=st.integers(1, 70))
def test_spreads_of_groups_are_the_spreads_of_each_group_though_some_are_empty(
    rows: Rows, seed: int, size: int
) -> None:
    group = np.random.default_rng(seed).integers(0, size, len(rows))
    found = Spreads.of_groups(rows, group, size)
    assert found == [Spreads.of(rows.take(np.flatnonzero(group == g))) for g in range(size)]


def test_spreads_on_different_grids_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="different grids"):
        _ = Spreads.empty(BINARY) + Spreads.empty(MULTICLASS)


def test_classes_are_counted_each_and_all_that_the_grid_does_not_name_in_one_bin() -> None:
    told = np.array([[0.9], [0.2], [0.5], [np.nan]])
    spreads = Spreads.of(LabelRows.of(BINARY, ["fraud", "legit", "odd", "fraud"], ["fraud", "fraud", None, None], told))
    assert spreads.labels.tolist() == [1, 2, 1]
    assert spreads.verdicts.tolist() == [1, 2], "of the last one nothing says what was predicted"
    assert spreads.events == 4
    assert spreads.losses.sum() == 2, "a class that is not the grid's has no probability"
    mean = spreads.moments.mean(LOSS, 2) / 2**30
    assert mean == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)


def test_numbers_are_counted_on_even_bins_over_the_range_and_their_losses_on_geometric_ones() -> None:
    true, predicted = np.array([-20.0, 30.0, 80.0, np.nan, 1e300]), np.array([-20.0, 31.0, np.nan, 1.0, 0.0])
    spreads = Spreads.of(ValueRows(REGRESSION, true, predicted))
    edges = label_edges(REGRESSION)
    at = [int((y > edges).sum()) for y in true if np.isfinite(y)]
    assert np.flatnonzero(spreads.labels).tolist() == sorted(at)
    assert at[-1] == label_bins(REGRESSION) - 1
    scaled = np.array([0.0, 1.0, 1e300]) / REGRESSION.scale
    assert np.flatnonzero(spreads.losses).tolist() == [int((x > LOSS_EDGES).sum()) for x in scaled]
    assert spreads.verdicts.tolist() == [0, 0]
    assert spreads.moments.clamped(LABEL) == 1


def test_edges_are_exact_and_none_is_far_from_the_next() -> None:
    assert len(LOSS_EDGES) == 120
    assert (LOSS_EDGES[1:] / LOSS_EDGES[:-1]).max() <= 1.25
    assert np.diff(label_edges(REGRESSION)).min() == REGRESSION.scale / 512


def test_a_tick_takes_no_more_bytes_than_its_few_labels_need() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(30, 10, 100)
    packed = pack_spreads(Spreads.of(ValueRows(REGRESSION, true, true + rng.normal(0, 2, 100))))
    assert sum(map(len, (packed.histograms.steps, packed.histograms.counts, packed.limbs))) < 1_000


def test_spreads_that_nobody_wrote_are_refused() -> None:
    rows = ValueRows(REGRESSION, np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    packed, other = pack_spreads(Spreads.of(rows)), pack_spreads(Spreads.of(rows.take(np.array([0]))))
    for wrong in (
        type(packed)(packed.histograms, b""),
        type(packed)(packed.histograms, packed.limbs + b"\0"),
        type(packed)(type(packed.histograms)(b"", b""), packed.limbs),
        type(packed)(type(packed.histograms)(packed.histograms.steps, other.histograms.counts), packed.limbs),
    ):
        with pytest.raises(ValueError, match=r"."):
            unpack_spreads(wrong, REGRESSION)
    with pytest.raises(ValueError, match="no tally"):
        unpack_spreads(packed, BINARY)
