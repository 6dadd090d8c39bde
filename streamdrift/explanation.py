"""Explanations: what the detectors of a model version would see of one column, in its own unit and in words.

The smallest change depends on the baseline, the budget, the traffic, and how much that strays by chance. The last is
known of live traffic once the model is calibrated; before that, events are taken for independent of each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from streamdrift.detectors.detector import Detector
from streamdrift.detectors.rate import Rate
from streamdrift.detectors.reach import RateReach, ShapeReach
from streamdrift.detectors.shape import Shape
from streamdrift.grids import Kind
from streamdrift.ticks import MICROSECONDS
from streamdrift.windows import Reference

DAY_US: Final = 86_400 * MICROSECONDS
_CHANNELS: Final = {
    "missing_rate": "missing",
    "unseen_rate": "unknown categories",
    "type_error_rate": "values of the wrong type",
    "out_of_range_rate": "values out of the usual range",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be seen of one column within a day."""

    model_id: str
    model_version: str
    feature: str
    kind: str
    values: int
    """Of the column in the baseline."""
    unit: float | None
    """The baseline's standard deviation; None for categories, and for numbers that never vary."""
    events_per_second: float
    calibrated: bool
    """Whether it is known how far live traffic strays by chance."""
    shape: ShapeReach
    rates: Sequence[RateReach]
    evidence_ratio: float | None = None
    """What there is by now of an alarm's evidence; None while that is not known."""

    def document(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def __str__(self) -> str:
        trust = "as calibrated" if self.calibrated else "if its events are independent of each other"
        head = f"{self.model_id} {self.model_version}, at {_traffic(self.events_per_second)}, {trust}:"
        floor = f"{self.feature}: changes below PSI {self.shape.floor_psi:g} never alarm"
        if self.unit is not None:
            floor += f": that is a mean shift of {self._shift(self.shape.floor_sd)}"
        lines = [
            f"{floor}.",
            f"  within a day: {self.smallest} would be seen, in about {_number(self.shape.events)} events",
            *(self._rate(rate) for rate in self._possible()),
        ]
        lines.append(f"  compared with {self.values:,} values of the baseline")
        if self.evidence_ratio is not None:
            lines.append(f"  now: {self.evidence_ratio:.2g} of the evidence of an alarm")
        return "\n".join([head, *lines])

    @property
    def smallest(self) -> str:
        """The smallest change of its distribution, as people say it."""
        shape = self.shape
        if shape.smallest_sd is not None and self.unit is not None:
            return f"a mean shift of {self._shift(shape.smallest_sd)}"
        return f"another mix of PSI {shape.smallest_psi:.2g}"

    def _shift(self, sds: float) -> str:
        return f"{sds:.2g} sd" + ("" if self.unit is None else f" (about {_number(sds * self.unit)})")

    def _possible(self) -> Iterable[RateReach]:
        """Rates that such a column can have."""
        other = "unseen_rate" if self.kind == Kind.NUMERIC else "out_of_range_rate"
        return (rate for rate in self.rates if rate.detector != other)

    @staticmethod
    def _rate(rate: RateReach) -> str:
        name = _CHANNELS[rate.detector]
        if rate.smallest is None:
            return f"  {name}: {_percent(rate.baseline)} in the baseline, and no rise would be seen"
        never = f"up to {_percent(rate.bound)} never alarms"
        return f"  {name}: from {_percent(rate.baseline)} to {_percent(rate.smallest)} would be seen; {never}"


def explained(
    reference: Reference, detectors: Collection[Detector], column: int, events_per_second: float
) -> Explanation:
    """What these detectors of a model version, ``shape`` and ``rate`` among them, would see of a column."""
    grid, per_us = reference.grid, events_per_second / MICROSECONDS
    [shape] = [d.reach(column, per_us, DAY_US) for d in detectors if isinstance(d, Shape)]
    [rates] = [d.reach(column, per_us, DAY_US) for d in detectors if isinstance(d, Rate)]
    known = reference.mean_and_sd(reference.window, column)
    unit = known[1] if known is not None and known[1] > 0 else None
    return Explanation(
        grid.model_id,
        grid.model_version,
        grid.columns[column].name,
        str(grid.columns[column].kind),
        int(reference.published[column].sum()),
        unit,
        events_per_second,
        all(detector.calibrated for detector in detectors),
        shape,
        rates,
    )


def _traffic(per_second: float) -> str:
    periods = (("a second", 1), ("a minute", 60), ("an hour", 3_600), ("a day", 86_400))
    period, events = next(
        (period, per_second * seconds) for period, seconds in periods if per_second * seconds >= 1 or period == "a day"
    )
    return f"{_number(events)} event{'' if events == 1 else 's'} {period}"


def _number(value: float) -> str:
    """Two digits, as a person writes them: 2.8, 130,000."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1_000 else f"{rounded:g}"  # noqa: PLR2004 — from there, commas help


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share == 0 or share >= 1e-4 else "less than 0.01 %"  # noqa: PLR2004
