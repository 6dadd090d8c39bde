"""Outcome summaries come back from records as they were written, whole or in parts."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift import outcome_entries
from streamdrift.entries import decode, encode
from streamdrift.errors import StateError
from streamdrift.outcome_entries import OutcomePart, from_part, pack_integers, to_parts, unpack_integers
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.outcome_rows import added
from streamdrift.packing import MAX_PART_BYTES, pack
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeKey, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.outcomes import LabelRows, Outcomes
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.raw_rows import RawRows, Row
from streamdrift.summaries.spreads import Spreads
from tests.support.outcomes import BINARY, GRIDS, MULTICLASS, REGRESSION, coverages, outcome_summaries

few = settings(max_examples=60, deadline=None)
KEY = OutcomeKey("fraud", "7", "", 17, 3)


def read(parts: list[OutcomePart]) -> AnySummary:
    """What a reader makes of the records' bytes."""
    summaries = []
    for part in parts:
        entry = decode(encode(part))
        assert isinstance(entry, OutcomePart)
        assert entry.key == KEY
        summaries.append(from_part(entry))
    return reduce(added, summaries)


@few
@given(st.sampled_from(GRIDS).flatmap(outcome_summaries))
def test_a_record_holds_the_summary(summary: OutcomeSummary) -> None:
    parts = to_parts(KEY, 2_000_000, summary)
    assert len(parts) == 1
    assert read(parts) == summary


@few
@given(st.sampled_from(GRIDS).flatmap(outcome_summaries), st.integers(100, 1_000))
def test_parts_of_a_large_summary_add_up_to_it(summary: OutcomeSummary, bound: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome_entries, "MAX_PART_BYTES", bound)
        parts = to_parts(KEY, 2_000_000, summary)
    assert read(parts) == summary


def test_the_largest_summaries_fit_into_records_that_every_broker_takes() -> None:
    classes = tuple(f"class {i}" for i in range(32))
    grid = OutcomeGrid(Task.MULTICLASS, classes)
    rng = np.random.default_rng(0)
    told = rng.dirichlet(np.full(32, 0.3), 60_000)
    rows = LabelRows(grid, classes, rng.integers(0, 32, 60_000), rng.integers(0, 32, 60_000), told)
    errors = Pairs.of(rng.integers(0, 2**64, 20_000, dtype=np.uint64), np.full(20_000, 5_000_000), np.ones(20_000))
    coverage = Coverage.of({Fate.LABELLED: 60_000})
    summary = OutcomeSummary(Outcomes.of(rows), coverage, errors, Spreads.of(rows))
    parts = to_parts(KEY, 0, summary)
    assert len(parts) > 1
    assert max(len(msgspec.msgpack.encode(part)) for part in parts) <= MAX_PART_BYTES
    assert read(parts) == summary


@few
@given(st.lists(st.integers(-(2**100), 2**100)))
def test_integers_of_any_size_come_back(integers: list[int]) -> None:
    data = pack_integers(integers)
    assert unpack_integers(data, len(integers)) == tuple(integers)
    with pytest.raises(ValueError, match="not"):
        unpack_integers(data, len(integers) + 1)


@pytest.mark.parametrize(("edge", "width"), [(127, 1), (128, 2), (-128, 1), (-129, 2)])
def test_integers_take_no_more_bytes_than_they_need(edge: int, width: int) -> None:
    assert len(pack_integers([edge])) == 1 + width


def test_a_record_without_spreads_is_of_a_version_that_had_none() -> None:
    rows = LabelRows(BINARY, BINARY.classes, np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([[0.3]]))
    summary = OutcomeSummary(Outcomes.of(rows), Coverage.empty(), Pairs.empty(), Spreads.of(rows))
    [part] = to_parts(KEY, 0, summary)
    before = from_part(msgspec.structs.replace(part, spreads=None))
    assert before == replace(summary, spreads=Spreads.empty(BINARY))


def test_a_record_of_another_grid_is_refused() -> None:
    rows = LabelRows(BINARY, BINARY.classes, np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([[0.3]]))
    summary = OutcomeSummary(Outcomes.of(rows), Coverage.empty(), Pairs.empty(), Spreads.of(rows))
    [part] = to_parts(KEY, 0, summary)
    for grid in (MULTICLASS, REGRESSION):
        with pytest.raises(StateError, match="not what was written"):
            from_part(msgspec.structs.replace(part, grid=grid))


def test_counts_that_nobody_wrote_are_refused() -> None:
    [part] = to_parts(KEY, 0, OutcomeSummary.empty(BINARY))
    other = msgspec.structs.replace
    tally = outcome_entries.PackedTally
    assert part.outcomes is not None
    far, none, zero = (
        tally(pack(np.array(steps)), pack(np.array(counts)))
        for steps, counts in (([10**6], [1]), ([1, 2], [1]), ([1], [0]))
    )
    for wrong in (far, none, zero):
        with pytest.raises(StateError):
            from_part(other(part, outcomes=other(part.outcomes, histograms=wrong)))
    with pytest.raises(StateError, match="fates"):
        from_part(other(part, coverage=other(part.coverage, fates=(1,))))
    with pytest.raises(StateError, match="unknown"):
        from_part(other(part, outcomes=other(part.outcomes, unknown=tuple(map(str, range(99))))))
    with pytest.raises(StateError, match="nothing is counted"):
        from_part(other(part, outcomes=None))


@few
@given(coverages, st.lists(st.tuples(st.integers(0, 9), st.integers(-5, 9), st.binary(max_size=3)), max_size=20))
def test_a_record_holds_what_is_not_counted_yet(coverage: Coverage, rows: list[tuple[int, int, bytes]]) -> None:
    uncounted = UncountedOutcomes(RawRows.of(Row(h, 2_000_000 + time, payload) for h, time, payload in rows), coverage)
    assert read(to_parts(KEY, 2_000_000, uncounted)) == uncounted


def test_rows_that_are_not_counted_yet_are_split_over_records_that_every_broker_takes() -> None:
    rng = np.random.default_rng(1)
    rows = RawRows.of(Row(int(h), i, rng.bytes(300)) for i, h in enumerate(rng.integers(0, 2**63, 11_000)))
    uncounted = UncountedOutcomes(rows, Coverage.of({Fate.LABELLED: 11_000}))
    parts = to_parts(KEY, 0, uncounted)
    assert max(len(encode(part)) for part in parts) <= MAX_PART_BYTES
    assert read(parts) == uncounted
