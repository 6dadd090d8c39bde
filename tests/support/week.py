"""A week of the fraud model's traffic at a tick of a minute: how much memory and CPU time the topology takes.

``python -m tests.support.week DIRECTORY`` reads the configuration that ``tests.support.fraud.settings`` wrote
there, and prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from streamdrift.assembly import topology
from streamdrift.generator import PREDICTIONS_TOPIC, Traffic
from streamdrift.settings import Settings
from streamdrift.topology import TopologyDriver
from tests.support.fraud import SEED, START

EVENTS_PER_SECOND = 0.5


def resident_bytes() -> int:
    """Resident set size of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def main(directory: Path) -> None:
    settings = Settings.load(directory / "streamdrift.yaml", {"time.tick": "1m"}, {})
    driver = TopologyDriver(topology(settings), partitions=3)
    traffic = Traffic(SEED, START, EVENTS_PER_SECOND, (), labels=False)
    resident: dict[str, int] = {}
    day, started = 1, time.process_time()
    for i, event in enumerate(traffic.messages(until=START + timedelta(days=7))):
        if event.time_us >= (START + timedelta(days=day)).timestamp() * 1e6:
            resident[str(day)] = resident_bytes()
            day += 1
        driver.send(PREDICTIONS_TOPIC, event.value, partition=i % 3)
        if i % 500 == 499:
            driver.advance(500 / EVENTS_PER_SECOND)
            driver.run()
    driver.end_of_stream()
    driver.run()
    resident["7"] = resident_bytes()
    (model,) = driver.detect.models.values()
    print(
        json.dumps(
            {
                "ticks": model.ticks_closed,
                "events": model.events,
                "cpu_seconds": time.process_time() - started,
                "resident_bytes": resident,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
