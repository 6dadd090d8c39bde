"""Which incidents of a script the alerts told of, what they told of that is not in the script, and what came of it.

::

    script     ──────────[onset ── deadline ── end]──────────
    found                [ event time ]                          an alert of that kind names the feature in time
    explained       [ onset of the contributor       + 1 window]
    unexpected  x                                         x
    loop                 [ performance ── requested ── fulfilled ── better ── resolved ]

The loop is expected of a script in which the concept changes: nothing but a training ends that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streamdrift.generator import ScriptedIncident
from streamdrift.generator.script import ERRORS, LOSSES, OUTCOMES
from streamdrift.incidents import DriftKind, Phase
from streamdrift.metrics import METRICS

LATE_LABELS: Final = timedelta(hours=12)
"""What labels say of an incident begins and ends so much later, or shows in a window of predictions that began so much
earlier."""
LOOP: Final = ("performance", "requested", "fulfilled", "better", "resolved")
"""Metrics below their benchmark, a request to train, a new version, its first window better than the old version's
last, and an end of all incidents."""

_OF_LABELS: Final = frozenset(map(str, (DriftKind.CONCEPT_DRIFT, DriftKind.PERFORMANCE, DriftKind.LABEL_DRIFT)))
_SAYS_SOMETHING_NEW: Final = frozenset({str(Phase.STARTED), str(Phase.UPDATED)})

_BEFORE_MONITORING: Final = "before_monitoring"
AlertData = Mapping[str, Any]
"""``data`` of an alert, or of a message on retraining, as the contract says."""


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
    unexpected: tuple[Unexpected, ...]
    loop: Mapping[str, datetime | None] = field(default_factory=dict)
    """When each step of ``LOOP`` was told of; empty where none is expected."""

    @property
    def passed(self) -> bool:
        return not (self.missed or self.unexpected) and all(self.loop.values())


@dataclass(frozen=True, slots=True)
class _Claim:
    """One contributor of one alert."""

    alert: AlertData
    feature: str | None
    onset: datetime
    time: datetime


def verdict(
    script: Sequence[ScriptedIncident],
    alerts: Sequence[AlertData],
    window: timedelta,
    requests: Sequence[AlertData] = (),
) -> Verdict:
    """Judge the alerts, in the order in which they were published. Resolved ones tell of nothing new.

    ``window`` is how far off a detector may be in saying when a change began. ``requests`` are the messages on
    retraining.
    """
    claims = [claim for alert in alerts if alert["phase"] in _SAYS_SOMETHING_NEW for claim in _claims(alert)]
    found: dict[str, datetime] = {}
    for incident in script:
        times = [claim.time for claim in claims if _finds(claim, incident)]
        if times:
            found[incident.id] = min(times)
    return Verdict(
        tuple(incident.id for incident in script),
        found,
        tuple(incident.id for incident in script if incident.id not in found),
        _unexpected(claim for claim in claims if not any(_explains(incident, claim, window) for incident in script)),
        _loop(script, alerts, requests),
    )


def _loop(
    script: Sequence[ScriptedIncident], alerts: Sequence[AlertData], requests: Sequence[AlertData]
) -> dict[str, datetime | None]:
    """When each step was told of first, none of them before the change that began it."""
    began = min((each.onset for each in script if each.kind == DriftKind.CONCEPT_DRIFT), default=None)
    if began is None:
        return {}
    told = {step: [time for time in times if time >= began] for step, times in _steps(alerts, requests).items()}
    loop: dict[str, datetime | None] = {step: min(told[step], default=None) for step in LOOP}
    ended = {alert["incident_id"] for alert in alerts if alert["phase"] == Phase.RESOLVED}
    if any(alert["incident_id"] not in ended for alert in alerts):
        loop["resolved"] = None
    return loop


def _steps(alerts: Iterable[AlertData], requests: Iterable[AlertData]) -> Mapping[str, list[datetime]]:
    steps: dict[str, list[datetime]] = {step: [] for step in LOOP}
    for alert in alerts:
        if alert["kind"] == DriftKind.PERFORMANCE:
            step = {Phase.STARTED: "performance", Phase.RESOLVED: "resolved"}.get(Phase(alert["phase"]))
            steps[step or "performance"].append(_time(alert))
    for request in requests:
        steps[str(request["phase"])].append(_time(request))
        if request.get("comparison") and all(compared["better_by"] > 0 for compared in request["comparison"]):
            steps["better"].append(_time(request))
    return steps


def _time(data: AlertData) -> datetime:
    return datetime.fromisoformat(data["event_time"])


def _claims(alert: AlertData) -> list[_Claim]:
    time = _time(alert)
    claims = [_Claim(alert, name, _onset(data, time), time) for name, data in _contributors(alert)]
    return claims or [_Claim(alert, None, time, time)]


def _onset(data: Mapping[str, Any], time: datetime) -> datetime:
    """When a contributor's change began; what was there before monitoring is explained by no script."""
    onset = data.get("onset")
    if onset is None:
        return time
    return datetime.min.replace(tzinfo=UTC) if onset == _BEFORE_MONITORING else datetime.fromisoformat(onset)


def _contributors(alert: AlertData) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Features and metrics by name."""
    yield from ((feature["feature"], feature) for feature in alert["features"])
    yield from ((metric["metric"], metric) for metric in alert.get("metrics", ()))


def _finds(claim: _Claim, incident: ScriptedIncident) -> bool:
    return (
        claim.feature == incident.feature
        and claim.alert["kind"] == incident.kind
        and incident.onset <= claim.time <= incident.deadline
    )


def _explains(incident: ScriptedIncident, claim: _Claim, window: timedelta) -> bool:
    """Whether the contributor may be the incident, or its consequence.

    A change cannot be told of before it happened. It began while the incident lasted, as far as a detector can say;
    what labels say comes as late as they do.
    """
    window = LATE_LABELS if claim.alert["kind"] in _OF_LABELS else window
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
    return bool(claim.alert["kind"] == _kind_of(claim.feature, incident))


def _kind_of(feature: str, incident: ScriptedIncident) -> str:
    """The kind of the alert that tells of a consequence."""
    if feature in {ERRORS, LOSSES}:
        return str(DriftKind.CONCEPT_DRIFT)
    if feature == OUTCOMES:
        return str(DriftKind.LABEL_DRIFT)
    if feature in METRICS:
        return str(DriftKind.PERFORMANCE)
    return str(DriftKind.PREDICTION_DRIFT) if feature.startswith("prediction.") else incident.kind


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
        "incidents_expected": verdict.expected,
        "found": tuple(verdict.found),
        "missed": verdict.missed,
        "unexpected": verdict.unexpected,
        "loop": verdict.loop,
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
