"""The log between the stages: what is written is read again, in as many records as it takes."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from streamdrift import entries, packing
from streamdrift.entries import (
    BaselineSet,
    PartitionProgress,
    Progress,
    SummaryPart,
    admission_rank,
    decode,
    encode,
    from_part,
    partition_of,
    progress,
    to_parts,
)
from streamdrift.errors import StateError
from streamdrift.events import Batch
from streamdrift.grids import MAX_BINS, Column, Grid, Kind, blind_grid
from streamdrift.packing import pack, unpack
from streamdrift.summaries import Names, Pairs, RawRows, Row, Summary, SummaryKey
from tests.support.batches import batches, grids

unhurried = settings(deadline=None)  # a busy machine is no failure

KEY = SummaryKey("fraud", "7", "", 12)
START_US = 12 * 10_000_000


def written_and_read(summary: Summary, grid: Grid, start_us: int = START_US) -> Summary:
    """The sum of what the records of a summary hold, as detect reads them."""
    total = Summary.empty(grid)
    for part in to_parts(KEY, start_us, grid, summary):
        entry = decode(encode(part))
        assert isinstance(entry, SummaryPart)
        assert (entry.key, entry.grid_id, entry.start_us) == (KEY, grid.id, start_us)
        total += from_part(entry, grid)
    return total


# ---- summaries -------------------------------------------------------------------------------------------------------


@unhurried
@given(
    batch=grids().flatmap(batches),
    size=st.sampled_from([10, 150, 400, 1_500, packing.MAX_PART_BYTES]),
    start_us=st.sampled_from([0, START_US, -7_000_000, 2**61]),
)
def test_the_parts_of_a_summary_add_up_to_it(batch: Batch, size: int, start_us: int) -> None:
    summary = Summary.of(batch, batch.grid.names[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "MAX_PART_BYTES", size)
        assert written_and_read(summary, batch.grid, start_us) == summary


@unhurried
@given(batch=grids().flatmap(batches), seed=st.integers(0, 2**32 - 1))
def test_parts_add_up_in_any_order_and_with_those_of_other_summaries(batch: Batch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.random(len(batch)) < 0.5
    summaries = [Summary.of(batch.where(half), batch.grid.names), Summary.of(batch.where(~half), batch.grid.names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "MAX_PART_BYTES", 300)
        parts = [part for summary in summaries for part in to_parts(KEY, 0, batch.grid, summary)]
    rng.shuffle(parts)
    read = reduce(add, (from_part(part, batch.grid) for part in parts), Summary.empty(batch.grid))
    assert read == Summary.of(batch, batch.grid.names)


def test_a_small_summary_is_one_record() -> None:
    grid = blind_grid("fraud", "7")
    assert len(to_parts(KEY, START_US, grid, Summary.empty(grid))) == 1


def wide(numeric: int, categorical: int, names: int = 0, values: int = 0) -> tuple[Grid, Summary]:
    """A summary with so many columns, all slots counted; names as long as they may be, raw values of two columns."""
    edges = tuple(map(float, range(MAX_BINS - 1)))
    grid = Grid(
        "fraud",
        "7",
        (
            *(Column(f"n{i}", Kind.NUMERIC, edges=edges) for i in range(numeric)),
            *(Column(f"c{i}", Kind.CATEGORICAL, categories=("a",)) for i in range(categorical)),
        ),
    )
    summary = Summary.empty(grid)
    rng = np.random.default_rng(1)
    summary.counts[:] = rng.integers(0, 2**40, grid.slots)
    summary.moments.limbs[:] = rng.integers(0, 2**31, summary.moments.limbs.shape)
    unseen = {numeric + i: {f"{j:03}".ljust(128, "\u20ac"): 2**40 for j in range(names)} for i in range(categorical)}
    hashes = np.sort(rng.integers(0, 2**64, values, dtype=np.uint64))
    pairs = Pairs(hashes, START_US + rng.integers(0, 10**7, values), rng.random(values), np.ones(values, np.int64), 9)
    named = Names(unseen if names else {})
    raw = {name: pairs for name in ("n0", "n1") if values}
    return grid, Summary(2**50, summary.counts, summary.moments, named, raw)


@pytest.mark.parametrize(
    ("numeric", "categorical", "names", "values"),
    [
        (600, 0, 0, 0),
        (600, 60, 32, 0),  # what is heavy lies in few slots
        (0, 300, 32, 0),
        (2, 0, 0, 10_000),
        (300, 40, 32, 10_000),
    ],
)
def test_no_record_is_larger_than_allowed(numeric: int, categorical: int, names: int, values: int) -> None:
    grid, summary = wide(numeric, categorical, names, values)
    parts = to_parts(KEY, START_US, grid, summary)
    sizes = [len(encode(part)) for part in parts]
    assert max(sizes) <= packing.MAX_PART_BYTES
    assert len(sizes) <= 2 + 4 * sum(sizes) // packing.MAX_PART_BYTES
    assert written_and_read(summary, grid) == summary


@pytest.mark.parametrize(("rows", "size"), [(10_000, 400), (40, 96 * 1024), (11_000, 20), (0, 0)])
def test_raw_rows_are_split_over_as_many_records_as_it_takes(rows: int, size: int) -> None:
    rng = np.random.default_rng(1)
    grid = blind_grid("f" * 256, "7" * 256)
    raw = [Row(int(h), START_US + i, rng.bytes(size)) for i, h in enumerate(rng.integers(0, 2**63, rows))]
    summary = replace(Summary.empty(grid), events=rows, rows=RawRows.of(raw))
    sizes = [len(encode(part)) for part in to_parts(KEY, START_US, grid, summary)]
    assert max(sizes) <= packing.MAX_PART_BYTES
    assert len(sizes) <= 2 + 3 * sum(sizes) // packing.MAX_PART_BYTES
    assert written_and_read(summary, grid) == summary


def test_rows_that_do_not_belong_together_are_refused() -> None:
    grid = blind_grid("fraud", "7")
    summary = replace(Summary.empty(grid), rows=RawRows.of([Row(1, 2, b"a"), Row(3, 4, b"b")]))
    *_, part = to_parts(KEY, START_US, grid, summary)
    assert part.rows is not None
    damaged = msgspec.structs.replace(part.rows, payloads=[b"a"])
    with pytest.raises(StateError, match="does not fit"):
        from_part(msgspec.structs.replace(part, rows=damaged), grid)


def test_events_are_counted_in_one_part_only() -> None:
    grid, summary = wide(600, 0)
    assert sum(part.events for part in to_parts(KEY, START_US, grid, summary)) == summary.events


def test_a_part_does_not_fit_another_grid() -> None:
    grid, summary = wide(3, 0)
    other, _ = wide(2, 1)
    [part] = to_parts(KEY, START_US, grid, summary)
    with pytest.raises(StateError, match="does not fit"):
        from_part(part, other)


@pytest.mark.parametrize(
    "damage",
    [{"counts": b""}, {"counts": b"\x03abc"}, {"counts": b"\x02abc"}, {"moments": b"\x01ab"}, {"columns": (0, 9)}],
    ids=repr,
)
def test_a_damaged_part_is_refused(damage: dict[str, object]) -> None:
    grid, summary = wide(2, 0)
    [part] = to_parts(KEY, START_US, grid, summary)
    with pytest.raises(StateError, match="does not fit"):
        from_part(msgspec.structs.replace(part, **damage), grid)


def test_raw_values_that_do_not_belong_together_are_refused() -> None:
    grid, summary = wide(2, 0, values=5)
    [part] = to_parts(KEY, START_US, grid, summary)
    shorter = msgspec.structs.replace(part.pairs["n0"], values=part.pairs["n0"].values[:-8])
    with pytest.raises(StateError, match="does not fit"):
        from_part(msgspec.structs.replace(part, pairs={"n0": shorter}), grid)


# ---- integers in bytes -----------------------------------------------------------------------------------------------

integers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, -128, 127, 128, -129, 2**15 - 1, 2**15, -(2**15) - 1, 2**31 - 1, 2**31, -(2**31) - 1]),
    st.integers(-200, 200),
)


@unhurried
@given(arrays(np.int64, st.integers(0, 20), elements=integers))
def test_what_is_packed_is_unpacked_again(array: NDArray[np.int64]) -> None:
    unpacked = unpack(pack(array))
    assert unpacked.dtype == np.int64
    assert np.array_equal(unpacked, array)
    unpacked += 1  # what was read can be added to


@pytest.mark.parametrize(
    ("numbers", "size"),
    [([], 1), ([0, 1], 3), ([-128, 127], 3), ([128], 3), ([2**15], 5), ([2**31], 9), ([-(2**63), 2**63 - 1], 17)],
)
def test_integers_take_the_room_that_the_largest_needs(numbers: list[int], size: int) -> None:
    assert len(pack(np.array(numbers, dtype=np.int64))) == size


# ---- progress and controls -------------------------------------------------------------------------------------------

positions = st.lists(
    st.builds(
        PartitionProgress,
        st.text(max_size=5),
        st.integers(0, 2**31),
        st.integers(0, 2**63 - 1),
        st.integers(-(2**62), 2**62),
    ),
    max_size=4,
)


@unhurried
@given(st.dictionaries(st.text(max_size=5), st.integers(0, 10**6), max_size=3), positions)
def test_progress_is_read_as_it_was_written(counts: dict[str, int], said: list[PartitionProgress]) -> None:
    entry = progress(counts, said)
    assert decode(encode(entry)) == entry
    assert entry.counts == counts
    assert sorted(entry.positions, key=repr) == sorted(said, key=repr)


def test_progress_has_its_positions_in_a_fixed_order() -> None:
    here, there = PartitionProgress("a", 0, 1, 2), PartitionProgress("a", 10, 1, 2)
    assert encode(progress({"b": 1, "a": 2}, [there, here])) == encode(progress({"a": 2, "b": 1}, [here, there]))


@unhurried
@given(st.text(), st.text(), st.text())
def test_a_control_is_read_as_it_was_written(model_id: str, version: str, baseline_id: str) -> None:
    entry = BaselineSet(model_id, version, baseline_id)
    assert decode(encode(entry)) == entry


# ---- what was never written ------------------------------------------------------------------------------------------


def a_record() -> bytes:
    grid, summary = wide(1, 1, names=2, values=3)
    [part] = to_parts(KEY, START_US, grid, summary)
    return encode(part)


RECORD = a_record()


@unhurried
@given(st.binary(max_size=40))
def test_what_no_version_wrote_is_refused(value: bytes) -> None:
    try:
        entry = decode(value)
    except StateError as error:
        assert "summaries topic" in str(error)  # noqa: PT017 — garbage may be a record by chance
    else:
        assert isinstance(entry, SummaryPart | Progress | BaselineSet)


@unhurried
@given(st.integers(0, len(RECORD) - 1), st.integers(0, 255))
def test_a_record_with_a_wrong_byte_is_refused_or_read_but_does_not_break_the_reader(place: int, byte: int) -> None:
    grid, _ = wide(1, 1)
    try:
        entry = decode(RECORD[:place] + bytes([byte]) + RECORD[place + 1 :])
        if isinstance(entry, SummaryPart):
            from_part(entry, grid)
    except StateError:
        pass


@pytest.mark.parametrize("value", [b"", b"\xc0", b"{}", RECORD[:-1], RECORD + b"\x00", b"\x91\xa9summary/2"])
def test_half_a_record_or_one_of_a_newer_version_is_refused(value: bytes) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        decode(value)


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(StateError, match="cannot be read"):
        decode(encode(BaselineSet("model", "7", "id")).replace(b"model", b"mod\xffl"))


# ---- where a model lies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "of_four", "of_twelve"),
    [("fraud", 1, 1), ("churn", 3, 7), ("", 2, 10), ("модель", 2, 10), ("\ud800", 0, 4)],
)
def test_a_model_stays_in_its_partition_for_ever(model_id: str, of_four: int, of_twelve: int) -> None:
    """Golden values: another hash would separate every model from its past."""
    assert (partition_of(model_id, 4), partition_of(model_id, 12)) == (of_four, of_twelve)


@given(st.text(), st.integers(1, 1000))
def test_a_model_lies_in_a_partition_that_exists(model_id: str, partitions: int) -> None:
    assert 0 <= partition_of(model_id, partitions) < partitions


def test_models_are_spread_over_the_partitions() -> None:
    counts = np.bincount([partition_of(f"model-{i}", 8) for i in range(8_000)], minlength=8)
    assert counts.min() > 850


def test_versions_of_a_model_have_different_ranks_and_a_rank_is_for_ever() -> None:
    ranks = {
        admission_rank("m", "1"),
        admission_rank("m", "2"),
        admission_rank("m\0", "1"),
        admission_rank("m", "\0001"),
    }
    assert len(ranks) == 4
    assert admission_rank("fraud", "7")[0] == 9564469339842625457
