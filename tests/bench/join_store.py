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

from streamdrift.codecs.source import EventTime, Source
from streamdrift.events import SourceKind
from streamdrift.joining.decoding import LabelReader, PredictionReader
from streamdrift.joining.join import Join, LabelEvent, PredictionEvent
from streamdrift.joining.matching import Bounds
from streamdrift.joining.rows import Predicted, Prediction, encode_row, key_of
from streamdrift.joining.state import State
from streamdrift.joining.store import RocksStore
from streamdrift.records import RecordBatch

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


def records(values: list[bytes], first: int, milliseconds: list[int]) -> RecordBatch:
    nothing = [None] * len(values)
    return RecordBatch("", 0, range(first, first + len(values)), milliseconds, nothing, values, [()] * len(values))


def predictions(first: int, stop: int) -> list[PredictionEvent]:
    values = [prediction_message(number) for number in range(first, stop)]
    times = [time_of(number) // 1_000 for number in range(first, stop)]
    return PredictionReader(Source("", event_time=EventTime.RECORD)).read(records(values, first, times)).events


def labels(numbers: list[int], offset: int, now: int) -> list[LabelEvent]:
    values = [label_message(number) for number in numbers]
    source = Source("", SourceKind.LABELS, EventTime.RECORD)
    return LabelReader(source).read(records(values, offset, [now // 1_000] * len(values))).events


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
    """The join as its stage calls it, from messages to outcomes and records of the changelog."""
    before = resident_megabytes()
    store = RocksStore(directory)
    bounds = Bounds(label_delay_us=time_of(rows) - time_of(0), orphan_wait_us=60 * SECOND, max_rows=2 * rows)
    join = Join(store, bounds)
    changes = 0

    def commit() -> None:
        nonlocal changes
        changes += len(join.result().changes)
        join.commit(changes)

    def fill() -> None:
        for first in range(0, rows, BATCH):
            stop = min(first + BATCH, rows)
            join.take_predictions(predictions(first, stop), stop)
            commit()

    steady = min(max(rows // 5, BATCH), 500_000)
    chosen = np.random.default_rng(1).permutation(rows)[:steady].tolist()

    def pair() -> None:
        for first in range(0, steady, BATCH):
            count = min(BATCH, steady - first)
            join.take_predictions(predictions(rows + first, rows + first + count), rows + first + count)
            join.take_labels(labels(chosen[first : first + count], first, time_of(rows + first)), first + count)
            commit()

    making = measured(lambda: ([prediction_message(i) for i in range(BATCH)], [label_message(i) for i in range(BATCH)]))
    filling = measured(fill)
    size = megabytes(directory)
    pairing = measured(pair) - making * steady / BATCH  # making the messages is the bench's own
    found = {
        "fill_predictions_per_cpu_second": round(rows / filling),
        "pairs_per_cpu_second": round(steady / pairing),
        "bytes_per_row": round(1e6 * size / rows, 1),
        "expired": join.state.counts[3],
        "labelled": join.state.counts[2],
        "resident_megabytes": round(resident_megabytes() - before),
    }
    store.close()
    return found


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
    bench = bench_store if options.bare else bench_join
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = bench(Path(place) / "store", options.rows)
    print(f"{options.rows:,} rows took {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print(json.dumps({"rows": options.rows, **found}))


if __name__ == "__main__":
    main()
