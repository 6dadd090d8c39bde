from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamdrift.errors import StateError
from streamdrift.joining.join import Join
from streamdrift.joining.queues import Place, Queue
from streamdrift.joining.rows import key_of
from streamdrift.joining.state import FORMAT, State
from streamdrift.joining.store import FRESH_FOR, RocksStore, RocksStores, StoreDamaged, discard
from streamdrift.records import TopicPartition
from streamdrift.summaries.coverage import Fate
from tests.joining.events import BOUNDS, many
from tests.joining.test_changelog import commit, entries, restored, rows, run

ROOT = Path(__file__).parents[2]


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_was_committed_is_there_when_the_process_is_killed(tmp_path: Path) -> None:
    killed = python(
        "import os, signal, sys; from pathlib import Path\n"
        "from streamdrift.joining.store import RocksStore\n"
        "from tests.joining.test_changelog import run\n"
        "run(RocksStore(Path(sys.argv[1]))); os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path / "store",
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store, whole = RocksStore(tmp_path / "store"), RocksStore(tmp_path / "whole")
    run(whole)
    assert rows(store) == rows(whole) != []
    assert store.state == whole.state
    assert store.changelog_offset == whole.changelog_offset
    store.close()
    whole.close()


def test_a_queue_gives_what_is_due_once_and_in_order(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "store")
    due = {Place(Queue.WAITING, 300): [b"3" * 16], Place(Queue.WAITING, 2): [b"1" * 16, b"2" * 16]}
    store.commit({}, {**due, Place(Queue.PREDICTED, 1): [b"0" * 16]}, (), State(), (), 0)
    found = store.queue(Queue.WAITING, 301, 10)
    assert [value for _, value in found] == [b"1" * 16 + b"2" * 16, b"3" * 16]
    assert store.queue(Queue.WAITING, 300, 10) == store.queue(Queue.WAITING, 301, 1) == found[:1]
    store.commit({}, {}, [found[0][0]], store.state, (), 0)
    assert store.queue(Queue.WAITING, 301, 10) == found[1:]
    store.close()


def test_a_store_that_is_open_elsewhere_is_not_damaged(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "store")
    with pytest.raises(StateError, match="open") as refused:
        RocksStore(tmp_path / "store")
    assert not isinstance(refused.value, StoreDamaged)
    store.close()


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "store")
    store.commit({}, {}, (), State(format=FORMAT + 1), (), 0)
    store.close()
    with pytest.raises(StateError, match="newer version"):
        RocksStore(tmp_path / "store")


def test_a_torn_write_ahead_log_leaves_an_earlier_commit_that_the_changelog_brings_up_to_date(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    store = RocksStore(directory)
    changelog = run(store)
    expected, end = rows(store), len(changelog)
    left = tmp_path / "torn"
    store._db.flush_wal(sync=True)
    left.mkdir()
    for path in directory.iterdir():  # as the files are while the store is open: nothing was flushed
        (left / path.name).write_bytes(path.read_bytes())
    store.close()
    [log] = [path for path in left.glob("*.log") if path.stat().st_size]
    os.truncate(log, log.stat().st_size - 20)
    torn = RocksStore(left)
    assert torn.changelog_offset < end
    assert rows(torn) != expected
    assert torn.state.labels_offset < 9, "the offsets are those of the rows"
    restored(entries(changelog)[torn.changelog_offset :], end, torn)
    assert rows(torn) == expected
    torn.close()


def flushed(directory: Path) -> Path:
    """The one table file of a store that is closed."""
    store = RocksStore(directory)
    join, changelog = Join(store, BOUNDS), run(store)
    join.abort()
    join.take_predictions(many(5_000)[51:], 5_000)
    commit(join, changelog)
    store._db.flush()
    store.close()
    [table] = directory.glob("*.sst")
    return table


@pytest.mark.parametrize("damage", ["flipped", "half", "gone"])
def test_damaged_files_are_told_and_the_changelog_makes_the_store_anew(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "store"
    table = flushed(directory)
    data = bytearray(table.read_bytes())
    if damage == "flipped":
        data[len(data) // 3] ^= 0xFF
        table.write_bytes(data)
    elif damage == "half":
        os.truncate(table, len(data) // 2)
    else:
        table.unlink()
    with pytest.raises(StoreDamaged, match="store"):
        read_all(directory)
    discard(directory)
    changelog = run(RocksStore(tmp_path / "other"))
    anew = RocksStore(directory)
    restored(entries(changelog), len(changelog), anew)
    assert rows(anew)
    anew.close()


def read_all(directory: Path) -> None:
    """Open a store and read its rows; closed in any case."""
    store = RocksStore(directory)
    try:
        store.rows_from(b"r", 10_000)
        store.get([key for key, _ in rows(store)])
    finally:
        store.close()


PENDING = """
import resource, sys
from pathlib import Path
from streamdrift.joining.join import Join
from streamdrift.joining.store import RocksStore
from tests.joining.events import BOUNDS, prediction, result_of

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

store = RocksStore(Path(sys.argv[1]))
join = Join(store, BOUNDS)
marks = []
for first in range(0, int(sys.argv[2]), 10_000):
    join.take_predictions((prediction(i, f"id-{i}") for i in range(first, first + 10_000)), first + 10_000)
    result_of(join)
    marks.append(resident())
print(marks[4], marks[-1], join.state.pending)
store.close()
"""


def test_half_a_million_pending_predictions_take_no_more_memory_than_a_tenth_of_them(tmp_path: Path) -> None:
    ran = python(PENDING, tmp_path / "store", 500_000)
    assert ran.returncode == 0, ran.stderr
    early, late, pending = map(int, ran.stdout.split())
    assert pending == 500_000
    assert late - early < 100, f"megabytes resident: {early} with 50,000 rows, {late} with 500,000"
    size = sum(path.stat().st_size for path in (tmp_path / "store").glob("*.sst"))
    assert size / 500_000 < 120


def test_the_counts_are_as_long_as_there_are_fates() -> None:
    assert len(State().counts) == len(Fate)


def test_the_stores_of_a_process_share_their_memory(tmp_path: Path) -> None:
    stores = RocksStores(tmp_path, 24 << 20, lambda: 0.0)
    opened = [stores.open(TopicPartition("changelog", number)) for number in range(6)]
    for start in range(0, 60_000, 10_000):
        keys = sorted(key_of("m", f"{start + i}") for i in range(10_000))
        for store in opened:
            store.commit(dict.fromkeys(keys, b"x" * 100), {}, (), State(), (), start)
            assert stores.buffered < 36 << 20, "a buffer of 32 MB for each would hold all of these 42 MB"
    for store in opened:
        assert store.get([key_of("m", "59999")]) == [b"x" * 100]
        store.close()


def test_a_store_that_was_not_written_for_long_is_made_anew(tmp_path: Path) -> None:
    now, tp = time.time(), TopicPartition("changelog", 3)
    stores = RocksStores(tmp_path, 24 << 20, lambda: now)
    store = stores.open(tp)
    store.commit({key_of("m", "a"): b"x"}, {}, (), State(), (), 7)
    store.close()
    again = stores.open(tp)
    assert again.changelog_offset == 7
    again.close()
    now += FRESH_FOR + 60
    anew = stores.open(tp)
    assert anew.changelog_offset == 0, "its changelog may have forgotten what was removed"
    anew.close()


def test_a_store_that_was_found_damaged_while_it_was_open_is_made_anew(tmp_path: Path) -> None:
    stores, tp = RocksStores(tmp_path, 24 << 20, time.time), TopicPartition("changelog", 0)
    store = stores.open(tp)
    store.commit({key_of("m", "a"): b"x"}, {}, (), State(), (), 7)
    store.close()
    with pytest.raises(StoreDamaged):
        store.get([key_of("m", "a")])  # closed is as good as broken
    again = stores.open(tp)
    assert again.changelog_offset == 0
    again.close()
