"""What came of it: tables for people, and one object for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.quality import targets
from tests.quality.budgets import Exposure
from tests.quality.cost import Cost
from tests.quality.delays import SLOW, STREAMDRIFT, ChangePlan, Runs
from tests.quality.false_alarms import Rate
from tests.quality.targets import Target


@dataclass
class Results:
    """Everything that was measured; what was not is empty."""

    budgets: list[Exposure] = field(default_factory=list)
    weekly: list[Exposure] = field(default_factory=list)
    alarms: dict[str, Mapping[str, Rate]] = field(default_factory=dict)
    """By null and detector."""
    sides: dict[str, Mapping[str, Runs]] = field(default_factory=dict)
    """By change and detector."""
    delays: list[tuple[ChangePlan, Runs, float]] = field(default_factory=list)
    """With their information bound."""
    costs: list[Cost] = field(default_factory=list)

    def targets(self) -> list[Target]:
        return [
            *targets.of_budgets(self.budgets),
            *targets.of_weekly(self.weekly),
            *targets.of_sides(self.sides),
            *targets.of_delays(self.delays),
            *targets.of_costs(self.costs),
        ]


# ---- for people ------------------------------------------------------------------------------------------------------


def text(results: Results) -> Iterator[str]:
    """All tables, a line at a time."""
    if results.budgets or results.weekly:
        yield from _budgets([*results.budgets, *results.weekly])
    if results.alarms:
        yield from _alarms(results.alarms)
    if results.sides:
        yield from _sides(results.sides)
    if results.delays:
        yield from _delays(results.delays)
    yield "Targets"
    rows = [[of.name, of.found, of.wanted, "met" if of.met else "MISSED"] for of in results.targets()]
    yield from _table(["", "found", "wanted", ""], rows)


def _budgets(exposures: Sequence[Exposure]) -> Iterator[str]:
    yield "False incidents of a model while nothing changes, over what its budget allows (95 % interval)"
    header = ["null", "rows", "features", "floor", "events/s", "budget/d"]
    header += ["models", "days", "in one", "incidents", "alarms", "skewed"]
    rows = []
    for exposure in exposures:
        plan, (low, high) = exposure.plan, exposure.interval
        cells = [
            plan.null.name,
            f"{plan.rows:,}",
            f"{plan.features:,}",
            f"{plan.minimum_effect:g}",
            f"{plan.null.per_tick / plan.null.tick_s:.3g}",
            f"{plan.per_day:.3g}",
            f"{plan.models}",
            f"{exposure.days:.1f}",
            f"{exposure.days_in_incidents:.1f}",
            f"{exposure.incidents}",
            f"{exposure.alarms.total()}",
            f"{exposure.open_at_start}",
        ]
        rows.append([*cells, f"{exposure.ratio:.2f} [{low:.2f}, {high:.2f}]"])
    yield from _table([*header, "ratio"], rows)
    yield "days: of all models, once calibrated; in one: of these, with an incident open; alarms: of single columns;"
    yield "skewed: models in alarm at the end of calibration, for which no budget is promised (not counted)."
    yield ""


def _alarms(found: Mapping[str, Mapping[str, Rate]]) -> Iterator[str]:
    names = list(next(iter(found.values())))
    yield "Alarms per 100,000 events of one feature in which nothing changes"
    rows = [[null, *(f"{rates[name].per_100k:.1f}" for name in names)] for null, rates in found.items()]
    yield from _table(["", *names], rows)
    events = {name: sum(rates[name].events for rates in found.values()) for name in names}
    yield f"Events in all: {', '.join(f'{name} {n:,}' for name, n in events.items())}."
    yield ""


def _sides(found: Mapping[str, Mapping[str, Runs]]) -> Iterator[str]:
    names = list(next(iter(found.values())))
    count = next(iter(found.values()))[STREAMDRIFT].count
    yield f"Median delay in events, one feature, {count} runs of each change"
    rows = [[change, *(_cell(runs[name]) for name in names)] for change, runs in found.items()]
    yield from _table(["", *names], rows)
    yield f"e: runs with an alarm before the change, which find nothing; m: without any alarm; KSWIN: 1 run in {SLOW}."
    again = ", ".join(
        f"{change} {runs[STREAMDRIFT].again}" for change, runs in found.items() if runs[STREAMDRIFT].again
    )
    yield f"Alarms of streamdrift that began anew while the change lasted: {again or 'none'}."
    yield ""


def _cell(runs: Runs) -> str:
    if not runs.count:
        return ""
    parts = [f"{runs.median:,.0f}" if runs.median is not None else "-"]
    parts += [f"{runs.early}e"] if runs.early else []
    parts += [f"{runs.missed}m"] if runs.missed else []
    return " ".join(parts)


def _delays(found: Sequence[tuple[ChangePlan, Runs, float]]) -> Iterator[str]:
    yield "Median delay of streamdrift in events, by model, with one false alarm a week at 100 events a second"
    rows = []
    for plan, runs, bound in found:
        over = "" if runs.median is None else f"{runs.median / bound:.2f}"
        sizes = [f"{plan.rows:,}", f"{plan.features:,}", f"{plan.minimum_effect:g}", f"{runs.count}"]
        rows.append([plan.change.name, *sizes, _cell(runs), f"{bound:,.0f}", over])
    yield from _table(["change", "rows", "features", "floor", "runs", "delay", "bound", "delay/bound"], rows)
    yield "bound: ln(features x events in a week) / KL, which nobody can beat at that rate of false alarms."
    yield ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, all others to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    for line in (header, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        yield "  " + "  ".join((first.strip().ljust(widths[0]), *others))
    yield ""


# ---- for programs ----------------------------------------------------------------------------------------------------


def result(results: Results) -> Mapping[str, Any]:
    """The last line of the command."""
    worst = targets.worst(results.budgets) if results.budgets else None
    return {
        "worst_budget_ratio": _number(worst.ratio) if worst else None,
        "worst_budget_ratio_interval": [_number(bound) for bound in worst.interval] if worst else None,
        "worst_budget_ratio_of": worst.plan.name if worst else None,
        "false_alarms": {
            "budgets": [_exposure(exposure) for exposure in [*results.budgets, *results.weekly]],
            "per_100k_events": {
                null: {name: round(rate.per_100k, 3) for name, rate in rates.items()}
                for null, rates in results.alarms.items()
            },
        },
        "delays": {
            "side_by_side": {
                change: {name: _runs(runs) for name, runs in sides.items() if runs.count}
                for change, sides in results.sides.items()
            },
            "models": [
                {
                    "change": plan.change.name,
                    "rows": plan.rows,
                    "features": plan.features,
                    "minimum_effect": plan.minimum_effect,
                    **_runs(runs),
                    "bound": round(bound, 1),
                }
                for plan, runs, bound in results.delays
            ],
        },
        "cost": {
            str(cost.features): {"tick_ms": round(cost.tick_ms, 3), "state_bytes": round(cost.state_bytes)}
            for cost in results.costs
        },
        "targets": {target.name: target.met for target in results.targets()},
    }


def _number(x: float) -> float:
    """Of an interval without an end, a number all the same."""
    return round(min(x, 1e9), 4)


def _exposure(exposure: Exposure) -> Mapping[str, Any]:
    plan = exposure.plan
    return {
        "null": plan.null.name,
        "rows": plan.rows,
        "features": plan.features,
        "minimum_effect": plan.minimum_effect,
        "budget_per_day": plan.per_day,
        "days": round(exposure.days, 3),
        "incidents": exposure.incidents,
        "alarms": dict(exposure.alarms),
        "ratio": _number(exposure.ratio),
        "interval": [_number(bound) for bound in exposure.interval],
    }


def _runs(runs: Runs) -> Mapping[str, Any]:
    counts = {"found": len(runs.delays), "early": runs.early, "missed": runs.missed, "again": runs.again}
    return {"median": runs.median, **counts}
