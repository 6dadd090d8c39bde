"""The fold of the outcomes in one partition of the log: the sibling of ``fold.PartitionFold``.

A tick here is one of labels, and closes by what the join has read of labels and predictions. A label feed that is
dead, or late by days, holds up nothing but this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from streamdrift.entries import LogEntry, OutcomeProgress
from streamdrift.fold_state import outcome_partition_key, outcomes_key, read_records
from streamdrift.gridbook import ModelKey
from streamdrift.incidents import Alert
from streamdrift.outcome_entries import OutcomePart, from_part
from streamdrift.outcome_rows import added
from streamdrift.outcome_status import OutcomeStatus
from streamdrift.outcome_watch import OutcomeConfig, OutcomeWatch, came
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeSummary
from streamdrift.tick_fold import PublishedAlert, Scope, TickFold, Watched

PartKey = tuple[int, str]
"""Window of the predictions; id of the grid, "" for outcomes that are not counted yet."""


@dataclass(frozen=True, slots=True)
class OutcomesConfig:
    """How outcomes are folded where there are labels."""

    watch: Callable[[str], OutcomeConfig]
    """How the outcomes of a model are watched, by model id."""
    topics: Collection[str]
    """The input topics of the join, which a tick waits for."""


class OutcomeFold(TickFold[PartKey, AnySummary, OutcomeWatch]):
    """The outcomes of one partition."""

    def __init__(self, scope: Scope, watch: Callable[[str], OutcomeConfig]) -> None:
        super().__init__(scope)
        self._config = watch

    def apply(self, offset: int, entry: LogEntry) -> list[PublishedAlert]:
        """Take the entry at ``offset``. Offsets ascend; those below the restored position are read again."""
        self.seen(offset)
        match entry:
            case OutcomePart():
                self._add(offset, entry)
            case OutcomeProgress():
                return self._progress(offset, entry.counts, entry.positions)
        return []

    def status(self) -> dict[ModelKey, OutcomeStatus]:
        """The models whose status changed since this was called last."""
        changed, self._dirty_status = self._dirty_status, set()
        return {key: self._watches[key].status() for key in changed if key in self._watches}

    def _add(self, offset: int, part: OutcomePart) -> None:
        key, summary = part.key, from_part(part)
        if self._is_late(key.tick, offset, self._events(summary)):
            return
        if part.start_us != key.tick * self._scope.tick_us:
            self.counts.other_grid += self._events(summary)
            return
        parts = self._parts(key.tick, offset, (key.model_id, key.model_version))
        place = key.window, part.grid.id if part.grid else ""
        parts[place] = added(parts[place], summary) if place in parts else summary

    def _new_watch(self, key: ModelKey) -> OutcomeWatch:
        return OutcomeWatch(self._config(key[0]), *key)

    def _retires_at(self, key: ModelKey, watch: Watched) -> int | None:
        """As any; one that another version followed, once all its windows have closed: it will not get better."""
        at, mine = super()._retires_at(key, watch), self._watches[key]
        settled = mine.settles_at() if self._is_followed(key, mine) else None
        return at if settled is None else settled + 1 if at is None else min(at, settled + 1)

    def _is_followed(self, key: ModelKey, watch: OutcomeWatch) -> bool:
        """Whether a version of the same model came later; what came without a version has none."""
        since = watch.first_tick
        later = (w.first_tick for other, w in self._watches.items() if other[0] == key[0] and other[1] and other != key)
        return bool(key[1]) and since is not None and any(first is not None and first > since for first in later)

    def _admit(self, tick: int, parts: dict[ModelKey, dict[PartKey, AnySummary]]) -> None:
        """As any, but for stragglers: they would bring a version back that was let go of, as if it were a new one."""
        for key in [key for key in parts if key not in self._watches]:
            if self._are_stragglers(key, tick, parts[key]):
                self.counts.late += sum(map(self._events, parts.pop(key).values()))
        super()._admit(tick, parts)

    def _are_stragglers(self, key: ModelKey, tick: int, parts: Collection[PartKey]) -> bool:
        """Whether all windows have closed, and another version is watched."""
        plan, now_us = self._config(key[0]).plan, (tick + 1) * self._scope.tick_us
        others = any(other[0] == key[0] and other[1] for other in self._watches)
        over = all((window + 1) * plan.window_us + plan.label_delay_us <= now_us for window, _ in parts)
        return bool(key[1]) and others and over

    def _events(self, part: AnySummary) -> int:
        return part.outcomes.n if isinstance(part, OutcomeSummary) else part.rows.total

    def _is_traffic(self, part: AnySummary) -> bool:
        return came(part.coverage) > 0

    def _close_watch(
        self, key: ModelKey, watch: OutcomeWatch, tick: int, parts: dict[PartKey, AnySummary]
    ) -> list[Alert]:
        lost, is_new = watch.lost, watch.first_tick is None
        news = watch.close(tick, parts)
        if is_new and watch.first_tick is not None:
            # Older versions may have nothing to wait for any more.
            self._due |= {other: tick + 1 for other in self._watches if other[0] == key[0] and other != key}
        self.counts.other_grid += watch.lost - lost
        self._tell(tick, key, watch, news.verdicts, news.labels)
        return list(news.alerts)

    # Snapshots

    def snapshot(self, partition: int) -> dict[bytes, bytes | None]:
        """State records of everything that changed since the last call, the partition's own last."""
        records: dict[bytes, bytes | None] = {outcomes_key(key): None for key in sorted(self._retired)}
        records |= {outcomes_key(key): self._watches[key].snapshot() for key in sorted(self._dirty)}
        self._dirty.clear()
        self._retired.clear()
        records[outcome_partition_key(partition)] = self._partition_state().encode()
        return records

    def restore(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        """Go on from state records. Raises ``StateError`` if that cannot be."""
        found = read_records(records, partition)
        if found.outcome_partition is not None:
            self._restore_partition(found.outcome_partition)
        for key, snapshot in found.outcomes.items():
            watch = self._new_watch(key)
            watch.restore(snapshot)
            self._restore_watch(key, watch)
