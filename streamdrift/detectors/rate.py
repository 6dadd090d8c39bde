"""Rate: whether something that is rare in the baseline has become more frequent, missing values above all.

Of each column four rates are watched: of missing values, of categories that the baseline does not know, of values of
the wrong type, and of numbers where the baseline has hardly any. The null is "the rate is at most b", where b is the
baseline's rate and what is tolerated on top of it, or what a rate could be that a baseline of n₀ events showed so often
as this one, if that is more (the bound of Clopper and Pearson at four standard deviations: without it a small baseline
gives hundreds of times the promised alarms). For each q of a few higher rates the likelihood ratio of k such values
among n events is L = (q/b)^k·((1 − q)/(1 − b))^(n − k), and

    R_q ← (R_q + λ)·L^(1/φ)          an alarm as soon as the mean of all R_q is 1 or more

where λ is the budget of the time since the last look. While nothing has changed, R_q − Σλ is a supermartingale: the
expected number of false alarms is at most the budget, at whatever times one looks (a Shiryaev–Roberts e-detector). φ is
the over-dispersion of live traffic (``overdispersion``): with it the rule is calibrated rather than guaranteed.

An alarm ends when the same evidence turns round: with m half-way between b and the rate since the onset, once
max(0, W + log L(b against m)) has reached log 1,000 (Page's CUSUM).

Here 500 events come a minute, of which one in a hundred is missing, and three from tick 60 on:

>>> from streamdrift.events import Batch
>>> from streamdrift.sensitivity import Sensitivity
>>> from streamdrift.summaries import Summary
>>> from streamdrift.tables import baseline_from_columns
>>> from streamdrift.ticks import MICROSECONDS
>>> rng = np.random.default_rng(1)
>>> def ages(n, missing):
...     return np.where(rng.random(n) < missing, np.nan, rng.normal(40, 12, n))
>>> reference = Reference(baseline_from_columns({"age": ages(50_000, 0.01)}, model_id="shop", model_version="3"))
>>> def window(missing, n=500):
...     times, hashes, errors = np.zeros(n, np.int64), np.zeros(n, np.uint64), np.zeros((0, 2), np.int64)
...     batch = Batch(reference.grid, times, hashes, ages(n, missing)[:, None], errors)
...     return reference.reduce(Summary.of(batch))
>>> detector = Rate(reference, Ticks(60 * MICROSECONDS), Sensitivity())
>>> for tick in range(100):
...     for finding in detector.close(tick, window(missing=0.03 if 60 <= tick < 80 else 0.01)):
...         print(tick, finding.detector, f"since {finding.onset}" if finding.alarm else "quiet")
65 missing_rate since 61
88 missing_rate quiet

Source: Shin, Ramdas & Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change detection"; Clopper &
Pearson 1934; Page 1954, "Continuous inspection schemes".
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.detectors.memories import Memories, MemoriesState
from streamdrift.detectors.overdispersion import (
    FIRST_MEASURE,
    UNMEASURED,
    Overdispersion,
    OverdispersionState,
    Pane,
    PaneState,
)
from streamdrift.detectors.reach import RateReach, root
from streamdrift.errors import StateError
from streamdrift.grids import MISSING, SPECIAL_SLOTS, TYPE_ERROR, UNSEEN, Kind
from streamdrift.merging import MARGIN
from streamdrift.packing import pack, pack_floats, unpack, unpack_floats
from streamdrift.sensitivity import Sensitivity
from streamdrift.windows import Reference, Window

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
"""Precise enough for evidence, and twice as fast."""

CHANNELS: Final = ("missing_rate", "unseen_rate", "type_error_rate", "out_of_range_rate")
_MISSING, _UNSEEN, _TYPE_ERROR, _OUT_OF_RANGE = range(len(CHANNELS))
TIMES: Final = (1.5, 3.0, 10.0)
MORE: Final = (0.02, 0.1, 0.3)
"""The higher rates: so many times b, and so much more than it."""
UNSURE: Final = 3.2e-5
"""Probability with which a baseline shows so few of what it has so many (four standard deviations)."""
LENGTHS: Final = (256.0, 4_096.0)
"""Events of the memories in which φ is measured."""
ON_THE_WAY: Final = 0.25
"""Share of the logarithm of an alarm's evidence from which on it is on its way."""
NOT_YET: Final = -1
BACK: Final = float(np.log(1_000))
"""Evidence for the end of an alarm."""
SMALLEST: Final = 1e-30
LARGEST: Final = 1e30
"""Bounds of R: beyond, nothing more is said."""


class Rate:
    """The rule above for all columns of one model version. Streams are channel by channel, a column each."""

    name: Final = "rate"
    names: Final = CHANNELS

    def __init__(self, reference: Reference, ticks: Ticks, sensitivity: Sensitivity) -> None:
        self._ticks = ticks
        self._sensitivity = sensitivity
        self._columns = len(reference.grid.columns)
        self._slots = _Slots(reference)
        successes, events = self._slots.reduce(reference.window.counts)
        tolerance = sensitivity.tolerance
        tolerated = np.repeat(
            [tolerance.missing, tolerance.unseen, tolerance.type_error, tolerance.out_of_range], self._columns
        )
        self._expected = successes / np.maximum(events, 1.0)
        self._baseline = successes, events, tolerated
        self._bound = rate_bound(*self._baseline)
        """Of each stream the rate that is tolerated. Shape (streams,)."""
        streams = len(self._bound)
        weights = sensitivity.shares([column.name for column in reference.grid.columns])
        self._budget = sensitivity.false_alarms * np.tile(weights, len(CHANNELS)) / len(CHANNELS)
        self._budgets, self._budget_of = np.unique(self._budget, return_inverse=True)
        self._confirming = sensitivity.false_alarms / sensitivity.warnings
        """R from which the evidence is also beyond what a warning takes."""
        self._factor = np.full(streams, UNMEASURED)
        """φ."""
        self._of_miss, self._of_hit = _gains(self._bound, self._factor)
        """log(L)/φ of an event that does not count, and of one that does. Shapes (rates, streams)."""
        self._evidence = np.zeros_like(self._of_miss)
        """R_q. Shape (rates, streams)."""
        self._memories = Memories(LENGTHS, streams, 1)
        self._dispersion = Overdispersion(len(LENGTHS), 1, streams, rare=True)
        self._pane = Pane(np.zeros((streams, 1), np.float32), np.zeros(streams))
        self.calibrated = False
        self._start_us: int | None = None
        self._last_us = 0
        """End of the last tick with events."""
        self._events = 0
        self._next_measure = FIRST_MEASURE
        self._on_the_way = np.full(streams, NOT_YET)
        """The first tick with events since the logarithm of the evidence was below a quarter of an alarm's."""
        self._alarm = np.zeros(streams, dtype=np.bool_)
        self._confirmed = np.zeros(streams, dtype=np.bool_)
        self._since = np.zeros((2, streams))
        """Of a stream in alarm, how many counted since its onset, and of how many."""
        self._back = np.zeros(streams)
        """Evidence that the alarm is over."""

    @property
    def evidence(self) -> Floats:
        """log(1 + R/λ)/log(1 + 1/λ) of each column, of its strongest stream. Shape (columns,)."""
        ratios = self._ratios()
        return np.asarray(ratios.reshape(len(CHANNELS), -1).max(axis=0), dtype=np.float64)

    def _ratios(self) -> Floats:
        """Likewise of each stream. Shape (streams,)."""
        small = np.maximum(self._budget * self._ticks.length_us, SMALLEST)
        start = np.log(small)
        ratios = (np.log(self._evidence.mean(axis=0) + small) - start) / (np.log1p(small) - start)
        return np.asarray(ratios, dtype=np.float64)

    def due(self) -> int | None:
        """None: without events nothing happens."""
        return None

    def close(self, tick: int, window: Window | None) -> list[Finding]:
        if window is None or not window.events:
            return []
        now_us = self._ticks.end_us(tick)
        if self._start_us is None:
            self._start_us = self._last_us = self._pane.start_us = tick * self._ticks.length_us
            self._dispersion.begin_pane()
        successes, events = self._slots.reduce(window.counts)
        self._events += window.events
        mean = self._update(successes, events, now_us)
        self._follow(successes, events)
        small = np.maximum(self._budgets * (now_us - self._last_us), SMALLEST)
        is_on_the_way = mean >= (small ** (1 - ON_THE_WAY))[self._budget_of]
        since = np.where(self._on_the_way == NOT_YET, tick, self._on_the_way)
        self._on_the_way = np.where(is_on_the_way, since, NOT_YET)
        self._last_us = now_us
        findings = list(self._decided(tick, mean))
        self._measure(successes, events, window.events)
        self._calibrate(now_us)
        return findings

    def _update(self, successes: Floats, events: Floats, now_us: int) -> Floats:
        """R after this tick, on average over the rates. Shape (streams,)."""
        spent = np.maximum(self._budget * (now_us - self._last_us), SMALLEST)
        hits = successes.astype(np.float32)
        ratio = (events.astype(np.float32) - hits) * self._of_miss
        ratio += hits * self._of_hit
        # What is beyond the bounds is only cut off: R is never 0, so no product is undefined.
        with np.errstate(over="ignore"):
            evidence = np.exp(ratio, out=ratio)
            evidence *= self._evidence + spent.astype(np.float32)
        self._evidence = np.minimum(np.maximum(evidence, SMALLEST, out=evidence), LARGEST, out=evidence)
        return np.asarray(self._evidence.sum(axis=0) / len(self._evidence), dtype=np.float64)

    def _follow(self, successes: Floats, events: Floats) -> None:
        """What speaks for the end of alarms."""
        if not self._alarm.any():
            return
        self._since = np.where(self._alarm, self._since + np.stack((successes, events)), 0.0)
        rate = self._since[0] / np.maximum(self._since[1], 1.0)
        middle = np.clip((self._bound + np.maximum(rate, self._bound * TIMES[0])) / 2, self._bound, 1 - 1e-7)
        hit, miss = np.log(self._bound / middle), np.log((1 - self._bound) / (1 - middle))
        gain = (successes * hit + (events - successes) * miss) / self._factor
        back = np.where(self._alarm, np.maximum(self._back + gain, 0.0), 0.0)
        self._back = back.astype(np.float32).astype(np.float64)

    def _decided(self, tick: int, mean: Floats) -> Iterator[Finding]:
        """Alarms that begin, end, or have enough evidence for a warning for the first time."""
        begins = (mean >= 1) & ~self._alarm
        if not (begins.any() or self._alarm.any()):
            return
        # The logarithm of R grows by as much with each event: so it began a third of the rest of the way before that.
        onset = self._on_the_way - (tick + 2 - self._on_the_way) // 3
        ends = self._alarm & (self._back >= BACK)
        confirmed = (mean >= self._confirming) & ~self._confirmed & (begins | self._alarm) & ~ends
        self._alarm = (self._alarm | begins) & ~ends
        self._confirmed = (self._confirmed | confirmed) & self._alarm
        self._evidence[:, ends] = 0.0
        self._back[ends], self._since[:, ends] = 0.0, 0.0
        # A change would pass for variance, and the next one for usual.
        self._pane.forget(begins)
        self._dispersion.forget(begins)
        self._memories.forget(ends)
        for stream in np.flatnonzero(begins | confirmed | ends).tolist():
            yield self._finding(stream, int(onset[stream]))

    # Calibration

    def _measure(self, successes: Floats, events: Floats, came: int) -> None:
        counts = successes[:, None].astype(np.float32)
        self._memories.add(counts, events.astype(np.float32), came)
        usual = ~self._alarm
        self._pane.add(counts * usual[:, None], events * usual, came)
        due = list(self._memories.due(self._pane.between_looks))
        if not due:
            return
        rate = self._rate_of_pane()
        # Where nothing counted, or all did, there is nothing to measure.
        varying = np.flatnonzero((rate > 0) & (rate < 1) & usual)
        of_one, totals = rate[varying] * (1 - rate[varying]), self._pane.totals[varying]
        for memory, since in due:
            length = float(self._memories.lengths[memory])
            if not self._pane.is_settled(length):
                continue
            worth = self._memories.effective(memory)[varying]
            enough = (worth > 0) & (totals >= 2 * worth)
            streams, worth = varying[enough], worth[enough]
            expected = of_one[enough] * (1 / worth - 1 / totals[enough])
            moved = self._memories.shares(memory)[streams, 0] - rate[streams]
            squares = (moved**2 / expected).astype(np.float32)
            self._dispersion.add(memory, squares[None], streams, since / (2 * length))

    def _calibrate(self, now_us: int) -> None:
        warm_up, elapsed_us = self._sensitivity.warm_up, now_us - (self._start_us or 0)
        if not self.calibrated:
            self.calibrated = warm_up.is_over(self._events, elapsed_us)
            is_due = self.calibrated or self._events >= self._next_measure
            # So few events in all that time are far apart, and taken to be independent.
            if (is_due and self._dispersion.known) or (self.calibrated and elapsed_us >= warm_up.at_most_us):
                self._next_measure = 2 * self._events
                self._take_factor(self._measured_factor())
        if self._pane.is_over(now_us, warm_up):
            if self.calibrated and self._dispersion.known:
                self._take_factor(self._measured_factor())
            self._pane.begin(now_us, longer=self._dispersion.begin_pane())

    def _take_factor(self, factor: Floats) -> None:
        """Go on with another φ, that of the baseline's events too: they are no more independent than others."""
        # Rounded as a snapshot keeps it, which therefore changes nothing.
        self._factor = factor = factor.astype(np.float32).astype(np.float64)
        successes, events, tolerated = self._baseline
        measured = np.where(factor == UNMEASURED, 1.0, factor)
        self._bound = rate_bound(successes / measured, events / measured, tolerated)
        self._of_miss, self._of_hit = _gains(self._bound, factor)

    def _measured_factor(self) -> Floats:
        # The square of a count of which μ are expected varies by 2 + 1/μ, not by the 2 of a normal distribution.
        rates = np.array([self._memories.shares(memory)[:, 0] for memory in range(len(LENGTHS))], dtype=np.float64)
        expected = 2 * np.asarray(LENGTHS)[:, None] * np.maximum(rates.max(axis=0), self._rate_of_pane())
        components = 2 * expected / (2 * expected + 1)
        factors = self._dispersion.factors(components[:, None], cautious=not self.calibrated)
        return np.asarray(factors.max(axis=0)[0], dtype=np.float64)

    def _rate_of_pane(self) -> Floats:
        return np.asarray(self._pane.counts[:, 0] / np.maximum(self._pane.totals, 1.0), dtype=np.float64)

    def reach(self, column: int, events_per_us: float, within_us: int) -> list[RateReach]:
        """The smallest rate in each channel of a column that would be seen within a time."""
        streams = np.arange(len(CHANNELS)) * self._columns + column
        came, bound = events_per_us * within_us, self._bound[streams]
        spent = np.maximum(self._budget[streams] * self._ticks.length_us, SMALLEST)
        # Without any traffic to measure it on, events are taken to be independent.
        factor = np.where(self._factor == UNMEASURED, 1.0, self._factor)
        of_miss, of_hit = _log_ratios(bound)
        needed = np.log(len(of_miss) / spent) * factor[streams]

        def grown(rates: Floats) -> Floats:
            gain = (1 - rates) * of_miss + rates * of_hit
            return np.asarray(came * gain.max(axis=0) / needed, dtype=np.float64)

        smallest = root(grown, bound, np.ones_like(bound))
        return [
            RateReach(name, expected, highest, rate if np.isfinite(rate) else None)
            for name, expected, highest, rate in zip(
                CHANNELS, self._expected[streams].tolist(), bound.tolist(), smallest.tolist(), strict=True
            )
        ]

    # Findings and snapshots

    def _finding(self, stream: int, onset: int) -> Finding:
        channel, column = divmod(stream, self._columns)
        alarm = bool(self._alarm[stream])
        # What was there from the first live events on was there before them.
        first = (self._start_us or 0) // self._ticks.length_us
        since = None if onset <= first else onset
        return Finding(
            column,
            CHANNELS[channel],
            self.calibrated,
            alarm,
            float(self._ratios()[stream]),
            since if alarm else 0,
            None,
            confirmed=bool(self._confirmed[stream]),
        )

    def state(self) -> object:
        return msgspec.to_builtins(
            _State(
                self.calibrated,
                self._start_us,
                self._last_us,
                self._events,
                self._next_measure,
                pack_floats(self._evidence),
                self._memories.state(),
                self._dispersion.state(),
                self._pane.state(),
                pack_floats(self._factor.astype(np.float32)),
                self._on_the_way.tolist(),
                self._alarm.tolist(),
                self._confirmed.tolist(),
                pack(self._since.astype(np.int64).ravel()),
                pack_floats(self._back.astype(np.float32)),
            ),
            builtin_types=(bytes,),
        )

    def restore(self, state: object) -> None:
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
            evidence = unpack_floats(saved.evidence, self._evidence.shape, np.float32)
            since = unpack(saved.since).astype(np.float64).reshape(self._since.shape)
            back = unpack_floats(saved.back, self._back.shape, np.float32).astype(np.float64)
            factor = unpack_floats(saved.factor, self._factor.shape, np.float32).astype(np.float64)
        except (msgspec.ValidationError, ValueError) as error:
            raise StateError(f"{self.name}: {error}") from None
        of_streams = (saved.on_the_way, saved.alarm, saved.confirmed)
        if saved.memories.lengths != list(LENGTHS) or any(len(each) != len(self._bound) for each in of_streams):
            raise StateError(f"{self.name}: the state is not of {self._columns} columns")
        memories, dispersion, pane = copy(self._memories), copy(self._dispersion), copy(self._pane)
        memories.restore(saved.memories)
        dispersion.restore(saved.dispersion, len(LENGTHS))
        pane.restore(saved.pane)
        self._memories, self._dispersion, self._pane = memories, dispersion, pane
        self.calibrated, self._start_us = saved.calibrated, saved.start_us
        self._last_us, self._events, self._next_measure = saved.last_us, saved.events, saved.next_measure
        self._evidence = evidence
        self._take_factor(factor)
        self._on_the_way = np.array(saved.on_the_way, dtype=np.int64)
        self._alarm, self._confirmed = np.array(saved.alarm, np.bool_), np.array(saved.confirmed, np.bool_)
        self._since, self._back = since, back


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    calibrated: bool
    start_us: int | None
    last_us: int
    events: int
    next_measure: int
    evidence: bytes
    memories: MemoriesState
    dispersion: OverdispersionState
    pane: PaneState
    factor: bytes
    on_the_way: list[int]
    alarm: list[bool]
    confirmed: list[bool]
    since: bytes
    back: bytes


class _Slots:
    """Where the streams stand in a window."""

    def __init__(self, reference: Reference) -> None:
        self._starts = reference.offsets[:-1]
        specials = reference.offsets[1:] - SPECIAL_SLOTS
        self._specials = np.concatenate([specials + slot for slot in (MISSING, UNSEEN, TYPE_ERROR)])
        places, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for i, column in enumerate(reference.grid.columns):
            if column.kind is Kind.NUMERIC:
                counts = reference.of_column(reference.window.counts, i)[:-SPECIAL_SLOTS]
                hardly = np.flatnonzero(counts <= MARGIN * counts.sum())
                places.append(hardly + int(reference.offsets[i]))
                columns.append(np.full(len(hardly), i))
        self._out_of_range = np.concatenate(places)
        """Slots that hold hardly any of the baseline's numbers, ..."""
        self._column_of = np.concatenate(columns)
        """... and the column of each."""

    def reduce(self, counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Of each stream how many counted, and of how many. Shapes (streams,)."""
        columns = len(self._starts)
        if not columns:
            return np.zeros(0), np.zeros(0)
        totals = np.add.reduceat(counts, self._starts)
        out_of_range = np.bincount(self._column_of, counts[self._out_of_range], minlength=columns)
        rare = np.concatenate((counts[self._specials], out_of_range))
        return rare, np.tile(totals.astype(np.float64), len(CHANNELS))


def rate_bound(successes: Floats, events: Floats, tolerated: Floats) -> Floats:
    """The highest rate that is no change, after so many in so many events of the baseline. Shapes (streams,).

    >>> from numpy import array
    >>> [round(float(b), 4) for b in rate_bound(array([0.0, 10.0, 100.0]), array([1_000.0, 1_000.0, 10_000.0]), 0.005)]
    [0.0103, 0.0292, 0.015]
    """
    expected = (successes + 0.5) / (events + 1.0)
    possible = np.where(events > 0, betaincinv(successes + 1, np.maximum(events - successes, 1.0), 1 - UNSURE), 1.0)
    return np.clip(np.maximum(expected + tolerated, possible), 1e-7, 1 - 1e-7)


def _gains(bound: Floats, factor: Floats) -> tuple[Singles, Singles]:
    """log(L)/φ of an event that does not count and of one that does. Shapes (rates, streams)."""
    of_miss, of_hit = (_log_ratios(bound) / factor).astype(np.float32)
    return of_miss, of_hit


def _log_ratios(bound: Floats) -> Floats:
    """log(L) of an event that does not count and of one that does, for each of the higher rates.

    Shape (2, rates, streams).
    """
    higher = np.array([*(bound * times for times in TIMES), *(bound + more for more in MORE)])
    higher = np.minimum(higher, (1 + bound) / 2)
    return np.array([np.log((1 - higher) / (1 - bound)), np.log(higher / bound)])
