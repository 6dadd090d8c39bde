"""Windows: what a monitor keeps of closed ticks, and how they compare with the baseline.

A grid is finer than any comparison needs. Against the baseline, bins are merged twice::

    grid        up to 128 bins a column     summaries, baseline
    window      up to  40 bins              what is kept over time; Kolmogorov–Smirnov, Wasserstein, L∞
    published   up to  10 bins              PSI, Jensen–Shannon, the histograms in an alert

with the three special slots (unseen, missing, type error) beside the bins on every level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.detectors import effects
from streamdrift.errors import StateError
from streamdrift.grids import SPECIAL_SLOTS, Column, Kind
from streamdrift.merging import merge_bins, merge_categories
from streamdrift.packing import pack, unpack
from streamdrift.summaries import Moments, Names, Summary

WINDOW_BINS: Final = 40
PUBLISHED_BINS: Final = 10
WINDOW_SLOTS: Final = WINDOW_BINS + SPECIAL_SLOTS
PUBLISHED_SLOTS: Final = PUBLISHED_BINS + SPECIAL_SLOTS


@dataclass(frozen=True, slots=True)
class Window:
    """Events of some consecutive ticks, on the merged bins of a ``Reference``. Windows add up."""

    events: int
    counts: NDArray[np.int64]
    """Shape (reference.slots,)."""
    moments: Moments
    names: Names

    def __add__(self, other: Window) -> Window:
        return Window(
            self.events + other.events,
            self.counts + other.counts,
            self.moments + other.moments,
            self.names + other.names,
        )


class WindowState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A window in a snapshot."""

    events: int
    counts: bytes
    limbs: bytes
    names: dict[int, dict[str, int]]


def to_state(window: Window) -> WindowState:
    """A window as a snapshot holds it."""
    names = {column: dict(names) for column, names in window.names.columns.items()}
    return WindowState(window.events, pack(window.counts), pack(window.moments.limbs.ravel()), names)


class Reference:
    """A baseline made ready for comparison. Immutable; the same baseline gives the same reference."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        grid = self.grid = baseline.grid
        counts, starts = baseline.summary.counts, grid.offsets
        fine = [
            _merged(column, counts[starts[i] : starts[i + 1] - SPECIAL_SLOTS], WINDOW_BINS)
            for i, column in enumerate(grid.columns)
        ]
        sizes = [int(groups.max(initial=-1)) + 1 + SPECIAL_SLOTS for groups in fine]
        self.offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        """Start of each column in a window's counts, and their length. Shape (columns + 1,)."""
        self._slot_of_grid_slot = np.concatenate(
            [start + _with_specials(groups) for start, groups in zip(self.offsets[:-1], fine, strict=True)]
            or [np.zeros(0, dtype=np.int64)]
        )
        self.edges = [
            np.asarray(c.edges)[np.flatnonzero(np.diff(groups))] if c.kind is Kind.NUMERIC else np.zeros(0)
            for c, groups in zip(grid.columns, fine, strict=True)
        ]
        """Inner edges of the merged bins of numeric columns, in the column's unit."""
        self.window = self.reduce(baseline.summary)
        """The baseline itself as a window."""
        published = [
            _merged(column, self.of_column(self.window.counts, i)[:-SPECIAL_SLOTS], PUBLISHED_BINS)
            for i, column in enumerate(grid.columns)
        ]
        self._published = published
        # Bins of a column from the left, special slots at the right end: narrow columns leave zeros between.
        self._place = np.concatenate(
            [
                np.concatenate((groups, np.arange(PUBLISHED_BINS, PUBLISHED_SLOTS, dtype=np.int64)))
                for groups in published
            ]
            or [np.zeros(0, dtype=np.int64)]
        )
        self.published = self.publish(self.window)
        """The baseline's published counts. Shape (columns, PUBLISHED_SLOTS)."""

    @property
    def slots(self) -> int:
        return int(self.offsets[-1])

    def reduce(self, summary: Summary) -> Window:
        """A summary on the grid as a window."""
        counts = np.zeros(self.slots, dtype=np.int64)
        np.add.at(counts, self._slot_of_grid_slot, summary.counts)
        return Window(summary.events, counts, summary.moments, summary.names)

    def refine(self, window: Window) -> Summary:
        """A window as a summary on the grid, which ``reduce`` makes the same window again.

        Inside a merged bin, events are spread as the baseline's are: largest remainders, the first bin among equals.
        """
        weights = self.baseline.summary.counts.astype(np.float64)
        size = np.bincount(self._slot_of_grid_slot, minlength=self.slots)
        mass = np.bincount(self._slot_of_grid_slot, weights, minlength=self.slots)
        of_slot = self._slot_of_grid_slot
        even = mass[of_slot] == 0
        share = np.where(even, 1 / size[of_slot], weights / np.where(even, 1, mass[of_slot]))
        exact = share * window.counts[of_slot]
        counts = np.floor(exact).astype(np.int64)
        left = window.counts - np.bincount(of_slot, counts, minlength=self.slots).astype(np.int64)
        order = np.lexsort((np.arange(len(exact)), counts - exact, of_slot))
        first = np.searchsorted(of_slot[order], np.arange(self.slots))
        rank = np.arange(len(order)) - first[of_slot[order]]
        counts[order] += rank < left[of_slot[order]]
        return Summary(window.events, counts, window.moments, Names(), {})

    def empty(self) -> Window:
        return Window(0, np.zeros(self.slots, dtype=np.int64), Moments.empty(len(self.grid.columns)), Names())

    def from_state(self, state: WindowState) -> Window:
        """What ``to_state`` was given. Raises ``StateError`` if that was no window of this reference."""
        empty = self.empty()
        try:
            counts = unpack(state.counts).reshape(empty.counts.shape)
            limbs = unpack(state.limbs).reshape(empty.moments.limbs.shape)
        except ValueError as error:
            raise StateError(f"a window does not fit the baseline: {error}") from None
        if not all(0 <= column < len(self.grid.columns) for column in state.names):
            raise StateError("a window does not fit the baseline: it has names of other columns")
        return Window(state.events, counts, Moments(limbs), Names(state.names))

    def of_column(self, counts: NDArray[np.int64], column: int) -> NDArray[np.int64]:
        """A column's part of a window's counts: its bins, then unseen, missing, type error."""
        return counts[self.offsets[column] : self.offsets[column + 1]]

    def publish(self, window: Window, columns: Sequence[int] | None = None) -> NDArray[np.int64]:
        """Counts of some columns on the published bins, padded with zeros; of all of them if None.

        Shape (columns, PUBLISHED_SLOTS).
        """
        columns = range(len(self.grid.columns)) if columns is None else columns
        slots, rows = self._slots_of(columns)
        found = np.zeros((len(columns), PUBLISHED_SLOTS), dtype=np.int64)
        np.add.at(found, (rows, self._place[slots]), window.counts[slots])
        return found

    def published_edges(self, column: int) -> list[float]:
        """Inner edges of a numeric column's published bins."""
        return [float(edge) for edge in self.edges[column][np.flatnonzero(np.diff(self._published[column]))]]

    def published_categories(self, column: int) -> list[str | None]:
        """Names of a categorical column's published bins; None for the one that holds all others."""
        names = self.grid.columns[column].categories
        start = self.grid.offsets[column]
        to_window = self._slot_of_grid_slot[start : start + len(names)] - self.offsets[column]
        published = self._published[column][to_window]
        size = np.bincount(published)
        return [names[int(np.flatnonzero(published == i)[0])] if n == 1 else None for i, n in enumerate(size)]

    def mean_and_sd(self, window: Window, column: int) -> tuple[float, float] | None:
        """Mean and standard deviation of a numeric column in its own unit; None without values."""
        counts = self.of_column(window.counts, column)
        n = int(counts[:-SPECIAL_SLOTS].sum())
        if self.grid.columns[column].kind is not Kind.NUMERIC or n == 0:
            return None
        unit, center = float(self.grid.units[column]), float(self.grid.centers[column])
        return center + unit * window.moments.mean(column, n), unit * window.moments.variance(column, n) ** 0.5

    def limited_side(self, window: Window, column: int) -> int | None:
        """On which side values of a numeric column were limited for its mean (see ``Moments``); None if none was."""
        n = int(self.of_column(window.counts, column)[:-SPECIAL_SLOTS].sum())
        return window.moments.limited_side(column, n) if window.moments.clamped(column) else None

    def effects(self, window: Window, columns: Sequence[int] | None = None) -> list[dict[str, float]]:
        """Every published score that can be computed of each of some columns; of all of them if None.

        Keys: psi and jensen_shannon (corrected), kolmogorov_smirnov and wasserstein for numbers, l_infinity for
        categories, mean_before, mean_after and mean_shift_sd. A score without meaning here is left out.
        """
        chosen = np.arange(len(self.grid.columns)) if columns is None else np.asarray(columns, dtype=np.int64)
        found: list[dict[str, float]] = [{} for _ in chosen]
        ours, theirs = self.published[chosen], self.publish(window, columns)
        both = np.flatnonzero((ours.sum(axis=1) > 0) & (theirs.sum(axis=1) > 0))
        scores = {
            "psi": effects.corrected_psi(ours[both], theirs[both]),
            "jensen_shannon": effects.corrected_jensen_shannon_distance(ours[both], theirs[both]),
        }
        _add(found, both, scores)
        found_of_both, chosen = [found[row] for row in both.tolist()], chosen[both]
        numeric = self._numeric[chosen]
        for kind, add in ((~numeric, self._add_categorical_effects), (numeric, self._add_numeric_effects)):
            if kind.any():
                add([found_of_both[row] for row in np.flatnonzero(kind).tolist()], chosen[kind], window)
        return found

    def _spread(self, counts: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """A window's counts of some columns, bins from the left, special slots at the right end."""
        slots, rows = self._slots_of(columns)
        spread = np.zeros((len(columns), WINDOW_SLOTS), dtype=np.int64)
        spread[rows, self._spread_place[slots]] = counts[slots]
        return spread

    def _slots_of(self, columns: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The slots of some columns in a window's counts, and of which of them each slot is. Shapes (slots,)."""
        slots = [np.arange(self.offsets[column], self.offsets[column + 1]) for column in columns]
        rows = np.repeat(np.arange(len(slots)), [len(each) for each in slots])
        return np.concatenate([np.zeros(0, dtype=np.int64), *slots]), rows

    def _add_categorical_effects(
        self, found: list[dict[str, float]], columns: NDArray[np.int64], window: Window
    ) -> None:
        # A name that nobody knew is a category too; a missing value is not.
        before, after = (self._spread(each.counts, columns)[:, : 1 - SPECIAL_SLOTS] for each in (self.window, window))
        both = np.flatnonzero((before.sum(axis=1) > 0) & (after.sum(axis=1) > 0))
        _add(found, both, {"l_infinity": effects.l_infinity(before[both], after[both])})

    def _add_numeric_effects(self, found: list[dict[str, float]], columns: NDArray[np.int64], window: Window) -> None:
        before, after = (self._spread(each.counts, columns)[:, :-SPECIAL_SLOTS] for each in (self.window, window))
        both = np.flatnonzero((before.sum(axis=1) > 0) & (after.sum(axis=1) > 0))
        ours = np.array([self._means_and_sds[i] for i in columns[both].tolist()]).reshape(-1, 2)
        theirs = np.array([self.mean_and_sd(window, i) for i in columns[both].tolist()]).reshape(-1, 2)
        _add(
            found,
            both,
            {
                "kolmogorov_smirnov": effects.kolmogorov_smirnov(before[both], after[both]),
                "mean_before": ours[:, 0],
                "mean_after": theirs[:, 0],
            },
        )
        known = np.isfinite(ours[:, 1])
        both, ours, theirs = both[known], ours[known], theirs[known]
        with np.errstate(over="ignore", invalid="ignore"):  # edges at both ends of float64: no distance, left out
            shifts = np.array([effects.mean_shift_sd(a, b, sd) for (a, sd), (b, _) in zip(ours, theirs, strict=True)])
            edges = self._padded_edges[columns[both]]
            distances = effects.wasserstein_with_means(before[both], after[both], edges, ours[:, 1], shifts)
        _add(found, both, {"wasserstein": distances, "mean_shift_sd": shifts})

    @cached_property
    def _means_and_sds(self) -> list[tuple[float, float] | None]:
        return [self.mean_and_sd(self.window, i) for i in range(len(self.grid.columns))]

    @cached_property
    def _numeric(self) -> NDArray[np.bool_]:
        return np.array([column.kind is Kind.NUMERIC for column in self.grid.columns], dtype=np.bool_)

    @cached_property
    def _padded_edges(self) -> NDArray[np.float64]:
        """Inner edges of the merged bins, NaN behind the last one. Shape (columns, WINDOW_BINS - 1)."""
        padded = np.full((len(self.edges), WINDOW_BINS - 1), np.nan)
        for row, edges in zip(padded, self.edges, strict=True):
            row[: len(edges)] = edges
        return padded

    @cached_property
    def _spread_place(self) -> NDArray[np.int64]:
        """Where each slot of a window goes in its column when columns are made equally wide."""
        sizes = np.diff(self.offsets)
        within = np.arange(self.slots) - np.repeat(self.offsets[:-1], sizes)
        special = within >= np.repeat(sizes - SPECIAL_SLOTS, sizes)
        return np.asarray(np.where(special, within + np.repeat(WINDOW_SLOTS - sizes, sizes), within), dtype=np.int64)


def _add(found: list[dict[str, float]], rows: NDArray[np.int64], scores: Mapping[str, NDArray[np.float64]]) -> None:
    """Give some rows their scores, those that are numbers."""
    for name, values in scores.items():
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            if math.isfinite(value):
                found[row][name] = value


def _merged(column: Column, counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    merge = merge_bins if column.kind is Kind.NUMERIC else merge_categories
    return merge(counts, limit)


def _with_specials(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merged bin of each bin, and the special slots behind the last one."""
    bins = int(groups.max(initial=-1)) + 1
    return np.concatenate((groups, bins + np.arange(SPECIAL_SLOTS, dtype=np.int64)))
