"""Mappings: how places are written, and which cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.codecs.mapping import At, Const, Header, Key, Mapping, PredictionParts


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ts", At(("ts",))),
        ("meta.ts", At(("meta", "ts"))),
        ('a."b.c".d', At(("a", "b.c", "d"))),
        ('"a \\" b"', At(('a " b',))),
        ('""', At(("",))),
        ("größe.in cm", At(("größe", "in cm"))),
        ("instances[*]", At((), ("instances",))),
        ("a.b[*].c.d", At(("c", "d"), ("a", "b"))),
        ("[*]", At((), ())),
        ("[*].x", At(("x",), ())),
        ('"a[*]".b', At(("a[*]", "b"))),
    ],
)
def test_a_path_is_written_as_keys_with_dots_between(text: str, place: At) -> None:
    assert At.parse(text) == place
    assert At.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a[*", "a[0]", "a[*]b", "a[*].b[*]", 'a"b"', "a[*].", '"a']
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        At.parse(text)


keys = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=3).map(tuple)


@given(keys, st.none() | keys)
def test_any_path_can_be_written(path: tuple[str, ...], array: tuple[str, ...] | None) -> None:
    if path or array is not None:
        assert At.parse(str(At(path, array))) == At(path, array)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"timestamp": At(("ts",), ("rows",))}, "timestamp: .* `explode`"),
        ({"prediction": PredictionParts(score=At((), ("p",)))}, r"prediction.score: .* `explode`"),
        ({"prediction_id": At(())}, "prediction_id: .* at least one key"),
        ({"feature_names": ("a", "b", "a")}, "feature_names: .* twice"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Mapping(**wrong)


def test_places_are_named_as_they_are_configured() -> None:
    parts = PredictionParts(score=At(("p",)))
    mapping = Mapping(Const("fraud"), Header("version"), Key(), Key(("id",)), At(()), prediction=parts)
    assert dict(mapping.places()) == {
        "model_id": Const("fraud"),
        "model_version": Header("version"),
        "timestamp": Key(),
        "prediction_id": Key(("id",)),
        "features": At(()),
        "prediction.score": At(("p",)),
    }
