"""The timeline: one file that says what was told, asks for nothing, and trusts no name."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from streamdrift.events import Batch
from streamdrift.grids import Column, Grid, Kind
from streamdrift.replay.chronicle import MAX_SLOTS, Chronicle, Volume, week_of
from streamdrift.replay.messages import Refusals
from streamdrift.replay.rivals import Rivals
from streamdrift.replay.run import Told
from streamdrift.replay.timeline import SHOWN, timeline

HOUR_US = 3_600_000_000
START_US = 1_795_000_000_000_000
EVIL = '<script>alert("x")</script>'
VOID = {"meta", "link", "rect", "wbr"}


class Document(HTMLParser):
    """What stands in a document: every tag with its attributes; it must be closed as it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def count(self, tag: str, class_: str) -> int:
        return sum(name == tag and class_ in (attributes.get("class") or "").split() for name, attributes in self.tags)


def events(names: list[str], rows: int = 2_000) -> Batch:
    rng = np.random.default_rng(2)
    grid = Grid("fraud", "7", tuple(Column(name, Kind.NUMERIC) for name in names))
    times = START_US + np.arange(rows, dtype=np.int64) * (24 * HOUR_US // rows)
    return Batch(
        grid, times, np.zeros(rows, np.uint64), rng.normal(size=(rows, len(names))), np.zeros((0, 2), dtype=np.int64)
    )


def alert(feature: str, phase: str, severity: str, hour: int) -> dict[str, object]:
    return {
        "incident_id": feature,
        "phase": phase,
        "kind": "data_drift",
        "severity": severity,
        "model_id": "fraud",
        "model_version": "7",
        "summary": f"{feature} shifted up",
        "features": [{"feature": feature, "calibrated": True, "onset": "2026-11-18T12:00:00Z"}],
        "event_time": f"2026-11-18T{hour:02}:30:00Z",
        **({"resolution": "recovered"} if phase == "resolved" else {}),
    }


def told(names: list[str], *drifting: str) -> Told:
    found = Told(Chronicle(), Refusals(), Rivals(2_000))
    batch = events(names)
    found.chronicle.observe(batch)
    if found.rivals is not None:
        found.rivals.observe(batch)
        found.rivals.feed()
    for feature in drifting:
        found.chronicle.tell(alert(feature, "started", "info", 13))
        found.chronicle.tell(alert(feature, "updated", "critical", 15))
        found.chronicle.tell(alert(feature, "resolved", "critical", 20))
    return found


def test_an_incident_is_a_bar_of_each_severity_that_it_had() -> None:
    document = Document(timeline("events.jsonl", told(["amount", "age"], "amount")))
    assert document.count("rect", "info") == document.count("rect", "critical") == document.count("rect", "before") == 1
    text = timeline("events.jsonl", told(["amount"], "amount"))
    assert "amount shifted up\ndata drift, critical\nbegan 2026-11-18T12:00:00Z, found 2026-11-18T13:30:00Z" in text


def test_a_document_asks_for_nothing_and_runs_nothing() -> None:
    text = timeline("events.jsonl", told(["amount"], "amount"))
    document = Document(text)
    assert {"script", "img", "iframe", "object"} & {tag for tag, _ in document.tags} == set()
    links = [value for _, attributes in document.tags for name, value in attributes.items() if name in {"href", "src"}]
    assert links == ["data:,"]
    assert not re.search(r"url\(|@import|https?:", text)


def test_names_of_models_and_features_are_text() -> None:
    text = timeline(EVIL, told([EVIL, "amount"], EVIL))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Document(text)


def test_three_hundred_features_are_one_page_with_the_quiet_ones_folded_away() -> None:
    names = [f"feature_{number:03}" for number in range(300)]
    text = timeline("events.jsonl", told(names, "feature_207"))
    document = Document(text)
    assert document.count("div", "lane") == 300 + 2  # the axis and the traffic
    assert text.index("feature_<wbr>207</bdi>") < text.index("feature_<wbr>000</bdi>")
    assert ("details", {}) in document.tags
    assert SHOWN < 299
    assert len(text) < 2_000_000


def test_a_replay_without_events_is_a_page_too() -> None:
    text = timeline("e.jsonl", Told(Chronicle(), Refusals(), None))
    Document(text)
    assert "No event was counted" in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="looks at the page with Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_lays_the_page_out_without_scrolling_sideways(tmp_path: Path, width: int) -> None:
    page = tmp_path / "t.html"
    probe = "<script>document.title = document.documentElement.scrollWidth - innerWidth</script></body>"
    text = timeline("events.jsonl", told(["amount", "a_long_name_" * 6], "amount"))
    page.write_text(text.replace("</body>", probe), encoding="utf-8")
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*chromium, f"--window-size={width},800", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r"<title>(-?\d+)</title>", shown.stdout)
    assert found is not None
    assert int(found[1]) <= 0


# ---- what it is drawn from -------------------------------------------------------------------------------------------


def test_however_long_a_history_is_its_traffic_takes_bounded_room() -> None:
    volume = Volume()
    for day in range(0, 3_000, 100):
        batch = events(["a"], 100)
        shifted = Batch(batch.grid, batch.times + day * 24 * HOUR_US, batch.hashes, batch.values, batch.type_errors)
        volume.add(shifted)
    assert volume.events == 3_000
    assert len(volume.counts) <= MAX_SLOTS + 1


def test_an_incident_is_what_all_of_its_alerts_say() -> None:
    [incident] = told(["amount"], "amount").chronicle.incidents.values()
    assert (incident.severity, incident.onset) == ("critical", "2026-11-18T12:00:00Z")
    assert (incident.started, incident.resolved) == ("2026-11-18T13:30:00Z", "2026-11-18T20:30:00Z")
    assert [severity for _, severity in incident.steps] == ["info", "critical"]


@pytest.mark.parametrize(
    ("time", "monday"), [("2026-11-23T00:00:00Z", "2026-11-23"), ("2026-11-22T23:59:59Z", "2026-11-16")]
)
def test_a_week_begins_on_monday(time: str, monday: str) -> None:
    assert week_of(time) == monday
