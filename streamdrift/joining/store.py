"""The rows of one input partition on disk: RocksDB, of which a commit is one atomic write.

Why RocksDB and not SQLite: ids arrive in random order, and a B-tree then writes a page of 4 kB for nearly every row,
where a log-structured tree writes the row. See tests/bench/join_store.py, which measures this store.

What survives what. Rows, queues, clocks and the offsets that they come from are one write, so the store always knows
what it has eaten; records below its offsets are never taken again, whatever Kafka's committed offset says.

- The process ends, be it by kill −9: everything that was committed is there.
- The machine ends: the write-ahead log is not synced, its last seconds may be missing. What is left is an earlier
  commit, complete, and the changelog (``changelog``) brings it up to date.
- A file is damaged: checksums tell; the store is made anew from the changelog.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from streamdrift.errors import StateError
from streamdrift.joining.outcomes import Version
from streamdrift.joining.queues import Place, Queue
from streamdrift.joining.state import FORMAT, STATE, VERSIONS, Kept, State, Versions, read
from streamdrift.records import TopicPartition

_DAMAGED: Final = "DAMAGED"
"""A file in the directory of a store that must not be opened again: some damage shows only where it is read."""
_AFTER_ROWS: Final = b"s"
_QUEUE: Final = b"q"
_CHANGELOG: Final = b"c"

MEMORY_BYTES: Final = 192 << 20
_BUFFER_BYTES: Final = 32 << 20
"""Most of one store's rows that are gathered before they are written in order."""
_BUFFER_FILTER: Final = 0.02
"""Share of the gathered bytes that their Bloom filter takes: about 15 bits a row."""
FRESH_FOR: Final = 43_200.0
"""Seconds: half the time for which a compacted topic keeps deletions by default (``delete.retention.ms``)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the stores of a process share, so that their number does not matter."""

    cache: Cache
    buffers: WriteBufferManager

    @classmethod
    def of(cls, size: int) -> Memory:
        """So many bytes: two thirds to read, the rest to write."""
        return cls(Cache(size * 2 // 3), WriteBufferManager(size // 3, allow_stall=False))


class StoreDamaged(StateError):
    """The files cannot be what was written: close it, ``discard`` the directory, and restore from the changelog."""


class RocksStore:
    """A ``Store`` on disk. One thread, one process at a time.

    Resident memory is bounded by ``memory``, whatever the number of rows.

    Raises:
        StoreDamaged: on opening or on any call.
        StateError: another process has the store open, or a newer version wrote it.
    """

    def __init__(self, directory: Path, memory: Memory | None = None) -> None:
        self.directory = directory
        self._db = _open(directory, memory or Memory.of(MEMORY_BYTES))
        self.state = self._load(STATE, State())
        self.versions = self._load(VERSIONS, Versions()).names
        self.changelog_offset = self._load(_CHANGELOG, 0)
        """The next record of the changelog that is not in the store."""
        if self.state.format > FORMAT:
            raise StateError(f"{directory} was written by a newer version (format {self.state.format})")

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with _telling(self.directory):
            values: list[bytes | None] = self._db.get(list(keys))  # type: ignore[assignment]  # a list, of a list
            return values

    def rows_from(self, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return self._scan(key, _AFTER_ROWS, limit)

    def queue(self, name: Queue, until: int, limit: int) -> list[tuple[bytes, bytes]]:
        return self._scan(_QUEUE + name.value + _number(0), _QUEUE + name.value + _number(max(until, 0)), limit)

    def commit(
        self,
        rows: Mapping[bytes, bytes | None],
        due: Mapping[Place, Sequence[bytes]],
        done: Iterable[bytes],
        state: State,
        versions: Sequence[Version],
        changelog_offset: int,
    ) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in rows.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        for (name, time), keys in due.items():
            batch.put(_QUEUE + name.value + _number(max(time, 0)) + _number(state.queued), b"".join(keys))
            state.queued += 1
        for key in done:
            batch.delete(key)
        batch.put(STATE, msgspec.msgpack.encode(state))
        if len(versions) != len(self.versions):
            batch.put(VERSIONS, msgspec.msgpack.encode(Versions(list(versions))))
        batch.put(_CHANGELOG, msgspec.msgpack.encode(changelog_offset))
        with _telling(self.directory):
            self._db.write(batch)
        self.state, self.versions, self.changelog_offset = state, list(versions), changelog_offset

    def close(self) -> None:
        self._db.close()

    def _scan(self, first: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        with _telling(self.directory):
            return list(self._entries(first, stop, limit))

    def _entries(self, first: bytes, stop: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        entries = self._db.iter()
        entries.seek(first)
        for _ in range(limit):
            if not entries.valid():
                entries.status()
                return
            key = entries.key()
            if key >= stop:
                return
            yield key, entries.value()
            entries.next()

    def _load(self, key: bytes, default: Kept) -> Kept:
        [value] = self.get([key])
        return default if value is None else read(value, type(default))


class RocksStores:
    """The stores of a process, each in a directory of its own."""

    def __init__(self, directory: Path, memory_bytes: int, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds since the epoch, as the times of files are."""
        self._directory = directory
        self._memory = Memory.of(memory_bytes)
        self._clock = clock

    def open(self, tp: TopicPartition) -> RocksStore:
        """Raises ``StoreDamaged``, and ``StateError`` for a store that another process has open.

        A store that was found damaged while it was open is made anew; and one that was not written for ``FRESH_FOR``:
        its changelog may have forgotten by now what was removed meanwhile.
        """
        directory = self._of(tp)
        written = max((file.stat().st_mtime for file in directory.glob("*.log")), default=None)
        too_old = written is not None and not self._clock() - written < FRESH_FOR
        if too_old or (directory / _DAMAGED).exists():
            discard(directory)
        return RocksStore(directory, self._memory)

    def discard(self, tp: TopicPartition) -> None:
        discard(self._of(tp))

    @property
    def buffered(self) -> int:
        """Bytes of rows that are gathered in memory, of all stores together."""
        return self._memory.buffers.get_usage()

    def _of(self, tp: TopicPartition) -> Path:
        return self._directory / f"{tp.topic}-{tp.partition}"


def discard(directory: Path) -> None:
    """Delete the files of a store, for example of one that cannot be opened."""
    shutil.rmtree(directory, ignore_errors=True)


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _open(directory: Path, memory: Memory) -> Rdict:
    directory.parent.mkdir(parents=True, exist_ok=True)
    tables = BlockBasedOptions()
    tables.set_block_cache(memory.cache)
    tables.set_bloom_filter(10, block_based=False)  # most ids that come are new: a filter says so without a read
    tables.set_cache_index_and_filter_blocks(v=True)  # they count against the cache, so that memory stays bounded
    tables.set_pin_l0_filter_and_index_blocks_in_cache(v=True)
    tables.set_data_block_index_type(DataBlockIndexType.binary_and_hash())  # look-ups are of single keys
    options = Options(raw_mode=True)
    options.create_if_missing(create_if_missing=True)
    options.set_block_based_table_factory(tables)
    options.set_compression_type(DBCompressionType.none())  # hashes do not shrink
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_write_buffer_manager(memory.buffers)
    options.set_memtable_prefix_bloom_ratio(_BUFFER_FILTER)
    options.set_memtable_whole_key_filtering(whole_key_filter=True)  # most ids are not among those gathered either
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_paranoid_checks(enabled=True)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    with _telling(directory):
        return Rdict(str(directory), options)


@contextmanager
def _telling(directory: Path) -> Iterator[None]:
    """Tell RocksDB's errors apart, of which the binding makes bare exceptions that carry their text."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 — it has no narrower one
        text = str(error)
        if "lock" in text and text.startswith("IO error"):
            raise StateError(f"another process has {directory} open: {text}") from None
        with suppress(OSError):
            (directory / _DAMAGED).touch()
        raise StoreDamaged(f"{directory}: {text}") from None
