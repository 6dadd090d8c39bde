"""Tables: which column is what, what becomes of a row, and that nothing of it is lost without a word."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.cells import objects
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.readers import ColumnTable
from streamdrift.replay.files import Reading, open_file
from streamdrift.replay.messages import Message
from streamdrift.replay.ordering import in_order
from streamdrift.replay.plan import without_configuration
from streamdrift.replay.roles import Roles, interval_us, roles_of, without_false_times
from streamdrift.replay.rows import START_US, RowHistory, Subject, TableRows
from tests.replay.command import refusal, replayed

ROWS = 6_000


def columns(rows: int = ROWS, *, shift_from: int | None = None, wrong_from: int | None = None) -> dict[str, list[Any]]:
    """A model's log: two features, its score, and what was true."""
    rng = np.random.default_rng(5)
    amount = rng.normal(10.0, 2.0, rows)
    if shift_from is not None:
        amount[shift_from:] += 4.0
    truth = rng.random(rows) < 0.4
    score = np.clip(np.where(truth, 0.8, 0.2) + rng.normal(0.0, 0.05, rows), 0.0, 1.0)
    if wrong_from is not None:
        truth[wrong_from:] ^= rng.random(rows - wrong_from) < 0.5
    countries = [("DE", "FR", "IT")[i] for i in rng.integers(0, 3, rows).tolist()]
    return {
        "amount": np.round(amount, 4).tolist(),
        "country": countries,
        "score": np.round(score, 4).tolist(),
        "label": truth.astype(int).tolist(),
    }


def write_csv(path: Path, table: dict[str, list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def history(table: dict[str, Any], given: Roles = Roles()) -> RowHistory:  # noqa: B008 — a value
    rows = TableRows(ColumnTable(table), "t")
    return RowHistory("t", lambda _: rows, given, Subject("m", "1"), Fraction(1_000_000))


def bodies(messages: Iterable[Message], kind: SourceKind) -> list[dict[str, Any]]:
    return [json.loads(message.value or b"") for message in messages if message.kind is kind]


# ---- which column is what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], Roles()),
        (["TS", "a", "y"], Roles(timestamp="TS", target="y")),
        (["prediction.score", "score", "label"], Roles(score="prediction.score", target="label")),
        (["prediction", "prediction_id"], Roles(label="prediction", prediction_id="prediction_id")),
        (["model_id", "model_version", "event_time"], Roles("event_time", None, "model_id", "model_version")),
    ],
)  # fmt: skip
def test_columns_with_usual_names_are_what_these_say(names: Sequence[str], expected: Roles) -> None:
    assert roles_of(names, Roles()) == expected


def test_what_the_user_says_comes_before_usual_names() -> None:
    assert roles_of(["score", "p", "label"], Roles(score="p", target="score")) == Roles(score="p", target="score")


def test_a_column_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"no column 'scor' .*did you mean 'score'"):
        roles_of(["score", "a"], Roles(score="scor"))


def test_a_column_cannot_be_two_things() -> None:
    with pytest.raises(ConfigurationError, match="two things"):
        roles_of(["a"], Roles(score="a", target="a"))


@pytest.mark.parametrize(
    ("values", "is_time"),
    [
        (["2026-01-01 10:00:00", "2026-01-02"], True),
        ([1_795_000_000, 1_795_000_001.5], True),
        ([0.0, 0.5, 1.0], False),
        (["noon", "evening"], False),
    ],
)
def test_a_column_is_a_time_only_if_it_holds_times(values: list[Any], is_time: bool) -> None:  # noqa: FBT001 — a case
    roles = without_false_times(Roles(timestamp="date"), Roles(), objects(values))
    assert (roles.timestamp == "date") is is_time


def test_a_number_that_is_predicted_is_a_value_and_so_is_its_target() -> None:
    numbers = [float(i) / 7 for i in range(100)]
    found = history({"a": numbers, "prediction": numbers, "target": numbers})
    assert found.roles == Roles(value="prediction", target="target")
    assert bodies(found.messages(), SourceKind.LABELS)[3]["value"] == numbers[3]


@pytest.mark.parametrize("rate", ["1", "per second", "0 per second", "1 per blink"])
def test_a_rate_says_how_many_in_which_time(rate: str) -> None:
    with pytest.raises(ValueError, match="for example 100 per second"):
        interval_us(rate)


# ---- what becomes of a row -------------------------------------------------------------------------------------------


def test_a_row_is_an_event_and_a_label_that_carries_its_prediction() -> None:
    found = history({"a": [1.5, float("nan")], "score": [0.25, 0.75], "label": ["no", "yes"]})
    messages = [*found.messages()]
    events, labels = (bodies(messages, kind) for kind in (SourceKind.PREDICTIONS, SourceKind.LABELS))
    assert events[0] == {
        "model_id": "m", "model_version": "1", "timestamp": START_US, "features": {"a": 1.5},
        "prediction": {"score": 0.25},
    }  # fmt: skip
    assert events[1]["features"] == {"a": None}
    assert labels[1] == {
        "prediction_id": "2", "model_id": "m", "model_version": "1", "label": "yes", "prediction": {"score": 0.75},
    }  # fmt: skip
    assert [message.time_us for message in messages] == [START_US] * 2 + [START_US + 1_000_000] * 2


def test_a_row_without_prediction_and_target_is_a_feature_event() -> None:
    found = history({"a": [1.0], "b": ["x"]})
    assert [message.kind for message in found.messages()] == [SourceKind.FEATURES]


def test_a_row_without_a_target_is_no_label() -> None:
    found = history({"a": [1.0, 2.0], "score": [0.1, 0.2], "label": [None, "x"]})
    assert len(bodies(found.messages(), SourceKind.LABELS)) == 1


def test_rows_are_read_in_the_order_of_their_times() -> None:
    found = history({"a": [1, 2, 3], "ts": ["2026-01-03", "2026-01-01", "2026-01-02"]})
    assert found.survey.disordered == 1
    assert [body["features"]["a"] for body in bodies(found.messages(), SourceKind.FEATURES)] == [2, 3, 1]


def test_a_row_without_a_time_is_refused_and_named() -> None:
    found = history({"a": [1, 2, 3], "timestamp": ["2026-01-01", "soon", "2026-01-02"]})
    assert len([*found.messages()]) == 2
    assert found.refusals.counts == {"timestamp": 1}
    assert found.refusals.examples == ["t, row 2: timestamp: timestamp: not an RFC 3339 time (timestamp)"]


@given(st.lists(st.tuples(st.integers(-(10**15), 10**15), st.binary(max_size=5)), max_size=30))
def test_messages_are_put_in_order_as_a_stable_sort_would(pairs: list[tuple[int, bytes]]) -> None:
    messages = [Message(SourceKind.FEATURES, value, time, -1, i) for i, (time, value) in enumerate(pairs)]
    assert [*in_order(messages)] == sorted(messages, key=lambda message: message.time_us or 0)


# ---- whole runs ------------------------------------------------------------------------------------------------------


def test_a_shift_and_errors_are_found_in_a_csv_file_without_any_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "log.csv", columns(shift_from=3_000, wrong_from=4_500))
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv")
    found = {each["kind"]: each for each in said.summary["incidents"]}
    assert found.keys() == {"data_drift", "concept_drift"}
    assert (found["data_drift"]["feature"], found["data_drift"]["model"]) == ("amount", "log")
    assert said.summary["feature_weeks"] > 0
    assert "too few events" not in said.err
    assert "score: score, target: label" in said.err
    assert "no column holds times" in said.err


def relabelled(rows: int, *, since: int) -> dict[str, list[Any]]:
    """An annotated data set without predictions: of its labels two in five are 1, and four in five since that row."""
    table = columns(rows)
    table["label"][since:] = np.random.default_rng(6).binomial(1, 0.8, rows - since).tolist()
    del table["score"]
    return table


def test_labels_in_another_mix_are_found_in_a_table_without_any_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels stand beside the features, and nothing says how late they might be."""
    write_csv(tmp_path / "set.csv", relabelled(20_000, since=12_000))
    said = replayed(monkeypatch, tmp_path, "-i", "set.csv", "--rate", "10 per second")
    [found] = said.summary["incidents"]
    assert found["kind"] == "label_drift"
    assert "2026-01-01T00:19:50" <= found["onset"] < "2026-01-01T00:20:30"


def test_a_label_delay_that_somebody_sets_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "set.csv", relabelled(20_000, since=12_000))
    options = ("--rate", "10 per second", "--set", "models.set.performance.label_delay=30d")
    said = replayed(monkeypatch, tmp_path, "-i", "set.csv", *options)
    assert said.summary["incidents"] == []


def test_csv_parquet_and_rows_of_json_are_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = columns(shift_from=3_000)
    write_csv(tmp_path / "log.csv", table)
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    rows = (json.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True))
    (tmp_path / "log.jsonl").write_text("\n".join(rows), encoding="utf-8")
    one, *others = (replayed(monkeypatch, tmp_path, "-i", f"log.{s}").alerts for s in ("csv", "parquet", "jsonl"))
    assert one
    assert others == [one, one]


def test_the_order_of_the_rows_changes_nothing_where_they_have_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = columns(shift_from=3_000) | {"time": [1_795_000_000 + i for i in range(ROWS)]}
    write_csv(tmp_path / "log.csv", table)
    ordered = replayed(monkeypatch, tmp_path, "-i", "log.csv")
    order = np.random.default_rng(1).permutation(ROWS).tolist()
    write_csv(tmp_path / "log.csv", {name: [values[i] for i in order] for name, values in table.items()})
    shuffled = replayed(monkeypatch, tmp_path, "-i", "log.csv")
    assert ordered.alerts
    assert shuffled.alerts == ordered.alerts
    assert shuffled.summary["late"] == {}
    assert "in order of time" in shuffled.err


def test_rows_that_cannot_be_read_are_counted_and_shown_by_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_text("a,b\n1,2\n3\n4,5\n6,7,8\n", encoding="utf-8")
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv")
    assert (said.summary["counted"], said.summary["refused"]) == (2, {"malformed": 2})
    assert "log.csv, line 3: 1 cells, the header has 2" in said.err
    assert "log.csv, line 5: 3 cells, the header has 2" in said.err


def test_a_table_may_be_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "training.csv", columns())
    write_csv(tmp_path / "log.csv", columns(shift_from=0))
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv", "--baseline", "training.csv")
    [drift] = said.summary["incidents"]
    assert drift["features"] == ["amount"]


def test_a_number_says_how_many_events_a_baseline_is_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "log.csv", columns(shift_from=3_000))
    said = replayed(monkeypatch, tmp_path, "-i", "log.csv", "--baseline", "2500")
    assert "the first 2,500 events" in said.err
    assert any("amount" in each["features"] for each in said.summary["incidents"])


@pytest.mark.parametrize(
    ("rate", "flags", "tick", "window"),
    [
        ("100 per second", {}, "10s", "1h"),
        ("1 per second", {}, "10s", "1h"),
        ("1 per minute", {}, "10m", "1h"),
        ("1 per hour", {}, "6h", "6h"),
        ("1 per week", {}, "1d", "1d"),
        ("1 per hour", {"time.tick": "1m"}, "1m", "6h"),
    ],
)
def test_a_tick_takes_a_few_events_where_they_come_slowly_and_nobody_says_otherwise(
    tmp_path: Path, rate: str, flags: dict[str, object], tick: str, window: str
) -> None:
    survey = open_file(write_csv(tmp_path / "log.csv", columns(500)), Reading(interval=interval_us(rate))).survey
    settings = without_configuration(survey, flags, warm_up=None, in_microseconds=True, model=None).settings
    assert (str(settings.time.tick), str(settings.defaults.window)) == (tick, window)


def test_the_rate_of_rows_without_times_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "log.csv", columns(61))
    ends = [
        replayed(monkeypatch, tmp_path, "-i", "log.csv", *options).summary["to"]
        for options in ((), ("--rate", "1 per minute"), ("--rate", "40 per second"))
    ]
    assert ends == ["2026-01-01T00:01:00Z", "2026-01-01T01:00:00Z", "2026-01-01T00:00:01.500Z"]


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("", (), "empty; expected a header"),
        ("a,a\n1,2\n", (), "more than one column is named 'a'"),
        ("a,b\n1,2\n", ("--target", "c"), "no column 'c'"),
        ("a,b\n1,2\n", ("--rate", "often"), "for example 100 per second"),
    ],
)
def test_a_table_that_cannot_be_replayed_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, options: Sequence[str], says: str
) -> None:
    (tmp_path / "log.csv").write_text(content, encoding="utf-8")
    assert says in refusal(monkeypatch, tmp_path, "-i", "log.csv", *options)
