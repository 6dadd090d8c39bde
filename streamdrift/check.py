"""``streamdrift check``: everything that can be known of a configuration without a broker, all at once.

``streamdrift run`` begins with the same check, so that what check passes does not fail at start.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.explain_command import of_few_values
from streamdrift.gridbook import ModelKey
from streamdrift.grids import SCORE, Column, Grid, Kind, Role
from streamdrift.judging import missing, notes
from streamdrift.model_settings import Features, Model, River
from streamdrift.monitor import snapshot_bytes_estimate
from streamdrift.plans import FROM_BASELINE
from streamdrift.problems import Path as KeyPath
from streamdrift.problems import Problem, dotted
from streamdrift.quantities import Duration
from streamdrift.settings import Settings, refusal
from streamdrift.stages.inputs import Idle

MAX_SNAPSHOT_BYTES: Final = 900_000
"""Brokers refuse records over 1 MB by default, and a model's snapshot is one record."""

MAX_REACHES: Final = 5
"""Features of a baseline of which is said that only large changes would be seen."""

_LATE_TICKS: Final = 60
"""Lateness that is longer than so many ticks is more likely a slip than meant."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``settings`` is None if there are errors in the settings themselves."""

    settings: Settings | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    """What is as it should be, but worth knowing."""

    @property
    def exit_code(self) -> int:
        """2 if the service would not start, else 0."""
        return ConfigurationError.exit_code if self.errors else 0

    def __str__(self) -> str:
        """For people: one problem a line, and a verdict."""
        kinds = (("error", self.errors), ("warning", self.warnings), ("note", self.notes))
        lines = [f"{kind} {problem}" for kind, problems in kinds for problem in problems]
        verdict = f"{_counted(len(self.errors), 'error')}, {_counted(len(self.warnings), 'warning')}"
        return "\n".join([*lines, verdict if self.errors or self.warnings else "the configuration is good"])

    def to_json(self) -> str:
        """For programs: ``{"ok": …, "errors": [{"path", "message", "where"}], "warnings": […], "notes": […]}``."""
        kinds = {"errors": self.errors, "warnings": self.warnings, "notes": self.notes}
        found = {kind: [asdict(problem) for problem in problems] for kind, problems in kinds.items()}
        return json.dumps({"ok": not self.errors, **found})


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def check(
    path: Path | None, flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> Report:
    """Check a configuration, and the files that it names. Never raises for what is wrong with them."""
    settings, errors = Settings.read(path, flags, environment)
    if settings is None:
        return Report(None, tuple(errors))
    found = _Findings()
    _check_client(settings, found)
    _check_time(settings, found)
    if settings.privacy.hash and not settings.privacy.salt.get_secret_value():
        found.warn(("privacy", "salt"), "is not set: whoever guesses a value can tell its hash")
    for model_id, model in settings.models.items():
        baselines = _check_model(model_id, model, found)
        _check_reach(settings, baselines, found)
        _check_performance(settings, model_id, baselines, found)
    _check_score(settings, found)
    _check_cost(settings, found)
    return Report(settings, tuple(found.errors), tuple(settings.without_effect() + found.warnings), tuple(found.notes))


def require(
    path: Path | None, flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Settings, Report]:
    """The settings of a configuration that passes. Raises ``ConfigurationError`` with all errors where one does not."""
    report = check(path, flags, environment)
    if report.settings is None or report.errors:
        raise refusal(list(report.errors))
    return report.settings, report


class _Findings:
    """Collects what the parts of the check find."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.notes: list[Problem] = []

    def error(self, at: KeyPath, message: str) -> None:
        self.errors.append(Problem(dotted(at), message))

    def warn(self, at: KeyPath, message: str) -> None:
        self.warnings.append(Problem(dotted(at), message))

    def note(self, at: KeyPath, message: str) -> None:
        self.notes.append(Problem(dotted(at), message))


def _check_client(settings: Settings, found: _Findings) -> None:
    """Let librdkafka itself say what it thinks of its properties; nothing is connected to."""
    from streamdrift.kafka.client import REFUSED_PROPERTIES, try_properties
    from streamdrift.kafka.tokens import token_function

    refused = {name: why for name, why in REFUSED_PROPERTIES.items() if name in settings.kafka.client}
    for name, why in refused.items():
        found.error(("kafka", "client", name), f"cannot be set: {why}")
    if not refused:
        try:
            try_properties(settings.kafka.properties())
        except ConfigurationError as error:
            found.error(("kafka", "client"), str(error).removeprefix("kafka.client: "))
    if settings.kafka.token_provider is not None:
        try:
            token_function(settings.kafka.token_provider)
        except ConfigurationError as error:
            found.error(("kafka", "token_provider"), str(error).removeprefix("kafka.token_provider: "))


def _check_time(settings: Settings, found: _Findings) -> None:
    time = settings.time
    if time.idle is Idle.HOLD:
        found.warn(
            ("time", "idle"), "hold is for back-fills: time stops when traffic stops, and the last ticks stay open"
        )
    if time.idle_after < settings.commit_interval:
        found.warn(("time", "idle_after"), f"is looked at once a commit_interval only, {settings.commit_interval}")
    limit = Duration(_LATE_TICKS * time.tick.microseconds)
    if time.allowed_lateness > limit:
        found.warn(("time", "allowed_lateness"), _late(time.allowed_lateness, time.tick))
    for i, source in enumerate(settings.sources):
        if source.allowed_lateness is not None and source.allowed_lateness > limit:
            found.warn(("sources", i, "allowed_lateness"), _late(source.allowed_lateness, time.tick))


def _late(lateness: Duration, tick: Duration) -> str:
    return f"alerts come {lateness} after the events, {lateness.microseconds // tick.microseconds:,} ticks of {tick}"


def _check_model(model_id: str, model: Model, found: _Findings) -> dict[ModelKey, Baseline]:
    """The baselines of a model, as far as they can be read."""
    at: KeyPath = ("models", model_id)
    if not model.baselines:
        found.note(at, "has no baseline: one is learned from its first events")
    read = {
        (model_id, version): _read_baseline((model_id, version), model, path, (*at, "baselines", version), found)
        for version, path in model.baselines.items()
    }
    baselines = {key: baseline for key, baseline in read.items() if baseline is not None}
    if baselines:
        _check_features(model.features, [baseline.grid for baseline in baselines.values()], (*at, "features"), found)
    return baselines


def _read_baseline(key: ModelKey, model: Model, path: Path, at: KeyPath, found: _Findings) -> Baseline | None:
    try:
        baseline = Baseline.read(path)
    except ConfigurationError as error:
        found.error(at, str(error))
        return None
    if (baseline.grid.model_id, baseline.grid.model_version) != key:
        found.error(at, f"{path} is of model {baseline.grid.model_id}, version {baseline.grid.model_version}")
    watched = baseline.only(model.features.watches, "excluded").grid
    if (size := snapshot_bytes_estimate(watched)) > MAX_SNAPSHOT_BYTES:
        found.error(
            at,
            f"{path}: a snapshot of its {len(watched.columns):,} columns needs up to {size // 1000:,} kB, but at most "
            f"{MAX_SNAPSHOT_BYTES // 1000} kB fit a record; watch fewer features (models.{key[0]}.features.exclude)",
        )
    return baseline


def _check_reach(settings: Settings, baselines: Mapping[ModelKey, Baseline], found: _Findings) -> None:
    """Say of which features only large changes would be seen, since the baseline has few values of them."""
    for (model_id, version), baseline in baselines.items():
        watched = baseline.only(settings.model(model_id).features.watches, "excluded")
        at: KeyPath = ("models", model_id, "baselines", version)
        for explanation in of_few_values(settings, watched, MAX_REACHES):
            found.note(
                at,
                f"{explanation.feature} has {explanation.values:,} values: even at 100 events a second, "
                f"{explanation.smallest} is the least that would be seen within a day",
            )


def _check_performance(
    settings: Settings, model_id: str, baselines: Mapping[ModelKey, Baseline], found: _Findings
) -> None:
    """Say what is judged, and what is missing for it."""
    model = settings.model(model_id)
    if len(baselines) < len(model.baselines):
        return  # a baseline that cannot be read is an error of its own, and may have the benchmarks
    problems = list(missing(settings, baselines, model_id))
    for at, message in problems:
        found.error(at, message)
    if not problems:
        for at, message in notes(settings, baselines, model_id):
            found.note(at, message)
    if model.performance is not None:
        here: KeyPath = ("models", model_id, "performance")
        if all(source.kind is not SourceKind.LABELS for source in settings.sources):
            found.warn(here, "needs labels, and no source is of kind labels")
        for name, metric in model.performance.metrics.items():
            if metric.benchmark == FROM_BASELINE and not metric.tolerance:
                found.warn((*here, "metrics", name), "has no tolerance: by chance alone every other window is worse")


def _check_features(features: Features, grids: Iterable[Grid], at: KeyPath, found: _Findings) -> None:
    columns = {column.name: column for grid in grids for column in grid.columns if column.role is Role.FEATURE}
    reasons = {field.name: field.reason for grid in grids for field in grid.unmonitored}
    if columns and not any(features.watches(name) for name in columns):
        found.warn(at, "include and exclude leave no feature of the baselines")
    for name, feature in features.named.items():
        here = (*at, name)
        if name in reasons:
            found.warn(here, f"is not watched: the baseline set it aside as {reasons[name]}")
        elif name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            found.warn(here, "no baseline has this feature" + (f"; did you mean {near[0]}?" if near else ""))
        elif not features.watches(name):
            found.warn(here, "is not watched: include and exclude leave it out")
        elif feature.river:
            for i, problem in _misplaced(columns[name], [river.spec.binary for river in feature.river]):
                found.warn((*here, "river", i), problem)


def _misplaced(column: Column, binary: list[bool]) -> Iterator[tuple[int, str]]:
    for i, takes_bits in enumerate(binary):
        if column.kind is Kind.CATEGORICAL:
            yield i, "the feature is categorical: River sees the numbers of its categories"
        elif takes_bits:
            yield i, "takes 0 and 1 only, other values are left out"


def _check_score(settings: Settings, found: _Findings) -> None:
    """Detectors of error streams on the prediction's score see nothing."""
    lists: list[tuple[KeyPath, Iterable[bool]]] = [
        (("defaults", "river"), (river.spec.binary for river in settings.defaults.river))
    ]
    lists += [
        (("models", model_id, "river"), (river.spec.binary for river in model.river or ()))
        for model_id, model in settings.models.items()
    ]
    for at, binary in lists:
        for i, takes_bits in enumerate(binary):
            if takes_bits:
                found.warn((*at, i), f"takes 0 and 1 only, and {SCORE} has other values: they are left out")


def _check_cost(settings: Settings, found: _Findings) -> None:
    """Detectors that cost more than all else that is done with an event."""
    rivers: list[tuple[KeyPath, River]] = [
        (("defaults", "river", i), river) for i, river in enumerate(settings.defaults.river)
    ]
    for model_id, model in settings.models.items():
        at: KeyPath = ("models", model_id)
        rivers += [((*at, "river", i), river) for i, river in enumerate(model.river or ())]
        for name, feature in model.features.named.items():
            rivers += [((*at, "features", name, "river", i), river) for i, river in enumerate(feature.river)]
    for where, river in rivers:
        if river.spec.class_name == "drift.KSWIN":
            found.warn(where, "KSWIN takes about 0.3 ms a value: one process follows some 3,000 values a second")
