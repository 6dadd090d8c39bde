"""Schedules follow the clock on the wall, and skip or repeat nothing when it is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.schedules import Schedule

BERLIN, SYDNEY, UTC_ZONE = (ZoneInfo(name) for name in ("Europe/Berlin", "Australia/Sydney", "UTC"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)


def us(time: datetime) -> int:
    return (time - EPOCH) // US


def times(schedule: Schedule, start: datetime, n: int) -> list[str]:
    """The next ``n`` times, as the clock on the wall shows them."""
    found, at = [], us(start)
    for _ in range(n):
        following = schedule.next_after(at)
        assert following is not None
        assert following > at
        at = following
        found.append((EPOCH + at * US).astimezone(schedule.zone).isoformat())
    return found


def test_a_job_in_the_hour_that_is_left_out_runs_at_its_end() -> None:
    assert times(Schedule("30 2 * * *", BERLIN), datetime(2026, 3, 28, 12, tzinfo=BERLIN), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_job_in_the_hour_that_comes_twice_runs_once() -> None:
    assert times(Schedule("30 2 * * *", BERLIN), datetime(2026, 10, 24, 12, tzinfo=BERLIN), 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_asked_in_the_second_of_two_hours_it_does_not_go_back_to_the_first() -> None:
    second = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=BERLIN)
    assert times(Schedule("30 2 * * *", BERLIN), second, 1) == ["2026-10-26T02:30:00+01:00"]


def test_a_job_of_every_hour_follows_real_time() -> None:
    assert times(Schedule("0 * * * *", BERLIN), datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN), 3) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]
    assert times(Schedule("0 * * * *", BERLIN), datetime(2026, 3, 29, 1, 30, tzinfo=BERLIN), 1) == [
        "2026-03-29T03:00:00+02:00"
    ]


def test_sunday_at_three_is_at_three_all_the_year() -> None:
    weekly = times(Schedule("0 3 * * 0", SYDNEY), datetime(2026, 1, 1, tzinfo=SYDNEY), 52)
    assert {time[11:16] for time in weekly} == {"03:00"}
    assert {time[-6:] for time in weekly} == {"+10:00", "+11:00"}


@settings(max_examples=60, deadline=None)
@given(
    expression=st.sampled_from(["30 2 * * *", "*/17 * * * *", "5 1-4 * * *", "0 3 * * 0", "15 */3 1,15 * *"]),
    zone=st.sampled_from([BERLIN, SYDNEY, UTC_ZONE]),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 — bounds have no zone
    steps=st.lists(st.integers(1, 10**9), min_size=1, max_size=5),
)
def test_where_one_asks_from_does_not_change_what_comes(
    expression: str, zone: ZoneInfo, start: datetime, steps: list[int]
) -> None:
    schedule = Schedule(expression, zone)
    following = schedule.next_after(us(start))
    assert following is not None
    assert following > us(start)
    for step in steps:
        between = us(start) + step % (following - us(start))
        assert schedule.next_after(between) == following


@pytest.mark.parametrize(
    ("expression", "message"),
    [("0 3 * *", "5 fields"), ("0 0 3 * * *", "5 fields"), ("61 3 * * *", "bad minute"), ("", "5 fields")],
)
def test_an_expression_that_is_none_says_what_is_wrong(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(expression, UTC_ZONE)


def test_a_leap_day_is_waited_for() -> None:
    schedule = Schedule("0 0 29 2 *", UTC_ZONE)
    assert schedule.next_after(us(datetime(2026, 1, 1, tzinfo=UTC))) == us(datetime(2028, 2, 29, tzinfo=UTC))


@pytest.mark.parametrize("time_us", [1 << 62, us(datetime(9999, 12, 31, 23, 59, tzinfo=UTC))])
def test_nothing_comes_after_the_end_of_the_calendar(time_us: int) -> None:
    assert Schedule("0 3 * * *", BERLIN).next_after(time_us) is None
