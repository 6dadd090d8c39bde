"""The detectors of some columns, and the counts that show what they find.

A detector says when an alarm begins and ends. What it looks like is told anew as long as it lasts, from what came since
its onset: at each pane of the window that is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from streamdrift.detectors import build
from streamdrift.detectors.detector import Detector, Finding, Ticks
from streamdrift.errors import StateError
from streamdrift.published import PublishedWindow
from streamdrift.sensitivity import Sensitivity
from streamdrift.windows import Reference, Window


class _Alarm(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A column that a detector holds in alarm."""

    column: int
    detector: str
    calibrated: bool
    evidence_ratio: float
    onset: int | None
    confirmed: bool

    def finding(self, evidence_ratio: float, window: Window) -> Finding:
        return Finding(
            self.column,
            self.detector,
            self.calibrated,
            alarm=True,
            evidence_ratio=evidence_ratio,
            onset=self.onset,
            window=window,
            confirmed=self.confirmed,
        )


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    detectors: dict[str, Any]
    published: Any
    alarms: list[_Alarm]


class ColumnWatch:
    """All columns of a reference."""

    def __init__(self, reference: Reference, ticks: Ticks, sensitivity: Sensitivity, window_us: int) -> None:
        self.reference = reference
        self._detectors = build(reference, ticks, sensitivity)
        self.published = PublishedWindow(reference, ticks, window_us)
        """The window that is shown."""
        self._alarms: dict[tuple[int, str], _Alarm] = {}
        """What detectors hold in alarm, as of their last word on it."""

    @property
    def detectors(self) -> Collection[Detector]:
        """In the order in which they are asked."""
        return self._detectors.values()

    @property
    def names(self) -> Collection[str]:
        """The detectors that stand in its findings."""
        return {name for detector in self.detectors for name in detector.names}

    @property
    def calibrated(self) -> bool:
        """Whether the rates of false alarms of all detectors are known by now."""
        return all(detector.calibrated for detector in self.detectors)

    def close(self, tick: int, window: Window | None, *, again: bool = False) -> Iterator[Finding]:
        """Take the events of a closed tick, None for a tick without any; say what is new, and what lasts.

        ``again``: say it of all that lasts, although no pane ends.
        """
        completed = self.published.close(tick, window)
        told: set[tuple[int, str]] = set()
        for detector in self.detectors:
            for finding in detector.close(tick, window):
                key = finding.column, finding.detector
                told.add(key)
                if finding.alarm:
                    self._alarms[key] = _Alarm(
                        *key, finding.calibrated, finding.evidence_ratio, finding.onset, finding.confirmed
                    )
                else:
                    self._alarms.pop(key, None)
                    yield finding
        yield from self._as_it_is([alarm for key, alarm in self._alarms.items() if again or completed or key in told])

    def _as_it_is(self, alarms: Collection[_Alarm]) -> Iterator[Finding]:
        """Columns in alarm as they are now: what came since the onset, and the evidence of the last looks."""
        windows = {onset: self.published.since(onset) for onset in {alarm.onset for alarm in alarms}}
        evidence = {name: detector.evidence for detector in self.detectors for name in detector.names} if alarms else {}
        for alarm in alarms:
            # What was there before the first event is no part of later looks.
            ratio = alarm.evidence_ratio if alarm.onset is None else float(evidence[alarm.detector][alarm.column])
            yield alarm.finding(ratio, windows[alarm.onset])

    def strongest(self) -> tuple[Sequence[float | None], Sequence[str]]:
        """The largest evidence of each column over all detectors, and whose it is; None while they are calibrated."""
        calibrated = {name: detector for name, detector in self._detectors.items() if detector.calibrated}
        if not calibrated:
            columns = len(self.reference.grid.columns)
            return [None] * columns, [""] * columns
        evidence, names = np.array([detector.evidence for detector in calibrated.values()]), list(calibrated)
        return evidence.max(axis=0).tolist(), [names[i] for i in evidence.argmax(axis=0).tolist()]

    def due(self) -> int | None:
        """The next tick at whose close something happens even without events."""
        dues = (self.published.due(), *(detector.due() for detector in self.detectors))
        return min((tick for tick in dues if tick is not None), default=None)

    def state(self) -> object:
        """Values that MessagePack can hold."""
        return msgspec.to_builtins(
            _State(
                {name: detector.state() for name, detector in self._detectors.items()},
                self.published.state(),
                list(self._alarms.values()),
            ),
            builtin_types=(bytes,),
        )

    def restore(self, state: object) -> None:
        """Go on from ``state``. Raises ``StateError`` for what ``state`` never gave."""
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise StateError(f"the detectors of some columns: {error}") from None
        # A detector that this version does not have is dropped; one that is new here starts with nothing.
        for name, detector in self._detectors.items():
            if name in saved.detectors:
                detector.restore(saved.detectors[name])
        self.published.restore(saved.published)
        self._alarms = {(alarm.column, alarm.detector): alarm for alarm in saved.alarms}
