"""Facts: what the folds of inputs and of outcomes tell whoever decides on retraining, at the close of a tick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamdrift.incidents import Incident, Severity
from streamdrift.performance import Verdict
from streamdrift.retraining import IncidentNow


@dataclass(frozen=True, slots=True)
class Fact:
    """What is new of one model version."""

    tick: int
    model_id: str
    model_version: str
    warming_up: bool = False
    """Whether nothing is compared yet, since there is no baseline."""
    incidents: tuple[IncidentNow, ...] = ()
    """All that are open in this fold, new or not."""
    verdicts: tuple[Verdict, ...] = ()
    """On windows that closed in this tick."""
    labels: int = 0
    """Predictions that were labelled in this tick."""
    retired: bool = False
    """Whether it is watched no more."""


def incidents_now(incidents: Iterable[Incident]) -> tuple[IncidentNow, ...]:
    """Open incidents as they are told of, by id: those of which nobody is told ask for no training either."""
    heard = (each for each in incidents if not each.is_muted)
    return tuple(sorted(IncidentNow(each.incident_id, str(each.kind), Severity(each.severity)) for each in heard))
