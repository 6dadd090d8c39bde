"""Inputs, outcomes and retraining of one partition: the same alerts and requests, however the labels were read."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamdrift.entries import LogEntry, OutcomeProgress, PartitionProgress, Progress
from streamdrift.errors import StateError
from streamdrift.partition import Partition
from streamdrift.policies import Policy, Scheduled
from streamdrift.records import TopicPartition
from streamdrift.retraining import Ended, Request
from streamdrift.schedules import Schedule
from streamdrift.summaries.coverage import Fate
from streamdrift.ticks import END_OF_TIME
from tests.support.books import book
from tests.support.decay import (
    DAY_US,
    DECAY,
    FIRST_DAY,
    HOUR_US,
    INPUTS,
    LABELS,
    MODEL_ID,
    TICK_US,
    Told,
    World,
    config,
    log_of,
    partition,
    told,
    world,
)

SCHEMA = Path(__file__).parents[1] / "config" / "schemas" / "drift-alert.json"
NIGHTLY = Policy("nightly", (Scheduled(Schedule("30 3 * * *", ZoneInfo("UTC"))),), 0)


@functools.cache
def expected() -> Told:
    """What one reader says that reads everything in order."""
    return told(partition(), log_of(world()))


def test_a_model_that_decays_is_told_of_trained_anew_and_forgotten() -> None:
    assert [alert for alert in expected().short() if alert[2] != "updated"] == [
        (6, "concept_drift", "started", "7"),
        (8, "performance", "started", "7"),
        (12, "concept_drift", "resolved", "7"),
        (12, "performance", "resolved", "7"),
    ]
    request, fulfilled, compared = (published.event for published in expected().requests)
    assert isinstance(request, Request)
    assert (request.policy, request.model_version) == ("decay", "7")
    assert request.now_us == (FIRST_DAY + 9) * DAY_US, "the second bad window is judged two days after its end"
    [performance] = {a.alert.incident_id for a in expected().alerts if a.alert.data["kind"] == "performance"}
    assert request.reason.incident_ids == (performance,)
    assert request.fresh_labels == (world().labelled_us < request.now_us).sum()
    assert isinstance(fulfilled, Ended)
    assert (fulfilled.request_id, str(fulfilled.end), fulfilled.version) == (request.request_id, "fulfilled", "8")
    assert isinstance(compared, Ended)
    assert all(metric.better_by > 0 for metric in compared.comparison)


def test_alerts_of_outcomes_are_as_the_schema_says() -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    for published in expected().alerts:
        validator.validate(json.loads(json.dumps(published.alert.data, allow_nan=False)))
    started = next(a.alert.data for a in expected().alerts if a.alert.data["kind"] == "performance")
    [metric] = started["metrics"]
    assert (metric["metric"], metric["benchmark"], metric["in_a_row"]) == ("accuracy", 0.9, 1)
    assert metric["window"] == {"from": "2024-10-09T00:00:00Z", "to": "2024-10-10T00:00:00Z"}
    assert metric["coverage"] == 1
    assert started["severity"] == "critical", "at once"


def test_the_offsets_of_a_request_are_those_of_the_labels() -> None:
    for published in expected().requests:
        assert published.offsets == ({LABELS: {0: (0, 0)}} if isinstance(published.event, Request) else {})


@pytest.mark.parametrize(("partitions", "batch"), [(1, 97), (3, 500), (8, 61)])
def test_partitions_and_batches_change_nothing(partitions: int, batch: int) -> None:
    log = log_of(world(), partitions=partitions, batch=batch, seed=partitions)
    assert told(partition(), log).data == expected().data


@pytest.mark.parametrize("partitions", [1, 3])
def test_rows_that_nobody_could_count_say_the_same_once_the_grid_is_learned(partitions: int) -> None:
    found = told(partition(), log_of(world(), partitions=partitions, seed=partitions, grid=None))
    assert found.data == expected().data


# ---- restarts --------------------------------------------------------------------------------------------------------


def lived(log: Sequence[LogEntry], cuts: Sequence[int], *policies: Policy) -> Told:
    """What is said if the reader is replaced by another one at these entries."""
    subject, found, state, position = partition(*policies), Told(), dict[bytes, bytes](), 0
    for first, last in pairwise([0, *sorted(cuts), len(log)]):
        told(subject, log[position:last], position, found)
        state |= {key: value for key, value in subject.snapshot(0).items() if value is not None}
        assert subject.resume_at <= last
        position = subject.resume_at if first < last else position
        subject = partition(*policies)
        subject.restore(0, state)
        assert subject.restored_at == position
    return found


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(1, 240), max_size=4, unique=True), st.booleans())
def test_a_clean_handover_at_any_entry_changes_nothing(cuts: list[int], counted: bool) -> None:  # noqa: FBT001 — drawn
    log = log_of(short_world(), batch=300, seed=2, grid=None) if not counted else short_log()
    cuts = [cut for cut in cuts if cut < len(log)]
    assert lived(log, cuts, DECAY, NIGHTLY).data == lived(log, [], DECAY, NIGHTLY).data


@functools.cache
def short_world() -> World:
    return World.of(seed=3, days=8, recovers=False)


@functools.cache
def short_log() -> list[LogEntry]:
    return log_of(short_world(), partitions=2, batch=200, seed=1)


def test_what_was_decided_before_a_restart_is_not_decided_again() -> None:
    """The loop guard is part of the state: a request that is open stays the only one."""
    log = log_of(world(), seed=4)
    first = asked_at(log)
    found = lived(log, [first, first + 1, first + 3])
    assert [type(each.event) for each in found.requests] == [Request, Ended, Ended]


def asked_at(log: Sequence[LogEntry]) -> int:
    """The entry behind which the first request is made."""
    subject = partition()
    for offset, entry in enumerate(log):
        subject.apply(offset, entry)
        if subject.requests():
            return offset + 1
    raise AssertionError("nothing was requested")


def test_a_snapshot_is_the_same_whoever_went_on_from_it() -> None:
    log = short_log()
    whole, first = partition(), partition()
    told(whole, log)
    told(first, log[:60])
    state = {key: value for key, value in first.snapshot(0).items() if value is not None}
    second = partition()
    second.restore(0, state)
    told(second, log[first.resume_at :], first.resume_at)
    complete = {key: value for key, value in whole.snapshot(0).items() if value is not None}
    state |= {key: value for key, value in second.snapshot(0).items() if value is not None}
    assert state == complete


# ---- two completenesses ----------------------------------------------------------------------------------------------


def test_a_label_feed_that_is_dead_delays_no_input() -> None:
    subject = partition()
    for day in range(3):
        watermark = (FIRST_DAY + day) * DAY_US
        told(subject, [Progress({INPUTS: 1}, (PartitionProgress(INPUTS, 0, day, watermark),))], day)
    assert subject._inputs.closed == (FIRST_DAY + 2) * 24 - 1
    assert subject._outcomes is not None
    assert subject._outcomes.closed is None


def test_labels_that_run_ahead_of_the_inputs_are_judged_but_not_decided_on() -> None:
    """What combines both runs at the later of the two."""
    log = log_of(world(), inputs=False, end=False)
    subject = partition()
    found = told(subject, log)
    assert {a.alert.data["kind"] for a in found.alerts} >= {"performance", "concept_drift"}
    assert found.requests == []
    ended = Progress({INPUTS: 1}, (PartitionProgress(INPUTS, 0, 0, END_OF_TIME),))
    told(subject, [ended], len(log), found)
    assert [each for each in found.data if isinstance(each, dict)][:2] == [
        each for each in expected().data if isinstance(each, dict)
    ][:2]


def idle(hours: int) -> list[LogEntry]:
    """Traffic stands still, and time is moved on by the owners of its partitions."""
    watermark = FIRST_DAY * DAY_US + hours * HOUR_US
    position = (PartitionProgress(INPUTS, 0, 0, watermark),), (PartitionProgress(LABELS, 0, 0, watermark),)
    return [Progress({INPUTS: 1}, position[0]), OutcomeProgress({LABELS: 1}, position[1])]


def test_a_schedule_fires_although_traffic_has_stopped() -> None:
    subject = partition(NIGHTLY)
    log = [*log_of(World.of(days=1), end=False), *(entry for hour in range(72, 240, 5) for entry in idle(hour))]
    found = told(subject, log)
    [request] = [each.event for each in found.requests]
    assert isinstance(request, Request)
    assert request.now_us % DAY_US == 4 * HOUR_US, "at the end of the tick of half past three"


def test_a_schedule_fires_in_ticks_that_both_have_closed() -> None:
    """However far one of them is ahead, and whichever was last."""
    day = World.of(days=1)
    fine = [*log_of(day, end=False), *(entry for hour in range(72, 240) for entry in idle(hour))]
    labels_last = [*log_of(day, end=False), *idle(240)]
    inputs_last = [*log_of(day, end=False), *idle(240)[::-1]]
    expected = told(partition(NIGHTLY), fine).data
    assert told(partition(NIGHTLY), labels_last).data == told(partition(NIGHTLY), inputs_last).data == expected


def test_the_end_of_all_streams_does_not_run_a_schedule_for_ever() -> None:
    found = told(partition(NIGHTLY), log_of(World.of(days=1)))
    assert [type(each.event) for each in found.requests] == [Request]


# ---- disorder and bounds ---------------------------------------------------------------------------------------------


def test_labels_that_come_all_at_once_at_night_say_the_same_of_the_windows() -> None:
    """Bulk labels carry old times: windows are those of the predictions, whenever the labels come."""
    found = told(partition(), log_of(world(nightly=True), partitions=3, batch=250, seed=5))
    windows = [
        a.alert.data["metrics"][0]["window"]["from"] for a in found.alerts if a.alert.data["kind"] == "performance"
    ]
    assert windows[0] == "2024-10-09T00:00:00Z"
    assert [type(each.event) for each in found.requests] == [Request, Ended, Ended]
    assert told(partition(), log_of(world(nightly=True), batch=111)).data == found.data


def test_outcomes_of_a_tick_that_is_closed_are_counted_and_left_out() -> None:
    log = log_of(short_world(), end=False)
    subject = partition()
    told(subject, log)
    told(subject, log[:1], len(log))
    assert subject.outcome_counts.late > 0
    assert subject.outcome_counts.replayed == 0


def test_outcomes_of_more_versions_than_there_is_room_for_are_counted() -> None:
    subject = Partition(config(max_models=0), book())
    told(subject, log_of(short_world()))
    assert subject.outcome_counts.over_bound == len(short_world())
    assert not subject.outcome_models


def test_stragglers_do_not_bring_a_version_back_that_was_let_go_of() -> None:
    """Labels of the first version that take days more than all others, when the second one has taken over."""
    usual = world()
    stragglers = np.flatnonzero(usual.versions == "7")[-20:]
    labelled_us = usual.labelled_us.copy()
    labelled_us[stragglers] += 3 * DAY_US
    subject = partition()
    found = told(subject, log_of(replace(usual, labelled_us=labelled_us)))
    assert subject.outcome_models == {(MODEL_ID, "8")}
    status = subject.outcome_status()[MODEL_ID, "8"]
    assert status.coverage[Fate.LABELLED] == (usual.versions == "8").sum()
    assert 10 <= subject.outcome_counts.late <= 20
    assert [each[1:] for each in found.short()] == [each[1:] for each in expected().short()]


def test_a_version_without_outcomes_is_let_go_of() -> None:
    subject = Partition(config(retire_after_us=10 * DAY_US), book())
    log = log_of(World.of(days=2), end=False)
    told(subject, [*log, *idle(24 * 11)])
    assert subject.outcome_models == {(MODEL_ID, "7")}
    told(subject, idle(24 * 30), len(log) + 2)
    assert not subject.outcome_models
    assert None in subject.snapshot(0).values(), "its state is deleted"


def test_the_state_stays_small() -> None:
    """Whatever came: windows are closed, and rows are counted."""
    subject = partition()
    told(subject, log_of(world(), grid=None, end=False))
    sizes = {key: len(value or b"") for key, value in subject.snapshot(0).items()}
    assert max(sizes.values()) < 64 * 1024
    assert sum(sizes.values()) < 128 * 1024


def test_state_of_other_ticks_is_refused() -> None:
    subject = partition()
    told(subject, short_log()[:20])
    state = {key: value for key, value in subject.snapshot(0).items() if value is not None}
    with pytest.raises(StateError, match="ticks of"):
        Partition(config(DECAY, tick_us=2 * TICK_US), book()).restore(0, state)


def test_without_labels_there_is_no_outcome_to_wait_for() -> None:
    subject = Partition(config(NIGHTLY, labels=False), book())
    assert told(subject, log_of(short_world())).data == []
    assert subject.outcome_models == ()
    assert subject.outcome_counts.refused == {"late": 0, "over_bound": 0, "other_grid": 0}


def test_status_says_what_pages_need() -> None:
    subject = partition()
    told(subject, log_of(world(), end=False))
    status = subject.outcome_status()[MODEL_ID, "8"]
    assert [reading.metric for reading in status.reports[0].readings] == ["accuracy", "roc_auc"]
    assert status.coverage.pending == 0
    assert status.errors is not None
    retraining = subject.retraining_status()[MODEL_ID]
    assert (retraining.version, retraining.predecessor) == ("8", "7")
    assert retraining.requests == {"decay": 1}


def test_provenance_reaches_from_the_first_fresh_label_on() -> None:
    log = log_of(short_world(), batch=200, seed=1)
    moved = [_with_offsets(entry, offset) for offset, entry in enumerate(log)]
    [request] = [each for each in told(partition(NIGHTLY), moved).requests if isinstance(each.event, Request)]
    first, last = request.offsets[LABELS][0]
    assert 0 <= first < last < len(log)


def _with_offsets(entry: LogEntry, offset: int) -> LogEntry:
    if not isinstance(entry, OutcomeProgress):
        return entry
    [position] = entry.positions
    return OutcomeProgress(entry.counts, (PartitionProgress(LABELS, 0, offset, position.watermark),))


def test_topics_are_those_of_the_join() -> None:
    subject = partition()
    other = OutcomeProgress({"other": 9}, (PartitionProgress("other", 0, 0, END_OF_TIME),))
    told(subject, [other])
    assert subject._outcomes is not None
    assert subject._outcomes.end_offsets == {TopicPartition("other", 0): 0}
    assert subject._outcomes.closed is None
