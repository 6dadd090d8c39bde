"""The share of messages of a source that are no events: when nearly all are, reading on would only lose them.

A bad message is data, and goes to the dead letters. When everything is bad, what is wrong is the deployment: another
format, a mapping with a typing error. Going on would move past all of it, and show healthy lag the while.
"""

from __future__ import annotations

from typing import Final

from streamdrift.errors import FatalError

WINDOW: Final = 1_000
"""Messages over which the share is taken."""


class Refusals:
    """Counts the messages of one source."""

    def __init__(self, topic: str, most: float) -> None:
        """``most``: the largest share that is put up with; 1 for any."""
        self._topic = topic
        self._most = most
        self._messages = 0
        self._refused = 0

    def count(self, messages: int, refused: int, example: str) -> None:
        """Count messages, some of which are no events; ``example`` says where and why of one.

        Raises:
            FatalError: too many of the last thousand were none.
        """
        self._messages += messages
        self._refused += refused
        if self._messages < WINDOW:
            return
        share = self._refused / self._messages
        if share > self._most:
            raise FatalError(
                f"{share:.0%} of the last {self._messages:,} messages of {self._topic} are no events, for example "
                f"{example}. That is more than bounds.dead_letter_share, {self._most:g}, so reading stops before they "
                "are lost. `streamdrift check --sample 20` shows messages as the source's mapping reads them; with "
                "bounds.dead_letter_share: 1 they all become dead letters"
            )
        self._messages = self._refused = 0
