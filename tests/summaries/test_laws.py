"""Summaries add up: whatever is split, however it is put together again, the result is the same to the bit."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.events import Batch
from streamdrift.grids import MISSING, SPECIAL_SLOTS, TYPE_ERROR, UNSEEN, Column, Grid, Kind, Role
from streamdrift.summaries import (
    Moments,
    Names,
    Pairs,
    RawRows,
    Row,
    Summary,
    counting,
    moments,
    names,
    pairs,
    raw_rows,
    summarise,
)
from tests.support.batches import batches, grids

unhurried = settings(deadline=None)  # a busy machine is no failure
few = settings(unhurried, max_examples=40)  # of each part, with each bound
bounded = pytest.mark.usefixtures("bounds")


class Part(NamedTuple):
    """A part of the summary: what the laws are held against."""

    name: str
    empty: Callable[[Grid], Any]
    of: Callable[[Batch], Any]


def quanta_of(batch: Batch) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        quanta: NDArray[np.float64] = np.nan_to_num(batch.values, nan=0.0) / batch.grid.units
    return quanta


def moments_of(batch: Batch) -> Moments:
    if not len(batch) or not batch.grid.columns:
        return Moments.empty(len(batch.grid.columns))
    return Moments.of(quanta_of(batch).T, np.array([0]))[0]


def pairs_of(batch: Batch) -> Pairs:
    values = batch.values[:, 0] if batch.grid.columns else np.zeros(len(batch))
    kept = ~np.isnan(values)
    return Pairs.of(batch.hashes[kept], batch.times[kept], values[kept])


def rows_of(batch: Batch) -> RawRows:
    payloads = batch.rows or [b"x" * (value % 50) for value in batch.hashes.tolist()]
    return RawRows.of(map(Row, batch.hashes.tolist(), batch.times.tolist(), payloads))


PARTS = (
    Part("moments", lambda grid: Moments.empty(len(grid.columns)), moments_of),
    Part("names", lambda _: Names(), lambda batch: Names.of((column, name) for _, column, name in batch.unseen)),
    Part("pairs", lambda _: Pairs.empty(), pairs_of),
    Part("raw rows", lambda _: RawRows(), rows_of),
    Part("summary", Summary.empty, Summary.of),
    Part("summary with raw values", Summary.empty, lambda batch: Summary.of(batch, batch.grid.names)),
)
every_part = pytest.mark.parametrize("part", PARTS, ids=[part.name for part in PARTS])


@pytest.fixture(params=["as shipped", "tight"], scope="module")
def bounds(request: pytest.FixtureRequest) -> Iterator[None]:
    """The laws hold below the bounds and far beyond them."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tight":
            patch.setattr(names, "MAX_NAMES", 3)
            patch.setattr(pairs, "MAX_ENTRIES", 7)
            patch.setattr(counting, "MANY", 1)  # rows: small groups are sorted too
            patch.setattr(counting, "BLOCK", 64)
            patch.setattr(raw_rows, "MAX_ROWS", 9)
            patch.setattr(raw_rows, "MAX_BYTES", 500)
            patch.setattr(raw_rows, "MAX_ROW_BYTES", 200)
        yield


several = grids().flatmap(lambda grid: st.lists(batches(grid), min_size=3, max_size=3))


# ---- the laws --------------------------------------------------------------------------------------------------------


@bounded
@every_part
def test_empty_and_empty_is_empty(part: Part) -> None:
    grid = Grid("m", "", (Column("x", Kind.NUMERIC), Column("c", Kind.CATEGORICAL, categories=("a",))))
    assert part.empty(grid) + part.empty(grid) == part.empty(grid)


@bounded
@every_part
@few
@given(batch=grids().flatmap(batches))
def test_empty_adds_nothing(part: Part, batch: Batch) -> None:
    empty, whole = part.empty(batch.grid), part.of(batch)
    assert empty + whole == whole
    assert whole + empty == whole


@bounded
@every_part
@few
@given(three=several)
def test_order_and_grouping_do_not_matter(part: Part, three: list[Batch]) -> None:
    a, b, c = map(part.of, three)
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)


@bounded
@every_part
@few
@given(batch=grids().flatmap(batches), seed=st.integers(0, 2**32 - 1), parts=st.integers(1, 5))
def test_a_batch_split_in_any_way_adds_up_to_the_whole(part: Part, batch: Batch, seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, parts, len(batch))
    pieces = [part.of(batch.where(group == g)) for g in rng.permutation(parts)]
    assert reduce(add, pieces, part.empty(batch.grid)) == part.of(batch)


@bounded
@every_part
@few
@given(batch=grids().flatmap(batches), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(part: Part, batch: Batch, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(batch))
    place = np.argsort(order)
    shuffled = Batch(
        batch.grid,
        batch.times[order],
        batch.hashes[order],
        batch.values[order],
        np.column_stack((place[batch.type_errors[:, 0]], batch.type_errors[:, 1])),
        tuple((int(place[row]), column, name) for row, column, name in reversed(batch.unseen)),
        None if batch.without_features is None else batch.without_features[order],
        None if batch.without_prediction is None else batch.without_prediction[order],
        None if batch.rows is None else tuple(batch.rows[i] for i in order),
    )
    assert part.of(shuffled) == part.of(batch)


@bounded
@every_part
@few
@given(batch=grids().flatmap(batches))
def test_adding_changes_neither_side(part: Part, batch: Batch) -> None:
    ours, theirs = part.of(batch), part.of(batch)
    _ = ours + theirs
    assert ours == theirs == part.of(batch)


# ---- the summary -----------------------------------------------------------------------------------------------------


@bounded
@unhurried
@given(batch=grids().flatmap(batches), seed=st.integers(0, 2**32 - 1), parts=st.integers(1, 70))
def test_summaries_of_groups_are_the_summaries_of_each_group(batch: Batch, seed: int, parts: int) -> None:
    group = np.random.default_rng(seed).integers(0, parts, len(batch))
    found, numbers = np.unique(group, return_inverse=True)
    if len(found):
        raw = batch.grid.names[:2]
        of_groups = summarise(batch, numbers, raw)
        assert of_groups == [Summary.of(batch.where(group == g), raw) for g in found]


@bounded
@unhurried
@given(batch=grids().flatmap(batches))
def test_a_summary_is_what_counting_by_hand_gives(batch: Batch) -> None:
    summary = Summary.of(batch)
    assert summary.events == len(batch)
    wrong = set(map(tuple, batch.type_errors.tolist()))
    for i, column in enumerate(batch.grid.columns):
        absent = batch.without_features if column.role is Role.FEATURE else batch.without_prediction
        counts, quanta = Counter[int](), []
        for row, x in enumerate(batch.values[:, i].tolist()):
            if absent is not None and absent[row]:
                continue
            if (row, i) in wrong:
                counts[column.bins + TYPE_ERROR] += 1
            elif math.isnan(x):
                counts[column.bins + MISSING] += 1
            elif column.kind is Kind.CATEGORICAL:
                counts[int(x)] += 1
            else:
                counts[bisect_left(column.edges, x)] += 1
                quanta.append(quantum(column, x))
        start = batch.grid.offsets[i]
        assert summary.counts[start : start + column.slots].tolist() == [counts[slot] for slot in range(column.slots)]
        assert summary.moments.sum(i) == sum(quanta)
        assert summary.moments.squares(i) == sum(q * q for q in quanta)
        assert UNSEEN + column.bins + SPECIAL_SLOTS == column.slots


def quantum(column: Column, x: float) -> int:
    """What a value counts as in the moments, in exact arithmetic but for the rounding that float64 does first."""
    difference = x - column.center
    if math.isinf(difference):
        return int(math.copysign(moments.LIMIT, difference))
    exact = Fraction(difference) / Fraction(2) ** column.unit_exponent
    return max(-moments.LIMIT, min(moments.LIMIT, round(exact)))


@unhurried
@given(three=several)
def test_a_summary_of_more_events_is_another_one(three: list[Batch]) -> None:
    whole = Summary.of(three[0])
    assert (whole + Summary.of(three[1]) == whole) == (len(three[1]) == 0)
    assert whole != "a summary"


def test_a_grid_without_columns_counts_events() -> None:
    grid = Grid("m", "", ())
    batch = Batch(grid, np.zeros(3, np.int64), np.zeros(3, np.uint64), np.empty((3, 0)), np.empty((0, 2), np.int64))
    assert Summary.of(batch).events == 3
    assert (Summary.of(batch) + Summary.empty(grid)).events == 3


@unhurried
@given(batch=grids().flatmap(batches), seed=st.integers(0, 2**32 - 1))
def test_part_of_a_batch_keeps_what_belongs_to_its_rows(batch: Batch, seed: int) -> None:
    keep = np.random.default_rng(seed).random(len(batch)) < 0.5
    part = batch.where(keep)
    rows = np.flatnonzero(keep)
    assert len(part) == len(rows)
    assert [(int(rows[r]), c, n) for r, c, n in part.unseen] == [u for u in batch.unseen if keep[u[0]]]
    assert [[int(rows[r]), c] for r, c in part.type_errors.tolist()] == [
        [r, c] for r, c in batch.type_errors.tolist() if keep[r]
    ]


# ---- moments ---------------------------------------------------------------------------------------------------------


def of_integers(values: list[int]) -> Moments:
    return Moments.of(np.array(values, dtype=np.float64)[None], np.array([0]))[0]


root = math.isqrt(2**53)  # what float64 holds exactly ends with the square of this
whole_numbers = st.one_of(
    st.integers(-(2**41), 2**41),
    st.integers(-root, root),
    st.sampled_from([2**40, -(2**40), 2**40 - 1, 2**20, -1, root, root + 1, -root - 1]),
)


@unhurried
@given(st.lists(whole_numbers, min_size=1, max_size=50))
def test_moments_are_exact(values: list[int]) -> None:
    limited = [max(-moments.LIMIT, min(moments.LIMIT, value)) for value in values]
    ours = of_integers(values)
    assert ours.sum(0) == sum(limited)
    assert ours.squares(0) == sum(q * q for q in limited)
    assert ours.clamped(0) == sum(abs(value) > moments.LIMIT for value in values)
    n = len(values)
    assert ours.mean(0, n) == pytest.approx(float(Fraction(sum(limited), n)))
    assert ours.variance(0, n) >= 0
    assert ours.variance(0, n) == pytest.approx(
        float(Fraction(sum(q * q for q in limited), n) - Fraction(sum(limited), n) ** 2)
    )


@given(st.lists(st.sampled_from([0.0, 1.0, -3e6, 5e11, -5e11, 2e12, -2e12]), min_size=1, max_size=12))
def test_limited_values_are_said_to_lie_on_a_side_only_if_all_do(values: list[float]) -> None:
    ours = Moments.of(np.array([values]), np.array([0]))[0]
    signs = {math.copysign(1, value) for value in values if abs(value) > moments.LIMIT}
    assert ours.limited_side(0, len(values)) in ({0, *signs} if len(signs) == 1 else {0})


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("beyond", [0.0, 1.0, math.inf])
def test_a_million_values_at_the_limit_are_exact(sign: float, beyond: float) -> None:
    n = 10**6
    ours = Moments.of(np.full((1, n), sign * (moments.LIMIT + beyond)), np.array([0]))[0]
    assert ours.sum(0) == int(sign) * n * moments.LIMIT
    assert ours.squares(0) == n * moments.LIMIT**2
    assert ours.clamped(0) == (n if beyond else 0)
    assert ours.mean(0, n) == sign * moments.LIMIT
    assert ours.variance(0, n) == 0


def test_as_many_rows_as_are_allowed_stay_exact_and_one_more_is_refused() -> None:
    rows = np.full((1, moments.MAX_ROWS), 2.0**40 - 1)
    assert Moments.of(rows, np.array([0]))[0].squares(0) == moments.MAX_ROWS * (2**40 - 1) ** 2
    with pytest.raises(ValueError, match="rows in one batch"):
        Moments.of(np.zeros((1, moments.MAX_ROWS + 1)), np.array([0]))


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_go_on_beyond_int64(sign: int) -> None:
    total = of_integers([sign * (2**40 - 1), sign * 12_345])
    sums, squares = total.sum(0), total.squares(0)
    for _ in range(45):
        total, sums, squares = total + total, 2 * sums, 2 * squares
    assert abs(sums) > 2**80
    assert total.sum(0) == sums
    assert total.squares(0) == squares
    assert total + Moments.empty(1) == total


@unhurried
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 1000))
def test_the_variance_of_equal_values_is_zero(value: float, n: int) -> None:
    ours = Moments.of(np.full((1, n), value), np.array([0]))[0]
    assert ours.variance(0, n) == 0


def test_equal_sums_are_equal_arrays_however_they_came_about() -> None:
    assert of_integers([5, -5, 3]) != of_integers([3])  # their squares differ
    assert np.array_equal((of_integers([-1]) + of_integers([1])).limbs[:, :2], np.zeros((1, 2)))
    assert of_integers([-1, 2**33]) == of_integers([2**33]) + of_integers([-1])


# ---- names -----------------------------------------------------------------------------------------------------------

name_lists = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([f"name {i}" for i in range(200)])), max_size=300)


@bounded
@unhurried
@given(st.lists(name_lists, min_size=1, max_size=4))
def test_the_names_with_the_smallest_hashes_are_kept_with_exact_counts(lists: list[list[tuple[int, str]]]) -> None:
    kept = reduce(add, map(Names.of, lists))
    everything = Counter(pair for pairs in lists for pair in pairs)
    for column in (0, 1):
        there = {name: n for (c, name), n in everything.items() if c == column}
        smallest = sorted(there, key=lambda name: xxh3_64_intdigest(name.encode()))[: names.MAX_NAMES]
        assert kept.columns.get(column, {}) == {name: there[name] for name in smallest}


def test_a_long_name_is_cut_and_what_is_cut_alike_counts_together() -> None:
    long = "x" * names.MAX_LENGTH
    assert Names.of([(0, long + "a"), (0, long + "b"), (0, long)]).columns == {0: {long: 3}}


def test_a_name_that_is_half_a_character_is_a_name() -> None:
    assert Names.of([(0, "\ud800")]).columns == {0: {"\ud800": 1}}


# ---- pairs -----------------------------------------------------------------------------------------------------------

entries = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)),
        st.integers(-2, 2),
        st.sampled_from([0.0, -0.0, 1.5, -1e308, 5e-324]),
    ),
    max_size=60,
)
Entry = tuple[int, int, float]


def pairs_from(rows: list[Entry]) -> Pairs:
    hashes, times, values = ([row[i] for row in rows] for i in range(3))
    return Pairs.of(np.array(hashes, np.uint64), np.array(times, np.int64), np.array(values, np.float64))


def bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


@bounded
@unhurried
@given(st.lists(entries, min_size=1, max_size=3))
def test_entries_with_the_smallest_hashes_are_kept_with_their_multiplicity(lists: list[list[Entry]]) -> None:
    kept = reduce(add, map(pairs_from, lists))
    everything = Counter((h, t, bits(v)) for rows in lists for h, t, v in rows)
    smallest = sorted(everything)[: pairs.MAX_ENTRIES]
    ours = zip(kept.hashes.tolist(), kept.times.tolist(), kept.values.view(np.int64).tolist(), strict=True)
    assert list(ours) == smallest
    assert kept.repeats.tolist() == [everything[entry] for entry in smallest]
    assert kept.total == sum(everything.values())


@bounded
@unhurried
@given(st.lists(entries, min_size=1, max_size=3))
def test_the_series_is_in_order_of_time_and_hash_and_bounded(lists: list[list[Entry]]) -> None:
    kept = reduce(add, map(pairs_from, lists))
    everything = sorted(((h, t, bits(v)) for rows in lists for h, t, v in rows))[: pairs.MAX_ENTRIES]
    expected = sorted(everything, key=lambda entry: (entry[1], entry[0], entry[2]))
    series = kept.series()
    assert series.view(np.int64).tolist() == [value for _, _, value in expected]
    assert len(series) <= pairs.MAX_ENTRIES
    assert kept.sampled == (len(series) < kept.total)


@bounded
def test_one_value_again_and_again_is_one_entry_and_a_bounded_series() -> None:
    n = 3 * pairs.MAX_ENTRIES
    one = Pairs.of(np.full(n, 9, np.uint64), np.full(n, 5, np.int64), np.full(n, 0.25))
    assert one.repeats.tolist() == [n]
    assert len(one.series()) == pairs.MAX_ENTRIES
    assert one.sampled


@bounded
def test_as_many_values_as_are_kept_are_not_sampled() -> None:
    n = pairs.MAX_ENTRIES
    full = Pairs.of(np.arange(n, dtype=np.uint64), np.arange(n)[::-1].copy(), np.linspace(0, 1, n))
    assert not full.sampled
    assert full.series().tolist() == np.linspace(0, 1, n)[::-1].tolist()
    more = full + Pairs.of(np.array([2**63], np.uint64), np.array([0]), np.array([0.5]))
    assert more.sampled
    assert more.total == n + 1
    assert np.array_equal(more.series(), full.series())


def test_times_far_apart_do_not_wrap_into_one_entry() -> None:
    far = np.array([-(2**62), 2**62, -(2**62)], np.int64)
    assert Pairs.of(np.zeros(3, np.uint64), far, np.zeros(3)).repeats.tolist() == [2, 1]


# ---- raw rows --------------------------------------------------------------------------------------------------------

some_rows = st.lists(
    st.builds(Row, st.integers(0, 12), st.integers(0, 3), st.sampled_from([b"", b"a" * 30, b"b" * 90]))
)


@unhurried
@given(rows=some_rows, most=st.integers(1, 12), size=st.integers(40, 900))
def test_the_rows_that_are_kept_come_first_by_hash_and_keep_within_the_bounds(
    rows: list[Row], most: int, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_rows, "MAX_ROWS", most)
        patch.setattr(raw_rows, "MAX_BYTES", size)
        kept = RawRows.of(rows)
        ordered = sorted(set(rows))
        assert sorted(kept.rows) == ordered[: len(kept.rows)]
        assert len(kept.rows) <= most
        assert sum(row.size for row in kept.rows) <= size
        assert kept.total == len(rows)
        assert all(n == rows.count(row) for row, n in kept.rows.items())
        left = ordered[len(kept.rows) :]
        assert kept.first_left_out == (left[0] if left else None)
        if left:  # and one more would be one too many
            assert len(kept.rows) == most or sum(row.size for row in ordered[: len(kept.rows) + 1]) > size


def test_a_series_of_rows_is_in_order_of_time_and_bounded_however_often_a_row_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raw_rows, "MAX_ROWS", 5)
    rows = RawRows.of([Row(1, 20, b"b")] * 3 + [Row(2, 10, b"a")] * 4)
    assert rows.series() == [Row(2, 10, b"a")] * 2 + [Row(1, 20, b"b")] * 3
    assert rows.sampled


def test_a_payload_that_is_too_large_is_only_counted() -> None:
    rows = RawRows.of([Row(1, 0, b"x" * (raw_rows.MAX_ROW_BYTES + 1)), Row(2, 0, b"y")])
    assert (list(rows.rows), rows.total, rows.sampled) == ([Row(2, 0, b"y")], 2, True)


def test_only_the_events_of_a_batch_that_were_kept_are_raw_rows() -> None:
    batch = Batch(
        Grid("m", "", ()), np.array([5, 6]), np.array([1, 2], np.uint64), np.empty((2, 0)), np.empty((0, 2), np.int64),
        rows=(b"a", b"b"),
    )  # fmt: skip
    assert Summary.of(batch.where(np.array([False, True]))).rows == RawRows.of([Row(2, 6, b"b")])
