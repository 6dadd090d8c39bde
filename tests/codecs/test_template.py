"""Messages that look alike are read without being decoded, and as nothing else than they would be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdrift import generator
from streamdrift.codecs import Decoded, EventTime, Source
from streamdrift.codecs.fields import Leaf, Object
from streamdrift.codecs.json import JsonDecoder
from streamdrift.codecs.template import Targets, Template, Unsuitable, prepare
from streamdrift.generator import Traffic
from streamdrift.records import RecordBatch
from streamdrift.tables import baseline_from_columns
from tests.bench.events import messages, training_table
from tests.bench.jobs import MODEL_ID, MODEL_VERSION
from tests.codecs.test_derived import GRID as DERIVED
from tests.codecs.test_json import EVENT, GRIDS, RECORDED, raw_cells
from tests.codecs.test_mapped import facts

unhurried = settings(deadline=None)

EXAMPLE = json.dumps(EVENT).encode()


def decoded(decoder: JsonDecoder, values: Sequence[bytes]) -> Decoded:
    n = len(values)
    return decoder.decode(RecordBatch("t", 0, range(n), [RECORDED] * n, [None] * n, values, [()] * n))


def both_ways(values: Sequence[bytes], source: Source = Source("t"), **grids: Any) -> tuple[Any, Any]:  # noqa: ANN401, B008
    """What is made of messages if they may be read by templates, and if not."""
    known = {(grid.model_id, grid.model_version): grid for grid in grids.values()} or GRIDS
    with_templates, without = (JsonDecoder(source, lambda *model: known.get(model), most) for most in (4, 0))
    first = facts(decoded(with_templates, values), range(len(values)))
    assert first == facts(decoded(with_templates, values), range(len(values)))  # all templates are known by now
    return first, facts(decoded(without, values), range(len(values)))


def number_template() -> Template:
    root = Object(required=True)
    root.put(("x",), Leaf(float, math.nan, 0))
    return Template(root, Targets(1, {}, {}, {}, {}), b'{"x":0}')


def read(template: Template, values: Sequence[bytes]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    room = np.full((1, len(values)), -1.0)
    taken = template.read(values, room).taken
    return taken, room[0, : taken.sum()]


# ---- numbers ---------------------------------------------------------------------------------------------------------

digits = st.text("0123456789", min_size=1, max_size=22)
written = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    digits,
    st.just("") | st.just(".") | digits.map(".{}".format),
    st.just("") | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "-", "+"]), digits),
)


@settings(unhurried, max_examples=2_000)
@given(written | st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.text("0123456789.-+eE ", max_size=20))
@example("-0")
@example("-0.0")
@example("9007199254740993")
@example("9007199254740992.5")
@example("8.5e22")
@example("1" + "0" * 18)
@example("0." + "0" * 30 + "1234567890123456789")
@example("2.2250738585072011e-308")
@example("1.7976931348623157e308")
def test_a_number_is_read_to_the_last_bit_or_refused(text: str) -> None:
    message = f'{{"x":{text}}}'.encode()
    taken, values = read(number_template(), [message, b'{"x":7}'])
    assert taken[1]
    assert values[-1] == 7.0
    if taken[0]:
        [expected] = msgspec.json.decode(message, type=dict[str, float]).values()
        assert repr(float(values[0])) == repr(expected)


@settings(unhurried, max_examples=1_000)
@given(st.floats(1e-45, 1e45), st.sampled_from([repr, "{:.3f}".format, "{:e}".format, "{:.17g}".format]))
def test_numbers_as_services_write_them_are_taken(number: float, write: Any) -> None:  # noqa: ANN401
    text = write(number)
    taken, values = read(number_template(), [f'{{"x":{text}}}'.encode(), f'{{"x":-{text}}}'.encode()])
    if len(re.sub(r"e.*|\.", "", text).lstrip("0")) <= 19:
        assert taken.all()
        assert values.tolist() == [float(text), -float(text)]


def test_numbers_between_two_floats_are_rounded_to_the_even_one() -> None:
    rng = np.random.default_rng(5)
    floats = rng.integers(1 << 52, 1 << 53, 20_000).astype(object) * 2 + 1  # between two that float64 has
    texts = [f"{whole}" for whole in floats] + [f"{whole / 1000:.3f}" for whole in floats[:5_000]]
    taken, values = read(number_template(), [f'{{"x":{text}}}'.encode() for text in texts])
    assert taken.all()
    assert values.tolist() == [float(text) for text in texts]


def test_no_digit_of_a_power_of_ten_is_lost() -> None:
    rng = np.random.default_rng(6)
    digits, powers = rng.integers(10**18, 2**63, 100_000).tolist(), rng.integers(-60, 60, 100_000).tolist()
    texts = [f"{whole}e{power}" for whole, power in zip(digits, powers, strict=True)]
    taken, values = read(number_template(), [f'{{"x":{text}}}'.encode() for text in texts])
    assert taken.all()
    assert values.tolist() == [*map(float, texts)]


# ---- messages --------------------------------------------------------------------------------------------------------


def message(features: Mapping[str, str | None], score: str, label: str, gap: str) -> bytes:
    """An event of raw values; features that are None are left out."""
    members = ("," + gap).join(f'"{name}":{gap}{raw}' for name, raw in features.items() if raw is not None)
    return (
        f'{{"prediction_id":{gap}"p1",{gap}"model_id":{gap}"fraud",{gap}"model_version":{gap}"7",{gap}"timestamp":{gap}'
        f'1795000000,{gap}"features":{gap}{{{members}}},{gap}"prediction":{gap}{{"score":{score},"label":{label}}}}}'
    ).encode()


optional = st.none() | raw_cells
alike = st.builds(
    message,
    st.fixed_dictionaries(
        {
            "unread": optional,
            "amount": optional,
            "country": optional,
            "new": optional,
            "floor": optional,
            "more": raw_cells,
        }
    ),
    raw_cells,
    raw_cells,
    st.sampled_from(["", " "]),
)


@settings(unhurried, max_examples=500)
@given(st.lists(alike, min_size=1, max_size=8))
def test_a_message_is_read_as_the_same_with_and_without_templates(values: list[bytes]) -> None:
    found, expected = both_ways([EXAMPLE, *values])
    assert found == expected


@settings(unhurried, max_examples=1_000)
@given(st.data())
def test_damage_changes_nothing_but_how_fast_a_message_is_judged(data: st.DataObject) -> None:
    pieces = [
        b"",
        b'"',
        b"\\",
        b",",
        b"}",
        b"{",
        b"[",
        b"]",
        b"0",
        b"-",
        b".",
        b"e5",
        b" ",
        b"\0",
        b"\xff",
        b"null",
        b":",
    ]
    values = [EXAMPLE]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(EXAMPLE)))
        end = data.draw(st.integers(at, min(len(EXAMPLE), at + 6)))
        values.append(EXAMPLE[:at] + data.draw(st.sampled_from(pieces)) + EXAMPLE[end:])
    found, expected = both_ways([value for value in values if value])
    assert found == expected


def test_a_message_that_is_cut_short_anywhere_is_refused() -> None:
    template_of_example = [EXAMPLE] * 2
    found, expected = both_ways([*template_of_example, *(EXAMPLE[:size] for size in range(1, len(EXAMPLE)))])
    assert found == expected


nested = st.recursive(
    st.sampled_from(["null", "true", "false", "1", "-2.5e3", "01", '""', '"a]}"', '"\\""', '"ü"', "tru", "1e400"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda cells: "[ " + " ,".join(cells) + "]")
        | st.lists(inner, max_size=3).map(lambda cells: "{" + ",\n".join(f'"k{c}" :{c}' for c in cells) + " }")
        | st.sampled_from(["[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "[1 2]", "[", "}", "[}", "{]"])
    ),
    max_leaves=8,
)


@settings(unhurried, max_examples=500)
@given(st.lists(nested, min_size=1, max_size=6))
def test_values_that_nobody_reads_are_passed_over_if_they_are_json(cells: list[str]) -> None:
    values = [message({"amount": "5", "unread": cell, "floor": "1"}, "0.5", '"legit"', "") for cell in ["1", *cells]]
    found, expected = both_ways(values)
    assert found == expected


@pytest.mark.parametrize(
    "raw",
    ['"2026-11-22T10:00:00.123Z"', '"2026-11-22T10:00:00+01:00"', "1795341600", "1795341600123456789", "1795341600.25",
     "1.7953416e9", '"1795341600"', "0", "-5", "-0", '""', '"yesterday"', "99999999999999999999", "9223372036854775808",
     '"' + "2" * 40 + '"', "null", "true", *(f'"{day}T23:59:59Z"' for day in (
         "1900-02-29", "2000-02-29", "2023-02-29", "2024-02-29", "2026-04-31", "2026-12-31", "2026-13-01", "0000-01-01",
         "0001-01-01", "9999-12-31")), '"2026-11-22T24:00:00Z"', '"2026-11-22T10:00:60Z"', '"2026-11-22T10:00:00.Z"',
     '"2026-11-22T10:00:00.1234567Z"', '"2026-11-22T10:00:00.000001+00:00"', '"2026-11-22t10:00:00z"'],
)  # fmt: skip
def test_times_are_read_however_they_are_written(raw: str) -> None:
    good = ['"2026-11-22T10:00:00.123Z"', "1795341600", "1795341600.5"]
    for first in (*good, raw):
        values = [EXAMPLE.replace(b'"2026-11-22T10:00:00.123Z"', text.encode()) for text in (first, first, raw, *good)]
        found, expected = both_ways(values)
        assert found == expected


@pytest.mark.parametrize("raw", ['"p1"', '"ü"', "17", "0", "-0", "-1", "017", "1.5", '""', "null", "true", "9" * 25])
def test_ids_are_hashed_as_they_would_be(raw: str) -> None:
    for first in ('"p1"', "5", raw):
        values = [EXAMPLE.replace(b'"p1"', text.encode()) for text in (first, first, raw, '"p2"', "5")]
        found, expected = both_ways(values)
        assert found == expected


@settings(unhurried, max_examples=200)
@given(
    st.lists(
        st.lists(
            st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60), min_size=3, max_size=3
        )
        | st.sampled_from([None, [1, 2], [1, 2, 3, 4], [1, None, 2], [1e308, 1e308, 1e308], "x", []]),
        min_size=1,
        max_size=6,
    )
)
def test_arrays_of_numbers_are_read_without_making_lists_of_them(vectors: list[object]) -> None:
    values = [
        json.dumps(
            {"model_id": "m", "features": {"amount": 1, "vector": vector}, "prediction": {"score": 0.5}}
        ).encode()
        for vector in ([1, 2, 3], *vectors)
    ]
    found, expected = both_ways(values, grid=DERIVED)
    assert found == expected


def test_the_time_of_the_record_counts_where_it_is_configured() -> None:
    found, expected = both_ways([EXAMPLE] * 3, Source("t", event_time=EventTime.RECORD))
    assert found == expected


def test_messages_keep_their_order_whichever_way_they_are_read() -> None:
    escaped = EXAMPLE.replace(b'"FR"', b'"\\u0046R"')  # read by its type: the kernel takes no escapes
    values = [EXAMPLE, escaped, EXAMPLE, escaped, escaped, EXAMPLE]
    numbered = [value.replace(b'"p1"', b'"p%d"' % i) for i, value in enumerate(values)]
    [part] = decoded(JsonDecoder(Source("t"), lambda *model: GRIDS.get(model)), numbered).batches
    assert part.index.tolist() == list(range(6))
    found, expected = both_ways(numbered)
    assert found == expected


# ---- what it is for --------------------------------------------------------------------------------------------------


def refused_by_type(values: Sequence[bytes], decoder: JsonDecoder) -> int:
    """How many messages no template takes, once the decoder has seen some."""
    decoded(decoder, values[:50])
    [schema] = decoder._schemas.values()
    left = list(values)
    for template in schema.templates:
        room = np.empty((template.targets, len(left)))
        taken = template.read(left, room).taken
        left = [value for value, was_taken in zip(left, taken.tolist(), strict=True) if not was_taken]
    return len(left)


@pytest.mark.parametrize("features", [20, 200])
def test_the_events_of_the_benchmark_need_no_decoding(features: int) -> None:
    table = training_table(features, 3_000)
    grid = baseline_from_columns(table, model_id=MODEL_ID, model_version=MODEL_VERSION).grid
    values = [value for _, value, _ in messages(features, 500, 100.0)]
    assert refused_by_type(values, JsonDecoder(Source("t"), lambda *_: grid)) == 0


def test_hardly_an_event_of_the_demo_needs_decoding() -> None:
    traffic = Traffic(3, datetime(2026, 11, 2, tzinfo=UTC), 0.2)
    grid = baseline_from_columns(generator.training_table(3, 5_000), model_id="fraud", model_version="7").grid
    values = [message.value for chunk in traffic.chunks(count=2_000) for message in chunk.predictions]
    assert refused_by_type(values, JsonDecoder(Source("t"), lambda *_: grid)) < len(values) / 50


def test_features_that_are_left_out_now_and_then_are_no_reason_to_decode() -> None:
    raw = {"amount": "5", "country": '"DE"', "new": "true", "floor": "1"}
    values = [message({**raw, name: None}, "0.5", '"legit"', "") for name in raw if name != "amount"] * 20
    whole = message(raw, "0.5", '"legit"', "")
    assert refused_by_type([whole, *values], JsonDecoder(Source("t"), lambda *model: GRIDS.get(model))) == 0


def test_what_changed_its_looks_is_learned_again() -> None:
    decoder = JsonDecoder(Source("t"), lambda *model: GRIDS.get(model))
    moved = json.dumps(dict(reversed(EVENT.items()))).encode()
    decoded(decoder, [EXAMPLE] * 20)
    assert refused_by_type([moved] * 60, decoder) == 0


def test_no_more_looks_are_remembered_than_are_bounded() -> None:
    decoder = JsonDecoder(Source("t"), lambda *model: GRIDS.get(model))
    for i in range(20):
        decoded(decoder, [json.dumps(EVENT | {f"key{i}": i}).encode()] * 10)
    [schema] = decoder._schemas.values()
    assert len(schema.templates) == 4


def test_of_a_message_that_leaves_doubt_no_template_is_made() -> None:
    root = Object(required=True)
    root.put(("x",), Leaf(float, math.nan, 0))
    for text in (b'{"x":1,"x":2}', b'{"a":1,"a":2}', b'{"a":"\xff"}'):
        with pytest.raises(Unsuitable):
            Template(root, Targets(1, {}, {}, {}, {}), text)


def test_the_compiler_is_there() -> None:
    assert prepare()
