"""The times of many events at once, to the same microsecond as one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs.source import PER_UNIT, Source, TimestampUnit

_SEPARATORS: Final = {4: ord("-"), 7: ord("-"), 10: ord("T"), 13: ord(":"), 16: ord(":"), 19: ord(".")}
_WIDTHS: Final = {19, *range(21, 27)}
"""Characters of a date and time to the second, and with one to six digits behind the point."""
_FIRST: Final = -62_135_596_800_000_000
"""0001-01-01 in microseconds; before it there are no dates as Python has them."""


Written = Sequence[object] | NDArray[np.uint8]
"""What events say of their times, None where they say nothing; or the characters of ASCII texts, (n, length)."""


def event_times(
    source: Source, parts: Sequence[Written], recorded: Iterable[int]
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Times in microseconds of shape (n,), and what is wrong by the place of each event without one.

    ``parts`` are what the events say, one part after the other; ``recorded`` the records' times in milliseconds.
    """
    texts = [part for part in parts if isinstance(part, np.ndarray)]
    times = None
    if len(texts) == len(parts) and len({part.shape[1] for part in texts}) == 1 and _takes_texts(source):
        times = _of_characters(np.concatenate(texts))
    if times is not None:
        return times, {}
    timestamps = [said for part in parts for said in _objects(part)]
    times = _of_integers(source, timestamps)
    if times is None and _takes_texts(source):
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


def _takes_texts(source: Source) -> bool:
    return source.unit in {TimestampUnit.AUTO, TimestampUnit.RFC3339}


def _objects(part: Written) -> Iterable[object]:
    return (row.tobytes().decode("ascii") for row in part) if isinstance(part, np.ndarray) else part


def _of_texts(timestamps: Sequence[object]) -> NDArray[np.int64] | None:
    """Times that are all texts of one length; None for any others."""
    try:
        text = "".join(timestamps).encode("ascii")  # type: ignore[arg-type]  # TypeError is an answer too
    except (TypeError, UnicodeEncodeError):
        return None
    width, rest = divmod(len(text), len(timestamps) or 1)
    if rest or not width:
        return None
    return _of_characters(np.frombuffer(text, dtype=np.uint8).reshape(-1, width))


def _of_characters(characters: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Times that are all written like 2026-11-22T10:00:00.123Z, with as many digits; None for any others."""
    width = characters.shape[1]
    zone = b"Z" if characters[0, -1] == ord("Z") else b"+00:00"
    end = width - len(zone)
    if end not in _WIDTHS or characters[0, end:].tobytes() != zone or not _is_written_so(characters, end):
        return None
    try:
        times = np.ascontiguousarray(characters[:, :end]).view(f"S{end}").ravel().astype("datetime64[us]")
    except ValueError:  # the 30th of February
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
