"""An hour of a month in which nothing changes, through Kafka and the whole service: it must report nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from numpy.random import default_rng

from streamdrift.grids import SCORE
from tests.bench.comparison import Runner
from tests.bench.events import START_US, Message
from tests.rates.population import MODEL, USUAL, baseline, columns

RATE: Final = 100
"""Events a second."""
SECONDS: Final = 3_600
_SEED: Final = 1
_CHUNK_S: Final = 60


@dataclass(frozen=True, slots=True)
class Hour:
    """What came of it."""

    events: int
    incidents: int
    cost: float
    """CPU microseconds an event."""


def measure(runner: Runner, tell: Callable[[str], None], seconds: int = SECONDS) -> Hour:
    """Run so much of the hour. Raises ``SideFailed``."""
    tell(f"one hour: writing {seconds * RATE:,} events in which nothing changes, and a baseline")
    topic, outcome = runner.alone(baseline(_SEED), _events(seconds))
    tell(f"one hour: {outcome.cost:.2f} µs an event, {outcome.incidents} incidents")
    return Hour(topic.events, outcome.incidents, outcome.cost)


def table_of(hour: Hour) -> Iterator[str]:
    """As lines of text."""
    yield f"{hour.events:,} events of an hour in which nothing changes, {RATE} a second of event time"
    yield f"  {'incidents':32}{hour.incidents:>24}   (0)"
    yield f"  {'CPU time of streamdrift':32}{f'{hour.cost:.2f} µs an event':>24}"


def result_of(hour: Hour) -> Mapping[str, Any]:
    """For the line of JSON."""
    per_second = round(1e6 / hour.cost)
    return {"hour": {"events": hour.events, "incidents": hour.incidents, "events_per_cpu_second": per_second}}


def _events(seconds: int) -> Iterator[Message]:
    rng = default_rng([_SEED, 3])
    model_id, version = MODEL
    for start in range(0, seconds, _CHUNK_S):
        n = min(_CHUNK_S, seconds - start) * RATE
        drawn = columns(USUAL, rng, n)
        scores = drawn.pop(SCORE)
        for i, (score, *values) in enumerate(zip(scores, *drawn.values(), strict=True)):
            time_us = START_US + (start * RATE + i) * 1_000_000 // RATE
            prediction_id = f"{rng.integers(1 << 62):x}"
            event = {
                "prediction_id": prediction_id,
                "model_id": model_id,
                "model_version": version,
                "timestamp": time_us // 1_000,
                "features": dict(zip(drawn, values, strict=True)),
                "prediction": {"score": score},
            }
            yield prediction_id, msgspec.json.encode(event), time_us
