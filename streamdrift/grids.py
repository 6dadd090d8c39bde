"""Grids say how values are counted; baselines are counts on a grid.

A *grid* belongs to one model version: the type of every column, the bin edges of numeric columns and the
categories of the others. It never changes once it is in use. A *baseline* is the summary of the training
table on that grid, so that baseline and live traffic are the same kind of object.

The slots of a column, and of all columns one after the other in a flat vector of counts::

    | bin 0 | bin 1 | … | bin b-1 | unseen | missing | type error |
      numeric: bin i holds edges[i-1] < x <= edges[i]; categorical: one bin a category
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_BINS: Final = 128
"""Most bins of a numeric column: fine enough to merge to equal mass later, small enough to send each tick."""

_PREDICTION: Final = "prediction."

SPECIAL_SLOTS: Final = 3
"""Slots behind the bins of each column: unseen category, missing value, value of the wrong type."""
UNSEEN, MISSING, TYPE_ERROR = range(SPECIAL_SLOTS)

NO_GRID: Final = ""
"""Grid id of summaries of a model version that has no baseline."""


class Role(StrEnum):
    """What a column is to the model."""

    FEATURE = "feature"
    PREDICTION = "prediction"


class Kind(StrEnum):
    """How the values of a column are counted."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


PROJECTIONS: Final = 8
"""Directions along which arrays of numbers are watched."""


class Derived(StrEnum):
    """What of its source a column counts: see ``streamdrift.derived``."""

    NOTHING = ""
    NORM = "norm"
    PROJECTION = "projection"
    LENGTH = "length"


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One monitored stream of values: a feature, or a part of the prediction.

    ``name`` is the flattened path for features (``basket.items``) and ``prediction.score``,
    ``prediction.label`` or ``prediction.value`` for predictions. Numeric values x are summed as integers
    round((x - center) / 2**unit_exponent); the unit is about the baseline's range / 2**20.

    A derived column is named after its source: ``embedding.norm``, ``embedding.projection_0`` (of the arrays with
    ``dimension`` numbers), ``comment.length`` (of a text, in characters).
    """

    name: str
    kind: Kind
    role: Role = Role.FEATURE
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    unit_exponent: int = 0
    center: float = 0.0
    derived: Derived = Derived.NOTHING
    index: int = 0
    """Which projection."""
    dimension: int = 0

    def __post_init__(self) -> None:
        self._check_derivation()
        if self.kind is Kind.NUMERIC:
            if self.categories:
                raise ValueError(f"{self.name}: a numeric column has edges, not categories")
            if len(self.edges) >= MAX_BINS:
                raise ValueError(f"{self.name}: {len(self.edges) + 1} bins, at most {MAX_BINS} are allowed")
            edges = np.asarray(self.edges, dtype=np.float64)
            if not np.isfinite(edges).all() or (edges[1:] <= edges[:-1]).any():
                raise ValueError(f"{self.name}: edges must be finite and strictly ascending")
            if not (np.isfinite(self.center) and -1074 <= self.unit_exponent <= 1003):  # noqa: PLR2004 — the exponents of float64
                raise ValueError(f"{self.name}: center and unit_exponent must be finite")
        elif self.edges or self.unit_exponent or self.center or len(set(self.categories)) != len(self.categories):
            raise ValueError(f"{self.name}: a categorical column has distinct categories, and neither edges nor units")
        if self.role is Role.PREDICTION and not self.name.startswith(_PREDICTION):
            raise ValueError(f"{self.name}: the name of a part of the prediction begins with {_PREDICTION}")

    def _check_derivation(self) -> None:
        if not self.derived:
            if self.index or self.dimension:
                raise ValueError(f"{self.name}: only a derived column has an index or a dimension")
            return
        if self.kind is not Kind.NUMERIC or not self.name.endswith(f".{self.suffix}"):
            raise ValueError(f"{self.name}: the {self.derived} is numeric, and its name ends with .{self.suffix}")
        of_text = self.derived is Derived.LENGTH
        last = PROJECTIONS - 1 if self.derived is Derived.PROJECTION else 0
        if not (0 <= self.index <= last and (self.dimension == 0 if of_text else self.dimension > 1)):
            raise ValueError(f"{self.name}: index or dimension of the {self.derived} are out of bounds")

    @property
    def suffix(self) -> str:
        """What a derived column's name has behind that of its source."""
        return f"{self.derived}_{self.index}" if self.derived is Derived.PROJECTION else str(self.derived)

    @property
    def source(self) -> str:
        """Name of the field whose values are counted."""
        return self.name.removesuffix(f".{self.suffix}") if self.derived else self.name

    @property
    def known_as(self) -> tuple[str, ...]:
        """The names by which it can be chosen: its own, and that of its source."""
        return (self.name, self.source) if self.derived else (self.name,)

    @property
    def bins(self) -> int:
        """Number of ordinary bins (the special slots not counted)."""
        return len(self.edges) + 1 if self.kind is Kind.NUMERIC else len(self.categories)

    @property
    def slots(self) -> int:
        """Number of slots in the flat vector of counts."""
        return self.bins + SPECIAL_SLOTS


class Unmonitored(msgspec.Struct, frozen=True):
    """A field that is deliberately not watched, and why (``identifier``, ``counter``, ``timestamp``, …)."""

    name: str
    reason: str


class Grid(msgspec.Struct, frozen=True, dict=True):
    """How the values of one model version are counted."""

    model_id: str
    model_version: str
    columns: tuple[Column, ...]
    unmonitored: tuple[Unmonitored, ...] = ()
    blind: bool = False
    """Whether this stands in for a grid that is not known: see ``blind_grid``."""

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"model {self.model_id}: a column stands twice in the grid")

    @cached_property
    def id(self) -> str:
        """Content id: the same grid has the same id wherever it was made; ``NO_GRID`` for a blind one."""
        return NO_GRID if self.blind else content_id(msgspec.json.encode(self))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Start of each column in the flat vector, and its length at the end. Shape (columns + 1,)."""
        return np.concatenate(([0], np.cumsum([column.slots for column in self.columns], dtype=np.int64))).astype(
            np.int64
        )

    @property
    def slots(self) -> int:
        """Length of the flat vector of counts."""
        return int(self.offsets[-1])

    @cached_property
    def specials(self) -> NDArray[np.int64]:
        """Flat indices of (unseen, missing, type error) of each column. Shape (columns, 3)."""
        return self.offsets[1:, None] - SPECIAL_SLOTS + np.arange(SPECIAL_SLOTS)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def units(self) -> NDArray[np.float64]:
        """Size of one moment unit of each column, in the column's own unit. Shape (columns,)."""
        return np.ldexp(1.0, np.array([column.unit_exponent for column in self.columns], dtype=np.int64))

    @cached_property
    def centers(self) -> NDArray[np.float64]:
        """Value that is summed as 0, per column. Shape (columns,)."""
        return np.array([column.center for column in self.columns], dtype=np.float64)

    @cached_property
    def cuts(self) -> tuple[NDArray[np.float64], ...]:
        """What divides the values of each column into its bins, numbers of categories too: (cuts,) a column.

        Values up to ``cuts[0]`` are in the first bin; unseen categories, numbered behind the last, are in one more.
        """
        return tuple(
            np.asarray(column.edges if column.kind is Kind.NUMERIC else range(column.bins), dtype=np.float64)
            for column in self.columns
        )

    @cached_property
    def ladder(self) -> NDArray[np.float64]:
        """``cuts``, each filled up with infinity to the same power of two. Shape (columns, more than any has cuts)."""
        width = 1 << max(map(len, self.cuts), default=0).bit_length()
        ladder = np.full((len(self.cuts), width), np.inf)
        for row, cuts in zip(ladder, self.cuts, strict=True):
            row[: len(cuts)] = cuts
        return ladder

    @cached_property
    def last_bins(self) -> NDArray[np.int64]:
        """Slot of the values beyond all cuts of each column. Shape (columns,)."""
        return self.offsets[:-1] + np.array([len(cuts) for cuts in self.cuts], dtype=np.int64)

    @cached_property
    def categorical(self) -> NDArray[np.int64]:
        """Which columns are. Shape (categorical columns,)."""
        return np.flatnonzero([column.kind is Kind.CATEGORICAL for column in self.columns])

    @cached_property
    def column_of_slot(self) -> NDArray[np.int64]:
        """Index of the column that each slot belongs to. Shape (slots,)."""
        return np.repeat(np.arange(len(self.columns)), np.diff(self.offsets))


SCORE: Final = "prediction.score"
LABEL: Final = "prediction.label"
VALUE: Final = "prediction.value"


_PART: Final = re.compile(
    r"prediction\.(?:outputs\..+\.)?(?:(?P<number>score|value|probabilities\..+)|label)", re.DOTALL
)


def part_kind(name: str) -> Kind | None:
    """How a part of the prediction is counted, whatever its values look like; None if the name is not of one.

    Parts are ``prediction.score``, ``.label``, ``.value``, ``.probabilities.<class>``, and the same of one among
    several outputs: ``prediction.outputs.<output>.score``.
    """
    match = _PART.fullmatch(name)
    return None if match is None else Kind.NUMERIC if match["number"] else Kind.CATEGORICAL


def blind_grid(model_id: str, model_version: str) -> Grid:
    """The grid of a model without a baseline: score and value are counted, not binned; features are not read."""
    return Grid(
        model_id,
        model_version,
        tuple(Column(name, Kind.NUMERIC, Role.PREDICTION, unit_exponent=-20) for name in (SCORE, VALUE)),
        blind=True,
    )


def content_id(data: bytes) -> str:
    """Sixteen hexadecimal digits that name a content."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def category_name(value: str | bool | float) -> str:  # noqa: FBT001 — a value of an event, not a switch
    """The name under which a value counts as a category: ``true``, ``3`` (for 3 and 3.0), ``0.5``, or the text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)  # of any size
    return str(int(value)) if float(value).is_integer() else repr(float(value))
