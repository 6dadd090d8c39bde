"""What detect shows of outcomes: how models perform, and where their retraining stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamdrift.comparison import Compared
from streamdrift.detectors.error_stream import ErrorShift
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.performance import Report, Target, Windows
from streamdrift.status import IncidentStatus
from streamdrift.summaries.coverage import Coverage


@dataclass(frozen=True, slots=True)
class OutcomeStatus:
    """The outcomes of one model version, as of the last tick that concerned it."""

    model_id: str
    model_version: str
    grid: OutcomeGrid | None
    """How they are counted; None while that is learned."""
    window_us: int
    """Length of the windows of the reports."""
    targets: Sequence[Target]
    """What its metrics are held against; empty while there is no grid."""
    windows: Windows | None
    coverage: Coverage
    """Of all predictions and labels in closed ticks."""
    last_label_us: int | None
    """The end of the last tick with outcomes."""
    late: int = 0
    """Labels that came after their window had closed."""
    errors: ErrorShift | None = None
    """None before the first error was heard."""
    incidents: tuple[IncidentStatus, ...] = ()
    alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Alerts published since start, by (kind, severity)."""
    state_bytes: int = 0
    """Size of the last snapshot."""
    lately: int = 0
    """Incidents that started in the last 30 days."""

    @property
    def reports(self) -> Sequence[Report]:
        """Open windows and the last closed one, newest first; measured anew each time that someone looks."""
        return self.windows.reports() if self.windows else ()


@dataclass(frozen=True, slots=True)
class RetrainingStatus:
    """The retraining of one model, over all its versions."""

    model_id: str
    version: str
    """The version in charge."""
    predecessor: str | None
    """The one before, with which it is compared."""
    open_request: str | None
    fresh_labels: int
    held_back: Mapping[str, str]
    """Policies that want a training, and why they wait."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests made since start, by policy; every policy is there."""
    comparison: Sequence[Compared] = ()
    """The version in charge and its predecessor, once windows of both are judged."""
