from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.joining import join as join_module
from streamdrift.joining.join import Join, Result, threshold
from streamdrift.joining.matching import MAX_WAITING, Bounds
from streamdrift.joining.memory import MemoryStore
from streamdrift.joining.outcomes import Version
from streamdrift.joining.rows import Prediction, key_of, rank_of
from streamdrift.summaries.coverage import Fate
from tests.joining.brute_force import joined
from tests.joining.events import BOUNDS, label, many, new_join, prediction, result_of


def fates(result: Result) -> list[Fate]:
    return sorted(Fate(fate) for batch in result.fates for fate in batch.fates.tolist())


def test_a_label_that_came_first_waits_for_its_prediction() -> None:
    join = new_join()
    join.take_labels([label(0)], 1)
    assert fates(result_of(join)) == []
    join.take_predictions([prediction(0)], 1)
    result = result_of(join)
    assert fates(result) == [Fate.PREDICTED, Fate.LABELLED]
    [batch] = result.outcomes
    assert batch.version == Version("fraud", "7")
    assert (batch.signs.tolist(), batch.prediction_times.tolist(), batch.label_times.tolist()) == ([1], [100], [200])
    assert (batch.predicted_labels, batch.scores.tolist(), batch.true_labels) == (["legit"], [0.25], ["fraud"])
    assert np.isnan([batch.true_values[0], batch.predicted_values[0]]).all()
    assert batch.hashes.tolist() == [rank_of(key_of("fraud", "a"))]


def test_a_revision_takes_back_what_was_said_in_its_own_tick() -> None:
    join = new_join()
    join.take_predictions([prediction(0)], 1)
    join.take_labels([label(0, says="fraud"), label(1, says="legit", time=300, revision=1)], 2)
    result = result_of(join)
    [batch] = result.outcomes
    assert list(zip(batch.signs.tolist(), batch.true_labels, batch.label_times.tolist(), strict=True)) == [
        (1, "fraud", 200),
        (-1, "fraud", 300),
        (1, "legit", 300),
    ]
    assert batch.revised.tolist() == [False, True, True]
    assert fates(result) == [Fate.PREDICTED, Fate.LABELLED, Fate.REVISED]


def test_a_lower_or_equal_revision_is_a_duplicate_whatever_it_says() -> None:
    join = new_join()
    join.take_predictions([prediction(0)], 1)
    join.take_labels([label(0, revision=1), label(1, says="legit", revision=1), label(2, says="legit")], 3)
    result = result_of(join)
    assert fates(result) == [Fate.PREDICTED, Fate.LABELLED, Fate.DUPLICATE, Fate.DUPLICATE]
    assert [len(batch) for batch in result.outcomes] == [1]


def test_a_label_with_its_own_prediction_needs_no_other_event() -> None:
    join = new_join()
    own = Prediction("legit", 0.5)
    join.take_labels([label(0, own=own), label(1, own=own)], 2)
    result = result_of(join)
    assert fates(result) == [Fate.PREDICTED, Fate.LABELLED, Fate.DUPLICATE]
    [batch] = result.outcomes
    assert (batch.scores.tolist(), batch.prediction_times.tolist(), batch.signs.tolist()) == ([0.5], [200], [1])


def test_a_prediction_expires_when_the_clock_of_the_labels_has_passed_its_bound() -> None:
    join = new_join()
    join.take_predictions([prediction(0), prediction(1, "b", 5_000)], 2)
    join.take_labels([label(0, "x", 1_100)], 1)
    assert Fate.EXPIRED not in fates(result_of(join)), "a label at the bound still counts"
    join.take_labels([label(1, "a", 1_111)], 2)
    result = result_of(join)
    assert fates(result) == [Fate.EXPIRED, Fate.ORPHAN, Fate.ORPHAN], "that of x and that of a"
    assert join.state.pending == 1


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_repetition_that_is_read_after_the_bound_has_expired_whether_its_row_is_there_or_not(commits: int) -> None:
    join = new_join()
    join.take_predictions([prediction(0), prediction(1, "b", 5_000)], 2)
    join.take_labels([label(0, "a", 200), label(1, "b", 5_001)], 2)
    for _ in range(commits):
        result_of(join)
    join.take_predictions([prediction(2)], 3)
    result_of(join)
    assert (join.state.counts[Fate.PREDICTED], join.state.counts[Fate.EXPIRED]) == (3, 1)
    assert join.state.counts[Fate.REPEATED] == 0


def test_labels_far_ahead_of_the_predictions_lose_nothing() -> None:
    join = new_join()
    join.take_labels([label(0, "a", 200), label(1, "b", 90_100)], 2)
    result_of(join)
    join.take_predictions([prediction(0, "a", 100), prediction(1, "b", 90_000)], 2)
    assert fates(result_of(join)).count(Fate.LABELLED) == 2


def test_a_silent_log_of_predictions_gives_up_waiting_labels_when_its_clock_is_moved() -> None:
    join = new_join()
    join.take_labels([label(0)], 1)
    result_of(join)
    join.advance(predictions_us=610)
    assert fates(result_of(join)) == [Fate.ORPHAN]
    assert join.state.rows == 0


def test_more_labels_than_may_wait_for_one_prediction_are_orphans() -> None:
    join = new_join()
    join.take_labels([label(i, revision=i) for i in range(MAX_WAITING + 3)], MAX_WAITING + 3)
    assert fates(result_of(join)) == [Fate.ORPHAN] * 3


def test_what_was_taken_is_forgotten_on_abort_and_told_again_when_read_again() -> None:
    join = new_join()
    join.take_predictions([prediction(0)], 1)
    first = join.result()
    join.abort()
    assert join.positions == (0, 0)
    join.take_predictions([prediction(0)], 1)
    assert join.result().changes == first.changes


def test_a_record_below_the_position_is_not_taken_again() -> None:
    join = new_join()
    join.take_predictions([prediction(0)], 1)
    join.take_labels([label(0)], 1)
    result_of(join)
    join.take_predictions([prediction(0)], 1)
    join.take_labels([label(0)], 1)
    assert fates(result_of(join)) == []


def test_beyond_the_rows_that_have_room_those_with_the_largest_hashes_are_left_out() -> None:
    bounds = Bounds(1_000_000, 1_000_000, max_rows=200)
    join = new_join(bounds)
    events = many(1_000)
    for start in range(0, 1_000, 50):
        join.take_predictions(events[start : start + 50], start + 50)
        result_of(join)
        counts, state = join.state.counts, join.state
        assert counts[Fate.PREDICTED] == state.pending + counts[Fate.SAMPLED_OUT], "the equation closes at every step"
    result_of(join)
    assert join.state.rows <= 200
    kept = {
        event.prediction_id for event in events if rank_of(key_of("fraud", event.prediction_id)) < threshold(state.rung)
    }
    join.take_labels([label(i, event.prediction_id, 2_000) for i, event in enumerate(events)], 1_000)
    result = result_of(join)
    assert fates(result).count(Fate.LABELLED) == len(kept) == sum(map(len, result.outcomes))
    assert fates(result).count(Fate.UNHEARD) == 1_000 - len(kept)


def test_an_outcome_that_is_known_stays_when_its_row_is_left_out() -> None:
    join = new_join(Bounds(1_000_000, 1_000_000, max_rows=1))
    join.take_predictions(many(20), 20)
    join.take_labels([label(i, f"id-{i}") for i in range(20)], 20)
    for _ in range(100):
        result_of(join)
    assert join.state.rows <= 1
    counts = join.state.counts
    assert (counts[Fate.LABELLED], counts[Fate.SAMPLED_OUT]) == (20, 0)


def test_the_threshold_only_falls_by_an_eighth_a_rung() -> None:
    assert [threshold(0), threshold(1)] == [1 << 64, 7 << 61]
    assert all(threshold(rung + 1) < threshold(rung) for rung in range(200))


def test_more_model_versions_than_have_a_number_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "MAX_VERSIONS", 2)
    join = new_join()
    join.take_predictions([prediction(i, f"id-{i}", version=str(i)) for i in range(5)], 5)
    found = {batch.version: len(batch) for batch in result_of(join).fates}
    assert found == {Version("fraud", "0"): 1, Version("fraud", "1"): 1, join_module.OTHER: 3}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.booleans()), max_size=60))
def test_any_number_of_partitions_gives_the_same_outcomes(partitions: int, drawn: list[tuple[int, int, bool]]) -> None:
    far = Bounds(1_000_000, 1_000_000, 1_000_000)

    def split_over(count: int) -> tuple[object, object]:
        joins = [new_join(far) for _ in range(count)]
        for offset, event in enumerate(many(40)):
            join = joins[rank_of(key_of("fraud", event.prediction_id)) % count]
            join.take_predictions([event._replace(offset=offset)], offset + 1)
        for offset, (number, revision, is_fraud) in enumerate(drawn):
            told = label(offset, f"id-{number}", 500, says="fraud" if is_fraud else "legit", revision=revision)
            joins[rank_of(key_of("fraud", told.prediction_id)) % count].take_labels([told], offset + 1)
        for join in joins:
            join.advance(9_000_000, 9_000_000)
        return joined([result_of(join) for join in joins])

    assert split_over(partitions) == split_over(1)


def test_bounds_that_cannot_be_are_refused() -> None:
    for bounds in ((-1, 0, 1), (0, -1, 1), (0, 0, 0)):
        with pytest.raises(ValueError, match="must not be negative"):
            Bounds(*bounds)


def test_a_join_is_full_when_a_commit_would_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "MAX_CHANGES", 10)
    join = Join(MemoryStore(), BOUNDS)
    join.take_predictions(many(9), 9)
    assert not join.full
    join.take_predictions(many(10), 10)
    assert join.full
