"""What an alert shows of a model's outcomes: metrics below their benchmarks, and errors that are not as they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from streamdrift.detectors import effects
from streamdrift.detectors.detector import Ticks
from streamdrift.detectors.error_stream import ErrorShift
from streamdrift.evidence import Contribution, rfc3339
from streamdrift.incidents import DriftKind, Sighting
from streamdrift.metrics import METRICS
from streamdrift.performance import Target, Verdict
from streamdrift.ticks import tick_of

ERROR_STREAM: Final = "error"
LABEL_COLUMN, ERROR_COLUMN, FIRST_METRIC = range(3)
"""Numbers that stand for columns where there are none."""
COLUMNS: Final = FIRST_METRIC + len(METRICS)
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
    key = f"{_PLACE[target.metric]}/benchmark"
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
        "benchmark",
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


def of_shift(shift: ErrorShift, detector: str, targets: Sequence[Target], ticks: Ticks) -> Sighting | None:
    """Where the errors stand; None where that says nothing new."""
    key = f"{ERROR_COLUMN}/{detector}"
    if not shift.alarm:
        return Sighting(key, DriftKind.CONCEPT_DRIFT, None) if shift.changed else None
    if shift.before is None or shift.after is None or shift.onset is None:
        return None
    psi = error_psi(shift)
    effect = {"psi": psi, "mean_before": shift.before, "mean_after": shift.after}
    benchmark = error_benchmark(targets)
    if benchmark is not None:
        effect["benchmark"] = benchmark
    data: dict[str, Any] = {
        "feature": ERROR_STREAM,
        "detector": detector,
        "calibrated": False,
        "evidence_ratio": shift.evidence_ratio,
        "effect": effect,
        "onset": rfc3339(shift.onset * ticks.length_us),
        "n_baseline": shift.n_before,
        "n_current": shift.n_after,
    }
    benchmark_said = "" if benchmark is None else f" (benchmark {benchmark:.2g})"
    contribution = Contribution(
        ERROR_COLUMN,
        detector,
        ERROR_STREAM,
        psi,
        psi,
        shift.onset,
        False,  # noqa: FBT003
        shift.sentence + benchmark_said,
        data,
        recovery=f"is close to {shift.before:.2g} again",
    )
    return Sighting(key, DriftKind.CONCEPT_DRIFT, contribution)


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
