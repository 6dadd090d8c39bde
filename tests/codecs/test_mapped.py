"""Events in other shapes than the contract's: whatever the shape, the same events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.codecs import At, Const, Decoded, Header, Key, Place, PredictionParts, Source
from streamdrift.codecs import Mapping as EventMapping
from streamdrift.codecs.json import JsonDecoder
from streamdrift.grids import Grid
from streamdrift.records import Headers, RecordBatch
from tests.codecs.test_json import (
    GRIDS,
    RECORDED,
    Dead,
    Event,
    outcomes,
    raw_cells,
    write,
)

unhurried = settings(deadline=None)


class Message(NamedTuple):
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()


def decode(
    messages: Sequence[Message],
    mapping: EventMapping,
    grids: Mapping[tuple[str, str], Grid] = GRIDS,
    **more: Any,  # noqa: ANN401
) -> Decoded:
    n = len(messages)
    values, keys, headers = zip(*messages, strict=True) if messages else ((), (), ())
    decoder = JsonDecoder(Source("t", mapping=mapping, **more), lambda *model: grids.get(model))
    return decoder.decode(RecordBatch("t", 0, range(n), [RECORDED] * n, keys, values, headers))


def events(messages: Sequence[Message], mapping: EventMapping, **more: Any) -> list[Event | Dead]:  # noqa: ANN401
    return outcomes(decode(messages, mapping, **more), len(messages))


# ---- one event in many shapes ----------------------------------------------------------------------------------------

CONTRACT = EventMapping()
NAMES = ("amount", "country", "basket", "new", "floor", "a")
PARTS = PredictionParts(label=At(("out", "class")), score=At(("out", "p", "1")), value=At(("regression",)))


class Shape:
    """A message while its parts are put at their places. Parts are raw JSON."""

    def __init__(self) -> None:
        self.members: list[tuple[Sequence[str], str]] = []
        self.headers: list[tuple[str, bytes | None]] = []
        self.key: list[tuple[Sequence[str], str]] = []

    def put(self, place: Place, raw: str) -> None:
        match place:
            case At(path):
                self.members.append((path, raw))
            case Header(name):
                self.headers.append((name, None if raw == "null" else raw.strip('"').encode()))
            case Key(path):
                self.key.append((path, raw))

    def message(self) -> Message:
        whole = [raw for path, raw in self.key if not path]
        key = whole[0].strip('"') if whole else write(self.key)
        return Message(write(self.members).encode(), key.encode(), self.headers)


def shape_of(parts: Mapping[str, Any], mapping: EventMapping) -> Message:
    """An event in the shape that a mapping describes."""
    shape = Shape()
    for part in ("model_id", "model_version", "timestamp", "prediction_id"):
        shape.put(getattr(mapping, part), parts[part])
    features, prediction = parts["features"], parts["prediction"]
    if mapping.feature_names:
        shape.put(mapping.features, "[" + ", ".join(write_any(features[name]) for name in mapping.feature_names) + "]")
    else:
        for name, value in features.items():
            shape.put(At((*mapping.features.path, name)), write_any(value))
    if isinstance(mapping.prediction, At):
        shape.put(mapping.prediction, write_any(prediction))
    else:
        for name, place in mapping.prediction.items():
            if name in prediction:
                shape.put(place, prediction[name])
    return shape.message()


def write_any(raw: Any) -> str:  # noqa: ANN401
    if isinstance(raw, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {write_any(value)}" for key, value in raw.items()) + "}"
    return str(raw)


MODEL = (At(("model_id",)), At(("meta", "id")), Const("fraud"), Header("model"), Key(("m", "id")))
VERSION = (At(("model_version",)), At(("v",)), Const("7"), Header("v"), Key(("m", "v")))
TIME = (At(("timestamp",)), At(("meta", "ts")), At(("request", "t")), Header("ts"), Key(("ts",)))
IDENTITY = (At(("prediction_id",)), At(("meta", "the.id")), Header("id"), Key(("id",)))
OBJECTS = (At(("features",)), At(()), At(("request",)), At(("request", "data")))
PREDICTION = (At(("prediction",)), At(("response", "prediction")), PARTS)

mappings = st.builds(
    EventMapping,
    *map(st.sampled_from, (MODEL, VERSION, TIME, IDENTITY, OBJECTS)),
    prediction=st.sampled_from(PREDICTION),
) | st.builds(
    EventMapping,
    prediction_id=st.just(Key()),
    features=st.sampled_from([At(("features",)), At(("request", "row"))]),
    feature_names=st.just(NAMES),
    prediction=st.sampled_from(PREDICTION),
)

members = st.fixed_dictionaries(
    {
        "model_id": st.just('"fraud"'),
        "model_version": st.just('"7"'),
        "timestamp": st.sampled_from(['"2026-11-22T10:00:00.123Z"', "1795341600123", "1795341600.5", "null"]),
        "prediction_id": st.sampled_from(['"p1"', '"ü/2"', "17"]),
        "features": st.fixed_dictionaries(
            {
                "amount": raw_cells,
                "country": raw_cells,
                "basket": st.fixed_dictionaries({"items": raw_cells, "kind": raw_cells}) | st.just("null"),
                "new": raw_cells,
                "floor": raw_cells,
                "a": st.fixed_dictionaries({"b": st.fixed_dictionaries({"c": raw_cells})}) | st.just("{}"),
            }
        ),
        "prediction": st.fixed_dictionaries({"score": raw_cells, "label": raw_cells}),
    }
)


@settings(unhurried, max_examples=400)
@given(st.lists(members, min_size=1, max_size=5), mappings, st.booleans())
def test_an_event_is_the_same_in_whatever_shape(written: list[Any], mapping: EventMapping, slowly: bool) -> None:  # noqa: FBT001
    messages = [shape_of(event, mapping) for event in written]
    if slowly:
        messages = [m._replace(value=m.value[:-1] + b', "ignored": NaN}') for m in messages if m.value]
    expected = events([shape_of(event, CONTRACT) for event in written], CONTRACT)
    assert events(messages, mapping) == expected
