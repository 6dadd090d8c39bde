"""How outcomes are counted where nobody said it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.outcome_grids import MAX_CLASSES, OutcomeGrid, Task
from streamdrift.outcome_learning import ENOUGH, PATIENCE, learned_grid
from streamdrift.outcome_rows import OutcomeColumns


def columns(
    labels: Sequence[str | None],
    *,
    predicted: Sequence[str | None] | None = None,
    scores: Sequence[float] | None = None,
    values: Sequence[float] | None = None,
    probabilities: Sequence[dict[str, float] | None] | None = None,
) -> OutcomeColumns:
    n = len(labels)
    return OutcomeColumns(
        np.arange(n, dtype=np.int64),
        np.arange(n, dtype=np.uint64),
        np.ones(n, dtype=np.int8),
        np.ones(n, dtype=np.bool_),
        predicted or [None] * n,
        np.array(scores or [np.nan] * n, dtype=np.float64),
        probabilities or [None] * n,
        np.full(n, np.nan),
        labels,
        np.array(values or [np.nan] * n, dtype=np.float64),
    )


HALF = ["good", "bad"] * ENOUGH


def test_the_class_of_high_scores_is_positive() -> None:
    scores = [0.2, 0.7] * ENOUGH
    assert learned_grid(columns(HALF, scores=scores)) == OutcomeGrid(Task.BINARY, ("good", "bad"))
    assert learned_grid(columns(HALF, scores=scores[::-1])) == OutcomeGrid(Task.BINARY, ("bad", "good"))


def test_what_the_model_predicts_tells_more_than_what_is_true() -> None:
    """A model that is wrong more often than right still says which class its scores are of."""
    found = learned_grid(columns(HALF, predicted=HALF[::-1], scores=[0.2, 0.7] * ENOUGH))
    assert found == OutcomeGrid(Task.BINARY, ("bad", "good"))


@pytest.mark.parametrize(("names", "expected"), [(["0", "1"], ("0", "1")), (["true", "false"], ("false", "true"))])
def test_without_scores_one_and_true_are_positive(names: list[str], expected: tuple[str, str]) -> None:
    assert learned_grid(columns(names * ENOUGH)) == OutcomeGrid(Task.BINARY, expected)


def test_two_classes_of_which_none_is_positive_are_classes() -> None:
    assert learned_grid(columns(HALF)) == OutcomeGrid(Task.MULTICLASS, ("bad", "good"))


def test_classes_that_are_predicted_only_count_as_well() -> None:
    found = learned_grid(columns(["a", "b"] * ENOUGH, predicted=["c", "a"] * ENOUGH))
    assert found == OutcomeGrid(Task.MULTICLASS, ("a", "b", "c"))
    told: list[dict[str, float] | None] = [{"a": 0.5, "d": 0.5}, None] * ENOUGH
    assert learned_grid(columns(["a", "b"] * ENOUGH, probabilities=told)) == OutcomeGrid(
        Task.MULTICLASS, ("a", "b", "d")
    )


def test_numbers_are_a_regression_over_their_range() -> None:
    found = learned_grid(columns([None] * 400, values=[float(i) for i in range(400)]))
    assert found == OutcomeGrid.regression(0.0, 399.0)


def test_too_few_outcomes_tell_nothing() -> None:
    assert learned_grid(columns(HALF[: ENOUGH - 1])) is None
    assert learned_grid(columns([])) is None
    assert learned_grid(columns([None] * 400, values=[np.nan] * 400)) is None


def test_one_class_alone_is_waited_for_another_to_join_but_not_for_ever() -> None:
    assert learned_grid(columns(["legit"] * (PATIENCE - 1))) is None
    assert learned_grid(columns(["legit"] * PATIENCE)) == OutcomeGrid(Task.MULTICLASS, ("legit",))


def test_the_most_frequent_of_too_many_classes_are_named() -> None:
    names = [f"{i:04}" for i in range(MAX_CLASSES + 50)]
    found = learned_grid(columns(names + names[50:]))
    assert found is not None
    assert found.classes == tuple(names[50:])


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(40)))
def test_the_order_of_the_outcomes_changes_nothing(order: list[int]) -> None:
    labels = [HALF[i] for i in order] * 10
    scores = [(0.1 + 0.6 * (i % 2)) * (1 + i / 1e9) for i in order] * 10
    assert learned_grid(columns(labels, scores=scores)) == learned_grid(
        columns(HALF[:40] * 10, scores=[0.1, 0.7] * 200)
    )


def test_what_was_taken_back_says_nothing() -> None:
    found = columns(HALF)
    assert learned_grid(replace(found, signs=-found.signs)) is None
