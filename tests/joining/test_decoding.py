from __future__ import annotations

import json
from typing import Any

import pytest

from streamdrift.codecs.labels import decode_label
from streamdrift.joining.decoding import MAX_CLASSES, decode_prediction, label_event, prediction_of
from streamdrift.joining.rows import Prediction


def message(**parts: Any) -> bytes:  # noqa: ANN401 — any JSON value
    event = {"prediction_id": "a", "model_id": "fraud", "prediction": {"label": "legit", "score": 0.25}}
    return json.dumps({**event, **parts}).encode()


def test_an_event_is_read_without_its_features() -> None:
    read = decode_prediction(message(model_version="7", timestamp=12, features={"amount": ["odd", {}]}))
    assert read == ("a", "fraud", "7", 12, Prediction("legit", 0.25))


def test_ids_that_are_numbers_are_texts() -> None:
    assert decode_prediction(message(prediction_id=12, model_id=3, model_version=4))[:3] == ("12", "3", "4")


def test_a_part_of_a_wrong_type_is_missing_and_costs_no_other_part() -> None:
    read = decode_prediction(message(prediction={"label": 3.0, "score": "high", "value": 10**400, "probabilities": 5}))
    assert read.prediction == Prediction("3")
    probabilities = {"yes": 0.5, "no": True, "maybe": None}
    assert prediction_of({"label": True, "probabilities": probabilities}) == Prediction("true", None, {"yes": 0.5})


def test_more_classes_than_can_be_named_have_no_probabilities() -> None:
    probabilities = {str(i): 0.001 for i in range(MAX_CLASSES + 1)}
    assert decode_prediction(message(prediction={"probabilities": probabilities})).prediction == Prediction()


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"{", b'{"prediction_id": "a", "model_id": "m"}', b'{"a": "\xff"}', b"[" * 100_000],
    ids=["empty", "array", "torn", "no prediction", "not UTF-8", "deep"],
)
def test_what_is_no_prediction_event_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 — the message differs, but there is one
        decode_prediction(value)
    assert str(refused.value)


def test_a_label_keeps_its_outcome_as_the_category_that_it_is_counted_as() -> None:
    event = decode_label(
        b'{"prediction_id": "a", "model_id": "fraud", "label": 1.0, "revision": 2, "prediction": {"score": 1}}'
    )
    read = label_event(event, 5, 200)
    assert (read.offset, read.time, read.label, read.value, read.revision) == (5, 200, "1", None, 2)
    assert read.prediction == Prediction(score=1.0)
