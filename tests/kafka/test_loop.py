"""What a stage may rely on, on every broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from uuid import uuid4

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from streamdrift.errors import DeliveryError, FatalError
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.commit import AtLeastOnce, produce
from streamdrift.kafka.compacted import read_compacted
from streamdrift.kafka.loop import Pace, StageLoop
from streamdrift.kafka.offsets import Side, list_offsets
from streamdrift.records import Commit, OutputRecord, Position, TopicPartition
from streamdrift.stages.stage import Start, StartAt, StartFrom
from tests.kafka.recorder import PATIENCE, Recorder, Running, running
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.support.waiting import wait_until

PARTITIONS = 4
QUICK = Pace(poll_timeout=0.02, refresh_interval=0.1, topology_interval=0.2)


QUIET = {"log_level": 0}


class Place:
    """Topics and a group of one test, and what the test does with them."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.cluster = broker.cluster
        self.group = f"group-{uuid4().hex[:8]}"
        self.topic = self.new_topic()
        # An idempotent producer needs half a second before its first record, which no test is about; one request at
        # a time keeps the order too.
        self._writer = confluent_kafka.Producer(
            {"bootstrap.servers": self.cluster.bootstrap_servers, "max.in.flight": 1, **QUIET}
        )

    def new_topic(self, partitions: int = PARTITIONS, **config: str) -> str:
        name = f"topic-{uuid4().hex[:8]}"
        self.broker.create_topic(name, partitions, config)
        return name

    @contextmanager
    def running(
        self, stage: Recorder, start_from: Start | Callable[[str], Start] = StartFrom.EARLIEST, pace: Pace = QUICK
    ) -> Iterator[Running]:
        """Run a loop for ``stage`` as a member of the test's group."""
        with AtLeastOnce(self.cluster) as committer:
            loop = StageLoop(
                stage, self.cluster, group_id=self.group, start_from=start_from, committer=committer, pace=pace
            )
            with running(loop, stage) as thread:
                yield thread

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.cluster.bootstrap_servers, **QUIET})

    def partition(self, number: int) -> TopicPartition:
        return TopicPartition(self.topic, number)

    def write(self, values: Sequence[str], partition: int = 0, topic: str | None = None) -> None:
        self.publish([OutputRecord(topic or self.topic, b"k", value.encode(), (), partition) for value in values])

    def publish(self, records: Sequence[OutputRecord]) -> None:
        produce(self._writer, records)

    def committed(self, partitions: int = PARTITIONS) -> dict[int, Position]:
        """What the group has committed in the test's topic, by partition."""
        asking = client.group_consumer(self.cluster, self.group, ClientErrors())
        wanted = [confluent_kafka.TopicPartition(self.topic, number) for number in range(partitions)]
        answers = client.insist(lambda: asking.committed(wanted, timeout=5), 10)
        asking.close()
        return {tp.partition: Position(tp.offset, tp.metadata or "") for tp in answers if tp.offset >= 0}

    def commit(self, positions: dict[int, Position]) -> None:
        """Commit for the group while it has no members."""
        asking = client.group_consumer(self.cluster, self.group, ClientErrors())
        offsets = {self.partition(number): position for number, position in positions.items()}
        with AtLeastOnce(self.cluster) as committer:
            committer.carry_out(Commit((), offsets), asking)
        asking.close()


@pytest.fixture
def place(broker: Broker) -> Place:
    return Place(broker)


@pytest.fixture
def apache_place(apache_kafka: ApacheKafka) -> Place:
    return Place(apache_kafka)


def numbered(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def as_bytes(values: Sequence[str]) -> list[bytes | None]:
    return [value.encode() for value in values]


def test_records_arrive_once_and_in_the_order_of_their_partition(place: Place) -> None:
    for number in range(PARTITIONS):
        place.write(numbered(300, 1000 * number), number)
    stage = Recorder(place.topic)
    with place.running(stage, pace=replace(QUICK, batch_size=70)):
        stage.wait_until(lambda: len(stage.all_values) >= 300 * PARTITIONS)
        stage.wait_until(lambda: all(stage.ends[place.partition(number)] for number in range(PARTITIONS)))
    for number in range(PARTITIONS):
        assert stage.values[place.partition(number)] == as_bytes(numbered(300, 1000 * number))


def test_a_record_keeps_its_key_value_headers_timestamp_and_offset(place: Place) -> None:
    headers = (("trace", b"\x00\xff"), ("empty", None))
    place.publish([OutputRecord(place.topic, b"key", None, headers, 2), OutputRecord(place.topic, None, b"", (), 2)])
    stage = Recorder(place.topic)
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 2)
    first, second = (record for batch in stage.batches for record in batch)
    assert (first.offset, first.key, first.value, tuple(first.headers)) == (0, b"key", None, headers)
    assert (second.offset, second.key, second.value, tuple(second.headers)) == (1, None, b"", ())
    assert first.timestamp > 1_500_000_000_000


def test_a_restarted_loop_goes_on_where_it_was_with_its_metadata(place: Place) -> None:
    place.write(numbered(10))
    before = Recorder(place.topic)
    with place.running(before):
        before.wait_until(lambda: len(before.all_values) == 10)
    place.write(numbered(5, 10))
    after = Recorder(place.topic)
    with place.running(after):
        after.wait_until(lambda: len(after.all_values) >= 5)
    assert after.all_values == as_bytes(numbered(5, 10))
    starts = {told.tp.partition: told.start for told in after.told}
    assert starts[0] == Position(10, "10")
    assert starts[1] == Position(0, "")
    assert {told.start.committed for told in before.told} == {False}
    assert {told.start.committed for told in after.told} == {True}


def test_a_clean_stop_commits_what_was_held_back(place: Place) -> None:
    place.write(numbered(7), 3)
    stage = Recorder(place.topic)
    stage.hold = True
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 7)
        assert place.committed() == {}
    assert place.committed()[3] == Position(7, "7")
    assert stage.owned == {}


def test_state_is_restored_completely_before_the_first_record(place: Place) -> None:
    state = place.new_topic()
    records = [OutputRecord(state, b"k%d" % (n % 100), b"%d" % n, (), n % PARTITIONS) for n in range(2000)]
    place.publish([*records, OutputRecord(state, b"k0", None, (), 0)])
    place.write(["x"])
    stage = Recorder(place.topic, state_topic=state)
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 1)
    states = {told.tp.partition: told.state for told in stage.told}
    latest = {p: {b"k%d" % (n % 100): b"%d" % n for n in range(p, 2000, PARTITIONS)} for p in range(PARTITIONS)}
    del latest[0][b"k0"]
    assert states == latest
    assert stage.calls.index("process") > max(n for n, call in enumerate(stage.calls) if call == "assigned")


def test_a_new_group_starts_at_the_end_when_it_is_to_start_from_latest(place: Place) -> None:
    place.write(numbered(5))
    stage = Recorder(place.topic)
    with place.running(stage, StartFrom.LATEST):
        stage.wait_until(lambda: stage.ends[place.partition(0)] > 0)
        place.write(numbered(2, 5))
        stage.wait_until(lambda: len(stage.all_values) == 2)
    assert stage.all_values == as_bytes(numbered(2, 5))
    assert place.committed() == {0: Position(7, "2"), 1: Position(0), 2: Position(0), 3: Position(0)}


def test_a_new_group_starts_at_a_time_or_at_the_end_of_what_is_older(apache_place: Place) -> None:
    place = apache_place
    place.write(numbered(3), 0)
    place.write(numbered(2), 1)
    stage = Recorder(place.topic)
    with place.running(stage, StartAt(0)):
        stage.wait_until(lambda: len(stage.all_values) == 5)
    later = Recorder(place.topic)
    place.group += "-later"
    with place.running(later, lambda _: StartAt(int(time.time() * 1e3) + 3_600_000)):
        later.wait_until(lambda: later.ends[place.partition(0)] > 0)
        assert {told.tp.partition: told.start.offset for told in later.told} == {0: 3, 1: 2, 2: 0, 3: 0}


def test_a_partition_that_is_new_to_a_known_topic_is_read_from_its_beginning(place: Place) -> None:
    place.write(numbered(5), 0)
    place.write(numbered(5), 1)
    place.commit({0: Position(3)})
    stage = Recorder(place.topic)
    with place.running(stage, StartFrom.LATEST):
        stage.wait_until(lambda: len(stage.all_values) >= 7)
    starts = {told.tp.partition: told.start.offset for told in stage.told}
    assert starts == {0: 3, 1: 0, 2: 0, 3: 0}


def test_loops_that_start_together_agree_on_the_start(place: Place) -> None:
    """The commits of the quicker one must not make the slower one read from the beginning."""
    for number in range(PARTITIONS):
        place.write(numbered(5), number)
    one, two = Recorder(place.topic), Recorder(place.topic)
    with place.running(one, StartFrom.LATEST), place.running(two, StartFrom.LATEST):
        one.wait_until(lambda: len(one.owned) == PARTITIONS // 2)
        two.wait_until(lambda: len(two.owned) == PARTITIONS // 2)
    assert all(told.start.offset == 5 for stage in (one, two) for told in stage.told)


def test_a_partition_begins_with_a_commit_before_its_first_records(place: Place) -> None:
    place.write(numbered(5))
    stage = Recorder(place.topic)
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 5)
    calls = stage.calls
    assert calls.count("begin") == 1
    assert calls[calls.index("begin") + 1] == "take"
    assert calls.index("begin") < calls.index("process")


def test_a_careful_stage_is_given_one_record_at_a_time_and_each_is_committed(place: Place) -> None:
    place.write(numbered(5))
    stage = Recorder(place.topic)
    stage.slowly = True
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 5)
    assert [len(batch) for batch in stage.batches] == [1] * 5
    processed = [n for n, call in enumerate(stage.calls) if call == "process"]
    assert all(stage.calls[n + 1] == "take" for n in processed)


def test_the_end_of_a_partition_is_told_again_and_again(place: Place) -> None:
    place.write(["x"], 1)
    stage = Recorder(place.topic)
    with place.running(stage):
        stage.wait_until(lambda: all(stage.ends[place.partition(number)] >= 3 for number in range(PARTITIONS)))
        place.write(["y"], 1)
        stage.wait_until(lambda: len(stage.all_values) == 2)
        before = stage.ends[place.partition(1)]
        stage.wait_until(lambda: stage.ends[place.partition(1)] >= before + 3)


def test_a_paused_partition_is_not_read_until_it_is_resumed(place: Place) -> None:
    stage = Recorder(place.topic)
    paused = place.partition(1)
    with place.running(stage) as thread:
        stage.wait_until(lambda: all(stage.ends[place.partition(number)] for number in range(PARTITIONS)))
        stage.pausing = {paused}
        stage.wait_until(lambda: thread.loop.status.partitions[paused].paused)
        place.write(numbered(10), 1)
        place.write(numbered(10), 0)
        stage.wait_until(lambda: len(stage.values[place.partition(0)]) == 10)
        ended = stage.ends[place.partition(0)]
        stage.wait_until(lambda: stage.ends[place.partition(0)] > ended + 3)
        assert stage.values[paused] == []
        stage.pausing = set()
        stage.wait_until(lambda: len(stage.values[paused]) == 10)
        ended = stage.ends[paused]
        stage.wait_until(lambda: stage.ends[paused] > ended + 1)


def test_a_partition_that_was_paused_when_it_was_handed_over_is_read_when_it_comes_back(place: Place) -> None:
    one, two = Recorder(place.topic), Recorder(place.topic)
    with place.running(one):
        one.wait_until(lambda: len(one.owned) == PARTITIONS)
        one.pausing = {place.partition(number) for number in range(PARTITIONS)}
        with place.running(two):
            two.wait_until(lambda: len(two.owned) == PARTITIONS // 2)
            one.wait_until(lambda: len(one.owned) == PARTITIONS // 2)
            one.pausing = set()
        one.wait_until(lambda: len(one.owned) == PARTITIONS)
        for number in range(PARTITIONS):
            place.write(["x"], number)
        one.wait_until(lambda: len(one.all_values) == PARTITIONS)


def test_what_a_partition_held_back_is_committed_before_another_member_takes_it(place: Place) -> None:
    for number in range(PARTITIONS):
        place.write(numbered(10), number)
    one, two = Recorder(place.topic), Recorder(place.topic)
    one.hold = True
    with place.running(one) as first:
        one.wait_until(lambda: len(one.all_values) == 10 * PARTITIONS)
        with place.running(two):
            two.wait_until(lambda: len(two.owned) == PARTITIONS // 2)
            assert {told.start for told in two.told} == {Position(10, "10")}
            first.stop()
            two.wait_until(lambda: len(two.owned) == PARTITIONS)
            for number in range(PARTITIONS):
                place.write(numbered(1, 10), number)
            two.wait_until(lambda: len(two.all_values) >= PARTITIONS)
    assert {told.start for told in two.told} == {Position(10, "10")}
    assert two.all_values == [b"10"] * PARTITIONS
    assert one.calls.index("take final") < one.calls.index("revoked")


def test_outputs_are_written_before_the_offsets_are_committed(place: Place) -> None:
    out = place.new_topic()
    place.publish([OutputRecord(place.topic, b"k%d" % n, b"%d" % n, (), 0) for n in range(50)])
    stage = Recorder(place.topic, echo=out)
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 50)
    assert place.committed()[0] == Position(50, "50")
    assert read_compacted(place.cluster, out) == {b"k%d" % n: b"%d" % n for n in range(50)}


def test_an_output_that_cannot_be_written_ends_the_loop_and_nothing_is_committed(place: Place) -> None:
    place.write(["x", "y" * 100_000])
    place.cluster = Cluster(
        place.cluster.bootstrap_servers,
        {**place.cluster.client, "message.max.bytes": 50_000},
        place.cluster.group_protocol,
        embedded=place.cluster.embedded,
    )
    stage = Recorder(place.topic, echo=place.new_topic())
    with pytest.raises(DeliveryError, match="MSG_SIZE_TOO_LARGE"), place.running(stage) as thread:
        thread.join()
    assert 0 not in place.committed() or place.committed()[0].offset == 0


def test_an_error_of_the_stage_ends_the_loop_and_nothing_is_committed(place: Place) -> None:
    place.write(["x"])
    stage = Recorder(place.topic)
    stage.hold = True

    def fail(call: str) -> None:
        if call == "process":
            raise ZeroDivisionError

    stage.fails = fail
    with pytest.raises(ZeroDivisionError), place.running(stage) as thread:
        thread.join()
    assert place.committed() == {}


def test_an_error_while_taking_over_ends_the_loop(place: Place) -> None:
    stage = Recorder(place.topic)

    def fail(call: str) -> None:
        if call == "assigned":
            raise ZeroDivisionError

    stage.fails = fail
    with pytest.raises(ZeroDivisionError), place.running(stage) as thread:
        thread.join()
    assert "process" not in stage.calls
    assert place.committed() == {}


def test_the_partition_counts_of_the_inputs_are_told_before_anything_else(place: Place) -> None:
    other = place.new_topic()
    stage = Recorder(place.topic, other)
    with place.running(stage):
        stage.wait_until(lambda: len(stage.owned) == 2 * PARTITIONS)
    assert stage.counts == {place.topic: PARTITIONS, other: PARTITIONS}
    assert stage.calls[0] == "topology"
    assert stage.calls.count("topology") == 1


def test_a_loop_tells_how_far_it_is_and_that_it_is_ready(place: Place) -> None:
    place.write(numbered(3), 2)
    stage = Recorder(place.topic)
    with place.running(stage) as thread:
        loop = thread.loop
        stage.wait_until(lambda: stage.ends[place.partition(2)] > 2)
        assert loop.assigned
        assert loop.restored
        assert loop.last_poll > 0
        status = loop.status.partitions[place.partition(2)]
        assert (status.position, status.end, status.lag, status.paused) == (3, 3, 0, False)
        assert loop.status.rebalances["assigned"] >= 1
    assert not loop.assigned


def test_a_stage_that_commits_for_another_member_is_stopped(place: Place) -> None:
    stage = Recorder(place.topic)

    def intrude(call: str) -> None:
        if call == "take":
            stage.owned[TopicPartition(place.topic, 99)] = Position(1)

    stage.fails = intrude
    with pytest.raises(FatalError, match="does not own"), place.running(stage) as thread:
        thread.join()


def test_a_position_that_retention_removed_stops_the_loop(apache_place: Place) -> None:
    place = apache_place
    place.write(numbered(10))
    place.commit({0: Position(3)})
    admin = place.admin()
    for future in admin.delete_records([confluent_kafka.TopicPartition(place.topic, 0, 6)]).values():
        future.result()
    stage = Recorder(place.topic)
    with pytest.raises(FatalError, match="does not exist"), place.running(stage) as thread:
        thread.join()
    assert stage.all_values == []
    assert place.committed()[0] == Position(3)


def test_records_that_nobody_needs_any_more_are_deleted(apache_place: Place) -> None:
    place, stage = apache_place, Recorder(apache_place.topic)
    place.write(["a", "b", "c"])
    with place.running(stage):
        stage.wait_until(lambda: len(stage.all_values) == 3)
        stage.needless = {place.partition(0): 2}
        admin = place.admin()
        wait_until(
            lambda: list_offsets(admin, [place.partition(0)], Side.START, PATIENCE)[place.partition(0)] == 2,
            PATIENCE,
            "the first two records should be gone",
        )
    assert place.committed()[0].offset == 3


def test_an_added_partition_is_told_and_read_from_its_beginning(apache_place: Place) -> None:
    place = apache_place
    place.cluster = replace(place.cluster, client={**place.cluster.client, "topic.metadata.refresh.interval.ms": 200})
    stage = Recorder(place.topic)
    with place.running(stage, StartFrom.LATEST):
        stage.wait_until(lambda: len(stage.owned) == PARTITIONS)
        admin = place.admin()
        admin.create_partitions([NewPartitions(place.topic, PARTITIONS + 1)])[place.topic].result()
        place.write(["early"], PARTITIONS)
        stage.wait_until(lambda: stage.all_values == [b"early"])
    assert stage.counts == {place.topic: PARTITIONS + 1}


def test_the_end_is_seen_behind_the_marker_of_an_aborted_transaction(apache_place: Place) -> None:
    place = apache_place
    stage = Recorder(place.topic)
    tp = place.partition(0)
    with place.running(stage):
        stage.wait_until(lambda: stage.ends[tp] >= 1)
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": place.cluster.bootstrap_servers, "transactional.id": place.group, **QUIET}
        )
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(place.topic, b"never seen", partition=0)
        producer.flush()
        stage.wait_until(lambda: stage.ends[place.partition(1)] >= stage.ends[tp] + 3)
        producer.abort_transaction()
        ended = stage.ends[tp]
        stage.wait_until(lambda: stage.ends[tp] >= ended + 3)
        producer.close()
    assert stage.all_values == []


def test_a_member_that_was_away_for_too_long_commits_nothing_over_its_successor(apache_place: Place) -> None:
    place = apache_place
    # The second is also how long a rebalance waits for its members: much less, and they never find together.
    impatient = {**place.cluster.client, "session.timeout.ms": 600, "max.poll.interval.ms": 2000}
    place.cluster = replace(place.cluster, client=impatient)
    one, two = Recorder(place.topic), Recorder(place.topic)
    away = Event()

    def stay_away(call: str) -> None:
        if call == "process":
            away.wait(PATIENCE)

    one.fails = stay_away
    with place.running(one) as first:
        one.wait_until(lambda: len(one.owned) == PARTITIONS)
        place.write(numbered(10))
        one.wait_until(lambda: "process" in one.calls)
        with place.running(two):
            two.wait_until(lambda: len(two.owned) == PARTITIONS)
            two.wait_until(lambda: len(two.all_values) == 10)
            place.write(numbered(5, 10))
            two.wait_until(lambda: len(two.all_values) == 15)
            two.wait_until(lambda: two.calls[-1] == "take")
            away.set()
            one.wait_until(lambda: first.loop.status.rebalances.get("lost", 0) == 1)
            assert place.committed()[0] == Position(15, "15")
            # Both go on together.
            one.wait_until(lambda: len(one.owned) == PARTITIONS // 2)
    assert place.committed()[0].offset == 15


def test_records_of_an_earlier_ownership_within_the_same_poll_are_read_anew(place: Place) -> None:
    """Revoked and handed over again before the poll returned: its records may stand beyond the new start."""
    place.write(numbered(50))
    stage = Recorder(place.topic)

    class Rebalancing:
        """The consumer, but for the first poll that brings records."""

        def __init__(self, consumer: confluent_kafka.Consumer, loop: StageLoop) -> None:
            self._consumer, self._loop = consumer, loop
            self._done = False

        def consume(self, count: int, timeout: float) -> list[confluent_kafka.Message]:
            messages = self._consumer.consume(count, timeout)
            if not self._done and any(message.error() is None for message in messages):
                self._done = True
                self._loop._again_in_poll = {place.partition(0)}
            return messages

        def __getattr__(self, name: str) -> object:
            return getattr(self._consumer, name)

    with AtLeastOnce(place.cluster) as committer:
        loop = StageLoop(
            stage, place.cluster, group_id=place.group, start_from=StartFrom.EARLIEST, committer=committer, pace=QUICK
        )
        loop._consumer = Rebalancing(loop._consumer, loop)  # type: ignore[assignment]
        with running(loop, stage):
            stage.wait_until(lambda: len(stage.all_values) >= 50)
            stage.wait_until(lambda: stage.ends[place.partition(0)] > 0)
    assert stage.all_values == as_bytes(numbered(50))
    assert stage.told[0].start.offset == 0
