"""Errors of a model that was trained on one concept and then frozen: River's synthetic streams, with known changes.

A generator draws the same rows for every one of its concepts, and only labels them in another way. So rows, the frozen
model's answers and the labels of all concepts are made once, and each change of concept is a choice among the labels::

    rows         │ training │              the stream               │
    concept      │    a     │  a  a  a  a  a  a │ b  b  b  b  b  b  │   abrupt
                 │          │  a  a  a  a  a  b │ a  b  a  b  b  b  │   gradual: b by chance, which rises as a sigmoid
    errors       │          │  answers of the model for a ≠ label   │
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river.datasets import synth
from sklearn.naive_bayes import GaussianNB

Floats = NDArray[np.float64]
TRAINING: Final = 5_000
"""Rows that the model is trained on."""


@dataclass(frozen=True, slots=True)
class Generator:
    """One of River's synthetic streams."""

    name: str
    concepts: int
    make: Callable[[int, int], Any]
    """From a concept and a seed."""


GENERATORS: Final = (
    Generator("Sine", 4, lambda concept, seed: synth.Sine(concept, seed=seed)),
    Generator("Mixed", 2, lambda concept, seed: synth.Mixed(concept, seed=seed)),
    Generator("SEA", 4, lambda concept, seed: synth.SEA(concept, seed=seed)),
    # As in Street & Kim 2001, who made it.
    Generator("SEA, 10 % noise", 4, lambda concept, seed: synth.SEA(concept, noise=0.1, seed=seed)),
    Generator("Agrawal", 10, lambda concept, seed: synth.Agrawal(concept, seed=seed)),
)


@dataclass(frozen=True, slots=True)
class Change:
    """From one concept to another, at ``at`` values after the start."""

    before: int
    after: int
    at: int
    width: int = 0
    """Values over which the share of the new concept rises from 12 % to 88 %, with half of it at ``at``; 0: abrupt."""

    @property
    def begins(self) -> int:
        """From which value on the new concept is seen: where its share is 1 %."""
        return self.at - round(1.15 * self.width)

    def is_new(self, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which values are of the new concept, by the sigmoid of Bifet et al. 2009 (as ``ConceptDriftStream``)."""
        since = np.arange(n) - self.at
        if not self.width:
            return since >= 0
        return rng.random(n) < 1 / (1 + np.exp(-4 * since / self.width))


@dataclass(frozen=True)
class Frozen:
    """A naive Bayes model for each concept of a generator, frozen, and what all concepts say of the rows after."""

    generator: Generator
    seed: int
    length: int
    """Rows after the training."""

    @cached_property
    def _errors(self) -> NDArray[np.bool_]:
        """Whether the model of a concept (first axis) errs if the labels are of another (second). Shape (a, b, n)."""
        labels, rows = [], np.empty(0)
        for concept in range(self.generator.concepts):
            stream = self.generator.make(concept, self.seed)
            drawn = list(islice(stream, TRAINING + self.length))
            rows = np.array([list(x.values()) for x, _ in drawn], dtype=np.float64)
            labels.append(np.array([bool(y) for _, y in drawn]))
        answers = [GaussianNB().fit(rows[:TRAINING], label[:TRAINING]).predict(rows[TRAINING:]) for label in labels]
        return np.array([[answer != label[TRAINING:] for label in labels] for answer in answers])

    def changes(self, at: int, width: int) -> Iterator[Change]:
        """From every concept to every other one."""
        for before, after in permutations(range(self.generator.concepts), 2):
            yield Change(before, after, at, width)

    def rate(self, trained: int, labelled: int) -> float:
        """Error rate of the model of one concept on labels of another, over all rows."""
        return float(self._errors[trained, labelled].mean())

    def unchanged(self, concept: int) -> Floats:
        """The errors while nothing changes. Shape (length,)."""
        return np.asarray(self._errors[concept, concept], dtype=np.float64)

    def changed(self, change: Change, start: int, n: int) -> Floats:
        """The errors of ``n`` rows from ``start`` on, in which the concept changes. Shape (n,)."""
        kept, new = self._errors[change.before, [change.before, change.after], start : start + n]
        is_new = change.is_new(n, np.random.default_rng([self.seed, change.before, change.after]))
        return np.asarray(np.where(is_new, new, kept), dtype=np.float64)


def in_bursts(n: int, seed: int) -> Floats:
    """Errors that come in bursts: at 5 % or 35 %, each for fifty values on average. Shape (n,).

    The order of real labels is never that of independent ones: they are filed by customer, by shift, by region.
    """
    rng = np.random.default_rng(seed)
    bad = np.cumsum(rng.random(n) < 0.02) % 2 == 1
    return (rng.random(n) < np.where(bad, 0.35, 0.05)).astype(np.float64)
