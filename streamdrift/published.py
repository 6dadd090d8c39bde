"""The window of published effects: what gauges and pages show of a model, whether anything alarms or not.

It spans the configured time (1 h by default) in at most twelve panes and slides by a pane::

    |pane|pane|pane| … |pane|·· filling
     └─ the oldest is dropped once it lies before the window, and the others hold 1,000 events

Where traffic is slow, panes are merged instead of dropped, so that the window reaches back to 1,000 events with no more
panes. Below that there is no data, never a number.

The pane that is filling is kept in parts, the newest one a tick long and older ones ever longer, so that what came
since the onset of a change can be shown at once, and alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.grids import MISSING, SPECIAL_SLOTS, TYPE_ERROR, UNSEEN
from streamdrift.summaries import Names
from streamdrift.windows import Reference, Window, WindowState, to_state

PANES: Final = 12
ENOUGH: Final = 1_000
"""Events below which scores are noise."""
SHOWN: Final = 50
"""Fewest events to be shown of a change: rather some from before it than fewer."""
PARTS: Final = 3
"""Parts of one length in the pane that is filling, before two of them are joined."""


class _Pane(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    start: int
    stop: int
    """First tick of the pane, and the first one behind it."""
    window: WindowState


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    panes: list[_Pane]
    filling: list[_Pane]
    names: dict[int, dict[str, int]]
    until: int


class PublishedWindow:
    """The panes of one model version, and the scores of the whole as of the last complete pane."""

    def __init__(self, reference: Reference, ticks: Ticks, window_us: int) -> None:
        self._reference = reference
        self._span = max(1, -(-window_us // ticks.length_us))
        self._ticks_a_pane = -(-self._span // PANES)
        self._panes: list[tuple[int, int, Window]] = []
        self._filling: list[tuple[int, int, Window]] = []
        self._names = Names()
        """Of the last complete pane."""
        self._until = 0
        self._columns: list[Mapping[str, Any] | None] | None = None

    @property
    def events(self) -> int:
        """Events in the window as it is published."""
        return sum(window.events for _, _, window in self._panes)

    @property
    def whole(self) -> Window:
        """Everything in the window as it is published."""
        return reduce(add, (window for _, _, window in self._panes), self._reference.empty())

    def since(self, onset: int | None) -> Window:
        """What came from the tick ``onset`` on, as far as it is kept; all of it if None."""
        parts = [*self._panes, *self._filling]
        place = len(parts)
        while place and (onset is None or parts[place - 1][0] >= onset):
            place -= 1
        found = reduce(add, (window for _, _, window in parts[place:]), self._reference.empty())
        if found.events < SHOWN and place:
            found = parts[place - 1][2] + found
        return replace(found, names=found.names + self._names)

    def close(self, tick: int, window: Window | None) -> bool:
        """Take the events of a closed tick; whether that completed a pane."""
        completed = bool(self._filling) and tick >= self._until
        if completed:
            self._complete()
        if window is not None:
            if not self._filling:
                # Panes lie on a fixed raster of event time, so that their bounds do not depend on the first event.
                self._until = (tick // self._ticks_a_pane + 1) * self._ticks_a_pane
            self._filling.append((tick, tick + 1, window))
            self._join()
        if self._filling and tick >= self._until - 1:
            self._complete()
            completed = True
        return completed

    def due(self) -> int | None:
        """The last tick of the pane that is filling: scores are due at its close, events or not."""
        return self._until - 1 if self._filling else None

    def _join(self) -> None:
        """Join the two oldest of more than three parts of one length, which may make too many of the next."""
        parts, end = self._filling, len(self._filling)
        while end > PARTS:
            size = (parts[end - 1][1] - parts[end - 1][0]).bit_length()
            start = end
            while start and (parts[start - 1][1] - parts[start - 1][0]).bit_length() <= size:
                start -= 1
            if end - start > PARTS:
                (first, _, one), (_, stop, other) = parts[start : start + 2]
                parts[start : start + 2] = [(first, stop, one + other)]
                end = start + 1
            else:
                end = start

    def _complete(self) -> None:
        pane = reduce(add, (window for _, _, window in self._filling))
        # No score needs the names, and their length is in nobody's hands.
        self._panes.append((self._until - self._ticks_a_pane, self._until, replace(pane, names=Names())))
        self._filling, self._names = [], pane.names
        while len(self._panes) > 1 and self._can_do_without_oldest():
            self._panes.pop(0)
        if len(self._panes) > PANES:
            self._merge()
        self._columns = None

    def _merge(self) -> None:
        """Make one pane of the two neighbours that together hold the fewest events: none grows beyond its share."""
        sizes = [window.events for _, _, window in self._panes]
        i = min(range(len(sizes) - 1), key=lambda i: sizes[i] + sizes[i + 1])
        (start, _, first), (_, stop, second) = self._panes[i : i + 2]
        self._panes[i : i + 2] = [(start, stop, first + second)]

    def _can_do_without_oldest(self) -> bool:
        (_, stop, _), *rest = self._panes
        return stop <= rest[-1][1] - self._span and sum(window.events for _, _, window in rest) >= ENOUGH

    def column(self, index: int) -> Mapping[str, Any] | None:
        """Scores and shares of a column by the names of ``FeatureStatus``; None while there is too little data."""
        if self._columns is None:
            # Scored when someone looks, not at every pane: many panes pass between two scrapes of a catch-up.
            self._columns = self._scored()
        return self._columns[index]

    def _scored(self) -> list[Mapping[str, Any] | None]:
        reference = self._reference
        whole = self.whole
        return [
            _view(effects, counts) if counts.sum() >= ENOUGH else None
            for effects, counts in zip(reference.effects(whole), reference.publish(whole), strict=True)
        ]

    def state(self) -> object:
        """Values that MessagePack can hold."""
        panes, filling = (
            [_Pane(start, stop, to_state(window)) for start, stop, window in parts]
            for parts in (self._panes, self._filling)
        )
        names = {column: dict(names) for column, names in self._names.columns.items()}
        return msgspec.to_builtins(_State(panes, filling, names, self._until), builtin_types=(bytes,))

    def restore(self, state: object) -> None:
        """Go on from ``state``. Raises ``StateError`` if that cannot be."""
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise StateError(f"published window: {error}") from None
        window = self._reference.from_state
        if not all(0 <= column < len(self._reference.grid.columns) for column in saved.names):
            raise StateError("published window: it has names of other columns")
        self._panes, self._filling = (
            [(pane.start, pane.stop, window(pane.window)) for pane in parts] for parts in (saved.panes, saved.filling)
        )
        self._names, self._until = Names(saved.names), saved.until
        self._columns = None


def _view(effects: dict[str, float], counts: NDArray[np.int64]) -> Mapping[str, Any]:
    """Scores and shares of a column of these published counts."""
    missing, unseen, type_error = (
        float(counts[slot - SPECIAL_SLOTS] / counts.sum()) for slot in (MISSING, UNSEEN, TYPE_ERROR)
    )
    return {
        "mean": effects.pop("mean_after", None),
        "baseline_mean": effects.pop("mean_before", None),
        "effects": effects,
        "missing_ratio": missing,
        "unseen_ratio": unseen,
        "type_error_ratio": type_error,
    }
