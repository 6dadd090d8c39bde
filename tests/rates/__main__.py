"""Months of unchanged traffic, and what is changed in it then: ``make months``, ``make months ARGS="--help"``.

Progress goes to stderr. stdout ends with a line of JSON, above it the same as a table: for each kind of traffic the
false incidents of all its months together, and how long large changes took to be reported, each with a baseline from
a training table and with one that is learned from the month's first events.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import product
from typing import Any, Final

from streamdrift import logs
from streamdrift.status import ModelState
from tests.rates.months import KINDS, Kind, Month, Plan, run
from tests.rates.population import CHANGES

PHASES: Final = 11
"""Changes happen at another hour of the day, and in another part of a window, with each seed."""


def main() -> int:
    arguments = _arguments()
    logs.set_up("error", "console")
    kinds = [kind for kind in KINDS if not arguments.kinds or kind.name in arguments.kinds]
    found: dict[str, Any] = {}
    for kind, learned in product(kinds, (False, True) if arguments.learned is None else (arguments.learned,)):
        seeds = range(arguments.first_seed, arguments.first_seed + (arguments.seeds or kind.seeds))
        quiet = [_told(run(plan)) for plan in _months(kind, seeds, arguments.days, learned=learned)]
        after = {
            change: [_told(run(_changed(kind, change, seed, learned=learned))) for seed in seeds] for change in CHANGES
        }
        name = f"{kind.name}, {'learned' if learned else 'from a table'}"
        print(*_table(name, quiet, after), "", sep="\n", flush=True)
        found[name] = _result(quiet, after)
    print(json.dumps(found, ensure_ascii=False))
    return int(any(of["false_incidents"] or of["missed"] or of["watched"] < of["months"] for of in found.values()))


def _months(kind: Kind, seeds: Sequence[int], days: float, *, learned: bool) -> Iterator[Plan]:
    """Of each seed one with an even rate and, where there is one around the clock, one in which it follows the day."""
    for seed in seeds:
        for seasonal in (False,) if kind.dump else (False, True):
            yield Plan(kind, seed, days, seasonal=seasonal, raw_days=kind.raw_days, learned=learned)


def _changed(kind: Kind, change: str, seed: int, *, learned: bool) -> Plan:
    hours = round(24 * kind.days_before) + 9 * (seed % PHASES if kind.days_before >= 1 else 0)
    return Plan(kind, seed, hours / 24, change=change, raw_days=0.0, learned=learned)


def _told(month: Month) -> Month:
    plan = month.plan
    what = "even rate" if not plan.seasonal else "daily season"
    if plan.change:
        what = f"{plan.change}: " + ("missed" if month.delay_s is None else f"found after {_time(month.delay_s)}")
    of = f"{plan.kind.name}, {'learned' if plan.learned else 'from a table'}, seed {plan.seed}"
    print(f"{of}, {what}: {month.state}; false: {month.false() or 'none'}", file=sys.stderr, flush=True)
    return month


def _table(name: str, quiet: Sequence[Month], after: Mapping[str, Sequence[Month]]) -> Iterator[str]:
    events = sum(month.events for month in quiet)
    yield f"{name}: {len(quiet)} months of {quiet[0].plan.days:g} days, {events:,} events"
    yield f"  {'false incidents of any severity':36}{sum(len(month.false()) for month in quiet):>10}"
    yield f"  {'ADWIN on the score, no incidents':36}{sum(month.river for month in quiet):>10}"
    yield f"  {'found after':36}{'median':>28}{'longest':>28}"
    for change, months in after.items():
        ranked = sorted((m for m in months if m.delay_s is not None), key=lambda m: m.delay_s or 0)
        median, longest = ranked[(len(ranked) - 1) // 2 : (len(ranked) + 1) // 2][:1], ranked[-1:]
        missed = f"  missed in {len(months) - len(ranked)} of {len(months)}" if len(ranked) < len(months) else ""
        yield f"  {change:36}{''.join(map(_delay, median)):>28}{''.join(map(_delay, longest)):>28}{missed}"


def _delay(month: Month) -> str:
    return f"{month.events_since:,} events, {_time(month.delay_s or 0)}"


def _time(seconds: float) -> str:
    """A duration for people: ``40 s``, ``35.0 min``, ``3.5 d``."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return str(round(timedelta(seconds=seconds).total_seconds())) + " s"


def _result(quiet: Sequence[Month], after: Mapping[str, Sequence[Month]]) -> Mapping[str, Any]:
    def median(values: list[float]) -> float | None:
        return round(statistics.median(values), 1) if values else None

    return {
        "months": len(quiet),
        "watched": sum(month.state is ModelState.WATCHING for month in quiet),
        "events": sum(month.events for month in quiet),
        "false_incidents": sum(len(month.false()) for month in [*quiet, *(m for ms in after.values() for m in ms)]),
        "missed": sum(month.delay_s is None for months in after.values() for month in months),
        "events_to_find": {c: median([m.events_since for m in ms if m.found]) for c, ms in after.items()},
        "seconds_to_find": {c: median([m.delay_s for m in ms if m.delay_s is not None]) for c, ms in after.items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.rates", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", nargs="+", choices=[kind.name for kind in KINDS], help="only these kinds of traffic")
    add("--seeds", type=int, metavar="N", help="months of each kind (10 of few events, 3 of many)")
    add("--learned", action=argparse.BooleanOptionalAction, help="only with a learned baseline, or only without (both)")
    add("--first-seed", type=int, default=1, metavar="N", help="the first of the seeds (1)")
    add("--days", type=float, default=30.0, metavar="D", help="length of a month (30)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
