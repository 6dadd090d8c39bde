"""The detector of rates, event by event."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.detectors.rate import Rate
from streamdrift.events import Batch
from streamdrift.grids import SPECIAL_SLOTS, UNSEEN
from streamdrift.sensitivity import Sensitivity
from streamdrift.summaries import Moments, Names, Summary
from streamdrift.tables import baseline_from_columns
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import Reference, Window


def findings(missing: Callable[[int], float], ticks: range, n: int = 500) -> list[tuple[int, Finding]]:
    """What is found where 1 % of ages were missing in the baseline, with the tick in which it is."""
    rng = np.random.default_rng(1)

    def ages(n: int, missing: float) -> np.ndarray:
        return np.where(rng.random(n) < missing, np.nan, rng.normal(40, 12, n))

    table = baseline_from_columns({"age": ages(50_000, 0.01)}, model_id="shop", model_version="3")
    reference = Reference(table)
    subject = Rate(reference, Ticks(60 * MICROSECONDS), Sensitivity())
    found = []
    for tick in ticks:
        times, hashes = np.zeros(n, np.int64), np.zeros(n, np.uint64)
        batch = Batch(reference.grid, times, hashes, ages(n, missing(tick))[:, None], np.zeros((0, 2), np.int64))
        found += [(tick, finding) for finding in subject.close(tick, reference.reduce(Summary.of(batch)))]
    return found


def test_a_second_alarm_lasts_as_long_as_its_own_change() -> None:
    told = findings(lambda tick: 0.03 if 60 <= tick < 80 or 110 <= tick < 140 else 0.01, range(160))
    begun, ended = ([tick for tick, found in told if found.alarm is wanted] for wanted in (True, False))
    assert len(ended) == 2
    assert 60 <= min(begun) < ended[0] < 100
    assert ended[1] >= 140


def test_what_grew_from_the_first_event_on_began_before_however_late_it_is_seen() -> None:
    first, *_ = findings(lambda _: 0.019, range(1_000, 3_000), n=50)
    assert first[1].alarm
    assert first[1].calibrated, "it took longer than the warm-up"
    assert first[1].onset is None


def test_what_never_happened_is_not_taken_for_unmeasured() -> None:
    """Clean traffic of categories has no rate that varies: by then it says that nothing of it comes in bursts."""
    rng = np.random.default_rng(1)
    countries = rng.choice(["DE", "FR", "IT"], 50_000)
    table = baseline_from_columns({"country": countries}, model_id="shop", model_version="3")
    reference = Reference(table)
    subject = Rate(reference, Ticks(60 * MICROSECONDS), Sensitivity())
    usual = reference.window.counts / reference.window.counts.sum()
    for tick in range(210):
        counts = rng.multinomial(500, usual)
        counts[UNSEEN - SPECIAL_SLOTS] = 10 if tick >= 200 else 0
        found = subject.close(tick, Window(int(counts.sum()), counts, Moments.empty(1), Names()))
        if found:
            break
    assert (subject.calibrated, found[0].detector) == (True, "unseen_rate")
    assert tick <= 202, "1,500 events, and not thirty times as many"
