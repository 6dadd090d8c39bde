"""When things go wrong, and what streamdrift has to say about it: the script that the demo is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from streamdrift.generator.effects import Effect, FraudMoves, GoesMissing, NewCategory, Scaled, ScoreShifted
from streamdrift.generator.pace import HOUR_US, SECOND_US, Pace, from_us, to_us

EVENTS_PER_HOUR: Final = 1000
"""Mean over the day."""
ERRORS: Final = "error"
"""What alerts call the stream of a model's errors."""
LOSSES: Final = "loss"
"""What alerts call the stream of how far a model's probabilities were off."""
OUTCOMES: Final = "label"
"""What alerts call what turned out to be true."""
MOVED: Final = FraudMoves(per_sd=-2.0, constant=1.0)
SPAN: Final = timedelta(days=4)
"""Event time from the first event to the last: 96,000 events."""


@dataclass(frozen=True, slots=True)
class ScriptedIncident:
    """One thing that goes wrong with ``feature`` from ``onset`` until ``end``."""

    id: str
    kind: str
    """Kind of the alert that has to tell of it, as in the contract."""
    feature: str
    onset: datetime
    deadline: datetime
    """An alert has to tell of it by then (event time)."""
    end: datetime
    effect: Effect
    region: str | None = None
    """The slice of the traffic that it concerns; None: all of it."""
    explains: frozenset[str] = frozenset()
    """Further features that it moves by consequence: a good model's score follows its features."""

    @property
    def segment(self) -> dict[str, str]:
        """The slice as alerts name it."""
        return {} if self.region is None else {"region": self.region}


@dataclass(frozen=True, slots=True)
class Rollout:
    """Another version of the model, which scores everything from ``at`` on."""

    version: str
    at: datetime
    concept: Effect | None = None
    """What fraud had become in its training data."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A scripted incident in hours since the start."""

    id: str
    kind: str
    feature: str
    onset: float
    end: float
    deadline_events: int
    """The deadline is when so many events have happened since the onset."""
    effect: Effect
    region: str | None = None
    explains: frozenset[str] = frozenset()


# What is watched by its errors is told of once labels have come. At least nine hours of quiet follow each incident that
# features show, so that all that remembers it has forgotten it. `missing_device_age` and `new_device_os` overlap: one
# app release, two symptoms, to be told as one. Wrong amounts and wrong scores make the model wrong, so errors and
# losses tell of them too; that is over when fraud moves, after which there is twice as much of it.
_SCORED: Final = frozenset({"prediction.score", "prediction.label", ERRORS, LOSSES})
_TIMETABLE: Final = (
    _Entry("unit_bug", "data_drift", "amount", 8, 17, 6_000, Scaled("amount", 100.0), "eu", _SCORED),
    _Entry(
        "miscalibrated_score", "prediction_drift", "prediction.score", 28, 37, 6_000, ScoreShifted(1.3),
        explains=_SCORED,
    ),
    _Entry("missing_device_age", "data_quality", "device.age_days", 43, 53, 6_000, GoesMissing("device.age_days", 0.2)),
    _Entry("new_device_os", "data_quality", "device.os", 45, 53, 6_000, NewCategory("device.os", "harmonyos", 0.08)),
    _Entry(
        "slow_sessions", "data_drift", "session.duration_s", 61, 75, 10_000,
        Scaled("session.duration_s", 2.5, ramp_hours=6),
    ),
    _Entry(
        "fraud_moves", "concept_drift", ERRORS, 62, 96, 10_000, MOVED,
        explains=frozenset({"recall", LOSSES, OUTCOMES}),
    ),
)  # fmt: skip
NEXT_VERSION: Final = "8"
ROLLOUT_HOUR: Final = 84
"""When a version is in service that was trained on the new concept. Nothing undoes the change; the training copes."""


def fixed_script(start: datetime) -> tuple[ScriptedIncident, ...]:
    """The demo's incidents, for traffic of ``EVENTS_PER_HOUR`` from ``start`` (a midnight, UTC) for ``SPAN``."""
    pace = Pace(to_us(start), EVENTS_PER_HOUR * SECOND_US / HOUR_US)
    return tuple(_scheduled(entry, start, pace) for entry in _TIMETABLE)


def fixed_rollout(start: datetime) -> Rollout:
    """The version that ends what ``fraud_moves`` began."""
    return Rollout(NEXT_VERSION, start + timedelta(hours=ROLLOUT_HOUR), MOVED)


def _scheduled(entry: _Entry, start: datetime, pace: Pace) -> ScriptedIncident:
    onset = start + timedelta(hours=entry.onset)
    return ScriptedIncident(
        entry.id,
        entry.kind,
        entry.feature,
        onset,
        from_us(pace.after(to_us(onset), entry.deadline_events)),
        start + timedelta(hours=entry.end),
        entry.effect,
        entry.region,
        entry.explains,
    )
