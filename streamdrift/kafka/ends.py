"""Knowing that a reader stands at the end of a partition, and that this is still so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamdrift.kafka.offsets import OffsetFutures, Side, ask_offsets
from streamdrift.records import TopicPartition


@dataclass(frozen=True, slots=True)
class _Question:
    asked_at: float
    positions: Mapping[TopicPartition, int]
    answers: OffsetFutures


class EndCheck:
    """Asks the brokers, without waiting for them, whether readers that reached the end still stand there.

    The client tells once that the end was reached, and nothing more: an unreachable broker would look like
    a partition without traffic, and time would be moved past records that are on their way.
    """

    def __init__(self, admin: AdminClient, timeout: float) -> None:
        self._admin = admin
        self._timeout = timeout
        self._question: _Question | None = None

    def ask(self, positions: Mapping[TopicPartition, int], now: float) -> None:
        """Ask whether each position (offset that comes next) is the end at ``now``, unless a question is open."""
        if self._question is None and positions:
            answers = ask_offsets(self._admin, positions, Side.END, self._timeout)
            self._question = _Question(now, dict(positions), answers)

    def confirmed(self) -> tuple[float, Mapping[TopicPartition, int]]:
        """When was asked, and the positions that were the end then; empty while the answer is awaited."""
        question = self._question
        if question is None or not all(future.done() for future in question.answers.values()):
            return 0.0, {}
        self._question = None
        return question.asked_at, {
            tp: offset for tp, offset in question.positions.items() if _is_end(question.answers, tp, offset)
        }


def _is_end(answers: OffsetFutures, tp: TopicPartition, offset: int) -> bool:
    try:
        return answers[tp].result().offset <= offset
    except KafkaException:
        return False
