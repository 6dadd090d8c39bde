"""What a baseline holds, column by column, and what a person would want to check before trusting it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from streamdrift.baselines import Baseline
from streamdrift.grids import MISSING, SCORE, TYPE_ERROR, UNSEEN, Column, Kind, Role
from streamdrift.outcome_grids import Task
from streamdrift.outcome_learning import ENOUGH


class ColumnReport(NamedTuple):
    """What a baseline holds of one column. Counts are rows; mean and sd are those of numeric columns."""

    name: str
    role: Role
    kind: Kind
    bins: int
    counted: int
    unseen: int
    missing: int
    type_errors: int
    mean: float | None = None
    sd: float | None = None


class BenchmarkReport(NamedTuple):
    """A metric as the table measured it."""

    metric: str
    value: float
    standard_error: float | None
    n: int

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
        return f"{self.metric} {self.value:.4g}{error} of {self.n:,}"


def benchmark_reports(baseline: Baseline) -> list[BenchmarkReport]:
    """One line a metric; none without labels."""
    return [BenchmarkReport(name, b.value, b.standard_error, b.n) for name, b in baseline.benchmarks.items()]


def column_reports(baseline: Baseline) -> list[ColumnReport]:
    """One line a column, in the order of the grid."""
    grid, summary = baseline.grid, baseline.summary
    reports = []
    for i, column in enumerate(grid.columns):
        counts = summary.counts[grid.offsets[i] : grid.offsets[i + 1]]
        specials = counts[column.bins :].tolist()
        n = int(counts[: column.bins].sum())
        special = {"unseen": specials[UNSEEN], "missing": specials[MISSING], "type_errors": specials[TYPE_ERROR]}
        report = ColumnReport(column.name, column.role, column.kind, column.bins, n, **special)
        if column.kind is Kind.NUMERIC and n:
            unit = float(grid.units[i])
            mean = column.center + summary.moments.mean(i, n) * unit
            report = report._replace(mean=mean, sd=summary.moments.variance(i, n) ** 0.5 * unit)
        reports.append(report)
    return reports


def warnings(baseline: Baseline, *, labelled: bool = False) -> Iterator[str]:
    """What a person would want to check before trusting the baseline.

    ``labelled`` says that its table had labels, so that benchmarks are expected.
    """
    rows = baseline.summary.events
    for report, column in zip(column_reports(baseline), baseline.grid.columns, strict=True):
        if report.type_errors:
            yield f"{report.name}: {report.type_errors} of {rows} values are no {report.kind} values: type errors"
        if report.unseen:
            yield f"{report.name}: {report.unseen} of {rows} rows have a category beyond the {report.bins} kept: unseen"
        if column.role is Role.FEATURE and column.name in _LIKE_PREDICTIONS:
            option = _LIKE_PREDICTIONS[column.name]
            yield f"{column.name}: watched as a feature; if it is what the model predicted, say {option} {column.name}"
        if report.name == SCORE and _outside_unit_interval(baseline, column):
            yield f"{SCORE}: some scores are outside 0 … 1, where the probability of the positive class should be"
    if all(report.role is Role.FEATURE for report in column_reports(baseline)):
        yield "no column is a prediction, so their drift cannot be seen (--score, --label-prediction, --value)"
    elif labelled and baseline.measured is None:
        yield f"there are no benchmarks: fewer than {ENOUGH} rows have a label, or all have the same one"
    if (
        baseline.outcome is not None
        and baseline.outcome.task is Task.MULTICLASS
        and len(baseline.outcome.classes) == _TWO
    ):
        yield "nothing tells which of the two classes is positive (--positive), so precision and recall are of both"


_TWO: Final = 2


_LIKE_PREDICTIONS: Final = {
    "score": "--score",
    "probability": "--score",
    "prediction": "--label-prediction",
    "predicted_label": "--label-prediction",
    "predicted_value": "--value",
}
"""Names under which tables hold predictions. Live events carry them beside the features: all would be missing."""


def _outside_unit_interval(baseline: Baseline, score: Column) -> bool:
    at = int(baseline.grid.offsets[baseline.grid.names.index(score.name)])
    counts = baseline.summary.counts[at : at + score.bins]
    lower, upper = np.append(-np.inf, score.edges), np.append(score.edges, np.inf)
    # Bins that lie outside as a whole. Those that the ends of the interval cut have one unit of doubt.
    return bool(counts[(upper < 0) | (lower >= 1)].sum())


def outcome_line(baseline: Baseline) -> str | None:
    """How outcomes are counted, and how labels were distributed, in a line; None without labels."""
    grid, labels = baseline.outcome, baseline.labels
    if grid is None or labels is None:
        return None
    said = f"{grid.task}, {labels.n:,} labels"
    if labels.mean is not None and labels.sd is not None:
        return f"{said}, mean {labels.mean:.4g}, sd {labels.sd:.4g}"
    shares = sorted(labels.classes.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_CLASSES]
    rest = "" if len(labels.classes) <= _SHOWN_CLASSES else f" and {len(labels.classes) - _SHOWN_CLASSES} more"
    positive = f", positive is {grid.classes[1]}" if grid.task is Task.BINARY else ""
    return f"{said}: " + ", ".join(f"{name} {n / max(labels.n, 1):.1%}" for name, n in shares) + rest + positive


_SHOWN_CLASSES: Final = 10
