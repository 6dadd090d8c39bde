"""Every Prometheus metric of streamdrift, declared once, and the collector that renders them.

Nothing is counted here: at each scrape the collector reads a ``Snapshot`` of what the stages have published
and renders it, so that a partition or a model that moved to another process takes its series along. What is
not known has no series: a 0 would look like a measurement.

Rules and alerts use service and model series only; feature series are for dashboards and may be left out by
policy or by the bound.
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from streamdrift import __version__
from streamdrift.grids import Role
from streamdrift.status import FeatureState, FeatureStatus, JoinStatus, ModelState, ModelStatus, Snapshot, SourceStatus
from streamdrift.ticks import END_OF_TIME, MICROSECONDS

MAX_LABEL: Final = 200
"""Longer label values are cut, and kept apart by a hash: names come from users' events."""

MAX_SERIES: Final = 10_000
"""Series of one process that Prometheus should be asked to keep."""


class MetricType(StrEnum):
    """The two kinds that are rendered from status values."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of one metric."""

    name: str
    type: MetricType
    labels: tuple[str, ...]
    help: str

    def family(self) -> CounterMetricFamily | GaugeMetricFamily:
        """An empty family of samples."""
        family = CounterMetricFamily if self.type is MetricType.COUNTER else GaugeMetricFamily
        return family(self.name, self.help, labels=self.labels)


def _counter(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"streamdrift_{name}_total", MetricType.COUNTER, labels, help_)


def _gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"streamdrift_{name}", MetricType.GAUGE, labels, help_)


MODEL: Final = ("model", "model_version")
"""Labels of every series about a model. Segments are never labels: their number is the users' to choose."""

# ---- service -------------------------------------------------------------------------------------------------------

# Joined onto other series to see which release began to behave differently.
BUILD_INFO: Final = _gauge("build_info", "Always 1; the labels say what runs.", "version", "python")

# What came in. consumed + exploded - eventless - rejected - late is what reached a summary, but for control records and
# what waits.
RECORDS_CONSUMED: Final = _counter("records_consumed", "Records read from an input topic.", "source")

# Where a mapping says `explode`, a record holds as many events as its array has elements.
EVENTS_EXPLODED: Final = _counter(
    "events_exploded", "Events beyond the first of a record that holds several.", "source"
)
RECORDS_EVENTLESS: Final = _counter(
    "records_eventless", "Records that hold an array of events, and it is empty.", "source"
)

# A rising share of one reason is a producer that changed its format. `over_bound` stands beside the reasons of dead
# letters: such a record was well formed, but its model or version was one too many.
RECORDS_REJECTED: Final = _counter(
    "records_rejected", "Records that went to the dead letters, or were over a bound.", "source", "reason"
)

# Late events are missing from detection. Above a per mille, `allowed_lateness` is too short for this topic.
RECORDS_LATE: Final = _counter(
    "records_late", "Events whose tick was over when they were read; detection skips them.", "source"
)

# End offset less position, not less the committed offset: commits wait for ticks, and would look like lag.
CONSUMER_LAG: Final = _gauge(
    "consumer_lag_records", "Records of an owned partition that were not read yet.", "topic", "partition"
)

# Compare with time(): a watermark that stands still holds back every tick, and with it every alarm.
WATERMARK: Final = _gauge(
    "watermark_timestamp_seconds", "Event time up to which a source is complete on the partitions owned here.", "source"
)

# The heartbeat that /livez looks at.
LAST_POLL: Final = _gauge("last_poll_timestamp_seconds", "When a stage's loop last came round.", "stage")

# Many of them in an hour: members that time out, or a deployment that restarts in circles.
REBALANCES: Final = _counter("rebalances", "Changes of partition ownership, by stage and event.", "stage", "event")

# What a restart cost: records that were read a second time to be where the process had been.
REPLAYED_RECORDS: Final = _counter("replayed_records", "Records read again to rebuild state after a restart.")

# Not 0, and detection misses events that were read in time: `late` after an added partition or a reset offset,
# `over_bound` beyond bounds.models, `other_grid` while members of different configurations run side by side.
EVENTS_REFUSED: Final = _counter("events_refused", "Summarised events that no detector saw.", "reason")

# What became of the predictions of a source with labels, in the partitions owned here, since their stores began. The
# states add up to all of them: labelled, pending, expired, sampled_out. Much of the last: join.max_rows is too small.
JOIN_PREDICTIONS: Final = _gauge("join_predictions", "Predictions by what became of them.", "source", "state")

# The same of labels: labelled, revised, duplicate, orphan, unheard. Many orphans: labels are keyed otherwise than their
# predictions, name them otherwise, or come later than join.wait.
JOIN_LABELS: Final = _gauge("join_labels", "Labels by what became of them.", "source", "fate")

# About 60 bytes on disk each. Compare with join.max_rows times the partitions owned here.
JOIN_ROWS: Final = _gauge("join_rows", "Predictions and labels that are kept for a source of labels.", "source")

# Those that are no events are dead letters of summarise; `without_id` are good events that no label can name.
JOIN_SKIPPED: Final = _counter(
    "join_skipped", "Records of predictions that take no part in the join.", "source", "reason"
)

# Above 0, dashboards show less than there is. A series is counted each time that it begins to be left out, so the
# number does not depend on how often it is scraped.
SERIES_DROPPED: Final = _counter("series_dropped", "Series left out of this page because of a bound.", "reason")

# ---- models: the series that rules use -----------------------------------------------------------------------------

# 1 for the state that the version is in, 0 for the others. Until a version is watching, nothing but River looks at it,
# and that must not look like health.
MODEL_STATE: Final = _gauge("model_state", "1 for the state that a model version is in.", *MODEL, "state")

# Against learning_events_needed: how far a model that is learning or calibrating has come. Absent once it is watched.
LEARNING_EVENTS: Final = _gauge("learning_events", "Events from which the model version has learned so far.", *MODEL)
LEARNING_EVENTS_NEEDED: Final = _gauge(
    "learning_events_needed", "Events that the present state of learning takes.", *MODEL
)

# With rate(): whether event time moves for this model.
TICKS_CLOSED: Final = _counter("ticks_closed", "Event-time ticks closed since the monitor began.", *MODEL)

# Traffic as detection saw it; late and rejected events are not in it.
EVENTS: Final = _counter("events", "Events in closed ticks since the monitor began.", *MODEL)

# The one number to sort models by: evidence over alarm threshold; at 1 the feature alarms.
EVIDENCE_RATIO_MAX: Final = _gauge(
    "evidence_ratio_max", "Highest evidence ratio of the model's columns; 1 or more is an alarm.", *MODEL
)

# How many columns are in each state, all states being listed.
FEATURES: Final = _gauge("features", "Monitored columns by state.", *MODEL, "state")

# The gauge that alerting rules stand on. Kinds that this version can report are there with 0, so that sums exist.
INCIDENTS_OPEN: Final = _gauge("incidents_open", "Incidents open now.", *MODEL, "kind", "severity")

# Starts at 0 for the same kinds: increase() cannot see the first alert of a series that is born with it.
ALERTS_PUBLISHED: Final = _counter(
    "alerts_published", "Alerts produced to the alerts topic since start.", *MODEL, "kind", "severity"
)

# Snapshots over the broker's record limit (1 MB by default) cannot be written.
STATE_BYTES: Final = _gauge("state_bytes", "Size of the model's last snapshot.", *MODEL)

# ---- features: for dashboards, within the policy -------------------------------------------------------------------

# Uncalibrated corroboration; streams and detectors are named by configuration.
RIVER_DETECTIONS: Final = _counter(
    "river_detections", "Changes that a River detector reported.", *MODEL, "stream", "detector"
)

# How far the published window is from the baseline. Metrics: psi, jensen_shannon, kolmogorov_smirnov, wasserstein,
# l_infinity. Absent while the window holds too few events: raw PSI of 200 events is 0.145 with no drift at all.
DRIFT_EFFECT: Final = _gauge(
    "drift_effect", "Size of the difference from the baseline, bias-corrected.", *MODEL, "feature", "metric"
)

# Evidence, unlike effect, grows with n: a small shift of much traffic passes 1, a large one of ten events does not.
EVIDENCE_RATIO: Final = _gauge(
    "evidence_ratio", "Evidence over alarm threshold; 1 or more is an alarm.", *MODEL, "feature", "detector"
)

# Numbers, so that a state timeline can be drawn; the order is that of FeatureState.
FEATURE_STATE: Final = _gauge(
    "feature_state", "0 ok, 1 info, 2 warning, 3 critical, 4 no data, 5 learning.", *MODEL, "feature"
)

# The three quality ratios are shares of the events in the published window.
MISSING_RATIO: Final = _gauge("missing_ratio", "Share of events without a value.", *MODEL, "feature")
UNSEEN_CATEGORY_RATIO: Final = _gauge(
    "unseen_category_ratio", "Share of events with a category that the baseline does not know.", *MODEL, "feature"
)
TYPE_ERROR_RATIO: Final = _gauge(
    "type_error_ratio", "Share of events with a value of the wrong type.", *MODEL, "feature"
)

METRICS: Final = (
    BUILD_INFO,
    RECORDS_CONSUMED,
    EVENTS_EXPLODED,
    RECORDS_EVENTLESS,
    RECORDS_REJECTED,
    RECORDS_LATE,
    CONSUMER_LAG,
    WATERMARK,
    LAST_POLL,
    REBALANCES,
    REPLAYED_RECORDS,
    EVENTS_REFUSED,
    JOIN_PREDICTIONS,
    JOIN_LABELS,
    JOIN_ROWS,
    JOIN_SKIPPED,
    SERIES_DROPPED,
    MODEL_STATE,
    LEARNING_EVENTS,
    LEARNING_EVENTS_NEEDED,
    TICKS_CLOSED,
    EVENTS,
    EVIDENCE_RATIO_MAX,
    FEATURES,
    INCIDENTS_OPEN,
    ALERTS_PUBLISHED,
    STATE_BYTES,
    RIVER_DETECTIONS,
    DRIFT_EFFECT,
    EVIDENCE_RATIO,
    FEATURE_STATE,
    MISSING_RATIO,
    UNSEEN_CATEGORY_RATIO,
    TYPE_ERROR_RATIO,
)

KINDS: Final = ("data_drift", "prediction_drift", "data_quality")
"""Kinds of incident that are listed with 0 while there are none."""
SEVERITIES: Final = ("info", "warning", "critical")

STATE_NUMBERS: Final = {state: number for number, state in enumerate(FeatureState)}

# ---- which features have series ------------------------------------------------------------------------------------


class FeatureSeries(StrEnum):
    """``metrics.features``: whose columns have series of their own."""

    NONE = "none"
    LISTED = "listed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """Which columns have series. The columns of the prediction are few and always among them, unless none are."""

    series: FeatureSeries = FeatureSeries.ALL
    listed: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By model id, the features that the configuration names; used by ``LISTED``."""
    per_model: int = 50
    """Most features of a model version under ``ALL``: the first ones of the grid."""

    def allows(self, model_id: str, feature: FeatureStatus) -> bool:
        """Whether the policy wants series of the column at all, the number aside."""
        match self.series:
            case FeatureSeries.NONE:
                return False
            case FeatureSeries.LISTED:
                return feature.role == Role.PREDICTION or feature.name in self.listed.get(model_id, ())
            case FeatureSeries.ALL:
                return True

    def has_room(self, admitted: Collection[str], feature: FeatureStatus) -> bool:
        """Whether one more column fits the number."""
        limited = self.series is FeatureSeries.ALL and feature.role != Role.PREDICTION
        return not limited or len(admitted) < self.per_model


class DropReason(StrEnum):
    """Why a series is left out."""

    FEATURES_PER_MODEL = "features_per_model"
    PROCESS_BOUND = "process_bound"


# ---- status values to series ---------------------------------------------------------------------------------------

Series = tuple[Metric, tuple[str, ...], float | None]
"""A metric, its label values in declared order, and the value; None is left out."""


def _service_series(snapshot: Snapshot) -> Iterator[Series]:
    yield BUILD_INFO, (__version__, platform.python_version()), 1
    yield REPLAYED_RECORDS, (), snapshot.replayed_records
    for reason, count in snapshot.refused.items():
        yield EVENTS_REFUSED, (reason,), count
    for loop in snapshot.loops:
        yield LAST_POLL, (loop.stage,), loop.last_poll_s
        for event, count in loop.rebalances.items():
            yield REBALANCES, (loop.stage, event), count
    for join in snapshot.joins:
        yield from _join_series(join)
    # Two stages may read one topic; the worse of the two is the one to know.
    lags: dict[tuple[str, str], int] = {}
    for loop in snapshot.loops:
        for tp, lag in loop.lag.items():
            labels = (tp.topic, str(tp.partition))
            lags[labels] = max(lag, lags.get(labels, 0))
    for labels, lag in lags.items():
        yield CONSUMER_LAG, labels, lag
    for source in snapshot.sources:
        yield from _source_series(source)


def _source_series(source: SourceStatus) -> Iterator[Series]:
    yield RECORDS_CONSUMED, (source.topic,), source.consumed
    yield EVENTS_EXPLODED, (source.topic,), source.exploded
    yield RECORDS_EVENTLESS, (source.topic,), source.eventless
    for reason, count in source.dead.items():
        yield RECORDS_REJECTED, (source.topic, reason), count
    yield RECORDS_REJECTED, (source.topic, "over_bound"), source.over_bound
    yield RECORDS_LATE, (source.topic,), source.late
    # A source that has ended waits for nothing: no date would say so.
    if source.watermark_us is not None and source.watermark_us < END_OF_TIME:
        yield WATERMARK, (source.topic,), source.watermark_us / MICROSECONDS


def _join_series(join: JoinStatus) -> Iterator[Series]:
    for state in ("labelled", "expired", "sampled_out"):
        yield JOIN_PREDICTIONS, (join.predictions, state), join.fates.get(state, 0)
    yield JOIN_PREDICTIONS, (join.predictions, "pending"), join.pending
    for fate in ("labelled", "revised", "duplicate", "orphan", "unheard"):
        yield JOIN_LABELS, (join.labels, fate), join.fates.get(fate, 0)
    yield JOIN_ROWS, (join.labels,), join.rows
    for reason, count in join.refused.items():
        yield JOIN_SKIPPED, (join.predictions, reason), count


def _model_series(model: ModelStatus) -> Iterator[Series]:
    this = (model.model_id, model.model_version)
    for state in ModelState:
        yield MODEL_STATE, (*this, state), int(model.state is state)
    if model.learning:
        yield LEARNING_EVENTS, this, model.learning.events
        yield LEARNING_EVENTS_NEEDED, this, model.learning.needed
    yield TICKS_CLOSED, this, model.ticks_closed
    yield EVENTS, this, model.events
    yield STATE_BYTES, this, model.state_bytes
    if model.features:
        ratios = [f.evidence_ratio for f in model.features if f.evidence_ratio is not None]
        yield EVIDENCE_RATIO_MAX, this, max(ratios, default=None)
        states = Counter(f.state for f in model.features)
        for feature_state in FeatureState:
            yield FEATURES, (*this, feature_state), states[feature_state]
    open_now = Counter((i.kind, i.severity) for i in model.incidents if i.resolved_us is None)
    known = {(kind, severity): 0 for kind in KINDS for severity in SEVERITIES}
    for labels, count in (known | open_now).items():
        yield INCIDENTS_OPEN, (*this, *labels), count
    for labels, count in {**known, **model.alerts}.items():
        yield ALERTS_PUBLISHED, (*this, *labels), count


def _river_series(model: ModelStatus) -> Iterator[Series]:
    for river in model.river:
        labels = (model.model_id, model.model_version, river.stream, river.detector)
        yield RIVER_DETECTIONS, labels, river.detections


def _feature_series(model: ModelStatus, feature: FeatureStatus) -> Iterator[Series]:
    this = (model.model_id, model.model_version, feature.name)
    yield FEATURE_STATE, this, STATE_NUMBERS[feature.state]
    yield EVIDENCE_RATIO, (*this, feature.detector), feature.evidence_ratio
    for metric, effect in feature.effects.items():
        yield DRIFT_EFFECT, (*this, metric), effect
    yield MISSING_RATIO, this, feature.missing_ratio
    yield UNSEEN_CATEGORY_RATIO, this, feature.unseen_ratio
    yield TYPE_ERROR_RATIO, this, feature.type_error_ratio


def _label(value: str) -> str:
    """A label value that any scrape can carry, different for different values."""
    if len(value) <= MAX_LABEL and value.isascii():
        return value
    data = value.encode("utf-8", "backslashreplace")  # a lone surrogate would break the whole page
    if len(value) <= MAX_LABEL:
        return data.decode()
    return f"{data.decode()[: MAX_LABEL - 17]}…{hashlib.blake2b(data, digest_size=8).hexdigest()}"


class _Page:
    """The series of one scrape: what fitted, and what did not."""

    def __init__(self, bound: int) -> None:
        self._room = bound
        self._series: dict[str, dict[tuple[str, ...], float]] = {metric.name: {} for metric in METRICS}
        self.dropped: dict[DropReason, set[int]] = {reason: set() for reason in DropReason}

    def add(self, series: Iterable[Series]) -> None:
        for metric, labels, value in series:
            if value is None or not math.isfinite(value):
                continue
            if self._room > 0:
                self._room -= 1
                self._series[metric.name][tuple(map(_label, labels))] = value
            else:
                self.dropped[DropReason.PROCESS_BOUND].add(hash((metric.name, labels)))

    def drop(self, series: Iterable[Series]) -> None:
        self.dropped[DropReason.FEATURES_PER_MODEL].update(
            hash((metric.name, labels)) for metric, labels, value in series if value is not None
        )

    def add_dropped(self, totals: Mapping[DropReason, int]) -> None:
        """Room was kept for these: a full page must say that it is full."""
        self._series[SERIES_DROPPED.name] = {(reason,): total for reason, total in totals.items()}

    def families(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for metric in METRICS:
            if samples := self._series[metric.name]:
                family = metric.family()
                for labels, value in samples.items():
                    family.add_metric(labels, value)
                yield family


class StreamdriftCollector(Collector):
    """Renders what ``read`` returns, at scrape time, on the thread of the scrape.

    ``read`` must return at once and may be called from several threads. Under the ``bound`` of series, those
    of the service come first, then those of all models, then those of features.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        *,
        features: FeaturePolicy | None = None,
        bound: int = MAX_SERIES,
    ) -> None:
        self._read = read
        self._features = features or FeaturePolicy()
        self._bound = bound
        self._lock = Lock()
        # By model version, in the order they were first seen: who has series keeps them, whoever comes later.
        self._admitted: dict[tuple[str, str], dict[str, None]] = {}
        self._dropped: dict[DropReason, set[int]] = {reason: set() for reason in DropReason}
        self._dropped_total = dict.fromkeys(DropReason, 0)

    def describe(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Names for the registry, which must not cost a scrape."""
        return [metric.family() for metric in METRICS]

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        with self._lock:
            return list(self._page(self._read()).families())

    def _page(self, snapshot: Snapshot) -> _Page:
        models = {(model.model_id, model.model_version): model for model in snapshot.models}
        self._admitted = {key: names for key, names in self._admitted.items() if key in models}
        for key in models:
            self._admitted.setdefault(key, {})
        page = _Page(self._bound - len(DropReason))
        page.add(_service_series(snapshot))
        for key in self._admitted:
            page.add(_model_series(models[key]))
        for key, admitted in self._admitted.items():
            page.add(_river_series(models[key]))
            self._add_features(page, models[key], admitted)
        page.add_dropped(self._count(page.dropped))
        return page

    def _add_features(self, page: _Page, model: ModelStatus, admitted: dict[str, None]) -> None:
        for feature in model.features:
            if not self._features.allows(model.model_id, feature):
                continue
            if feature.name in admitted or self._features.has_room(admitted, feature):
                if feature.role != Role.PREDICTION:
                    admitted[feature.name] = None
                page.add(_feature_series(model, feature))
            else:
                page.drop(_feature_series(model, feature))

    def _count(self, dropped: Mapping[DropReason, set[int]]) -> Mapping[DropReason, int]:
        for reason, series in dropped.items():
            self._dropped_total[reason] += len(series - self._dropped[reason])
            self._dropped[reason] = series
        return self._dropped_total


def registry(collector: Collector) -> CollectorRegistry:
    """What ``/metrics`` shows: streamdrift's own metrics, and those of the Python process."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
