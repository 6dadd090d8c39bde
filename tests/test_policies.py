"""Conditions are read as they are written, and hold when they say so."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from streamdrift.incidents import Severity
from streamdrift.policies import (
    Condition,
    Drifts,
    Facts,
    FreshLabels,
    OpenIncident,
    Policy,
    Reason,
    Scheduled,
    Worse,
    parse,
)
from streamdrift.schedules import Schedule

HOUR = 3_600_000_000
QUIET = Facts(0, HOUR, {}, (), 0)
DAILY = Scheduled(Schedule("0 3 * * *", ZoneInfo("UTC")))


def incident(kind: str, *since_us: int, name: str = "i") -> OpenIncident:
    return OpenIncident(name, kind, Severity(len(since_us) - 1), since_us)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("accuracy below benchmark", Worse("accuracy", 3)),
        (" rmse above benchmark ", Worse("rmse", 3)),
        ("bias worse than benchmark", Worse("bias", 3)),
        ("drift warning", Drifts(Severity.WARNING)),
        ("drift critical for 1.5h", Drifts(Severity.CRITICAL, 3 * HOUR // 2)),
        ("data_quality info for 10m", Drifts(Severity.INFO, HOUR // 6, "data_quality")),
        ("1 fresh labels", FreshLabels(1)),
    ],
)
def test_what_is_written_becomes_a_condition(text: str, condition: Condition) -> None:
    assert parse(text, windows=3) == condition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy below benchmark", "acuracy is no metric"),
        ("accuracy above benchmark", "good news; expected accuracy below benchmark"),
        ("rmse below benchmark", "good news; expected rmse above benchmark"),
        ("drift terrible", "expected a condition such as"),
        ("drift critical for a while", "expected a number with a unit"),
        ("0 fresh labels", "expected a condition such as"),
        ("", "expected a condition such as"),
    ],
)
def test_what_means_nothing_says_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_nothing_holds_while_nothing_happens() -> None:
    for condition in (Worse("accuracy"), Drifts(Severity.INFO), FreshLabels(1), DAILY):
        assert condition.reason(QUIET) is None


def test_a_metric_is_worse_for_as_many_windows_as_are_asked_for() -> None:
    facts = replace(QUIET, rows_below={"accuracy": 2})
    assert Worse("accuracy", 3).reason(facts) is None
    assert Worse("recall", 1).reason(facts) is None
    assert Worse("accuracy", 2).reason(facts) == Reason(
        "accuracy is worse than its benchmark by more than the tolerance in 2 windows in a row"
    )


def test_drift_lasts_from_when_it_reached_the_severity() -> None:
    facts = replace(QUIET, incidents=(incident("data_drift", 0, 10, 50),))
    waiting = Drifts(Severity.WARNING, HOUR)
    assert waiting.reason(replace(facts, now_us=HOUR + 9)) is None
    assert waiting.due(facts) == HOUR + 10
    found = waiting.reason(replace(facts, now_us=HOUR + 10))
    assert found == Reason("data_drift is warning or more for 1h", ("i",))
    assert Drifts(Severity.WARNING, HOUR, "prediction_drift").reason(replace(facts, now_us=9 * HOUR)) is None
    assert Drifts(Severity.CRITICAL).reason(replace(facts, incidents=(incident("data_drift", 0, 10),))) is None


def test_a_scheduled_time_holds_once_when_it_has_come() -> None:
    assert DAILY.due(QUIET) == 3 * HOUR
    assert DAILY.reason(Facts(2 * HOUR, 3 * HOUR - 1, {}, (), 0)) is None
    assert DAILY.reason(Facts(2 * HOUR, 3 * HOUR, {}, (), 0)) == Reason("it is time by schedule 0 3 * * * (UTC)")
    assert DAILY.reason(Facts(3 * HOUR, 26 * HOUR, {}, (), 0)) is None


def test_any_condition_of_a_policy_is_enough_and_all_that_hold_have_a_say() -> None:
    policy = Policy("p", (FreshLabels(10), Drifts(Severity.INFO), DAILY), 0)
    assert policy.reason(QUIET) is None
    facts = replace(QUIET, fresh_labels=12, incidents=(incident("a", 1, name="y"), incident("b", 1, name="x")))
    assert policy.reason(facts) == Reason("12 labels that no training has seen; a, b is info or more", ("x", "y"))
    assert policy.due(facts) == 3 * HOUR
