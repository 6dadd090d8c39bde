"""What the join costs: pairs a CPU second, bytes a row, and resident memory, with many predictions pending.

    python -m tests.bench.join_store [ROWS] [--bare]

First ROWS predictions come, and stay. Then, in the steady state, batches of new predictions and of labels for random
ones of those before, and the oldest expire: a pair is a prediction that came and one that was labelled. The last line
is JSON. ``--bare`` measures the store alone. CPU time is of all threads, so RocksDB's compactions are in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamdrift.assembly import settle
from streamdrift.codecs.source import EventTime, Source
from streamdrift.events import SourceKind
from streamdrift.joining.rows import Predicted, Prediction, encode_row, key_of
from streamdrift.joining.state import State
from streamdrift.joining.store import MEMORY_BYTES, RocksStore, RocksStores
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.records import Position, RecordBatch, TopicPartition
from streamdrift.stages.join import JoinConfig, Joiner, Pair
from streamdrift.status import JoinStatus
from streamdrift.topology import MemoryChangelog

PREDICTIONS, LABELS, CHANGELOG = "predictions", "labels", TopicPartition("changelog", 0)
NOW = 4e9
"""The clock: past every event."""
POLL = 2_048
"""Messages a poll."""
BATCH = 20_000
"""Events a commit: what 10,000 a second give in two seconds."""
SECOND = 1_000_000
RATE = 10_000
"""Predictions a second of event time."""
FEATURES = ",".join(f'"feature_{i}":{i}.25' for i in range(20))


def prediction_message(number: int) -> bytes:
    """A message of the usual kind, of which the join skips most."""
    return (
        f'{{"prediction_id":"4fd1c2-{number}","model_id":"fraud","model_version":"7","timestamp":{number},'
        f'"features":{{{FEATURES}}},"prediction":{{"label":"legit","score":0.{number}}}}}'
    ).encode()


def label_message(number: int) -> bytes:
    return f'{{"prediction_id":"4fd1c2-{number}","model_id":"fraud","label":"fraud"}}'.encode()


def time_of(number: int) -> int:
    return 1_700_000_000 * SECOND + number * SECOND // RATE


class Side:
    """The stage on a partition of both topics, as its loop calls it, with nothing behind what it writes."""

    def __init__(self, directory: Path, wait_us: int, rows: int) -> None:
        pair = Pair(
            Source(PREDICTIONS, event_time=EventTime.RECORD, lateness_us=0),
            Source(LABELS, SourceKind.LABELS, EventTime.RECORD, lateness_us=0),
            CHANGELOG.topic,
        )
        self.stores = RocksStores(directory, MEMORY_BYTES, time.time)
        self._stage = Joiner(
            JoinConfig(label_delay_us=wait_us, orphan_wait_us=60 * SECOND, max_rows=2 * rows),
            [pair],
            self.stores,
            MemoryChangelog(),
            grid_of=lambda _, __: OutcomeGrid(Task.BINARY, ("legit", "fraud")),
            window_us=lambda _: 86_400 * SECOND,
        )
        self._stage.topology({PREDICTIONS: 1, LABELS: 1})
        self._written = 0
        self.outcome_bytes = 0
        for topic in (PREDICTIONS, LABELS):
            self._stage.assigned(TopicPartition(topic, 0), Position(0), {})

    def read(self, topic: str, values: list[bytes], first: int, milliseconds: list[int]) -> None:
        """Messages from offset ``first`` on, by the time of their records."""
        nothing = [None] * len(values)
        batch = RecordBatch(
            topic, 0, range(first, first + len(values)), milliseconds, nothing, values, [()] * len(values)
        )
        for start in range(0, len(values), POLL):
            self._stage.process(batch.part(start, start + POLL), NOW)

    def commit(self) -> None:
        commit = self._stage.take(NOW, final=True)
        self._written += len(commit.state)
        self.outcome_bytes += sum(len(record.value or b"") for record in commit.outputs)
        self._stage.carried_out({CHANGELOG: self._written})

    def close(self) -> JoinStatus:
        [status] = self._stage.joins()
        self._stage.revoked(TopicPartition(LABELS, 0))
        return status


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(work: Callable[[], object]) -> float:
    begun = cpu_seconds()
    work()
    return cpu_seconds() - begun


def megabytes(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


def resident_megabytes() -> float:
    """Most that was resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_join(directory: Path, rows: int) -> dict[str, Any]:
    """The whole stage, from messages to records of outcomes and of the changelog."""
    before = resident_megabytes()
    side = Side(directory, time_of(rows) - time_of(0), rows)

    def predict(first: int, stop: int) -> None:
        values = [prediction_message(number) for number in range(first, stop)]
        side.read(PREDICTIONS, values, first, [time_of(number) // 1_000 for number in range(first, stop)])

    def fill() -> None:
        for first in range(0, rows, BATCH):
            predict(first, min(first + BATCH, rows))
            side.commit()

    steady = min(max(rows // 5, BATCH), 500_000, rows)
    chosen = np.random.default_rng(1).permutation(rows)[:steady].tolist()

    def pair() -> None:
        for first in range(0, steady, BATCH):
            numbers = chosen[first : first + BATCH]
            predict(rows + first, rows + first + len(numbers))
            now = time_of(rows + first) // 1_000
            side.read(LABELS, [label_message(number) for number in numbers], first, [now] * len(numbers))
            side.commit()

    making = measured(lambda: ([prediction_message(i) for i in range(BATCH)], [label_message(i) for i in range(BATCH)]))
    filling = measured(fill)
    size = megabytes(directory)
    pairing = measured(pair) - making * steady / BATCH  # making the messages is the bench's own
    status = side.close()
    return {
        "fill_predictions_per_cpu_second": round(rows / filling),
        "pairs_per_cpu_second": round(steady / pairing),
        "bytes_per_row": round(1e6 * size / rows, 1),
        "outcome_bytes_per_pair": round(side.outcome_bytes / steady, 1),
        "expired": status.fates["expired"],
        "labelled": status.fates["labelled"],
        "resident_megabytes": round(resident_megabytes() - before),
    }


def bench_store(directory: Path, rows: int) -> dict[str, Any]:
    """The store alone, a batch an atomic write."""
    store = RocksStore(directory)
    keys = [key_of("fraud", f"4fd1c2-{number}") for number in range(rows)]
    value = encode_row(Predicted(0, time_of(0), 0, Prediction("legit", 0.123)))

    def write(chosen: list[bytes], value: bytes | None) -> None:
        for first in range(0, len(chosen), BATCH):
            batch = sorted(chosen[first : first + BATCH])
            store.commit(dict.fromkeys(batch, value), {}, (), State(), (), 0)

    def look_up(chosen: list[bytes]) -> None:
        for first in range(0, len(chosen), BATCH):
            store.get(sorted(chosen[first : first + BATCH]))

    picked = [keys[i] for i in np.random.default_rng(1).permutation(rows)[: max(rows // 4, 1)].tolist()]
    absent = [key_of("other", str(number)) for number in range(len(picked))]
    found = {}
    for name, count, work in (
        ("inserts", rows, lambda: write(keys, value)),
        ("look_ups", len(picked), lambda: look_up(picked)),
        ("look_ups_of_absent", len(picked), lambda: look_up(absent)),
        ("updates", len(picked), lambda: write(picked, value + b"x")),
        ("deletes", len(picked), lambda: write(picked, None)),
    ):
        found[f"{name}_per_cpu_second"] = round(count / measured(work))
    store.close()
    return found


def main() -> None:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rows", type=int, nargs="?", default=500_000)
    parser.add_argument("--bare", action="store_true", help="the store alone")
    options = parser.parse_args()
    settle()
    bench = bench_store if options.bare else bench_join
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = bench(Path(place) / "store", options.rows)
    print(f"{options.rows:,} rows took {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print(json.dumps({"rows": options.rows, **found}))


if __name__ == "__main__":
    main()
