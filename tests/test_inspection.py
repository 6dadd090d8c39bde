"""What a person sees of a baseline, and makes of it: read from the topics as detect wrote them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamdrift import inspection
from streamdrift.assembly import topology
from streamdrift.baselines import Baseline
from streamdrift.entries import BaselineSet, decode
from streamdrift.errors import ConfigurationError
from streamdrift.generator import MODEL_ID, MODEL_VERSION, PREDICTIONS_TOPIC
from streamdrift.inspection import promote, show
from streamdrift.kafka.client import Cluster
from streamdrift.records import OutputRecord
from streamdrift.settings import Settings
from streamdrift.topology import TopologyDriver
from tests.support import fraud
from tests.test_judging import classified

MODEL = (MODEL_ID, MODEL_VERSION)


class Installation:
    """The topics that a driver wrote, in place of those of a cluster; and what was published to them."""

    def __init__(self, directory: Path, events: int, *, baseline: bool = False) -> None:
        self.settings: Settings = fraud.settings(directory, {"defaults.warm_up": {"events": 5_000}}, baseline=baseline)
        self.cluster = Cluster("nowhere:9092")
        self.published: list[OutputRecord] = []
        driver = TopologyDriver(topology(self.settings))
        for event in fraud.fraud_events()[:events]:
            driver.send(PREDICTIONS_TOPIC, event.value)
        driver.run()
        driver.stop()
        self.driver = driver

    def read(self, _: Cluster, topic: str) -> dict[bytes, bytes]:
        if topic == self.settings.topics.grids:
            return {key: value for key, value in self.driver._grids if value is not None}
        return {
            key: value
            for tp, latest in self.driver._compacted.items()
            if tp.topic == topic
            for key, value in latest.items()
        }

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> Installation:
        monkeypatch.setattr(inspection, "read_compacted", self.read)
        monkeypatch.setattr(inspection, "publish", lambda _, records: self.published.extend(records))
        return self

    def show(self, version: str | None = None, *, as_json: bool = False) -> str:
        return show(self.settings, MODEL_ID, version, as_json=as_json, cluster=self.cluster)

    def promote(self, *, window: bool = False, to: Path | None = None) -> str:
        return promote(self.settings, MODEL, window=window, to=to, cluster=self.cluster)


@pytest.fixture
def learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    return Installation(tmp_path, 1_000).patch(monkeypatch)


@pytest.fixture
def calibrating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    return Installation(tmp_path, 3_500).patch(monkeypatch)


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    return Installation(tmp_path, 12_000).patch(monkeypatch)


def test_a_model_that_learns_has_no_grid_to_show(learning: Installation) -> None:
    text = learning.show()
    assert text.startswith("fraud 7: learning, ")
    assert "grid none yet, baseline none yet" in text


def test_a_grid_is_shown_column_by_column_with_what_is_not_monitored(calibrating: Installation) -> None:
    text = calibrating.show(MODEL_VERSION)
    assert text.startswith("fraud 7: calibrating, ")
    assert "  country: categorical, " in text
    assert "  amount: numeric, " in text
    assert "  sequence: not monitored, counter" in text


def test_programs_are_shown_the_same(watching: Installation) -> None:
    [shown] = json.loads(watching.show(as_json=True))
    model = watching.driver.detect.models[MODEL]
    assert (shown["state"], shown["baseline_id"], shown["learning"]) == ("watching", model.baseline_id, None)
    assert shown["events"] >= 5_000
    assert {column["name"] for column in shown["columns"]} == {feature.name for feature in model.features}
    assert shown["unmonitored"]["sequence"] == "counter"


def test_an_unknown_model_is_refused_with_those_that_are_known(watching: Installation) -> None:
    with pytest.raises(ConfigurationError, match="detect has no model fraud 8; it has fraud 7"):
        watching.show("8")


def test_what_is_learned_so_far_is_promoted(calibrating: Installation) -> None:
    said = calibrating.promote()
    baseline, control = calibrating.published
    assert decode(control.value or b"") == BaselineSet(*MODEL, (baseline.key or b"").decode(), promoted=True)
    assert said.startswith(f"baseline {(baseline.key or b'').decode()} of fraud 7, 3,")


def test_a_baseline_is_written_to_a_file_and_nothing_else_is_changed(watching: Installation, tmp_path: Path) -> None:
    file = tmp_path / "learned.json"
    watching.promote(to=file)
    assert Baseline.read(file).id == watching.driver.detect.models[MODEL].baseline_id
    assert watching.published == []


def test_recent_traffic_is_promoted_on_the_same_grid(watching: Installation) -> None:
    watching.promote(window=True)
    assert len(watching.published) == 2
    key = (watching.published[0].key or b"").decode()
    assert key != watching.driver.detect.models[MODEL].baseline_id


def test_what_is_in_effect_is_not_promoted_again(watching: Installation) -> None:
    with pytest.raises(ConfigurationError, match="is in effect; --window takes the recent traffic"):
        watching.promote()
    assert watching.published == []


@pytest.mark.parametrize(("window", "missing"), [(False, "grid yet"), (True, "published window")])
def test_nothing_is_promoted_where_there_is_nothing(learning: Installation, missing: str, *, window: bool) -> None:
    with pytest.raises(ConfigurationError, match=f"has no {missing}"):
        learning.promote(window=window)


@pytest.fixture
def benchmarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """With a baseline whose table had labels."""
    measured = replace(fraud.fraud_baseline(), measured=classified())
    monkeypatch.setattr(fraud, "fraud_baseline", lambda: measured)
    return Installation(tmp_path, 3_500, baseline=True).patch(monkeypatch)


def test_benchmarks_and_labels_of_the_training_table_are_shown(benchmarked: Installation) -> None:
    text = benchmarked.show(MODEL_VERSION)
    assert "  outcomes: binary, 1,000 labels: legit 90.0%, fraud 10.0%, positive is fraud" in text
    assert "    recall 0.8 ± 0.04 of 1,000" in text
    [shown] = json.loads(benchmarked.show(as_json=True))
    assert shown["outcome"] == {"task": "binary", "classes": ["legit", "fraud"]}
    assert {"metric": "recall", "value": 0.8, "standard_error": 0.04, "n": 1_000} in shown["benchmarks"]
    assert shown["labels"] == {"n": 1_000, "classes": {"legit": 900, "fraud": 100}}


def test_a_promoted_baseline_keeps_the_benchmarks_of_the_training_table(
    benchmarked: Installation, tmp_path: Path
) -> None:
    benchmarked.promote(window=True, to=tmp_path / "recent.json")
    recent = Baseline.read(tmp_path / "recent.json")
    assert recent.measured == classified()
    assert recent.id != fraud.fraud_baseline().id


def test_without_labels_neither_is_shown(watching: Installation) -> None:
    assert "outcomes" not in watching.show()
    [shown] = json.loads(watching.show(as_json=True))
    assert (shown["outcome"], shown["benchmarks"], shown["labels"]) == (None, [], None)
