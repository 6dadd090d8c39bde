"""Season: how contrasts go up and down with the hour of the day, or the day of the week, taken out of what is watched.

People sleep, shops close: a column whose mean swings by half a standard deviation each day has drifted at every
moment, and has not drifted at all. Over-dispersion that has seen whole days keeps alarms quiet then, but makes them
deaf too. So the mean of each contrast is learned slot by slot from live traffic::

    slot          |  0h  |  1h  | …  | 23h  |  0h  | …
    mean of day 1    m₀     m₁         m₂₃
    mean of day 2                              m₀     …        running means of up to 14 days

After three cycles it is known how much slots differ from one day to the next, W, and how much from each other, B: of
the difference of a slot to the mean of all, 1 − W/B is believed (James & Stein 1961), and nothing of it where that is
less than half, or where chance gives so large a B/W (Fisher's F) to one of a thousand models. What is left varies
around the mean of all slots, so the baseline need not know of any season.

Source: for residuals of a periodic profile under a control chart, e.g. Montgomery, "Introduction to Statistical Quality
Control", on regression adjustment.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from streamdrift.detectors.contrasts import CONTRASTS
from streamdrift.errors import StateError
from streamdrift.packing import pack, pack_floats, unpack, unpack_floats

Floats = NDArray[np.float64]

CYCLES: Final = 3
"""Cycles before anything is believed."""
REMEMBERED: Final = 14
"""Cycles over which a slot's mean runs."""
BELIEVED: Final = 0.5
"""Least share of the differences between slots that is no chance."""
BY_CHANCE: Final = 1e-3
"""Probability with which anything is believed of a model without any season, if its slots are independent."""
FEWEST: Final = 20.0
"""Events of a row without which a slot says nothing of it."""


class Season:
    """The profile of ``rows`` rows over a cycle of ``slots`` slots of ``slot_us`` microseconds each."""

    def __init__(self, slots: int, slot_us: int, rows: int) -> None:
        self._slot_us = slot_us
        self._means = np.zeros((slots, CONTRASTS, rows), dtype=np.float16)
        self._cycles = np.zeros((slots, rows), dtype=np.int64)
        """Running mean of each slot, good to a thousandth, and of how many cycles it is."""
        self._changes = np.zeros((CONTRASTS, rows), dtype=np.float32)
        self._compared = np.zeros(rows, dtype=np.float32)
        """Sum of the squares of changes from one cycle to the next, each as of one cycle, and how many they are."""
        self._sums = np.zeros((CONTRASTS, rows), dtype=np.float32)
        self._totals = np.zeros(rows, dtype=np.float32)
        """Of the present slot."""
        self._number: int | None = None
        """The present slot, counted since the epoch."""
        self._profile = np.zeros((slots, CONTRASTS, rows), dtype=np.float32)
        self.known = False
        """Whether anything is taken out."""

    def at(self, time_us: int) -> NDArray[np.float32]:
        """What contrasts are at a time, beyond their mean over the cycle. Shape (4, rows)."""
        found: NDArray[np.float32] = self._profile[(time_us // self._slot_us) % len(self._profile)]
        return found

    def add(
        self, time_us: int, sums: NDArray[np.float32], totals: NDArray[np.float32], usable: NDArray[np.bool_]
    ) -> None:
        """Take the contrasts of a tick that begins at a time.

        ``usable``: rows that are as usual. Shapes (4, rows), (rows,) and (rows,).
        """
        number = time_us // self._slot_us
        if self._number is not None and number != self._number:
            self._end_slot(self._number % len(self._profile))
            self._learn()
        self._number = number
        self._sums = self._sums + sums * usable
        self._totals = self._totals + totals * usable

    def _end_slot(self, slot: int) -> None:
        enough = self._totals >= FEWEST
        means = self._sums.astype(np.float64) / np.maximum(self._totals, 1.0)
        cycles = self._cycles[slot]
        moved = means - self._means[slot]
        # A change against the mean of c cycles varies as 1 + 1/c of one.
        again = enough & (cycles > 0)
        changes = np.where(again, moved**2 * cycles / np.maximum(cycles + 1, 1.0), 0.0)
        self._changes = self._changes + changes.astype(np.float32)
        self._compared = self._compared + again.astype(np.float32)
        counted = np.minimum(cycles + 1, REMEMBERED)
        # New arrays, so that a copy of this season stays what it is.
        self._means, self._cycles = self._means.copy(), self._cycles.copy()
        self._means[slot] += np.where(enough, moved / np.maximum(counted, 1.0), 0.0).astype(np.float16)
        self._cycles[slot] = np.where(enough, counted, cycles)
        self._sums, self._totals = np.zeros_like(self._sums), np.zeros_like(self._totals)

    def _learn(self) -> None:
        """The profile, of all that is known at the end of a slot."""
        cycles = self._cycles.astype(np.float64)
        seen = cycles >= CYCLES
        slots = seen.sum(axis=0)
        ready = (slots >= len(self._profile) / 2) & (self._compared > 0)
        means = self._means.astype(np.float64)
        share = np.maximum(slots, 1)
        center = np.where(seen[:, None], means, 0.0).sum(axis=0) / share
        differences = np.where(seen[:, None], means - center, 0.0)
        between = (differences**2).sum(axis=0) / np.maximum(share - 1, 1)
        of_one = self._changes / np.maximum(self._compared, 1.0)
        within = of_one * np.where(seen, 1 / np.maximum(cycles, 1.0), 0.0).sum(axis=0) / share
        believed = 1 - within / np.maximum(between, 1e-300)
        freedom = np.maximum(share - 1, 1), np.maximum(self._compared, 1.0)
        least = fdtri(*freedom, 1 - BY_CHANCE / max(self._changes.size, 1))
        kept = ready & (believed >= BELIEVED) & (between > least * within)
        self._profile = np.where(kept, believed * differences, 0.0).astype(np.float32)
        self.known = bool(kept.any())

    def state(self) -> SeasonState:
        return SeasonState(
            self._number,
            pack_floats(self._means),
            pack(self._cycles.ravel()),
            *(pack_floats(each) for each in (self._changes, self._compared, self._sums, self._totals)),
        )

    def restore(self, state: SeasonState) -> None:
        """Raises ``StateError`` for the state of other rows or slots."""
        try:
            means = unpack_floats(state.means, self._means.shape, np.float16)
            cycles = unpack(state.cycles).reshape(self._cycles.shape)
            changes, sums = (unpack_floats(data, self._sums.shape, np.float32) for data in (state.changes, state.sums))
            compared, totals = (
                unpack_floats(data, self._totals.shape, np.float32) for data in (state.compared, state.totals)
            )
        except ValueError as error:
            raise StateError(f"a season does not fit {len(self._totals)} rows: {error}") from None
        self._number, self._means, self._cycles = state.number, means, cycles
        self._changes, self._compared, self._sums, self._totals = changes, compared, sums, totals
        self._learn()


class SeasonState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A season in a snapshot."""

    number: int | None
    means: bytes
    cycles: bytes
    changes: bytes
    compared: bytes
    sums: bytes
    totals: bytes
