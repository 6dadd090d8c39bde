"""The status page: one self-contained document, readable on a phone, light or dark as the reader's system is.

Everything on it is rendered here; the script only fetches the same page again and puts its ``main`` in place,
and says so when it cannot. Without scripts the page reloads itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from streamdrift import __version__
from streamdrift.grids import Role
from streamdrift.http.api import lag_of, rfc3339
from streamdrift.http.elements import Html, el, name
from streamdrift.status import (
    Comparison,
    FeatureState,
    FeatureStatus,
    IncidentStatus,
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
MAX_ROWS: Final = 100
"""Rows of one table; what is beyond is counted, and stands in the document."""

UNKNOWN: Final = "–"  # noqa: RUF001 — a dash is what a table shows for nothing

FULL_BAR_PSI: Final = 0.5
MARKS_PSI: Final = (0.1, 0.25)
"""The conventional bands, warning and critical, drawn on every bar."""

REFUSED: Final = {
    "late": "events too late for their tick",
    "over_bound": "events over the bound of models",
    "other_grid": "events on another grid",
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
    models = sorted(snapshot.models, key=_gravity)
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
                [_model(model, now_us) for model in models[:MAX_MODELS]] or _nothing_yet(),
                _beyond(len(models) - MAX_MODELS, "models"),
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
    chips = [_chip(f"{severities[s]} {s}", s) for s in _SEVERITIES if severities[s]]
    if models and not open_now:
        chips = [_chip("no open incident", "ok")]
    states = Counter(model.state for model in models)
    chips += [_chip(f"{states[s]} {s}", s) for s in ModelState if states[s] and s is not ModelState.WATCHING]
    return el(
        "header",
        el("h1", "streamdrift"),
        el("p", el("span", _count(len(models), "model"), class_="chip"), chips, class_="chips"),
        el("p", f"as of {_clock(now_us)}", class_="quiet"),
    )


def _nothing_yet() -> Html:
    return el(
        "section",
        el("h2", "No model yet"),
        el(
            "p", "A model appears here when the first tick of its events has closed. Until then, see the sources below."
        ),
    )


def _model(model: ModelStatus, now_us: float) -> Html:
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
            _chip(_words(model.state), "ok" if watched else model.state),
        ),
        _facts(
            {
                "events": f"{model.events:,}",
                "latest event": _ago(model.last_event_us, now_us),
                "ticks closed": f"{model.ticks_closed:,}",
                "published window": f"{model.window_events:,} events" if watched else None,
                "baseline": model.baseline_id,
            }
        ),
        _learning(model.state, model.learning) if model.learning else None,
        _comparison(model.compared_with) if model.compared_with else None,
        [_incident(incident) for incident in incidents],
        _features(model),
        _river(model.river),
        _resolved(resolved),
        _unmonitored(model.unmonitored),
    )


_LEARNING: Final = {
    ModelState.LEARNING: "learning which columns there are, and their bins",
    ModelState.WAITING: "waiting: too many models are learning, there is no room to keep more events",
    ModelState.CALIBRATING: "calibrating: counting what is usual",
}


def _learning(state: ModelState, learning: LearningStatus) -> Html:
    until = "" if learning.until_us is None else f", until {_clock(learning.until_us)} at the latest"
    return el(
        "p",
        f"{_LEARNING.get(state, state)}: {learning.events:,} of {learning.needed:,} events{until}. Nothing is compared "
        "until then. A baseline from the training table (",
        el("code", "streamdrift baseline build"),
        ") takes effect at once.",
        class_=f"note {state}",
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
            _chip(incident.severity, incident.severity),
            " ",
            el("b", _words(incident.kind)),
            el("span", f" since {_clock(incident.started_us)}", class_="quiet"),
        ),
        el("p", el("bdi", incident.summary[:1000])),
        class_=f"incident {incident.severity}",
    )


def _features(model: ModelStatus) -> Html | None:
    if not model.features:
        return None
    features = sorted(model.features, key=lambda f: _STATE_ORDER.index(f.state))
    rows = [
        el(
            "tr",
            el("th", name(feature.name), el("small", _what(feature)), scope="row"),
            el("td", _chip(_words(feature.state), feature.state)),
            el("td", _effect(feature), class_="effect"),
            el("td", _number(feature.evidence_ratio), class_="n wide"),
            el("td", _share(feature.missing_ratio), class_="n"),
            el("td", _share(feature.unseen_ratio), class_="n"),
            el("td", _share(feature.type_error_ratio), class_="n wide"),
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
    return el("div", _table(heads, rows), _beyond(len(features) - MAX_ROWS, "features"), class_="scroll")


def _river(river: Sequence[RiverStatus]) -> Html | None:
    if not river:
        return None
    rows = [
        el(
            "tr",
            el("th", name(r.stream), scope="row"),
            el("td", name(r.detector)),
            el("td", f"{r.detections:,}", class_="n"),
            el("td", _clock(r.last_detection_us)),
        )
        for r in river[:MAX_ROWS]
    ]
    heads = (("stream", None, None), ("detector", None, None), ("detections", "n", None), ("latest", None, None))
    return el(
        "div",
        el("h3", "River detectors"),
        _table(heads, rows),
        _beyond(len(river) - MAX_ROWS, "detectors"),
        class_="scroll",
    )


def _resolved(incidents: Sequence[IncidentStatus]) -> Html | None:
    if not incidents:
        return None
    items = [
        el(
            "li",
            _chip(i.severity, "past"),
            " ",
            el("bdi", i.summary[:1000]),
            el("span", f" {_clock(i.started_us)} to {_clock(i.resolved_us)}", class_="quiet"),
        )
        for i in incidents[:MAX_ROWS]
    ]
    return el("div", el("h3", "Resolved lately"), el("ul", items))


def _unmonitored(reasons: Mapping[str, str]) -> Html | None:
    if not reasons:
        return None
    items = [el("li", name(feature), f": {reason[:200]}") for feature, reason in list(reasons.items())[:MAX_ROWS]]
    return el(
        "div",
        el("h3", "Not monitored"),
        el("ul", items),
        _beyond(len(reasons) - MAX_ROWS, "features"),
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
            el("td", _optional_count(lag_of(source.topic, snapshot.loops)), class_="n"),
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
    return el("section", el("h2", "Sources"), el("div", _table(heads, rows), class_="scroll"))


def _refused(snapshot: Snapshot) -> Html | None:
    counts = [f"{count:,} {REFUSED[reason]}" for reason, count in snapshot.refused.items() if count]
    return el("p", f"Counted, but watched by no detector: {', '.join(counts)}.") if counts else None


def _stages(loops: Sequence[LoopStatus], now_us: float) -> Html | None:
    if not loops:
        return None
    rows = [
        el(
            "tr",
            el("th", loop.stage, scope="row"),
            el("td", _progress(loop)),
            el("td", _ago(None if loop.last_poll_s is None else loop.last_poll_s * MICROSECONDS, now_us)),
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
    return el("section", el("h2", "Stages"), el("div", _table(heads, rows), class_="scroll"))


# ---- pieces --------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[tuple[str, str | None, str | None]], rows: Sequence[Html]) -> Html:
    head = [el("th", text, class_=class_, title=title, scope="col") for text, class_, title in heads]
    return el("table", el("thead", el("tr", head)), el("tbody", rows))


def _facts(facts: Mapping[str, str | None]) -> Html:
    return el("dl", [el("div", el("dt", term), el("dd", fact[:100])) for term, fact in facts.items() if fact])


def _chip(text: str, kind: str) -> Html:
    return el("span", text, class_=f"chip {kind}")


def _effect(feature: FeatureStatus) -> Html | str:
    psi = feature.effects.get("psi")
    if psi is None:
        return UNKNOWN
    every = " · ".join(f"{_words(metric)} {effect:.3f}" for metric, effect in feature.effects.items())
    return el("span", _bar(psi, feature.state), el("span", _number(psi), class_="value"), title=every)


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
    every = "; ".join(f"{_words(reason)}: {count:,}" for reason, count in reasons.items())
    return Html(el("span", f"{sum(reasons.values()):,}", el("small", every[:300])))


def _watermark(source: SourceStatus, now_us: float) -> str:
    if source.watermark_us is not None and source.watermark_us >= END_OF_TIME:
        return "its end"
    return _ago(source.watermark_us, now_us)


def _progress(loop: LoopStatus) -> Html:
    if not loop.assigned:
        return _chip("waits for partitions", "learning")
    return _chip("running", "ok") if loop.restored else _chip("restoring", "learning")


def _beyond(count: int, what: str) -> Html | None:
    if count <= 0:
        return None
    return el("p", f"and {count:,} more {what}: see ", el("a", "the JSON", href="api/v1/status"), class_="quiet")


def _open(model: ModelStatus) -> list[IncidentStatus]:
    return [incident for incident in model.incidents if incident.resolved_us is None]


def _rank(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


def _gravity(model: ModelStatus) -> tuple[int, bool, str, str]:
    gravest = min((_rank(incident.severity) for incident in _open(model)), default=len(_SEVERITIES) + 1)
    return gravest, model.state is ModelState.WATCHING, model.model_id, model.model_version


# ---- words and numbers ---------------------------------------------------------------------------------------------


def _words(identifier: str) -> str:
    return identifier.replace("_", " ")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _optional_count(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f}"


_SMALLEST_SHARE: Final = 0.0005


def _share(ratio: float | None) -> str:
    if ratio is None:
        return UNKNOWN
    return "< 0.1 %" if 0 < ratio < _SMALLEST_SHARE else f"{100 * ratio:.1f} %"


def _clock(time_us: float | None) -> str:
    written = rfc3339(time_us)
    return UNKNOWN if written is None else f"{written[:10]} {written[11:19]} UTC"


_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def _ago(time_us: float | None, now_us: float) -> str:
    """A time and how far it is from now: the reader's question is whether it is fresh."""
    if time_us is None or rfc3339(time_us) is None:
        return UNKNOWN
    seconds = round((now_us - time_us) / MICROSECONDS)
    if abs(seconds) < _MINUTE:
        return f"{seconds} s ago" if seconds >= 0 else f"in {-seconds} s"
    return f"{_clock(time_us)}, {_span(abs(seconds))} {'ago' if seconds > 0 else 'ahead'}"


def _span(seconds: int) -> str:
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"
