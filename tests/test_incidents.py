"""What a person is told, and when: the life of incidents, and the sentences in them."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamdrift.baselines import Baseline
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.errors import StateError
from streamdrift.evidence import MAX_HISTOGRAMS, rfc3339
from streamdrift.grids import SCORE, Column, Grid, Kind, blind_grid
from streamdrift.incidents import Alert, Corroboration, Incidents, Subject, sighting
from streamdrift.muting import Mute
from streamdrift.windows import Reference, Window
from tests.support.windows import (
    COUNTRIES,
    MISTYPED,
    MODEL,
    Rows,
    rows,
    small_baseline,
    small_reference,
    some,
    summary,
    through_msgpack,
    window,
)

SCHEMA = Path(__file__).parents[1] / "config" / "schemas" / "drift-alert.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))

MINUTE = 60_000_000
T = 29_000_000
"""A tick of a minute: 2025-02-19 21:20 UTC."""


class Watch:
    """Incidents of the small model; holds every alert to the schema."""

    def __init__(
        self,
        tick_us: int = MINUTE,
        reference: Reference | None = None,
        *,
        model: tuple[str, str] = MODEL,
        baseline: bool = True,
        mutes: Sequence[Mute] = (),
    ) -> None:
        self.mutes = mutes
        self.reference = (reference or small_reference()) if baseline else None
        self.grid = self.reference.grid if self.reference else blind_grid(*model)
        self.ticks = Ticks(tick_us)
        self.subject = Subject(*model, {}, self.reference.baseline.id if self.reference else None)
        self.incidents = self.fresh()
        self.told: list[Alert] = []

    def fresh(self) -> Incidents:
        return Incidents(self.subject, self.ticks, len(self.grid.columns), self.mutes)

    def close(self, tick: int, *findings: Finding) -> list[Alert]:
        seen = [sighting(finding, self.grid, self.reference, self.ticks) for finding in findings]
        return self.check(self.incidents.close(tick, seen))

    def end(self, tick: int, resolution: str) -> list[Alert]:
        return self.check(self.incidents.end(tick, resolution))

    def check(self, alerts: list[Alert]) -> list[Alert]:
        self.told += alerts
        for alert in alerts:
            VALIDATOR.validate(json.loads(json.dumps(alert.data, allow_nan=False)))
        return alerts

    def of(
        self,
        name: str,
        seen: Window | None,
        *,
        alarm: bool = True,
        evidence: float = 3.1,
        onset: int | None = T,
        detector: str = "psi",
        confirmed: bool = True,
    ) -> Finding:
        column = self.grid.names.index(name)
        return Finding(column, detector, False, alarm, evidence, onset, seen, confirmed)  # noqa: FBT003 — as the detectors write it

    def calm(self, name: str, detector: str = "psi") -> Finding:
        return self.of(name, calm_window(), alarm=False, evidence=0.1, detector=detector)


@functools.cache
def seen(column: str, change: str) -> Window:
    """2,000 events in which one column is not as it was."""
    usual = rows(np.random.default_rng(1), 2_000)
    return window(small_reference(), usual | {column: CHANGES[change](usual[column])})


CHANGES: dict[str, Callable[[Any], Any]] = {
    "slight": lambda x: x + 12 * 0.25,  # PSI 0.05
    "moderate": lambda x: x + 12 * 0.4,  # PSI 0.14
    "much": lambda x: x + 12.0,  # PSI 0.87
    "down": lambda x: x - 12.0,
    "a hundred times": lambda x: 100 * x,
    "wide": lambda x: 40 + 2 * (x - 40),
    "missing": lambda x: some(x, 0.2, None),
    "mistyped": lambda x: some(x, 0.4, MISTYPED),
    "new": lambda x: some(x, 0.1, "XX"),
    "a few new": lambda x: some(x, 0.01, "XX"),
    "Poland": lambda x: some(x, 0.5, "PL"),
    "higher": lambda x: x**0.5,
}


def calm_window() -> Window:
    return window(small_reference(), rows(np.random.default_rng(2), 1_000))


def short(alerts: list[Alert]) -> list[tuple[int, str, str, str]]:
    return [(a.tick - T, str(a.data["phase"]), str(a.data["kind"]), str(a.data["severity"])) for a in alerts]


# ---- a life ----------------------------------------------------------------------------------------------------------


def test_an_incident_starts_as_info_and_rises_with_time_and_effect() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    for tick in range(T + 1, T + 40):
        watch.close(tick)
    assert short(watch.told) == [
        (0, "started", "data_drift", "info"),
        (5, "updated", "data_drift", "warning"),
        (15, "updated", "data_drift", "critical"),
    ]
    assert [a.sequence for a in watch.told] == [0, 1, 2]
    assert {a.incident_id for a in watch.told} == {watch.told[0].incident_id}


@pytest.mark.parametrize(
    ("change", "severities"),
    [("slight", ["info"]), ("moderate", ["info", "warning"]), ("much", ["info", "warning", "critical"])],
)
def test_severity_is_that_of_the_effect(change: str, severities: list[str]) -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", change)))
    for tick in range(T + 1, T + 500):
        watch.close(tick)
    assert [a.data["severity"] for a in watch.told] == severities


@pytest.mark.parametrize(
    ("tick_s", "warning", "critical"),
    [(10, 30, 90), (60, 5, 15), (120, 3, 8), (299, 2, 4), (300, 2, 3), (3_600, None, 2), (86_400, None, 2)],
)
def test_a_warning_needs_five_minutes_and_two_ticks_and_critical_a_quarter_of_an_hour(
    tick_s: int, warning: int | None, critical: int
) -> None:
    watch, start = Watch(tick_s * 1_000_000), T * 60 // tick_s
    watch.close(start, watch.of("amount", seen("amount", "much"), onset=start))
    for tick in range(start + 1, start + 100):
        watch.close(tick)
    rises = {str(a.data["severity"]): a.tick - start for a in reversed(watch.told)}
    assert (rises["info"], rises.get("warning"), rises["critical"]) == (0, warning, critical)


def test_a_rise_is_due_and_after_the_last_one_nothing_is() -> None:
    watch = Watch()
    assert watch.incidents.due() is None
    watch.close(T, watch.of("amount", seen("amount", "much")))
    assert watch.incidents.due() == T + 5
    watch.close(T + 5)
    assert watch.incidents.due() == T + 15
    watch.close(T + 15)
    assert watch.incidents.due() is None


@pytest.mark.parametrize("tick_s", [10, 300, 600, 1_000, 3_600])
def test_what_is_due_is_told_of_at_that_tick(tick_s: int) -> None:
    watch = Watch(tick_s * 1_000_000)
    tick: int | None = T * 60 // tick_s
    while tick is not None:
        findings = [watch.of("amount", seen("amount", "much"), onset=tick)] if not watch.told else []
        assert len(watch.close(tick, *findings)) == 1
        tick = watch.incidents.due()
    assert watch.told[-1].data["severity"] == "critical"


def test_a_rise_that_was_overslept_comes_with_the_next_closed_tick() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    [alert] = watch.close(T + 600)
    assert (alert.data["phase"], alert.data["severity"]) == ("updated", "critical")


def test_a_quarter_of_an_hour_counts_from_when_the_effect_became_large() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "moderate")))
    watch.close(T + 30, watch.of("amount", seen("amount", "much")))
    watch.close(T + 40, watch.of("amount", seen("amount", "moderate")))
    watch.close(T + 50, watch.of("amount", seen("amount", "much")))
    assert watch.incidents.due() == T + 65
    watch.close(T + 64)
    assert watch.told[-1].data["severity"] == "warning"
    watch.close(T + 65)
    assert watch.told[-1].data["severity"] == "critical"


def test_severity_never_falls_while_the_incident_is_open() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    watch.close(T + 15)
    watch.close(T + 20, watch.of("amount", seen("amount", "slight")))
    watch.close(T + 200, watch.of("country", seen("country", "Poland")))
    watch.close(T + 300, watch.calm("amount"), watch.calm("country"))
    assert [a.data["severity"] for a in watch.told] == ["info", *["critical"] * (len(watch.told) - 1)]


def test_another_column_joins_at_once() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    [alert] = watch.close(T + 1, watch.of("country", seen("country", "Poland")))
    assert short([alert]) == [(1, "updated", "data_drift", "info")]
    assert {f["feature"] for f in alert.data["features"]} == {"amount", "country"}
    assert watch.close(T + 2, watch.of("country", seen("country", "Poland"))) == []


def test_columns_that_drift_together_start_one_incident() -> None:
    watch = Watch()
    [alert] = watch.close(
        T, watch.of("amount", seen("amount", "moderate")), watch.of("country", seen("country", "Poland"))
    )
    assert [f["feature"] for f in alert.data["features"]] == ["country", "amount"], "strongest first"


def test_a_changed_effect_is_told_of_once_an_hour_at_most() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    watch.close(T + 5)
    watch.close(T + 15)
    found = []
    for tick in range(T + 16, T + 400):
        change = "moderate" if (tick // 7) % 2 else "a hundred times"
        found += watch.close(tick, watch.of("amount", seen("amount", change)))
    times = [a.tick - T for a in found]
    assert times[0] == 15 + 60, "as soon as it may be"
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))
    assert len(times) > 3


def test_an_effect_that_hardly_changed_is_not_told_of() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "slight")))
    assert all(watch.close(T + 60 * k, watch.of("amount", seen("amount", "slight"))) == [] for k in range(1, 10))


def test_an_effect_that_waits_for_its_hour_is_due() -> None:
    """Else it would be told of with the next events, whenever they come."""
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    watch.close(T + 5)
    watch.close(T + 15)
    assert watch.incidents.due() is None
    watch.close(T + 20, watch.of("amount", seen("amount", "a hundred times")))
    assert watch.incidents.due() == T + 15 + 60
    watch.close(T + 30, watch.of("amount", seen("amount", "much")))
    assert watch.incidents.due() is None, "it is again what was told"
    watch.close(T + 40, watch.of("amount", seen("amount", "a hundred times")))
    [alert] = watch.close(T + 75)
    assert alert.data["phase"] == "updated"
    assert watch.incidents.due() is None


def test_an_effect_on_its_way_back_is_not_told_of_before_recovery() -> None:
    """A column stays in alarm until it is certain that it came back; meanwhile nobody is told of smaller drift."""
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    watch.close(T + 5)
    watch.close(T + 15)
    for tick in range(T + 16, T + 500, 20):
        assert watch.close(tick, watch.of("amount", seen("amount", "slight"), evidence=0.4)) == []
    [alert] = watch.close(T + 500, watch.calm("amount"))
    assert alert.data["phase"] == "resolved"


def test_an_incident_is_resolved_when_its_last_column_recovered() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")), watch.of("country", seen("country", "Poland")))
    assert watch.close(T + 1, watch.calm("amount")) == []
    [alert] = watch.close(T + 2, watch.calm("country"))
    assert short([alert]) == [(2, "resolved", "data_drift", "info")]
    assert alert.data["resolution"] == "recovered"
    assert {f["feature"] for f in alert.data["features"]} == {"amount", "country"}, "all that drifted"
    assert watch.incidents.open == ()
    assert watch.incidents.due() is None


def test_a_column_that_recovered_and_came_back_is_a_contributor_again() -> None:
    watch = Watch()
    both = watch.of("amount", seen("amount", "much")), watch.of("country", seen("country", "Poland"))
    watch.close(T, *both)
    watch.close(T + 1, watch.calm("amount"))
    [alert] = watch.close(T + 2, both[0])
    assert {f["feature"] for f in alert.data["features"]} == {"amount", "country"}
    watch.close(T + 3, watch.calm("amount"))
    [alert] = watch.close(T + 4, watch.calm("country"))
    assert len(alert.data["features"]) == 2


def test_one_column_may_take_over_from_another_in_the_same_tick() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    [alert] = watch.close(T + 1, watch.calm("amount"), watch.of("country", seen("country", "Poland")))
    assert alert.data["phase"] == "updated"
    assert [f["feature"] for f in alert.data["features"]] == ["country"]


def test_what_comes_and_goes_within_a_tick_is_not_told_of() -> None:
    watch = Watch()
    assert watch.close(T, watch.of("amount", seen("amount", "much")), watch.calm("amount")) == []
    assert watch.incidents.open == ()


def test_a_column_without_an_alarm_changes_nothing() -> None:
    watch = Watch()
    assert watch.close(T, watch.calm("amount")) == []
    assert watch.incidents.open == ()


def test_an_incident_ends_when_the_baseline_is_replaced() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")), watch.of("country", seen("country", "new")))
    found = watch.end(T + 3, "rebaselined")
    assert short(found) == [(3, "resolved", "data_drift", "info"), (3, "resolved", "data_quality", "info")]
    assert {a.data["resolution"] for a in found} == {"rebaselined"}
    assert watch.end(T + 4, "rebaselined") == []


# ---- what limits severity --------------------------------------------------------------------------------------------


def test_while_the_model_is_calibrating_nothing_is_more_than_info_and_then_it_is_what_it_is() -> None:
    watch = Watch()
    watch.incidents.model_state = "calibrating"
    watch.close(T, watch.of("amount", seen("amount", "much"), onset=None, detector="skew"))
    assert watch.incidents.due() is None
    for tick in range(T + 1, T + 60):
        assert watch.close(tick) == []
    watch.incidents.model_state = "watching"
    [alert] = watch.close(T + 60)
    assert short([alert]) == [(60, "updated", "data_drift", "critical")]


def test_without_the_evidence_of_a_warning_an_incident_stays_info() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much"), confirmed=False))
    assert watch.incidents.due() is None
    assert watch.close(T + 100) == []
    watch.close(T + 101, watch.of("amount", seen("amount", "much"), confirmed=True))
    assert watch.told[-1].data["severity"] == "warning"
    assert watch.incidents.due() == T + 101 + 15, "what is critical is counted from there"


def test_a_warning_takes_the_evidence_and_the_effect_of_one_and_the_same_feature() -> None:
    watch = Watch()
    large = watch.of("amount", seen("amount", "much"), confirmed=False)
    watch.close(T, large, watch.of("country", seen("country", "a few new"), confirmed=True))
    assert watch.close(T + 100) == []
    assert {incident.severity for incident in watch.incidents.open} == {0}


@pytest.mark.parametrize(("share", "severity"), [(0.03, "info"), (0.07, "warning"), (0.2, "critical")])
def test_a_rate_has_the_severity_of_its_psi(share: float, severity: str) -> None:
    reference, live = missing_rates(0.01, share)
    watch = Watch(reference=reference)
    watch.close(T, watch.of("age", live, detector="missing_rate"))
    watch.close(T + 100)
    watch.close(T + 200)
    assert watch.told[-1].data["severity"] == severity
    assert watch.told[-1].data["kind"] == "data_quality"
    effect = watch.told[-1].data["features"][0]["effect"]
    assert (effect["missing_before"], effect["missing_after"]) == (0.01, share)


def missing_rates(*shares: float) -> tuple[Reference, Window]:
    """A baseline and a window of one column whose numbers are the same, but for those that are missing."""
    values = np.random.default_rng(5).permutation(np.linspace(0, 1, 10_000))
    before, after = (np.where(np.arange(10_000) < round(share * 10_000), np.nan, values) for share in shares)
    grid = Grid("shop", "3", (Column("age", Kind.NUMERIC, edges=tuple(np.linspace(0.1, 0.9, 9).tolist())),))
    reference = Reference(Baseline(grid, summary(grid, {"age": before})))
    return reference, window(reference, {"age": after})


# ---- kinds and ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "change", "kind"),
    [
        ("amount", "much", "data_drift"),
        ("amount", "missing", "data_quality"),
        ("amount", "mistyped", "data_quality"),
        ("country", "new", "data_quality"),
        ("country", "Poland", "data_drift"),
        (SCORE, "higher", "prediction_drift"),
        (SCORE, "missing", "prediction_drift"),
    ],
)
def test_the_kind_is_that_of_the_column_and_of_its_change(column: str, change: str, kind: str) -> None:
    watch = Watch()
    [alert] = watch.close(T, watch.of(column, seen(column, change)))
    assert alert.data["kind"] == kind


def test_two_kinds_are_two_incidents() -> None:
    watch = Watch()
    columns = [("amount", "much"), ("country", "new"), (SCORE, "higher")]
    found = watch.close(T, *(watch.of(column, seen(column, change)) for column, change in columns))
    assert [a.data["kind"] for a in found] == ["data_drift", "data_quality", "prediction_drift"]
    assert len({a.incident_id for a in found}) == 3
    assert [len(a.data["features"]) for a in found] == [1, 1, 1]


def test_a_contributor_stays_with_its_incident_though_its_change_becomes_another() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    watch.close(T + 1, watch.of("amount", seen("amount", "missing")))
    assert [incident.kind for incident in watch.incidents.open] == ["data_drift"]


def test_the_same_findings_give_the_same_ids_and_others_other_ones() -> None:
    def start(watch: Watch, tick: int, column: str = "amount", change: str = "much") -> str:
        return watch.close(tick, watch.of(column, seen(column, change)))[0].incident_id

    assert start(Watch(), T) == start(Watch(), T)
    others = [
        start(Watch(), T),
        start(Watch(), T + 1),
        start(Watch(), T, "country", "new"),
        start(Watch(model=("shop", "4")), T),
        start(Watch(model=("shop2", "3")), T),
    ]
    assert len(set(others)) == len(others)
    watch = Watch()
    first = start(watch, T)
    watch.close(T + 1, watch.calm("amount"))
    assert start(watch, T + 2) != first


# ---- what an alert carries -------------------------------------------------------------------------------------------


def test_an_alert_is_of_the_contracts_shape() -> None:
    watch = Watch()
    [alert] = watch.close(T + 4, watch.of("amount", seen("amount", "much"), onset=T))
    data = alert.data
    assert data["incident_id"] == alert.incident_id
    assert (data["model_id"], data["model_version"], data["segment"]) == ("shop", "3", {})
    assert data["baseline_id"] == small_baseline().id
    assert data["event_time"] == rfc3339((T + 5) * MINUTE)
    [feature] = data["features"]
    assert (feature["detector"], feature["calibrated"], feature["evidence_ratio"]) == ("psi", False, 3.1)
    assert feature["onset"] == rfc3339(T * MINUTE)
    assert feature["effect"]["mean_shift_sd"] == pytest.approx(1, abs=0.1)
    assert feature["effect"]["psi"] == pytest.approx(1, abs=0.2)
    assert feature["n_baseline"] == 20_000
    assert feature["n_current"] == 2_000
    assert len(feature["baseline"]["counts"]) == len(feature["current"]["counts"])
    assert len(feature["baseline"]["counts"]) == len(feature["baseline"]["edges"]) + 1
    assert sum(feature["current"]["counts"]) == 2_000
    assert "resolution" not in data


def test_what_was_there_before_monitoring_is_told_of_as_such() -> None:
    watch = Watch()
    [alert] = watch.close(T, watch.of("amount", seen("amount", "much"), onset=None, detector="skew"))
    [feature] = alert.data["features"]
    assert feature["onset"] == "before_monitoring"
    assert feature["description"] == "amount shifted up 0.99 sd (about +11.8)"
    assert alert.data["summary"] == "amount shifted up 0.99 sd (about +11.8) since before monitoring began"
    [alert] = watch.close(T + 9, watch.calm("amount", detector="skew"))
    assert alert.data["summary"] == "amount is close to the baseline again (data drift since before monitoring began)"


def test_what_a_rate_detector_found_is_told_of_as_a_rate_though_the_shape_changed_more() -> None:
    usual = rows(np.random.default_rng(1), 2_000)
    both = CHANGES["missing"](CHANGES["much"](usual["amount"]))
    live = window(small_reference(), usual | {"amount": both})
    watch = Watch()
    [alert] = watch.close(
        T, watch.of("amount", live, detector="missing_rate"), watch.of("amount", live, detector="shape")
    )
    said = {feature["detector"]: feature["description"] for feature in alert.data["features"]}
    assert said["missing_rate"] == "amount is missing in 20 % of events (0 % in the baseline)"
    assert said["shape"].startswith("amount shifted up ")
    assert {feature["feature"] for feature in alert.data["features"]} == {"amount"}
    assert "other feature" not in alert.data["summary"]


def test_numbers_where_there_were_hardly_any_are_counted() -> None:
    watch = Watch()
    usual = rows(np.random.default_rng(1), 2_000)
    live = window(small_reference(), usual | {"amount": some(usual["amount"], 0.04, 900.0)})
    [alert] = watch.close(T, watch.of("amount", live, detector="out_of_range_rate"))
    assert alert.data["features"][0]["effect"]["out_of_range_after"] == pytest.approx(0.04, abs=0.001)
    assert str(alert.data["summary"]).startswith("amount is out of its usual range in 4 % of events (")


def test_rates_stand_beside_the_effect_where_there_are_any() -> None:
    watch = Watch()
    [alert] = watch.close(T, watch.of("amount", seen("amount", "missing")))
    effect = alert.data["features"][0]["effect"]
    assert (effect["missing_before"], effect["missing_after"]) == (0, 0.2)
    assert "type_error_after" not in effect
    assert alert.data["features"][0]["current"]["missing"] == 400


def test_times_are_written_with_milliseconds_only_where_they_have_any() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1_500_000) == "1970-01-01T00:00:01.500Z"
    assert rfc3339(-500_000) == "1969-12-31T23:59:59.500Z"


@pytest.mark.parametrize(("time_us", "text"), [(-(2**61), "0001-01-01T00:00:00Z"), (2**62, "9999-12-31T23:59:59.999Z")])
def test_a_time_beyond_the_calendar_is_written_as_its_end(time_us: int, text: str) -> None:
    """Clocks that wrong do exist, and what they say must not stop the service."""
    assert rfc3339(time_us) == text
    watch = Watch()
    start = time_us // MINUTE
    [alert] = watch.close(start, watch.of("amount", seen("amount", "much"), onset=start))
    assert alert.data["summary"].endswith(f"since {text[:10]} {text[11:16]} UTC")


# ---- categories and people -------------------------------------------------------------------------------------------


def test_an_unknown_category_is_named_from_twenty_events_on() -> None:
    usual = rows(np.random.default_rng(3), 2_000)
    few, many = (some(usual["country"], 0.3, None) for _ in range(2))
    few[:600] = [f"person {i // 19}" for i in range(600)]
    many[:600] = [f"shop {i // 20}" for i in range(600)]
    watch = Watch()
    [alert] = watch.close(T, watch.of("country", window(small_reference(), usual | {"country": few})))
    assert "person" not in json.dumps(alert.data)
    watch = Watch()
    [alert] = watch.close(T, watch.of("country", window(small_reference(), usual | {"country": many})))
    named = alert.data["features"][0]["current"]["unseen_categories"]
    assert set(named.values()) == {20}
    assert 1 <= len(named) <= 10, "as many as a person reads"


def test_a_known_category_is_named_from_twenty_events_on_either_side() -> None:
    country = np.array(["DE"] * 400 + ["FR"] * 19 + ["IT"] * 30, dtype=object)
    grid = Grid("shop", "3", (Column("country", Kind.CATEGORICAL, categories=("DE", "FR", "IT")),))
    reference = Reference(Baseline(grid, summary(grid, {"country": country})))
    watch = Watch(reference=reference)
    few = np.array(["DE"] * 300 + ["FR"] * 19 + ["IT"] * 681, dtype=object)
    [alert] = watch.close(T, watch.of("country", window(reference, {"country": few})))
    assert alert.data["features"][0]["baseline"]["categories"] == ["DE", None, "IT"]
    assert "FR" not in json.dumps(alert.data)


def test_an_alert_stays_below_a_megabyte_however_many_features_drift() -> None:
    """Brokers refuse larger records: an alert that cannot be sent would stop the service."""
    grid = Grid(
        "shop", "3", tuple(Column(f"f{i:04}", Kind.NUMERIC, edges=tuple(map(float, range(9)))) for i in range(2_000))
    )
    before, after = ({name: np.full(1_000, value) for name in grid.names} for value in (0.5, 7.5))
    reference = Reference(Baseline(grid, summary(grid, before)))
    watch = Watch(reference=reference)
    live = window(reference, after)
    [alert] = watch.close(T, *(watch.of(name, live) for name in grid.names))
    assert len(json.dumps(alert.data)) < 900_000
    assert len(alert.data["features"]) == 2_000, "every feature that drifts is named"
    drawn = [feature for feature in alert.data["features"] if "current" in feature]
    assert drawn == alert.data["features"][:MAX_HISTOGRAMS]
    assert alert.data["summary"].endswith("; 1,999 other features with it")


# ---- sentences -------------------------------------------------------------------------------------------------------


def sentence(column: str, change: str) -> str:
    watch = Watch()
    [alert] = watch.close(T, watch.of(column, seen(column, change)))
    text = str(alert.data["summary"])
    assert text.endswith(" since 2025-02-19 21:20 UTC"), text
    return text.removesuffix(" since 2025-02-19 21:20 UTC")


@pytest.mark.parametrize(
    ("column", "change", "expected"),
    [
        ("amount", "much", "amount shifted up 0.99 sd (about +11.8)"),
        ("amount", "down", "amount shifted down 1 sd (about -12.2)"),
        ("amount", "a hundred times", "amount shifted up 330 sd (about +3,940)"),
        (
            "amount",
            "wide",
            "amount changed its distribution (PSI 0.76) with the mean where it was: its spread grew 2 times (sd 12 → 24.2)",  # noqa: E501 — as it is said
        ),
        ("amount", "missing", "amount is missing in 20 % of events (0 % in the baseline)"),
        ("amount", "mistyped", "amount has a value of the wrong type in 40 % of events (0 % in the baseline)"),
        (
            "country",
            "new",
            "country has a category that the baseline does not know in 10 % of events (most often “XX”)",
        ),
        ("country", "Poland", "country has another mix of categories: “PL” went from 10 % to 56 %"),
        (SCORE, "higher", "prediction.score shifted up 1.9 sd (about +0.225)"),
    ],
)
def test_a_sentence_says_what_happened(column: str, change: str, expected: str) -> None:
    assert sentence(column, change) == expected


def test_a_constant_that_changed_is_said_to_have_moved() -> None:
    grid = Grid("shop", "3", (Column("fee", Kind.NUMERIC, edges=(4.0, 6.0), unit_exponent=-9),))
    reference = Reference(Baseline(grid, summary(grid, {"fee": np.full(1_000, 5.0)})))
    watch = Watch(reference=reference)
    live = window(reference, {"fee": np.full(1_000, 7.5)})
    [alert] = watch.close(T, watch.of("fee", live))
    assert alert.data["summary"].startswith("fee moved from 5 to 7.5 (it was constant in the baseline) since ")


@pytest.mark.parametrize(
    ("usual", "beyond", "expected"),
    [
        ([5.0], [1e12], "fee moved from 5 to at least 215,000,000 (it was constant in the baseline)"),
        ([5.0], [-1e12], "fee moved from 5 to at most -215,000,000 (it was constant in the baseline)"),
        ([4.0, 6.0], [1e12], "fee shifted up at least 210,000,000 sd (at least +215,000,000)"),
        ([4.0, 6.0], [-1e12], "fee shifted down at least 210,000,000 sd (at most -215,000,000)"),
        ([4.0, 6.0], [1e12, 1e12, -1e12], "fee changed its distribution"),
        ([4.0, 6.0, 1e12], [1e12], "fee changed its distribution"),
    ],
)
def test_a_mean_of_values_beyond_what_is_summed_is_called_a_bound(
    usual: list[float], beyond: list[float], expected: str
) -> None:
    grid = Grid("shop", "3", (Column("fee", Kind.NUMERIC, edges=(4.5, 5.5, 9.0), unit_exponent=-9),))
    reference = Reference(Baseline(grid, summary(grid, {"fee": np.resize(usual, 1_200)})))
    watch = Watch(reference=reference)
    live = np.r_[np.full(900, 8.0), np.resize(beyond, 100)]
    [alert] = watch.close(T, watch.of("fee", window(reference, {"fee": live})))
    assert str(alert.data["summary"]).startswith(expected)


def test_categories_that_were_rare_are_not_called_unknown_to_the_baseline() -> None:
    grid = Grid("shop", "3", (Column("country", Kind.CATEGORICAL, categories=COUNTRIES),))
    usual = rows(np.random.default_rng(4), 2_000)["country"]
    reference = Reference(Baseline(grid, summary(grid, {"country": some(usual, 0.02, "NZ")})))
    watch = Watch(reference=reference)
    [alert] = watch.close(T, watch.of("country", window(reference, {"country": some(usual, 0.3, "NZ")})))
    assert alert.data["summary"].startswith(
        "country has a rare or new category in 30 % of events (2 % in the baseline; most often “NZ”) since"
    )


def test_most_often_is_said_only_where_all_names_are_known() -> None:
    """Of many unknown names a sample is kept: the most frequent of these need not be the most frequent of all."""
    usual = rows(np.random.default_rng(5), 4_000)
    usual["country"][:2_000] = [f"n{i // 25}" for i in range(2_000)]
    watch = Watch()
    [alert] = watch.close(T, watch.of("country", window(small_reference(), usual)))
    assert "in 50 % of events (among them “n" in alert.data["summary"]


def test_shares_are_not_rounded_to_all_or_nothing() -> None:
    usual = rows(np.random.default_rng(6), 2_000)
    almost = some(usual["amount"], 0.999, None)
    watch = Watch()
    [alert] = watch.close(T, watch.of("amount", window(small_reference(), usual | {"amount": almost})))
    assert alert.data["summary"].startswith("amount is missing in more than 99 % of events (0 % in the baseline)")


@pytest.mark.parametrize(
    ("others", "ending"), [(0, ""), (1, "; 1 other feature with it"), (2, "; 2 other features with it")]
)
def test_a_sentence_counts_who_is_with_it(others: int, ending: str) -> None:
    watch = Watch()
    columns = [("amount", "a hundred times"), ("country", "Poland"), ("age_days", "down")][: 1 + others]
    [alert] = watch.close(T, *(watch.of(column, seen(column, change)) for column, change in columns))
    assert alert.data["summary"].startswith("amount shifted up 330 sd (about +3,940) since 2025-02-19 21:20 UTC")
    assert alert.data["summary"].endswith(f"UTC{ending}")


def test_two_detectors_on_one_column_are_one_feature() -> None:
    watch = Watch()
    live = seen("amount", "much")
    [alert] = watch.close(T, watch.of("amount", live), watch.of("amount", None, detector="river.drift.ADWIN"))
    assert "other feature" not in alert.data["summary"]
    assert len(alert.data["features"]) == 2


def test_since_is_that_of_the_column_that_the_sentence_is_about() -> None:
    watch = Watch()
    watch.close(T, watch.of("country", seen("country", "Poland"), onset=T - 60))
    [alert] = watch.close(T + 10, watch.of("amount", seen("amount", "a hundred times"), onset=T + 8))
    assert alert.data["summary"].startswith("amount shifted up 330 sd (about +3,940) since 2025-02-19 21:28 UTC")


def test_the_end_is_told_of_the_column_that_was_strongest() -> None:
    watch = Watch()
    watch.close(
        T, watch.of("amount", seen("amount", "a hundred times")), watch.of("country", seen("country", "Poland"))
    )
    watch.close(T + 10, watch.of("amount", calm_window()), watch.of("country", seen("country", "Poland")))
    watch.close(T + 11, watch.calm("amount"))
    [alert] = watch.close(T + 20, watch.calm("country"))
    assert alert.data["summary"] == (
        "amount is close to the baseline again (data drift since 2025-02-19 21:20 UTC); 1 other feature with it"
    )
    assert [f["feature"] for f in alert.data["features"]] == ["amount", "country"]


def test_a_column_that_came_back_weaker_is_still_the_one_that_was_strongest() -> None:
    watch = Watch()
    watch.close(
        T, watch.of("amount", seen("amount", "a hundred times")), watch.of("country", seen("country", "Poland"))
    )
    watch.close(T + 1, watch.calm("amount"))
    watch.close(T + 2, watch.of("amount", seen("amount", "slight")))
    watch.close(T + 3, watch.calm("country"))
    [alert] = watch.close(T + 4, watch.calm("amount"))
    assert [f["feature"] for f in alert.data["features"]] == ["amount", "country"]


def test_a_new_baseline_is_said_to_be_the_reason() -> None:
    watch = Watch()
    watch.close(T, watch.of("amount", seen("amount", "much")))
    [alert] = watch.end(T + 1, "rebaselined")
    assert alert.data["summary"] == (
        "amount is compared with a new baseline now (data drift since 2025-02-19 21:20 UTC)"
    )


# ---- River -----------------------------------------------------------------------------------------------------------


def detected(tick: int, stream: str = SCORE, detector: str = "river.drift.ADWIN") -> Corroboration:
    return Corroboration(detector, stream, tick)


def test_a_river_detection_stands_in_the_incident_with_its_stream() -> None:
    watch = Watch()
    watch.incidents.corroborate(detected(T + 2))
    [alert] = watch.close(T + 4, watch.of("amount", seen("amount", "much"), onset=T))
    assert alert.data["corroborating"] == [
        {
            "detector": "river.drift.ADWIN",
            "stream": SCORE,
            "calibrated": False,
            "detections": 1,
            "detected_at": rfc3339((T + 3) * MINUTE),
        }
    ]


def test_many_detections_of_a_stream_are_one_entry() -> None:
    watch = Watch()
    for tick in range(T, T + 10):
        watch.incidents.corroborate(detected(tick))
    watch.incidents.corroborate(detected(T + 5, "amount", "river.drift.KSWIN"))
    [alert] = watch.close(T + 10, watch.of("amount", seen("amount", "much")))
    found = [(c["detector"], c["stream"], c["detections"], c["detected_at"]) for c in alert.data["corroborating"]]
    assert found == [
        ("river.drift.KSWIN", "amount", 1, rfc3339((T + 6) * MINUTE)),
        ("river.drift.ADWIN", SCORE, 10, rfc3339((T + 1) * MINUTE)),
    ]


def test_river_may_have_been_faster_than_the_window_in_which_the_change_began() -> None:
    watch = Watch()
    for tick in (T - 500, T - 3):
        watch.incidents.corroborate(detected(tick))
    [alert] = watch.close(T + 6, watch.of("amount", seen("amount", "much"), onset=T))
    assert [c["detected_at"] for c in alert.data["corroborating"]] == [rfc3339((T - 2) * MINUTE)]


def test_detections_long_before_corroborate_nothing_and_are_not_kept_for_ever() -> None:
    watch = Watch()
    for tick in range(T - 5_000, T - 100):
        watch.incidents.corroborate(detected(tick))
    [alert] = watch.close(T, watch.of("amount", seen("amount", "much")))
    assert alert.data["corroborating"] == []
    assert len(json.dumps(watch.fresh().state())) < len(json.dumps(watch.incidents.state())) < 10_000


def test_a_noisy_stream_does_not_push_the_others_out() -> None:
    watch = Watch()
    watch.incidents.corroborate(detected(T, "amount"))
    for tick in range(T, T + 500):
        watch.incidents.corroborate(detected(tick))
    [alert] = watch.close(T + 500, watch.of("amount", seen("amount", "much")))
    assert {c["stream"] for c in alert.data["corroborating"]} == {"amount", SCORE}


def test_the_reason_of_an_incident_does_not_corroborate_it() -> None:
    watch = Watch(baseline=False)
    watch.incidents.corroborate(detected(T))
    [alert] = watch.close(T, watch.of(SCORE, None, detector="river.drift.ADWIN"))
    assert alert.data["corroborating"] == []


def test_river_alone_opens_and_ends_an_incident_without_a_baseline() -> None:
    watch = Watch(baseline=False)
    [start] = watch.close(T, watch.of(SCORE, None, detector="river.drift.ADWIN"))
    for tick in range(T + 1, T + 60):
        assert watch.close(tick) == [], "an uncalibrated detection stays info"
    [end] = watch.close(T + 60, watch.calm(SCORE, detector="river.drift.ADWIN"))
    assert short([start, end]) == [
        (0, "started", "prediction_drift", "info"),
        (60, "resolved", "prediction_drift", "info"),
    ]
    assert start.data["baseline_id"] is None
    assert start.data["features"][0]["effect"] == {}
    assert start.data["summary"] == "prediction.score changed according to river.drift.ADWIN since 2025-02-19 21:20 UTC"
    assert (
        end.data["summary"]
        == "prediction.score has not changed any further (prediction drift since 2025-02-19 21:20 UTC)"
    )


def test_river_and_a_baselines_detector_on_a_column_are_one_incident() -> None:
    watch = Watch()
    watch.close(T, watch.of(SCORE, None, detector="river.drift.ADWIN"))
    [alert] = watch.close(T + 1, watch.of(SCORE, seen(SCORE, "higher")))
    assert alert.data["phase"] == "updated"
    assert watch.close(T + 2, watch.calm(SCORE, detector="river.drift.ADWIN")) == []
    [alert] = watch.close(T + 3, watch.calm(SCORE))
    assert alert.data["phase"] == "resolved"


# ---- state -----------------------------------------------------------------------------------------------------------


steps = st.lists(
    st.tuples(
        st.integers(1, 70),
        st.lists(
            st.sampled_from(
                [
                    *[("amount", change) for change in ("slight", "moderate", "much", "missing")],
                    *[("country", change) for change in ("new", "Poland")],
                    (SCORE, "higher"),
                    *[(column, None) for column in ("amount", "country", SCORE)],
                    ("river", None),
                ]
            ),
            max_size=3,
        ),
    ),
    max_size=12,
)


Steps = list[tuple[int, list[tuple[str, str | None]]]]


def follow(steps: Steps, cuts: set[int], mutes: Sequence[Mute] = ()) -> tuple[list[Alert], object]:
    watch, tick = Watch(mutes=mutes), T
    for number, (gap, found) in enumerate(steps):
        if number in cuts:
            state = through_msgpack(watch.incidents.state())
            watch.incidents = watch.fresh()
            watch.incidents.restore(state)
        tick += gap
        findings = []
        for column, change in found:
            if column == "river":
                watch.incidents.corroborate(detected(tick))
            elif change is None:
                findings.append(watch.calm(column))
            else:
                findings.append(watch.of(column, seen(column, change), onset=tick - 3))
        watch.close(tick, *findings)
    return watch.told, through_msgpack(watch.incidents.state())


@settings(deadline=None, max_examples=40)
@given(steps, st.sets(st.integers(0, 12)))
def test_going_on_from_a_snapshot_gives_the_same_alerts(steps: Steps, cuts: set[int]) -> None:
    alerts, state = follow(steps, set())
    again, state_again = follow(steps, cuts)
    assert again == alerts
    assert state_again == state


@settings(deadline=None, max_examples=40)
@given(steps)
def test_every_incident_lives_by_the_rules(steps: Steps) -> None:
    alerts, _ = follow(steps, set())
    for incident in {alert.incident_id for alert in alerts}:
        mine = [alert for alert in alerts if alert.incident_id == incident]
        phases = [alert.data["phase"] for alert in mine]
        assert phases[0] == "started"
        assert set(phases[1:-1]) <= {"updated"}
        assert [alert.sequence for alert in mine] == list(range(len(mine)))
        assert len({alert.data["kind"] for alert in mine}) == 1
        ranks = [["info", "warning", "critical"].index(alert.data["severity"]) for alert in mine]
        assert ranks == sorted(ranks)
        assert all(alert.data["features"] for alert in mine)
        times = [datetime.fromisoformat(alert.data["event_time"]) for alert in mine]
        assert times == sorted(times)


@pytest.mark.parametrize("state", [None, 3, [], {}, [[]], [[], [3]], [[{"incident_id": "x"}], []], [[], [], []]])
def test_damaged_state_is_refused(state: object) -> None:
    with pytest.raises(StateError):
        Watch().incidents.restore(state)


def test_a_contribution_of_a_column_that_the_grid_does_not_have_is_refused() -> None:
    watch = Watch()
    watch.close(T, watch.of(SCORE, seen(SCORE, "higher")))
    state = through_msgpack(watch.incidents.state())
    with pytest.raises(StateError):
        Incidents(watch.subject, watch.ticks, columns=1).restore(state)


def test_rows_of_the_small_model_are_what_these_tests_take_them_for() -> None:
    usual: Rows = rows(np.random.default_rng(1), 10)
    assert set(usual) == set(small_reference().grid.names)
