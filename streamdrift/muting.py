"""Mutes: spans of event time in which the drift of some features is recorded, and nobody is told of it.

A tick belongs to a span if it begins in it, whenever it is read: a replay mutes the same events as were muted live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Mute:
    """One span, for the features of one model whose names match one of the globs. Microseconds since the epoch."""

    features: tuple[str, ...]
    from_us: int
    to_us: int
    """The first moment that is no more in it."""
    reason: str


def mute_of(mutes: Sequence[Mute], feature: str, time_us: int) -> Mute | None:
    """The span that mutes a feature at a time, the first one of several; None if none does.

    >>> planned = [Mute(("basket.*",), 100, 200, "new catalogue")]
    >>> [mute_of(planned, "basket.items", time) is not None for time in (99, 100, 199, 200)]
    [False, True, True, False]
    >>> mute_of(planned, "amount", 150)
    """
    of_time = (mute for mute in mutes if mute.from_us <= time_us < mute.to_us)
    return next((mute for mute in of_time if any(fnmatchcase(feature, glob) for glob in mute.features)), None)
