"""The share of a source's messages that may be dead letters, before that is no longer the messages' fault."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from streamdrift.errors import FatalError
from streamdrift.events import DeadLetter
from streamdrift.records import RecordBatch

MESSAGES: Final = 1_000
"""The share is that of at least so many messages, the last ones: a few bad ones after a start stop nothing."""


class DeadLetterLimit:
    """Watches one source. Some messages are bad; if most are, the deployment is: a wrong topic, format or mapping.

    Dead letters would then be all that the service makes of its input, as fast as it can read. To stop loses
    nothing: what was not committed is read again.
    """

    def __init__(self, topic: str, share: float) -> None:
        """A share of 1 stops nothing."""
        self._topic = topic
        self._share = share
        self._recent: deque[tuple[int, Counter[str]]] = deque()
        """Batches, oldest first: messages, and the dead ones among them by reason."""
        self._messages = 0
        self._dead: Counter[str] = Counter()
        self._reading: dict[int, DeadLetter] = {}
        """Dead letters of the batch that is being read, by offset: of several from one message, the first."""

    def bury(self, offset: int, letter: DeadLetter) -> None:
        """Take note of one of the messages that are being read."""
        self._reading.setdefault(offset, letter)

    def read(self, batch: RecordBatch) -> None:
        """Take note that all of ``batch`` was read. Raises ``FatalError`` if too much was dead of late."""
        dead = Counter(letter.reason for letter in self._reading.values())
        self._recent.append((len(batch), dead))
        self._messages += len(batch)
        self._dead += dead
        while self._messages - self._recent[0][0] >= MESSAGES:
            messages, passed = self._recent.popleft()
            self._messages -= messages
            self._dead -= passed
        if dead and self._messages >= MESSAGES and self._dead.total() > self._share * self._messages:
            raise self._stop(batch)
        self._reading = {}

    def _stop(self, batch: RecordBatch) -> FatalError:
        [(reason, count)] = self._dead.most_common(1)
        of_reason = {offset: letter for offset, letter in self._reading.items() if letter.reason == reason}
        offset, letter = next(iter((of_reason or self._reading).items()))
        return FatalError(
            f"{self._dead.total():,} of the last {self._messages:,} messages of {self._topic} are dead letters, most "
            f"({count:,}) of class {reason}; for example {self._topic}[{batch.partition}] at offset {offset}: "
            f"{letter.reason}: {letter.message}. Is it the right topic, and does sources[].mapping fit? What was not "
            f"committed will be read again. To go on all the same, raise bounds.dead_letter_share (now "
            f"{self._share:g}; 1 stops nothing)"
        )
