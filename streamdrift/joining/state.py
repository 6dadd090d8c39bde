"""What stands beside the rows of a join, and what a join asks of the place that keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from streamdrift.errors import StateError
from streamdrift.joining.outcomes import Version
from streamdrift.joining.queues import Place, Queue
from streamdrift.records import TopicPartition
from streamdrift.summaries.coverage import Fate
from streamdrift.ticks import NEVER

FORMAT: Final = 1
"""Of rows and of what stands beside them."""

STATE, VERSIONS = b"s", b"v"
"""Keys of what stands once in a store and its changelog."""


class State(msgspec.Struct, array_like=True):
    """What stands beside the rows: one of each store, in the same write."""

    format: int = FORMAT
    predictions_offset: int = 0
    """The next record of predictions-p to be read."""
    labels_offset: int = 0
    predictions_clock: int = NEVER
    labels_clock: int = NEVER
    rung: int = 0
    """How often rows were left out for room; see ``join.threshold``. It only ever rises."""
    leaving_out: bool = False
    """Whether rows beyond the threshold are still there."""
    rows: int = 0
    pending: int = 0
    """Predictions without a label among them."""
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * len(Fate))
    """Fates since the store began, by ``Fate``."""
    queued: int = 0
    """Entries of the queues so far: numbers the next one. Means something in its own store alone."""
    predictions_ended: bool = False
    """Whether the log of predictions says that nothing more will come."""
    labels_ended: bool = False
    published: int = NEVER
    """The watermark of the partition as it was told last: no outcome and no fate is decided before it."""
    predictions_told: int = NEVER
    labels_told: int = NEVER
    """Those of either log, of which it was the earlier: nobody takes back what he was told."""


class Versions(msgspec.Struct, array_like=True):
    """Names of model versions, by the numbers that stand in rows."""

    names: list[Version] = []


Kept = TypeVar("Kept", State, Versions, int)


class Store(Protocol):
    """Rows by key, and queues of keys by the time at which to look at them again; all as of the last commit."""

    state: State
    versions: list[Version]
    changelog_offset: int
    """The next record of the changelog that is not in the store."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of ``keys``; cheapest in their order."""

    def rows_from(self, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` rows from ``key`` on, in the order of keys."""

    def queue(self, name: Queue, until: int, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` entries of the parts of a queue before ``until``: their own keys, and the hashes put in."""

    def commit(
        self,
        rows: Mapping[bytes, bytes | None],
        due: Mapping[Place, Sequence[bytes]],
        done: Iterable[bytes],
        state: State,
        versions: Sequence[Version],
        changelog_offset: int,
    ) -> None:
        """Write all of it, or nothing.

        ``rows`` are new values (None: removed), ``due`` hashes by their places, ``done`` entries of queues.
        """

    def close(self) -> None:
        """Nothing of it is used any more."""


class Stores(Protocol):
    """The stores of a process, by the partition of the changelog that each is a copy of."""

    def open(self, tp: TopicPartition) -> Store:
        """The store as it was closed, as far as it can still be continued, or an empty one."""

    def discard(self, tp: TopicPartition) -> None:
        """Delete what there is of a store that is not open."""


def read(value: bytes, kind: type[Kept]) -> Kept:
    """What stands once in a store. Raises ``StateError`` for what no version up to this one wrote."""
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.DecodeError as error:
        raise StateError(f"the state of a join cannot be read: {error}") from None
