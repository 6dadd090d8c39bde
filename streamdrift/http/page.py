"""The status page: one self-contained document, readable on a phone, light or dark as the reader's system is.

Everything on it is rendered here; the script only fetches the same page again and puts its ``main`` in place,
and says so when it cannot. Without scripts the page reloads itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from streamdrift import __version__
from streamdrift.grids import Role
from streamdrift.http.api import lag_of
from streamdrift.http.elements import Html, el, name
from streamdrift.http.performance import performance, retraining_of
from streamdrift.http.pieces import (
    MAX_ROWS,
    UNKNOWN,
    ago,
    beyond,
    chip,
    clock,
    count,
    facts,
    number,
    optional_count,
    share,
    span,
    table,
    words,
)
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.status import (
    Comparison,
    FeatureState,
    FeatureStatus,
    IncidentStatus,
    Lately,
    LearningStatus,
    LoopStatus,
    ModelState,
    ModelStatus,
    RiverStatus,
    Snapshot,
    SourceStatus,
)
from streamdrift.ticks import END_OF_TIME, MICROSECONDS

STYLE: Final = Html(Path(__file__).with_name("page.css").read_text("utf-8"))
SCRIPT: Final = Html(Path(__file__).with_name("page.js").read_text("utf-8"))

MAX_MODELS: Final = 50
"""Models with a card of their own, those with the gravest incidents first."""
FULL_BAR_PSI: Final = 0.5
MARKS_PSI: Final = (0.1, 0.25)
"""The conventional bands, warning and critical, drawn on every bar."""

REFUSED: Final = {
    "late": "too late for their tick",
    "over_bound": "over the bound of models",
    "other_grid": "on another grid",
}
_SEVERITIES: Final = ("critical", "warning", "info")
_STATE_ORDER: Final = (
    FeatureState.CRITICAL,
    FeatureState.WARNING,
    FeatureState.INFO,
    FeatureState.OK,
    FeatureState.LEARNING,
    FeatureState.NO_DATA,
)


def render(snapshot: Snapshot, now_s: float) -> str:
    """The whole document."""
    now_us = now_s * MICROSECONDS
    models = sorted(with_outcomes(snapshot), key=_gravity)
    outcomes = {(each.model_id, each.model_version): each for each in snapshot.outcomes}
    retraining = {each.model_id: each for each in snapshot.retraining}
    open_now = [incident for model in models for incident in _open(model)]
    title = f"({len(open_now)}) streamdrift" if open_now else "streamdrift"
    return "<!doctype html>\n" + el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", title),
            el("link", rel="icon", href="data:,"),
            el("style", STYLE),
            el("noscript", el("meta", http_equiv="refresh", content="10")),
        ),
        el(
            "body",
            el(
                "main",
                _header(models, open_now, now_us),
                [_model(model, now_us, outcomes, retraining) for model in models[:MAX_MODELS]] or _nothing_yet(),
                beyond(len(models) - MAX_MODELS, "models"),
                [_labels_alone(each, now_us) for each in labels_alone(snapshot)[:MAX_MODELS]],
                _sources(snapshot, now_us),
                _refused(snapshot),
                _stages(snapshot.loops, now_us),
                el(
                    "footer",
                    f"streamdrift {__version__} · ",
                    el("a", "metrics", href="metrics"),
                    " · ",
                    el("a", "this page as JSON", href="api/v1/status"),
                ),
            ),
            el("p", "No answer from streamdrift: what you see is old.", id="lost", role="alert"),
            el("script", SCRIPT),
        ),
        lang="en",
    )


# ---- blocks --------------------------------------------------------------------------------------------------------


def _header(models: Sequence[ModelStatus], open_now: Sequence[IncidentStatus], now_us: float) -> Html:
    severities = Counter(incident.severity for incident in open_now)
    chips = [chip(f"{severities[s]} {s}", s) for s in _SEVERITIES if severities[s]]
    if models and not open_now:
        chips = [chip("no open incident", "ok")]
    states = Counter(model.state for model in models)
    chips += [chip(f"{states[s]} {s}", s) for s in ModelState if states[s] and s is not ModelState.WATCHING]
    return el(
        "header",
        el("h1", "streamdrift"),
        el("p", el("span", count(len(models), "model"), class_="chip"), chips, class_="chips"),
        el("p", f"as of {clock(now_us)}", class_="quiet"),
    )


def _nothing_yet() -> Html:
    return el(
        "section",
        el("h2", "No model yet"),
        el(
            "p", "A model appears here when the first tick of its events has closed. Until then, see the sources below."
        ),
    )


def with_outcomes(snapshot: Snapshot) -> list[ModelStatus]:
    """The models with the incidents that their labels opened."""
    outcomes = {(each.model_id, each.model_version): each for each in snapshot.outcomes}
    return [_with(model, outcomes.get((model.model_id, model.model_version))) for model in snapshot.models]


def _with(model: ModelStatus, outcomes: OutcomeStatus | None) -> ModelStatus:
    if outcomes is None:
        return model
    lately = model.lately and replace(model.lately, incidents=model.lately.incidents + outcomes.lately)
    return replace(model, incidents=(*model.incidents, *outcomes.incidents), lately=lately)


def labels_alone(snapshot: Snapshot) -> list[OutcomeStatus]:
    """Outcomes of versions of which no prediction is watched here: orphans have none."""
    watched = {(model.model_id, model.model_version) for model in snapshot.models}
    return [each for each in snapshot.outcomes if (each.model_id, each.model_version) not in watched]


def _labels_alone(outcomes: OutcomeStatus, now_us: float) -> Html:
    version = ("version ", name(outcomes.model_version)) if outcomes.model_version else "labels of no known prediction"
    return el(
        "section",
        el("h2", name(outcomes.model_id), " ", el("small", version)),
        [_incident(incident) for incident in outcomes.incidents if incident.is_open],
        performance(outcomes, now_us),
    )


def _model(
    model: ModelStatus,
    now_us: float,
    outcomes: Mapping[tuple[str, str], OutcomeStatus],
    retraining: Mapping[str, RetrainingStatus],
) -> Html:
    of_version, of_model = outcomes.get((model.model_id, model.model_version)), retraining.get(model.model_id)
    in_charge = of_model is not None and of_model.version == model.model_version
    incidents = sorted(_open(model), key=lambda i: (_rank(i.severity), i.started_us))
    resolved = [incident for incident in model.incidents if incident.resolved_us is not None]
    resolved.sort(key=lambda i: i.resolved_us or 0, reverse=True)
    watched = model.state is ModelState.WATCHING
    return el(
        "section",
        el(
            "h2",
            name(model.model_id),
            " ",
            el("small", "version ", name(model.model_version)),
            " ",
            chip(words(model.state), "ok" if watched else model.state),
        ),
        facts(
            {
                "events": f"{model.events:,}",
                "latest event": ago(model.last_event_us, now_us),
                "ticks closed": f"{model.ticks_closed:,}",
                "published window": f"{model.window_events:,} events" if model.baseline_id else None,
                "baseline": model.baseline_id,
                **(_lately(model.lately) if model.lately else {}),
            }
        ),
        _learning(model.state, model.learning) if model.learning else _calibrating(model),
        _comparison(model.compared_with) if model.compared_with else None,
        [_incident(incident) for incident in incidents],
        _muted(model),
        _features(model),
        performance(of_version, now_us) if of_version else None,
        retraining_of(of_model) if of_model and in_charge else None,
        _river(model.river),
        _resolved(resolved),
        _unmonitored(model.unmonitored),
    )


def _lately(lately: Lately) -> dict[str, str]:
    """Nobody knows which of the incidents were false: so what chance gives stands beside them, and no more is said."""
    expected = f"{lately.expected:.1g}" if lately.expected < 1 else f"{lately.expected:,.0f}"
    days = lately.span_us // _DAY_US
    since = f"{days} d" if days > 1 else span(lately.span_us // MICROSECONDS)
    return {f"incidents in {since}": f"{lately.incidents:,}; by chance ≤ {expected}"}


_DAY_US: Final = 86_400 * MICROSECONDS

_LEARNING: Final = {
    ModelState.LEARNING: "learning which columns there are, and their bins",
    ModelState.WAITING: "waiting: too many models are learning, there is no room to keep more events",
    ModelState.CALIBRATING: "calibrating: counting what is usual",
}


def _learning(state: ModelState, learning: LearningStatus) -> Html:
    until = "" if learning.until_us is None else f", until {clock(learning.until_us)} at the latest"
    return el(
        "p",
        f"{_LEARNING.get(state, state)}: {learning.events:,} of {learning.needed:,} events{until}. Nothing is compared "
        "until then. A baseline from the training table (",
        el("code", "streamdrift baseline build"),
        ") takes effect at once.",
        class_=f"note {state}",
    )


def _calibrating(model: ModelStatus) -> Html | None:
    if model.state is not ModelState.CALIBRATING:
        return None
    return el(
        "p",
        "calibrating: live traffic shows how far it strays from the baseline by chance. Until that is known, what "
        "differs is told of as info, and no rate of false alarms is promised.",
        class_="note calibrating",
    )


def _comparison(comparison: Comparison) -> Html:
    changes = ", ".join(f"{c.name} (PSI {c.effects['psi']:.2f})" for c in comparison.features[:_COMPARED])
    return el(
        "p",
        f"The first {comparison.events:,} events, against version ",
        name(comparison.model_version),
        f": {changes or 'nothing to compare'}.",
        class_="note",
    )


_COMPARED: Final = 5
"""Columns of a comparison that are named."""


def _incident(incident: IncidentStatus) -> Html:
    return el(
        "article",
        el(
            "p",
            chip(incident.severity, incident.severity),
            " ",
            el("b", words(incident.kind)),
            el("span", f" since {clock(incident.started_us)}", class_="quiet"),
        ),
        el("p", el("bdi", incident.summary[:1000])),
        class_=f"incident {incident.severity}",
    )


def _muted(model: ModelStatus) -> Html | None:
    """What drifts and is kept from the topic, and why."""
    reasons = {name: why for i in model.incidents if i.resolved_us is None for name, why in i.muted.items()}
    if not reasons:
        return None
    items = [el("li", name(feature), f": {reason[:200]}") for feature, reason in list(reasons.items())[:MAX_ROWS]]
    more = beyond(len(reasons) - MAX_ROWS, "features")
    return el("div", el("h3", "Drifting, and muted"), el("ul", items), more)


def _features(model: ModelStatus) -> Html | None:
    if not model.features:
        return None
    features = sorted(model.features, key=lambda f: _STATE_ORDER.index(f.state))
    rows = [
        el(
            "tr",
            el("th", name(feature.name), el("small", _what(feature)), scope="row"),
            el("td", chip(words(feature.state), feature.state), chip("muted", "past") if feature.muted else None),
            el("td", _effect(feature), class_="effect"),
            el("td", number(feature.evidence_ratio), class_="n wide"),
            el("td", share(feature.missing_ratio), class_="n"),
            el("td", share(feature.unseen_ratio), class_="n"),
            el("td", share(feature.type_error_ratio), class_="n wide"),
            el("td", _means(feature), class_="n wide"),
        )
        for feature in features[:MAX_ROWS]
    ]
    heads = (
        ("feature", None, None),
        ("state", None, None),
        ("effect (PSI)", None, "Population stability index of the published window against the baseline"),
        ("evidence", "n wide", "Evidence over alarm threshold: 1 is an alarm"),
        ("missing", "n", "Share of events without a value"),
        ("unseen", "n", "Share of events with a category that the baseline does not know"),
        ("type errors", "n wide", "Share of events with a value of the wrong type"),
        ("mean", "n wide", "Baseline → published window"),
    )
    return el("div", table(heads, rows), beyond(len(features) - MAX_ROWS, "features"), class_="scroll")


def _river(river: Sequence[RiverStatus]) -> Html | None:
    if not river:
        return None
    rows = [
        el(
            "tr",
            el("th", name(r.stream), scope="row"),
            el("td", name(r.detector)),
            el("td", f"{r.detections:,}", class_="n"),
            el("td", clock(r.last_detection_us)),
        )
        for r in river[:MAX_ROWS]
    ]
    heads = (("stream", None, None), ("detector", None, None), ("detections", "n", None), ("latest", None, None))
    return el(
        "div",
        el("h3", "River detectors"),
        table(heads, rows),
        beyond(len(river) - MAX_ROWS, "detectors"),
        class_="scroll",
    )


def _resolved(incidents: Sequence[IncidentStatus]) -> Html | None:
    if not incidents:
        return None
    items = [
        el(
            "li",
            chip(i.severity, "past"),
            " ",
            el("bdi", i.summary[:1000]),
            el("span", f" {clock(i.started_us)} to {clock(i.resolved_us)}{_why_muted(i)}", class_="quiet"),
        )
        for i in incidents[:MAX_ROWS]
    ]
    return el("div", el("h3", "Resolved lately"), el("ul", items))


def _why_muted(incident: IncidentStatus) -> str:
    reasons = dict.fromkeys(incident.muted.values())
    return f", muted: {'; '.join(reasons)[:200]}" if reasons else ""


def _unmonitored(reasons: Mapping[str, str]) -> Html | None:
    if not reasons:
        return None
    items = [el("li", name(feature), f": {reason[:200]}") for feature, reason in list(reasons.items())[:MAX_ROWS]]
    return el(
        "div",
        el("h3", "Not monitored"),
        el("ul", items),
        beyond(len(reasons) - MAX_ROWS, "features"),
    )


def _sources(snapshot: Snapshot, now_us: float) -> Html | None:
    if not snapshot.sources:
        return None
    rows = [
        el(
            "tr",
            el("th", name(source.topic), el("small", source.kind), scope="row"),
            el("td", f"{source.consumed:,}", class_="n"),
            el("td", f"{source.summarised:,}", class_="n wide"),
            el("td", f"{source.late:,}", class_="n"),
            el("td", _rejected(source), class_="n"),
            el("td", optional_count(lag_of(source.topic, snapshot.loops)), class_="n"),
            el("td", _watermark(source, now_us)),
        )
        for source in snapshot.sources[:MAX_ROWS]
    ]
    heads = (
        ("topic", None, None),
        ("read", "n", None),
        ("counted", "n wide", "Events that reached a summary"),
        ("late", "n", "Events whose tick was over"),
        ("rejected", "n", "Dead letters, and events over a bound"),
        ("lag", "n", "Records that are still to be read"),
        ("complete up to", None, "Watermark: the event time that is waited for no more"),
    )
    return el("section", el("h2", "Sources"), el("div", table(heads, rows), class_="scroll"))


def _refused(snapshot: Snapshot) -> Html | None:
    counts = [f"{count:,} events {REFUSED[reason]}" for reason, count in snapshot.refused.items() if count]
    counts += [f"{count:,} labels {REFUSED[reason]}" for reason, count in snapshot.refused_labels.items() if count]
    return el("p", f"Counted, but watched by no detector: {', '.join(counts)}.") if counts else None


def _stages(loops: Sequence[LoopStatus], now_us: float) -> Html | None:
    if not loops:
        return None
    rows = [
        el(
            "tr",
            el("th", loop.stage, scope="row"),
            el("td", _progress(loop)),
            el("td", ago(None if loop.last_poll_s is None else loop.last_poll_s * MICROSECONDS, now_us)),
            el("td", f"{len(loop.lag):,}", class_="n"),
            el("td", f"{sum(loop.lag.values()):,}", class_="n"),
            el("td", ", ".join(f"{event} {count:,}" for event, count in loop.rebalances.items()) or UNKNOWN),
        )
        for loop in loops
    ]
    heads = (
        ("stage", None, None),
        ("state", None, None),
        ("latest poll", None, None),
        ("partitions", "n", None),
        ("lag", "n", None),
        ("rebalances", None, None),
    )
    return el("section", el("h2", "Stages"), el("div", table(heads, rows), class_="scroll"))


# ---- pieces --------------------------------------------------------------------------------------------------------


def _effect(feature: FeatureStatus) -> Html | str:
    psi = feature.effects.get("psi")
    if psi is None:
        return UNKNOWN
    every = " · ".join(f"{words(metric)} {effect:.3f}" for metric, effect in feature.effects.items())
    return el("span", _bar(psi, feature.state), el("span", number(psi), class_="value"), title=every)


def _bar(psi: float, state: FeatureState) -> Html:
    # Drawn with attributes: the page's policy allows no inline style.
    filled = 100 * min(max(psi, 0.0) / FULL_BAR_PSI, 1.0)
    return el(
        "svg",
        el("rect", class_="track", width="100", height="8"),
        el("rect", class_=f"fill {state}", width=f"{filled:.1f}", height="8"),
        [el("rect", class_="mark", x=f"{100 * m / FULL_BAR_PSI:g}", width="1", height="8") for m in MARKS_PSI],
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _what(feature: FeatureStatus) -> str:
    return f"{feature.kind}, of the prediction" if feature.role == Role.PREDICTION else feature.kind


def _means(feature: FeatureStatus) -> str:
    if feature.mean is None or feature.baseline_mean is None:
        return UNKNOWN
    return f"{feature.baseline_mean:,.4g} → {feature.mean:,.4g}"


def _rejected(source: SourceStatus) -> Html | str:
    reasons = {reason: count for reason, count in {**source.dead, "over bound": source.over_bound}.items() if count}
    if not reasons:
        return "0"
    every = "; ".join(f"{words(reason)}: {count:,}" for reason, count in reasons.items())
    return Html(el("span", f"{sum(reasons.values()):,}", el("small", every[:300])))


def _watermark(source: SourceStatus, now_us: float) -> str:
    if source.watermark_us is not None and source.watermark_us >= END_OF_TIME:
        return "its end"
    return ago(source.watermark_us, now_us)


def _progress(loop: LoopStatus) -> Html:
    if not loop.assigned:
        return chip("waits for partitions", "learning")
    return chip("running", "ok") if loop.restored else chip("restoring", "learning")


def _open(model: ModelStatus) -> list[IncidentStatus]:
    return [incident for incident in model.incidents if incident.is_open]


def _rank(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


def _gravity(model: ModelStatus) -> tuple[int, bool, str, str]:
    gravest = min((_rank(incident.severity) for incident in _open(model)), default=len(_SEVERITIES) + 1)
    return gravest, model.state is ModelState.WATCHING, model.model_id, model.model_version
