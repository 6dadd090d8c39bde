"""Measure what an event costs, beside what it costs elsewhere: ``make bench``, ``make bench ARGS="--help"``.

Progress goes to stderr. stdout ends with a line of JSON, above it the same as tables. Numbers are CPU time of a
process for each side, the producer's and the broker's left out, and medians over pairs that were run in turn:
nothing else on the machine that keeps it busy changes them much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streamdrift import logs
from tests.bench import hour
from tests.bench.comparison import Plan, Runner, SideFailed
from tests.bench.detect import Plan as FleetPlan
from tests.bench.detect import measure, result_of, table_of
from tests.bench.quix import QuixUnavailable, environment
from tests.bench.report import result, table
from tests.bench.topics import DoesNotFit, Place, most_events, place
from tests.support.apache_kafka import KafkaUnavailable

VALUES: Final = 16_000_000
MOST: Final = 200_000
"""Unless told, so many events at most, and so many feature values: 4 s of CPU time for the quicker sides."""


def main() -> int:
    arguments = _arguments()
    logs.set_up("error", "console")
    try:
        with place(arguments.broker) as found, tempfile.TemporaryDirectory(prefix="streamdrift-bench-") as directory:
            _run(arguments, found, Runner(found, Path(directory), _tell))
    except (DoesNotFit, KafkaUnavailable, SideFailed) as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


def _run(arguments: argparse.Namespace, found: Place, runner: Runner) -> None:
    quix = _quix(found) if arguments.quix else None
    plans = [_plan(arguments, found, features, quix) for features in arguments.features]
    if arguments.profile:
        for plan in plans:
            print(f"{plan.features} features, {plan.events:,} events, with the profiler's own cost:")
            print(runner.profile(plan))
        return
    comparisons = []
    for plan in plans:
        comparisons.append(runner.compare(plan))
        print(*table(comparisons[-1], found.name), "", sep="\n", flush=True)
    quiet = _hour(arguments, found, runner)
    fleet = _fleet(arguments.models)
    joined = _join(arguments.pending)
    print(json.dumps({**result(comparisons), **quiet, **fleet, **joined}))


def _hour(arguments: argparse.Namespace, found: Place, runner: Runner) -> Mapping[str, Any]:
    """What is reported while nothing changes."""
    if not arguments.hour:
        return {}
    if found.embedded:
        _tell("one hour is left out: the embedded broker does not hold its events")
        return {}
    measured = hour.measure(runner, _tell)
    print(*hour.table_of(measured), "", sep="\n", flush=True)
    return hour.result_of(measured)


def _fleet(models: int) -> Mapping[str, Any]:
    """What detect needs for so many models."""
    if not models:
        return {}
    cost = measure(FleetPlan(models=models), _tell)
    print(*table_of(cost), "", sep="\n", flush=True)
    return result_of(cost)


def _join(pending: int) -> Mapping[str, Any]:
    """What the join needs with so many predictions that wait for their labels, in a process of its own."""
    if not pending:
        return {}
    _tell(f"join: {pending:,} predictions pending")
    command = [sys.executable, "-m", "tests.bench.join_store", str(pending)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    rows = [f"{name.replace('_', ' '):>34}  {value:>14,}" for name, value in found.items()]
    print("The join of one partition:", *rows, "", sep="\n", flush=True)
    return {"join": found}


def _plan(arguments: argparse.Namespace, found: Place, features: int, quix: Path | None) -> Plan:
    events = arguments.events or min(MOST, VALUES // features)
    if found.embedded and not arguments.events:
        events = min(events, most_events(features))
    return Plan(features, events, arguments.pairs, arguments.rate, arguments.bad, arguments.mapped, quix)


def _quix(found: Place) -> Path | None:
    if found.embedded:
        _tell("quixstreams is left out: it needs Apache Kafka")
        return None
    try:
        return environment()
    except QuixUnavailable as reason:
        _tell(f"quixstreams is left out: {reason}")
        return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--features", type=int, nargs="+", default=[20, 200], metavar="N", help="features of an event (20 200)")
    add("--events", type=int, metavar="N", help="messages in the topic (200,000 of 20 features, 80,000 of 200)")
    add("--pairs", type=int, default=7, metavar="N", help="how often each side is run (7)")
    add("--rate", type=float, default=1000.0, metavar="R", help="events a second of event time (1000)")
    add("--bad", type=float, default=0.01, metavar="SHARE", help="share of bad messages in one more topic (0.01)")
    add("--mapped", action=argparse.BooleanOptionalAction, default=True, help="run through a mapping too (yes)")
    add("--hour", action=argparse.BooleanOptionalAction, default=True, help="run an hour without a change too (yes)")
    add("--models", type=int, default=1_000, metavar="N", help="models of a fleet that detect alone is run with (1000)")
    add("--pending", type=int, default=10_000_000, metavar="N", help="predictions that wait in the join (10,000,000)")
    add("--broker", choices=["auto", "apache", "embedded"], default="auto", help="auto: Apache Kafka if it is there")
    add("--quix", action="store_true", help="compare with quixstreams too, in an environment under .cache")
    add("--profile", action="store_true", help="show the hottest functions instead of comparing")
    return parser.parse_args()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
