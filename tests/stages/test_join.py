"""The join stage in its topology: whatever the logs hold, and however they are read, a table of everything agrees."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from streamdrift.errors import FatalError, StateError
from streamdrift.joining.store import RocksStores
from streamdrift.metrics import Estimate, evaluate
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.outcome_rows import counted
from streamdrift.records import Position, TopicPartition
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import OutcomeSummary, UncountedOutcomes
from streamdrift.ticks import END_OF_TIME
from tests.support import labelled
from tests.support.labelled import LABELS, PREDICTIONS, Event, Joined, label, prediction

TICK_US = 10_000_000
GRID = OutcomeGrid(Task.BINARY, ("legit", "fraud"))
WAIT_S, ORPHAN_S, LATENESS_S = 3_600, 1_800, 30
few = hypothesis_settings(max_examples=60, deadline=None)


def total(joined: Joined) -> OutcomeSummary:
    """Everything that the join has said of the model, whatever tick and window."""
    found = [s if isinstance(s, OutcomeSummary) else counted(s, GRID) for s in joined.summaries().values()]
    return reduce(add, found, OutcomeSummary.empty(GRID))


def holds(joined: Joined) -> bool:
    """Predictions = labelled + pending + expired + sampled out, in the gauges and in the log alike."""
    fates, coverage = joined.fates, total(joined).coverage
    left = fates[Fate.PREDICTED] - fates[Fate.LABELLED] - fates[Fate.EXPIRED] - fates[Fate.SAMPLED_OUT]
    return left == joined.pending == coverage.pending and coverage.fates == tuple(fates.values())


# ---- against a table of everything -----------------------------------------------------------------------------------


def meant(events: Sequence[Event]) -> tuple[Counter[tuple[str, float, str]], Counter[Fate]]:
    """(predicted label, score, true label) of every pair that stands in the end, and what became of all others.

    ``events`` in the order of the logs: the simplest join that there is, with everything at hand.
    """
    clock, first = -math.inf, dict[str, tuple[Event, float]]()
    fates: Counter[Fate] = Counter()
    for event in (e for e in events if e.topic == PREDICTIONS):
        clock = max(clock, event.seconds)
        if clock - event.seconds > WAIT_S + LATENESS_S:
            fates[Fate.PREDICTED] += 1
            fates[Fate.EXPIRED] += 1
        elif event.prediction_id in first:
            fates[Fate.REPEATED] += 1
        else:
            fates[Fate.PREDICTED] += 1
            first[event.prediction_id] = event, clock
    clock, standing = -math.inf, dict[str, Event]()
    for event in (e for e in events if e.topic == LABELS):
        clock = max(clock, event.seconds)
        found, read_at = first.get(event.prediction_id, (None, 0.0))
        known = standing.get(event.prediction_id)
        if (
            found is None
            or clock > found.seconds + WAIT_S + LATENESS_S
            or read_at > event.seconds + ORPHAN_S + LATENESS_S
        ):
            fates[Fate.ORPHAN] += 1
        elif known is not None and event.body["revision"] <= known.body["revision"]:
            fates[Fate.DUPLICATE] += 1
        else:
            fates[Fate.LABELLED if known is None else Fate.REVISED] += 1
            standing[event.prediction_id] = event
    fates[Fate.EXPIRED] += len(first) - len(standing)
    pairs = Counter(
        (said["label"], said["score"], event.body["label"])
        for name, event in standing.items()
        if (said := first[name][0].body["prediction"])
    )
    return pairs, fates


@st.composite
def traffic(draw: st.DrawFn) -> list[Event]:
    """Predictions and labels of a few ids, in any order, repeated, revised, late, and of nobody."""
    events: list[Event] = []
    names = [f"id-{i}" for i in range(draw(st.integers(1, 8)))]
    at = {name: draw(st.integers(0, 9_000)) for name in names}
    for name in names:
        score = draw(st.sampled_from([0.1, 0.4, 0.6, 0.9]))  # an id names one prediction, which may come again
        events += [prediction(name, at[name], score)] * draw(st.integers(1, 2))
    for _ in range(draw(st.integers(0, 20))):
        name = draw(st.sampled_from([*names, "nobody"]))
        seconds = at.get(name, 0) + draw(st.integers(-2_000, 5_000))
        events.append(label(name, seconds, draw(st.sampled_from(["legit", "fraud"])), draw(st.integers(0, 2))))
    return draw(st.permutations(events))


def test_what_was_told_of_a_log_that_ended_is_not_taken_back_when_the_other_one_ends() -> None:
    events = [prediction(f"id-{i}", 0, 0.1) for i in range(7) for _ in range(1 if i < 3 else 2)]
    events += [label("id-0", 0, "legit", 0)] * 5
    events += [label("id-2", 3_633, "legit", 0), label("id-2", 0, "legit", 0)]
    events += [*[label("id-0", 0, "legit", 0)] * 3, label("id-2", 3_640, "legit", 0)]
    joined = Joined(partitions=3, batch_size=1)
    joined.run(*events)
    joined.end()
    assert joined.never_in_a_closed_tick(TICK_US)


@few
@given(traffic(), st.sampled_from([1, 3, 8]), st.integers(1, 9), st.lists(st.sampled_from("rcg"), max_size=4))
def test_the_topology_joins_what_a_table_of_everything_joins(
    events: list[Event], partitions: int, batch_size: int, steps: list[str]
) -> None:
    joined = Joined(partitions=partitions, batch_size=batch_size)
    cuts = np.linspace(0, len(events), len(steps) + 2).astype(int).tolist()
    for start, stop, step in zip(cuts, cuts[1:], [*steps, "g"], strict=False):
        joined.run(*events[start:stop])
        assert holds(joined)
        if step == "r":
            joined.driver.restart()
        elif step == "c":
            joined.driver.crash()
    joined.end()
    assert holds(joined)
    assert joined.pending == 0
    assert joined.never_in_a_closed_tick(TICK_US)
    # Each partition has a clock of its own, so the table is one of each.
    pairs, fates = Counter[tuple[str, float, str]](), Counter[Fate]()
    for number in range(partitions):
        found = meant([e for e in events if labelled.place_of(e.prediction_id, partitions) == number])
        pairs, fates = pairs + found[0], fates + found[1]
    summary = total(joined)
    assert summary.outcomes.n == pairs.total()
    cells = Counter[tuple[str, str]]()
    for (said, _, true), n in pairs.items():
        cells[true, said] += n
    assert Counter(summary.outcomes.confusion.cells) == cells
    assert +Counter(dict(zip(Fate, summary.coverage.fates, strict=True))) == +fates


def test_metrics_are_scikit_learns_of_the_same_pairs() -> None:
    rng = np.random.default_rng(3)
    n = 3_000
    at = np.sort(rng.uniform(0, 3_000, n)).round(3)
    score = rng.random(n).round(6)
    true = np.where(rng.random(n) < score, "fraud", "legit")
    wrong_at_first = rng.random(n) < 0.1
    events = [prediction(f"p{i}", at[i], float(score[i])) for i in range(n)]
    for i in np.flatnonzero(rng.random(n) < 0.9):
        seconds = at[i] + rng.uniform(0, 3_000)
        if wrong_at_first[i]:
            events.append(label(f"p{i}", seconds, "legit" if true[i] == "fraud" else "fraud"))
            events.append(label(f"p{i}", seconds + 100, str(true[i]), revision=1))
        else:
            events.append(label(f"p{i}", seconds, str(true[i])))
            events.append(label(f"p{i}", seconds + 1, "fraud"))  # a duplicate, whatever it says
    joined = Joined(partitions=3)
    joined.run(*labelled.shuffled_together(events))
    joined.end()
    told = {int(event.prediction_id[1:]) for event in events if event.topic == LABELS}
    rows = np.array(sorted(told))
    y, p = true[rows] == "fraud", score[rows]
    summary = total(joined)
    assert summary.outcomes.n == len(rows)
    found = {name: e.value for name, e in evaluate(summary.outcomes).items() if isinstance(e, Estimate)}
    assert found["accuracy"] == sk.accuracy_score(y, p >= 0.5)
    assert found["precision"] == sk.precision_score(y, p >= 0.5)
    assert found["recall"] == sk.recall_score(y, p >= 0.5)
    assert found["f1"] == pytest.approx(sk.f1_score(y, p >= 0.5), rel=1e-15)
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p), abs=1e-9)
    assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p), abs=1e-9)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=2e-3)


# ---- one thing at a time ---------------------------------------------------------------------------------------------


def test_a_label_with_its_own_prediction_is_an_outcome_of_its_version() -> None:
    joined = Joined()
    own = {"label": "fraud", "score": 0.8}
    joined.run(label("a", 100, "legit", prediction=own, model_version="8"))
    joined.end()
    [outcomes] = [part for part in joined.parts() if part.outcomes and part.outcomes.n]
    assert (outcomes.key.model_version, outcomes.outcomes and outcomes.outcomes.cells) == (
        "8",
        (("legit", "fraud", 1),),
    )
    assert holds(joined)


def test_outcomes_of_a_model_that_nobody_described_are_passed_on_as_rows() -> None:
    joined = Joined(labelled.settings(models={}))
    joined.run(prediction("a", 0), label("a", 60, "fraud"))
    [summary] = [s for s in joined.summaries().values() if isinstance(s, UncountedOutcomes) and s.rows]
    assert counted(summary, GRID).outcomes.confusion.cells == {("fraud", "legit"): 1}


def test_an_outcome_belongs_to_the_tick_of_its_label_and_the_window_of_its_prediction() -> None:
    day = 86_400
    to_midnight = day - labelled.START_S % day
    joined = Joined()
    joined.run(prediction("a", to_midnight - 1), label("a", to_midnight + 75))
    [key] = [key for key, s in joined.summaries().items() if isinstance(s, OutcomeSummary) and s.outcomes.n]
    assert key.window == labelled.START_S // day
    assert key.tick == (labelled.START_S + to_midnight + 75) // 10


def test_labels_that_cannot_be_read_are_dead_letters_and_predictions_are_buried_once() -> None:
    joined = Joined()
    joined.driver.send(LABELS, b'{"prediction_id": "a"}', timestamp=labelled.START_S * 1_000)
    joined.driver.send(PREDICTIONS, b"{", timestamp=labelled.START_S * 1_000)
    joined.run()
    letters = joined.driver.read("dead-letters")
    topics = [dict(letter.headers)["streamdrift.error.topic"] for letter in letters]
    assert sorted(map(bytes, filter(None, topics))) == [LABELS.encode(), PREDICTIONS.encode()]
    assert joined.driver.join is not None
    [status] = joined.driver.join.joins()
    assert status.refused == {"malformed": 1}


def test_a_label_from_the_future_is_a_dead_letter_and_closes_no_tick() -> None:
    joined = Joined(labelled.settings(time={"tick": "10s", "idle": "hold"}), now=labelled.START_S + 100)
    joined.run(label("a", 5_000))
    [letter] = joined.driver.read("dead-letters")
    assert dict(letter.headers)["streamdrift.error.class"] == b"future"


def test_the_time_of_a_silent_partition_goes_on_by_the_clock() -> None:
    joined = Joined(labelled.settings(time={"tick": "10s"}), now=labelled.START_S + 100)
    joined.run(prediction("a", 0))
    assert joined.pending == 1
    for _ in range(3):
        joined.driver.advance(4_000)
        joined.driver.run()
    assert joined.pending == 0
    assert joined.fates[Fate.EXPIRED] == 1
    assert joined.never_in_a_closed_tick(TICK_US)


def test_the_end_of_both_streams_lets_go_of_everything_and_says_so_last() -> None:
    joined = Joined(partitions=3)
    joined.run(*(prediction(f"p{i}", i) for i in range(50)), label("nobody", 10))
    joined.end()
    fates = joined.fates
    assert (fates[Fate.EXPIRED], fates[Fate.ORPHAN], joined.pending) == (50, 1, 0)
    assert joined.driver.join is not None
    assert min(joined.driver.join._watermarks().values()) == END_OF_TIME
    assert joined.never_in_a_closed_tick(TICK_US)
    joined.run(label("p1", 20))
    assert joined.fates == fates, "what comes behind the end is late for ever"
    assert joined.driver.join.status()[0].late == 1


def test_what_ends_in_the_commit_that_it_came_in_is_let_go_of_before_the_end_is_told() -> None:
    joined = Joined()
    joined.send(*(prediction(f"p{i}", i) for i in range(50)), label("nobody", 10))
    joined.end()
    fates = joined.fates
    assert (fates[Fate.EXPIRED], fates[Fate.ORPHAN], joined.pending) == (50, 1, 0)
    assert joined.never_in_a_closed_tick(TICK_US)


def test_only_sources_that_honour_it_end_at_a_marker() -> None:
    sources = [{"topic": PREDICTIONS, "kind": "predictions"}, {"topic": LABELS, "kind": "labels"}]
    joined = Joined(labelled.settings(sources=sources))
    joined.run(prediction("a", 0))
    for topic in (PREDICTIONS, LABELS):
        joined.driver.send(topic, None, headers=[(CONTROL_HEADER, END_OF_STREAM)])
    joined.run()
    assert joined.pending == 1


def test_what_is_over_the_rows_that_fit_is_left_out_by_hash_and_counted() -> None:
    joined = Joined(labelled.settings(join={"wait": "1h", "wait_for_prediction": "30m", "max_rows": 40}))
    for start in range(0, 200, 20):
        joined.run(*(prediction(f"p{i}", i) for i in range(start, start + 20)))
    joined.run(*(label(f"p{i}", 300) for i in range(200)))
    fates = joined.fates
    assert fates[Fate.SAMPLED_OUT] > 50
    assert fates[Fate.SAMPLED_OUT] == fates[Fate.UNHEARD]
    assert holds(joined)


def test_pseudonyms_meet() -> None:
    privacy = {"hash": ["prediction_id", "prediction.label"], "salt": "pepper"}
    joined = Joined(labelled.settings(privacy=privacy))
    joined.run(prediction("a", 0), label("a", 60, "fraud"))
    summary = total_of_one(joined)
    assert summary.outcomes.n == 1
    [(true, said)] = summary.outcomes.confusion.cells
    assert true.startswith("#")
    assert said.startswith("#")
    assert summary.outcomes.grid.classes[1] == true


def total_of_one(joined: Joined) -> OutcomeSummary:
    [summary] = [s for s in joined.summaries().values() if isinstance(s, OutcomeSummary) and s.outcomes.n]
    return summary


# ---- stores and changelogs -------------------------------------------------------------------------------------------


def on_disk(directory: Any) -> RocksStores:  # noqa: ANN401 — a path
    return RocksStores(directory, 32 << 20, lambda: 0.0)


def test_a_damaged_store_is_made_anew_from_its_changelog(tmp_path: Any) -> None:  # noqa: ANN401
    joined = Joined(stores=on_disk(tmp_path))
    joined.run(*(prediction(f"p{i}", i) for i in range(500)))
    joined.driver.stop()
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "LOCK":
            file.write_bytes(b"garbage")
    joined.driver.restart()
    assert joined.pending == 500
    joined.run(*(label(f"p{i}", 600) for i in range(500)))
    assert joined.fates[Fate.LABELLED] == 500
    assert holds(joined)


def test_offsets_beyond_a_changelog_that_was_lost_are_an_error() -> None:
    joined = Joined()
    joined.run(prediction("a", 0))
    join = joined.driver.join
    assert join is not None
    fresh = Joined().driver
    assert fresh.join is not None
    with pytest.raises(StateError, match="has lost records"):
        fresh.join.assigned(TopicPartition(PREDICTIONS, 0), Position(5, "w1:0", committed=True), {})


def test_a_changelog_that_somebody_else_writes_to_is_an_error() -> None:
    joined = Joined()
    joined.run(prediction("a", 0))
    joined.driver._changelog.append(TopicPartition("streamdrift-join-labels", 0), b"r" + bytes(16), None)
    with pytest.raises(StateError, match="somebody else has written"):
        joined.run(prediction("b", 1))


def test_unequal_partition_counts_are_an_error() -> None:
    joined = Joined()
    assert joined.driver.join is not None
    with pytest.raises(FatalError, match="has 4 partitions, labels has 3"):
        joined.driver.join.topology({PREDICTIONS: 4, LABELS: 3})


def test_coverage_in_the_log_is_that_of_the_windows() -> None:
    joined = Joined()
    joined.run(prediction("a", 0), prediction("b", 1), label("a", 60))
    coverage = reduce(add, (s.coverage for s in joined.summaries().values()), Coverage.empty())
    assert (coverage[Fate.PREDICTED], coverage[Fate.LABELLED], coverage.pending) == (2, 1, 1)
    assert coverage.delay_quantile_us(0.5) >= 60_000_000  # type: ignore[operator]  # there is one
    assert json.dumps(coverage.ratio) == "0.5"
