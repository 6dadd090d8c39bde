"""A record that ends the process each time is found and set aside; everything else is read as ever."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.assembly import topology
from streamdrift.codecs import Decoded
from streamdrift.codecs.json import JsonDecoder
from streamdrift.records import RecordBatch
from streamdrift.settings import Settings
from streamdrift.stages.attempts import CAREFUL_FOR, Attempts
from streamdrift.topology import TopologyDriver

BOMB = b"a message that no codec survives"
MESSAGES = 40


class Burst(RuntimeError):
    """What a bug raises."""


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The codec has a bug: it raises on one message. Gives what mends it."""
    decode = JsonDecoder.decode

    def burst(self: JsonDecoder, records: RecordBatch) -> Decoded:
        if BOMB in records.values:
            raise Burst
        return decode(self, records)

    monkeypatch.setattr(JsonDecoder, "decode", burst)
    return lambda: monkeypatch.setattr(JsonDecoder, "decode", decode)


def event(number: int) -> bytes:
    document = {"model_id": "m", "timestamp": 1_795_000_000 + number, "features": {"x": number}, "prediction": {}}
    return json.dumps(document).encode()


def driver(**bounds: object) -> TopologyDriver:
    source = {"topic": "predictions", "kind": "predictions", "end_of_stream": True}
    kafka = {"bootstrap_servers": "localhost:9092"}
    made = Settings.model_validate({"kafka": kafka, "sources": [source], "bounds": bounds})
    return TopologyDriver(topology(made), partitions=2, batch_size=16)


def run_until_it_survives(service: TopologyDriver, most: int = 20) -> int:
    """How often the process ended before it could read everything; restarted each time."""
    for crashes in range(most):
        try:
            service.run()
        except Burst:
            service.crash()
        else:
            return crashes
    pytest.fail(f"still not read after {most} restarts")


def letters(service: TopologyDriver) -> list[dict[str, str]]:
    records = service.read("dead-letters")
    return [{name: (value or b"").decode() for name, value in record.headers} for record in records]


@pytest.mark.usefixtures("fuse")
@settings(deadline=None, max_examples=20)  # a busy machine is no failure
@given(place=st.integers(0, MESSAGES))
def test_a_record_that_ends_the_process_is_set_aside_and_nothing_else_is_lost(place: int) -> None:
    service = driver()
    for number in range(MESSAGES):
        if number == place:
            service.send("predictions", BOMB)
        service.send("predictions", event(number))
        service.send("predictions", event(number + MESSAGES), partition=1)
    if place == MESSAGES:
        service.send("predictions", BOMB)
    assert 3 <= run_until_it_survives(service) <= 8
    [letter] = letters(service)
    assert letter["streamdrift.error.class"] == "quarantined"
    assert letter["streamdrift.error.offset"] == str(place)
    assert service.read("dead-letters")[0].value == BOMB
    service.end_of_stream()
    service.run()
    assert counted(service) == 2 * MESSAGES


def test_a_record_is_given_the_attempts_that_are_configured(fuse: Callable[[], None]) -> None:
    service = driver(attempts=6)
    service.send("predictions", BOMB)
    for _ in range(6):
        with pytest.raises(Burst):
            service.run()
        service.crash()
    service.run()
    assert [letter["streamdrift.error.class"] for letter in letters(service)] == ["quarantined"]
    fuse()


def test_a_bug_that_is_mended_costs_no_record(fuse: Callable[[], None]) -> None:
    service = driver()
    service.send("predictions", event(1))
    service.send("predictions", BOMB)
    for _ in range(2):
        with pytest.raises(Burst):
            service.run()
        service.crash()
    fuse()
    service.run()
    assert [letter["streamdrift.error.class"] for letter in letters(service)] == ["malformed"]


def test_clean_restarts_are_no_attempts() -> None:
    service = driver()
    for _ in range(10):
        service.run()
        service.restart()
    service.send("predictions", event(1))
    service.run()
    assert letters(service) == []


def test_crashes_between_records_are_no_attempts() -> None:
    service = driver()
    for _ in range(10):
        service.run()
        service.crash()
    service.send("predictions", event(1))
    service.run()
    assert letters(service) == []


@given(st.integers(0, 1 << 62), st.integers(1, 10), st.integers(0, 2 * CAREFUL_FOR))
def test_the_first_attempt_is_quick_and_the_others_careful(start: int, most: int, further: int) -> None:
    assert not Attempts(start, 0, most).careful(start + further)
    assert Attempts(start, 1, most).careful(start + further) is (further < CAREFUL_FOR)
    assert not Attempts(start, most - 1, most).used_up(start)
    assert Attempts(start, most, most).used_up(start)
    assert not Attempts(start, most, most).used_up(start + 1)


def counted(service: TopologyDriver) -> int:
    return sum(model.events for model in service.detect.models.values())
