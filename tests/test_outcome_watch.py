"""One model version's outcomes: what becomes of them when grids and configurations change."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from streamdrift.benchmarks import LabelDistribution, Measured
from streamdrift.detectors.error_stream import ErrorShift
from streamdrift.detectors.river import RiverSpec
from streamdrift.errors import StateError
from streamdrift.incidents import Alert
from streamdrift.outcome_evidence import LARGEST_PSI, error_benchmark, error_psi
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.outcome_waiting import MAX_WAITING
from streamdrift.outcome_watch import OutcomeConfig, OutcomeNews, OutcomeWatch, Parts
from streamdrift.performance import Target
from streamdrift.plans import WantedMetric
from streamdrift.sensitivity import Sensitivity, Tolerance
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import AnySummary, OutcomeSummary, UncountedOutcomes
from streamdrift.summaries.outcomes import Outcomes, ValueRows, errors
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.raw_rows import RawRows
from streamdrift.summaries.spreads import Spreads
from tests.support.decay import DAY_US, PLAN, TICK_US, World, summary_of
from tests.support.outcomes import BINARY

SCHEMA = Path(__file__).parents[1] / "config" / "schemas" / "drift-alert.json"
CONFIG = OutcomeConfig(TICK_US, PLAN, baselines={"7": "b7"})
SWAPPED = OutcomeGrid(Task.BINARY, ("fraud", "legit"))


def ticks(world: World, grid: OutcomeGrid | None = BINARY) -> dict[int, Parts]:
    """What detect gets of the world's version 7, tick by tick."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in np.flatnonzero(world.versions == "7").tolist():
        groups[int(world.labelled_us[i] // TICK_US), int(world.predicted_us[i] // DAY_US)].append(i)
    found: dict[int, dict[tuple[int, str], AnySummary]] = defaultdict(dict)
    for (tick, window), rows in sorted(groups.items()):
        found[tick][window, grid.id if grid else ""] = summary_of(world, np.array(rows), grid)
    return dict(found)


def watch(config: OutcomeConfig = CONFIG) -> OutcomeWatch:
    return OutcomeWatch(config, "fraud", "7")


def lived(subject: OutcomeWatch, parts: dict[int, Parts]) -> list[Alert]:
    """Every tick that there is, and those that are due in between."""
    alerts: list[Alert] = []
    for tick, of_tick in sorted(parts.items()):
        while (due := subject.due()) is not None and due < tick:
            alerts += subject.close(due, {}).alerts
        alerts += subject.close(tick, of_tick).alerts
    return alerts


def decayed(days: int = 9) -> World:
    return World.of(seed=6, days=days, recovers=False)


def open_kinds(subject: OutcomeWatch) -> set[str]:
    return {incident.kind for incident in subject.incidents}


def continued(subject: OutcomeWatch, config: OutcomeConfig) -> OutcomeWatch:
    after = watch(config)
    after.restore(subject.snapshot())
    return after


@pytest.fixture(scope="module")
def in_alarm() -> bytes:
    """A watch with open incidents of its metric and of its errors."""
    subject = watch()
    lived(subject, ticks(decayed()))
    assert open_kinds(subject) == {"performance", "concept_drift"}
    return subject.snapshot()


def test_a_tick_that_was_folded_changes_nothing(in_alarm: bytes) -> None:
    subject = watch()
    subject.restore(in_alarm)
    [last] = [parts for tick, parts in ticks(decayed()).items() if tick == subject.fence]
    assert subject.fence is not None
    assert subject.close(subject.fence, last) == OutcomeNews()
    assert subject.snapshot() == in_alarm


def test_another_grid_begins_anew_and_ends_what_was_said_on_the_old_one(in_alarm: bytes) -> None:
    subject = watch()
    subject.restore(in_alarm)
    assert subject.fence is not None
    summary = summary_of(decayed(), np.arange(40), SWAPPED)
    news = subject.close(subject.fence + 1, {(0, SWAPPED.id): summary})
    assert [(a.phase, a.data["resolution"]) for a in news.alerts] == [("resolved", "rebaselined")] * 2
    assert subject.status().grid == SWAPPED


def test_while_some_still_count_on_the_grid_it_stays(in_alarm: bytes) -> None:
    """The replicas of the join learn of another configuration one by one."""
    subject = watch()
    subject.restore(in_alarm)
    assert subject.fence is not None
    old, new = (summary_of(decayed(), np.arange(40), grid) for grid in (BINARY, SWAPPED))
    subject.close(subject.fence + 1, {(0, BINARY.id): old, (0, SWAPPED.id): new})
    assert subject.status().grid == BINARY
    assert subject.lost == 40


def test_a_metric_that_is_judged_no_more_ends_its_incident(in_alarm: bytes) -> None:
    plan = replace(PLAN, metrics=[WantedMetric("accuracy", None, 0.0)])
    subject = watch(replace(CONFIG, plan=plan))
    subject.restore(in_alarm)
    assert subject.fence is not None
    assert subject.due() == subject.fence + 1
    subject.close(subject.fence + 1, {})
    assert open_kinds(subject) == {"concept_drift"}


def test_windows_of_another_length_end_what_those_of_the_old_one_said(in_alarm: bytes) -> None:
    longer = watch(replace(CONFIG, plan=replace(PLAN, window_us=2 * DAY_US)))
    longer.restore(in_alarm)
    assert longer.fence is not None
    [alert] = longer.close(longer.fence + 1, {}).alerts
    assert (alert.phase, alert.data["kind"]) == ("resolved", "performance")


def test_another_detector_ends_what_the_old_one_had_found() -> None:
    deaf = replace(CONFIG, sensitivity=Sensitivity(minimum_effect=5.0, tolerance=Tolerance(error=0.9)))
    before = watch(deaf)
    lived(before, ticks(decayed()))
    assert open_kinds(before) == {"performance", "concept_drift"}
    subject = continued(before, replace(deaf, river=RiverSpec("drift.PageHinkley", {})))
    assert subject.fence is not None
    [alert] = subject.close(subject.fence + 1, {}).alerts
    assert (alert.phase, alert.data["kind"]) == ("resolved", "concept_drift")


def test_windows_recover_and_say_so() -> None:
    world = World.of(seed=7, days=20)
    better = replace(world, versions=np.full(len(world), "7"))
    subject = watch()
    alerts = lived(subject, ticks(better))
    ended = [a for a in alerts if a.phase == "resolved"]
    assert {(a.data["kind"], a.data["resolution"]) for a in ended} == {
        ("performance", "recovered"),
        ("concept_drift", "recovered"),
    }
    said = {a.data["kind"]: a.data["summary"] for a in ended}
    assert said["performance"].startswith("accuracy is close to its benchmark again (performance since 2024-10-09")
    assert "again (concept drift since" in said["concept_drift"]


def test_labels_in_another_mix_are_an_incident_of_their_own() -> None:
    plan = replace(PLAN, label_delay_us=TICK_US)
    usual = Measured(BINARY, {}, LabelDistribution(1_000, {"fraud": 100, "legit": 900}))
    subject = watch(replace(CONFIG, plan=plan, measured={"7": usual}))
    alerts = lived(subject, ticks(World.of(seed=6, days=9, recovers=False)))
    [started] = [a for a in alerts if a.phase == "started" and a.data["kind"] == "label_drift"]
    [feature] = started.data["features"]
    assert feature["feature"] == "label"
    assert feature["baseline"]["categories"] == ["legit", "fraud"]
    assert started.data["baseline_id"] == "b7"


def rows(n: int, window: int = 0) -> dict[tuple[int, str], AnySummary]:
    summary = summary_of(decayed(), np.arange(n), None)
    return {(window, ""): summary}


def test_rows_wait_until_they_can_be_counted_and_then_all_count() -> None:
    subject = watch()
    subject.close(0, rows(150))
    assert subject.status().grid is None
    assert subject.status().reports == ()
    later = watch()
    later.restore(subject.snapshot())
    more = {(1, ""): summary_of(decayed(), np.arange(150, 250), None)}
    assert subject.close(1, more) == later.close(1, more)
    for each in (subject, later):
        assert each.status().grid == BINARY
        assert [report.coverage[Fate.LABELLED] for report in each.status().reports] == [100, 150]
    assert subject.snapshot() == later.snapshot()


def test_rows_of_too_many_windows_are_given_up() -> None:
    subject = watch()
    one = UncountedOutcomes(RawRows(), Coverage.of({Fate.ORPHAN: 1}))
    subject.close(0, {(window, ""): one for window in range(MAX_WAITING + 50)})
    assert len(subject.snapshot()) < 64 * 1024
    assert subject.status().coverage[Fate.ORPHAN] == MAX_WAITING + 50


def test_fates_alone_are_nothing_that_came() -> None:
    """When they are told of depends on when the join had time for it."""
    subject = watch()
    expired = OutcomeSummary.empty(BINARY)
    expired = replace(expired, coverage=Coverage.of({Fate.EXPIRED: 3}))
    assert subject.close(5, {(0, BINARY.id): expired}) == OutcomeNews([], [], 0)
    assert (subject.first_tick, subject.last_tick) == (None, None)


@pytest.mark.parametrize("snapshot", [b"", b"\xc1", b"\x80", b"\x90"])
def test_damaged_state_is_refused(snapshot: bytes) -> None:
    with pytest.raises(StateError):
        watch().restore(snapshot)


def test_state_of_other_ticks_is_refused(in_alarm: bytes) -> None:
    with pytest.raises(StateError, match="ticks of"):
        watch(replace(CONFIG, tick_us=TICK_US // 2)).restore(in_alarm)


def test_a_regression_is_watched_by_the_sizes_of_its_errors_and_the_mean_of_its_outcomes() -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    rng, grid = np.random.default_rng(2), OutcomeGrid.regression(0.0, 200.0)
    plan = replace(PLAN, label_delay_us=TICK_US, metrics=[WantedMetric("mae", 5.0, 1.0)])
    subject, alerts = watch(replace(CONFIG, plan=plan)), list[Alert]()
    for tick in range(120):
        bad = tick >= 60
        true = rng.normal(130 if bad else 100, 20, 80)
        rows = ValueRows(grid, true, true + rng.normal(0, 16 if bad else 6, 80))
        times, hashes = np.full(80, tick * TICK_US), rng.integers(0, 2**63, 80, dtype=np.uint64)
        coverage = Coverage.of({Fate.PREDICTED: 80, Fate.LABELLED: 80})
        summary = OutcomeSummary(Outcomes.of(rows), coverage, Pairs.of(hashes, times, errors(rows)), Spreads.of(rows))
        alerts += subject.close(tick, {(tick // 24, grid.id): summary}).alerts
    for alert in alerts:
        validator.validate(json.loads(json.dumps(alert.data, allow_nan=False)))
    assert open_kinds(subject) == {"performance", "concept_drift", "label_drift"}
    said = {str(a.data["kind"]): str(a.data["summary"]) for a in alerts if a.phase == "started"}
    assert said["concept_drift"].startswith("mean absolute error rose from 4.")
    assert "(benchmark 5)" in said["concept_drift"]
    assert said["label_drift"].startswith("label shifted up 1.")
    assert said["performance"].startswith("mae 8.6")


# ---- effects ---------------------------------------------------------------------------------------------------------


def shift(before: float, after: float, *, binary: bool = True, worse: bool = True) -> ErrorShift:
    return ErrorShift(True, True, worse, before, after, 4_096, 1_024, 3, 2.0, 1, binary)  # noqa: FBT003 — in alarm, and new


def test_the_effect_of_concept_drift_is_on_the_scale_of_psi() -> None:
    assert error_psi(shift(0.1, 0.34)) == pytest.approx(0.35, abs=0.02)
    assert error_psi(shift(0.1, 0.13)) < 0.1
    assert error_psi(shift(10.0, 13.8, binary=False)) == pytest.approx(0.105, abs=0.001), "mean of sizes a third up"
    assert error_psi(shift(0.0, 3.0, binary=False)) == LARGEST_PSI


def test_fewer_errors_are_no_effect() -> None:
    assert error_psi(shift(0.3, 0.1, worse=False)) == 0


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([Target("accuracy", 0.9)], 0.1),
        ([Target("roc_auc", 0.9), Target("mae", 3.5)], 3.5),
        ([Target("accuracy", None)], None),
        ([], None),
    ],
)
def test_the_benchmark_of_errors_follows_from_that_of_a_metric(
    targets: Sequence[Target], expected: float | None
) -> None:
    assert error_benchmark(targets) == (expected if expected is None else pytest.approx(expected))
