"""What pages and metrics show of the incidents of a model version: open ones, and the last that were resolved."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from streamdrift.detectors.detector import Ticks
from streamdrift.incidents import Alert, Incident, Phase
from streamdrift.status import MUTED, IncidentStatus
from streamdrift.ticks import MICROSECONDS

MAX_RESOLVED_SHOWN: Final = 10
LATELY_US: Final = 30 * 86_400 * MICROSECONDS
MAX_COUNTED: Final = 1_000
"""Incidents of which it is remembered when they started."""


class HistoryState(msgspec.Struct, array_like=True, frozen=True):
    """When incidents started, in microseconds since the epoch, and since when that is known."""

    since_us: int | None = None
    started: list[int] = []


class IncidentHistory:
    """Remembers what was said since start, and for longer when incidents started."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._resolved: deque[IncidentStatus] = deque(maxlen=MAX_RESOLVED_SHOWN)
        self._alerts: dict[tuple[str, str], int] = {}
        self._since_us: int | None = None
        self._started: deque[int] = deque(maxlen=MAX_COUNTED)

    @property
    def alerts(self) -> Mapping[tuple[str, str], int]:
        """Alerts by (kind, severity)."""
        return dict(self._alerts)

    def remember(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            key = str(alert.data["kind"]), str(alert.data["severity"])
            self._alerts[key] = self._alerts.get(key, 0) + 1
            if alert.phase is Phase.STARTED:
                self._started.append(self._ticks.end_us(alert.tick))
            if alert.phase is Phase.RESOLVED:
                self._resolved.appendleft(self._of_alert(alert))

    def remember_unheard(self, incidents: Iterable[Incident], tick: int) -> None:
        """Incidents that ended in ``tick``, and of which nobody was told."""
        for incident in incidents:
            ended = replace(self._of_incident(incident), resolved_us=self._ticks.end_us(tick))
            self._resolved.appendleft(ended)

    def lately(self, tick: int) -> tuple[int, int]:
        """Incidents that started in the 30 days up to ``tick``, and how many microseconds of these it knows.

        At most ``MAX_COUNTED`` are counted.
        """
        now_us = self._ticks.end_us(tick)
        known_us = 0 if self._since_us is None else min(now_us - self._since_us, LATELY_US)
        return sum(start > now_us - LATELY_US for start in self._started), known_us

    def begin(self, tick: int) -> None:
        """Know of all incidents from ``tick`` on, unless it knows of earlier ones."""
        if self._since_us is None:
            self._since_us = tick * self._ticks.length_us

    def state(self) -> HistoryState:
        """What a snapshot keeps of it."""
        return HistoryState(self._since_us, list(self._started))

    def restore(self, state: HistoryState) -> None:
        """Go on from ``state``."""
        self._since_us, self._started = state.since_us, deque(state.started, MAX_COUNTED)

    def shown(self, open_: Sequence[Incident]) -> tuple[IncidentStatus, ...]:
        """The open incidents, and the last few that were resolved."""
        return (*map(self._of_incident, open_), *self._resolved)

    def _of_incident(self, incident: Incident) -> IncidentStatus:
        contributions = (incident.contributions or incident.recovered).values()
        return IncidentStatus(
            incident.incident_id,
            str(incident.kind),
            str(incident.severity),
            MUTED if incident.is_muted else "open",
            incident.summary,
            tuple(dict.fromkeys(c.feature for c in contributions)),
            self._ticks.end_us(incident.started),
            muted={c.feature: c.muted for c in contributions if c.muted},
        )

    def _of_alert(self, alert: Alert) -> IncidentStatus:
        data = alert.data
        features = [feature["feature"] for feature in data["features"]]
        return IncidentStatus(
            alert.incident_id,
            str(data["kind"]),
            str(data["severity"]),
            str(alert.phase),
            str(data["summary"]),
            tuple(dict.fromkeys([*features, *(metric["metric"] for metric in data.get("metrics", ()))])),
            self._ticks.end_us(alert.started),
            self._ticks.end_us(alert.tick),
        )
