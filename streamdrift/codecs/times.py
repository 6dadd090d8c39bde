"""The times of many events at once, to the same microsecond as one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs.source import PER_UNIT, Source, TimestampUnit

_SEPARATORS: Final = {4: ord("-"), 7: ord("-"), 10: ord("T"), 13: ord(":"), 16: ord(":"), 19: ord(".")}
_WIDTHS: Final = {19, *range(21, 27)}
"""Characters of a date and time to the second, and with one to six digits behind the point."""
_FIRST: Final = -62_135_596_800_000_000
"""0001-01-01 in microseconds; before it there are no dates as Python has them."""


Written = Sequence[object] | NDArray[np.int64]
"""What events say of their times, None where they say nothing; or microseconds since the epoch."""


def event_times(
    source: Source, parts: Sequence[Written], recorded: Callable[[int], int]
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Times in microseconds of shape (n,), and what is wrong by the place of each event without one.

    ``parts`` are what the events say, one part after the other; ``recorded`` tells the time of an event's record in
    milliseconds.
    """
    times: list[NDArray[np.int64]] = []
    wrong: dict[int, str] = {}
    start = 0
    for known, run in groupby(parts, lambda part: isinstance(part, np.ndarray)):
        if known:
            times += [part for part in run if isinstance(part, np.ndarray)]
        else:
            said = [*chain.from_iterable(run)]
            found, refused = _times_of(source, said, map(recorded, range(start, start + len(said))))
            times.append(found)
            wrong |= {start + i: reason for i, reason in refused.items()}
        start = sum(map(len, times))
    return np.concatenate(times) if times else np.zeros(0, dtype=np.int64), wrong


def takes_texts(source: Source) -> bool:
    """Whether a timestamp may be a text."""
    return source.unit in {TimestampUnit.AUTO, TimestampUnit.RFC3339}


def _times_of(
    source: Source, timestamps: Sequence[object], recorded: Iterable[int]
) -> tuple[NDArray[np.int64], dict[int, str]]:
    times = _of_integers(source, timestamps)
    if times is None and takes_texts(source):
        times = _of_texts(timestamps)
    if times is not None:
        return times, {}
    times = np.zeros(len(timestamps), dtype=np.int64)
    wrong: dict[int, str] = {}
    for i, (timestamp, record) in enumerate(zip(timestamps, recorded, strict=True)):
        try:
            times[i] = source.time(timestamp, record)
        except ValueError as error:
            wrong[i] = str(error)
    return times, wrong


def _of_integers(source: Source, timestamps: Sequence[object]) -> NDArray[np.int64] | None:
    """Times that are all integers of one unit; None for any others."""
    if set(map(type, timestamps)) != {int}:
        return None
    try:
        numbers = np.array(timestamps, dtype=np.int64)
        first, last = int(numbers.min()), int(numbers.max())
        source.microseconds(first), source.microseconds(last)  # whether they can be meant
    except (OverflowError, ValueError):
        return None
    unit = source.unit_of(first)
    if unit is not source.unit_of(last) or first < 0 < last:
        return None  # between two numbers of one unit and sign, all are of that unit
    return numbers // 1_000 if unit is TimestampUnit.NANOSECONDS else numbers * PER_UNIT[unit]


def _of_texts(timestamps: Sequence[object]) -> NDArray[np.int64] | None:
    """Times that are all written like 2026-11-22T10:00:00.123Z, with as many digits; None for any others."""
    try:
        text = "".join(timestamps).encode("ascii")  # type: ignore[arg-type]  # TypeError is an answer too
        width, rest = divmod(len(text), len(timestamps) or 1)
        end = width - len(b"Z" if text.endswith(b"Z") else b"+00:00")
        if rest or end not in _WIDTHS or text[end:width] not in {b"Z", b"+00:00"}:
            return None
        characters = np.frombuffer(text, dtype=np.uint8).reshape(-1, width)
        if not _is_written_so(characters, end):
            return None
        times = np.ascontiguousarray(characters[:, :end]).view(f"S{end}").ravel().astype("datetime64[us]")
    except (TypeError, UnicodeEncodeError, ValueError):  # ValueError: the 30th of February
        return None
    microseconds = times.astype(np.int64)
    return None if microseconds.min() < _FIRST else microseconds


def _is_written_so(characters: NDArray[np.uint8], end: int) -> bool:
    """Whether all texts have digits and signs in the same places, and the same zone from ``end`` on."""
    digits = characters[:, [i for i in range(end) if i not in _SEPARATORS]]
    return bool(
        ((digits >= ord("0")) & (digits <= ord("9"))).all()
        and all((characters[:, i] == sign).all() for i, sign in _SEPARATORS.items() if i < end)
        and (characters[:, end:] == characters[0, end:]).all()
    )
