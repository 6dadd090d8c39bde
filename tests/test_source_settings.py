"""Sources in a configuration: mappings as they are written, what is refused of them, and where reading begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.assembly import start_points, topology
from streamdrift.codecs import At, Const, Header, Key, Mapping, PredictionParts
from streamdrift.settings import Settings
from streamdrift.stages.stage import StartAt, StartFrom

NOW = 1_800_000_000.0


def problems(tmp_path: Path, source: str) -> list[str]:
    file = tmp_path / "streamdrift.yaml"
    file.write_text(
        f'kafka: {{bootstrap_servers: "localhost:9092"}}\nsources: [{{topic: t, kind: predictions, {source}}}]'
    )
    return [str(problem).removesuffix(f" ({file}:2)") for problem in Settings.read(file, environment={})[1]]


def settings(**source: object) -> Settings:
    sources = [{"topic": "t", "kind": "predictions", **source}]
    return Settings.model_validate({"kafka": {"bootstrap_servers": "localhost:9092"}, "sources": sources})


def mapped(**mapping: object) -> Mapping:
    return topology(settings(mapping=mapping)).sources[0].mapping


def test_without_a_mapping_events_have_the_shape_of_the_contract() -> None:
    assert topology(settings()).sources[0].mapping == Mapping()
    assert mapped() == Mapping()


def test_every_kind_of_place_can_be_written() -> None:
    assert mapped(
        model_id={"const": "fraud"},
        model_version={"header": "model-version"},
        timestamp='meta."time.stamp"',
        prediction_id={"key": "request.id"},
        features=".",
        prediction={"score": "out.p", "label": "out.class"},
    ) == Mapping(
        Const("fraud"),
        Header("model-version"),
        At(("meta", "time.stamp")),
        Key(("request", "id")),
        At(()),
        prediction=PredictionParts(label=At(("out", "class")), score=At(("out", "p"))),
    )
    assert mapped(prediction_id={"key": True}).prediction_id == Key()


def test_an_array_of_events_can_be_written() -> None:
    assert mapped(
        explode="instances[*]",
        features="instances[*]",
        feature_names=["amount", "age"],
        prediction={"value": "predictions[*]"},
    ) == Mapping(
        features=At((), ("instances",)),
        feature_names=("amount", "age"),
        prediction=PredictionParts(value=At((), ("predictions",))),
        explode=("instances",),
    )


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("model_id: {const: 7}", "model_id: expected a path such as"),
        ("model_id: {konst: fraud}", "model_id: expected a path such as"),
        ("model_id: {const: a, header: b}", "model_id: expected a path such as"),
        ("timestamp: meta..ts", 'timestamp: got "meta..ts"; expected a path'),
        ("features: {const: x}", "features: expected a path such as meta.ts"),
        ("explode: instances", 'explode: got "instances"; expected the path of an array'),
        ("features: 'rows[*]'", "[*] stands for the elements of an array: `explode` must name one"),
        ("feature_names: [a, a]", "feature_names: a name stands there twice"),
        ("featurs: inputs", "featurs: unknown key; did you mean features?"),
        ("prediction: {skore: p}", "prediction"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_what_was_expected(
    tmp_path: Path, mapping: str, expected: str
) -> None:
    [problem] = problems(tmp_path, f"mapping: {{{mapping}}}")
    assert problem.startswith("sources[0].mapping")
    assert expected in problem


keys = st.text(min_size=1, max_size=6)


@given(st.lists(keys, min_size=1, max_size=4).map(tuple), st.none() | st.lists(keys, max_size=3).map(tuple))
def test_every_path_can_be_written_in_a_configuration(path: tuple[str, ...], array: tuple[str, ...] | None) -> None:
    at = At(path, array)
    explode = None if array is None else str(At((), array))
    written = yaml.safe_load(yaml.safe_dump({"timestamp": str(at), "explode": explode}))
    assert mapped(**written).timestamp == at


def test_a_configuration_can_be_written_as_it_was_read() -> None:
    read = settings(
        start_from="7d",
        mapping={
            "model_id": {"const": "m"},
            "explode": "rows[*]",
            "features": "rows[*]",
            "prediction": {"score": "rows[*].p"},
        },
    )
    assert Settings.model_validate(read.model_dump(mode="json", by_alias=True)) == read


def test_reading_begins_where_the_source_says_and_else_where_the_cluster_says() -> None:
    assert start_points(settings(), NOW) == {"t": StartFrom.LATEST}
    assert start_points(settings(start_from="earliest"), NOW) == {"t": StartFrom.EARLIEST}
    assert start_points(settings(start_from="1d"), NOW) == {"t": StartAt(int((NOW - 86_400) * 1e3))}
    assert start_points(settings(start_from="2027-01-15T08:00:00+00:00"), NOW) == {"t": StartAt(1_800_000_000_000)}


@pytest.mark.parametrize("start", ["yesterday", "7", "2026-11-22T10:00:00", "{days: 7}"])
def test_a_start_that_cannot_be_meant_is_refused(tmp_path: Path, start: str) -> None:
    [problem] = problems(tmp_path, f"start_from: {start}")
    assert problem.startswith("sources[0].start_from: ")
    assert problem.endswith("expected earliest, latest, a duration such as 7d, or a time such as 2026-11-22T10:00:00Z")
