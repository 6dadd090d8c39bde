"""Which column of a table is what: as the user says, else as the names of columns usually mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC
from difflib import get_close_matches
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.cells import objects
from streamdrift.codecs import Source, TimestampUnit
from streamdrift.codecs.times import event_times
from streamdrift.errors import ConfigurationError
from streamdrift.grids import LABEL, SCORE, VALUE
from streamdrift.records import NO_TIMESTAMP

USUAL: Final[Mapping[str, Sequence[str]]] = {
    "timestamp": ("timestamp", "event_time", "event_timestamp", "time", "ts", "datetime", "date_time", "date"),
    "prediction_id": ("prediction_id",),
    "model_id": ("model_id",),
    "model_version": ("model_version",),
    "score": (
        SCORE,
        "score",
        "prediction_score",
        "y_score",
        "y_pred_proba",
        "y_proba",
        "predicted_probability",
        "probability",
    ),
    "label": (LABEL, "predicted_label", "prediction", "y_pred"),
    "value": (VALUE, "predicted_value"),
    "target": ("target", "label", "y_true", "true_label", "ground_truth", "class", "y"),
}
"""Names that a column of each role usually has, the surest first; upper and lower case are the same."""
_EARLIEST: Final = 10**8
"""Seconds since the epoch (1973) from which on a column of numbers may be taken for times by its name alone."""
_PERIODS_US: Final = {
    "second": 10**6,
    "minute": 60 * 10**6,
    "hour": 3_600 * 10**6,
    "day": 86_400 * 10**6,
    "week": 7 * 86_400 * 10**6,
}


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of the columns that are no features; None where there is none."""

    timestamp: str | None = None
    prediction_id: str | None = None
    model_id: str | None = None
    model_version: str | None = None
    score: str | None = None
    label: str | None = None
    """The predicted class."""
    value: str | None = None
    """The predicted number."""
    target: str | None = None
    """The true class or number."""

    def items(self) -> Iterator[tuple[str, str]]:
        """(role, column) of the roles that there are."""
        for role in fields(self):
            column = getattr(self, role.name)
            if column is not None:
                yield role.name, column

    @property
    def parts(self) -> Mapping[str, str]:
        """The columns of the prediction by the names of its parts."""
        return {part: column for part, column in self.items() if part in {"score", "label", "value"}}

    def __str__(self) -> str:
        return ", ".join(f"{role.replace('_', ' ')}: {column}" for role, column in self.items())


def roles_of(names: Sequence[str], given: Roles) -> Roles:
    """The roles of columns with these names; what was ``given`` must be among them. Raises ``ConfigurationError``."""
    taken = dict(given.items())
    for role, column in taken.items():
        if column not in names:
            near = get_close_matches(column, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names[:20])}"
            raise ConfigurationError(f"the table has no column {column!r} ({role.replace('_', ' ')}){hint}")
    if twice := sorted({column for column in taken.values() if [*taken.values()].count(column) > 1}):
        raise ConfigurationError(f"column {twice[0]!r} cannot be two things at once")
    by_name = {name.lower(): name for name in reversed(names)}
    for role, usual in USUAL.items():
        found = [by_name[name] for name in usual if by_name.get(name) not in {None, *taken.values()}]
        if role not in taken and found:
            taken[role] = found[0]
    return Roles(**taken)


def without_false_times(roles: Roles, given: Roles, values: NDArray[np.object_]) -> Roles:
    """The same without a column that is called a time, but holds none; ``values`` are its first ones."""
    if roles.timestamp is None or given.timestamp is not None:
        return roles
    times, wrong = times_of(values)
    numbers = all(isinstance(value, int | float) for value in values.tolist() if value is not None)
    plausible = len(wrong) * 2 < len(values) and not (numbers and np.abs(times).max() < _EARLIEST * 10**6)
    return roles if plausible else replace(roles, timestamp=None)


def times_of(values: NDArray[np.object_] | NDArray[np.datetime64]) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Microseconds since the epoch of shape (n,), and what is wrong by row. Times that name no zone are UTC."""
    if values.dtype.kind == "M":
        times = values.astype("datetime64[us]").astype(np.int64)
        return times, dict.fromkeys(np.flatnonzero(np.isnat(values)).tolist(), "there is no time")
    if values.dtype.kind != "O":
        values = objects(values.tolist())
    said = [value if value == value else None for value in values.tolist()]  # noqa: PLR0124 — NaN
    return event_times(_TIMES, [said], lambda _: NO_TIMESTAMP)


_TIMES: Final = Source("table", unit=TimestampUnit.AUTO, zone=UTC)


def interval_us(rate: str) -> Fraction:
    """Microseconds between two rows at a rate such as ``100 per second``. Raises ``ValueError``.

    >>> interval_us("2 per minute")
    Fraction(30000000, 1)
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) per ([a-z]+)", rate.strip())
    if match is None or match[2] not in _PERIODS_US or not Fraction(match[1]):
        raise ValueError("expected a number per second, minute, hour, day or week, for example 100 per second")
    return _PERIODS_US[match[2]] / Fraction(match[1])
