"""What a replay told: its alerts as incidents, and how much traffic there was; the summary for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from streamdrift.events import Batch
from streamdrift.evidence import rfc3339
from streamdrift.gridbook import ModelKey
from streamdrift.grids import Grid

AlertData = Mapping[str, Any]
SEVERITIES: Final = ("info", "warning", "critical")
MAX_SLOTS: Final = 2_000
"""Slots of event time in which events are counted, at most; then each becomes twice as long."""
_FIRST_SLOT_US: Final = 1_000_000
_WEEK_US: Final = 7 * 86_400_000_000


@dataclass(slots=True)
class Incident:
    """One incident, as all of its alerts tell it. Times as alerts write them."""

    incident_id: str
    model: str
    version: str
    segment: Mapping[str, str]
    kind: str
    severity: str
    """The highest that it reached."""
    feature: str | None
    """The first that was told of: the one that drifted most."""
    features: list[str]
    """All that were part of it; of performance, metrics."""
    started: str
    onset: str | None
    """When the change most probably began, or ``before_monitoring``."""
    steps: list[tuple[str, str]] = field(default_factory=list)
    """When it reached which severity."""
    resolved: str | None = None
    resolution: str | None = None
    summary: str = ""
    calibrated: bool = True


@dataclass(slots=True)
class Volume:
    """Events of one model version by slots of event time, which grow with the span."""

    slot_us: int = _FIRST_SLOT_US
    counts: Counter[int] = field(default_factory=Counter)
    first_us: int | None = None
    last_us: int | None = None
    grid: Grid | None = None

    def add(self, events: Batch) -> None:
        """Count events."""
        low, high = int(events.times.min()), int(events.times.max())
        self.first_us = low if self.first_us is None else min(self.first_us, low)
        self.last_us = high if self.last_us is None else max(self.last_us, high)
        while (self.last_us - self.first_us) // self.slot_us >= MAX_SLOTS:
            merged: Counter[int] = Counter()
            for slot, count in self.counts.items():
                merged[slot // 2] += count
            self.slot_us, self.counts = 2 * self.slot_us, merged
        slots, counts = np.unique(events.times // self.slot_us, return_counts=True)
        self.counts.update(dict(zip(slots.tolist(), counts.tolist(), strict=True)))
        if not events.grid.blind:
            self.grid = events.grid

    @property
    def events(self) -> int:
        return self.counts.total()

    @property
    def weeks(self) -> float:
        """Event time from the first event to the last."""
        return ((self.last_us or 0) - (self.first_us or 0)) / _WEEK_US


class Chronicle:
    """Takes note of events and alerts as they come."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}
        self.volumes: dict[ModelKey, Volume] = {}
        self.alerts = 0

    def observe(self, events: Batch) -> None:
        """Take note of accepted events."""
        key = events.grid.model_id, events.grid.model_version
        self.volumes.setdefault(key, Volume()).add(events)

    def tell(self, alert: AlertData) -> None:
        """Take note of an alert."""
        self.alerts += 1
        told = [*alert.get("features", ()), *alert.get("metrics", ())]
        names = list(dict.fromkeys(str(each.get("feature", each.get("metric"))) for each in told))
        incident = self.incidents.get(alert["incident_id"])
        if incident is None:
            incident = self.incidents[alert["incident_id"]] = Incident(
                alert["incident_id"],
                alert["model_id"],
                alert["model_version"],
                alert.get("segment", {}),
                alert["kind"],
                alert["severity"],
                names[0] if names else None,
                names,
                alert["event_time"],
                _onset(told),
            )
        incident.features = list(dict.fromkeys([*incident.features, *names]))
        incident.severity = max(incident.severity, alert["severity"], key=SEVERITIES.index)
        if not incident.steps or incident.steps[-1][1] != alert["severity"]:
            incident.steps.append((alert["event_time"], alert["severity"]))
        incident.calibrated = all(each.get("calibrated", False) for each in told)
        if alert["phase"] == "resolved":
            incident.resolved, incident.resolution = alert["event_time"], alert.get("resolution")
        else:
            incident.summary = alert["summary"]

    @property
    def events(self) -> int:
        """Events that were counted."""
        return sum(volume.events for volume in self.volumes.values())

    @property
    def bounds_us(self) -> tuple[int, int] | None:
        """Times of the first and the last event; None if there was none."""
        firsts = [volume.first_us for volume in self.volumes.values() if volume.first_us is not None]
        lasts = [volume.last_us for volume in self.volumes.values() if volume.last_us is not None]
        return (min(firsts), max(lasts)) if firsts and lasts else None

    @property
    def feature_weeks(self) -> float:
        """Columns times the weeks in which they had events."""
        return sum(volume.weeks * len(volume.grid.columns) for volume in self.volumes.values() if volume.grid)

    def summary(self) -> dict[str, Any]:
        """The part of the summary that this tells."""
        incidents = list(self.incidents.values())
        weeks = self.feature_weeks
        first, last = self.bounds_us or (None, None)
        return {
            "from": None if first is None else rfc3339(first),
            "to": None if last is None else rfc3339(last),
            "alerts": self.alerts,
            "incidents": [asdict(incident) for incident in incidents],
            "by_kind": dict(Counter(incident.kind for incident in incidents)),
            "by_severity": dict(Counter(incident.severity for incident in incidents)),
            "per_week": per_week(incidents),
            "feature_weeks": weeks,
            "per_feature_and_week": sum(len(incident.features) for incident in incidents) / weeks if weeks else None,
        }


def per_week(incidents: Iterable[Incident]) -> list[dict[str, Any]]:
    """How many incidents started in which week (by its Monday), by model, feature, kind and severity."""
    counts = Counter(
        (week_of(incident.started), incident.model, feature, incident.kind, incident.severity)
        for incident in incidents
        for feature in incident.features or [""]
    )
    names = ("week", "model", "feature", "kind", "severity")
    return [{**dict(zip(names, key, strict=True)), "incidents": count} for key, count in sorted(counts.items())]


def week_of(time: str) -> str:
    """The Monday of a time's week.

    >>> week_of("2026-11-22T10:00:00Z")
    '2026-11-16'
    """
    day = datetime.fromisoformat(time).astimezone(UTC).date()
    return str(day - timedelta(days=min(day.weekday(), day.toordinal() - 1)))


def _onset(told: Sequence[Mapping[str, Any]]) -> str | None:
    onsets = [str(each["onset"]) for each in told if each.get("onset")]
    return min(onsets, key=lambda onset: (onset != "before_monitoring", onset), default=None)
