"""The records of the state topic: under which keys what is kept of a partition of the log.

::

    ["retraining","fraud"]            what is known of a model's retraining; written first
    ["outcomes","fraud","7"]          a watch over outcomes between two ticks
    ["outcome-partition","3"]         how far the log was folded for outcomes
    ["learning","fraud","7","0"]      events that a watch has to learn from, as many records as it takes
    ["model","fraud","7"]             a watch over inputs between two ticks
    ["partition","3"]                 how far the log was folded for inputs; written last
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from streamdrift.entries import PartitionProgress
from streamdrift.errors import StateError
from streamdrift.gridbook import ModelKey

FOLD_VERSION: Final = 1
"""Of a partition's own record."""
_CHUNK_NUMBER: Final = re.compile(r"\d{1,9}", re.ASCII)


class PartitionState(msgspec.Struct, array_like=True, frozen=True):
    """How far a partition was folded."""

    version: int
    tick_us: int
    position: int
    resume_at: int
    """The committed offset that goes with it."""
    closed: int | None
    counts: dict[str, int]
    progress: list[PartitionProgress]
    latest: int | None = None
    """The last closed tick in which anything came."""

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)


@dataclass(slots=True)
class StateRecords:
    """What the state topic holds of one partition."""

    partition: PartitionState | None = None
    watches: dict[ModelKey, bytes] = field(default_factory=dict)
    chunks: dict[ModelKey, dict[int, bytes]] = field(default_factory=dict)
    outcome_partition: PartitionState | None = None
    outcomes: dict[ModelKey, bytes] = field(default_factory=dict)
    retraining: dict[str, bytes] = field(default_factory=dict)
    """By model id."""


def read_records(records: Mapping[bytes, bytes], partition: int | None = None) -> StateRecords:
    """Sort the records of a partition, or of all. Raises ``StateError`` for what this version does not know."""
    found = StateRecords()
    for name, value in records.items():
        match _decode_key(name):
            case ["partition", number]:
                if number == str(partition):
                    found.partition = _decode_partition(value)
            case ["model", model_id, version]:
                found.watches[model_id, version] = value
            case ["learning", model_id, version, number] if _CHUNK_NUMBER.fullmatch(number):
                found.chunks.setdefault((model_id, version), {})[int(number)] = value
            case ["outcome-partition", number]:
                if number == str(partition):
                    found.outcome_partition = _decode_partition(value)
            case ["outcomes", model_id, version]:
                found.outcomes[model_id, version] = value
            case ["retraining", model_id]:
                found.retraining[model_id] = value
            case _:
                raise StateError(f"a key of the state topic is of no kind that this program knows: {name!r}")
    return found


def model_key(key: ModelKey) -> bytes:
    """Key of a model's snapshot."""
    return msgspec.json.encode(("model", *key))


def chunk_key(key: ModelKey, number: int) -> bytes:
    """Key of a part of what a model version has to learn from."""
    return msgspec.json.encode(("learning", *key, str(number)))


def partition_key(partition: int) -> bytes:
    """Key of a partition's own record."""
    return msgspec.json.encode(("partition", str(partition)))


def outcomes_key(key: ModelKey) -> bytes:
    """Key of the snapshot of a model's outcomes."""
    return msgspec.json.encode(("outcomes", *key))


def outcome_partition_key(partition: int) -> bytes:
    """Key of a partition's own record of outcomes."""
    return msgspec.json.encode(("outcome-partition", str(partition)))


def retraining_key(model_id: str) -> bytes:
    """Key of what is known of a model's retraining."""
    return msgspec.json.encode(("retraining", model_id))


def _decode_partition(value: bytes) -> PartitionState:
    try:
        saved = msgspec.msgpack.decode(value, type=PartitionState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"a partition's snapshot cannot be read: {error}") from None
    if saved.version != FOLD_VERSION:
        raise StateError(f"a partition's snapshot has version {saved.version}, this program reads {FOLD_VERSION}")
    return saved


def _decode_key(key: bytes) -> list[str]:
    try:
        return msgspec.json.decode(key, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"a key of the state topic cannot be read: {error}") from None
