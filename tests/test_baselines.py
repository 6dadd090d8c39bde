"""Baselines as files: the same content has the same id, and what is wrong in a file is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.baselines import FORMAT, Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.events import Batch
from streamdrift.grids import SCORE, Column, Grid, Kind, Role, Unmonitored
from streamdrift.model_settings import Features
from streamdrift.summaries import Summary
from streamdrift.tables import baseline_from_columns
from tests.support.batches import batches, grids

unhurried = settings(deadline=None)  # a busy machine is no failure


def baseline_of(batch: Batch) -> Baseline:
    """Of a training table: every column counts every row, and no names are kept."""
    return Baseline(
        batch.grid, Summary.of(Batch(batch.grid, batch.times, batch.hashes, batch.values, batch.type_errors))
    )


@pytest.fixture
def baseline() -> Baseline:
    grid = Grid(
        "fraud",
        "7",
        (
            Column("amount", Kind.NUMERIC, edges=(1.0, 10.0), unit_exponent=-17, center=5.5),
            Column("basket.items", Kind.NUMERIC, edges=(2.0,)),
            Column("country", Kind.CATEGORICAL, categories=("DE", "FR")),
            Column(SCORE, Kind.NUMERIC, Role.PREDICTION, edges=(0.5,), unit_exponent=-20),
        ),
        (Unmonitored("id", "identifier"),),
    )
    rng = np.random.default_rng(1)
    values = np.column_stack(
        [rng.lognormal(1, 2, 100), rng.integers(0, 5, 100), rng.integers(0, 3, 100), rng.random(100)]
    )
    values[:3, 0] = np.nan
    wrong = np.array([[0, 0]])
    return Baseline(grid, Summary.of(Batch(grid, np.zeros(100, np.int64), np.zeros(100, np.uint64), values, wrong)))


def document(baseline: Baseline) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(baseline.to_json())
    return parsed


# ---- round trip and id -----------------------------------------------------------------------------------------------


@unhurried
@given(grids().flatmap(batches))
def test_a_baseline_is_read_as_it_was_written(batch: Batch) -> None:
    written = baseline_of(batch)
    read = Baseline.from_json(written.to_json())
    assert (read.grid, read.summary) == (written.grid, written.summary)
    assert read.to_json() == written.to_json()
    assert read.id == written.id


@unhurried
@given(st.lists(grids().flatmap(batches), min_size=2, max_size=2))
def test_ids_are_equal_where_contents_are(two: list[Batch]) -> None:
    a, b = map(baseline_of, two)
    assert (a.id == b.id) == ((a.grid, a.summary) == (b.grid, b.summary))
    assert (a.grid.id == b.grid.id) == (a.grid == b.grid)


def test_an_id_is_for_ever() -> None:
    """Golden values: what lies in the compacted topic is found by them."""
    grid = Grid("m", "1", (Column("x", Kind.NUMERIC, edges=(1.0,), unit_exponent=-3, center=0.1),))
    assert grid.id == "d4acb2af7efeba12"
    assert Baseline(grid, Summary.empty(grid)).id == "6429ac13fe88ed82"


def test_new_counts_make_a_new_baseline_on_the_same_grid(baseline: Baseline) -> None:
    twice = Baseline(baseline.grid, baseline.summary + baseline.summary)
    assert twice.id != baseline.id
    assert twice.grid.id == baseline.grid.id


def test_a_file_is_read_again_by_people_too(baseline: Baseline) -> None:
    parsed = document(baseline)
    assert parsed["format"] == FORMAT
    assert parsed["events"] == 100
    assert [column["name"] for column in parsed["counts"]] == list(baseline.grid.names)
    assert parsed["counts"][0]["missing"] == 2
    assert parsed["counts"][0]["type_errors"] == 1


# ---- only some of the columns ----------------------------------------------------------------------------------------


def test_features_that_are_not_watched_are_left_out_and_their_reason_stands(baseline: Baseline) -> None:
    part = baseline.only(lambda name: name != "basket.items", "excluded")
    assert part.grid.names == ("amount", "country", SCORE)
    assert part.grid.unmonitored == (Unmonitored("id", "identifier"), Unmonitored("basket.items", "excluded"))
    assert part.summary.events == 100
    read = Baseline.from_json(part.to_json())
    assert (read.grid, read.summary) == (part.grid, part.summary)


def test_what_is_left_counts_as_before(baseline: Baseline) -> None:
    part = baseline.only(lambda name: name == "country", "excluded")
    for i, name in enumerate(part.grid.names):
        j = baseline.grid.names.index(name)
        ours = part.summary.counts[part.grid.offsets[i] : part.grid.offsets[i + 1]]
        theirs = baseline.summary.counts[baseline.grid.offsets[j] : baseline.grid.offsets[j + 1]]
        assert ours.tolist() == theirs.tolist()
        assert part.summary.moments.squares(i) == baseline.summary.moments.squares(j)


def test_the_prediction_is_always_watched(baseline: Baseline) -> None:
    assert baseline.only(lambda _: False, "excluded").grid.names == (SCORE,)


def test_a_baseline_of_which_everything_is_watched_is_the_same(baseline: Baseline) -> None:
    assert baseline.only(lambda _: True, "excluded") is baseline


def test_a_baseline_of_which_nothing_is_left_still_counts_events(baseline: Baseline) -> None:
    features = Baseline(
        Grid("m", "1", baseline.grid.columns[:1]), Summary.empty(Grid("m", "1", baseline.grid.columns[:1]))
    )
    none = features.only(lambda _: False, "excluded")
    assert none.grid.columns == ()
    assert Baseline.from_json(none.to_json()).id == none.id


# ---- files that were not written so ----------------------------------------------------------------------------------


def changed(baseline: Baseline, path: list[str | int], value: object) -> bytes:
    parsed = document(baseline)
    at: Any = parsed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(parsed).encode()


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (["format"], "streamdrift-baseline/2", "format is 'streamdrift-baseline/2', expected"),
        (["events"], 99, "events"),
        (["events"], -1, "events"),
        (["events"], 1.5, "Expected `int`"),
        (["events"], 10**30, "events"),
        (["extra"], 1, "unknown field"),
        (["counts", 0, "name"], "amuont", "not those of `grid`"),
        (["counts", 0, "bins"], [1, 2], "amount: expected 3 counts"),
        (["counts", 0, "bins", 1], -1, "amount: expected 3 counts that are not negative"),
        (["counts", 0, "bins", 1], 2**62, "amount: .*`events`"),
        (["counts", 0, "bins", 1], 10**30, "amount"),
        (["counts", 0, "missing"], -1, "amount"),
        (["counts", 0, "moments"], [0] * 5, "amount: expected 6 moments"),
        (["counts", 0, "moments", 0], -1, "amount: .*moments"),
        (["counts", 0, "moments", 0], 2**32, "amount: .*moments"),
        (["counts", 0, "moments", 1], 2**62, "amount: .*moments"),
        (["counts", 0, "moments", 4], -1, "amount: .*moments"),
        (["counts", 0, "moments", 5], 101, "amount: .*moments"),
        (["counts", 0, "moments", 0], 10**30, "amount"),
        (["counts", 2, "moments", 0], 1, "country: .*moments"),
        (["grid", "columns", 0, "edges"], [10.0, 1.0], "amount: edges must be finite and strictly ascending"),
        (["grid", "columns", 0, "edges"], [-1.7e308, 1.7e308], None),
        (["grid", "columns", 0, "edges"], list(range(200)), "201 bins"),
        (["grid", "columns", 0, "unit_exponent"], 1004, "unit_exponent"),
        (["grid", "columns", 0, "unit_exponent"], 10**30, "unit_exponent|range"),
        (["grid", "columns", 0, "categories"], ["a"], "a numeric column has edges"),
        (["grid", "columns", 2, "categories"], ["DE", "DE"], "distinct"),
        (["grid", "columns", 2, "unit_exponent"], 5000, "country: a categorical column"),
        (["grid", "columns", 2, "edges"], [1.0], "country: a categorical column"),
        (["grid", "columns", 1, "name"], "amount", "stands twice"),
        (["grid", "columns", 3, "name"], "score", "begins with prediction"),
        (["grid", "columns", 0, "kind"], "ordinal", "kind"),
        (["grid", "blind"], True, "blind"),
        (["grid", "model_id"], None, "model_id"),
    ],
    ids=repr,
)
def test_what_is_wrong_in_a_file_is_said(
    baseline: Baseline, path: list[str | int], value: object, complaint: str | None
) -> None:
    data = changed(baseline, path, value)
    if complaint is None:
        Baseline.from_json(data)
        return
    with pytest.raises(ValueError, match=complaint):
        Baseline.from_json(data)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"model,amount\n1,2\n", b"\xff\xfe", b'{"format": "\xff"}', b"[" * 100_000]
)
def test_another_file_is_no_baseline(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a baseline|format is"):
        Baseline.from_json(data)


def test_a_newer_format_is_named_whatever_it_looks_like_inside() -> None:
    with pytest.raises(ValueError, match="format is 'streamdrift-baseline/9', expected 'streamdrift-baseline/1'"):
        Baseline.from_json(b'{"format": "streamdrift-baseline/9", "counts": {}}')


@unhurried
@given(st.integers(0, 2**32), st.integers(0, 255))
def test_a_file_with_a_wrong_byte_is_refused_or_read_but_never_half(place: int, byte: int) -> None:
    column = Column("x", Kind.NUMERIC, edges=(1.0,))
    grid = Grid("m", "1", (column, Column("c", Kind.CATEGORICAL, categories=("a", "b"))))
    values = np.array([[0.5, 0.0], [2.0, 1.0], [np.nan, 2.0]])
    good = Baseline(
        grid, Summary.of(Batch(grid, np.zeros(3, np.int64), np.zeros(3, np.uint64), values, np.empty((0, 2), np.int64)))
    )
    data = good.to_json()
    place %= len(data)
    try:
        read = Baseline.from_json(data[:place] + bytes([byte]) + data[place + 1 :])
    except ValueError:
        return
    n = read.summary.counts[:2].sum()
    assert n == 0 or read.summary.moments.variance(0, int(n)) >= 0
    assert read.summary.counts.min() >= 0


def test_reading_names_the_file(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "fraud-7.json"
    path.write_bytes(baseline.to_json())
    assert Baseline.read(path).id == baseline.id
    path.write_bytes(baseline.to_json()[:-5])
    with pytest.raises(ConfigurationError, match=r"fraud-7\.json: not a baseline"):
        Baseline.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.json: cannot be read: No such file"):
        Baseline.read(tmp_path / "nowhere.json")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        Baseline.read(tmp_path)


def test_a_derived_column_is_chosen_by_its_own_name_or_by_that_of_its_source() -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 4)).tolist()
    columns = {"embedding": vectors, "amount": [i % 97 / 7 for i in range(300)]}
    baseline = baseline_from_columns(columns, model_id="m", model_version="1")
    assert len(baseline.grid.columns) == 10
    watched = {
        "embedding": Features(include=("embedding",)),
        "norm": Features(exclude=("*.projection_*", "amount")),
        "none": Features(exclude=("embedding",)),
    }
    names = {key: baseline.only(features.watches, "excluded").grid.names for key, features in watched.items()}
    assert len(names["embedding"]) == 9
    assert names["norm"] == ("embedding.norm",)
    assert names["none"] == ("amount",)
