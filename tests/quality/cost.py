"""What watching costs: CPU time of a tick, and memory of a feature."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.quality.laws import NORMAL
from tests.quality.model import Asked, Counts, Model, baseline_of, expected
from tests.quality.nulls import TOGETHER

ROWS: Final = 10_000
PER_TICK: Final = 1_000
DRAWN: Final = 50
"""Different ticks, which come again and again."""
BEFORE: Final = 100
"""Ticks before the clock is started: calibration is over by then."""
REPEATS: Final = 10
"""Times that it is measured; the least counts, as in ``timeit``: what is more was taken by others."""


@dataclass(frozen=True)
class Cost:
    """Of one model of so many features."""

    features: int
    tick_ms: float
    """CPU time of a tick of ``PER_TICK`` events: the mean of the repetition that took least."""
    state_bytes: float
    """Of a feature, as it is stored."""


def measure(features: int, ticks: int, rng: np.random.Generator) -> Cost:
    tables = (NORMAL.draw(rng, (min(TOGETHER, features - i), ROWS)) for i in range(0, features, TOGETHER))
    model = Model(baseline_of(NORMAL, tables), 10.0, Asked(1 / 7))
    share = expected(model.reference, [NORMAL] * features)
    drawn = [rng.multinomial(PER_TICK, share).ravel() for _ in range(DRAWN)]  # all columns have equally many slots
    for i in range(BEFORE):
        model.close(drawn[i % DRAWN])
    spent = min(_spent(model, drawn, ticks // REPEATS) for _ in range(REPEATS))
    return Cost(features, 1_000 * spent, model.state_bytes() / features)


def _spent(model: Model, drawn: list[Counts], ticks: int) -> float:
    """CPU time of so many ticks, in seconds each."""
    started = time.process_time()
    for i in range(ticks):
        model.close(drawn[i % DRAWN])
    return (time.process_time() - started) / ticks
