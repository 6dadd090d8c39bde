"""Reading changelogs: compacted topics too large to be held, as they stand, from an offset on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from streamdrift.errors import FatalError
from streamdrift.joining.changelog import Entry
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.compacted import BATCH, POLL_TIMEOUT, STALL_LIMIT, offsets_of, read_message
from streamdrift.kafka.messages import theirs_at
from streamdrift.kafka.offsets import Side
from streamdrift.records import Position, TopicPartition


class ChangelogReader:
    """Reads for one stage, in its thread. ``beat`` is called at least every second while it reads."""

    def __init__(self, cluster: Cluster, beat: Callable[[], None] = lambda: None) -> None:
        self._cluster = cluster
        self.beat = beat

    def end(self, tp: TopicPartition) -> int:
        """Open transactions included. Raises ``FatalError`` if no broker can tell."""
        return self._offset(tp, Side.END)

    def entries(self, tp: TopicPartition, start: int, end: int) -> Iterator[Sequence[Entry]]:
        """Raises ``FatalError`` when there is no progress."""
        start = max(start, self._offset(tp, Side.START))
        if start >= end:
            return
        consumer = client.reader(self._cluster, ClientErrors(self._cluster.repeats))
        try:
            consumer.assign(theirs_at({tp: Position(start)}))
            reached, moved = start, time.monotonic()
            while reached < end:
                self.beat()
                entries: list[Entry] = []
                for message in consumer.consume(BATCH, POLL_TIMEOUT):
                    _, following, entry = read_message(message)
                    if entry is not None and following <= end:
                        entries.append(Entry(following - 1, *entry))
                    reached, moved = max(reached, following), time.monotonic()
                if time.monotonic() - moved > STALL_LIMIT:
                    where = f"{tp.topic}[{tp.partition}] at offset {reached}"
                    raise FatalError(f"no progress in reading {where} for {STALL_LIMIT:g} s")
                yield entries
        finally:
            consumer.close()

    def _offset(self, tp: TopicPartition, side: Side) -> int:
        admin = client.admin(self._cluster, ClientErrors(self._cluster.repeats))
        return offsets_of(self._cluster, admin, [tp], side, self.beat)[tp]
