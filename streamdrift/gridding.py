"""From the values of a training column to the way it is counted, or to the reason why it is not.

Pure functions of the values in table order. ``column_of`` decides; below it stand the parts: what is set
aside, the edges of numbers, the names of categories.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift import cells
from streamdrift.derived import Vector, condensed, derived_value
from streamdrift.grids import MAX_BINS, PROJECTIONS, Column, Derived, Kind, Role, Unmonitored, part_kind
from streamdrift.summaries.names import MAX_LENGTH

FEW_VALUES: Final = 5
"""Numbers with at most so many distinct values are categories."""
MIN_REPEATS: Final = 4
"""… if each stands there so often on average: five values of five rows are no categories."""
MIN_JUDGED: Final = 30
"""Fewer values than this are never taken for an identifier or a counter: they could be so by chance."""
MAX_CATEGORIES: Final = 200
"""Categories of a column that are counted by name; the rest counts as unseen, live as in the table."""
MIN_NAMED: Final = 20
"""Among more categories than that, only those seen so often: the others would be there by luck and fade."""
MIN_COVERED: Final = 0.1
"""A column of which the named categories cover less than this is not watched: nearly all would be unseen."""

MARGINS: Final = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Distances of the edges beyond the bulk of the values, in widths of the bulk, so that strays are graded."""
INNER_BINS: Final = MAX_BINS - 2 * (len(MARGINS) + 1)
"""Bins inside the seen range. The edges at both its ends come on top of the margins."""
_UNITS_IN_RANGE: Final = 20
"""log2 of the number of moment units in the width of the bulk."""
_UNIT_EXPONENTS: Final = (-1074, 1003)


class Reason(StrEnum):
    """Why a field is not watched."""

    ALL_MISSING = "all missing"
    COUNTER = "counter"
    EXCLUDED = "excluded"
    FEW_VALUES = "too few values"
    FREE_TEXT = "free text"
    IDENTIFIER = "identifier"
    MANY_CATEGORIES = "too many categories"
    TARGET = "target"
    TIMESTAMP = "timestamp"
    TOO_MANY = "too many columns"
    UNSUPPORTED = "unsupported"


def columns_of(
    name: str, values: NDArray[Any], role: Role = Role.FEATURE, kind: Kind | None = None
) -> list[Column | Unmonitored]:
    """How a field is counted: as one column; an array of numbers, and the length of free text, as derived ones.

    As ``column_of``. A field that is given a ``kind`` is one column.
    """
    if role is Role.FEATURE and kind is None and (dimension := _dimension(values)):
        norm = Column(f"{name}.norm", Kind.NUMERIC, derived=Derived.NORM, dimension=dimension)
        projections = (
            Column(f"{name}.projection_{i}", Kind.NUMERIC, derived=Derived.PROJECTION, index=i, dimension=dimension)
            for i in range(PROJECTIONS)
        )
        return [_cut(column, values) for column in (norm, *projections)]
    column = column_of(name, values, role, kind)
    if isinstance(column, Unmonitored) and column.reason == Reason.FREE_TEXT:
        return [column, _cut(Column(f"{name}.length", Kind.NUMERIC, derived=Derived.LENGTH), values)]
    return [column]


def distinct(columns: Sequence[Column]) -> list[Column]:
    """The columns without derived ones that are named as a field is (``comment.length`` beside ``comment``)."""
    fields = {column.name for column in columns if not column.derived}
    return [column for column in columns if not column.derived or column.name not in fields]


def _dimension(values: NDArray[Any]) -> int:
    """The length that (nearly) all values have, which are arrays; 0 if there is none."""
    if values.dtype.kind != "O":
        return 0
    lengths = Counter(value.dimension if isinstance(value, Vector) else 0 for value in values[~cells.missing(values)])
    [(dimension, count)] = lengths.most_common(1) or [(0, 0)]
    return dimension if count >= cells.MOSTLY * lengths.total() else 0


def _cut(column: Column, values: NDArray[Any]) -> Column:
    """The derived column with edges and units for its values, of which there are some."""
    x, _ = encode(column, values)
    x = x[~np.isnan(x)]
    exponent, center = moment_unit(x)
    return msgspec.structs.replace(column, edges=tuple(edges_of(x).tolist()), unit_exponent=exponent, center=center)


def column_of(
    name: str, values: NDArray[Any], role: Role = Role.FEATURE, kind: Kind | None = None
) -> Column | Unmonitored:
    """How a column is counted, or why it is not.

    ``values``: a row each, in table order (see ``cells``). ``kind``: what the user says that the column is; it is
    then set aside only if nothing in it can be counted, and so are the parts of the prediction.
    """
    present = values[~cells.missing(values)]
    kind = kind or (part_kind(name) if role is Role.PREDICTION else None)
    if not len(present):
        return Unmonitored(name, Reason.ALL_MISSING)
    if present.dtype.kind == "M" and kind is None:
        return Unmonitored(name, Reason.TIMESTAMP)
    x, wrong = cells.numbers(present)
    if (kind or _kind(x)) is Kind.NUMERIC:
        return _numeric(name, role, present[~wrong], x[~wrong], given=kind is not None)
    return _categorical(name, role, cells.names(present), given=kind is not None)


def encode(column: Column, values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values as a batch holds them (numbers, or category numbers), and which are of a wrong type. Shape (n,) each."""
    if column.derived:
        derived = [derived_value(column, condensed(value)) for value in values.tolist()]
        x = np.array([np.nan if value is None else value for value in derived], dtype=np.float64)
        return x, np.array([value is None for value in derived], dtype=np.bool_)
    if column.kind is Kind.NUMERIC:
        return cells.numbers(values)
    index = {name: float(i) for i, name in enumerate(column.categories)}
    unseen = float(len(column.categories))
    names = cells.names(values).tolist()
    codes = np.array([np.nan if name is None else index.get(name, unseen) for name in names], dtype=np.float64)
    return codes, np.isnan(codes) & ~cells.missing(values)


def _kind(x: NDArray[np.float64]) -> Kind:
    """Numbers are numeric unless they are few values again and again; all else is categorical. NaN: no number."""
    numeric = np.isfinite(x).mean() >= cells.MOSTLY
    distinct = len(np.unique(x[np.isfinite(x)]))
    few = distinct <= min(FEW_VALUES, len(x) / MIN_REPEATS)
    return Kind.NUMERIC if numeric and not few else Kind.CATEGORICAL


def _numeric(name: str, role: Role, raw: NDArray[Any], x: NDArray[np.float64], *, given: bool) -> Column | Unmonitored:
    """``raw`` are the numbers as they stand in the table, ``x`` the same as float64."""
    reason = Reason.UNSUPPORTED if not len(x) else None if given else _reason_of_numbers(raw, x)
    if reason is not None:
        return Unmonitored(name, reason)
    exponent, center = moment_unit(x)
    edges = tuple(edges_of(x).tolist())
    return Column(name, Kind.NUMERIC, role, edges=edges, unit_exponent=exponent, center=center)


def _categorical(name: str, role: Role, names: NDArray[np.object_], *, given: bool) -> Column | Unmonitored:
    """``names`` of the values that are there; None where one has no name."""
    named = [n for n in names.tolist() if n is not None]
    if len(named) < len(names) / 2:
        return Unmonitored(name, Reason.UNSUPPORTED)
    counts = Counter(named)
    categories = categories_of(counts) or (categories_of(counts, at_least=1) if given else ())
    reason = None if given else _reason_of_text(named, counts)
    if reason is None and not given and sum(counts[c] for c in categories) < MIN_COVERED * len(named):
        reason = Reason.MANY_CATEGORIES
    return Unmonitored(name, reason) if reason else Column(name, Kind.CATEGORICAL, role, categories=categories)


# ---- what is set aside ---------------------------------------------------------------------------------------------

_DATE: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[Zz]|UTC|[-+]\d{2}:?\d{2})?)?"
    r"|\d{1,2}[/.]\d{1,2}[/.]\d{4}(?:,? \d{1,2}:\d{2}.*)?|\d{8}T\d{6}Z?",
    re.ASCII,
)
_WORDS_OF_TEXT: Final = 3
"""Mean number of words from which values that hardly repeat are text rather than names."""
_HARDLY_REPEATS: Final = 0.5
_DAY: Final = 86_400.0
_YEAR: Final = 365.25 * _DAY
_EPOCHS: Final = (1e9, 2.2e9)
"""Epoch seconds of 2001 to 2039. Finer units have so many digits that the range may be wider: see ``_is_time``."""


def _reason_of_text(names: list[str], counts: Counter[str]) -> Reason | None:
    if sum(n for name, n in counts.items() if _DATE.fullmatch(name)) >= cells.MOSTLY * len(names):
        return Reason.TIMESTAMP
    if len(names) < MIN_JUDGED or len(counts) <= _HARDLY_REPEATS * len(names):
        return None
    words = sum(len(name.split()) for name in counts) / len(counts)
    return Reason.FREE_TEXT if words >= _WORDS_OF_TEXT else Reason.IDENTIFIER


def _reason_of_numbers(raw: NDArray[Any], x: NDArray[np.float64]) -> Reason | None:
    if len(x) < MIN_JUDGED:
        return None
    if _is_time(x):
        return Reason.TIMESTAMP
    if _is_monotone(x):
        return Reason.COUNTER
    return Reason.IDENTIFIER if _are_integers(raw) and _is_identifier(raw, x) else None


def _is_monotone(x: NDArray[np.float64]) -> bool:
    """Whether (nearly) every step in table order goes the same way. Ties are no steps: sorted features have them."""
    steps = np.sign(np.diff(x / 2))  # halves: the difference of two large numbers must not overflow
    return bool(max((steps > 0).mean(), (steps < 0).mean()) >= 0.999)  # noqa: PLR2004 — room for rows out of place


def _is_time(x: NDArray[np.float64]) -> bool:
    """Whether all numbers are epoch times (s, ms, µs, ns) or dates written YYYYMMDD, in any order."""
    low, high = float(x.min()), float(x.max())
    if any(low >= scale * 1e9 and high < scale * 4.1e9 for scale in (1e3, 1e6, 1e9)):
        return True
    if _EPOCHS[0] <= low and high < _EPOCHS[1]:
        distinct = len(np.unique(x)) > _HARDLY_REPEATS * len(x)
        return distinct and _DAY <= high - low <= 20 * _YEAR
    if low < 19_000_101 or high > 21_001_231 or (x % 1).any():  # noqa: PLR2004 — YYYYMMDD
        return False
    month, day = x // 100 % 100, x % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())  # noqa: PLR2004


def _are_integers(raw: NDArray[Any]) -> bool:
    if raw.dtype.kind in "iu":
        return True
    if raw.dtype.kind == "O":
        return all(isinstance(v, int) or (abs(v) < cells.EXACT and v == int(v)) for v in raw.tolist())
    # Large floats have no fraction left: that makes them no integers.
    return bool(((np.abs(raw) < cells.EXACT) & (raw % 1 == 0)).all())


def _is_identifier(raw: NDArray[Any], x: NDArray[np.float64]) -> bool:
    """Whether integers name things. Amounts in cents hardly repeat either, so being distinct is not enough.

    They do if they are *too* distinct: independent integers of this density would make at least 20 equal pairs, and
    there is not a quarter of them (Poisson: once in 10,000 columns), as with shuffled row numbers. Sparse ones cannot
    prove it so: they must be distinct and either longer than a float64 or evenly spread over more than 10**8.
    """
    n, ordered = len(x), np.sort(x)
    _, counts = np.unique(raw, return_counts=True)
    pairs = float((counts * (counts - 1) / 2).sum())
    if len(counts) <= _HARDLY_REPEATS * n:
        return False
    if _expected_pairs(ordered) >= max(20, 4 * pairs):
        return True
    low, high = ordered[0], ordered[-1]
    if pairs > n // 1000:
        return False
    if max(abs(low), abs(high)) >= cells.EXACT:
        return True
    uneven = np.abs((ordered - low) / (high - low) - np.arange(n) / (n - 1)).max() * np.sqrt(n)
    return bool(high - low >= 1e8 and uneven < 1.63)  # noqa: PLR2004 — Kolmogorov–Smirnov at the 1 % level


def _expected_pairs(ordered: NDArray[np.float64]) -> float:
    """How many pairs of equal integers are to be expected if they were drawn independently with this density."""
    step = 20  # values that share one estimate of the density
    ends = ordered[: len(ordered) // step * step + 1 : step]
    widths = np.maximum(np.diff(ends), step)
    return float((step * step / 2 / widths).sum())


# ---- categories ----------------------------------------------------------------------------------------------------


def categories_of(counts: Counter[str], at_least: int = MIN_NAMED) -> tuple[str, ...]:
    """The categories that are counted by name: the most frequent first, equally frequent ones by name.

    Of more than ``MAX_CATEGORIES``, those that were seen ``at_least`` so often. Names longer than ``MAX_LENGTH`` are
    none, whatever their count: they would fill every summary.
    """
    ranked = sorted((name for name in counts if len(name) <= MAX_LENGTH), key=lambda name: (-counts[name], name))
    if len(ranked) > MAX_CATEGORIES:
        ranked = [name for name in ranked if counts[name] >= at_least]
    return tuple(ranked[:MAX_CATEGORIES])


# ---- numbers -------------------------------------------------------------------------------------------------------


def edges_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bin edges for finite numbers, strictly ascending, fewer than ``MAX_BINS``. Shape (edges,).

    Inside the seen range at most ``INNER_BINS`` bins of similar mass; every value that alone has the mass of a
    bin has its own. Outside: one edge at each end of the range, and margins that widen geometrically. Edges lie half
    way between neighbouring values, so that noise in the last digit moves nothing into another bin.
    """
    values, counts = np.unique(x, return_counts=True)
    below, above = values[:-1], values[1:]
    cut = boundaries(counts, INNER_BINS)
    middle = below[cut] / 2 + above[cut] / 2
    # Between neighbouring floats there is no middle, and halves of subnormals are rounded.
    inner = np.where((below[cut] <= middle) & (middle < above[cut]), middle, below[cut])
    edges = np.unique(np.concatenate((-_margin(-x, -values[0]), inner, _margin(x, values[-1]))))
    return edges + 0.0  # -0.0 equals 0.0 but is written differently: equal grids must have equal ids


def _margin(x: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """Edges above the seen range, whose end is ``top``, and above the bulk of the values. At most 6, in any order."""
    low, high = _bulk(x)
    width = _width(low, high)
    step = np.ldexp(1.0, _unit_exponent(width))
    with np.errstate(over="ignore"):
        end = min(top + step, sys.float_info.max)
        end = end if end > top else np.nextafter(top, np.inf)
        edges = np.concatenate(([end], high + width * np.array(MARGINS)))
    return edges[np.isfinite(edges)]


def boundaries(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Indices of the distinct values behind which a bin ends, for at most ``limit`` bins of similar mass.

    ``counts``: of the distinct values in ascending order, all positive. A value with the mass of a bin stands alone,
    and the other bins share what is left, so that a feature that is mostly 0 keeps its resolution elsewhere.
    """
    if len(counts) <= limit:
        return np.arange(len(counts) - 1)
    total = int(counts.sum())
    for parts in range(limit, 1, -1):  # ends early: only heavy values cost more bins than parts
        heavy = np.flatnonzero(counts * parts >= total)
        light = counts.copy()
        light[heavy] = 0
        ends = np.cumsum(light)
        quantiles = np.searchsorted(ends, np.arange(1, parts) * (int(ends[-1]) / parts))
        cuts = np.unique(np.concatenate((quantiles, heavy, heavy - 1)))
        cuts = cuts[(cuts >= 0) & (cuts < len(counts) - 1)]
        if len(cuts) < limit:
            return cuts
    return np.empty(0, dtype=np.int64)


def moment_unit(x: NDArray[np.float64]) -> tuple[int, float]:
    """Exponent of the unit in which finite numbers are summed, and the center that counts as 0 (see ``Column``).

    The unit follows the bulk of the values: one stray of 1e300 must not cost the mean its precision. The center is
    a multiple of the unit near the median, so that x - center is exact for 1e9 ± 1.
    """
    low, high = _bulk(x)
    exponent = _unit_exponent(_width(low, high))
    median = float(np.sort(x)[len(x) // 2])
    with np.errstate(over="ignore"):
        units = np.ldexp(median, -exponent)
    # From 2**53 units on a float64 is a multiple of the unit already.
    center = median if abs(units) >= cells.EXACT else float(np.ldexp(np.trunc(units), exponent))
    return exponent, center + 0.0


def _bulk(x: NDArray[np.float64]) -> tuple[float, float]:
    """The range of all but the outermost thousandth of the numbers on each side; never empty by mere ties."""
    ordered = np.sort(x)
    outside = (len(x) - 1) // 1000
    low, high = float(ordered[outside]), float(ordered[len(x) - 1 - outside])
    return (low, high) if low < high else (float(ordered[0]), float(ordered[-1]))


def _width(low: float, high: float) -> float:
    """Width of the bulk, or of a constant's surroundings: positive and finite."""
    if low == high:
        return abs(low) or 1.0
    return min(high - low, sys.float_info.max)


def _unit_exponent(width: float) -> int:
    return int(np.clip(np.frexp(width)[1] - _UNITS_IN_RANGE, *_UNIT_EXPONENTS))
