"""detect: folds the log of summaries, closes ticks, and publishes what the monitors have to say.

Alerts go out as soon as a tick closes. Snapshots and offsets follow every ``snapshot_interval``, and before ownership
ends: what is read again after a crash is folded again to the same alerts with the same ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from streamdrift.cloud_events import attributes
from streamdrift.entries import decode
from streamdrift.evidence import rfc3339
from streamdrift.fold import FoldConfig, News
from streamdrift.gridbook import ModelKey, baseline_record, grid_records, retired_record
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.partition import Partition, PublishedRequest
from streamdrift.records import Commit, OutputRecord, Position, RecordBatch, TopicPartition
from streamdrift.requests_topic import retraining_record
from streamdrift.status import ModelStatus
from streamdrift.tick_fold import FoldCounts, PublishedAlert
from streamdrift.ticks import MICROSECONDS
from streamdrift.watch import Known

CATCHING_UP_AFTER: Final = 300
"""Seconds of lag behind the clock beyond which alerts say that they tell of the past."""
KEEP_LOG_FOR: Final = 3_600
"""Seconds for which the log is kept below what was committed: longer than any member can be stalled and come back."""
REFUSALS: Final = {
    "late": "of ticks that were closed already (was a partition added, or an offset reset?)",
    "over_bound": "of model versions over bounds.models",
    "other_grid": "counted on a grid, or in ticks, of another configuration",
}
"""What it means that events are refused for a reason."""
EVENT_TYPE: Final = "io.streamdrift.incident."


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """How detect works. Intervals in seconds."""

    fold: FoldConfig
    summaries_topic: str = "streamdrift-summaries"
    state_topic: str = "streamdrift-state"
    alerts_topic: str = "drift-alerts"
    grids_topic: str = "streamdrift-grids"
    requests_topic: str = "retraining-requests"
    source: str = "/streamdrift"
    """``ce_source`` of the alerts."""
    snapshot_interval: float = 60.0


@dataclass(slots=True)
class _Owned:
    """A partition of the summaries topic."""

    fold: Partition
    alerts: list[PublishedAlert] = field(default_factory=list)
    """What is not handed out yet."""
    snapshot_due: float | None = None
    commits: deque[tuple[float, int]] = field(default_factory=deque)
    """When which offset was committed, oldest first."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown of a partition."""

    models: Mapping[ModelKey, ModelStatus] = field(default_factory=dict)
    outcomes: Mapping[ModelKey, OutcomeStatus] = field(default_factory=dict)
    retraining: Mapping[str, RetrainingStatus] = field(default_factory=dict)


class Detect:
    """The stage. ``known`` finds baselines and grids by their ids."""

    name = "detect"

    def __init__(self, config: DetectConfig, known: Known) -> None:
        self._config = config
        self._known = known
        self._owned: dict[TopicPartition, _Owned] = {}
        self._counted = FoldCounts()
        self._outcomes_counted = FoldCounts()
        self._told = {"events": self._counted.refused, "labels": self._outcomes_counted.refused}
        self._shown: dict[TopicPartition, _Shown] = {}
        self.models: Mapping[ModelKey, ModelStatus] = {}
        """The models owned here; replaced whenever one changes, so that other threads may read it."""
        self.outcomes: Mapping[ModelKey, OutcomeStatus] = {}
        """Likewise, of those with labels."""
        self.retraining: Mapping[str, RetrainingStatus] = {}
        """Likewise, of those with policies, by model id."""

    @property
    def inputs(self) -> Collection[str]:
        return (self._config.summaries_topic,)

    @property
    def state_topic(self) -> str | None:
        return self._config.state_topic

    @property
    def counts(self) -> FoldCounts:
        """What the folds did not take, since start: partitions that moved away have been counted."""
        return sum((owned.fold.counts for owned in list(self._owned.values())), self._counted)

    @property
    def together(self) -> bool:
        return False

    @property
    def outcome_counts(self) -> FoldCounts:
        """Likewise, of outcomes: labels that no detector heard of, and no window holds."""
        return sum((owned.fold.outcome_counts for owned in list(self._owned.values())), self._outcomes_counted)

    def topology(self, counts: Mapping[str, int]) -> None:
        """Partitions of the summaries topic are owned one by one: how many there are changes nothing."""

    def assigned(self, tp: TopicPartition, start: Position, state: Mapping[bytes, bytes]) -> int:
        fold = Partition(self._config.fold, self._known)
        fold.restore(tp.partition, state)
        self._owned[tp] = _Owned(fold)
        self._shown[tp] = _Shown()
        self._show(tp)
        # Without transactions, a member that was taken for dead can write its old snapshot over its successor's: then
        # what was committed since is read again, and folded again to the same alerts.
        return start.offset if fold.restored_at is None else min(start.offset, fold.restored_at)

    def revoked(self, tp: TopicPartition) -> None:
        owned = self._owned.pop(tp, None)
        if owned is not None:
            self._counted += owned.fold.counts
            self._outcomes_counted += owned.fold.outcome_counts
        self._shown.pop(tp, None)
        self._publish()

    def begin(self, tp: TopicPartition) -> None:
        """Nothing is to be remembered of that."""

    def process(self, batch: RecordBatch, now: float) -> None:
        owned = self._owned[batch.source]
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            if value is not None:
                owned.alerts += owned.fold.apply(offset, decode(value))
        if owned.snapshot_due is None:
            owned.snapshot_due = now + self._config.snapshot_interval
        self._show(batch.source)

    def reached_end(self, tp: TopicPartition, now: float) -> None:
        """Time stands still here until the log says otherwise."""

    def careful(self, tp: TopicPartition) -> bool:  # noqa: ARG002 — nothing in the log may be left out
        return False

    def paused(self) -> Collection[TopicPartition]:
        return ()

    def take(self, now: float, *, final: bool = False) -> Commit:
        outputs: list[OutputRecord] = []
        state: list[OutputRecord] = []
        offsets: dict[TopicPartition, Position] = {}
        for tp, owned in self._owned.items():
            # Grids and baselines come before the state that names them.
            outputs += [record for news in owned.fold.news() for record in self._news_records(news)]
            outputs += [self._alert_record(alert, now) for alert in owned.alerts]
            outputs += [self._request_record(request, now) for request in owned.fold.requests()]
            owned.alerts = []
            if owned.snapshot_due is not None and (final or now >= owned.snapshot_due):
                owned.snapshot_due = None
                state += self._state_records(tp, owned)
                offsets[tp] = Position(owned.fold.resume_at)
                owned.commits.append((now, owned.fold.resume_at))
        # As often as snapshots are written: events that are refused come by the thousand.
        return Commit(outputs, offsets, state, self._warnings() if offsets else ())

    def _warnings(self) -> Sequence[str]:
        """What was refused since this was called last."""
        before, self._told = self._told, {"events": self.counts.refused, "labels": self.outcome_counts.refused}
        return [
            f"{count - before[what][reason]:,} {what} are not watched: {REFUSALS[reason]}"
            for what, counts in self._told.items()
            for reason, count in counts.items()
            if count > before[what][reason]
        ]

    def carried_out(self, ends: Mapping[TopicPartition, int]) -> None:
        """Nothing waits for that."""

    def expendable(self, now: float) -> Mapping[TopicPartition, int]:
        """What was committed a while ago: a snapshot that is older than that will not turn up any more."""
        offsets: dict[TopicPartition, int] = {}
        for tp, owned in self._owned.items():
            while len(owned.commits) > 1 and owned.commits[1][0] <= now - KEEP_LOG_FOR:
                owned.commits.popleft()
            if owned.commits and owned.commits[0][0] <= now - KEEP_LOG_FOR:
                offsets[tp] = owned.commits[0][1]
        return offsets

    def _state_records(self, tp: TopicPartition, owned: _Owned) -> Iterator[OutputRecord]:
        for key, value in owned.fold.snapshot(tp.partition).items():
            yield OutputRecord(self._config.state_topic, key, value, (), tp.partition)

    def _news_records(self, news: News) -> Iterator[OutputRecord]:
        topic = self._config.grids_topic
        if news.baseline:
            yield baseline_record(topic, news.baseline)
        if news.grid:
            yield from grid_records(topic, news.grid)
        else:
            yield retired_record(topic, news.model)

    def _alert_record(self, published: PublishedAlert, now: float) -> OutputRecord:
        alert = published.alert
        end_us = (alert.tick + 1) * self._config.fold.tick_us
        provenance = _provenance(end_us, now, published.offsets)
        return OutputRecord(
            self._config.alerts_topic,
            alert.incident_id.encode(),
            msgspec.json.encode({**alert.data, "provenance": provenance}),
            attributes(
                EVENT_TYPE + alert.data["phase"],
                f"{alert.incident_id}-{alert.sequence}",
                self._config.source,
                _subject(alert.data),
                end_us,
            ),
        )

    def _request_record(self, published: PublishedRequest, now: float) -> OutputRecord:
        event = published.event
        provenance = _provenance(event.now_us, now, published.offsets)
        return retraining_record(self._config.requests_topic, self._config.source, event, provenance)

    def _show(self, tp: TopicPartition) -> None:
        fold, before = self._owned[tp].fold, self._shown[tp]
        after = _Shown(
            _updated(before.models, fold.status(), fold.models),
            _updated(before.outcomes, fold.outcome_status(), fold.outcome_models),
            fold.retraining_status(),
        )
        moved = after.models is not before.models or after.outcomes is not before.outcomes
        if moved or after.retraining != before.retraining:
            self._shown[tp] = after
            self._publish()

    def _publish(self) -> None:
        shown = list(self._shown.values())
        self.models = {key: status for each in shown for key, status in each.models.items()}
        self.outcomes = {key: status for each in shown for key, status in each.outcomes.items()}
        self.retraining = {model_id: status for each in shown for model_id, status in each.retraining.items()}


_Status = TypeVar("_Status")


def _updated(
    before: Mapping[ModelKey, _Status], changed: Mapping[ModelKey, _Status], watched: Collection[ModelKey]
) -> Mapping[ModelKey, _Status]:
    """The same with what changed, and without what is watched no more; the same object where nothing is new."""
    if not changed and before.keys() <= set(watched):
        return before
    return {key: status for key, status in {**before, **changed}.items() if key in watched}


def _provenance(end_us: int, now: float, offsets: Mapping[str, Mapping[int, tuple[int, int]]]) -> Mapping[str, Any]:
    """How a message about event time ``end_us`` came about, for whoever reads it."""
    return {
        "published_at": rfc3339(int(now * 1e3) * 1_000),
        "catching_up": now - end_us / MICROSECONDS > CATCHING_UP_AFTER,
        "offsets": offsets,
    }


def _subject(data: Mapping[str, Any]) -> str:
    features = {feature["feature"] for feature in data["features"]}
    features |= {metric["metric"] for metric in data.get("metrics", ())}
    return "/".join([data["model_id"], *features]) if len(features) == 1 else str(data["model_id"])
