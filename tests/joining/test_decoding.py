"""What the join reads of messages: ids, predictions and labels, wherever a mapping puts them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamdrift.codecs.labels import decode_label
from streamdrift.codecs.mapping import At, Const, Header, Key, LabelMapping, Mapping, PredictionParts
from streamdrift.codecs.source import EventTime, Source
from streamdrift.events import SourceKind
from streamdrift.joining.decoding import (
    MAX_CLASSES,
    WITHOUT_ID,
    LabelReader,
    Labels,
    PredictionReader,
    Predictions,
    label_event,
    prediction_of,
)
from streamdrift.joining.rows import Prediction
from streamdrift.privacy import Privacy
from streamdrift.records import Headers, RecordBatch

SECOND = 1_000_000


def message(**parts: Any) -> bytes:  # noqa: ANN401 — any JSON value
    event = {"prediction_id": "a", "model_id": "fraud", "prediction": {"label": "legit", "score": 0.25}}
    return json.dumps({**event, **parts}).encode()


def records(*values: bytes | None, key: bytes | None = None, headers: Headers = ()) -> RecordBatch:
    n = len(values)
    return RecordBatch("topic", 0, range(7, 7 + n), [5_000] * n, [key] * n, values, [headers] * n)


def predictions(*values: bytes, source: Source | None = None) -> Predictions:
    return PredictionReader(source or Source("topic")).read(records(*values))


def labels(*values: bytes, source: Source | None = None, key: bytes | None = None, headers: Headers = ()) -> Labels:
    default = Source("topic", SourceKind.LABELS, EventTime.RECORD)
    return LabelReader(source or default).read(records(*values, key=key, headers=headers))


def test_an_event_is_read_without_its_features() -> None:
    [event] = predictions(message(model_version="7", timestamp=12, features={"amount": ["odd", {}]})).events
    assert event == (7, "fraud", "7", "a", 12 * SECOND, Prediction("legit", 0.25))


def test_ids_that_are_numbers_are_texts() -> None:
    [event] = predictions(message(prediction_id=12, model_id=3, model_version=4)).events
    assert (event.prediction_id, event.model_id, event.model_version) == ("12", "3", "4")
    [label] = labels(b'{"prediction_id": 12, "model_id": 3, "label": 1}').events
    assert (label.prediction_id, label.model_id) == ("12", "3")


def test_a_part_of_a_wrong_type_is_missing_and_costs_no_other_part() -> None:
    odd = {"label": 3.0, "score": "high", "value": 10**400, "probabilities": 5}
    [event] = predictions(message(prediction=odd)).events
    assert event.prediction == Prediction("3")
    probabilities = {"yes": 0.5, "no": True, "maybe": None}
    assert prediction_of({"label": True, "probabilities": probabilities}) == Prediction("true", None, {"yes": 0.5})


def test_more_classes_than_can_be_named_have_no_probabilities() -> None:
    probabilities = {str(i): 0.001 for i in range(MAX_CLASSES + 1)}
    [event] = predictions(message(prediction={"probabilities": probabilities})).events
    assert event.prediction == Prediction()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"[]", "schema"),
        (b"{", "malformed"),
        (b'{"prediction_id": "a", "model_id": "m"}', "schema"),
        (b"[" * 100_000, "malformed"),
        (message(timestamp="yesterday"), "timestamp"),
        (message(prediction_id=None), WITHOUT_ID),
        (message(prediction_id=""), WITHOUT_ID),
        (message(prediction_id=[1]), WITHOUT_ID),
    ],
)
def test_what_is_no_prediction_that_a_label_can_name_is_counted_and_costs_no_other(value: bytes, reason: str) -> None:
    read = predictions(message(), value, message(prediction_id="b"))
    assert [event.prediction_id for event in read.events] == ["a", "b"]
    assert read.index.tolist() == [0, 2]
    assert +read.refused == {reason: 1}


def test_times_are_those_of_the_source_whichever_way_an_event_is_read() -> None:
    slow = message(prediction={"label": 3}, timestamp="2026-11-22T10:00:00Z")
    [first, second, third] = predictions(message(timestamp=3), slow, message()).times.tolist()
    assert (first, third) == (3 * SECOND, 5 * SECOND)
    assert second == predictions(message(timestamp="2026-11-22T10:00:00Z")).times[0]


def test_a_mapping_says_where_a_prediction_stands() -> None:
    mapping = Mapping(
        model_id=Const("fraud"),
        prediction_id=At(("meta", "id")),
        features=At((), ("rows",)),
        prediction=PredictionParts(score=At(("p",), ("rows",))),
        explode=("rows",),
    )
    value = json.dumps({"meta": {"id": "x"}, "rows": [{"p": 0.25}, {"p": 0.5}]}).encode()
    events = predictions(value, source=Source("topic", mapping=mapping)).events
    assert [(event.prediction_id, event.prediction.score) for event in events] == [("x/0", 0.25), ("x/1", 0.5)]


def test_a_label_keeps_its_outcome_as_the_category_that_it_is_counted_as() -> None:
    event = decode_label(
        b'{"prediction_id": "a", "model_id": "fraud", "label": 1.0, "revision": 2, "prediction": {"score": 1}}'
    )
    read = label_event(event, 5, 200)
    assert (read.offset, read.time, read.label, read.value, read.revision) == (5, 200, "1", None, 2)
    assert read.prediction == Prediction(score=1.0)


def test_a_label_belongs_to_the_time_of_its_record_unless_its_own_is_asked_for() -> None:
    value = b'{"prediction_id": "a", "model_id": "m", "label": "x", "outcome_timestamp": "1970-01-01T00:00:03Z"}'
    [of_record] = labels(value).events
    [of_event] = labels(value, source=Source("topic", SourceKind.LABELS)).events
    assert (of_record.time, of_event.time) == (5 * SECOND, 3 * SECOND)


def test_a_mapping_says_where_a_label_stands() -> None:
    mapping = LabelMapping(
        model_id=Const("fraud"),
        prediction_id=Key(),
        label=Header("truth"),
        value=At(("amount",)),
        revision=Header("version"),
        outcome_timestamp=At(("at",)),
    )
    source = Source("topic", SourceKind.LABELS, label_mapping=mapping)
    headers = [("truth", b"legit"), ("version", b"3")]
    [event] = labels(b'{"amount": 2.5, "at": 9}', source=source, key=b"id-1", headers=headers).events
    assert event == (7, "fraud", "id-1", 9 * SECOND, "legit", 2.5, 3, None, "")


def test_a_message_may_hold_many_labels() -> None:
    mapping = LabelMapping(prediction_id=At(("id",), ("labels",)), label=At(("is",), ("labels",)), explode=("labels",))
    many = {"model_id": "m", "labels": [{"id": "a", "is": True}, {"id": "b"}, {"id": "c", "is": 0}, {"is": 1}]}
    read = labels(json.dumps(many).encode(), source=Source("topic", SourceKind.LABELS, label_mapping=mapping))
    assert [(event.prediction_id, event.label) for event in read.events] == [("a", "true"), ("c", "0")]
    [letter] = read.dead
    assert (letter.index, letter.reason, letter.events) == (0, "schema", 2)
    assert "element 1: neither `label` nor `value` is there" in letter.message


@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        (b"", "empty", "no value"),
        (b"{", "malformed", "not JSON"),
        (b"[1]", "schema", "expected a JSON object"),
        (b'{"model_id": "m", "label": 1}', "schema", "prediction_id"),
        (b'{"prediction_id": "a", "label": 1}', "schema", "model_id"),
        (b'{"prediction_id": "a", "model_id": "m"}', "schema", "neither"),
        (b'{"prediction_id": "a", "model_id": "m", "label": [1]}', "schema", "label"),
        (b'{"prediction_id": "a", "model_id": "m", "value": "much"}', "schema", "value"),
        (b'{"prediction_id": "a", "model_id": "m", "label": 1, "revision": "x"}', "schema", "revision"),
        (b'{"prediction_id": "a", "model_id": "m", "label": 1, "source": "robot"}', "schema", "source"),
        (b'{"prediction_id": "a", "model_id": "m", "label": NaN}', "schema", "label"),
    ],
)
def test_a_label_that_cannot_be_read_is_a_dead_letter_and_costs_no_other(value: bytes, reason: str, says: str) -> None:
    good = b'{"prediction_id": "a", "model_id": "m", "label": true}'
    read = labels(good, value, good)
    assert [event.offset for event in read.events] == [7, 9]
    assert [(letter.index, letter.reason) for letter in read.dead] == [(1, reason)]
    assert says in read.dead[0].message


def test_what_is_hashed_is_hashed_on_both_sides_and_still_meets() -> None:
    privacy = Privacy(hash=("prediction_id", "prediction.label"), salt=b"salt")
    probabilities = {"label": "legit", "probabilities": {"legit": 0.75}}
    source = Source("topic", privacy=privacy)
    [prediction] = predictions(message(prediction=probabilities), source=source).events
    [label] = labels(b'{"prediction_id": "a", "model_id": "fraud", "label": "legit"}', source=source).events
    assert prediction.prediction_id == label.prediction_id != "a"
    assert prediction.prediction.label == label.label == privacy.hashed("legit")
    assert prediction.prediction.probabilities == {privacy.hashed("legit"): 0.75}


def test_what_is_dropped_of_predictions_is_dropped_of_labels() -> None:
    source = Source("topic", privacy=Privacy(drop=("prediction.label",), hash=("prediction.value",)))
    own = {"label": "legit", "value": 2, "score": 0.5, "probabilities": {"legit": 1}}
    [prediction] = predictions(message(prediction=own), source=source).events
    assert prediction.prediction == Prediction(None, 0.5, {}, None)
    value = {"prediction_id": "a", "model_id": "m", "label": "legit", "value": 3, "prediction": own}
    [label] = labels(json.dumps(value).encode(), source=source).events
    assert (label.label, label.value, label.prediction) == (None, None, Prediction(None, 0.5, {}, None))
