"""What the status page says of a model's labels: how it performs, what became of its predictions, its retraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamdrift.http.elements import Html, el, name
from streamdrift.http.pieces import MAX_ROWS, UNKNOWN, ago, chip, clock, facts, share, span, table, words
from streamdrift.metrics import Estimate
from streamdrift.outcome_series import shown
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.performance import Reading, Report, Standing, Target
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.ticks import MICROSECONDS

_SLOW: Final = 0.9
"""Share of the labels whose delay is shown."""


def performance(outcomes: OutcomeStatus, now_us: float) -> Html:
    """The labels of a model version, and its metrics."""
    coverage = outcomes.coverage
    return el(
        "div",
        el("h3", "Performance"),
        facts(
            {
                "labelled": f"{coverage[Fate.LABELLED]:,} of {coverage[Fate.PREDICTED]:,} predictions",
                "waiting for a label": f"{max(coverage.pending, 0):,}",
                "expired": _some(coverage, Fate.EXPIRED),
                "sampled out": _some(coverage, Fate.SAMPLED_OUT),
                "revised": _some(coverage, Fate.REVISED),
                "orphaned labels": _some(coverage, Fate.ORPHAN),
                "too late for their window": f"{outcomes.late:,}" if outcomes.late else None,
                f"delay of {_SLOW:.0%} of the labels": _delay(coverage),
                "latest label": ago(outcomes.last_label_us, now_us),
            }
        ),
        _metrics(outcomes),
        el("p", f"The {outcomes.errors.sentence}.") if outcomes.errors else None,
    )


def _some(coverage: Coverage, fate: Fate) -> str | None:
    return f"{coverage[fate]:,}" if coverage[fate] > 0 else None


def _delay(coverage: Coverage) -> str | None:
    delay_us = coverage.delay_quantile_us(_SLOW)
    return None if delay_us is None else f"at most {span(delay_us // MICROSECONDS)}"


def _metrics(outcomes: OutcomeStatus) -> Html:
    if outcomes.grid is None:
        return el("p", "Learning from the first labels what is predicted.", class_="note learning")
    reports = {standing: report for report, standing in shown(outcomes)}
    measured, open_ = reports.get(Standing.MEASURED), reports.get(Standing.PROVISIONAL)
    rows = [
        el(
            "tr",
            el("th", name(words(target.metric)), scope="row"),
            el("td", _standing(target, _reading(measured, target))),
            el("td", _value(_reading(measured, target)), class_="n"),
            el("td", UNKNOWN if target.benchmark is None else f"{target.benchmark:.4g}", class_="n"),
            el("td", UNKNOWN if target.benchmark is None else f"{target.tolerance:g}", class_="n wide"),
            el("td", _value(_reading(open_, target)), class_="n wide"),
        )
        for target in outcomes.targets[:MAX_ROWS]
    ]
    heads = (
        ("metric", None, None),
        ("state", None, None),
        ("measured", "n", f"Last closed window: {_window(outcomes, measured)}"),
        ("benchmark", "n", "What it is held against"),
        ("tolerance", "n wide", "How much worse still counts as good"),
        ("provisional", "n wide", f"Newest window with enough labels so far: {_window(outcomes, open_)}"),
    )
    windows = [
        el("p", f"{what}: {_window(outcomes, report)}.", class_="quiet")
        for what, report in (("Measured", measured), ("Provisional", open_))
        if report
    ]
    return el("div", table(heads, rows), windows or _none_yet(outcomes), class_="scroll")


def _none_yet(outcomes: OutcomeStatus) -> Html:
    newest = next((reading for report in outcomes.reports for reading in report.readings), None)
    why = f": {newest.reason}" if newest and newest.reason else ""
    return el("p", f"No window can be measured yet{why}.", class_="quiet")


def _reading(report: Report | None, target: Target) -> Reading | None:
    return None if report is None else next((r for r in report.readings if r.metric == target.metric), None)


def _standing(target: Target, reading: Reading | None) -> Html | str:
    if reading is None:
        return UNKNOWN
    if reading.estimate is None:
        return el("span", chip(words(reading.standing), "no_data"), el("small", reading.reason[:200]))
    worse = target.is_worse(reading.estimate.value)
    return chip("not judged", "past") if worse is None else chip("below", "critical") if worse else chip("ok", "ok")


def _value(reading: Reading | None) -> Html | str:
    if reading is None or reading.estimate is None:
        return UNKNOWN
    return el("span", _estimate(reading.estimate), el("small", f"{reading.estimate.n:,} labels"))


def _estimate(estimate: Estimate) -> str:
    error = "" if estimate.standard_error is None else f" ± {estimate.standard_error:.2g}"
    return f"{estimate.value:.4g}{error}"


def _window(outcomes: OutcomeStatus, report: Report | None) -> str:
    if report is None:
        return "none yet"
    begin = report.window * outcomes.window_us
    covered = share(report.coverage.ratio)
    return f"{clock(begin)} to {clock(begin + outcomes.window_us)}, {covered} of the predictions labelled"


def retraining_of(retraining: RetrainingStatus) -> Html:
    """Where the retraining of a model stands, and how its last version compares with the one before."""
    request = retraining.open_request
    asked = sum(retraining.requests.values())
    return el(
        "div",
        el("h3", "Retraining"),
        el("p", chip("requested", "warning"), f" request {request} is open.") if request else None,
        facts(
            {
                "labels since the last training": f"{retraining.fresh_labels:,}",
                "requests since start": f"{asked:,}",
            }
        ),
        _held_back(retraining.held_back),
        _compared(retraining),
    )


def _compared(retraining: RetrainingStatus) -> Html | None:
    if not retraining.comparison or retraining.predecessor is None:
        return None
    items = [el("li", f"{compared.sentence}.") for compared in retraining.comparison[:MAX_ROWS]]
    return el("div", el("h3", "Against version ", name(retraining.predecessor)), el("ul", items))


def _held_back(held_back: Mapping[str, str]) -> Html | None:
    if not held_back:
        return None
    items = [el("li", name(policy), f" waits: {why}") for policy, why in list(held_back.items())[:MAX_ROWS]]
    return el("ul", items)
