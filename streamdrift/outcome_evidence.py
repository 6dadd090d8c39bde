"""What an alert shows of a model's outcomes: metrics below their benchmarks; labels, errors and losses that changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from streamdrift.changes import NOTABLE_SHIFT_SD
from streamdrift.detectors import effects
from streamdrift.detectors.detector import Finding, Ticks
from streamdrift.detectors.error_stream import ErrorShift
from streamdrift.evidence import Contribution, describe, rfc3339
from streamdrift.grids import SPECIAL_SLOTS, UNSEEN
from streamdrift.incidents import DriftKind, Sighting
from streamdrift.metrics import METRICS
from streamdrift.outcome_columns import ERROR, LABEL, LOSS
from streamdrift.outcome_grids import Task
from streamdrift.performance import Target, Verdict
from streamdrift.ticks import tick_of
from streamdrift.windows import Reference

BENCHMARK: Final = "benchmark"
"""What a metric is held against."""
ERROR_RATE: Final = "error_rate"
"""The detector of the share of wrong predictions."""
LABEL_COLUMN, ERROR_COLUMN, FIRST_METRIC = range(3)
"""Numbers that stand for columns where there are none."""
LOSS_COLUMN: Final = FIRST_METRIC + len(METRICS)
COLUMNS: Final = LOSS_COLUMN + 1
PLACES: Final = {LABEL: LABEL_COLUMN, ERROR: ERROR_COLUMN, LOSS: LOSS_COLUMN}
LARGEST_PSI: Final = 10.0
"""What a change beyond all bounds counts as: JSON has no infinity."""
_PLACE: Final = {name: FIRST_METRIC + i for i, name in enumerate(METRICS)}
_ERROR_METRICS: Final = {"accuracy": lambda value: 1 - value, "mae": lambda value: value}
"""Metrics that are the mean of the error stream, and how that follows from their values."""


def column_of(metric: str) -> int:
    """The number of a metric."""
    return _PLACE[metric]


def of_verdict(verdict: Verdict, since: int, window_us: int, ticks: Ticks) -> Sighting | None:
    """A window's verdict on a metric; None where it says nothing. ``since``: the first window in the row."""
    target, estimate = verdict.target, verdict.reading.estimate
    key = f"{_PLACE[target.metric]}/{BENCHMARK}"
    if estimate is None or verdict.worse_by is None:
        return None
    if not verdict.alarm:
        return Sighting(key, DriftKind.PERFORMANCE, None)
    data: dict[str, Any] = {
        "metric": target.metric,
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "n": estimate.n,
        "benchmark": target.benchmark,
        "tolerance": target.tolerance,
        "worse_by": verdict.worse_by,
        "in_a_row": verdict.in_a_row,
        "window": {
            "from": rfc3339(verdict.window * window_us),
            "to": rfc3339((verdict.window + 1) * window_us),
        },
        "coverage": verdict.coverage,
        "onset": rfc3339(since * window_us),
    }
    contribution = Contribution(
        _PLACE[target.metric],
        BENCHMARK,
        target.metric,
        0.0,
        verdict.worse_by,
        tick_of(since * window_us, ticks.length_us),
        False,  # noqa: FBT003 — no matter of missing values
        verdict.sentence,
        data,
        verdict.worse_by,
        "is close to its benchmark again",
    )
    return Sighting(key, DriftKind.PERFORMANCE, contribution)


def of_shift(shift: ErrorShift, detector: str, ticks: Ticks) -> Sighting | None:
    """Where the errors stand; None where that says nothing new."""
    key = f"{ERROR_COLUMN}/{detector}"
    if not shift.alarm:
        return Sighting(key, DriftKind.CONCEPT_DRIFT, None) if shift.changed else None
    if shift.before is None or shift.after is None or shift.onset is None:
        return None
    psi = error_psi(shift)
    data: dict[str, Any] = {
        "feature": ERROR,
        "detector": detector,
        "calibrated": False,
        "evidence_ratio": shift.evidence_ratio,
        "effect": {"psi": psi, "mean_before": shift.before, "mean_after": shift.after},
        "onset": rfc3339(shift.onset * ticks.length_us),
        "n_baseline": shift.n_before,
        "n_current": shift.n_after,
    }
    contribution = Contribution(
        ERROR_COLUMN,
        detector,
        ERROR,
        psi,
        psi,
        shift.onset,
        False,  # noqa: FBT003
        shift.sentence,
        data,
        recovery=f"is close to {shift.before:.2g} again",
    )
    return Sighting(key, DriftKind.CONCEPT_DRIFT, contribution)


def drift_of(
    finding: Finding, kind: DriftKind, column: str, task: Task, reference: Reference, ticks: Ticks
) -> Sighting | None:
    """What a detector found in a column of outcomes; None where that says nothing new.

    Predictions that are better than they were alarm nobody. What is back is no better for a while by chance: then it
    lasts until its detector says that it is over. Until that is calibrated, its evidence is not enough for a warning.
    """
    key = f"{PLACES[column]}/{finding.detector}"
    if not finding.alarm or finding.window is None:
        return Sighting(key, kind, None)
    found = describe(finding, reference.grid, reference, ticks)
    if column == ERROR:
        found = _of_error_rate(found, finding, reference)
    elif column == LOSS:
        found = _of_loss(found, task)
    effect, confirmed = found.data["effect"], finding.confirmed and finding.calibrated
    if column != LABEL and effect.get("mean_after", math.inf) < effect.get("mean_before", -math.inf):
        is_better = effect.get("mean_shift_sd", 0.0) <= -NOTABLE_SHIFT_SD
        return Sighting(key, kind, None) if is_better else None
    return Sighting(
        key, kind, msgspec.structs.replace(found, column=PLACES[column], quality=False, confirmed=confirmed)
    )


def _of_error_rate(found: Contribution, finding: Finding, reference: Reference) -> Contribution:
    """In terms of right and wrong what a detector calls an unseen category."""
    windows = {"baseline": reference.window, "current": finding.window or reference.window}
    sides = {side: reference.of_column(window.counts, finding.column) for side, window in windows.items()}
    tables = {side: [int(counts[0]), int(counts[UNSEEN - SPECIAL_SLOTS])] for side, counts in sides.items()}
    before, after = (wrong / max(right + wrong, 1) for right, wrong in tables.values())
    phrase = f"error rate {'rose' if after > before else 'fell'} from {before:.2g} to {after:.2g}"
    effect = {"psi": found.psi, "mean_before": before, "mean_after": after}
    data = {
        **found.data,
        "effect": effect,
        "description": phrase,
        "baseline": {"categories": ["right", "wrong"], "counts": tables["baseline"]},
        "current": {"counts": tables["current"]},
    }
    return msgspec.structs.replace(found, phrase=phrase, data=data, recovery=f"is close to {before:.2g} again")


def _of_loss(found: Contribution, task: Task) -> Contribution:
    """In terms of what the loss is: a regression's is the size of its errors."""
    feature, name = (ERROR, "mean absolute error") if task is Task.REGRESSION else (LOSS, "log loss")
    effect = found.data["effect"]
    before, after = effect.get("mean_before"), effect.get("mean_after")
    told = before is not None and after is not None and effect.get("mean_shift_sd", 1.0) >= NOTABLE_SHIFT_SD
    changed = f"{feature}{found.phrase.removeprefix(LOSS)}"
    phrase = f"{name} rose from {before:.2g} to {after:.2g}" if told else changed
    data = {**found.data, "feature": feature, "description": phrase}
    return msgspec.structs.replace(found, feature=feature, phrase=phrase, data=data)


def beside_benchmark(seen: Sighting, targets: Sequence[Target]) -> Sighting:
    """The same; of errors, with the mean that benchmarks allow for."""
    found, benchmark = seen.contribution, error_benchmark(targets)
    if found is None or benchmark is None or found.feature != ERROR:
        return seen
    data = {**found.data, "effect": {**found.data["effect"], "benchmark": benchmark}}
    phrase = f"{found.phrase} (benchmark {benchmark:.2g})"
    return replace(seen, contribution=msgspec.structs.replace(found, phrase=phrase, data=data))


def error_benchmark(targets: Sequence[Target]) -> float | None:
    """The mean of the error stream that the benchmarks allow for."""
    known = [_ERROR_METRICS[t.metric](t.benchmark) for t in targets if t.metric in _ERROR_METRICS and t.benchmark]
    return known[0] if known else None


def error_psi(shift: ErrorShift) -> float:
    """How far the errors are from the reference, in nats, so that the bands of PSI hold; 0 where there are fewer.

    Of right and wrong predictions it is their corrected PSI. Of sizes of errors only the means a and b are known: then
    that of the exponential distributions with these means, (a − b)²/(a·b). A model that errs less follows another
    concept as well, but that is nobody's alarm.
    """
    if not shift.worse or shift.before is None or shift.after is None:
        return 0.0
    if shift.binary:
        sides = ((shift.before, shift.n_before), (shift.after, shift.n_after))
        before, after = (np.array([mean * n, (1 - mean) * n]) for mean, n in sides)
        return min(float(effects.corrected_psi(before, after)), LARGEST_PSI)
    product = shift.before * shift.after
    psi = (shift.after - shift.before) ** 2 / product if product > 0 else math.inf
    return min(psi, LARGEST_PSI)
