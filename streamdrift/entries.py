"""The log that joins the stages: what summarise writes to the summaries topic and detect reads.

Three kinds of record, each versioned by its tag. Records of one model are in one partition, chosen here by
a fixed hash so that no client's partitioner can move them; progress goes to every partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.errors import StateError
from streamdrift.grids import Grid
from streamdrift.summaries import Moments, Names, Pairs, Summary, SummaryKey

MAX_PART_BYTES: Final = 256 * 1024
"""A larger summary is split by blocks of columns: brokers refuse records over 1 MB by default."""


class PackedPairs(msgspec.Struct, array_like=True, frozen=True):
    """Raw values of one column; times are microseconds after the tick's start of the record."""

    hashes: bytes
    times: bytes
    values: bytes
    repeats: bytes
    total: int


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


class BaselineSet(msgspec.Struct, array_like=True, frozen=True, tag="baseline/1"):
    """Control: from its first tick that is not closed yet, the model version is compared with this baseline."""

    model_id: str
    model_version: str
    baseline_id: str


LogEntry = SummaryPart | Progress | BaselineSet

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[LogEntry]] = msgspec.msgpack.Decoder(LogEntry)


def encode(entry: LogEntry) -> bytes:
    """The value of a record of the summaries topic."""
    return _encoder.encode(entry)


def decode(value: bytes) -> LogEntry:
    """Raises ``StateError`` for what no version up to this one wrote: reading on would lose counts."""
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise StateError(f"a record of the summaries topic cannot be read: {error}") from None


def partition_of(model_id: str, partitions: int) -> int:
    """The partition of the summaries topic that holds a model."""
    return xxh3_64_intdigest(model_id.encode("utf-8", "surrogatepass")) % partitions


def admission_rank(model_id: str, model_version: str) -> tuple[int, str, str]:
    """The order in which model versions that no one configured are admitted: by hash, the same everywhere."""
    name = f"{model_id}\0{model_version}".encode("utf-8", "surrogatepass")
    return xxh3_64_intdigest(name), model_id, model_version


def to_parts(key: SummaryKey, start_us: int, grid: Grid, summary: Summary) -> list[SummaryPart]:
    """A summary as one record, or as several of about ``MAX_PART_BYTES``."""
    whole = next(_split(key, start_us, grid, summary, 1))
    size = len(encode(whole))
    if size <= MAX_PART_BYTES:
        return [whole]
    return list(_split(key, start_us, grid, summary, 1 + size // (MAX_PART_BYTES // 2)))


def _split(key: SummaryKey, start_us: int, grid: Grid, summary: Summary, parts: int) -> Iterator[SummaryPart]:
    bounds = np.searchsorted(grid.offsets, np.linspace(0, grid.slots, parts + 1)).tolist()
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
            {name: _pack_pairs(pairs, start_us, i, parts) for name, pairs in summary.pairs.items()},
        )


def _pack_pairs(pairs: Pairs, start_us: int, part: int, parts: int) -> PackedPairs:
    rows = slice(len(pairs.hashes) * part // parts, len(pairs.hashes) * (part + 1) // parts)
    return PackedPairs(
        pairs.hashes[rows].tobytes(),
        pack(pairs.times[rows] - start_us),
        pairs.values[rows].tobytes(),
        pack(pairs.repeats[rows]),
        pairs.total if part == 0 else 0,
    )


def from_part(part: SummaryPart, grid: Grid) -> Summary:
    """The summary that a record holds. ``grid`` is the one whose id the record names."""
    summary = Summary.empty(grid)
    first, stop = part.columns
    summary.counts[grid.offsets[first] : grid.offsets[stop]] = unpack(part.counts)
    limbs = summary.moments.limbs
    limbs[first:stop] = unpack(part.moments).reshape(stop - first, limbs.shape[1])
    return Summary(
        part.events,
        summary.counts,
        Moments(limbs),
        Names(part.names),
        {name: _unpack_pairs(packed, part.start_us) for name, packed in part.pairs.items()},
    )


def _unpack_pairs(packed: PackedPairs, start_us: int) -> Pairs:
    return Pairs(
        np.frombuffer(packed.hashes, dtype="<u8").astype(np.uint64),
        unpack(packed.times) + start_us,
        np.frombuffer(packed.values, dtype="<f8").astype(np.float64),
        unpack(packed.repeats),
        packed.total,
    )


def pack(array: NDArray[np.int64]) -> bytes:
    """Integers in the narrowest little-endian type that holds them, behind one byte that names it. Shape (n,)."""
    low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    width = next(w for w in (1, 2, 4, 8) if low >= -(1 << (8 * w - 1)) and high < 1 << (8 * w - 1))
    return bytes([width]) + array.astype(f"<i{width}").tobytes()


def unpack(data: bytes) -> NDArray[np.int64]:
    """What ``pack`` was given."""
    return np.frombuffer(data, dtype=f"<i{data[0]}", offset=1).astype(np.int64)


def progress(counts: Mapping[str, int], positions: Iterable[PartitionProgress]) -> Progress:
    """A progress record with its positions in a fixed order."""
    return Progress(dict(sorted(counts.items())), tuple(sorted(positions, key=lambda p: (p.topic, p.partition))))
