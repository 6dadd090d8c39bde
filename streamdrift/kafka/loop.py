"""Drives one stage: poll, fold, commit; hand-over and take-over of partitions; clean stop."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from streamdrift.errors import FatalError
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.commit import Committer
from streamdrift.kafka.compacted import Latest, read_partitions
from streamdrift.kafka.ends import EndCheck
from streamdrift.kafka.messages import Theirs, batches_of, ours, partition_of, theirs, theirs_at
from streamdrift.kafka.starts import Starts
from streamdrift.kafka.trim import Trimmer
from streamdrift.records import Commit, Position, RecordBatch, TopicPartition
from streamdrift.stages.stage import Stage, Start


@dataclass(frozen=True, slots=True)
class Pace:
    """How the loop divides its time."""

    batch_size: int = 2048
    """Most messages a poll, of all partitions together: so many still lie in the processor's cache to be decoded."""
    poll_timeout: float = 0.1
    """Seconds for which a poll gathers messages; also the longest wait of a stop, and of a lone record."""
    refresh_interval: float = 1.0
    """Seconds between looks at lag and at partitions whose end was reached."""
    topology_interval: float = 30.0
    """Seconds between looks at the partition counts of the input topics."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """Where the reader stands in one partition."""

    position: int
    """The offset that comes next."""
    end: int
    """The end of the partition as far as it is known."""
    paused: bool

    @property
    def lag(self) -> int:
        """How many records (or, with transactions, offsets) are not read yet."""
        return max(self.end - self.position, 0)


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """What a loop tells of itself: an unchanging picture, about a second old."""

    partitions: Mapping[TopicPartition, PartitionStatus] = field(default_factory=dict)
    """The owned ones."""
    rebalances: Mapping[str, int] = field(default_factory=dict)
    """How often partitions were ``assigned``, ``revoked`` and ``lost``."""
    client_errors: Mapping[str, int] = field(default_factory=dict)
    """What the clients reported, by librdkafka's name of the error."""


@dataclass(slots=True)
class _Reader:
    """Where the loop stands in an owned partition."""

    position: int
    """The offset that comes next."""
    end: int | None = None
    """The end of the partition if it was reached and no record came since (beyond ``position`` by markers)."""
    paused: bool = False
    fresh: bool = True
    """Whether no record of it was handed over yet."""


class StageLoop:
    """Reads a stage's input topics as a member of its group and makes true what the stage asks for.

    Other threads may read ``status``, ``last_poll``, ``assigned`` and ``restored``, and call ``stop``.
    Everything else, the stage's methods included, happens in the thread that calls ``run``.
    """

    def __init__(
        self,
        stage: Stage,
        cluster: Cluster,
        *,
        group_id: str,
        start_from: Start | Callable[[str], Start],
        committer: Committer,
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
    ) -> None:
        """The committer stays its caller's: close it when ``run`` has returned. ``start_from`` may differ by topic.

        Raises ``ConfigurationError`` for client properties that librdkafka does not accept.
        """
        self._stage = stage
        self._cluster = cluster
        self._committer = committer
        self._clock = clock
        self._pace = pace or Pace()
        self._errors = ClientErrors(cluster.repeats)
        self._consumer = client.group_consumer(cluster, group_id, self._errors, together=stage.together)
        # Sharing out by numbers takes everything from everybody first; the other way only moves what changes hands.
        self._all_at_once = stage.together and cluster.group_protocol == "classic"
        self._admin = client.admin(cluster, self._errors)
        # Asks for metadata: with the consumer, the question would wait behind a fetch that waits for records, and the
        # admin client would make a topic by asking for it.
        self._observer = client.reader(cluster, self._errors)
        self._asking = ThreadPoolExecutor(1, "metadata")
        self._asked: Future[dict[str, int]] | None = None
        start_of = start_from if callable(start_from) else lambda _: start_from
        self._starts = Starts(cluster, self._consumer, self._admin, start_of)
        self._ends = EndCheck(self._admin, cluster.request_timeout)
        self._trimmer = Trimmer(self._admin, cluster.request_timeout)
        self._log = structlog.get_logger().bind(stage=stage.name, group=group_id)
        self._readers: dict[TopicPartition, _Reader] = {}
        self._counts: dict[str, int] = {}
        self._rebalances: Counter[str] = Counter()
        self._revoked_in_poll: set[TopicPartition] = set()
        self._again_in_poll: set[TopicPartition] = set()
        self._stop = Event()
        self._abandoned = False
        self._failure: Exception | None = None
        self._next_refresh = 0.0
        self._next_topology = 0.0
        self.last_poll = 0.0
        """When the loop was last seen at work, by its clock (seconds since the epoch); also while it restores."""
        self.assigned = False
        """Whether the group has told this member what it owns, if only that it owns nothing."""
        self.restored = False
        """Whether everything owned has its state."""
        self.status = ConsumerStatus()

    def run(self) -> None:
        """Work until ``stop`` is called; then commit what is due and leave the group.

        Raises ``FatalError`` and whatever the stage raises; nothing is committed then.
        """
        try:
            self._join()
            while not self._stop.is_set():
                self._turn()
            self._commit(final=True)
        finally:
            # Leaving tells of partitions that are revoked: what should be committed has been.
            self._abandoned = True
            self._consumer.close()
            self._asking.shutdown()
            self._observer.close()
            self.assigned = self.restored = False
        self._raise_failure()

    def stop(self) -> None:
        """Ask ``run`` to end cleanly; returns at once."""
        self._stop.set()

    # ---- one turn --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._revoked_in_poll.clear()
        self._again_in_poll.clear()
        messages = self._consumer.consume(self._pace.batch_size, self._pace.poll_timeout)
        self._raise_failure()
        self.beat()
        self._fold(messages)
        self._report_confirmed_ends()
        self._pause_and_resume()
        self._commit(final=False)
        self._refresh()

    def _fold(self, messages: Sequence[Message]) -> None:
        """Hand the records to the stage, a batch a partition, then the ends that were reached."""
        ends: list[Message] = []
        if any(map(Message.error, messages)):
            for message in messages:
                if message.error() is not None:
                    self._heed(message, ends)
            messages = [message for message in messages if message.error() is None]
        for batch in batches_of(messages):
            self._process(batch)
        for message in ends:
            self._reached(partition_of(message), message.offset() or 0)
        self._read_again()

    def _process(self, batch: RecordBatch) -> None:
        reader = self._readers.get(batch.source)
        if reader is None or batch.source in self._again_in_poll:
            return  # read before the partition was revoked within the same poll
        if reader.fresh:
            reader.fresh = False
            self._stage.begin(batch.source)
            self._commit(final=False)
        if self._stage.careful(batch.source):
            for i in range(len(batch)):
                self._hand_over(batch.part(i, i + 1), reader)
                self._commit(final=False)
        else:
            self._hand_over(batch, reader)

    def _hand_over(self, batch: RecordBatch, reader: _Reader) -> None:
        try:
            self._stage.process(batch, self.last_poll)
        except Exception as failure:
            failure.add_note(f"while reading {batch.topic}[{batch.partition}] from offset {batch.offsets[0]} on")
            raise
        reader.position = batch.offsets[-1] + 1
        reader.end = None

    def _reached(self, tp: TopicPartition, end: int) -> None:
        reader = self._readers.get(tp)
        if reader is None or tp in self._again_in_poll or end < reader.position:
            return
        reader.end = end
        self._stage.reached_end(tp, self._clock())

    def _heed(self, message: Message, ends: list[Message]) -> None:
        """Sort out a message that is news instead of a record; raises ``FatalError`` for what cannot go on."""
        error = message.error()
        code = error.code() if error is not None else KafkaError.NO_ERROR
        if error is None or code == codes.PARTITION_EOF:
            ends.append(message)
        elif code == codes.NO_POSITION:
            raise FatalError(
                f"{self._stage.name}: the position in {message.topic()}[{message.partition()}] does not exist "
                f"(removed by retention, or the topic was created anew): {error.str()}"
            )
        elif error.fatal() or code in codes.NOT_PERMITTED:
            raise FatalError(f"{self._stage.name}: kafka: {error.str()} ({error.name()})")
        else:
            self._errors(error)

    def _read_again(self) -> None:
        """Go back to the start of partitions that were revoked and handed over again within this poll.

        Its messages may be of either ownership, and the earlier ones may stand beyond the new start.
        """
        if self._all_at_once and self._again_in_poll:
            self._consumer.assign(theirs_at({tp: Position(reader.position) for tp, reader in self._readers.items()}))
            return
        for tp in self._again_in_poll:
            start = theirs_at({tp: Position(self._readers[tp].position)})
            self._consumer.incremental_unassign(start)
            self._consumer.incremental_assign(start)

    def _report_confirmed_ends(self) -> None:
        asked_at, ends = self._ends.confirmed()
        for tp, end in ends.items():
            reader = self._readers.get(tp)
            if reader is not None and reader.end == end:
                self._stage.reached_end(tp, asked_at)

    def _pause_and_resume(self) -> None:
        wanted = set(self._stage.paused())
        for tp, reader in self._readers.items():
            if (tp in wanted) is not reader.paused:
                reader.paused = not reader.paused
                (self._consumer.pause if reader.paused else self._consumer.resume)(theirs([tp]))

    def _commit(self, *, final: bool) -> None:
        while True:
            commit = self._stage.take(self._clock(), final=final)
            for warning in commit.warnings:
                self._log.warning(warning)
            if commit:
                self._refuse_foreign(commit)
                self._stage.carried_out(self._committer.carry_out(commit, self._consumer))
            if not (final and commit.more):
                return

    def _refuse_foreign(self, commit: Commit) -> None:
        """Committing for a partition of another member would move its position under its feet."""
        foreign = commit.offsets.keys() - self._readers.keys()
        if foreign:
            raise FatalError(f"{self._stage.name} commits offsets of {sorted(foreign)}, which it does not own")

    # ---- what is looked at now and then ----------------------------------------------------------------------------

    def _refresh(self) -> None:
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + self._pace.refresh_interval
            standing = {tp: reader.end for tp, reader in self._readers.items() if reader.end is not None}
            self._ends.ask(standing, self._clock())
            self._publish_status()
            if not self._cluster.embedded:  # which cannot delete, and keeps only the last few MiB anyway
                self._trimmer.trim(self._stage.expendable(self._clock()))
            self._hear_clients()
        self._look_at_topology()

    def _hear_clients(self) -> None:
        """Let the clients that are never polled tell their errors; untold, those of an outage would pile up."""
        self._admin.poll(0)
        if self._asked is None:
            self._observer.poll(0)

    def _publish_status(self) -> None:
        self.status = ConsumerStatus(
            partitions={tp: self._partition_status(tp, reader) for tp, reader in self._readers.items()},
            rebalances=dict(self._rebalances),
            client_errors=self._errors.counts,
        )

    def _partition_status(self, tp: TopicPartition, reader: _Reader) -> PartitionStatus:
        position = reader.position if reader.end is None else reader.end
        # What the last answer to a fetch said; negative as long as there was none.
        _, end = self._consumer.get_watermark_offsets(theirs([tp])[0], cached=True)
        return PartitionStatus(position, max(position, end), reader.paused)

    def _look_at_topology(self) -> None:
        """Ask for the partition counts now and then, and tell the stage if they changed."""
        if self._asked is None and time.monotonic() >= self._next_topology:
            self._asked = self._asking.submit(self._partition_counts)
        if self._asked is not None and self._asked.done():
            self._next_topology = time.monotonic() + self._pace.topology_interval
            self._hear_counts(self._asked)
            self._asked = None

    def _hear_counts(self, answer: Future[dict[str, int]]) -> None:
        try:
            counts = answer.result()
        except KafkaException as failure:
            self._errors(failure.args[0])
        else:
            self._tell_counts(counts)

    def _tell_counts(self, counts: dict[str, int]) -> None:
        if counts != self._counts:
            self._counts = counts
            self._stage.topology(counts)

    def _partition_counts(self) -> dict[str, int]:
        """Of every input topic, 0 for one that does not exist (yet); raises ``KafkaException``."""
        timeout = self._cluster.request_timeout
        found = {
            topic: self._observer.list_topics(topic, timeout=timeout).topics[topic] for topic in self._stage.inputs
        }
        for metadata in found.values():
            if metadata.error is not None and metadata.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(metadata.error)
        return {topic: len(metadata.partitions) for topic, metadata in found.items()}

    def beat(self) -> None:
        """The loop is at work; whoever keeps it busy for long calls this now and then."""
        self.last_poll = self._clock()

    # ---- joining and rebalances ------------------------------------------------------------------------------------

    def _join(self) -> None:
        self.beat()
        self._tell_counts(client.insist(self._partition_counts, self._cluster.patience, self.beat))
        self._next_topology = time.monotonic() + self._pace.topology_interval
        self._starts.survey(self._counts)
        self._consumer.subscribe(
            list(self._stage.inputs),
            on_assign=self._guarded(self._on_assign),
            on_revoke=self._guarded(self._on_revoke),
            on_lost=self._guarded(self._on_lost),
        )

    def _guarded(self, handle: Callable[[Theirs], None]) -> Callable[[Consumer, Theirs], None]:
        """Keep what ``handle`` raises for the loop: the client would tell of it once and go on as if assigned."""

        def callback(_: Consumer, partitions: Theirs) -> None:
            try:
                handle(partitions)
            except Exception as failure:  # noqa: BLE001 - raised again by the loop, whatever it is
                self._failure = self._failure or failure
                self._abandoned = True

        return callback

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _on_assign(self, assigned: Theirs) -> None:
        """Take partitions over: resolve where to begin, restore the state, only then let them be read."""
        if self._abandoned:
            return
        partitions = ours(assigned)
        self._note("assigned", partitions)
        self.restored = False
        if any(tp.partition >= self._counts.get(tp.topic, 0) for tp in partitions):
            self._tell_counts(client.insist(self._partition_counts, self._cluster.patience, self.beat))
        starts = self._starts.resolve(partitions, self.beat)
        states = self._restore(partitions)
        begins: dict[TopicPartition, Position] = {}
        for tp in partitions:
            begins[tp] = Position(self._stage.assigned(tp, starts[tp], states[tp]))
            self._readers[tp] = _Reader(begins[tp].offset)
        self._again_in_poll |= self._revoked_in_poll.intersection(partitions)
        if self._all_at_once:
            self._consumer.assign(theirs_at(begins))
        else:
            self._consumer.incremental_assign(theirs_at(begins))
        self.assigned = self.restored = True

    def _restore(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Latest]:
        """The state of each input partition: the same partition of the state topic."""
        topic = self._stage.state_topic
        if topic is None:
            return {tp: {} for tp in partitions}
        numbers = {TopicPartition(topic, tp.partition) for tp in partitions}
        states = read_partitions(self._cluster, self._admin, numbers, self.beat)
        return {tp: states[TopicPartition(topic, tp.partition)] for tp in partitions}

    def _on_revoke(self, revoked: Theirs) -> None:
        """Hand partitions over: everything that was read of them is committed first."""
        if not self._abandoned:
            self._commit(final=True)
        self._let_go("revoked", revoked)

    def _on_lost(self, lost: Theirs) -> None:
        """Forget partitions that are another member's already: a commit would be refused, or worse, accepted."""
        self._let_go("lost", lost)

    def _let_go(self, event: str, gone: Theirs) -> None:
        partitions = ours(gone)
        self._note(event, partitions)
        owned = [tp for tp in partitions if tp in self._readers]
        for tp in owned:
            # A pause outlives the ownership: handed over again, the partition would never be read.
            if self._readers.pop(tp).paused:
                self._consumer.resume(theirs([tp]))
            self._stage.revoked(tp)
        self._revoked_in_poll.update(owned)
        self._again_in_poll.difference_update(owned)
        if self._all_at_once:
            self._consumer.unassign()
        else:
            self._consumer.incremental_unassign(gone)

    def _note(self, event: str, partitions: Iterable[TopicPartition]) -> None:
        self._rebalances[event] += 1
        named = [f"{tp.topic}[{tp.partition}]" for tp in sorted(partitions)]
        self._log.info("partitions " + event, partitions=named)
