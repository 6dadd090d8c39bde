"""From a table to a baseline: files, roles, types of text, counting, the command, and what it refuses."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from streamdrift import gridding, readers, rows, tables
from streamdrift.baseline_command import build_command
from streamdrift.baselines import Baseline
from streamdrift.cells import Reading, objects, read, reading_of
from streamdrift.codecs import Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.errors import ConfigurationError
from streamdrift.grids import LABEL, SCORE, VALUE, Column, Kind
from streamdrift.readers import ColumnTable, open_table
from streamdrift.records import RecordBatch
from streamdrift.rows import batch_of, encode_row
from streamdrift.summaries import Summary
from streamdrift.table_report import column_reports
from streamdrift.tables import Fields, baseline_from_columns, build

ROWS = 400
Columns = Mapping[str, Sequence[object] | NDArray[Any]]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def training() -> dict[str, list[Any]]:
    """A small training table with a bit of everything."""
    r = rng()
    amounts = np.round(r.lognormal(3, 1, ROWS), 2).tolist()
    return {
        "tx": [f"tx-{i:06d}" for i in r.permutation(ROWS)],
        "amount": [None if i % 20 == 0 else amount for i, amount in enumerate(amounts)],
        "basket.items": r.poisson(8, ROWS).tolist(),
        "country": [("DE", "FR", "NA", None)[i] for i in r.integers(0, 4, ROWS)],
        "is_guest": (r.random(ROWS) < 0.3).tolist(),
        "level": (1.0 + r.integers(0, 3, ROWS)).tolist(),
        "row": list(range(ROWS)),
        "score": r.random(ROWS).tolist(),
        "fraud": r.integers(0, 2, ROWS).tolist(),
    }


def write_csv(path: Path, columns: Columns, delimiter: str = ",") -> Path:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path: Path, columns: Columns) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(dict(columns)), path)
    return path


def built(path: Path, fields: Fields = Fields(score="score", target="fraud")) -> Baseline:  # noqa: B008 — frozen
    return build(open_table(path), model_id="fraud", model_version="7", fields=fields).baseline


def columns_of(baseline: Baseline) -> dict[str, Column]:
    return {column.name: column for column in baseline.grid.columns}


def counts_of(baseline: Baseline, name: str) -> list[int]:
    at = baseline.grid.names.index(name)
    counts: list[int] = baseline.summary.counts[baseline.grid.offsets[at] : baseline.grid.offsets[at + 1]].tolist()
    return counts


# ---- what comes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV", "t.tsv", "t.parquet"])
def test_every_format_of_the_same_table_gives_the_same_baseline(tmp_path: Path, name: str) -> None:
    columns = training()
    path = tmp_path / name
    if path.suffix == ".parquet":
        write_parquet(path, columns)
    else:
        write_csv(path, columns, "\t" if path.suffix == ".tsv" else ",")
    fields = Fields(score="score", target="fraud")
    expected = baseline_from_columns(columns, model_id="fraud", model_version="7", fields=fields)
    assert built(path).to_json() == expected.to_json()


def test_columns_get_the_types_and_reasons_that_they_deserve() -> None:
    fields = Fields(score="score", target="fraud", exclude=["lev*"])
    baseline = baseline_from_columns(training(), model_id="fraud", model_version="7", fields=fields)
    kinds = {name: column.kind for name, column in columns_of(baseline).items()}
    assert kinds == {
        "amount": Kind.NUMERIC,
        "basket.items": Kind.NUMERIC,
        "country": Kind.CATEGORICAL,
        "is_guest": Kind.CATEGORICAL,
        SCORE: Kind.NUMERIC,
    }
    assert {field.name: str(field.reason) for field in baseline.grid.unmonitored} == {
        "tx": "identifier",
        "row": "counter",
        "fraud": "target",
        "level": "excluded",
    }


def test_every_row_is_counted_once_in_every_column() -> None:
    baseline = baseline_from_columns(training(), model_id="fraud", model_version="7")
    assert baseline.summary.events == ROWS
    for report in column_reports(baseline):
        assert report.counted + report.unseen + report.missing + report.type_errors == ROWS
    amount = next(report for report in column_reports(baseline) if report.name == "amount")
    values = [value for value in training()["amount"] if value is not None]
    assert amount.missing == ROWS // 20
    assert amount.mean == pytest.approx(np.mean(values), rel=1e-5)
    assert amount.sd == pytest.approx(np.std(values), rel=1e-5)


@given(
    arrays(
        np.float64,
        ROWS,
        elements=st.one_of(
            st.floats(allow_subnormal=True), st.sampled_from([0.0, 1e9, 1e9 + 1, 5e-324, 1e308]), st.integers(-3, 3)
        ),
    )
)
@settings(max_examples=50)
def test_a_baseline_of_nasty_numbers_survives_its_file(x: NDArray[np.float64]) -> None:
    x[0] = 1.5
    columns: Columns = {"x": x, "usual": np.tile([1.0, 2.0], ROWS // 2)}
    baseline = baseline_from_columns(columns, model_id="m", model_version="1", fields=Fields(numeric=["x"]))
    again = Baseline.from_json(baseline.to_json())
    assert again.grid == baseline.grid
    assert again.grid.id == baseline.grid.id
    assert again.summary == baseline.summary
    report = column_reports(baseline)[0]
    assert report.missing == np.isnan(x).sum()
    assert report.type_errors == np.isinf(x).sum()
    assert report.counted == np.isfinite(x).sum()


@pytest.mark.parametrize("rows", [1, 7, 128])
def test_the_size_of_the_chunks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    path = write_csv(tmp_path / "t.csv", training())
    expected = built(path).to_json()
    monkeypatch.setattr(readers, "chunk_rows", lambda _columns: rows)
    assert built(path).to_json() == expected


def test_a_large_table_is_gridded_from_a_sample_and_counted_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 1000)
    monkeypatch.setattr(tables, "MIN_SAMPLE_ROWS", 1000)
    monkeypatch.setattr(readers, "chunk_rows", lambda _columns: 700)
    x = rng().normal(size=20_000)
    columns: Columns = {"x": x, "row": np.arange(20_000), "id": [f"{i}" for i in rng().permutation(20_000)]}
    baseline = baseline_from_columns(columns, model_id="m", model_version="1")
    again = baseline_from_columns(columns, model_id="m", model_version="1")
    assert baseline.id == again.id
    assert baseline.summary.events == 20_000
    assert {field.name for field in baseline.grid.unmonitored} == {"row", "id"}
    counts = counts_of(baseline, "x")
    assert sum(counts) == 20_000
    edges = baseline.grid.columns[0].edges
    assert counts[:-3] == np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1).tolist()
    # Cut at the quantiles of 1,000 rows, so only roughly of the same mass.
    inner = np.array(counts[6:-9])
    assert inner.max() < 5 * inner.mean()


def test_the_sample_is_of_distinct_rows_in_table_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 500)
    monkeypatch.setattr(tables, "MIN_SAMPLE_ROWS", 500)
    monkeypatch.setattr(readers, "chunk_rows", lambda _columns: 300)
    sample, rows = tables._sample(ColumnTable({"row": np.arange(5000)}), ["row"], lambda _phase, _rows: None)
    assert rows == 5000
    assert len(sample["row"]) == 500
    assert (np.diff(sample["row"]) > 0).all()
    assert abs(sample["row"].mean() - 2500) < 300


def test_rows_like_events_become_columns_with_dotted_names() -> None:
    rows: list[Mapping[str, object]] = [{"a": 1}, {"a": 2, "basket": {"items": 3, "of": {"x": "y"}}}]
    table = ColumnTable.of_rows(rows)
    assert table.names == ("a", "basket.items", "basket.of.x")
    assert [chunk["basket.items"].tolist() for chunk in table.chunks()] == [[None, 3]]


def test_structs_in_parquet_become_columns_with_dotted_names(tmp_path: Path) -> None:
    rows = [{"items": i % 9, "of": {"x": "ab"[i % 2]}} for i in range(ROWS)]
    path = write_parquet(tmp_path / "t.parquet", {"basket": rows, "tags": [["a"]] * ROWS})
    baseline = built(path, Fields())
    assert list(baseline.grid.names) == ["basket.items", "basket.of.x"]
    assert [(field.name, str(field.reason)) for field in baseline.grid.unmonitored] == [("tags", "unsupported")]


def test_arrow_types_count_like_the_json_of_the_same_value(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    amounts = pa.array([f"{i % 50}.25" for i in range(ROWS)]).cast(pa.decimal128(10, 2))
    names = pa.array(["a", "b", None, "a"] * (ROWS // 4)).dictionary_encode()
    levels = pa.array([0.1, 0.7] * (ROWS // 2), pa.float32())
    dates = pa.array(range(ROWS), pa.int32()).cast(pa.date32())
    flags = pa.array([True, None, False, True] * (ROWS // 4))
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"amount": amounts, "name": names, "level": levels, "date": dates, "flag": flags}), path)
    columns = columns_of(built(path, Fields()))
    assert columns["amount"].kind is Kind.NUMERIC
    assert columns["name"].categories == ("a", "b")
    assert columns["level"].categories == ("0.1", "0.7")
    assert columns["flag"].categories == ("true", "false")
    assert "date" not in columns


def test_the_same_rows_as_live_events_give_the_same_summary() -> None:
    columns: dict[str, list[Any]] = {**training(), "mixed": [7.5, "seven", None, 8] * (ROWS // 4)}
    fields = Fields(score="score", target="fraud", numeric=["mixed"])
    baseline = baseline_from_columns(columns, model_id="fraud", model_version="7", fields=fields)
    messages = [
        json.dumps(
            {
                "model_id": "fraud",
                "model_version": "7",
                "timestamp": "2026-01-01T00:00:00Z",
                "features": {name: values[i] for name, values in columns.items() if name not in {"score", "fraud"}},
                "prediction": {"score": columns["score"][i]},
            }
        ).encode()
        for i in range(ROWS)
    ]
    batch = RecordBatch("t", 0, range(ROWS), [0] * ROWS, [None] * ROWS, messages, [()] * ROWS)
    decoded = JsonDecoder(Source("t"), lambda _id, _version: baseline.grid).decode(batch)
    assert Summary.of(decoded.batches[0].events) == baseline.summary
    assert counts_of(baseline, "mixed")[-1] == ROWS // 4


# ---- roles ---------------------------------------------------------------------------------------------------------


def test_columns_with_the_names_of_predictions_need_no_mention() -> None:
    label, value = ["yes", "no"] * (ROWS // 2), np.tile([1.0, 2.0], ROWS // 2)
    columns: Columns = {SCORE: rng().random(ROWS), LABEL: label, VALUE: value}
    baseline = baseline_from_columns(columns, model_id="m", model_version="1")
    kinds = {name: column.kind for name, column in columns_of(baseline).items()}
    assert kinds == {SCORE: Kind.NUMERIC, LABEL: Kind.CATEGORICAL, VALUE: Kind.NUMERIC}


def test_include_keeps_only_what_matches() -> None:
    fields = Fields(include=["basket.*", "amount"])
    baseline = baseline_from_columns(training(), model_id="m", model_version="1", fields=fields)
    assert set(baseline.grid.names) == {"amount", "basket.items"}


def test_numeric_and_categorical_overrule_the_looks(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", training())
    columns = columns_of(built(path, Fields(numeric=["level", "row"], categorical=["basket.items", "tx"])))
    assert columns["level"].kind is Kind.NUMERIC
    assert columns["row"].kind is Kind.NUMERIC
    assert "8" in columns["basket.items"].categories
    assert columns["tx"].kind is Kind.CATEGORICAL


def test_warnings_tell_what_a_person_would_want_to_check() -> None:
    rows = 1200
    columns: Columns = {
        "x": [*rng().normal(size=rows - 1).tolist(), "?"],
        "shop": [f"shop {i % 5}" if i % 2 else f"once or twice {i // 4}" for i in range(rows)],
        SCORE: (rng().random(rows) * 100).tolist(),
    }
    table = ColumnTable(columns)
    warnings = build(table, model_id="m", model_version="1", fields=Fields(exclude=["debug.*"])).warnings
    assert any("'debug.*'" in warning for warning in warnings)
    assert any(warning.startswith("x: 1 of 1200 values are no numeric values") for warning in warnings)
    assert any(warning.startswith("shop: 600 of 1200 rows have a category beyond the 5 kept") for warning in warnings)
    assert any(warning.startswith(f"{SCORE}: some scores are outside") for warning in warnings)
    only_features = build(ColumnTable({"x": rng().normal(size=ROWS)}), model_id="m", model_version="1").warnings
    assert any("no column is a prediction" in warning for warning in only_features)


# ---- text of CSV ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "2.50", None, "-3e2", "+4", ".5"], [1, 2.5, None, -300, 4, 0.5]),
        (["true", "False", None, "TRUE"], [True, False, None, True]),
        (["01234", "12345"], ["01234", "12345"]),
        (["1_000", "2_000"], ["1_000", "2_000"]),
        (["0x1F", "1"], ["0x1F", "1"]),
        (["1", "one"], ["1", "one"]),
        (["true", "1"], ["true", "1"]),
        (["9007199254740993", "1"], [9007199254740993, 1]),
        ([" 7 ", "8"], [7, 8]),
        ([None, None], [None, None]),
        (["\u0661", "\u0662"], ["\u0661", "\u0662"]),
        ([*["1"] * 199, "n/a"], [*[1] * 199, "n/a"]),
    ],
)
def test_text_is_read_as_the_values_that_it_stands_for(cells: list[str | None], values: list[object]) -> None:
    array = objects(cells)
    listed = [None if value != value else value for value in read(array, reading_of(array)).tolist()]  # noqa: PLR0124
    assert listed == values
    assert [isinstance(value, bool) for value in listed] == [isinstance(value, bool) for value in values]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False), st.integers()), min_size=1))
def test_numbers_written_as_text_come_back(values: list[float | None]) -> None:
    cells = objects(None if value is None else str(value) for value in values)
    if any(value is not None for value in values):
        assert reading_of(cells) is Reading.NUMBERS
    listed = read(cells, Reading.NUMBERS).tolist()
    assert [None if value != value else value for value in listed] == values  # noqa: PLR0124


@given(st.lists(st.text(), min_size=1))
def test_text_that_stays_text_stays_as_it_is(values: list[str]) -> None:
    cells = objects(values)
    if reading_of(cells) is Reading.TEXT:
        assert read(cells, Reading.TEXT).tolist() == values


def test_empty_cells_and_nan_and_null_are_missing_but_na_is_a_country(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", {"c": ["", "nan", "null", "NA", "DE", "?"] * 100})
    assert counts_of(built(path, Fields()), "c") == [100, 100, 100, 0, 300, 0]
    table = open_table(path, missing=["NA", "?"])
    baseline = build(table, model_id="m", model_version="1").baseline
    assert baseline.grid.columns[0].categories == ("DE",)
    assert counts_of(baseline, "c") == [100, 0, 500, 0]


def test_a_quoted_cell_may_hold_delimiters_and_line_ends_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffa,b\n" + '"x,y\nz",1\n\n"w ""q""",2\n' * 100, encoding="utf-8")
    baseline = built(path, Fields())
    assert columns_of(baseline)["a"].categories == ('w "q"', "x,y\nz")
    assert baseline.summary.events == 200


def test_a_first_column_without_a_name_numbers_the_rows_and_is_left_out(tmp_path: Path) -> None:
    """As pandas and R write tables unless they are told not to."""
    path = tmp_path / "t.csv"
    path.write_text(",a,b\n" + "".join(f"{i},{i % 7},x\n" for i in range(200)), encoding="utf-8")
    baseline = built(path, Fields())
    assert columns_of(baseline).keys() == {"a", "b"}
    assert columns_of(baseline)["a"].kind is Kind.NUMERIC
    assert baseline.summary.events == 200


# ---- what is refused -----------------------------------------------------------------------------------------------


def header_and(lines: str) -> bytes:
    return ("a,b\n" + "1,2\n" * 10 + lines).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a,b,a\n1,2,3\n", "more than one column is named 'a'"),
        (b"a,,c\n1,2,3\n", "column 2 has no name"),
        (b"a;b\n1;2\n", "delimiter"),
        (header_and("1,2,3\n"), "line 12: 3 cells, the header has 2"),
        (header_and("1\n"), "line 12: 1 cells"),
        (header_and('"1,2\n'), "after line 11"),
        (header_and("") + b"\xff\xfe,2\n", "UTF-8"),
        (header_and(""), "10 rows"),
    ],
)
def test_a_broken_csv_is_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        built(path, Fields())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"", "unknown format"),
        ("t", b"", "unknown format"),
        ("t.parquet.gz", b"", "unknown format"),
        ("t.csv.gz", b"no gzip", "cannot be read"),
        ("t.csv.gz", gzip.compress(b"a,b\n" * 50)[:-12], "cannot be read"),
        ("t.parquet", b"no parquet", "as Parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        built(tmp_path / name, Fields())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        open_table(tmp_path / "t.csv")
    with pytest.raises(ConfigurationError, match="is a directory"):
        open_table(tmp_path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"streamdrift\[parquet\]"):
        open_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields(score="scor"), "did you mean 'score'"),
        (Fields(target="zzz"), "it has tx, amount"),
        (Fields(numeric=["amout"]), "did you mean 'amount'"),
        (Fields(score="score", value="score"), "two parts"),
        (Fields(score="score", target="score"), "two things"),
        (Fields(numeric=["level"], categorical=["level"]), "two things"),
        (Fields(numeric=["country"]), "could count as numeric"),
        (Fields(score="country"), "could count as prediction.score"),
        (Fields(include=["nothing"]), r"no column is left.*amount \(excluded\)"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(fields: Fields, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        baseline_from_columns(training(), model_id="m", model_version="1", fields=fields)


def test_two_columns_for_one_part_of_the_prediction_are_refused() -> None:
    columns: Columns = {**training(), SCORE: rng().random(ROWS)}
    with pytest.raises(ConfigurationError, match="more than one column"):
        baseline_from_columns(columns, model_id="m", model_version="1", fields=Fields(score="score"))


def test_columns_of_different_length_and_no_columns_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="same length"):
        baseline_from_columns({"a": [1, 2], "b": [1]}, model_id="m", model_version="1")
    with pytest.raises(ConfigurationError, match="0 rows"):
        baseline_from_columns({}, model_id="m", model_version="1")


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., int]:
    table = write_csv(tmp_path / "t.csv", training())

    def run(**options: Any) -> int:  # noqa: ANN401 — build_command's own
        output = options.pop("output", tmp_path / "new" / "fraud-7.json")
        return build_command(table, model="fraud", version="7", output=output, score="score", target="fraud", **options)

    return run


def test_the_command_writes_a_baseline_that_can_be_read(tmp_path: Path, command: Callable[..., int]) -> None:
    assert command() == 0
    written = Baseline.read(tmp_path / "new" / "fraud-7.json")
    assert written.id == built(tmp_path / "t.csv").id
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fraud-7.json"]


def test_the_report_for_people_names_what_is_not_watched(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command(exclude=["[a-z]*.items"])
    out, err = capsys.readouterr()
    assert "not watched: tx: identifier" in out
    assert "not watched: basket.items: excluded" in out
    assert "amount" in out
    assert err == ""


def test_the_report_for_programs_is_one_json_object(
    tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command(as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["baseline_id"] == Baseline.read(tmp_path / "new" / "fraud-7.json").id
    assert report["rows"] == ROWS
    assert {"name": "row", "reason": "counter"} in report["unmonitored"]
    assert {column["name"] for column in report["columns"]} >= {"amount", SCORE}


def test_an_existing_file_is_overwritten_on_request_only(tmp_path: Path, command: Callable[..., int]) -> None:
    (tmp_path / "b.json").write_text("mine")
    with pytest.raises(ConfigurationError, match="--force"):
        command(output=tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == "mine"
    assert command(output=tmp_path / "b.json", force=True) == 0
    Baseline.read(tmp_path / "b.json")


def test_an_output_that_cannot_be_written_is_a_clear_error(tmp_path: Path, command: Callable[..., int]) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        command(output=tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        command(output=tmp_path / "t.csv" / "b.json")


def test_errors_of_the_command_name_the_table_once(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", {"a": [1, 2]})
    with pytest.raises(ConfigurationError) as error:
        build_command(table, model="m", version="1", output=tmp_path / "b.json")
    assert str(error.value).count(str(table)) == 1


# ---- arrays, objects, long texts and several outputs ---------------------------------------------------------------


def nested_rows(count: int = 400) -> list[dict[str, Any]]:
    random = np.random.default_rng(7)
    words = ["late", "parcel", "never", "came", "thanks", "again", "broken", "box", "blue", "refund"]
    return [
        {
            "features": {
                "amount": float(random.lognormal()),
                "basket": {"items": int(random.integers(1, 9)), "kinds": ["a", "b"]},
                "embedding": random.normal(size=8).tolist() if i % 50 else None,
                "comment": " ".join(random.choice(words, size=random.integers(5, 60))) + f" {i}",
                "ragged": [1.0] * int(random.integers(2, 9)),
            },
            "prediction": {
                "probabilities": {"cat": float(random.random()), "dog": 0.5},
                "outputs": {"risk": {"score": float(random.random()), "label": ["low", "high"][i % 2]}},
                "trace": {"ms": 3},
            },
        }
        for i in range(count)
    ]


def test_arrays_objects_and_texts_are_watched_by_what_can_be_counted_of_them(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, nested_rows())).encode()))
    grid = build(open_table(path), model_id="m", model_version="1").baseline.grid
    assert grid.names == (
        "amount", "basket.items", "embedding.norm", *(f"embedding.projection_{i}" for i in range(8)),
        "comment.length", "prediction.probabilities.cat", "prediction.probabilities.dog",
        "prediction.outputs.risk.score", "prediction.outputs.risk.label",
    )  # fmt: skip
    reasons = {field.name: field.reason for field in grid.unmonitored}
    assert reasons == {"basket.kinds": "unsupported", "comment": "free text", "ragged": "unsupported",
                       "prediction.trace.ms": "unsupported"}  # fmt: skip
    assert grid.columns[2].dimension == 8


def test_a_table_counts_what_live_events_of_the_same_values_would(tmp_path: Path) -> None:
    events, path = nested_rows(), tmp_path / "events.jsonl"
    events[5]["features"]["embedding"] = [1.0, 2.0]
    events[6]["features"]["comment"] = 3
    path.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    baseline = build(open_table(path), model_id="m", model_version="1").baseline
    payloads = [encode_row(event["features"], event["prediction"]) for event in events]
    zeros = np.zeros(len(events))
    live = batch_of(baseline.grid, zeros.astype(np.uint64), zeros.astype(np.int64), payloads)
    summary = Summary.of(live)
    assert summary.counts.tolist() == baseline.summary.counts.tolist()
    assert summary.moments.limbs.tolist() == baseline.summary.moments.limbs.tolist()
    assert len(live.type_errors) == 9 + 1


def test_a_grid_is_the_same_from_a_table_and_from_the_rows_of_events() -> None:
    events = nested_rows()
    table = ColumnTable.of_rows([event["features"] for event in events])
    grid = build(table, model_id="m", model_version="1").baseline.grid
    fields = rows.columns_of([encode_row(event["features"], None) for event in events])
    learned = [c for (role, name), cells in fields.items() for c in gridding.columns_of(name, cells, role)]
    assert {c.name: c for c in learned if isinstance(c, Column)} == {c.name: c for c in grid.columns}


def test_a_field_that_is_named_as_a_derived_column_takes_its_place() -> None:
    plain = [event["features"] for event in nested_rows()]
    table = ColumnTable.of_rows([{**row, "comment.length": i % 7} for i, row in enumerate(plain)])
    grid = build(table, model_id="m", model_version="1").baseline.grid
    [column] = [column for column in grid.columns if column.name == "comment.length"]
    assert not column.derived


def test_a_column_that_looks_like_the_prediction_is_asked_about() -> None:
    columns = {"amount": [float(i % 97) for i in range(300)], "score": [i % 89 / 89 for i in range(300)]}
    built = build(ColumnTable(columns), model_id="m", model_version="1")
    assert any("--score score" in warning for warning in built.warnings)
    named = build(ColumnTable(columns), model_id="m", model_version="1", fields=Fields(score="score"))
    assert not any("--score" in warning for warning in named.warnings)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "empty"), ("{}\n[1]", "line 2: expected a JSON object"), ("{", "line 1"), ("\n\n{]", "line 3")],
)
def test_json_lines_that_cannot_be_read_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=complaint):
        open_table(path)


def test_lists_of_parquet_are_arrays(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    plain = [event["features"] for event in nested_rows()]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(plain), path)
    from_parquet = build(open_table(path), model_id="m", model_version="1").baseline
    from_memory = build(ColumnTable.of_rows(plain), model_id="m", model_version="1").baseline
    counted = {c.name: c for c in from_parquet.grid.columns}
    assert counted == {c.name: c for c in from_memory.grid.columns}
