"""From settings and baselines to what is joined: the pairs of sources, and how outcomes are counted."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.codecs import Source
from streamdrift.gridbook import ModelKey
from streamdrift.joining.decoding import Rules
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.settings import Settings
from streamdrift.stages.inputs import InputConfig
from streamdrift.stages.join import JoinConfig, Pair
from streamdrift.stages.rekey import Route
from streamdrift.topology import JoinPlan


def join_plan(
    settings: Settings, baselines: Mapping[ModelKey, Baseline], sources: Mapping[str, Source], inputs: InputConfig
) -> JoinPlan | None:
    """What there is to join; None without labels. ``sources`` are all sources by their topics."""
    pairs: list[Pair] = []
    routes: list[Route] = []
    for places in settings.pairs():
        predictions, labels = (sources[settings.sources[place].topic] for place in places)
        changelog = settings.changelog(settings.sources[places[1]])
        if settings.rekeyed(places):
            way = [Route(s, settings.rekeyed_topic(s.topic), settings.topics.partitions) for s in (predictions, labels)]
            predictions, labels = (route.target for route in way)
            routes += way
        pairs.append(Pair(predictions, labels, changelog, internal=settings.rekeyed(places)))
    if not pairs:
        return None
    join = settings.join
    config = JoinConfig(
        **{name: getattr(inputs, name) for name in InputConfig.__dataclass_fields__},
        label_delay_us=join.wait.microseconds,
        orphan_wait_us=join.wait_for_prediction.microseconds,
        max_rows=join.max_rows,
    )
    return JoinPlan(
        config,
        pairs,
        lambda model_id, version: outcome_grid(settings, baselines, model_id, version),
        lambda model_id: settings.performance(model_id).window.microseconds,
        routes,
    )


def outcome_grid(
    settings: Settings, baselines: Mapping[ModelKey, Baseline], model_id: str, version: str
) -> OutcomeGrid | None:
    """How the outcomes of a model version are counted: as configured, else as its baseline says; None if neither does.

    The names of classes are those that are left of them under the rules of privacy.
    """
    outcome = settings.model(model_id).outcome
    baseline = baselines.get((model_id, version))
    grid = outcome.grid() if outcome else baseline.outcome if baseline else None
    if grid is None or not grid.classes:
        return grid
    rules = Rules(settings.privacy.rules())
    classes = [rules.label(name) for name in grid.classes]
    return None if None in classes else msgspec.structs.replace(grid, classes=tuple(classes))
