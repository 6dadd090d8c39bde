"""Following a compacted topic: all of it once, and from then on what is written to it."""

from __future__ import annotations

import time

from streamdrift.errors import FatalError
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.compacted import BATCH, POLL_TIMEOUT, STALL_LIMIT, offsets_of, partitions_of, read_message
from streamdrift.kafka.messages import theirs_at
from streamdrift.kafka.offsets import Side
from streamdrift.records import Position


class Follower:
    """A reader of all partitions of a topic. Used from one thread; to be closed.

    Raises ``BrokerUnreachable``, ``ConfigurationError`` if there is no such topic, ``FatalError``.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        admin, partitions = partitions_of(cluster, topic)
        starts = offsets_of(cluster, admin, partitions, Side.START)
        ends = offsets_of(cluster, admin, partitions, Side.END)
        self._topic = topic
        self._left = {tp: ends[tp] for tp in partitions if starts[tp] < ends[tp]}
        """What was there when this was made: the end of each partition that is not reached yet."""
        self._consumer = client.reader(cluster, ClientErrors(cluster.repeats))
        self._consumer.assign(theirs_at({tp: Position(starts[tp]) for tp in partitions}))

    def __call__(self) -> list[tuple[bytes, bytes | None]]:
        """Keys and values that were not given before, None for a deletion; in order, partition by partition.

        The first call waits for all that was there when this was made, no other waits.
        """
        entries: list[tuple[bytes, bytes | None]] = []
        moved = time.monotonic()
        while True:
            messages = self._consumer.consume(BATCH, POLL_TIMEOUT if self._left else 0)
            for message in messages:
                tp, reached, entry = read_message(message)
                if entry is not None:
                    entries.append(entry)
                if reached >= self._left.get(tp, reached + 1):
                    del self._left[tp]
            if not (messages or self._left):
                return entries
            moved = time.monotonic() if messages else moved
            if time.monotonic() - moved > STALL_LIMIT:
                raise FatalError(f"no progress in reading {self._topic} for {STALL_LIMIT:g} s")

    def close(self) -> None:
        self._consumer.close()
