"""Where retraining is decided for the models of a partition: what both folds tell comes together, tick by tick.

::

    facts of inputs      ···t₁··········t₃···│······t₅           closed further
    facts of outcomes    ········t₂··········│t₄                 closed up to here: t₁ t₂ t₃ are decided on, in order
    times of a schedule  ─────────────s──────│───────s──         s is: time passes without any traffic

A tick is decided on once both folds have closed it, with what was the case then: how far ahead the other fold is, and
so how the log was written, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.facts import Fact
from streamdrift.fold_state import retraining_key
from streamdrift.outcome_status import RetrainingStatus
from streamdrift.policies import Policy
from streamdrift.retraining import Ended, IncidentNow, News, Request, Retraining
from streamdrift.ticks import NEVER

MAX_FACTS: Final = 10_000
"""Facts of a model that wait for the other fold; of more the older half is told as of its end."""
MAX_VERSIONS: Final = 256
"""Versions of a model that are remembered; of more the oldest are forgotten."""


class Source(StrEnum):
    """Which fold tells."""

    INPUTS = "inputs"
    OUTCOMES = "outcomes"


class _Known(msgspec.Struct):
    """What a fold says of a version, as of the last tick that was decided on."""

    warming_up: bool = False
    incidents: tuple[IncidentNow, ...] = ()


class _Version(msgspec.Struct):
    since: int
    """The tick in which it was there first."""
    known: dict[Source, _Known] = {}
    """Empty for one that is watched no more: if it comes back, it is no new one."""


class _State(msgspec.Struct):
    told: dict[Source, int] = {}
    """The last tick of which each fold told; what is told again is known already."""
    waiting: list[tuple[Source, Fact]] = []
    versions: dict[str, _Version] = {}
    retraining: object = None


class _Model:
    """The facts of one model, and what follows from them."""

    def __init__(self, model_id: str, policies: Sequence[Policy], ticks: Ticks) -> None:
        self._model_id = model_id
        self._ticks = ticks
        self._retraining = Retraining(model_id, policies)
        self._state = _State()
        self._requests = {policy.name: 0 for policy in policies}

    def tell(self, source: Source, facts: Sequence[Fact]) -> None:
        """Facts of one fold in the order of their ticks."""
        told = self._state.told.get(source)
        fresh = [fact for fact in facts if told is None or fact.tick > told]
        if fresh:
            waiting = self._state.waiting
            is_last = not waiting or waiting[-1][1].tick < fresh[0].tick
            waiting += [(source, fact) for fact in fresh]
            if not is_last:
                waiting.sort(key=lambda item: (item[1].tick, item[0], item[1].model_version))
            self._state.told[source] = max(fact.tick for fact in fresh)
        if len(self._state.waiting) > MAX_FACTS:
            self._state.waiting = [
                *_merged(self._state.waiting[: MAX_FACTS // 2]),
                *self._state.waiting[MAX_FACTS // 2 :],
            ]

    def decide(self, until: int, latest: int | None) -> Iterator[list[Request | Ended]]:
        """Decide on all ticks up to ``until``, one after the other.

        ``latest`` is the last one for which time alone is a reason.
        """
        while (tick := self._next(until, latest)) is not None:
            events = self._step(tick)
            for event in events:
                if isinstance(event, Request):
                    self._requests[event.policy] += 1
            yield events

    def _next(self, until: int, latest: int | None) -> int | None:
        waiting = self._state.waiting
        known = waiting[0][1].tick if waiting and waiting[0][1].tick <= until else None
        due_us = None if self._in_charge() is None else self._retraining.due()
        due = None if due_us is None else self._ticks.ending_at(due_us)
        horizon = until if latest is None else min(until, latest)
        # What is due at no particular time, for all input has ended, waits for a fact that is later still.
        if due is not None and due > horizon and (known is None or due > known):
            due = None
        return min((tick for tick in (known, due) if tick is not None), default=None)

    def _step(self, tick: int) -> list[Request | Ended]:
        state = self._state
        count = sum(fact.tick <= tick for _, fact in state.waiting)
        facts, state.waiting = state.waiting[:count], state.waiting[count:]
        for source, fact in facts:
            self._take(source, fact)
        version = self._in_charge()
        if version is None:
            return []
        known = state.versions[version].known
        news = News(
            self._ticks.end_us(tick),
            version,
            warming_up=any(each.warming_up for each in known.values()),
            verdicts=[v for _, fact in facts if fact.model_version == version for v in fact.verdicts],
            incidents=[incident for source in sorted(known) for incident in known[source].incidents],
            labels=sum(fact.labels for _, fact in facts),
        )
        return self._retraining.step(news)

    def _take(self, source: Source, fact: Fact) -> None:
        versions = self._state.versions
        if fact.retired:
            if fact.model_version in versions:
                versions[fact.model_version].known.pop(source, None)
            return
        found = versions.setdefault(fact.model_version, _Version(fact.tick))
        found.known[source] = _Known(fact.warming_up, fact.incidents)
        if len(versions) > MAX_VERSIONS:
            del versions[min(versions, key=self._rank)]

    def _in_charge(self) -> str | None:
        """The version that came last; one without a name only if there is no other."""
        watched = [version for version, found in self._state.versions.items() if found.known]
        return max(watched, key=self._rank, default=None)

    def _rank(self, version: str) -> tuple[bool, int, str]:
        return version != "", self._state.versions[version].since, version

    def snapshot(self) -> bytes:
        """All that is needed to go on."""
        self._state.retraining = self._retraining.state()
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot. Raises ``StateError`` if that cannot be."""
        try:
            self._state = msgspec.msgpack.decode(snapshot, type=_State)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateError(f"the retraining of {self._model_id} cannot be read: {error}") from None
        self._retraining.restore(self._state.retraining)

    def status(self) -> RetrainingStatus | None:
        version = self._in_charge()
        if version is None:
            return None
        return RetrainingStatus(
            self._model_id,
            version,
            self._retraining.predecessor,
            self._retraining.open_request,
            self._retraining.fresh_labels,
            {policy: str(reason) for policy, reason in self._retraining.held_back.items()},
            dict(self._requests),
            tuple(self._retraining.comparison),
        )


def _merged(waiting: Sequence[tuple[Source, Fact]]) -> Iterator[tuple[Source, Fact]]:
    """One fact of each fold and version, as of the last of these ticks."""
    groups: dict[tuple[Source, str], list[Fact]] = {}
    for source, fact in waiting:
        groups.setdefault((source, fact.model_version), []).append(fact)
    tick = waiting[-1][1].tick
    for (source, _), facts in sorted(groups.items(), key=lambda item: item[0]):
        verdicts = tuple(verdict for fact in facts for verdict in fact.verdicts)
        labels = sum(fact.labels for fact in facts)
        yield source, replace(facts[-1], tick=tick, verdicts=verdicts, labels=labels)


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a fold has come."""

    closed: int | None
    """The last tick that is closed."""
    latest: int | None
    """The last of these in which anything came."""
    ended: bool
    """Whether all input has ended."""


class RetrainingDesk:
    """The models of a partition that have policies."""

    def __init__(self, policies: Mapping[str, Sequence[Policy]], tick_us: int) -> None:
        self._policies = policies
        self._ticks = Ticks(tick_us)
        self._models: dict[str, _Model] = {}
        self._dirty: set[str] = set()

    def tell(self, source: Source, facts: Sequence[Fact]) -> None:
        """Take what a fold has to tell, in the order of its ticks."""
        by_model: dict[str, list[Fact]] = {}
        for fact in facts:
            if self._policies.get(fact.model_id):
                by_model.setdefault(fact.model_id, []).append(fact)
        for model_id, of_model in by_model.items():
            self._model(model_id).tell(source, of_model)
            self._dirty.add(model_id)

    def decide(self, *folds: Horizon) -> list[Request | Ended]:
        """What follows for the ticks that all folds have closed, in the order of the models' ids."""
        closed = [fold.closed for fold in folds if fold.closed is not None]
        if len(closed) < len(folds):
            return []
        latest = None
        if all(fold.ended for fold in folds):
            latest = max((fold.latest for fold in folds if fold.latest is not None), default=NEVER)
        events: list[Request | Ended] = []
        for model_id in sorted(self._models):
            for found in self._models[model_id].decide(min(closed), latest):
                events += found
                self._dirty.add(model_id)
        return events

    def _model(self, model_id: str) -> _Model:
        if model_id not in self._models:
            self._models[model_id] = _Model(model_id, self._policies[model_id], self._ticks)
        return self._models[model_id]

    def snapshot(self) -> dict[bytes, bytes | None]:
        """State records of the models that changed since the last call."""
        records: dict[bytes, bytes | None] = {
            retraining_key(model_id): self._models[model_id].snapshot() for model_id in sorted(self._dirty)
        }
        self._dirty.clear()
        return records

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Go on from state records by model id. Raises ``StateError`` if that cannot be."""
        for model_id, snapshot in records.items():
            if self._policies.get(model_id):
                self._model(model_id).restore(snapshot)

    def status(self) -> dict[str, RetrainingStatus]:
        """Where retraining stands, by model id."""
        found = {model_id: model.status() for model_id, model in sorted(self._models.items())}
        return {model_id: status for model_id, status in found.items() if status is not None}
