"""What Prometheus is shown: names, labels, bounds, and that nothing stays which is no longer there."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamdrift import prometheus_metrics as declared
from streamdrift import telemetry
from streamdrift.prometheus_metrics import METRICS, Metric
from streamdrift.records import TopicPartition
from streamdrift.status import (
    FeatureState,
    FeatureStatus,
    IncidentStatus,
    JoinStatus,
    LearningStatus,
    LoopStatus,
    ModelState,
    ModelStatus,
    RiverStatus,
    Snapshot,
    SourceStatus,
)
from streamdrift.telemetry import FeaturePolicy, FeatureSeries, StreamdriftCollector
from streamdrift.ticks import END_OF_TIME
from tests.support.statuses import OUTCOMES, RETRAINING, WINDOWS

Labels = Mapping[str, str]

FRAUD = {"model": "fraud", "model_version": "7"}
AMOUNT = {**FRAUD, "feature": "amount"}


def feature(name: str = "amount", role: str = "feature") -> FeatureStatus:
    return FeatureStatus(
        name,
        "numeric",
        role,
        FeatureState.WARNING,
        {"psi": 0.31, "wasserstein": 0.9},
        evidence_ratio=3.1,
        missing_ratio=0.25,
        unseen_ratio=0.0,
        type_error_ratio=0.125,
        detector="shape",
    )


def model(features: Sequence[FeatureStatus] = (), *, model_id: str = "fraud") -> ModelStatus:
    return ModelStatus(
        model_id,
        "7",
        ModelState.WATCHING,
        "b1",
        events=1000,
        ticks_closed=40,
        last_event_us=1_000_000,
        window_events=900,
        features=tuple(features),
        state_bytes=512,
    )


def loop(stage: str, lag: int) -> LoopStatus:
    lags = {TopicPartition("summaries", 3): lag}
    return LoopStatus(stage, 12.5, assigned=True, restored=True, rebalances={"assigned": 1}, lag=lags)


FULL = Snapshot(
    sources=[SourceStatus("predictions", "predictions", 100, 80, 3, 1, 2, {"malformed": 4}, 1_500_000, 7, 6)],
    models=[
        replace(
            model([feature(), feature("prediction.score", "prediction")]),
            learning=LearningStatus(1, 2, None),
            river=(RiverStatus("prediction.score", "drift.ADWIN", 2),),
            incidents=(
                IncidentStatus("i1", "data_drift", "warning", "started", "amount shifted", ("amount",), 1),
                IncidentStatus("i0", "data_drift", "critical", "resolved", "amount shifted", ("amount",), 1, 2),
                IncidentStatus("i2", "data_quality", "critical", "muted", "", ("fee",), 1, muted={"fee": "planned"}),
            ),
            alerts={("data_drift", "warning"): 3},
        )
    ],
    loops=[loop("detect", 7)],
    replayed_records=9,
    refused={"late": 11, "over_bound": 0, "other_grid": 5},
    refused_labels={"late": 3, "over_bound": 0, "other_grid": 0},
    joins=[JoinStatus("predictions", "labels", {"labelled": 20, "orphan": 4}, 30, 34, {"without_id": 2})],
    outcomes=[OUTCOMES],
    retraining=[RETRAINING],
)


def text_of(collector: StreamdriftCollector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    series: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"{key} stands twice"
            series[key] = sample.value
    return series


class Exposition:
    """A scrape, as Prometheus would read it."""

    def __init__(self, snapshot: Snapshot, policy: FeaturePolicy | None = None, bound: int = 10_000) -> None:
        self.snapshot = snapshot
        self.collector = StreamdriftCollector(lambda: self.snapshot, features=policy, bound=bound)
        self.scrape()

    def scrape(self) -> None:
        self.series = parsed(text_of(self.collector))

    def value(self, metric: Metric, labels: Labels | None = None) -> float | None:
        return self.series.get((metric.name, frozenset((labels or {}).items())))

    def of(self, metric: Metric) -> list[dict[str, str]]:
        return [dict(labels) for name, labels in self.series if name == metric.name]

    def features(self, model_id: str = "fraud") -> list[str]:
        return [labels["feature"] for labels in self.of(declared.FEATURE_STATE) if labels["model"] == model_id]

    def dropped(self, reason: str) -> float | None:
        return self.value(declared.SERIES_DROPPED, {"reason": reason})


def test_every_declared_metric_is_in_the_table_once() -> None:
    found = [value for value in vars(declared).values() if isinstance(value, Metric)]
    assert sorted(m.name for m in METRICS) == sorted(m.name for m in found)
    assert len({m.name for m in METRICS}) == len(METRICS)


def test_every_declared_metric_is_rendered_with_its_labels_and_nothing_else_is() -> None:
    seen = {name: set(dict(labels)) for name, labels in Exposition(FULL).series}
    assert seen == {metric.name: set(metric.labels) for metric in METRICS}


@pytest.mark.parametrize(
    ("metric", "labels", "expected"),
    [
        (declared.RECORDS_CONSUMED, {"source": "predictions"}, 100),
        (declared.EVENTS_EXPLODED, {"source": "predictions"}, 7),
        (declared.RECORDS_EVENTLESS, {"source": "predictions"}, 6),
        (declared.RECORDS_REJECTED, {"source": "predictions", "reason": "malformed"}, 4),
        (declared.RECORDS_REJECTED, {"source": "predictions", "reason": "over_bound"}, 2),
        (declared.RECORDS_LATE, {"source": "predictions"}, 3),
        (declared.WATERMARK, {"source": "predictions"}, 1.5),
        (declared.LAST_POLL, {"stage": "detect"}, 12.5),
        (declared.REBALANCES, {"stage": "detect", "event": "assigned"}, 1),
        (declared.CONSUMER_LAG, {"topic": "summaries", "partition": "3"}, 7),
        (declared.REPLAYED_RECORDS, {}, 9),
        (declared.EVENTS_REFUSED, {"reason": "late"}, 11),
        (declared.EVENTS_REFUSED, {"reason": "over_bound"}, 0),
        (declared.EVENTS_REFUSED, {"reason": "other_grid"}, 5),
        (declared.LABELS_REFUSED, {"reason": "late"}, 3),
        (declared.JOIN_PREDICTIONS, {"source": "predictions", "state": "labelled"}, 20),
        (declared.JOIN_PREDICTIONS, {"source": "predictions", "state": "pending"}, 30),
        (declared.JOIN_PREDICTIONS, {"source": "predictions", "state": "expired"}, 0),
        (declared.JOIN_LABELS, {"source": "labels", "fate": "orphan"}, 4),
        (declared.JOIN_ROWS, {"source": "labels"}, 34),
        (declared.JOIN_SKIPPED, {"source": "predictions", "reason": "without_id"}, 2),
        (declared.MODEL_STATE, {**FRAUD, "state": "watching"}, 1),
        (declared.MODEL_STATE, {**FRAUD, "state": "learning"}, 0),
        (declared.TICKS_CLOSED, FRAUD, 40),
        (declared.EVENTS, FRAUD, 1000),
        (declared.STATE_BYTES, FRAUD, 512),
        (declared.EVIDENCE_RATIO_MAX, FRAUD, 3.1),
        (declared.FEATURES, {**FRAUD, "state": "warning"}, 2),
        (declared.FEATURES, {**FRAUD, "state": "ok"}, 0),
        (declared.INCIDENTS_OPEN, {**FRAUD, "kind": "data_drift", "severity": "warning"}, 1),
        (declared.INCIDENTS_OPEN, {**FRAUD, "kind": "data_drift", "severity": "critical"}, 0),
        (declared.INCIDENTS_OPEN, {**FRAUD, "kind": "data_quality", "severity": "critical"}, 0),
        (declared.INCIDENTS_MUTED, FRAUD, 1),
        (declared.CALIBRATED, FRAUD, 1),
        (declared.ALERTS_PUBLISHED, {**FRAUD, "kind": "data_drift", "severity": "warning"}, 3),
        (declared.ALERTS_PUBLISHED, {**FRAUD, "kind": "data_quality", "severity": "info"}, 0),
        (declared.MODEL_METRIC, {**FRAUD, "metric": "accuracy", "labels": "measured"}, 0.78),
        (declared.MODEL_METRIC, {**FRAUD, "metric": "accuracy", "labels": "provisional"}, 0.9),
        (declared.MODEL_METRIC_BENCHMARK, {**FRAUD, "metric": "accuracy"}, 0.9),
        (declared.LABEL_COVERAGE, FRAUD, 0.8),
        (declared.LABEL_DELAY, {**FRAUD, "le": "1024.0"}, 0),
        (declared.LABEL_DELAY, {**FRAUD, "le": "4096.0"}, 1_205),
        (declared.LABEL_DELAY, {**FRAUD, "le": "+Inf"}, 1_205),
        (declared.PREDICTIONS, {**FRAUD, "outcome": "labelled"}, 1_205),
        (declared.PREDICTIONS, {**FRAUD, "outcome": "expired"}, 300),
        (declared.PREDICTIONS, {**FRAUD, "outcome": "sampled_out"}, 45),
        (declared.PREDICTIONS_PENDING, FRAUD, 450),
        (declared.LABELS, {**FRAUD, "fate": "revised"}, 7),
        (declared.LABELS, {**FRAUD, "fate": "orphan"}, 0),
        (declared.LABELS, {**FRAUD, "fate": "late"}, 11),
        (declared.INCIDENTS_OPEN, {**FRAUD, "kind": "performance", "severity": "critical"}, 1),
        (declared.INCIDENTS_OPEN, {**FRAUD, "kind": "concept_drift", "severity": "critical"}, 0),
        (declared.ALERTS_PUBLISHED, {**FRAUD, "kind": "performance", "severity": "critical"}, 1),
        (declared.RETRAINING_OPEN, {"model": "fraud"}, 1),
        (declared.RETRAINING_REQUESTS, {"model": "fraud", "policy": "weekly"}, 0),
        (declared.LABELS_FRESH, {"model": "fraud"}, 1_205),
        (declared.RIVER_DETECTIONS, {**FRAUD, "stream": "prediction.score", "detector": "drift.ADWIN"}, 2),
        (declared.DRIFT_EFFECT, {**AMOUNT, "metric": "psi"}, 0.31),
        (declared.EVIDENCE_RATIO, {**AMOUNT, "detector": "shape"}, 3.1),
        (declared.FEATURE_STATE, AMOUNT, 2),
        (declared.MISSING_RATIO, AMOUNT, 0.25),
        (declared.UNSEEN_CATEGORY_RATIO, AMOUNT, 0),
        (declared.TYPE_ERROR_RATIO, AMOUNT, 0.125),
    ],
)
def test_a_status_value_is_shown_as(metric: Metric, labels: Labels, expected: float) -> None:
    assert Exposition(FULL).value(metric, labels) == expected


def test_states_of_features_have_the_numbers_of_the_contract() -> None:
    numbers = {state.value: number for state, number in telemetry.STATE_NUMBERS.items()}
    assert numbers == {"ok": 0, "info": 1, "warning": 2, "critical": 3, "no_data": 4, "learning": 5}


def test_predictions_are_labelled_or_expired_or_sampled_out_or_pending() -> None:
    shown = Exposition(FULL)
    gone = [shown.value(declared.PREDICTIONS, labels) or 0.0 for labels in shown.of(declared.PREDICTIONS)]
    assert sum(gone) + (shown.value(declared.PREDICTIONS_PENDING, FRAUD) or 0.0) == 2_000


def test_a_metric_without_a_benchmark_and_one_without_a_number_have_no_series_of_it() -> None:
    shown = Exposition(FULL)
    judged = {labels["metric"] for labels in shown.of(declared.MODEL_METRIC_BENCHMARK)}
    told = {(labels["metric"], labels["labels"]) for labels in shown.of(declared.MODEL_METRIC)}
    assert judged == {"accuracy", "roc_auc"}
    assert told == {(metric, labels) for metric in ("accuracy", "recall") for labels in ("measured", "provisional")}


def test_label_delays_are_a_histogram() -> None:
    text = text_of(Exposition(FULL).collector)
    assert "# TYPE streamdrift_label_delay_seconds histogram" in text
    counts = [value for (name, _), value in Exposition(FULL).series.items() if name == declared.LABEL_DELAY.name]
    assert len(counts) == 12


def test_before_the_first_window_has_closed_nothing_is_measured() -> None:
    windows = replace(WINDOWS, windows=WINDOWS.windows[:1])
    shown = Exposition(replace(FULL, outcomes=[replace(OUTCOMES, windows=windows)]))
    assert not shown.of(declared.MODEL_METRIC)
    assert not shown.of(declared.LABEL_COVERAGE)
    assert shown.value(declared.PREDICTIONS_PENDING, FRAUD) == 450


def test_a_model_without_a_baseline_is_visible() -> None:
    learning = LearningStatus(1_240, 2_000, None)
    unwatched = replace(model(), state=ModelState.LEARNING, baseline_id=None, learning=learning)
    shown = Exposition(Snapshot(models=[unwatched]))
    assert shown.value(declared.LEARNING_EVENTS, FRAUD) == 1_240
    assert shown.value(declared.LEARNING_EVENTS_NEEDED, FRAUD) == 2_000
    assert shown.value(declared.MODEL_STATE, {**FRAUD, "state": "learning"}) == 1
    assert shown.value(declared.MODEL_STATE, {**FRAUD, "state": "watching"}) == 0


def test_what_is_not_known_has_no_series() -> None:
    empty = FeatureStatus("amount", "numeric", "feature", FeatureState.NO_DATA)
    shown = Exposition(
        Snapshot(
            [SourceStatus("predictions", "predictions")],
            [model([empty])],
            [LoopStatus("detect", None, assigned=False, restored=False)],
        )
    )
    unknown = (declared.WATERMARK, declared.LAST_POLL, declared.EVIDENCE_RATIO_MAX, declared.EVIDENCE_RATIO)
    for metric in (*unknown, declared.DRIFT_EFFECT, declared.MISSING_RATIO, declared.TYPE_ERROR_RATIO):
        assert not shown.of(metric)
    assert shown.value(declared.FEATURE_STATE, AMOUNT) == 4


def test_no_series_is_ever_nan_or_infinite() -> None:
    odd = replace(feature(), effects={"psi": math.nan, "wasserstein": math.inf}, evidence_ratio=math.nan)
    shown = Exposition(Snapshot(models=[model([odd])]))
    assert not shown.of(declared.DRIFT_EFFECT)
    assert all(map(math.isfinite, shown.series.values()))


def test_a_source_that_has_ended_has_no_watermark() -> None:
    ended = SourceStatus("predictions", "predictions", watermark_us=END_OF_TIME)
    assert not Exposition(Snapshot([ended])).of(declared.WATERMARK)


def test_of_two_stages_that_read_a_partition_the_one_behind_is_shown() -> None:
    labels = {"topic": "summaries", "partition": "3"}
    assert Exposition(Snapshot(loops=[loop("join", 5), loop("summarise", 3)])).value(declared.CONSUMER_LAG, labels) == 5


def test_series_of_a_model_and_a_partition_that_moved_away_vanish() -> None:
    shown = Exposition(FULL)
    shown.snapshot = Snapshot()
    shown.scrape()
    assert not [key for key in shown.series if "model" in dict(key[1]) or "topic" in dict(key[1])]


HOSTILE = [
    'say "hi"',
    "two\nlines",
    "back\\slash\\n",
    "<script>alert(1)</script>",
    "\u202eright to left",
    "a\x00b\r",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_arrive_as_they_are(name: str) -> None:
    shown = Exposition(Snapshot(models=[model([feature(name)], model_id=name)]))
    readable = name.encode("utf-8", "backslashreplace").decode()
    labels = {"model": readable, "model_version": "7", "feature": readable}
    assert shown.value(declared.MISSING_RATIO, labels) == 0.25


def test_long_names_are_cut_and_stay_apart() -> None:
    names = ["x" * 10_000 + end for end in "ab"]
    shown = Exposition(Snapshot(models=[model([feature(name) for name in names])]))
    cut = shown.features()
    assert len(set(cut)) == 2
    assert {len(name) for name in cut} == {telemetry.MAX_LABEL}


def many(count: int) -> list[FeatureStatus]:
    return [feature(f"f{i}") for i in range(count)]


def test_fifty_features_of_a_model_have_series_and_the_rest_is_counted() -> None:
    shown = Exposition(Snapshot(models=[model(many(60))]))
    assert shown.features() == [f"f{i}" for i in range(50)]
    assert shown.dropped("features_per_model") == 10 * 7
    shown.scrape()
    assert shown.dropped("features_per_model") == 10 * 7


def test_features_that_have_series_keep_them_whatever_their_rank() -> None:
    shown = Exposition(Snapshot(models=[model(many(60))]))
    before = set(shown.features())
    shown.snapshot = Snapshot(models=[model(many(60)[::-1])])
    shown.scrape()
    assert set(shown.features()) == before


def test_the_prediction_has_series_beside_the_fifty() -> None:
    shown = Exposition(Snapshot(models=[model([*many(60), feature("prediction.score", "prediction")])]))
    assert "prediction.score" in shown.features()
    assert len(shown.features()) == 51


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (FeaturePolicy(FeatureSeries.NONE), []),
        (FeaturePolicy(FeatureSeries.LISTED), ["prediction.score"]),
        (FeaturePolicy(FeatureSeries.LISTED, {"fraud": {"f1"}, "other": {"f2"}}), ["f1", "prediction.score"]),
        (FeaturePolicy(FeatureSeries.ALL), ["f0", "f1", "f2", "prediction.score"]),
        (FeaturePolicy(FeatureSeries.ALL, per_model=1), ["f0", "prediction.score"]),
    ],
)
def test_the_policy_decides_which_features_have_series(policy: FeaturePolicy, expected: list[str]) -> None:
    snapshot = Snapshot(models=[model([*many(3), feature("prediction.score", "prediction")])])
    shown = Exposition(snapshot, policy)
    assert shown.features() == expected
    assert shown.of(declared.EVIDENCE_RATIO_MAX)


def fleet(models: int, features: int) -> Snapshot:
    return replace(
        FULL, models=[model(many(features), model_id=f"m{i}") for i in range(models)], outcomes=(), retraining=()
    )


def test_the_bound_of_series_holds_and_says_what_it_cost() -> None:
    whole = len(Exposition(fleet(4, 50)).series)
    shown = Exposition(fleet(4, 50), bound=500)
    assert len(shown.series) == 500
    assert shown.dropped("process_bound") == whole - 500
    shown.scrape()
    assert shown.dropped("process_bound") == whole - 500


def test_the_bound_takes_features_first_and_models_that_came_last() -> None:
    shown = Exposition(fleet(4, 50), bound=513)
    shown.snapshot = replace(shown.snapshot, models=shown.snapshot.models[::-1])
    shown.scrape()
    assert {labels["model"] for labels in shown.of(declared.INCIDENTS_OPEN)} == {"m0", "m1", "m2", "m3"}
    assert len(shown.features("m0")) == 50
    assert not shown.features("m3")
    assert shown.value(declared.RECORDS_CONSUMED, {"source": "predictions"}) == 100


def test_series_that_are_left_out_again_are_counted_again() -> None:
    shown = Exposition(fleet(4, 50), bound=500)
    once = shown.dropped("process_bound")
    assert once
    crowd, shown.snapshot = shown.snapshot, fleet(1, 1)
    shown.scrape()
    shown.snapshot = crowd
    shown.scrape()
    assert shown.dropped("process_bound") == 2 * once


def test_five_thousand_gauges_take_less_than_a_second() -> None:
    collector = StreamdriftCollector(lambda: fleet(20, 40))
    started = time.thread_time()
    text = text_of(collector)
    spent = time.thread_time() - started
    assert text.count("\n") > 5_000
    assert spent < 1


def test_the_registry_shows_the_process_beside_streamdrift() -> None:
    text = generate_latest(telemetry.registry(StreamdriftCollector(lambda: FULL))).decode()
    names = {name for name, _ in parsed(text)}
    assert {"streamdrift_build_info", "process_resident_memory_bytes", "python_gc_objects_collected_total"} <= names


def complaints_of_promtool(text: str) -> str:
    promtool = shutil.which("promtool")
    if promtool is None:
        message = "promtool is missing: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("names", [["amount"], HOSTILE[:-1], ["x" * 10_000]], ids=["plain", "hostile", "long"])
def test_promtool_has_nothing_to_say(names: Iterable[str]) -> None:
    models = [model([feature(name)], model_id=name) for name in names]
    collector = StreamdriftCollector(lambda: replace(FULL, models=[*FULL.models, *models]))
    assert complaints_of_promtool(generate_latest(telemetry.registry(collector)).decode()) == ""


def test_promtool_complains_of_a_counter_without_total() -> None:
    assert "_total" in complaints_of_promtool(
        "# HELP streamdrift_bad Bad.\n# TYPE streamdrift_bad counter\nstreamdrift_bad 1\n"
    )
