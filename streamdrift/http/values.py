"""Values of the JSON document that more than one part of it has: times, numbers, incidents."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from streamdrift.status import IncidentStatus

Document = dict[str, object]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(time_us: float | None) -> str | None:
    """A time in UTC to the millisecond; None for None and for what no calendar holds."""
    if time_us is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def finite(value: float | None) -> float | None:
    """A number that JSON knows, or None."""
    return value if value is not None and math.isfinite(value) else None


def incident_document(incident: IncidentStatus) -> Document:
    """An incident, open or resolved lately."""
    return {
        "incident_id": incident.incident_id,
        "kind": incident.kind,
        "severity": incident.severity,
        "phase": incident.phase,
        "summary": incident.summary,
        "features": list(incident.features),
        "started": rfc3339(incident.started_us),
        "resolved": rfc3339(incident.resolved_us),
        "muted": dict(incident.muted),
    }
