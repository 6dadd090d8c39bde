"""One model version from closed ticks to alerts: the same alerts however it is interrupted, whatever is passed over."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamdrift.baselines import Baseline
from streamdrift.detectors.river import RiverSpec
from streamdrift.errors import StateError
from streamdrift.grids import SCORE, Column, Grid, Kind, blind_grid
from streamdrift.incidents import Alert
from streamdrift.monitor import Monitor, MonitorConfig, snapshot_bytes_estimate
from streamdrift.sensitivity import Sensitivity, WarmUp
from streamdrift.status import FeatureState, IncidentStatus, ModelState, ModelStatus
from streamdrift.streams import RiverStream
from streamdrift.summaries import Summary
from tests.support.windows import MISTYPED, MODEL, batch, rows, small_baseline, some, summary

MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
ADWIN: Final = RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.002}))
ALARMING: Final = RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.002}, alarm=True))
T: Final = 29_000_000
SENSITIVITY: Final = Sensitivity(warm_up=WarmUp(events=4_000))
"""One that ten quiet ticks, or a dump, are enough to calibrate."""
CALM: Final = [(1, "quiet")] * 20

SCHEMA = Path(__file__).parents[1] / "config" / "schemas" / "drift-alert.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))

KINDS: Final = ("few", "quiet", "drift", "dump", "missing", "new", "score", "both")
Step = tuple[int, str]
"""Ticks since the step before, and what came in that tick (see ``events``)."""


@functools.cache
def events(kind: str, seed: int = 0) -> Summary:
    """The events of a tick."""
    size = {"few": 3, "quiet": 400, "dump": 4_000}.get(kind, 1_200)
    drawn = rows(np.random.default_rng(seed), size)
    if kind in {"drift", "dump", "both"}:
        drawn["amount"] *= 100
    if kind == "missing":
        drawn["amount"] = some(drawn["amount"], 0.3, None)
    if kind in {"new", "both"}:
        drawn["country"] = some(drawn["country"], 0.2, "XX")
    if kind in {"score", "both"}:
        drawn[SCORE] = drawn[SCORE] ** 0.5
    return summary(small_baseline().grid, drawn, time_us=seed)


def config(tick_us: int = MINUTE, *river: RiverStream) -> MonitorConfig:
    return MonitorConfig(tick_us, HOUR, river, SENSITIVITY)


def monitor(tick_us: int = MINUTE, *river: RiverStream, baseline: bool = True) -> Monitor:
    return Monitor(config(tick_us, *river), *MODEL, small_baseline() if baseline else None)


def restored(snapshot: bytes, tick_us: int = MINUTE, *river: RiverStream, baseline: bool = True) -> Monitor:
    """Another process goes on."""
    other = monitor(tick_us, *river, baseline=baseline)
    other.restore(snapshot)
    return other


def at_ticks(steps: Iterable[Step]) -> dict[int, str]:
    tick, found = T, {}
    for gap, kind in steps:
        tick += gap
        found[tick] = kind
    return found


def data(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    found = [json.loads(json.dumps(alert.data, allow_nan=False)) for alert in alerts]
    for alert in found:
        VALIDATOR.validate(alert)
    return found


def lasting(status: ModelStatus) -> ModelStatus:
    """What a status says of more than the running process."""
    still_open = tuple(incident for incident in status.incidents if incident.resolved_us is None)
    return replace(status, alerts={}, state_bytes=0, incidents=still_open)


def follow(
    subject: Monitor, traffic: Mapping[int, str], until: int, *, every_tick: bool = False
) -> list[tuple[int, dict[str, Any]]]:
    """Close what a fold would close up to ``until``, or every single tick; alerts with their ticks."""
    alerts: list[Alert] = []
    arrivals = sorted(tick for tick in traffic if subject.fence is None or tick > subject.fence)
    start = min(arrivals, default=until)
    tick = start if subject.fence is None else subject.fence + 1
    while tick <= until:
        if not every_tick:
            due = subject.due()
            candidates = [t for t in (next((a for a in arrivals if a >= tick), None), due) if t is not None]
            tick = max(tick, min(candidates, default=until))
            if tick > until:
                break
        alerts += subject.close(tick, events(traffic[tick], tick % 16) if tick in traffic else None)
        tick += 1
    return list(zip([alert.tick for alert in alerts], data(alerts), strict=True))


# ---- pure ------------------------------------------------------------------------------------------------------------

several_steps = st.lists(st.tuples(st.integers(1, 40), st.sampled_from(KINDS)), min_size=1, max_size=14)
"""Enough drift in a row for incidents to start, rise, join, update and end."""


@settings(deadline=None, max_examples=40)
@given(several_steps, st.sets(st.integers(0, 400), max_size=5))
def test_a_snapshot_at_any_tick_gives_the_same_alerts(steps: list[Step], cuts: set[int]) -> None:
    traffic = at_ticks([*steps, (1, "drift"), (1, "drift"), (1, "drift"), (1, "quiet")])
    end = max(traffic) + 100
    whole = monitor(MINUTE, ADWIN)
    expected = follow(whole, traffic, end)
    subject, found = monitor(MINUTE, ADWIN), []
    for cut in sorted(cuts):
        found += follow(subject, traffic, min(T + cut, end))
        subject = restored(subject.snapshot(), MINUTE, ADWIN)
    found += follow(subject, traffic, end)
    assert found == expected
    assert lasting(subject.status()) == lasting(whole.status())
    assert msgspec.msgpack.decode(subject.snapshot(), strict=False) == msgspec.msgpack.decode(
        whole.snapshot(), strict=False
    )


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([MINUTE, 7 * MINUTE, HOUR]),
    st.lists(st.tuples(st.sampled_from([1, 2, 5, 30, 90, 200]), st.sampled_from(KINDS)), min_size=1, max_size=12),
    st.booleans(),
)
def test_closing_the_ticks_that_are_due_equals_closing_every_tick(tick_us: int, steps: list[Step], alarm: bool) -> None:  # noqa: FBT001 — drawn
    traffic = at_ticks([*steps, (1, "drift"), (1, "drift"), (1, "both")])
    end = max(traffic) + 200
    stream = ALARMING if alarm else ADWIN
    few, all_ = monitor(tick_us, stream), monitor(tick_us, stream)
    expected = follow(all_, traffic, end, every_tick=True)
    assert follow(few, traffic, end) == expected
    few.close(end + 1, None)
    all_.close(end + 1, None)
    assert few.snapshot() == all_.snapshot()


@settings(deadline=None, max_examples=20)
@given(several_steps, st.integers(0, 100))
def test_ticks_that_were_folded_before_change_nothing(steps: list[Step], back: int) -> None:
    traffic = at_ticks(steps)
    subject = monitor(MINUTE, ADWIN)
    follow(subject, traffic, max(traffic))
    before = subject.snapshot()
    for tick in range(max(traffic) - back, max(traffic) + 1):
        assert subject.close(tick, events("dump")) == []
    assert subject.snapshot() == before


def test_what_is_due_lies_ahead_and_comes_to_an_end() -> None:
    subject = monitor(MINUTE, ALARMING)
    traffic = at_ticks((1, kind) for kind in ("quiet", "drift", "dump", "score", "both", "missing", "new") * 2)
    follow(subject, traffic, max(traffic))
    for _ in range(200):
        if (due := subject.due()) is None:
            break
        assert subject.fence is not None
        assert due > subject.fence
        subject.close(due, None)
    assert subject.due() is None


# ---- an incident from beginning to end -------------------------------------------------------------------------------


def test_a_unit_bug_is_one_incident_from_start_to_end() -> None:
    steps = [*CALM, *[(1, "drift")] * 40, *[(1, "quiet")] * 40]
    found = follow(monitor(), at_ticks(steps), T + 100)
    assert [(a["phase"], a["severity"]) for _, a in found] == [
        ("started", "info"),
        ("updated", "warning"),
        ("updated", "critical"),
        ("resolved", "critical"),
    ]
    assert {a["incident_id"] for _, a in found} == {found[0][1]["incident_id"]}
    assert {f["feature"] for _, a in found for f in a["features"]} == {"amount"}
    assert found[0][0] == T + 20 + 1


def test_a_dump_into_one_tick_and_then_silence_is_told_of_and_rises() -> None:
    found = follow(monitor(), at_ticks([*CALM, (1, "dump")]), T + 1_000)
    assert [(tick - T, a["severity"]) for tick, a in found] == [(21, "info"), (26, "warning"), (36, "critical")]


def test_a_dump_into_the_very_first_tick_is_told_of_as_older_than_the_watch() -> None:
    """Before anything is known of how live traffic varies, a large change is seen even so."""
    [(tick, started)] = follow(Monitor(MonitorConfig(MINUTE, HOUR), *MODEL, small_baseline()), {T: "dump"}, T + 1_000)
    assert (tick, started["severity"], started["model_state"]) == (T, "info", "calibrating")
    assert {f["onset"] for f in started["features"]} == {"before_monitoring"}
    assert {f["detector"] for f in started["features"]} == {"skew", "out_of_range_rate"}


def test_nothing_is_told_of_traffic_that_does_not_drift() -> None:
    subject = monitor()
    for tick in range(T, T + 250):
        assert subject.close(tick, events("quiet", tick)) == []
    assert subject.status().events == 100_000


def test_an_ended_watch_resolves_what_is_open() -> None:
    subject = monitor()
    assert subject.retire("rebaselined") == []
    follow(subject, {T: "dump"}, T)
    [alert] = subject.retire("rebaselined")
    assert (alert.tick, alert.data["phase"], alert.data["resolution"]) == (T, "resolved", "rebaselined")


# ---- status ----------------------------------------------------------------------------------------------------------


def states(subject: Monitor) -> dict[str, FeatureState]:
    return {feature.name: feature.state for feature in subject.status().features}


def test_a_status_tells_of_features_and_incidents() -> None:
    subject = monitor()
    assert set(states(subject).values()) == {FeatureState.NO_DATA}
    for tick in range(T, T + 60):
        subject.close(tick, events("quiet", tick))
    assert set(states(subject).values()) == {FeatureState.OK}
    for tick in range(T + 60, T + 80):
        subject.close(tick, events("drift"))
    status = subject.status()
    assert states(subject) == {
        "amount": FeatureState.CRITICAL,
        "age_days": FeatureState.OK,
        "country": FeatureState.OK,
        SCORE: FeatureState.OK,
    }
    assert status.state is ModelState.WATCHING
    assert status.baseline_id == small_baseline().id
    assert (status.ticks_closed, status.events) == (80, 60 * 400 + 20 * 1_200)
    assert status.last_event_us == (T + 80) * MINUTE
    amount = status.features[0]
    assert amount.evidence_ratio is not None
    assert amount.evidence_ratio >= 1
    assert amount.effects["psi"] > 1
    [incident] = status.incidents
    assert (incident.phase, incident.severity, incident.features) == ("open", "critical", ("amount",))
    assert status.alerts == {("data_drift", "info"): 1, ("data_drift", "warning"): 1, ("data_drift", "critical"): 1}


def test_evidence_below_one_is_no_alarm_and_evidence_of_one_is() -> None:
    subject = monitor()
    for tick in range(T, T + 30):
        subject.close(tick, events("drift" if tick >= T + 20 else "quiet", tick))
        amount = subject.status().features[0]
        alarm = amount.state not in {FeatureState.NO_DATA, FeatureState.OK}
        assert ((amount.evidence_ratio or 0) >= 1) == alarm


def test_an_incident_has_one_start_while_it_is_open_and_afterwards() -> None:
    subject = monitor()

    def shown() -> IncidentStatus:
        return subject.status().incidents[0]

    follow(subject, at_ticks([*CALM, (1, "dump")]), T + 40)
    started = shown().started_us
    assert shown().resolved_us is None
    follow(subject, {T + 50 + i: "quiet" for i in range(60)}, T + 120)
    assert shown().phase == "resolved"
    assert shown().started_us == started == (T + 22) * MINUTE
    assert (shown().resolved_us or 0) > started


def test_a_column_in_two_incidents_is_in_the_state_of_the_worse_one() -> None:
    subject = monitor(MINUTE, RiverStream("amount", RiverSpec("drift.PageHinkley", {"threshold": 5}, alarm=True)))
    quiet, missing = (rows(np.random.default_rng(seed), 3_000) for seed in (1, 2))
    missing["amount"] = some(missing["amount"], 0.3, None)
    grid = small_baseline().grid
    follow(subject, at_ticks(CALM), T + 20)
    for tick, drawn in enumerate((quiet, missing), T + 21):
        subject.close(tick, Summary.of(batch(grid, drawn), {"amount"}))
    for tick in range(T + 23, T + 50):
        subject.close(tick, None)
    kinds = {(i.kind, i.severity) for i in subject.status().incidents}
    assert kinds == {("data_quality", "critical"), ("data_drift", "info")}
    assert states(subject)["amount"] is FeatureState.CRITICAL


def test_only_the_last_resolved_incidents_are_shown() -> None:
    subject = monitor()
    follow(subject, at_ticks(CALM), T + 20)
    for cycle in range(1, 15):
        start = T + cycle * 100
        follow(subject, {start: "dump", **{start + 10 + i: "quiet" for i in range(40)}}, start + 99)
    shown = subject.status().incidents
    assert len(shown) == 10
    assert [i.resolved_us for i in shown] == sorted((i.resolved_us for i in shown), reverse=True)  # type: ignore[type-var]  # all are resolved


# ---- River -----------------------------------------------------------------------------------------------------------


def blind(score: float, seed: int) -> Summary:
    """Scores around a level, of a model without a baseline."""
    return summary(
        blind_grid(*MODEL), {SCORE: np.random.default_rng(seed).normal(score, 0.02, 200)}, time_us=seed * 1_000
    )


def scores(subject: Monitor, levels: Sequence[float | None], start: int = T) -> list[dict[str, Any]]:
    alerts: list[Alert] = []
    for tick, level in enumerate(levels, start):
        alerts += subject.close(tick, None if level is None else blind(level, tick % 97))
    return data(alerts)


def test_river_alone_watches_a_model_without_a_baseline() -> None:
    subject = monitor(MINUTE, ADWIN, baseline=False)
    assert scores(subject, [0.2] * 20 + [0.7] * 5) == [], "what is not calibrated wakes nobody"
    status = subject.status()
    assert status.state is ModelState.LEARNING
    assert status.features == ()
    [river] = status.river
    assert (river.stream, river.detector) == (SCORE, "river.drift.ADWIN")
    assert river.detections >= 1
    assert river.last_detection_us is not None


def test_a_river_detector_with_alarm_opens_an_incident_and_ends_it_a_window_after_its_last_detection() -> None:
    subject = monitor(MINUTE, ALARMING, baseline=False)
    found = scores(subject, [0.2] * 20 + [0.7] * 5 + [None] * 100)
    assert [(a["phase"], a["kind"], a["severity"]) for a in found] == [
        ("started", "prediction_drift", "info"),
        ("resolved", "prediction_drift", "info"),
    ]
    assert found[1]["resolution"] == "recovered"
    last = subject.status().river[0].last_detection_us
    assert last is not None
    start, end = (np.datetime64(a["event_time"].removesuffix("Z"), "us").astype(int) for a in found)
    assert start <= last
    assert end == last + HOUR


def test_river_corroborates_what_the_baselines_detectors_found() -> None:
    subject = monitor(MINUTE, ADWIN)
    steps = [(1, "quiet")] * 10 + [(1, "score")] * 4
    found = follow(subject, at_ticks(steps), T + 40)
    assert {a["kind"] for _, a in found} == {"prediction_drift"}
    assert [(c["detector"], c["stream"], c["calibrated"]) for c in found[0][1]["corroborating"]] == [
        ("river.drift.ADWIN", SCORE, False)
    ]


def test_two_detectors_of_one_class_on_one_stream_are_two() -> None:
    """They differ in their parameters; names tell them apart in state, in alerts and in metrics."""
    other = RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.9}, alarm=True))
    two = ALARMING, other
    whole, subject = (monitor(MINUTE, *two, baseline=False) for _ in range(2))
    levels = [0.2] * 20 + [0.7] * 5 + [None] * 80
    expected = scores(whole, levels)
    found = scores(subject, levels[:22])
    subject = restored(subject.snapshot(), MINUTE, *two, baseline=False)
    assert found + scores(subject, levels[22:], T + 22) == expected
    assert [r.detector for r in subject.status().river] == ["river.drift.ADWIN", "river.drift.ADWIN#2"]
    named = {f["detector"] for alert in expected for f in alert["features"]}
    assert named == {"river.drift.ADWIN", "river.drift.ADWIN#2"}
    assert [a["phase"] for a in expected if a["phase"] == "resolved"] == ["resolved"]


@pytest.mark.parametrize("now", [(), (RiverStream(SCORE, RiverSpec("drift.KSWIN", {"alpha": 0.001})),)])
def test_an_alarm_of_a_detector_that_is_configured_no_more_ends(now: tuple[RiverStream, ...]) -> None:
    subject = monitor(MINUTE, ALARMING, baseline=False)
    assert [a["phase"] for a in scores(subject, [0.2] * 20 + [0.7] * 5)] == ["started"]
    subject = restored(subject.snapshot(), MINUTE, *now, baseline=False)
    assert subject.due() == T + 25
    again = restored(subject.snapshot(), MINUTE, *now, baseline=False)
    for other in (subject, again):
        [alert] = scores(other, [None], T + 25)
        assert (alert["phase"], alert["resolution"]) == ("resolved", "recovered")
        assert other.due() is None


def test_a_detector_whose_parameters_were_changed_starts_anew_and_its_alarm_ends_in_time() -> None:
    subject = monitor(MINUTE, ALARMING, baseline=False)
    scores(subject, [0.2] * 20 + [0.7] * 5)
    changed = RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.1}, alarm=True))
    subject = restored(subject.snapshot(), MINUTE, changed, baseline=False)
    found = scores(subject, [None] * 100, T + 25)
    assert [a["phase"] for a in found] == ["resolved"]


def test_river_on_a_column_that_the_model_does_not_have_is_left_out() -> None:
    subject = monitor(MINUTE, RiverStream("nothing", ADWIN.spec))
    assert subject.status().river == ()


# ---- snapshots -------------------------------------------------------------------------------------------------------


def changed(snapshot: bytes, **fields: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.decode(snapshot, strict=False) | fields)


@pytest.fixture
def snapshot() -> bytes:
    subject = monitor(MINUTE, ADWIN)
    follow(subject, at_ticks([(1, "quiet"), (1, "drift"), (1, "drift"), (1, "drift"), (1, "few")]), T + 7)
    return subject.snapshot()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": 3}, "has version 3, this program reads 2"),
        ({"version": 0}, "has version 0"),
        ({"tick_us": 10_000_000}, "ticks of 10 s"),
        ({"baseline_id": "0123"}, "another baseline"),
        ({"baseline_id": None}, "another baseline"),
        ({"fence": "x"}, "cannot be read"),
        ({"columns": None}, "the detectors of some columns"),
        ({"columns": [{"shape": None}, None, []]}, "shape"),
        ({"columns": [{"rate": [1]}, None, []]}, "rate"),
        ({"columns": [{}, None, []]}, "published"),
        ({"incidents": 7}, "incidents"),
        ({"river": {"prediction.score/river.drift.ADWIN": [1]}}, "river.drift.ADWIN"),
    ],
)
def test_a_snapshot_that_cannot_be_continued_from_is_refused(
    snapshot: bytes, fields: Mapping[str, object], message: str
) -> None:
    with pytest.raises(StateError, match=message):
        restored(changed(snapshot, **fields), MINUTE, ADWIN)


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"null", b"\x80", b"\x92\x01\x02"])
def test_garbage_is_no_snapshot(garbage: bytes) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        restored(garbage)
    with pytest.raises(StateError, match="cannot be read"):
        Monitor.baseline_of(garbage)


@pytest.mark.parametrize("end", [1, 2, 10, 100, 1_000])
def test_a_snapshot_that_was_cut_short_is_refused(snapshot: bytes, end: int) -> None:
    with pytest.raises(StateError):
        restored(snapshot[:-end], MINUTE, ADWIN)


def test_a_snapshot_says_what_it_goes_with(snapshot: bytes) -> None:
    assert Monitor.baseline_of(snapshot) == small_baseline().id
    assert Monitor.baseline_of(monitor(baseline=False).snapshot()) is None


def test_a_detector_that_a_snapshot_does_not_know_starts_with_nothing(snapshot: bytes) -> None:
    subject = restored(changed(snapshot, detectors={"of_old": [1]}, river={}), MINUTE, ADWIN)
    assert subject.status().river[0].detections == 0
    follow(subject, {T + 10: "dump"}, T + 12)


def nasty_grid() -> Grid:
    numbers = [Column(f"f{i}", Kind.NUMERIC, edges=tuple(range(120)), unit_exponent=-20) for i in range(20)]
    names = [Column(f"c{i}", Kind.CATEGORICAL, categories=tuple(f"{i}-{j:030}" for j in range(60))) for i in range(20)]
    return Grid(*MODEL, (*numbers, *names))


def test_a_snapshot_is_not_larger_than_estimated() -> None:
    """With everything drifting, every pane filled, and as many unknown names as are kept."""
    grid, rng = nasty_grid(), np.random.default_rng(1)
    n = 3_000

    def drawn(*, drifts: bool) -> Summary:
        values: dict[str, Any] = {}
        for column in grid.columns:
            if column.kind is Kind.NUMERIC:
                values[column.name] = rng.integers(60 if drifts else 0, 120, n).astype(float)
                continue
            values[column.name] = rng.choice(np.array(column.categories, dtype=object), n)
            if drifts:
                values[column.name][:2_000] = [f"n{i % 40:031}" for i in range(2_000)]
                values[column.name][2_000:2_200] = MISTYPED
        return summary(grid, values)

    subject = Monitor(config(), *MODEL, Baseline(grid, replace(drawn(drifts=False), pairs={})))
    live = drawn(drifts=True)
    for tick in range(T, T + 70):
        subject.close(tick, live)
    few = summary(grid, {c.name: np.array(["n"], dtype=object) for c in grid.columns if c.kind is Kind.CATEGORICAL})
    subject.close(T + 71, few)
    assert len(subject.status().incidents) == 2
    size = len(subject.snapshot())
    assert size <= snapshot_bytes_estimate(grid) <= 4 * size
