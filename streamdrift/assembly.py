"""The composition root: settings become a topology, and the topology becomes a running service.

Nothing else knows of all parts. Each stage runs in a thread of its own with its own consumer and producer; HTTP is
answered by others, which read what the stages last published.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import Event, Thread
from types import FrameType
from typing import Final

import structlog

from streamdrift import __version__
from streamdrift.baselines import Baseline
from streamdrift.codecs import Source, template
from streamdrift.errors import ConfigurationError, FatalError
from streamdrift.events import SourceKind
from streamdrift.fold import FoldConfig
from streamdrift.gridbook import GridBook, ModelKey
from streamdrift.grids import SCORE
from streamdrift.http.server import HttpServer
from streamdrift.joining.store import RocksStores
from streamdrift.joins import join_plan
from streamdrift.judging import outcome_config, retraining_policies
from streamdrift.kafka.changelog import ChangelogReader
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.commit import AtLeastOnce, publish
from streamdrift.kafka.compacted import read_compacted
from streamdrift.kafka.follower import Follower
from streamdrift.kafka.loop import StageLoop
from streamdrift.kafka.permissions import Access
from streamdrift.kafka.placing import require_equal_placing
from streamdrift.kafka.tokens import Tokens, token_function
from streamdrift.kafka.topics import TopicSpec, ensure_topics, partition_counts
from streamdrift.learning import LearningConfig
from streamdrift.monitor import MonitorConfig
from streamdrift.outcome_fold import OutcomesConfig
from streamdrift.quantities import Duration
from streamdrift.settings import Settings
from streamdrift.stages.detect import Detect, DetectConfig
from streamdrift.stages.join import Joiner, require_equal_counts
from streamdrift.stages.rekey import Rekey
from streamdrift.stages.stage import Stage, Start, StartAt, StartFrom
from streamdrift.stages.summarise import Summarise, SummariseConfig
from streamdrift.status import LoopStatus, Snapshot
from streamdrift.streams import RiverStream
from streamdrift.telemetry import FeaturePolicy, FeatureSeries, StreamdriftCollector, registry
from streamdrift.topology import JoinPlan, Topology
from streamdrift.watch import WatchConfig

LIVENESS_BOUND: Final = 60.0
"""Seconds without a turn of a loop after which the process should be restarted; a commit may take some of it."""
JOIN_TIMEOUT: Final = 30.0
"""Seconds that a stage may take to commit and to leave its group at a stop."""
YOUNG_OBJECTS: Final = 10_000
"""How many more objects there are when the garbage collector looks through the new ones."""
DAY_MS: Final = 86_400_000


def load_baselines(settings: Settings) -> dict[ModelKey, Baseline]:
    """The baselines that the settings name. Raises ``ConfigurationError`` naming the key and the file."""
    return {
        (model_id, version): load_baseline(settings, model_id, version, path)
        for model_id, model in settings.models.items()
        for version, path in model.baselines.items()
    }


def load_baseline(settings: Settings, model_id: str, version: str, path: Path) -> Baseline:
    """One of them, with the features that are watched."""
    key = f"models.{model_id}.baselines.{version}"
    try:
        baseline = Baseline.read(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}: {error}") from None
    grid = baseline.grid
    if (grid.model_id, grid.model_version) != (model_id, version):
        raise ConfigurationError(f"{key}: {path} is of model {grid.model_id}, version {grid.model_version}")
    watched = baseline.only(settings.model(model_id).features.watches, "excluded by configuration")
    return watched.under(settings.privacy.rules())


def topology(settings: Settings) -> Topology:
    """What the settings come to. Raises ``ConfigurationError``."""
    tick_us = settings.time.tick.microseconds
    every = {source.topic: source_of(settings, i) for i, source in enumerate(settings.sources)}
    sources = [source for source in every.values() if source.kind is not SourceKind.LABELS]
    baselines = load_baselines(settings)
    configs = {model_id: _watch(settings, model_id) for model_id in settings.models}
    other = _watch(settings, "")

    def watch(model_id: str) -> WatchConfig:
        return configs.get(model_id, other)

    def raw(model_id: str) -> Collection[str]:
        return watch(model_id).learning.raw

    topics = settings.topics
    summarise = SummariseConfig(
        tick_us=tick_us,
        skew_us=settings.time.future_skew.microseconds,
        idle=settings.time.idle,
        idle_after=settings.time.idle_after.seconds,
        max_ahead=settings.time.max_ahead,
        commit_interval=settings.commit_interval.seconds,
        attempts=settings.bounds.attempts,
        dead_letter_share=settings.bounds.dead_letter_share,
        max_models=settings.bounds.models,
        listed=tuple(settings.models),
        summaries_topic=topics.summaries,
        summaries_partitions=topics.partitions,
        dead_letters_topic=topics.dead_letters,
        dead_letter_values=settings.dead_letter_values,
    )
    join = join_plan(settings, baselines, every, summarise)
    fold = FoldConfig(
        tick_us,
        watch,
        tuple(baselines),
        [s.topic for s in sources],
        settings.bounds.models,
        tuple(settings.models),
        settings.bounds.retire_after.microseconds,
        _outcomes(settings, baselines, join),
        {model_id: retraining_policies(settings, model_id) for model_id in settings.models},
    )
    return Topology(
        sources,
        baselines,
        raw,
        summarise,
        DetectConfig(
            fold,
            summaries_topic=topics.summaries,
            state_topic=topics.state,
            alerts_topic=topics.alerts,
            grids_topic=topics.grids,
            requests_topic=topics.retraining_requests,
            source=f"/{settings.kafka.application}",
            snapshot_interval=settings.snapshot_interval.seconds,
        ),
        topics.grids,
        join,
    )


def _outcomes(
    settings: Settings, baselines: Mapping[ModelKey, Baseline], join: JoinPlan | None
) -> OutcomesConfig | None:
    """How outcomes are folded, where there is something to join."""
    if join is None:
        return None
    configs = {model_id: outcome_config(settings, baselines, model_id) for model_id in settings.models}
    other = outcome_config(settings, baselines, "")
    return OutcomesConfig(
        lambda model_id: configs.get(model_id, other),
        {source.topic for pair in join.pairs for source in (pair.predictions, pair.labels)},
    )


def source_of(settings: Settings, index: int) -> Source:
    """A source as its decoder knows it."""
    source = settings.sources[index]
    return Source(
        source.topic,
        source.kind,
        source.time_of(),
        source.timestamp_unit,
        source.zone,
        settings.lateness(source).microseconds,
        source.end_of_stream,
        settings.bounds.message_bytes,
        source.mapping.mapping(),
        settings.privacy.rules(),
        source.mapping.label_mapping(),
    )


def start_points(settings: Settings, now: float) -> dict[str, Start]:
    """Where a group that never read a source begins, by topic. ``now`` in seconds since the epoch."""
    starts: dict[str, Start] = {}
    for source in settings.sources:
        match settings.start_from(source):
            case Duration(microseconds=us):
                starts[source.topic] = StartAt(max(0, int(now * 1e3) - us // 1_000))
            case datetime() as time:
                starts[source.topic] = StartAt(max(0, int(time.timestamp() * 1e3)))
            case start:
                starts[source.topic] = start
    return starts


def _watch(settings: Settings, model_id: str) -> WatchConfig:
    monitor = _monitor(settings, model_id)
    learning = LearningConfig(
        monitor.sensitivity.warm_up,
        settings.model(model_id).features.watches,
        frozenset(stream.column for stream in monitor.river),
    )
    return WatchConfig(monitor, learning)


def _monitor(settings: Settings, model_id: str) -> MonitorConfig:
    streams = [RiverStream(SCORE, river.spec) for river in settings.score_river(model_id)]
    for name, feature in settings.model(model_id).features.named.items():
        streams += [RiverStream(name, river.spec) for river in feature.river]
    return MonitorConfig(
        settings.time.tick.microseconds,
        settings.window(model_id).microseconds,
        tuple(streams),
        settings.sensitivity(model_id),
        settings.mutes(model_id),
    )


def cluster_of(settings: Settings) -> Cluster:
    """The cluster that the settings name. Raises ``ConfigurationError``."""
    kafka = settings.kafka
    tokens = None
    if kafka.token_provider is not None:
        tokens = Tokens(token_function(kafka.token_provider), kafka.token_provider)
    group = group_id(settings, Detect.name)
    return Cluster(kafka.bootstrap_servers, kafka.properties(), tokens=tokens, reader_group=group)


def group_id(settings: Settings, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{settings.kafka.application}-{stage}"


def groups(settings: Settings) -> list[str]:
    """The consumer groups of the stages that a configuration has."""
    between = [Rekey.name] if _rekeyed(settings) else []
    between += [Joiner.name] if settings.pairs() else []
    return [group_id(settings, stage) for stage in (Summarise.name, *between, Detect.name)]


def _rekeyed(settings: Settings) -> list[str]:
    """The topics of the sources that are sent on by prediction id."""
    return [settings.sources[place].topic for pair in settings.pairs() if settings.rekeyed(pair) for place in pair]


def topic_specs(settings: Settings, counts: Mapping[str, int] | None = None) -> list[TopicSpec]:
    """The topics that a service needs: the sources must exist, its own are created.

    ``counts`` are the partitions of the sources' topics, as far as they are known: a changelog of the join has as many
    as the labels that it is of.
    """
    topics, partitions, replication = settings.topics, settings.topics.partitions, settings.topics.replication or -1
    sent_on = _rekeyed(settings)
    known = {**(counts or {}), **dict.fromkeys(sent_on, partitions)}
    changelogs = {settings.changelog(s): known.get(s.topic) for s in settings.sources if s.kind is SourceKind.LABELS}
    forever = {"cleanup.policy": "delete", "retention.ms": "-1"}
    compact = {"cleanup.policy": "compact"}
    events = {"cleanup.policy": "compact,delete", "retention.ms": str(90 * DAY_MS)}
    letters = {"retention.ms": str(7 * DAY_MS)}
    read, write, both = (Access.READ,), (Access.WRITE,), (Access.READ, Access.WRITE)
    return [
        *(TopicSpec(source.topic, create=False, access=read) for source in settings.sources),
        TopicSpec(
            topics.summaries, partitions, forever, tuple(forever), replication, access=both, wished=(Access.DELETE,)
        ),
        TopicSpec(topics.state, partitions, compact, tuple(compact), replication, access=both),
        TopicSpec(topics.grids, 1, compact, tuple(compact), replication, access=both),
        *(
            TopicSpec(name, count, compact, tuple(compact), replication, access=both)
            for name, count in changelogs.items()
        ),
        *(
            TopicSpec(
                settings.rekeyed_topic(topic),
                partitions,
                forever,
                tuple(forever),
                replication,
                access=both,
                wished=(Access.DELETE,),
            )
            for topic in sent_on
        ),
        TopicSpec(topics.alerts, None, events, (), replication, access=write),
        *(TopicSpec(name, None, events, (), replication, access=write) for name in _requests_topics(settings)),
        TopicSpec(topics.dead_letters, None, letters, (), replication, access=write),
    ]


def _requests_topics(settings: Settings) -> list[str]:
    """The topic of retraining requests, where a model has policies: others need no permission for it."""
    asks = any(retraining_policies(settings, model_id) for model_id in settings.models)
    return [settings.topics.retraining_requests] if asks else []


@dataclass(slots=True)
class _Running:
    """A stage at work."""

    stage: Stage
    loop: StageLoop
    thread: Thread


class Service:
    """All stages of a configuration in this process, and their HTTP port."""

    def __init__(
        self,
        settings: Settings,
        *,
        cluster: Cluster | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``cluster`` stands in for the one of the settings (the embedded broker's). Raises ``ConfigurationError``."""
        self._settings = settings
        self._cluster = cluster or cluster_of(settings)
        self._clock = clock
        self._topology = topology(settings)
        self._exit = ExitStack()
        self._clients = ExitStack()
        self._running: list[_Running] = []
        self._join: Joiner | None = None
        self._ended = Event()
        self._log = structlog.get_logger()
        self.failed: BaseException | None = None
        """What ended a stage that was not asked to stop."""
        self.url = ""
        """Where the page is, once started."""

    def start(self) -> None:
        """Prepare topics and baselines, and set everything to work.

        Raises ``BrokerUnreachable`` and ``ConfigurationError``; nothing is left running then.
        """
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._prepare()
            self._serve_http()
            for running in self._running:
                running.thread.start()
            undo.pop_all()
        self._log.info("started", version=__version__, url=self.url, models=len(self._topology.baselines))

    def stop(self) -> None:
        """Stop cleanly: commit what is due, leave the groups, close the port. May be called twice.

        A stage that cannot commit, because no broker answers, is left behind: that is in ``failed`` then.
        """
        for running in self._running:
            running.loop.stop()
        deadline = time.monotonic() + JOIN_TIMEOUT
        for running in self._running:
            if running.thread.ident is not None:
                running.thread.join(max(deadline - time.monotonic(), 0.0))
        stuck = [running.stage.name for running in self._running if running.thread.is_alive()]
        if stuck:
            message = f"{' and '.join(stuck)} could not commit within {JOIN_TIMEOUT:g} s, and will read again"
            self.failed = self.failed or FatalError(message)
            self._clients.pop_all()  # in use: to close them would only make another error of it
        self._clients.close()
        self._exit.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a stage has ended by itself; whether one has."""
        return self._ended.wait(timeout)

    def status(self) -> Snapshot:
        """What the service shows of itself now; any thread may ask."""
        counts = self._detect.counts
        join = self._join
        return Snapshot(
            [*self._summarise.status(), *(join.status() if join else ())],
            tuple(self._detect.models.values()),
            tuple(_loop_status(running) for running in self._running),
            counts.replayed,
            counts.refused,
            self._detect.outcome_counts.refused if join else {},
            joins=tuple(join.joins()) if join else (),
            outcomes=tuple(self._detect.outcomes.values()),
            retraining=tuple(self._detect.retraining.values()),
        )

    def _prepare(self) -> None:
        if not template.prepare():
            self._log.info("streamdrift[compiled] is not installed: all messages are decoded, more slowly")
        settings = self._settings
        counts = partition_counts(self._cluster, [source.topic for source in settings.sources])
        for source in settings.sources:
            if source.topic in counts:
                self._log.info("source", topic=source.topic, partitions=counts[source.topic])
        ensure_topics(self._cluster, topic_specs(settings, counts), groups(settings))
        self._verify_pairs(counts)
        publish(self._cluster, self._topology.grid_records())
        publish(self._cluster, self._topology.control_records())
        grids = self._settings.topics.grids
        follower = self._clients.enter_context(closing(Follower(self._cluster, grids)))
        self._summarise = self._topology.new_summarise(GridBook(follower))
        # A look-up that fails reads all again: in detect's thread, and rarely.
        book = GridBook(lambda: read_compacted(self._cluster, grids).items())
        self._detect = self._topology.new_detect(book)
        self._add(self._summarise, start_points(self._settings, self._clock()).__getitem__)
        self._add_join()
        self._add(self._detect, StartFrom.EARLIEST)

    def _verify_pairs(self, counts: Mapping[str, int]) -> None:
        """Labels must be able to meet their predictions."""
        for pair in self._topology.join.pairs if self._topology.join else ():
            if pair.internal:
                continue
            require_equal_counts(pair, counts)
            require_equal_placing(self._cluster, pair, counts[pair.labels.topic])

    def _add_join(self) -> None:
        if self._topology.join is None:
            return
        changelog = ChangelogReader(self._cluster)
        stores = RocksStores(self._join_directory(), self._settings.join.memory_bytes, self._clock)
        self._join = self._topology.new_join(stores, changelog)
        if self._join is not None:
            starts = start_points(self._settings, self._clock())
            if rekey := self._topology.new_rekey():
                self._add(rekey, starts.__getitem__)
            loop = self._add(self._join, lambda topic: starts.get(topic, StartFrom.EARLIEST))
            changelog.beat = loop.beat

    def _join_directory(self) -> Path:
        """Where the join keeps what waits; of its own and removed at the stop, unless the configuration names one."""
        if self._settings.join.path:
            return self._settings.join.path
        directory = mkdtemp(prefix="streamdrift-join-")
        # A stage that is left behind at the stop still writes there, and keeps it.
        self._clients.callback(rmtree, directory, ignore_errors=True)
        return Path(directory)

    def _add(self, stage: Stage, start_from: Start | Callable[[str], Start]) -> StageLoop:
        committer = self._clients.enter_context(AtLeastOnce(self._cluster))
        loop = StageLoop(
            stage,
            self._cluster,
            group_id=group_id(self._settings, stage.name),
            start_from=start_from,
            committer=committer,
            clock=self._clock,
        )
        thread = Thread(target=self._run, args=(loop, stage.name), name=stage.name, daemon=True)
        self._running.append(_Running(stage, loop, thread))
        return loop

    def _run(self, loop: StageLoop, name: str) -> None:
        try:
            loop.run()
        except BaseException as error:  # noqa: BLE001 — the main thread decides what it means
            self.failed = self.failed or error
            self._log.error("stage failed", stage=name, error=str(error))
        finally:
            self._ended.set()

    def _serve_http(self) -> None:
        settings = self._settings
        listed = {m: frozenset(model.features.named) for m, model in settings.models.items()}
        policy = FeaturePolicy(FeatureSeries(settings.metrics.features), listed)
        collector = StreamdriftCollector(self.status, features=policy, bound=settings.bounds.series)
        server = HttpServer(
            settings.http.host,
            settings.http.port,
            read=self.status,
            registry=registry(collector),
            heartbeat_bound_s=LIVENESS_BOUND,
            clock=self._clock,
        )
        server.start()
        self._exit.callback(server.stop)
        self.url = server.url


def settle() -> None:
    """Set the garbage collector for a service that has started.

    What is there by now stays to the end: looking through it again and again would cost more than all statistics. Of
    the objects that come and go, a poll's messages alone outnumber the default threshold, and none is in a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def _loop_status(running: _Running) -> LoopStatus:
    loop = running.loop
    status = loop.status
    return LoopStatus(
        running.stage.name,
        loop.last_poll or None,
        loop.assigned,
        loop.restored,
        status.rebalances,
        {tp: partition.lag for tp, partition in status.partitions.items()},
    )


class _StopAsked(BaseException):
    """Raised by a signal while the service starts."""


class _Signals:
    """SIGTERM and SIGINT: the first asks for a stop, the second ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self._raises = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Within, a signal raises ``_StopAsked`` in the main thread, which may be waiting for brokers."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 — the signature of a signal handler
        if self.asked:
            os._exit(128 + number)
        self.asked = True
        if self._raises:
            raise _StopAsked


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit code. A second signal ends the process at once."""
    log = structlog.get_logger()
    for warning in settings.warnings():
        log.warning("setting", message=warning)
    service = Service(settings)
    signals = _Signals()
    try:
        with signals.raised():
            service.start()
        settle()
    except (_StopAsked, SystemError):
        # Raised while a Kafka client calls back, it comes out of the client as a SystemError.
        if not signals.asked:
            raise
        log.info("stopping", reason="asked to stop while starting")
    # An Event's wait without a time-out could not be interrupted by a signal on every platform.
    while not signals.asked and not service.wait(0.5):
        pass
    service.stop()
    if service.failed is not None:
        raise service.failed
    log.info("stopped")
    return 0
