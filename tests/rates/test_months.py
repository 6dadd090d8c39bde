"""Every kind of traffic with default settings, shortened: ``make months`` runs whole months and more seeds."""

from __future__ import annotations

import numpy as np
import pytest

from streamdrift.detectors import effects
from streamdrift.status import ModelState
from streamdrift.summaries import Moments, Names, Summary
from streamdrift.windows import Reference
from tests.rates.months import KINDS, Kind, Plan, run
from tests.rates.population import CHANGES, USUAL, Counted, baseline, changed, columns, names_of
from tests.support.windows import summary

DAYS = {"50 a day": 30.0, "100 a second": 0.125, "10,000 a second": 0.125, "10,000 in a dump a night": 4.0}
"""How much of a month there is time for."""
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


every_baseline = pytest.mark.parametrize("learned", [False, True], ids=["from a table", "learned"])


@every_kind
@every_baseline
def test_nothing_is_reported_while_nothing_changes(kind: Kind, learned: bool) -> None:  # noqa: FBT001 — pytest gives it
    month = run(Plan(kind, 1, DAYS[kind.name], seasonal=not kind.dump, raw_days=1 / 288, learned=learned))
    assert month.alerts == []
    assert month.state is ModelState.WATCHING
    assert month.events > {"50 a day": 1_000}.get(kind.name, 30_000)


@every_kind
@pytest.mark.parametrize("change", ["age missing 2 → 20 %"])
def test_a_large_change_is_found(kind: Kind, change: str) -> None:
    month = run(Plan(kind, 1, kind.days_before, change=change, raw_days=0))
    assert month.false() == []
    assert month.found is not None
    assert month.found["phase"] == "started"
    assert [feature["feature"] for feature in month.found["features"]] == names_of(change)
    limits = {"50 a day": 12 * 86_400, "100 a second": 60, "10,000 a second": 10, "10,000 in a dump a night": 120}
    assert month.delay_s is not None
    assert 0 < month.delay_s <= limits[kind.name]


def test_a_large_change_is_found_with_a_baseline_of_350_events() -> None:
    kind = KINDS[0]
    month = run(Plan(kind, 2, 8.5, change="DE 40 → 20 %, PL 10 → 30 %", raw_days=0, learned=True))
    assert month.false() == []
    assert month.found is not None
    assert month.found["features"][0]["n_baseline"] < 400
    assert 0 < (month.delay_s or 0) <= 20 * 86_400


def test_drawn_ticks_are_those_of_drawn_events() -> None:
    """Counts, means and spreads of many events, drawn one by one and as counts, differ by chance alone."""
    known, n = baseline(1, rows=5_000), 40_000
    rng = np.random.default_rng(2)
    [counts], [limbs] = Counted(changed(None), known.grid).drawn(rng, np.array([n]))
    ours = Summary(n, counts, Moments(limbs), Names(), {})
    values = {name: np.array(column, dtype=object) for name, column in columns(USUAL, rng, n).items()}
    values["member"] = np.array([str(value).lower() for value in values["member"]], dtype=object)
    theirs = summary(known.grid, values)
    reference = Reference(known)
    a, b = reference.reduce(ours), reference.reduce(theirs)
    for i, column in enumerate(known.grid.columns):
        one, other = reference.publish(a)[i], reference.publish(b)[i]
        assert effects.psi(one, other) < 30 / n, column.name
        moments = reference.mean_and_sd(b, i)
        if moments and column.name != "heavy":  # of infinite variance
            assert reference.mean_and_sd(a, i) == pytest.approx(moments, rel=0.05)


@pytest.mark.parametrize("change", CHANGES)
def test_the_changes_are_large(change: str) -> None:
    known = baseline(1, rows=5_000)
    [counts], [limbs] = Counted(changed(change), known.grid).drawn(np.random.default_rng(3), np.array([10**6]))
    reference = Reference(known)
    window = reference.reduce(Summary(10**6, counts, Moments(limbs), Names(), {}))
    psi = {column.name: reference.effects(window)[i]["psi"] for i, column in enumerate(known.grid.columns)}
    assert [name for name, value in psi.items() if value > 0.1] == names_of(change)
    assert all(psi[name] > 0.2 for name in names_of(change))
