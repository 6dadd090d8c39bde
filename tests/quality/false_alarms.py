"""How often each detector alarms in streams of one feature in which nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from tests.quality.delays import PER_DAY, STREAMDRIFT
from tests.quality.model import Asked, Model, baseline_of, counted
from tests.quality.nulls import Null
from tests.quality.others import KSWIN, OTHERS

STREAM: Final = 100_000
"""Events of a stream, after those that calibrate."""
_BEFORE: Final = 30_000
_SHORT: Final = 10_000
"""Events that KSWIN is given of each stream: it takes five hundred times as long as the others."""


@dataclass
class Rate:
    """Alarms in so many events."""

    alarms: int = 0
    events: int = 0

    @property
    def per_100k(self) -> float:
        return 1e5 * self.alarms / self.events if self.events else float("nan")


def measure(null: Null, rows: int, streams: int, rng: Generator) -> Mapping[str, Rate]:
    """Everybody on the same streams, by name."""
    found = {name: Rate() for name in (STREAMDRIFT, *OTHERS)}
    for _ in range(streams):
        [training] = null.training(rng, 1, rows)
        calibrating = -(-_BEFORE // null.per_tick) * null.per_tick
        ticks = STREAM // null.per_tick
        values = next(null.values(rng, 1, calibrating + ticks * null.per_tick))
        model = Model(baseline_of(null.law, [training]), null.tick_s, Asked(PER_DAY))
        found[STREAMDRIFT].events += ticks * null.per_tick
        for i, counts in enumerate(counted(model.reference, values, values.shape[1] // null.per_tick)):
            before = set(model.alarms)
            model.close(counts)
            if i >= calibrating // null.per_tick:
                found[STREAMDRIFT].alarms += bool(model.alarms - before)
        for name, alarms in OTHERS.items():
            heard = values[0, calibrating:][: _SHORT if name == KSWIN else STREAM]
            found[name].alarms += sum(1 for _ in alarms(null.law, training[0], heard))
            found[name].events += len(heard)
    return found
