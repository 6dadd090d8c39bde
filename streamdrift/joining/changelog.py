"""The store's rows in a compacted topic: a join goes on elsewhere, or after its files were damaged.

A commit writes the rows that changed, in any order, and the state last. So rows behind the last state are those of a
commit that was not completed (without transactions a crash can leave some): they are not taken, and since a reader
from the start would see them again, ``Restore.finish`` says what to write over them.

Compaction keeps the latest record of each key, and the state is of every commit: everything before it is complete. A
store that is a little behind reads on from where it is; one that is further behind than tombstones are kept
(``delete.retention.ms`` of the topic) must be discarded first, or rows that were removed would stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from streamdrift.errors import StateError
from streamdrift.joining.join import MAX_CHANGES, Change
from streamdrift.joining.matching import Bounds
from streamdrift.joining.queues import Place, due_of
from streamdrift.joining.rows import ROW, decode_row
from streamdrift.joining.state import STATE, VERSIONS, State, Store, Versions, read
from streamdrift.records import TopicPartition

_LONGEST_COMMIT: Final = 8 * MAX_CHANGES
"""Rows of one commit, and not less: where more follow each other without a state, it was compacted away."""


class Entry(NamedTuple):
    """A record of the changelog as it was read."""

    offset: int
    key: bytes
    value: bytes | None


class Changelog(Protocol):
    """Reads changelogs; a broker stands behind it."""

    def end(self, tp: TopicPartition) -> int:
        """The offset behind the last record of a partition, whether its transaction is decided or not."""

    def entries(self, tp: TopicPartition, start: int, end: int) -> Iterator[Sequence[Entry]]:
        """All records from ``start`` up to ``end``, some at a time. Waits until they are decided."""


class Restore:
    """Brings a store to the end of its changelog. Memory is bounded by a commit's rows.

    ``store.changelog_offset`` says where to read from. It is written on the way, at every state, so that an
    interrupted restore goes on where it was: rows in between are written as they come, with nothing counted twice.
    """

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._store = store
        self._bounds = bounds
        self._versions = store.versions
        self._state = store.state
        self._before: dict[bytes, bytes | None] | None = {}
        """Rows as they were at the last state; None: too many since."""

    def take(self, entries: Iterable[Entry]) -> None:
        """Records in the order of the log.

        Raises:
            StateError: a record that no version up to this one wrote.
        """
        rows: dict[bytes, bytes | None] = {}
        for entry in entries:
            if entry.key == STATE and entry.value is not None:
                self._write(rows)
                rows = {}
                self._complete(read(entry.value, State), entry.offset + 1)
            elif entry.key == VERSIONS and entry.value is not None:
                self._versions = read(entry.value, Versions).names
            elif entry.key.startswith(ROW):
                rows[entry.key] = entry.value
            else:
                raise StateError(f"a record of the join's changelog has the key {entry.key!r}")
        self._write(rows)

    def finish(self, end: int) -> list[Change]:
        """The store is as it was at the last complete commit; ``end`` is behind the last record.

        Returns what must be produced to the changelog before anything else, to make up for an incomplete commit.

        Raises:
            StateError: the changelog ends without a state, so that records of it were lost.
        """
        if self._before is None:
            raise StateError("the join's changelog holds no state behind its rows: records of it are lost")
        changes = [Change(key, value) for key, value in sorted(self._before.items())]
        self._store.commit(self._before, {}, (), self._state, self._store.versions, end)
        if changes:
            changes.append(Change(STATE, msgspec.msgpack.encode(self._state)))
        self._before = {}
        return changes

    def _write(self, rows: dict[bytes, bytes | None]) -> None:
        """Put rows into the store, and remember what was there."""
        keys = sorted(rows)
        if self._before is not None:
            new = [key for key in keys if key not in self._before]
            self._before.update(zip(new, self._store.get(new), strict=True))
            if len(self._before) > _LONGEST_COMMIT:
                self._before = None
        due: dict[Place, list[bytes]] = {}
        for key in keys:
            value = rows[key]
            if value is not None:
                for place in due_of(decode_row(value), self._bounds):
                    due.setdefault(place, []).append(key[1:])
        self._store.commit(rows, due, (), self._state, self._store.versions, self._store.changelog_offset)

    def _complete(self, state: State, changelog_offset: int) -> None:
        self._before = {}
        state.queued = self._store.state.queued
        self._state = state
        self._store.commit({}, {}, (), state, self._versions, changelog_offset)
