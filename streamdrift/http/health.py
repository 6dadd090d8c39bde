"""Whether the process should be restarted (live), and whether it does its share of the work (ready).

Neither asks a broker anything: a cluster that is down is not repaired by restarting its clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamdrift.status import LoopStatus


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict; without reasons it is a good one."""

    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reasons


def liveness(loops: Sequence[LoopStatus], *, now_s: float, started_s: float, bound_s: float) -> Health:
    """Every loop came round within ``bound_s``; one that has yet to begin is given as long from ``started_s``."""
    if not loops:
        waited = now_s - started_s
        return Health() if waited <= bound_s else Health((f"no stage began within {bound_s:g} s",))
    late = ((loop.stage, now_s - (started_s if loop.last_poll_s is None else loop.last_poll_s)) for loop in loops)
    return Health(
        tuple(f"{stage}: no poll for {age:.0f} s, allowed are {bound_s:g} s" for stage, age in late if age > bound_s)
    )


def readiness(loops: Sequence[LoopStatus]) -> Health:
    """Every stage has been given its partitions and has restored what they need."""
    if not loops:
        return Health(("no stage has begun",))
    reasons = []
    for loop in loops:
        if not loop.assigned:
            reasons.append(f"{loop.stage}: waits for its partitions")
        elif not loop.restored:
            reasons.append(f"{loop.stage}: restores its state")
    return Health(tuple(reasons))
