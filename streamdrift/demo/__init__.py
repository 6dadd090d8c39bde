"""``streamdrift demo``: a fraud model's traffic, drifting by script, and streamdrift watching it.

::

    Traffic ── feed ──► predictions ─┬─► Service ─┬─► drift-alerts ─────────┬─► verdict
                 ▲  └─► labels ──────┘            └─► retraining-requests ──┴─► view
                 └── the new version, once it was asked for ◄─┘

Everything goes through a broker: the embedded one, or with ``to`` a cluster, whose own streamdrift then watches.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Final

import msgspec
from rich.console import Console

from streamdrift import logs
from streamdrift.assembly import Service
from streamdrift.demo.feed import Feed, Plan
from streamdrift.demo.setup import write_configuration
from streamdrift.demo.verdict import AlertData, to_document, verdict
from streamdrift.demo.view import Display, LiveDisplay, Picture, PlainDisplay, report
from streamdrift.errors import FatalError
from streamdrift.generator import (
    LABELS_TOPIC,
    MODEL_ID,
    PREDICTIONS_TOPIC,
    ScriptedIncident,
    Traffic,
    fixed_rollout,
    fixed_script,
)
from streamdrift.generator.pace import latest_midnight, to_us
from streamdrift.generator.script import EVENTS_PER_HOUR, SPAN
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.embedded import EmbeddedBroker
from streamdrift.kafka.subscriber import Subscriber
from streamdrift.kafka.topics import TopicSpec, ensure_topics
from streamdrift.records import Record
from streamdrift.requests_topic import EVENT_TYPE as RETRAINING
from streamdrift.settings import Settings
from streamdrift.status import ModelStatus, Snapshot

WINDOW: Final = timedelta(minutes=95)
"""How far off a detector may be in saying when a change began: 1,000 events, of which at night 700 come an hour."""
DRAIN_LIMIT: Final = 60.0
"""Seconds for what is on its way when all is sent."""
DRAIN_RESERVE: Final = 4.0
"""Seconds of the span that are kept for it, and for the start."""
LEAST_SHARE_FOR_TRAFFIC: Final = 0.6
REDRAW_EVERY: Final = 0.25
MISSED: Final = 1
"""Exit code when something was missed, or found that was not there."""


Heed = Callable[[], None]
"""Raises ``KeyboardInterrupt`` if the demo was asked to end."""


@dataclass(slots=True)
class _Run:
    """What was seen so far; told at the end, whatever the end is."""

    script: tuple[ScriptedIncident, ...]
    alerts: list[AlertData] = field(default_factory=list)
    requests: list[AlertData] = field(default_factory=list)
    """What was told of retraining."""
    sent: int = 0


def run(
    *,
    seconds: float = 90.0,
    as_json: bool = False,
    seed: int = 1,
    incidents: bool = True,
    to: str | None = None,
    write_config: Path | None = None,
) -> int:
    """Run the demo and return the exit code: 0, or 1 if something was missed or unexpected.

    Ctrl-C ends it early, and then nothing counts as missed.

    Args:
        seconds: how long the script takes; it takes longer where the machine is slower.
        as_json: alerts as CloudEvents on stdout, a line each, and the verdict as the last line; all else on stderr.
        seed: another one, another traffic.
        incidents: whether anything drifts.
        to: send the traffic to this cluster, and nothing else.
        write_config: write configuration and baseline into this directory, and nothing else.

    Raises ``StreamdriftError``.
    """
    if write_config is not None:
        path = write_configuration(write_config, seed, bootstrap_servers=to or "localhost:9092")
        Console(stderr=True).print(f"streamdrift run --config {path}", markup=False, highlight=False, soft_wrap=True)
        return 0
    start = latest_midnight(datetime.now(UTC), SPAN)
    script = fixed_script(start) if incidents else ()
    rollout = fixed_rollout(start) if incidents else None
    traffic = Traffic(seed, start, EVENTS_PER_HOUR / 3600, script, rollout=rollout)
    seen = _Run(script)
    console = Console(stderr=as_json)
    display = LiveDisplay(console) if console.is_terminal and not as_json else PlainDisplay(console)
    # A line of the log would tear the live view; what is fatal is told at the end in either case.
    logs.set_up("critical" if isinstance(display, LiveDisplay) else "warning")
    try:
        with _interruptible() as heed:
            if to is not None:
                return _send(Plan(traffic, start + SPAN, seconds), Cluster(to), display, seen, heed)
            plan = Plan(traffic, start + SPAN, max(seconds - DRAIN_RESERVE, LEAST_SHARE_FOR_TRAFFIC * seconds))
            _watch(plan, display, seen, heed, as_json=as_json)
            display.close()
            return _judge(console, seen, as_json=as_json)
    except KeyboardInterrupt:
        display.close()
        return _stopped(console, seen)
    except BrokenPipeError:  # whoever read the lines has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        display.close()


@contextmanager
def _interruptible() -> Iterator[Heed]:
    """Let SIGTERM and SIGINT end the demo where it heeds them: what is yielded raises ``KeyboardInterrupt`` then.

    Raised by the handler, it would be lost if a Kafka client was just calling back. A second signal is raised at once.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 — the signature of a signal handler
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def heed() -> None:
        if asked:
            raise KeyboardInterrupt

    if current_thread() is not main_thread():
        yield heed
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield heed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge(console: Console, seen: _Run, *, as_json: bool) -> int:
    judged = verdict(seen.script, seen.alerts, WINDOW, seen.requests)
    report(console, judged, seen.script)
    if as_json:
        _write_line(to_document(judged, seen.script))
    return 0 if judged.passed else MISSED


def _stopped(console: Console, seen: _Run) -> int:
    started = sum(alert["phase"] == "started" for alert in seen.alerts)
    resolved = sum(alert["phase"] == "resolved" for alert in seen.alerts)
    unexpected = len(verdict(seen.script, seen.alerts, WINDOW).unexpected)
    told = f"{started} incidents started, {resolved} resolved, {unexpected} unexpected"
    console.print(f"Cut short: stopped after {seen.sent:,} events: {told}", highlight=False, soft_wrap=True)
    return MISSED if unexpected else 0


# ---- the embedded demo ---------------------------------------------------------------------------------------------


def _watch(plan: Plan, display: Display, seen: _Run, heed: Heed, *, as_json: bool) -> None:
    """Run broker, service and feed until all is judged."""
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        counts = ensure_topics(broker.cluster, [TopicSpec(PREDICTIONS_TOPIC), TopicSpec(LABELS_TOPIC)])
        settings = _settings(stack, broker, plan.traffic.seed)
        heed()
        service = Service(settings, cluster=broker.cluster)
        service.start()
        stack.callback(service.stop)
        alerts = stack.enter_context(Subscriber(broker.cluster, settings.topics.alerts))
        requests = stack.enter_context(Subscriber(broker.cluster, settings.topics.retraining_requests))
        display.opened([f"bootstrap {broker.bootstrap_servers}", f"page {service.url}"])
        feed = Feed(broker.cluster, plan, lambda: _judged(service.status()), counts, lambda: bool(seen.requests))
        stack.callback(feed.stop)
        feed.start()

        def take(records: Sequence[Record]) -> None:
            events = [cloud_event(record) for record in records if record.value is not None]
            # What comes from several partitions at once has no order of its own.
            for event in sorted(events, key=lambda event: str(event["time"])):
                _take_event(event, display, seen, as_json=as_json)

        def poll() -> None:
            heed()
            take([*alerts.poll(REDRAW_EVERY / 2), *requests.poll(0.0)])

        _follow(feed, service, display, seen, poll)
        service.stop()
        _raise_failure(feed, service)
        take([*alerts.rest(), *requests.rest()])


def _settings(stack: ExitStack, broker: EmbeddedBroker, seed: int) -> Settings:
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="streamdrift-demo-")))
    path = write_configuration(directory, seed, bootstrap_servers=broker.bootstrap_servers, host="127.0.0.1", port=0)
    # Not the environment: what is set there is meant for a service, and this is a play.
    return Settings.load(path, environment={})


def _follow(feed: Feed, service: Service, display: Display, seen: _Run, poll: Callable[[], None]) -> None:
    """Show what happens until all that was sent is judged.

    Raises ``FatalError`` if that takes longer than ``DRAIN_LIMIT`` after the last event, and what ended either side.
    """
    began, shown, sent_at = time.monotonic(), 0.0, None
    while True:
        poll()
        _raise_failure(feed, service)
        now, status = time.monotonic(), service.status()
        seen.sent = feed.progress.predictions
        if not feed.running:
            sent_at = sent_at or now
            if _judged(status) >= seen.sent and _labels_judged(status, to_us(feed.plan.until)):
                return
            if now - sent_at > DRAIN_LIMIT:
                left = seen.sent - _judged(status)
                raise FatalError(f"{left} events, or labels, were not judged {DRAIN_LIMIT:g} s after the last one")
        if now - shown >= REDRAW_EVERY:
            shown = now
            display.show(_picture(feed, now - began, status))


def _raise_failure(feed: Feed, service: Service) -> None:
    for failure in (service.failed, feed.error):
        if failure is not None:
            raise failure


def _picture(feed: Feed, elapsed: float, status: Snapshot) -> Picture:
    waiting = None if feed.running or feed.read is None else "waiting for the last alerts"
    progress = feed.progress
    outcomes = [each for each in status.outcomes if each.model_id == MODEL_ID and each.model_version]
    return Picture(
        elapsed,
        progress.predictions,
        feed.plan.predictions,
        progress.event_time_us,
        _models(status),
        sorted(outcomes, key=lambda each: int(each.model_version)),
        waiting,
    )


def _models(status: Snapshot) -> list[ModelStatus]:
    """The versions that have had events, the newest last."""
    models = [model for model in status.models if model.model_id == MODEL_ID and model.events]
    return sorted(models, key=lambda model: int(model.model_version))


def _judged(status: Snapshot) -> int:
    """Predictions that the service is through with: those in closed ticks, and those that it refused."""
    refused = sum(
        source.late + source.over_bound + sum(source.dead.values())
        for source in status.sources
        if source.topic == PREDICTIONS_TOPIC
    )
    return refused + sum(model.events for model in status.models)


def _labels_judged(status: Snapshot, until_us: int) -> bool:
    """Whether the last tick with labels is closed; some come in each."""
    return any((outcomes.last_label_us or 0) >= until_us for outcomes in status.outcomes)


# ---- alerts out ----------------------------------------------------------------------------------------------------


def _take_event(event: dict[str, Any], display: Display, seen: _Run, *, as_json: bool) -> None:
    of_retraining = str(event["type"]).startswith(RETRAINING)
    (seen.requests if of_retraining else seen.alerts).append(event["data"])
    if of_retraining:
        display.retraining(event["data"])
    else:
        display.alert(event["data"])
    if as_json:
        _write_line(event)


def cloud_event(record: Record) -> dict[str, Any]:
    """A CloudEvent of Kafka's binary mode in the JSON format: attributes and ``data`` in one object."""
    headers = {name: (value or b"").decode() for name, value in record.headers}
    attributes = {name.removeprefix("ce_"): value for name, value in headers.items() if name.startswith("ce_")}
    content_type = headers.get("content-type", "application/json")
    return {**attributes, "datacontenttype": content_type, "data": msgspec.json.decode(record.value or b"null")}


def _write_line(document: object) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


# ---- to a cluster --------------------------------------------------------------------------------------------------


def _send(plan: Plan, cluster: Cluster, display: Display, seen: _Run, heed: Heed) -> int:
    """Send the traffic to topics ``predictions`` and ``labels``, which are created where they are missing.

    Without markers of an end: whoever watches such a cluster expects more to come.
    """
    ensure_topics(cluster, [TopicSpec(PREDICTIONS_TOPIC), TopicSpec(LABELS_TOPIC)])
    display.opened([f"bootstrap {cluster.bootstrap_servers}"])
    feed = Feed(cluster, plan)
    began = time.monotonic()
    feed.start()
    try:
        while feed.running:
            heed()
            time.sleep(REDRAW_EVERY)
            seen.sent = feed.progress.predictions
            display.show(_picture(feed, time.monotonic() - began, Snapshot()))
    finally:
        feed.stop()
    if feed.error is not None:
        raise feed.error
    display.close()
    Console(stderr=True).print(f"{seen.sent:,} predictions, {feed.progress.labels:,} labels sent", highlight=False)
    return 0
