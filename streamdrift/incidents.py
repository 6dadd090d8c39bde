"""Incidents: from what detectors find to what a person is told, and when.

An incident collects the columns of one model that drift in one way, from its start to its end::

    finding: alarm    5 min and 2 ticks on     15 min of PSI >= 0.25            last column recovers
                      with PSI >= 0.1
        │                     │                        │                              │
     started (info) ──── updated (warning) ──── updated (critical) ── … ── resolved ──┘
                    └ updated: another column joins (at once), the effect changed (hourly at most)

Severity is that of the effect: the PSI of all bins, those of missing, unseen and mistyped values among them, so that a
rate has the same bands as a shift (missing 1 → 3 % is a PSI of 0.02 and info, 1 → 7 % is 0.12 and a warning). An
incident is no more than info while the model is calibrating, or while no contribution has the evidence that the budget
of the fleet asks of a warning. Severity only rises while an incident is open, and every transition happens at the close
of a tick: it depends on the ticks alone. The same findings give the same alerts with the same ids.

What is muted (see ``muting``) is part of its incident, but in no message, and counts for no severity. An incident of
muted columns alone is told of when the span ends, if it is still there; one that was told of before, when it ends.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.errors import StateError
from streamdrift.evidence import Contribution, describe, evidence_data, rfc3339, sentence
from streamdrift.grids import Grid, Role, content_id
from streamdrift.muting import Mute, mute_of
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import Reference

MINUTE_US: Final = 60 * MICROSECONDS
WARNING_AFTER_US: Final = 5 * MINUTE_US
WARNING_AFTER_TICKS: Final = 2
WARNING_PSI: Final = 0.1
CRITICAL_AFTER_US: Final = 15 * MINUTE_US
CRITICAL_PSI: Final = 0.25
UPDATE_EVERY_US: Final = 60 * MINUTE_US
UPDATE_CHANGE: Final = 0.25
"""Relative change of an incident's largest PSI, or shortfall, that is worth an update."""
MAX_CORROBORATING: Final = 20
"""Detections kept of one detector on one stream."""
RECOVERED: Final = "recovered"
WATCHING: Final = "watching"


class Phase(StrEnum):
    """Where an incident stands in its life."""

    STARTED = "started"
    UPDATED = "updated"
    RESOLVED = "resolved"


class Severity(IntEnum):
    """How much an incident matters, in ascending order."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2

    def __str__(self) -> str:
        return self.name.lower()


class DriftKind(StrEnum):
    """What drifted."""

    DATA_DRIFT = "data_drift"
    DATA_QUALITY = "data_quality"
    PREDICTION_DRIFT = "prediction_drift"
    LABEL_DRIFT = "label_drift"
    CONCEPT_DRIFT = "concept_drift"
    PERFORMANCE = "performance"


class Corroboration(msgspec.Struct, frozen=True):
    """A detection that supports an incident without being its reason."""

    detector: str
    stream: str
    tick: int


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about an incident. ``data`` is all that the topic carries but provenance."""

    incident_id: str
    sequence: int
    """0 for the start, and one more for each message about the same incident."""
    phase: Phase
    tick: int
    started: int
    """The tick at whose close the incident started."""
    onset: int
    """The tick at which the change most probably began."""
    data: Mapping[str, Any]


class Incident(msgspec.Struct):
    """An open incident; part of the model's snapshot."""

    incident_id: str
    kind: DriftKind
    started: int
    severity: Severity = Severity.INFO
    sequence: int = 0
    contributions: dict[str, Contribution] = {}
    recovered: dict[str, Contribution] = {}
    """Columns that were part of it and are no longer."""
    high_since: int | None = None
    """The tick since which its largest confirmed PSI has been critical."""
    told_psi: float = 0.0
    told_at: int = 0
    """Largest strength in, and tick of, the last message."""
    summary: str = ""

    @property
    def heard(self) -> list[Contribution]:
        """Contributions that are not muted."""
        return [c for c in self.contributions.values() if not c.muted]

    @property
    def is_muted(self) -> bool:
        """Whether nobody has been told of it."""
        return self.sequence == 0 and not self.heard

    @property
    def psi(self) -> float:
        """Largest PSI of those whose evidence is enough for a warning."""
        return max((c.psi for c in self.heard if c.confirmed), default=0.0)

    @property
    def strength(self) -> float:
        return max((c.strength for c in self.heard), default=0.0)

    @property
    def drifts(self) -> bool:
        """Whether the last look at any column would be reason enough for an alarm."""
        return any(c.data.get("evidence_ratio", 1.0) >= 1 for c in self.heard)

    @property
    def is_shortfall(self) -> bool:
        """Whether a metric is below its benchmark: that is critical however long it lasts."""
        return any(c.shortfall is not None for c in self.heard)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose incidents these are."""

    model_id: str
    model_version: str
    segment: Mapping[str, str]
    baseline_id: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A look at one thing that may be part of an incident."""

    key: str
    """What was looked at, and by whom; of all kinds together each once."""
    kind: DriftKind
    """What it would be an incident of, unless it is part of one already."""
    contribution: Contribution | None
    """None: it is part of none, or no longer."""


def sighting(finding: Finding, grid: Grid, reference: Reference | None, ticks: Ticks) -> Sighting:
    """What a detector found in a column."""
    key = f"{finding.column}/{finding.detector}"
    if not finding.alarm:
        return Sighting(key, DriftKind.DATA_DRIFT, None)
    contribution = describe(finding, grid, reference, ticks)
    if grid.columns[finding.column].role is Role.PREDICTION:
        return Sighting(key, DriftKind.PREDICTION_DRIFT, contribution)
    return Sighting(key, DriftKind.DATA_QUALITY if contribution.quality else DriftKind.DATA_DRIFT, contribution)


class Incidents:
    """The open incidents of one model version and segment. Things that drift are numbered below ``columns``."""

    def __init__(self, subject: Subject, ticks: Ticks, columns: int, mutes: Sequence[Mute] = ()) -> None:
        self._subject = subject
        self._ticks = ticks
        self._columns = columns
        self._mutes = mutes
        self._open: dict[DriftKind, Incident] = {}
        self._corroborating: list[Corroboration] = []
        self._unheard: list[Incident] = []
        self.model_state = WATCHING
        """``learning`` or ``calibrating`` while no budget of false alarms can be promised yet."""

    @property
    def open(self) -> Sequence[Incident]:
        return tuple(self._open.values())

    def corroborate(self, detection: Corroboration) -> None:
        """Remember a detection that later messages may name."""
        self._corroborating.append(detection)
        of_stream = [d for d in self._corroborating if _stream(d) == _stream(detection)]
        if len(of_stream) > MAX_CORROBORATING:
            self._corroborating.remove(of_stream[0])

    def close(self, tick: int, sightings: Iterable[Sighting]) -> list[Alert]:
        """Take what was seen at the close of a tick; the messages that follow from it, in a fixed order."""
        for seen in sightings:
            self._take(tick, seen)
        self._mute(tick)
        alerts = []
        for kind in sorted(self._open):
            incident = self._open[kind]
            alert = self._step(tick, incident)
            if alert:
                alerts.append(alert)
            if alert and alert.phase is Phase.RESOLVED and incident.contributions:
                # What was told of is over, what is muted is not: that may become another incident.
                self._open[kind] = Incident(self._id(kind, tick), kind, tick, contributions=incident.contributions)
            elif not incident.contributions:
                self._forget(incident)
            elif incident.is_muted:
                ordered = _ordered(incident.contributions.values(), "strength")
                incident.summary = sentence(ordered, incident.kind, None, self._ticks)
        return alerts

    def end(self, tick: int, resolution: str) -> list[Alert]:
        """Resolve whatever is open for a reason that is not recovery."""
        alerts = []
        for kind in sorted(self._open):
            incident = self._open[kind]
            incident.recovered |= incident.contributions
            incident.contributions = {}
            if incident.sequence:
                alerts.append(self._tell(tick, incident, Phase.RESOLVED, resolution))
            self._forget(incident)
        return alerts

    def take_unheard(self) -> list[Incident]:
        """Incidents that ended since this was asked, while they were muted and without anybody being told."""
        unheard, self._unheard = self._unheard, []
        return unheard

    def _forget(self, incident: Incident) -> None:
        del self._open[incident.kind]
        if incident.sequence == 0 and any(c.muted for c in incident.recovered.values()):
            self._unheard.append(incident)

    def due(self) -> int | None:
        """The next tick at whose close there is something to say although nothing new is found."""
        return min((tick for incident in self._open.values() for tick in self._coming(incident)), default=None)

    def state(self) -> object:
        return msgspec.to_builtins((list(self._open.values()), self._corroborating))

    def restore(self, state: object) -> None:
        try:
            incidents, corroborating = msgspec.convert(state, tuple[list[Incident], list[Corroboration]])
        except msgspec.ValidationError as error:
            raise StateError(f"incidents: {error}") from None
        columns = {c.column for i in incidents for c in (*i.contributions.values(), *i.recovered.values())}
        if not columns <= set(range(self._columns)):
            raise StateError("incidents: the state is of another grid")
        self._open = {incident.kind: incident for incident in incidents}
        self._corroborating = corroborating

    def _take(self, tick: int, seen: Sighting) -> None:
        key, contribution = seen.key, seen.contribution
        kind = next((kind for kind, incident in self._open.items() if key in incident.contributions), None)
        if contribution is None:
            if kind is not None:
                incident = self._open[kind]
                incident.recovered[key] = incident.contributions.pop(key)
            return
        kind = kind or seen.kind
        if kind not in self._open:
            self._open[kind] = Incident(self._id(kind, tick), kind, tick)
        incident = self._open[kind]
        before = incident.contributions.get(key) or incident.recovered.pop(key, None)
        if before is not None:
            contribution = msgspec.structs.replace(
                contribution,
                peak=max(before.peak, contribution.strength),
                told=before.told,
                news=before.news or key not in incident.contributions,
            )
        incident.contributions[key] = contribution

    def _mute(self, tick: int) -> None:
        """Tell what nobody is to hear of in ``tick``."""
        if not self._mutes:
            return
        for incident in self._open.values():
            for key, c in incident.contributions.items():
                mute = mute_of(self._mutes, c.feature, tick * self._ticks.length_us)
                reason, until = (mute.reason, self._ticks.ending_at(mute.to_us) + 1) if mute else ("", 0)
                if (reason, until) != (c.muted, c.muted_until):
                    incident.contributions[key] = msgspec.structs.replace(c, muted=reason, muted_until=until)

    def _id(self, kind: DriftKind, tick: int) -> str:
        subject = self._subject
        facts = [subject.model_id, subject.model_version, sorted(subject.segment.items()), kind, tick]
        return content_id(msgspec.json.encode(facts))

    def _step(self, tick: int, incident: Incident) -> Alert | None:
        """What is to be said of an incident at the close of ``tick``."""
        is_new = incident.sequence == 0
        heard = incident.heard
        if not heard:
            # A column that came and went within one tick, or while it was muted, was never told of.
            incident.high_since = None
            is_told = any(c.told for c in incident.contributions.values())
            return None if is_new or is_told else self._tell(tick, incident, Phase.RESOLVED)
        if incident.psi < CRITICAL_PSI:
            incident.high_since = None
        elif incident.high_since is None:
            incident.high_since = tick
        severity = max(incident.severity, self._severity(tick, incident))
        risen, incident.severity = severity > incident.severity, severity
        if is_new:
            return self._tell(tick, incident, Phase.STARTED)
        joined = any(c.news for c in heard)
        return self._tell(tick, incident, Phase.UPDATED) if risen or joined or self._moved(tick, incident) else None

    def _moved(self, tick: int, incident: Incident) -> bool:
        """Whether the effect changed enough, and the last message is old enough.

        An effect for which the evidence is not enough any more is on its way to recovery, which is told of once it is
        certain.
        """
        change = abs(incident.strength - incident.told_psi)
        notable = incident.drifts and change > UPDATE_CHANGE * incident.told_psi
        return notable and tick >= self._update_tick(incident)

    def _update_tick(self, incident: Incident) -> int:
        return self._ticks.ending_at(self._ticks.end_us(incident.told_at) + UPDATE_EVERY_US)

    def _severity(self, tick: int, incident: Incident) -> Severity:
        if incident.is_shortfall:
            return Severity.CRITICAL
        if not self._may_warn(incident) or tick < self._warning_tick(incident):
            return Severity.INFO
        critical = self._critical_tick(incident)
        return Severity.WARNING if critical is None or tick < critical else Severity.CRITICAL

    def _may_warn(self, incident: Incident) -> bool:
        return self.model_state == WATCHING and incident.psi >= WARNING_PSI

    def _warning_tick(self, incident: Incident) -> int:
        by_time = self._ticks.ending_at(self._ticks.end_us(incident.started) + WARNING_AFTER_US)
        return max(by_time, incident.started + WARNING_AFTER_TICKS)

    def _critical_tick(self, incident: Incident) -> int | None:
        if incident.high_since is None:
            return None
        by_time = self._ticks.ending_at(self._ticks.end_us(incident.high_since) + CRITICAL_AFTER_US)
        return max(by_time, self._warning_tick(incident))

    def _coming(self, incident: Incident) -> list[int]:
        """The ticks at which a message follows if nothing changes until then: severity rises, an effect is told of."""
        critical = self._critical_tick(incident) if self._may_warn(incident) else None
        coming = []
        if incident.severity < Severity.WARNING and self._may_warn(incident):
            coming.append(self._warning_tick(incident))
        if incident.severity < Severity.CRITICAL and critical is not None:
            coming.append(critical)
        if self._moved(self._update_tick(incident), incident):
            coming.append(self._update_tick(incident))
        return coming + [c.muted_until for c in incident.contributions.values() if c.muted]

    def _tell(self, tick: int, incident: Incident, phase: Phase, resolution: str = RECOVERED) -> Alert:
        sequence = incident.sequence
        incident.sequence += 1
        incident.told_psi, incident.told_at = incident.strength, tick
        ended = phase is Phase.RESOLVED
        if not ended:
            heard = {key: c for key, c in incident.contributions.items() if not c.muted}
            incident.contributions |= {
                key: msgspec.structs.replace(c, told=True, news=False) for key, c in heard.items()
            }
        contributions = [c for c in incident.recovered.values() if c.told] if ended else incident.heard
        # An end is told of what drifted most, not of what came back last.
        ordered = _ordered(contributions, "peak" if ended else "strength")
        onset = min(c.onset for c in ordered)
        incident.summary = sentence(ordered, incident.kind, resolution if ended else None, self._ticks)
        data: dict[str, Any] = {
            "incident_id": incident.incident_id,
            "phase": str(phase),
            "kind": str(incident.kind),
            "severity": str(incident.severity),
            "model_id": self._subject.model_id,
            "model_version": self._subject.model_version,
            "segment": dict(self._subject.segment),
            "summary": incident.summary,
            **evidence_data(ordered),
            "corroborating": self._support(onset - max(0, incident.started - onset), ordered),
            "event_time": rfc3339(self._ticks.end_us(tick)),
            "baseline_id": self._subject.baseline_id,
            "model_state": self.model_state,
        }
        if ended:
            data["resolution"] = resolution
        return Alert(incident.incident_id, sequence, phase, tick, incident.started, onset, data)

    def _support(self, since: int, reasons: Iterable[Contribution]) -> list[dict[str, Any]]:
        """The detections from ``since`` on, an entry a stream.

        A value-by-value detector sees a change before the windows in which it shows: so ``since`` lies before the onset
        by as much as these windows took.
        """
        own = {(c.detector, c.feature) for c in reasons}
        detections: dict[tuple[str, str], list[int]] = {}
        for detection in self._corroborating:
            if detection.tick >= since and _stream(detection) not in own:
                detections.setdefault(_stream(detection), []).append(detection.tick)
        return [
            {
                "detector": detector,
                "stream": stream,
                "calibrated": False,
                "detections": len(ticks),
                "detected_at": rfc3339(self._ticks.end_us(ticks[0])),
            }
            for (detector, stream), ticks in sorted(detections.items(), key=lambda item: item[0][::-1])
        ]


def _stream(detection: Corroboration) -> tuple[str, str]:
    return detection.detector, detection.stream


def _ordered(contributions: Iterable[Contribution], by: str) -> list[Contribution]:
    """The strongest first. ``by``: strength or peak."""
    strength = operator.attrgetter(by)
    return sorted(contributions, key=lambda c: (-strength(c), c.column, c.detector))
