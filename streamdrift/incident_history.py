"""What pages and metrics show of the incidents of a model version: open ones, and the last that were resolved."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from streamdrift.detectors.detector import Ticks
from streamdrift.incidents import Alert, Incident, Phase
from streamdrift.status import IncidentStatus

MAX_RESOLVED_SHOWN: Final = 10


class IncidentHistory:
    """Remembers what was said since start."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._resolved: deque[IncidentStatus] = deque(maxlen=MAX_RESOLVED_SHOWN)
        self._alerts: dict[tuple[str, str], int] = {}

    @property
    def alerts(self) -> Mapping[tuple[str, str], int]:
        """Alerts by (kind, severity)."""
        return dict(self._alerts)

    def remember(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            key = str(alert.data["kind"]), str(alert.data["severity"])
            self._alerts[key] = self._alerts.get(key, 0) + 1
            if alert.phase is Phase.RESOLVED:
                self._resolved.appendleft(self._of_alert(alert))

    def shown(self, open_: Sequence[Incident]) -> tuple[IncidentStatus, ...]:
        """The open incidents, and the last few that were resolved."""
        return (*map(self._of_incident, open_), *self._resolved)

    def _of_incident(self, incident: Incident) -> IncidentStatus:
        return IncidentStatus(
            incident.incident_id,
            str(incident.kind),
            str(incident.severity),
            "open",
            incident.summary,
            tuple(dict.fromkeys(c.feature for c in incident.contributions.values())),
            self._ticks.end_us(incident.started),
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
