"""A small model, and streams of its windows: what the test of a detector needs.

The model has two numbers, a category and a score. ``rows`` draws events that look like its training table;
a change is made by changing what was drawn::

    rng = np.random.default_rng(1)
    usual = window(small_reference(), rows(rng, 500))
    doubled = window(small_reference(), rows(rng, 500) | {"amount": 2 * rng.normal(40, 12, 500)})
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.detectors.detector import Detector, Finding
from streamdrift.events import Batch
from streamdrift.grids import SCORE, Grid, Kind
from streamdrift.summaries import Summary
from streamdrift.tables import baseline_from_columns
from streamdrift.windows import Reference, Window

MODEL: Final = ("shop", "3")
COUNTRIES: Final = ("DE", "FR", "IT", "PL")

Values = NDArray[Any]
Rows = dict[str, Values]
"""Values by column: numbers with NaN where there is none; names of categories with None."""


class Mistyped:
    """Stands for a value of the wrong type, whatever the column."""


MISTYPED: Final = Mistyped()


def rows(rng: np.random.Generator, n: int) -> Rows:
    """``n`` events as in the training table."""
    return {
        "amount": rng.normal(40, 12, n),
        "age_days": rng.exponential(300, n),
        "country": rng.choice(np.array(COUNTRIES, dtype=object), n, p=(0.4, 0.3, 0.2, 0.1)),
        SCORE: rng.beta(2, 8, n),
    }


@functools.cache
def small_baseline(n: int = 20_000) -> Baseline:
    model_id, version = MODEL
    return baseline_from_columns(rows(np.random.default_rng(0), n), model_id=model_id, model_version=version)


@functools.cache
def small_reference() -> Reference:
    return Reference(small_baseline())


def batch(grid: Grid, values: Mapping[str, Values], *, time_us: int = 0) -> Batch:
    """Events of equal length columns; columns of the grid that are not given are missing."""
    n = len(next(iter(values.values())))
    matrix = np.full((n, len(grid.columns)), np.nan)
    wrong: list[tuple[int, int]] = []
    unseen: list[tuple[int, int, str]] = []
    for i, column in enumerate(grid.columns):
        given = np.asarray(values.get(column.name, np.full(n, np.nan)))
        if given.dtype != object:
            matrix[:, i] = given
            continue
        codes = {name: code for code, name in enumerate(column.categories)}
        for row, value in enumerate(given.tolist()):
            if value is MISTYPED:
                wrong.append((row, i))
            elif column.kind is Kind.NUMERIC:
                matrix[row, i] = np.nan if value is None else value
            elif value is not None:
                matrix[row, i] = codes.get(value, len(codes))
                if value not in codes:
                    unseen.append((row, i, value))
    return Batch(
        grid,
        np.full(n, time_us, dtype=np.int64),
        np.arange(n, dtype=np.uint64) + np.uint64(time_us % 1_000_003),
        matrix,
        np.array(wrong, dtype=np.int64).reshape(-1, 2),
        tuple(unseen),
    )


def summary(grid: Grid, values: Mapping[str, Values], *, time_us: int = 0) -> Summary:
    """The same as what travels between the stages, with the raw scores that River is fed."""
    return Summary.of(batch(grid, values, time_us=time_us), {SCORE})


def window(reference: Reference, values: Mapping[str, Values]) -> Window:
    """The same as what a detector is given."""
    return reference.reduce(summary(reference.grid, values))


def some(values: Values, share: float, value: object) -> Values:
    """The values, with the first ``share`` of them replaced: rows are in random order anyway."""
    changed = values.astype(object)
    changed[: round(share * len(values))] = value
    return changed


Stream = Iterable[tuple[int, Window | None]]
"""Closed ticks in order; None for one without events."""


def told(detector: Detector, stream: Stream) -> Iterator[tuple[int, Finding]]:
    """Everything that the detector says, with the tick at whose close it says it."""
    for tick, events in stream:
        for finding in detector.close(tick, events):
            yield tick, finding


def with_due(detector: Detector, stream: Stream) -> Iterator[tuple[int, Finding]]:
    """The same, from the ticks with events and those that are due: as a monitor closes them."""
    for tick, events in stream:
        if events is None and (detector.due() is None or tick < (detector.due() or 0)):
            continue
        yield from told(detector, [(tick, events)])


def plain(finding: Finding) -> object:
    """A finding that can be compared with another."""
    seen = finding.window
    counted = None if seen is None else (seen.events, seen.counts.tolist(), seen.moments.limbs.tolist(), seen.names)
    return replace(finding, window=None), counted


def through_msgpack(state: object) -> Any:  # noqa: ANN401 — whatever the state is made of
    """A state as it comes back from the state topic."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), strict=False)
