"""The detector of rates, event by event."""

from __future__ import annotations

import numpy as np

from streamdrift.detectors.detector import Ticks
from streamdrift.detectors.rate import Rate
from streamdrift.events import Batch
from streamdrift.sensitivity import Sensitivity
from streamdrift.summaries import Summary
from streamdrift.tables import baseline_from_columns
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import Reference


def test_a_second_alarm_lasts_as_long_as_its_own_change() -> None:
    rng = np.random.default_rng(1)

    def ages(n: int, missing: float) -> np.ndarray:
        return np.where(rng.random(n) < missing, np.nan, rng.normal(40, 12, n))

    table = baseline_from_columns({"age": ages(50_000, 0.01)}, model_id="shop", model_version="3")
    reference = Reference(table)
    subject = Rate(reference, Ticks(60 * MICROSECONDS), Sensitivity())
    told = []
    for tick in range(160):
        values = ages(500, 0.03 if 60 <= tick < 80 or 110 <= tick < 140 else 0.01)[:, None]
        times, hashes = np.zeros(500, np.int64), np.zeros(500, np.uint64)
        batch = Batch(reference.grid, times, hashes, values, np.zeros((0, 2), np.int64))
        told += [(tick, found.alarm) for found in subject.close(tick, reference.reduce(Summary.of(batch)))]
    begun, ended = ([tick for tick, alarm in told if alarm is wanted] for wanted in (True, False))
    assert len(ended) == 2
    assert 60 <= min(begun) < ended[0] < 100
    assert ended[1] >= 140
