"""Durations and rates: what people write is read exactly, and what cannot be meant is refused with an example."""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.quantities import DURATION_PATTERN, LONGEST_US, RATE_PATTERN, Duration, Rate

UNITS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": 86_400 * 10**6}


@given(st.integers(0, LONGEST_US))
def test_a_duration_is_read_back_as_it_was_written(microseconds: int) -> None:
    written = str(Duration(microseconds))
    assert Duration.parse(written) == Duration(microseconds)
    assert re.fullmatch(DURATION_PATTERN, written)


@given(st.integers(0, 1_000), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_its_number_of_units(number: int, unit: str) -> None:
    assert Duration.parse(f"{number}{unit}").microseconds == number * UNITS[unit]
    assert Duration.parse(f"{number} {unit}").seconds == pytest.approx(number * UNITS[unit] / 1e6)


@given(st.integers(0, 10**6), st.integers(0, 999_999))
def test_decimals_are_exact(seconds: int, microseconds: int) -> None:
    assert Duration.parse(f"{seconds}.{microseconds:06}s").microseconds == seconds * 10**6 + microseconds


@given(st.text(max_size=20))
def test_any_text_is_refused_or_looks_as_the_schema_says(text: str) -> None:
    for parse, pattern in ((Duration.parse, DURATION_PATTERN), (Rate.parse, RATE_PATTERN)):
        with suppress(ValueError):
            parse(text)
            assert re.fullmatch(pattern, text.strip())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10", "the unit is missing; expected a number with a unit (ms, s, m, h, d or w), for example 10s, 5m or 7d"),
        ("10 sec", "sec is no unit; expected a number with a unit"),
        ("5min", "min is no unit"),
        ("1M", "M is no unit"),
        ("", "expected a number with a unit"),
        ("soon", "expected a number with a unit"),
        ("-5s", "expected a number with a unit"),
        ("1h30m", "expected a number with a unit"),
        ("٣s", "expected a number with a unit"),
        ("0.0000001s", "finer than a microsecond"),
        ("100000d", "longer than a hundred years"),
    ],
)
def test_an_impossible_duration_is_refused_with_an_example(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Duration.parse(text)


@given(st.integers(1, 10**6), st.sampled_from(["hour", "day", "week", "month", "year"]))
def test_a_rate_is_read_back_as_it_was_written(count: int, period: str) -> None:
    rate = Rate.parse(f"{count} per {period}")
    assert rate == Rate(Decimal(count), period)
    assert Rate.parse(str(rate)) == rate


def test_a_rate_counts_a_second() -> None:
    assert Rate.parse("1 per week").per_second == pytest.approx(1 / 604_800)
    assert Rate.parse("0.5 per month").per_second == pytest.approx(0.5 / (30 * 86_400))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 week", "expected a number per second, minute, hour, day, week, month or year, for example 1 per week"),
        ("once a week", "for example 1 per week"),
        ("1 per fortnight", "fortnight is no period"),
        ("0 per day", "must be more than 0"),
        ("1/week", "for example 1 per week"),
    ],
)
def test_an_impossible_rate_is_refused_with_an_example(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Rate.parse(text)
