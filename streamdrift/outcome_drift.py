"""Drift of outcomes: whether what turns out to be true, and how wrong predictions are, is still as it was.

Labels, errors and losses are columns like any others, so the detectors are those of features (``outcome_columns``).
They are compared with those of the training table, or of the first labels where no table tells::

    first event      + label delay
    labels   |··early ones only··|──── the first ──────|── compared with them ─────────▶
                                  (none with a training table)

Labels that come early may differ from those that come late, and when a model version is new there are early ones only.
So nothing is looked at before the label delay has passed once. The first are a quarter of a warm-up, or as many as come
in a seventh of its longest time (a day), but never fewer than a thousand: what they do not know stays unknown for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from streamdrift.benchmarks import Measured
from streamdrift.column_watch import ColumnWatch
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.errors import StateError
from streamdrift.incidents import DriftKind, Sighting
from streamdrift.monitor import INPUTS
from streamdrift.outcome_columns import ERROR, LABEL, LOSS, OutcomeColumns, usual_classes
from streamdrift.outcome_entries import PackedSpreads, pack_spreads, unpack_spreads
from streamdrift.outcome_evidence import ERROR_RATE, PLACES, drift_of
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.sensitivity import Sensitivity
from streamdrift.summaries.confusion import FOLDED, Confusion
from streamdrift.summaries.spreads import Spreads
from streamdrift.ticks import MICROSECONDS

FIRST_LABELS: Final = 1_000
"""Fewest labels that later ones are compared with where there is no training table."""
OF_EVENTS: Final = 4
OF_TIME: Final = 7
"""Which parts of a warm-up are enough of them."""
_KINDS: Final = {DriftKind.LABEL_DRIFT: (LABEL,), DriftKind.CONCEPT_DRIFT: (ERROR, LOSS)}
"""Which columns are watched together."""


@dataclass(frozen=True, slots=True)
class OutcomeDriftConfig:
    """How drift of the outcomes of one model is watched for."""

    label_delay_us: int = 0
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    """That of the whole model."""
    window_us: int = 3_600 * MICROSECONDS
    """Length of the window from which an alert shows what came since the onset."""


class _State(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    since: int | None
    usual: PackedSpreads | None
    gathered: PackedSpreads
    watches: dict[str, Any]


class OutcomeDrift:
    """The outcomes of one model version. ``measured`` is what its training table says."""

    def __init__(
        self,
        model: tuple[str, str],
        grid: OutcomeGrid,
        ticks: Ticks,
        config: OutcomeDriftConfig,
        measured: Measured | None = None,
    ) -> None:
        self._model = model
        self._grid = grid
        self._ticks = ticks
        self._config = config
        self._since: int | None = None
        """The first tick with labels."""
        self._gathered = Spreads.empty(grid)
        self._usual: Spreads | None = None
        self._columns: dict[DriftKind, OutcomeColumns] = {}
        self._watches: dict[DriftKind, ColumnWatch] = {}
        usual = measured.usual(grid) if measured else None
        if usual is not None and usual.events:
            self._compare_with(usual)

    @property
    def watched(self) -> set[tuple[int, str]]:
        """What may be in alarm: the number of a column, and the name of a detector."""
        return {
            (PLACES[column], ERROR_RATE if column == ERROR else name)
            for kind, watch in self._watches.items()
            for column in self._columns[kind].names
            for name in watch.names
        }

    def close(self, tick: int, spreads: Spreads, confusion: Confusion, *, again: bool = False) -> list[Sighting]:
        """Take what was heard in a closed tick; ``confusion`` names the classes that are not usual.

        ``again``: say how all is that lasts, although no pane of the window that is shown ends.
        """
        if self._since is None:
            self._since = tick if spreads.events else None
        if self._since is None or self._ticks.end_us(tick) < self._ticks.end_us(self._since) + self._delay_us:
            return []
        if self._usual is None:
            self._gathered += spreads
            if self._is_enough(tick):
                self._compare_with(self._gathered)
                self._gathered = Spreads.empty(self._grid)
            return []
        return list(self._look(tick, spreads, self._strangers(self._usual, confusion), again=again))

    @property
    def _delay_us(self) -> int:
        return self._config.label_delay_us

    def _is_enough(self, tick: int) -> bool:
        """Whether so many labels were gathered that others may be compared with them."""
        labels, warm_up = self._gathered.events, self._config.sensitivity.warm_up
        elapsed_us = (tick - (self._since or 0)) * self._ticks.length_us - self._delay_us
        is_over = labels * OF_EVENTS >= warm_up.events or elapsed_us * OF_TIME >= warm_up.at_most_us
        return labels >= FIRST_LABELS and is_over

    def _look(self, tick: int, spreads: Spreads, strangers: dict[str, int], *, again: bool) -> Iterator[Sighting]:
        for kind, watch in self._watches.items():
            columns = self._columns[kind]
            window = columns.window(spreads, strangers) if spreads.events else None
            for finding in watch.close(tick, window, again=again):
                column = columns.names[finding.column]
                found = _named(finding, column)
                seen = drift_of(found, kind, column, self._grid.task, columns.reference, self._ticks)
                if seen:
                    yield seen

    def _strangers(self, usual: Spreads, confusion: Confusion) -> dict[str, int]:
        """How often classes were the true one that are not usual."""
        known, found = {*usual_classes(usual), *FOLDED}, dict[str, int]()
        for (true, _), n in sorted(confusion.cells.items()):
            if true not in known:
                found[true] = found.get(true, 0) + n
        return {name: n for name, n in found.items() if n > 0}

    def due(self) -> int | None:
        """The next tick at whose close something happens even without labels."""
        return min((due for watch in self._watches.values() if (due := watch.due()) is not None), default=None)

    def _compare_with(self, usual: Spreads) -> None:
        self._usual = usual
        for kind, names in _KINDS.items():
            columns = OutcomeColumns(self._model, usual, names)
            if columns:
                self._columns[kind] = columns
        for kind, columns in self._columns.items():
            sensitivity = self._config.sensitivity.part((1 - INPUTS) / len(self._columns))
            if kind is DriftKind.CONCEPT_DRIFT:
                tolerance = sensitivity.tolerance
                sensitivity = replace(sensitivity, tolerance=replace(tolerance, unseen=tolerance.error))
            self._watches[kind] = ColumnWatch(columns.reference, self._ticks, sensitivity, self._config.window_us)

    def state(self) -> object:
        """Values that MessagePack can hold."""
        usual = pack_spreads(self._usual) if self._usual else None
        watches = {str(kind): watch.state() for kind, watch in self._watches.items()}
        return msgspec.to_builtins(
            _State(self._since, usual, pack_spreads(self._gathered), watches), builtin_types=(bytes,)
        )

    def restore(self, state: object) -> bool:
        """Go on from ``state``; whether that could be: with another training table the comparison starts anew.

        Raises ``StateError`` for what ``state`` never gave.
        """
        try:
            saved = msgspec.convert(state, _State, builtin_types=(bytes,))
            usual = unpack_spreads(saved.usual, self._grid) if saved.usual else None
            gathered = unpack_spreads(saved.gathered, self._grid)
        except (msgspec.ValidationError, ValueError) as error:
            raise StateError(f"drift of outcomes: {error}") from None
        self._since, self._gathered = saved.since, gathered
        if self._usual is None and usual is not None:
            self._compare_with(usual)
        if usual != self._usual:
            return False
        self._restore_watches(saved.watches)
        return True

    def _restore_watches(self, states: Mapping[str, object]) -> None:
        if set(states) != {str(kind) for kind in self._watches}:
            raise StateError(f"drift of outcomes: watches of {', '.join(sorted(states)) or 'nothing'}")
        for kind, watch in self._watches.items():
            watch.restore(states[str(kind)])


def _named(finding: Finding, column: str) -> Finding:
    """What is wrong is a category that nobody knows, and yet no unknown category."""
    return replace(finding, detector=ERROR_RATE) if column == ERROR else finding
