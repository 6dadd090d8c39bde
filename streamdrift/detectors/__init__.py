"""Detectors, one file each. A new one is its file and a line in ``table()``; the law tests then cover it.

``effects`` are the scores that people know, as plain functions; ``river`` adapts the detectors of River.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamdrift.detectors.detector import Detector, DetectorFactory, Ticks
    from streamdrift.sensitivity import Sensitivity
    from streamdrift.windows import Reference


def table() -> Mapping[str, tuple[DetectorFactory, float]]:
    """Every detector that runs on each model with a baseline, and its share of the budget of false alarms."""
    # Imported here, since windows need the effects of this package.
    from streamdrift.detectors.rate import Rate
    from streamdrift.detectors.shape import Shape

    return {Shape.name: (Shape, 0.7), Rate.name: (Rate, 0.3)}


def build(reference: Reference, ticks: Ticks, sensitivity: Sensitivity) -> dict[str, Detector]:
    """All of them for one model version, by name."""
    return {name: factory(reference, ticks, sensitivity.part(share)) for name, (factory, share) in table().items()}
