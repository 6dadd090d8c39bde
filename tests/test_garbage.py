"""Garbage on the internal topics: it is read as what it may be, or stops with ``StateError``, and nothing else."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamdrift.entries import PartitionProgress, SummaryPart, decode, encode, from_part, to_parts
from streamdrift.errors import StateError
from streamdrift.fold_state import PartitionState, partition_key, read_records
from streamdrift.gridbook import GridBook, baseline_record, grid_records
from streamdrift.rows import decode_row, encode_row
from streamdrift.summaries import SummaryKey
from tests.support.fraud import fraud_baseline

BASELINE = fraud_baseline(300)
[PART] = to_parts(SummaryKey("fraud", "7", "", 12), 120_000_000, BASELINE.grid, BASELINE.summary)
STATE = PartitionState(1, 10, 5, 5, 3, {"predictions": 3}, [PartitionProgress("predictions", 0, 4, 77)])


def damaged(record: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes; and the record, cut off somewhere or with some bytes replaced."""
    places = st.dictionaries(st.integers(0, len(record) - 1), st.integers(0, 255), min_size=1, max_size=4)
    replaced = places.map(lambda bytes_at: bytes(bytes_at.get(i, byte) for i, byte in enumerate(record)))
    return st.one_of(st.binary(max_size=64), st.integers(0, len(record)).map(lambda end: record[:end]), replaced)


def refused_or_taken(read: object, *arguments: object) -> None:
    assert callable(read)
    try:
        read(*arguments)
    except StateError as error:
        assert str(error)  # noqa: PT017 — either is right, but no other exception


def read_entry(value: bytes) -> None:
    entry = decode(value)
    if isinstance(entry, SummaryPart):
        from_part(entry, BASELINE.grid)


def read_grid(key: bytes, value: bytes) -> None:
    GridBook(lambda: [(key, value)]).grid("x")


@given(value=damaged(encode(PART)))
def test_a_damaged_summary_raises_nothing_but_a_state_error(value: bytes) -> None:
    refused_or_taken(read_entry, value)


@given(value=damaged(STATE.encode()))
@example(value=STATE.encode().replace(b"predictions", b"prediction\x80"))
def test_a_damaged_snapshot_of_a_partition_raises_nothing_but_a_state_error(value: bytes) -> None:
    refused_or_taken(read_records, {partition_key(0): value}, 0)


@given(key=damaged(b'["learning","fraud","7","0"]'))
@example(key=b'["learning","\x80","7","0"]')
@example(key=b'["learning","fraud","7","' + b"9" * 5_000 + b'"]')
@example(key=b"[" * 100_000)
def test_a_damaged_key_of_the_state_topic_raises_nothing_but_a_state_error(key: bytes) -> None:
    refused_or_taken(read_records, {key: b""}, 0)


@given(value=damaged(msgspec.json.encode(BASELINE.grid)))
@example(value=b"[" * 100_000)
@example(value=msgspec.json.encode(BASELINE.grid).replace(b"fraud", b"frau\x80"))
def test_a_damaged_grid_raises_nothing_but_a_state_error(value: bytes) -> None:
    refused_or_taken(read_grid, b"grid/x", zlib.compress(value))


@given(key=damaged(b'["effect","fraud","7"]'))
def test_a_damaged_key_of_the_grids_topic_raises_nothing_but_a_state_error(key: bytes) -> None:
    refused_or_taken(read_grid, key, b"x")


@given(payload=damaged(encode_row({"amount": 1, "comment": "x" * 300, "at": [1.0, 2.0]}, {"score": 0.5})))
@example(payload=b"\x92\x81\xa1\x80\x01\xc0")
def test_a_damaged_row_raises_nothing_but_a_state_error(payload: bytes) -> None:
    refused_or_taken(decode_row, payload)


@pytest.mark.parametrize("events", [-1, 2**62])
def test_a_summary_of_an_impossible_number_of_events_is_refused(events: int) -> None:
    with pytest.raises(StateError, match=f"{events} events"):
        from_part(msgspec.structs.replace(PART, events=events), BASELINE.grid)


def test_a_summary_whose_counts_are_negative_is_refused() -> None:
    counts = b"\x01" + b"\xff" * BASELINE.grid.slots
    with pytest.raises(StateError, match="counts that no events have"):
        from_part(msgspec.structs.replace(PART, counts=counts), BASELINE.grid)


def test_an_effect_of_another_kind_is_refused() -> None:
    _, effect = grid_records("", BASELINE.grid)
    assert effect.key is not None
    with pytest.raises(StateError, match="of no kind"):
        read_grid(effect.key.replace(b"effect", b"affect"), b"x")


def test_a_grid_or_baseline_under_the_name_of_another_is_refused() -> None:
    baseline, entries = fraud_baseline(), []
    for record in (*grid_records("", baseline.grid), baseline_record("", baseline)):
        key = record.key or b""
        entries.append((key if key.startswith(b"[") else key[:-1] + (b"0" if key[-1:] != b"0" else b"1"), record.value))
    book = GridBook(lambda: entries)
    for key, _ in entries:
        kind, _, name = key.decode().rpartition("/")
        if not key.startswith(b"["):
            with pytest.raises(StateError, match="it is another one"):
                _ = book.grid(name) if kind else book(name)
