"""The parts of ``/api/v1/status`` on labels: performance and retraining."""

from __future__ import annotations

from streamdrift.http.values import Document, finite, incident_document, rfc3339
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.performance import Reading, Report
from streamdrift.status import Snapshot
from streamdrift.summaries.coverage import Fate
from streamdrift.ticks import MICROSECONDS


def outcome_documents(snapshot: Snapshot) -> Document:
    """``outcomes``, one of each model version that has any, and ``retraining``, one of each model with policies."""
    return {
        "outcomes": [_outcomes(each) for each in snapshot.outcomes],
        "retraining": [_retraining(each) for each in snapshot.retraining],
    }


def _outcomes(outcomes: OutcomeStatus) -> Document:
    return {
        "model_id": outcomes.model_id,
        "model_version": outcomes.model_version,
        "task": outcomes.grid.task if outcomes.grid else None,
        "classes": list(outcomes.grid.classes) if outcomes.grid else [],
        "window_seconds": outcomes.window_us / MICROSECONDS,
        "metrics": [
            {"metric": t.metric, "benchmark": finite(t.benchmark), "tolerance": t.tolerance} for t in outcomes.targets
        ],
        "windows": [_window(report, outcomes.window_us) for report in outcomes.reports],
        "coverage": {fate.name.lower(): outcomes.coverage[fate] for fate in Fate},
        "pending": outcomes.coverage.pending,
        "late": outcomes.late,
        "last_label_time": rfc3339(outcomes.last_label_us),
        "errors": outcomes.errors.sentence if outcomes.errors else None,
        "incidents": [incident_document(incident) for incident in outcomes.incidents],
        "incidents_lately": outcomes.lately,
        "alerts_published": [
            {"kind": kind, "severity": severity, "count": count} for (kind, severity), count in outcomes.alerts.items()
        ],
    }


def _window(report: Report, window_us: int) -> Document:
    return {
        "from": rfc3339(report.window * window_us),
        "to": rfc3339((report.window + 1) * window_us),
        "coverage": finite(report.coverage.ratio),
        "metrics": [_reading(reading) for reading in report.readings],
    }


def _reading(reading: Reading) -> Document:
    estimate = reading.estimate
    return {
        "metric": reading.metric,
        "standing": reading.standing,
        "value": finite(estimate.value) if estimate else None,
        "standard_error": finite(estimate.standard_error) if estimate else None,
        "n": estimate.n if estimate else None,
        "reason": reading.reason or None,
    }


def _retraining(retraining: RetrainingStatus) -> Document:
    return {
        "model_id": retraining.model_id,
        "model_version": retraining.version,
        "predecessor": retraining.predecessor,
        "open_request": retraining.open_request,
        "fresh_labels": retraining.fresh_labels,
        "held_back": dict(retraining.held_back),
        "requests": dict(retraining.requests),
        "comparison": [dict(each.data) for each in retraining.comparison],
    }
