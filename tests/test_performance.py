"""Windows of predictions are judged once, when their labels have had their time, and the same however they came."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.errors import StateError
from streamdrift.metrics import METRICS
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.performance import Performance, PerformanceConfig, Standing, Target, Verdict
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows
from tests.support.outcomes import BINARY, MULTICLASS, REGRESSION

DAY_US = 86_400_000_000
ACCURACY = Target("accuracy", 0.8, 0.1)
CONFIG = PerformanceConfig(DAY_US, 7 * DAY_US, 50, (ACCURACY,), in_a_row=2)


def labelled(right: int, wrong: int) -> tuple[Outcomes, Coverage]:
    """Outcomes of so many right and wrong predictions, half of the right ones of each class."""
    true = np.arange(right + wrong) % 2
    predicted = np.where(np.arange(right + wrong) < right, true, 1 - true)
    rows = LabelRows(BINARY, BINARY.classes, true, predicted)
    return Outcomes.of(rows), Coverage.of({Fate.PREDICTED: right + wrong, Fate.LABELLED: right + wrong})


def judged(*shares: int, config: PerformanceConfig = CONFIG) -> list[Verdict]:
    """The verdicts on consecutive windows of 100 labels, so many of them right."""
    performance = Performance(config, BINARY)
    for window, right in enumerate(shares):
        performance.take(window, *labelled(right, 100 - right))
    return performance.close(config.closes_us(len(shares)))


def test_a_window_is_judged_when_its_labels_have_had_their_time() -> None:
    performance = Performance(CONFIG, BINARY)
    performance.take(3, *labelled(90, 10))
    closes = CONFIG.closes_us(3)
    assert closes == 11 * DAY_US
    assert performance.due() == closes
    assert performance.close(closes - 1) == []
    [report] = performance.reports()
    assert [reading.standing for reading in report.readings] == [Standing.PROVISIONAL]
    [verdict] = performance.close(closes)
    assert verdict.reading.standing is Standing.MEASURED
    assert verdict.reading.estimate == METRICS["accuracy"].of(labelled(90, 10)[0])
    assert verdict.below is False
    assert performance.due() is None
    assert performance.close(closes + DAY_US) == []
    assert performance.reports()[0].readings[0].standing is Standing.MEASURED


def test_too_few_labels_are_said_and_are_no_reason_for_anything() -> None:
    performance = Performance(CONFIG, BINARY)
    for window, (right, wrong) in enumerate([(60, 40), (10, 39), (60, 40), (90, 10)]):
        performance.take(window, *labelled(right, wrong))
    verdicts = performance.close(CONFIG.closes_us(9))
    assert [(v.below, v.in_a_row, v.alarm, v.changed) for v in verdicts] == [
        (True, 1, False, False),
        (None, 1, False, False),
        (True, 2, True, True),
        (False, 0, False, True),
    ]
    assert verdicts[1].reading.standing is Standing.TOO_FEW
    assert verdicts[1].reading.estimate is None
    assert verdicts[1].reading.reason == "49 of at least 50 labels"


def test_a_metric_that_hovers_at_the_bound_is_one_alarm() -> None:
    alarms = [(v.alarm, v.changed) for v in judged(60, 60, 72, 60, 72, 75, 74)]
    # 0.7 is the bound, 0.75 is half the tolerance below the benchmark.
    expected = [(False, False), (True, True), *[(True, False)] * 3, (False, True), (False, False)]
    assert alarms == expected


def test_a_metric_that_is_worse_by_just_the_tolerance_is_not_below() -> None:
    assert 0.81 - 0.79 > 0.02
    [verdict] = judged(79, config=replace(CONFIG, targets=(Target("accuracy", 0.81, 0.02),)))
    assert verdict.below is False


def test_a_verdict_says_what_a_person_needs_to_know() -> None:
    _, verdict = judged(60, 60)
    assert verdict.sentence == (
        "accuracy 0.6 ± 0.049 of 100 labels, 0.2 worse than 0.8 (tolerance 0.1), in 2 windows in a row"
    )
    assert verdict.errors_beyond == pytest.approx(0.1 / 0.04899, rel=1e-3)
    [better] = judged(85)
    assert better.sentence == "accuracy 0.85 ± 0.036 of 100 labels, 0.05 better than 0.8 (tolerance 0.1)"
    assert better.errors_beyond is not None
    assert better.errors_beyond < 0
    [unjudged] = judged(85, config=replace(CONFIG, targets=(Target("accuracy"),)))
    assert unjudged.sentence == "accuracy 0.85 ± 0.036 of 100 labels"
    assert unjudged.errors_beyond is None
    [few] = judged(85, config=replace(CONFIG, min_labels=500))
    assert few.sentence == "accuracy: 100 of at least 500 labels"


def test_a_window_that_is_not_below_ends_a_row() -> None:
    assert [v.in_a_row for v in judged(60, 72, 60, 60)] == [1, 0, 1, 2]


def test_undefined_metrics_say_why() -> None:
    performance = Performance(replace(CONFIG, targets=(Target("roc_auc", 0.8),)), BINARY)
    performance.take(0, *labelled(100, 0))
    [verdict] = performance.close(CONFIG.closes_us(0))
    assert verdict.reading.standing is Standing.UNDEFINED
    assert verdict.reading.reason == "no outcome has probabilities"
    assert verdict.below is None


def test_a_metric_without_a_benchmark_is_reported_and_not_judged() -> None:
    [verdict] = judged(10, config=replace(CONFIG, targets=(Target("accuracy"),)))
    assert verdict.reading.estimate is not None
    assert (verdict.below, verdict.alarm) == (None, False)


@pytest.mark.parametrize(("metric", "benchmark", "good", "bad"), [("mae", 1.0, 1.05, 1.2), ("bias", 0.5, -0.55, -0.7)])
def test_errors_are_worse_where_they_are_larger(metric: str, benchmark: float, good: float, bad: float) -> None:
    performance = Performance(replace(CONFIG, targets=(Target(metric, benchmark, 0.1),)), REGRESSION)
    for window, error in enumerate((good, bad)):
        true = np.linspace(0, 50, 100)
        performance.take(window, Outcomes.of(ValueRows(REGRESSION, true, true + error)), Coverage.empty())
    assert [v.below for v in performance.close(CONFIG.closes_us(1))] == [False, True]


def test_labels_that_come_too_late_are_counted_and_change_nothing() -> None:
    performance = Performance(CONFIG, BINARY)
    performance.take(0, *labelled(90, 10))
    before = performance.close(CONFIG.closes_us(0)), performance.reports()
    performance.take(0, *labelled(0, 100))
    assert performance.late == 100
    assert performance.reports() == before[1]
    assert performance.close(CONFIG.closes_us(0)) == []


def test_a_revised_label_changes_the_window_of_its_prediction() -> None:
    performance = Performance(CONFIG, BINARY)
    performance.take(0, *labelled(60, 40))
    wrong, right = labelled(0, 20)[0], labelled(20, 0)[0]
    performance.take(0, right - wrong, Coverage.of({Fate.REVISED: 20}))
    [verdict] = performance.close(CONFIG.closes_us(0))
    assert verdict.reading.estimate is not None
    assert verdict.reading.estimate.value == 0.8


pieces = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(parts=pieces, seed=st.integers(0, 2**32 - 1), stop=st.integers(0, 12))
def test_order_split_and_restarts_change_nothing(parts: list[tuple[int, int, int]], seed: int, stop: int) -> None:
    config = replace(CONFIG, targets=(ACCURACY, Target("recall", 0.9, 0.05)))

    def verdicts(pieces: list[tuple[int, int, int]], restart: int | None) -> list[Verdict]:
        performance = Performance(config, BINARY)
        for i, (window, right, wrong) in enumerate(pieces):
            if i == restart:
                saved = msgspec.msgpack.decode(msgspec.msgpack.encode(performance.state()))
                performance = Performance(config, BINARY)
                performance.restore(saved)
            performance.take(window, *labelled(right, wrong))
        return performance.close(config.closes_us(9))

    other = [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]
    assert verdicts(parts, None) == verdicts(other, stop)


@settings(max_examples=60, deadline=None)
@given(
    shares=st.lists(st.integers(0, 100), min_size=1, max_size=10),
    closes=st.lists(st.integers(0, 20), max_size=8).map(sorted),
    stop=st.integers(0, 8),
)
def test_how_often_windows_are_closed_changes_nothing(shares: list[int], closes: list[int], stop: int) -> None:
    performance, found = Performance(CONFIG, BINARY), list[Verdict]()
    for window, right in enumerate(shares):
        performance.take(window, *labelled(right, 100 - right))
    for i, day in enumerate([*closes, 99]):
        if i == stop:
            saved = performance.state()
            performance = Performance(CONFIG, BINARY)
            performance.restore(saved)
        found += performance.close(day * DAY_US)
    assert found == judged(*shares)


def test_time_never_goes_back() -> None:
    performance = Performance(CONFIG, BINARY)
    performance.close(CONFIG.closes_us(5))
    performance.close(0)
    performance.take(5, *labelled(1, 0))
    assert performance.late == 1


@pytest.mark.parametrize(
    ("metric", "grid"), [("accuracy", REGRESSION), ("mae", BINARY), ("roc_auc", MULTICLASS), ("acuracy", BINARY)]
)
def test_a_metric_that_does_not_fit_the_task_is_refused(metric: str, grid: OutcomeGrid) -> None:
    with pytest.raises(ValueError, match="is no metric"):
        Performance(replace(CONFIG, targets=(Target(metric, 0.5),)), grid)


def test_windows_of_another_length_start_anew_and_nonsense_is_refused() -> None:
    performance = Performance(CONFIG, BINARY)
    performance.take(0, *labelled(90, 10))
    other = Performance(replace(CONFIG, window_us=2 * DAY_US), BINARY)
    other.restore(performance.state())
    assert other.reports() == []
    with pytest.raises(StateError):
        other.restore({"nonsense": math.inf})
