"""Columns that are derived of arrays and texts: in the fast way as in the slow one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.codecs import At, Mapping
from streamdrift.grids import PROJECTIONS, SCORE, Column, Derived, Grid, Kind, Role
from tests.codecs.test_json import Event
from tests.codecs.test_mapped import Message, events

unhurried = settings(deadline=None)

DIMENSION = 3
GRID = Grid(
    "m",
    "",
    (
        Column("amount", Kind.NUMERIC),
        Column("vector.norm", Kind.NUMERIC, derived=Derived.NORM, dimension=DIMENSION),
        *(
            Column(f"vector.projection_{i}", Kind.NUMERIC, derived=Derived.PROJECTION, index=i, dimension=DIMENSION)
            for i in range(PROJECTIONS)
        ),
        Column("note.text.length", Kind.NUMERIC, derived=Derived.LENGTH),
        Column(SCORE, Kind.NUMERIC, Role.PREDICTION),
    ),
)
VECTOR = frozenset(GRID.names[1 : 2 + PROJECTIONS])
POSITIONS = Mapping(features=At(("row",)), feature_names=("note.text", "vector", "other"))


def read(features: Sequence[str], *, slowly: bool = False) -> list[Event]:
    more = ', "ignored": NaN' if slowly else ""
    values = [f'{{"model_id": "m", "features": {raw}, "prediction": {{}}{more}}}'.encode() for raw in features]
    found = events([Message(value) for value in values], Mapping(), grids={("m", ""): GRID})
    return [event for event in found if isinstance(event, Event)]


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
cells = st.one_of(
    st.sampled_from(
        ["null", "[]", "[1, 2]", "[1, 2, 3, 4]", "[0, 0, 0]", "[17e307, 17e307, 17e307]", "[1, null, 2]",
         "[1, true, 2]", "[1e400, 0, 0]", "[1, 2, " + "9" * 400 + "]", "[5e-324, 0, 0]", '"text"', "7", "{}",
         '{"text": "ab"}', '"ü€😀"', '{"text": null}', '{"text": 5}', '"\\ud800"']
    ),
    st.lists(numbers, min_size=3, max_size=3).map(json.dumps),
    st.text(max_size=300).map(json.dumps),
)  # fmt: skip


@settings(unhurried, max_examples=300)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_the_fast_and_the_slow_way_derive_the_same(drawn: list[tuple[str, str]]) -> None:
    features = [f'{{"amount": 1, "vector": {vector}, "note": {note}}}' for vector, note in drawn]
    fast = read(features)
    assert len(fast) == len(features)
    slow = read(features, slowly=True)
    assert [event._replace(hash=0) for event in fast] == [event._replace(hash=0) for event in slow]
    assert fast == [event for one in features for event in read([one])]


def test_arrays_become_their_norm_and_projections() -> None:
    [event, other] = read(['{"vector": [3, 0, 4], "note": {"text": "äbc"}}', '{"vector": [6, 0, 8]}'])
    assert event.values.keys() == VECTOR | {"note.text.length"}
    assert event.values["vector.norm"] == pytest.approx(5.0)
    assert event.values["note.text.length"] == 3.0
    for name in VECTOR:
        assert other.values[name] == pytest.approx(2 * event.values[name])
    assert all(abs(event.values[name]) <= 7 / math.sqrt(3) + 1e-9 for name in VECTOR - {"vector.norm"})


@pytest.mark.parametrize("vector", ["[1, 2]", "[1, 2, 3, 4]", "[17e307, 17e307, 17e307]", "[[1], 2, 3]", '"a"', "5"])
def test_an_array_that_cannot_be_counted_is_a_type_error_of_all_its_columns(vector: str) -> None:
    good = '{"amount": 5, "vector": [1, 2, 3]}'
    [before, event, after] = read([good, f'{{"amount": 5, "vector": {vector}}}', good])
    assert event.type_errors == VECTOR
    assert event.values == {"amount": 5.0}
    assert before == after._replace(hash=before.hash)
    assert not before.type_errors


def test_arrays_may_stand_at_a_position() -> None:
    row: dict[str, Any] = {"model_id": "m", "row": ["ab", [0, 3, 4], None], "prediction": {}}
    [event] = events([Message(json.dumps(row).encode())], POSITIONS, grids={("m", ""): GRID})
    assert isinstance(event, Event)
    assert event.values["vector.norm"] == pytest.approx(5.0)
    assert event.values["note.text.length"] == 2.0
