"""What a person sees of the demo: a live terminal view, or plain lines where there is no terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamdrift.comparison import estimates
from streamdrift.demo.verdict import AlertData, Verdict
from streamdrift.generator import ScriptedIncident
from streamdrift.generator.pace import from_us
from streamdrift.metrics import METRICS
from streamdrift.outcome_status import OutcomeStatus
from streamdrift.performance import Target
from streamdrift.requests_topic import REQUESTED
from streamdrift.status import FeatureState, FeatureStatus, IncidentStatus, ModelStatus
from streamdrift.summaries.coverage import Fate

SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARKS_SHOWN: Final = 30
TICKS_A_SPARK: Final = 12
"""At most one spark an hour of event time."""
FULL_BAR_PSI: Final = 0.5
BAR_WIDTH: Final = 14
ALERTS_SHOWN: Final = 6
INCIDENTS_SHOWN: Final = 5
_FIXED_LINES: Final = 7
"""Borders and headings."""
_LEAST_ROWS: Final = 3
PROGRESS_LINE_EVERY: Final = 10.0
"""Seconds between lines of progress without a terminal."""

_STYLES: Final = {
    "info": "cyan",
    "warning": "yellow",
    "critical": "bold red",
    "resolved": "green",
    str(FeatureState.OK): "green",
    str(FeatureState.NO_DATA): "dim",
}
_STEPS: Final = {
    "performance": "frauds get through",
    "requested": "training requested",
    "fulfilled": "new version in service",
    "better": "measured, and better",
    "resolved": "all incidents resolved",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to show at one moment."""

    elapsed: float
    """Seconds since the first event was sent."""
    sent: int
    total: int
    event_time_us: int | None
    """Time of the last event that was sent."""
    models: Sequence[ModelStatus] = ()
    """Versions of the watched model that have had events, the newest last; none while nothing is known of it."""
    outcomes: Sequence[OutcomeStatus] = ()
    """What labels said of each version."""
    waiting_for: str | None = None
    """What the demo waits for, once all is sent."""

    @property
    def model(self) -> ModelStatus | None:
        """The version in service."""
        return self.models[-1] if self.models else None


class Display(Protocol):
    """Shows the demo while it runs."""

    def opened(self, lines: Sequence[str]) -> None:
        """Say where to look, once."""

    def show(self, picture: Picture) -> None:
        """Called a few times a second."""

    def alert(self, data: AlertData) -> None:
        """Called with every alert as it arrives."""

    def retraining(self, data: AlertData) -> None:
        """Called with every message on retraining as it arrives."""

    def close(self) -> None:
        """Leave the terminal as it was."""


@dataclass(slots=True)
class PlainDisplay:
    """A line an alert, and one every ten seconds."""

    console: Console
    _shown_at: float = 0.0

    def opened(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._line(line)

    def show(self, picture: Picture) -> None:
        if picture.elapsed - self._shown_at >= PROGRESS_LINE_EVERY:
            self._shown_at = picture.elapsed
            rate = picture.sent / picture.elapsed
            state = picture.waiting_for or f"{rate:,.0f} events/s"
            self._line(
                f"{picture.sent:,} of {picture.total:,} events, event time {_time(picture.event_time_us)}, {state}"
            )

    def alert(self, data: AlertData) -> None:
        self._line(alert_line(data).plain)

    def retraining(self, data: AlertData) -> None:
        self._line(retraining_line(data).plain)

    def close(self) -> None:
        """Nothing was taken."""

    def _line(self, text: str) -> None:
        # Neither wrapped nor highlighted: each line is one message, for a log as for a person.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class LiveDisplay:
    """The whole terminal, redrawn four times a second."""

    console: Console
    _lines: Sequence[str] = ()
    _alerts: deque[Text] = field(default_factory=lambda: deque(maxlen=ALERTS_SHOWN))
    _history: dict[str, deque[float]] = field(default_factory=dict)
    _peaks: dict[str, float] = field(default_factory=dict)
    _sampled: int = 0
    _live: Live | None = None

    def opened(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._live = Live(console=self.console, screen=True, auto_refresh=False)
        self._live.start()

    def show(self, picture: Picture) -> None:
        if picture.model is not None:
            self._sample(picture.model, sum(model.ticks_closed for model in picture.models))
        if self._live is not None:
            self._live.update(self._render(picture), refresh=True)

    def alert(self, data: AlertData) -> None:
        self._alerts.append(alert_line(data))

    def retraining(self, data: AlertData) -> None:
        self._alerts.append(retraining_line(data))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _sample(self, model: ModelStatus, ticks_closed: int) -> None:
        due = ticks_closed // TICKS_A_SPARK > self._sampled
        if due:
            self._sampled = ticks_closed // TICKS_A_SPARK
        for feature in model.features:
            psi = feature.effects.get("psi", 0.0)
            self._peaks[feature.name] = max(psi, self._peaks.get(feature.name, 0.0))
            if due:
                self._history.setdefault(feature.name, deque(maxlen=SPARKS_SHOWN)).append(psi)

    def _render(self, picture: Picture) -> RenderableType:
        header = Panel(_header(picture), title="streamdrift demo", title_align="left", subtitle="  ".join(self._lines))
        told = [incident for model in picture.models for incident in model.incidents]
        told += [incident for outcomes in picture.outcomes for incident in outcomes.incidents]
        incidents = sorted(told, key=lambda incident: (incident.started_us, incident.kind))[-INCIDENTS_SHOWN:]
        performance = [_performance_line(outcomes) for outcomes in picture.outcomes]
        below = Group(
            Text("Performance", style="bold"),
            *(performance or [Text("no labels so far", style="dim")]),
            Text("Incidents", style="bold"),
            _incidents(incidents),
            Text("Alerts", style="bold"),
            *self._alerts,
        )
        taken = _FIXED_LINES + max(len(performance), 1) + max(len(incidents), 1) + len(self._alerts)
        return Group(header, self._features(picture.model, max(self.console.height - taken, _LEAST_ROWS)), below)

    def _features(self, model: ModelStatus | None, rows: int) -> RenderableType:
        """The features that drifted most so far come first and stay there: rows that jump cannot be read."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for heading in ("Feature", "PSI now", "", "Trend", "State"):
            table.add_column(heading, no_wrap=True)
        features = sorted(
            model.features if model else (), key=lambda f: (-round(self._peaks.get(f.name, 0.0), 1), f.name)
        )
        for feature in features[:rows]:
            table.add_row(*self._row(feature))
        return table

    def _row(self, feature: FeatureStatus) -> tuple[RenderableType, ...]:
        psi = feature.effects.get("psi")
        style = _STYLES.get(str(feature.state), "")
        filled = round(min(psi or 0.0, FULL_BAR_PSI) / FULL_BAR_PSI * BAR_WIDTH)
        return (
            feature.name,
            Text("" if psi is None else f"{psi:.3f}", style=style),
            Text("━" * filled, style=style) + Text("─" * (BAR_WIDTH - filled), style="dim"),
            Text(sparkline(self._history.get(feature.name, ()))),
            Text(str(feature.state).replace("_", " "), style=style),
        )


def sparkline(values: Sequence[float] | deque[float]) -> str:
    """One sign a value, from 0 to ``FULL_BAR_PSI``.

    >>> sparkline([0.0, 0.1, 0.25, 2.0])
    '▁▂▅█'
    """
    top = len(SPARKS) - 1
    return "".join(SPARKS[min(int(value / FULL_BAR_PSI * (top + 1)), top)] for value in values)


def report(console: Console, verdict: Verdict, script: Sequence[ScriptedIncident]) -> None:
    """What the script did, and what the alerts made of it; a line each."""
    lines = [_scripted_line(verdict, incident) for incident in script]
    for unexpected in verdict.unexpected:
        subject = f"{unexpected.kind}: {unexpected.feature or 'no feature'}"
        lines.append(Text(f"unexpected           {subject} at {unexpected.event_time}", style="bold red"))
    lines += [_step_line(step, time) for step, time in verdict.loop.items()]
    if verdict.passed:
        lines.append(Text("Everything was found, and nothing else.", style="green"))
    else:
        missed = len(verdict.missed) + sum(time is None for time in verdict.loop.values())
        lines.append(Text(f"{missed} missed, {len(verdict.unexpected)} unexpected.", style="bold red"))
    for line in lines:
        console.print(line, soft_wrap=True)


def _scripted_line(verdict: Verdict, incident: ScriptedIncident) -> Text:
    where = "".join(f" in {name} {value}" for name, value in incident.segment.items())
    line = Text(
        f"{incident.id:<20} {incident.kind + ': ' + incident.feature + where:<36} {incident.onset:%m-%d %H:%M}  "
    )
    if incident.id in verdict.found:
        return line.append(f"found after {_span(verdict.found[incident.id] - incident.onset)}", style="green")
    return line.append("missed", style="bold red")


def _step_line(step: str, time: datetime | None) -> Text:
    line = Text(f"{'':<20} {_STEPS[step]:<36} ")
    return line.append("missed", style="bold red") if time is None else line.append(f"{time:%m-%d %H:%M}", "green")


def _header(picture: Picture) -> RenderableType:
    grid = Table.grid(padding=(0, 3, 0, 0))
    rate = picture.sent / picture.elapsed if picture.elapsed > 0 else 0.0
    read = sum(model.events for model in picture.models)
    grid.add_row(
        ProgressBar(total=picture.total, completed=picture.sent, width=24),
        f"event time {_time(picture.event_time_us)}",
        f"{picture.sent:,} sent, {read:,} judged",
        picture.waiting_for or f"{rate:,.0f} events/s",
    )
    return grid


def _incidents(incidents: Sequence[IncidentStatus]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for incident in reversed(incidents):
        resolved = incident.resolved_us is not None
        state = "resolved" if resolved else incident.severity
        names = ", ".join(incident.features[:3]) + (" …" if len(incident.features) > 3 else "")  # noqa: PLR2004
        since = f"{from_us(incident.started_us):%m-%d %H:%M}"
        until = f"to {from_us(incident.resolved_us):%m-%d %H:%M}" if incident.resolved_us is not None else ""
        table.add_row(Text(state, style=_STYLES.get(state, "")), incident.kind, since, until, names)
    return table if incidents else Text("none so far", style="dim")


def alert_line(data: AlertData, *, year: bool = False) -> Text:
    """An alert for people, in a line; with the ``year`` where events are not of today."""
    phase, severity = str(data["phase"]), str(data["severity"])
    style = _STYLES.get("resolved" if phase == "resolved" else severity, "")
    time = str(data["event_time"])[0 if year else 5 : 16].replace("T", " ")
    line = Text(f"{time}  ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{phase:<8} ", style=style)
    line.append(f"{severity:<8} ", style=style)
    return line.append(str(data["summary"]), style="default")


def _performance_line(outcomes: OutcomeStatus) -> Text:
    """The metrics of a version in the window that says most, next to their benchmarks."""
    line = Text(f"version {outcomes.model_version:<4}", no_wrap=True, overflow="ellipsis")
    measured = estimates(outcomes.reports)
    for target in outcomes.targets:
        if target.metric in measured:
            line.append(_metric(target, measured[target.metric].value))
    return (
        line if measured else line.append(f"{outcomes.coverage[Fate.LABELLED]:,} labels, too few of any window", "dim")
    )


def _metric(target: Target, value: float) -> Text:
    text = Text(f"{target.metric} {value:.3f}")
    if target.benchmark is None:
        return text
    below = METRICS[target.metric].better.shortfall(value, target.benchmark) > target.tolerance
    text.stylize("bold red" if below else "green")
    return text.append(f" (benchmark {target.benchmark:.3f}, tolerance {target.tolerance:g})  ", style="dim")


def retraining_line(data: AlertData, *, year: bool = False) -> Text:
    """What was told of retraining, likewise."""
    time = str(data["event_time"])[0 if year else 5 : 16].replace("T", " ")
    line = Text(f"{time}  ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{'retrain':<8} {data['phase']:<8} ", style="magenta")
    if data["phase"] == REQUESTED:
        return line.append(f"version {data['model_version']}: {data['reason']}", style="default")
    compared = [f"{c['metric']} {c['before']['value']:.3f} → {c['after']['value']:.3f}" for c in data["comparison"]]
    came = f"version {data['new_version']} is in service" if data["new_version"] else "nobody trained"
    return line.append("; ".join([came, *compared]), style="default")


def _time(time_us: int | None) -> str:
    return "not begun" if time_us is None else f"{from_us(time_us):%Y-%m-%d %H:%M}"


def _span(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
