"""What is kept of a prediction until its bound, and of labels that wait for theirs.

A row's key is the 128-bit hash of its model and prediction id. Two of 10⁸ ids share one with a probability of 10⁻²³,
so ids themselves are not kept; with 64 bits it would be 3·10⁻⁴, and each such pair would mix two predictions.
A row takes about 25 bytes behind its key of 17 where a model gives a class and a score.
"""

from __future__ import annotations

from typing import Final

import msgspec
from xxhash import xxh3_128_digest

from streamdrift.errors import StateError


class Prediction(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a model said: any of these."""

    label: str | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None


class Label(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What turned out to be true."""

    label: str | None
    value: float | None
    time: int
    """Event time in microseconds, which says in which tick it counts."""
    behind: int = 0
    """How far its partition's clock was ahead of ``time`` when it was read, in microseconds."""
    revision: int = 0

    @property
    def clock(self) -> int:
        return self.time + self.behind


class Predicted(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=0):
    """A prediction; pending as long as it has no label."""

    version: int
    """Place of its model version among the store's names."""
    time: int
    behind: int
    prediction: Prediction
    label: Label | None = None

    @property
    def clock(self) -> int:
        return self.time + self.behind


class Waiting(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Labels without a prediction, in the order of their log."""

    model: int
    """Place of (model id, "") among the store's names."""
    labels: tuple[Label, ...]


Row = Predicted | Waiting

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final[msgspec.msgpack.Decoder[Row]] = msgspec.msgpack.Decoder(Row)

ROW: Final = b"r"
"""First byte of the keys of rows."""
HASH_BYTES: Final = 16


def key_of(model_id: str, prediction_id: str) -> bytes:
    """The key of a row, 17 bytes: rows of a store stand in the order of their hashes."""
    return ROW + xxh3_128_digest(f"{model_id}\0{prediction_id}".encode("utf-8", "surrogatepass"))


def rank_of(key: bytes) -> int:
    """The first 64 bits of a row's hash: which rows are left out where there is no room for all."""
    return int.from_bytes(key[1:9], "big")


def encode_row(row: Row) -> bytes:
    """A row as it stands in the store and in the changelog."""
    return _encode(row)


def decode_row(data: bytes) -> Row:
    """Raises ``StateError`` for what ``encode_row`` never gave."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"a row of the join cannot be read: {error}") from None
