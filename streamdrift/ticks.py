"""Event time: ticks, and when one is over.

Times are integers, microseconds since the epoch. Tick k is ``[k * tick, (k + 1) * tick)``. A watermark W of
a partition says: no event earlier than W is waited for there any more::

    partition 0   ──e──e───e──────e───|W0              W0 = highest event time - allowed lateness
    partition 1   ──e────e──e──|W1
    closed ticks  [  k  ][ k+1 ]                       every tick that ends at or before min(W0, W1)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.records import TopicPartition

MICROSECONDS: Final = 1_000_000
NEVER: Final = -(1 << 62)
"""Watermark of a partition of which nothing is known."""
END_OF_TIME: Final = 1 << 62
"""Watermark of a partition that will carry nothing more."""


def tick_of(time_us: int, tick_us: int) -> int:
    """Number of the tick that holds ``time_us``."""
    return time_us // tick_us


def last_closed(watermark: int, tick_us: int) -> int:
    """The last tick that ends at or before ``watermark``."""
    return watermark // tick_us - 1


@dataclass(slots=True)
class PartitionClock:
    """Event time of one input partition, as its owner reads it: who is late, and how far it is.

    Both follow from the partition's own log prefix, so that another owner would decide the same. An event
    is late if its tick was already over when the event was read.
    """

    tick_us: int
    lateness_us: int
    watermark: int = NEVER

    def accept(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the events, given in log order, are in time; moves the watermark. Shapes (n,)."""
        if not len(times):
            return np.zeros(0, dtype=np.bool_)
        before = np.empty(len(times), dtype=np.int64)
        before[0] = self.watermark
        np.maximum(np.maximum.accumulate(times)[:-1] - self.lateness_us, self.watermark, out=before[1:])
        self.advance(int(times.max()) - self.lateness_us)
        ends: NDArray[np.int64] = (times // self.tick_us + 1) * self.tick_us
        return ends > before

    def advance(self, watermark: int) -> None:
        """Move the watermark forward; it never moves back."""
        self.watermark = max(self.watermark, watermark)


@dataclass(slots=True)
class Completeness:
    """How far every expected input partition has come, as far as the log of summaries tells."""

    watermarks: dict[TopicPartition, int] = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def learn(self, counts: Mapping[str, int], positions: Iterable[tuple[TopicPartition, int, int]]) -> None:
        """Take one progress record: partitions a topic, and (partition, next offset, watermark) of its writer.

        Nothing here moves back: a record that is read again after a restart changes nothing.
        """
        for topic, count in counts.items():
            self.counts[topic] = max(count, self.counts.get(topic, 0))
        for tp, offset, watermark in positions:
            self.offsets[tp] = max(offset, self.offsets.get(tp, 0))
            self.watermarks[tp] = max(watermark, self.watermarks.get(tp, NEVER))

    @property
    def watermark(self) -> int:
        """The time up to which every expected partition is complete; ``NEVER`` while one is unheard of."""
        expected = (TopicPartition(topic, p) for topic, count in self.counts.items() for p in range(count))
        return min((self.watermarks.get(tp, NEVER) for tp in expected), default=NEVER)
