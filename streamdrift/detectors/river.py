"""River's drift detectors, fed value by value, with a state that survives a restart.

Any detector of ``river.drift`` and ``river.drift.binary`` by the name and the parameters that River gives it. It sees
one stream — a score, an error — in order, and finds exactly what River finds when it is run by hand:

>>> detector = RiverDetector(RiverSpec("drift.ADWIN", {"delta": 0.002}))
>>> before, after = np.tile([0.2, 0.3], 500), np.tile([0.7, 0.8], 500)
>>> detector.feed(before)
[]
>>> state = detector.state()  # plain values: fit for msgpack, and for a topic
>>> resumed = RiverDetector(detector.spec)
>>> resumed.restore(state)
>>> resumed.feed(after)  # the 24th value after the change
[23]

A River detection comes without a promise about false alarms (see ``calibrated: false`` in the alerts): ADWIN at its
default finds 0 changes in 100,000 independent values, but 37 and 638 in as many values with an autocorrelation of 0.5
and 0.9. So it corroborates, and opens an incident of its own only with ``alarm: true``.

Nothing here is random: KSWIN draws its samples from a seed, which is ``DEFAULT_SEED`` when none is given, and the
state of its generator is part of the state. And nothing is unpickled. The state holds values only; which class a
value belongs to is known from a detector built by River's own constructor, whose attributes it is written into. Two
of River's classes live in Rust and give their state as bytes. Of 3,000 such states of ADWIN with one to three bytes
changed, Rust panicked over 1,017 and counted on in silence with most of the others. So a state carries a checksum,
and Rust is only given bytes that it wrote itself.

River is imported by the first detector that is made, not with this file: it brings scipy and pandas along.

Source: https://riverml.xyz/latest/api/drift/ADWIN/ and its neighbours; Montiel et al. 2021, "River: machine learning
for streaming data in Python". State as of River 0.26.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Any, Final, NamedTuple, Protocol, TypeGuard, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.errors import StateError

Value = float | int | bool | str | None
"""What a parameter of a detector may be."""

DEFAULT_SEED: Final = 1
"""Seed of a random detector (KSWIN) that was given none. Without one, the same log could give other alarms."""

LARGEST: Final = 1e150
"""Values beyond ± this are left out: their squares overflow, after which ADWIN's variance is NaN for ever."""

LONGEST: Final = 10_000
"""Longest window of a detector: it is snapshotted at every tick."""


class _Rule(NamedTuple):
    """What a parameter must be, in code and in words."""

    allows: Callable[[Value], bool]
    words: str


def _real(value: Value) -> float:
    """The number, or NaN, which no comparison allows."""
    return math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _whole(low: int, high: int) -> _Rule:
    return _Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"a whole number from {low:,} to {high:,}",
    )


_FRACTION: Final = _Rule(lambda value: 0 < _real(value) < 1, "a number between 0 and 1, neither of them")
_POSITIVE: Final = _Rule(lambda value: 0 < _real(value) <= LARGEST, "a positive number")
_NOT_NEGATIVE: Final = _Rule(lambda value: 0 <= _real(value) <= LARGEST, "a number that is not negative")
_DECAY: Final = _Rule(lambda value: 0 < _real(value) <= 1, "a number above 0 and at most 1")
_SWITCH: Final = _Rule(lambda value: isinstance(value, bool), "true or false")
_COUNT: Final = _whole(0, 2**31 - 1)
_WINDOW: Final = _whole(2, LONGEST)
_MODE: Final = _Rule(lambda value: value in {"up", "down", "both"}, "up, down or both")
_SEED: Final = _Rule(
    lambda value: value is None or _whole(0, 2**63 - 1).allows(value),
    f"a whole number (or null, which is {DEFAULT_SEED})",
)
_SHORT_WINDOW: Final = _Rule(
    lambda value: value is None or _whole(1, LONGEST).allows(value), f"null or a whole number from 1 to {LONGEST:,}"
)

# The detectors of River 0.26 and their parameters; a test compares the names with River's own. Ranges are narrower than
# River's where River would fail later, in the middle of a stream: `clock=0` and `max_buckets=1` make ADWIN panic.
# Not here: NoDrift, DummyDriftDetector and DriftRetrainingClassifier, which detect no drift, and KSWIN's parameter
# `window`, its first values.
_DETECTORS: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "drift.ADWIN": {
        "delta": _FRACTION,
        "clock": _whole(1, 2**31 - 1),
        "max_buckets": _whole(2, 100),
        "min_window_length": _COUNT,
        "grace_period": _COUNT,
    },
    "drift.KSWIN": {"alpha": _FRACTION, "window_size": _WINDOW, "stat_size": _whole(1, LONGEST), "seed": _SEED},
    "drift.PageHinkley": {
        "min_instances": _COUNT,
        "delta": _NOT_NEGATIVE,
        "threshold": _POSITIVE,
        "alpha": _DECAY,
        "mode": _MODE,
    },
    "drift.binary.DDM": {"warm_start": _COUNT, "warning_threshold": _POSITIVE, "drift_threshold": _POSITIVE},
    "drift.binary.EDDM": {"warm_start": _COUNT, "alpha": _FRACTION, "beta": _FRACTION},
    "drift.binary.FHDDM": {
        "sliding_window_size": _WINDOW,
        "confidence_level": _FRACTION,
        "short_window_size": _SHORT_WINDOW,
    },
    "drift.binary.HDDMA": {
        "drift_confidence": _FRACTION,
        "warning_confidence": _FRACTION,
        "two_sided_test": _SWITCH,
    },
    "drift.binary.HDDMW": {
        "drift_confidence": _FRACTION,
        "warning_confidence": _FRACTION,
        "lambda_val": _FRACTION,
        "two_sided_test": _SWITCH,
    },
}


@dataclass(frozen=True, slots=True)
class RiverSpec:
    """Which detector of River, as the configuration names it: ``{class: drift.ADWIN, delta: 0.002, alarm: true}``."""

    class_name: str
    """``drift.ADWIN``, ``drift.binary.DDM``: the path below ``river``."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Arguments of River's constructor; what is not given has River's default."""
    alarm: bool = False
    """Whether a detection opens an incident of its own, instead of corroborating one."""

    @property
    def name(self) -> str:
        """Full name, as alerts and metrics give it: ``river.drift.ADWIN``."""
        return f"river.{self.class_name}"

    @property
    def binary(self) -> bool:
        """Whether the detector takes 0 and 1 only: an error stream, not a score."""
        return self.class_name.startswith("drift.binary.")


def validate(spec: RiverSpec) -> None:
    """Check a detector's name and parameters, without importing River.

    KSWIN without a seed is valid: it is given ``DEFAULT_SEED``.

    >>> validate(RiverSpec("drift.PageHinkley", {"mode": "upwards"}))
    Traceback (most recent call last):
    ...
    ValueError: drift.PageHinkley: mode must be up, down or both, not 'upwards'

    Raises:
        ValueError: what is wrong, and what would be right.
    """
    rules = _DETECTORS.get(spec.class_name)
    if rules is None:
        raise ValueError(f"unknown River detector {spec.class_name!r}; known are {', '.join(_DETECTORS)}")
    for parameter, value in spec.parameters.items():
        if parameter not in rules:
            raise ValueError(f"{spec.class_name} has no parameter {parameter!r}; it has {', '.join(rules)}")
        if not rules[parameter].allows(value):
            raise ValueError(f"{spec.class_name}: {parameter} must be {rules[parameter].words}, not {value!r}")
    for wrong in _contradictions(spec):
        raise ValueError(f"{spec.class_name}: {wrong}")


def _contradictions(spec: RiverSpec) -> Iterator[str]:
    """What is wrong with parameters that are fine one by one. The numbers are River's defaults."""
    given = dict(spec.parameters)

    def number(parameter: str, default: float) -> float:
        return _real(given.get(parameter, default))

    if spec.class_name == "drift.KSWIN" and 2 * number("stat_size", 30) > number("window_size", 100):
        yield "stat_size may be at most half of window_size: as many older values are drawn to compare with"
    if spec.class_name == "drift.binary.EDDM" and number("alpha", 0.95) < number("beta", 0.9):
        yield "alpha (warning) may not be below beta (drift)"
    if spec.class_name == "drift.binary.FHDDM" and number("short_window_size", 0) > number("sliding_window_size", 100):
        yield "short_window_size may not be above sliding_window_size"


class _River(Protocol):
    """The part of River's detectors that is used."""

    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> None: ...


class _Rust(Protocol):
    """What River's classes in Rust have in common. They show no attributes, only bytes."""

    def __init__(self, *arguments: float) -> None: ...

    def __getnewargs__(self) -> tuple[float, ...]: ...

    def __getstate__(self) -> bytes: ...

    def __setstate__(self, state: bytes) -> None: ...

    def update(self, value: float) -> object: ...


class RiverDetector:
    """One detector of River on one stream.

    Args:
        spec: which detector; it is validated.

    Raises:
        ValueError: if the specification is not valid.
    """

    def __init__(self, spec: RiverSpec) -> None:
        validate(spec)
        self.spec = spec
        self.left_out = 0
        """How many values the detector was not shown, because it cannot take them."""
        self._river = _made(spec)

    def feed(self, values: NDArray[np.float64]) -> list[int]:
        """Show the next values one by one; the indices of those after which River said ``drift_detected``.

        A detector that found a drift starts over with the next value, as River does. Left out, and counted in
        ``left_out``, is what would spoil its state or its sense: values that are not finite or beyond ± ``LARGEST``,
        and for a binary detector all but 0 and 1. An error instead would let one event stop the stream. Indices are
        those of ``values``, of shape (n,).
        """
        takes = np.isin(values, (0.0, 1.0)) if self.spec.binary else np.abs(values) <= LARGEST
        indices = np.flatnonzero(takes)
        self.left_out += len(values) - len(indices)
        taken = values[indices]
        shown = (taken.astype(np.bool_) if self.spec.binary else taken).tolist()
        show = _show_adwin if self.spec.class_name == "drift.ADWIN" and hasattr(self._river, "_helper") else _show
        return [int(indices[place]) for place in show(self._river, shown)]

    def state(self) -> dict[str, object]:
        """Everything that ``restore`` needs, in values that msgpack knows.

        Raises:
            StateError: if this version of River keeps something that cannot be written.
        """
        from river.__version__ import __version__

        state = {
            "class": self.spec.class_name,
            "parameters": _parameters(self.spec),
            "river": __version__,
            "left_out": self.left_out,
            "fields": _encode_object(self._river, self.spec.name),
        }
        return {**state, "checksum": _checksum(state)}

    def restore(self, state: Mapping[str, object]) -> None:
        """Continue from a ``state``, also after it went through msgpack. On an error nothing has changed.

        A state of another version of River is accepted if it still fits: the same attributes, and for what lives in
        Rust the same bytes after the same values. Refusing every other version would lose the memory of all
        detectors at each update of River; accepting all would hand Rust bytes that it cannot read.

        Raises:
            StateError: if the state is damaged, is of another detector or parameters, or of a version of River that
                keeps its state in another way. The stream can then only be watched from its start.
        """
        name = self.spec.name
        try:
            intact = state.get("checksum") == _checksum(state)
        except (TypeError, ValueError, OverflowError):  # keys or numbers that were never written
            intact = False
        if not intact:
            raise StateError(f"{name}: the state is damaged")
        if state.get("class") != self.spec.class_name or state.get("parameters") != _parameters(self.spec):
            raise StateError(f"{name}: the state is of another detector or of other parameters")
        left_out, fields = _typed(state.get("left_out"), int, name), _typed(state.get("fields"), dict, name)
        restored = _made(self.spec)
        try:
            _restore_object(restored, fields, name)
        except StateError as error:
            raise StateError(f"{error} (written by River {state.get('river')})") from error
        self._river, self.left_out = restored, left_out


def _show(river: _River, values: Sequence[float]) -> list[int]:
    """Show values one by one; the places of those after which River said ``drift_detected``."""
    detections = []
    for place, value in enumerate(values):
        river.update(value)
        if river.drift_detected:
            detections.append(place)
    return detections


def _show_adwin(adwin: Any, values: Sequence[float]) -> list[int]:  # noqa: ANN401 — with what River keeps to itself
    """As ``_show``, at a third of the cost: but for detections, ADWIN only passes values on to a window in Rust."""
    detections, shown = [], enumerate(values)
    for place, value in shown:
        adwin.update(value)  # which starts over after a detection
        found, update = (place if adwin.drift_detected else None), adwin._helper.update  # noqa: SLF001 — see above
        for later, following in shown if found is None else ():
            if update(following):
                adwin._drift_detected, found = True, later  # noqa: SLF001 — as ADWIN itself would
                break
        if found is not None:
            detections.append(found)
    return detections


def _made(spec: RiverSpec) -> _River:
    """The detector as River's constructor makes it."""
    from river import drift

    *packages, class_name = spec.class_name.split(".")
    module: object = drift.binary if "binary" in packages else drift
    return cast("_River", getattr(module, class_name)(**_parameters(spec)))


def _parameters(spec: RiverSpec) -> dict[str, Value]:
    """Arguments of the constructor, with a seed wherever there can be one."""
    parameters = dict(spec.parameters)
    if "seed" in _DETECTORS[spec.class_name] and parameters.get("seed") is None:
        parameters["seed"] = DEFAULT_SEED
    return parameters


def _checksum(state: Mapping[str, object]) -> bytes:
    """Eight bytes that change with whatever else is in the state."""
    content = {name: value for name, value in state.items() if name != "checksum"}
    return blake2b(msgspec.msgpack.encode(content, order="deterministic"), digest_size=8).digest()


# ---- state: River's objects as plain values -------------------------------------------------------------------------
#
#   None, bool, int, float, str   themselves
#   deque                         list of the above
#   random.Random                 list: what getstate() gives
#   object in Rust                {"bytes": what __getstate__() gives, "layout": see _layout}
#   object of River               {attribute: value}, without the methods that some keep as attributes
#
# Anything else is refused when the state is written, so that a new version of River is noticed by the first test.


def _encode(value: object, where: str) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, deque):
        return [_scalar(element, where) for element in (_encode(element, where) for element in value)]
    if isinstance(value, Random):
        version, internal, gauss = value.getstate()
        return [version, list(internal), gauss]
    if _in_rust(value):
        return {"bytes": value.__getstate__(), "layout": _layout(type(value), value.__getnewargs__())}
    if _of_river(value):
        return _encode_object(value, where)
    raise StateError(f"{where}: no way is known to store a {type(value).__module__}.{type(value).__qualname__}")


def _encode_object(river: object, where: str) -> dict[str, object]:
    return {name: _encode(value, f"{where}.{name}") for name, value in _attributes(river).items()}


def _restored(fresh: object, stored: object, where: str) -> object:
    """The stored value as the kind of thing that ``fresh``, from River's constructor, is."""
    if isinstance(fresh, deque):
        return deque((_scalar(element, where) for element in _typed(stored, list, where)), fresh.maxlen)
    if isinstance(fresh, Random):
        return _restored_random(stored, where)
    if _in_rust(fresh):
        return _restored_rust(fresh, _typed(stored, dict, where), where)
    if _of_river(fresh):
        _restore_object(fresh, _typed(stored, dict, where), where)
        return fresh
    return _scalar(stored, where)


def _restore_object(fresh: object, stored: Mapping[str, object], where: str) -> None:
    attributes = _attributes(fresh)
    if stored.keys() != attributes.keys():
        differing = ", ".join(sorted(map(str, stored.keys() ^ attributes.keys())))
        raise StateError(f"{where}: the state does not fit the installed River; different are {differing}")
    for name, value in attributes.items():
        setattr(fresh, name, _restored(value, stored[name], f"{where}.{name}"))


def _restored_random(stored: object, where: str) -> Random:
    random = Random()  # noqa: S311 — a statistical sample, not a secret
    try:
        version, internal, gauss = _typed(stored, list, where)
        random.setstate((version, tuple(internal), gauss))
    except (TypeError, ValueError) as error:
        raise StateError(f"{where}: no state of a random generator: {error}") from error
    return random


def _restored_rust(fresh: _Rust, stored: Mapping[str, object], where: str) -> _Rust:
    if stored.get("layout") != _layout(type(fresh), fresh.__getnewargs__()):
        raise StateError(f"{where}: the installed River keeps its state in another way")
    try:
        fresh.__setstate__(_typed(stored.get("bytes"), bytes, where))
    except BaseException as error:
        # A panic of Rust is no Exception, so that nobody goes on after it by mistake; here it only means unreadable.
        if type(error).__name__ != "PanicException":
            raise
        raise StateError(f"{where}: the state is damaged: {error}") from error
    return fresh


@lru_cache(maxsize=256)
def _layout(rust: Callable[..., _Rust], arguments: tuple[float, ...]) -> bytes:
    """Fingerprint of how a Rust class writes its state: its bytes after 64 values 0, 1, 0, 1, ….

    Versions of River for which they are equal read each other's bytes. They are equal on every processor too: what
    is kept of these values are sums, differences, products and quotients, which IEEE 754 rounds in one way only.
    """
    probe = rust(*arguments)
    for i in range(64):
        probe.update(float(i % 2))
    return blake2b(probe.__getstate__(), digest_size=8).digest()


def _attributes(river: object) -> dict[str, object]:
    """What an object of River remembers. Methods among it (PageHinkley's test) follow from the parameters."""
    return {name: value for name, value in vars(river).items() if not callable(value)}


def _in_rust(value: object) -> TypeGuard[_Rust]:
    return type(value).__module__.startswith("river._river_rust")


def _of_river(value: object) -> bool:
    return type(value).__module__.startswith("river.") and hasattr(value, "__dict__")


def _scalar(value: object, where: str) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise StateError(f"{where}: a {type(value).__name__} stands where one value is expected")


_T = TypeVar("_T")


def _typed(value: object, kind: type[_T], where: str) -> _T:
    if not isinstance(value, kind):
        raise StateError(f"{where}: a {type(value).__name__} stands where a {kind.__name__} is expected")
    return value
