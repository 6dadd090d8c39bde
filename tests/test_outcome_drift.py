"""Labels, errors and losses that are not as they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.benchmarks import Benchmark, LabelDistribution, Measured
from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.incidents import Sighting
from streamdrift.outcome_columns import ERROR, LABEL, LOSS, OutcomeColumns
from streamdrift.outcome_drift import OF_EVENTS, OutcomeDrift, OutcomeDriftConfig
from streamdrift.outcome_evidence import ERROR_RATE, PLACES
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.sensitivity import DAY_US, Sensitivity, WarmUp
from streamdrift.summaries.confusion import Confusion
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows
from streamdrift.summaries.spreads import Spreads
from tests.support.outcomes import BINARY
from tests.support.windows import through_msgpack

HOUR_US = 3_600_000_000
NUMBERS = OutcomeGrid.regression(0.0, 200.0)
BEFORE = 36
"""Ticks in which nothing changes: a warm-up, and a little more."""
SENSITIVITY = Sensitivity(false_alarms=1 / DAY_US, warnings=1 / DAY_US, warm_up=WarmUp(events=20_000))


@dataclass(frozen=True)
class Tick:
    """What was heard in one."""

    spreads: Spreads
    confusion: Confusion


def tick_of(rows: LabelRows | ValueRows) -> Tick:
    return Tick(Spreads.of(rows), Outcomes.of(rows).confusion)


def classes(seed: int, n: int = 1_000, fraud: float = 0.1, wrong: float = 0.05, odd: float = 0.0) -> LabelRows:
    """Labels of which such a share is a fraud, and of whose predictions such a share is wrong."""
    rng = np.random.default_rng(seed)
    names = (*BINARY.classes, "disputed")
    true = np.where(rng.random(n) < odd, 2, rng.random(n) < fraud).astype(np.int64)
    predicted = np.where(rng.random(n) < wrong, 1 - true % 2, true % 2)
    sure = rng.uniform(0.6, 1.0, n)
    return LabelRows(BINARY, names, true, predicted, np.where(predicted == 1, sure, 1 - sure)[:, None])


def values(seed: int, n: int = 1_000, mean: float = 100.0, sd: float = 10.0, off: float = 2.0) -> ValueRows:
    rng = np.random.default_rng(seed)
    true = rng.normal(mean, sd, n)
    return ValueRows(NUMBERS, true, true + rng.normal(0, off, n))


def bimodal(seed: int, n: int = 1_000) -> ValueRows:
    """Numbers of the same mean and deviation as ``values``."""
    rng = np.random.default_rng(seed)
    true = 100 + 10 * (0.95 * rng.choice([-1, 1], n) + (1 - 0.95**2) ** 0.5 * rng.normal(0, 1, n))
    return ValueRows(NUMBERS, true, true + rng.normal(0, 2.0, n))


def measured(rows: LabelRows | ValueRows) -> Measured:
    return Measured.of(Outcomes.of(rows), Spreads.of(rows))


CLASSES, VALUES = measured(classes(9, 50_000)), measured(values(9, 50_000))


def drift(table: Measured | None = None, delay_hours: int = 0, grid: OutcomeGrid = BINARY) -> OutcomeDrift:
    config = OutcomeDriftConfig(delay_hours * HOUR_US, SENSITIVITY)
    return OutcomeDrift(("fraud", "7"), grid, Ticks(HOUR_US), config, table)


def lived(subject: OutcomeDrift, ticks: list[Tick], start: int = 0) -> dict[int, list[Sighting]]:
    return {i: subject.close(i, tick.spreads, tick.confusion) for i, tick in enumerate(ticks, start)}


def run(table: Measured | None, rows: Sequence[LabelRows | ValueRows], **options: int) -> dict[int, list[Sighting]]:
    return lived(drift(table, grid=rows[0].grid, **options), [tick_of(each) for each in rows])


def alarms(found: dict[int, list[Sighting]], kind: str) -> list[int]:
    return [i for i, seen in found.items() if any(each.contribution and each.kind == kind for each in seen)]


def first(found: dict[int, list[Sighting]], kind: str) -> Sighting:
    at = alarms(found, kind)
    assert at, f"no {kind}"
    return next(each for each in found[at[0]] if each.contribution and each.kind == kind)


@pytest.mark.parametrize("table", [None, CLASSES])
def test_labels_and_errors_as_they_were_are_no_drift(table: Measured | None) -> None:
    found = run(table, [classes(i) for i in range(60)])
    assert not alarms(found, "label_drift")
    assert not alarms(found, "concept_drift")


@pytest.mark.parametrize("table", [None, VALUES])
def test_numbers_as_they_were_are_no_drift(table: Measured | None) -> None:
    found = run(table, [values(i) for i in range(60)])
    assert not alarms(found, "label_drift")
    assert not alarms(found, "concept_drift")


@pytest.mark.parametrize("table", [None, CLASSES])
def test_twice_as_many_frauds_are_told_of_with_their_shares(table: Measured | None) -> None:
    found = run(
        table, [classes(i) for i in range(BEFORE)] + [classes(i, fraud=0.25) for i in range(BEFORE, BEFORE + 6)]
    )
    assert BEFORE <= alarms(found, "label_drift")[0] <= BEFORE + 2
    assert not alarms(found, "concept_drift")
    seen = first(found, "label_drift").contribution
    assert seen is not None
    assert (seen.feature, seen.column) == ("label", PLACES[LABEL])
    assert seen.phrase.startswith("label has another mix of categories: “fraud” went from ")
    assert seen.onset in {BEFORE - 1, BEFORE}
    assert seen.data["baseline"]["categories"] == ["legit", "fraud"]


def test_a_class_that_the_table_does_not_know_is_named() -> None:
    found = run(
        CLASSES, [classes(i) for i in range(BEFORE)] + [classes(i, odd=0.05) for i in range(BEFORE, BEFORE + 6)]
    )
    seen = first(found, "label_drift").contribution
    assert seen is not None
    assert seen.data["detector"] == "unseen_rate"
    assert "“disputed”" in seen.phrase


@pytest.mark.parametrize("table", [None, CLASSES])
def test_more_errors_are_concept_drift_in_words_of_right_and_wrong(table: Measured | None) -> None:
    found = run(
        table, [classes(i) for i in range(BEFORE)] + [classes(i, wrong=0.15) for i in range(BEFORE, BEFORE + 6)]
    )
    assert not alarms(found, "label_drift")
    of_errors = [
        each.contribution
        for seen in found.values()
        for each in seen
        if each.contribution and each.key == f"{PLACES[ERROR]}/{ERROR_RATE}"
    ]
    seen = of_errors[-1]
    assert seen.feature == "error"
    assert seen.phrase.startswith("error rate rose from 0.05 to 0.1")
    assert seen.recovery.startswith("is close to 0.05")
    assert seen.data["detector"] == "error_rate"
    assert seen.data["effect"]["mean_after"] == pytest.approx(0.15, abs=0.03)
    assert seen.data["current"]["counts"][1] == pytest.approx(0.15 * seen.data["n_current"], rel=0.2)
    json.dumps(dict(seen.data), allow_nan=False)


def test_fewer_errors_are_nobodys_alarm() -> None:
    better = [classes(i, wrong=0.001) for i in range(BEFORE, BEFORE + 10)]
    assert not alarms(run(CLASSES, [classes(i) for i in range(BEFORE)] + better), "concept_drift")
    closer = [values(i, off=0.5) for i in range(BEFORE, BEFORE + 10)]
    assert not alarms(run(VALUES, [values(i) for i in range(BEFORE)] + closer), "concept_drift")


@pytest.mark.parametrize("table", [None, VALUES])
def test_a_shift_of_numbers_is_told_of_in_their_own_unit_until_it_ends(table: Measured | None) -> None:
    shifted = [values(i, mean=105.0) for i in range(BEFORE, BEFORE + 10)]
    found = run(
        table, [values(i) for i in range(BEFORE)] + shifted + [values(i) for i in range(BEFORE + 10, BEFORE + 30)]
    )
    at = alarms(found, "label_drift")
    assert BEFORE <= at[0] <= BEFORE + 2
    assert at[-1] < BEFORE + 15, "it ends"
    seen = first(found, "label_drift").contribution
    assert seen is not None
    assert seen.phrase.startswith("label shifted up 0.")
    assert seen.data["effect"]["mean_before"] == pytest.approx(100, abs=1)
    assert seen.data["effect"]["mean_after"] == pytest.approx(105, abs=1.5)
    assert not alarms(found, "concept_drift")


@pytest.mark.parametrize("changed", [bimodal, lambda seed: values(seed, sd=15.0)], ids=["shape", "spread"])
def test_spread_and_shape_of_numbers_are_watched_and_not_only_their_mean(changed: Callable[[int], ValueRows]) -> None:
    found = run(VALUES, [values(i) for i in range(BEFORE)] + [changed(i) for i in range(BEFORE, BEFORE + 10)])
    assert BEFORE <= alarms(found, "label_drift")[0] <= BEFORE + 4


def test_larger_errors_of_a_regression_are_concept_drift() -> None:
    found = run(VALUES, [values(i) for i in range(BEFORE)] + [values(i, off=4.0) for i in range(BEFORE, BEFORE + 6)])
    seen = first(found, "concept_drift").contribution
    assert seen is not None
    assert (seen.feature, seen.column) == ("error", PLACES[LOSS])
    assert seen.phrase.startswith("mean absolute error rose from 1.6 to ")
    assert not alarms(found, "label_drift")


def test_a_probability_of_the_truth_that_falls_is_concept_drift_though_no_class_is_wrong() -> None:
    def unsure(rows: LabelRows) -> LabelRows:
        told = np.clip((rows.probabilities if rows.probabilities is not None else np.zeros(0)), 0.3, 0.7)
        return LabelRows(rows.grid, rows.names, rows.true, rows.predicted, told)

    found = run(CLASSES, [classes(i) for i in range(BEFORE)] + [unsure(classes(i)) for i in range(BEFORE, BEFORE + 6)])
    seen = first(found, "concept_drift").contribution
    assert seen is not None
    assert seen.feature == "loss"
    assert seen.phrase.startswith("log loss rose from 0.")


def test_errors_on_their_way_back_are_told_of_until_they_are_there_and_not_once_more() -> None:
    ticks = [classes(i) for i in range(BEFORE)]
    ticks += [classes(i, 30, wrong=0.12) for i in range(100)] + [classes(i, 30) for i in range(100, 200)]
    seen = [each for of_tick in run(CLASSES, ticks).values() for each in of_tick if each.kind == "concept_drift"]
    told = [each.contribution is not None for each in seen if each.key == f"{PLACES[ERROR]}/{ERROR_RATE}"]
    assert told == [True] * (len(told) - 1) + [False]
    assert len(told) > 10


def test_what_lasts_is_told_anew_when_a_pane_ends_and_when_it_is_asked_for() -> None:
    def close(i: int, *, again: bool = False) -> list[Sighting]:
        tick = tick_of(classes(i, fraud=0.1 if i < BEFORE else 0.25))
        return subject.close(i, tick.spreads, tick.confusion, again=again)

    config = OutcomeDriftConfig(0, SENSITIVITY, window_us=12 * 12 * HOUR_US)
    subject = OutcomeDrift(("fraud", "7"), BINARY, Ticks(HOUR_US), config, CLASSES)
    found = {i: close(i) for i in range(BEFORE + 13)}
    begun = alarms(found, "label_drift")[0]
    assert begun < BEFORE + 3
    assert alarms(found, "label_drift")[-1] == BEFORE + 11, "the last tick of a pane of twelve"
    assert not found[BEFORE + 10]
    [before, *_] = [each.contribution for each in found[begun] if each.contribution]
    [after, *_] = [each.contribution for each in close(BEFORE + 13, again=True) if each.contribution]
    assert after.data["evidence_ratio"] > before.data["evidence_ratio"], "as it is now"
    assert after.data["effect"] != before.data["effect"]


def test_labels_that_differed_from_the_first_one_on_did_so_before_monitoring() -> None:
    found = run(CLASSES, [classes(i, fraud=0.3) for i in range(20)])
    seen = first(found, "label_drift").contribution
    assert seen is not None
    assert seen.data["onset"] == "before_monitoring"
    assert not seen.confirmed, "while live traffic calibrates, no budget is promised"


def test_labels_that_come_early_are_not_looked_at() -> None:
    """Frauds are reported at once, and that a payment was fine is known after days: at first there are frauds only."""
    early = [classes(i, fraud=0.9) for i in range(BEFORE)]
    for table in (None, CLASSES):
        found = run(table, early + [classes(i) for i in range(BEFORE, BEFORE + 10)], delay_hours=BEFORE)
        assert not alarms(found, "label_drift")
    assert alarms(run(CLASSES, early), "label_drift")


def test_a_table_without_histograms_tells_its_classes_and_how_many_predictions_were_wrong() -> None:
    accuracy = {"accuracy": Benchmark(0.95, 10_000)}
    old = Measured(BINARY, accuracy, LabelDistribution(10_000, {"legit": 9_000, "fraud": 1_000}))
    usual = old.usual(BINARY)
    assert usual is not None
    assert usual.labels.tolist() == [9_000, 1_000, 0]
    assert usual.verdicts.tolist() == [9_500, 500]
    assert VALUES.usual(OutcomeGrid.regression(0.0, 10_000.0)) is None, "the histograms are of another range"


def test_a_table_keeps_its_histograms_in_json_and_one_without_is_written_as_ever() -> None:
    assert msgspec.json.decode(msgspec.json.encode(VALUES), type=Measured) == VALUES
    assert VALUES.usual(NUMBERS) == Spreads.of(values(9, 50_000))
    old = Measured(BINARY, {}, LabelDistribution(0))
    assert b"spreads" not in msgspec.json.encode(old)
    written = msgspec.to_builtins(VALUES)
    for part in ("places", "counts", "moments"):
        damaged = {**written["spreads"], part: written["spreads"][part][1:]}
        with pytest.raises(msgspec.ValidationError, match="spreads"):
            msgspec.convert({**written, "spreads": damaged}, Measured)


@pytest.mark.parametrize("rows", [values(1, 20_000), values(1, 20_000, mean=3, sd=0.1), values(1, 5, sd=0.0)])
def test_columns_of_numbers_have_the_means_and_deviations_of_their_values(rows: ValueRows) -> None:
    spreads = Spreads.of(rows)
    columns = OutcomeColumns(("m", "1"), spreads, (LABEL, LOSS))
    window = columns.window(spreads, {})
    for column, numbers in enumerate((rows.true, np.abs(rows.predicted - rows.true))):
        known = columns.reference.mean_and_sd(window, column)
        assert known == pytest.approx((numbers.mean(), numbers.std()), rel=1e-5, abs=1e-5)
        edges = np.asarray(columns.reference.grid.columns[column].edges)
        counts = columns.reference.grid.offsets
        counted = columns.reference.baseline.summary.counts[counts[column] : counts[column] + len(edges) + 1]
        assert counted.tolist() == np.bincount(np.searchsorted(edges, numbers), minlength=len(edges) + 1).tolist()


NOTHING = Tick(Spreads.empty(BINARY), Outcomes.empty(BINARY).confusion)
SOME = (
    tick_of(classes(1)),
    tick_of(classes(2, fraud=0.5)),
    tick_of(classes(3, 23)),
    tick_of(classes(4, wrong=0.3)),
    tick_of(classes(5, odd=0.2)),
    NOTHING,
)


logs = st.lists(st.sampled_from(SOME), max_size=16)


@settings(max_examples=30, deadline=None)
@given(logs, st.integers(0, 16), st.sampled_from([None, CLASSES]), st.integers(0, 3))
def test_a_snapshot_at_any_tick_changes_nothing(log: list[Tick], cut: int, table: Measured | None, delay: int) -> None:
    whole, one, other = drift(table, delay), drift(table, delay), drift(table, delay)
    expected = lived(whole, log)
    found = lived(one, log[:cut])
    assert other.restore(through_msgpack(one.state()))
    assert other.watched == one.watched
    found |= lived(other, log[cut:], min(cut, len(log)))
    assert found == expected
    assert msgspec.msgpack.encode(other.state()) == msgspec.msgpack.encode(whole.state())


def test_another_training_table_begins_anew() -> None:
    one, other = drift(CLASSES), drift(measured(classes(8, 50_000, fraud=0.5)))
    lived(one, [tick_of(classes(i, fraud=0.5)) for i in range(5)])
    assert not other.restore(one.state())
    assert not alarms(lived(other, [tick_of(classes(i, fraud=0.5)) for i in range(5, 10)], 5), "label_drift")


@pytest.mark.parametrize("state", [None, [], [1, None], ["x", None, None, {}], [None, None, [[b"", b""], b""], {}]])
def test_damaged_state_is_refused(state: object) -> None:
    with pytest.raises(StateError):
        drift().restore(state)


def test_state_without_one_of_its_watches_is_refused() -> None:
    subject = drift()
    lived(subject, [tick_of(classes(i)) for i in range(SENSITIVITY.warm_up.events // OF_EVENTS // 1_000 + 2)])
    state = subject.state()
    assert isinstance(state, list)
    with pytest.raises(StateError, match="label_drift"):
        drift().restore([*state[:3], {"label_drift": state[3]["label_drift"]}])
    with pytest.raises(StateError):
        drift().restore([*state[:3], {**state[3], "concept_drift": None}])
