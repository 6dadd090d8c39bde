"""Retraining policies: when a model should be trained anew, as the configuration says it.

A policy has conditions, any of which is enough, and what holds it back: ``streamdrift.retraining`` folds both. A
condition is a class with a ``reason``; a new one is that class and a line in ``_FORMS``.

>>> parse("accuracy below benchmark", windows=2)
Worse(metric='accuracy', windows=2)
>>> parse("prediction_drift critical for 30m")
Drifts(severity=<Severity.CRITICAL: 2>, for_us=1800000000, kind='prediction_drift')
>>> parse("5000 fresh labels")
FreshLabels(count=5000)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from streamdrift.incidents import DriftKind, Severity
from streamdrift.metrics import METRICS, Better
from streamdrift.quantities import Duration
from streamdrift.schedules import Schedule


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident as of now."""

    incident_id: str
    kind: str
    severity: Severity
    since_us: Sequence[int]
    """When it was first of each severity up to its own, or above."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions see of a model, at the close of a tick."""

    before_us: int
    """End of the tick that was looked at last."""
    now_us: int
    rows_below: Mapping[str, int]
    """By metric: judged windows in a row in which it was below benchmark - tolerance."""
    incidents: Sequence[OpenIncident]
    """By id."""
    fresh_labels: int
    """Labels that no training has seen."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a condition holds."""

    sentence: str
    incident_ids: tuple[str, ...] = ()


class Condition(Protocol):
    """One reason to train anew."""

    def reason(self, facts: Facts) -> Reason | None:
        """Why it holds; None if it does not."""

    def due(self, facts: Facts) -> int | None:
        """When it begins to hold if nothing else happens, or began; None if only news can make it."""


@dataclass(frozen=True, slots=True)
class Worse:
    """A metric is below benchmark - tolerance (above, where lower is better) for some windows in a row."""

    metric: str
    windows: int = 1

    def reason(self, facts: Facts) -> Reason | None:
        found = facts.rows_below.get(self.metric, 0)
        if found < self.windows:
            return None
        in_a_row = f" in {found} windows in a row" if found > 1 else ""
        ids = tuple(i.incident_id for i in facts.incidents if i.kind == DriftKind.PERFORMANCE)
        return Reason(f"{self.metric} is worse than its benchmark by more than the tolerance{in_a_row}", ids)

    def due(self, facts: Facts) -> int | None:  # noqa: ARG002 — only another window can change it
        return None


@dataclass(frozen=True, slots=True)
class Drifts:
    """An incident is of a severity, or above, for a time."""

    severity: Severity
    for_us: int = 0
    kind: str | None = None
    """None: of any kind."""

    def reason(self, facts: Facts) -> Reason | None:
        lasting = [i for i in self._of_kind(facts) if facts.now_us >= i.since_us[self.severity] + self.for_us]
        if not lasting:
            return None
        kinds = ", ".join(sorted({incident.kind for incident in lasting}))
        lasts = f" for {Duration(self.for_us)}" if self.for_us else ""
        return Reason(f"{kinds} is {self.severity} or more{lasts}", tuple(i.incident_id for i in lasting))

    def due(self, facts: Facts) -> int | None:
        return min((i.since_us[self.severity] + self.for_us for i in self._of_kind(facts)), default=None)

    def _of_kind(self, facts: Facts) -> list[OpenIncident]:
        return [i for i in facts.incidents if i.severity >= self.severity and self.kind in (None, i.kind)]


@dataclass(frozen=True, slots=True)
class FreshLabels:
    """So many labels that no training has seen."""

    count: int

    def reason(self, facts: Facts) -> Reason | None:
        enough = facts.fresh_labels >= self.count
        return Reason(f"{facts.fresh_labels} labels that no training has seen") if enough else None

    def due(self, facts: Facts) -> int | None:  # noqa: ARG002 — only more labels can change it
        return None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A time of a schedule has come. Times that are let pass, for whatever holds the policy back, are not made up."""

    schedule: Schedule

    def reason(self, facts: Facts) -> Reason | None:
        time = self.due(facts)
        come = time is not None and time <= facts.now_us
        return Reason(f"it is time by schedule {self.schedule.expression} ({self.schedule.zone})") if come else None

    def due(self, facts: Facts) -> int | None:
        return self.schedule.next_after(facts.before_us)


@dataclass(frozen=True, slots=True)
class Policy:
    """When to train anew, and what holds a request back. Durations in microseconds."""

    name: str
    conditions: Sequence[Condition]
    cooldown_us: int
    """Shortest time between two requests of the model, whichever policy made the other."""
    min_labels: int = 0
    """Fewest fresh labels that are worth a training."""
    requires_approval: bool = False

    def reason(self, facts: Facts) -> Reason | None:
        """Why it wants a training now; all its conditions that hold have a say."""
        reasons = [reason for reason in (condition.reason(facts) for condition in self.conditions) if reason]
        if not reasons:
            return None
        ids = sorted({incident_id for reason in reasons for incident_id in reason.incident_ids})
        return Reason("; ".join(reason.sentence for reason in reasons), tuple(ids))

    def due(self, facts: Facts) -> int | None:
        """The next time at which that may change if nothing else happens."""
        dues = (condition.due(facts) for condition in self.conditions)
        return min((due for due in dues if due is not None and due > facts.now_us), default=None)


def parse(text: str, windows: int = 1) -> Condition:
    """The condition that a ``when`` of the configuration means. Raises ``ValueError`` with what is expected."""
    for pattern, build in _FORMS:
        match = pattern.fullmatch(text.strip())
        if match is not None:
            return build(match, windows)
    raise ValueError(
        "expected a condition such as: accuracy below benchmark, drift critical for 30m, prediction_drift warning, "
        "5000 fresh labels"
    )


def _worse(match: re.Match[str], windows: int) -> Condition:
    name, side = match.groups()
    if name not in METRICS:
        raise ValueError(f"{name} is no metric; expected one of {', '.join(sorted(METRICS))}")
    worse_side = "below" if METRICS[name].better is Better.HIGHER else "above"
    if side not in (worse_side, "worse than"):
        raise ValueError(f"{name} {side} benchmark is good news; expected {name} {worse_side} benchmark")
    return Worse(name, windows)


def _drifts(match: re.Match[str], windows: int) -> Condition:  # noqa: ARG001 — windows are those of metrics
    kind, severity, lasts = match.groups()
    for_us = Duration.parse(lasts).microseconds if lasts else 0
    return Drifts(Severity[severity.upper()], for_us, None if kind == "drift" else kind)


def _fresh_labels(match: re.Match[str], windows: int) -> Condition:  # noqa: ARG001
    return FreshLabels(int(match[1]))


_FORMS: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], int], Condition]]]] = (
    (re.compile(r"(\w+) (below|above|worse than) benchmark"), _worse),
    (re.compile(rf"(drift|{'|'.join(DriftKind)}) ({'|'.join(map(str, Severity))})(?: for (.+))?"), _drifts),
    (re.compile(r"([1-9][0-9]*) fresh labels"), _fresh_labels),
)
"""How conditions are written, and what they become."""
