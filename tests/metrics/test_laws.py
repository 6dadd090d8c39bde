"""What holds for every metric in the table: a new one is held to it without a test of its own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.metrics import METRICS, Better, Estimate, Undefined, evaluate
from streamdrift.summaries.outcomes import Outcomes
from tests.support.outcomes import BINARY, GRIDS, Rows, rows_of

few = settings(max_examples=80, deadline=None)
pairs = st.sampled_from(GRIDS).flatmap(lambda grid: st.tuples(rows_of(grid), rows_of(grid)))


def checked(result: Estimate | Undefined) -> None:
    """A finite number with a finite error, or a reason."""
    if isinstance(result, Undefined):
        assert result.reason
    else:
        assert result.n > 0
        assert math.isfinite(result.value)
        assert result.standard_error is None or 0 <= result.standard_error < math.inf
        assert 0 <= result.error < math.inf


@few
@given(pairs)
def test_a_metric_is_a_finite_number_or_says_why_there_is_none(rows: tuple[Rows, Rows]) -> None:
    outcomes = Outcomes.of(rows[0])
    for name, result in evaluate(outcomes).items():
        checked(result)
        for class_ in (*outcomes.grid.classes, "no such class"):
            checked(METRICS[name].of_class(outcomes, class_))


@few
@given(pairs)
def test_a_metric_bears_that_more_was_taken_back_than_added(rows: tuple[Rows, Rows]) -> None:
    """So it is where a revision comes in one tick, and what it revises came in another."""
    difference = Outcomes.of(rows[0]) - Outcomes.of(rows[1])
    impossible = Undefined("more was taken back than had been added", 0)
    for result in evaluate(difference).values():
        assert isinstance(result, Estimate | Undefined)
        assert difference.possible or result == impossible


@few
@given(pairs)
def test_what_was_added_before_can_be_taken_back_and_leaves_something_possible(rows: tuple[Rows, Rows]) -> None:
    a, b = map(Outcomes.of, rows)
    assert a.possible
    assert (a + b - a).possible
    assert (-a).possible == (len(rows[0]) == 0)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_stands_under_its_own_name_and_is_of_some_task(name: str) -> None:
    assert METRICS[name].name == name
    assert METRICS[name].tasks


def test_better_says_which_way_is_worse() -> None:
    assert Better.HIGHER.shortfall(0.7, 0.8) == pytest.approx(0.1)
    assert Better.LOWER.shortfall(0.7, 0.8) == pytest.approx(-0.1)
    assert Better.NEARER_ZERO.shortfall(-0.7, 0.5) == pytest.approx(0.2)


def test_scores_outside_all_classes_have_no_curve() -> None:
    assert METRICS["calibration_error"].of_class(Outcomes.empty(BINARY), "legit") == Undefined(
        "legit has no probabilities", 0
    )
