"""JSON events: what is understood, what is refused, and that one message never changes what another means."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from streamdrift.codecs import Decoded, EventTime, Source, TimestampUnit
from streamdrift.codecs.documents import MAX_NAME_LENGTH
from streamdrift.codecs.json import JsonDecoder
from streamdrift.codecs.labels import decode_label
from streamdrift.events import SourceKind
from streamdrift.generator import Traffic
from streamdrift.grids import LABEL, NO_GRID, SCORE, Column, Grid, Kind, Role
from streamdrift.records import NO_TIMESTAMP, RecordBatch

unhurried = settings(deadline=None)  # a busy machine is no failure

GRID = Grid(
    "fraud",
    "7",
    (
        Column("amount", Kind.NUMERIC, edges=(10.0, 100.0)),
        Column("country", Kind.CATEGORICAL, categories=("DE", "FR")),
        Column("basket.items", Kind.NUMERIC),
        Column("basket.kind", Kind.CATEGORICAL, categories=("food", "ü")),
        Column("new", Kind.CATEGORICAL, categories=("true", "false")),
        Column("floor", Kind.CATEGORICAL, categories=("0", "1", "2.5")),
        Column("a.b.c", Kind.NUMERIC),
        Column(SCORE, Kind.NUMERIC, Role.PREDICTION, edges=(0.5,)),
        Column(LABEL, Kind.CATEGORICAL, Role.PREDICTION, categories=("legit", "fraud")),
    ),
)
OTHER = Grid("churn", "1", (Column("amount", Kind.NUMERIC),))  # and no prediction is watched
GRIDS = {(grid.model_id, grid.model_version): grid for grid in (GRID, OTHER)}
RECORDED = 1_795_000_000_000

EVENT: dict[str, Any] = {
    "prediction_id": "p1",
    "model_id": "fraud",
    "model_version": "7",
    "timestamp": "2026-11-22T10:00:00.123Z",
    "features": {
        "amount": 12.5,
        "country": "FR",
        "basket": {"items": 3, "kind": "food"},
        "new": True,
        "floor": 1,
        "a": {"b": {"c": -1}},
    },
    "prediction": {"score": 0.25, "label": "legit"},
}
ROW = {
    "amount": 12.5, "country": 1.0, "basket.items": 3.0, "basket.kind": 0.0, "new": 0.0, "floor": 1.0, "a.b.c": -1.0,
    SCORE: 0.25, LABEL: 0.0,
}  # fmt: skip


class Event(NamedTuple):
    """What a message was taken for."""

    model: tuple[str, str]
    time: int
    hash: int
    values: dict[str, float]
    """Without the missing ones."""
    type_errors: frozenset[str]
    unseen: frozenset[tuple[str, str]]
    without_features: bool
    without_prediction: bool


class Dead(NamedTuple):
    """Why a message was refused."""

    reason: str
    message: str


Outcome = Event | Dead


def outcomes(decoded: Decoded, size: int) -> list[Outcome]:
    """What became of each message; fails unless each became exactly one thing."""
    found: dict[int, Outcome] = {}
    for letter in decoded.dead:
        assert letter.index not in found
        found[letter.index] = Dead(letter.reason, letter.message)
    for part in decoded.batches:
        events, names = part.events, part.events.grid.names
        assert (np.diff(part.index) > 0).all()
        for row, index in enumerate(part.index.tolist()):
            assert index not in found
            values = dict(zip(names, events.values[row].tolist(), strict=True))
            found[index] = Event(
                (events.grid.model_id, events.grid.model_version),
                int(events.times[row]),
                int(events.hashes[row]),
                {name: value for name, value in values.items() if not math.isnan(value)},
                frozenset(names[column] for r, column in events.type_errors.tolist() if r == row),
                frozenset((names[column], name) for r, column, name in events.unseen if r == row),
                events.without_features is not None and bool(events.without_features[row]),
                events.without_prediction is not None and bool(events.without_prediction[row]),
            )
    assert sorted(found) == list(range(size))
    return [found[i] for i in range(size)]


def decode_all(
    values: Sequence[bytes | None],
    source: Source = Source("t"),  # noqa: B008 — unchanging
    *,
    grids: Mapping[tuple[str, str], Grid] = GRIDS,
    recorded: int = RECORDED,
    decoder: JsonDecoder | None = None,
) -> list[Outcome]:
    n = len(values)
    batch = RecordBatch("t", 0, range(n), [recorded] * n, [None] * n, values, [()] * n)
    decoder = decoder or JsonDecoder(source, lambda model, version: grids.get((model, version)))
    found = outcomes(decoder.decode(batch), n)
    # Nor does it matter which models a decoder has seen before.
    decoder.decode(RecordBatch("t", 0, [0], [recorded], [None], [json.dumps(EVENT).encode()], [()]))
    assert outcomes(decoder.decode(batch), n) == found
    return found


def decode(event: object, source: Source = Source("t"), **more: Any) -> Outcome:  # noqa: ANN401, B008
    value = event if isinstance(event, bytes) else json.dumps(event).encode()
    [alone] = decode_all([value], source, **more)
    # A message means the same whichever messages came before it.
    good = json.dumps(EVENT).encode()
    other = json.dumps({"model_id": "churn", "model_version": "1", "features": {}, "prediction": {}}).encode()
    assert decode_all([good, value, other, value], source, **more)[1::2] == [alone, alone]
    return alone


def taken(event: object, source: Source = Source("t"), **more: Any) -> Event:  # noqa: ANN401, B008
    outcome = decode(event, source, **more)
    assert isinstance(outcome, Event), outcome
    return outcome


def refused(event: object, source: Source = Source("t"), **more: Any) -> Dead:  # noqa: ANN401, B008
    outcome = decode(event, source, **more)
    assert isinstance(outcome, Dead), outcome
    return outcome


def with_feature(name: str, raw: str) -> bytes:
    """The event with one feature as raw JSON."""
    features = {**EVENT["features"], name: "HERE"}
    return json.dumps(EVENT | {"features": features}).replace('"HERE"', raw).encode()


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in EVENT.items() if k != key}


# ---- an event --------------------------------------------------------------------------------------------------------


def test_an_event_is_read_into_the_columns_of_its_grid() -> None:
    event = taken(EVENT)
    assert event.model == ("fraud", "7")
    assert event.time == 1_795_341_600_123_000
    assert event.hash == xxh3_64_intdigest(b"p1")
    assert event.values == ROW
    assert not event.type_errors
    assert not event.unseen
    assert not event.without_features
    assert not event.without_prediction


def test_what_the_grid_does_not_know_is_ignored() -> None:
    more = EVENT | {"segments": {"region": "eu"}, "features": EVENT["features"] | {"debug": {"x": [1, {}]}, "b": "x"}}
    assert taken(more) == taken(EVENT)


raw_cells = st.one_of(
    st.sampled_from(
        [
            "null", "true", "false", "0", "-0", "1", "1.0", "2.5", "25e-1", "3", "1e308", "-1e308", "5e-324", "1e400",
            "-1e400", "NaN", "Infinity", "-Infinity", "9" * 400, "-" + "9" * 25, "9007199254740993",
            "18446744073709551616", '""', '"DE"', '"1"', '"1.0"', '"true"', '"True"', '"food"', '"\\u00fc"', '"ü"',
            '"\\ud800"', '"legit"', '"NaN"', "[]", "[1]", "{}", '{"x": 1}', '{"items": 2}',
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.text(max_size=5).map(json.dumps),
)  # fmt: skip
PATHS = [["features", *c.name.split(".")] if c.role is Role.FEATURE else c.name.split(".") for c in GRID.columns]


def write(members: Sequence[tuple[Sequence[str], str]]) -> str:
    """A JSON object of raw values by path; members of one parent stand together."""
    children: dict[str, list[tuple[Sequence[str], str]]] = {}
    for (key, *rest), raw in members:
        children.setdefault(key, []).append((rest, raw))
    parts = []
    for key, inner in children.items():
        leaf = [raw for rest, raw in inner if not rest]
        parts.append(f"{json.dumps(key)}: {leaf[-1] if leaf else write(inner)}")
    return "{" + ", ".join(parts) + "}"


HEAD = [
    (["prediction_id"], '"p1"'),
    (["model_id"], '"fraud"'),
    (["model_version"], '"7"'),
    (["timestamp"], "1795000000"),
]


@settings(unhurried, max_examples=300)
@given(
    cells=st.lists(st.one_of(st.none(), raw_cells), min_size=9, max_size=9), shuffle=st.randoms(use_true_random=False)
)
def test_the_fast_and_the_slow_way_say_the_same(cells: list[str | None], shuffle: Any) -> None:  # noqa: ANN401 — random.Random
    members = [*HEAD, *((path, cell) for path, cell in zip(PATHS, cells, strict=True) if cell is not None)]
    event = decode(write(members).encode())
    shuffle.shuffle(members)
    assert decode(write(members).encode()) == event
    # Only the standard library reads a NaN, so that with one every message goes the slow way.
    assert decode(write([*members, (["ignored"], "NaN")]).encode()) == event
    dotted = [([path[0], ".".join(path[1:])] if len(path) > 1 else path, cell) for path, cell in members]
    assert decode(write(dotted).encode()) == event
    if isinstance(event, Event):
        assert event.values.keys() | event.type_errors <= set(GRID.names)
        assert not event.values.keys() & event.type_errors


@pytest.mark.parametrize(
    ("feature", "raw", "value"),
    [
        ("amount", '"12.5"', "type error"),
        ("amount", "true", "type error"),
        ("amount", "[1]", "type error"),
        ("amount", "{}", "type error"),
        ("amount", "1e400", "type error"),
        ("amount", "Infinity", "type error"),
        ("amount", "9" * 400, "type error"),
        ("amount", "NaN", None),
        ("amount", "null", None),
        ("amount", "-0", 0.0),
        ("amount", "9007199254740993", 9007199254740992.0),
        ("country", "3", "type error"),
        ("country", "true", "type error"),
        ("country", '{"DE": 1}', "type error"),
        ("country", "null", None),
        ("country", '""', "unseen "),
        ("country", '"de"', "unseen de"),
        ("country", '"\\ud800"', "unseen ?"),
        ("new", "true", 0.0),
        ("new", '"false"', 1.0),
        ("new", "1", "type error"),
        ("new", '"yes"', "unseen yes"),
        ("floor", "1", 1.0),
        ("floor", "1.0", 1.0),
        ("floor", '"1"', 1.0),
        ("floor", "25e-1", 2.0),
        ("floor", "-0.0", 0.0),
        ("floor", "3.0", "unseen 3"),
        ("floor", '"3.0"', "unseen 3.0"),
        ("floor", "0.1", "unseen 0.1"),
        ("floor", "true", "type error"),
        ("floor", "Infinity", "type error"),
        ("floor", "NaN", None),
        ("floor", "9" * 400, "unseen " + "9" * 128),
        ("floor", "9" * 5_000, "type error"),
        ("amount", "-" + "9" * 5_000, "type error"),
        ("basket", "null", None),
    ],
)
def test_a_value_costs_at_most_its_feature(feature: str, raw: str, value: object) -> None:
    event = taken(with_feature(feature, raw))
    touched = {"basket.items", "basket.kind"} if feature == "basket" else {feature}
    assert {k: v for k, v in event.values.items() if k not in touched} == {
        k: v for k, v in ROW.items() if k not in touched
    }
    assert event.type_errors == ({feature} if value == "type error" else set())
    if isinstance(value, str) and value.startswith("unseen "):
        [(name, category)] = event.unseen
        assert (name, category) == (feature, value.removeprefix("unseen "))
    else:
        assert event.values.get(feature) == (value if isinstance(value, float) else None)
        assert not event.unseen


def test_bytes_that_are_no_text_cost_their_feature() -> None:
    value = with_feature("country", '"D@"').replace(b"@", b"\xff")
    assert taken(value).unseen == {("country", "D\ufffd")}
    assert taken(with_feature("ignored", '"D@"').replace(b"@", b"\xff")) == taken(EVENT)
    both = with_feature("ignored", '"D@", "amount": "x"').replace(b"@", b"\xff")
    assert taken(both).type_errors == {"amount"}


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert taken(with_feature("amount", '1, "amount": 2')).values["amount"] == 2.0
    assert taken(with_feature("amount", '"x", "amount": 2')).values["amount"] == 2.0
    assert taken(with_feature("amount", '2, "amount": "x"')).type_errors == {"amount"}
    twice = json.dumps(EVENT)[:-1] + ', "features": {"amount": 7}}'
    assert taken(twice.encode()).values == {"amount": 7.0, SCORE: 0.25, LABEL: 0.0}


def test_a_dotted_key_counts_before_a_nested_one() -> None:
    event = taken(with_feature("basket.items", "7"))
    assert event.values == ROW | {"basket.items": 7.0}
    assert "basket.items" not in taken(with_feature("basket.items", "null")).values


def test_a_feature_may_have_the_name_of_a_group_of_features() -> None:
    names = ("a", "a.b", "a.b.c")
    for order in (names, names[::-1]):
        grid = Grid("fraud", "7", tuple(Column(name, Kind.NUMERIC) for name in order))
        flat = EVENT | {"features": {"a": 1, "a.b": 2, "a.b.c": 3}}
        assert taken(flat, grids={("fraud", "7"): grid}).values == {"a": 1.0, "a.b": 2.0, "a.b.c": 3.0}
        nested = taken(EVENT | {"features": {"a": {"b": 2}}}, grids={("fraud", "7"): grid})
        assert nested.values == {"a.b": 2.0}
        assert nested.type_errors == {"a"}


# ---- parts that are not there ----------------------------------------------------------------------------------------

FEATURES = Source("t", SourceKind.FEATURES)


@pytest.mark.parametrize("absent", [without("features"), EVENT | {"features": None}])
def test_a_prediction_without_features_leaves_features_uncounted(absent: dict[str, Any]) -> None:
    event = taken(absent)
    assert event.without_features
    assert event.values == {SCORE: 0.25, LABEL: 0.0}


def test_a_prediction_with_no_values_has_missing_ones() -> None:
    event = taken(EVENT | {"features": {}, "prediction": {}})
    assert event.values == {}
    assert not event.without_features
    assert not event.without_prediction


@pytest.mark.parametrize("model", [("fraud", "7"), ("churn", "1"), ("unknown", "")])
@pytest.mark.parametrize("prediction", ["absent", None, 5, "fraud", [0.5]])
def test_a_prediction_event_needs_a_prediction_whatever_is_watched(model: tuple[str, str], prediction: object) -> None:
    event = EVENT | {"model_id": model[0], "model_version": model[1], "prediction": prediction}
    if prediction == "absent":
        del event["prediction"]
    assert refused(event) == Dead("schema", "prediction: expected an object")


@pytest.mark.parametrize("model", [("fraud", "7"), ("churn", "1"), ("unknown", "")])
@pytest.mark.parametrize("source", [Source("t"), FEATURES])
def test_features_are_an_object_whatever_is_watched(model: tuple[str, str], source: Source) -> None:
    event = EVENT | {"model_id": model[0], "model_version": model[1], "features": [1]}
    assert refused(event, source) == Dead("schema", "features: expected an object")


def test_a_feature_event_counts_no_prediction() -> None:
    event = taken(without("prediction"), FEATURES)
    assert event.without_prediction
    assert not event.without_features
    assert event.values == {k: v for k, v in ROW.items() if k not in {SCORE, LABEL}}
    assert taken(EVENT, FEATURES) == event


@pytest.mark.parametrize("model", [("fraud", "7"), ("churn", "1"), ("unknown", "")])
def test_a_feature_event_carries_something(model: tuple[str, str]) -> None:
    event = {"model_id": model[0], "model_version": model[1]}
    assert refused(event, FEATURES) == Dead("schema", "features: expected an object")
    wrong = EVENT | event | {"prediction": 5}
    assert refused(wrong, FEATURES) == Dead("schema", "prediction: expected an object")


# ---- who it is about -------------------------------------------------------------------------------------------------


def test_a_model_without_a_grid_is_counted_by_score_and_value_only() -> None:
    value = json.dumps(EVENT | {"model_id": "new", "prediction": {"score": 0.5, "value": "x", "label": "a"}}).encode()
    n = 3
    batch = RecordBatch("t", 0, range(n), [RECORDED] * n, [None] * n, [value] * n, [()] * n)
    [part] = JsonDecoder(Source("t"), lambda *_: None).decode(batch).batches
    assert part.events.grid.id == NO_GRID
    assert taken(value).values == {SCORE: 0.5}
    assert taken(value).type_errors == {"prediction.value"}


@pytest.mark.parametrize(
    ("change", "model"),
    [
        ({"model_id": 42}, ("42", "7")),
        ({"model_version": 7}, ("fraud", "7")),
        ({"model_version": -7}, ("fraud", "-7")),
        ({"model_version": ""}, ("fraud", "")),
        ({"model_id": "m\ud800"}, ("m?", "7")),
        ({"model_id": "x" * MAX_NAME_LENGTH}, ("x" * MAX_NAME_LENGTH, "7")),
    ],
)
def test_models_have_texts_or_integers_for_names(change: dict[str, Any], model: tuple[str, str]) -> None:
    assert taken(EVENT | change).model == model


def test_a_version_given_as_an_integer_is_counted_on_the_same_grid() -> None:
    assert taken(EVENT | {"model_version": 7}) == taken(EVENT)


def test_a_version_is_not_needed() -> None:
    assert taken(without("model_version")).model == ("fraud", "")
    grid = Grid("fraud", "", GRID.columns)
    assert taken(without("model_version"), grids={("fraud", ""): grid}).values == ROW


@pytest.mark.parametrize("wrong", [None, "", True, 1.5, [], {}, 10**30, "x" * (MAX_NAME_LENGTH + 1)])
def test_an_event_that_names_no_model_is_refused(wrong: object) -> None:
    assert refused(EVENT | {"model_id": wrong}).reason == "schema"
    assert refused(EVENT | {"model_id": wrong}).message.startswith("model_id: ")
    assert refused(without("model_id")) == Dead("schema", "model_id: expected a text")
    if wrong != "":
        assert refused(EVENT | {"model_version": wrong}).message.startswith("model_version: ")


def test_interleaved_models_are_kept_apart_and_in_order() -> None:
    models = [("fraud", "7"), ("churn", "1"), ("new", "1"), ("new", "2")]
    events = [
        EVENT | {"model_id": m, "model_version": v, "prediction_id": str(i)} for i, (m, v) in enumerate(models * 20)
    ]
    found = decode_all([json.dumps(event).encode() for event in events])
    assert [outcome.model for outcome in found if isinstance(outcome, Event)] == models * 20
    assert found == [taken(event) for event in events]


@pytest.mark.parametrize("few", [2, 3, 4])
def test_models_take_turns_whatever_came_before(few: int) -> None:
    decoder = JsonDecoder(Source("t"), lambda model, version: GRIDS.get((model, version)))
    models = [("churn", "1"), ("fraud", "7"), ("fraud", ""), ("fraud", "8")][:few]
    events = [
        EVENT | {"model_id": m, "model_version": v, "prediction_id": str(i)} for i, (m, v) in enumerate(models * 5)
    ]
    values = [json.dumps(event).encode() for event in events]
    expected = [taken(event) for event in events]
    for start in range(few):
        decode_all(values[start : start + 1], decoder=decoder)
        assert decode_all(values, decoder=decoder) == expected


def test_a_bomb_of_models_is_read_within_bounds() -> None:
    decoder = JsonDecoder(Source("t"), lambda model, version: GRIDS.get((model, version)))
    for start in range(0, 5_000, 500):
        values = [json.dumps(EVENT | {"model_id": f"m{i}"}).encode() for i in range(start, start + 500)]
        assert all(isinstance(outcome, Event) for outcome in decode_all(values, decoder=decoder))
        assert len(decoder._schemas) <= 1_000
    [event] = decode_all([json.dumps(EVENT).encode()], decoder=decoder)
    assert event == taken(EVENT)


def test_grids_that_changed_are_asked_for_again() -> None:
    grids: dict[tuple[str, str], Grid] = {}
    decoder = JsonDecoder(Source("t"), lambda model, version: grids.get((model, version)))
    value = json.dumps(EVENT).encode()
    [before] = decode_all([value], decoder=decoder)
    grids["fraud", "7"] = GRID
    decoder.forget()
    [after] = decode_all([value], decoder=decoder)
    assert isinstance(before, Event)
    assert isinstance(after, Event)
    assert before.values.keys() == {SCORE}
    assert after.values == ROW


@pytest.mark.parametrize(
    ("identity", "hashed"), [("p1", b"p1"), ("ü", "ü".encode()), (17, b"17"), (10**30, str(10**30).encode())]
)
def test_the_hash_is_that_of_the_prediction_id(identity: object, hashed: bytes) -> None:
    assert taken(EVENT | {"prediction_id": identity}).hash == xxh3_64_intdigest(hashed)


@pytest.mark.parametrize("identity", [None, 1.5, [], {}])
def test_without_a_prediction_id_the_hash_is_that_of_the_message(identity: object) -> None:
    value = json.dumps(EVENT | {"prediction_id": identity}).encode()
    assert taken(value).hash == xxh3_64_intdigest(value)
    bare = json.dumps(without("prediction_id")).encode()
    assert taken(bare).hash == xxh3_64_intdigest(bare)


# ---- when it was -----------------------------------------------------------------------------------------------------


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def at(raw: str) -> bytes:
    """The event with a timestamp as raw JSON."""
    return json.dumps(EVENT | {"timestamp": "HERE"}).replace('"HERE"', raw).encode()


def slowly(value: bytes) -> bytes:
    return value[:-1] + b', "ignored": NaN}'


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('"2026-11-22T10:00:00Z"', us("2026-11-22T10:00:00+00:00")),
        ('"2026-11-22T10:00:00.5+02:00"', us("2026-11-22T08:00:00.5+00:00")),
        ('"2026-11-22 10:00:00-05:30"', us("2026-11-22T15:30:00+00:00")),
        ('"2026-11-22t10:00:00z"', us("2026-11-22T10:00:00+00:00")),
        ('"2026-11-22T10:00:00.123456789Z"', us("2026-11-22T10:00:00.123457+00:00")),
        ('"2026-11-22T10:00:00.9999999Z"', us("2026-11-22T10:00:01+00:00")),
        ('"2026-11-22T10:00Z"', us("2026-11-22T10:00:00+00:00")),
        ('"1970-01-01T00:00:00Z"', 0),
        ('"1969-12-31T23:59:59.999999Z"', -1),
        ('"2262-04-11T23:47:16.854775Z"', (2**63 - 1) // 1000),
        ('"9999-12-31T23:59:59.999999Z"', us("9999-12-31T23:59:59.999999+00:00")),
        ('"0001-01-01T00:00:00+14:00"', us("0001-01-01T00:00:00+14:00")),
        ("1795341600", 1_795_341_600_000_000),
        ("1795341600.25", 1_795_341_600_250_000),
        ("1795341600123", 1_795_341_600_123_000),
        ("1795341600123.5", 1_795_341_600_123_500),
        ("1795341600123456", 1_795_341_600_123_456),
        ("1795341600123456789", 1_795_341_600_123_456),
        ("1.795341600123e12", 1_795_341_600_123_000),
        ("0", 0),
        ("-0.0", 0),
        ("-1", -1_000_000),
        ("-1795341600123", -1_795_341_600_123_000),
        ("9223372036854775807", (2**63 - 1) // 1000),
        ("-9223372036854775808", -(2**63) // 1000),
        ("null", RECORDED * 1000),
    ],
)
def test_timestamps_are_read_by_their_form_and_magnitude(raw: str, expected: int) -> None:
    assert taken(at(raw)).time == expected
    assert taken(slowly(at(raw))).time == expected


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ('"2026-11-22T10:00:00"', "names no zone"),
        ('"2026-11-22"', "names no zone"),
        ('"yesterday"', "RFC 3339"),
        ('""', "RFC 3339"),
        ('"2026-02-30T10:00:00Z"', "RFC 3339"),
        ('"1795341600"', "RFC 3339"),
        ('"\\ud800"', "RFC 3339"),
        ("true", "a text or a number"),
        ("[]", "a text or a number"),
        ("{}", "a text or a number"),
        ("NaN", "not a finite number"),
        ("Infinity", "not a finite number"),
        ("1e400", "not a finite number"),
        ("1e300", "73,000 years"),
        ("-1e300", "73,000 years"),
        ("9" * 30, "73,000 years"),
        ("9" * 400, "73,000 years"),
        ("-" + "9" * 400, "73,000 years"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(raw: str, complaint: str) -> None:
    for value in (at(raw), slowly(at(raw))):
        dead = refused(value)
        assert dead.reason == "timestamp"
        assert complaint in dead.message


@pytest.mark.parametrize(
    ("unit", "raw", "expected"),
    [
        ("s", "1795341600123", 1_795_341_600_123_000_000),
        ("s", "1.5", 1_500_000),
        ("ms", "5", 5_000),
        ("ms", "-5", -5_000),
        ("us", "5", 5),
        ("us", "5.4", 5),
        ("ns", "5999", 5),
        ("ns", "-1", -1),
        ("ns", "5999.0", 6),
        ("rfc3339", '"1970-01-01T00:00:01Z"', 1_000_000),
    ],
)
def test_a_configured_unit_is_taken_at_its_word(unit: str, raw: str, expected: int) -> None:
    assert taken(at(raw), Source("t", unit=TimestampUnit(unit))).time == expected


@pytest.mark.parametrize(
    ("unit", "raw", "complaint"),
    [
        ("ms", '"2026-11-22T10:00:00Z"', "expected a number in ms"),
        ("ms", '"x"', "expected a number in ms"),
        ("rfc3339", "1795341600", "expected an RFC 3339 text"),
        ("rfc3339", "true", "a text or a number"),
        ("s", "true", "expected"),
        ("s", "3000000000000", "73,000 years"),
        ("s", "9" * 400, "73,000 years"),
    ],
)
def test_another_form_than_the_configured_one_is_refused(unit: str, raw: str, complaint: str) -> None:
    dead = refused(at(raw), Source("t", unit=TimestampUnit(unit)))
    assert dead.reason == "timestamp"
    assert complaint in dead.message


def test_a_time_without_a_zone_is_read_in_that_of_the_source() -> None:
    berlin = Source("t", zone=ZoneInfo("Europe/Berlin"))
    for value in (at('"2026-07-01T12:00:00"'), slowly(at('"2026-07-01T12:00:00"'))):
        assert taken(value, berlin).time == us("2026-07-01T10:00:00+00:00")
    assert taken(at('"2026-07-01T12:00:00Z"'), berlin).time == us("2026-07-01T12:00:00+00:00")
    for raw in ('"0001-01-01T00:00:00"', '"9999-12-31T23:59:59"'):
        decode(at(raw), berlin)


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(1833, 1, 1, 0, 0, 0, 7, tzinfo=UTC))
def test_texts_are_read_to_the_microsecond(moment: datetime) -> None:
    assert Source("t").microseconds(moment) == us(moment.isoformat())
    assert Source("t").microseconds(moment.isoformat()) == us(moment.isoformat())


@given(st.integers(-(2**60), 2**60), st.sampled_from(["s", "ms", "us", "ns"]))
def test_whole_numbers_are_read_to_the_microsecond(time: int, unit: str) -> None:
    factor = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 1}[unit]
    number = time // factor * (1000 if unit == "ns" else 1)
    assert Source("t", unit=TimestampUnit(unit)).microseconds(number) == time // factor * factor


def test_the_time_of_the_record_counts_where_the_event_has_none() -> None:
    assert taken(without("timestamp")).time == RECORDED * 1000
    assert refused(without("timestamp"), recorded=NO_TIMESTAMP).message.startswith("neither")


def test_the_time_of_the_record_counts_where_it_is_configured_whatever_the_event_says() -> None:
    source = Source("t", event_time=EventTime.RECORD)
    for raw in ('"2020-01-01T00:00:00Z"', '"yesterday"', "{}", "1e300", "true", "5"):
        assert taken(at(raw), source).time == RECORDED * 1000


@pytest.mark.parametrize("recorded", [2**62, -(2**62), 2**53])
def test_a_record_time_that_cannot_be_meant_is_refused(recorded: int) -> None:
    dead = refused(without("timestamp"), recorded=recorded)
    assert dead.reason == "timestamp"
    assert "73,000 years" in dead.message


# ---- bad messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b" ", "malformed"),
        (b"{", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"\x00", "malformed"),
        (b'{"model_id": "fraud"} {}', "malformed"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "schema"),
        (b"[" * 100_000, "malformed"),
        (b"[" * 100_000 + b"]" * 100_000, "malformed"),
        (b"null", "schema"),
        (b"NaN", "schema"),
        (b"[]", "schema"),
        (b'"text"', "schema"),
        (b"17", "schema"),
        (b"{}", "schema"),
    ],
)
def test_what_is_no_event_is_refused(value: bytes | None, reason: str) -> None:
    [alone] = decode_all([value])
    assert isinstance(alone, Dead)
    assert alone.reason == reason
    good = json.dumps(EVENT).encode()
    assert decode_all([good, value, good]) == [taken(EVENT), alone, taken(EVENT)]


@pytest.mark.parametrize("place", ["features", "ignored"])
def test_deep_nesting_is_refused_or_read_but_breaks_nothing(place: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    value = json.dumps(EVENT | {place: {"amount": "HERE"}}).encode().replace(b'"HERE"', deep)
    assert refused(value) == Dead("malformed", "the message is not JSON")


def test_size_is_looked_at_before_anything_else() -> None:
    source = Source("t", max_message_bytes=1_000)
    assert refused(b"{" * 1_001, source) == Dead("too_large", "1001 bytes, at most 1000 are read")
    value = json.dumps(EVENT).encode()
    assert isinstance(decode(value.ljust(1_000), source), Event)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_of_json_are_read_too(encoding: str) -> None:
    assert taken(json.dumps(EVENT).encode(encoding)) == taken(EVENT)


SECRET = "s3cr3t-value"  # noqa: S105 — it opens nothing


@pytest.mark.parametrize(
    "event",
    [
        EVENT | {"timestamp": SECRET},
        EVENT | {"timestamp": [SECRET]},
        EVENT | {"model_id": [SECRET]},
        EVENT | {"model_id": SECRET * 100},
        EVENT | {"model_version": {SECRET: 1}},
        EVENT | {"features": SECRET},
        EVENT | {"prediction": [SECRET]},
        json.dumps(SECRET).encode(),
        SECRET.encode(),
        json.dumps(EVENT).encode()[:-1] + SECRET.encode(),
        b'{"a": "\xff' + SECRET.encode() + b'"',
    ],
    ids=repr,
)
def test_why_a_message_was_refused_never_tells_what_it_held(event: object) -> None:
    for source in (Source("t"), Source("t", unit=TimestampUnit.MILLISECONDS), Source("t", SourceKind.FEATURES)):
        dead = decode(event, source)
        if isinstance(dead, Dead):
            assert SECRET not in dead.message
            assert len(dead.message) < 100


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """An event after a few accidents."""
    value = bytearray(json.dumps(EVENT).encode())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(value)))
        piece = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"{", b"}", b"null", b"1e999", b"NaN", b","]))
        )
        value[place : place + draw(st.integers(0, 6))] = piece
    return bytes(value)


accidents = st.one_of(
    st.none(),
    st.binary(max_size=30),
    broken(),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*EVENT, *EVENT["features"], "score", "label", ""]), inner, max_size=6)
        ),
        max_leaves=12,
    ).map(lambda document: json.dumps(document).encode()),
    st.sampled_from(list(EVENT)).flatmap(
        lambda key: st.one_of(st.integers(), st.text(max_size=3), st.just({}), st.none()).map(
            lambda value: json.dumps(EVENT | {key: value}).encode()
        )
    ),
)


@settings(unhurried, max_examples=300)
@given(
    st.lists(accidents, max_size=6), st.sampled_from([Source("t"), FEATURES, Source("t", event_time=EventTime.RECORD)])
)
def test_every_message_is_an_event_or_a_dead_letter_and_changes_no_other(
    values: list[bytes | None], source: Source
) -> None:
    good = [json.dumps(EVENT | {"prediction_id": i}).encode() for i in range(len(values) + 1)]
    mixed = [message for pair in zip(good, values, strict=False) for message in pair]
    found = decode_all([*mixed, good[-1]], source)
    assert found[::2] == decode_all(good, source)
    assert found[1::2] == [decode_all([value], source)[0] for value in values]


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_labels_as_the_generator_writes_them_are_read() -> None:
    traffic = Traffic(3, datetime(2026, 11, 2, tzinfo=UTC), 0.05)
    labels = [label for chunk in traffic.chunks(until=datetime(2026, 11, 3, tzinfo=UTC)) for label in chunk.labels]
    assert len(labels) > 1_000
    for message in labels:
        label = decode_label(message.value)
        assert isinstance(label.prediction_id, str)
        assert label.prediction_id.encode() == message.key
        assert label.model_id == "fraud"
        assert label.label in {"legit", "fraud"}
        assert label.source in {"system", "human"}
        assert isinstance(label.outcome_timestamp, str)
        assert Source("t").microseconds(label.outcome_timestamp) <= message.time_us  # some are sent twice


LABEL_EVENT = {"prediction_id": "p1", "model_id": "fraud", "label": "legit"}


def test_a_label_may_say_more() -> None:
    more = {"outcome_timestamp": 1795341600123, "source": "human", "revision": 2, "prediction": {"score": 1}, "x": 1}
    label = decode_label(json.dumps(LABEL_EVENT | more).encode())
    assert (label.outcome_timestamp, label.source, label.revision) == (1795341600123, "human", 2)
    assert decode_label(b'{"prediction_id": "p", "model_id": "m", "value": 1}').value == 1.0
    assert decode_label(b'{"prediction_id": "p", "model_id": "m", "label": false}').label is False
    assert decode_label(b'{"prediction_id": "p", "model_id": "m", "value": 0}').value == 0.0


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "truncated"),
        (b"{}", "prediction_id"),
        (b"[]", "Expected `object`"),
        (b'{"prediction_id": "p", "model_id": "m"}', "neither `label` nor `value`"),
        (json.dumps(LABEL_EVENT | {"prediction_id": ""}).encode(), "prediction_id"),
        (json.dumps(LABEL_EVENT | {"model_id": 5}).encode(), "model_id"),
        (json.dumps(LABEL_EVENT | {"label": [SECRET]}).encode(), "label"),
        (json.dumps(LABEL_EVENT | {"value": SECRET}).encode(), "value"),
        (json.dumps(LABEL_EVENT | {"source": SECRET}).encode(), "source"),
        (json.dumps(LABEL_EVENT | {"outcome_timestamp": [SECRET]}).encode(), "outcome_timestamp"),
        (json.dumps(LABEL_EVENT | {"value": math.nan}).encode(), "malformed"),
        (b'{"prediction_id": "\xff' + SECRET.encode() + b'"}', "UTF-8"),
        (b'{"prediction": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nest"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_wrong_with_a_label_is_said_without_what_it_held(value: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as raised:
        decode_label(value)
    assert SECRET not in str(raised.value)


@unhurried
@given(accidents)
def test_a_broken_label_is_refused_and_breaks_nothing(value: bytes | None) -> None:
    try:
        decode_label(value or b"")
    except ValueError as error:
        assert str(error)  # noqa: PT017 — a label by chance is no failure
