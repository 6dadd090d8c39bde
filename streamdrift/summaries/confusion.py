"""Confusion counts: how often each class was predicted when each class was the true one.

Classes that the outcome grid names are counted each, whatever comes. Of all other names those with the smallest hashes
are counted by name, and the rest as ``__other__``: the smallest of a union are the smallest of the parts' smallest, so
a name that is kept was never folded anywhere and its counts are exact. Whether a prediction was right stays exact too:
where both names are folded, the predicted one becomes ``__other__`` if it was the true one, else ``__another__``.

Taking outcomes back gives the counts back, but not the places of names that were seen: an unknown name stays in
``unknown`` with nothing counted under it. Where all classes are known, and wherever what is taken back was added
before, ``a + b - b == a``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.summaries.names import MAX_LENGTH, rank

OTHER: Final = "__other__"
"""Where outcomes of names beyond the bound are counted."""
ANOTHER: Final = "__another__"
"""The predicted class where both are beyond the bound and differ."""
FOLDED: Final = (OTHER, ANOTHER)
MAX_UNKNOWN: Final = 32
"""Names kept that no grid knows."""

Cell = tuple[str, str]
"""(true class, predicted class)."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Outcomes by true and predicted class."""

    known: tuple[str, ...]
    """The grid's classes."""
    unknown: tuple[str, ...]
    """The others ever counted, ``MAX_UNKNOWN`` at most, in the order of their hashes."""
    cells: Mapping[Cell, int]
    """None of them 0."""

    @classmethod
    def empty(cls, known: tuple[str, ...]) -> Confusion:
        return cls(known, (), {})

    @classmethod
    def of(cls, known: tuple[str, ...], counts: Mapping[Cell, int]) -> Confusion:
        """Counts by class, of whatever names."""

        def cut(name: str) -> str:
            return name if name in known else name[:MAX_LENGTH]

        cells = _added(((cut(true), cut(predicted)), n) for (true, predicted), n in counts.items())
        return cls._bound(known, {name for cell in cells for name in cell}, cells)

    @classmethod
    def _bound(cls, known: tuple[str, ...], names: Iterable[str], cells: Mapping[Cell, int]) -> Confusion:
        unknown = tuple(nsmallest(MAX_UNKNOWN, set(names).difference(known, FOLDED), key=rank))
        kept = {*known, *unknown}
        if any(true not in kept or predicted not in kept for true, predicted in cells):
            cells = _added((_folded(cell, kept), n) for cell, n in cells.items())
        return cls(known, unknown, cells)

    def __add__(self, other: Confusion) -> Confusion:
        cells = _added((*self.cells.items(), *other.cells.items()))
        return self._bound(self.known, (*self.unknown, *other.unknown), cells)

    def __neg__(self) -> Confusion:
        return Confusion(self.known, self.unknown, {cell: -n for cell, n in self.cells.items()})

    def __sub__(self, other: Confusion) -> Confusion:
        return self + -other

    @property
    def n(self) -> int:
        """Outcomes whose prediction named a class."""
        return sum(self.cells.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that has outcomes, and all known ones: known ones in the grid's order, others by name."""
        counted = {name for cell in self.cells for name in cell}
        strangers = sorted(counted.difference(self.known, FOLDED))
        return (*self.known, *strangers, *(name for name in FOLDED if name in counted))

    def matrix(self) -> NDArray[np.int64]:
        """Outcomes by true class (rows) and predicted class (columns), in the order of ``classes``."""
        place = {name: i for i, name in enumerate(self.classes)}
        matrix = np.zeros((len(place), len(place)), dtype=np.int64)
        for (true, predicted), n in self.cells.items():
            matrix[place[true], place[predicted]] = n
        return matrix


def _folded(cell: Cell, kept: Collection[str]) -> Cell:
    true, predicted = cell
    if true in kept or predicted in kept:
        return true if true in kept else OTHER, predicted if predicted in kept else OTHER
    # A name that is folded already differs from one that was kept until now.
    return OTHER, OTHER if true == predicted else ANOTHER


def _added(items: Iterable[tuple[Cell, int]]) -> dict[Cell, int]:
    cells: dict[Cell, int] = {}
    for cell, n in items:
        cells[cell] = cells.get(cell, 0) + n
    return {cell: n for cell, n in cells.items() if n}
