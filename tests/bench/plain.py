"""The plain sides: loops of a few lines, as one writes them without streamdrift. They import nothing of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, Message

from tests.bench.jobs import PATIENCE, Job, Outcome, feature_types

BATCH: Final = 4096
"""Messages a poll."""


def floor(job: Job) -> Outcome:
    """Fetch, and decode with the schema known; nothing else."""
    optional = {float: float | None, str: str | None, bool: bool | None}
    features = [(name, optional[kind], None) for name, kind in feature_types(job.features).items()]
    event = msgspec.defstruct(
        "Event",
        [
            ("prediction_id", str),
            ("model_id", str),
            ("model_version", str),
            ("timestamp", str),
            ("features", msgspec.defstruct("Features", features, gc=False)),
            ("prediction", msgspec.defstruct("Prediction", [("label", str), ("score", float)], gc=False)),
        ],
        gc=False,
    )
    return _read(job, msgspec.json.Decoder(event).decode)


def river(job: Job) -> Outcome:
    """One ADWIN a feature and one for the score; categories go in by number, nulls do not."""
    import orjson
    from river import drift

    adwin: Any = drift.ADWIN  # River's own types are not complete
    types = feature_types(job.features)
    detectors: dict[str, Any] = {name: adwin() for name in types}
    of_score = adwin()
    codes: dict[str, dict[object, int]] = {name: {} for name, kind in types.items() if kind is str}
    drifts: list[str] = []

    def take(value: bytes) -> None:
        event = orjson.loads(value)
        for name, x in event["features"].items():
            if x is not None:
                detector = detectors[name]
                if name in codes:
                    known = codes[name]
                    x = known.setdefault(x, len(known))  # noqa: PLW2901 — as one writes it
                detector.update(x)
                if detector.drift_detected:
                    drifts.append(name)
        of_score.update(event["prediction"]["score"])
        if of_score.drift_detected:
            drifts.append("score")

    return _read(job, take)


def _read(job: Job, take: Callable[[bytes], object]) -> Outcome:
    """Hand every message to ``take``; measured from the assignment of partitions on."""
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap_servers,
            "group.id": f"{job.run}-plain",
            "group.protocol": "consumer" if job.embedded else "classic",
            "auto.offset.reset": "earliest",
        }
    )
    begun: list[float] = []
    consumer.subscribe([job.topic], on_assign=lambda *_: begun.append(time.process_time()))
    seen, deadline = 0, time.monotonic() + PATIENCE
    while seen < job.messages and time.monotonic() < deadline:
        messages: list[Message] = consumer.consume(BATCH, 0.1)
        for message in messages:
            value = message.value()
            if message.error() is None and value is not None:
                take(value)
                seen += 1
        if messages:
            deadline = time.monotonic() + PATIENCE
    cpu_seconds = time.process_time() - begun[0] if begun else 0.0
    consumer.close()
    return Outcome(cpu_seconds, seen, seen, seen)
