"""The collector that renders the metrics of ``prometheus_metrics``.

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
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector

from streamdrift import __version__
from streamdrift.grids import Role
from streamdrift.outcome_series import outcome_series, retraining_series
from streamdrift.prometheus_metrics import (
    ALERTS_PUBLISHED,
    BUILD_INFO,
    CALIBRATED,
    CONSUMER_LAG,
    DRIFT_EFFECT,
    EVENTS,
    EVENTS_EXPLODED,
    EVENTS_REFUSED,
    EVIDENCE_RATIO,
    EVIDENCE_RATIO_MAX,
    FEATURE_STATE,
    FEATURES,
    INCIDENTS_MUTED,
    INCIDENTS_OPEN,
    JOIN_LABELS,
    JOIN_PREDICTIONS,
    JOIN_ROWS,
    JOIN_SKIPPED,
    KINDS,
    LABELS_REFUSED,
    LAST_POLL,
    LEARNING_EVENTS,
    LEARNING_EVENTS_NEEDED,
    METRICS,
    MISSING_RATIO,
    MODEL_STATE,
    REBALANCES,
    RECORDS_CONSUMED,
    RECORDS_EVENTLESS,
    RECORDS_LATE,
    RECORDS_REJECTED,
    REPLAYED_RECORDS,
    RIVER_DETECTIONS,
    SERIES_DROPPED,
    SEVERITIES,
    STATE_BYTES,
    TICKS_CLOSED,
    TYPE_ERROR_RATIO,
    UNSEEN_CATEGORY_RATIO,
    WATERMARK,
    Metric,
    MetricType,
    Series,
)
from streamdrift.status import FeatureState, FeatureStatus, JoinStatus, ModelState, ModelStatus, Snapshot, SourceStatus
from streamdrift.ticks import END_OF_TIME, MICROSECONDS

MAX_LABEL: Final = 200
"""Longer label values are cut, and kept apart by a hash: names come from users' events."""

MAX_SERIES: Final = 10_000
"""Series of one process that Prometheus should be asked to keep."""


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


def _service_series(snapshot: Snapshot) -> Iterator[Series]:
    yield BUILD_INFO, (__version__, platform.python_version()), 1
    yield REPLAYED_RECORDS, (), snapshot.replayed_records
    for reason, count in snapshot.refused.items():
        yield EVENTS_REFUSED, (reason,), count
    for reason, count in snapshot.refused_labels.items():
        yield LABELS_REFUSED, (reason,), count
    for loop in snapshot.loops:
        yield LAST_POLL, (loop.stage,), loop.last_poll_s
        for event, count in loop.rebalances.items():
            yield REBALANCES, (loop.stage, event), count
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
    for join in snapshot.joins:
        yield from _join_series(join)


def _join_series(join: JoinStatus) -> Iterator[Series]:
    for state in ("labelled", "expired", "sampled_out"):
        yield JOIN_PREDICTIONS, (join.predictions, state), join.fates.get(state, 0)
    yield JOIN_PREDICTIONS, (join.predictions, "pending"), join.pending
    for fate in ("labelled", "revised", "duplicate", "orphan", "unheard"):
        yield JOIN_LABELS, (join.labels, fate), join.fates.get(fate, 0)
    yield JOIN_ROWS, (join.labels,), join.rows
    for reason, count in join.refused.items():
        yield JOIN_SKIPPED, (join.predictions, reason), count


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
    open_now = Counter((i.kind, i.severity) for i in model.incidents if i.is_open)
    known = {(kind, severity): 0 for kind in KINDS for severity in SEVERITIES}
    for labels, count in (known | open_now).items():
        yield INCIDENTS_OPEN, (*this, *labels), count
    yield CALIBRATED, this, int(model.state is ModelState.WATCHING)
    yield INCIDENTS_MUTED, this, sum(i.resolved_us is None and not i.is_open for i in model.incidents)
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


Family = CounterMetricFamily | GaugeMetricFamily | MetricFamily


def _family(metric: Metric, samples: Mapping[tuple[str, ...], float]) -> Family:
    """A metric with its samples."""
    if metric.type is MetricType.HISTOGRAM:
        histogram = MetricFamily(metric.name.removesuffix("_bucket"), metric.help, "histogram")
        for labels, value in samples.items():
            histogram.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
        return histogram
    of_type = CounterMetricFamily if metric.type is MetricType.COUNTER else GaugeMetricFamily
    family = of_type(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family


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

    def families(self) -> Iterator[Family]:
        for metric in METRICS:
            if samples := self._series[metric.name]:
                yield _family(metric, samples)


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

    def describe(self) -> Iterable[Family]:
        """Names for the registry, which must not cost a scrape."""
        return [_family(metric, {}) for metric in METRICS]

    def collect(self) -> Iterable[Family]:
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
        for outcome in snapshot.outcomes:
            page.add(outcome_series(outcome))
        for retraining in snapshot.retraining:
            page.add(retraining_series(retraining))
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
