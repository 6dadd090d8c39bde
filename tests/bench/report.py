"""What came of it: a table for people, and one line of JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.bench.comparison import NAMES, Comparison


class Ratio(NamedTuple):
    """A number that the benchmark is about."""

    name: str
    above: str
    below: str
    what: str
    """For a person, with what it must be."""


RATIOS: Final = (
    Ratio("ratio_vs_river", "river", "streamdrift", "events per CPU second, of the plain loop's (2 at 20, 3.5 at 200)"),
    Ratio("share_of_floor", "floor", "streamdrift", "of fetch + decode (0.75 or more)"),
    Ratio("cost_of_bad_messages", "bad", "streamdrift", "of a message where some are bad (1.1 or less)"),
    Ratio("cost_of_mapping", "mapped", "streamdrift", "of an event that stands where the contract puts it"),
    Ratio("ratio_vs_quix", "quix", "streamdrift", "events per CPU second, of quixstreams'"),
)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, statistics.median(values), high


def table(comparison: Comparison, broker: str) -> Iterator[str]:
    """Costs and ratios as lines of text: medians between their quartiles."""
    plan, topic = comparison.plan, comparison.topic
    yield (
        f"{plan.features} features: {topic.messages:,} events of {topic.bytes / topic.messages:.0f} bytes, "
        f"{plan.rate:g} a second of event time; {plan.pairs} pairs on {broker}"
    )
    yield f"  {'CPU time of':32}{'µs an event':>24}{'events per CPU second':>24}"
    for side in (side for side in NAMES if side in comparison.outcomes):
        low, median, high = quartiles(comparison.costs(side))
        yield f"  {NAMES[side]:32}{f'{low:.2f} … {median:.2f} … {high:.2f}':>24}{1e6 / median:>24,.0f}"
    for ratio in _ratios(comparison):
        low, median, high = quartiles(comparison.ratio(ratio.above, ratio.below))
        yield f"  {ratio.name:32}{f'{low:.2f} … {median:.2f} … {high:.2f}':>24}   {ratio.what}"


def result(comparisons: Sequence[Comparison]) -> Mapping[str, Any]:
    """Medians, by number of features."""
    found: dict[str, dict[str, Any]] = {"ratio_vs_river": {}, "share_of_floor": {}, "events_per_cpu_second": {}}
    for comparison in comparisons:
        features = str(comparison.plan.features)
        for ratio in _ratios(comparison):
            median = statistics.median(comparison.ratio(ratio.above, ratio.below))
            found.setdefault(ratio.name, {})[features] = round(median, 3)
        found["events_per_cpu_second"][features] = {
            side: round(1e6 / statistics.median(comparison.costs(side))) for side in comparison.outcomes
        }
    return found


def _ratios(comparison: Comparison) -> Iterator[Ratio]:
    return (ratio for ratio in RATIOS if ratio.above in comparison.outcomes)
