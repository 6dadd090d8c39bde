"""The grids topic: contents by their ids, and which grid is in effect."""

from __future__ import annotations

import zlib

import pytest

from streamdrift.errors import StateError
from streamdrift.gridbook import GridBook, baseline_record, grid_records, retired_record
from streamdrift.records import OutputRecord
from tests.support.books import book_of
from tests.support.windows import MODEL, small_baseline

BASELINE = small_baseline()
GRID = BASELINE.grid


def test_baselines_and_grids_are_found_by_their_ids() -> None:
    book = book_of([baseline_record("", BASELINE), *grid_records("", GRID)])
    assert book(BASELINE.id) == BASELINE
    assert book.grid(GRID.id) == GRID
    assert book.grid_of(*MODEL) == GRID
    assert book.grid_of(MODEL[0], "another") is None


def test_what_was_written_since_is_found_when_it_is_asked_for() -> None:
    records: list[OutputRecord] = []
    book = book_of(records)
    records.append(baseline_record("", BASELINE))
    assert book(BASELINE.id) == BASELINE
    records += grid_records("", GRID)
    assert book.grid(GRID.id) == GRID


def test_a_baseline_that_is_nowhere_is_an_error_and_a_grid_that_is_nowhere_is_none() -> None:
    book = book_of([])
    with pytest.raises(StateError, match="baseline 0123 is not in the grids topic"):
        book("0123")
    assert book.grid("0123") is None


def test_a_grid_that_is_nowhere_is_looked_for_once() -> None:
    reads = 0

    def read() -> list[tuple[bytes, bytes | None]]:
        nonlocal reads
        reads += 1
        return []

    book = GridBook(read)
    assert [book.grid("0123") for _ in range(5)] == [None] * 5
    assert reads == 2  # at its start, and in vain


def test_a_refresh_tells_whether_another_grid_is_in_effect() -> None:
    records: list[OutputRecord] = []
    book = book_of(records)
    assert not book.refresh()
    records.append(baseline_record("", BASELINE))
    assert not book.refresh()
    records += grid_records("", GRID)
    assert book.refresh()
    records += grid_records("", GRID)
    assert not book.refresh()
    records.append(retired_record("", MODEL))
    assert book.refresh()
    assert book.grid_of(*MODEL) is None


def test_a_grid_takes_effect_when_its_content_comes_later_than_the_record_that_says_so() -> None:
    content, effect = grid_records("", GRID)
    records = [effect]
    book = book_of(records)
    assert book.grid_of(*MODEL) is None
    records.append(content)
    assert book.refresh()
    assert book.grid_of(*MODEL) == GRID


@pytest.mark.parametrize("value", [b"", b"no zlib", zlib.compress(b"no JSON"), zlib.compress(b"{}")])
def test_contents_that_cannot_be_read_stop_the_reader(value: bytes) -> None:
    content, effect = grid_records("", GRID)
    book = book_of([OutputRecord("", BASELINE.id.encode(), value), OutputRecord("", content.key, value), effect])
    with pytest.raises(StateError, match="cannot be read"):
        book(BASELINE.id)
    with pytest.raises(StateError, match="cannot be read"):
        book.grid(GRID.id)


def test_records_say_to_a_person_what_they_are_of() -> None:
    for record in (baseline_record("", BASELINE), *grid_records("", GRID)):
        assert dict(record.headers) == {"model": MODEL[0].encode(), "model_version": MODEL[1].encode()}
