"""``/api/v1/status``: the document behind the status page.

::

    {"version": "0.1.0", "time": "2026-11-22T10:00:05.000Z",
     "sources": [{"topic", "kind", "consumed", "summarised", "late", "control", "over_bound", "exploded", "eventless",
                  "rejected": {reason: n}, "lag": n | null, "watermark": time | null, "ended": bool}],
     "models": [{"model_id", "model_version", "state", "baseline_id", "events", "ticks_closed", "last_event_time",
                 "learning": {"events", "needed", "until"} | null,
                 "compared_with": {"model_version", "events", "features"} | null,
                 "window_events", "features": [...], "unmonitored": {name: reason}, "river": [...],
                 "incidents": [...], "alerts_published": [{"kind", "severity", "count"}], "state_bytes",
                 "lately": {"incidents", "expected_by_chance", "seconds"} | null}],
     "stages": [{"stage", "last_poll", "assigned", "restored", "rebalances": {event: n}, "lag": n}],
     "refused": {reason: n},
     "refused_labels": {reason: n},
     "joins": [{"predictions", "labels", "fates": {fate: n}, "pending", "rows", "refused": {reason: n}}],
     "outcomes": [{"model_id", "model_version", "task", "classes", "window_seconds", "metrics": [{"metric", "benchmark",
                   "tolerance"}], "windows": [{"from", "to", "coverage", "metrics": [{"metric", "standing", "value",
                   "standard_error", "n", "reason"}]}], "coverage": {fate: n}, "pending", "late", "last_label_time",
                   "errors", "incidents": [...], "alerts_published": [...], "incidents_lately": n}],
     "retraining": [{"model_id", "model_version", "predecessor", "open_request", "fresh_labels",
                     "held_back": {policy: why}, "requests": {policy: n}, "comparison": [...]}]}

Times are RFC 3339 in UTC; what is not known is null; keys are only ever added.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamdrift import __version__
from streamdrift.http.outcome_api import outcome_documents
from streamdrift.http.values import Document, finite, incident_document, rfc3339
from streamdrift.status import (
    Comparison,
    FeatureStatus,
    JoinStatus,
    Lately,
    LearningStatus,
    LoopStatus,
    ModelStatus,
    RiverStatus,
    Snapshot,
    SourceStatus,
)
from streamdrift.ticks import END_OF_TIME, MICROSECONDS


def status(snapshot: Snapshot, now_s: float) -> Document:
    """The whole document, of values that any JSON encoder takes."""
    return {
        "version": __version__,
        "time": rfc3339(now_s * MICROSECONDS),
        "sources": [_source(source, lag_of(source.topic, snapshot.loops)) for source in snapshot.sources],
        "models": [_model(model) for model in snapshot.models],
        "stages": [_stage(loop) for loop in snapshot.loops],
        "refused": dict(snapshot.refused),
        "refused_labels": dict(snapshot.refused_labels),
        "joins": [_join(join) for join in snapshot.joins],
        **outcome_documents(snapshot),
    }


def lag_of(topic: str, loops: Sequence[LoopStatus]) -> int | None:
    """Records of a topic that are still to be read by the stage furthest behind; None while no partition is owned."""
    lags = [[lag for tp, lag in loop.lag.items() if tp.topic == topic] for loop in loops]
    return max((sum(lag) for lag in lags if lag), default=None)


def _source(source: SourceStatus, lag: int | None) -> Document:
    return {
        "topic": source.topic,
        "kind": source.kind,
        "consumed": source.consumed,
        "summarised": source.summarised,
        "late": source.late,
        "control": source.control,
        "over_bound": source.over_bound,
        "exploded": source.exploded,
        "eventless": source.eventless,
        "rejected": dict(source.dead),
        "lag": lag,
        "watermark": rfc3339(source.watermark_us),
        "ended": source.watermark_us is not None and source.watermark_us >= END_OF_TIME,
    }


def _model(model: ModelStatus) -> Document:
    return {
        "model_id": model.model_id,
        "model_version": model.model_version,
        "state": model.state,
        "baseline_id": model.baseline_id,
        "learning": None if model.learning is None else _learning(model.learning),
        "compared_with": None if model.compared_with is None else _comparison(model.compared_with),
        "events": model.events,
        "ticks_closed": model.ticks_closed,
        "last_event_time": rfc3339(model.last_event_us),
        "window_events": model.window_events,
        "features": [_feature(feature) for feature in model.features],
        "unmonitored": dict(model.unmonitored),
        "river": [_river(river) for river in model.river],
        "incidents": [incident_document(incident) for incident in model.incidents],
        "alerts_published": [
            {"kind": kind, "severity": severity, "count": count} for (kind, severity), count in model.alerts.items()
        ],
        "state_bytes": model.state_bytes,
        "lately": None if model.lately is None else _lately(model.lately),
    }


def _lately(lately: Lately) -> Document:
    return {
        "incidents": lately.incidents,
        "expected_by_chance": finite(lately.expected),
        "seconds": lately.span_us / MICROSECONDS,
    }


def _learning(learning: LearningStatus) -> Document:
    return {"events": learning.events, "needed": learning.needed, "until": rfc3339(learning.until_us)}


def _comparison(comparison: Comparison) -> Document:
    return {
        "model_version": comparison.model_version,
        "events": comparison.events,
        "features": [
            {"name": c.name, "effects": {metric: finite(effect) for metric, effect in c.effects.items()}}
            for c in comparison.features
        ],
    }


def _feature(feature: FeatureStatus) -> Document:
    return {
        "name": feature.name,
        "kind": feature.kind,
        "role": feature.role,
        "state": feature.state,
        "effects": {metric: finite(effect) for metric, effect in feature.effects.items()},
        "evidence_ratio": finite(feature.evidence_ratio),
        "detector": feature.detector,
        "missing_ratio": finite(feature.missing_ratio),
        "unseen_ratio": finite(feature.unseen_ratio),
        "type_error_ratio": finite(feature.type_error_ratio),
        "mean": finite(feature.mean),
        "baseline_mean": finite(feature.baseline_mean),
        "muted": feature.muted or None,
    }


def _river(river: RiverStatus) -> Document:
    return {
        "stream": river.stream,
        "detector": river.detector,
        "detections": river.detections,
        "last_detection": rfc3339(river.last_detection_us),
    }


def _join(join: JoinStatus) -> Document:
    return {
        "predictions": join.predictions,
        "labels": join.labels,
        "fates": dict(join.fates),
        "pending": join.pending,
        "rows": join.rows,
        "refused": dict(join.refused),
    }


def _stage(loop: LoopStatus) -> Document:
    return {
        "stage": loop.stage,
        "last_poll": rfc3339(None if loop.last_poll_s is None else loop.last_poll_s * MICROSECONDS),
        "assigned": loop.assigned,
        "restored": loop.restored,
        "rebalances": dict(loop.rebalances),
        "lag": sum(loop.lag.values()),
    }
