"""What an alert shows of one column: effects, both histograms, and a sentence for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors import effects
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.grids import MISSING, SPECIAL_SLOTS, TYPE_ERROR, UNSEEN, Column, Grid, Kind
from streamdrift.summaries.names import MAX_NAMES
from streamdrift.windows import Reference, Window

NAMED_FROM: Final = 20
"""Events that a category must have before an alert may name it: a rare value could point to a person."""
MAX_UNSEEN_NAMED: Final = 10
"""Unknown categories that an alert lists, the most frequent ones."""
NOTABLE_SHIFT_SD: Final = 0.1
"""Mean shifts below it are not what a person should look at."""
MAX_HISTOGRAMS: Final = 50
"""Columns whose histograms an alert carries, the strongest ones: brokers refuse records over a megabyte."""
BEFORE_MONITORING: Final = -1
"""The onset of what was there when the first event came."""
_HISTOGRAMS: Final = ("baseline", "current")


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
        view = _View(reference, finding.window, finding.column)
        psi, quality, phrase = view.effect.get("psi", 0.0), view.is_quality, view.phrase()
        data |= {"effect": view.effect | view.rates(), **view.histograms()}
    return Contribution(finding.column, finding.detector, column.name, psi, psi, onset, quality, phrase, data)


def evidence_data(contributions: Sequence[Contribution]) -> dict[str, list[dict[str, Any]]]:
    """``features`` of an alert: all that drift, with the histograms of the first ones; ``metrics`` where there are."""
    features: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for i, c in enumerate(contributions):
        shown = {key: value for key, value in c.data.items() if i < MAX_HISTOGRAMS or key not in _HISTOGRAMS}
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


class _View:
    """One column of a window next to the baseline's."""

    def __init__(self, reference: Reference, window: Window, column: int) -> None:
        self._reference = reference
        self._window = window
        self._index = column
        self._column: Column = reference.grid.columns[column]
        published = reference.publish(window)
        self._before, self._after = reference.published[column], published[column]
        [self.effect] = reference.effects(window, [column])

    @property
    def is_quality(self) -> bool:
        terms = effects.psi_terms(self._before, self._after)
        return bool(terms[-SPECIAL_SLOTS:].sum() > terms.sum() / 2)

    def rates(self) -> dict[str, float]:
        """Shares of missing, unseen and mistyped values on both sides."""
        names = {MISSING: "missing", UNSEEN: "unseen", TYPE_ERROR: "type_error"}
        return {
            f"{name}_{side}": float(counts[slot - SPECIAL_SLOTS] / counts.sum())
            for slot, name in names.items()
            for side, counts in (("before", self._before), ("after", self._after))
            if self._before[slot - SPECIAL_SLOTS] or self._after[slot - SPECIAL_SLOTS]
        }

    def histograms(self) -> dict[str, Any]:
        """Both sides on the published bins, and what is needed to draw them."""
        if self._column.kind is Kind.NUMERIC:
            bins = len(self._reference.published_edges(self._index)) + 1
            axis: dict[str, Any] = {"edges": self._reference.published_edges(self._index)}
        else:
            names = self._reference.published_categories(self._index)
            bins = len(names)
            axis = {"categories": [self._name(name, i) for i, name in enumerate(names)]}
        current = _side(self._after, bins)
        known = self._window.names.columns.get(self._index, {})
        ranked = sorted(known.items(), key=lambda item: (-item[1], item[0]))
        named = {name: n for name, n in ranked[:MAX_UNSEEN_NAMED] if n >= NAMED_FROM}
        if named:
            current["unseen_categories"] = named
        return {
            "baseline": axis | _side(self._before, bins),
            "current": current,
            "n_baseline": int(self._before.sum()),
            "n_current": int(self._after.sum()),
        }

    def _name(self, name: str | None, bin_: int) -> str | None:
        return name if max(self._before[bin_], self._after[bin_]) >= NAMED_FROM else None

    def phrase(self) -> str:
        terms = effects.psi_terms(self._before, self._after)
        if self.is_quality:
            return self._quality_phrase(int(terms[-SPECIAL_SLOTS:].argmax()))
        if self._column.kind is Kind.CATEGORICAL:
            return self._category_phrase(int(terms[:-SPECIAL_SLOTS].argmax()))
        return self._numeric_phrase()

    def _share(self, counts: NDArray[np.int64], slot: int) -> float:
        return float(counts[slot] / counts.sum())

    def _quality_phrase(self, special: int) -> str:
        slot = special - SPECIAL_SLOTS
        before, after = _percent(self._share(self._before, slot)), _percent(self._share(self._after, slot))
        name = self._column.name
        if special == MISSING:
            return f"{name} is missing in {after} of events ({before} in the baseline)"
        if special == TYPE_ERROR:
            return f"{name} has a value of the wrong type in {after} of events ({before} in the baseline)"
        # A baseline of many categories does not list its rarest ones either.
        details = [f"{before} in the baseline"] if self._before[slot] else []
        what = "a rare or new category" if details else "a category that the baseline does not know"
        details += self._most_frequent_name()
        return f"{name} has {what} in {after} of events" + (f" ({'; '.join(details)})" if details else "")

    def _most_frequent_name(self) -> list[str]:
        known = self._window.names.columns.get(self._index, {})
        common = max(sorted(known), key=lambda n: known[n], default=None)
        if common is None or known[common] < NAMED_FROM:
            return []
        # Of more names than are kept, the most frequent one may be among those that are not.
        return [f"{'most often' if len(known) < MAX_NAMES else 'among them'} “{common}”"]

    def _category_phrase(self, bin_: int) -> str:
        names = self._reference.published_categories(self._index)
        name = self._name(names[bin_], bin_) if bin_ < len(names) else None
        before, after = _percent(self._share(self._before, bin_)), _percent(self._share(self._after, bin_))
        which = f"“{name}”" if name is not None else "the rarer categories"
        return f"{self._column.name} has another mix of categories: {which} went from {before} to {after}"

    def _numeric_phrase(self) -> str:
        name, shift = self._column.name, self.effect.get("mean_shift_sd")
        before, after = self.effect.get("mean_before"), self.effect.get("mean_after")
        changed = f"{name} changed its distribution (PSI {_number(self.effect.get('psi', 0.0), 2)})"
        if before is None or after is None or not self._mean_tells(after - before):
            return changed
        bound = self._mean_bound()
        if shift is None:
            # In units of the baseline's standard deviation: there is none where it never varied.
            to = f"{bound} {_number(after)}" if bound else _number(after)
            moved = f"{name} moved from {_number(before)} to {to} (it was constant in the baseline)"
            return moved if after != before else changed
        if abs(shift) < NOTABLE_SHIFT_SD:
            return f"{changed} with the mean where it was"
        direction, difference = ("up", "+") if shift > 0 else ("down", "-")
        size, by = f"{_number(abs(shift), 2)} sd", f"{difference}{_number(abs(after - before))}"
        return f"{name} shifted {direction} " + (f"at least {size} ({bound} {by})" if bound else f"{size} (about {by})")

    def _mean_tells(self, moved: float) -> bool:
        """Whether the mean says where the values went: limited ones must lie where it moved, and nowhere else."""
        if self._reference.limited_side(self._reference.window, self._index) is not None:
            return False
        side = self._reference.limited_side(self._window, self._index)
        return side is None or side * moved > 0

    def _mean_bound(self) -> str:
        """What to say before a mean of values of which some were limited: it is not all of what they moved."""
        side = self._reference.limited_side(self._window, self._index)
        return "" if side is None else "at least" if side > 0 else "at most"


def _side(counts: NDArray[np.int64], bins: int) -> dict[str, Any]:
    unseen, missing, type_errors = counts[-SPECIAL_SLOTS:].tolist()
    return {"counts": counts[:bins].tolist(), "unseen": unseen, "missing": missing, "type_errors": type_errors}


def _number(value: float, digits: int = 3) -> str:
    """A number of so many digits as a person writes it: 0.0042, 330, 3,990."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if 1_000 <= abs(rounded) < 1e15 else f"{rounded:g}"  # noqa: PLR2004 — beyond, zeros tell less


def _percent(share: float) -> str:
    """A share in two digits; all and nothing are said only where they are meant."""
    if 0 < share < 1e-4:  # noqa: PLR2004
        return "less than 0.01 %"
    if 0.995 <= share < 1:  # noqa: PLR2004 — where two digits round to 100
        return "more than 99 %"
    return f"{100 * share:.2g} %" if share < 1 else "100 %"
