"""Events in other shapes than the contract's: whatever the shape, the same events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from streamdrift.codecs import At, Const, Decoded, EventTime, Header, Key, Place, PredictionParts, Source, TimestampUnit
from streamdrift.codecs import Mapping as EventMapping
from streamdrift.codecs.json import JsonDecoder
from streamdrift.events import SourceKind
from streamdrift.grids import SCORE, VALUE, Column, Grid, Kind, Role
from streamdrift.privacy import Privacy
from streamdrift.records import Headers, RecordBatch
from tests.codecs.test_json import EVENT, GRIDS, RECORDED, Dead, Event, accidents, outcomes, raw_cells, taken, write

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
    batch = RecordBatch("t", 0, range(n), [RECORDED] * n, keys, values, headers)
    decoded = decoder.decode(batch)
    # What a decoder has seen before changes nothing.
    assert facts(decoder.decode(batch), range(n)) == facts(decoded, range(n))
    return decoded


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


@settings(unhurried, max_examples=200)
@given(st.lists(members, min_size=1, max_size=4), st.sampled_from([None, "1795341600"]), st.booleans())
def test_elements_of_an_array_are_the_events_that_they_would_be_alone(
    written: list[Any],
    time: str | None,
    slowly: bool,  # noqa: FBT001
) -> None:
    mapping = EventMapping(
        timestamp=At(("ts",)) if time else At(("ts",), ("rows",)),
        features=At(("in",), ("rows",)),
        prediction=At((), ("more", "out")),
        explode=("rows",),
    )
    rows = [{"in": event["features"], **({} if time else {"ts": event["timestamp"]})} for event in written]
    message = {
        "model_id": '"fraud"',
        "model_version": "7",
        "prediction_id": '"p1"',
        "rows": f"[{', '.join(map(write_any, rows))}]",
        "more": {"out": f"[{', '.join(write_any(event['prediction']) for event in written)}]"},
        **({"ts": time} if time else {}),
        **({"ignored": "NaN"} if slowly else {}),
    }
    decoded = decode([Message(write_any(message).encode())], mapping)
    alone = [
        shape_of({**event, "prediction_id": f'"p1/{i}"', **({"timestamp": time} if time else {})}, CONTRACT)
        for i, event in enumerate(written)
    ]
    assert exploded(decoded) == events(alone, CONTRACT)
    assert decoded.exploded == len(written) - 1


def exploded(decoded: Decoded) -> list[Event | Dead]:
    """The events of one message, each as though it were a message of its own."""
    assert all((part.index == 0).all() for part in decoded.batches)
    [part] = decoded.batches
    return outcomes(replace(decoded, batches=[replace(part, index=np.arange(len(part.index)))]), len(part.index))


# ---- several events in a message -------------------------------------------------------------------------------------

ROWS = EventMapping(
    features=At((), ("instances",)),
    feature_names=("amount", "country"),
    prediction=PredictionParts(score=At((), ("predictions",))),
    explode=("instances",),
)


def of_rows(instances: object, predictions: object, **more: object) -> Message:
    head = {"model_id": "fraud", "model_version": "7", "timestamp": 1795341600, "prediction_id": "p"}
    return Message(json.dumps(head | {"instances": instances, "predictions": predictions} | more).encode())


def test_a_batch_of_predictions_as_model_servers_log_it() -> None:
    decoded = decode([of_rows([[5.0, "DE"], [7.0, "FR"]], [0.25, 0.75])], ROWS)
    first, second = exploded(decoded)
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert first.values == {"amount": 5.0, "country": 0.0, SCORE: 0.25}
    assert second.values == {"amount": 7.0, "country": 1.0, SCORE: 0.75}
    assert (first.hash, second.hash) == (xxh3_64_intdigest(b"p/0"), xxh3_64_intdigest(b"p/1"))
    assert decoded.exploded == 1


@pytest.mark.parametrize(
    ("instances", "predictions", "reason", "complaint"),
    [
        ([[1.0, "DE"]], [0.5, 0.5], "schema", "predictions[*]: expected 1 elements as in instances[*], found 2"),
        ([[1.0, "DE"]], [], "schema", "predictions[*]: expected 1 elements as in instances[*], found 0"),
        ([[1.0, "DE"]], None, "schema", "predictions[*]: expected an array"),
        ({"a": 1}, [], "schema", "instances[*]: expected an array"),
        ([[]] * 10_001, [0.5] * 10_001, "too_large", "instances[*]: 10001 elements, at most 10000 are read"),
    ],
    ids=range(5),
)
def test_arrays_that_do_not_fit_together_cost_the_message(
    instances: object, predictions: object, reason: str, complaint: str
) -> None:
    good = of_rows([[1.0, "DE"]], [0.5])
    decoded = decode([good, of_rows(instances, predictions), good], ROWS)
    assert [(letter.index, letter.reason, letter.message) for letter in decoded.dead] == [(1, reason, complaint)]
    assert [part.index.tolist() for part in decoded.batches] == [[0, 2]]
    assert decoded.exploded == 0


def test_a_bad_element_costs_only_itself() -> None:
    wrong = [[1.0], 5, {"a": 1}, None]
    decoded = decode([of_rows([[1.0, "DE"], *wrong, [2.0, "FR"]], [0.5] * 6)], ROWS)
    [part] = decoded.batches
    assert part.events.values[:, 0].tolist() == pytest.approx([1.0, np.nan, 2.0], nan_ok=True)
    assert part.events.without_features is not None
    assert part.events.without_features.tolist() == [False, True, False]  # null: a prediction without features
    [letter] = decoded.dead
    assert letter.message == "element 1: features: expected 2 values, found 1 (and 2 more)"
    assert letter.events == 3
    assert decoded.exploded == 5


def test_an_empty_array_holds_no_event() -> None:
    decoded = decode([of_rows([], []), of_rows([[1.0, "DE"]], [0.5]), of_rows([], [])], ROWS)
    assert (decoded.exploded, decoded.eventless, decoded.dead) == (0, 2, [])
    assert [part.index.tolist() for part in decoded.batches] == [[1]]


def test_a_message_may_be_the_array_itself_and_its_elements_of_several_models() -> None:
    mapping = EventMapping(
        model_id=At(("m",), ()),
        model_version=At(("v",), ()),
        timestamp=At(("t",), ()),
        prediction_id=At(("id",), ()),
        features=At((), ()),
        prediction=At(("p",), ()),
        explode=(),
    )
    row = {"m": "fraud", "v": "7", "t": 1795341600, "id": "a", "amount": 5, "p": {"score": 0.5}}
    value = json.dumps([row, row | {"m": "churn", "v": "1", "id": None}, row | {"id": 3}]).encode()
    fraud, churn = decode([Message(value)], mapping).batches
    assert fraud.events.hashes.tolist() == [xxh3_64_intdigest(b"a"), xxh3_64_intdigest(b"3")]
    assert churn.events.hashes.tolist() == [xxh3_64_intdigest(value + b"/1")]
    assert churn.events.values.tolist() == [[5.0]]
    assert decode([Message(b"{}")], mapping).dead[0].message == "expected a JSON array"


# ---- features --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [0, 1, 3])
def test_an_array_of_another_length_than_there_are_names_is_refused(found: int) -> None:
    mapping = EventMapping(feature_names=("amount", "country"))
    [dead] = events([Message(json.dumps(EVENT | {"features": [None] * found}).encode())], mapping)
    assert dead == Dead("schema", f"features: expected 2 values, found {found}")
    [dead] = events([Message(json.dumps(EVENT).encode())], mapping)
    assert dead == Dead("schema", "features: expected an array")


@pytest.mark.parametrize("more", [{}, {"x": float("nan")}])
def test_what_stands_at_another_place_is_no_feature(more: dict[str, Any]) -> None:
    names = ("a", "meta.ts", "meta.zone", "timestamp", "p", "model")
    grid = Grid("m", "", tuple(Column(name, Kind.NUMERIC) for name in names))
    mapping = EventMapping(
        At(("model",)), timestamp=At(("meta", "ts")), features=At(()), prediction=PredictionParts(score=At(("p",)))
    )
    message = {"model": "m", "meta": {"ts": 1, "zone": 2}, "timestamp": 3, "p": 0.5, "a": 4} | more
    [event] = events([Message(json.dumps(message).encode())], mapping, grids={("m", ""): grid})
    assert isinstance(event, Event)
    assert event.values == {"a": 4.0, "meta.zone": 2.0, "timestamp": 3.0}
    assert not event.type_errors
    dotted = json.dumps(message | {"meta.ts": 7}).encode()
    [event] = events([Message(dotted)], mapping, grids={("m", ""): grid})
    assert isinstance(event, Event)
    assert event.values["meta.ts"] == 7.0


def test_parts_of_a_prediction_hold_classes_and_outputs() -> None:
    parts = ("prediction.probabilities.a.b", "prediction.outputs.eta.value", VALUE)
    grid = Grid("m", "", tuple(Column(name, Kind.NUMERIC, Role.PREDICTION) for name in parts))
    mapping = EventMapping(
        Const("m"),
        prediction=PredictionParts(
            probabilities=At(("p", "classes")), outputs=At(("all",)), value=At(("all", "eta", "value"))
        ),
    )
    for spelled in ({"a": {"b": 0.5}}, {"a.b": 0.5}):
        message = {"features": {}, "p": {"classes": spelled}, "all": {"eta": {"value": 3}}}
        [event] = events([Message(json.dumps(message).encode())], mapping, grids={("m", ""): grid})
        assert isinstance(event, Event)
        assert event.values == {
            "prediction.probabilities.a.b": 0.5,
            "prediction.outputs.eta.value": 3.0,
            VALUE: 3.0,
        }


# ---- headers and keys ------------------------------------------------------------------------------------------------

RECORD = EventMapping(Header("model"), Header("version"), Header("ts"), Key())


def test_headers_and_keys_are_texts() -> None:
    headers = [("model", b"old"), ("model", b"fraud"), ("version", b"7"), ("ts", b"1795341600123")]
    [event] = events([Message(json.dumps(EVENT).encode(), b"\xff\x00", headers)], RECORD)
    assert event == taken(EVENT)._replace(hash=xxh3_64_intdigest(b"\xff\x00"))
    texts = {b"2026-11-22T10:00:00.123Z": 123_000, b"1795341600.25": 250_000, b"1795341600": 0}
    for text, behind in texts.items():
        [event] = events([Message(json.dumps(EVENT).encode(), b"p1", [*headers[1:3], ("ts", text)])], RECORD)
        assert isinstance(event, Event)
        assert event.time == 1_795_341_600_000_000 + behind


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ([], "model_id: expected a text"),
        ([("model", None)], "model_id: expected a text"),
        ([("model", b"")], "model_id: expected a text"),
        ([("model", b"x" * 257)], "model_id: longer than 256 characters"),
        ([("model", b"fraud"), ("version", b"x" * 257)], "model_version: longer than 256 characters"),
        ([("model", b"fraud"), ("version", b"7"), ("ts", b"soon")], "timestamp: not an RFC 3339 time"),
    ],
)
def test_what_a_record_does_not_say_is_refused(headers: Headers, complaint: str) -> None:
    [dead] = events([Message(json.dumps(EVENT).encode(), None, headers)], RECORD)
    assert isinstance(dead, Dead)
    assert dead.message == complaint


def test_what_a_record_need_not_say_may_be_missing() -> None:
    value = json.dumps(EVENT).encode()
    [event] = events([Message(value, None, [("model", b"m")])], RECORD)
    assert isinstance(event, Event)
    assert event.model == ("m", "")
    assert event.time == RECORDED * 1000
    assert event.hash == xxh3_64_intdigest(value)


@pytest.mark.parametrize("key", [None, b"", b"{", b"[1]", b"17", b'{"m": {"id": null}}', b"[" * 100_000])
def test_a_key_that_is_no_json_names_no_model(key: bytes | None) -> None:
    [dead] = events([Message(json.dumps(EVENT).encode(), key)], EventMapping(Key(("m", "id"))))
    assert dead == Dead("schema", "model_id: expected a text")


# ---- bad messages ----------------------------------------------------------------------------------------------------

HOSTILE = (
    None, b"", b" ", b"{", b"\xff\xfe", b"null", b"NaN", b"[]", b"[[]]", b"17", b"{}", b"[" * 100_000,
    b'{"instances": [], "predictions": []}', b'{"instances": [NaN], "predictions": [Infinity]}',
    b'{"instances": ' + b"[" * 1000 + b"]" * 1000 + b"}", b'{"model_id": "\\ud800", "instances": [{}]}',
    b'{"a": ' + b"9" * 5_000 + b"}", b'[{"model_id": "fraud", "model_id": 3}]', json.dumps(EVENT).encode("utf-16"),
)  # fmt: skip

anything = st.one_of(
    accidents,
    st.sampled_from(HOSTILE),
    st.lists(accidents, max_size=3).map(
        lambda inner: b'{"instances": [' + b",".join(i or b"" for i in inner) + b'], "predictions": [1, 2, 3]}'
    ),
)
every_mapping = mappings | st.sampled_from(
    [ROWS, EventMapping(features=At((), ()), prediction=At((), ()), explode=()), EventMapping(feature_names=("a",))]
)


@settings(unhurried, max_examples=400)
@given(
    st.lists(st.builds(Message, anything, st.none() | st.binary(max_size=9), st.just(())), max_size=6),
    every_mapping,
    st.sampled_from([SourceKind.PREDICTIONS, SourceKind.FEATURES]),
    st.sampled_from(EventTime),
    st.sampled_from(TimestampUnit),
)
def test_every_message_is_accounted_for_and_changes_no_other(
    messages: list[Message], mapping: EventMapping, kind: SourceKind, time: EventTime, unit: TimestampUnit
) -> None:
    source: dict[str, Any] = {"kind": kind, "event_time": time, "unit": unit}
    decoded = decode(messages, mapping, **source)
    taken_ = sum(len(part.index) for part in decoded.batches) + sum(letter.events for letter in decoded.dead)
    assert len(messages) + decoded.exploded == taken_ + decoded.eventless
    backwards = decode(messages[::-1], mapping, **source)
    assert facts(decoded, range(len(messages))) == facts(backwards, range(len(messages))[::-1])


def facts(decoded: Decoded, places: range) -> list[tuple[object, ...]]:
    """All that was made of messages, by the place of each."""
    found: list[tuple[object, ...]] = [
        (places[letter.index], letter.reason, letter.message, letter.events) for letter in decoded.dead
    ]
    for part in decoded.batches:
        events = part.events
        for row, index in enumerate(part.index.tolist()):
            errors = frozenset(column for r, column in events.type_errors.tolist() if r == row)
            unseen = frozenset((column, name) for r, column, name in events.unseen if r == row)
            values = tuple(map(repr, events.values[row].tolist()))
            found.append((places[index], int(events.hashes[row]), int(events.times[row]), values, errors, unseen))
    return sorted(found, key=repr)


# ---- privacy ---------------------------------------------------------------------------------------------------------

PRIVACY = Privacy(drop=("basket", "prediction.score"), hash=("country", "a.b.c", "floor", "new"), salt=b"salt")
CATEGORIES = {"country": ("DE", "3", "0.5"), "a.b.c": ("1", "-1"), "floor": ("true", "1"), "new": ("false", "0")}
PRIVATE = Grid(
    "fraud",
    "7",
    (
        *(
            Column(name, Kind.CATEGORICAL, categories=tuple(map(PRIVACY.hashed, categories)))
            for name, categories in CATEGORIES.items()
        ),
        Column("amount", Kind.NUMERIC),
        Column("basket.items", Kind.NUMERIC),
        Column(SCORE, Kind.NUMERIC, Role.PREDICTION),
    ),
)


@settings(unhurried, max_examples=200)
@given(st.lists(members, min_size=1, max_size=5))
def test_values_are_hashed_and_dropped_alike_in_the_fast_and_in_the_slow_way(written: list[Any]) -> None:
    private: dict[str, Any] = {"privacy": PRIVACY, "grids": {("fraud", "7"): PRIVATE}}
    messages = [shape_of(event, CONTRACT) for event in written]
    slow = [m._replace(value=m.value[:-1] + b', "ignored": NaN}') for m in messages if m.value]
    found = events(messages, CONTRACT, **private)
    assert found == events(slow, CONTRACT, **private)
    for event in found:
        if isinstance(event, Event):
            assert not event.values.keys() & {"basket.items", SCORE}
            assert all(name.startswith("#") for _, name in event.unseen)
