"""φ: how much more live traffic varies than independent events, however it comes in ticks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from streamdrift.detectors.detector import Ticks
from streamdrift.detectors.overdispersion import FEWEST_TICKS, LOOKS, PANES, UNMEASURED, Overdispersion, Pane
from streamdrift.detectors.rate import Rate
from streamdrift.detectors.shape import Shape
from streamdrift.errors import StateError
from streamdrift.events import Batch
from streamdrift.grids import MISSING, SPECIAL_SLOTS
from streamdrift.sensitivity import DAY_US, Sensitivity, WarmUp
from streamdrift.summaries import Moments, Names, Summary
from streamdrift.tables import baseline_from_columns
from streamdrift.windows import Reference, Window

MINUTE = 60_000_000
COLUMNS = 6
Floats = NDArray[np.float64]


def reference(n: int = 50_000) -> Reference:
    drawn = np.random.default_rng(0).normal(0, 1, (n, COLUMNS))
    columns = {f"x{i}": drawn[:, i] for i in range(COLUMNS)}
    return Reference(baseline_from_columns(columns, model_id="m", model_version="1"))


def autocorrelated(reference: Reference, rho: float, a_tick: int, ticks: int, seed: int = 1) -> Iterator[Window]:
    """Standard normal values of which each has the correlation ``rho`` with the one before."""
    rng = np.random.default_rng(seed)
    last = rng.normal(0, 1, COLUMNS)
    for _ in range(ticks):
        noise = rng.normal(0, np.sqrt(1 - rho * rho), (a_tick, COLUMNS))
        values = np.empty_like(noise)
        for i, each in enumerate(noise):
            last = values[i] = rho * last + each
        times, hashes, errors = np.zeros(a_tick, np.int64), np.zeros(a_tick, np.uint64), np.zeros((0, 2), np.int64)
        yield reference.reduce(Summary.of(Batch(reference.grid, times, hashes, values, errors)))


def mean_factor(rho: float, a_tick: int, events: int, warm_up: int) -> float:
    """φ of the mean, the largest over the memories, on average over the columns."""
    of_normals = reference()
    shape = Shape(of_normals, Ticks(MINUTE), Sensitivity(warm_up=WarmUp(events=warm_up)))
    for tick, window in enumerate(autocorrelated(of_normals, rho, a_tick, events // a_tick)):
        shape.close(tick, window)
    assert shape.calibrated
    return float(shape._factors.values[:, 0].max(axis=0).mean())


@pytest.mark.parametrize("a_tick", [50, 500, 4_000])
def test_the_factor_of_autocorrelated_traffic_is_found_however_large_ticks_are(a_tick: int) -> None:
    # The mean of n values of an AR(1) varies as that of n·(1 − ρ)/(1 + ρ) independent ones.
    assert mean_factor(0.8, a_tick, 120_000, 20_000) == pytest.approx(9, rel=0.35)


def test_the_factor_of_independent_events_is_hardly_more_than_one() -> None:
    assert 1 <= mean_factor(0.0, 500, 60_000, 20_000) < 1.2


@pytest.mark.parametrize("a_tick", [2_000, 20_000])
def test_autocorrelated_traffic_in_large_ticks_alarms_nobody_at_once(a_tick: int) -> None:
    """One tick holds a pane, or the whole warm-up, and says nothing of how much ticks vary."""
    of_normals = reference()
    sensitivity = Sensitivity(false_alarms=1 / DAY_US, warnings=1 / DAY_US, minimum_effect=0.0)
    detectors = [factory(of_normals, Ticks(MINUTE), sensitivity) for factory in (Shape, Rate)]
    for tick, window in enumerate(autocorrelated(of_normals, 0.9, a_tick, 12)):
        assert [finding for detector in detectors for finding in detector.close(tick, window)] == []


def test_a_look_is_one_look_however_many_events_came_since_the_one_before() -> None:
    subject = Overdispersion(1, 1, 1)
    subject.begin_pane()
    for _ in range(7):
        subject.add(0, np.full((1, 1), 9.0, np.float32), np.array([True]), independent=1_000.0)
        assert not subject.known
    subject.add(0, np.full((1, 1), 9.0, np.float32), np.array([True]), independent=1_000.0)
    assert subject.known
    assert subject.factors(np.ones((1, 1, 1)))[0, 0, 0] > 9.0


def looked(panes: list[float], looks: int = 20, rows: int = 1) -> Overdispersion:
    """Squares of these sizes, a pane each."""
    subject = Overdispersion(1, 1, rows)
    for size in panes:
        subject.begin_pane()
        for _ in range(looks):
            subject.add(0, np.full((1, rows), size, np.float32), np.ones(rows, np.bool_), 1.0)
    return subject


def factor(subject: Overdispersion, *, cautious: bool = False) -> float:
    return float(subject.factors(np.ones((1, 1, 1)), cautious=cautious)[0, 0, 0])


def test_a_pane_with_a_step_in_it_is_left_out() -> None:
    plain = factor(looked([2.0, 2.0, 2.0]))
    assert factor(looked([2.0, 500.0, 2.0, 2.0])) == pytest.approx(plain, rel=1e-6)
    assert factor(looked([2.0, 5.0, 2.0, 2.0])) > plain, "a pane that only varies more is part of the truth"


def test_little_knowledge_makes_the_factor_larger_and_caution_more_so() -> None:
    assert 3.0 < factor(looked([3.0] * 5, looks=200)) < factor(looked([3.0], looks=10))
    assert factor(looked([3.0])) < factor(looked([3.0]), cautious=True)
    assert factor(looked([0.2] * 5)) == 1.0, "traffic that varies less is not made use of"


def test_full_panes_are_merged_and_nothing_of_them_is_lost() -> None:
    subject = looked([1.0, 2.0, 3.0, 4.0])
    assert subject.panes == PANES
    assert subject.begin_pane(), "the next ones are to be longer"
    assert subject.panes == PANES // 2 + 1
    assert subject._squares[:, 0, 0, 0].tolist() == [60.0, 140.0, 0.0]
    assert not subject.begin_pane()


def test_looks_are_spread_over_a_long_pane_and_no_more_than_say_what_there_is_to_know() -> None:
    of_normals = reference(1_000)
    counts = of_normals.window.counts.reshape(COLUMNS, -1).copy()
    counts[:, MISSING - SPECIAL_SLOTS] = 2
    rng = np.random.default_rng(2)
    sensitivity = Sensitivity(warm_up=WarmUp(events=20_000))
    shape, rate = Shape(of_normals, Ticks(MINUTE), sensitivity), Rate(of_normals, Ticks(MINUTE), sensitivity)
    dispersions = [shape._factors._dispersion, rate._dispersion]
    for tick in range(3_000):
        drawn = rng.multinomial(600, counts / counts.sum(axis=1, keepdims=True)).ravel()
        window = Window(600, drawn, Moments.empty(COLUMNS), Names())
        assert [*shape.close(tick, window), *rate.close(tick, window)] == []
        assert all(each._looks[-1].max(initial=0) <= 2 * LOOKS for each in dispersions), "twice as long at most"
    for each in dispersions:
        assert (each._looks[:-1, 0].max(axis=-1) >= LOOKS).all()
    assert float(shape._factors.values.max()) < 1.2


def test_what_nothing_is_known_of_has_the_factor_one() -> None:
    subject = Overdispersion(2, 3, 4)
    assert not subject.known
    subject.begin_pane()
    assert (subject.factors(np.ones((2, 3, 4))) == 1.0).all()


def test_a_longer_memory_without_looks_has_the_factor_of_the_shorter_and_more_doubt() -> None:
    subject = Overdispersion(2, 1, 1)
    subject.begin_pane()
    for _ in range(50):
        subject.add(0, np.full((1, 1), 4.0, np.float32), np.array([True]), 1.0)
    short, long = subject.factors(np.ones((2, 1, 1)))[:, 0, 0]
    assert 4.0 < short < long < 1.5 * short


def test_rows_that_agree_share_what_they_know_and_one_that_does_not_keeps_its_own() -> None:
    rng = np.random.default_rng(3)
    subject = Overdispersion(1, 1, 40)
    true = np.full(40, 2.0)
    true[7] = 60.0
    subject.begin_pane()
    for _ in range(60):
        subject.add(0, (true * rng.chisquare(1, (1, 40))).astype(np.float32), np.ones(40, np.bool_), 1.0)
    alone = subject._squares[0, 0, 0] / 60
    shared = subject.factors(np.ones((1, 1, 40)))[0, 0]
    others = np.arange(40) != 7
    assert np.std(np.log(shared[others])) < np.std(np.log(alone[others]))
    assert shared[7] > 30


def test_rows_that_cannot_be_used_say_nothing() -> None:
    subject = Overdispersion(1, 1, 2)
    subject.begin_pane()
    for _ in range(20):
        subject.add(0, np.array([[3.0]], np.float32), np.array([True, False]), 1.0)
    found = subject.factors(np.ones((1, 1, 2)))[0, 0]
    assert found[0] == pytest.approx(factor(looked([3.0])))
    assert found[1] == 1.0


def test_a_pane_is_over_by_events_in_enough_ticks_or_by_time() -> None:
    warm_up = WarmUp(events=1_000, at_most_us=4 * MINUTE)
    pane = Pane(np.zeros((1, 2), np.float32), np.zeros(1))
    for _ in range(FEWEST_TICKS):
        assert not pane.is_over(0, warm_up)
        pane.add(np.ones((1, 2), np.float32), np.full(1, 2.0), 250)
    assert pane.is_over(0, warm_up)
    pane.begin(MINUTE, longer=True)
    assert (pane.events, pane.counts.sum(), pane.totals.sum()) == (0, 0, 0)
    assert not pane.is_over(2 * MINUTE, warm_up), "it is twice as long as the one before"
    assert pane.is_over(3 * MINUTE, warm_up)


def test_both_go_on_from_their_state_and_refuse_that_of_others() -> None:
    subject, pane = looked([1.0, 7.0], rows=3), Pane(np.zeros((3, 2), np.float32), np.zeros(3))
    pane.add(np.full((3, 2), 4.0, np.float32), np.full(3, 8.0), 9)
    other, other_pane = Overdispersion(1, 1, 3), Pane(np.zeros((3, 2), np.float32), np.zeros(3))
    other.restore(subject.state(), 1)
    other_pane.restore(pane.state())
    assert other.state() == subject.state()
    assert other_pane.state() == pane.state()
    with pytest.raises(StateError, match="does not fit 2 rows"):
        Overdispersion(1, 1, 2).restore(subject.state(), 1)
    with pytest.raises(StateError, match="does not fit 5 rows"):
        Pane(np.zeros((5, 3), np.float32), np.zeros(5)).restore(pane.state())


def test_until_it_is_measured_a_large_factor_is_assumed() -> None:
    shape = Shape(reference(), Ticks(MINUTE), Sensitivity())
    assert (shape._factors.values == UNMEASURED).all()


def test_slow_traffic_is_taken_for_independent_when_its_time_is_over() -> None:
    of_normals = reference()
    shape = Shape(of_normals, Ticks(3_600_000_000), Sensitivity())
    for hour, window in enumerate(autocorrelated(of_normals, 0.0, 2, 24 * 7)):
        shape.close(hour, window)
    assert shape.calibrated
    assert (shape._factors.values == 1.0).all()


def panes_of(looks: list[list[float]]) -> Overdispersion:
    """Twenty looks a pane at a statistic of each row, of so large squares; 0 is none at all."""
    subject = Overdispersion(1, 1, len(looks[0]))
    for of_pane in looks:
        subject.begin_pane()
        squares = np.array([of_pane], np.float32)
        looked_at = squares[0] > 0
        for _ in range(20):
            subject.add(0, squares[:, looked_at], looked_at, 1.0)
    return subject


def test_a_pane_with_a_step_is_left_out_where_two_others_say_so() -> None:
    [[[stepped, quiet]]] = panes_of([[2.0, 2.0], [2.0, 2.0], [90.0, 2.0]]).factors(np.ones((1, 1, 2)))
    assert stepped == pytest.approx(quiet, rel=0.2)


def test_the_only_pane_in_which_a_column_was_not_in_alarm_counts() -> None:
    [[[in_alarm, *others]]] = panes_of([[9.0, 9.0, 9.0], [0.0, 9.0, 9.0], [0.0, 9.0, 9.0]]).factors(np.ones((1, 1, 3)))
    assert in_alarm == pytest.approx(others[0], rel=0.3)


def test_a_column_of_which_nothing_is_known_varies_as_others_do() -> None:
    [[[unknown, *others]]] = panes_of([[0.0, 9.0, 9.0, 9.0]] * 3).factors(np.ones((1, 1, 4)))
    assert min(others) <= unknown < 3 * max(others)
