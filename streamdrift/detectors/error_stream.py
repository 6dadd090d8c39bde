"""Concept drift on the errors of a model: River finds that they changed, fresh errors say by how much.

The stream is what a label says of a prediction, in the order of the labels: 1 for a wrong class and 0 for the right
one, or |error| of a number. River's ADWIN cuts it where its level changed. What the model did before the first cut is
the *reference*; what came after the latest cut is *current*, and decides::

    errors      ········▪·········▪······|▪·▪··▪▪·▪··▪·▪▪·|······▪···········
                ├─ reference 0.10 ─┤ held ▲├─ current 0.45 ▲├─ current 0.10 ──
                                    back  River cuts        River cuts
    alarm                                     ├────────────────────►│ recovered

An alarm asks for both: a cut, and then fresh values that are beyond what the reference's own noise explains. No value
that made River cut is counted, so the level that is told is that of the drift and not of the luck that found it. With
S the sum of n current values, μ, σ² and n₀ the reference's mean, long-run variance and values, an alarm begins when

    |S − nμ| ≥ √(1 + n/n₀) · √(σ²·(n + ρ)·(ln((n + ρ)/ρ) + 2·ln(1/α)))    and    |S/n − μ| ≥ ``minimum_effect``

with α = 0.001 and ρ = 64 (Robbins' normal mixture: the chance that an unchanged level ever crosses it is at most α,
however often it is looked at). It ends once the level of 1,024 values or more, give or take two standard errors, is
within half of what was told of, or within twice the minimum; while it lasts the level is that of at most 4,096. σ²
comes from means of blocks of 64 values, so that errors that come in bursts do not pass for many independent ones.
Levels below the reference alarm likewise: the labels follow another concept, although the model happens to be right
about it more often; ``worse`` tells them apart.

The reference needs 1,536 values, of which it takes the first 1,024, and stops growing at 16,384: what drifts slowly
shall not become usual. Values enter it only once half as many newer ones have passed without a cut. After a cut that
came to nothing, what is current joins it once there are as many.

Real errors have any unit and tail, and ADWIN's bound is for values in [0, 1]. So they are watched as e/(e + m), with m
the median of the first 512; levels that are told of stay means of |error|, in the unit of the outcome.

>>> rng = np.random.default_rng(1)
>>> stream = ErrorStream(ErrorStreamConfig(binary=True))
>>> for tick, rate in enumerate([0.1] * 6 + [0.3] * 4 + [0.1] * 4):
...     said = stream.close(tick, (rng.random(500) < rate).astype(float))
...     if said.changed:
...         print(tick, said.sentence)
6 error rate rose from 0.094 to 0.3
12 error rate is close to 0.094 again

Why ADWIN, and what it finds beside River's other detectors: ``python -m tests.bench.error_streams``.

Source: Bifet & Gavaldà 2007, "Learning from time-changing data with adaptive windowing"; Robbins 1970, "Statistical
methods related to the law of the iterated logarithm"; Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform,
nonparametric, nonasymptotic confidence sequences"; for the variance from block means, Carlstein 1986, "The use of
subseries values for estimating the variance of a general statistic from a stationary sequence".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.river import LARGEST, RiverDetector, RiverSpec, validate
from streamdrift.errors import StateError

DEFAULT: Final = RiverSpec("drift.ADWIN", {"delta": 0.01})
"""A fifth of the confidence that River asks for by default: a cut alone opens nothing."""
MINIMUM_EFFECT: Final = 0.01
"""One more error in a hundred predictions."""
BLOCK: Final = 64
"""Values that are looked at together."""
LEARNED: Final = 16
"""Blocks of the reference from which on anything is compared with it."""
FROZEN: Final = 256
"""Blocks at which the reference stops growing."""
RENEWED: Final = 64
"""Blocks of which the level of an alarm is: it shall say what is, and not what was."""
SCALED: Final = 512
"""Real errors whose median is the scale."""
ALPHA: Final = 0.001
RHO: Final = 64.0
RECOVERED: Final = 0.5
"""Share of what was told of that the level may still be away from the reference for an alarm to end."""


@dataclass(frozen=True, slots=True)
class ErrorStreamConfig:
    """How the errors of one model are watched."""

    binary: bool
    """Whether they are 0 and 1, as those of classes are."""
    river: RiverSpec = DEFAULT
    minimum_effect: float = MINIMUM_EFFECT
    """Smallest change that alarms: of the error rate, or of the mean of e/(e + m)."""


@dataclass(frozen=True, slots=True)
class ErrorShift:
    """Where the errors stand at the close of a tick."""

    alarm: bool
    changed: bool
    """Whether the alarm began or ended in this tick. One that did both is not told of."""
    worse: bool
    """Whether there are more errors than in the reference, or larger ones."""
    before: float | None
    """Error rate, or mean |error|, of the reference; None while it is learned."""
    after: float | None
    """The same since the latest cut; None if there was none, or less than a block of values since."""
    n_before: int
    n_after: int
    onset: int | None
    """The tick of the cut that the alarm goes back to; after it, of the latest cut."""
    evidence_ratio: float
    """Distance of the level from the reference over the bound of an alarm, 0 without a cut."""
    detections: int
    """Cuts in this tick."""
    binary: bool

    @property
    def sentence(self) -> str:
        """What a person is told: ``error rate rose from 0.094 to 0.3``."""
        name = "error rate" if self.binary else "mean absolute error"
        if self.before is None or self.after is None or not (self.alarm or self.changed):
            return f"{name} is as it was" if self.before is not None else f"{name} is not known yet"
        before, after = f"{self.before:.2g}", f"{self.after:.2g}"
        if not self.alarm:
            return f"{name} is close to {before} again"
        return f"{name} {'rose' if self.worse else 'fell'} from {before} to {after}"


_Count = Annotated[int, msgspec.Meta(ge=0)]
_Sum = Annotated[float, msgspec.Meta(ge=0, le=1e300)]


class _Level(msgspec.Struct, array_like=True):
    """Blocks of values, added up."""

    blocks: _Count = 0
    total: _Sum = 0.0
    squares: _Sum = 0.0
    """Sum of the values' squares."""
    spread: _Sum = 0.0
    """Sum of the squares of the blocks' means."""
    told: _Sum = 0.0
    """Sum of the values in the unit that they are told of in."""

    def __add__(self, other: _Level) -> _Level:
        return _Level(
            self.blocks + other.blocks,
            self.total + other.total,
            self.squares + other.squares,
            self.spread + other.spread,
            self.told + other.told,
        )

    @property
    def n(self) -> int:
        return BLOCK * self.blocks

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Long-run variance of a value, not below that of independent ones, of which half a one and a zero are added.

        Without these, a model that never erred would have none, and its first error would be beyond every bound.
        """
        mean, n = (self.total + 0.5) / (self.n + 1), self.n
        independent = (self.squares + 0.5) / (n + 1) - mean * mean
        of_blocks = (self.spread - self.blocks * self.mean**2) / (self.blocks - 1)
        return max(independent, BLOCK * of_blocks)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(self.variance / self.n)


class _State(msgspec.Struct):
    binary: bool
    scale: _Sum | None
    scaling: Annotated[list[_Sum], msgspec.Meta(max_length=SCALED)] = []
    partial: Annotated[list[tuple[_Sum, _Sum]], msgspec.Meta(max_length=BLOCK)] = []
    """Values of the block that is not full yet, as watched and as told."""
    reference: _Level = msgspec.field(default_factory=_Level)
    waiting: _Level = msgspec.field(default_factory=_Level)
    recent: _Level = msgspec.field(default_factory=_Level)
    current: _Level | None = None
    """Since the latest cut, or the one before until a block has come."""
    cut: bool = False
    """Whether the next block begins a new ``current``."""
    onset: int | None = None
    told: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    """By how much the level was away from the reference when an alarm was last sure; None without an alarm."""
    left_out: _Count = 0

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for levels that no values had."""
        if self.current is not None and not self.current.blocks:
            raise ValueError("a current level of no values")
        if (self.cut or self.current is not None) and self.reference.blocks < LEARNED:
            raise ValueError("a current level, and nothing to compare it with")


@dataclass(slots=True)
class ErrorStream:
    """The errors of one model version, value by value. Depends on the values and their order alone.

    Raises:
        ValueError: for a detector that there is not, or that cannot take such errors.
    """

    config: ErrorStreamConfig
    _river: RiverDetector = field(init=False, repr=False)
    _state: _State = field(init=False, repr=False)

    def __post_init__(self) -> None:
        validate(self.config.river)
        if self.config.river.binary and not self.config.binary:
            raise ValueError(f"{self.config.river.class_name} takes 0 and 1, and errors of numbers are neither")
        if not 0 < self.config.minimum_effect < 1:
            raise ValueError(f"minimum_effect: expected a number between 0 and 1, got {self.config.minimum_effect}")
        self._river = RiverDetector(self.config.river)
        self._state = _State(self.config.binary, 0.0 if self.config.binary else None)

    @property
    def left_out(self) -> int:
        """How many values were none: not finite, negative, or of a classifier and neither 0 nor 1."""
        return self._state.left_out

    def close(self, tick: int, values: NDArray[np.float64]) -> ErrorShift:
        """Take the errors of a tick in the order of ``Pairs.series``, shape (n,); where they stand then."""
        alarm = self._state.told is not None
        detections = 0
        watched, told = self._watched(values)
        start = 0
        for index in self._river.feed(watched):
            self._count(watched[start : index + 1], told[start : index + 1])
            self._cut(tick)
            start, detections = index + 1, detections + 1
        self._count(watched[start:], told[start:])
        return self._shift(alarm, detections)

    def _watched(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is watched of the next values, and what is told of them."""
        state = self._state
        usable = np.isin(values, (0.0, 1.0)) if self.config.binary else (values >= 0) & (values <= LARGEST)
        state.left_out += int((~usable).sum())
        values = values[usable]
        if self.config.binary:
            return values, values
        if state.scale is None:
            state.scaling += values.tolist()
            if len(state.scaling) < SCALED:
                return np.empty(0), np.empty(0)
            values, state.scaling = np.array(state.scaling), []
            state.scale = float(np.median(values[:SCALED]))
        # Where most errors were 0, what is watched is how many are not.
        return np.divide(values, values + state.scale, out=np.zeros(len(values)), where=values > 0), values

    def _count(self, watched: NDArray[np.float64], told: NDArray[np.float64]) -> None:
        pairs = self._state.partial + list(zip(watched.tolist(), told.tolist(), strict=True))
        full = len(pairs) // BLOCK * BLOCK
        for start in range(0, full, BLOCK):
            self._take(_level(pairs[start : start + BLOCK]))
        self._state.partial = pairs[full:]

    def _take(self, block: _Level) -> None:
        state = self._state
        if state.cut or state.current is not None:
            anew = state.cut or state.current is None or (state.told is not None and state.current.blocks >= RENEWED)
            state.current = block if anew or state.current is None else state.current + block
            state.cut = False
            self._judge(state.current)
            return
        state.recent += block
        if state.recent.blocks >= max(LEARNED, state.reference.blocks) // 2:
            if state.reference.blocks < FROZEN:
                state.reference += state.waiting
            state.waiting, state.recent = state.recent, _Level()

    def _cut(self, tick: int) -> None:
        """River found that the level changed: what follows is compared with what was before, if that is known."""
        state = self._state
        state.partial, state.waiting, state.recent = [], _Level(), _Level()
        if state.reference.blocks < LEARNED:
            state.reference = _Level()
            return
        state.cut = True
        if state.told is None:
            state.onset = tick

    def _judge(self, current: _Level) -> None:
        state = self._state
        away, minimum = current.mean - state.reference.mean, self.config.minimum_effect
        if self._evidence(current) >= 1 and abs(away) >= minimum:
            state.told = away
        elif state.told is not None:
            near = max(2 * minimum, RECOVERED * abs(state.told))
            sure = current.blocks >= LEARNED
            if sure and abs(away) + 2 * math.sqrt(state.reference.variance / current.n) <= near:
                state.told = None
        elif current.blocks >= state.reference.blocks and abs(away) < max(minimum, state.reference.error):
            # As many values as the reference has, and about the same level: nothing had changed.
            if state.reference.blocks < FROZEN:
                state.reference += current
            state.current, state.waiting, state.recent = None, _Level(), _Level()

    def _evidence(self, current: _Level) -> float:
        reference, n = self._state.reference, current.n
        bound = math.sqrt(1 + n / reference.n) * _bound(n, reference.variance)
        return abs(current.total - n * reference.mean) / bound

    def _shift(self, alarm: bool, detections: int) -> ErrorShift:  # noqa: FBT001 — what was, next to what is
        state, reference = self._state, self._state.reference
        current = state.current
        known = reference.blocks >= LEARNED
        return ErrorShift(
            alarm=state.told is not None,
            changed=(state.told is not None) != alarm,
            worse=current is not None and current.mean > reference.mean,
            before=reference.told / reference.n if known else None,
            after=current.told / current.n if current else None,
            n_before=reference.n,
            n_after=current.n if current else 0,
            onset=state.onset,
            evidence_ratio=self._evidence(current) if current else 0.0,
            detections=detections,
            binary=self.config.binary,
        )

    def state(self) -> dict[str, object]:
        """Everything that ``restore`` needs, in values that msgpack knows."""
        return {"river": self._river.state(), "levels": msgspec.to_builtins(self._state)}

    def restore(self, state: Mapping[str, object]) -> None:
        """Continue from a ``state``, also after it went through msgpack. On an error nothing has changed.

        Raises:
            StateError: if it never was a state of this detector.
        """
        try:
            river, restored = msgspec.convert(
                (state.get("river"), state.get("levels")), tuple[dict[str, object], _State], builtin_types=(bytes,)
            )
        except msgspec.ValidationError as error:
            raise StateError(f"error stream: {error}") from None
        if restored.binary != self.config.binary:
            kinds = {True: "classes", False: "numbers"}
            raise StateError(f"error stream: the state is of errors of {kinds[restored.binary]}")
        self._river.restore(river)
        self._state = restored


def _level(pairs: list[tuple[float, float]]) -> _Level:
    """One block. ``fsum`` rounds once, so that its sums are the same on every processor."""
    watched = [value for value, _ in pairs]
    total = math.fsum(watched)
    return _Level(
        1, total, math.fsum(value * value for value in watched), (total / BLOCK) ** 2, math.fsum(t for _, t in pairs)
    )


def _bound(n: int, variance: float) -> float:
    """How far a sum of n values of an unchanged level goes at any time, but for a chance of ``ALPHA``."""
    return math.sqrt(variance * (n + RHO) * (math.log((n + RHO) / RHO) + 2 * math.log(1 / ALPHA)))
