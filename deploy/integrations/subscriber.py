#!/usr/bin/env python3
"""Run a command for each retraining request: a subscriber in one file, to use or to begin with.

    subscriber.py --bootstrap kafka:9092 --done /var/lib/training -- ./train.sh

The command is given the request as JSON on its standard input. What was trained is remembered by the request's id as a
file in ``--done``, once the command has succeeded: a request that comes twice is trained once, and one whose command
failed is tried again at the next start. Requests that require approval wait until ``approved-<id>`` is in that folder.
All that is open at the start is found: the topic is read from its beginning, and an end takes back its request.

Needs confluent-kafka.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

Request = Mapping[str, Any]
Train = Callable[[Request], bool]
"""Trains, and says whether that succeeded."""


class Trainings:
    """The open requests, and which of them are done."""

    def __init__(self, train: Train, done: Path) -> None:
        self._train = train
        self._done = done
        self._open: dict[str, Request] = {}
        self._failed: set[str] = set()

    def take(self, message: Request) -> None:
        """A message of the topic: a request, or how one ended."""
        if message["phase"] == "requested":
            self._open[message["request_id"]] = message
        else:
            self._open.pop(message["request_id"], None)

    def act(self) -> None:
        """Train for every open request that may be trained for, oldest first, and remember it."""
        for request_id, request in sorted(self._open.items(), key=lambda item: item[1]["event_time"]):
            if self._waits(request_id, request):
                continue
            if self._train(request):
                (self._done / f"done-{request_id}").touch()
            else:
                self._failed.add(request_id)

    def _waits(self, request_id: str, request: Request) -> bool:
        """Whether it was trained for, failed, is too early, or lacks an approval."""
        if request_id in self._failed or (self._done / f"done-{request_id}").exists():
            return True
        if datetime.fromisoformat(request["not_before"]) > datetime.now(UTC):
            return True
        return request["requires_approval"] and not (self._done / f"approved-{request_id}").exists()


def messages(consumer: Consumer, topic: str, *, once: bool) -> Iterator[Request | None]:
    """The topic from its beginning; None whenever its end is reached. ``once`` ends there."""
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    ahead = set(partitions)
    while True:
        message = consumer.poll(1.0)
        error = None if message is None else message.error()
        if message is None or (error is not None and error.code() == KafkaError._PARTITION_EOF):  # noqa: SLF001 — its name
            if message is not None:
                ahead.discard(message.partition())
            if not ahead:
                yield None
                if once:
                    return
        elif error is not None:
            raise KafkaException(error)
        elif message.value() is not None:
            yield json.loads(message.value())


def by_command(command: list[str]) -> Train:
    """Training is to run ``command`` with the request on its standard input."""

    def train(request: Request) -> bool:
        ended = subprocess.run(command, input=json.dumps(request).encode(), check=False)  # noqa: S603 — the user's own
        if ended.returncode:
            sys.stderr.write(f"{request['request_id']}: {command[0]} ended with {ended.returncode}\n")
        return ended.returncode == 0

    return train


def main() -> None:
    """Read, and act whenever nothing more is there to be read."""
    parser = argparse.ArgumentParser(description="Run a command for each retraining request.")
    parser.add_argument("--bootstrap", required=True, help="host:port of a broker")
    parser.add_argument("--topic", default="retraining-requests")
    parser.add_argument("--client", action="append", default=[], metavar="NAME=VALUE", help="a librdkafka property")
    parser.add_argument("--done", required=True, type=Path, help="folder that remembers what was trained")
    parser.add_argument("--once", action="store_true", help="end when all that is there has been acted on")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    options.done.mkdir(parents=True, exist_ok=True)
    trainings = Trainings(by_command(options.command), options.done)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": "training",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            **dict(name.split("=", 1) for name in options.client),
        }
    )
    try:
        for message in messages(consumer, options.topic, once=options.once):
            if message is None:
                trainings.act()
            else:
                trainings.take(message)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
