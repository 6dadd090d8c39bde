"""A model that decays, is trained anew, and recovers: its labels as a log that a join wrote, in any disorder."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.entries import LogEntry, OutcomeProgress, PartitionProgress, Progress, decode, encode
from streamdrift.fold import FoldConfig
from streamdrift.learning import LearningConfig
from streamdrift.monitor import MonitorConfig
from streamdrift.outcome_entries import to_parts
from streamdrift.outcome_fold import OutcomesConfig
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.outcome_rows import OutcomeColumns, outcomes_of
from streamdrift.outcome_watch import OutcomeConfig
from streamdrift.partition import Partition, PublishedRequest
from streamdrift.plans import PerformancePlan, WantedMetric
from streamdrift.policies import Policy, parse
from streamdrift.requests_topic import end_data, request_data
from streamdrift.retraining import Request
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeKey, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.raw_rows import RawRows
from streamdrift.tick_fold import RETIRE_AFTER_US, PublishedAlert
from streamdrift.ticks import END_OF_TIME
from streamdrift.watch import WatchConfig
from tests.support.books import book
from tests.support.outcomes import BINARY

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
TICK_US: Final = HOUR_US
MODEL_ID: Final = "fraud"
DAYS: Final = 16
A_DAY: Final = 600
DECAYS_ON: Final = 5
TRAINED_ON: Final = 10
DELAY_DAYS: Final = 2
FIRST_DAY: Final = 20_000
"""Days since the epoch."""
PLAN: Final = PerformancePlan(
    DAY_US, DELAY_DAYS * DAY_US, 200, 1, [WantedMetric("accuracy", 0.9, 0.05), WantedMetric("roc_auc", None, 0.0)]
)
DECAY: Final = Policy("decay", (parse("accuracy below benchmark", 2),), DAY_US, 500)
INPUTS, LABELS = "predictions", "labels"


@dataclass(frozen=True)
class World:
    """Predictions and their labels by column. A tenth is wrong, a third from the sixth day on until version 8 comes."""

    predicted_us: NDArray[np.int64]
    labelled_us: NDArray[np.int64]
    versions: NDArray[np.str_]
    columns: OutcomeColumns

    @classmethod
    def of(cls, seed: int = 1, days: int = DAYS, *, recovers: bool = True, nightly: bool = False) -> World:
        """``nightly``: all labels of a day come at once, at its end, in one instant."""
        rng = np.random.default_rng(seed)
        n = days * A_DAY
        day = np.sort(rng.random(n)) * days
        predicted_us = ((FIRST_DAY + day) * DAY_US).astype(np.int64)
        labelled_us = predicted_us + rng.integers(0, DELAY_DAYS * DAY_US - HOUR_US, n)
        if nightly:
            labelled_us = (predicted_us // DAY_US + 1) * DAY_US + 2 * HOUR_US
        new = (day >= TRAINED_ON) & recovers
        bad = (day >= DECAYS_ON) & ~new
        true = rng.random(n) < 0.4
        wrong = rng.random(n) < np.where(bad, 0.34, 0.1)
        score = np.where(true ^ wrong, rng.uniform(0.5, 1, n), rng.uniform(0, 0.5, n))
        names = [BINARY.classes[int(t)] for t in true]
        nothing = [None] * n
        numbers = np.full(n, np.nan)
        columns = OutcomeColumns(
            labelled_us,
            rng.integers(0, 2**64, n, dtype=np.uint64),
            np.ones(n, dtype=np.int8),
            np.ones(n, dtype=np.bool_),
            nothing,
            score,
            nothing,
            numbers,
            names,
            numbers,
        )
        return cls(predicted_us, labelled_us, np.where(new, "8", "7"), columns)

    def __len__(self) -> int:
        return len(self.predicted_us)


@functools.cache
def world(nightly: bool = False) -> World:  # noqa: FBT001, FBT002 — a choice
    return World.of(nightly=nightly)


def log_of(
    world: World,
    *,
    partitions: int = 1,
    batch: int = 500,
    seed: int = 0,
    grid: OutcomeGrid | None = BINARY,
    inputs: bool = True,
    end: bool = True,
) -> list[LogEntry]:
    """What summarise and join write if they read the world's labels in batches; each partition is read in its order.

    Of inputs there is progress alone, which is here and there ahead of the labels.
    """
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, partitions, len(world))
    queues = [np.flatnonzero(owner == p) for p in range(partitions)]
    queues = [queue[np.argsort(world.labelled_us[queue], kind="stable")] for queue in queues]
    watermarks = dict.fromkeys(range(partitions), int(world.labelled_us.min()) - 1)
    entries: list[LogEntry] = []
    while any(map(len, queues)):
        # The owner that is furthest behind reads next, or another one at random.
        p = min((p for p in range(partitions) if len(queues[p])), key=lambda p: int(world.labelled_us[queues[p][0]]))
        places, queues[p] = queues[p][:batch], queues[p][batch:]
        entries += _parts(world, rng.permutation(places), grid)
        watermarks[p] = int(world.labelled_us[places].max())
        entries.append(_progress(OutcomeProgress, LABELS, watermarks))
        if inputs:
            ahead = max(watermarks.values()) + int(rng.integers(0, 3)) * 12 * HOUR_US
            entries.append(_progress(Progress, INPUTS, dict.fromkeys(range(partitions), ahead)))
    if end:
        last = dict.fromkeys(range(partitions), END_OF_TIME)
        both = [_progress(OutcomeProgress, LABELS, last), _progress(Progress, INPUTS, last)]
        entries += both if rng.random() < 0.5 else both[::-1]
    return entries


def _progress(kind: type[Any], topic: str, watermarks: Mapping[int, int]) -> LogEntry:
    entry: LogEntry = kind(
        {topic: len(watermarks)}, tuple(PartitionProgress(topic, p, 0, w) for p, w in watermarks.items())
    )
    return entry


def _parts(world: World, places: NDArray[np.int64], grid: OutcomeGrid | None) -> Iterator[LogEntry]:
    groups: dict[OutcomeKey, list[int]] = defaultdict(list)
    for i in places.tolist():
        tick, window = int(world.labelled_us[i] // TICK_US), int(world.predicted_us[i] // DAY_US)
        groups[OutcomeKey(MODEL_ID, str(world.versions[i]), "", tick, window)].append(i)
    for key, rows in groups.items():
        yield from to_parts(key, key.tick * TICK_US, summary_of(world, np.array(rows), grid))


def summary_of(world: World, places: NDArray[np.int64], grid: OutcomeGrid | None) -> AnySummary:
    delays = (world.labelled_us - world.predicted_us)[places]
    coverage = Coverage.of({Fate.PREDICTED: len(places), Fate.LABELLED: len(places)}, delays)
    columns = world.columns.take(places)
    if grid is None:
        return UncountedOutcomes(RawRows.of(columns.rows()), coverage)
    [(outcomes, errors, spreads)] = outcomes_of(grid, columns, np.zeros(len(places), dtype=np.int64), 1)
    return OutcomeSummary(outcomes, coverage, errors, spreads)


def config(
    *policies: Policy,
    labels: bool = True,
    tick_us: int = TICK_US,
    max_models: int = 1_000,
    retire_after_us: int = RETIRE_AFTER_US,
) -> FoldConfig:
    return FoldConfig(
        tick_us,
        lambda _: WatchConfig(MonitorConfig(tick_us, 24 * HOUR_US), LearningConfig()),
        configured=(),
        topics={INPUTS},
        max_models=max_models,
        retire_after_us=retire_after_us,
        outcomes=OutcomesConfig(lambda _: OutcomeConfig(tick_us, PLAN), {LABELS}) if labels else None,
        policies={MODEL_ID: policies},
    )


@dataclass
class Told:
    """What a partition said, as subscribers hear it."""

    alerts: list[PublishedAlert] = field(default_factory=list)
    requests: list[PublishedRequest] = field(default_factory=list)

    @property
    def data(self) -> list[Any]:
        """Without provenance, in an order that does not depend on which fold came first."""
        alerts = [(a.alert.incident_id, a.alert.sequence, a.alert.data) for a in self.alerts]
        return [*sorted(alerts, key=lambda each: each[:2]), *(self._event(each) for each in self.requests)]

    @staticmethod
    def _event(published: PublishedRequest) -> Mapping[str, Any]:
        event = published.event
        return request_data(event) if isinstance(event, Request) else end_data(event)

    def short(self) -> list[tuple[int, str, str, str]]:
        """Day since the first, kind, phase, version of each alert."""
        return sorted(
            (
                (a.alert.tick + 1) * TICK_US // DAY_US - FIRST_DAY,
                str(a.alert.data["kind"]),
                str(a.alert.phase),
                str(a.alert.data["model_version"]),
            )
            for a in self.alerts
        )


def told(subject: Partition, entries: Sequence[LogEntry], start: int = 0, found: Told | None = None) -> Told:
    """What follows from the entries; they go through bytes, as on a topic."""
    found = found or Told()
    for offset, entry in enumerate(entries, start):
        found.alerts += subject.apply(offset, decode(encode(entry)))
        found.requests += subject.requests()
    return found


def partition(*policies: Policy) -> Partition:
    return Partition(config(*(policies or (DECAY,))), book())
