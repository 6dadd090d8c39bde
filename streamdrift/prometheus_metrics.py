"""Every Prometheus metric of streamdrift, declared once, with what it is good for.

``telemetry`` renders them. Rules and alerts use service and model series only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MetricType(StrEnum):
    """The kinds that are rendered from status values."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    """By bucket: the label ``le`` is its upper end."""


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of one metric."""

    name: str
    type: MetricType
    labels: tuple[str, ...]
    help: str


Series = tuple[Metric, tuple[str, ...], float | None]
"""A metric, its label values in declared order, and the value; None is left out."""


def _counter(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"streamdrift_{name}_total", MetricType.COUNTER, labels, help_)


def _gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"streamdrift_{name}", MetricType.GAUGE, labels, help_)


def _histogram(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"streamdrift_{name}_bucket", MetricType.HISTOGRAM, (*labels, "le"), help_)


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

# The same of labels that the join had paired: no detector heard of them, and no window holds them.
LABELS_REFUSED: Final = _counter("labels_refused", "Labelled predictions that no detector heard of.", "reason")

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

# 0 while live traffic still says what is usual: until then no incident is more than info.
CALIBRATED: Final = _gauge("calibrated", "1 once the model's rate of false alarms is known.", *MODEL)

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

# Beside incidents_open, where they are not: drift that is recorded while `mute` keeps it from the topic.
INCIDENTS_MUTED: Final = _gauge("incidents_muted", "Incidents that last, and of which nobody is told.", *MODEL)

# Starts at 0 for the same kinds: increase() cannot see the first alert of a series that is born with it.
ALERTS_PUBLISHED: Final = _counter(
    "alerts_published", "Alerts produced to the alerts topic since start.", *MODEL, "kind", "severity"
)

# Snapshots over the broker's record limit (1 MB by default) cannot be written.
STATE_BYTES: Final = _gauge("state_bytes", "Size of the model's last snapshot.", *MODEL)

# ---- labels: how models perform ------------------------------------------------------------------------------------

# Of the last window whose labels have had their time (labels="measured"), and of the newest one that is still open and
# has enough of them (labels="provisional"). Judge the former only: labels that come early differ from those that come
# late.
MODEL_METRIC: Final = _gauge(
    "model_metric", "A performance metric of a window of predictions.", *MODEL, "metric", "labels"
)

# Absent where a metric is reported and not judged. An incident of kind performance says that the tolerance is exceeded.
MODEL_METRIC_BENCHMARK: Final = _gauge(
    "model_metric_benchmark", "What a performance metric is held against.", *MODEL, "metric"
)

# Of the same window as labels="measured". Falls when a feed of labels breaks, long before metrics are missing.
LABEL_COVERAGE: Final = _gauge(
    "label_coverage_ratio", "Share of the predictions of the last closed window that have a label.", *MODEL
)

# With histogram_quantile(): whether models.<model>.performance.label_delay is long enough.
LABEL_DELAY: Final = _histogram("label_delay_seconds", "Time from a prediction to its label, of labels so far.", *MODEL)

# predictions = labelled + expired + sampled_out + pending; the first three as counters, for they never fall.
PREDICTIONS: Final = _counter("predictions", "Predictions by what became of them.", *MODEL, "outcome")
PREDICTIONS_PENDING: Final = _gauge("predictions_pending", "Predictions that a label may still reach.", *MODEL)

# Orphans are labels of predictions that nobody saw, or that came too late: a join by the wrong id shows here. `late`
# came after its window had closed, and is in no metric.
LABELS: Final = _counter("labels", "Labels by what became of them.", *MODEL, "fate")

# 1 while a request to train the model anew is open: nobody asks again until it is answered, or lapses.
RETRAINING_OPEN: Final = _gauge("retraining_request_open", "1 while a retraining request is open.", "model")
RETRAINING_REQUESTS: Final = _counter("retraining_requests", "Retraining requests since start.", "model", "policy")
LABELS_FRESH: Final = _gauge("labels_fresh", "Labels that no training has seen.", "model")

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
    LABELS_REFUSED,
    JOIN_PREDICTIONS,
    JOIN_LABELS,
    JOIN_ROWS,
    JOIN_SKIPPED,
    SERIES_DROPPED,
    MODEL_STATE,
    CALIBRATED,
    LEARNING_EVENTS,
    LEARNING_EVENTS_NEEDED,
    TICKS_CLOSED,
    EVENTS,
    EVIDENCE_RATIO_MAX,
    FEATURES,
    INCIDENTS_OPEN,
    INCIDENTS_MUTED,
    ALERTS_PUBLISHED,
    STATE_BYTES,
    MODEL_METRIC,
    MODEL_METRIC_BENCHMARK,
    LABEL_COVERAGE,
    LABEL_DELAY,
    PREDICTIONS,
    PREDICTIONS_PENDING,
    LABELS,
    RETRAINING_OPEN,
    RETRAINING_REQUESTS,
    LABELS_FRESH,
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
KINDS_OF_LABELS: Final = ("performance", "concept_drift", "label_drift")
"""The same of a model version that has labels."""
SEVERITIES: Final = ("info", "warning", "critical")
