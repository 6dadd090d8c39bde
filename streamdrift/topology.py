"""The topology: which stages there are, and what joins them; and a driver that runs it without a broker.

``Topology`` is what a configuration comes to. ``streamdrift.assembly`` runs it on Kafka; ``TopologyDriver`` runs
the same stages in memory, records in and records out, for tests, replays, and for users who want to see what their
configuration does to their events::

    driver = TopologyDriver(topology(settings), partitions=3)
    driver.send("predictions", event_bytes)
    driver.run()
    driver.alerts            # the data of every alert so far
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from streamdrift.baselines import Baseline
from streamdrift.codecs import Source
from streamdrift.entries import BaselineSet, encode, partition_of
from streamdrift.events import Batch
from streamdrift.gridbook import Entries, GridBook, ModelKey, baseline_record, grid_records
from streamdrift.grids import Grid
from streamdrift.joining.changelog import Changelog, Entry
from streamdrift.joining.memory import MemoryStore
from streamdrift.joining.state import Stores
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.records import Commit, Headers, OutputRecord, Position, Record, RecordBatch, TopicPartition
from streamdrift.stages.detect import Detect, DetectConfig
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM
from streamdrift.stages.join import JoinConfig, Joiner, Pair
from streamdrift.stages.rekey import Rekey, Route
from streamdrift.stages.stage import Stage
from streamdrift.stages.summarise import Summarise, SummariseConfig


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """What there is to join."""

    config: JoinConfig
    pairs: Sequence[Pair]
    grid_of: Callable[[str, str], OutcomeGrid | None]
    """How the outcomes of a model version are counted; None where nobody said so."""
    window_us: Callable[[str], int]
    """Length of a model's windows of reported metrics."""
    routes: Sequence[Route] = ()
    """Sources that are keyed otherwise, and are sent on; their targets stand in ``pairs``."""

    @property
    def inputs(self) -> Sequence[str]:
        """The users' topics that are read for it."""
        sent = {route.topic: route.source.topic for route in self.routes}
        return [
            sent.get(source.topic, source.topic) for pair in self.pairs for source in (pair.predictions, pair.labels)
        ]


@dataclass(frozen=True, slots=True)
class Topology:
    """The stages of one configuration, and the baselines that it names."""

    sources: Sequence[Source]
    baselines: Mapping[ModelKey, Baseline]
    raw: Callable[[str], Collection[str]]
    """The columns of a model (by id) whose values are kept one by one."""
    summarise: SummariseConfig
    detect: DetectConfig
    grids_topic: str = "streamdrift-grids"
    join: JoinPlan | None = None
    """Where there are labels."""
    observe: Callable[[Batch], None] | None = None
    """Is shown all events that are counted, for whoever compares streamdrift with something else."""

    def new_join(self, stores: Stores, changelog: Changelog) -> Joiner | None:
        plan = self.join
        if plan is None:
            return None
        return Joiner(plan.config, plan.pairs, stores, changelog, grid_of=plan.grid_of, window_us=plan.window_us)

    def new_rekey(self) -> Rekey | None:
        return Rekey(self.summarise, self.join.routes) if self.join and self.join.routes else None

    def new_summarise(self, book: GridBook) -> Summarise:
        return Summarise(self.summarise, self.sources, book, self.raw, self.observe)

    def new_detect(self, book: GridBook) -> Detect:
        return Detect(self.detect, book)

    def grid_records(self) -> Iterator[OutputRecord]:
        """The configured baselines for the compacted topic, by content: writing them again changes nothing."""
        for baseline in self.baselines.values():
            yield baseline_record(self.grids_topic, baseline)
            yield from grid_records(self.grids_topic, baseline.grid)

    def control_records(self) -> Iterator[OutputRecord]:
        """What tells detect which baseline is in effect; to be written once the grids are, before any summary."""
        topic, partitions = self.summarise.summaries_topic, self.summarise.summaries_partitions
        for (model_id, version), baseline in self.baselines.items():
            value = encode(BaselineSet(model_id, version, baseline.id))
            yield OutputRecord(topic, model_id.encode(), value, (), partition_of(model_id, partitions))


_EPOCH_OF_DRIVER: Final = 4_000_000_000.0
"""The driver's clock, unless another is given: past every event, so that the future guard stays out of the way."""


class _Partition:
    """Records of one partition that someone may still read."""

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.end = 0

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self.records.append(Record(self.end, timestamp, key, value, headers))
        self.end += 1

    def batch(self, tp: TopicPartition, start: int, limit: int) -> RecordBatch | None:
        """At most ``limit`` records from offset ``start`` on."""
        first = self.end - len(self.records)
        rows = list(islice(self.records, start - first, start - first + limit))
        return RecordBatch(*tp, *zip(*rows, strict=True)) if rows else None

    def trim(self, offset: int) -> None:
        """Forget what nobody reads again."""
        while self.records and self.records[0].offset < offset:
            self.records.popleft()


class MemoryChangelog:
    """Changelogs in memory, compacted as they are written. Without ``keep`` they are only as long as they would be."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._ends: dict[TopicPartition, int] = {}
        self._latest: dict[TopicPartition, dict[bytes, Entry]] = {}

    def append(self, tp: TopicPartition, key: bytes, value: bytes | None) -> None:
        """Write a record. A deletion stays: a store that is behind must hear of it."""
        latest, offset = self._latest.setdefault(tp, {}), self.end(tp)
        if self._keep:
            latest.pop(key, None)
            latest[key] = Entry(offset, key, value)
        self._ends[tp] = offset + 1

    def end(self, tp: TopicPartition) -> int:
        return self._ends.get(tp, 0)

    def entries(self, tp: TopicPartition, start: int, end: int) -> Iterator[Sequence[Entry]]:
        yield [entry for entry in self._latest.get(tp, {}).values() if start <= entry.offset < end]


class MemoryStores:
    """Stores in memory, which are empty whenever they are opened: all they had comes back from the changelog."""

    def open(self, tp: TopicPartition) -> MemoryStore:  # noqa: ARG002 — each is a new one
        return MemoryStore()

    def discard(self, tp: TopicPartition) -> None:
        """Nothing is left of it anyway."""


class TopologyDriver:
    """Runs a topology in memory, in one thread, deterministically. Delivery is at least once."""

    def __init__(
        self,
        topology: Topology,
        *,
        partitions: int = 1,
        batch_size: int = 500,
        now: float = _EPOCH_OF_DRIVER,
        keep_log: bool = False,
        stores: Stores | None = None,
        restarts: bool = True,
    ) -> None:
        """``partitions`` is that of every input topic; ``now`` the clock (seconds since the epoch).

        What was read and committed is forgotten, unless ``keep_log``. ``stores`` are those of the join, in memory if
        None. Without ``restarts``, what only a restart would read is not kept: there must be none.
        """
        self._topology = topology
        self._batch_size = batch_size
        self._keep_log = keep_log
        self.now = now
        self._logs: dict[TopicPartition, _Partition] = {}
        self._stores = stores or MemoryStores()
        self._changelog = MemoryChangelog(keep=restarts)
        self._counts = dict.fromkeys(self._input_topics(), partitions)
        self._counts |= {route.topic: route.partitions for route in (topology.join.routes if topology.join else ())}
        self._counts[topology.summarise.summaries_topic] = topology.summarise.summaries_partitions
        for topic, count in self._counts.items():
            for number in range(count):
                self._logs[TopicPartition(topic, number)] = _Partition()
        self._committed: dict[tuple[str, TopicPartition], Position] = {}
        self._compacted: dict[TopicPartition, dict[bytes, bytes]] = {}
        self._grids: list[tuple[bytes, bytes | None]] = []
        self._outputs: dict[str, list[OutputRecord]] = {}
        self._configure()
        self._start()

    # What a user does

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = 0,
        timestamp: int | None = None,
        headers: Headers = (),
    ) -> None:
        """Append an input record; ``timestamp`` is its Kafka time in milliseconds, the clock's if None."""
        milliseconds = int(self.now * 1_000) if timestamp is None else timestamp
        self._logs[TopicPartition(topic, partition)].append(milliseconds, key, value, headers)

    def end_of_stream(self) -> None:
        """Send the marker that ends every input partition (of sources that honour it)."""
        for topic in self._input_topics():
            for number in range(self._counts[topic]):
                self.send(topic, None, partition=number, headers=[(CONTROL_HEADER, END_OF_STREAM)])

    def _input_topics(self) -> list[str]:
        of_join = self._topology.join.inputs if self._topology.join else ()
        return list(dict.fromkeys([*(source.topic for source in self._topology.sources), *of_join]))

    def advance(self, seconds: float) -> None:
        """Let the clock go on."""
        self.now += seconds

    def run(self) -> None:
        """Let all stages read whatever there is, and commit it."""
        for stage in self._stages:
            self._drain(stage)

    def stop(self) -> None:
        """Stop the stages cleanly: everything that is due is committed."""
        for stage in self._stages:
            self._commit(stage, final=True)
        self._close_stores()

    def restart(self) -> None:
        """Stop cleanly and start new stages where the old ones stood."""
        self.stop()
        self._start()

    def reconfigure(self, topology: Topology) -> None:
        """Stop cleanly and go on with another configuration of the same topics."""
        self.stop()
        self._topology = topology
        self._configure()
        self._start()

    def crash(self) -> None:
        """Drop the stages as they are, and start new ones from what was committed."""
        self._close_stores()
        self._start()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """The data of all alerts so far, in the order in which they were published."""
        return [json.loads(record.value or b"") for record in self.read(self._topology.detect.alerts_topic)]

    def read(self, topic: str) -> list[OutputRecord]:
        """The records of an output topic so far: alerts or dead letters."""
        return self._outputs.get(topic, [])

    def take(self, topic: str) -> list[OutputRecord]:
        """The records of an output topic since this was called last; they are forgotten."""
        return self._outputs.pop(topic, [])

    def grid_of(self, model_id: str, model_version: str) -> Grid | None:
        """The grid on which a model version is counted by now; None while none is known."""
        book = GridBook(self._follow_grids())
        book.refresh()
        return book.grid_of(model_id, model_version)

    def log(self, tp: TopicPartition) -> list[bytes | None]:
        """The values of the records of an input or of the summaries topic that are still there."""
        return [record.value for record in self._logs[tp].records]

    # What a broker and a loop do

    def _configure(self) -> None:
        self._write(Commit(list(self._topology.grid_records())), "")
        self._write(Commit(list(self._topology.control_records())), "")

    def _start(self) -> None:
        self.summarise = self._topology.new_summarise(GridBook(self._follow_grids()))
        self.detect = self._topology.new_detect(GridBook(self._follow_grids()))
        self.join = self._topology.new_join(self._stores, self._changelog)
        rekey = self._topology.new_rekey()
        between: list[Stage] = [stage for stage in (rekey, self.join) if stage is not None]
        self._stages: list[Stage] = [self.summarise, *between, self.detect]
        self._positions: dict[tuple[str, TopicPartition], int] = {}
        self._begun: set[tuple[str, TopicPartition]] = set()
        for stage in self._stages:
            stage.topology({topic: self._counts[topic] for topic in stage.inputs})
            for tp in self._inputs(stage):
                start = self._committed.get((stage.name, tp), Position(0))
                state = self._compacted.get(TopicPartition(stage.state_topic or "", tp.partition), {})
                self._positions[stage.name, tp] = stage.assigned(tp, start, state)

    def _follow_grids(self) -> Callable[[], Entries]:
        """A reader of the grids topic, from its start."""
        position = 0

        def read() -> Entries:
            nonlocal position
            new, position = self._grids[position:], len(self._grids)
            return new

        return read

    def _inputs(self, stage: Stage) -> Iterable[TopicPartition]:
        return [tp for tp in self._logs if tp.topic in stage.inputs]

    def _close_stores(self) -> None:
        """A store has one owner at a time. What was not committed to it is lost."""
        if self.join is not None:
            for tp in self._inputs(self.join):
                self.join.revoked(tp)

    def _drain(self, stage: Stage) -> None:
        while sum(self._poll(stage, tp) for tp in self._inputs(stage) if tp not in stage.paused()):
            self._commit(stage)
        for tp in self._inputs(stage):
            if self._positions[stage.name, tp] == self._logs[tp].end:
                stage.reached_end(tp, self.now)
        # Whatever is pending goes out, so that a run leaves nothing behind that a clock would have to bring out.
        self._commit(stage, final=stage is not self.detect)

    def _commit(self, stage: Stage, *, final: bool = False) -> None:
        while True:
            commit = stage.take(self.now, final=final)
            self._write(commit, stage.name)
            if commit:
                stage.carried_out({tp: self._changelog.end(tp) for tp in self._changelogs(commit)})
            if not commit.more:
                return

    def _poll(self, stage: Stage, tp: TopicPartition) -> bool:
        position = self._positions[stage.name, tp]
        batch = self._logs[tp].batch(tp, position, self._batch_size)
        if batch is None:
            stage.reached_end(tp, self.now)
            return False
        if (stage.name, tp) not in self._begun:
            self._begun.add((stage.name, tp))
            stage.begin(tp)
            self._commit(stage)
        step = 1 if stage.careful(tp) else len(batch)
        for start in range(0, len(batch), step):
            stage.process(batch.part(start, start + step), self.now)
            self._positions[stage.name, tp] = batch.offsets[start] + step
            if step < len(batch):
                self._commit(stage)
        return True

    def _write(self, commit: Commit, group: str) -> None:
        for record in (*commit.outputs, *commit.state):
            self._produce(record)
        for tp, position in commit.offsets.items():
            self._committed[group, tp] = position
            if not self._keep_log:
                self._logs[tp].trim(self._read_by_all(tp))

    def _read_by_all(self, tp: TopicPartition) -> int:
        """What all stages have committed of a partition: predictions are read by two."""
        readers = (stage.name for stage in self._stages if tp.topic in stage.inputs)
        return min(self._committed.get((name, tp), Position(0)).offset for name in readers)

    def _produce(self, record: OutputRecord) -> None:
        tp = TopicPartition(record.topic, record.partition or 0)
        if tp in self._logs:
            self._logs[tp].append(int(self.now * 1_000), record.key, record.value, record.headers)
        elif record.topic in {self._topology.grids_topic, self._topology.detect.state_topic}:
            assert record.key is not None  # noqa: S101 — compacted topics are written with keys
            self._compact(tp, record.key, record.value)
        elif record.topic in self._changelog_topics:
            self._changelog.append(tp, record.key or b"", record.value)
        else:
            self._outputs.setdefault(record.topic, []).append(record)

    @property
    def _changelog_topics(self) -> Collection[str]:
        return [pair.changelog for pair in self._topology.join.pairs] if self._topology.join else ()

    def _changelogs(self, commit: Commit) -> Collection[TopicPartition]:
        return {TopicPartition(record.topic, record.partition or 0) for record in commit.state}

    def _compact(self, tp: TopicPartition, key: bytes, value: bytes | None) -> None:
        if tp.topic == self._topology.grids_topic:
            self._grids.append((key, value))
        elif value is None:
            self._compacted[tp].pop(key, None)
        else:
            self._compacted.setdefault(tp, {})[key] = value
