"""Label drift: whether the classes that turn out to be true come as often as they did.

The classes of labels are a column like any other, so the rule is that of data drift (see ``detectors.psi_windows``).
They are compared with those of the training table, or of the first labels where no table tells::

    first event      + label delay
    labels   |··early ones only··|── the first 1,000 ──|── compared with them ─────────▶
                                  (none with a training table)

Labels that come early may differ from those that come late, and when a model version is new there are early ones only.
So nothing is looked at before the label delay has passed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from streamdrift.baselines import Baseline
from streamdrift.detectors.detector import Ticks
from streamdrift.detectors.psi_windows import PsiWindows
from streamdrift.errors import StateError
from streamdrift.grids import SPECIAL_SLOTS, UNSEEN, Column, Grid, Kind
from streamdrift.incidents import DriftKind, Sighting, sighting
from streamdrift.summaries import Moments, Names, Summary
from streamdrift.summaries.confusion import FOLDED, Confusion
from streamdrift.summaries.outcomes import Outcomes
from streamdrift.windows import Reference

FIRST_LABELS: Final = 1_000
"""Labels that later ones are compared with where there is no training table."""
LABEL: Final = "label"


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    since: int | None
    reference: dict[str, int] | None
    gathered: dict[str, int]
    detector: object


class LabelDrift:
    """The labels of one model version. ``usual`` counts the classes of its training table."""

    def __init__(
        self, model: tuple[str, str], ticks: Ticks, label_delay_us: int, usual: Mapping[str, int] | None
    ) -> None:
        self._model = model
        self._ticks = ticks
        self._label_delay_us = label_delay_us
        self._since: int | None = None
        """The first tick with labels."""
        self._gathered: dict[str, int] = {}
        self._usual: Mapping[str, int] | None = None
        self._reference: Reference | None = None
        self._detector: PsiWindows | None = None
        if usual:
            self._compare_with(usual)

    def close(self, tick: int, outcomes: Outcomes) -> list[Sighting]:
        """Take the outcomes of a closed tick. What revisions take back is not given back: that is another time's."""
        counts = true_counts(outcomes.confusion)
        if self._since is None:
            if not counts:
                return []
            self._since = tick
        if self._ticks.end_us(tick) < self._ticks.end_us(self._since) + self._label_delay_us:
            return []
        if self._reference is None or self._detector is None:
            self._gather(counts)
            return []
        window = self._reference.reduce(_summary(self._reference.grid, counts)) if counts else None
        findings = self._detector.close(tick, window)
        seen = [sighting(finding, self._reference.grid, self._reference, self._ticks) for finding in findings]
        return [replace(each, kind=DriftKind.LABEL_DRIFT) for each in seen]

    def due(self) -> int | None:
        """The next tick at whose close something happens even without labels."""
        return self._detector.due() if self._detector else None

    def _gather(self, counts: Mapping[str, int]) -> None:
        for name, n in counts.items():
            self._gathered[name] = self._gathered.get(name, 0) + n
        if sum(self._gathered.values()) >= FIRST_LABELS:
            self._compare_with(self._gathered)
            self._gathered = {}

    def _compare_with(self, usual: Mapping[str, int]) -> None:
        self._usual = dict(usual)
        names = tuple(sorted(name for name, n in usual.items() if n > 0 and name not in FOLDED))
        grid = Grid(*self._model, (Column(LABEL, Kind.CATEGORICAL, categories=names),))
        self._reference = Reference(Baseline(grid, _summary(grid, usual)))
        self._detector = PsiWindows(self._reference, self._ticks)

    def state(self) -> object:
        """Values that MessagePack can hold."""
        detector = self._detector.state() if self._detector else None
        usual = dict(self._usual) if self._usual is not None else None
        return msgspec.to_builtins(_State(self._since, usual, self._gathered, detector), builtin_types=(bytes,))

    def restore(self, state: object) -> bool:
        """Go on from ``state``; whether that could be: with another training table the comparison starts anew.

        Raises ``StateError`` for what ``state`` never gave.
        """
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise StateError(f"label drift: {error}") from None
        self._since, self._gathered = saved.since, saved.gathered
        if self._usual is None and saved.reference is not None:
            self._compare_with(saved.reference)
        goes_on = saved.reference == self._usual
        if self._detector and goes_on:
            self._detector.restore(saved.detector)
        return goes_on


def true_counts(confusion: Confusion) -> dict[str, int]:
    """How often each class was the true one; what would be below zero, because more was taken back, is left out."""
    counts: dict[str, int] = {}
    for (true, _), n in confusion.cells.items():
        counts[true] = counts.get(true, 0) + n
    return {name: n for name, n in sorted(counts.items()) if n > 0}


def _summary(grid: Grid, counts: Mapping[str, int]) -> Summary:
    """Labels on their grid: those of no class of it are unseen."""
    [column] = grid.columns
    place = {name: i for i, name in enumerate(column.categories)}
    slots = np.zeros(grid.slots, dtype=np.int64)
    for name, n in counts.items():
        slots[place.get(name, len(slots) - SPECIAL_SLOTS + UNSEEN)] += n
    strangers = {name: n for name, n in counts.items() if name not in place and name not in FOLDED}
    names = Names({0: strangers} if strangers else {})
    return Summary(sum(counts.values()), slots, Moments.empty(1), names, {})
