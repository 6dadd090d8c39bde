"""Messages in the order of their times, in memory that does not grow with their size.

The messages themselves wait in a temporary file; what is kept of each is where it lies and when it is due, about
70 bytes.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from typing import Final

import numpy as np

from streamdrift.events import SourceKind
from streamdrift.replay.messages import Message

_KINDS: Final = tuple(SourceKind)


def in_order(messages: Iterable[Message]) -> Iterator[Message]:
    """The same messages by time; among equal times, and where there is none, they stay behind those before them."""
    times, ends, recorded, places = array("q"), array("q", [1]), array("q"), array("q")
    kinds = bytearray()
    latest = 0
    with TemporaryFile(prefix="streamdrift-replay-") as file:
        file.write(b"\n")  # nothing at all could not be mapped into memory
        for message in messages:
            latest = latest if message.time_us is None else message.time_us
            times.append(latest)
            recorded.append(message.recorded_ms)
            places.append(message.place)
            kinds.append(_KINDS.index(message.kind))
            ends.append(ends[-1] + file.write(message.value or b""))
        if not times:
            return
        file.flush()
        order = np.argsort(np.frombuffer(times, dtype=np.int64), kind="stable")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stored:
            for i in order.tolist():
                value = stored[ends[i] : ends[i + 1]]
                yield Message(_KINDS[kinds[i]], value, times[i], recorded[i], places[i])
