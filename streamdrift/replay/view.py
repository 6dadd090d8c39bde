"""What a person, or a program, sees of a replay while it runs and at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamdrift.demo.view import alert_line, retraining_line
from streamdrift.replay.chronicle import AlertData, Incident

INCIDENTS_SHOWN: Final = 40
"""Incidents in the table at the end; the document has them all."""
_NAMES_SHOWN: Final = 3


class Bars:
    """Progress on stderr, if somebody looks at a terminal; what is noteworthy is written there in any case."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(
            *columns,
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),
        )

    def note(self, text: str) -> None:
        """Write a line on stderr."""
        self.console.print(text, markup=False)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show how far a phase is."""
        task = self._bars.add_task(name, total=total)
        try:
            yield lambda done: self._bars.update(task, completed=done)
        finally:
            self._bars.remove_task(task)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class Teller(Protocol):
    """Where alerts and the summary go."""

    def alert(self, data: AlertData) -> None:
        """Called with every alert as it comes."""

    def retraining(self, data: AlertData) -> None:
        """Called with every message on retraining."""

    def summary(self, document: Mapping[str, Any], incidents: Sequence[Incident]) -> None:
        """Called once, at the end."""


class Lines:
    """For programs: JSON on stdout, an alert a line, and the summary as the last one."""

    def alert(self, data: AlertData) -> None:
        _write(data)

    def retraining(self, data: AlertData) -> None:
        """It stands in the summary."""

    def summary(self, document: Mapping[str, Any], incidents: Sequence[Incident]) -> None:  # noqa: ARG002 — they stand in it
        _write(document)


def _write(document: object) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


class Sheet:
    """For people: a line an alert, and tables at the end."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def alert(self, data: AlertData) -> None:
        self._console.print(alert_line(data, year=True))

    def retraining(self, data: AlertData) -> None:
        self._console.print(retraining_line(data, year=True))

    def summary(self, document: Mapping[str, Any], incidents: Sequence[Incident]) -> None:
        print_ = self._console.print
        if incidents:
            print_()
            print_(_incident_table(incidents[:INCIDENTS_SHOWN]))
        if len(incidents) > INCIDENTS_SHOWN:
            print_(f"… and {len(incidents) - INCIDENTS_SHOWN:,} more incidents: see the timeline, or --json")
        print_()
        for line in lines_of(document):
            print_(line, markup=False)


def _incident_table(incidents: Sequence[Incident]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("incident", "model", "severity", "began", "found", "resolved", "features"):
        table.add_column(heading, overflow="fold", min_width=len("2026-11-22"), no_wrap=heading == "incident")
    for incident in incidents:
        names = ", ".join(incident.features[:_NAMES_SHOWN])
        more = len(incident.features) - _NAMES_SHOWN
        table.add_row(
            incident.kind,
            f"{incident.model} {incident.version}".strip(),
            incident.severity,
            _minute(incident.onset or ""),
            _minute(incident.started),
            _minute(incident.resolved or "open at the end"),
            f"{names} and {more} more" if more > 0 else names,
        )
    return table


def _minute(time: str) -> str:
    return time[:16].replace("T", " ") if time[:1].isdigit() else time.replace("_", " ")


def _exposure(feature_weeks: float, rate: float | None) -> str:
    """For how long was watched, and what that makes a week where it was long enough to say so."""
    often = f", {rate:.3g} a feature and week" if rate is not None and feature_weeks >= 1 else ""
    return f"{feature_weeks:.3g} feature-weeks{often}"


def lines_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The summary for people, a fact a line."""
    labels = f", {document['labels']:,} labels" if document["labels"] else ""
    yield f"{document['events']:,} events{labels}; {document['counted']:,} were counted"
    for name, counts in (("refused", "refused"), ("late", "late"), ("not watched", "unwatched")):
        if document[counts]:
            listed = ", ".join(f"{count:,} {reason}" for reason, count in document[counts].items())
            yield f"{name}: {listed}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in document["by_kind"].items())
    severities = ", ".join(f"{count} {severity}" for severity, count in document["by_severity"].items())
    found = f"{len(document['incidents'])} incidents"
    yield f"{found}: {kinds}; {severities}" if kinds else found
    if document["feature_weeks"]:
        yield f"watched: {_exposure(document['feature_weeks'], document['per_feature_and_week'])}"
    for name, river in (document["river"] or {}).items():
        if not river["features"]:
            yield f"river {name}: saw no number"
            continue
        seen = f"{river['features']} of {river['of_features']} features, {river['values']:,} values"
        exposure = _exposure(river["feature_weeks"], river["per_feature_and_week"])
        yield f"river {name}: {river['detections']:,} detections in {exposure} ({seen})"
    if document["timeline"]:
        yield f"timeline: {document['timeline']}"
