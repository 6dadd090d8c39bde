"""What the join tells of a model: outcomes, coverage and raw errors, on two axes of time.

A label belongs to the tick in which it came, where detection folds it, and to the window of its prediction, which
reports it::

    window of the prediction     | w-1 | w   |
    labels, as they come      ───┴─────┴─────┴──x─x───x──x──▶ ticks

so a summary is keyed by both. Summing over windows gives the tick, and summing over ticks gives the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.summaries.coverage import Coverage
from streamdrift.summaries.outcomes import Outcomes
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.raw_rows import RawRows
from streamdrift.summaries.spreads import Spreads
from streamdrift.summaries.summary import SummaryKey


class WindowKey(NamedTuple):
    """What reported metrics are of: window ``window`` is [window · length, (window + 1) · length)."""

    model_id: str
    model_version: str
    segment: str
    window: int


class OutcomeKey(NamedTuple):
    """What an outcome summary is of."""

    model_id: str
    model_version: str
    segment: str
    tick: int
    """The labels' tick; of a prediction without a label, the tick in which its fate was decided."""
    window: int
    """The predictions' window. Orphans belong to that of their own time."""

    @property
    def of_tick(self) -> SummaryKey:
        """Where detection folds it."""
        return SummaryKey(self.model_id, self.model_version, self.segment, self.tick)

    @property
    def of_window(self) -> WindowKey:
        """Where it is reported."""
        return WindowKey(self.model_id, self.model_version, self.segment, self.window)


@dataclass(frozen=True, slots=True)
class OutcomeSummary:
    """Outcomes of one key. Adds up; what detectors have heard, errors and spreads, cannot be taken back."""

    outcomes: Outcomes
    coverage: Coverage
    errors: Pairs
    """Errors of first labels, at the time of the label: what value-by-value detectors are fed. Revisions have none."""
    spreads: Spreads
    """Histograms of the same, for the detectors of drift."""

    @classmethod
    def empty(cls, grid: OutcomeGrid) -> OutcomeSummary:
        return cls(Outcomes.empty(grid), Coverage.empty(), Pairs.empty(), Spreads.empty(grid))

    def __add__(self, other: OutcomeSummary) -> OutcomeSummary:
        """Raises ``ValueError`` for outcomes on another grid."""
        return OutcomeSummary(
            self.outcomes + other.outcomes,
            self.coverage + other.coverage,
            self.errors + other.errors,
            self.spreads + other.spreads,
        )


@dataclass(frozen=True, slots=True)
class UncountedOutcomes:
    """The same while nobody has said how outcomes of the model are counted: see ``streamdrift.outcome_rows``."""

    rows: RawRows
    """A row each; those beyond the bounds of raw rows are left out, and counted."""
    coverage: Coverage

    def __add__(self, other: UncountedOutcomes) -> UncountedOutcomes:
        return UncountedOutcomes(self.rows + other.rows, self.coverage + other.coverage)


AnySummary = OutcomeSummary | UncountedOutcomes
