"""Looking at the last records of a pair of topics: whether labels lie where their predictions do."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from streamdrift.codecs import Source
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.joining.decoding import LabelReader, PredictionReader
from streamdrift.joining.placing import Seen, misplaced
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.compacted import offsets_of
from streamdrift.kafka.messages import batches_of, partition_of, theirs_at
from streamdrift.kafka.offsets import Side
from streamdrift.privacy import Privacy
from streamdrift.records import Position, TopicPartition
from streamdrift.stages.join import Pair

LOOKED_AT: Final = 200
"""Records of a partition."""
PATIENCE: Final = 10.0
"""Seconds for which records are awaited; what has come by then is looked at."""


def require_equal_placing(cluster: Cluster, pair: Pair, partitions: int) -> None:
    """Raises ``ConfigurationError`` if the records of the pair show that labels cannot meet their predictions."""
    predictions, labels = (_seen(cluster, source, partitions) for source in (pair.predictions, pair.labels))
    problem = misplaced(predictions, labels, partitions)
    if problem:
        raise ConfigurationError(
            f"labels of {pair.labels.topic} cannot meet the predictions of {pair.predictions.topic}: {problem}. Both "
            "must be keyed by the prediction id, with the same partitioner; sources[].rekey: true sends both on by it"
        )


def _seen(cluster: Cluster, source: Source, partitions: int) -> list[Seen]:
    """Where the last events of a topic lie."""
    plain = replace(source, privacy=Privacy())  # keys are made of the ids themselves
    reader = LabelReader(plain) if source.kind is SourceKind.LABELS else PredictionReader(plain)
    errors = ClientErrors(cluster.repeats)
    admin = client.admin(cluster, errors)
    tps = [TopicPartition(source.topic, number) for number in range(partitions)]
    starts = offsets_of(cluster, admin, tps, Side.START)
    ends = offsets_of(cluster, admin, tps, Side.END)
    left = {tp for tp in tps if starts[tp] < ends[tp]}
    seen: list[Seen] = []
    consumer = client.reader(cluster, errors)
    try:
        consumer.assign(theirs_at({tp: Position(max(starts[tp], ends[tp] - LOOKED_AT)) for tp in left}))
        until = time.monotonic() + PATIENCE
        while left and time.monotonic() < until:
            messages = consumer.consume(LOOKED_AT, 0.1)
            left -= {partition_of(m) for m in messages if (e := m.error()) and e.code() == codes.PARTITION_EOF}
            for batch in batches_of([message for message in messages if message.error() is None]):
                seen += [
                    Seen(event.model_id, event.prediction_id, batch.partition) for event in reader.read(batch).events
                ]
    finally:
        consumer.close()
    return seen
