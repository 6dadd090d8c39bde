"""Outcome summaries as records of the summaries topic, and as parts of snapshots.

Everything in a summary adds up, so one that is too large for a record is sent as several that hold a part of its
counts each, and whoever adds them has the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from streamdrift.entries import MAX_PART_BYTES, PackedPairs, pack, pack_pairs, unpack, unpack_pairs
from streamdrift.errors import StateError
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.summaries.confusion import MAX_UNKNOWN, Confusion
from streamdrift.summaries.coverage import DELAY_BINS, Coverage
from streamdrift.summaries.curves import BINS, Curves
from streamdrift.summaries.losses import Losses
from streamdrift.summaries.outcome_summary import OutcomeKey, OutcomeSummary
from streamdrift.summaries.outcomes import Outcomes
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


class PackedCoverage(msgspec.Struct, array_like=True, frozen=True):
    """Coverage."""

    fates: tuple[int, ...]
    delays: PackedTally


class OutcomePart(msgspec.Struct, array_like=True, frozen=True, tag="outcome/1"):
    """An outcome summary, or a part of one. Parts add up."""

    key: OutcomeKey
    grid_id: str
    start_us: int
    outcomes: PackedOutcomes
    coverage: PackedCoverage
    errors: PackedPairs


def to_parts(key: OutcomeKey, start_us: int, summary: OutcomeSummary) -> list[OutcomePart]:
    """A summary as one record, or as several of at most ``MAX_PART_BYTES``, as long as its sums fit into one.

    ``start_us`` is the start of the labels' tick.
    """
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
        whole.grid.id,
        start_us,
        pack_outcomes(Outcomes(whole.grid, outcomes.n, outcomes.confusion, curves, outcomes.losses)),
        pack_coverage(summary.coverage if part == 0 else Coverage.empty()),
        pack_pairs(summary.errors, start_us, part, parts),
    )


def from_part(part: OutcomePart, grid: OutcomeGrid) -> OutcomeSummary:
    """The summary that a record holds. ``grid`` is the one whose id the record names.

    Raises ``StateError`` for a record that cannot be of this grid.
    """
    try:
        return OutcomeSummary(
            unpack_outcomes(part.outcomes, grid),
            unpack_coverage(part.coverage),
            unpack_pairs(part.errors, part.start_us),
        )
    except ValueError as error:
        raise StateError(f"outcomes of model {part.key.model_id} do not fit their grid {grid.id}: {error}") from None


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
