"""Concept drift on the errors of frozen models, shortened: ``make errors`` has all, and River's."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from tests.bench import error_streams
from tests.bench.error_streams import FELT, ORACLE, Plan, measure, oracle, recall_of, result, table
from tests.support.concepts import GENERATORS, TRAINING, Change, Frozen, Generator

FEW = tuple(replace(generator, concepts=min(4, generator.concepts)) for generator in GENERATORS)
"""All generators, with no more than four of their concepts."""


def test_the_default_detector_finds_what_changed_and_nothing_else() -> None:
    lines: list[str] = []
    ours, best = measure(Plan((1,), 30_000, FEW, ("streamdrift",)), lines.append)
    runs = ours.of(lambda _: True)
    assert len(runs) > 80
    assert (recall_of(runs) or 0) >= 0.9
    assert ours.stationary == 30_000 * sum(generator.concepts for generator in FEW)
    assert ours.false_per_100k <= 3
    assert ours.false_in_bursts <= 1
    assert ours.meets_targets
    assert best.name == ORACLE
    assert recall_of(best.of(lambda _: True)) == 1
    assert any("Agrawal, gradual" in line for line in lines)
    text = "\n".join(table([ours, best]))
    assert "not counted, as they move the error rate by less than 0.02: " in text
    found = json.loads(json.dumps(result([ours, best])))
    assert found["streamdrift"]["recall"] == recall_of(runs)
    assert found["streamdrift"]["abrupt"]["median_delay"] >= found[ORACLE]["abrupt"]["median_delay"]


def test_a_detector_that_alarms_anyway_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_streams, "DETECTORS", {"anyway": lambda values: iter(range(0, len(values), 1_000))})
    [anyway, _] = measure(Plan((1,), 30_000, (FEW[1],), ("anyway",)), lambda _: None)
    assert recall_of(anyway.of(lambda _: True)) == 0
    assert anyway.false_per_100k == 100
    assert not anyway.meets_targets


@pytest.mark.parametrize("generator", FEW, ids=lambda generator: generator.name)
def test_all_concepts_of_a_generator_label_the_same_rows(generator: Generator) -> None:
    rows = [[x for x, _ in islice(generator.make(concept, 3), 200)] for concept in range(generator.concepts)]
    assert all(row == rows[0] for row in rows)


def test_errors_are_those_of_the_old_concept_before_a_change_and_of_the_new_one_after() -> None:
    frozen = Frozen(FEW[0], 1, 20_000)
    reversed_at_once, gradual = Change(0, 1, 8_000), Change(0, 1, 8_000, 4_000)
    values = frozen.changed(reversed_at_once, 0, 20_000)
    assert values[:8_000].mean() == pytest.approx(frozen.rate(0, 0), abs=0.02)
    assert values[8_000:].mean() == pytest.approx(frozen.rate(0, 1), abs=0.02)
    assert np.array_equal(values[:8_000], frozen.unchanged(0)[:8_000])
    assert abs(frozen.rate(0, 1) - frozen.rate(0, 0)) > FELT
    slow = frozen.changed(gradual, 0, 20_000)
    assert (slow[: gradual.begins] != values[: gradual.begins]).mean() < 0.01
    assert slow[7_000:9_000].mean() == pytest.approx(0.5, abs=0.05)
    assert TRAINING + frozen.length == 25_000


def test_the_oracle_is_quiet_where_nothing_changes_and_soon_where_it_does() -> None:
    rng = np.random.default_rng(1)
    assert oracle((rng.random(50_000) < 0.1).astype(np.float64), 0.1, 0.3) is None
    alarm = oracle((rng.random(5_000) < np.repeat([0.1, 0.3], 2_500)).astype(np.float64), 0.1, 0.3)
    assert alarm is not None
    assert 2_500 < alarm < 2_650
