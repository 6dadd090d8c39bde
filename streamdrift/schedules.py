"""Schedules: cron expressions in a time zone, as Debian's cron runs them.

A job at fixed hours runs once a day also where the clock is changed: at the end of the hour that is left out, and in
the first of two hours of the same name. A job with a star in its hours or minutes follows real time::

    30 2 * * *   Europe/Berlin, 29 March 2026: 03:00 summer time     25 October 2026: 02:30 summer time
    30 * * * *   every real hour on both days

``cronsim`` does it: made for a service that watches cron jobs, kept up, typed, and without dependencies of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule:
    """One cron expression of five fields: minute, hour, day of month, month, day of week."""

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        """Raises ``ValueError`` saying what is wrong with the expression."""
        if len(expression.split()) != _FIELDS:
            raise ValueError(f"{expression!r} has not {_FIELDS} fields: minute, hour, day of month, month, day of week")
        try:
            CronSim(expression, _EPOCH)
        except CronSimError as error:
            raise ValueError(f"{expression!r}: {str(error)[:1].lower()}{str(error)[1:]}") from None
        self.expression = expression
        self.zone = zone

    def next_after(self, time_us: int) -> int | None:
        """The first time of the schedule after ``time_us``, in microseconds since the epoch.

        None if there is none within fifty years, or before the calendar ends.

        >>> daily = Schedule("0 3 * * *", ZoneInfo("Europe/Berlin"))
        >>> daily.next_after(0)
        7200000000
        """
        try:
            start = _EPOCH + time_us * timedelta.resolution
            # In the second of two hours of the same name, a job of the first one comes up again.
            later = (time for time in CronSim(self.expression, start.astimezone(self.zone)) if time > start)
            following = next(later, None)
        except OverflowError:
            return None
        return None if following is None else (following - _EPOCH) // timedelta.resolution
