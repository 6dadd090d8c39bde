"""The script's promises: every incident that the features can show is clearly visible, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from streamdrift.detectors.effects import corrected_psi, psi_terms
from streamdrift.generator import ScriptedIncident, Traffic, fixed_rollout, fixed_script, training_table
from streamdrift.generator.pace import HOUR_US, Pace, to_us
from streamdrift.generator.script import EVENTS_PER_HOUR, SPAN

START = datetime(2026, 3, 2, tzinfo=UTC)
RATE = EVENTS_PER_HOUR / 3600
ROLLOUT = fixed_rollout(START)
SCRIPT = {incident.id: incident for incident in fixed_script(START)}
VISIBLE = [incident for incident in SCRIPT.values() if incident.kind != "concept_drift"]
SEEDS = range(5)
WINDOW = 1000

CONTROLS = {"transaction_id", "sequence", "received_at", "note"}


def columns_of(traffic: Traffic, first: datetime, until: datetime) -> dict[str, NDArray[Any]]:
    """The published events in [first, until) as columns by dotted name, their times in ``time_us``."""
    columns: dict[str, list[Any]] = {}
    for message in traffic.messages(until=until):
        if message.time_us < to_us(first):
            continue
        columns.setdefault("time_us", []).append(message.time_us)
        event = msgspec.json.decode(message.value)
        for group, value in {**event["features"], "prediction": event["prediction"]}.items():
            row = (
                {f"{group}.{name}": inner for name, inner in value.items()}
                if isinstance(value, dict)
                else {group: value}
            )
            for name, inner in row.items():
                columns.setdefault(name, []).append(inner)
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


@cache
def live(seed: int) -> Mapping[str, NDArray[Any]]:
    """The whole script."""
    return columns_of(Traffic(seed, START, RATE, tuple(SCRIPT.values()), labels=False), START, START + SPAN)


@cache
def trained(seed: int) -> Mapping[str, NDArray[Any]]:
    return training_table(seed)


def slots(training: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """The slot of each value, and how many there are: ten quantile bins or the categories, unseen, missing."""
    if training.dtype.kind != "O":
        edges = np.unique(np.nanquantile(training, np.arange(1, 10) / 10))
        numbers = np.array([np.nan if v is None else v for v in values.tolist()])
        return np.where(np.isnan(numbers), len(edges) + 2, np.searchsorted(edges, numbers)), len(edges) + 3
    number = {name: i for i, name in enumerate(sorted(set(training.tolist()) - {None}))}
    unseen = len(number)
    return np.array([unseen + 1 if v is None else number.get(v, unseen) for v in values.tolist()]), unseen + 2


@dataclass(frozen=True)
class Window:
    """1,000 consecutive events of one column."""

    first_us: int
    last_us: int
    psi: float
    quality: float
    """Share of the PSI that unseen and missing values give."""


@cache
def windows(seed: int, name: str) -> list[Window]:
    """All windows of a column over the script."""
    training, values, times = trained(seed)[name], live(seed)[name], live(seed)["time_us"]
    (baseline, size), (current, _) = slots(training, training), slots(training, values)
    before = np.bincount(baseline, minlength=size)
    judged = []
    for start in range(0, len(values) - WINDOW + 1, WINDOW):
        after = np.bincount(current[start : start + WINDOW], minlength=size)
        terms = psi_terms(before, after)
        judged.append(
            Window(
                times[start],
                times[start + WINDOW - 1],
                float(corrected_psi(before, after)),
                terms[-2:].sum() / max(terms.sum(), 1e-12),
            )
        )
    return judged


def test_incidents_do_not_overlap_but_for_one_pair_of_one_kind() -> None:
    ordered = sorted(VISIBLE, key=lambda incident: incident.onset)
    overlapping = [(a, b) for a, b in pairwise(ordered) if b.onset < a.end]
    assert [(a.id, b.id) for a, b in overlapping] == [("missing_device_age", "new_device_os")]
    assert {a.kind == b.kind for a, b in overlapping} == {True}


def test_incidents_leave_time_to_recover_between_them() -> None:
    pace = Pace(to_us(START), RATE)
    ordered = sorted(VISIBLE, key=lambda incident: incident.onset)
    for a, b in pairwise(ordered):
        if b.onset >= a.end:
            assert pace.position(to_us(b.onset)) - pace.position(to_us(a.end)) > 6 * WINDOW


def test_deadlines_leave_time_for_an_alarm_and_lie_inside_the_script() -> None:
    pace = Pace(to_us(START), RATE)
    for incident in SCRIPT.values():
        assert START < incident.onset < incident.deadline <= incident.end <= START + SPAN
        events = pace.position(to_us(incident.deadline)) - pace.position(to_us(incident.onset))
        assert 5 * WINDOW <= events <= 10 * WINDOW + 1


def test_the_script_has_what_the_demo_promises() -> None:
    assert {incident.kind for incident in VISIBLE} == {"data_drift", "data_quality", "prediction_drift"}
    assert SCRIPT["unit_bug"].segment == {"region": "eu"}
    assert SCRIPT["fraud_moves"].kind == "concept_drift"


def test_the_region_of_the_unit_bug_has_a_quarter_of_the_traffic() -> None:
    messages = Traffic(1, START, RATE, labels=False).messages(count=10_000)
    regions = [msgspec.json.decode(message.value)["segments"]["region"] for message in messages]
    assert regions.count("eu") > 2500


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("incident", VISIBLE, ids=lambda incident: incident.id)
def test_an_incident_is_a_large_change_in_every_window(incident: ScriptedIncident, seed: int) -> None:
    # A shift over hours needs its time to grow.
    first_us = to_us(incident.onset) + (3 * HOUR_US if incident.id == "slow_sessions" else 0)
    seen = [
        window
        for window in windows(seed, incident.feature)
        if window.first_us >= first_us and window.last_us < to_us(incident.deadline)
    ]
    assert len(seen) >= 4
    assert min(window.psi for window in seen) > 0.25
    assert all((window.quality > 0.5) == (incident.kind == "data_quality") for window in seen)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_the_script_does_not_explain_changes_even_moderately(seed: int) -> None:
    moved = [
        (name, window)
        for name in trained(seed).keys() - CONTROLS
        for window in windows(seed, name)
        if window.psi > 0.1
        and not any(
            name in {incident.feature, *incident.explains}
            and window.last_us >= to_us(incident.onset)
            and window.first_us < to_us(incident.end)
            for incident in SCRIPT.values()
        )
    ]
    assert len(moved) <= 1, "more than one by chance"


def outcomes(script: tuple[ScriptedIncident, ...]) -> dict[bytes, bool]:
    traffic = Traffic(2, START, RATE, script)
    return {
        label.key: msgspec.json.decode(label.value)["label"] == "fraud"
        for chunk in traffic.chunks(until=START + SPAN)
        for label in chunk.labels
    }


def test_the_concept_change_moves_outcomes_and_nothing_else() -> None:
    change = (SCRIPT["fraud_moves"],)
    before, after = Traffic(2, START, RATE, labels=False), Traffic(2, START, RATE, change, labels=False)
    assert list(before.messages(until=START + SPAN)) == list(after.messages(until=START + SPAN))
    quiet, changed = outcomes(()), outcomes(change)
    assert quiet.keys() == changed.keys()
    assert sum(quiet[key] != changed[key] for key in quiet) > 200


def test_the_score_incident_moves_no_feature() -> None:
    shift = SCRIPT["miscalibrated_score"]
    first, until = shift.onset, shift.onset + timedelta(hours=1)
    quiet = columns_of(Traffic(1, START, RATE, labels=False), first, until)
    shifted = columns_of(Traffic(1, START, RATE, (shift,), labels=False), first, until)
    assert {name for name in quiet if (quiet[name] != shifted[name]).any()} == {"prediction.score", "prediction.label"}
