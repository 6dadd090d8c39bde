"""Series of outcomes and of retraining: what their status comes to for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np

from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.performance import Report, Standing
from streamdrift.prometheus_metrics import (
    ALERTS_PUBLISHED,
    INCIDENTS_OPEN,
    KINDS_OF_LABELS,
    LABEL_COVERAGE,
    LABEL_DELAY,
    LABELS,
    LABELS_FRESH,
    MODEL_METRIC,
    MODEL_METRIC_BENCHMARK,
    PREDICTIONS,
    PREDICTIONS_PENDING,
    RETRAINING_OPEN,
    RETRAINING_REQUESTS,
    SEVERITIES,
    Series,
)
from streamdrift.summaries.coverage import DELAY_BINS, DELAY_EDGES_US, Coverage, Fate
from streamdrift.ticks import MICROSECONDS

BUCKETS: Final = (0, 12, 20, 24, 28, 32, 34, 36, 38, 40, 42)
"""Edges of label delays that end a bucket: 1 s, 1 min, 17 min, 1 h, 5 h, 18 h, 1.5, 3, 6, 12 and 24 days."""

_PREDICTIONS: Final = (Fate.LABELLED, Fate.EXPIRED, Fate.SAMPLED_OUT)
_LABELS: Final = (Fate.LABELLED, Fate.REVISED, Fate.DUPLICATE, Fate.ORPHAN, Fate.UNHEARD)


def outcome_series(outcomes: OutcomeStatus) -> Iterator[Series]:
    """The performance of a model version, and what became of its predictions and labels."""
    this = (outcomes.model_id, outcomes.model_version)
    for report, standing in shown(outcomes):
        for reading in report.readings:
            if reading.standing is standing and reading.estimate is not None:
                yield MODEL_METRIC, (*this, reading.metric, standing), reading.estimate.value
        if standing is Standing.MEASURED:
            yield LABEL_COVERAGE, this, report.coverage.ratio
    for target in outcomes.targets:
        yield MODEL_METRIC_BENCHMARK, (*this, target.metric), target.benchmark
    yield from _coverage_series(outcomes)
    known = {(kind, severity): 0 for kind in KINDS_OF_LABELS for severity in SEVERITIES}
    open_now = Counter((i.kind, i.severity) for i in outcomes.incidents if i.is_open)
    for labels, count in (known | open_now).items():
        yield INCIDENTS_OPEN, (*this, *labels), count
    for labels, count in {**known, **outcomes.alerts}.items():
        yield ALERTS_PUBLISHED, (*this, *labels), count


def _coverage_series(outcomes: OutcomeStatus) -> Iterator[Series]:
    this, coverage = (outcomes.model_id, outcomes.model_version), outcomes.coverage
    for fate in _PREDICTIONS:
        yield PREDICTIONS, (*this, fate.name.lower()), coverage[fate]
    yield PREDICTIONS_PENDING, this, coverage.pending
    for fate in _LABELS:
        yield LABELS, (*this, fate.name.lower()), coverage[fate]
    yield LABELS, (*this, "late"), outcomes.late
    for end, count in buckets(coverage):
        yield LABEL_DELAY, (*this, end), count


def retraining_series(retraining: RetrainingStatus) -> Iterator[Series]:
    """The retraining of a model, over all its versions."""
    yield RETRAINING_OPEN, (retraining.model_id,), int(retraining.open_request is not None)
    yield LABELS_FRESH, (retraining.model_id,), retraining.fresh_labels
    for policy, count in retraining.requests.items():
        yield RETRAINING_REQUESTS, (retraining.model_id, policy), count


def shown(outcomes: OutcomeStatus) -> Iterator[tuple[Report, Standing]]:
    """The last closed window, and the newest open one that has a number."""
    windows = outcomes.windows.windows if outcomes.windows else ()
    closed = {window for window, _, _, is_closed in windows if is_closed}
    reports = outcomes.reports
    yield from [(report, Standing.MEASURED) for report in reports if report.window in closed][:1]
    told = [r for r in reports if any(reading.standing is Standing.PROVISIONAL for reading in r.readings)]
    yield from [(report, Standing.PROVISIONAL) for report in told][:1]


def buckets(coverage: Coverage) -> Iterator[tuple[str, int]]:
    """Labels that took no longer than each end, in seconds as ``le`` has them; the last one holds all."""
    up_to = np.cumsum(coverage.delays.dense(0, DELAY_BINS))
    for edge in BUCKETS:
        yield str(float(DELAY_EDGES_US[edge]) / MICROSECONDS), int(up_to[edge])
    yield "+Inf", int(up_to[-1])
