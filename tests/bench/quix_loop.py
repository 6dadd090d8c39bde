"""The same work with quixstreams: run by the Python of its own environment, which has nothing of streamdrift.

Reads a job from stdin and writes what it took to stdout, as ``tests.bench.sides`` does. The first message is where
measuring begins.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def main() -> None:
    job = json.load(sys.stdin)
    quixstreams: Any = importlib.import_module("quixstreams")
    adwin: Any = importlib.import_module("river.drift").ADWIN
    application = quixstreams.Application(
        broker_address=job["bootstrap_servers"],
        consumer_group=f"{job['run']}-quix",
        auto_offset_reset="earliest",
        loglevel="WARNING",
    )
    topic = application.topic(job["topic"], value_deserializer="json")
    detectors: dict[str, Any] = {}
    codes: dict[str, dict[str, int]] = {}
    of_score = adwin()
    begun = ended = 0.0
    seen = drifts = 0

    def take(event: dict[str, Any] | None) -> None:
        nonlocal begun, ended, seen, drifts
        if event is None:
            return
        begun = begun or time.process_time()
        for name, x in event["features"].items():
            if x is not None:
                if name not in detectors:
                    detectors[name] = adwin()
                if isinstance(x, str):
                    known = codes.setdefault(name, {})
                    x = known.setdefault(x, len(known))  # noqa: PLW2901 — as one writes it
                detectors[name].update(x)
                drifts += detectors[name].drift_detected
        of_score.update(event["prediction"]["score"])
        drifts += of_score.drift_detected
        seen += 1
        if seen == job["messages"]:
            ended = time.process_time()
            application.stop()

    application.dataframe(topic).update(take)
    application.run()
    print(json.dumps({"cpu_seconds": ended - begun, "measured": seen, "messages": seen, "events": seen}))


if __name__ == "__main__":
    main()
