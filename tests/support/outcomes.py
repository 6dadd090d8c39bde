"""Labelled predictions at random, for the laws of outcomes and the metrics on them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import OutcomeSummary
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.spreads import Spreads

Rows = LabelRows | ValueRows

BINARY = OutcomeGrid(Task.BINARY, ("legit", "fraud"))
MULTICLASS = OutcomeGrid(Task.MULTICLASS, ("cat", "dog", "eel"))
UNNAMED = OutcomeGrid(Task.MULTICLASS)
REGRESSION = OutcomeGrid.regression(-20.0, 80.0)
GRIDS = (BINARY, MULTICLASS, UNNAMED, REGRESSION)

STRANGERS = tuple(f"stranger {i}" for i in range(6))
"""Classes that no grid names."""


def taken(rows: Rows, places: NDArray[np.int64]) -> Rows:
    """The rows at these places."""
    return rows.take(places)


@st.composite
def label_rows(draw: st.DrawFn, grid: OutcomeGrid, strangers: bool = True) -> LabelRows:  # noqa: FBT001, FBT002 — a choice
    """Rows of a classification, some with nothing predicted, odd probabilities, or classes that nobody named."""
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = (*grid.classes, *STRANGERS) if strangers or not grid.classes else grid.classes
    probabilities, told = None, draw(st.booleans())
    if told and grid.classes:
        probabilities = rng.dirichlet(np.ones(len(grid.classes)), n)
        if grid.task is Task.BINARY:
            probabilities = probabilities[:, 1:]
        odd = rng.random(n)
        probabilities[odd < 0.1] = np.nan
        probabilities[(odd > 0.9) & (odd < 0.95)] = 1.5
        probabilities[odd > 0.95] = np.arange(probabilities.shape[1]) % 2
    predicted = rng.integers(-1, len(names), n)
    return LabelRows(grid, names, rng.integers(0, len(names), n), predicted, probabilities)


numbers = st.one_of(st.floats(-100, 100), st.floats(), st.sampled_from([0.0, -0.0, 1e308]))


@st.composite
def value_rows(draw: st.DrawFn, grid: OutcomeGrid = REGRESSION) -> ValueRows:
    """Rows of a regression: any float at all."""
    true = draw(st.lists(numbers, max_size=40))
    predicted = draw(st.lists(numbers, min_size=len(true), max_size=len(true)))
    return ValueRows(grid, np.array(true, dtype=np.float64), np.array(predicted, dtype=np.float64))


def rows_of(grid: OutcomeGrid, strangers: bool = True) -> st.SearchStrategy[Rows]:  # noqa: FBT001, FBT002
    return value_rows(grid) if grid.task is Task.REGRESSION else label_rows(grid, strangers)


coverages = st.builds(
    lambda counts, delays: Coverage.of(counts, np.array(delays, dtype=np.int64)),
    st.dictionaries(st.sampled_from(Fate), st.integers(-5, 2**40)),
    st.lists(st.integers(-1, 2**46), max_size=10),
)


@st.composite
def outcome_summaries(draw: st.DrawFn, grid: OutcomeGrid) -> OutcomeSummary:
    """Outcomes taken back here and there, coverage, and a few raw errors."""
    outcomes = Outcomes.of(draw(rows_of(grid))) - Outcomes.of(draw(rows_of(grid)))
    n = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hashes, times = rng.integers(0, 9, n, dtype=np.uint64), rng.integers(0, 5, n) * 1_000_000
    errors = Pairs.of(hashes, times, rng.integers(0, 2, n).astype(np.float64))
    return OutcomeSummary(outcomes, draw(coverages), errors, Spreads.of(draw(rows_of(grid))))
