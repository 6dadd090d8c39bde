"""Sending events to input topics: what an application does that streamdrift watches."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message

from streamdrift.errors import DeliveryError
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.records import Headers

FLUSH_LIMIT = 60.0
"""Seconds for what is still on its way."""


class Sender:
    """Sends without waiting for each record. To be used from one thread, within ``with``."""

    def __init__(self, cluster: Cluster) -> None:
        self._producer = client.producer(cluster, ClientErrors(cluster.repeats))
        self._failure: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:  # whoever gives up has no use for what is still on its way
            self._producer.purge()
        self._producer.close()

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        time_us: int,
        *,
        partition: int = -1,
        headers: Headers = (),
    ) -> None:
        """Hand over a record, its Kafka time in microseconds since the epoch; waits for room in the queue.

        Raises ``DeliveryError`` if an earlier one was not written.
        """
        listed: list[tuple[str, str | bytes | None]] = list(headers)
        while True:
            self._raise_failure()
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=self._delivered, timestamp=time_us // 1000, headers=listed
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as refused:
                raise DeliveryError(f"{topic}: {refused.args[0].str()}") from refused
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Wait until all of it is written. Raises ``DeliveryError`` if something is not."""
        left = self._producer.flush(FLUSH_LIMIT)
        self._raise_failure()
        if left:
            raise DeliveryError(f"{left} records were not written within {FLUSH_LIMIT:g} s")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = f"a record was not written to {message.topic()}: {error.str()} ({error.name()})"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DeliveryError(self._failure)
