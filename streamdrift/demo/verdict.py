"""Which incidents of a script the alerts told of, and what they told of that is not in the script.

::

    script     ──────────[onset ── deadline ── end]──────────
    found                [ event time ]                          an alert of that kind names the feature in time
    explained       [ onset of the contributor       + 1 window]
    unexpected  x                                         x
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from streamdrift.generator import ScriptedIncident
from streamdrift.incidents import DriftKind, Phase

BUILT_KINDS: Final = frozenset(map(str, DriftKind))
"""Incidents of other kinds are in the script for what is to come: nobody can find them yet."""

_SAYS_SOMETHING_NEW: Final = frozenset({str(Phase.STARTED), str(Phase.UPDATED)})

AlertData = Mapping[str, Any]
"""``data`` of an alert, as the contract says."""


@dataclass(frozen=True, slots=True)
class Unexpected:
    """A contributor to an alert that nothing in the script explains."""

    incident_id: str
    kind: str
    feature: str | None
    """None for an alert without contributors."""
    event_time: str
    """Of the first alert that named it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ids are those of the script, in its order."""

    expected: tuple[str, ...]
    found: Mapping[str, datetime]
    """With the event time of the first alert that told of it."""
    missed: tuple[str, ...]
    not_built: tuple[str, ...]
    """Of kinds that cannot be found yet, and were not."""
    unexpected: tuple[Unexpected, ...]

    @property
    def passed(self) -> bool:
        return not (self.missed or self.unexpected)


@dataclass(frozen=True, slots=True)
class _Claim:
    """One contributor of one alert."""

    alert: AlertData
    feature: str | None
    onset: datetime
    time: datetime


def verdict(script: Sequence[ScriptedIncident], alerts: Iterable[AlertData], window: timedelta) -> Verdict:
    """Judge the alerts, in the order in which they were published. Resolved ones tell of nothing new.

    ``window`` is the longest that a detector's window lasts: a change shows in the one that it falls into.
    """
    claims = [claim for alert in alerts if alert["phase"] in _SAYS_SOMETHING_NEW for claim in _claims(alert)]
    found: dict[str, datetime] = {}
    for incident in script:
        times = [claim.time for claim in claims if _finds(claim, incident)]
        if times:
            found[incident.id] = min(times)
    open_ones = [incident for incident in script if incident.id not in found]
    return Verdict(
        tuple(incident.id for incident in script),
        found,
        tuple(incident.id for incident in open_ones if incident.kind in BUILT_KINDS),
        tuple(incident.id for incident in open_ones if incident.kind not in BUILT_KINDS),
        _unexpected(claim for claim in claims if not any(_explains(incident, claim, window) for incident in script)),
    )


def _claims(alert: AlertData) -> list[_Claim]:
    time = datetime.fromisoformat(alert["event_time"])
    claims = [
        _Claim(alert, feature["feature"], datetime.fromisoformat(feature.get("onset", alert["event_time"])), time)
        for feature in alert["features"]
    ]
    return claims or [_Claim(alert, None, time, time)]


def _finds(claim: _Claim, incident: ScriptedIncident) -> bool:
    return (
        claim.feature == incident.feature
        and claim.alert["kind"] == incident.kind
        and incident.onset <= claim.time <= incident.deadline
    )


def _explains(incident: ScriptedIncident, claim: _Claim, window: timedelta) -> bool:
    """Whether the contributor may be the incident, or its consequence.

    A change cannot be told of before it happened. It began, as far as a detector can say, in a window that holds a
    part of the incident.
    """
    return (
        _moves(incident, claim)
        and claim.time >= incident.onset
        and incident.onset - window <= claim.onset <= incident.end + window
    )


def _moves(incident: ScriptedIncident, claim: _Claim) -> bool:
    if claim.feature == incident.feature:
        return bool(claim.alert["kind"] == incident.kind)
    if claim.feature is None or claim.feature not in incident.explains:
        return False
    of_prediction = claim.feature.startswith("prediction.")
    return bool(claim.alert["kind"] == (str(DriftKind.PREDICTION_DRIFT) if of_prediction else incident.kind))


def _unexpected(claims: Iterable[_Claim]) -> tuple[Unexpected, ...]:
    """Once for each contributor of each incident, however often it was told of."""
    first: dict[tuple[str, str | None], Unexpected] = {}
    for claim in claims:
        alert = claim.alert
        told = Unexpected(alert["incident_id"], alert["kind"], claim.feature, alert["event_time"])
        first.setdefault((told.incident_id, told.feature), told)
    return tuple(first.values())


def to_document(verdict: Verdict, script: Sequence[ScriptedIncident]) -> dict[str, object]:
    """The demo's last line as values for a JSON encoder."""
    return {
        # What cannot be found yet is not expected: expected = found + missed.
        "incidents_expected": tuple(id_ for id_ in verdict.expected if id_ not in verdict.not_built),
        "found": tuple(verdict.found),
        "missed": verdict.missed,
        "not_built": verdict.not_built,
        "unexpected": verdict.unexpected,
        "script": [
            {
                "id": incident.id,
                "kind": incident.kind,
                "feature": incident.feature,
                "segment": incident.segment,
                "onset": incident.onset,
                "deadline": incident.deadline,
                "end": incident.end,
            }
            for incident in script
        ],
    }
