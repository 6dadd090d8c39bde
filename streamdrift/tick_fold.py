"""What the folds of a partition of the log have in common: when their ticks close, and what is watched then.

Inputs and outcomes are folded by siblings, each with a completeness of its own: labels that do not come delay nothing
that can do without them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from streamdrift.admission import Admission
from streamdrift.entries import PartitionProgress
from streamdrift.errors import StateError
from streamdrift.facts import Fact
from streamdrift.fold_state import FOLD_VERSION, PartitionState
from streamdrift.gridbook import ModelKey
from streamdrift.incidents import Alert
from streamdrift.monitor import VERSION_RETIRED, difference_of_ticks
from streamdrift.performance import Verdict
from streamdrift.provenance import Provenance
from streamdrift.records import TopicPartition
from streamdrift.retraining import IncidentNow
from streamdrift.ticks import END_OF_TIME, NEVER, Completeness, last_closed

RETIRE_AFTER_US: Final = 30 * 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class PublishedAlert:
    """An alert, and the input offsets that its evidence lies between: {topic: {partition: (from, to)}}."""

    alert: Alert
    offsets: Mapping[str, Mapping[int, tuple[int, int]]]


@dataclass(slots=True)
class FoldCounts:
    """What a fold did not take, since start. Events or labels, except for ``replayed`` (records)."""

    late: int = 0
    over_bound: int = 0
    other_grid: int = 0
    replayed: int = 0

    @property
    def refused(self) -> Mapping[str, int]:
        """Events that no detector saw, by reason."""
        return {"late": self.late, "over_bound": self.over_bound, "other_grid": self.other_grid}

    def __add__(self, other: FoldCounts) -> FoldCounts:
        return FoldCounts(
            self.late + other.late,
            self.over_bound + other.over_bound,
            self.other_grid + other.other_grid,
            self.replayed + other.replayed,
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Of which ticks, inputs and models a fold is."""

    tick_us: int
    topics: Collection[str]
    """The input topics that a tick waits for."""
    admission: Admission
    retire_after_us: int
    """Event time without events after which a model version is retired."""


class Watched(Protocol):
    """The watch over one model version."""

    @property
    def last_event_us(self) -> int | None: ...

    @property
    def incidents(self) -> Sequence[IncidentNow]: ...

    @property
    def warming_up(self) -> bool: ...

    def end_of_stream(self) -> None: ...

    def due(self) -> int | None: ...

    def retire(self, resolution: str) -> list[Alert]: ...

    def snapshot(self) -> bytes: ...


Key = TypeVar("Key")
Part = TypeVar("Part")
Watcher = TypeVar("Watcher", bound=Watched)


@dataclass(slots=True)
class Opened(Generic[Key, Part]):
    """A tick that is not closed yet."""

    first_offset: int
    read_from: Mapping[TopicPartition, int]
    """Input offsets at or behind which its events lie; without a partition of which that is not known."""
    parts: dict[ModelKey, dict[Key, Part]] = field(default_factory=dict)
    """What there is of each model version, by what does not add up."""


class TickFold(ABC, Generic[Key, Part, Watcher]):
    """Ticks, watches and completeness of one partition."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._completeness = Completeness()
        self._closed: int | None = None
        self._open: dict[int, Opened[Key, Part]] = {}
        self._watches: dict[ModelKey, Watcher] = {}
        self._due: dict[ModelKey, int] = {}
        self._dirty: set[ModelKey] = set()
        self._dirty_status: set[ModelKey] = set()
        self._position = 0
        self._ended = False
        """Whether all input streams have ended: then no time passes any more."""
        self._latest: int | None = None
        """The last closed tick in which anything came."""
        self._replay_until = 0
        self.restored_at: int | None = None
        """Where to read on from the restored state; None without any."""
        self.provenance = Provenance()
        self._retired: set[ModelKey] = set()
        """Model versions whose snapshot is to be deleted."""
        self._told: dict[ModelKey, tuple[bool, Sequence[IncidentNow]]] = {}
        self._facts: list[Fact] = []
        self.counts = FoldCounts()

    @property
    def resume_at(self) -> int:
        """The first offset that a successor must read: of the oldest open tick, else the next one."""
        return min((tick.first_offset for tick in self._open.values()), default=self._position)

    @property
    def watermark(self) -> int:
        """The time up to which all input is complete, in microseconds; ``NEVER`` while a topic is unheard of."""
        known = self._completeness.counts
        return self._completeness.watermark if all(topic in known for topic in self._scope.topics) else NEVER

    @property
    def models(self) -> Collection[ModelKey]:
        """The model versions that are watched."""
        return self._watches.keys()

    @property
    def closed(self) -> int | None:
        """The last tick that is closed; None before the first."""
        return self._closed

    @property
    def ended(self) -> bool:
        """Whether all input has ended, so that whatever is closed was closed at no particular time."""
        return self._ended

    @property
    def latest(self) -> int | None:
        """The last closed tick in which anything came."""
        return self._latest

    @property
    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """How far the input has been read."""
        return self._completeness.offsets

    def facts(self) -> list[Fact]:
        """What is new for whoever decides on retraining, since this was called last."""
        facts, self._facts = self._facts, []
        return facts

    # What comes

    def seen(self, offset: int) -> None:
        """Something stands at ``offset``, whoever takes it. Offsets ascend; those that are restored come again."""
        self._position = max(self._position, offset + 1)

    def _is_replayed(self, offset: int) -> bool:
        return offset < self._replay_until

    def _is_late(self, tick: int, offset: int, events: int) -> bool:
        """Whether a tick is closed; then its events are counted, if nobody did so before."""
        if self._closed is None or tick > self._closed:
            return False
        if self._is_replayed(offset):
            self.counts.replayed += 1
        else:
            self.counts.late += events
        return True

    def _parts(self, tick: int, offset: int, model: ModelKey) -> dict[Key, Part]:
        """What there is of a model version in an open tick, to be added to."""
        opened = self._open.get(tick)
        if opened is None:
            # What progress was told before the first summary of a tick lies before all its events.
            known = {} if self._is_replayed(offset) else dict(self._completeness.offsets)
            opened = self._open[tick] = Opened(offset, known)
        return opened.parts.setdefault(model, {})

    def _progress(
        self, offset: int, counts: Mapping[str, int], positions: Iterable[PartitionProgress]
    ) -> list[PublishedAlert]:
        """How far the input has come; what follows from the ticks that are over."""
        self._completeness.learn(
            {topic: n for topic, n in counts.items() if topic in self._scope.topics},
            ((TopicPartition(p.topic, p.partition), p.next_offset, p.watermark) for p in positions),
        )
        self._ended = self.watermark == END_OF_TIME
        if self._ended:
            for key, watch in self._watches.items():
                watch.end_of_stream()
                self._schedule(key, watch, 0 if self._closed is None else self._closed + 1)
        # Until the reader is back where it was, nothing closes: what is known of completeness may be further than what
        # was read again.
        if offset + 1 < self._replay_until:
            return []
        return list(self._close_until(last_closed(self.watermark, self._scope.tick_us)))

    # Ticks

    def _close_until(self, last: int) -> Iterator[PublishedAlert]:
        """Close every tick up to ``last``; those in which nothing can happen are passed over."""
        while (tick := self._next_tick()) is not None and tick <= last:
            yield from self._close(tick)
            self._closed = tick if self._closed is None else max(self._closed, tick)
        if self.watermark != NEVER:
            self._closed = last if self._closed is None else max(self._closed, last)

    def _next_tick(self) -> int | None:
        return min((*self._open, *self._due.values()), default=None)

    def _close(self, tick: int) -> Iterator[PublishedAlert]:
        opened = self._open.pop(tick, None)
        parts: dict[ModelKey, dict[Key, Part]] = {}
        if opened:
            self.provenance.keep(tick, opened.read_from)
            parts = opened.parts
            if any(self._is_traffic(part) for of_model in parts.values() for part in of_model.values()):
                self._latest = tick
            self._admit(tick, parts)
        due = {key for key, at in self._due.items() if at <= tick}
        for key in sorted(due | parts.keys()):
            watch = self._watches[key]
            if key not in parts and self._is_over(key, watch, tick):
                yield from self._published(watch.retire(VERSION_RETIRED))
                self._replace(key, None)
                self._facts.append(Fact(tick, *key, retired=True))
                continue
            if key in parts or self._is_due(watch, tick):
                yield from self._published(self._close_watch(key, watch, tick, parts.get(key, {})))
                self._dirty.add(key)
                self._dirty_status.add(key)
            self._schedule(key, watch, tick + 1)

    @abstractmethod
    def _close_watch(self, key: ModelKey, watch: Watcher, tick: int, parts: dict[Key, Part]) -> list[Alert]:
        """Fold the tick of one model version, and ``_tell`` of it."""

    @abstractmethod
    def _new_watch(self, key: ModelKey) -> Watcher:
        """A watch over a model version of which nothing was seen before."""

    @abstractmethod
    def _events(self, part: Part) -> int:
        """How many events a part is of."""

    def _is_traffic(self, part: Part) -> bool:
        """Whether a part is of something that came in this tick."""
        return self._events(part) > 0

    def _tell(
        self, tick: int, key: ModelKey, watch: Watched, verdicts: Sequence[Verdict] = (), labels: int = 0
    ) -> None:
        """Note what is new of a model version at the close of a tick."""
        now = watch.warming_up, tuple(watch.incidents)
        if verdicts or labels or self._told.get(key) != now:
            self._told[key] = now
            self._facts.append(Fact(tick, *key, *now, tuple(verdicts), labels))

    @staticmethod
    def _is_due(watch: Watched, tick: int) -> bool:
        at = watch.due()
        return at is not None and tick >= at

    def _schedule(self, key: ModelKey, watch: Watched, earliest: int) -> None:
        """Note when something happens to a model version even without events."""
        self._due.pop(key, None)
        dues = [due for due in (watch.due(), self._retires_at(key, watch)) if due is not None]
        if dues:
            self._due[key] = max(min(dues), earliest)

    def _admit(self, tick: int, parts: dict[ModelKey, dict[Key, Part]]) -> None:  # noqa: ARG002 — for subclasses
        """Give new model versions a watch, up to the bound."""
        new = [key for key in parts if key not in self._watches]
        for key in self._scope.admission.refused(new, self._watches):
            self.counts.over_bound += sum(self._events(part) for part in parts.pop(key).values())
        for key in parts:
            if key not in self._watches:
                self._watches[key] = watch = self._new_watch(key)
                if self._ended:
                    watch.end_of_stream()

    def _replace(self, key: ModelKey, watch: Watcher | None) -> None:
        """Watch a model version from now on, or no more."""
        self._watches.pop(key, None)
        self._due.pop(key, None)
        self._told.pop(key, None)
        self._dirty_status.add(key)
        if watch:
            self._watches[key] = watch
            self._dirty.add(key)
        else:
            self._dirty.discard(key)
            self._retired.add(key)

    def _is_over(self, key: ModelKey, watch: Watched, tick: int) -> bool:
        at = self._retires_at(key, watch)
        return at is not None and tick >= at

    def _retires_at(self, key: ModelKey, watch: Watched) -> int | None:
        """The tick at whose close a model version without events until then is retired; at no end of all streams."""
        last = watch.last_event_us
        if last is None or key in self._scope.admission.configured or self._ended:
            return None
        return -(-(last + self._scope.retire_after_us) // self._scope.tick_us) - 1

    def _published(self, alerts: Iterable[Alert]) -> list[PublishedAlert]:
        end = self._completeness.offsets
        return [PublishedAlert(alert, self.provenance.since(alert.onset, end)) for alert in alerts]

    # Snapshots

    def _partition_state(self) -> PartitionState:
        return PartitionState(
            FOLD_VERSION,
            self._scope.tick_us,
            self._position,
            self.resume_at,
            self._closed,
            self._completeness.counts,
            [
                PartitionProgress(*tp, offset, self._completeness.watermarks[tp])
                for tp, offset in sorted(self._completeness.offsets.items())
            ],
            self._latest,
        )

    def _restore_partition(self, saved: PartitionState) -> None:
        if saved.tick_us != self._scope.tick_us:
            raise StateError(
                f"the state has {difference_of_ticks(saved.tick_us, self._scope.tick_us)}; another time.tick needs "
                "another kafka.application, or internal topics that are empty"
            )
        self._position = self._replay_until = saved.position
        self.restored_at = saved.resume_at
        self._closed, self._latest = saved.closed, saved.latest
        self.provenance.forget(saved.closed)
        # Topics that are configured no more must not be waited for.
        self._completeness.learn(
            {topic: n for topic, n in saved.counts.items() if topic in self._scope.topics},
            ((TopicPartition(p.topic, p.partition), p.next_offset, p.watermark) for p in saved.progress),
        )
        self._ended = self.watermark == END_OF_TIME

    def _restore_watch(self, key: ModelKey, watch: Watcher) -> None:
        self._watches[key] = watch
        if self._ended:
            watch.end_of_stream()
        self._dirty_status.add(key)
        self._schedule(key, watch, 0 if self._closed is None else self._closed + 1)
