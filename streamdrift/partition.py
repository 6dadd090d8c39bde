"""One partition of the log, folded: inputs and outcomes each on their own, and what only both together decide.

::

    log ─┬─ summaries, progress, baselines ── PartitionFold ── alerts ─────────────┐
         │                                         └─ facts ─┐                     ├─▶ detect
         └─ outcomes, their progress ──────── OutcomeFold ───┼─ alerts ────────────┤
                                                   └─ facts ─┴─ RetrainingDesk ────┘ requests
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from streamdrift.entries import LogEntry, OutcomeProgress
from streamdrift.fold import FoldConfig, News, PartitionFold
from streamdrift.fold_state import read_records
from streamdrift.gridbook import ModelKey
from streamdrift.outcome_entries import OutcomePart
from streamdrift.outcome_fold import OutcomeFold
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.retraining import Ended, Request
from streamdrift.retraining_desk import Horizon, RetrainingDesk, Source
from streamdrift.status import ModelStatus
from streamdrift.tick_fold import FoldCounts, PublishedAlert, Scope
from streamdrift.ticks import tick_of
from streamdrift.watch import Known


@dataclass(frozen=True, slots=True)
class PublishedRequest:
    """That a model is to be trained anew, or that such a request has ended."""

    event: Request | Ended
    offsets: Mapping[str, Mapping[int, tuple[int, int]]]
    """Of the input in which its labels lie: {topic: {partition: (from, to)}}; empty for an end."""


class Partition:
    """Both folds of one partition, and the retraining of its models."""

    def __init__(self, config: FoldConfig, known: Known) -> None:
        self._tick_us = config.tick_us
        self._inputs = PartitionFold(config, known)
        self._outcomes: OutcomeFold | None = None
        if config.outcomes:
            topics, scope = config.outcomes.topics, config.scope
            of_labels = Scope(scope.tick_us, topics, scope.admission, scope.retire_after_us)
            self._outcomes = OutcomeFold(of_labels, config.outcomes.watch)
        self._desk = RetrainingDesk(config.policies, config.tick_us)
        self._requests: list[PublishedRequest] = []

    @property
    def _folds(self) -> Sequence[PartitionFold | OutcomeFold]:
        return (self._inputs,) if self._outcomes is None else (self._inputs, self._outcomes)

    def apply(self, offset: int, entry: LogEntry) -> list[PublishedAlert]:
        """Take the entry at ``offset``. Offsets ascend; those below the restored position are read again."""
        of_outcomes = isinstance(entry, OutcomePart | OutcomeProgress)
        alerts: list[PublishedAlert] = []
        for fold in self._folds:
            if of_outcomes == (fold is self._outcomes):
                alerts = fold.apply(offset, entry)
            else:
                fold.seen(offset)
        self._decide()
        return alerts

    def _decide(self) -> None:
        self._desk.tell(Source.INPUTS, self._inputs.facts())
        if self._outcomes:
            self._desk.tell(Source.OUTCOMES, self._outcomes.facts())
        events = self._desk.decide(*(Horizon(fold.closed, fold.latest, fold.ended) for fold in self._folds))
        self._requests += [PublishedRequest(event, self._offsets(event)) for event in events]

    def _offsets(self, event: Request | Ended) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        fold = self._outcomes or self._inputs
        if isinstance(event, Ended):
            return {}
        return fold.provenance.since(tick_of(event.fresh_since_us, self._tick_us), fold.end_offsets)

    @property
    def resume_at(self) -> int:
        """The first offset that a successor must read, so that neither fold misses anything."""
        return min(fold.resume_at for fold in self._folds)

    @property
    def restored_at(self) -> int | None:
        """Where to read on from the restored state; None without any."""
        return min((fold.restored_at for fold in self._folds if fold.restored_at is not None), default=None)

    @property
    def counts(self) -> FoldCounts:
        """What was not taken of inputs, since start."""
        return self._inputs.counts

    @property
    def outcome_counts(self) -> FoldCounts:
        """What was not taken of outcomes, since start."""
        return self._outcomes.counts if self._outcomes else FoldCounts()

    @property
    def models(self) -> Collection[ModelKey]:
        """The model versions whose inputs are watched."""
        return self._inputs.models

    @property
    def outcome_models(self) -> Collection[ModelKey]:
        """The model versions whose outcomes are watched."""
        return self._outcomes.models if self._outcomes else ()

    def news(self) -> list[News]:
        """What the other stages must know since this was called last."""
        return self._inputs.news()

    def requests(self) -> list[PublishedRequest]:
        """What was decided on retraining since this was called last."""
        requests, self._requests = self._requests, []
        return requests

    def status(self) -> dict[ModelKey, ModelStatus]:
        """The models whose status changed since this was called last."""
        return self._inputs.status()

    def outcome_status(self) -> dict[ModelKey, OutcomeStatus]:
        """Likewise, of their outcomes."""
        return self._outcomes.status() if self._outcomes else {}

    def retraining_status(self) -> dict[str, RetrainingStatus]:
        """Where the retraining of each model with policies stands, by model id."""
        return self._desk.status()

    # Snapshots

    def snapshot(self, partition: int) -> dict[bytes, bytes | None]:
        """State records of everything that changed since the last call, None for those to be deleted.

        What was decided comes before what it was decided on: told again, that is known already.
        """
        records = self._desk.snapshot()
        if self._outcomes:
            records |= self._outcomes.snapshot(partition)
        return records | self._inputs.snapshot(partition)

    def restore(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        """Go on from state records. Raises ``StateError`` if that cannot be."""
        for fold in self._folds:
            fold.restore(partition, records)
        self._desk.restore(read_records(records, partition).retraining)
