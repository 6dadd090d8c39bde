"""From labelled predictions to outcome summaries: the one definition of what a row counts as, for join and detect.

Where it is known how a model's outcomes are counted (its ``OutcomeGrid``), the join counts them. Where it is not, the
join passes the rows on, and detect counts them once it has learned how: to the same outcomes.

A row is *heard* if it is of a first label that came before its own tick was over: only these reach detectors. Labels
that are late, and revisions, count in the windows that are reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.errors import StateError
from streamdrift.grids import category_name
from streamdrift.joining.outcomes import FateBatch, OutcomeBatch, Version
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.summaries.coverage import DELAY_BINS, DELAY_EDGES_US, Coverage, Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeKey, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows, errors, of_groups
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.raw_rows import RawRows, Row
from streamdrift.summaries.spreads import Spreads
from streamdrift.summaries.tally import Tally


class OutcomeRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A labelled prediction as the payload of a raw row."""

    sign: int
    """1, or -1 for what a revised label takes back."""
    predicted_label: str | None
    score: float | None
    probabilities: dict[str, float] | None
    predicted_value: float | None
    true_label: str | None
    true_value: float | None
    heard: bool


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(OutcomeRow)


@dataclass(frozen=True, slots=True)
class OutcomeColumns:
    """Labelled predictions of one model version, by column; all have length n.

    Texts and maps are None, and numbers NaN, where there is none.
    """

    times: NDArray[np.int64]
    """Of the labels, in microseconds."""
    hashes: NDArray[np.uint64]
    signs: NDArray[np.int8]
    heard: NDArray[np.bool_]
    predicted_labels: Sequence[str | None]
    scores: NDArray[np.float64]
    probabilities: Sequence[Mapping[str, float] | None]
    predicted_values: NDArray[np.float64]
    true_labels: Sequence[str | None]
    true_values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.signs)

    @classmethod
    def of_batch(cls, batch: OutcomeBatch, tick_us: int) -> OutcomeColumns:
        """What the join gave."""
        in_time = batch.decided // tick_us == batch.label_times // tick_us
        return cls(
            batch.label_times,
            batch.hashes,
            batch.signs,
            in_time & ~batch.revised,
            batch.predicted_labels,
            batch.scores,
            batch.probabilities,
            batch.predicted_values,
            batch.true_labels,
            batch.true_values,
        )

    @classmethod
    def of_rows(cls, rows: RawRows) -> OutcomeColumns:
        """What was passed on uncounted, as far as it was kept. Raises ``StateError`` for rows that nobody wrote."""
        found = [(row, _decode(row.payload)) for row, n in rows.rows.items() for _ in range(n)]
        told = [outcome for _, outcome in found]
        return cls(
            np.array([row.time for row, _ in found], dtype=np.int64),
            np.array([row.hash for row, _ in found], dtype=np.uint64),
            np.array([row.sign for row in told], dtype=np.int8),
            np.array([row.heard for row in told], dtype=np.bool_),
            [row.predicted_label for row in told],
            _numbers(row.score for row in told),
            [row.probabilities for row in told],
            _numbers(row.predicted_value for row in told),
            [row.true_label for row in told],
            _numbers(row.true_value for row in told),
        )

    def take(self, places: NDArray[np.int64]) -> OutcomeColumns:
        """The rows at these places."""
        at = places.tolist()
        return OutcomeColumns(
            self.times[places],
            self.hashes[places],
            self.signs[places],
            self.heard[places],
            [self.predicted_labels[i] for i in at],
            self.scores[places],
            [self.probabilities[i] for i in at],
            self.predicted_values[places],
            [self.true_labels[i] for i in at],
            self.true_values[places],
        )

    def rows(self) -> list[Row]:
        """A row each, with all that is needed to count it later."""
        columns = zip(
            self.hashes.tolist(),
            self.times.tolist(),
            self.signs.tolist(),
            self.predicted_labels,
            _optional(self.scores),
            self.probabilities,
            _optional(self.predicted_values),
            self.true_labels,
            _optional(self.true_values),
            self.heard.tolist(),
            strict=True,
        )
        return [Row(identity, time, _encode(OutcomeRow(*told))) for identity, time, *told in columns]


def rows_on(grid: OutcomeGrid, columns: OutcomeColumns) -> LabelRows | ValueRows:
    """The same rows as a task's: what is a class, a probability or a number in them.

    A class may be told as a number, and a number as text. For a task of classes every row must have a truth.
    """
    if grid.task is Task.REGRESSION:
        true = _values(columns.true_values, columns.true_labels)
        return ValueRows(grid, true, _values(columns.predicted_values, columns.predicted_labels))
    true_names = [name or "" for name in _names(columns.true_labels, columns.true_values)]
    predicted = _names(columns.predicted_labels, columns.predicted_values)
    return LabelRows.of(grid, true_names, predicted, _probabilities(grid, columns))


def counted(uncounted: UncountedOutcomes, grid: OutcomeGrid) -> OutcomeSummary:
    """What the join would have made of the rows on this grid, as far as they were kept.

    Raises ``StateError`` for rows that nobody wrote.
    """
    columns = OutcomeColumns.of_rows(uncounted.rows)
    [(outcomes, told, spreads)] = outcomes_of(grid, columns, np.zeros(len(columns), dtype=np.int64), 1)
    return OutcomeSummary(outcomes, uncounted.coverage, told, spreads)


def counted_by_tick(rows: RawRows, grid: OutcomeGrid, tick_us: int) -> dict[int, OutcomeSummary]:
    """The same by the tick of the label, in their order and without coverage. What is heard came in that tick."""
    columns = OutcomeColumns.of_rows(rows)
    ticks, groups = np.unique(columns.times // tick_us, return_inverse=True)
    summaries = _of_outcomes(grid, columns, groups, len(ticks))
    return {tick: s for tick, s in zip(ticks.tolist(), summaries, strict=True) if isinstance(s, OutcomeSummary)}


def outcomes_of(
    grid: OutcomeGrid, columns: OutcomeColumns, groups: NDArray[np.int64], size: int
) -> list[tuple[Outcomes, Pairs, Spreads]]:
    """Of each of ``size`` groups the outcomes, with respect to their signs, and errors and spreads of what is heard.

    ``groups`` numbers each row's group from 0. Shape (n,).
    """
    if grid.task is not Task.REGRESSION:
        known = np.array([name is not None for name in _names(columns.true_labels, columns.true_values)], dtype=bool)
        if not known.all():  # what is dropped for privacy's sake says nothing
            columns, groups = columns.take(np.flatnonzero(known)), groups[known]
    rows = rows_on(grid, columns)
    outcomes = [Outcomes.empty(grid)] * size
    for sign in (1, -1):
        places = np.flatnonzero(columns.signs == sign)
        present, dense = np.unique(groups[places], return_inverse=True)
        added = of_groups(rows_on(grid, columns.take(places)), dense) if len(places) else []
        for group, of_group in zip(present.tolist(), added, strict=True):
            outcomes[group] = outcomes[group] + of_group if sign > 0 else outcomes[group] - of_group
    values, heard = errors(rows), np.flatnonzero(columns.heard & (columns.signs > 0))
    spreads = Spreads.of_groups(rows.take(heard), groups[heard], size)
    heard = heard[np.isfinite(values[heard])]
    order = heard[np.argsort(groups[heard], kind="stable")]
    pieces = np.split(order, np.searchsorted(groups[order], np.arange(1, size)))
    told = [Pairs.of(columns.hashes[at], columns.times[at], values[at].astype(np.float64)) for at in pieces]
    return list(zip(outcomes, told, spreads, strict=True))


def summaries_of(
    outcomes: Iterable[OutcomeBatch],
    fates: Iterable[FateBatch],
    *,
    tick_us: int,
    window_us: Callable[[str], int],
    grid_of: Callable[[str, str], OutcomeGrid | None],
) -> dict[OutcomeKey, AnySummary]:
    """What the join gave, added up by model version, tick and window.

    ``window_us`` tells the length of a model's windows, ``grid_of`` how the outcomes of a version are counted.
    """
    found: dict[OutcomeKey, AnySummary] = {}

    def add(version: Version, places: Iterable[tuple[int, int]], summaries: Iterable[AnySummary]) -> None:
        for (tick, window), summary in zip(places, summaries, strict=True):
            key = OutcomeKey(*version, "", tick, window)
            found[key] = added(found[key], summary) if key in found else summary

    for batch in outcomes:
        columns, length = OutcomeColumns.of_batch(batch, tick_us), window_us(batch.version.model_id)
        places, groups = _grouped(batch.decided // tick_us, batch.prediction_times // length)
        add(batch.version, places, _of_outcomes(grid_of(*batch.version), columns, groups, len(places)))
    for fate in fates:
        length = window_us(fate.version.model_id)
        places, groups = _grouped(fate.decided // tick_us, fate.times // length)
        add(fate.version, places, _of_fates(grid_of(*fate.version), fate, groups, len(places)))
    return found


def added(one: AnySummary, other: AnySummary) -> AnySummary:
    """The sum of two summaries of one kind. Raises ``ValueError`` for two kinds."""
    if isinstance(one, UncountedOutcomes) and isinstance(other, UncountedOutcomes):
        return one + other
    if isinstance(one, OutcomeSummary) and isinstance(other, OutcomeSummary):
        return one + other
    raise ValueError("outcomes that are counted, and those that are not, do not add up")


def _of_outcomes(
    grid: OutcomeGrid | None, columns: OutcomeColumns, groups: NDArray[np.int64], size: int
) -> Iterator[AnySummary]:
    if grid is not None:
        for outcomes, told, spreads in outcomes_of(grid, columns, groups, size):
            yield OutcomeSummary(outcomes, Coverage.empty(), told, spreads)
        return
    rows: list[list[Row]] = [[] for _ in range(size)]
    for group, row in zip(groups.tolist(), columns.rows(), strict=True):
        rows[group].append(row)
    for of_group in rows:
        yield UncountedOutcomes(RawRows.of(of_group), Coverage.empty())


def _of_fates(grid: OutcomeGrid | None, fates: FateBatch, groups: NDArray[np.int64], size: int) -> Iterator[AnySummary]:
    counts = np.bincount(groups * len(Fate) + fates.fates, minlength=size * len(Fate)).reshape(size, -1).tolist()
    labelled = fates.fates == Fate.LABELLED
    bins = np.searchsorted(DELAY_EDGES_US, fates.delays[labelled])
    delays = Tally.of_groups(bins, groups[labelled], size, DELAY_BINS)
    for coverage in map(Coverage, map(tuple, counts), delays):
        if grid is None:
            yield UncountedOutcomes(RawRows(), coverage)
        else:
            yield replace(OutcomeSummary.empty(grid), coverage=coverage)


def _grouped(ticks: NDArray[np.int64], windows: NDArray[np.int64]) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Each (tick, window) that occurs, and the place of each row's own among them. Shape (n,)."""
    of_tick, tick = np.unique(ticks, return_inverse=True)
    of_window, window = np.unique(windows, return_inverse=True)
    pairs, groups = np.unique(tick * len(of_window) + window, return_inverse=True)
    first, second = np.divmod(pairs, len(of_window))
    return list(zip(of_tick[first].tolist(), of_window[second].tolist(), strict=True)), groups


def _names(labels: Sequence[str | None], values: NDArray[np.float64]) -> list[str | None]:
    """Classes: what is told as a label, or else the name of a number."""
    if None not in labels:
        return list(labels)
    numbers = _optional(values)
    return [
        category_name(value) if name is None and value is not None else name
        for name, value in zip(labels, numbers, strict=True)
    ]


def _values(values: NDArray[np.float64], labels: Sequence[str | None]) -> NDArray[np.float64]:
    """Numbers: what is told as a value, or else the number that a label is."""
    if not np.isnan(values).any():
        return values
    parsed = np.array([math.nan if name is None else _number(name) for name in labels], dtype=np.float64)
    return np.where(np.isnan(values), parsed, values)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _probabilities(grid: OutcomeGrid, columns: OutcomeColumns) -> NDArray[np.float64] | None:
    """Of the positive class, shape (n, 1), or of each class, shape (n, classes); NaN in a row that lacks one."""
    if grid.task is Task.MULTICLASS:
        if not grid.classes:
            return None
        nothing = [math.nan] * len(grid.classes)
        told = [
            nothing if row is None else [row.get(name, math.nan) for name in grid.classes]
            for row in columns.probabilities
        ]
        return np.array(told, dtype=np.float64).reshape(-1, len(grid.classes))
    positive = grid.classes[1]
    scores = columns.scores
    if np.isnan(scores).any():
        named = [math.nan if row is None else row.get(positive, math.nan) for row in columns.probabilities]
        scores = np.where(np.isnan(scores), np.array(named, dtype=np.float64), scores)
    return scores[:, None]


def _decode(payload: bytes) -> OutcomeRow:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"an outcome that was passed on uncounted cannot be read: {error}") from None


def _optional(numbers: NDArray[np.float64]) -> list[float | None]:
    return [None if number != number else number for number in numbers.tolist()]  # noqa: PLR0124 — NaN


def _numbers(numbers: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array(list(numbers), dtype=np.float64)
