"""What a monitor remembers of its incidents, and what becomes of them where no events come any more."""

from __future__ import annotations

import pytest

from streamdrift.incident_history import LATELY_US, MAX_COUNTED, IncidentHistory
from streamdrift.incidents import Alert, Phase
from streamdrift.monitor import NO_DATA, REBASELINED, Monitor
from tests.support.windows import MODEL, small_baseline
from tests.test_monitor import MINUTE, T, config, events, monitor, restored

WEEK = 7 * 24 * 60
"""Ticks of a minute: how far detectors look back."""


def drifting(until: int = T + 30) -> tuple[Monitor, list[Alert]]:
    """A monitor with an open incident, and what it told."""
    subject, told = monitor(), list[Alert]()
    for tick in range(T, until):
        told += subject.close(tick, events("drift", tick))
    assert [alert.phase for alert in told][:1] == [Phase.STARTED]
    assert subject.incidents
    return subject, told


# ---- how many there were ---------------------------------------------------------------------------------------------


def test_incidents_of_the_last_thirty_days_are_counted_beside_what_chance_gives() -> None:
    subject, told = drifting()
    lately = subject.status().lately
    assert lately is not None
    assert lately.incidents == sum(alert.phase is Phase.STARTED for alert in told)
    assert lately.span_us == 30 * MINUTE
    assert lately.expected == pytest.approx(30 / (30 * 24 * 60)), "one a month"


def test_a_restart_and_a_new_baseline_forget_none_of_them() -> None:
    subject, _ = drifting()
    again = restored(subject.snapshot())
    assert again.status().lately == subject.status().lately
    alerts = again.retire(REBASELINED)
    assert {alert.data["resolution"] for alert in alerts} == {REBASELINED}
    successor = Monitor(config(), *MODEL, small_baseline())
    successor.inherit(again)
    successor.close(T + 31, events("quiet"))
    lately, resolved = successor.status().lately, [i.phase for i in successor.status().incidents]
    assert lately is not None
    assert lately.incidents == len(alerts)
    assert lately.span_us == 32 * MINUTE
    assert resolved == ["resolved"] * len(alerts)


def test_what_started_earlier_is_counted_no_more_and_there_is_a_bound() -> None:
    subject, [first, *_] = drifting()
    history = IncidentHistory(subject._ticks)
    history.begin(first.tick)
    for _ in range(2 * MAX_COUNTED):
        history.remember([first])
    days = LATELY_US // MINUTE
    assert history.lately(first.tick) == (MAX_COUNTED, MINUTE)
    assert history.lately(first.tick + days - 1) == (MAX_COUNTED, LATELY_US)
    assert history.lately(first.tick + days) == (0, LATELY_US)
    again = IncidentHistory(subject._ticks)
    again.restore(history.state())
    assert again.lately(first.tick) == history.lately(first.tick)


# ---- no more events --------------------------------------------------------------------------------------------------


def test_an_incident_without_events_for_as_long_as_detectors_look_back_ends_with_that_reason() -> None:
    subject, _ = drifting()
    told = []
    while (due := subject.due()) is not None:
        told += subject.close(due, None)
    ends = [alert for alert in told if alert.phase is Phase.RESOLVED]
    assert ends
    assert {alert.tick for alert in ends} == {T + 29 + WEEK}
    assert {alert.data["resolution"] for alert in ends} == {NO_DATA}
    assert "has had no events for so long that nothing can be said of it" in ends[0].data["summary"]
    assert not subject.incidents


def test_where_the_stream_has_ended_silence_means_nothing() -> None:
    subject, _ = drifting()
    subject.stream_ended = True
    while (due := subject.due()) is not None:
        assert all(alert.phase is Phase.UPDATED for alert in subject.close(due, None))
    assert subject.incidents


def test_what_still_drifts_when_events_come_again_is_another_incident() -> None:
    subject, told = drifting()
    while (due := subject.due()) is not None:
        subject.close(due, None)
    subject = restored(subject.snapshot())
    again = [alert for tick in range(T + 2 * WEEK, T + 2 * WEEK + 30) for alert in subject.close(tick, events("drift"))]
    assert again[0].phase is Phase.STARTED
    assert again[0].incident_id not in {alert.incident_id for alert in told}


# ---- effects ---------------------------------------------------------------------------------------------------------


def test_what_is_told_of_a_lasting_incident_is_how_it_is_by_then() -> None:
    _, told = drifting(T + 100)
    [start] = [alert for alert in told if alert.phase is Phase.STARTED]
    later = [alert for alert in told if alert.phase is Phase.UPDATED]
    assert later
    counts = [feature["n_current"] for alert in (start, *later) for feature in alert.data["features"][:1]]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
