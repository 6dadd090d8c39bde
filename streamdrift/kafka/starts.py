"""Where a partition that was handed over begins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from streamdrift.kafka import client
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.messages import Theirs, theirs
from streamdrift.kafka.offsets import Side, Since, list_offsets
from streamdrift.records import Position, TopicPartition
from streamdrift.stages.stage import Start, StartAt, StartFrom


class Starts:
    """Resolves start offsets: what is committed, else a choice between both ends of the partition.

    ``start_from`` is for a group that is new to a topic. A partition that joins a topic which the group
    knows is read from its first record, whatever ``start_from`` says: its records came after the start.
    """

    def __init__(
        self, cluster: Cluster, consumer: Consumer, admin: AdminClient, start_from: Callable[[str], Start]
    ) -> None:
        """``start_from`` tells it of a topic."""
        self._cluster = cluster
        self._consumer = consumer
        self._admin = admin
        self._start_from = start_from
        self._untouched: frozenset[TopicPartition] = frozenset()

    def survey(self, counts: Mapping[str, int]) -> None:
        """Remember, before the group is joined, which partitions belong to topics that it never read.

        Asked at hand-over instead, a first start of several replicas would go wrong: the commits of the
        quickest make the topic a known one before the others have resolved their start.
        """
        partitions = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        known = {tp.topic for tp in self._committed(partitions, lambda: None)}
        self._untouched = frozenset(tp for tp in partitions if tp.topic not in known)

    def resolve(
        self, partitions: Collection[TopicPartition], beat: Callable[[], None]
    ) -> dict[TopicPartition, Position]:
        """The first position to read in each partition; raises ``FatalError`` if no broker can tell."""
        starts = self._committed(partitions, beat)
        open_ones = [tp for tp in partitions if tp not in starts]
        by_start: dict[Start, list[TopicPartition]] = {}
        for tp in open_ones:
            start = self._start_from(tp.topic) if tp in self._untouched else StartFrom.EARLIEST
            by_start.setdefault(start, []).append(tp)
        for start, group in by_start.items():
            starts |= {tp: Position(offset) for tp, offset in self._offsets(group, start, beat).items()}
        return starts

    def _offsets(
        self, partitions: Collection[TopicPartition], start: Start, beat: Callable[[], None]
    ) -> dict[TopicPartition, int]:
        if not isinstance(start, StartAt):
            return self._ends(partitions, Side.START if start is StartFrom.EARLIEST else Side.END, beat)
        found = self._ends(partitions, Since(start.milliseconds), beat)
        known = {tp: offset for tp, offset in found.items() if offset >= 0}
        older = [tp for tp in found if tp not in known]
        return known | (self._ends(older, Side.END, beat) if older else {})

    def _ends(
        self, partitions: Collection[TopicPartition], which: Side | Since, beat: Callable[[], None]
    ) -> dict[TopicPartition, int]:
        return client.insist(lambda: self._list_ends(partitions, which), self._cluster.patience, beat)

    def _list_ends(self, partitions: Collection[TopicPartition], which: Side | Since) -> dict[TopicPartition, int]:
        timeout = self._cluster.request_timeout
        for topic in {tp.topic for tp in partitions}:
            # A client that asked about the topic before keeps the number of its partitions, and would look for the
            # leader of an added one in vain for as long as it remembers.
            self._admin.list_topics(topic, timeout=timeout)
        return list_offsets(self._admin, partitions, which, timeout)

    def _committed(
        self, partitions: Collection[TopicPartition], beat: Callable[[], None]
    ) -> dict[TopicPartition, Position]:
        """What the group committed, for those of ``partitions`` where it did."""
        if not partitions:
            return {}
        answers = client.insist(lambda: self._ask_committed(theirs(partitions)), self._cluster.patience, beat)
        return {
            TopicPartition(answer.topic, answer.partition): Position(
                answer.offset, answer.metadata or "", committed=True
            )
            for answer in answers
            if answer.offset >= 0
        }

    def _ask_committed(self, asked: Theirs) -> Theirs:
        answers = self._consumer.committed(asked, timeout=self._cluster.request_timeout)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return answers
