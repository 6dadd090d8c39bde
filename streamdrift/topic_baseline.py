"""``streamdrift baseline build --from topic:NAME``: a baseline of the events that a topic still holds.

They go the way that detect learns by: decoded through the source's mapping, kept as rows, a grid cut from them, and
counted on it. Of more than ``MAX_EVENTS``, those with the smallest hashes are taken: the same ones each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Final

from streamdrift.assembly import cluster_of, source_of
from streamdrift.baseline_command import check_output, deliver
from streamdrift.baselines import Baseline
from streamdrift.codecs import Source
from streamdrift.codecs.json import JsonDecoder
from streamdrift.errors import ConfigurationError
from streamdrift.gridbook import ModelKey
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.subscriber import Subscriber
from streamdrift.learning import counted_on, counts_of, grid_of
from streamdrift.records import Record, RecordBatch
from streamdrift.settings import Settings
from streamdrift.stages.inputs import is_control
from streamdrift.summaries import Row
from streamdrift.tables import MIN_ROWS

PREFIX: Final = "topic:"
MAX_EVENTS: Final = 20_000
"""Events of which a baseline is made: as many as a learned one counts."""
_BLOCK: Final = 5_000
"""Records that are decoded at once."""


def build_from_topic(
    settings: Settings,
    origin: str,
    key: ModelKey,
    output: Path,
    *,
    force: bool = False,
    as_json: bool = False,
    cluster: Cluster | None = None,
) -> int:
    """Write the baseline of a model version from ``topic:NAME``, a source of the settings, and tell what is in it.

    Returns the exit code 0. Raises ``ConfigurationError`` for everything that is wrong with topic, options or output.
    """
    check_output(output, force=force)
    source = _source(settings, origin)
    with Subscriber(cluster or cluster_of(settings), source.topic) as subscriber:
        rows = sample(rows_of(source, key, subscriber.until_now()))
    if len(rows) < MIN_ROWS:
        name = f"model {key[0]}, version {key[1]}"
        raise ConfigurationError(
            f"topic {source.topic} holds {len(rows)} events of {name}; a baseline needs at least {MIN_ROWS}"
        )
    grid = grid_of(*key, rows, settings.model(key[0]).features.watches)
    return deliver(Baseline(grid, counts_of(counted_on(grid, rows))), output, as_json=as_json)


def _source(settings: Settings, origin: str) -> Source:
    topics = [source.topic for source in settings.sources]
    topic = origin.removeprefix(PREFIX)
    if not origin.startswith(PREFIX) or topic not in topics:
        listed = ", ".join(PREFIX + topic for topic in topics)
        raise ConfigurationError(f"--from {origin}: expected a source of the configuration: {listed}")
    return source_of(settings, topics.index(topic))


def rows_of(source: Source, key: ModelKey, records: Iterable[Record]) -> Iterator[Row]:
    """The events of a model version in records of its source; what is no event is left out."""
    decoder = JsonDecoder(source, lambda *_: None)
    wanted = (record for record in records if not (record.value is None and is_control(record.headers)))
    while block := list(islice(wanted, _BLOCK)):
        columns = zip(*block, strict=True)
        for decoded in decoder.decode(RecordBatch(source.topic, 0, *map(list, columns))).batches:
            events = decoded.events
            if (events.grid.model_id, events.grid.model_version) == key and events.rows is not None:
                yield from map(Row, events.hashes.tolist(), events.times.tolist(), events.rows)


def sample(rows: Iterable[Row]) -> Sequence[Row]:
    """At most ``MAX_EVENTS`` of the rows, in order of time."""
    kept: list[Row] = []
    for row in rows:
        kept.append(row)
        if len(kept) >= 2 * MAX_EVENTS:
            kept = nsmallest(MAX_EVENTS, kept)
    return sorted(nsmallest(MAX_EVENTS, kept), key=lambda row: (row.time, row))
