"""Windows and references: what is merged loses no event, and every score is the one of the plain function."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from operator import add

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.detectors import effects
from streamdrift.errors import StateError
from streamdrift.events import Batch
from streamdrift.grids import SCORE, SPECIAL_SLOTS, Column, Grid, Kind
from streamdrift.summaries import Moments, Names, RawRows, Summary
from streamdrift.tables import Fields, baseline_from_columns
from streamdrift.windows import PUBLISHED_BINS, WINDOW_BINS, Reference, Window, WindowState, to_state
from tests.support.batches import batches, grids
from tests.support.windows import Values, rows, small_reference, some, summary, window

unhurried = settings(deadline=None, max_examples=60)  # a busy machine is no failure

two_batches = grids().flatmap(lambda grid: st.tuples(batches(grid), batches(grid)))


def reference_of(batch: Batch) -> Reference:
    return Reference(Baseline(batch.grid, replace(Summary.of(batch), names=Names(), pairs={}, rows=RawRows())))


def of_columns(**columns: Values) -> Reference:
    numeric = [name for name, values in columns.items() if values.dtype != object]
    fields = Fields(numeric=numeric)
    return Reference(baseline_from_columns(columns, model_id="m", model_version="1", fields=fields))


def equal(a: Window, b: Window) -> bool:
    return (
        a.events == b.events
        and a.counts.tolist() == b.counts.tolist()
        and a.moments == b.moments
        and a.names == b.names
    )


# ---- merging ---------------------------------------------------------------------------------------------------------


@unhurried
@given(two_batches)
def test_a_window_that_is_refined_is_reduced_to_itself(two: tuple[Batch, Batch]) -> None:
    reference = reference_of(two[0])
    reduced = replace(reference.reduce(Summary.of(two[1])), names=Names())
    refined = reference.refine(reduced)
    assert equal(reference.reduce(refined), reduced)
    assert (refined.counts >= 0).all()


@unhurried
@given(grids().flatmap(batches))
def test_a_baseline_is_refined_to_itself(batch: Batch) -> None:
    reference = reference_of(batch)
    assert reference.refine(reference.window) == reference.baseline.summary


@unhurried
@given(two_batches)
def test_merging_loses_no_event_and_no_special_value(two: tuple[Batch, Batch]) -> None:
    reference, live = reference_of(two[0]), Summary.of(two[1])
    grid, reduced = reference.grid, reference.reduce(live)
    published = reference.publish(reduced)
    assert reduced.events == live.events
    assert reduced.moments == live.moments
    assert published.shape == (len(grid.columns), PUBLISHED_BINS + SPECIAL_SLOTS)
    for i in range(len(grid.columns)):
        fine = live.counts[grid.offsets[i] : grid.offsets[i + 1]]
        merged, shown = reference.of_column(reduced.counts, i), published[i]
        assert fine.sum() == merged.sum() == shown.sum()
        assert fine[-SPECIAL_SLOTS:].tolist() == merged[-SPECIAL_SLOTS:].tolist() == shown[-SPECIAL_SLOTS:].tolist()
        assert len(merged) <= WINDOW_BINS + SPECIAL_SLOTS


@unhurried
@given(two_batches)
def test_a_window_of_two_summaries_is_the_sum_of_their_windows(two: tuple[Batch, Batch]) -> None:
    reference, (a, b) = reference_of(two[0]), (Summary.of(batch) for batch in two)
    assert equal(reference.reduce(a + b), reference.reduce(a) + reference.reduce(b))
    assert equal(reference.empty() + reference.reduce(a), reference.reduce(a))
    both = reference.publish(reference.reduce(a)) + reference.publish(reference.reduce(b))
    assert (reference.publish(reference.reduce(a + b)) == both).all()


@unhurried
@given(two_batches)
def test_what_is_published_has_an_axis_of_its_length(two: tuple[Batch, Batch]) -> None:
    reference = reference_of(two[0])
    shown = reference.publish(reference.reduce(Summary.of(two[1])))
    for i, column in enumerate(reference.grid.columns):
        if column.kind is Kind.NUMERIC:
            edges = reference.published_edges(i)
            bins = len(edges) + 1
            assert edges == sorted(set(edges))
            assert set(edges) <= set(reference.edges[i].tolist()) <= set(column.edges)
        else:
            names = reference.published_categories(i)
            bins = len(names)
            assert {name for name in names if name is not None} <= set(column.categories)
        assert bins <= PUBLISHED_BINS
        assert shown[i, bins:PUBLISHED_BINS].sum() == 0


def test_many_bins_are_merged_to_fewer_of_similar_mass() -> None:
    reference = small_reference()
    for i, column in enumerate(reference.grid.columns):
        if column.kind is Kind.NUMERIC:
            assert column.bins > WINDOW_BINS
            assert len(reference.edges[i]) + 1 == WINDOW_BINS
            shown = reference.published[i][:PUBLISHED_BINS]
            inner = shown[shown > 100]
            assert len(inner) == PUBLISHED_BINS - 2, "all but the margins beyond the range seen"
            assert inner.max() < 1.5 * inner.min()


def test_counts_lie_between_the_edges_that_are_published() -> None:
    values = rows(np.random.default_rng(1), 5_000)
    reference = small_reference()
    shown = reference.publish(window(reference, values))
    for i, name in enumerate(reference.grid.names):
        if reference.grid.columns[i].kind is Kind.NUMERIC:
            edges = reference.published_edges(i)
            places = np.searchsorted(edges, values[name])
            assert shown[i, : len(edges) + 1].tolist() == np.bincount(places, minlength=len(edges) + 1).tolist()


@pytest.mark.parametrize("categories", [1, 9, 10, 11, 31, 32, 33, 60])
def test_rare_categories_share_a_bin_without_a_name(categories: int) -> None:
    drawn = np.random.default_rng(2).zipf(1.2, 20_000)
    values = np.array([f"c{i:02}" for i in range(categories)], dtype=object)[np.minimum(drawn - 1, categories - 1)]
    reference = of_columns(shop=values)
    names = reference.published_categories(0)
    assert (None in names) == (categories > PUBLISHED_BINS)
    for i, name in enumerate(names):
        if name is not None:
            assert reference.published[0, i] == (values == name).sum()
    assert reference.published[0].sum() == len(values)


# ---- mean and standard deviation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("center", "sd"), [(0.0, 1.0), (1e9, 1.0), (-3e-7, 1e-9), (5e4, 3e4)])
def test_mean_and_standard_deviation_are_those_of_numpy(center: float, sd: float) -> None:
    rng = np.random.default_rng(3)
    reference = of_columns(x=center + sd * rng.normal(size=4_000))
    x = center + sd * (0.3 + 2 * rng.normal(size=999))
    seen = reference.mean_and_sd(window(reference, {"x": x}), 0)
    assert seen is not None
    # A value counts in units of about range / 2**20.
    assert seen[0] == pytest.approx(float(x.mean()), abs=1e-5 * sd)
    assert seen[1] == pytest.approx(float(x.std()), abs=1e-5 * sd)


def test_a_thousand_windows_have_the_mean_of_all_their_values() -> None:
    rng = np.random.default_rng(4)
    parts = [rows(rng, int(n)) for n in rng.integers(1, 30, 1_000)]
    whole = np.concatenate([part["amount"] for part in parts])
    seen = small_reference().mean_and_sd(reduce(add, (window(small_reference(), part) for part in parts)), 0)
    assert seen == pytest.approx((whole.mean(), whole.std()), rel=1e-6)


def test_missing_and_mistyped_values_have_no_part_in_the_mean() -> None:
    values = rows(np.random.default_rng(5), 1_000)
    seen = small_reference().mean_and_sd(
        window(small_reference(), values | {"amount": some(values["amount"], 0.4, None)}), 0
    )
    assert seen == pytest.approx((values["amount"][400:].mean(), values["amount"][400:].std()), rel=1e-6)


def test_no_values_and_no_numbers_have_no_mean() -> None:
    reference = small_reference()
    nothing = window(reference, {"amount": np.full(10, np.nan)})
    assert reference.mean_and_sd(nothing, 0) is None
    assert reference.mean_and_sd(nothing, reference.grid.names.index("country")) is None


# ---- effects ---------------------------------------------------------------------------------------------------------


def test_effects_are_those_of_the_plain_functions() -> None:
    rng, reference = np.random.default_rng(6), small_reference()
    values = rows(rng, 3_000)
    values |= {"amount": some(values["amount"] + 9, 0.1, None), "country": some(values["country"], 0.2, "XX")}
    live, drawn = window(reference, values), summary(reference.grid, values)
    shown = reference.publish(live)
    for i, column in enumerate(reference.grid.columns):
        found = reference.effects(live)[i]
        ours, theirs = reference.published[i], shown[i]
        assert found["psi"] == effects.corrected_psi(ours, theirs)
        assert found["jensen_shannon"] == effects.corrected_jensen_shannon_distance(ours, theirs)
        before, after = (reference.of_column(w.counts, i) for w in (reference.window, live))
        if column.kind is Kind.CATEGORICAL:
            assert set(found) == {"psi", "jensen_shannon", "l_infinity"}
            assert found["l_infinity"] == effects.l_infinity(before[:-2], after[:-2])
            assert found["l_infinity"] == pytest.approx(0.2, abs=0.03), "a category that nobody knew is one"
        else:
            assert found["kolmogorov_smirnov"] == effects.kolmogorov_smirnov(before[:-3], after[:-3])
            n = int(after[:-3].sum())
            mean = column.center + 2.0**column.unit_exponent * drawn.moments.mean(i, n)
            assert found["mean_after"] == pytest.approx(mean)
            moved = (found["mean_after"] - found["mean_before"]) / reference.mean_and_sd(reference.window, i)[1]  # type: ignore[index]  # a number
            assert found["mean_shift_sd"] == pytest.approx(moved)
            assert found["wasserstein"] >= abs(moved)


@unhurried
@given(two_batches)
def test_whatever_the_values_every_effect_is_a_finite_number(two: tuple[Batch, Batch]) -> None:
    reference = reference_of(two[0])
    live = reference.reduce(Summary.of(two[1]))
    for i in range(len(reference.grid.columns)):
        found = reference.effects(live)[i]
        assert all(math.isfinite(score) for score in found.values())
        assert all(type(score) is float for score in found.values()), "JSON knows no numbers of numpy"


def test_equal_traffic_has_no_effect() -> None:
    reference = small_reference()
    for i in range(len(reference.grid.columns)):
        found = reference.effects(reference.window)[i]
        assert found["psi"] == found["jensen_shannon"] == found.get("mean_shift_sd", 0.0) == 0.0


# ---- columns that are hardly any -------------------------------------------------------------------------------------


def test_a_constant_that_changes_is_seen_though_its_shift_has_no_unit() -> None:
    reference = of_columns(x=np.full(1_000, 5.0))
    same = window(reference, {"x": np.full(1_000, 5.0)})
    other = window(reference, {"x": np.full(1_000, 6.0)})
    assert reference.effects(same)[0]["psi"] == 0
    found = reference.effects(other)[0]
    assert found["psi"] > 1
    assert found["kolmogorov_smirnov"] == 1
    assert (found["mean_before"], found["mean_after"]) == (5, 6)
    assert "mean_shift_sd" not in found


def test_one_category_can_be_compared() -> None:
    reference = of_columns(x=np.full(1_000, "only", dtype=object))
    live = window(reference, {"x": np.array(["only"] * 500 + ["other"] * 500, dtype=object)})
    found = reference.effects(live)[0]
    assert found["psi"] > 1
    assert found["l_infinity"] == 0.5
    assert reference.published_categories(0) == ["only"]


@pytest.mark.parametrize(
    "column", [Column("x", Kind.NUMERIC), Column("x", Kind.NUMERIC, edges=(1.0, 2.0)), Column("x", Kind.CATEGORICAL)]
)
def test_a_column_of_which_the_baseline_has_missing_values_only_can_be_compared(column: Column) -> None:
    grid = Grid("m", "1", (column,))
    reference = Reference(Baseline(grid, summary(grid, {"x": np.full(1_000, np.nan)})))
    live = window(reference, {"x": np.zeros(1_000)})
    found = reference.effects(live)[0]
    assert found["psi"] > 1
    assert "mean_shift_sd" not in found
    assert "l_infinity" not in found


def test_a_category_without_categories_has_no_bins() -> None:
    grid = Grid("m", "1", (Column("x", Kind.CATEGORICAL), Column("y", Kind.NUMERIC, edges=(0.0,))))
    reference = Reference(Baseline(grid, summary(grid, {"y": np.zeros(500)})))
    assert reference.published_categories(0) == []


def test_nothing_on_either_side_has_no_effects() -> None:
    reference = small_reference()
    assert reference.effects(reference.empty())[0] == {}
    grid = reference.grid
    nothing = Reference(Baseline(grid, Summary.empty(grid)))
    live = window(nothing, rows(np.random.default_rng(8), 100))
    assert nothing.effects(live)[0] == {}


def test_a_model_whose_columns_are_all_left_out_still_counts_events() -> None:
    grid = Grid("m", "1", ())
    reference = Reference(Baseline(grid, Summary.empty(grid)))
    live = replace(Summary.empty(grid), events=7)
    both = reference.reduce(live) + reference.reduce(live)
    assert both.events == 14
    assert reference.publish(both).shape == (0, PUBLISHED_BINS + SPECIAL_SLOTS)
    assert equal(reference.from_state(to_state(both)), both)


def test_the_same_baseline_gives_the_same_reference() -> None:
    baseline = small_reference().baseline
    again = Reference(Baseline.from_json(baseline.to_json()))
    assert (again.published == small_reference().published).all()
    assert [edges.tolist() for edges in again.edges] == [edges.tolist() for edges in small_reference().edges]


# ---- state -----------------------------------------------------------------------------------------------------------


@unhurried
@given(two_batches)
def test_a_window_goes_through_msgpack_and_is_the_same(two: tuple[Batch, Batch]) -> None:
    reference = reference_of(two[0])
    live = reference.reduce(Summary.of(two[1]))
    data = msgspec.msgpack.encode(to_state(live))
    assert equal(reference.from_state(msgspec.msgpack.decode(data, type=WindowState)), live)


def limbs(columns: int) -> NDArray[np.int64]:
    return Moments.empty(columns).limbs


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": b""},
        {"counts": b"\x01"},
        {"counts": b"\x09\x00"},
        {"limbs": b"\x01" + bytes(limbs(3).size)},
        {"limbs": b"\x02\x00"},
        {"names": {4: {"x": 1}}},
        {"names": {-1: {"x": 1}}},
    ],
)
def test_a_window_that_does_not_fit_its_reference_is_refused(damage: dict[str, object]) -> None:
    state = to_state(window(small_reference(), rows(np.random.default_rng(9), 50)))
    assert small_reference().grid.names[3] == SCORE
    with pytest.raises(StateError, match="does not fit the baseline"):
        small_reference().from_state(msgspec.structs.replace(state, **damage))
