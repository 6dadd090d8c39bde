"""Which event happens when: more of them by day than by night, and always the same number a day.

Times are integers, microseconds since the epoch. An event's *position* is its number, counted from 0 at the
start; positions between two events are fractions::

    events an hour     ▂▁▁▂▃▅▆▇█▇▆▅▃▂▁▁▂▃▅▆▇█▇▆▅▃
                      |start    day 1   |   day 2
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3600 * SECOND_US
DAY_US: Final = 24 * HOUR_US
_MILLISECOND_US: Final = 1_000

VOLUME_SWING: Final = 0.3
"""The busiest hour has this share more events than the mean, the quietest this share fewer."""
BUSIEST_HOUR: Final = 16.0
"""Hour of the day, UTC."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch. Raises ``ValueError`` for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} names no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """The same moment as a UTC datetime."""
    return _EPOCH + timedelta(microseconds=time_us)


def latest_midnight(now: datetime, span: timedelta) -> datetime:
    """The last midnight (UTC) from which ``span`` fits in before ``now``."""
    start_us = to_us(now - span)
    return from_us(start_us - start_us % DAY_US)


def daily_wave(times_us: NDArray[np.int64], peak_hour: float) -> NDArray[np.float64]:
    """A cosine with a period of one day: 1 at ``peak_hour``, -1 twelve hours later. Shape (n,)."""
    hours = (times_us % DAY_US).astype(np.float64) / HOUR_US
    wave: NDArray[np.float64] = np.cos((hours - peak_hour) * (2 * np.pi / 24))
    return wave


def _events_of_day(time_of_day_us: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a day's events before a time of day: the integral of 1 + swing * cos."""
    turn, peak = time_of_day_us / DAY_US * 2 * np.pi, BUSIEST_HOUR / 24 * 2 * np.pi
    events: NDArray[np.float64] = turn + VOLUME_SWING * (np.sin(turn - peak) + np.sin(peak))
    return events / (2 * np.pi)


_TIMES_OF_DAY: Final = np.linspace(0, DAY_US, 24 * 60 + 1)
_SHARES: Final = _events_of_day(_TIMES_OF_DAY)


@dataclass(frozen=True, slots=True)
class Pace:
    """Maps positions to times and back. ``start_us`` is a midnight for the hours of the day to be true."""

    start_us: int
    events_per_second: float

    def __post_init__(self) -> None:
        if not self.events_per_second > 0:
            raise ValueError(f"events_per_second is {self.events_per_second}, must be above 0")

    @property
    def events_per_day(self) -> float:
        return self.events_per_second * DAY_US / SECOND_US

    def times(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Times of positions, whole milliseconds, ascending where positions ascend. Shape (n,)."""
        days, shares = np.divmod(positions / self.events_per_day, 1.0)
        elapsed = days * DAY_US + np.interp(shares, _SHARES, _TIMES_OF_DAY)
        milliseconds: NDArray[np.int64] = (elapsed // _MILLISECOND_US).astype(np.int64)
        return self.start_us + milliseconds * _MILLISECOND_US

    def position(self, time_us: int) -> float:
        """Number of events before a time."""
        days, time_of_day = divmod(time_us - self.start_us, DAY_US)
        return float((days + np.interp(time_of_day, _TIMES_OF_DAY, _SHARES)) * self.events_per_day)

    def after(self, time_us: int, events: float) -> int:
        """The time by which so many more events have happened."""
        return int(self.times(np.array([self.position(time_us) + events]))[0])
