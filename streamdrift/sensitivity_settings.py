"""The settings of sensitivity: the rates that are tolerated, and how far back detectors look.

What a model says of its own replaces the defaults key by key: one that tolerates more missing values tolerates no more
of anything else.
"""

# No `from __future__ import annotations`, as in `settings`.

from typing import Annotated, TypeVar

from pydantic import Field

from streamdrift import sensitivity
from streamdrift.quantities import Duration
from streamdrift.values import NUMBER, PositiveDuration, Section

MinimumEffect = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), NUMBER]
"""PSI. Beyond 10 hardly anything is left of a distribution."""
Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False), NUMBER]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), NUMBER]


class Tolerance(Section):
    """By how much rates may be above the baseline's without an alarm. Shares of all events: 0.005 is 0.5 points."""

    missing: Share = 0.005
    """Missing values."""
    unseen: Share = 0.002
    """Categories that the baseline does not know."""
    type_error: Share = 0.005
    """Values of the wrong type."""
    out_of_range: Share = 0.005
    """Numbers where the baseline has hardly any."""
    error: Share = 0.01
    """Predictions that turn out wrong."""

    def over(self, defaults: "Tolerance") -> sensitivity.Tolerance:
        """What a model says, and for the rest the defaults, as detectors know it."""
        return sensitivity.Tolerance(**_merged(defaults, self).model_dump())


class Memories(Section):
    """How far back detectors look for a change: large ones show in the shortest memory, small ones in the longest."""

    shortest: PositiveDuration = Duration.parse("1s")
    """Never shorter than a tick, nor than the events that a test needs."""
    longest: PositiveDuration = Duration.parse("7d")
    """Never longer than what the baseline can tell apart."""

    def over(self, defaults: "Memories") -> "Memories":
        """What a model says, and for the rest the defaults."""
        return _merged(defaults, self)


_Settings = TypeVar("_Settings", bound=Section)


def _merged(defaults: _Settings, own: _Settings) -> _Settings:
    return defaults.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
