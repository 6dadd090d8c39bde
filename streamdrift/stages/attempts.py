"""How often it was tried to read on from one offset: what a record that ends the process is found by.

A message that cannot be read is a dead letter. A bug is not: it ends the process, so that somebody hears of it. But a
record that ends the process each time it is read, be it by an exception or by taking all memory, would stop the
monitoring for ever. So the number of the attempt is committed before the first record is read, and forgotten with the
first progress. From the second attempt on, records are read one by one, each committed before the next: then the
committed offset is that of the culprit. When the attempts at it are used up it is set aside.
"""

from __future__ import annotations

from typing import Final

CAREFUL_FOR: Final = 10_000
"""Records that are read one by one: more than a poll ever gave, in which the culprit stands."""


class Attempts:
    """One partition since it was handed over at ``start``; ``before`` attempts were made there, ``most`` are."""

    def __init__(self, start: int, before: int, most: int) -> None:
        self._start = start
        self._most = most
        self.number = before + 1
        """Which attempt this is."""
        self.begun = False
        """Whether a record was read, or is about to be."""

    def careful(self, offset: int) -> bool:
        """Whether the record at ``offset`` is to be read alone."""
        return self.number > 1 and offset < self._start + CAREFUL_FOR

    def used_up(self, offset: int) -> bool:
        """Whether the record at ``offset`` is not to be read again."""
        return self.number > self._most and offset == self._start

    def pending(self, next_offset: int) -> int:
        """The attempts that are to be remembered with a committed offset; 0 after any progress."""
        if next_offset != self._start:
            return 0
        return self.number if self.begun else self.number - 1
