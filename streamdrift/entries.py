"""The log that joins the stages: what summarise and join write to the summaries topic and detect reads.

Five kinds of record, each versioned by its tag; that of outcomes is in ``outcome_entries``. Records of one model are
in one partition, chosen here by a fixed hash so that no client's partitioner can move them; progress goes to every
partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.errors import StateError
from streamdrift.grids import Grid
from streamdrift.outcome_entries import OutcomePart
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
from streamdrift.summaries import Names, RawRows, Summary, SummaryKey


class SummaryPart(msgspec.Struct, array_like=True, frozen=True, tag="summary/1"):
    """A summary, or the part of it that covers ``columns`` [first, stop). Parts add up like summaries."""

    key: SummaryKey
    grid_id: str
    start_us: int
    events: int
    columns: tuple[int, int]
    counts: bytes
    moments: bytes
    names: dict[int, dict[str, int]]
    pairs: dict[str, PackedPairs]
    rows: PackedRows | None = None


class PartitionProgress(msgspec.Struct, array_like=True, frozen=True):
    """How far the owner of an input partition has read, and what it waits for no more."""

    topic: str
    partition: int
    next_offset: int
    watermark: int


class Progress(msgspec.Struct, array_like=True, frozen=True, tag="progress/1"):
    """What a writer of summaries had read when it committed. It follows all summaries of what it covers."""

    counts: dict[str, int]
    """Partitions of every input topic, as the writer knows them."""
    positions: tuple[PartitionProgress, ...]


class OutcomeProgress(msgspec.Struct, array_like=True, frozen=True, tag="outcome-progress/1"):
    """Likewise, what a writer of outcomes had read of predictions and labels. It follows all outcomes of that.

    Outcomes have a completeness of their own: labels that are not there delay nothing but what needs labels.
    """

    counts: dict[str, int]
    positions: tuple[PartitionProgress, ...]


class BaselineSet(msgspec.Struct, array_like=True, frozen=True, tag="baseline/1"):
    """Control: from its first tick that is not closed yet, the model version is compared with this baseline.

    One that was ``promoted`` by a person stays in effect although the configured one is said again at every start.
    """

    model_id: str
    model_version: str
    baseline_id: str
    promoted: bool = False


LogEntry = SummaryPart | Progress | BaselineSet | OutcomePart | OutcomeProgress

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[LogEntry]] = msgspec.msgpack.Decoder(LogEntry)


def encode(entry: LogEntry) -> bytes:
    """The value of a record of the summaries topic."""
    return _encoder.encode(entry)


def decode(value: bytes) -> LogEntry:
    """Raises ``StateError`` for what no version up to this one wrote: reading on would lose counts."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"a record of the summaries topic cannot be read: {error}") from None


def partition_of(model_id: str, partitions: int) -> int:
    """The partition of the summaries topic that holds a model."""
    return xxh3_64_intdigest(model_id.encode("utf-8", "surrogatepass")) % partitions


def admission_rank(model_id: str, model_version: str) -> tuple[int, str, str]:
    """The order in which model versions that no one configured are admitted: by hash, the same everywhere."""
    name = f"{model_id}\0{model_version}".encode("utf-8", "surrogatepass")
    return xxh3_64_intdigest(name), model_id, model_version


def to_parts(key: SummaryKey, start_us: int, grid: Grid, summary: Summary) -> list[SummaryPart]:
    """A summary as one record, or as several of at most ``MAX_PART_BYTES`` (a single column or row is never split)."""
    return [*_parts_of_counts(key, start_us, grid, summary), *_parts_of_rows(key, start_us, grid, summary.rows)]


def _parts_of_counts(key: SummaryKey, start_us: int, grid: Grid, summary: Summary) -> list[SummaryPart]:
    """Parts that hold everything but the rows."""
    [whole] = _split(key, start_us, grid, summary, [0, len(grid.columns)])
    if len(encode(whole)) <= MAX_PART_BYTES:
        return [whole]
    ends = np.cumsum([0, *_column_bytes(grid, summary)])
    size = int(ends[-1]) + sum(_PAIR_BYTES * len(pairs.hashes) for pairs in summary.pairs.values())
    parts = 1 + 2 * size // MAX_PART_BYTES  # half full on average: no cut falls where it should
    bounds = np.searchsorted(ends, np.linspace(0, ends[-1], parts + 1))
    return list(_split(key, start_us, grid, summary, bounds.tolist()))


def _parts_of_rows(key: SummaryKey, start_us: int, grid: Grid, rows: RawRows) -> Iterator[SummaryPart]:
    """Parts that hold no columns, only rows; none where there are none."""
    of_no_column = pack(np.zeros(0, np.int64))
    for packed in pack_rows(rows, start_us) if rows.total else ():
        yield SummaryPart(key, grid.id, start_us, 0, (0, 0), of_no_column, of_no_column, {}, {}, packed)


_PAIR_BYTES: Final = 32
"""Most bytes of one entry of raw values."""


def _column_bytes(grid: Grid, summary: Summary) -> Iterator[int]:
    """About how many bytes each column takes, and not less: slots, moments, and names, which can outweigh both."""
    width, limbs = pack(summary.counts)[0], 8 * summary.moments.limbs.shape[1]
    for i, column in enumerate(grid.columns):
        names = summary.names.columns.get(i, {})
        yield width * column.slots + limbs + sum(len(name.encode()) + 2 * 9 for name in names)


def _split(
    key: SummaryKey, start_us: int, grid: Grid, summary: Summary, bounds: Sequence[int]
) -> Iterator[SummaryPart]:
    """One part for each pair of neighbouring ``bounds``, which are numbers of columns."""
    parts = len(bounds) - 1
    for i, (first, stop) in enumerate(pairwise(bounds)):
        yield SummaryPart(
            key,
            grid.id,
            start_us,
            summary.events if i == 0 else 0,
            (first, stop),
            pack(summary.counts[grid.offsets[first] : grid.offsets[stop]]),
            pack(summary.moments.limbs[first:stop].ravel()),
            {c: dict(names) for c, names in summary.names.columns.items() if first <= c < stop},
            {name: pack_pairs(pairs, start_us, i, parts) for name, pairs in summary.pairs.items()},
        )


def from_part(part: SummaryPart, grid: Grid) -> Summary:
    """The summary that a record holds. ``grid`` is the one whose id the record names.

    Raises ``StateError`` for a record that cannot be of this grid.
    """
    try:
        return _from_part(part, grid)
    except (ValueError, OverflowError, msgspec.DecodeError) as error:
        raise StateError(f"a summary of model {part.key.model_id} does not fit its grid {grid.id}: {error}") from None


def _from_part(part: SummaryPart, grid: Grid) -> Summary:
    first, stop = part.columns
    if not 0 <= first <= stop <= len(grid.columns) or not all(first <= column < stop for column in part.names):
        raise ValueError(f"columns {first} to {stop}")
    if not 0 <= part.events <= _MOST_EVENTS:
        raise ValueError(f"{part.events} events")
    summary = Summary.empty(grid)
    counts, limbs = summary.counts[grid.offsets[first] : grid.offsets[stop]], summary.moments.limbs[first:stop]
    counts[:] = _unpack_exactly(part.counts, counts.size)
    if counts.size and not 0 <= counts.min() <= counts.max() <= _MOST_EVENTS:
        raise ValueError("counts that no events have")
    limbs[:] = _unpack_exactly(part.moments, limbs.size).reshape(limbs.shape)
    return Summary(
        part.events,
        summary.counts,
        summary.moments,
        Names(part.names),
        {name: unpack_pairs(packed, part.start_us) for name, packed in part.pairs.items()},
        unpack_rows(part.rows, part.start_us) if part.rows else RawRows(),
    )


_MOST_EVENTS: Final = 1 << 53
"""More events than a tick ever has; sums of so many counts stay exact."""


def _unpack_exactly(data: bytes, size: int) -> NDArray[np.int64]:
    array = unpack(data)
    if len(array) != size:
        raise ValueError(f"{len(array)} numbers instead of {size}")
    return array


def progress(counts: Mapping[str, int], positions: Iterable[PartitionProgress]) -> Progress:
    """A progress record with its positions in a fixed order."""
    return Progress(*_in_order(counts, positions))


def outcome_progress(counts: Mapping[str, int], positions: Iterable[PartitionProgress]) -> OutcomeProgress:
    """Likewise, of a writer of outcomes."""
    return OutcomeProgress(*_in_order(counts, positions))


def _in_order(
    counts: Mapping[str, int], positions: Iterable[PartitionProgress]
) -> tuple[dict[str, int], tuple[PartitionProgress, ...]]:
    return dict(sorted(counts.items())), tuple(sorted(positions, key=lambda p: (p.topic, p.partition)))
