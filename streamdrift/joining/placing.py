"""Whether a prediction and its label can meet: both must lie in partitions of the same number.

Equal numbers of partitions do not make it so: Java clients place a key by murmur2, librdkafka by CRC32 unless told
otherwise, others by FNV-1a. So it is looked at where real records lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

ENOUGH: Final = 20
"""Predictions that were found with their labels, in the same partition, which cannot be chance."""


class Seen(NamedTuple):
    """Where an event lies."""

    model_id: str
    prediction_id: str
    partition: int


def murmur2(key: bytes) -> int:
    """The hash of Kafka's Java client (Appleby's MurmurHash2 of 32 bits, seed 0x9747b28c).

    >>> murmur2(b"foobar") - (1 << 32)
    -790332482
    """
    length = len(key)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def fnv1a(key: bytes) -> int:
    """FNV-1a of 32 bits.

    >>> hex(fnv1a(b"a"))
    '0xe40c292c'
    """
    h = 0x811C9DC5
    for byte in key:
        h = (h ^ byte) * 0x01000193 & _MASK
    return h


_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def _of_sarama(key: bytes, partitions: int) -> int:
    """What Go's Sarama does: the remainder of a signed number, without its sign."""
    h = fnv1a(key)
    signed = h - (1 << 32) if h >> 31 else h
    return abs(signed) % partitions


PARTITIONERS: Final[Mapping[str, Callable[[bytes, int], int]]] = {
    "murmur2": lambda key, partitions: (murmur2(key) & 0x7FFFFFFF) % partitions,
    "CRC32": lambda key, partitions: crc32(key) % partitions,
    "FNV-1a": _of_sarama,
}
"""How clients place a key: Java and those after it, librdkafka, Sarama."""


def misplaced(predictions: Sequence[Seen], labels: Sequence[Seen], partitions: int) -> str | None:
    """Why labels cannot meet their predictions, in a sentence; None where nothing speaks against it."""
    if partitions == 1 or not predictions or not labels:
        return None
    places = {(seen.model_id, seen.prediction_id): seen.partition for seen in predictions}
    both = [(seen, places[seen[:2]]) for seen in labels if seen[:2] in places]
    for label, place in both:
        if label.partition != place:
            return f"a prediction lies in partition {place}, and its label in partition {label.partition}"
    of_predictions, of_labels = _partitioners(predictions, partitions), _partitioners(labels, partitions)
    if of_predictions & of_labels or len(both) >= ENOUGH:
        return None
    if of_predictions and of_labels:
        return f"predictions are placed by {_any_of(of_predictions)}, labels by {_any_of(of_labels)}"
    sides = [name for name, found in (("predictions", of_predictions), ("labels", of_labels)) if not found]
    return f"{' and '.join(sides)} are not placed by the prediction id in any usual way"


def _partitioners(events: Sequence[Seen], partitions: int) -> set[str]:
    """Those that place every event where it lies, by its prediction id."""
    return {
        name
        for name, place in PARTITIONERS.items()
        if all(place(seen.prediction_id.encode("utf-8", "replace"), partitions) == seen.partition for seen in events)
    }


def _any_of(names: set[str]) -> str:
    return " or ".join(sorted(names))
