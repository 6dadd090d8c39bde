"""The generator's promises: seeded, ordered, mild by nature, and of the contract's shape."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from streamdrift.baselines import Baseline
from streamdrift.generator import Chunk, Message, Rollout, Traffic, fixed_script, training_outcomes, training_table
from streamdrift.generator.effects import FraudMoves
from streamdrift.generator.pace import HOUR_US, Pace, from_us, latest_midnight, to_us
from streamdrift.generator.traffic import CHUNK, CONTROLS, NEVER_LABELLED
from streamdrift.generator.world import CATEGORIES, SEASON
from streamdrift.tables import baseline_from_columns

START = datetime(2026, 3, 2, tzinfo=UTC)
RATE = 1000 / 3600


def digest(chunks: Iterable[Chunk]) -> str:
    content = hashlib.sha256()
    for chunk in chunks:
        for message in (*chunk.predictions, *chunk.labels):
            content.update(message.key + message.value + str(message.time_us).encode())
    return content.hexdigest()


def flat(value: bytes) -> dict[str, Any]:
    """Features of an event under their dotted names."""
    features: dict[str, Any] = {}
    for name, inner in msgspec.json.decode(value)["features"].items():
        if isinstance(inner, dict):
            features.update({f"{name}.{key}": each for key, each in inner.items()})
        else:
            features[name] = inner
    return features


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    def made(seed: int) -> str:
        return digest(Traffic(seed, START, RATE, fixed_script(START)).chunks(count=3 * CHUNK))

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_incidents_change_nothing_outside_their_span() -> None:
    script = fixed_script(START)
    quiet = list(Traffic(3, START, RATE).messages(until=START + timedelta(hours=30)))
    eventful = list(Traffic(3, START, RATE, script).messages(until=START + timedelta(hours=30)))
    changed = [a.time_us for a, b in zip(quiet, eventful, strict=True) if a != b]
    spans = [(to_us(incident.onset), to_us(incident.end)) for incident in script]
    assert changed
    assert all(any(onset <= time_us < end for onset, end in spans) for time_us in changed)


def test_predictions_and_labels_each_come_in_time_order_and_labels_after_their_prediction() -> None:
    predicted: dict[bytes, int] = {}
    last_prediction = last_label = to_us(START)
    labelled: set[bytes] = set()
    for chunk in Traffic(4, START, RATE).chunks(until=START + timedelta(days=3)):
        for message in chunk.predictions:
            assert message.time_us >= last_prediction
            last_prediction = predicted[message.key] = message.time_us
        for message in chunk.labels:
            assert message.time_us >= last_label
            assert message.time_us >= predicted[message.key] + HOUR_US // 2
            last_label = message.time_us
            labelled.add(message.key)
    assert 0.8 * len(predicted) < len(labelled) < (1 - NEVER_LABELLED + 0.01) * len(predicted)


def test_some_labels_come_twice_and_some_are_revised_to_the_opposite() -> None:
    sent: dict[bytes, list[dict[str, Any]]] = {}
    for chunk in Traffic(4, START, RATE).chunks(until=START + timedelta(days=2)):
        for message in chunk.labels:
            sent.setdefault(message.key, []).append(msgspec.json.decode(message.value))
    twice = [labels for labels in sent.values() if len(labels) > 1]
    revised = [labels for labels in twice if any(label.get("revision") for label in labels)]
    assert 0.005 < (len(twice) - len(revised)) / len(sent) < 0.015
    assert 0.002 < len(revised) / len(sent) < 0.01
    for labels in twice:
        first, *others = labels
        for other in others:
            assert (first["label"] != other["label"]) == ("revision" in other)
            assert other["source"] == "human" or "revision" not in other


def test_another_version_scores_everything_from_its_rollout_on_and_knows_its_concept() -> None:
    at = START + timedelta(hours=10)
    moved = FraudMoves(per_sd=-2.0, constant=1.0)
    before = list(Traffic(3, START, RATE).messages(until=START + timedelta(hours=20)))
    after = list(Traffic(3, START, RATE, rollout=Rollout("8", at, moved)).messages(until=START + timedelta(hours=20)))
    scores: dict[str, list[bool]] = {"7": [], "8": []}
    for one, other in zip(before, after, strict=True):
        event, newer = msgspec.json.decode(one.value), msgspec.json.decode(other.value)
        assert newer["model_version"] == ("8" if other.time_us >= to_us(at) else "7")
        assert newer["features"] == event["features"]
        scores[newer["model_version"]].append(newer["prediction"] == event["prediction"])
    assert all(scores["7"])
    assert sum(scores["8"]) < 10
    assert (training_outcomes(3, 5_000) != training_outcomes(3, 5_000, concept=moved)).any()
    assert (training_outcomes(3, 5_000) == training_outcomes(3, 5_000)).all()


def test_nothing_lies_at_or_after_until_nor_before_the_start() -> None:
    until = START + timedelta(hours=7, minutes=3)
    for chunk in Traffic(5, START, RATE).chunks(until=until):
        for message in (*chunk.predictions, *chunk.labels):
            assert to_us(START) <= message.time_us < to_us(until)


def test_a_span_before_now_starts_at_a_midnight_and_ends_before_now() -> None:
    now = datetime(2026, 3, 9, 0, 0, 0, 1, tzinfo=UTC)
    assert latest_midnight(now, timedelta(days=4)) == datetime(2026, 3, 5, tzinfo=UTC)
    assert latest_midnight(now - timedelta(seconds=1), timedelta(days=4)) == datetime(2026, 3, 4, tzinfo=UTC)


def test_count_limits_predictions_and_labels_belong_to_them() -> None:
    chunks = list(Traffic(6, START, 0.05).chunks(count=CHUNK + 10))
    predicted = {message.key for chunk in chunks for message in chunk.predictions}
    assert len(predicted) == CHUNK + 10
    assert {message.key for chunk in chunks for message in chunk.labels} <= predicted


def test_a_day_has_its_events_whatever_the_hour_and_the_pace_maps_back() -> None:
    pace = Pace(to_us(START), RATE)
    hours = np.array([to_us(START + timedelta(hours=h)) for h in range(49)])
    positions = np.array([pace.position(int(time)) for time in hours])
    assert positions[24] == pytest.approx(24_000)
    assert np.diff(positions).min() == pytest.approx(700, rel=0.02)
    assert np.diff(positions).max() == pytest.approx(1300, rel=0.02)
    assert np.abs(pace.times(positions) - hours).max() < 50_000
    assert pace.after(int(hours[5]), 24_000) == pytest.approx(int(hours[29]), abs=50_000)


def test_an_event_has_the_shape_of_the_contract() -> None:
    message = next(Traffic(0, START, RATE).messages(count=1))
    event = msgspec.json.decode(message.value)
    assert list(event) == [
        "prediction_id", "model_id", "model_version", "timestamp", "features", "prediction", "segments",
    ]  # fmt: skip
    assert event["prediction_id"].encode() == message.key
    assert datetime.fromisoformat(event["timestamp"]) == from_us(message.time_us)
    assert event["timestamp"].endswith("Z")
    assert 0 < event["prediction"]["score"] < 1
    assert event["segments"]["region"] in {"eu", "us", "apac"}
    assert isinstance(event["features"]["basket"]["items"], int)
    assert isinstance(event["features"]["is_guest"], bool)


def test_a_label_has_the_shape_of_the_contract() -> None:
    label = next(label for chunk in Traffic(0, START, RATE).chunks(count=2 * CHUNK) for label in chunk.labels)
    event = msgspec.json.decode(label.value)
    assert event == {
        "prediction_id": label.key.decode(),
        "model_id": "fraud",
        "label": event["label"],
        "outcome_timestamp": event["outcome_timestamp"],
        "source": event["source"],
    }
    assert event["label"] in {"fraud", "legit"}
    assert datetime.fromisoformat(event["outcome_timestamp"]) == from_us(label.time_us)


def test_extra_features_widen_the_events_and_the_table_and_leave_the_rest_as_it_is() -> None:
    narrow = next(Traffic(0, START, RATE).messages())
    wide = next(Traffic(0, START, RATE, extra_features=200).messages())
    extra = {name for name in flat(wide.value) if name.startswith("extra.")}
    assert len(extra) == 200
    assert {n: v for n, v in flat(wide.value).items() if n not in extra} == flat(narrow.value)
    assert extra <= training_table(0, 100, extra_features=200).keys()


@pytest.fixture(scope="module")
def day() -> list[Message]:
    return list(Traffic(7, START, 0.5).messages(until=START + timedelta(days=1)))


def test_features_are_two_dozen_of_every_type_and_carry_the_columns_of_the_table(day: list[Message]) -> None:
    table = training_table(7, 1000)
    features = flat(day[0].value)
    assert features.keys() == table.keys() - {"prediction.score", "prediction.label"}
    assert len(features) - len(CONTROLS) == 24
    kinds = Counter(type(value) for value in features.values())
    assert min(kinds[float], kinds[int], kinds[str], kinds[bool]) >= 3


def test_the_season_is_there_and_mild(day: list[Message]) -> None:
    hours = np.array([message.time_us // HOUR_US % 24 for message in day])
    events = [flat(message.value) for message in day]
    for name in SEASON:
        values = np.log([event[name] + 1e-3 for event in events])
        standard = (values - np.mean(values)) / np.std(values)
        wave = [standard[hours == hour].mean() for hour in range(24)]
        swing = 2 * np.mean(wave * np.cos((np.arange(24) + 0.5 - SEASON[name][1]) * 2 * np.pi / 24))
        assert 0.08 < swing <= 0.25


def test_features_correlate(day: list[Message]) -> None:
    events = [flat(message.value) for message in day]
    pairs = [(event["customer_age"], event["account.orders_90d"]) for event in events]
    assert np.corrcoef(pairs, rowvar=False)[0, 1] > 0.1


def test_the_model_is_good_but_not_perfect() -> None:
    scores, frauds = [], []
    known: dict[bytes, float] = {}
    for chunk in Traffic(8, START, RATE).chunks(until=START + timedelta(days=3)):
        for message in chunk.predictions:
            known[message.key] = msgspec.json.decode(message.value)["prediction"]["score"]
        for label in chunk.labels:
            scores.append(known[label.key])
            frauds.append(msgspec.json.decode(label.value)["label"] == "fraud")
    fraud, score = np.array(frauds), np.array(scores)
    assert 0.02 < fraud.mean() < 0.1
    assert abs(score.mean() - fraud.mean()) < 0.01, "its scores are calibrated"
    ranks = score.argsort().argsort()
    auc = (ranks[fraud].mean() - (fraud.sum() - 1) / 2) / (~fraud).sum()
    assert 0.8 < auc < 0.97


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return baseline_from_columns(training_table(9), model_id="fraud", model_version="7")


def test_an_id_a_counter_a_timestamp_and_a_free_text_are_not_monitored(baseline: Baseline) -> None:
    unmonitored = {field.name for field in baseline.grid.unmonitored}
    assert unmonitored == set(CONTROLS) - {"schema_version"}


def test_everything_else_is_monitored_with_the_constant_among_it(baseline: Baseline) -> None:
    columns = {column.name: column for column in baseline.grid.columns}
    assert columns["schema_version"].categories == ("4",)
    assert {"prediction.score", "prediction.label", "amount", "basket.items", "is_guest"} <= columns.keys()
    assert len(columns) == 24 + 1 + 2 + 1  # features, the constant, score and label, and the length of the free text
    assert "note.length" in columns
    for name, categories in CATEGORIES.items():
        assert set(columns[name].categories) == set(categories)


def test_live_traffic_without_incidents_has_no_unseen_category(baseline: Baseline, day: list[Message]) -> None:
    known = {column.name: set(column.categories) for column in baseline.grid.columns if column.categories}
    for message in day:
        features = flat(message.value)
        for name in CATEGORIES:
            assert features[name] in known[name]


def test_a_pace_of_nothing_and_a_time_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="events_per_second"):
        Pace(0, 0.0)
    with pytest.raises(ValueError, match="time zone"):
        to_us(datetime(2026, 1, 1))  # noqa: DTZ001 — what the test is about
