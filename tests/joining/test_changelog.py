from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from streamdrift.errors import StateError
from streamdrift.joining import changelog as changelog_module
from streamdrift.joining.changelog import Entry, Restore
from streamdrift.joining.join import Change, Join
from streamdrift.joining.memory import MemoryStore
from streamdrift.joining.state import STATE, Store
from streamdrift.joining.store import RocksStore
from tests.joining.events import BOUNDS, label, many


def commit(join: Join, changelog: list[Change]) -> None:
    changelog += join.result().changes
    join.commit(len(changelog))


def run(store: Store) -> list[Change]:
    """A few commits of every kind of change; the changelog that they leave."""
    join, changelog = Join(store, BOUNDS), list[Change]()
    join.take_predictions(many(50), 50)
    commit(join, changelog)
    join.take_labels([label(i, f"id-{10 * i}") for i in range(8)], 8)
    commit(join, changelog)
    join.take_predictions([event._replace(offset=50, time=1_120, prediction_id="late") for event in many(1)], 51)
    join.take_labels([label(8, "nobody", 1_120)], 9)
    commit(join, changelog)
    return changelog


def entries(changelog: Sequence[Change]) -> list[Entry]:
    return [Entry(offset, *change) for offset, change in enumerate(changelog)]


def compacted(changelog: Sequence[Change]) -> list[Entry]:
    last = {change.key: offset for offset, change in enumerate(changelog)}
    return [entry for entry in entries(changelog) if last[entry.key] == entry.offset]


def restored(found: Sequence[Entry], end: int, store: Store | None = None) -> Store:
    store = store or MemoryStore()
    restore = Restore(store, BOUNDS)
    for start in range(0, len(found), 7):
        restore.take(found[start : start + 7])
    assert restore.finish(end) == []
    return store


def rows(store: Store) -> list[tuple[bytes, bytes]]:
    return store.rows_from(b"r", 10_000)


def same(one: Store, other: Store) -> bool:
    """Whether two stores go on alike; how their queues are numbered is their own."""
    one.state.queued = other.state.queued = 0
    return (rows(one), one.state, one.versions, one.changelog_offset) == (
        rows(other),
        other.state,
        other.versions,
        other.changelog_offset,
    )


def test_a_store_from_the_compacted_changelog_is_the_original_and_goes_on_alike(tmp_path: Path) -> None:
    original = RocksStore(tmp_path / "original")
    changelog = run(original)
    copy = RocksStore(tmp_path / "copy")
    restored(compacted(changelog), len(changelog), copy)
    assert len(compacted(changelog)) < len(changelog)
    assert rows(copy)
    assert same(original, copy)
    joins = [Join(store, BOUNDS) for store in (original, copy)]
    for join in joins:
        join.advance(10_000, 10_000)
    first, second = (join.result() for join in joins)
    assert first.changes[:-1] == second.changes[:-1], "all but the number of queue entries"
    assert [batch.fates.tolist() for batch in first.fates] == [batch.fates.tolist() for batch in second.fates]
    for join in joins:
        join.commit(0)
    assert rows(original) == rows(copy) == []
    original.close()
    copy.close()


def test_a_store_that_is_behind_reads_on_from_where_it_is() -> None:
    original = MemoryStore()
    changelog = run(original)
    first = next(i for i, change in enumerate(changelog) if change.key == STATE) + 1
    behind = restored(entries(changelog[:first]), first)
    assert not same(original, behind)
    assert same(original, restored(entries(changelog)[first:], len(changelog), behind))


@pytest.mark.parametrize("torn", [1, 5, 20])
def test_rows_of_a_commit_that_was_not_completed_are_not_taken_and_written_over(torn: int) -> None:
    original = MemoryStore()
    changelog = run(original)
    join = Join(original, BOUNDS)
    join.take_labels([label(20 + i, f"id-{i}", 1_099, revision=1) for i in range(30)], 50)
    half = changelog + list(join.result().changes[:torn])
    copy = MemoryStore()
    restore = Restore(copy, BOUNDS)
    restore.take(entries(half))
    repairs = restore.finish(len(half))
    assert [change.key for change in repairs[:-1]] == [change.key for change in half[len(changelog) :]]
    assert repairs[-1].key == STATE
    assert rows(copy) == rows(original)
    assert rows(restored(compacted(half + repairs), len(half + repairs))) == rows(original)


def test_a_changelog_that_lost_its_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    changelog = run(MemoryStore())
    monkeypatch.setattr(changelog_module, "_LONGEST_COMMIT", 10)
    restore = Restore(MemoryStore(), BOUNDS)
    restore.take(entry for entry in compacted(changelog) if entry.key != STATE)
    with pytest.raises(StateError, match="holds no state behind its rows"):
        restore.finish(len(changelog))


def test_a_record_that_no_join_wrote_is_refused() -> None:
    for key, value in ((b"?", b""), (STATE, b"?"), (b"r" + bytes(16), b"?")):
        with pytest.raises(StateError):
            Restore(MemoryStore(), BOUNDS).take([Entry(0, key, value)])


def test_a_restored_store_loses_none_of_its_queue_when_it_goes_on() -> None:
    changelog: list[Change] = []
    commit_of(MemoryStore(), changelog)
    copy = MemoryStore()
    restore = Restore(copy, BOUNDS)
    for entry in entries(changelog):
        restore.take([entry])
    restore.finish(len(changelog))
    join = Join(copy, BOUNDS)
    join.take_predictions([event._replace(offset=5, prediction_id="x") for event in many(1)], 6)
    commit(join, changelog)
    join.advance(10_000, 10_000)
    commit(join, changelog)
    assert rows(copy) == []


def commit_of(store: Store, changelog: list[Change]) -> None:
    join = Join(store, BOUNDS)
    join.take_predictions(many(5), 5)
    commit(join, changelog)
