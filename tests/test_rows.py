"""Rows of events without a grid: counted later, they count as if the grid had been known from the first event on."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift import rows
from streamdrift.codecs import Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.derived import UNSUPPORTED, LongText, Vector
from streamdrift.events import Batch, SourceKind
from streamdrift.grids import LABEL, SCORE, Column, Derived, Grid, Kind, Role
from streamdrift.records import RecordBatch
from streamdrift.summaries.names import MAX_LENGTH

VECTOR = [Column("vector.norm", Kind.NUMERIC, derived=Derived.NORM, dimension=3, edges=(1.0, 2.0))] + [
    Column(f"vector.projection_{i}", Kind.NUMERIC, derived=Derived.PROJECTION, index=i, dimension=3) for i in range(8)
]
GRID = Grid(
    "fraud",
    "7",
    (
        Column("amount", Kind.NUMERIC, edges=(10.0, 100.0)),
        Column("country", Kind.CATEGORICAL, categories=("DE", "ü" * MAX_LENGTH)),
        Column("floor", Kind.CATEGORICAL, categories=("0", "1", "2.5")),
        Column("new", Kind.CATEGORICAL, categories=("true", "false")),
        Column("a.b", Kind.NUMERIC),
        Column("a.b.c", Kind.CATEGORICAL, categories=("x",)),
        Column("a", Kind.NUMERIC),
        *VECTOR,
        Column("comment.length", Kind.NUMERIC, derived=Derived.LENGTH),
        Column("a.b.length", Kind.NUMERIC, derived=Derived.LENGTH),
        Column(SCORE, Kind.NUMERIC, Role.PREDICTION, edges=(0.5,)),
        Column(LABEL, Kind.CATEGORICAL, Role.PREDICTION, categories=("legit", "fraud")),
        Column("prediction.probabilities.x.y", Kind.NUMERIC, Role.PREDICTION),
        Column("prediction.outputs.risk.score", Kind.NUMERIC, Role.PREDICTION),
        Column("prediction.outputs.risk.label", Kind.CATEGORICAL, Role.PREDICTION, categories=("low",)),
    ),
)

numbers = st.one_of(
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from([2**63, 2**64, -(2**70), 10**25, 10**400, 0.1, 5e-324, 1.7e308]),
)
texts = st.one_of(
    st.sampled_from(["DE", "x", "legit", "", "1", "true", "low", "ü" * 128, "ü" * 129, "y" * 300]),
    st.text(max_size=4),
)
arrays = st.lists(st.one_of(numbers, st.none(), st.booleans(), st.lists(numbers, max_size=2)), max_size=4)
vectors = st.lists(st.floats(-1e9, 1e9) | st.integers(-9, 9), min_size=3, max_size=3)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, arrays, vectors)
keys = st.sampled_from(
    ["a", "b", "c", "a.b", "b.c", "a.b.c", "length", "amount", "country", "vector", "comment", "norm"]
)
objects = st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=8)
known = {"amount": scalars, "country": scalars, "floor": scalars, "new": scalars, "vector": vectors | scalars,
         "comment": scalars, "a": objects, "a.b": objects, "a.b.c": scalars}  # fmt: skip
features = st.fixed_dictionaries({}, optional=known)
outputs = st.dictionaries(st.sampled_from(["risk", "score"]), st.fixed_dictionaries(
    {}, optional={"score": objects, "label": objects, "probabilities": objects}), max_size=2)  # fmt: skip
predictions = st.fixed_dictionaries({}, optional={
    "score": objects, "label": objects, "value": scalars, "other": objects, "outputs.risk": objects,
    "probabilities": st.dictionaries(st.sampled_from(["x", "y", "x.y"]), objects, max_size=3), "outputs": outputs,
})  # fmt: skip
events = st.fixed_dictionaries(
    {"model_id": st.just("fraud"), "model_version": st.just("7"), "prediction": predictions},
    optional={"features": st.none() | features},
)


def decode(messages: list[dict[str, Any]], kind: SourceKind, grid: Grid | None) -> Batch:
    values = [json.dumps(message).encode() for message in messages]
    n = len(values)
    decoder = JsonDecoder(Source("t", kind=kind), lambda *_: grid)
    decoded = decoder.decode(RecordBatch("t", 0, range(n), [1] * n, [None] * n, values, [()] * n))
    assert not decoded.dead
    [part] = decoded.batches
    return part.events.take(np.argsort(part.index))


def assert_same(one: Batch, other: Batch) -> None:
    names = one.grid.names
    for i, name in enumerate(names):
        assert one.values[:, i].tolist() == pytest.approx(other.values[:, i].tolist(), rel=0, abs=0, nan_ok=True), name
    assert sorted(map(tuple, one.type_errors.tolist())) == sorted(map(tuple, other.type_errors.tolist()))
    assert sorted(one.unseen) == sorted(other.unseen)
    assert one.hashes.tolist() == other.hashes.tolist()
    for a, b in (
        (one.without_features, other.without_features),
        (one.without_prediction, other.without_prediction),
    ):
        assert (np.zeros(len(one), bool) if a is None else a).tolist() == (
            np.zeros(len(one), bool) if b is None else b
        ).tolist()


@given(st.lists(events, min_size=1, max_size=4))
def test_rows_count_on_a_grid_as_the_events_themselves_do(messages: list[dict[str, Any]]) -> None:
    blind = decode(messages, SourceKind.PREDICTIONS, None)
    assert blind.rows is not None
    assert_same(
        decode(messages, SourceKind.PREDICTIONS, GRID), rows.batch_of(GRID, blind.hashes, blind.times, blind.rows)
    )


@given(st.lists(features, min_size=1, max_size=4))
def test_rows_of_features_alone_count_no_prediction(parts: list[dict[str, Any]]) -> None:
    messages = [{"model_id": "fraud", "model_version": "7", "features": part, "prediction": {}} for part in parts]
    blind = decode(messages, SourceKind.FEATURES, None)
    assert blind.rows is not None
    assert [rows.decode_row(row)[1] for row in blind.rows] == [None] * len(parts)
    assert_same(decode(messages, SourceKind.FEATURES, GRID), rows.batch_of(GRID, blind.hashes, blind.times, blind.rows))


@given(features, predictions)
def test_a_row_does_not_depend_on_the_order_of_keys(features: dict[str, Any], prediction: dict[str, Any]) -> None:
    turned = dict(reversed(features.items())), dict(reversed(prediction.items()))
    assert rows.encode_row(features, prediction) == rows.encode_row(*turned)


def test_values_become_cells_under_flattened_names() -> None:
    payload = rows.encode_row(
        {
            "amount": 3, "gone": None, "nan": math.nan, "inf": math.inf, "big": 2**80, "basket": {"items": {}, "n": 1},
            "text": "é" * 200, "pair": [3, 4.0], "mixed": [1, "a"], "single": [1], "nothing": [], "new": False,
        },
        {"score": 0.5, "secret": 1, "probabilities": {"a": 0.25}, "outputs": {"risk": {"label": "low", "x": 1}}},
    )  # fmt: skip
    features, prediction = rows.decode_row(payload)
    assert features is not None
    assert prediction == {"score": 0.5, "probabilities.a": 0.25, "outputs.risk.label": "low"}
    pair = features["pair"]
    assert isinstance(pair, Vector)
    assert (pair.dimension, pair.values[0]) == (2, 5.0)
    assert {**features, "pair": None} == {
        "amount": 3, "gone": None, "nan": None, "inf": UNSUPPORTED, "big": 2**80, "basket": UNSUPPORTED,
        "basket.items": UNSUPPORTED, "basket.n": 1, "text": LongText("é" * 128, 200), "pair": None,
        "mixed": UNSUPPORTED, "single": UNSUPPORTED, "nothing": UNSUPPORTED, "new": False,
    }  # fmt: skip


def test_an_event_without_a_part_is_told_from_one_with_an_empty_part() -> None:
    assert rows.decode_row(rows.encode_row(None, {})) == (None, {})


def test_columns_hold_a_cell_for_every_row_and_no_objects() -> None:
    payloads = [
        rows.encode_row({"basket": {"items": 1}}, {"score": 0.5}),
        rows.encode_row({"basket": {}, "x": "a"}, None),
        rows.encode_row(None, {"score": 0.25}),
    ]
    columns = {key: values.tolist() for key, values in rows.columns_of(payloads).items()}
    assert columns == {
        (Role.FEATURE, "basket.items"): [1, None, None],
        (Role.FEATURE, "basket"): [None, UNSUPPORTED, None],
        (Role.FEATURE, "x"): [None, "a", None],
        (Role.PREDICTION, "prediction.score"): [0.5, None, 0.25],
    }


def test_of_too_many_fields_the_same_are_kept_whatever_the_order() -> None:
    wide = {f"f{i}": i for i in range(rows.MAX_FIELDS + 500)}
    kept, _ = rows.decode_row(rows.encode_row(wide, None))
    again, _ = rows.decode_row(rows.encode_row(dict(reversed(wide.items())), None))
    assert kept is not None
    assert len(kept) == rows.MAX_FIELDS
    assert kept == again


def test_names_that_are_absurdly_long_or_deep_are_left_out() -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(rows.MAX_DEPTH + 5):
        deep = {"d": deep}
    features, _ = rows.decode_row(rows.encode_row({"n" * (rows.MAX_NAME_LENGTH + 1): 1, **deep}, None))
    assert features is not None
    assert max(name.count(".") for name in features) == rows.MAX_DEPTH
    assert set(features.values()) == {UNSUPPORTED}
