"""The stage detect: what it hands to the loop when, and what an alert looks like on the topic."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from streamdrift.entries import LogEntry, encode
from streamdrift.errors import StateError
from streamdrift.evidence import rfc3339
from streamdrift.fold import FoldConfig
from streamdrift.fold_state import model_key, partition_key
from streamdrift.learning import LearningConfig
from streamdrift.monitor import MonitorConfig
from streamdrift.outcome_entries import to_parts
from streamdrift.outcome_fold import OutcomesConfig
from streamdrift.outcome_watch import OutcomeConfig
from streamdrift.records import Commit, OutputRecord, Position, RecordBatch, TopicPartition
from streamdrift.stages.detect import KEEP_LOG_FOR, Detect, DetectConfig
from streamdrift.stages.stage import Stage
from streamdrift.summaries.outcome_summary import OutcomeKey, OutcomeSummary
from streamdrift.summaries.outcomes import Outcomes, ValueRows
from streamdrift.watch import WatchConfig
from tests.support.decay import PLAN
from tests.support.outcomes import REGRESSION
from tests.support.windows import MODEL
from tests.test_fold import MINUTE, OTHER, RIVER, SENSITIVITY, SET, TICK, TOPIC, T, known, part, progress

SUMMARIES: Final = "streamdrift-summaries"
ZERO, ONE = (TopicPartition(SUMMARIES, partition) for partition in (0, 1))
WATCH: Final = WatchConfig(MonitorConfig(TICK, 60 * MINUTE, RIVER, SENSITIVITY), LearningConfig())
NOW: Final = (T + 2) * MINUTE / 1e6
"""A minute after the end of tick T."""
DUMP: Final = (SET, part(T, "dump"), progress(T, offset=4_000))
"""Three entries that start an incident."""

SCHEMA = Path(__file__).parents[2] / "config" / "schemas" / "drift-alert.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def stage(**config: Any) -> Detect:  # noqa: ANN401 — fields of DetectConfig
    fold = FoldConfig(TICK, lambda _: WATCH, {MODEL}, {TOPIC})
    return Detect(DetectConfig(fold, **config), known())


def owning(*partitions: TopicPartition, **config: Any) -> Detect:  # noqa: ANN401 — fields of DetectConfig
    subject = stage(**config)
    for tp in partitions:
        subject.assigned(tp, Position(0), {})
    return subject


def batch(entries: Sequence[LogEntry], tp: TopicPartition = ZERO, start: int = 0) -> RecordBatch:
    offsets = range(start, start + len(entries))
    values = [encode(entry) for entry in entries]
    nothing = [None] * len(entries)
    return RecordBatch(*tp, list(offsets), [0] * len(entries), nothing, values, [()] * len(entries))


def of_topic(commit: Commit, topic: str) -> list[OutputRecord]:
    return [record for record in (*commit.outputs, *commit.state) if record.topic == topic]


def alerts(commit: Commit) -> list[dict[str, Any]]:
    found = [json.loads(record.value or b"") for record in of_topic(commit, "drift-alerts")]
    for alert in found:
        VALIDATOR.validate(alert)
    return found


def state(commits: Iterable[Commit], partition: int = 0) -> dict[bytes, bytes]:
    """What a compacted topic holds of a partition after these commits."""
    records = (record for commit in commits for record in of_topic(commit, "streamdrift-state"))
    return {r.key: r.value for r in records if r.partition == partition and r.key and r.value}


def headers(record: OutputRecord) -> Mapping[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


# ---- what is handed over when ----------------------------------------------------------------------------------------


def test_it_is_a_stage() -> None:
    subject: Stage = stage()
    assert (subject.name, list(subject.inputs), subject.state_topic) == ("detect", [SUMMARIES], "streamdrift-state")
    assert list(subject.paused()) == []


def test_alerts_go_out_at_once_and_snapshots_at_their_interval() -> None:
    subject = owning(ZERO, snapshot_interval=60)
    subject.process(batch(DUMP), NOW)
    first = subject.take(NOW)
    assert [alert["phase"] for alert in alerts(first)] == ["started"]
    assert first.offsets == {}
    assert of_topic(first, "streamdrift-state") == []
    assert not subject.take(NOW + 59.9)
    second = subject.take(NOW + 60)
    assert alerts(second) == []
    assert second.offsets == {ZERO: Position(3)}
    assert [(r.key, r.partition) for r in second.state] == [(model_key(MODEL), 0), (partition_key(0), 0)]
    assert not subject.take(NOW + 600), "nothing was read since"


def test_the_end_of_ownership_does_not_wait_for_the_interval() -> None:
    subject = owning(ZERO)
    subject.process(batch(DUMP), NOW)
    commit = subject.take(NOW, final=True)
    assert commit.offsets == {ZERO: Position(3)}
    assert len(alerts(commit)) == 1
    assert [record.topic for record in commit.outputs] == ["drift-alerts"], "an alert is out before its tick is covered"
    assert [record.topic for record in commit.state] == ["streamdrift-state", "streamdrift-state"]


def test_nothing_read_is_nothing_to_commit() -> None:
    assert not owning(ZERO).take(NOW, final=True)
    assert not stage().take(NOW, final=True)


def test_the_committed_offset_is_that_of_the_oldest_open_tick() -> None:
    subject = owning(ZERO)
    subject.process(batch([*DUMP, part(T + 1), part(T + 2), progress(T + 1)]), NOW)
    assert subject.take(NOW, final=True).offsets == {ZERO: Position(4)}


def test_partitions_are_committed_each_in_its_own_time() -> None:
    subject = owning(ZERO, ONE, snapshot_interval=60)
    subject.process(batch(DUMP), NOW)
    subject.process(batch([progress(T)], ONE), NOW + 30)
    assert set(subject.take(NOW + 60).offsets) == {ZERO}
    commit = subject.take(NOW + 90)
    assert set(commit.offsets) == {ONE}
    assert [(r.key, r.partition) for r in commit.state] == [(partition_key(1), 1)]


def test_a_tombstone_in_the_log_is_passed_over() -> None:
    subject = owning(ZERO)
    whole = batch(DUMP)
    subject.process(RecordBatch(*ZERO, [0], [0], [None], [None], [()]), NOW)
    subject.process(RecordBatch(*ZERO, [1, 2, 3], [0] * 3, [None] * 3, whole.values, [()] * 3), NOW)
    assert len(alerts(subject.take(NOW))) == 1


# ---- handing over ----------------------------------------------------------------------------------------------------


def test_a_successor_goes_on_where_the_state_stands() -> None:
    whole, before, after = owning(ZERO), owning(ZERO), stage()
    log: list[LogEntry] = [*DUMP, part(T + 1), progress(T + 20)]
    whole.process(batch(log), NOW)
    before.process(batch(log[:4]), NOW)
    commit = before.take(NOW, final=True)
    start = after.assigned(ZERO, commit.offsets[ZERO], state([commit]))
    assert start == 3, "the first summary of the tick that is still open"
    after.process(batch(log[start:], start=start), NOW)
    told = [alert["severity"] for alert in alerts(commit) + alerts(after.take(NOW))]
    assert told == [alert["severity"] for alert in alerts(whole.take(NOW))] == ["info", "warning", "critical"]


def test_state_that_is_older_than_the_commit_is_read_on_from() -> None:
    subject = owning(ZERO)
    subject.process(batch(DUMP), NOW)
    old = state([subject.take(NOW, final=True)])
    assert stage().assigned(ZERO, Position(99), old) == 3
    assert stage().assigned(ZERO, Position(2), old) == 2
    assert stage().assigned(ZERO, Position(99), {}) == 99


def test_state_that_cannot_be_continued_from_is_refused() -> None:
    with pytest.raises(StateError):
        stage().assigned(ZERO, Position(0), {partition_key(0): b"x"})


def test_an_entry_that_nobody_wrote_stops_the_stage() -> None:
    with pytest.raises(StateError):
        owning(ZERO).process(RecordBatch(*ZERO, [0], [0], [None], [b"x"], [()]), NOW)


def test_what_was_folded_from_a_lost_partition_is_dropped() -> None:
    """Its new owner says it: after a loss there was no last commit here."""
    subject = owning(ZERO, ONE)
    subject.process(batch(DUMP), NOW)
    subject.process(batch([progress(T)], ONE), NOW)
    subject.revoked(ZERO)
    commit = subject.take(NOW, final=True)
    assert alerts(commit) == []
    assert set(commit.offsets) == {ONE}


def test_what_was_committed_an_hour_ago_is_expendable() -> None:
    subject = owning(ZERO)
    assert subject.expendable(NOW) == {}
    subject.process(batch(DUMP), NOW)
    subject.take(NOW, final=True)
    assert subject.expendable(NOW + KEEP_LOG_FOR - 1) == {}
    assert subject.expendable(NOW + KEEP_LOG_FOR) == {ZERO: 3}
    subject.process(batch([part(T + 1), progress(T + 1)], start=3), NOW + 60)
    subject.take(NOW + 60, final=True)
    assert subject.expendable(NOW + KEEP_LOG_FOR) == {ZERO: 3}
    assert subject.expendable(NOW + KEEP_LOG_FOR + 60) == {ZERO: 5}


# ---- the models view -------------------------------------------------------------------------------------------------


def test_the_models_view_is_replaced_and_never_changed() -> None:
    subject = owning(ZERO)
    empty = subject.models
    subject.process(batch(DUMP), NOW)
    first = subject.models
    events = {key: status.events for key, status in first.items()}
    subject.process(batch([part(T + 1), part(T + 1, "few", OTHER), progress(T + 1)], start=3), NOW)
    assert empty == {}
    assert {key: status.events for key, status in first.items()} == events == {MODEL: 4_000}
    assert {key: status.events for key, status in subject.models.items()} == {MODEL: 4_400, OTHER: 3}


def test_a_restored_model_is_shown_before_anything_is_read() -> None:
    before, after = owning(ZERO), stage()
    before.process(batch(DUMP), NOW)
    after.assigned(ZERO, Position(3), state([before.take(NOW, final=True)]))
    assert {key: status.events for key, status in after.models.items()} == {MODEL: 4_000}
    assert [incident.phase for incident in after.models[MODEL].incidents] == ["open"]


def test_a_revoked_partition_takes_its_models_along() -> None:
    subject = owning(ZERO, ONE)
    subject.process(batch(DUMP), NOW)
    subject.process(batch([part(T, "few", OTHER), progress(T)], ONE), NOW)
    held = subject.models
    assert set(held) == {MODEL, OTHER}
    subject.revoked(ZERO)
    assert set(subject.models) == {OTHER}
    assert set(held) == {MODEL, OTHER}
    subject.revoked(ZERO)


def test_counters_do_not_fall_when_a_partition_moves_away() -> None:
    subject = owning(ZERO, ONE)
    subject.process(batch([*DUMP, part(T, "few")]), NOW)
    subject.process(batch([progress(T), part(T, "few", OTHER)], ONE), NOW)
    assert subject.counts.late == 6
    subject.revoked(ZERO)
    assert subject.counts.late == 6
    subject.assigned(ZERO, Position(0), {})
    subject.process(batch([*DUMP, part(T, "few")]), NOW)
    assert subject.counts.late == 9


def test_events_that_no_detector_sees_are_told_once_with_the_next_snapshot() -> None:
    subject = owning(ZERO, snapshot_interval=60)
    subject.process(batch([*DUMP, part(T, "few")]), NOW)
    assert subject.take(NOW).warnings == ()
    [warning] = subject.take(NOW + 60).warnings
    assert warning.startswith("3 events are not watched: of ticks that were closed already")
    subject.process(batch([progress(T)], start=4), NOW + 61)
    assert subject.take(NOW, final=True).warnings == []
    subject.process(batch([part(T, "few")] * 400, start=5), NOW + 62)
    [warning] = subject.take(NOW, final=True).warnings
    assert warning.startswith("1,200 events")


def test_labels_that_nothing_hears_are_told_likewise() -> None:
    outcomes = OutcomesConfig(lambda _: OutcomeConfig(TICK, PLAN), {TOPIC})
    subject = Detect(DetectConfig(FoldConfig(TICK, lambda _: WATCH, {MODEL}, {TOPIC}, outcomes=outcomes)), known())
    subject.assigned(ZERO, Position(0), {})
    rows = ValueRows(REGRESSION, np.zeros(7), np.ones(7))
    summary = replace(OutcomeSummary.empty(REGRESSION), outcomes=Outcomes.of(rows))
    subject.process(batch(to_parts(OutcomeKey(*MODEL, "", T, 0), T * TICK + 1, summary)), NOW)
    [warning] = subject.take(NOW, final=True).warnings
    assert warning.startswith("7 labels are not watched: counted on a grid, or in ticks, of another configuration")
    assert not subject.take(NOW, final=True).warnings


# ---- an alert on the topic -------------------------------------------------------------------------------------------


def alert_record(now: float = NOW, **config: Any) -> OutputRecord:  # noqa: ANN401 — fields of DetectConfig
    subject = owning(ZERO, **config)
    subject.process(batch(DUMP), now)
    [record] = subject.take(now).outputs
    return record


def test_an_alert_is_a_cloud_event_in_binary_mode() -> None:
    record = alert_record()
    data = json.loads(record.value or b"")
    assert record.topic == "drift-alerts"
    assert record.partition is None, "by its key"
    assert record.key == data["incident_id"].encode()
    assert headers(record) == {
        "ce_specversion": "1.0",
        "ce_id": f"{data['incident_id']}-0",
        "ce_source": "/streamdrift",
        "ce_type": "io.streamdrift.incident.started",
        "ce_subject": "shop/amount",
        "ce_time": data["event_time"],
        "content-type": "application/json",
    }
    assert data["event_time"] == rfc3339((T + 1) * MINUTE)


def test_topics_and_the_source_are_configured() -> None:
    record = alert_record(alerts_topic="alerts", source="/fraud-team")
    assert record.topic == "alerts"
    assert headers(record)["ce_source"] == "/fraud-team"


def test_each_message_of_an_incident_has_an_id_and_the_incident_one_key() -> None:
    subject = owning(ZERO)
    subject.process(batch([*DUMP, progress(T + 20)]), NOW)
    records = of_topic(subject.take(NOW), "drift-alerts")
    assert len({record.key for record in records}) == 1
    ids = [headers(record)["ce_id"] for record in records]
    assert [id_.rpartition("-")[2] for id_ in ids] == ["0", "1", "2"]
    types = [headers(record)["ce_type"].rpartition(".")[2] for record in records]
    assert types == ["started", "updated", "updated"]


def test_the_subject_is_the_model_where_several_features_drift() -> None:
    subject = owning(ZERO)
    both: list[LogEntry] = [
        SET,
        *(part(T, "new"), part(T, "dump")),
        progress(T),
        *[part(T + 1, "new")] * 3,
        progress(T + 1),
    ]
    subject.process(batch(both), NOW)
    for record in of_topic(subject.take(NOW), "drift-alerts"):
        features = {feature["feature"] for feature in json.loads(record.value or b"")["features"]}
        expected = "shop" if len(features) > 1 else f"shop/{next(iter(features))}"
        assert headers(record)["ce_subject"] == expected


def test_provenance_says_how_it_came_about_and_decides_nothing() -> None:
    records = [alert_record(now) for now in (NOW, NOW + 299 - 60, NOW + 301 - 60, NOW + 86_400)]
    found = [json.loads(record.value or b"") for record in records]
    provenance = [alert.pop("provenance") for alert in found]
    assert [p["catching_up"] for p in provenance] == [False, False, True, True]
    assert provenance[0]["published_at"] == rfc3339(round(NOW * 1e6))
    assert provenance[0]["offsets"] == {TOPIC: {"0": [0, 4_000]}}
    assert all(alert == found[0] for alert in found)
    assert len({headers(record)["ce_id"] for record in records}) == 1


def test_a_clock_behind_the_events_is_not_catching_up() -> None:
    data = json.loads(alert_record(0.0).value or b"")
    assert data["provenance"]["catching_up"] is False
