"""A store in memory: for replays and tests, which restore it from its changelog if at all."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

from streamdrift.joining.outcomes import Version
from streamdrift.joining.queues import Place, Queue
from streamdrift.joining.state import State


class MemoryStore:
    """Keeps what a store on disk keeps, when it is closed too; a copy is what a crash leaves."""

    def __init__(self) -> None:
        self.state = State()
        self.versions: list[Version] = []
        self.changelog_offset = 0
        self._rows: dict[bytes, bytes] = {}
        self._entries: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._rows.get(key) for key in keys]

    def rows_from(self, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return sorted(row for row in self._rows.items() if row[0] >= key)[:limit]

    def queue(self, name: Queue, until: int, limit: int) -> list[tuple[bytes, bytes]]:
        stop = name.value + max(until, 0).to_bytes(8, "big")
        return sorted(entry for entry in self._entries.items() if name.value <= entry[0] < stop)[:limit]

    def commit(
        self,
        rows: Mapping[bytes, bytes | None],
        due: Mapping[Place, Sequence[bytes]],
        done: Iterable[bytes],
        state: State,
        versions: Sequence[Version],
        changelog_offset: int,
    ) -> None:
        for key, value in rows.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        for place, hashes in due.items():
            key = place.queue.value + place.part.to_bytes(8, "big") + state.queued.to_bytes(8, "big")
            self._entries[key] = b"".join(hashes)
            state.queued += 1
        for key in done:
            del self._entries[key]
        self.state, self.versions, self.changelog_offset = copy.deepcopy(state), list(versions), changelog_offset

    def close(self) -> None:
        """Nothing is lost."""
