"""What an alert shows of one column, and the sentence that sums up an incident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from streamdrift.changes import Change
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.grids import Grid
from streamdrift.windows import Reference

MAX_HISTOGRAMS: Final = 50
"""Columns whose histograms and words an alert carries, the strongest ones: brokers refuse records over a megabyte."""
BEFORE_MONITORING: Final = -1
"""The onset of what was there when the first event came."""
_DETAILS: Final = ("baseline", "current", "description")


class Contribution(msgspec.Struct, frozen=True):
    """One column's part in an incident, as of the last look at it."""

    column: int
    detector: str
    feature: str
    psi: float
    peak: float
    """Its largest strength in this incident."""
    onset: int
    """The tick in which it began, or ``BEFORE_MONITORING``."""
    quality: bool
    """Whether missing, unseen and mistyped values make more than half of the change."""
    phrase: str
    """What happened to it, without a time: ``amount shifted up 0.9 sd (about +18)``."""
    data: Mapping[str, Any]
    """Its element of ``features`` in the alert, or of ``metrics``."""
    shortfall: float | None = None
    """By how much a metric is worse than its benchmark; None for what drifts."""
    recovery: str = ""
    """What is said once it recovered: ``is close to its benchmark again``."""
    confirmed: bool = True
    """Whether the evidence is enough for a warning, given the budget of the whole fleet."""
    muted: str = ""
    """Why nobody is told of it now; empty if it is not muted."""
    muted_until: int = 0
    """The first tick behind the span that mutes it."""
    told: bool = False
    """Whether a message of the incident has named it."""
    news: bool = True
    """Whether none has since it became part of the incident, or became so again."""

    @property
    def strength(self) -> float:
        """What tells whether it grew: PSI, or the shortfall."""
        return self.psi if self.shortfall is None else self.shortfall


def rfc3339(time_us: int) -> str:
    """A time in UTC, with milliseconds only where it has any."""
    time = _time(time_us)
    spec = "milliseconds" if time.microsecond else "seconds"
    return time.isoformat(timespec=spec).replace("+00:00", "Z")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CALENDAR: Final = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC))


def _time(time_us: int) -> datetime:
    """What the calendar does not have becomes its first or its last moment: some clocks are that wrong."""
    first, last = ((end - _EPOCH) // timedelta.resolution for end in _CALENDAR)
    return _EPOCH + min(max(time_us, first), last) * timedelta.resolution


def describe(finding: Finding, grid: Grid, reference: Reference | None, ticks: Ticks) -> Contribution:
    """What can be said of a finding that is an alarm."""
    column = grid.columns[finding.column]
    onset = BEFORE_MONITORING if finding.onset is None else finding.onset
    data: dict[str, Any] = {
        "feature": column.name,
        "detector": finding.detector,
        "calibrated": finding.calibrated,
        "evidence_ratio": finding.evidence_ratio,
        "effect": {},
        "onset": "before_monitoring" if onset == BEFORE_MONITORING else rfc3339(onset * ticks.length_us),
    }
    phrase, psi, quality = f"{column.name} changed according to {finding.detector}", 0.0, False
    if finding.window is not None and reference is not None:
        change = Change(reference, finding.window, finding.column, finding.detector)
        psi, quality, phrase = change.effect.get("psi", 0.0), change.is_quality, change.phrase()
        data |= {"effect": change.effect | change.rates(), "description": phrase, **change.histograms()}
    return Contribution(
        finding.column,
        finding.detector,
        column.name,
        psi,
        psi,
        onset,
        quality,
        phrase,
        data,
        confirmed=finding.confirmed,
    )


def evidence_data(contributions: Sequence[Contribution]) -> dict[str, list[dict[str, Any]]]:
    """``features`` of an alert: all that drift, with the histograms of the first ones; ``metrics`` where there are."""
    features: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for i, c in enumerate(contributions):
        shown = {key: value for key, value in c.data.items() if i < MAX_HISTOGRAMS or key not in _DETAILS}
        (features if c.shortfall is None else metrics).append(shown)
    return {"features": features} | ({"metrics": metrics} if metrics else {})


def sentence(contributions: Sequence[Contribution], kind: str, resolution: str | None, ticks: Ticks) -> str:
    """The summary of an incident: its first column, since when, and how many are with it; or why it ended."""
    first, *others = contributions
    names = {c.feature for c in others} - {first.feature}
    what = "feature" if first.shortfall is None else "metric"
    more = f"; {len(names):,} other {what}{'s' if len(names) > 1 else ''} with it" if names else ""
    if resolution is None:
        return f"{first.phrase} since {_began(first.onset, ticks)}{more}"
    if resolution == "version_retired":
        end = "is watched no more"
    elif resolution == "no_data":
        end = "has had no events for so long that nothing can be said of it"
    elif resolution != "recovered":
        end = "is compared with a new baseline now"
    elif first.recovery:
        end = first.recovery
    elif "baseline" in first.data:
        end = "is close to the baseline again"
    else:
        end = "has not changed any further"
    since = _began(min(c.onset for c in contributions), ticks)
    return f"{first.feature} {end} ({kind.replace('_', ' ')} since {since}){more}"


def _began(onset: int, ticks: Ticks) -> str:
    return "before monitoring began" if onset == BEFORE_MONITORING else _minute(onset * ticks.length_us)


def _minute(time_us: int) -> str:
    return _time(time_us).isoformat(" ", "minutes").replace("+00:00", " UTC")
