"""Predictions and labels that are keyed otherwise are sent on by their id, and meet."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from streamdrift.joining.placing import PARTITIONERS
from streamdrift.records import TopicPartition
from streamdrift.settings import Settings
from streamdrift.summaries.coverage import Fate
from tests.stages.test_join import holds, total
from tests.support import labelled
from tests.support.labelled import LABELS, PREDICTIONS, Event, Joined, label, prediction

REKEYED = "streamdrift-rekeyed-"


def configuration(**changes: object) -> Settings:
    sources = [
        {"topic": PREDICTIONS, "kind": "predictions", "end_of_stream": True},
        {"topic": LABELS, "kind": "labels", "rekey": True},
    ]
    return labelled.settings(sources=sources, **changes)


def traffic(n: int = 600) -> tuple[list[Event], Counter[tuple[str, str]]]:
    """Predictions and labels in the order of time, some revised, and the cells that they come to."""
    rng = np.random.default_rng(8)
    events, cells = list[Event](), Counter[tuple[str, str]]()
    for i in range(n):
        at, score, true = float(rng.uniform(0, 1_000)), float(rng.random()), str(rng.choice(["legit", "fraud"]))
        events.append(prediction(f"p{i}", at, score))
        if rng.random() < 0.8:
            events += [label(f"p{i}", at + 300, "fraud"), label(f"p{i}", at + 400, true, revision=1)]
            cells[true, "fraud" if score >= 0.5 else "legit"] += 1
    return labelled.shuffled_together(events), cells


@pytest.mark.parametrize("restart", [False, True])
def test_scattered_events_meet_by_their_ids(restart: bool) -> None:  # noqa: FBT001 — a parameter of the test
    joined = Joined(configuration(), partitions=5, batch_size=50)
    joined.scattered = True
    events, cells = traffic()
    for start in range(0, len(events), 200):
        joined.run(*events[start : start + 200])
        assert holds(joined)
        if restart:
            joined.driver.restart()
    summary = total(joined)
    assert summary.outcomes.confusion.cells == cells
    coverage = summary.coverage
    # Two labels of one id may lie in two partitions: which is read first is chance, which of them stands is not.
    assert coverage[Fate.LABELLED] == coverage[Fate.REVISED] + coverage[Fate.DUPLICATE] == cells.total()
    assert (coverage[Fate.ORPHAN], coverage[Fate.REPEATED]) == (0, 0)


def test_what_is_sent_on_lies_where_its_id_says_and_carries_no_features() -> None:
    joined = Joined(configuration(), partitions=3)
    joined.scattered = True
    joined.run(*(prediction(f"p{i}", i, features={"secret": 1}) for i in range(40)))
    for number in range(2):
        for record in joined.driver.log(TopicPartition(REKEYED + PREDICTIONS, number)):
            assert record is not None
            assert b"secret" not in record
            name = record.split(b'"prediction_id":"')[1].split(b'"')[0]
            assert PARTITIONERS["murmur2"](name, 2) == number


def test_pseudonyms_are_made_once() -> None:
    joined = Joined(configuration(privacy={"hash": ["prediction_id", "prediction.label"], "salt": "s"}))
    joined.run(prediction("a", 0), label("a", 60, "fraud"))
    [(true, said)] = total_cells(joined)
    assert true != said
    assert true.startswith("#")
    plan = joined.driver._topology.join
    assert plan is not None
    grid = plan.grid_of("fraud", "7")
    assert grid is not None
    assert {true, said} == set(grid.classes)


def total_cells(joined: Joined) -> list[tuple[str, str]]:
    return [cell for s in joined.summaries().values() for cell in getattr(s, "outcomes").confusion.cells]  # noqa: B009 — counted


def test_labels_that_cannot_be_read_are_dead_letters_of_their_own_topic() -> None:
    joined = Joined(configuration())
    joined.driver.send(LABELS, b"{", timestamp=labelled.START_S * 1_000)
    joined.run()
    [letter] = joined.driver.read("dead-letters")
    assert dict(letter.headers)["streamdrift.error.topic"] == LABELS.encode()


def test_both_sides_go_the_same_way_if_one_of_them_asks_for_it() -> None:
    joined = Joined(configuration())
    plan = joined.driver._topology.join
    assert plan is not None
    [pair] = plan.pairs
    assert (pair.predictions.topic, pair.labels.topic) == (REKEYED + PREDICTIONS, REKEYED + LABELS)
    assert pair.internal
    joined.run(prediction("a", 0))
    assert joined.driver.join is not None
    assert sum(joined.driver.join.expendable(0.0).values()) == 1


def test_a_stream_that_is_sent_on_has_no_end() -> None:
    sources = [
        {"topic": PREDICTIONS, "kind": "predictions"},
        {"topic": LABELS, "kind": "labels", "rekey": True, "end_of_stream": True},
    ]
    [(at, message)] = labelled.settings(sources=sources).contradictions()
    assert at == ("sources", 1, "end_of_stream")
    assert "cannot be together with rekey" in message
