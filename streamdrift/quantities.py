"""Durations and rates as people write them: ``10s``, ``7d``, ``1 per week``.

A unit is always written out: a bare ``10`` would be seconds to one reader and minutes to the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

_MICROSECONDS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PERIODS: Final = {
    "second": "1s",
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "7d",
    "month": "30d",
    "year": "365d",
}
_NUMBER: Final = r"[0-9]{1,19}(?:\.[0-9]{1,19})?"

DURATION_PATTERN: Final = rf"^{_NUMBER} ?({'|'.join(_MICROSECONDS)})$"
"""What a duration looks like, as a JSON Schema can say it."""
RATE_PATTERN: Final = rf"^{_NUMBER} per ({'|'.join(_PERIODS)})$"
"""What a rate looks like, likewise."""

LONGEST_US: Final = 36_500 * _MICROSECONDS["d"]
"""A hundred years. More cannot be meant, and would overflow where times are added up."""

_DURATION_EXAMPLE: Final = "expected a number with a unit (ms, s, m, h, d or w), for example 10s, 5m or 7d"
_RATE_EXAMPLE: Final = "expected a number per second, minute, hour, day, week, month or year, for example 1 per week"


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time. Integer microseconds, the unit of event time."""

    microseconds: int

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read ``10s``, ``250ms``, ``1.5h``. Raises ``ValueError`` with an example of what is expected.

        >>> Duration.parse("250ms")
        Duration(microseconds=250000)
        """
        match = re.fullmatch(rf"({_NUMBER}) ?([A-Za-zµ]*)", text.strip(), re.ASCII | re.IGNORECASE)
        if match is None:
            raise ValueError(_DURATION_EXAMPLE)
        number, unit = match.groups()
        if unit not in _MICROSECONDS:
            raise ValueError(f"{f'{unit} is no unit' if unit else 'the unit is missing'}; {_DURATION_EXAMPLE}")
        exact = Fraction(number) * _MICROSECONDS[unit]
        if exact.denominator != 1:
            raise ValueError("finer than a microsecond")
        if exact > LONGEST_US:
            raise ValueError("longer than a hundred years")
        return cls(int(exact))

    @property
    def seconds(self) -> float:
        """The same in seconds, the unit of clocks and time-outs."""
        return self.microseconds / _MICROSECONDS["s"]

    def __str__(self) -> str:
        """The shortest way to write it that ``parse`` reads back.

        >>> str(Duration.parse("3600s"))
        '1h'
        """
        if not self.microseconds:
            return "0s"
        unit = next(unit for unit in ("d", "h", "m", "s", "ms", "us") if self.microseconds % _MICROSECONDS[unit] == 0)
        return f"{self.microseconds // _MICROSECONDS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a period, on average. A month is 30 days, a year 365."""

    count: Decimal
    period: str
    """One of ``second``, ``minute``, ``hour``, ``day``, ``week``, ``month``, ``year``."""

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``1 per week``, ``0.5 per month``. Raises ``ValueError`` with an example of what is expected.

        >>> Rate.parse("10 per day").per_second * 86_400
        10.0
        """
        match = re.fullmatch(rf"({_NUMBER}) per ([a-z]+)", text.strip())
        if match is None:
            raise ValueError(_RATE_EXAMPLE)
        count, period = match.groups()
        if period not in _PERIODS:
            raise ValueError(f"{period} is no period; {_RATE_EXAMPLE}")
        if not Decimal(count):
            raise ValueError(f"the number must be more than 0; {_RATE_EXAMPLE}")
        return cls(Decimal(count), period)

    @property
    def per_second(self) -> float:
        """Expected number a second."""
        return float(self.count) / Duration.parse(_PERIODS[self.period]).seconds

    def __str__(self) -> str:
        """As it was written.

        >>> str(Rate.parse("1 per week"))
        '1 per week'
        """
        return f"{self.count:f} per {self.period}"
