"""Where alerts come from: between which input offsets the events since a tick lie."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Final

from streamdrift.records import TopicPartition

CHECKPOINTS: Final = 512
"""Closed ticks, or runs of them, of which is kept from where their events were read."""

Offsets = Mapping[TopicPartition, int]


class Provenance:
    """The closed ticks of a partition, and from where their events were read."""

    def __init__(self) -> None:
        self._read_from: list[tuple[int, Offsets]] = []
        """Of ticks, or of runs of them: the last one, and from where its events were read."""
        self._unknown_until: int | None = None

    def forget(self, last: int | None) -> None:
        """Nothing is known of the ticks up to ``last``: they were closed by somebody else."""
        self._unknown_until = last

    def keep(self, tick: int, read_from: Offsets) -> None:
        """Remember from where a tick was read; of long ago for two ticks together, so that there is a bound."""
        kept = self._read_from
        kept.append((tick, read_from))
        if len(kept) > CHECKPOINTS:
            half = CHECKPOINTS // 2
            older = zip(kept[0:half:2], kept[1:half:2], strict=True)
            self._read_from = [*((last, _lower(a, b)) for (_, a), (last, b) in older), *kept[half:]]

    def since(self, tick: int, end: Offsets) -> dict[str, dict[int, tuple[int, int]]]:
        """{topic: {partition: (from, to)}} of the events since ``tick``; from 0 where that is not known any more."""
        start: Offsets = {}
        if self._unknown_until is None or tick > self._unknown_until:
            start = reduce(_lower, (read_from for last, read_from in self._read_from if last >= tick), end)
        offsets: dict[str, dict[int, tuple[int, int]]] = {}
        for tp in sorted(end):
            offsets.setdefault(tp.topic, {})[tp.partition] = (start.get(tp, 0), end[tp])
        return offsets


def _lower(a: Offsets, b: Offsets) -> dict[TopicPartition, int]:
    """The lower offset of each partition that both sides know."""
    return {tp: min(offset, b[tp]) for tp, offset in a.items() if tp in b}
