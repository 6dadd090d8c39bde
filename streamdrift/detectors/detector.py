"""What a detector is, and what it finds.

A detector watches all columns of one model version. It sees closed ticks in order, never a batch as it came
from the broker, and nothing else: no clock, no randomness. What it says therefore does not depend on when, or
by how many processes, the traffic was read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamdrift.sensitivity import Sensitivity
from streamdrift.windows import Reference, Window


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector has to say of one column at the close of a tick."""

    column: int
    """Number of the column in the grid."""
    detector: str
    calibrated: bool
    """Whether its rate of false alarms is known."""
    alarm: bool
    """Whether the column is in alarm as of this tick; it stays so until a finding says otherwise."""
    evidence_ratio: float
    """Evidence over the threshold of an alarm, as of this look: 1 or more is reason for one, less may keep one up."""
    onset: int | None
    """The tick at which the change most probably began, None if that was before monitoring; meaningless without an
    alarm."""
    window: Window | None
    """What shows it; None where the detector keeps no counts."""
    confirmed: bool = True
    """Whether the evidence is also beyond what the budget of the whole fleet asks of a warning."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Ticks as a detector may need to know them."""

    length_us: int

    def end_us(self, tick: int) -> int:
        """End of a tick in microseconds since the epoch."""
        return (tick + 1) * self.length_us

    def ending_at(self, time_us: int) -> int:
        """The first tick that ends at or after a time."""
        return -(-time_us // self.length_us) - 1


class Detector(Protocol):
    """One detector of one model version. Built by a ``DetectorFactory`` from the table in the package."""

    @property
    def names(self) -> Collection[str]:
        """The names that stand in its findings."""

    @property
    def calibrated(self) -> bool:
        """Whether its rate of false alarms is known by now."""

    @property
    def evidence(self) -> NDArray[np.float64]:
        """Of each column the evidence over the threshold of an alarm, as of its last looks. Shape (columns,)."""

    def close(self, tick: int, window: Window | None) -> list[Finding]:
        """Take the events of a closed tick, None for a tick without any; say what is new.

        Ticks come in ascending order. Empty ones are left out, except those that ``due`` asked for.
        """

    def due(self) -> int | None:
        """The next tick at whose close something happens even if it is empty."""

    def state(self) -> object:
        """All that is needed to go on, as values that MessagePack can hold."""

    def restore(self, state: object) -> None:
        """Go on from ``state``, as it comes back from MessagePack. Raises ``StateError`` if that cannot be."""


class DetectorFactory(Protocol):
    """Builds a detector for a model version that has a baseline."""

    def __call__(self, reference: Reference, ticks: Ticks, sensitivity: Sensitivity) -> Detector: ...
