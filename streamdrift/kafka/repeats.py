"""Telling once what happens over and over."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

INTERVAL = 60.0
"""Seconds for which what was told is not told again."""


class Repeats:
    """Decides which of many alike events are worth a line: the first, and later one a minute with the count.

    Any thread may ask. Kinds are kept for good, so there must be a bounded number of them: error codes, not messages.
    """

    def __init__(self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = Lock()
        self._due: dict[str, float] = {}
        self._waiting: dict[str, int] = {}

    def told(self, kind: str) -> int:
        """How many events a line should stand for: this one and those since the last line; 0 for no line now."""
        now = self._clock()
        with self._lock:
            count = self._waiting.get(kind, 0) + 1
            if now < self._due.get(kind, now):
                self._waiting[kind] = count
                return 0
            self._due[kind] = now + self._interval
            self._waiting[kind] = 0
            return count
