"""From options to settings: what a replay runs with, be there a configuration or not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streamdrift.baselines import Baseline
from streamdrift.codecs.source import TimestampUnit
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.gridbook import ModelKey
from streamdrift.model_settings import Defaults, Model
from streamdrift.quantities import Duration
from streamdrift.replay.messages import Survey
from streamdrift.settings import Settings, Time
from streamdrift.source_settings import EventMapping, Source
from streamdrift.stages.inputs import Idle

LEAST_FOR_LEARNING: Final = 200
ENOUGH_FOR_LEARNING: Final = 1_000
MOST_FOR_LEARNING: Final = 20_000
_A_FEW: Final = 10
"""Events of a model in a tick, at most, where a tick is longer than by default."""
_TICKS: Final = tuple(
    map(Duration.parse, ("30s", "1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d"))
)
"""Ticks of a history without a configuration. The window of performance is no shorter by default."""
_WEEK_US: Final = Duration.parse("7d").microseconds
_NAMES: Final = {kind: str(kind) for kind in SourceKind}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay runs with."""

    settings: Settings
    topics: Mapping[SourceKind, str]
    """Where messages of each kind go; what has no place is refused."""
    warm_up: int | None = None
    """Events from which each baseline is learned, where the history decided it."""


def without_configuration(
    survey: Survey, flags: Mapping[str, object], *, warm_up: int | None, in_microseconds: bool, model: str | None
) -> Plan:
    """The defaults, but for the warm-up: it ends while most of the history is still to come.

    ``warm_up``: events as the user says; ``model``: whose events they are, where they do not say it.
    """
    events, at_most = _learned_from(survey) if warm_up is None else (warm_up, Duration.parse("36500d"))
    tick = _tick(survey)
    kinds = [kind for kind in SourceKind if kind in survey.kinds or (kind is _watched(survey))]
    settings = Settings.load(
        None,
        {
            "kafka.bootstrap_servers": "localhost:9092",  # which nobody asks
            "sources": [_source(kind, in_microseconds=in_microseconds, model=model) for kind in kinds],
            "defaults.warm_up": {
                "events": events,
                "at_most": str(at_most),
                "at_least": min(LEAST_FOR_LEARNING, events),
            },
            "time.tick": str(tick),
            "defaults.window": str(max(tick, Defaults().window)),
            **flags,
        },
        environment={},  # what is set there is meant for a service
    )
    # In a table labels stand beside their predictions; of a log nobody says how late they are.
    delay = Duration(0) if in_microseconds else Duration(min(_WEEK_US, _span_us(survey) // 10))
    settings = _with_label_delay(settings, survey, delay)
    return Plan(_for_replay(settings, settings.sources), {kind: _NAMES[kind] for kind in kinds}, events)


def _tick(survey: Survey) -> Duration:
    """The default, or as long as a few events of a model take to come: each tick with events costs the same."""
    of_each = survey.events // max(len(survey.models), 1)
    gap_us = _span_us(survey) / max(of_each - 1, 1)
    return max([Time().tick, *(tick for tick in _TICKS if tick.microseconds <= _A_FEW * gap_us)])


def _watched(survey: Survey) -> SourceKind | None:
    """Labels belong to predictions, and a history of nothing is one of predictions too."""
    alone = not survey.kinds - {SourceKind.LABELS}
    return SourceKind.PREDICTIONS if alone or SourceKind.LABELS in survey.kinds else None


def _source(kind: SourceKind, *, in_microseconds: bool, model: str | None) -> dict[str, Any]:
    source: dict[str, Any] = {"topic": _NAMES[kind], "kind": str(kind), "zone": "UTC"}
    if model is not None:
        source["mapping"] = {"model_id": {"const": model}}
    if in_microseconds:
        source["timestamp_unit"] = str(TimestampUnit.MICROSECONDS)
    return source


def _learned_from(survey: Survey) -> tuple[int, Duration]:
    """How many events a baseline is learned from, and in what time: a tenth, unless that is too little or plenty."""
    of_each = survey.events // max(len(survey.models), 1)
    events = min(MOST_FOR_LEARNING, max(of_each // 10, min(ENOUGH_FOR_LEARNING, of_each // 3), LEAST_FOR_LEARNING))
    return events, Duration(max(_WEEK_US, _span_us(survey) // 5))


def _span_us(survey: Survey) -> int:
    return (survey.last_us or 0) - (survey.first_us or 0)


def _with_label_delay(settings: Settings, survey: Survey, delay: Duration) -> Settings:
    """The same where labels are that late, unless somebody says otherwise of a model."""
    models = dict(settings.models)
    for model_id in {model_id for model_id, _ in survey.models} | settings.models.keys():
        performance = settings.performance(model_id)
        if "label_delay" not in performance.model_fields_set:
            update = {"performance": performance.model_copy(update={"label_delay": delay})}
            models[model_id] = models.get(model_id, Model()).model_copy(update=update)
    return settings.model_copy(update={"models": models})


def with_configuration(
    path: Path,
    survey: Survey,
    flags: Mapping[str, object],
    *,
    source: str | None,
    warm_up: int | None,
    as_contract: bool,
) -> Plan:
    """A configuration of a service, of which the source is replayed that the history is one of.

    ``source``: its topic, None for the only one. ``as_contract``: the events were made from a table, so the source's
    mapping does not apply.
    """
    settings = Settings.load(path, flags)
    chosen = _chosen(settings, source)
    labels = [each for each in settings.sources if each.kind is SourceKind.LABELS]
    labels = [each for each in labels if settings.predictions_of(each) == chosen.topic]
    if SourceKind.LABELS not in survey.kinds:
        labels = []
    elif not labels and chosen.kind is SourceKind.PREDICTIONS:
        labels = [Source(topic="labels", kind=SourceKind.LABELS)]
    sources = [_in_file(each, as_contract=as_contract) for each in (chosen, *labels)]
    if warm_up is not None:
        settings = _with_warm_up(settings, warm_up)
    if as_contract:
        settings = _with_label_delay(settings, survey, Duration(0))
    topics = {each.kind: each.topic for each in sources}
    return Plan(_for_replay(settings, sources), topics)


def _in_file(source: Source, *, as_contract: bool) -> Source:
    if not as_contract:
        return source
    return source.model_copy(update={"mapping": EventMapping(), "timestamp_unit": TimestampUnit.MICROSECONDS})


def _chosen(settings: Settings, topic: str | None) -> Source:
    sources = [source for source in settings.sources if source.kind is not SourceKind.LABELS]
    found = [source for source in sources if topic in {None, source.topic}]
    if len(found) != 1:
        listed = ", ".join(source.topic for source in sources)
        wrong = "says which source of the configuration this is" if topic is None else f"{topic} is none of the sources"
        raise ConfigurationError(f"--source {wrong}: {listed}")
    return found[0]


def for_topics(settings: Settings, names: Collection[str], warm_up: int | None) -> Plan:
    """A configuration of which the sources with these topics are replayed."""
    sources = [source for source in settings.sources if source.topic in names]
    if warm_up is not None:
        settings = _with_warm_up(settings, warm_up)
    return Plan(_for_replay(settings, sources), {source.kind: source.topic for source in sources})


def _for_replay(settings: Settings, sources: Sequence[Source]) -> Settings:
    """The same for input that has an end, and stands in one place."""
    ending = tuple(source.model_copy(update={"end_of_stream": True, "rekey": False}) for source in sources)
    time = settings.time.model_copy(update={"idle": Idle.HOLD})
    bounds = settings.bounds.model_copy(update={"dead_letter_share": 1.0})
    return settings.model_copy(update={"sources": ending, "time": time, "bounds": bounds})


def _with_warm_up(settings: Settings, events: int) -> Settings:
    """The baselines of all models are learned from so many events."""
    update = {"events": events, "at_most": Duration.parse("36500d"), "at_least": min(LEAST_FOR_LEARNING, events)}
    warm_up = settings.defaults.warm_up.model_copy(update=update)
    models = {name: model.model_copy(update={"warm_up": None}) for name, model in settings.models.items()}
    defaults = settings.defaults.model_copy(update={"warm_up": warm_up})
    return settings.model_copy(update={"defaults": defaults, "models": models})


def with_baseline(settings: Settings, baseline: Baseline, file: Path) -> Settings:
    """The same with a baseline of one model version, which stands in ``file``."""
    model_id, version = baseline.grid.model_id, baseline.grid.model_version
    model = settings.models.get(model_id, Model())
    changed = model.model_copy(update={"baselines": {**model.baselines, version: file}})
    return settings.model_copy(update={"models": {**settings.models, model_id: changed}})


def only_model(survey: Survey, given: str | None) -> ModelKey:
    """The model version whose events the history holds. Raises ``ConfigurationError`` if it is not one."""
    models = [model for model in survey.models if given in {None, model[0]}]
    if len(models) == 1:
        return models[0]
    listed = ", ".join(f"{model_id} {version}".strip() for model_id, version in models) or "none"
    raise ConfigurationError(f"a baseline is of one model version, the history has {listed}; make it a file first")
