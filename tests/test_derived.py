"""What is counted of arrays and long texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamdrift.derived import UNSUPPORTED, LongText, Vector, condensed, derived_value, vectors
from streamdrift.grids import PROJECTIONS, Column, Derived, Kind

NORM = Column("x.norm", Kind.NUMERIC, derived=Derived.NORM, dimension=2)
LENGTH = Column("x.length", Kind.NUMERIC, derived=Derived.LENGTH)

SIGNS = ["+-++--++", "++-++---", "--+-----", "----++-+", "-++--+--", "-+-+--++", "-++-+++-", "+----++-"]
"""Of the positions 0 to 7 along each direction."""

matrices = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 40)), elements=st.floats(-1e300, 1e300))


def components(values: list[float]) -> tuple[float, ...]:
    cell = condensed(values)
    assert isinstance(cell, Vector)
    return cell.values


@given(matrices)
def test_many_arrays_at_once_give_what_each_gives_alone(matrix: np.ndarray) -> None:
    together = vectors(matrix)
    alone = [vectors(np.ascontiguousarray(row[None]))[0] for row in matrix]
    assert together.tobytes() == np.array(alone).tobytes()


@given(arrays(np.float64, st.integers(2, 300), elements=st.floats(-1e6, 1e6)))
def test_norm_and_projections_are_those_of_the_array(x: np.ndarray) -> None:
    norm, *projections = components(x.tolist())
    assert norm == pytest.approx(math.hypot(*x), rel=1e-9, abs=1e-300)
    assert max(map(abs, projections)) <= norm * (1 + 1e-9)


def test_projections_keep_distances_on_average() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2_000, 768))
    found = vectors(x)
    ratio = (found[:, 1:] ** 2).mean(axis=1) * 768 / found[:, 0] ** 2
    assert ratio.mean() == pytest.approx(1.0, abs=0.03)
    correlations = np.corrcoef(found[:, 1:].T) - np.eye(PROJECTIONS)
    assert np.abs(correlations).max() < 0.15


def test_the_directions_are_the_same_for_ever() -> None:
    identity = vectors(np.eye(8))[:, 1:] * math.sqrt(8)
    assert ["".join("+" if sign > 0 else "-" for sign in row) for row in identity.tolist()] == SIGNS


def test_a_number_in_another_place_is_another_array() -> None:
    assert components([1.0, 0.0, 0.0]) != components([0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "value",
    [[], [1], [1, "a"], [1, None], [1, True], [[1, 2]], [1, math.nan], [1, math.inf], [1, 10**400], [0] * 4097,
     {"a": 1}, [1.7e308] * 4096, np.array(["a", "b"]), np.zeros((2, 2)), object()],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_what_is_no_array_of_numbers_cannot_be_counted(value: object) -> None:
    assert condensed(value) is UNSUPPORTED


def test_an_array_of_another_length_is_of_a_wrong_type() -> None:
    assert derived_value(NORM, condensed([3, 4])) == 5.0
    assert derived_value(NORM, condensed([3, 4, 0])) is None
    assert derived_value(NORM, condensed("a")) is None
    assert math.isnan(derived_value(NORM, None) or 0.0)


def test_the_length_of_a_text_is_in_characters() -> None:
    assert derived_value(LENGTH, condensed("")) == 0.0
    assert derived_value(LENGTH, condensed("ü😀")) == 2.0
    assert derived_value(LENGTH, condensed("ü" * 1_000)) == 1_000.0
    assert derived_value(LENGTH, 3) is None
    assert math.isnan(derived_value(LENGTH, None) or 0.0)


@given(st.text(max_size=300) | st.integers() | st.floats() | st.none() | st.lists(st.floats(-1, 1), max_size=5))
def test_a_cell_is_its_own_cell(value: object) -> None:
    cell = condensed(value)
    assert condensed(cell) == cell
    assert not isinstance(cell, str) or len(cell) <= 128
    assert not isinstance(cell, LongText) or (len(cell.beginning), cell.length > 128) == (128, True)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("x.norm", {"derived": Derived.NORM, "dimension": 1}),
        ("x.norm", {"derived": Derived.NORM, "dimension": 2, "index": 1}),
        ("x.length", {"derived": Derived.LENGTH, "dimension": 2}),
        ("x.projection_1", {"derived": Derived.PROJECTION, "dimension": 2, "index": 2}),
        ("x.projection_8", {"derived": Derived.PROJECTION, "dimension": 2, "index": 8}),
        ("x", {"derived": Derived.LENGTH}),
        ("x", {"dimension": 2}),
    ],
)
def test_a_derived_column_that_cannot_be_is_refused(name: str, facts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=name):
        Column(name, Kind.NUMERIC, **facts)  # type: ignore[arg-type]


def test_a_derived_column_knows_its_source() -> None:
    assert NORM.source == "x"
    assert Column("a.b.projection_3", Kind.NUMERIC, derived=Derived.PROJECTION, index=3, dimension=4).source == "a.b"
    assert Column("x.norm", Kind.NUMERIC).source == "x.norm"
