"""Times of many events at once: the same as those of one after the other."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrift.codecs import EventTime, Source, TimestampUnit
from streamdrift.codecs.times import event_times
from streamdrift.records import NO_TIMESTAMP

moments = st.datetimes(timezones=st.just(UTC))
texts = moments.flatmap(
    lambda moment: st.sampled_from(
        [moment.isoformat(timespec=spec) for spec in ("seconds", "milliseconds", "microseconds", "auto")]
    )
).flatmap(lambda text: st.sampled_from([text, text.replace("+00:00", "Z"), text.replace("T", " "), text[:-6]]))
odd_texts = st.sampled_from(
    ["", "Z", "2026-02-30T10:00:00Z", "0000-01-01T00:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T23:59:60Z",
     "2026-11-22T10:00:00.1234567Z", "2026-11-22T10:00:00.12 Z", "2026-11-22T10:00:00+01:00", "٢٠٢٦-11-22T10:00:00Z",
     "2026-11-22T10:00:0\x00Z", "2026-11-22T10:00Z"]
)  # fmt: skip
scale = st.sampled_from([1, 10**3, 10**6, 10**9])
integers = st.builds(int.__mul__, st.integers(-(10**10), 10**10), scale) | st.integers(-(2**70), 2**70)
numbers = integers | st.floats()
columns = st.one_of(
    *(st.lists(kind, min_size=1, max_size=6) for kind in (texts, texts | odd_texts, integers, numbers)),
    st.lists(st.none() | texts | odd_texts | numbers | st.booleans() | st.just([]), min_size=1, max_size=6),
    moments.map(lambda moment: [moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")] * 3),
)
zones = st.sampled_from([None, ZoneInfo("UTC")])
recorded = st.sampled_from([NO_TIMESTAMP, 0, 1_795_000_000_000, 2**62])


@given(
    columns,
    recorded,
    st.sampled_from(TimestampUnit),
    st.sampled_from(EventTime),
    st.sampled_from([None, ZoneInfo("UTC")]),
)
def test_times_are_read_together_as_one_by_one(
    timestamps: list[object], record: int, unit: TimestampUnit, which: EventTime, zone: ZoneInfo | None
) -> None:
    source = Source("t", unit=unit, event_time=which, zone=zone)
    if which is EventTime.RECORD:
        timestamps = [None] * len(timestamps)
    times, wrong = event_times(source, [timestamps], lambda _: record)
    for i, timestamp in enumerate(timestamps):
        try:
            assert int(times[i]) == source.time(timestamp, record)
            assert i not in wrong
        except ValueError as error:
            assert wrong[i] == str(error)  # noqa: PT017 — what is wrong is what is compared


@pytest.mark.parametrize(
    "timestamps",
    [[1_795_341_600, 1_795_341_600_123], [-(10**12), 10**12, 5], [5, 10**12, 10**15, 10**18], [0, 0], [-1, -(10**12)]],
)
def test_numbers_of_several_units_are_told_apart(timestamps: list[int]) -> None:
    times, wrong = event_times(Source("t"), [timestamps], lambda _: 0)
    assert times.tolist() == [Source("t").microseconds(timestamp) for timestamp in timestamps]
    assert not wrong


def test_no_events_have_no_times() -> None:
    times, wrong = event_times(Source("t"), [[]], lambda _: 0)
    assert len(times) == len(wrong) == 0


@pytest.mark.parametrize("text", ["0000-01-01T00:00:00Z", "2026-02-30T10:00:00Z", "2026-11-22T24:00:00Z"])
def test_a_date_that_is_none_is_refused_among_others_too(text: str) -> None:
    times, wrong = event_times(Source("t"), [["2026-11-22T10:00:00Z", text]], lambda _: 0)
    assert times[0] == 1_795_341_600_000_000
    assert wrong == {1: "timestamp: not an RFC 3339 time"}
