"""River on the raw values of a stream: one value after the other, tick by tick.

A River detection is not calibrated. It corroborates the incidents of its model; only with ``alarm: true`` does it
put the column in alarm itself, until a window's time has passed without another detection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.detectors.river import RiverDetector, RiverSpec
from streamdrift.errors import StateError
from streamdrift.grids import Grid
from streamdrift.incidents import Corroboration
from streamdrift.status import RiverStatus
from streamdrift.summaries import Pairs


@dataclass(frozen=True, slots=True)
class RiverStream:
    """A River detector on a column of the model, by the column's name."""

    column: str
    spec: RiverSpec


class _State(msgspec.Struct, array_like=True, frozen=True):
    spec: dict[str, Any]
    detections: int
    last: int | None
    alarm: bool
    sampled: int
    detector: dict[str, Any]


class StreamWatch:
    """One River detector on one column of one model version."""

    def __init__(self, stream: RiverStream, name: str, index: int, hold_us: int, ticks: Ticks) -> None:
        """``name`` is the detector's, ``index`` the column's number in the grid.

        An alarm holds for ``hold_us`` after its last detection.
        """
        self.stream = stream
        self.name = name
        self.index = index
        self._hold_us = hold_us
        self._ticks = ticks
        self._detector = RiverDetector(stream.spec)
        self._detections = 0
        self._last: int | None = None
        self._alarm = False
        self._sampled = 0

    @property
    def key(self) -> str:
        return f"{self.stream.column}/{self.name}"

    def close(self, tick: int, pairs: Pairs | None) -> tuple[list[Finding], list[Corroboration]]:
        """Feed the values of a closed tick."""
        detected = self._detector.feed(pairs.series()) if pairs is not None else []
        self._sampled += pairs is not None and pairs.sampled
        findings: list[Finding] = []
        if detected:
            self._detections += len(detected)
            self._last = tick
            if self.stream.spec.alarm and not self._alarm:
                self._alarm = True
                findings.append(self._finding(tick))
        elif self._alarm and tick >= self._end():
            self._alarm = False
            findings.append(self._finding(tick))
        return findings, [Corroboration(self.name, self.stream.column, tick)] if detected else []

    def due(self) -> int | None:
        """The tick at whose close an alarm ends if nothing more is detected."""
        return self._end() if self._alarm else None

    def status(self) -> RiverStatus:
        last = None if self._last is None else self._ticks.end_us(self._last)
        return RiverStatus(self.stream.column, self.name, self._detections, last)

    def state(self) -> object:
        return msgspec.to_builtins(
            _State(
                _identity(self.stream.spec),
                self._detections,
                self._last,
                self._alarm,
                self._sampled,
                self._detector.state(),
            ),
            builtin_types=(bytes,),
        )

    def restore(self, state: object) -> None:
        """Go on from ``state``; a detector whose parameters were changed starts anew."""
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise StateError(f"{self.key}: {error}") from None
        self._detections, self._last, self._alarm = saved.detections, saved.last, saved.alarm
        self._sampled = saved.sampled
        if saved.spec == _identity(self.stream.spec):
            self._detector.restore(saved.detector)

    def _end(self) -> int:
        last = 0 if self._last is None else self._last
        return self._ticks.ending_at(self._ticks.end_us(last) + self._hold_us)

    def _finding(self, tick: int) -> Finding:
        onset = tick if self._last is None else self._last
        return Finding(self.index, self.name, False, self._alarm, 1.0, onset, None)  # noqa: FBT003 — never calibrated


def watches(streams: Iterable[RiverStream], grid: Grid, hold_us: int, ticks: Ticks) -> list[StreamWatch]:
    """A watch of each stream that the grid has; a second detector of the same class on a column is named ``…#2``."""
    found, seen = [], Counter[tuple[str, str]]()
    for stream in streams:
        if stream.column in grid.names:
            name = stream.spec.name
            seen[stream.column, name] += 1
            number = seen[stream.column, name]
            index = grid.names.index(stream.column)
            found.append(StreamWatch(stream, name if number == 1 else f"{name}#{number}", index, hold_us, ticks))
    return found


def _identity(spec: RiverSpec) -> dict[str, Any]:
    return {"class": spec.class_name, "parameters": dict(spec.parameters)}
