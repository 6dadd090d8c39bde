"""Outcomes add up and can be taken back in any order, and however they were split they are the same to the bit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import reduce
from operator import add

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamdrift.outcome_grids import CONFIDENCE, MAX_CLASSES, OutcomeGrid, Task
from streamdrift.summaries import confusion, moments, outcomes
from streamdrift.summaries.confusion import ANOTHER, OTHER, Confusion
from streamdrift.summaries.curves import BINS, CALIBRATION_BIN, CALIBRATION_BINS, EDGES, Curves
from streamdrift.summaries.logarithm import natural_log
from streamdrift.summaries.losses import Losses
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows, errors, of_groups
from streamdrift.summaries.tally import Tally
from tests.support.outcomes import (
    BINARY,
    GRIDS,
    MULTICLASS,
    REGRESSION,
    STRANGERS,
    UNNAMED,
    Rows,
    label_rows,
    rows_of,
    taken,
    value_rows,
)

few = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)
some_rows = st.sampled_from(GRIDS).flatmap(rows_of)
three = st.sampled_from(GRIDS).flatmap(lambda grid: st.lists(rows_of(grid), min_size=3, max_size=3))
with_known_classes = st.sampled_from((BINARY, MULTICLASS, REGRESSION)).flatmap(
    lambda grid: st.lists(rows_of(grid, strangers=False), min_size=2, max_size=2)
)


@pytest.fixture(params=["as shipped", "tight"], scope="class")  # ends with the test; Hypothesis refuses "function"
def bounds(request: pytest.FixtureRequest) -> Iterator[None]:
    """The laws hold below the bound of names and far beyond it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tight":
            patch.setattr(confusion, "MAX_UNKNOWN", 2)
        yield


bounded = pytest.mark.usefixtures("bounds")


# ---- the laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.task} {len(grid.classes)}")
def test_empty_and_empty_is_empty(grid: OutcomeGrid) -> None:
    assert Outcomes.empty(grid) + Outcomes.empty(grid) == Outcomes.empty(grid)
    assert -Outcomes.empty(grid) == Outcomes.empty(grid)


@bounded
@few
@given(some_rows)
def test_empty_adds_nothing_and_takes_nothing_back(rows: Rows) -> None:
    empty, whole = Outcomes.empty(rows.grid), Outcomes.of(rows)
    assert empty + whole == whole == whole + empty
    assert whole - empty == whole


@bounded
@few
@given(three)
def test_order_and_grouping_do_not_matter(parts: list[Rows]) -> None:
    a, b, c = map(Outcomes.of, parts)
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert -(a + b) == -a - b


@bounded
@few
@given(rows=some_rows, seed=seeds, parts=st.integers(1, 5))
def test_rows_split_in_any_way_and_any_order_add_up_to_the_whole(rows: Rows, seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.permutation(len(rows))
    pieces = [Outcomes.of(taken(rows, piece)) for piece in np.array_split(places, parts)]
    assert reduce(add, pieces, Outcomes.empty(rows.grid)) == Outcomes.of(rows)


@bounded
@few
@given(rows=some_rows, seed=seeds, parts=st.integers(1, 70))
def test_outcomes_of_groups_are_the_outcomes_of_each_group(rows: Rows, seed: int, parts: int) -> None:
    group = np.random.default_rng(seed).integers(0, parts, len(rows))
    found, numbers = np.unique(group, return_inverse=True)
    if len(found):
        of_each = [Outcomes.of(taken(rows, np.flatnonzero(group == g))) for g in found]
        assert of_groups(rows, numbers) == of_each


@few
@given(with_known_classes)
def test_taking_back_undoes_adding(parts: list[Rows]) -> None:
    a, b = map(Outcomes.of, parts)
    assert a + b - b == a
    assert a - a == Outcomes.empty(a.grid)
    assert b - a + a == b


@bounded
@few
@given(three)
def test_taking_back_what_was_added_before_undoes_it_whatever_the_names(parts: list[Rows]) -> None:
    a, b, _ = map(Outcomes.of, parts)
    whole = a + b
    assert whole - b + b == whole
    assert (whole - b).confusion.n == a.confusion.n
    assert whole.n - b.n == a.n


@few
@given(three)
@example([LabelRows(UNNAMED, STRANGERS, np.array([i]), np.array([i])) for i in range(3)])
def test_a_revised_label_leaves_what_the_last_one_alone_would_have_given(parts: list[Rows]) -> None:
    rest, old, new = map(Outcomes.of, parts)
    revised, at_once = rest + old - old + new, rest + new
    assert revised.confusion.cells == at_once.confusion.cells
    assert (revised.n, revised.curves, revised.losses) == (at_once.n, at_once.curves, at_once.losses)


def test_outcomes_on_different_grids_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="different grids"):
        _ = Outcomes.empty(BINARY) + Outcomes.empty(MULTICLASS)


# ---- confusion -------------------------------------------------------------------------------------------------------


@few
@given(label_rows(UNNAMED))
def test_names_beyond_the_bound_are_counted_together_and_the_others_exactly(rows: LabelRows) -> None:
    by_hand = Counter(
        (rows.names[t], rows.names[p])
        for t, p in zip(rows.true.tolist(), rows.predicted.tolist(), strict=True)
        if p >= 0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confusion, "MAX_UNKNOWN", 2)
        found = Outcomes.of(rows).confusion
    assert found.n == by_hand.total()
    kept = set(found.unknown)
    assert len(kept) <= 2
    folded = Counter[tuple[str, str]]()
    for (true, predicted), n in by_hand.items():
        strangers = not {true, predicted} & kept
        place = ANOTHER if strangers and true != predicted else predicted if predicted in kept else OTHER
        folded[true if true in kept else OTHER, place] += n
    assert found.cells == folded
    right = sum(n for (true, predicted), n in by_hand.items() if true == predicted)
    assert right == sum(n for (true, predicted), n in found.cells.items() if true == predicted)


def test_known_classes_are_never_crowded_out() -> None:
    known = tuple(f"class {i}" for i in range(100))
    strangers = {(f"stranger {i}", known[0]): 1 for i in range(1_000)}
    found = Confusion.of(known, strangers) + Confusion.of(known, dict.fromkeys(zip(known, known, strict=True), 1))
    assert [found.cells[name, name] for name in known] == [1] * 100
    assert len(found.unknown) == confusion.MAX_UNKNOWN
    assert found.cells[OTHER, known[0]] == 1_000 - confusion.MAX_UNKNOWN
    assert found.classes == (*known, *sorted(found.unknown), OTHER)
    assert found.matrix().sum() == found.n == 1_100


def test_a_long_name_is_cut_unless_the_grid_has_it() -> None:
    long = "x" * 200
    assert set(Confusion.of((), {(long, long): 1}).cells) == {("x" * 128, "x" * 128)}
    assert set(Confusion.of((long,), {(long, long): 1}).cells) == {(long, long)}


@few
@given(label_rows(MULTICLASS))
def test_rows_made_from_names_are_the_same_rows(rows: LabelRows) -> None:
    true = [rows.names[i] for i in rows.true]
    predicted = [rows.names[i] if i >= 0 else None for i in rows.predicted]
    assert Outcomes.of(LabelRows.of(rows.grid, true, predicted, rows.probabilities)) == Outcomes.of(rows)


def test_a_prediction_without_a_class_is_of_the_class_that_its_probabilities_say() -> None:
    scores = np.array([0.5, 0.499, np.nan, 2.0, 0.9])
    rows = LabelRows(BINARY, ("fraud",), np.zeros(5, np.int64), np.array([-1, -1, -1, -1, 0]), scores[:, None])
    assert Outcomes.of(rows).confusion.cells == {("fraud", "fraud"): 2, ("fraud", "legit"): 1}
    told = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    rows = LabelRows(MULTICLASS, ("eel",), np.zeros(2, np.int64), np.full(2, -1), told)
    assert Outcomes.of(rows).confusion.cells == {("eel", "dog"): 1, ("eel", "cat"): 1}


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_bins_are_fine_everywhere_and_finer_at_both_ends() -> None:
    edges = np.concatenate(([0.0], EDGES, [1.0]))
    widths = np.diff(edges)
    assert (widths > 0).all()
    assert len(widths) == BINS
    assert widths.max() <= 1 / 1024
    middle = (edges[1:-2] + edges[2:-1]) / 2
    assert (widths[1:-1] <= np.minimum(middle, 1 - middle) / 31).all()
    assert np.array_equal(CALIBRATION_BIN, np.floor(edges[:-1] * CALIBRATION_BINS))


@few
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 3)), min_size=1))
def test_curves_are_what_counting_by_hand_gives(rows: list[tuple[float, bool, int]]) -> None:
    p, hit, group = (np.array(column) for column in zip(*rows, strict=True))
    for g, curves in enumerate(Curves.of_groups(p[:, None], hit[:, None], group, 4)):
        ours = [(x, h) for x, h, k in rows if k == g]
        bins = Counter((int((x >= EDGES).sum()), h) for x, h in ours)
        for found, h in zip(curves.histogram(0), (False, True), strict=True):
            assert found.tolist() == [bins[b, h] for b in range(BINS)]
        n, sums, hits = curves.calibration(0)
        for b in range(CALIBRATION_BINS):
            inside = [(x, h) for x, h in ours if min(int(x * 16), 15) == b]
            assert n[b] == len(inside)
            assert hits[b] == sum(h for _, h in inside)
            assert sums[b] == pytest.approx(sum(x for x, _ in inside), abs=1e-9 * max(1, len(inside)))
        assert curves.squared_error(0) == pytest.approx(sum((x - h) ** 2 for x, h in ours), abs=1e-9 * len(rows))


def test_what_has_no_probability_is_counted_but_has_no_loss() -> None:
    probabilities = np.array([[0.2], [np.nan], [-0.1], [0.4]])
    names = ("fraud", "unheard of")
    rows = LabelRows(BINARY, names, np.array([0, 0, 0, 1]), np.full(4, -1), probabilities)
    found = Outcomes.of(rows)
    assert found.n == 4
    assert found.losses.count(outcomes.LOG_LOSS) == found.curves.histograms.counts.sum() == 1


def test_multiclass_has_a_curve_a_class_and_one_of_confidence() -> None:
    assert MULTICLASS.curves == ("cat", "dog", "eel", CONFIDENCE)
    told = np.array([[0.2, 0.5, 0.3]])
    rows = LabelRows(MULTICLASS, ("eel",), np.zeros(1, np.int64), np.full(1, -1), told)
    found = Outcomes.of(rows).curves
    hits = [int(found.histogram(i)[1].sum()) for i in range(4)]
    assert hits == [0, 0, 1, 0]
    assert found.calibration(3)[1].sum() == pytest.approx(0.5)


# ---- losses ----------------------------------------------------------------------------------------------------------


@few
@given(value_rows())
def test_sums_of_errors_are_exact(rows: ValueRows) -> None:
    found = Outcomes.of(rows).losses
    with np.errstate(over="ignore", invalid="ignore"):
        quanta = (rows.predicted - rows.true) / rows.grid.scale * 2.0**30
    finite = np.isfinite(rows.predicted) & np.isfinite(rows.true)
    usable = quanta[finite].tolist()
    limited = [math.copysign(moments.LIMIT, q) if abs(q) > moments.LIMIT else round(Fraction(q)) for q in usable]
    assert found.count(outcomes.ERROR) == len(usable)
    assert found.clamped(outcomes.ERROR) == sum(abs(q) > moments.LIMIT for q in usable)
    if usable:
        assert found.mean(outcomes.ERROR) == float(Fraction(int(sum(map(int, limited))), len(usable) << 30))
        assert found.variance(outcomes.ERROR) >= 0
        zeros = int((rows.true[finite] == 0).sum())
        assert found.count(outcomes.PERCENTAGE) == len(usable) - zeros


@few
@given(st.lists(st.floats(2.3e-16, 1.0, exclude_max=True), min_size=1))
def test_the_logarithm_is_right_to_the_last_bit_or_two(values: list[float]) -> None:
    expected = [math.log(value) for value in values]
    assert natural_log(np.array(values)) == pytest.approx(expected, rel=5e-16, abs=5e-16)


def test_losses_never_run_over() -> None:
    whole = Losses.of_groups(("x",), np.full((1, 1_000), 1_024.0), np.array([0]))[0]
    for _ in range(40):
        whole = whole + whole
    assert whole.mean("x") == 1_024
    assert whole.mean_square("x") == 1_024**2
    assert whole.count("x") == 1_000 << 40


def test_more_rows_than_keep_sums_exact_are_refused() -> None:
    rows = ValueRows(REGRESSION, np.zeros(moments.MAX_ROWS + 1), np.zeros(moments.MAX_ROWS + 1))
    with pytest.raises(ValueError, match="rows in one batch"):
        Outcomes.of(rows)


def test_a_detector_is_fed_wrong_or_right_or_the_size_of_the_error() -> None:
    rows = LabelRows(BINARY, ("legit", "fraud"), np.array([0, 1, 1]), np.array([0, 0, -1]))
    assert np.array_equal(errors(rows), [0.0, 1.0, np.nan], equal_nan=True)
    assert errors(ValueRows(REGRESSION, np.array([1.0, 5.0]), np.array([3.0, 4.0]))).tolist() == [2.0, 1.0]


# ---- tallies and grids -----------------------------------------------------------------------------------------------

keys = st.lists(st.integers(-5, 30), max_size=30)


@few
@given(ours=keys, theirs=keys)
def test_a_tally_is_a_counter_that_may_go_below_zero(ours: list[int], theirs: list[int]) -> None:
    difference = Tally.of(np.array(ours, np.int64)) - Tally.of(np.array(theirs, np.int64))
    by_hand = Counter(ours)
    by_hand.subtract(theirs)
    expected = {key: n for key, n in sorted(by_hand.items()) if n}
    assert dict(zip(difference.keys.tolist(), difference.counts.tolist(), strict=True)) == expected
    assert all(difference[key] == by_hand[key] for key in range(-10, 40))
    assert difference.dense(-5, 31).tolist() == [by_hand[key] for key in range(-5, 31)]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (lambda: OutcomeGrid(Task.BINARY, ("a",)), "negative and a positive"),
        (lambda: OutcomeGrid(Task.MULTICLASS, ("a", "a")), "twice"),
        (lambda: OutcomeGrid(Task.REGRESSION, ("a", "b")), "no classes"),
        (lambda: OutcomeGrid(Task.MULTICLASS, tuple(map(str, range(MAX_CLASSES + 1)))), "at most"),
        (lambda: OutcomeGrid(Task.BINARY, ("a", "b"), threshold=1.5), "threshold"),
        (lambda: OutcomeGrid(Task.REGRESSION, center=math.nan), "finite"),
        (lambda: OutcomeGrid.regression(2.0, 1.0), "range of the outcomes"),
    ],
)
def test_a_grid_that_means_nothing_is_refused(grid: object, message: str) -> None:
    assert callable(grid)
    with pytest.raises(ValueError, match=message):
        grid()


@few
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_the_scale_of_a_regression_is_a_power_of_two_near_its_range(one: float, other: float) -> None:
    low, high = sorted((one, other))
    grid = OutcomeGrid.regression(low, high)
    assert low <= grid.center <= high
    spread = Fraction(high) - Fraction(low)
    if Fraction(2) ** -490 < spread < Fraction(2) ** 490:
        assert 1 <= Fraction(grid.scale) / spread <= 4


def test_strangers_are_no_class_of_any_grid() -> None:
    assert not {name for grid in GRIDS for name in grid.classes} & set(STRANGERS)


def test_equal_grids_have_one_id_whether_a_default_was_stated_or_not() -> None:
    stated = msgspec.json.decode(
        b'{"task": "binary", "classes": ["legit", "fraud"], "threshold": 0.5}', type=OutcomeGrid
    )
    assert stated == BINARY
    assert stated.id == BINARY.id
    assert msgspec.structs.replace(stated, threshold=0.7).id != BINARY.id
