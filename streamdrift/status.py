"""What a stage shows of itself to metrics and pages: values that are replaced, never changed.

A stage's thread puts a new value in place of the old one; the threads that serve HTTP read whatever stands
there. Nothing is locked, and nothing that a reader holds ever changes under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from streamdrift.records import TopicPartition

if TYPE_CHECKING:  # which builds on this module
    from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus


class FeatureState(StrEnum):
    """State of one column, from best to least known."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    NO_DATA = "no_data"
    LEARNING = "learning"


class ModelState(StrEnum):
    """Whether a model version is watched, from first to last."""

    LEARNING = "learning"
    """Its events are kept until a grid can be cut from them."""
    WAITING = "waiting"
    """The same, but there is no room for its events: too many models are learning."""
    CALIBRATING = "calibrating"
    """Its events are counted on a grid until they make a baseline."""
    WATCHING = "watching"


@dataclass(frozen=True, slots=True)
class FeatureStatus:
    """The published window of one column. Ratios and effects are None while there is too little data."""

    name: str
    kind: str
    role: str
    state: FeatureState
    effects: Mapping[str, float] = field(default_factory=dict)
    """By metric: psi, jensen_shannon, kolmogorov_smirnov, wasserstein, l_infinity."""
    evidence_ratio: float | None = None
    """The largest evidence of any detector over its threshold; 1 or more is an alarm. None while they calibrate."""
    missing_ratio: float | None = None
    unseen_ratio: float | None = None
    type_error_ratio: float | None = None
    mean: float | None = None
    baseline_mean: float | None = None
    detector: str = ""
    """Whose evidence ``evidence_ratio`` is."""
    muted: str = ""
    """Why nobody is told that it drifts; empty if it is not muted, or does not drift."""


@dataclass(frozen=True, slots=True)
class RiverStatus:
    """One River detector on one stream."""

    stream: str
    detector: str
    detections: int
    last_detection_us: int | None = None


MUTED: Final = "muted"
"""The phase of an incident of which nobody is told."""


@dataclass(frozen=True, slots=True)
class IncidentStatus:
    """An open incident, or one that was resolved lately."""

    incident_id: str
    kind: str
    severity: str
    phase: str
    summary: str
    features: tuple[str, ...]
    started_us: int
    resolved_us: int | None = None
    muted: Mapping[str, str] = field(default_factory=dict)
    """Why nobody is told of some of the features."""

    @property
    def is_open(self) -> bool:
        """Whether it lasts, and somebody has been told of it."""
        return self.resolved_us is None and self.phase != MUTED


@dataclass(frozen=True, slots=True)
class LearningStatus:
    """How far a baseline is learned."""

    events: int
    needed: int
    """Events that the present state takes: for the grid while learning, for the baseline while calibrating."""
    until_us: int | None
    """When it ends with fewer events; None before the first."""


@dataclass(frozen=True, slots=True)
class FeatureChange:
    """How a column of a learned model version differs from the version before."""

    name: str
    effects: Mapping[str, float]
    """By metric, as in ``FeatureStatus``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first events of a model version, compared with the baseline of another. Informs, never alarms."""

    model_version: str
    events: int
    features: tuple[FeatureChange, ...]
    """Columns of the other version, the most changed first."""


@dataclass(frozen=True, slots=True)
class Lately:
    """The incidents of a model version that started lately, and how many chance would have started."""

    incidents: int
    expected: float
    """At most so many, had nothing changed. Which of the incidents they are nobody knows."""
    span_us: int
    """30 days, or the time since it has been watched."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model version, as of the last tick that concerned it."""

    model_id: str
    model_version: str
    state: ModelState
    baseline_id: str | None
    events: int
    """Events in closed ticks since the monitor began."""
    ticks_closed: int
    last_event_us: int | None
    window_events: int
    """Events in the published window."""
    features: tuple[FeatureStatus, ...] = ()
    unmonitored: Mapping[str, str] = field(default_factory=dict)
    river: tuple[RiverStatus, ...] = ()
    incidents: tuple[IncidentStatus, ...] = ()
    """Open ones, and the last few that were resolved."""
    alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Alerts published since start, by (kind, severity)."""
    state_bytes: int = 0
    """Size of the model's last snapshot."""
    learning: LearningStatus | None = None
    """None once there is a baseline."""
    compared_with: Comparison | None = None
    lately: Lately | None = None
    """None before the first tick."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Counters of one input topic.

    consumed + exploded = summarised + late + dead + over_bound + control + eventless + pending.
    """

    topic: str
    kind: str
    consumed: int = 0
    summarised: int = 0
    late: int = 0
    control: int = 0
    over_bound: int = 0
    dead: Mapping[str, int] = field(default_factory=dict)
    """Dead letters by reason."""
    watermark_us: int | None = None
    """Lowest watermark of the partitions owned here; None while one is unknown."""
    exploded: int = 0
    """Events beyond the first of a message that holds several."""
    eventless: int = 0
    """Messages that hold an array of events, and it is empty."""


@dataclass(frozen=True, slots=True)
class JoinStatus:
    """What became of predictions and labels in the partitions owned here, since their stores began.

    predicted = labelled + expired + sampled_out + pending.
    """

    predictions: str
    """The topic."""
    labels: str
    fates: Mapping[str, int]
    """Predictions and labels by what became of them: see ``streamdrift.summaries.coverage``."""
    pending: int = 0
    """Predictions that a label may still reach."""
    rows: int = 0
    """Predictions and labels that the store holds."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Prediction messages that take no part, since start, by why; dead letters of them are summarise's."""


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """One stage's loop on its broker: whether it turns, what it owns and how far behind it is."""

    stage: str
    last_poll_s: float | None
    """When the loop last came round (seconds since the epoch); None before the first time."""
    assigned: bool
    """The group has given this member its partitions, be they none; False from a revoke to the next assignment."""
    restored: bool
    """The state of every owned partition has been read."""
    rebalances: Mapping[str, int] = field(default_factory=dict)
    """Since start, by event: assigned, revoked, lost."""
    lag: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Records between the position and the end of every owned partition."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the process shows of itself at one moment; what moved away is no longer in it."""

    sources: Sequence[SourceStatus] = ()
    """One of each topic."""
    models: Sequence[ModelStatus] = ()
    """One of each model version."""
    loops: Sequence[LoopStatus] = ()
    """One of each stage."""
    replayed_records: int = 0
    """Records of the summaries topic that were read again to rebuild state."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Summarised events that no detector saw, by reason: late, over_bound, other_grid."""
    refused_labels: Mapping[str, int] = field(default_factory=dict)
    """Likewise, of labelled predictions."""
    joins: Sequence[JoinStatus] = ()
    """One of each pair of predictions and labels."""
    outcomes: Sequence[OutcomeStatus] = ()
    """One of each model version that has any."""
    retraining: Sequence[RetrainingStatus] = ()
    """One of each model that has policies."""
