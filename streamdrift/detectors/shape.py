"""Shape: whether the distribution of each column is still that of the baseline, at several memories at once.

At a memory (``memories``) let q be the distribution of a column on B bins, n the independent-looking events it is worth
(nₑ/φ, see ``overdispersion``), and p the baseline's, of n₀ events. Six statistics are looked at::

    g₁ … g₄   contrasts (``contrasts``): mean, spread, skewness, peakedness     |g_k| > ρ + √v_k·z
    Σ g_k²    all four together                                                 > the quantile of Σ v_k·χ²₁
    X         Σ (q − p)²/p, whatever else there may be; the only one of         > likewise, of B − 1 terms
              categories, which have no order

with v_k = φ_k/nₑ + φ_k/n₀: what the finite baseline does not know is part of the noise. ρ² = e^minimum − 1 is the
floor, the minimum effect as χ² (a normal distribution whose mean moved by δ standard deviations has PSI = δ² and
χ² = e^(δ²) − 1): thresholds are those of the largest effect that does not matter, not of none. z is corrected for
skewness, and tests for which the events are too few to trust their approximations wait.

The budget: a look at a memory may spend the false alarms that are allowed in the event time since the look before::

    α = budget · time since the last look · weight of the column / (memories · statistics)

so that the expected number of looks that alarm by chance is at most the budget, for any traffic, and however the
columns depend on each other. Its tails are asymptotic: "calibrated", not "guaranteed".

Live traffic calibrates it; until ``warm_up`` is over no budget is promised. What differs from the baseline from the
first event on differed before monitoring began (training–serving skew): such a column alarms as ``skew``, and after the
warm-up it is compared with its live self, so that a further change is seen as early as any. A column in alarm stays so
until a span four times as long as the shortest that saw the change is below half of its threshold.

Here 500 events come a minute, and from tick 60 on their mean is half a standard deviation higher:

>>> from streamdrift.events import Batch
>>> from streamdrift.sensitivity import Sensitivity, WarmUp
>>> from streamdrift.summaries import Summary
>>> from streamdrift.tables import baseline_from_columns
>>> from streamdrift.ticks import MICROSECONDS
>>> rng = np.random.default_rng(1)
>>> training = {"amount": rng.normal(40, 12, 50_000)}
>>> reference = Reference(baseline_from_columns(training, model_id="shop", model_version="3"))
>>> def window(mean, n=500):
...     times, hashes, errors = np.zeros(n, np.int64), np.zeros(n, np.uint64), np.zeros((0, 2), np.int64)
...     batch = Batch(reference.grid, times, hashes, rng.normal(mean, 12, (n, 1)), errors)
...     return reference.reduce(Summary.of(batch))
>>> detector = Shape(reference, Ticks(60 * MICROSECONDS), Sensitivity())
>>> for tick in range(100):
...     for finding in detector.close(tick, window(mean=46 if 60 <= tick < 70 else 40)):
...         print(tick, f"{finding.evidence_ratio:.2f}", f"since {finding.onset}" if finding.alarm else "quiet")
60 1.16 since 60
73 0.46 quiet

Source: Neyman 1937 for the statistics; Lai 1998, "Information bounds and quick detection of parameter changes", for
several memories at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors import skew
from streamdrift.detectors.contrasts import CONTRASTS
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.detectors.factors import Factors, FactorsState
from streamdrift.detectors.limits import Limits, Spent
from streamdrift.detectors.memories import Memories, MemoriesState, ladder
from streamdrift.detectors.nulls import Binning, Null
from streamdrift.detectors.reach import ShapeReach, shape_reach
from streamdrift.detectors.season import Season, SeasonState
from streamdrift.detectors.skew import Skew, SkewState
from streamdrift.detectors.spans import Spans, SpansState
from streamdrift.errors import StateError
from streamdrift.packing import pack_floats, unpack_floats
from streamdrift.sensitivity import Sensitivity
from streamdrift.windows import Reference, Window

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]

MEMORY_PER_BASELINE: Final = 4.0
"""Longest memory in events of the baseline: beyond, its own noise is all that there is."""
LONGEST: Final = 131_072.0
LEAST_LONGEST: Final = 8_192.0
"""Bounds of the longest memory, in events."""
RECOVERED: Final = 0.5
"""Share of the threshold below which an alarm ends."""
SPANS: Final = (0.5, 0.75, 1.0, 1.5)
"""Lengths of spans for each memory, in its own: so that one of them fits most changes."""
PLACES: Final = len(SPANS) + 1
"""Spans, and the memory itself."""
HOUR_US: Final = 3_600_000_000


class Shape:
    """The rule above for all columns of one model version."""

    name: Final = "shape"
    skew: Final = "skew"
    names: Final = (name, skew)

    def __init__(self, reference: Reference, ticks: Ticks, sensitivity: Sensitivity) -> None:
        self._reference = reference
        self._ticks = ticks
        self._sensitivity = sensitivity
        self._binning = Binning(reference)
        baseline = self._binning.reduce(reference.window.counts)
        self._null = Null(baseline, self._binning)
        self._skew = Skew(self._null, baseline)
        rows, bins = self._null.shares.shape
        longest = float(np.clip(MEMORY_PER_BASELINE * self._null.events.max(initial=0), LEAST_LONGEST, LONGEST))
        lengths = ladder(longest)
        self._memories = Memories(lengths, rows, bins)
        self._spans = Spans([length * part for length in lengths for part in SPANS], rows, CONTRASTS)
        self._factors = Factors(self._null, len(lengths), sensitivity.warm_up)
        shares = sensitivity.shares([column.name for column in reference.grid.columns])
        self._limits = Limits(self._null, sensitivity, shares)
        self._suit()
        self.calibrated = False
        self._start_us: int | None = None
        """When the first tick with events began."""
        self._events = 0
        self._looked_us = [0] * (PLACES * len(lengths))
        self._ratios = np.zeros((PLACES * len(lengths), rows), dtype=np.float32)
        """Of each span, then of each memory: when it was looked at, and the largest statistic over its threshold."""
        self._alarm = np.zeros(rows, dtype=np.bool_)
        self._confirmed = np.zeros(rows, dtype=np.bool_)
        self._ends_in = np.zeros(rows, dtype=np.int64)
        """The place (of a span, or behind them of a memory) in which the end of an alarm is seen."""
        self._began_at = np.zeros(rows, dtype=np.int64)
        """Of a column in alarm, how many events had come before the change."""
        self._ended = np.zeros(rows, dtype=np.bool_)
        """Which alarms ended in this tick: what was seen before says nothing of these columns any more."""
        self._seasons = (Season(24, HOUR_US, rows), Season(7, 24 * HOUR_US, rows))
        """By the hour of the day, and what is left by the day of the week."""

    @property
    def evidence(self) -> Floats:
        """The largest statistic over its threshold of each column, as of the last looks. Shape (columns,)."""
        return np.asarray(self._ratios.max(axis=0, initial=0.0), dtype=np.float64)

    def due(self) -> int | None:
        """None: without events nothing happens."""
        return None

    def close(self, tick: int, window: Window | None) -> list[Finding]:
        if window is None or not window.events:
            return []
        now_us = self._ticks.end_us(tick)
        if self._start_us is None:
            self._start_us = tick * self._ticks.length_us
            self._looked_us = [self._start_us] * len(self._looked_us)
            self._factors.begin(self._start_us)
        self._ended[:] = False
        self._take(tick, window)
        findings = [*self._look_at_spans(now_us), *self._look_at_memories(now_us)]
        if not self.calibrated:
            self._calibrate(now_us)
        if self._factors.close(now_us, calibrated=self.calibrated):
            self._suit()
        return findings

    def _take(self, tick: int, window: Window) -> None:
        counts = self._binning.reduce(window.counts)
        totals = counts.sum(axis=1)
        if not self.calibrated:
            self._skew.gather(counts)
        singles = totals.astype(np.float32)
        left, contrast = self._without_season(tick, counts.astype(np.float32), singles)
        self._events += window.events
        self._memories.add(left, singles, window.events)
        self._spans.add(tick, contrast, singles, window.events)
        self._factors.take(left, totals, window.events, ~self._alarm)

    def _without_season(
        self, tick: int, counts: NDArray[np.float32], totals: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Counts, and the sums of their contrasts, less what the time of day and that of the week make of them."""
        start_us, usable = tick * self._ticks.length_us, ~self._alarm
        contrast, known = self._null.contrast(counts), any(season.known for season in self._seasons)
        left, expected = contrast, None
        for season in self._seasons:
            season.add(start_us, left, totals, usable)
            if season.known:
                of_season = season.at(start_us)
                left = left - of_season * totals
                expected = of_season if expected is None else expected + of_season
        if expected is None:
            return counts, contrast
        if not known:
            # What was measured had the season in it: until it is measured anew, that holds.
            elapsed_us = max(start_us - (self._start_us or 0), 1)
            self._factors.begin_anew(start_us, self._events * 24 * HOUR_US / elapsed_us)
        return counts - totals[:, None] * self._null.profile(expected), left

    # Calibration

    def _calibrate(self, now_us: int) -> None:
        """Begin to watch when the warm-up is over."""
        elapsed_us = now_us - (self._start_us or 0)
        if self._sensitivity.warm_up.is_over(self._events, elapsed_us):
            self._begin_watching(now_us, elapsed_us)
        elif self._factors.warm_up(self._events):
            self._suit()

    def _begin_watching(self, now_us: int, elapsed_us: int) -> None:
        """Keep the memories that suit this traffic, and compare what is skewed with its live self."""
        self.calibrated = True
        per_us = self._events / max(elapsed_us, 1)
        sensitivity, lengths = self._sensitivity, self._memories.lengths
        shortest = max(sensitivity.shortest_us, self._ticks.length_us) * per_us / 4
        longest = max(sensitivity.longest_us * per_us, LEAST_LONGEST)
        chosen = (lengths >= min(shortest, float(lengths[-2]))) & (lengths <= longest)
        places = np.concatenate((np.repeat(chosen, len(SPANS)), chosen))
        self._ends_in = np.minimum(np.cumsum(places)[self._ends_in] - places[self._ends_in], places.sum() - 1)
        self._memories.keep(chosen)
        self._spans.keep(np.repeat(chosen, len(SPANS)))
        self._factors.end_warm_up(chosen, sparse=elapsed_us >= sensitivity.warm_up.at_most_us)
        self._looked_us = [now_us] * (PLACES * int(chosen.sum()))
        self._ratios = np.zeros((len(self._looked_us), len(self._alarm)), dtype=np.float32)
        self._skew.end_warm_up()
        self._spans.forget(self._skew.rows)
        self._alarm &= ~self._skew.rows
        self._confirmed &= self._alarm
        self._suit()

    def _suit(self) -> None:
        """Look by what is known by now of φ, and of what rows are compared with."""
        self._contrast_noise, self._chi_square_noise = self._limits.noise(self._factors.values)

    def _end_skew(self, memory: int) -> Iterator[Finding]:
        """Columns that are close to their baseline again are compared with it again."""
        lengths = self._memories.lengths
        if not self._skew.rows.any() or lengths[memory] < min(skew.LEAST, float(lengths[-1])):
            return
        ends = self._skew.end(self._memories.sums[memory], self._memories.effective(memory) >= lengths[memory])
        if not ends.any():
            return
        self._suit()
        self._forget(ends)
        was = self._alarm & ends
        self._alarm &= ~ends
        self._confirmed &= self._alarm
        for row in np.flatnonzero(ends).tolist():
            for name in (self.skew, self.name) if was[row] else (self.skew,):
                yield Finding(row, name, True, False, 0.0, 0, None)  # noqa: FBT003 — calibrated, and no alarm

    # Looks

    def _look_at_spans(self, now_us: int) -> Iterator[Finding]:
        looks, sums, totals = self._spans.due()
        if looks:
            contrast = (sums / np.maximum(totals, 1)[:, None, :]).astype(np.float32, copy=False)
            noise = self._contrast_noise.at([look[-1] // len(SPANS) for look in looks])
            spent = self._spent(looks, now_us, len(self._spans.lengths))
            yield from self._decided_in(looks, *self._limits.of_contrasts(contrast, totals, noise, spent))

    def _look_at_memories(self, now_us: int) -> Iterator[Finding]:
        due = list(self._memories.due())
        if not due:
            return
        memories = [memory for memory, _ in due]
        shares, effective = self._memories.shares(memories), self._memories.effective(memories)
        lengths = self._memories.lengths.tolist()
        self._factors.measure([(m, lengths[m], events) for m, events in due], shares, effective, ~self._alarm)
        if self.calibrated:
            for memory in memories:
                yield from self._end_skew(memory)
        places = [len(self._spans.lengths) + memory for memory in memories]
        looks = [range(place, place + 1) for place in places]
        chi_square = self._null.chi_square(shares - self._null.shares)
        noise = self._chi_square_noise.at(memories)
        spent = self._spent(looks, now_us, len(lengths))
        found = self._limits.of_chi_square(chi_square, effective.astype(np.float32), noise, spent)
        yield from self._decided_in(looks, *found)

    def _spent(self, looks: Sequence[range], now_us: int, places: int) -> Spent:
        """The event time whose part of the budget looks at some of so many places may use now."""
        elapsed_us = []
        for look in looks:
            elapsed_us.append(len(look) * now_us - sum(self._looked_us[look.start : look.stop]))
            self._looked_us[look.start : look.stop] = [now_us] * len(look)
        return Spent(np.array(elapsed_us, dtype=np.float64), places)

    def _extent(self, place: int | NDArray[np.int64]) -> Floats:
        """How many events a span or a memory is worth."""
        extents = np.concatenate((self._spans.lengths, 2 * self._memories.lengths))
        return np.asarray(extents[place], dtype=np.float64)

    def _ending_place(self, place: int) -> int:
        """Where the end of an alarm is looked for that was seen in a place: in four times as many events.

        Chance has its part in the first sight of a change, and must not end it at the next.
        """
        spans = len(self._spans.lengths)
        return (
            min(place + len(SPANS), spans - 1)
            if place < spans
            else min(place + 1, spans + len(self._memories.lengths) - 1)
        )

    def _holds_no_past(self, place: int) -> Mask:
        """In which rows a place holds nothing any more from before the change. Shape (rows,)."""
        faded = 1 if place < len(self._spans.lengths) else 2
        return np.asarray(self._events - self._began_at >= faded * self._extent(place), dtype=np.bool_)

    def _decided_in(self, looks: Sequence[range], ratios: Singles, confirmed: Mask) -> Iterator[Finding]:
        """What follows from looks, each at some places that hold the same, the shortest first. Shapes (looks, rows)."""
        is_quiet = not (self._alarm.any() or self._ended.any() or (ratios >= 1).any())
        for look, *of_look in zip(looks, ratios, confirmed, strict=True):
            if is_quiet:
                self._ratios[look.start : look.stop] = of_look[0]
            else:
                yield from self._decided(look, *of_look)

    def _decided(self, look: range, ratios: Singles, confirmed: Mask) -> Iterator[Finding]:
        """Alarms that begin, end, or are beyond the threshold of a warning for the first time."""
        place = look[-1]
        ratios = np.where(self._ended, np.float32(0), ratios)
        self._ratios[look.start : look.stop] = ratios
        begins = (ratios >= 1) & ~self._alarm
        ending_place = self._ending_place(place)
        earlier = (ratios >= 1) & self._alarm & (self._extent(ending_place) < self._extent(self._ends_in))
        self._ends_in[begins | earlier] = ending_place
        newly_confirmed = confirmed & ~self._confirmed & (self._alarm | begins)
        in_look = (self._ends_in >= look.start) & (self._ends_in < look.stop)
        ends = self._alarm & in_look & (ratios < RECOVERED) & self._holds_no_past(place)
        self._alarm = (self._alarm | begins) & ~ends
        self._confirmed = (self._confirmed | newly_confirmed) & self._alarm
        for row in np.flatnonzero(begins | newly_confirmed | ends).tolist():
            onset, age = self._onset(row, float(self._extent(place))) if self._alarm[row] else (0, 0)
            if begins[row]:
                self._began_at[row] = self._events - age
            yield self._finding(row, float(ratios[row]), onset)
        if begins.any():
            # A change that is large enough would pass for variance, and the next one for usual.
            self._factors.forget(begins, self._events - self._began_at)
        if ends.any():
            self._skew.rows &= self.calibrated | ~ends
            self._forget(ends)

    def _finding(self, row: int, ratio: float, onset: int) -> Finding:
        """What is to be said of a row. What began with the first event began before it."""
        before_monitoring = bool(self._alarm[row]) and onset * self._ticks.length_us == self._start_us
        if before_monitoring and not self.calibrated:
            self._skew.rows[row] = True
        is_skew = not self.calibrated and bool(self._skew.rows[row])
        return Finding(
            row,
            self.skew if is_skew else self.name,
            self.calibrated,
            bool(self._alarm[row]),
            ratio,
            None if is_skew or before_monitoring else onset,
            None,
            bool(self._confirmed[row]),
        )

    def _forget(self, rows: Mask) -> None:
        """Begin anew in some rows: what was seen before says nothing of them any more."""
        self._ended |= rows
        self._memories.forget(rows)
        self._spans.forget(rows)
        self._ratios[:, rows] = 0.0

    def _onset(self, row: int, events: float) -> tuple[int, int]:
        """The tick since which the change is most surprising, in the direction in which it went; and events since."""
        sums, totals, sizes, ticks = self._spans.suffixes(row)
        within = min(bisect_left(sizes, events), len(sizes) - 1)
        surprise = (sums @ sums[within]) ** 2 / np.maximum(totals, 1.0)
        likeliest = int(surprise.argmax())
        return ticks[likeliest], sizes[likeliest]

    def reach(self, column: int, events_per_us: float, within_us: int) -> ShapeReach:
        """The smallest change of a column that would be seen within a time, at so many events a microsecond.

        On average, of a change that is there from one event on to the next; chance may show it earlier or later.
        """
        lengths = self._spans.lengths, self._memories.lengths
        return shape_reach(
            self._limits, self._sensitivity, lengths, self._factors.values, column, events_per_us, within_us
        )

    # Snapshots

    def state(self) -> object:
        return msgspec.to_builtins(
            _State(
                self.calibrated,
                self._start_us,
                self._events,
                self._memories.state(),
                self._spans.state(),
                self._factors.state(),
                (self._seasons[0].state(), self._seasons[1].state()),
                self._looked_us,
                pack_floats(self._ratios),
                self._alarm.tolist(),
                self._confirmed.tolist(),
                self._ends_in.tolist(),
                self._began_at.tolist(),
                self._skew.state(warm_up=not self.calibrated),
            ),
            builtin_types=(bytes,),
        )

    def restore(self, state: object) -> None:
        rows = len(self._alarm)
        memories, spans = copy(self._memories), copy(self._spans)
        factors = copy(self._factors)
        seasons = copy(self._seasons[0]), copy(self._seasons[1])
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
            size = len(saved.memories.lengths)
            ratios = unpack_floats(saved.ratios, (PLACES * size, rows), np.float32)
        except (msgspec.ValidationError, ValueError) as error:
            raise StateError(f"{self.name}: {error}") from None
        of_rows = (saved.alarm, saved.confirmed, saved.ends_in, saved.began_at)
        if any(len(each) != rows for each in of_rows) or not 0 <= min(saved.ends_in, default=0) <= max(
            saved.ends_in, default=0
        ) < max(PLACES * size, 1):
            raise StateError(f"{self.name}: the state is not of {rows} columns")
        of_memories = len(saved.spans.lengths) / len(SPANS), len(saved.looked_us) / PLACES, saved.factors.memories
        if any(each != size for each in of_memories):
            raise StateError(f"{self.name}: the state is not of {size} memories")
        memories.restore(saved.memories)
        spans.restore(saved.spans)
        factors.restore(saved.factors)
        for season, of_season in zip(seasons, saved.seasons, strict=True):
            season.restore(of_season)
        self._skew.restore(saved.skew, warm_up=not saved.calibrated)
        self._seasons = seasons
        self._memories, self._spans, self._factors = memories, spans, factors
        self._suit()
        self.calibrated, self._start_us, self._events = saved.calibrated, saved.start_us, saved.events
        self._ratios = ratios
        self._looked_us = list(saved.looked_us)
        self._alarm, self._confirmed = np.array(saved.alarm, np.bool_), np.array(saved.confirmed, np.bool_)
        self._ends_in, self._began_at = np.array(saved.ends_in, np.int64), np.array(saved.began_at, np.int64)


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    calibrated: bool
    start_us: int | None
    events: int
    memories: MemoriesState
    spans: SpansState
    factors: FactorsState
    seasons: tuple[SeasonState, SeasonState]
    looked_us: list[int]
    ratios: bytes
    alarm: list[bool]
    confirmed: list[bool]
    ends_in: list[int]
    began_at: list[int]
    skew: SkewState
