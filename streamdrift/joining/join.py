"""The join of one input partition: events in, outcomes and fates out, one commit.

::

    take_predictions, take_labels, advance   any number of times; changes nothing on disk
    result()                                 what is to be produced: outcomes, fates, records of the changelog
    commit(changelog_offset)                 after these are acknowledged, or their transaction is committed
    abort()                                  instead: as after a restart

Why it is in this order. The store is a copy of the changelog that may be behind it, and never ahead: a crash after the
changelog and before ``commit`` is mended by reading the changelog's end, and the records that were eaten already are
told by the offsets that came with it. A crash before the changelog repeats the outputs of one commit interval at least
once (exactly once, they and the changelog are one transaction, and there is nothing to repeat). Kafka's committed
offsets come last and decide nothing: reading starts at ``positions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from streamdrift.joining import matching
from streamdrift.joining.matching import Bounds
from streamdrift.joining.outcomes import Collected, FateBatch, OutcomeBatch, Version
from streamdrift.joining.queues import Place, Queue, due_of, queue_width
from streamdrift.joining.rows import (
    HASH_BYTES,
    ROW,
    Label,
    Predicted,
    Prediction,
    Row,
    Waiting,
    decode_row,
    encode_row,
    key_of,
    rank_of,
)
from streamdrift.joining.state import STATE, VERSIONS, State, Store, Versions
from streamdrift.summaries.coverage import Fate
from streamdrift.ticks import END_OF_TIME

MAX_CHANGES: Final = 50_000
"""Rows after which a commit is due, and most that expire or are left out in one."""
MAX_VERSIONS: Final = 10_000
"""Model versions with a number of their own; more share one."""
OTHER: Final = Version("__other__", "")


class PredictionEvent(NamedTuple):
    """A prediction as it was read."""

    offset: int
    model_id: str
    model_version: str
    prediction_id: str
    time: int
    """Event time in microseconds; what is too far in the future must have been refused before."""
    prediction: Prediction


class LabelEvent(NamedTuple):
    """A label as it was read."""

    offset: int
    model_id: str
    prediction_id: str
    time: int
    """The time that says in which tick it counts, in microseconds."""
    label: str | None
    value: float | None
    revision: int = 0
    prediction: Prediction | None = None
    """The label's own: it takes part as a prediction of the label's time."""
    model_version: str = ""
    """Of its own prediction."""


class Change(NamedTuple):
    """A record of the changelog; value None deletes the key."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Result:
    """What is to be produced before ``commit``: outcomes and fates first, then the changelog in its order."""

    outcomes: Sequence[OutcomeBatch]
    fates: Sequence[FateBatch]
    changes: Sequence[Change]


class Positions(NamedTuple):
    """The next offsets to be read."""

    predictions: int
    labels: int


class Watermarks(NamedTuple):
    """Up to which time (microseconds) the logs of predictions and of labels are complete."""

    predictions: int
    labels: int


def threshold(rung: int) -> int:
    """Rows whose rank is below it are kept: 7/8 of them for each rung."""
    kept: int = 7**rung << 64
    return kept >> (3 * rung)


class Join:
    """Takes the events of predictions-p and labels-p; a record below ``positions`` is not taken again."""

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._store = store
        self._bounds = bounds
        self.abort()

    def abort(self) -> None:
        """Forget what was taken since the last commit."""
        self._state: State = msgspec.structs.replace(self._store.state, counts=list(self._store.state.counts))
        self._versions = list(self._store.versions)
        self._numbers: dict[tuple[str, str], int] = {version: number for number, version in enumerate(self._versions)}
        self._rows: dict[bytes, Row | None] = {}
        """Rows that were looked at, as they are now; None: there is none. None are beyond the threshold."""
        self._changed: set[bytes] = set()
        self._due: dict[Place, list[bytes]] = {}
        self._done: list[bytes] = []
        self._collected = Collected()
        self._encoded: dict[bytes, bytes | None] = {}
        self.settled = True
        """Whether all that was due came out with ``result``; else another commit is to follow at once."""
        self._limit = threshold(self._state.rung)

    @property
    def positions(self) -> Positions:
        """What was read so far, committed or not."""
        return Positions(self._state.predictions_offset, self._state.labels_offset)

    @property
    def full(self) -> bool:
        """Whether to commit before taking more."""
        return len(self._rows) >= MAX_CHANGES

    @property
    def state(self) -> State:
        """For gauges: rows, pending, counts, clocks, rung. Not to be changed."""
        return self._state

    def take_predictions(self, events: Iterable[PredictionEvent], next_offset: int) -> None:
        """Events in the order of their log; ``next_offset`` is behind the last record read, event or not."""
        state = self._state
        fresh = [event for event in events if event.offset >= state.predictions_offset]
        keys = [key_of(event.model_id, event.prediction_id) for event in fresh]
        self._load(keys)
        clock = state.predictions_clock
        for key, event in zip(keys, fresh, strict=True):
            clock = max(clock, event.time)
            version = self._number(event.model_id, event.model_version)
            predicted = Predicted(version, event.time, clock - event.time, event.prediction)
            self._predict(key, predicted, self._bounds.predicted_at(predicted))
        state.predictions_clock = clock
        state.predictions_offset = max(state.predictions_offset, next_offset)

    def take_labels(self, events: Iterable[LabelEvent], next_offset: int) -> None:
        """Likewise, of labels."""
        state = self._state
        fresh = [event for event in events if event.offset >= state.labels_offset]
        keys = [key_of(event.model_id, event.prediction_id) for event in fresh]
        self._load(keys)
        clock = state.labels_clock
        for key, event in zip(keys, fresh, strict=True):
            clock = max(clock, event.time)
            label = Label(event.label, event.value, event.time, clock - event.time, event.revision)
            model = self._number(event.model_id, "")
            if event.prediction is not None and not isinstance(self._rows.get(key), Predicted):
                version = self._number(event.model_id, event.model_version)
                own = Predicted(version, event.time, 0, event.prediction)
                self._predict(key, own, self._bounds.labelled_at(label))
            self._label(key, model, label)
        state.labels_clock = clock
        state.labels_offset = max(state.labels_offset, next_offset)

    def advance(self, predictions_us: int | None = None, labels_us: int | None = None) -> None:
        """Move a clock where its log is silent: nothing before this time is waited for any more."""
        state = self._state
        if predictions_us is not None:
            state.predictions_clock = max(state.predictions_clock, predictions_us)
        if labels_us is not None:
            state.labels_clock = max(state.labels_clock, labels_us)

    def end(self, *, predictions: bool = False, labels: bool = False) -> None:
        """Nothing more will come in a log: what only it could still change is decided in the commits that follow."""
        self._state.predictions_ended |= predictions
        self._state.labels_ended |= labels

    @property
    def watermarks(self) -> Watermarks:
        """What may be published with ``result``, behind its outcomes and fates."""
        state, bounds = self._state, self._bounds
        predictions = max(state.predictions_told, state.predictions_clock - bounds.predictions_lateness_us)
        labels = max(state.labels_told, state.labels_clock - bounds.labels_lateness_us)
        if self._ended and not self.settled:
            return Watermarks(predictions, labels)
        return Watermarks(
            END_OF_TIME if state.predictions_ended else predictions, END_OF_TIME if state.labels_ended else labels
        )

    @property
    def _ended(self) -> bool:
        return self._state.predictions_ended and self._state.labels_ended

    def result(self) -> Result:
        """Let go of what is due, and say all that came of it. Only ``commit`` or ``abort`` may follow.

        Due are rows of earlier commits; so where a log ends for good, one more commit follows the last event's.
        """
        state, out = self._state, self._collected
        if state.leaving_out:
            self._leave_out()
        predictions_clock, labels_clock = self._clocks
        passed = self._expire(Queue.PREDICTED, min(predictions_clock, labels_clock))
        passed &= self._expire(Queue.WAITING, predictions_clock)
        self.settled = passed and not (self._due and self._ended)
        if state.rows > self._bounds.max_rows and not state.leaving_out:
            state.rung += 1
            state.leaving_out = True
        state.counts = [a + b for a, b in zip(state.counts, out.counts, strict=True)]
        state.predictions_told, state.labels_told = told = self.watermarks
        state.published = max(state.published, min(told))
        rows = ((key, self._rows[key]) for key in sorted(self._changed))
        self._encoded = {key: None if row is None else encode_row(row) for key, row in rows}
        changes = [Change(key, value) for key, value in self._encoded.items()]
        if len(self._versions) != len(self._store.versions):
            changes.append(Change(VERSIONS, msgspec.msgpack.encode(Versions(self._versions))))
        changes.append(Change(STATE, msgspec.msgpack.encode(state)))  # last: it says that the batch is complete
        return Result(out.outcome_batches(self._versions), out.fate_batches(self._versions), changes)

    def commit(self, changelog_offset: int) -> None:
        """Write to the store what ``result`` told. ``changelog_offset`` is behind the last of its changes."""
        self._store.commit(self._encoded, self._due, self._done, self._state, self._versions, changelog_offset)
        self.abort()

    def _load(self, keys: Iterable[bytes]) -> None:
        """Bring rows into memory, so far as they are there and have room."""
        wanted = sorted({key for key in keys if key not in self._rows and rank_of(key) < self._limit})
        for key, value in zip(wanted, self._store.get(wanted), strict=True):
            self._rows[key] = None if value is None else decode_row(value)

    def _number(self, model_id: str, model_version: str) -> int:
        number = self._numbers.get((model_id, model_version))
        if number is None:
            version = OTHER if len(self._versions) >= MAX_VERSIONS else Version(model_id, model_version)
            number = self._numbers.get(version, len(self._versions))
            if number == len(self._versions):
                self._versions.append(version)
                self._numbers[version] = number
        return number

    @property
    def _clocks(self) -> tuple[int, int]:
        """Those of predictions and labels; that of a log which has ended is beyond all time."""
        state = self._state
        return (
            END_OF_TIME if state.predictions_ended else state.predictions_clock,
            END_OF_TIME if state.labels_ended else state.labels_clock,
        )

    def _predict(self, key: bytes, predicted: Predicted, decided: int) -> None:
        if key not in self._rows:  # beyond the threshold
            self._collected.fate(Fate.PREDICTED, predicted.version, predicted.time, decided)
            self._collected.fate(Fate.SAMPLED_OUT, predicted.version, predicted.time, decided)
            return
        row = self._rows[key]
        after = matching.take_prediction(key, row, predicted, decided, self._bounds, self._collected)
        self._put(key, row, after)
        if after is not row:
            self._enqueue(key, after)

    def _label(self, key: bytes, model: int, label: Label) -> None:
        if key not in self._rows:  # beyond the threshold
            self._collected.fate(Fate.UNHEARD, model, label.time, self._bounds.labelled_at(label))
            return
        row = self._rows[key]
        after = matching.take_label(key, row, model, label, self._bounds, self._collected)
        self._put(key, row, after)
        if isinstance(after, Waiting):
            self._enqueue(key, msgspec.structs.replace(after, labels=(label,)))

    def _put(self, key: bytes, before: Row | None, after: Row | None) -> None:
        if after is before:
            return
        self._rows[key] = after
        self._changed.add(key)
        self._state.rows += (after is not None) - (before is not None)
        self._state.pending += _is_pending(after) - _is_pending(before)

    def _enqueue(self, key: bytes, row: Row | None) -> None:
        for place in due_of(row, self._bounds):
            self._due.setdefault(place, []).append(key[1:])

    def _expire(self, queue: Queue, clock: int) -> bool:
        """Look at rows whose part of a bound is over; whether these were all."""
        room = MAX_CHANGES
        predictions_clock, labels_clock = self._clocks
        found = self._store.queue(queue, clock // queue_width(queue, self._bounds), _ENTRIES)
        for entry, hashes in found:
            keys = [ROW + hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]
            self._load(keys)
            for key in keys:
                row = self._rows.get(key)
                if row is not None:
                    clocks = labels_clock, predictions_clock, self._state.published
                    self._put(key, row, matching.expire(row, *clocks, self._bounds, self._collected))
            self._done.append(entry)
            room -= len(keys)
            if room <= 0:
                return False
        return len(found) < _ENTRIES

    def _leave_out(self) -> None:
        """Remove rows beyond the threshold, as many as one commit may."""
        found = self._store.rows_from(ROW + min(self._limit, _LAST).to_bytes(8, "big"), MAX_CHANGES)
        for key, value in found:
            row = decode_row(value)
            matching.leave_out(row, self._state.published, self._collected)
            self._put(key, row, None)
        self._state.leaving_out = len(found) == MAX_CHANGES


_ENTRIES: Final = 1_000
"""Most entries of a queue that are looked at before a commit."""
_LAST: Final = (1 << 64) - 1


def _is_pending(row: Row | None) -> bool:
    return isinstance(row, Predicted) and row.label is None
