"""What a side is told, and what it tells back: JSON from process to process."""

from __future__ import annotations

import itertools
from typing import Final

import msgspec

MODEL_ID: Final = "bench"
MODEL_VERSION: Final = "1"
BASELINE: Final = "baseline.json"
"""Name of the file in a job's directory."""
NUMBERS: Final = ("amount", "count", "ratio", "signal", "measure")
"""Kinds of numeric features, in turn."""
PATIENCE: Final = 60.0
"""Seconds without progress after which a side gives up."""


class Job(msgspec.Struct, frozen=True):
    """What a side has to do."""

    features: int
    bootstrap_servers: str
    embedded: bool
    directory: str
    """Where the baseline lies; the side may write there."""
    side: str = ""
    run: str = ""
    """What the names of this run's groups and topics begin with."""
    topic: str = ""
    messages: int = 0
    """How many the topic holds, without the markers that end it."""
    events: int = 0
    """How many of these are events; the others are malformed."""
    model_id: str = MODEL_ID
    model_version: str = MODEL_VERSION
    """Whose baseline it is."""
    mapped: bool = False
    """Whether the parts of an event stand where ``events.moved`` puts them."""
    profile: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """What it took."""

    cpu_seconds: float
    measured: int
    """How many messages this time went into."""
    messages: int
    """How many were read, markers left out."""
    events: int
    """How many of these were counted as events."""
    incidents: int = 0
    """Reported by streamdrift."""
    note: str = ""
    """For a person: what the profiler saw, or what was found."""

    @property
    def cost(self) -> float:
        """CPU microseconds a message."""
        return self.cpu_seconds / self.measured * 1e6


def feature_types(count: int) -> dict[str, type]:
    """Names of so many features, and what their values are: float (integers too), str or bool."""
    categories, flags = count // 10, count // 20
    kinds = itertools.cycle(NUMBERS)
    types: dict[str, type] = {f"{next(kinds)}_{i:03}": float for i in range(count - categories - flags)}
    types |= {f"category_{i:03}": str for i in range(categories)}
    return types | {f"flag_{i:03}": bool for i in range(flags)}
