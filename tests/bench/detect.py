"""detect alone, for a fleet of models: ``python -m tests.bench.detect``, and a section of ``make bench``.

Every model has a baseline of its own and the default settings. Each tick brings four summary records a model, as four
replicas of summarise would write them, and progress that closes it; status is collected for Prometheus and snapshots
are taken as often as the defaults say. CPU time is that of this process, over ticks that come one after the other as
fast as they are folded: what the process would need of a core if they came every ten seconds.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import io
import json
import pstats
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from streamdrift.baselines import Baseline
from streamdrift.codecs import Source
from streamdrift.detectors.river import RiverSpec
from streamdrift.entries import BaselineSet, PartitionProgress, Progress, SummaryPart, decode, encode
from streamdrift.fold import FoldConfig
from streamdrift.grids import SCORE
from streamdrift.learning import LearningConfig
from streamdrift.monitor import MonitorConfig
from streamdrift.records import Position, RecordBatch, TopicPartition
from streamdrift.stages.detect import Detect, DetectConfig
from streamdrift.stages.summarise import Summarise, SummariseConfig
from streamdrift.status import Snapshot
from streamdrift.streams import RiverStream
from streamdrift.summaries import SummaryKey
from streamdrift.tables import baseline_from_columns
from streamdrift.telemetry import StreamdriftCollector
from streamdrift.ticks import MICROSECONDS
from streamdrift.watch import WatchConfig
from tests.bench.events import START_US, messages, training_table
from tests.bench.jobs import MODEL_ID, MODEL_VERSION
from tests.support.books import book

TICK_S: Final = 10
RECORDS: Final = 4
"""Summary records of a model and tick."""
SCRAPE_S: Final = 15
PATTERNS: Final = 60
"""Ticks of traffic that are drawn; further ones repeat them. Of few, the noise would be drift when they come again."""
WARM_UP: Final = range(-12 * 30, 0, 30)
"""Ticks before those that are measured: one in each pane, so that the hour's window is full, and everybody awake."""
INPUT: Final = TopicPartition("predictions", 0)
SUMMARIES: Final = TopicPartition("streamdrift-summaries", 0)
RIVER: Final = (RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.002})),)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    models: int = 1_000
    features: int = 100
    rate: float = 10.0
    """Events a second and model."""
    ticks: int = 30
    profile: bool = False


@dataclass(slots=True)
class Cost:
    """CPU seconds by part, and what it was for."""

    plan: Plan
    seconds: dict[str, float] = field(default_factory=dict)
    """By part: fold, snapshot, collect."""
    start: float = 0.0
    """Setting all baselines, once."""
    resident: int = 0
    """Bytes of memory that the models took, baselines left out."""
    state_bytes: int = 0
    """Of all snapshots of one interval."""
    note: str = ""

    @property
    def cores(self) -> float:
        """Share of a core if the ticks came as event time goes."""
        return sum(self.seconds.values()) / (self.plan.ticks * TICK_S)

    def a_model_and_tick(self, part: str) -> float:
        """Microseconds."""
        return self.seconds[part] / (self.plan.ticks * self.plan.models) * 1e6


def measure(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Cost:
    """Fold the traffic of a fleet."""
    importlib.import_module("river.drift")  # with scipy, 60 MB that are nobody's
    tell(f"detect: drawing the traffic of {plan.models:,} models with {plan.features} features")
    table = training_table(plan.features)
    template = baseline_from_columns(table, model_id=MODEL_ID, model_version=MODEL_VERSION)
    patterns = _patterns(plan, template)
    fleet = {baseline.id: baseline for baseline in map(_of_model(template), range(plan.models))}
    stage = Detect(DetectConfig(_fold_config()), book(fleet.values()))
    stage.assigned(SUMMARIES, Position(0), {})
    return _Run(plan, stage, fleet, patterns, tell).measured()


class _Run:
    """One stage, and the log that it is given."""

    def __init__(
        self,
        plan: Plan,
        stage: Detect,
        fleet: Mapping[str, Baseline],
        patterns: Sequence[Sequence[SummaryPart]],
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._stage = stage
        self._fleet = fleet
        self._patterns = patterns
        self._tell = tell
        self._offset = 0
        self._profile = cProfile.Profile()
        self._cost = Cost(plan)
        self._registry = CollectorRegistry()
        self._registry.register(StreamdriftCollector(lambda: Snapshot(models=tuple(stage.models.values()))))

    def measured(self) -> Cost:
        cost, before = self._cost, _resident_bytes()
        controls = [BaselineSet(*_model(baseline), baseline.id) for baseline in self._fleet.values()]
        batch = self._batch(map(encode, controls))
        cost.start = self._timed("start", lambda: self._stage.process(batch, 0.0))
        self._tell(f"detect: {cost.start:.1f} s for the baselines")
        for number in WARM_UP:
            self._tick(number)
        cost.seconds.clear()
        self._profile = cProfile.Profile()
        for number in range(self._plan.ticks):
            self._tick(number)
            self._tell(f"detect: tick {number + 1} of {self._plan.ticks}")
        cost.resident = _resident_bytes() - before
        if self._plan.profile:
            cost.note = _hottest(self._profile)
        return cost

    def _tick(self, number: int) -> None:
        now = (number + 1) * TICK_S
        batch = self._batch(self._traffic(number))
        self._timed("fold", lambda: self._stage.process(batch, now))
        for _ in range(number * TICK_S // SCRAPE_S, now // SCRAPE_S):
            self._timed("collect", self._collect)
        self._timed("snapshot", lambda: self._snapshot(now))

    def _snapshot(self, now: float) -> None:
        commit = self._stage.take(now)
        if commit.outputs:
            raise SystemExit(f"{len(commit.outputs)} alerts, although nothing drifts: not the traffic that is meant")
        if commit.state:
            self._cost.state_bytes = sum(len(record.value or b"") for record in commit.state)

    def _collect(self) -> None:
        generate_latest(self._registry)

    def _timed(self, part: str, work: Callable[[], None]) -> float:
        started = time.process_time()
        if self._plan.profile:
            self._profile.runcall(work)
        else:
            work()
        took = time.process_time() - started
        self._cost.seconds[part] = self._cost.seconds.get(part, 0.0) + took
        return took

    def _batch(self, values: Iterator[bytes]) -> RecordBatch:
        listed = list(values)
        first, self._offset = self._offset, self._offset + len(listed)
        n = len(listed)
        return RecordBatch(*SUMMARIES, range(first, first + n), [0] * n, [None] * n, listed, [()] * n)

    def _traffic(self, number: int) -> Iterator[bytes]:
        """The records of a tick: what four replicas wrote, each for all models, and at last progress."""
        tick = START_US // MICROSECONDS // TICK_S + number
        start_us = tick * TICK_S * MICROSECONDS
        for i in range(RECORDS):
            for m, (baseline_id, baseline) in enumerate(self._fleet.items()):
                part = self._patterns[(number + m) % PATTERNS][i]
                key = SummaryKey(*_model(baseline), "", tick)
                yield encode(
                    msgspec.structs.replace(part, key=key, start_us=start_us, grid_id=self._fleet[baseline_id].grid.id)
                )
        watermark = start_us + TICK_S * MICROSECONDS
        yield encode(Progress({INPUT.topic: 1}, (PartitionProgress(*INPUT, tick, watermark),)))


def _patterns(plan: Plan, template: Baseline) -> list[list[SummaryPart]]:
    """Summary records of some ticks, written by summarise from events."""
    sources = [Source(INPUT.topic)]
    config = SummariseConfig(tick_us=TICK_S * MICROSECONDS, summaries_partitions=1)
    stage = Summarise(config, sources, book(grids=[template.grid]), lambda _: {SCORE})
    stage.topology({INPUT.topic: 1})
    stage.assigned(INPUT, Position(0), {})
    a_record = max(1, round(plan.rate * TICK_S / RECORDS))
    values = [value for _, value, _ in messages(plan.features, a_record * RECORDS * PATTERNS, plan.rate)]
    found: list[list[SummaryPart]] = [[] for _ in range(PATTERNS)]
    for i in range(RECORDS * PATTERNS):
        chunk = values[i * a_record : (i + 1) * a_record]
        offsets = range(i * a_record, (i + 1) * a_record)
        n = len(chunk)
        stage.process(RecordBatch(*INPUT, offsets, [-1] * n, [None] * n, chunk, [()] * n), START_US)
        entries = [decode(record.value or b"") for record in stage.take(START_US, final=True).outputs]
        [part] = [entry for entry in entries if isinstance(entry, SummaryPart)]
        found[i // RECORDS].append(part)
    return found


def _of_model(template: Baseline) -> Callable[[int], Baseline]:
    """The same baseline for another model: its grid and its id are others."""
    return lambda i: Baseline(msgspec.structs.replace(template.grid, model_id=f"model-{i:04}"), template.summary)


def _model(baseline: Baseline) -> tuple[str, str]:
    return baseline.grid.model_id, baseline.grid.model_version


def _fold_config() -> FoldConfig:
    tick_us = TICK_S * MICROSECONDS
    config = WatchConfig(MonitorConfig(tick_us, 3_600 * MICROSECONDS, RIVER), LearningConfig())
    return FoldConfig(tick_us, lambda _: config, (), [INPUT.topic], 100_000)


def _resident_bytes() -> int:
    """Resident set size (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def _hottest(profile: cProfile.Profile) -> str:
    out = io.StringIO()
    pstats.Stats(profile, stream=out).strip_dirs().sort_stats("tottime").print_stats(40)
    return out.getvalue()


PARTS: Final = ("fold", "collect", "snapshot")


def table_of(cost: Cost) -> Iterator[str]:
    """The cost as lines of text."""
    plan = cost.plan
    yield (
        f"detect: {plan.models:,} models of {plan.features} features, {plan.rate:g} events a second each, "
        f"{RECORDS} records a model and tick of {TICK_S} s; {plan.ticks} ticks"
    )
    for part in PARTS:
        yield f"  {part:32}{cost.a_model_and_tick(part):>12.1f} µs a model and tick"
    yield f"  {'all':32}{sum(map(cost.a_model_and_tick, PARTS)):>12.1f} µs a model and tick"
    yield f"  {'detect_cores':32}{cost.cores:>12.3f}    of a core (0.5 or less at 1,000 x 100)"
    yield f"  {'a baseline at the start':32}{cost.start / plan.models * 1e3:>12.1f} ms"
    yield f"  {'memory of a model':32}{cost.resident / plan.models / 1e3:>12.0f} kB, beside its baseline"
    yield f"  {'snapshot of a model':32}{cost.state_bytes / plan.models / 1e3:>12.0f} kB"


def result_of(cost: Cost) -> Mapping[str, Any]:
    """The cost for programs."""
    name = f"detect_cores_at_{cost.plan.models}x{cost.plan.features}"
    return {name: round(cost.cores, 4)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.detect", description=__doc__)
    add = parser.add_argument
    add("--models", type=int, default=1_000, metavar="N")
    add("--features", type=int, default=100, metavar="N")
    add("--rate", type=float, default=10.0, metavar="R", help="events a second of each model (10)")
    add("--ticks", type=int, default=30, metavar="N", help="ticks that are measured (30)")
    add("--profile", action="store_true", help="show the hottest functions; the profiler's own cost is in the figures")
    arguments = parser.parse_args()
    cost = measure(Plan(**vars(arguments)), lambda line: print(line, file=sys.stderr))
    print(cost.note, *table_of(cost), json.dumps(result_of(cost)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
