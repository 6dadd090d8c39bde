"""What happened to one column, in numbers and in words: a window of it next to the baseline's."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors import effects
from streamdrift.grids import MISSING, SPECIAL_SLOTS, TYPE_ERROR, UNSEEN, Column, Kind
from streamdrift.merging import MARGIN
from streamdrift.reshaping import reshaped
from streamdrift.summaries.names import MAX_NAMES
from streamdrift.windows import Reference, Window

NAMED_FROM: Final = 20
"""Events that a category must have before an alert may name it: a rare value could point to a person."""
MAX_UNSEEN_NAMED: Final = 10
"""Unknown categories that an alert lists, the most frequent ones."""
NOTABLE_SHIFT_SD: Final = 0.1
"""Mean shifts below it are not what a person should look at."""
RATES: Final = {"missing_rate": MISSING, "unseen_rate": UNSEEN, "type_error_rate": TYPE_ERROR}
"""Detectors of one special slot each."""
OUT_OF_RANGE: Final = "out_of_range_rate"
SHAPE: Final = "shape"
"""The detector that looks at everything but the special slots."""


class Change:
    """One column of a window next to the baseline's, as the detector sees it that found the change."""

    def __init__(self, reference: Reference, window: Window, column: int, detector: str) -> None:
        self._detector = detector
        self._reference = reference
        self._window = window
        self._index = column
        self._column: Column = reference.grid.columns[column]
        self._before, [self._after] = reference.published[column], reference.publish(window, [column])
        [self.effect] = reference.effects(window, [column])
        moments = [reference.mean_and_sd(each, column) for each in (reference.window, window)]
        for side, known in zip(("before", "after"), moments, strict=True):
            if known is not None and np.isfinite(known[1]):
                self.effect[f"sd_{side}"] = known[1]

    @cached_property
    def _terms(self) -> NDArray[np.float64]:
        """What each bin gives to the PSI."""
        return effects.psi_terms(self._before, self._after)

    @cached_property
    def is_quality(self) -> bool:
        """Whether missing, unseen and mistyped values make more than half of the PSI.

        Both halves without what chance alone gives them; where that leaves nothing, the detector knows better.
        """
        occupied = (self._before > 0) | (self._after > 0)
        chance = 1 / max(int(self._before.sum()), 1) + 1 / max(int(self._after.sum()), 1)
        special, usual = (
            max(float(self._terms[part].sum()) - chance * (int(occupied[part].sum()) - own), 0.0)
            for part, own in ((slice(-SPECIAL_SLOTS, None), 0), (slice(None, -SPECIAL_SLOTS), 1))
        )
        return special > usual or (special == usual == 0 and self._detector in RATES)

    def rates(self) -> dict[str, float]:
        """Shares of missing, unseen and mistyped values on both sides, and of numbers where there were hardly any."""
        names = {MISSING: "missing", UNSEEN: "unseen", TYPE_ERROR: "type_error"}
        rates = {
            f"{name}_{side}": float(counts[slot - SPECIAL_SLOTS] / counts.sum())
            for slot, name in names.items()
            for side, counts in (("before", self._before), ("after", self._after))
            if self._before[slot - SPECIAL_SLOTS] or self._after[slot - SPECIAL_SLOTS]
        }
        before, after = self._out_of_range()
        return rates | ({"out_of_range_before": before, "out_of_range_after": after} if after else {})

    def _out_of_range(self) -> tuple[float, float]:
        """Shares of events with a number in a bin that holds hardly anything of the baseline, on both sides."""
        if self._column.kind is not Kind.NUMERIC:
            return 0.0, 0.0
        ours, theirs = (self._of(window) for window in (self._reference.window, self._window))
        rare = ours[:-SPECIAL_SLOTS] <= MARGIN * ours[:-SPECIAL_SLOTS].sum()
        before, after = (counts[:-SPECIAL_SLOTS][rare].sum() / max(counts.sum(), 1) for counts in (ours, theirs))
        return float(before), float(after)

    def _of(self, window: Window) -> NDArray[np.int64]:
        """A window's counts of the column, on the finer bins."""
        return self._reference.of_column(window.counts, self._index)

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
        """What a person should hear, without a time: ``amount shifted up 0.9 sd (about +18)``."""
        if self._detector in RATES:
            return self._quality_phrase(RATES[self._detector])
        if self._detector == OUT_OF_RANGE:
            before, after = map(_percent, self._out_of_range())
            return f"{self._column.name} is out of its usual range in {after} of events ({before} in the baseline)"
        if self.is_quality and self._detector != SHAPE:
            return self._quality_phrase(int(self._terms[-SPECIAL_SLOTS:].argmax()))
        if self._column.kind is Kind.CATEGORICAL:
            return self._category_phrase(int(self._terms[:-SPECIAL_SLOTS].argmax()))
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
            return f"{changed} with the mean where it was" + self._reshaped(": ")
        direction, difference = ("up", "+") if shift > 0 else ("down", "-")
        size, by = f"{_number(abs(shift), 2)} sd", f"{difference}{_number(abs(after - before))}"
        if bound:
            return f"{name} shifted {direction} at least {size} ({bound} {by})"
        return f"{name} shifted {direction} {size} (about {by})"

    def _reshaped(self, joint: str) -> str:
        """What its histogram says of its shape, behind ``joint``."""
        sides = [self._of(window)[:-SPECIAL_SLOTS] for window in (self._reference.window, self._window)]
        sds = self.effect.get("sd_before", 0.0), self.effect.get("sd_after", 0.0)
        words = reshaped(sides[0], sides[1], self._reference.edges[self._index], sds)
        return joint + words if words else ""

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
