"""What the join gives becomes summaries: each row in one tick and one window, counted at once or later alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.errors import StateError
from streamdrift.joining.join import Join, LabelEvent, PredictionEvent, Result
from streamdrift.joining.matching import Bounds
from streamdrift.joining.memory import MemoryStore
from streamdrift.joining.rows import Prediction
from streamdrift.metrics import Estimate, evaluate
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.outcome_rows import OutcomeColumns, added, counted, rows_on, summaries_of
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeKey, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.outcomes import LabelRows, Outcomes
from streamdrift.summaries.raw_rows import RawRows, Row
from tests.support.outcomes import BINARY, GRIDS, MULTICLASS, REGRESSION

TICK_US, WINDOW_US = 100, 1_000
BOUNDS = Bounds(50_000, 50_000, 10_000, predictions_lateness_us=30, labels_lateness_us=20)

numbers = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0, 7.0]), st.floats(-30, 90))
names = st.sampled_from([None, "legit", "fraud", "cat", "eel", "0", "7", "stranger"])
said = st.builds(
    Prediction,
    names,
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.dictionaries(st.sampled_from(["legit", "fraud", "cat", "dog", "eel"]), st.floats(0, 1))),
    numbers,
)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[PredictionEvent], list[LabelEvent]]:
    """Predictions of a few ids, and labels for them in any order, revised and late."""
    ids = [f"id-{i}" for i in range(draw(st.integers(1, 6)))]
    predictions = [
        PredictionEvent(i, "m", draw(st.sampled_from("12")), name, draw(st.integers(0, 2_500)), draw(said))
        for i, name in enumerate(ids)
    ]
    truths = st.tuples(names, numbers).filter(lambda truth: truth != (None, None))
    labels = []
    for i in range(draw(st.integers(0, 12))):
        label, value = draw(truths)
        time, revision = draw(st.integers(0, 2_500)), draw(st.integers(0, 2))
        labels.append(LabelEvent(i, "m", draw(st.sampled_from([*ids, "nobody"])), time, label, value, revision))
    return predictions, labels


def result_of(predictions: Sequence[PredictionEvent], labels: Sequence[LabelEvent]) -> Result:
    join = Join(MemoryStore(), BOUNDS)
    join.take_predictions(predictions, len(predictions))
    join.take_labels(labels, len(labels))
    return join.result()


def summed(result: Result, grid: OutcomeGrid | None) -> dict[OutcomeKey, AnySummary]:
    return summaries_of(
        result.outcomes, result.fates, tick_us=TICK_US, window_us=lambda _: WINDOW_US, grid_of=lambda _, __: grid
    )


def all_of(summaries: dict[OutcomeKey, AnySummary], grid: OutcomeGrid) -> OutcomeSummary:
    found = [s if isinstance(s, OutcomeSummary) else counted(s, grid) for s in summaries.values()]
    return reduce(add, found, OutcomeSummary.empty(grid))


@given(logs(), st.sampled_from(GRIDS))
def test_what_is_counted_later_is_what_was_counted_at_once(
    log: tuple[list[PredictionEvent], list[LabelEvent]], grid: OutcomeGrid
) -> None:
    result = result_of(*log)
    at_once, later = summed(result, grid), summed(result, None)
    assert at_once.keys() == later.keys()
    for key, summary in later.items():
        assert isinstance(summary, UncountedOutcomes)
        assert counted(summary, grid) == at_once[key]


@given(logs(), st.sampled_from(GRIDS))
def test_a_revision_leaves_the_outcomes_of_what_was_said_last(
    log: tuple[list[PredictionEvent], list[LabelEvent]], grid: OutcomeGrid
) -> None:
    total = all_of(summed(result_of(*log), grid), grid)
    predictions, labels = log
    # Of several labels of one id, the last one that raised the revision stands; the others are as if never said.
    standing: dict[str, LabelEvent] = {}
    for label in labels:
        known = standing.get(label.prediction_id)
        if known is None or label.revision > known.revision:
            standing[label.prediction_id] = label
    alone = all_of(summed(result_of(predictions, [*standing.values()]), grid), grid)
    assert replace(total.outcomes, confusion=alone.outcomes.confusion) == alone.outcomes
    assert total.outcomes.confusion.cells == alone.outcomes.confusion.cells  # names are not forgotten again
    assert total.coverage.delays.counts.sum() == total.coverage[Fate.LABELLED]


@given(logs(), st.integers(0, 12), st.sampled_from([BINARY, None]))
def test_commits_in_between_change_nothing(
    log: tuple[list[PredictionEvent], list[LabelEvent]], cut: int, grid: OutcomeGrid | None
) -> None:
    predictions, labels = log
    join, found = Join(MemoryStore(), BOUNDS), dict[OutcomeKey, AnySummary]()
    for first, second in ((predictions[:cut], labels[:cut]), (predictions[cut:], labels[cut:])):
        join.take_labels(second, second[-1].offset + 1 if second else 0)
        join.take_predictions(first, first[-1].offset + 1 if first else 0)
        for key, summary in summed(join.result(), grid).items():
            found[key] = added(found[key], summary) if key in found else summary
        join.commit(0)
    assert found == summed(result_of(predictions, labels), grid)


def one(label_time: int, clock: int, *, predicted_at: int = 0, read_at: int = 0) -> dict[OutcomeKey, AnySummary]:
    """A pair of which the label was read when the labels' clock stood at ``clock``, and likewise the prediction."""
    predictions = [
        PredictionEvent(0, "m", "1", "other", read_at, Prediction()),
        PredictionEvent(1, "m", "1", "a", predicted_at, Prediction("fraud", 0.7)),
    ]
    labels = [
        LabelEvent(0, "m", "nobody", clock, "legit", None),
        LabelEvent(1, "m", "a", label_time, "legit", None),
    ]
    found = summed(result_of(predictions, labels), BINARY)
    return {key: part for key, part in found.items() if isinstance(part, OutcomeSummary) and part.outcomes.n}


def test_a_label_in_time_is_heard_in_its_own_tick() -> None:
    [(key, summary)] = one(label_time=250, clock=319).items()
    assert (key.tick, key.window) == (2, 0)
    assert isinstance(summary, OutcomeSummary)
    assert summary.errors.series().tolist() == [1.0]
    assert summary.spreads.verdicts.tolist() == [0, 1]


def test_a_late_label_counts_in_the_first_tick_that_is_not_over_and_is_not_heard() -> None:
    [(key, summary)] = one(label_time=250, clock=320).items()
    assert (key.tick, key.window) == (3, 0)
    assert isinstance(summary, OutcomeSummary)
    assert summary.errors.total == 0
    assert summary.spreads.events == 0
    assert summary.outcomes.confusion.cells == {("legit", "fraud"): 1}


def test_an_outcome_whose_prediction_came_when_the_labels_tick_was_over_counts_in_that_of_the_prediction() -> None:
    [(key, summary)] = one(label_time=250, clock=250, predicted_at=600, read_at=650).items()
    assert (key.tick, key.window) == (6, 0)
    assert isinstance(summary, OutcomeSummary)
    assert summary.errors.total == 0


def test_only_the_first_label_is_heard() -> None:
    predictions = [PredictionEvent(0, "m", "1", "a", 0, Prediction(value=10.0))]
    labels = [LabelEvent(0, "m", "a", 50, None, 13.0), LabelEvent(1, "m", "a", 950, None, 10.5, revision=1)]
    found = summed(result_of(predictions, labels), REGRESSION)
    first, second = found[OutcomeKey("m", "1", "", 0, 0)], found[OutcomeKey("m", "1", "", 9, 0)]
    assert isinstance(first, OutcomeSummary)
    assert isinstance(second, OutcomeSummary)
    assert first.errors.series().tolist() == [3.0]
    assert second.errors.total == 0
    mean = evaluate((first + second).outcomes)["mae"]
    assert isinstance(mean, Estimate)
    assert mean.value == pytest.approx(0.5)


def columns(**told: object) -> OutcomeColumns:
    """One row."""
    row = {
        "predicted_labels": None,
        "scores": math.nan,
        "probabilities": None,
        "predicted_values": math.nan,
        "true_labels": None,
        "true_values": math.nan,
        **told,
    }
    zero = np.zeros(1, dtype=np.int64)
    arrays = {
        name: np.array([value], dtype=np.float64) if name in {"scores", "predicted_values", "true_values"} else [value]
        for name, value in row.items()
    }
    return OutcomeColumns(zero, zero.astype(np.uint64), np.ones(1, np.int8), np.ones(1, np.bool_), **arrays)  # type: ignore[arg-type]


def test_classes_may_be_told_as_numbers_and_numbers_as_text() -> None:
    rows = rows_on(OutcomeGrid(BINARY.task, ("0", "1")), columns(predicted_values=1.0, true_labels="0"))
    assert isinstance(rows, LabelRows)
    assert [rows.names[rows.true[0]], rows.names[rows.predicted[0]]] == ["0", "1"]
    assert rows_on(REGRESSION, columns(predicted_labels="3.5", true_values=4.0)).predicted.tolist() == [3.5]


def test_the_probability_of_the_positive_class_may_be_one_of_several() -> None:
    rows = rows_on(BINARY, columns(probabilities={"legit": 0.2, "fraud": 0.8}, true_labels="legit"))
    assert isinstance(rows, LabelRows)
    assert rows.probabilities is not None
    assert rows.probabilities.tolist() == [[0.8]]
    incomplete = rows_on(MULTICLASS, columns(probabilities={"cat": 0.2, "eel": 0.8}, true_labels="cat"))
    assert isinstance(incomplete, LabelRows)
    assert incomplete.probabilities is not None
    assert np.isnan(incomplete.probabilities[0, 1])


def test_counted_and_uncounted_outcomes_do_not_add_up() -> None:
    uncounted = UncountedOutcomes(RawRows(), Coverage.empty())
    with pytest.raises(ValueError, match="do not add up"):
        added(uncounted, OutcomeSummary.empty(BINARY))


def test_rows_that_nobody_wrote_are_refused() -> None:
    rows = RawRows.of([Row(1, 2, b"garbage")])
    with pytest.raises(StateError, match="cannot be read"):
        counted(UncountedOutcomes(rows, Coverage.empty()), BINARY)


def test_nothing_is_counted_of_no_rows() -> None:
    assert counted(UncountedOutcomes(RawRows(), Coverage.empty()), BINARY).outcomes == Outcomes.empty(BINARY)
