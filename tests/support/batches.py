"""Hypothesis strategies for grids and batches, as nasty as they come.

The shape is drawn (so that it shrinks), the values come from a drawn seed: a value drawn for itself would cost more
than what is tested.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift.events import Batch
from streamdrift.grids import SCORE, Column, Grid, Kind, Role

NASTY = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e308,
    -1e308,
    1.7976931348623157e308,
    5e-324,
    -5e-324,
    2.2e-308,
    2.0**40,
    1e9 + 0.1,
)
"""Numbers at the ends of float64, and a few that tie."""

_PAYLOADS = (b"", b"a", b"b" * 40, b"c" * 300)

_edges = st.lists(
    st.one_of(st.integers(-5, 5).map(float), st.sampled_from(NASTY)), max_size=6, unique_by=lambda edge: edge + 0.0
).map(lambda edges: tuple(sorted(edges)))
_names = st.lists(st.sampled_from(["a", "b", "ü", "", "true", "3"]), max_size=5, unique=True).map(tuple)


@st.composite
def columns(draw: st.DrawFn, name: str, role: Role) -> Column:
    if name != SCORE and draw(st.booleans()):
        return Column(name, Kind.CATEGORICAL, role, categories=draw(_names))
    exponent = draw(st.sampled_from([0, -20, 13, -1074, 1003]))
    return Column(name, Kind.NUMERIC, role, draw(_edges), (), exponent, draw(st.sampled_from((0.0, 1.5, -1e308))))


@st.composite
def grids(draw: st.DrawFn, min_columns: int = 0) -> Grid:
    """Up to four features and a score."""
    size = draw(st.integers(min_columns, 5))
    names = [SCORE, "amount", "basket.items", "country", "x"][:size]
    roles = [Role.PREDICTION if name == SCORE else Role.FEATURE for name in names]
    return Grid("model", "7", tuple(draw(columns(name, role)) for name, role in zip(names, roles, strict=True)))


@st.composite
def batches(draw: st.DrawFn, grid: Grid, max_rows: int = 60) -> Batch:
    """Rows of all sorts; hashes and times are few, so that duplicates abound."""
    size = draw(st.integers(0, max_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.column_stack([_values(column, size, rng) for column in grid.columns] or [np.empty((size, 0))])
    wrong = rng.random(values.shape) < 0.05
    values[wrong] = np.nan
    unseen = tuple(
        (row, i, f"new {rng.integers(12)}")
        for i, column in enumerate(grid.columns)
        if column.kind is Kind.CATEGORICAL
        for row in np.flatnonzero(values[:, i] == column.bins).tolist()
    )
    absent = [rng.random(size) < 0.2 if draw(st.booleans()) else None for _ in range(2)]
    for role, without in zip((Role.FEATURE, Role.PREDICTION), absent, strict=True):
        for i, column in enumerate(grid.columns):
            if without is not None and column.role is role:
                values[without, i] = np.nan
                wrong[without, i] = False
    return Batch(
        grid,
        times=rng.integers(-3, 4, size) * 7_000_000,
        hashes=rng.integers(0, 2**64, 9, dtype=np.uint64)[rng.integers(0, 9, size)],
        values=values,
        type_errors=np.argwhere(wrong),
        unseen=tuple(u for u in unseen if not np.isnan(values[u[0], u[1]])),
        without_features=absent[0],
        without_prediction=absent[1],
        rows=tuple(_PAYLOADS[i] for i in rng.integers(0, len(_PAYLOADS), size)) if draw(st.booleans()) else None,
    )


def _values(column: Column, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if column.kind is Kind.CATEGORICAL:
        values = rng.integers(0, column.bins + 1, size).astype(np.float64)
    else:
        pool = np.array([*NASTY, *column.edges, *rng.normal(size=8)])
        values = pool[rng.integers(0, len(pool), size)]
    values[rng.random(size) < 0.1] = np.nan
    return values
