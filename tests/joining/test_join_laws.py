"""However the two logs are read, torn and restarted, the join gives what a table of everything gives."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.joining.changelog import Entry, Restore
from streamdrift.joining.join import Change, Join, LabelEvent, PredictionEvent, Result
from streamdrift.joining.matching import Bounds
from streamdrift.joining.memory import MemoryStore
from streamdrift.joining.rows import Prediction
from streamdrift.joining.store import RocksStore, discard
from streamdrift.summaries.coverage import Fate
from tests.joining.brute_force import brute_force, joined

BOUNDS = Bounds(label_delay_us=1_000, orphan_wait_us=400, max_rows=1_000)
END = 10_000


class Step(Enum):
    """What may happen after some records were taken."""

    GO_ON = 0
    COMMIT = 1
    CRASH_BEFORE_CHANGELOG = 2
    """With transactions: nothing came out."""
    CRASH_IN_CHANGELOG = 3
    """Without: some rows are there, and no state."""
    CRASH_BEFORE_STORE = 4
    """The changelog is complete, the store behind it."""
    RESTART = 5
    MOVE = 6
    """Another replica has no files."""


class Files(Protocol):
    """Where the stores of one replica are."""

    def open(self) -> MemoryStore | RocksStore:
        """The store as it was closed, or an empty one."""

    def lose(self) -> None:
        """Nothing is left of it."""


class InMemory:
    def __init__(self) -> None:
        self._store = MemoryStore()

    def open(self) -> MemoryStore:
        return self._store

    def lose(self) -> None:
        self._store = MemoryStore()


class OnDisk:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> RocksStore:
        return RocksStore(self._directory)

    def lose(self) -> None:
        discard(self._directory)


@dataclass
class Replica:
    """A join with its files and its changelog, and everything that it produced and that counts."""

    files: Files
    bounds: Bounds = BOUNDS
    changelog: list[Change] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.store = self.files.open()
        restore = Restore(self.store, self.bounds)
        start = self.store.changelog_offset
        restore.take(Entry(start + i, *change) for i, change in enumerate(self.changelog[start:]))
        self.changelog += restore.finish(len(self.changelog))
        self.join = Join(self.store, self.bounds)

    def step(self, step: Step) -> None:
        if step is Step.GO_ON:
            return
        if step in {Step.RESTART, Step.MOVE, Step.CRASH_BEFORE_CHANGELOG}:
            self.store.close()
        else:
            result = self.join.result()
            if step is Step.CRASH_IN_CHANGELOG:
                self.changelog += result.changes[: len(result.changes) // 2]
            else:
                self.changelog += result.changes
                self.results.append(result)
            if step is Step.COMMIT:
                self.join.commit(len(self.changelog))
                return
            self.store.close()
        if step is Step.MOVE:
            self.files.lose()
        self.open()


IDS = [f"id-{i}" for i in range(8)]
TIMES = {name: 1_000 + 300 * i for i, name in enumerate(IDS)}
"""Of predictions: an id names one prediction, which may come again."""

some_predictions = st.lists(
    st.tuples(st.sampled_from(["fraud", "churn"]), st.sampled_from(["1", "2"]), st.sampled_from(IDS)), max_size=20
)
some_labels = st.lists(
    st.tuples(
        st.sampled_from(["fraud", "churn"]),
        st.sampled_from(IDS),
        st.integers(-500, 1_500),
        st.sampled_from(["yes", "no"]),
        st.integers(0, 2),
    ),
    max_size=30,
)


def prediction_log(drawn: Sequence[tuple[str, str, str]]) -> list[PredictionEvent]:
    return [
        PredictionEvent(i, model, version, name, TIMES[name], Prediction("yes", i / 32))
        for i, (model, version, name) in enumerate(drawn)
    ]


def label_log(drawn: Sequence[tuple[str, str, int, str, int]]) -> list[LabelEvent]:
    return [
        LabelEvent(i, model, name, TIMES[name] + delay, label, None, revision)
        for i, (model, name, delay, label, revision) in enumerate(drawn)
    ]


plans = st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.sampled_from(Step)), max_size=25)
Predictions = list[tuple[str, str, str]]
Labels = list[tuple[str, str, int, str, int]]
Plan = list[tuple[bool, int, Step]]


@settings(max_examples=300, deadline=None)
@given(some_predictions, some_labels, plans)
def test_reading_in_any_order_with_any_crashes_gives_what_a_table_of_everything_gives(
    drawn_predictions: Predictions, drawn_labels: Labels, plan: Plan
) -> None:
    follow(Replica(InMemory()), prediction_log(drawn_predictions), label_log(drawn_labels), plan)


@settings(max_examples=15, deadline=None)
@given(some_predictions, some_labels, plans)
def test_so_it_does_on_disk(drawn_predictions: Predictions, drawn_labels: Labels, plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as place:
        made = Replica(OnDisk(Path(place) / "store"))
        try:
            follow(made, prediction_log(drawn_predictions), label_log(drawn_labels), plan)
        finally:
            made.store.close()


def follow(made: Replica, predictions: Sequence[PredictionEvent], labels: Sequence[LabelEvent], plan: Plan) -> None:
    """Read both logs as planned, then to their ends, and compare what came out."""
    for of_labels, count, step in [*plan, (False, 99, Step.GO_ON), (True, 99, Step.COMMIT)]:
        if of_labels:
            start = made.join.positions.labels
            stop = min(len(labels), start + count)
            made.join.take_labels(labels[max(0, start - 2) : stop], stop)  # some once more: offsets tell
        else:
            start = made.join.positions.predictions
            stop = min(len(predictions), start + count)
            made.join.take_predictions(predictions[max(0, start - 2) : stop], stop)
        made.step(step)
        if step is Step.COMMIT:
            assert_closed(made)
    made.join.advance(END, END)
    made.step(Step.COMMIT)
    found, expected = joined(made.results), brute_force(predictions, labels, BOUNDS)
    assert found.fates == expected.fates
    assert found.outcomes == expected.outcomes
    assert made.join.state.rows == made.join.state.pending == 0
    assert_closed(made)


def assert_closed(made: Replica) -> None:
    """Every prediction is labelled, pending, expired or sampled out."""
    counts, state = made.join.state.counts, made.join.state
    told = counts[Fate.LABELLED] + counts[Fate.EXPIRED] + counts[Fate.SAMPLED_OUT]
    assert counts[Fate.PREDICTED] == told + state.pending
    assert len(made.store.rows_from(b"r", 1_000)) == state.rows
