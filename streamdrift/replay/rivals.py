"""River's detectors on the same history, value by value, each with its defaults: what they would have said.

They see the numbers of every event that streamdrift counted, in order of time, and say nothing to streamdrift. While
nothing changes, every detection is a false alarm; they make no promise about these (see ``detectors.river``).

What that costs is bounded: KSWIN takes 340 µs a value. Where a history holds more values than a detector is given,
it watches some of the columns, and of these the beginning, and the summary says how long that was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.river import RiverDetector, RiverSpec
from streamdrift.events import Batch
from streamdrift.evidence import rfc3339
from streamdrift.gridbook import ModelKey
from streamdrift.grids import Grid, Kind
from streamdrift.rows import batch_of

VALUES: Final[Mapping[str, int]] = {"ADWIN": 20_000_000, "PageHinkley": 5_000_000, "KSWIN": 10_000}
"""Detectors, and the values that each is shown at most: a few seconds of CPU time each."""
WEEK_US: Final = 7 * 86_400_000_000
MAX_KEPT: Final = 1_000
"""Detections of one detector on one column whose times are kept; beyond it they are counted."""
MOST_WAITING: Final = 50_000
"""Events that are kept until it is known how they are counted."""


@dataclass(slots=True)
class Stream:
    """One detector on one column."""

    detector: RiverDetector
    limit: int
    detections: int = 0
    times_us: list[int] = field(default_factory=list)
    seen: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def feed(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Show the next values, of shape (n,), as far as the limit allows."""
        present = np.flatnonzero(~np.isnan(values))[: self.limit - self.seen]
        if not len(present):
            return
        detected = self.detector.feed(values[present])
        self.seen += len(present)
        self.first_us = int(times[present[0]]) if self.first_us is None else self.first_us
        self.last_us = int(times[present[-1]])
        self.detections += len(detected)
        self.times_us += times[present[detected]].tolist()[: MAX_KEPT - len(self.times_us)]

    @property
    def span_us(self) -> int:
        """Event time that it has watched."""
        return (self.last_us or 0) - (self.first_us or 0)


@dataclass(slots=True)
class _Model:
    grid: Grid
    streams: dict[tuple[int, str], Stream]
    """By column's number and detector."""


class Rivals:
    """All of River's detectors on all models."""

    def __init__(self, events: int) -> None:
        """``events``: how many the history is expected to hold."""
        self._events = max(events, 1)
        self._models: dict[ModelKey, _Model] = {}
        self._waiting: dict[ModelKey, list[Batch]] = {}
        self._new: list[Batch] = []

    def observe(self, events: Batch) -> None:
        """Take note of accepted events."""
        self._new.append(events)

    def feed(self) -> None:
        """Show the detectors what is new, in order of time."""
        new, self._new = self._new, []
        for key in dict.fromkeys(_key(batch) for batch in new):
            self._feed(key, [batch for batch in new if _key(batch) == key])

    def close(self, key: ModelKey, grid: Grid) -> None:
        """Show the detectors what still waited for the grid of its model version."""
        self._feed(key, (), grid)

    def _feed(self, key: ModelKey, batches: Sequence[Batch], grid: Grid | None = None) -> None:
        grid = grid or next((batch.grid for batch in batches if not batch.grid.blind), None)
        if grid is None:
            waiting = self._waiting.setdefault(key, [])
            if sum(map(len, waiting)) < MOST_WAITING:
                waiting += batches
            return
        known = self._models.get(key)
        if known is None or known.grid.names != grid.names:
            known = self._models[key] = self._begun(grid)
        batches = [_on(grid, batch) for batch in (*self._waiting.pop(key, ()), *batches)]
        if not batches:
            return
        times = np.concatenate([batch.times for batch in batches])
        order = np.argsort(times, kind="stable")
        for column in {column for column, _ in known.streams}:
            values = np.concatenate([batch.values[:, column] for batch in batches])[order]
            for (watched, _), stream in known.streams.items():
                if watched == column:
                    stream.feed(times[order], values)

    def _begun(self, grid: Grid) -> _Model:
        """The streams of a model: as many columns as the bound on values allows, spread evenly over them."""
        numeric = [i for i, column in enumerate(grid.columns) if column.kind is Kind.NUMERIC]
        streams: dict[tuple[int, str], Stream] = {}
        for name, most in VALUES.items() if numeric else ():
            count = min(len(numeric), max(1, most // self._events))
            for i in range(count):
                column = numeric[i * len(numeric) // count]
                streams[column, name] = Stream(RiverDetector(RiverSpec(f"drift.{name}")), most // count)
        return _Model(grid, streams)

    def streams(self) -> list[tuple[ModelKey, str, str, Stream]]:
        """(model version, column, detector, stream) of all that was watched."""
        return [
            (key, model.grid.names[column], detector, stream)
            for key, model in self._models.items()
            for (column, detector), stream in model.streams.items()
        ]

    def summary(self) -> dict[str, Any]:
        """For programs: what each detector found, in how much of the history."""
        return {name: self._of(name) for name in VALUES}

    def _of(self, detector: str) -> dict[str, Any]:
        found = [(key, column, stream) for key, column, name, stream in self.streams() if name == detector]
        detections = sum(stream.detections for _, _, stream in found)
        weeks = sum(stream.span_us for _, _, stream in found) / WEEK_US
        numeric = sum(column.kind is Kind.NUMERIC for model in self._models.values() for column in model.grid.columns)
        return {
            "detections": detections,
            "features": len(found),
            "of_features": numeric,
            "values": sum(stream.seen for _, _, stream in found),
            "feature_weeks": weeks,
            "per_feature_and_week": detections / weeks if weeks else None,
            "by_feature": [
                {
                    "model": key[0],
                    "version": key[1],
                    "feature": column,
                    "detections": stream.detections,
                    "first": rfc3339(stream.times_us[0]),
                }
                for key, column, stream in found
                if stream.detections
            ],
        }


def _key(batch: Batch) -> ModelKey:
    return batch.grid.model_id, batch.grid.model_version


def _on(grid: Grid, batch: Batch) -> Batch:
    """The same events on a grid that was not known yet when they were read."""
    return batch_of(grid, batch.hashes, batch.times, batch.rows or ()) if batch.grid.blind else batch
