"""How a training column is counted, on columns as nasty as they come; and what is not counted, and why."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from streamdrift.cells import objects
from streamdrift.gridding import (
    INNER_BINS,
    MARGINS,
    MAX_CATEGORIES,
    Reason,
    boundaries,
    categories_of,
    column_of,
    edges_of,
    encode,
    moment_unit,
)
from streamdrift.grids import LABEL, MAX_BINS, SCORE, Column, Kind, Role, Unmonitored

Numbers = NDArray[np.float64]


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


finite = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.integers(1, 400)
nasty = st.one_of(
    arrays(np.float64, sizes, elements=finite),
    arrays(np.float64, sizes, elements=st.floats(-2.3e-308, 2.3e-308)),
    arrays(np.float64, sizes, elements=st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.0, 1e308, -1e308])),
    arrays(np.float64, sizes, elements=st.integers(-300, 300).map(float)),
    arrays(np.float64, sizes, elements=st.sampled_from([1e9 - 1, 1e9, 1e9 + 1, np.nextafter(1e9, 2e9)])),
    arrays(np.float64, sizes, elements=st.floats(1e9 - 1, 1e9 + 1)),
    st.integers(0, 9).map(lambda seed: rng(seed).lognormal(3, 3, 2000)),
    st.integers(0, 9).map(lambda seed: np.where(rng(seed).random(2000) < 0.9, 0.0, rng(seed).lognormal(size=2000))),
    finite.map(lambda value: np.full(300, value)),
)


@given(nasty)
def test_edges_are_finite_and_strictly_ascending_and_few_enough(x: Numbers) -> None:
    edges = edges_of(x)
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()
    assert len(edges) < MAX_BINS
    assert not np.signbit(edges[edges == 0]).any()


@given(nasty)
def test_what_lies_beyond_the_seen_range_falls_into_bins_that_were_empty(x: Numbers) -> None:
    edges = edges_of(x)
    counts = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
    # Beyond the largest float there is nothing.
    assert counts[0] == 0 or x.min() == -np.finfo(np.float64).max
    assert counts[-1] == 0 or x.max() == np.finfo(np.float64).max


@given(nasty)
def test_a_value_with_the_mass_of_a_bin_has_a_bin_of_its_own(x: Numbers) -> None:
    edges = edges_of(x)
    values, counts = np.unique(x, return_counts=True)
    bins = np.searchsorted(edges, values)
    # Where every value is heavy, the least heavy must share.
    heavy = counts * INNER_BINS >= 3 * len(x)
    if len(values) <= INNER_BINS:
        heavy[:] = True
    for place in np.flatnonzero(heavy):
        assert (bins == bins[place]).sum() == 1


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=500), st.integers(2, 40))
def test_bins_have_similar_mass_but_for_single_heavy_values(counts: list[int], limit: int) -> None:
    cuts = boundaries(np.array(counts), limit)
    assert (np.diff(cuts) > 0).all()
    assert len(cuts) < limit
    runs = np.split(np.array(counts), cuts + 1)
    for run in runs:
        assert len(run) == 1 or run.sum() <= 6 * sum(counts) / limit


def test_a_feature_that_is_mostly_zero_keeps_its_resolution_elsewhere() -> None:
    x = np.where(rng().random(20_000) < 0.95, 0.0, rng().lognormal(size=20_000))
    counts = np.bincount(np.searchsorted(edges_of(x), x))
    assert (counts > 0).sum() > 100
    assert np.sort(counts)[-2] < 30


def test_quantile_bins_of_continuous_values_have_equal_mass() -> None:
    x = rng().normal(size=50_000)
    counts = np.bincount(np.searchsorted(edges_of(x), x))
    assert (counts > 0).sum() >= INNER_BINS
    assert counts.max() <= 50_000 / INNER_BINS + 1


def test_margins_grade_how_far_a_value_is_off() -> None:
    x = rng().random(5000)
    bins = np.searchsorted(edges_of(x), [0.5, 1.1, 1.5, 3.0, 10.0, 40.0, 100.0])
    assert (np.diff(bins) > 0).all()
    assert bins[-1] - bins[1] == len(MARGINS)


def test_one_stray_value_does_not_hide_what_lies_between_it_and_the_bulk() -> None:
    x = np.append(rng().random(5000), 1e6)
    bins = np.searchsorted(edges_of(x), [1.0, 1.5, 3.0, 10.0, 40.0, 1e5])
    assert (np.diff(bins) > 0).all()


def test_edges_between_whole_numbers_leave_room_for_rounding() -> None:
    edges = edges_of(np.repeat(np.arange(10.0), 50))
    assert set(np.arange(0.5, 9)) <= set(edges.tolist())


@given(nasty)
def test_the_bulk_of_the_values_is_a_million_units_wide(x: Numbers) -> None:
    exponent, center = moment_unit(x)
    Column("x", Kind.NUMERIC, unit_exponent=exponent, center=center)
    outside = (len(x) - 1) // 1000
    bulk = np.sort(x)[outside : len(x) - outside]
    assume(-1074 < exponent < 1003 and bulk[0] < bulk[-1])
    assert 2**19 <= np.ldexp(bulk[-1] - bulk[0], -exponent) <= 2**20
    assert bulk[0] <= center + 2.0**exponent
    assert bulk[-1] >= center - 2.0**exponent


def test_a_large_offset_costs_no_precision() -> None:
    x = 1e9 + rng().normal(size=10_000)
    exponent, center = moment_unit(x)
    q = np.rint((x - center) / 2.0**exponent)
    assert center % 2.0**exponent == 0
    assert center + q.mean() * 2.0**exponent == pytest.approx(x.mean(), abs=1e-6)
    assert q.std() * 2.0**exponent == pytest.approx(x.std(), rel=1e-6)


def test_a_single_stray_value_costs_no_precision() -> None:
    exponent, _ = moment_unit(np.append(rng().normal(size=10_000), 1e300))
    assert exponent == pytest.approx(-18, abs=1)


# ---- numeric or categorical ----------------------------------------------------------------------------------------


def monitored(values: NDArray[Any], **options: Any) -> Column:  # noqa: ANN401 — column_of's own
    column = column_of(options.pop("name", "x"), values, **options)
    assert isinstance(column, Column), column
    return column


def reason(values: NDArray[Any]) -> str | None:
    column = column_of("x", values)
    return column.reason if isinstance(column, Unmonitored) else None


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        (np.repeat([1.0, 2.5, 3.0], [50, 100, 75]), ("2.5", "3", "1")),
        (np.repeat([3, 1], 100), ("1", "3")),
        (np.repeat([True, False], [10, 30]), ("false", "true")),
        (objects([True, None, True, False] * 20), ("true", "false")),
        (objects(["b", "a"] * 50), ("a", "b")),
        (np.repeat(np.array([0.1, 0.7], dtype=np.float32), 50), ("0.1", "0.7")),
        (np.full(100, 7.25), ("7.25",)),
        (objects([2**60 + 1, 2**60 + 2] * 50), (str(2**60 + 1), str(2**60 + 2))),
    ],
)
def test_few_values_are_categories_named_as_live_events_name_them(
    values: NDArray[Any], categories: tuple[str, ...]
) -> None:
    assert monitored(values).categories == categories


def test_six_values_are_numbers() -> None:
    assert monitored(np.tile(np.arange(6.0), 50)).kind is Kind.NUMERIC


def test_few_values_that_do_not_repeat_are_numbers() -> None:
    values = np.full(300, np.nan)
    values[:4] = [1.5, 2.5, 9.0, 4.0]
    assert monitored(values).kind is Kind.NUMERIC


def test_a_score_is_a_number_and_a_label_is_a_category_whatever_they_look_like() -> None:
    constant = np.full(300, 0.5)
    assert monitored(constant, name=SCORE, role=Role.PREDICTION).kind is Kind.NUMERIC
    assert monitored(np.arange(300), name=LABEL, role=Role.PREDICTION).kind is Kind.CATEGORICAL


def test_a_constant_stays_watched_so_that_another_value_shows() -> None:
    column = monitored(np.full(300, 4))
    codes, wrong = encode(column, np.array([4, 5]))
    assert codes.tolist() == [0, 1]
    assert column.bins == 1
    assert not wrong.any()
    edges = monitored(np.full(300, 4.0), kind=Kind.NUMERIC).edges
    assert len(set(np.searchsorted(edges, [3.0, 4.0, 5.0]).tolist())) == 3


def test_values_of_a_wrong_type_are_neither_missing_nor_counted() -> None:
    column = monitored(np.tile(np.arange(10.0), 30))
    codes, wrong = encode(column, objects([1, 2.5, None, float("nan"), "3", True, [1], float("inf"), 10**400]))
    assert codes[:2].tolist() == [1, 2.5]
    assert np.isnan(codes[2:]).all()
    assert wrong.tolist() == [False] * 4 + [True] * 5
    categorical = monitored(objects(["a", "b"] * 50))
    codes, wrong = encode(categorical, objects(["a", "c", None, {"b": 1}]))
    assert codes[:2].tolist() == [0, 2]
    assert wrong.tolist() == [False, False, False, True]


def test_a_few_words_among_numbers_are_type_errors_not_a_new_type() -> None:
    values = objects([*rng().random(995).tolist(), "?", "?", "?", "-", "-"])
    assert monitored(values).kind is Kind.NUMERIC
    assert encode(monitored(values), values)[1].sum() == 5


def test_at_most_200_categories_are_named_and_only_the_frequent_of_more() -> None:
    names = [f"c{i}" for i in range(300) for _ in range(10 + i)]
    counts = Counter(names)
    categories = categories_of(counts)
    assert len(categories) == MAX_CATEGORIES
    assert categories[0] == "c299"
    rare = Counter({f"c{i}": 5 for i in range(300)} | {"often": 50})
    assert categories_of(rare) == ("often",)
    assert len(categories_of(rare, at_least=1)) == MAX_CATEGORIES


def test_names_that_are_too_long_for_a_summary_are_no_categories() -> None:
    assert categories_of(Counter({"x" * 129: 50, "y" * 128: 5})) == ("y" * 128,)


# ---- set aside -----------------------------------------------------------------------------------------------------

N = 2000
ids = rng().permutation(50_000)[:N]
SET_ASIDE: list[tuple[Reason, NDArray[Any]]] = [
    (Reason.ALL_MISSING, np.full(N, np.nan)),
    (Reason.ALL_MISSING, objects([None] * N)),
    (Reason.IDENTIFIER, objects(f"user-{i}" for i in ids)),
    (Reason.IDENTIFIER, objects(f"{i * 7919:032x}" for i in ids)),
    (Reason.IDENTIFIER, ids),
    (Reason.IDENTIFIER, ids.astype(np.float64)),
    (Reason.IDENTIFIER, np.append(ids, ids[:5])),
    (Reason.IDENTIFIER, rng().integers(10**9, 10**10, N)),
    (Reason.IDENTIFIER, objects(rng().integers(2**60, 2**63, N).tolist())),
    (Reason.COUNTER, np.arange(N)),
    (Reason.COUNTER, np.arange(N)[::-1] * 3.5),
    (Reason.COUNTER, np.concatenate((np.arange(N), [N + 5, N + 1], N + 10 + np.arange(N)))),
    (Reason.COUNTER, np.cumsum(rng().exponential(size=N))),
    (Reason.TIMESTAMP, np.datetime64("2026-01-01") + rng().integers(0, 300, N)),
    (Reason.TIMESTAMP, 1_767_225_600 + rng().integers(0, 10**7, N)),
    (Reason.TIMESTAMP, 1_767_225_600_000 + rng().integers(0, 10**10, N)),
    (Reason.TIMESTAMP, (1_767_225_600 + rng().random(N) * 1e7) * 1e9),
    (Reason.TIMESTAMP, 20_260_000 + rng().integers(1, 13, N) * 100 + rng().integers(1, 29, N)),
    (Reason.TIMESTAMP, objects(["2026-01-01T10:00:00.123Z", "2026-02-03 11:12:13+01:00"] * N)),
    (Reason.TIMESTAMP, objects(["2026-01-01", "1999-12-31"] * N)),
    (Reason.FREE_TEXT, objects(f"the customer called {i} times" for i in ids)),
    (Reason.MANY_CATEGORIES, objects(f"c{i}" for i in rng().integers(0, 900, N))),
    (Reason.UNSUPPORTED, objects([[1, 2], [3]] * N)),
    (Reason.UNSUPPORTED, np.ones(N, dtype="timedelta64[s]")),
]


@pytest.mark.parametrize(("expected", "values"), SET_ASIDE, ids=[f"{r} {i}" for i, (r, _) in enumerate(SET_ASIDE)])
def test_what_names_a_row_or_its_time_is_set_aside(expected: Reason, values: NDArray[Any]) -> None:
    assert reason(values) == expected


KEPT: dict[str, NDArray[Any]] = {
    "amounts": rng().lognormal(3, 1, N),
    "amounts in cents": np.rint(rng().lognormal(9, 1, N)),
    "large amounts in cents": np.rint(rng().lognormal(16, 2, N)).astype(np.int64),
    "bytes": np.rint(rng().lognormal(25, 1, N)).astype(np.int64),
    "uniform integers": rng().integers(0, 10**6, N),
    "few rows of uniform integers": rng().integers(0, 10**6, 200),
    "ages": rng().integers(18, 90, N),
    "sorted ages": np.sort(rng().integers(18, 90, N)),
    "scores": rng().random(N),
    "random walk": np.cumsum(rng().normal(size=N)),
    "upward trend with noise": np.arange(N) + rng().normal(0, 3, N),
    "a sensor near 1e9": 1e9 + rng().normal(size=N),
    "huge floats": rng().lognormal(600, 1, N),
    "few ascending values": np.concatenate((np.arange(29.0), np.full(400, np.nan))),
    "few distinct names": objects([*(f"n{i}" for i in range(29)), *[None] * 300]),
    "zip codes": objects(f"{i:05d}" for i in rng().integers(0, 100, N)),
    "names with a long tail": objects(f"merchant {int(i)}" for i in np.minimum(rng().zipf(1.5, N), 5000)),
    "sentences from a list": objects(f"reason number {i} of many" for i in rng().integers(0, 20, N)),
    "dates without meaning": objects(f"{i}-{i}" for i in rng().integers(0, 20, N)),
}


@pytest.mark.parametrize("values", KEPT.values(), ids=KEPT.keys())
def test_what_only_looks_like_an_identifier_stays_watched(values: NDArray[Any]) -> None:
    assert reason(values) is None


@pytest.mark.parametrize("seed", range(40))
def test_hardly_repeating_integers_of_any_density_are_not_taken_for_identifiers(seed: int) -> None:
    spread = 10.0 ** rng(seed).uniform(3, 7)
    n = int(rng(seed).integers(200, 5000))
    assert reason(np.rint(rng(seed).normal(0, spread, n)).astype(np.int64)) is None


@given(st.lists(st.floats(0, 100), min_size=30, max_size=60))
@settings(max_examples=50)
def test_a_short_column_is_a_counter_only_if_it_never_turns(values: list[float]) -> None:
    steps = np.diff(values)
    assume(len(set(values)) > 10 and not ((steps > 0).all() or (steps < 0).all()))
    assert reason(np.array(values)) != Reason.COUNTER


@pytest.mark.parametrize(("_expected", "values"), [case for case in SET_ASIDE if case[1].dtype.kind in "if"])
def test_the_user_can_have_numbers_watched_that_would_be_set_aside(_expected: Reason, values: NDArray[Any]) -> None:
    column = column_of("x", values, kind=Kind.NUMERIC)
    assert isinstance(column, Column) or column.reason == Reason.ALL_MISSING


def test_the_user_can_have_names_watched_that_would_be_set_aside() -> None:
    column = monitored(objects(f"user-{i}" for i in ids), kind=Kind.CATEGORICAL)
    assert len(column.categories) == MAX_CATEGORIES
