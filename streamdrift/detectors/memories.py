"""Memories: exponentially weighted sums of counts, each over another number of events.

A memory of M events forgets: what it holds is multiplied by e^(−a/M) when a more events come. Of counts c it keeps the
sum S, and of their totals n the sum of weights N and of their squares V::

    S ← S·e^(−a/M) + c        N ← N·e^(−a/M) + n        V ← V·e^(−2a/M) + n

so that S/N is the distribution over about the last M events, as sure as one of N²/V events of equal weight (2M, once it
has seen more than that). Short memories see large changes at once, long ones see small changes later. A memory is
looked at each time that it has passed: a change that it shows at its best is not missed for want of a look.

Source: Roberts 1959, "Control chart tests based on geometric moving averages"; Kish 1965 for N²/V.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.errors import StateError
from streamdrift.packing import pack_floats, unpack_floats

SHORTEST: Final = 128
"""Events of the shortest memory: fewer say nothing of a whole distribution."""
RATIO: Final = 4
"""Of neighbouring memories."""
BETWEEN_LOOKS: Final = 1
"""Memories that pass between two looks at one."""
FADED: Final = 1e-6
"""Weight of a row, in events, below which nothing is left of it: long before sums and weights underflow, each alone."""


def ladder(longest: float) -> list[float]:
    """Lengths in events: 128, 512, 2,048, … up to ``longest``, two at least."""
    lengths = [float(SHORTEST), float(SHORTEST * RATIO)]
    while lengths[-1] * RATIO <= longest:
        lengths.append(lengths[-1] * RATIO)
    return lengths


class Memories:
    """Memories of several lengths over ``rows`` rows of ``bins`` counts each."""

    def __init__(self, lengths: Sequence[float], rows: int, bins: int) -> None:
        self.lengths = np.asarray(lengths, dtype=np.float64)
        size = len(self.lengths)
        self.sums = np.zeros((size, rows, bins), dtype=np.float32)
        self.weights = np.zeros((size, rows), dtype=np.float32)
        self.squares = np.zeros((size, rows), dtype=np.float32)
        """S, N and V above. Shapes (memories, rows, bins), (memories, rows) twice."""
        self._since = np.zeros(size)
        """Events since the last look at each memory."""

    def add(self, counts: NDArray[np.float32], totals: NDArray[np.float32], events: int) -> None:
        """Take the counts, shape (rows, bins), and their totals, shape (rows,), of ``events`` events."""
        decays = np.exp(-events / self.lengths).astype(np.float32)
        self.sums *= decays[:, None, None]
        self.sums += counts
        self.weights *= decays[:, None]
        self.weights += totals
        self.squares *= (decays * decays)[:, None]
        self.squares += totals
        self._since += events
        faded = (self.weights < FADED) & (self.weights > 0)
        if faded.any():
            self.sums[faded], self.weights[faded], self.squares[faded] = 0.0, 0.0, 0.0

    def due(self, at_least: float = 0.0) -> Iterator[tuple[int, float]]:
        """The memories that are to be looked at now, the shortest first, and the events since their last look.

        These are ``at_least`` so many.
        """
        for place in np.flatnonzero(self._since >= np.maximum(BETWEEN_LOOKS * self.lengths, at_least)).tolist():
            events, self._since[place] = float(self._since[place]), 0.0
            yield place, events

    def shares(self, place: int | list[int]) -> NDArray[np.float32]:
        """S/N of one memory or of several, 0 in rows without any weight. Shape (…, rows, bins)."""
        weights = self.weights[place]
        inverse = (1 / np.where(weights > 0, weights, 1)).astype(np.float32)
        shares: NDArray[np.float32] = self.sums[place] * inverse[..., None]
        return shares

    def effective(self, place: int | list[int]) -> NDArray[np.float64]:
        """N²/V of one memory or of several, in events. Shape (…, rows)."""
        weights, squares = self.weights[place].astype(np.float64), self.squares[place]
        return np.asarray(weights * weights / np.where(squares > 0, squares, 1.0), dtype=np.float64)

    def forget(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in some rows."""
        self.sums[:, rows] = 0.0
        self.weights[:, rows] = 0.0
        self.squares[:, rows] = 0.0

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Let go of the memories that are not chosen. Shape (memories,)."""
        self.lengths, self._since = self.lengths[chosen], self._since[chosen]
        self.sums, self.weights, self.squares = self.sums[chosen], self.weights[chosen], self.squares[chosen]

    def state(self) -> MemoriesState:
        """Everything, to the bit."""
        return MemoriesState(
            self.lengths.tolist(),
            self._since.tolist(),
            pack_floats(self.sums),
            pack_floats(self.weights),
            pack_floats(self.squares),
        )

    def restore(self, state: MemoriesState) -> None:
        """Raises ``StateError`` for the state of other rows or bins."""
        _, rows, bins = self.sums.shape
        size = len(state.lengths)
        try:
            sums = unpack_floats(state.sums, (size, rows, bins), np.float32)
            weights, squares = (
                unpack_floats(data, (size, rows), np.float32) for data in (state.weights, state.squares)
            )
        except ValueError as error:
            raise StateError(f"memories do not fit {rows} rows of {bins} bins: {error}") from None
        if len(state.since) != size:
            raise StateError("memories are not as many as they say")
        self.lengths, self._since = np.array(state.lengths), np.array(state.since)
        self.sums, self.weights, self.squares = sums, weights, squares


class MemoriesState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Memories in a snapshot."""

    lengths: list[float]
    since: list[float]
    sums: bytes
    weights: bytes
    squares: bytes
