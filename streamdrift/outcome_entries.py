"""Outcome summaries as records of the summaries topic, and as parts of snapshots.

Everything in a summary adds up, so one that is too large for a record is sent as several that hold a part of its
counts each, and whoever adds them has the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from streamdrift.errors import StateError
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.packing import (
    MAX_PART_BYTES,
    PackedPairs,
    PackedRows,
    pack,
    pack_pairs,
    pack_rows,
    unpack,
    unpack_pairs,
    unpack_rows,
)
from streamdrift.summaries.confusion import MAX_UNKNOWN, Confusion
from streamdrift.summaries.coverage import DELAY_BINS, Coverage
from streamdrift.summaries.curves import BINS, Curves
from streamdrift.summaries.losses import Losses
from streamdrift.summaries.moments import Moments
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeKey, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.outcomes import Outcomes
from streamdrift.summaries.raw_rows import RawRows
from streamdrift.summaries.spreads import Spreads, span
from streamdrift.summaries.tally import Tally


class PackedTally(msgspec.Struct, array_like=True, frozen=True):
    """A tally: its keys as differences from one to the next, the first from 0."""

    steps: bytes
    counts: bytes


class PackedOutcomes(msgspec.Struct, array_like=True, frozen=True):
    """Outcomes on a grid that stands elsewhere. Sums are ``pack_integers``: they may exceed 64 bits."""

    n: int
    unknown: tuple[str, ...]
    cells: tuple[tuple[str, str, int], ...]
    histograms: PackedTally
    curve_totals: bytes
    loss_totals: bytes


class PackedSpreads(msgspec.Struct, array_like=True, frozen=True):
    """Spreads on a grid that stands elsewhere."""

    histograms: PackedTally
    limbs: bytes


class PackedCoverage(msgspec.Struct, array_like=True, frozen=True):
    """Coverage."""

    fates: tuple[int, ...]
    delays: PackedTally


class OutcomePart(msgspec.Struct, array_like=True, frozen=True, tag="outcome/1"):
    """A summary of one key, or a part of one. Parts add up.

    Either it is counted, and has ``grid``, ``outcomes`` and ``errors``; or it has rows, unless all it has is coverage.
    """

    key: OutcomeKey
    start_us: int
    """The start of the labels' tick."""
    coverage: PackedCoverage
    grid: OutcomeGrid | None = None
    """How the outcomes are counted: in each record, so that the log speaks for itself."""
    outcomes: PackedOutcomes | None = None
    errors: PackedPairs | None = None
    rows: PackedRows | None = None
    """Uncounted outcomes: see ``streamdrift.outcome_rows``."""
    spreads: PackedSpreads | None = None
    """Of what is counted; None in a part that is not the first, or is of a version that had none."""


def to_parts(key: OutcomeKey, start_us: int, summary: AnySummary) -> list[OutcomePart]:
    """A summary as one record, or as several of at most ``MAX_PART_BYTES``, as long as its sums fit into one.

    ``start_us`` is the start of the labels' tick.
    """
    if isinstance(summary, UncountedOutcomes):
        return list(_parts_of_rows(key, start_us, summary))
    whole = _part(key, start_us, summary, 0, 1)
    size = len(msgspec.msgpack.encode(whole))
    if size <= MAX_PART_BYTES:
        return [whole]
    parts = 1 + 2 * size // MAX_PART_BYTES  # half full on average: counts are not all of one size
    return [_part(key, start_us, summary, part, parts) for part in range(parts)]


def _part(key: OutcomeKey, start_us: int, summary: OutcomeSummary, part: int, parts: int) -> OutcomePart:
    """Part ``part`` of ``parts``: its share of histograms and errors, and of all the rest the first has everything."""
    tally = summary.outcomes.curves.histograms
    rows = slice(len(tally.keys) * part // parts, len(tally.keys) * (part + 1) // parts)
    histograms = Tally(tally.keys[rows], tally.counts[rows])
    whole = summary.outcomes
    outcomes = whole if part == 0 else Outcomes.empty(whole.grid)
    curves = Curves(histograms, outcomes.curves.totals)
    return OutcomePart(
        key,
        start_us,
        pack_coverage(summary.coverage if part == 0 else Coverage.empty()),
        whole.grid,
        pack_outcomes(Outcomes(whole.grid, outcomes.n, outcomes.confusion, curves, outcomes.losses)),
        pack_pairs(summary.errors, start_us, part, parts),
        spreads=pack_spreads(summary.spreads) if part == 0 else None,
    )


def _parts_of_rows(key: OutcomeKey, start_us: int, summary: UncountedOutcomes) -> Iterator[OutcomePart]:
    """The first part has the coverage; one part if there are no rows."""
    coverage = pack_coverage(summary.coverage)
    for rows in pack_rows(summary.rows, start_us):
        yield OutcomePart(key, start_us, coverage, rows=rows)
        coverage = pack_coverage(Coverage.empty())
    if not summary.rows:
        yield OutcomePart(key, start_us, coverage)


def from_part(part: OutcomePart) -> AnySummary:
    """The summary that a record holds.

    Raises ``StateError`` for a record that cannot be of its grid, or that nobody wrote.
    """
    try:
        return _from_part(part)
    except ValueError as error:
        raise StateError(f"outcomes of model {part.key.model_id} are not what was written: {error}") from None


def _from_part(part: OutcomePart) -> AnySummary:
    coverage = unpack_coverage(part.coverage)
    if part.grid is None:
        return UncountedOutcomes(unpack_rows(part.rows, part.start_us) if part.rows else RawRows(), coverage)
    if part.outcomes is None or part.errors is None:
        raise ValueError(f"nothing is counted on the grid {part.grid.id}")
    return OutcomeSummary(
        unpack_outcomes(part.outcomes, part.grid),
        coverage,
        unpack_pairs(part.errors, part.start_us),
        unpack_spreads(part.spreads, part.grid) if part.spreads else Spreads.empty(part.grid),
    )


def pack_outcomes(outcomes: Outcomes) -> PackedOutcomes:
    """Outcomes without their grid."""
    confusion = outcomes.confusion
    return PackedOutcomes(
        outcomes.n,
        confusion.unknown,
        tuple(sorted((true, predicted, n) for (true, predicted), n in confusion.cells.items())),
        _pack_tally(outcomes.curves.histograms),
        pack_integers(outcomes.curves.totals),
        pack_integers(outcomes.losses.totals),
    )


def unpack_outcomes(packed: PackedOutcomes, grid: OutcomeGrid) -> Outcomes:
    """What ``pack_outcomes`` was given. Raises ``ValueError`` if that was on another kind of grid."""
    empty = Outcomes.empty(grid)
    if len(packed.unknown) > MAX_UNKNOWN:
        raise ValueError(f"{len(packed.unknown)} unknown names")
    cells = {(true, predicted): n for true, predicted, n in packed.cells}
    return Outcomes(
        grid,
        packed.n,
        Confusion(grid.classes, packed.unknown, cells),
        Curves(
            _unpack_tally(packed.histograms, 2 * len(grid.curves) * BINS),
            unpack_integers(packed.curve_totals, len(empty.curves.totals)),
        ),
        Losses(empty.losses.names, unpack_integers(packed.loss_totals, len(empty.losses.totals))),
    )


def pack_spreads(spreads: Spreads) -> PackedSpreads:
    """Spreads without their grid."""
    return PackedSpreads(_pack_tally(spreads.histograms), pack(spreads.moments.limbs.ravel()))


def unpack_spreads(packed: PackedSpreads, grid: OutcomeGrid) -> Spreads:
    """What ``pack_spreads`` was given. Raises ``ValueError`` for what it never gave."""
    shape = Spreads.empty(grid).moments.limbs.shape
    spreads = Spreads(grid, _unpack_tally(packed.histograms, span(grid)), Moments(unpack(packed.limbs).reshape(shape)))
    if not spreads.possible:
        raise ValueError("no predictions have these labels and losses")
    return spreads


def pack_coverage(coverage: Coverage) -> PackedCoverage:
    """Coverage as a record holds it."""
    return PackedCoverage(coverage.fates, _pack_tally(coverage.delays))


def unpack_coverage(packed: PackedCoverage) -> Coverage:
    """What ``pack_coverage`` was given. Raises ``ValueError`` for what it never gave."""
    if len(packed.fates) != len(Coverage.empty().fates):
        raise ValueError(f"{len(packed.fates)} fates")
    return Coverage(packed.fates, _unpack_tally(packed.delays, DELAY_BINS))


def _pack_tally(tally: Tally) -> PackedTally:
    return PackedTally(pack(np.diff(tally.keys, prepend=0)), pack(tally.counts))


def _unpack_tally(packed: PackedTally, span: int) -> Tally:
    keys, counts = np.cumsum(unpack(packed.steps)), unpack(packed.counts)
    if len(keys) != len(counts) or not counts.all() or not (np.diff(keys, prepend=-1, append=span) > 0).all():
        raise ValueError("counts that are no tally")
    return Tally(keys, counts)


def pack_integers(integers: Sequence[int]) -> bytes:
    """Integers of any size, in the narrowest signed little-endian width that holds them all, which one byte names."""
    width = max(((n if n >= 0 else ~n).bit_length() // 8 + 1 for n in integers), default=1)
    return bytes([width]) + b"".join(n.to_bytes(width, "little", signed=True) for n in integers)


def unpack_integers(data: bytes, size: int) -> tuple[int, ...]:
    """What ``pack_integers`` was given. Raises ``ValueError`` if that was not ``size`` integers."""
    width = data[0] if data else 0
    if not width or len(data) != 1 + width * size:
        raise ValueError(f"not {size} integers")
    return tuple(
        int.from_bytes(data[start : start + width], "little", signed=True) for start in range(1, len(data), width)
    )
