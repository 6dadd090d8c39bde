"""What is said of the shape of a distribution, on changes that have a name."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from streamdrift.reshaping import reshaped

Floats = NDArray[np.float64]
EDGES = np.quantile(np.random.default_rng(0).normal(size=200_000), np.arange(1, 32) / 32)

SHAPES: dict[str, tuple[float, Callable[[Generator, int], Floats]]] = {
    "as it was": (1.0, lambda rng, n: rng.normal(size=n)),
    "wide": (1.5, lambda rng, n: 1.5 * rng.normal(size=n)),
    "narrow": (0.5, lambda rng, n: 0.5 * rng.normal(size=n)),
    "two peaks": (1.0, lambda rng, n: 0.8 * rng.choice([-1.0, 1.0], n) + 0.6 * rng.normal(size=n)),
    "heavy tails": (1.0, lambda rng, n: rng.standard_t(3, n) / np.sqrt(3)),
    "stuck": (1.0, lambda rng, n: np.where(rng.random(n) < 0.05, 0.7, rng.normal(size=n))),
}
"""Standard deviations, and values; the baseline is as it was."""


def said(shape: str, seed: int, n: int = 5_000) -> str:
    rng = np.random.default_rng(seed)
    sd, drawn = SHAPES[shape]
    sides = rng.normal(size=50_000), drawn(rng, n)
    before, after = (np.bincount(np.searchsorted(EDGES, side), minlength=32) for side in sides)
    return reshaped(before, after, EDGES, (1.0, sd))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("wide", r"its spread grew 1\.5 times \(sd 1 → 1\.5\)"),
        ("narrow", r"its spread shrank to 50 % \(sd 1 → 0\.5\)"),
        ("two peaks", "fewer values lie in the middle, more on both sides of it: two peaks"),
        ("heavy tails", "more values lie in the middle and far from it: heavier tails"),
        (
            "stuck",
            r"[78](\.\d)? % of its values lie between 0\.\d+ and 0\.\d+ \(\d(\.\d)? % before\), as if one .*",
        ),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_change_of_shape_is_called_what_it_is(shape: str, words: str, seed: int) -> None:
    assert re.fullmatch(words, said(shape, seed))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_said_of_chance(seed: int) -> None:
    assert said("as it was", seed, n=1_000) == ""


def test_nothing_is_said_where_there_is_nothing() -> None:
    nothing = np.zeros(32, dtype=np.int64)
    assert reshaped(nothing, nothing, EDGES, (0.0, 0.0)) == ""
    assert reshaped(np.array([100]), np.array([100]), np.zeros(0), (0.0, 0.0)) == ""
