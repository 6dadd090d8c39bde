"""River through the adapter: the same detections as River by hand, before and after a restart."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river import base, drift

from streamdrift.detectors import river
from streamdrift.detectors.river import RiverDetector, RiverSpec, Value, validate
from streamdrift.errors import StateError

NUMERIC = ("drift.ADWIN", "drift.KSWIN", "drift.PageHinkley")
BINARY = ("drift.binary.DDM", "drift.binary.EDDM", "drift.binary.FHDDM", "drift.binary.HDDMA", "drift.binary.HDDMW")

SPECS = [
    *(RiverSpec(name) for name in NUMERIC + BINARY),
    RiverSpec("drift.ADWIN", {"delta": 0.05, "clock": 8, "max_buckets": 2}),
    RiverSpec("drift.PageHinkley", {"mode": "up", "threshold": 5}),
    RiverSpec("drift.PageHinkley", {"mode": "down", "threshold": 5}),
    RiverSpec("drift.KSWIN", {"alpha": 0.05, "window_size": 40, "stat_size": 20, "seed": 7}),
    RiverSpec("drift.binary.FHDDM", {"short_window_size": 20, "confidence_level": 0.01}),
    RiverSpec("drift.binary.HDDMA", {"two_sided_test": True}),
    RiverSpec("drift.binary.HDDMW", {"two_sided_test": True, "lambda_val": 0.1}),
]


def name_of(spec: RiverSpec) -> str:
    return " ".join([spec.class_name, *(f"{key}={value}" for key, value in spec.parameters.items())])


every_detector = pytest.mark.parametrize("spec", SPECS, ids=name_of)


def regime(spec: RiverSpec) -> int:
    """How many values it takes to be sure of one. KSWIN needs few, and 0.3 ms for each."""
    return 150 if spec.class_name == "drift.KSWIN" else 900


def stream(spec: RiverSpec, seed: int = 0, n: int | None = None) -> NDArray[np.float64]:
    """Three regimes of n values: low, high, low. Errors for binary detectors, normal values for the others."""
    rng, n = np.random.default_rng(seed), n or regime(spec)
    # EDDM watches the distance between errors, FHDDM the number of ones falling: both turns are in it.
    level = np.repeat([0.2, 0.8, 0.2], n)
    return (rng.random(3 * n) < level).astype(np.float64) if spec.binary else rng.normal(5 * level)


def by_hand(spec: RiverSpec, values: NDArray[np.float64]) -> list[int]:
    package = drift.binary if spec.binary else drift
    parameters: dict[str, Any] = dict(spec.parameters)
    if spec.class_name == "drift.KSWIN":
        parameters.setdefault("seed", river.DEFAULT_SEED)
    detector = getattr(package, spec.class_name.rpartition(".")[2])(**parameters)
    detections = []
    for i, value in enumerate(values.tolist()):
        detector.update(bool(value) if spec.binary else value)
        if detector.drift_detected:
            detections.append(i)
    return detections


def through_msgpack(state: Mapping[str, object]) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(state))
    return decoded


def resumed(spec: RiverSpec, state: Mapping[str, object]) -> RiverDetector:
    detector = RiverDetector(spec)
    detector.restore(state)
    return detector


# ---- laws of every detector ------------------------------------------------------------------------------------------


@every_detector
def test_detections_are_those_of_river_run_by_hand(spec: RiverSpec) -> None:
    values = stream(spec)
    assert RiverDetector(spec).feed(values) == by_hand(spec, values)


@every_detector
def test_it_fires_soon_after_a_large_change(spec: RiverSpec) -> None:
    detections, n = RiverDetector(spec).feed(stream(spec)), regime(spec)
    assert any(n <= i < n + 400 or 2 * n <= i < 2 * n + 400 for i in detections)


@every_detector
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_it_is_quiet_on_a_constant(spec: RiverSpec, value: float) -> None:
    assert RiverDetector(spec).feed(np.full(2 * regime(spec), value)) == []


@every_detector
@pytest.mark.parametrize("at", [0, 1, 170, 400])
def test_a_snapshot_in_the_middle_changes_nothing(spec: RiverSpec, at: int) -> None:
    values = stream(spec, seed=1)
    first = RiverDetector(spec)
    before = first.feed(values[:at])
    state = through_msgpack(first.state())
    assert state == first.state()

    second = resumed(spec, state)
    assert second.state() == state
    straight, after_restart = first.feed(values[at:]), second.feed(values[at:])
    assert after_restart == straight
    assert second.state() == first.state()
    assert before + [at + i for i in straight] == by_hand(spec, values)


@every_detector
def test_a_snapshot_right_after_a_detection_starts_over_as_river_does(spec: RiverSpec) -> None:
    values = stream(spec, seed=2)
    found = by_hand(spec, values)[0]
    first = RiverDetector(spec)
    assert first.feed(values[: found + 1]) == [found]
    assert resumed(spec, through_msgpack(first.state())).feed(values[found + 1 :]) == first.feed(values[found + 1 :])


@every_detector
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 180), max_size=4))
def test_how_the_stream_is_cut_changes_nothing(spec: RiverSpec, cuts: list[int]) -> None:
    values = stream(spec, seed=3, n=60)
    detector, detections = RiverDetector(spec), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 180], strict=True):
        detections += [start + i for i in detector.feed(values[start:end])]
    assert detections == by_hand(spec, values)


@every_detector
def test_values_that_it_cannot_take_are_left_out_and_counted(spec: RiverSpec) -> None:
    values = stream(spec, seed=4)
    wrong = [np.nan, np.inf, -np.inf, 1e200, *([0.5, -1.0] if spec.binary else [])]
    dirty = np.insert(values, np.full(len(wrong), 200), wrong)
    detector = RiverDetector(spec)
    assert detector.feed(dirty) == [i + len(wrong) if i >= 200 else i for i in by_hand(spec, values)]
    assert detector.left_out == len(wrong)
    assert resumed(spec, detector.state()).left_out == len(wrong)


# ---- what can be asked for -------------------------------------------------------------------------------------------


def test_every_drift_detector_of_river_is_known_with_all_its_parameters() -> None:
    detects_nothing = {"NoDrift", "DummyDriftDetector"}
    theirs = {
        f"{path}.{name}": set(inspect.signature(detector).parameters) - {"window"}  # KSWIN's start values
        for path, package in (("drift", drift), ("drift.binary", drift.binary))
        for name, detector in inspect.getmembers(package, inspect.isclass)
        if issubclass(detector, base.DriftDetector | base.BinaryDriftDetector) and name not in detects_nothing
    }
    assert {name: set(rules) for name, rules in river._DETECTORS.items()} == theirs
    assert sorted(theirs) == sorted(NUMERIC + BINARY)


@pytest.mark.parametrize("class_name", NUMERIC + BINARY)
def test_the_defaults_of_river_are_valid(class_name: str) -> None:
    package = drift.binary if "binary" in class_name else drift
    signature = inspect.signature(getattr(package, class_name.rpartition(".")[2]))
    validate(RiverSpec(class_name, {p.name: p.default for p in signature.parameters.values() if p.name != "window"}))


@pytest.mark.parametrize(
    ("class_name", "parameters", "complaint"),
    [
        ("drift.ADVIN", {}, r"unknown River detector 'drift.ADVIN'; known are drift.ADWIN, .*, drift.binary.HDDMW"),
        ("river.drift.ADWIN", {}, "known are drift.ADWIN"),
        ("drift.DriftRetrainingClassifier", {}, "unknown River detector"),
        ("drift.DummyDriftDetector", {}, "unknown River detector"),
        ("drift.NoDrift", {}, "unknown River detector"),
        ("os.system", {}, "unknown River detector"),
        ("drift.ADWIN", {"dleta": 0.1}, "no parameter 'dleta'; it has delta, clock, max_buckets"),
        ("drift.KSWIN", {"window": 3}, "no parameter 'window'"),
        ("drift.ADWIN", {"delta": "0.002"}, "delta must be a number between 0 and 1, neither of them, not '0.002'"),
        ("drift.ADWIN", {"delta": 0}, "delta must be"),
        ("drift.ADWIN", {"delta": True}, "delta must be"),
        ("drift.ADWIN", {"delta": float("nan")}, "delta must be"),
        ("drift.ADWIN", {"delta": None}, "delta must be"),
        ("drift.ADWIN", {"clock": 0}, r"clock must be a whole number from 1 to 2,147,483,647, not 0"),
        ("drift.ADWIN", {"clock": 32.0}, "clock must be a whole number"),
        ("drift.ADWIN", {"clock": True}, "clock must be a whole number"),
        ("drift.ADWIN", {"max_buckets": 1}, "max_buckets must be"),
        ("drift.PageHinkley", {"mode": "sideways"}, "mode must be up, down or both, not 'sideways'"),
        ("drift.PageHinkley", {"threshold": -1}, "threshold must be a positive number"),
        ("drift.KSWIN", {"window_size": 10**9}, "window_size must be a whole number from 2 to 10,000"),
        ("drift.KSWIN", {"window_size": 50}, "stat_size may be at most half of window_size"),
        ("drift.binary.EDDM", {"alpha": 0.8}, "alpha .* may not be below beta"),
        ("drift.binary.FHDDM", {"short_window_size": 101}, "short_window_size may not be above"),
        ("drift.binary.HDDMA", {"two_sided_test": 1}, "two_sided_test must be true or false"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(
    class_name: str, parameters: Mapping[str, Value], complaint: str
) -> None:
    for refuse in (validate, RiverDetector):
        with pytest.raises(ValueError, match=complaint):
            refuse(RiverSpec(class_name, parameters))


@pytest.mark.parametrize(
    ("class_name", "parameters"),
    [
        ("drift.ADWIN", {"clock": 2**31 - 1, "min_window_length": 2**31 - 1, "grace_period": 2**31 - 1}),
        ("drift.ADWIN", {"delta": 1e-300, "clock": 1, "max_buckets": 2, "min_window_length": 0, "grace_period": 0}),
        ("drift.ADWIN", {"delta": 0.999, "max_buckets": 100}),
        ("drift.KSWIN", {"alpha": 0.999, "window_size": 2, "stat_size": 1, "seed": 2**63 - 1}),
        ("drift.PageHinkley", {"min_instances": 0, "delta": 0, "alpha": 1, "threshold": 1e-9}),
        ("drift.binary.DDM", {"warm_start": 0, "warning_threshold": 1e-9, "drift_threshold": 1e-9}),
        ("drift.binary.EDDM", {"warm_start": 0, "alpha": 0.5, "beta": 0.5}),
        ("drift.binary.FHDDM", {"sliding_window_size": 2, "confidence_level": 1e-300, "short_window_size": 1}),
        ("drift.binary.HDDMA", {"drift_confidence": 1e-300, "warning_confidence": 0.999}),
        ("drift.binary.HDDMW", {"drift_confidence": 0.999, "lambda_val": 0.999, "two_sided_test": True}),
    ],
)
def test_river_runs_at_the_ends_of_what_is_allowed(class_name: str, parameters: Mapping[str, Value]) -> None:
    spec = RiverSpec(class_name, parameters)
    detector = RiverDetector(spec)
    detector.feed(stream(spec, n=200))
    resumed(spec, through_msgpack(detector.state()))


def test_kswin_without_a_seed_draws_the_same_samples_every_time() -> None:
    unseeded, null = RiverSpec("drift.KSWIN"), RiverSpec("drift.KSWIN", {"seed": None})
    seeded = RiverSpec("drift.KSWIN", {"seed": river.DEFAULT_SEED})
    values = np.random.default_rng(5).normal(size=600)
    states = [RiverDetector(spec) for spec in (unseeded, null, seeded)]
    assert len({tuple(detector.feed(values)) for detector in states}) == 1
    assert states[0].state() == states[1].state() == states[2].state()


def test_a_spec_has_the_name_that_alerts_give_it() -> None:
    assert RiverSpec("drift.binary.DDM").name == "river.drift.binary.DDM"
    assert RiverSpec("drift.binary.DDM").binary
    assert not RiverSpec("drift.ADWIN").binary


def test_the_file_is_imported_and_specs_are_validated_without_river() -> None:
    program = (
        "import sys; from streamdrift.detectors.river import RiverSpec, validate; validate(RiverSpec('drift.KSWIN'));"
        "sys.exit(', '.join({'river', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not ended.stderr.strip()


# ---- states that are not what they should be -------------------------------------------------------------------------


def fed(spec: RiverSpec) -> RiverDetector:
    detector = RiverDetector(spec)
    detector.feed(stream(spec, n=200))
    return detector


def forged(state: Mapping[str, Any], *path: str, value: object) -> dict[str, Any]:
    """The state with one of its fields replaced, and a checksum that fits."""
    changed = copy.deepcopy(dict(state))
    inner = changed["fields"]
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return resealed(changed)


def resealed(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "checksum": river._checksum(state)}


@every_detector
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_changed_byte_is_noticed(spec: RiverSpec, data: st.DataObject) -> None:
    intact = STATES[name_of(spec)]
    at = data.draw(st.integers(0, len(intact) - 1))
    damaged = bytearray(intact)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = msgspec.msgpack.decode(damaged)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if not isinstance(decoded, dict):
        return  # no state at all: whoever decodes a snapshot notices
    detector = RiverDetector(spec)
    untouched = detector.state()
    with pytest.raises(StateError):
        detector.restore(decoded)
    assert detector.state() == untouched


STATES = {name_of(spec): msgspec.msgpack.encode(fed(spec).state()) for spec in SPECS}


def test_a_state_of_another_detector_or_of_other_parameters_is_refused() -> None:
    state = fed(RiverSpec("drift.ADWIN")).state()
    for other in (RiverSpec("drift.PageHinkley"), RiverSpec("drift.ADWIN", {"delta": 0.1})):
        with pytest.raises(StateError, match="of another detector or of other parameters"):
            RiverDetector(other).restore(state)


@pytest.mark.parametrize("fields", [{1: 2, "a": 3}, {"a": 2**70}, {"a": object()}, {"a": "\ud800"}, None])
def test_what_was_never_a_state_is_a_damaged_one(fields: object) -> None:
    spec = RiverSpec("drift.ADWIN")
    with pytest.raises(StateError, match="damaged"):
        RiverDetector(spec).restore(fed(spec).state() | {"fields": fields})


@pytest.mark.parametrize("missing", ["class", "parameters", "fields", "left_out"])
def test_an_incomplete_state_is_refused_even_with_a_checksum_that_fits(missing: str) -> None:
    spec = RiverSpec("drift.ADWIN", {"delta": 0.1})
    state = fed(spec).state()
    del state[missing]
    with pytest.raises(StateError):
        RiverDetector(spec).restore(resealed(state))


@pytest.mark.parametrize(
    ("class_name", "path", "value"),
    [
        ("drift.PageHinkley", ("_x_mean",), 3.0),
        ("drift.PageHinkley", ("_sum_increase",), [1.0]),
        ("drift.KSWIN", ("window",), "abc"),
        ("drift.KSWIN", ("window",), [[1.0]]),
        ("drift.KSWIN", ("_rng",), [3, [1, 2, 3], None]),
        ("drift.KSWIN", ("_rng",), [3, 4]),
        ("drift.ADWIN", ("_helper",), b""),
        ("drift.ADWIN", ("_helper", "bytes"), "text"),
        ("drift.binary.HDDMW", ("_total", "_ewma", "_ewmean"), 0.5),
    ],
)
def test_fields_of_the_wrong_kind_are_refused(class_name: str, path: tuple[str, ...], value: object) -> None:
    spec = RiverSpec(class_name)
    with pytest.raises(StateError, match=rf"river\.{class_name}\.{path[0]}.*written by River"):
        RiverDetector(spec).restore(forged(fed(spec).state(), *path, value=value))


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"\xff" * 400])
def test_a_panic_of_rust_is_a_damaged_state(content: bytes) -> None:
    spec = RiverSpec("drift.ADWIN")
    state = forged(fed(spec).state(), "_helper", "bytes", value=content)
    with pytest.raises(StateError, match="damaged"):
        RiverDetector(spec).restore(state)


def test_a_state_of_another_river_is_accepted_where_it_fits_and_refused_where_not() -> None:
    spec = RiverSpec("drift.ADWIN")
    detector = fed(spec)
    state = detector.state()
    newer = state | {"river": "0.99.0"}
    assert resumed(spec, resealed(newer)).state() == state
    with pytest.raises(StateError, match=r"keeps its state in another way.*0\.99\.0"):
        RiverDetector(spec).restore(forged(newer, "_helper", "layout", value=b"8 bytes."))
    with pytest.raises(StateError, match=r"different are _new .*0\.99\.0"):
        RiverDetector(spec).restore(forged(newer, "_new", value=1))


def test_what_cannot_be_stored_is_noticed_when_the_state_is_written() -> None:
    detector = fed(RiverSpec("drift.PageHinkley"))
    setattr(detector._river, "_sum_increase", 1 + 2j)  # noqa: B010 — River's attribute, unknown to the type
    with pytest.raises(StateError, match=r"_sum_increase: no way is known to store a builtins\.complex"):
        detector.state()
