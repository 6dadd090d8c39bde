"""How good the detectors are: ``make quality``, ``make quality ARGS="--short"``, ``make quality ARGS="--help"``.

False incidents against the budget in traffic of every kind in which nothing changes, and how long changes take to be
found, beside River's detectors, tests of windows and an oracle on the very same streams. streamdrift has one
configuration throughout, the default one; what varies are the two inputs that an operator gives, and each table names
them. Progress goes to stderr. stdout has the tables, and one line of JSON at its end; a picture is written to a file.
The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from streamdrift import logs
from tests.quality import budgets, cost, delays, false_alarms, plans, plot, report
from tests.quality.changes import CHANGES
from tests.quality.plans import Amount
from tests.quality.report import Results

PICTURE: Final = Path(".cache/quality.html")


class Benchmark:
    """Runs parts of it, each with random numbers of its own: what is left out changes nothing else."""

    def __init__(self, amount: Amount, seeds: Sequence[int], tell: Callable[[str], None]) -> None:
        self._amount = amount
        self._seeds = seeds
        self._tell = tell
        self.results = Results()

    def run_budgets(self) -> None:
        self.results.budgets = [self._exposure(plan) for plan in self._amount.budgets]

    def run_weekly(self) -> None:
        self.results.weekly = [self._exposure(plan) for plan in self._amount.weekly]

    def run_alarms(self) -> None:
        for null in self._amount.alarms:
            rng = self._random(f"alarms: {null.name}")
            found = false_alarms.measure(null, self._amount.rows, self._amount.alarm_streams, rng)
            self.results.alarms[null.name] = found
            self._tell(f"{null.name}: {', '.join(f'{name} {rate.per_100k:.1f}' for name, rate in found.items())}")

    def run_sides(self) -> None:
        for name in self._amount.changes:
            rng = self._random(f"sides: {name}")
            found = delays.side_by_side(CHANGES[name], self._amount.rows, self._amount.runs, rng)
            self.results.sides[name] = found
            self._tell(f"{name}: {', '.join(f'{name} {runs.median}' for name, runs in found.items() if runs.count)}")

    def run_delays(self) -> None:
        for plan in self._amount.delays:
            rng = self._random(f"delays: {plan.change.name}, {plan.rows}, {plan.features}, {plan.minimum_effect}")
            runs, bound = delays.run(plan, rng), delays.bound(plan.change, plan.features, rng)
            self.results.delays.append((plan, runs, bound))
            what = f"{plan.change.name}, {plan.rows:,} rows, {plan.features:,} features, floor {plan.minimum_effect:g}"
            self._tell(f"{what}: {runs.median}, {runs.early} early, {runs.missed} missed; bound {bound:,.0f}")

    def run_cost(self) -> None:
        for features in self._amount.cost:
            measured = cost.measure(features, self._amount.cost_ticks, self._random("cost"))
            self.results.costs.append(measured)
            self._tell(f"{features:,} features: {measured.tick_ms:.2f} ms a tick, {measured.state_bytes:,.0f} B each")

    def _exposure(self, plan: budgets.NullPlan) -> budgets.Exposure:
        found = budgets.run(plan, self._random(f"budgets: {plan.name}"))
        low, high = found.interval
        by = "".join(f", {count} of {name}" for name, count in found.alarms.items())
        self._tell(
            f"{plan.name}: {found.incidents} in {found.days:.1f} d, {found.ratio:.2f} [{low:.2f}, {high:.2f}]{by}"
        )
        return found

    def _random(self, name: str) -> np.random.Generator:
        return np.random.default_rng([*self._seeds, zlib.crc32(name.encode())])


PARTS: Final[Mapping[str, Callable[[Benchmark], None]]] = {
    "budgets": Benchmark.run_budgets,
    "weekly": Benchmark.run_weekly,
    "alarms": Benchmark.run_alarms,
    "sides": Benchmark.run_sides,
    "delays": Benchmark.run_delays,
    "cost": Benchmark.run_cost,
}


def main() -> int:
    arguments = _arguments()
    logs.set_up("error", "console")
    console = Console(stderr=True, highlight=False)
    amount = plans.short() if arguments.short else plans.full()
    benchmark = Benchmark(amount, arguments.seeds, lambda line: console.print(_clock(), line))
    chosen = [name for name in PARTS if not arguments.only or name in arguments.only]
    with console.status("") as status:
        for number, name in enumerate(chosen, 1):
            status.update(f"{name} ({number} of {len(chosen)})")
            PARTS[name](benchmark)
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_text(plot.page(benchmark.results))
    print(*report.text(benchmark.results), sep="\n")
    print(f"Seeds {' '.join(map(str, arguments.seeds))}; CPU time {_clock()}; picture in {arguments.picture}")
    print(json.dumps(report.result(benchmark.results), ensure_ascii=False))
    return int(not all(target.met for target in benchmark.results.targets()))


def _clock() -> str:
    minutes, seconds = divmod(int(time.process_time()), 60)
    return f"{minutes:3}:{seconds:02}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--short", action="store_true", help="a minute of it, for the tests")
    add("--seeds", "--seed", type=int, nargs="+", default=[1], metavar="N", help="all that is random comes of them (1)")
    add("--only", nargs="+", choices=PARTS, metavar="NAME", help=f"only some of {', '.join(PARTS)}")
    add("--picture", type=Path, default=PICTURE, metavar="FILE", help=f"where the picture is written ({PICTURE})")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
