"""River's detectors on a history find what they find when they are run by hand, at a bounded cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from river import drift

from streamdrift.events import Batch
from streamdrift.grids import Column, Grid, Kind, blind_grid
from streamdrift.replay import rivals
from streamdrift.replay.rivals import Rivals
from streamdrift.rows import encode_row

GRID = Grid(
    "m",
    "1",
    (Column("a", Kind.NUMERIC), Column("b", Kind.CATEGORICAL, categories=("x",)), Column("c", Kind.NUMERIC)),
)


def stream(rows: int = 3_000) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(rows, 3))
    values[rows // 2 :, 0] += 2.0
    values[::7, 2] = np.nan
    return values


def batch(values: np.ndarray[Any, np.dtype[np.float64]], start: int = 0, grid: Grid = GRID) -> Batch:
    count = len(values)
    return Batch(
        grid,
        np.arange(start, start + count, dtype=np.int64) * 1_000_000,
        np.zeros(count, np.uint64),
        values,
        np.zeros((0, 2), dtype=np.int64),
    )


def by_hand(detector: Any, values: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:  # noqa: ANN401 — River has no types
    found = []
    for place, value in enumerate(values.tolist()):
        if value == value:  # noqa: PLR0124 — NaN
            detector.update(value)
            if detector.drift_detected:
                found.append(place * 1_000_000)
    return found


def times(compared: Rivals) -> dict[tuple[str, str], list[int]]:
    return {(column, detector): found.times_us for _, column, detector, found in compared.streams()}


def test_what_is_found_is_what_river_finds_value_by_value() -> None:
    values, compared = stream(), Rivals(3_000)
    for start in range(0, 3_000, 700):
        compared.observe(batch(values[start : start + 700], start))
        compared.feed()
    found = times(compared)
    assert found.keys() == {(column, detector) for column in "ac" for detector in ("ADWIN", "PageHinkley", "KSWIN")}
    for column, place in (("a", 0), ("c", 2)):
        assert found[column, "ADWIN"] == by_hand(drift.ADWIN(), values[:, place])  # type: ignore[no-untyped-call]
        assert found[column, "PageHinkley"] == by_hand(drift.PageHinkley(), values[:, place])
        assert found[column, "KSWIN"] == by_hand(drift.KSWIN(seed=1), values[:, place])
    assert found["a", "ADWIN"]


def test_events_from_before_there_was_a_grid_are_shown_too() -> None:
    values = stream()
    present = ({"a": a} if np.isnan(c) else {"a": a, "c": c} for a, _, c in values[:1_000].tolist())
    rows = tuple(encode_row(features, None) for features in present)
    blind = Batch(
        blind_grid("m", "1"),
        np.arange(1_000, dtype=np.int64) * 1_000_000,
        np.zeros(1_000, np.uint64),
        np.full((1_000, 2), np.nan),
        np.zeros((0, 2), dtype=np.int64),
        rows=rows,
    )
    whole, late = Rivals(3_000), Rivals(3_000)
    whole.observe(batch(values))
    whole.feed()
    late.observe(blind)
    late.feed()
    late.observe(batch(values[1_000:], 1_000))
    late.feed()
    assert times(late) == times(whole)


def test_what_waits_for_a_grid_is_shown_at_the_end() -> None:
    values = stream(500)[:, :1]
    rows = tuple(encode_row({"a": a}, None) for [a] in values.tolist())
    blind = replace(batch(np.full((500, 2), np.nan), grid=blind_grid("m", "1")), rows=rows)
    compared = Rivals(500)
    compared.observe(blind)
    compared.feed()
    assert compared.streams() == []
    compared.close(("m", "1"), Grid("m", "1", (Column("a", Kind.NUMERIC),)))
    assert times(compared)["a", "ADWIN"] == by_hand(drift.ADWIN(), values[:, 0])  # type: ignore[no-untyped-call]
    assert times(compared)["a", "ADWIN"]


def test_a_history_of_many_values_is_compared_in_part_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "VALUES", {"ADWIN": 10_000, "KSWIN": 500})
    compared = Rivals(3_000)
    compared.observe(batch(stream()))
    compared.feed()
    summary = compared.summary()
    assert (summary["ADWIN"]["features"], summary["ADWIN"]["values"]) == (2, 3_000 + 3_000 - 429)
    assert (summary["KSWIN"]["features"], summary["KSWIN"]["of_features"], summary["KSWIN"]["values"]) == (1, 2, 500)
    assert summary["KSWIN"]["feature_weeks"] == pytest.approx(499 / (7 * 86_400))
