"""The settings: what every key of the configuration means, what it may be, and what it is if nobody says.

This module and ``streamdrift.layers`` below it are the only readers of environment, YAML and secrets. The rest
of streamdrift is given plain values, so nothing of it imports this but ``assembly``, ``check`` and the command line.

::

    settings = Settings.load(Path("config/streamdrift.yaml"))
    settings.time.tick.microseconds
    settings.warnings()                # keys that were set, but have no effect in this version
"""

# No `from __future__ import annotations`: pydantic and the explanation of unknown keys read the types as objects.

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamdrift import muting
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.joining.decoding import PREDICTION_ID
from streamdrift.layers import Layers
from streamdrift.model_settings import Defaults, Model, River
from streamdrift.performance_settings import Performance, contradictions
from streamdrift.privacy import Fate
from streamdrift.privacy import Privacy as PrivacyRules
from streamdrift.problems import Path as KeyPath
from streamdrift.problems import Problem, dotted, explain, given, origin
from streamdrift.quantities import Duration, Rate
from streamdrift.sensitivity import Sensitivity
from streamdrift.sensitivity_settings import Memories, Tolerance
from streamdrift.source_settings import AnyStart, Source, StartPoint
from streamdrift.stages.inputs import Idle
from streamdrift.stages.stage import StartFrom
from streamdrift.ticks import MICROSECONDS
from streamdrift.values import (
    LATER,
    NOT_EMPTY,
    NUMBER,
    AnyDuration,
    AnyRate,
    Count,
    Delivery,
    FunctionName,
    Hidden,
    PositiveDuration,
    Section,
    Servers,
    Text,
    TopicName,
    Zone,
    at_least,
)

# ---- kafka and topics ----------------------------------------------------------------------------------------------


class Kafka(Section):
    """The cluster, and how records are read and written."""

    bootstrap_servers: Servers
    """``host:port`` of a broker, several separated by commas, for example localhost:9092."""
    delivery: Delivery = "at_least_once"
    """What a crash may do to effects. ``exactly_once`` is not built yet."""
    start_from: AnyStart = StartFrom.LATEST
    """Where a group that never read the sources begins: earliest, latest, so long ago (7d), or at a time."""
    application: TopicName = "streamdrift"
    """What the names of consumer groups begin with; two installations on one cluster need two."""
    client: dict[Text, Hidden] = Field(default_factory=dict)
    """Any librdkafka property, for example ``security.protocol``. A value may stand in a file:
    ``{file: /run/secrets/x}``."""
    token_provider: FunctionName | None = None
    """A function that gives OAUTHBEARER tokens, for example ``our_cloud.kafka:token``; what Python clients call
    oauth_cb. OpenID Connect needs none: ``sasl.oauthbearer.method: oidc`` does it."""

    def properties(self) -> dict[str, str]:
        """``client`` as librdkafka takes it, secrets in clear: never log it."""
        return {name: value.get_secret_value() for name, value in self.client.items()}

    def contradictions(self) -> Iterator[tuple[KeyPath, str]]:
        """Values that are possible each, but not together: (path, what is wrong)."""
        properties = self.properties()
        mechanism = properties.get("sasl.mechanism", properties.get("sasl.mechanisms", ""))
        if mechanism.upper() != "OAUTHBEARER":
            if self.token_provider is not None:
                yield ("kafka", "token_provider"), "is for kafka.client.sasl.mechanism: OAUTHBEARER"
        elif self.token_provider is None and not properties.keys() & _TOKEN_SOURCES:
            message = "OAUTHBEARER needs sasl.oauthbearer.method: oidc with what belongs to it, or kafka.token_provider"
            yield ("kafka", "client", "sasl.mechanism"), message
        elif self.token_provider is not None and properties.get("sasl.oauthbearer.method", "").lower() == "oidc":
            yield (
                ("kafka", "token_provider"),
                "librdkafka gets the tokens (sasl.oauthbearer.method: oidc): set only one",
            )


_TOKEN_SOURCES = {"sasl.oauthbearer.method", "enable.sasl.oauthbearer.unsecure.jwt"}


class Topics(Section):
    """The names of streamdrift's own topics; missing ones are created."""

    summaries: TopicName = "streamdrift-summaries"
    """Internal: summaries and control records, keyed by model."""
    state: TopicName = "streamdrift-state"
    """Internal, compacted: snapshots of the models."""
    grids: TopicName = "streamdrift-grids"
    """Internal, compacted: grids and baselines."""
    join: TopicName = "streamdrift-join"
    """Internal, compacted: predictions that wait for their labels. The topic of the labels stands behind it, as in
    streamdrift-join-labels."""
    rekeyed: TopicName = "streamdrift-rekeyed"
    """Internal: predictions and labels of sources with ``rekey``, likewise, as in streamdrift-rekeyed-labels."""
    alerts: TopicName = "drift-alerts"
    """Incidents that started, changed and ended, as CloudEvents."""
    dead_letters: TopicName = "dead-letters"
    """Messages that could not be read."""
    retraining_requests: TopicName = "retraining-requests"
    """Requests to train a model anew."""
    review_requests: Annotated[TopicName, LATER] = "review-requests"
    """Predictions that a person should look at."""
    partitions: Count = 4
    """Partitions of a new internal topic. Never changed afterwards: records are placed by model."""
    replication: Annotated[int, Field(ge=1, le=32), NUMBER] | None = None
    """Replicas of a new topic; null takes the broker's default."""

    def in_use(self) -> dict[str, str]:
        """The topics that this version uses, by key."""
        keys = ("summaries", "state", "grids", "alerts", "dead_letters", "retraining_requests")
        return {key: getattr(self, key) for key in keys}


# ---- time ----------------------------------------------------------------------------------------------


class Time(Section):
    """Event time, and what happens when traffic stops."""

    tick: Annotated[AnyDuration, at_least("100ms")] = Duration.parse("10s")
    """Length of a tick, the unit in which detectors see time."""
    allowed_lateness: AnyDuration = Duration.parse("30s")
    """How long an event may come after a later one, for sources that do not say."""
    idle_after: PositiveDuration = Duration.parse("1m")
    """How long a partition has stood at its end before it counts as idle."""
    idle: Idle = Idle.ADVANCE
    """Whether the time of an idle partition goes on by the clock (``advance``); ``hold`` is for back-fills."""
    zone: Zone = ZoneInfo("UTC")
    """Zone of schedules."""
    max_ahead: Count = 360
    """Ticks by which one partition may be ahead of the slowest before it is paused."""
    future_skew: AnyDuration = Duration.parse("5m")
    """How far ahead of the clock an event's time may lie before it is a dead letter."""


# ---- the rest ------------------------------------------------------------------------------------------------------


class Join(Section):
    """Where predictions wait for their labels; in use where a source is of kind labels."""

    path: Path | None = None
    """Directory of the rows that wait, relative to the configuration file; null takes a temporary one, so that every
    start reads them all from the topic that keeps them too."""
    wait: PositiveDuration = Duration.parse("30d")
    """How long a prediction waits for its label."""
    wait_for_prediction: PositiveDuration = Duration.parse("1d")
    """How long a label waits for its prediction."""
    max_rows: Count = 10_000_000
    """Predictions and labels that wait in one partition, of about 60 bytes on disk each. Beyond it some ids are left
    out by their hashes, and that is counted."""
    memory_bytes: Annotated[int, Field(ge=16 << 20), NUMBER] = 192 << 20
    """For caches and buffers of all partitions of this process together."""


class Fleet(Section):
    """Over all models together."""

    false_alarms: AnyRate = Rate.parse("1 per week")
    """Expected false incidents of severity warning or above; the models under ``models`` share it evenly."""


class Metrics(Section):
    """What Prometheus is shown."""

    features: Literal["none", "listed", "all"] = "all"
    """Series of no feature, of those with settings of their own, or of all (up to 50 a model)."""


class Privacy(Section):
    """Values that must not leave the codec. Globs of flattened names: customer covers all that is below it."""

    drop: tuple[Text, ...] = ()
    """Features, and parts of the prediction (``prediction.label``), that are treated as if they were not there."""
    hash: tuple[Text, ...] = ()
    """Those that are counted as categories by a pseudonym."""
    salt: Annotated[SecretStr, Field(max_length=64)] = SecretStr("")
    """Makes pseudonyms those of this installation; set it as the variable STREAMDRIFT__PRIVACY__SALT."""

    def rules(self) -> PrivacyRules:
        """The same as the codec knows it."""
        return PrivacyRules(self.drop, self.hash, self.salt.get_secret_value().encode()[:64])


class Mute(Section):
    """A span in which drift is recorded, but not alerted."""

    model: Text
    """The model's id."""
    features: tuple[Text, ...] = ("*",)
    """Globs of the features."""
    from_: Annotated[AwareDatetime, Field(alias="from")]
    """Begin of the span, a time with a zone."""
    to: AwareDatetime
    """End of the span, a time with a zone."""
    reason: Text
    """Why, for whoever looks later."""

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.to <= self.from_:
            raise ValueError(f"ends at {self.to.isoformat()}, which is not after {self.from_.isoformat()}")
        return self

    def known(self) -> muting.Mute:
        """The same as incidents know it."""
        start, end = ((time - _EPOCH) // timedelta.resolution for time in (self.from_, self.to))
        return muting.Mute(self.features, start, end, self.reason)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Http(Section):
    """The one port: health, metrics and the status page, all of them read only."""

    host: Text = "0.0.0.0"  # noqa: S104 — Prometheus and probes ask from outside; nothing can be changed through it
    """Address to listen on; 127.0.0.1 keeps it to this machine."""
    port: Annotated[int, Field(ge=0, le=65_535), NUMBER] = 8080
    """Port to listen on; 0 takes a free one."""


class Log(Section):
    """The service's own log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """``auto`` is ``console`` on a terminal and ``json`` elsewhere."""


class Bounds(Section):
    """Limits on what traffic could make grow without end. What is over them is counted."""

    models: Count = 1_000
    """Model versions that stand in no configuration, a tick."""
    series: Annotated[int, Field(ge=100), NUMBER] = 10_000
    """Prometheus series of this process."""
    message_bytes: Annotated[int, Field(ge=1_024), NUMBER] = 1 << 20
    """Size of a message; a larger one is a dead letter before it is parsed."""
    dead_letter_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), NUMBER] = 0.9
    """Share of a source's last 1,000 messages that are no events beyond which reading stops: then the format is
    wrong, or the mapping. 1 for never."""
    attempts: Count = 3
    """Times that a message may end the process before it is set aside as a dead letter."""
    retire_after: PositiveDuration = Duration.parse("30d")
    """Time without events after which a model version without a configured baseline is forgotten."""


class Settings(BaseSettings):
    """The whole configuration."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    # Validated even if absent, so that what is missing is called kafka.bootstrap_servers.
    kafka: Kafka = Field(default={}, validate_default=True)
    """The cluster, and how records are read and written."""
    sources: Annotated[tuple[Source, ...], NOT_EMPTY]
    """A list of the input topics, for example [{topic: predictions, kind: predictions}]."""
    topics: Topics = Topics()
    """The names of streamdrift's own topics; missing ones are created."""
    time: Time = Time()
    """Event time, and what happens when traffic stops."""
    join: Join = Join()
    """Where predictions wait for their labels."""
    fleet: Fleet = Fleet()
    """Over all models together."""
    defaults: Defaults = Defaults()
    """What holds for every model that does not say otherwise."""
    models: dict[Text, Model] = Field(default_factory=dict)
    """Models by id; one that is not listed is counted, without a baseline."""
    metrics: Metrics = Metrics()
    """What Prometheus is shown."""
    privacy: Privacy = Privacy()
    """Values that must not leave the codec."""
    mute: tuple[Mute, ...] = ()
    """Spans in which drift is recorded, but not alerted."""
    dead_letters: Literal["raw", "metadata_only"] | None = None
    """Whether dead letters carry the message itself (``raw``), or only where it lies; null takes ``metadata_only``
    where anything is dropped or hashed, else ``raw``."""
    http: Http = Http()
    """The one port: health, metrics and the status page."""
    log: Log = Log()
    """The service's own log, on stderr."""
    bounds: Bounds = Bounds()
    """Limits on what traffic could make grow without end."""
    commit_interval: Annotated[AnyDuration, at_least("10ms")] = Duration.parse("1s")
    """How often summaries and offsets are committed."""
    snapshot_interval: Annotated[AnyDuration, at_least("10ms")] = Duration.parse("60s")
    """How often the models' state is written, beside every stop and hand-over."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 — the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``layers`` has merged: it says why."""
        return (init_settings,)

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        flags: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Read a configuration. Raises ``ConfigurationError`` with everything that is wrong, a line each.

        ``flags`` are values by dotted key and win over the rest; ``environment`` is the process's if None.
        """
        settings, problems = cls.read(path, flags, environment)
        if settings is None:
            raise refusal(problems)
        return settings

    @classmethod
    def read(
        cls,
        path: Path | None = None,
        flags: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[Self | None, list[Problem]]:
        """As ``load``, but what is wrong is returned; the settings are None if anything is."""
        layers = Layers((path.parent if path else Path()).absolute())
        if path is not None:
            layers.add_file(path)
            if layers.problems and not layers.data:
                return None, layers.problems  # what a file says that cannot be read is not missing
        layers.add_variables(os.environ if environment is None else environment)
        layers.add_flags(flags or {})
        layers.resolve()
        try:
            settings = cls(**layers.data)
        except ValidationError as error:
            wrong = [explain(detail, cls, layers.origins) for detail in error.errors(include_url=False)]
            said = {problem.path for problem in layers.problems}  # what could not be read is no value of a wrong kind
            return None, layers.problems + [problem for problem in wrong if problem.path not in said]
        problems = layers.problems + [
            Problem(dotted(at), message, origin(at, layers.origins)) for at, message in settings.contradictions()
        ]
        return (None if problems else settings), problems

    def contradictions(self) -> Iterator[tuple[KeyPath, str]]:
        """Values that are possible each, but not together: (path, what is wrong)."""
        yield from self.kafka.contradictions()
        taken: dict[str, KeyPath] = {}
        topics: list[tuple[KeyPath, str]] = [(("topics", key), name) for key, name in self.topics.in_use().items()]
        topics += [(("sources", i, "topic"), source.topic) for i, source in enumerate(self.sources)]
        topics += [
            (("topics", "join"), self.changelog(source)) for source in self.sources if source.kind is SourceKind.LABELS
        ]
        for at, name in topics:
            if name in taken:
                yield at, f"got {given(name)}; that topic is {dotted(taken[name])} already"
            taken.setdefault(name, at)
        if all(source.kind is SourceKind.LABELS for source in self.sources):
            yield ("sources",), "labels alone show no drift; expected a source of kind predictions or features"
        with_labels = any(source.kind is SourceKind.LABELS for source in self.sources)
        for model_id, model in self.models.items():
            for at, message in contradictions(model.performance, model.retraining, with_labels=with_labels):
                yield ("models", model_id, *at), message
        for at, window in self._windows():
            if window < self.time.tick:
                yield at, f"got {given(str(window))}; expected at least time.tick, {self.time.tick}"
        yield from self._memory_contradictions()
        yield from self._label_contradictions()
        if self.snapshot_interval < self.commit_interval:
            yield ("snapshot_interval",), f"expected at least commit_interval, {self.commit_interval}"

    def _memory_contradictions(self) -> Iterator[tuple[KeyPath, str]]:
        own: list[tuple[KeyPath, Memories]] = [(("defaults", "memories"), self.defaults.memories)]
        own += [
            (("models", model_id, "memories"), self.memories(model_id))
            for model_id, model in self.models.items()
            if model.memories is not None
        ]
        for at, memories in own:
            least = max(memories.shortest, self.time.tick)
            if memories.longest <= least:
                longest = given(str(memories.longest))
                yield (*at, "longest"), f"got {longest}; expected more than the shortest memory and time.tick, {least}"

    def _label_contradictions(self) -> Iterator[tuple[KeyPath, str]]:
        predictions = [source.topic for source in self.sources if source.kind is SourceKind.PREDICTIONS]
        taken: dict[str, KeyPath] = {}
        for i, source in enumerate(self.sources):
            at: KeyPath = ("sources", i)
            for key in source.mapping.foreign(source.kind):
                yield (*at, "mapping", key), f"says nothing of a source of kind {source.kind}"
            if source.kind is not SourceKind.LABELS:
                if source.predictions is not None:
                    yield (*at, "predictions"), f"says nothing of a source of kind {source.kind}"
                continue
            topic = self.predictions_of(source)
            if source.rekey and source.end_of_stream:
                yield (*at, "end_of_stream"), "cannot be together with rekey: what was sent on ends nowhere"
            if topic is None or topic not in predictions:
                said = "no source is of kind predictions" if not predictions else f"one of {', '.join(predictions)}"
                yield (*at, "predictions"), f"expected the topic of the predictions that are labelled: {said}"
            elif topic in taken:
                yield at, f"the predictions of {topic} have labels already: {dotted(taken[topic])}"
            else:
                taken[topic] = at
        if taken and self.privacy.rules().fate(PREDICTION_ID) is Fate.DROPPED:
            yield ("privacy", "drop"), f"{PREDICTION_ID} cannot be dropped: labels find their predictions by it"

    def predictions_of(self, source: Source) -> str | None:
        """The topic of the predictions that a source of labels labels; None if that is not clear."""
        topics = [other.topic for other in self.sources if other.kind is SourceKind.PREDICTIONS]
        return source.predictions or (topics[0] if len(topics) == 1 else None)

    def pairs(self) -> list[tuple[int, int]]:
        """Places of the sources of predictions whose labels are read, each with that of its labels."""
        places = {source.topic: i for i, source in enumerate(self.sources)}
        return [
            (places[self.predictions_of(source) or ""], i)
            for i, source in enumerate(self.sources)
            if source.kind is SourceKind.LABELS
        ]

    def rekeyed(self, pair: tuple[int, int]) -> bool:
        """Whether a pair of sources is sent through topics of its own: both are, if either is to be."""
        return any(self.sources[place].rekey for place in pair)

    def rekeyed_topic(self, topic: str) -> str:
        """Where what is read of a topic is sent on to."""
        return f"{self.topics.rekeyed}-{topic}"

    def changelog(self, labels: Source) -> str:
        """The topic of what waits for these labels."""
        return f"{self.topics.join}-{labels.topic}"

    def _windows(self) -> Iterator[tuple[KeyPath, Duration]]:
        yield ("defaults", "window"), self.defaults.window
        for model_id, model in self.models.items():
            if model.window is not None:
                yield ("models", model_id, "window"), model.window
            if model.performance is not None:
                yield ("models", model_id, "performance", "window"), model.performance.window

    def warnings(self) -> list[str]:
        """Keys that somebody set, but that have no effect in this version; a sentence each."""
        return [str(problem) for problem in self.without_effect()]

    def without_effect(self) -> list[Problem]:
        """The same, with the paths apart."""
        return [Problem(dotted(at), "has no effect in this version") for at in _marked(self)]

    def lateness(self, source: Source) -> Duration:
        """How long an event of ``source`` may come after a later one."""
        return self.time.allowed_lateness if source.allowed_lateness is None else source.allowed_lateness

    def start_from(self, source: Source) -> StartPoint:
        """Where a group that never read ``source`` begins."""
        return self.kafka.start_from if source.start_from is None else source.start_from

    @property
    def dead_letter_values(self) -> bool:
        """Whether dead letters carry the message itself."""
        if self.dead_letters is None:
            return not self.privacy.rules()
        return self.dead_letters == "raw"

    def model(self, model_id: str) -> Model:
        """A model's settings; those of a model that is not configured are empty."""
        return self.models.get(model_id, Model())

    def window(self, model_id: str) -> Duration:
        """Length of the model's window of published effects."""
        return self.model(model_id).window or self.defaults.window

    def memories(self, model_id: str) -> Memories:
        """How far back the model's detectors look."""
        own = self.model(model_id).memories
        return self.defaults.memories if own is None else own.over(self.defaults.memories)

    def sensitivity(self, model_id: str) -> Sensitivity:
        """What is asked of the model's detectors."""
        model, defaults = self.model(model_id), self.defaults
        alarms = (model.false_alarms or defaults.false_alarms).per_second / MICROSECONDS
        of_fleet = self.fleet.false_alarms.per_second / MICROSECONDS / max(1, len(self.models))
        memories, warm_up = self.memories(model_id), model.warm_up or defaults.warm_up
        return Sensitivity(
            false_alarms=alarms,
            warnings=min(alarms, of_fleet),
            minimum_effect=defaults.minimum_effect if model.minimum_effect is None else model.minimum_effect,
            weights={name: feature.weight for name, feature in model.features.named.items() if feature.weight != 1},
            tolerance=(model.tolerance or Tolerance()).over(defaults.tolerance),
            shortest_us=memories.shortest.microseconds,
            longest_us=memories.longest.microseconds,
            warm_up=warm_up.known(),
        )

    def mutes(self, model_id: str) -> tuple[muting.Mute, ...]:
        """The spans in which nobody is told of the model's drift."""
        return tuple(mute.known() for mute in self.mute if mute.model == model_id)

    def performance(self, model_id: str) -> Performance:
        """How the model's performance is reported and judged."""
        return self.model(model_id).performance or Performance()

    def score_river(self, model_id: str) -> tuple[River, ...]:
        """The River detectors on the model's score."""
        own = self.model(model_id).river
        return self.defaults.river if own is None else own


def _marked(value: object, at: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of the keys that were set and are marked ``NoEffectYet``."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        for name in sorted(value.model_fields_set):
            field = fields.get(name)
            below = (*at, (field.alias if field else None) or name)
            if field and LATER in field.metadata:
                yield below
            else:
                yield from _marked(getattr(value, name), below)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _marked(item, (*at, key))
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _marked(item, (*at, i))


def refusal(problems: list[Problem]) -> ConfigurationError:
    """All problems as the one error that ends the process."""
    lines = [str(problem) for problem in problems]
    return ConfigurationError(lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} problems", *lines]))
