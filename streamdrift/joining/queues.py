"""When to look at a row again: rows that become due in the same part of a bound stand together.

A queue holds hashes, many in one entry, and says nothing of the rows: one that was removed, or whose labels found their
prediction, is passed over when its time comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from streamdrift.joining.matching import Bounds
from streamdrift.joining.rows import Predicted, Row

PARTS: Final = 100
"""Parts of a bound: rows stay up to a hundredth longer than they must."""


class Queue(Enum):
    """What becomes due; the values stand in keys of the store."""

    PREDICTED = b"p"
    WAITING = b"w"


class Place(NamedTuple):
    """Where a row is found when its time has come."""

    queue: Queue
    part: int
    """[part · width, (part + 1) · width) in microseconds, after which everything in it is due."""


def queue_width(queue: Queue, bounds: Bounds) -> int:
    """Width of a queue's parts in microseconds."""
    bound = bounds.label_delay_us if queue is Queue.PREDICTED else bounds.orphan_wait_us
    return max(1, bound // PARTS)


def due_of(row: Row | None, bounds: Bounds) -> Iterator[Place]:
    """The places of a row: one of a prediction, one of each waiting label."""
    if isinstance(row, Predicted):
        yield _place(Queue.PREDICTED, row.time + bounds.label_delay_us, bounds)
    elif row is not None:
        for label in row.labels:
            yield _place(Queue.WAITING, label.time + bounds.orphan_wait_us, bounds)


def _place(queue: Queue, due: int, bounds: Bounds) -> Place:
    return Place(queue, max(due, 0) // queue_width(queue, bounds))
