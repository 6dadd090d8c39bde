"""A range of a topic as a history: read as an outsider would, in no group, committing nothing.

``topic:NAME`` is all that it holds now; ``topic:NAME@from..to`` a part of it, between offsets (of every partition) or
times of records; either end may be left out. Where the configuration has labels of these predictions, they are read
along: since the same time, and up to now, for labels come later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from streamdrift.assembly import cluster_of
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.offsets import Side, Since
from streamdrift.kafka.ranges import Bound, Extent, Ranges
from streamdrift.replay.messages import History, Message, Refusals, Survey
from streamdrift.replay.plan import Plan, for_topics
from streamdrift.settings import Settings
from streamdrift.source_settings import Source
from streamdrift.stages.inputs import is_control

PREFIX: Final = "topic:"
_EXPECTED: Final = "expected topic:NAME or topic:NAME@from..to with offsets, or times such as 2026-11-22T10:00:00Z"


def open_topic(
    settings: Settings, origin: str, warm_up: int | None = None, cluster: Cluster | None = None
) -> tuple[History, Plan]:
    """The history in ``topic:NAME[@from..to]``, a source of the settings, and what to replay it with.

    Raises ``ConfigurationError`` for a topic that is no source of events, and ``BrokerUnreachable`` and its like.
    """
    name, start, end = parse(origin)
    events = [source for source in settings.sources if source.kind is not SourceKind.LABELS]
    chosen = [source for source in events if source.topic == name]
    if not chosen:
        listed = ", ".join(PREFIX + source.topic for source in events)
        raise ConfigurationError(f"{origin}: expected a source of the configuration: {listed}")
    labels = [
        source
        for source in settings.sources
        if source.kind is SourceKind.LABELS and settings.predictions_of(source) == name
    ]
    ranges = Ranges(cluster or cluster_of(settings))
    extents = [ranges.extent(name, start, end)]
    extents += [ranges.extent(source.topic, start if isinstance(start, Since) else Side.START) for source in labels]
    sources = [*chosen, *labels]
    plan = for_topics(settings, [source.topic for source in sources], warm_up)
    return TopicHistory(origin, ranges, extents, sources), plan


def parse(origin: str) -> tuple[str, Bound, Bound]:
    """Name and bounds of ``topic:NAME[@from..to]``. Raises ``ConfigurationError``.

    >>> parse("topic:predictions@100..")
    ('predictions', 100, <Side.END: 'end'>)
    """
    name, at, bounds = origin.removeprefix(PREFIX).partition("@")
    first, dots, last = bounds.partition("..")
    if not name or (at and not dots):
        raise ConfigurationError(f"{origin}: {_EXPECTED}")
    return name, _bound(origin, first, Side.START), _bound(origin, last, Side.END)


def _bound(origin: str, text: str, usual: Side) -> Bound:
    if not text:
        return usual
    if text.isdecimal():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{origin}: {_EXPECTED}") from None
    if time.tzinfo is None:
        raise ConfigurationError(f"{origin}: {text} names no zone; {_EXPECTED}")
    return Since(round(time.timestamp() * 1e3))


class TopicHistory:
    """Ranges of topics, the events' first."""

    def __init__(self, name: str, ranges: Ranges, extents: Sequence[Extent], sources: Sequence[Source]) -> None:
        self.name = name
        self.refusals = Refusals()
        self._ranges = ranges
        self._extents = extents
        self._kinds = {source.topic: source.kind for source in sources}
        self._topics = {source.kind: source.topic for source in sources}
        # What is keyed otherwise could not meet in partitions of one number: then all is read as one.
        self._together = any(source.rekey for source in sources)
        self.partitions = 1 if self._together else max(len(extent.partitions) for extent in extents)
        events, *labels = (extent.records for extent in extents)
        self.survey = Survey(events=events, labels=sum(labels), kinds={source.kind for source in sources})

    def messages(self) -> Iterator[Message]:
        for batch in self._ranges.read(self._extents):
            kind, partition = self._kinds[batch.topic], 0 if self._together else batch.partition
            for record in batch:
                if not (record.value is None and is_control(record.headers)):
                    yield Message(
                        kind,
                        record.value,
                        None,
                        record.timestamp,
                        record.offset,
                        partition,
                        record.key,
                        record.headers,
                    )

    def place(self, kind: SourceKind, partition: int, place: int) -> str:
        return f"{self._topics[kind]}[{partition}]@{place}"
