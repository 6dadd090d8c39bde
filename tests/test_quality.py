"""The benchmark of the detectors: its streams and rulers are what they say, and it runs in short."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from streamdrift.windows import Reference
from tests.quality import laws, oracle
from tests.quality.budgets import poisson_interval
from tests.quality.changes import BEFORE, CHANGES, WATCHED, Change, shift
from tests.quality.delays import Runs, _judge, bound
from tests.quality.laws import Law
from tests.quality.model import baseline_of, counted, expected
from tests.quality.nulls import NULLS, Null
from tests.quality.others import OTHERS, distance, kolmogorov_smirnov
from tests.support.windows import window

ROOT = Path(__file__).parents[1]
EVERY_LAW = {
    "normal": laws.NORMAL,
    "Poisson": laws.POISSON,
    "Bernoulli": laws.bernoulli(0.05),
    "stuck": laws.STUCK,
    "missing": laws.with_missing(0.03),
    "categories": laws.categories(0.4, 0.3, 0.2, 0.1),
}
every_law = pytest.mark.parametrize("law", EVERY_LAW.values(), ids=EVERY_LAW.keys())


def reference_of(law: Law, rows: int = 5_000, features: int = 2) -> Reference:
    return Reference(baseline_of(law, [law.draw(np.random.default_rng(1), (features, rows))]))


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.quality", "--short", "--seeds", "3", "--picture", ".cache/quality-short.html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode == 0) == all(found["targets"].values())
    assert "<svg" in (ROOT / ".cache/quality-short.html").read_text()
    return found


@every_law
def test_values_are_counted_as_streamdrift_counts_them(law: Law) -> None:
    reference = reference_of(law)
    values = law.draw(np.random.default_rng(2), (2, 600))
    named = dict(zip(reference.grid.names, (law.names(row) for row in values), strict=True))
    by_tick = counted(reference, values, 3)
    assert by_tick.sum(axis=0).tolist() == window(reference, named).counts.tolist()
    assert by_tick[1].tolist() == counted(reference, values[:, 200:400], 1)[0].tolist()


@every_law
def test_counts_that_are_drawn_as_such_are_those_of_drawn_values(law: Law) -> None:
    reference, n = reference_of(law), 200_000
    [of_values] = counted(reference, law.draw(np.random.default_rng(2), (2, n)), 1)
    drawn = sum(islice(Null("", law, per_tick=n // 10).counts(np.random.default_rng(3), reference), 10))
    shares = expected(reference, [law, law])
    for i in range(2):
        of_column = shares[i][: len(reference.of_column(of_values, i))]
        for counts in (of_values, drawn):
            found = reference.of_column(np.asarray(counts), i)
            assert np.abs(found - n * of_column).max() < 5 * math.sqrt(n / 4)
            assert found[of_column == 0].sum() == 0


def test_training_tables_and_traffic_of_a_null_are_of_the_same_law() -> None:
    for null in NULLS.values():
        rng = np.random.default_rng(4)
        [training] = null.training(rng, 1, 40_000)
        live = next(null.values(rng, 1, 96 * null.per_tick * 20))
        assert distance(np.sort(training[0]), np.sort(live[0])) < 0.03, null.name


def test_values_depend_on_those_before_them_and_on_each_other_as_they_should() -> None:
    rng = np.random.default_rng(5)
    feedback = next(NULLS["AR(0.9)"].values(rng, 1, 100_000))[0]
    assert np.corrcoef(feedback[1:], feedback[:-1])[0, 1] == pytest.approx(0.9, abs=0.02)
    assert feedback.std() == pytest.approx(1.0, abs=0.1)
    shared = next(NULLS["correlated"].values(rng, 2, 100_000))
    assert np.corrcoef(shared[0], shared[1])[0, 1] == pytest.approx(0.9, abs=0.01)
    blocks = NULLS["AR(0.9)"].values(np.random.default_rng(6), 1_000, 2)
    first, second = next(blocks), next(blocks)
    assert np.corrcoef(first[:, -1], second[:, 0])[0, 1] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("name", [name for name in CHANGES if "same mean" in name])
def test_changes_of_shape_alone_change_neither_mean_nor_variance(name: str) -> None:
    after = CHANGES[name].after
    assert sum(weight * part.mean() for weight, part in after.parts) == pytest.approx(0.0, abs=1e-9)
    assert sum(weight * part.moment(2) for weight, part in after.parts) == pytest.approx(1.0)


def test_a_change_comes_at_its_event_and_not_before() -> None:
    change = CHANGES["recurring +0.5 sd"]
    values = np.concatenate(list(change.stream(np.random.default_rng(7), 40, 20, 5_000)), axis=1)
    assert values.shape[1] - change.earlier == 20_000
    means = values[:20].reshape(20, -1, 5_000).mean(axis=(0, 2))
    expected_means = np.where(np.arange(-13, 4) >= 0, 0.5, np.where(np.arange(-13, 4) == -7, 0.5, 0.0))
    assert means == pytest.approx(expected_means, abs=0.02)
    assert values[20:].mean() == pytest.approx(0.0, abs=0.01)
    gradual = CHANGES["gradual +0.5 sd"].values(np.random.default_rng(7), 0, (50, 10_000))
    assert gradual.reshape(50, 2, 5_000).mean(axis=(0, 2)) == pytest.approx([0.125, 0.375], abs=0.02)


def test_poisson_intervals_are_exact() -> None:
    for count in (0, 1, 7, 150):
        low, high = poisson_interval(count)
        assert stats.poisson.cdf(count, high) == pytest.approx(0.025)
        assert low == 0 if count == 0 else stats.poisson.sf(count - 1, low) == pytest.approx(0.025)


def test_the_test_of_windows_is_that_of_scipy() -> None:
    rng = np.random.default_rng(8)
    training, values = rng.normal(size=20_000), rng.normal(0.05, 1, 40_000)
    ours = list(kolmogorov_smirnov(0.05)(laws.NORMAL, training, values))
    windows = values.reshape(-1, 1_000)
    scipys = [stats.ks_2samp(training, now, method="asymp").pvalue < 0.05 for now in windows]
    assert ours == [1_000 * (number + 1) for number in np.flatnonzero(scipys)]
    assert ours


def test_the_oracle_has_the_false_alarms_that_it_is_allowed() -> None:
    rng = np.random.default_rng(9)
    before, after = laws.NORMAL, laws.normal(0.5)
    at = oracle.threshold(before, after, rng)
    false = sum(1 for _ in oracle.alarms(before, after, at, before.draw(rng, (2_000_000,))))
    assert 10 <= false <= 34  # 20 are expected
    certain = oracle.threshold(laws.categories(1.0), laws.categories(0.9, 0.1), rng)
    heard = np.array([0.0, 0.0, 1.0])
    assert list(oracle.alarms(laws.categories(1.0), laws.categories(0.9, 0.1), certain, heard)) == [3]


def test_an_alarm_before_the_change_finds_nothing() -> None:
    change, start = shift(1.0), BEFORE - WATCHED

    def judged(*alarms: int) -> tuple[list[int], int, int]:
        runs = Runs()
        _judge(runs, change, iter(alarms))
        return runs.delays, runs.early, runs.missed

    assert judged(start, BEFORE + 7) == ([7], 0, 0), "what was before the stretch that is watched is forgiven"
    assert judged(start + 1, BEFORE + 7) == ([], 1, 0)
    assert judged(BEFORE) == ([], 1, 0)
    assert judged() == ([], 0, 1)


@pytest.mark.parametrize("name", ["River ADWIN", "PSI ≥ 0.1", "KS p < .001"])
def test_the_others_find_a_large_change(name: str) -> None:
    rng = np.random.default_rng(10)
    training = rng.normal(size=20_000)

    def alarms(mean: float) -> Iterator[int]:
        return OTHERS[name](laws.NORMAL, training, np.concatenate((rng.normal(size=5_000), rng.normal(mean, 1, 5_000))))

    assert 5_000 < next(alarms(1.0)) <= 6_000
    assert list(alarms(0.0)) == []


def test_the_bound_is_that_of_the_literature() -> None:
    told = 0.25**2 / 2
    expected_bound = math.log(1_000 * 7 * 86_400 * 100) / told
    assert bound(shift(0.25), 1_000, np.random.default_rng(11)) == pytest.approx(expected_bound, rel=0.05)
    assert bound(Change("", laws.STUCK), 1, np.random.default_rng(11)) < 20


@pytest.mark.timeout(300)
def test_budgets_hold_wherever_nothing_changes(short: dict[str, Any]) -> None:
    assert {cell["null"] for cell in short["false_alarms"]["budgets"]} >= NULLS.keys()
    low, high = short["worst_budget_ratio_interval"]
    assert low <= short["worst_budget_ratio"] <= high
    assert low <= 1.2


@pytest.mark.timeout(300)
def test_what_the_others_miss_or_cry_is_measured(short: dict[str, Any]) -> None:
    rates = short["false_alarms"]["per_100k_events"]
    assert rates["normal"]["River PageHinkley"] > 10 > rates["normal"]["streamdrift"]
    assert rates["AR(0.9)"]["River ADWIN"] > 100 > rates["AR(0.9)"]["streamdrift"]


@pytest.mark.timeout(300)
def test_changes_are_found_without_an_alarm_before(short: dict[str, Any]) -> None:
    sides = short["delays"]["side_by_side"]
    runs = sides["mean +0.5 sd"]["streamdrift"]["found"]
    assert runs == 2
    assert sides["mean +0.5 sd"]["oracle CUSUM"]["median"] < sides["mean +0.5 sd"]["streamdrift"]["median"]
    assert sides["no change"]["streamdrift"] == {"median": None, "found": 0, "early": 0, "missed": 2, "again": 0}
