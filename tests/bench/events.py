"""Events to measure with: any number of features, their values as real services write them.

Of 20 features 17 are numbers (amounts, counts, ratios of 17 digits, float32 values, rounded measurements; a few of
them null now and then), two are categories and one is a boolean; with 200, ten times as many of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from tests.bench.jobs import MODEL_ID, MODEL_VERSION, feature_types

Message = tuple[str, bytes, int]
"""Key, value and event time in microseconds."""

START_US: Final = round(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1e6)
CHUNK: Final = 4096

_SEED: Final = 20
_NULLABLE: Final = 5
"""Every fifth number may be null."""
_NULL_SHARE: Final = 0.02
_CITIES: Final = ("Berlin", "Hamburg", "München", "Köln", "Bremen", "Leipzig", "Dresden", "Mainz", "Kiel", "Ulm")

_DRAWN: Final[Mapping[str, Callable[[Generator, int], NDArray[Any]]]] = {
    "amount": lambda rng, n: np.round(np.exp(3.5 + 0.9 * rng.standard_normal(n)), 2),
    "count": lambda rng, n: rng.poisson(12.0, n),
    "ratio": lambda rng, n: 1 / (1 + np.exp(-rng.standard_normal(n))),
    "signal": lambda rng, n: rng.standard_normal(n).astype(np.float32).astype(np.float64),
    "measure": lambda rng, n: np.round(20 + 3 * rng.standard_normal(n), 3),
}


def training_table(features: int, rows: int = 20_000) -> dict[str, Sequence[Any]]:
    """Rows to make the baseline from, by the name of the column."""
    rng = default_rng([_SEED, 1])
    columns = _columns(rng, feature_types(features), rows)
    scores, labels = _predictions(rng, rows)
    return {**columns, "prediction.score": scores, "prediction.label": labels}


def messages(features: int, count: int, events_per_second: float) -> Iterator[Message]:
    """JSON events, with the prediction's id as key, in the order of time, the same on every call."""
    types = feature_types(features)
    step_us = 1e6 / events_per_second
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        rng = default_rng([_SEED, 2, start])
        # A whole chunk is drawn even for a part, so that the first events do not depend on how many there are.
        columns = _columns(rng, types, CHUNK)
        scores, labels = _predictions(rng, CHUNK)
        rows = zip(*columns.values(), strict=True)
        for i, row, score, label in zip(range(size), rows, scores, labels, strict=False):
            time_us = START_US + int((start + i) * step_us) // 1000 * 1000
            prediction_id = f"{(start + i) * 0x9E3779B97F4A7C15 % (1 << 64):016x}"
            event = {
                "prediction_id": prediction_id,
                "model_id": MODEL_ID,
                "model_version": MODEL_VERSION,
                "timestamp": _rfc3339(time_us),
                "features": dict(zip(types, row, strict=True)),
                "prediction": {"label": label, "score": score},
            }
            yield prediction_id, msgspec.json.encode(event), time_us


def moved(value: bytes) -> bytes:
    """An event as services write it that never heard of the contract: nested otherwise, and without its model."""
    event = msgspec.json.decode(value)
    return msgspec.json.encode(
        {
            "meta": {"id": event["prediction_id"], "ts": event["timestamp"]},
            "request": {"inputs": event["features"]},
            "response": event["prediction"],
        }
    )


def malformed(value: bytes, number: int) -> bytes:
    """What may arrive instead of an event: half of one, no JSON, no object, or an object that is no event."""
    return (value[: len(value) // 2], b"ERROR " + value[:200], b"[" + value + b"]", b'{"event": ' + value + b"}")[
        number % 4
    ]


def _columns(rng: Generator, types: Mapping[str, type], n: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for place, (name, kind) in enumerate(types.items()):
        if kind is float:
            values = _DRAWN[name.partition("_")[0]](rng, n)
            columns[name] = _with_nulls(rng, values) if place % _NULLABLE == 1 else values.tolist()
        elif kind is str:
            columns[name] = [_CITIES[i] for i in np.minimum(rng.geometric(0.3, n) - 1, len(_CITIES) - 1).tolist()]
        else:
            columns[name] = (rng.random(n) < 0.3).tolist()
    return columns


def _with_nulls(rng: Generator, values: NDArray[Any]) -> list[Any]:
    gaps = values.astype(object)
    gaps[rng.random(len(values)) < _NULL_SHARE] = None
    listed: list[Any] = gaps.tolist()
    return listed


def _predictions(rng: Generator, n: int) -> tuple[list[float], list[str]]:
    scores = np.round(1 / (1 + np.exp(2 - 1.2 * rng.standard_normal(n))), 6)
    return scores.tolist(), np.where(scores > 0.3, "fraud", "legit").tolist()


def _rfc3339(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_us // 1000 % 1000:03}Z"
