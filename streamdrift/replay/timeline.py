"""The timeline: a replay on one page, which is a file of its own and asks for nothing else.

Each model version has a lane for its traffic, and one for each feature: incidents are bars in the colour of their
severity, from when they were found (pale: from when the change began), and River's detections are ticks below them.
What is under the pointer says more. Lanes with incidents come first; many quiet ones are folded away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from streamdrift.evidence import rfc3339
from streamdrift.gridbook import ModelKey
from streamdrift.http.elements import Html, el, name
from streamdrift.replay.chronicle import SEVERITIES, Incident, Volume
from streamdrift.replay.rivals import VALUES, Stream
from streamdrift.replay.run import Told
from streamdrift.replay.view import lines_of

STYLE: Final = Html(Path(__file__).with_name("timeline.css").read_text("utf-8"))
WIDTH: Final = 1_000
"""Units of a lane's width, whatever the window's."""
HEIGHT: Final = 20
BAR: Final = 11
"""Height of an incident's bar; below it are the ticks."""
LEAST: Final = 3.0
"""Width of the shortest bar."""
AXIS_PARTS: Final = 6
VOLUME_PARTS: Final = 100
"""Parts of a traffic lane that have a number of their own under the pointer."""
SHOWN: Final = 40
"""Quiet lanes that are not folded away."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From event time to a place in a lane."""

    start_us: int
    end_us: int

    def x(self, time_us: float) -> float:
        """Between 0 and ``WIDTH``, to a tenth."""
        place = (time_us - self.start_us) / max(self.end_us - self.start_us, 1) * WIDTH
        return round(min(max(place, 0.0), float(WIDTH)), 1)

    def time_us(self, part: int, parts: int) -> int:
        """Where a part of the lane begins."""
        return self.start_us + (self.end_us - self.start_us) * part // parts


def timeline(title: str, told: Told) -> str:
    """The whole document."""
    start, end = told.chronicle.bounds_us or (0, 1)
    scale = Scale(start, end)
    models = sorted(told.chronicle.volumes)
    return "<!doctype html>\n" + el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", f"{title} — streamdrift replay"),
            el("link", rel="icon", href="data:,"),
            el("style", STYLE),
        ),
        el(
            "body",
            el(
                "main",
                el("h1", "Replay of ", name(title)),
                el("ul", [el("li", line) for line in lines_of({**told.summary(), "timeline": None})]),
                _legend(with_river=told.rivals is not None),
                [_model(key, told, scale) for key in models] or el("p", "No event was counted."),
            ),
        ),
        lang="en",
    )


def _legend(*, with_river: bool) -> Html:
    bars = [el("span", el("i", class_=severity), severity) for severity in SEVERITIES]
    bars.append(el("span", el("i", class_="before"), "changed, not yet found"))
    ticks = [el("span", el("i", class_=f"tick {river}"), f"River {river}") for river in VALUES] if with_river else []
    return el("p", bars, ticks, class_="legend")


def _model(key: ModelKey, told: Told, scale: Scale) -> Html:
    volume = told.chronicle.volumes[key]
    incidents = [each for each in told.chronicle.incidents.values() if (each.model, each.version) == key]
    watched = [column.name for column in volume.grid.columns] if volume.grid else []
    names = list(dict.fromkeys([*(feature for each in incidents for feature in each.features), *watched]))
    streams: dict[str, dict[str, Stream]] = {}
    for model, column, detector, stream in told.rivals.streams() if told.rivals else ():
        if model == key:
            streams.setdefault(column, {})[detector] = stream
    concerned = {feature: [each for each in incidents if feature in each.features] for feature in names}
    loud = [feature for feature in names if concerned[feature]]
    quiet = sorted(feature for feature in names if not concerned[feature])
    lanes = [_lane(feature, concerned[feature], streams.get(feature, {}), scale) for feature in loud]
    quiet_lanes = [_lane(feature, (), streams.get(feature, {}), scale) for feature in quiet]
    folded = el("details", el("summary", f"{len(quiet)} without incidents"), quiet_lanes)
    model_id, version = key
    return el(
        "section",
        el("h2", name(model_id), " ", el("small", "version ", name(version)) if version else None),
        el("p", f"{volume.events:,} events, {len(incidents)} incidents", class_="quiet"),
        _axis(scale),
        _traffic(volume, scale),
        lanes,
        folded if len(quiet) > SHOWN else quiet_lanes,
    )


def _axis(scale: Scale) -> Html:
    times = [scale.time_us(part, AXIS_PARTS) for part in range(AXIS_PARTS)]
    labels = [el("span", rfc3339(time)[:16].replace("T", " ")) for time in times]
    return el("div", el("span", "UTC"), el("div", labels), class_="lane axis")


def _traffic(volume: Volume, scale: Scale) -> Html:
    highest = max(volume.counts.values(), default=1)
    points = []
    for slot, count in sorted(volume.counts.items()):
        left, right = scale.x(slot * volume.slot_us), scale.x((slot + 1) * volume.slot_us)
        height = round(count / highest * HEIGHT, 1)
        points.append(f"M{left:g} {HEIGHT}v-{height:g}h{max(right - left, 0.5):g}v{height:g}z")
    return _row(
        el("small", "events"),
        el("path", d="".join(points), class_="area volume"),
        list(_counts(volume, scale)),
        class_="tall",
    )


def _counts(volume: Volume, scale: Scale) -> Iterator[Html]:
    """What the pointer is told of the traffic."""
    counts = [0] * VOLUME_PARTS
    for slot, count in volume.counts.items():
        part = int(scale.x(slot * volume.slot_us) / WIDTH * VOLUME_PARTS)
        counts[min(part, VOLUME_PARTS - 1)] += count
    width = WIDTH / VOLUME_PARTS
    for part, count in enumerate(counts):
        text = f"{count:,} events from {rfc3339(scale.time_us(part, VOLUME_PARTS))}"
        yield _titled(text, _rect(part * width, width, HEIGHT, "over"))


def _lane(feature: str, incidents: Sequence[Incident], streams: Mapping[str, Stream], scale: Scale) -> Html:
    bars = [_incident(incident, scale) for incident in incidents]
    return _row(name(feature), bars, list(_ticks(streams, scale)))


def _incident(incident: Incident, scale: Scale) -> Html:
    """The bar of an incident, in the colour of its severity at each time."""
    end = scale.end_us if incident.resolved is None else _us(incident.resolved)
    found = _us(incident.started)
    begun = _us(incident.onset) if incident.onset and incident.onset[0].isdigit() else None
    pieces = [] if begun is None else [_rect(scale.x(begun), scale.x(found) - scale.x(begun), BAR, "before")]
    times = [*(_us(time) for time, _ in incident.steps), max(end, found)]
    for (_, severity), start, stop in zip(incident.steps, times, times[1:], strict=False):
        left = min(scale.x(start), WIDTH - LEAST)
        pieces.append(_rect(left, max(scale.x(stop) - left, LEAST), BAR, f"bar {severity}"))
    return _titled("\n".join(_said(incident)), *pieces)


def _said(incident: Incident) -> Iterator[str]:
    yield incident.summary
    yield f"{incident.kind.replace('_', ' ')}, {incident.severity}"
    yield f"began {incident.onset or 'at an unknown time'}, found {incident.started}"
    yield f"{incident.resolution or 'resolved'} {incident.resolved}" if incident.resolved else "open at the end"


def _ticks(streams: Mapping[str, Stream], scale: Scale) -> Iterator[Html]:
    for place, detector in enumerate(VALUES):
        stream = streams.get(detector)
        if stream is None or not stream.detections:
            continue
        top = BAR + 3 * place
        places = dict.fromkeys(scale.x(time) for time in stream.times_us)
        path = "".join(f"M{x:g} {top}v3" for x in places)
        first = rfc3339(stream.times_us[0])
        text = f"River {detector}: {stream.detections:,} detections in {stream.seen:,} values, the first at {first}"
        yield _titled(text, el("path", d=path, class_=f"ticks {detector}"))


def _row(label: Html, *content: Html | Iterable[Html], class_: str | None = None) -> Html:
    box = f"0 0 {WIDTH} {HEIGHT}"
    lane = el("svg", *content, viewBox=box, preserveAspectRatio="none", class_=class_)
    return el("div", el("span", label), lane, class_="lane")


def _titled(text: str, *shapes: Html) -> Html:
    return el("g", el("title", text), *shapes)


def _rect(x: float, width: float, height: float, class_: str) -> Html:
    return el("rect", x=f"{x:g}", y="0", width=f"{width:g}", height=f"{height:g}", class_=class_)


def _us(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1e6)
