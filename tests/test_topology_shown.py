"""What the loop of labels looks like from outside: messages by their schemas, gauges, page and document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from streamdrift import prometheus_metrics as declared
from streamdrift.check import check
from streamdrift.http.api import status
from streamdrift.http.page import render
from streamdrift.status import Snapshot
from streamdrift.summaries.coverage import Fate
from streamdrift.tables import Fields, baseline_from_columns
from streamdrift.telemetry import StreamdriftCollector
from streamdrift.topology import TopologyDriver
from tests.test_telemetry import parsed, text_of
from tests.test_topology_decay import DAY_S, DAYS, REQUESTS, START_S, run, settings, traffic

SCHEMAS = Path(__file__).parents[1] / "config/schemas"
NOW_S = START_S + (DAYS + 1) * DAY_S


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def driver() -> TopologyDriver:
    return run(traffic().messages, partitions=2)[1]


@pytest.fixture(scope="module")
def snapshot(driver: TopologyDriver) -> Snapshot:
    detect = driver.detect
    return Snapshot(
        models=tuple(detect.models.values()),
        joins=tuple(driver.join.joins()) if driver.join else (),
        outcomes=tuple(detect.outcomes.values()),
        retraining=tuple(detect.retraining.values()),
    )


def test_every_message_is_as_its_schema_says(driver: TopologyDriver) -> None:
    requests = [json.loads(record.value or b"") for record in driver.read(REQUESTS)]
    assert [request["phase"] for request in requests] == ["requested", "fulfilled", "fulfilled"]
    for request in requests:
        schema("retraining-request").validate(request)
    assert requests[0]["provenance"]["offsets"]["labels"], "where the data window lies"
    for alert in driver.alerts:
        schema("drift-alert").validate(alert)


def test_the_gauges_add_up_and_tell_how_the_model_performs(snapshot: Snapshot) -> None:
    series = parsed(text_of(StreamdriftCollector(lambda: snapshot)))

    def value(declaration: declared.Metric, **labels: str) -> float:
        return series[declaration.name, frozenset({"model": "fraud", **labels}.items())]

    [outcomes] = [each for each in snapshot.outcomes if each.model_version == "8"]
    gone = [value(declared.PREDICTIONS, model_version="8", outcome=o) for o in ("labelled", "expired", "sampled_out")]
    assert sum(gone) + value(declared.PREDICTIONS_PENDING, model_version="8") == outcomes.coverage[Fate.PREDICTED]
    assert value(declared.LABEL_DELAY, model_version="8", le="+Inf") == gone[0]
    accuracy = {"model_version": "8", "metric": "accuracy"}
    assert value(declared.MODEL_METRIC, **accuracy, labels="measured") == pytest.approx(0.9, abs=0.05)
    assert value(declared.MODEL_METRIC_BENCHMARK, **accuracy) == 0.9
    assert 0.85 < value(declared.LABEL_COVERAGE, model_version="8") < 1
    assert value(declared.RETRAINING_REQUESTS, policy="decay") == 1
    assert value(declared.RETRAINING_OPEN) == 0
    assert value(declared.INCIDENTS_OPEN, model_version="8", kind="performance", severity="critical") == 0


def test_page_and_document_compare_the_new_version_with_its_predecessor(snapshot: Snapshot) -> None:
    [retraining] = json.loads(json.dumps(status(snapshot, NOW_S)))["retraining"]
    assert (retraining["model_version"], retraining["predecessor"]) == ("8", "7")
    [accuracy] = retraining["comparison"]
    assert 0.15 < accuracy["better_by"] < 0.35
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", render(snapshot, NOW_S)))
    assert re.search(r"Against version 7 accuracy 0\.\d+ of \d+ labels, 0\.\d+ better than the 0\.\d+ of its", text)
    assert "fraud labels of no known prediction" in text


def test_a_benchmark_that_the_training_table_measured_is_what_windows_are_held_against(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    true, wrong = rng.random(4_000) < 0.5, rng.random(4_000) < 0.1
    score = np.where(true ^ wrong, rng.uniform(0.5, 1, 4_000), rng.uniform(0, 0.5, 4_000))
    columns = {"amount": 1 + score, "score": score, "truth": np.where(true, "fraud", "legit").tolist()}
    fields = Fields(score="score", target="truth")
    baseline = baseline_from_columns(columns, model_id="fraud", model_version="7", fields=fields)
    (tmp_path / "fraud-7.json").write_bytes(baseline.to_json())
    models: Any = settings().model_dump(mode="json", exclude_unset=True, by_alias=True)["models"]
    models["fraud"] |= {"baselines": {"7": str(tmp_path / "fraud-7.json")}}
    del models["fraud"]["outcome"]  # the baseline says it
    models["fraud"]["performance"]["metrics"] = {"accuracy": {"benchmark": "from_baseline", "tolerance": 0.05}}
    story, driver = run(traffic().messages, changes={"models": models})
    assert [request["phase"] for request in story.requests] == ["requested", "fulfilled", "fulfilled"]
    measured = baseline.benchmarks["accuracy"].value
    assert measured == 1 - wrong.mean()
    told = {metric["benchmark"] for alert in story.alerts for metric in alert.get("metrics", ())}
    assert told == {measured}
    assert {t.benchmark for o in driver.detect.outcomes.values() for t in o.targets} == {measured}


def test_what_check_passes_is_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "streamdrift.yaml"
    document = settings().model_dump(mode="json", exclude_unset=True, by_alias=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    report = check(path, environment={})
    assert not report.errors
    notes = "\n".join(map(str, report.notes))
    assert "models.fraud.performance.metrics.accuracy: is judged a window of 1d: benchmark 0.9, tolerance 0.05" in notes
    assert "models.fraud.retraining.policies.decay: asks for a training: accuracy below benchmark" in notes
