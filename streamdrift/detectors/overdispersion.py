"""Over-dispersion: by how much the statistics of live traffic vary more than those of independent events would.

Events that come close together are alike: of a stream with autocorrelation the mean of n events varies as that of n/φ
independent ones. A budget of false alarms can be kept only if φ ≥ 1 is known, and only traffic in its order of time
tells: a training table has none. So it is measured on the first live traffic, of each statistic and at each memory,
and always **around the live mean**, never around the baseline: traffic that is off its baseline from the first event
on would look over-dispersed for ever::

    live traffic   |──── pane ────|──── pane ────|──── pane ────|──── pane ────|
    squares of     memory − mean of its pane so far, over 1/nₑ − 1/n: what independent events would give

A step in the middle of all this is in one pane, and nowhere else: of one statistic, a pane that is far beyond the
others is left out. When four panes are full, they are merged in pairs, and the next ones are twice as long: the
measuring never ends, and after all of a day's hours have been seen, the day's course is in it.

What few panes say is uncertain, so it is combined with what is known otherwise, as a Kalman filter does on a
logarithmic scale: with what statistics of other rows and contrasts show (where all of them agree, it is the same for
all), and with the next shorter memory (φ of the mean of more events is that of fewer, and a little more). Thresholds
use the upper end of what is likely.

Source: for the scale, Priestley 1981, "Spectral Analysis and Time Series", on the variance of a sample mean; for the
borrowing between rows, Smyth 2004, "Linear models and empirical Bayes methods".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.errors import StateError
from streamdrift.packing import pack, pack_floats, unpack, unpack_floats
from streamdrift.sensitivity import WarmUp

QUARTERS: Final = 4
PANES: Final = 4
"""Panes before they are merged in pairs."""
FEWEST_TICKS: Final = 8
"""Ticks with events in a pane: where one tick holds a whole warm-up, there is nothing in it to compare."""
LOOKS: Final = 100
"""Looks at a memory in a pane, spread over all of it, that say what there is to know."""
SETTLED: Final = 4
"""Memories that must lie in a pane before a memory is compared with the pane's mean."""
ENOUGH: Final = 8.0
"""Independent looks without which a memory's own squares say nothing."""
OUTLIER: Final = 3.0
"""How far beyond the mean of the others a pane with a step is."""
GROWTH: Final = 0.1
"""Standard deviation of log φ between two neighbouring memories of streams with a short memory."""
BREAK: Final = 2.5
"""Standard deviations beyond which a memory's own squares are believed alone."""
UNMEASURED: Final = 50.0
"""φ as long as nothing is known of it: large changes are seen even so."""
UNKNOWN: Final = 1e6
"""Variance of log φ where nothing is known."""
LIKELY: Final = 0.5
CAUTIOUS: Final = 2.0
"""Standard deviations of log φ that thresholds lie above what is most likely, in general and while little is known."""
FIRST_MEASURE: Final = 1_024
"""Live events after which it is measured for the first time in the warm-up; then after twice as many each time."""


@dataclass(slots=True)
class Pane:
    """The present pane: what came in it, since when, and how long it is to be, in quarters of a warm-up.

    ``before``: events of the pane before it.
    """

    counts: NDArray[np.float32]
    totals: NDArray[np.float64]
    """Counts of each row, and of how many events of the row they are. Shapes (rows, bins) and (rows,)."""
    events: int = 0
    ticks: int = 0
    start_us: int = 0
    quarters: int = 1
    before: int = 0

    @property
    def between_looks(self) -> float:
        """Events that should at least pass between two looks at a memory."""
        return self.before / LOOKS

    def add(self, counts: NDArray[np.float32], totals: NDArray[np.float64], events: int) -> None:
        self.counts = self.counts + counts
        self.totals = self.totals + totals
        self.events += events
        self.ticks += 1

    def forget(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in some rows."""
        self.counts[rows], self.totals[rows] = 0.0, 0.0

    def is_over(self, now_us: int, warm_up: WarmUp) -> bool:
        is_full = self.events * QUARTERS >= warm_up.events * self.quarters and self.ticks >= FEWEST_TICKS
        return is_full or (now_us - self.start_us) * QUARTERS >= warm_up.at_most_us * self.quarters

    def is_settled(self, memory: float) -> bool:
        """Whether a memory of so many events may be compared with its mean."""
        return self.events >= SETTLED * memory

    def begin(self, now_us: int, *, longer: bool) -> None:
        """The next one."""
        self.before = self.events
        self.counts, self.totals = np.zeros_like(self.counts), np.zeros_like(self.totals)
        self.events, self.ticks, self.start_us = 0, 0, now_us
        self.quarters *= 2 if longer else 1

    def begin_anew(self, now_us: int, warm_up: WarmUp, events: float) -> None:
        """The first of four that together are to see at least so many events, or a warm-up."""
        self.begin(now_us, longer=False)
        self.before = 0
        self.quarters = max(1, round(events / warm_up.events))

    def state(self) -> PaneState:
        return PaneState(
            pack_floats(self.counts),
            pack(self.totals.astype(np.int64)),
            self.events,
            self.ticks,
            self.start_us,
            self.quarters,
            self.before,
        )

    def restore(self, state: PaneState) -> None:
        """Raises ``StateError`` for the state of another pane."""
        try:
            counts = unpack_floats(state.counts, self.counts.shape, np.float32)
            totals = unpack(state.totals).reshape(self.totals.shape)
        except ValueError as error:
            raise StateError(f"a pane does not fit {len(self.totals)} rows: {error}") from None
        self.counts, self.totals = counts, totals.astype(np.float64)
        self.events, self.ticks = state.events, state.ticks
        self.start_us, self.quarters, self.before = state.start_us, state.quarters, state.before


class Overdispersion:
    """φ of ``tests`` statistics of each of ``rows`` rows, at each memory; the first ``contrasts`` tests are alike."""

    def __init__(self, memories: int, tests: int, rows: int, *, rare: bool = False) -> None:
        """``rare``: what is counted may not come for whole panes, and then varies little: there are no looks at it.

        Otherwise looks are missing where a row was in alarm, and tell nothing of it.
        """
        self._rare = rare
        self._squares = np.zeros((0, memories, tests, rows), dtype=np.float32)
        self._looks = np.zeros((0, memories, rows), dtype=np.float32)
        self._independent = np.zeros((0, memories), dtype=np.float64)
        """Of each pane: sums of squares, how many, and how many of them are independent of each other."""

    @property
    def panes(self) -> int:
        return len(self._looks)

    def begin_pane(self) -> bool:
        """A new pane; when there are four, they are merged first, and the new ones are to be twice as long."""
        full = self.panes == PANES
        if full:
            self._squares = self._squares[0::2] + self._squares[1::2]
            self._looks = self._looks[0::2] + self._looks[1::2]
            self._independent = self._independent[0::2] + self._independent[1::2]
        self._squares = np.concatenate(
            (self._squares, np.zeros_like(self._squares, shape=(1, *self._squares.shape[1:])))
        )
        self._looks = np.concatenate((self._looks, np.zeros_like(self._looks, shape=(1, *self._looks.shape[1:]))))
        self._independent = np.concatenate((self._independent, np.zeros((1, self._independent.shape[1]))))
        return full

    def begin_anew(self) -> None:
        """Forget all that was measured."""
        self._squares, self._looks, self._independent = self._squares[:0], self._looks[:0], self._independent[:0]
        self.begin_pane()

    @property
    def known(self) -> bool:
        """Whether anything is known of the shortest memory."""
        return bool(self._independent[:, :1].sum() >= ENOUGH)

    def add(
        self, memory: int, squares: NDArray[np.float32], rows: NDArray[np.bool_ | np.int64], independent: float
    ) -> None:
        """Add a look at some ``rows``: squares over what independent events give, shape (tests, these rows).

        ``independent``: of how many looks that are independent of each other this is the share; of one, where all
        that a memory holds has changed since the look before. A look at no row counts only where what is
        counted is ``rare``: there it says that nothing came.
        """
        if not (squares.shape[1] or self._rare):
            return
        self._squares[-1, memory][:, rows] += squares
        self._looks[-1, memory][rows] += 1
        self._independent[-1, memory] += min(independent, 1.0)

    def forget(self, rows: NDArray[np.bool_], *, panes: int = 1) -> None:
        """Of some rows, forget the looks in so many panes, the present one first."""
        self._squares[-panes:, ..., rows] = 0.0
        self._looks[-panes:, ..., rows] = 0.0

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Let go of the memories that are not chosen."""
        self._squares, self._looks = self._squares[:, chosen], self._looks[:, chosen]
        self._independent = self._independent[:, chosen]

    def factors(self, components: NDArray[np.float64], *, cautious: bool = False) -> NDArray[np.float64]:
        """φ as thresholds use it, at least 1. Shape (memories, tests, rows).

        ``components``: how many independent squares one look at each statistic averages. Shape (memories, tests, rows).
        ``cautious``: whether they are to be on the high side.
        """
        memories, tests, rows = self._squares.shape[1:]
        found = np.ones((memories, tests, rows))
        level, doubt = np.zeros((tests, rows)), np.full((tests, rows), UNKNOWN)
        for memory in range(memories):
            own, variance = self._measured(memory, components[memory])
            if memory == 0:
                own, variance = _borrowed(own, variance, lend=not self._rare)
            doubt = np.minimum(doubt + GROWTH**2, UNKNOWN)
            breaks = own - level > BREAK * np.sqrt(doubt + variance)
            gain = np.where(breaks, 1.0, doubt / (doubt + variance))
            gain = np.where(variance < UNKNOWN, gain, 0.0)
            level = level + gain * (own - level)
            doubt = np.where(breaks, variance, (1.0 - gain) * doubt)
            likely = np.exp(np.minimum(level + (CAUTIOUS if cautious else LIKELY) * np.sqrt(doubt), 50.0))
            found[memory] = np.where(doubt < UNKNOWN / 2, np.maximum(likely, 1.0), 1.0)
        return found

    def _measured(
        self, memory: int, components: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logarithm of φ and its variance from the panes alone, ``UNKNOWN`` without any. Shapes (tests, rows)."""
        looks = self._looks[:, memory, None, :].astype(np.float64)
        squares = self._squares[:, memory].astype(np.float64)
        independent = self._independent[:, memory, None, None] * np.ones_like(squares)
        if not self._rare:
            independent *= looks / np.maximum(looks.max(axis=-1, keepdims=True, initial=0.0), 1.0)
        kept = self._without_step(squares, looks * np.ones_like(squares))
        squares, independent, looks = squares * kept, independent * kept, looks * kept
        counted = (looks * np.ones_like(squares)).sum(axis=0)
        freedom = independent.sum(axis=0)
        usable = (freedom >= ENOUGH) & (counted > 0)
        mean = squares.sum(axis=0) / np.where(usable, counted, 1.0)
        usable &= mean > 0
        variance = np.where(usable, 2.0 / np.maximum(freedom * components, 1e-9), UNKNOWN)
        # The logarithm of a mean of squares is low on average, by half of its variance.
        own = np.where(usable, np.log(np.where(usable, mean, 1.0)) + np.where(usable, variance, 0.0) / 2, 0.0)
        return own, variance

    def _without_step(self, squares: NDArray[np.float64], looks: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which panes count: not the one that is far beyond the others, where there are two of these at least.

        Sums and numbers of squares, shapes (panes, tests, rows).
        """
        means = squares / np.maximum(looks, 1.0)
        worst = means.argmax(axis=0)[None]
        of_worst = [np.take_along_axis(each, worst, 0)[0] for each in (squares, looks)]
        others = (squares.sum(axis=0) - of_worst[0]) / np.maximum(looks.sum(axis=0) - of_worst[1], 1.0)
        panes = self.panes if self._rare else (looks > 0).sum(axis=0)
        has_step = (panes > 2) & (np.take_along_axis(means, worst, 0)[0] > OUTLIER * others)  # noqa: PLR2004 — it and two
        return np.asarray(~((np.arange(len(squares))[:, None, None] == worst) & has_step))

    def state(self) -> OverdispersionState:
        return OverdispersionState(
            self.panes,
            pack_floats(self._squares),
            pack(self._looks.astype(np.int64).ravel()),
            pack_floats(self._independent),
        )

    def restore(self, state: OverdispersionState, memories: int) -> None:
        """Raises ``StateError`` for a state of other shapes."""
        _, _, tests, rows = self._squares.shape
        try:
            squares = unpack_floats(state.squares, (state.panes, memories, tests, rows), np.float32)
            looks = unpack(state.looks).astype(np.float32).reshape(state.panes, memories, rows)
            independent = unpack_floats(state.independent, (state.panes, memories), np.float64)
        except ValueError as error:
            raise StateError(f"what is known of over-dispersion does not fit {rows} rows: {error}") from None
        self._squares, self._looks, self._independent = squares, looks, independent


def _borrowed(
    own: NDArray[np.float64], variance: NDArray[np.float64], *, lend: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each statistic is likely to be, given all of them: as far as they agree, what they have in common.

    ``lend``: also to those of which nothing was measured.
    """
    known = variance < UNKNOWN
    if known.sum() < 2:  # noqa: PLR2004
        return own, variance
    weights = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
    common = (weights * own).sum() / weights.sum()
    # The variance between them beyond that of measuring, after DerSimonian & Laird 1986.
    excess = (weights * (own - common) ** 2).sum() - (known.sum() - 1)
    between = max(0.0, excess / (weights.sum() - (weights**2).sum() / weights.sum()))
    prior = between + 1.0 / weights.sum()
    gain = np.where(known, prior / (prior + np.where(known, variance, 1.0)), 0.0)
    # Where nothing was measured, what is usual for the same statistic of other rows, as far as that differs.
    of_test = np.maximum(known.sum(axis=1, keepdims=True), 1)
    usual = np.where(known, own, 0.0).sum(axis=1, keepdims=True) / of_test
    spread = np.where(known, (own - usual) ** 2, 0.0).sum(axis=1, keepdims=True) / of_test + 1.0 / of_test
    lent = known.any(axis=1, keepdims=True) & ~known & lend
    level = np.where(known, common + gain * (own - common), np.where(lent, usual, own))
    return level, np.where(known, gain * variance, np.where(lent, spread, variance))


class PaneState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A pane in a snapshot."""

    counts: bytes
    totals: bytes
    events: int
    ticks: int
    start_us: int
    quarters: int
    before: int


class OverdispersionState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Over-dispersion in a snapshot."""

    panes: int
    squares: bytes
    looks: bytes
    independent: bytes
