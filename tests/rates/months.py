"""A month of traffic of one kind, through the code of the service: what it reported, and when.

Few events go through the whole topology as JSON, hour by hour with a clock that goes along. At a hundred a second and
more, a month is a quarter of a million ticks: their summaries are drawn, and go as bytes through the real fold.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from streamdrift.assembly import topology
from streamdrift.baselines import Baseline
from streamdrift.entries import (
    BaselineSet,
    LogEntry,
    PartitionProgress,
    Progress,
    SummaryPart,
    decode,
    encode,
    to_parts,
)
from streamdrift.fold import PartitionFold
from streamdrift.grids import SCORE, Grid
from streamdrift.records import Position, RecordBatch, TopicPartition
from streamdrift.settings import Settings
from streamdrift.status import ModelState
from streamdrift.summaries import Moments, Names, Pairs, Summary, SummaryKey
from streamdrift.summaries.pairs import MAX_ENTRIES
from streamdrift.ticks import MICROSECONDS
from streamdrift.topology import Topology, TopologyDriver
from tests.rates.population import MODEL, Counted, baseline, changed, columns, names_of
from tests.support.books import book

START: Final = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
DAY: Final = 86_400
HOUR: Final = 3_600
TOPIC: Final = "predictions"
SEASON: Final = 0.9
"""By how much the rate of a seasonal month rises and falls around its mean, as a share of it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of traffic."""

    name: str
    a_second: float = 0.0
    dump: int = 0
    """Events of each night, written within a minute at two o'clock, instead of traffic around the clock."""
    days_before: float = 8.0
    """Unchanged traffic in front of a change, at least."""
    days_to_find: int = 30
    """How long a change may take to be found before it counts as missed."""
    seeds: int = 10
    """Months that are run unless told."""
    raw_days: float = 30.0
    """For how long scores are kept value by value, for River."""

    @property
    def is_drawn(self) -> bool:
        """Whether ticks are drawn instead of events."""
        return self.a_second >= 10

    def rate(self, times: NDArray[np.float64], *, seasonal: bool) -> NDArray[np.float64]:
        """Events a second at some times."""
        season = SEASON * np.sin(2 * np.pi * times / DAY) if seasonal else 0.0
        return np.asarray(self.a_second * (1 + season) * np.ones(len(times)))


KINDS: Final = (
    Kind("50 a day", 50 / DAY),
    Kind("100 a second", 100.0, days_before=1 / 8, days_to_find=1, seeds=3, raw_days=1.0),
    Kind("10,000 a second", 10_000.0, days_before=1 / 24, days_to_find=1, seeds=3, raw_days=1 / 24),
    Kind("10,000 in a dump a night", dump=10_000, days_before=4.0),
)
"""River is fed for a part of the month where it takes most of the time: what it finds is no incident anyway."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a month."""

    kind: Kind
    seed: int
    days: float = 30.0
    """Of unchanged traffic."""
    seasonal: bool = False
    """Whether the rate follows the time of day."""
    change: str | None = None
    """What happens then, until it is found."""
    raw_days: float = 30.0
    """For how long scores are kept value by value for River."""
    learned: bool = False
    """Whether the baseline is learned from the traffic, instead of made from a training table."""

    def change_at(self, time_s: float) -> str | None:
        """The change, once it has happened."""
        return self.change if time_s >= START + self.days * DAY else None


@dataclass(slots=True)
class Month:
    """What came of it."""

    plan: Plan
    alerts: list[Mapping[str, Any]] = field(default_factory=list)
    events: int = 0
    events_since: int = 0
    """Events since the change, at the close of the tick in which it was found, or at the end."""
    changed_s: float | None = None
    """When the first event of the change happened, or its tick began."""
    state: ModelState = ModelState.WATCHING
    """Of the model, at the end."""
    river: int = 0
    """Detections of River on the score, which are no incidents."""

    @property
    def incidents(self) -> dict[str, tuple[str, str]]:
        """Kind and highest severity of each incident, by its id."""
        return {alert["incident_id"]: (alert["kind"], alert["severity"]) for alert in self.alerts}

    @property
    def found(self) -> Mapping[str, Any] | None:
        """The first alert of the change."""
        if self.plan.change is None:
            return None
        wanted = set(names_of(self.plan.change))
        of_it = (a for a in self.alerts if wanted & {feature["feature"] for feature in a["features"]})
        return next(of_it, None)

    @property
    def delay_s(self) -> float | None:
        """Event time from the first changed event to the first alert of it, in seconds; None if it was missed."""
        if self.found is None or self.changed_s is None:
            return None
        return datetime.fromisoformat(self.found["event_time"]).timestamp() - self.changed_s

    def false(self) -> list[tuple[str, str]]:
        """Incidents that were reported before anything changed."""
        end = START + self.plan.days * DAY
        began = {a["incident_id"]: datetime.fromisoformat(a["event_time"]).timestamp() for a in reversed(self.alerts)}
        return [what for incident, what in self.incidents.items() if began[incident] <= end]


def run(plan: Plan) -> Month:
    """Fold the month, and what follows it until the change is found."""
    return (_drawn if plan.kind.is_drawn else _sent)(plan)


@functools.lru_cache(maxsize=4)
def _baseline(seed: int) -> Baseline:
    return baseline(seed)


def _topology(plan: Plan) -> Topology:
    """The default settings, and a baseline unless it is to be learned."""
    model_id, version = MODEL
    document: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "localhost:9092", "start_from": "earliest"},
        "sources": [{"topic": TOPIC, "kind": "predictions"}],
    }
    with tempfile.TemporaryDirectory() as directory:
        if not plan.learned:
            document["models"] = {model_id: {"baselines": {version: "baseline.json"}}}
            (Path(directory) / "baseline.json").write_bytes(_baseline(plan.seed).to_json())
        path = Path(directory) / "streamdrift.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return topology(Settings.load(path, {}, {}))


# ---- events ----------------------------------------------------------------------------------------------------------


def _sent(plan: Plan) -> Month:
    """Events as JSON through all stages; the clock stands where the events are, and goes on in the hours without."""
    month, rng = Month(plan), np.random.default_rng([plan.seed, 1])
    driver = TopologyDriver(_topology(plan), now=float(START))
    hours = 24 * (plan.days + (plan.kind.days_to_find if plan.change else 0))
    for hour in range(round(hours)):
        start = START + hour * HOUR
        change = plan.change_at(start)
        times = _times(plan, start, rng)
        values = [msgspec.json.encode(event) for event in _events(change, times, rng)]
        # A minute into the hour the partition has stood at its end long enough, if nothing came: time goes on.
        for now in (start + 65, start + HOUR):
            driver.now = float(now)
            while values and times[-len(values)] < now:
                driver.send(TOPIC, values.pop(0))
            driver.run()
        month.events += len(times)
        if change and len(times):
            month.events_since += len(times)
            month.changed_s = month.changed_s or float(times[0])
        month.alerts = [*driver.alerts]
        if month.found:
            break
    (model,) = driver.detect.models.values()
    month.state = model.state
    month.river = sum(stream.detections for stream in model.river)
    return month


def _times(plan: Plan, start: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """When the events of the hour from ``start`` on happen, ascending."""
    if plan.kind.dump:
        at_two = start % DAY == 2 * HOUR
        return start + np.sort(rng.uniform(0, 60, plan.kind.dump if at_two else 0))
    [rate] = plan.kind.rate(np.array([start + HOUR / 2]), seasonal=plan.seasonal)
    return start + np.sort(rng.uniform(0, HOUR, rng.poisson(rate * HOUR)))


def _events(change: str | None, times: NDArray[np.float64], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    drawn = columns(changed(change), rng, len(times))
    scores = drawn.pop(SCORE)
    model_id, version = MODEL
    for time_s, score, *values in zip(times.tolist(), scores, *drawn.values(), strict=True):
        yield {
            "prediction_id": f"{rng.integers(1 << 62):x}",
            "model_id": model_id,
            "model_version": version,
            "timestamp": int(time_s * 1_000),
            "features": dict(zip(drawn, values, strict=True)),
            "prediction": {"score": score},
        }


# ---- ticks -----------------------------------------------------------------------------------------------------------

_CHUNK: Final = 360
"""Ticks that are drawn at once."""


def _drawn(plan: Plan) -> Month:
    """Summaries, tick by tick, as summarise writes them."""
    month, rng = Month(plan), np.random.default_rng([plan.seed, 2])
    service = _topology(plan)
    config = service.detect.fold
    known = [] if plan.learned else [_baseline(plan.seed)]
    fold = PartitionFold(config, book(known))
    log = _Log(fold, month, config.tick_us)
    grid = _learned(plan, service, fold, log, rng) if plan.learned else known[0].grid
    for given in known:
        log.append(BaselineSet(*MODEL, given.id))
    first, tick_s = START * MICROSECONDS // config.tick_us, config.tick_us // MICROSECONDS
    counted = {change: Counted(changed(change), grid) for change in {None, plan.change}}
    days = plan.days + (plan.kind.days_to_find if plan.change else 0)
    raw_until = START + plan.raw_days * DAY
    for chunk in range(0, round(days * DAY / tick_s), _CHUNK):
        starts = START + (chunk + np.arange(_CHUNK)) * tick_s
        change = plan.change_at(float(starts[0]))
        events = rng.poisson(plan.kind.rate(starts.astype(np.float64), seasonal=plan.seasonal) * tick_s)
        counts, limbs = counted[change].drawn(rng, events)
        for i, n in enumerate(events.tolist()):
            tick = first + chunk + i
            if tick < log.next_tick:
                continue  # it was written event by event
            pairs = _pairs(counted[change], rng, n, tick * config.tick_us) if starts[i] < raw_until else {}
            summary = Summary(n, counts[i], Moments(limbs[i]), Names(), pairs)
            for part in to_parts(SummaryKey(*MODEL, "", tick), tick * config.tick_us, grid, summary):
                log.append(part)
            log.close(tick)
            month.events += n
            if change:
                month.events_since += n
                month.changed_s = month.changed_s or float(starts[i])
            if month.found:
                break
        if month.found:
            break
    (model,) = fold.status().values()
    month.state = model.state
    month.river = sum(stream.detections for stream in model.river)
    return month


def _learned(plan: Plan, service: Topology, fold: PartitionFold, log: _Log, rng: np.random.Generator) -> Grid:
    """Write the first ticks event by event, until a grid is cut from them."""
    stage, offset = service.new_summarise(book()), 0
    stage.topology({TOPIC: 1})
    stage.assigned(TopicPartition(TOPIC, 0), Position(0), {})
    for start in range(START, START + HOUR, 10):
        times = start + np.sort(rng.uniform(0, 10, rng.poisson(10 * plan.kind.a_second)))
        for some in np.array_split(times, 1 + len(times) // 500):
            values = [msgspec.json.encode(event) for event in _events(None, some, rng)]
            n, offsets = len(values), range(offset, offset + len(values))
            batch = RecordBatch(TOPIC, 0, offsets, [-1] * n, [None] * n, values, [()] * n)
            stage.process(batch, float(start + HOUR))
            offset += n
        for record in stage.take(float(start + HOUR), final=True).outputs:
            entry = decode(record.value or b"")
            if isinstance(entry, SummaryPart):
                log.append(entry)
        log.close(start // 10)
        for news in fold.news():
            if news.grid:
                return news.grid
    raise AssertionError("no grid was cut within an hour")


class _Log:
    """The log that a fold reads, as bytes."""

    def __init__(self, fold: PartitionFold, month: Month, tick_us: int) -> None:
        self._fold = fold
        self._month = month
        self._tick_us = tick_us
        self._offset = 0
        self.next_tick = 0

    def append(self, entry: LogEntry) -> None:
        for published in self._fold.apply(self._offset, decode(encode(entry))):
            self._month.alerts.append(published.alert.data)
        self._offset += 1

    def close(self, tick: int) -> None:
        """Say that nothing more of a tick comes."""
        self.append(Progress({TOPIC: 1}, (PartitionProgress(TOPIC, 0, tick, (tick + 1) * self._tick_us),)))
        self.next_tick = tick + 1


def _pairs(counted: Counted, rng: np.random.Generator, n: int, start_us: int) -> dict[str, Pairs]:
    """Scores value by value: of many, those with the smallest hashes."""
    kept = min(n, MAX_ENTRIES)
    if not kept:
        return {}
    hashes = rng.integers(0, np.uint64(2**64 - 1) // np.uint64(max(1, n // kept)), kept, dtype=np.uint64)
    times = start_us + rng.integers(0, 10 * MICROSECONDS, kept)
    pairs = Pairs.of(hashes, times, counted.scores(rng, kept))
    return {SCORE: Pairs(pairs.hashes, pairs.times, pairs.values, pairs.repeats, n)}
