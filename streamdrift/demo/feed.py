"""Sends the traffic at a pace, and never further ahead than its readers can stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from threading import Event, Thread
from typing import Final

from streamdrift.errors import FatalError
from streamdrift.generator import LABELS_TOPIC, PREDICTIONS_TOPIC, Message, Traffic
from streamdrift.generator.pace import to_us
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.sender import Sender
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM

MAX_AHEAD: Final = 10_000
"""Predictions that may be sent and not be in a closed tick: 2.2 MiB in each partition of the embedded broker,
which keeps 5; what lies between the stages is bounded along with it."""
STALL_LIMIT: Final = 60.0
"""Seconds without any progress of the readers after which something must be broken."""
ASKED_LIMIT: Final = 20.0
"""Seconds that a version waits for somebody to ask for it."""
_LOOK_EVERY: Final = 50
"""Predictions between two looks at the clock: enough for a pace that looks even."""
_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and how fast."""

    traffic: Traffic
    until: datetime
    seconds: float
    """Wall-clock time for all of it; readers that are slower make it longer."""

    @property
    def predictions(self) -> int:
        """How many there will be."""
        return int(self.traffic.pace.position(to_us(self.until)))


@dataclass(slots=True)
class FeedProgress:
    """How far the feed is. Written by its thread, read by others."""

    predictions: int = 0
    labels: int = 0
    event_time_us: int | None = None


@dataclass(slots=True)
class Feed:
    """A thread that sends a plan's traffic to a cluster.

    ``read`` says how many predictions its readers are through with; None if nobody knows. ``partitions``: of the
    topics, each of which gets a marker at the end; none are sent without it. ``asked``: whether somebody asked for the
    version that the traffic rolls out, for which the feed waits a while.
    """

    cluster: Cluster
    plan: Plan
    read: Callable[[], int] | None = None
    partitions: Mapping[str, int] = field(default_factory=dict)
    asked: Callable[[], bool] | None = None
    progress: FeedProgress = field(default_factory=FeedProgress)
    error: BaseException | None = None
    """What ended it early."""
    _stop: Event = field(default_factory=Event)
    _thread: Thread | None = None
    _known_read: int = 0

    def start(self) -> None:
        self._thread = Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, early if it has not ended yet."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        try:
            with Sender(self.cluster) as sender:
                self._send_all(sender)
        except BaseException as error:  # noqa: BLE001 — the main thread decides what it means
            self.error = error

    def _send_all(self, sender: Sender) -> None:
        began, total = time.monotonic(), self.plan.predictions
        for topic, message in self._messages():
            if topic == PREDICTIONS_TOPIC:
                if self._rolls_out(message.time_us):
                    sender.flush()
                    began += self._wait_until_asked()
                if self.progress.predictions % _LOOK_EVERY == 0:
                    self._wait(began + self.plan.seconds * self.progress.predictions / total)
                self.progress.predictions += 1
                self.progress.event_time_us = message.time_us
            else:
                self.progress.labels += 1
            if self._stop.is_set():
                return
            sender.send(topic, message.key, message.value, message.time_us)
        self._mark_end(sender)
        sender.flush()

    def _messages(self) -> Iterator[tuple[str, Message]]:
        """Predictions and labels with their topics, in the order of time."""
        for chunk in self.plan.traffic.chunks(until=self.plan.until):
            predictions = ((PREDICTIONS_TOPIC, message) for message in chunk.predictions)
            labels = ((LABELS_TOPIC, message) for message in chunk.labels)
            yield from merge(predictions, labels, key=lambda pair: pair[1].time_us)

    def _mark_end(self, sender: Sender) -> None:
        headers = [(CONTROL_HEADER, END_OF_STREAM)]
        for topic, partitions in self.partitions.items():
            for partition in range(partitions):
                sender.send(topic, None, None, to_us(self.plan.until), partition=partition, headers=headers)

    def _rolls_out(self, time_us: int) -> bool:
        """Whether this is the first prediction of the version of the rollout."""
        rollout = self.plan.traffic.rollout
        return rollout is not None and (self.progress.event_time_us or 0) < to_us(rollout.at) <= time_us

    def _wait_until_asked(self) -> float:
        """Wait for a request to train; for how long, in seconds. Without one the version comes all the same."""
        began = time.monotonic()
        while self.asked is not None and not self.asked() and time.monotonic() - began < ASKED_LIMIT:
            if self._stop.wait(_PAUSE):
                break
        return time.monotonic() - began

    def _wait(self, due: float) -> None:
        """Wait for the clock, then for the readers. Raises ``FatalError`` if these stand still."""
        self._stop.wait(max(due - time.monotonic(), 0.0))
        if self.read is None:
            return
        moved = time.monotonic()
        while self.progress.predictions - self._known_read > MAX_AHEAD and not self._stop.is_set():
            known, self._known_read = self._known_read, self.read()
            if self._known_read > known:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_LIMIT:
                raise FatalError(f"nothing was read for {STALL_LIMIT:g} s: {self._known_read} events are through")
            else:
                self._stop.wait(_PAUSE)
