"""``streamdrift explain MODEL FEATURE``: what would be seen of a feature, from its live state or from its baseline."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from streamdrift.assembly import cluster_of, load_baselines
from streamdrift.baselines import Baseline
from streamdrift.detectors import build
from streamdrift.detectors.detector import Ticks
from streamdrift.errors import ConfigurationError
from streamdrift.explanation import Explanation, explained
from streamdrift.grids import Grid
from streamdrift.incidents import WARNING_PSI
from streamdrift.inspection import watches
from streamdrift.kafka.client import Cluster
from streamdrift.monitor import INPUTS, Monitor
from streamdrift.quantities import Rate
from streamdrift.settings import Settings
from streamdrift.windows import Reference

MUCH_TRAFFIC: Final = 100.0
"""Events a second that leave it to the baseline what can be seen."""
MANY_VALUES: Final = 20_000
"""Values of a column in the baseline from which on it limits nothing that matters."""


def explain(
    settings: Settings,
    model_id: str,
    feature: str,
    version: str | None = None,
    *,
    traffic: Rate | None = None,
    as_json: bool = False,
    cluster: Cluster | None = None,
) -> str:
    """What ``explain`` prints, of each version of the model or of one.

    ``traffic`` is what to reckon with, of the configured baselines: then no broker is asked, and events are taken for
    independent. Without it, everything is as detect has it. Raises ``ConfigurationError``.
    """
    if traffic is not None:
        found = _of_baselines(settings, model_id, feature, version, traffic)
    else:
        live = watches(settings, cluster or cluster_of(settings), model_id, version)
        found = [_of_monitor(watch.monitor, feature, settings.time.tick.seconds) for watch in live.values()]
    if as_json:
        return json.dumps([each.document() for each in found], indent=2)
    return "\n\n".join(map(str, found))


def _of_baselines(
    settings: Settings, model_id: str, feature: str, version: str | None, traffic: Rate
) -> list[Explanation]:
    baselines = load_baselines(settings)
    chosen = [b for key, b in sorted(baselines.items()) if key[0] == model_id and version in {None, key[1]}]
    if not chosen:
        known = ", ".join(f"{model} {of}" for model, of in sorted(baselines)) or "none"
        name = f"{model_id}{f' {version}' if version else ''}"
        raise ConfigurationError(f"no baseline of {name} is configured; there are those of {known}")
    ticks = Ticks(settings.time.tick.microseconds)
    sensitivity = settings.sensitivity(model_id).part(INPUTS)
    found = []
    for reference in map(Reference, chosen):
        column = column_of(reference.grid, feature)
        detectors = build(reference, ticks, sensitivity).values()
        found.append(explained(reference, detectors, column, traffic.per_second))
    return found


def of_few_values(settings: Settings, baseline: Baseline, limit: int) -> Iterator[Explanation]:
    """Columns of which only changes would be seen that are called moderate; those with the fewest values first."""
    reference = Reference(baseline)
    values = reference.published.sum(axis=1)
    few = [column for column in np.argsort(values, kind="stable")[:limit].tolist() if values[column] < MANY_VALUES]
    if not few:
        return
    ticks = Ticks(settings.time.tick.microseconds)
    detectors = build(reference, ticks, settings.sensitivity(baseline.grid.model_id).part(INPUTS)).values()
    for column in few:
        explanation = explained(reference, detectors, column, MUCH_TRAFFIC)
        if explanation.shape.smallest_psi >= WARNING_PSI:
            yield explanation


def _of_monitor(monitor: Monitor, feature: str, tick_s: float) -> Explanation:
    status = monitor.status()
    name = f"{status.model_id} {status.model_version}"
    if monitor.reference is None or not status.events:
        why = "has no baseline yet" if monitor.reference is None else "has had no events yet"
        raise ConfigurationError(f"{name} {why}; --traffic '100 per second' explains a configured baseline")
    column = column_of(monitor.grid, feature)
    per_second = status.events / (status.ticks_closed * tick_s)
    explanation = explained(monitor.reference, monitor.detectors, column, per_second)
    return replace(explanation, evidence_ratio=status.features[column].evidence_ratio)


def column_of(grid: Grid, feature: str) -> int:
    """The number of a column. Raises ``ConfigurationError`` with the reason, or the nearest name, if there is none."""
    if feature in grid.names:
        return grid.names.index(feature)
    name = f"{grid.model_id} {grid.model_version}"
    reason = next((field.reason for field in grid.unmonitored if field.name == feature), None)
    if reason is not None:
        raise ConfigurationError(f"{feature} of {name} is not watched: {reason}")
    near = difflib.get_close_matches(feature, grid.names, n=1)
    raise ConfigurationError(f"{name} has no {feature}" + (f"; did you mean {near[0]}?" if near else ""))
