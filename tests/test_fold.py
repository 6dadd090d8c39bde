"""One partition of the log: the same entries give the same alerts, however the reader is interrupted."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.baselines import Baseline
from streamdrift.detectors.river import RiverSpec
from streamdrift.entries import (
    BaselineSet,
    LogEntry,
    PartitionProgress,
    Progress,
    SummaryPart,
    admission_rank,
    decode,
    encode,
    to_parts,
)
from streamdrift.errors import StateError
from streamdrift.fold import FoldConfig, PartitionFold
from streamdrift.fold_state import model_key, partition_key
from streamdrift.gridbook import GridBook
from streamdrift.grids import SCORE, blind_grid
from streamdrift.learning import LearningConfig
from streamdrift.monitor import MonitorConfig
from streamdrift.provenance import CHECKPOINTS, Provenance
from streamdrift.records import TopicPartition
from streamdrift.sensitivity import Sensitivity, WarmUp
from streamdrift.status import ModelState, ModelStatus
from streamdrift.streams import RiverStream
from streamdrift.summaries import SummaryKey
from streamdrift.tick_fold import PublishedAlert
from streamdrift.ticks import END_OF_TIME, NEVER
from streamdrift.watch import WatchConfig
from tests.support.books import book
from tests.support.windows import MODEL, rows, small_baseline, some, summary

MINUTE: Final = 60_000_000
TICK: Final = MINUTE
T: Final = 29_000_000
TOPIC: Final = "predictions"
OTHER: Final = ("unknown", "1")
RIVER: Final = (RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.002})),)
SENSITIVITY: Final = Sensitivity(warm_up=WarmUp(events=1_000))
"""One that a dump is enough to calibrate."""


@functools.cache
def another_baseline() -> Baseline:
    """Of the same model, trained on other rows: another grid, and another id."""
    return small_baseline(15_000)


@functools.cache
def recounted_baseline() -> Baseline:
    """Other counts on the same grid."""
    baseline = small_baseline()
    return Baseline(baseline.grid, baseline.summary + baseline.summary)


@functools.cache
def known() -> GridBook:
    return book([small_baseline(), another_baseline(), recounted_baseline()])


def fold(*, max_models: int = 1_000, topics: Sequence[str] = (TOPIC,), tick_us: int = TICK) -> PartitionFold:
    config = FoldConfig(
        tick_us,
        lambda _: WatchConfig(MonitorConfig(tick_us, 60 * MINUTE, RIVER, SENSITIVITY), LearningConfig()),
        configured={MODEL},
        topics=set(topics),
        max_models=max_models,
    )
    return PartitionFold(config, known())


# ---- logs ------------------------------------------------------------------------------------------------------------


@functools.cache
def template(kind: str, model: tuple[str, str]) -> SummaryPart:
    """The events of a tick as an entry, at tick 0."""
    baseline = {"": small_baseline, "another": another_baseline}[kind.partition("/")[2]]()
    size = {"few": 3, "quiet": 400, "dump": 4_000}.get(kind.partition("/")[0], 1_200)
    drawn = rows(np.random.default_rng(1), size)
    if kind.startswith(("drift", "dump")):
        drawn["amount"] *= 100
    if kind.startswith("new"):
        drawn["country"] = some(drawn["country"], 0.2, "XX")
    grid = baseline.grid if model == MODEL else blind_grid(*model)
    values = drawn if model == MODEL else {SCORE: drawn[SCORE]}
    [part] = to_parts(SummaryKey(*model, "", 0), 0, grid, summary(grid, values))
    return part


def part(tick: int, kind: str = "quiet", model: tuple[str, str] = MODEL) -> SummaryPart:
    known = template(kind, model if model in {MODEL, OTHER} else OTHER)
    return msgspec.structs.replace(known, key=SummaryKey(*model, "", tick), start_us=tick * TICK)


def progress(*watermarks: int, offset: int = 0, topic: str = TOPIC) -> Progress:
    """All partitions of a topic have come to (the end of) these ticks."""
    ends = [tick if tick in {NEVER, END_OF_TIME} else (tick + 1) * TICK for tick in watermarks]
    return Progress({topic: len(ends)}, tuple(PartitionProgress(topic, p, offset, w) for p, w in enumerate(ends)))


SET: Final = BaselineSet(*MODEL, small_baseline().id)


def apply(subject: PartitionFold, entries: Iterable[LogEntry], start: int = 0) -> list[PublishedAlert]:
    """What is read goes through bytes, as on a topic."""
    return [
        alert for offset, entry in enumerate(entries, start) for alert in subject.apply(offset, decode(encode(entry)))
    ]


def said(alerts: Iterable[PublishedAlert]) -> list[tuple[str, int, dict[str, Any]]]:
    """Alerts without their provenance."""
    return [(a.alert.incident_id, a.alert.sequence, json.loads(json.dumps(a.alert.data))) for a in alerts]


def lasting(models: Mapping[tuple[str, str], ModelStatus]) -> dict[tuple[str, str], ModelStatus]:
    return {
        key: replace(
            status, alerts={}, state_bytes=0, incidents=tuple(i for i in status.incidents if i.resolved_us is None)
        )
        for key, status in models.items()
    }


@dataclass
class StateTopic:
    """The latest value of each key, as compaction leaves it."""

    records: dict[bytes, bytes] = field(default_factory=dict)

    def write(self, subject: PartitionFold) -> None:
        self.keep(subject.snapshot(0))

    def keep(self, records: Mapping[bytes, bytes | None]) -> None:
        for key, value in records.items():
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value


Commit = tuple[int, list[tuple[int, str, bool]]]
"""How far time goes on, and the summaries written before: (ticks back from there, what, of the unknown model)."""

commits = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1, 2, 10, 70]),
        st.lists(
            st.tuples(
                st.integers(-2, 1),
                st.sampled_from(["few", "quiet", "drift", "dump", "new"]),
                st.sampled_from([False] * 4 + [True]),
            ),
            max_size=3,
        ),
    ),
    max_size=14,
)


def log_of(commits: Sequence[Commit]) -> list[LogEntry]:
    """A log in which incidents start, whatever was drawn; some summaries come too late."""
    tick = T
    entries: list[LogEntry] = [SET]
    for gap, parts in [*commits, (1, [(0, "dump", False)]), (1, [(0, "dump", True)]), (1, [])]:
        tick += gap
        entries += [part(max(T, tick - back), kind, OTHER if other else MODEL) for back, kind, other in parts]
        entries.append(progress(tick - 1, tick - 1 + len(parts) % 2, offset=tick - T))
    return [*entries, progress(tick + 30, tick + 30, offset=tick - T)]


# ---- the same alerts -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(commits, st.sets(st.integers(0, 60), max_size=4))
def test_a_clean_handover_at_any_entry_changes_nothing(commits: list[Commit], cuts: set[int]) -> None:
    log = log_of(commits)
    whole = fold()
    expected = said(apply(whole, log))
    subject, state, found, position = fold(), StateTopic(), [], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(log)), len(log)]:
        found += said(apply(subject, log[position:cut], position))
        state.write(subject)
        position = subject.resume_at
        subject = fold()
        subject.restore(0, state.records)
        assert subject.restored_at == position
        assert subject.watermark == whole.watermark or cut < len(log)
    assert found + said(apply(subject, log[position:], position)) == expected
    assert lasting(subject.status()) == lasting(whole.status())
    assert subject.counts.late <= whole.counts.late, "what was late once is not counted again"


@settings(deadline=None, max_examples=40)
@given(commits, st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_after_a_crash_the_same_alerts_are_given_again(
    commits: list[Commit],
    committed: int,
    crashed: int,
    half: bool,  # noqa: FBT001 — drawn
) -> None:
    """``half``: of the last commit, the models' snapshots were written and the partition's own record was not."""
    log = log_of(commits)
    committed, crashed = sorted((min(committed, len(log)), min(crashed, len(log))))
    whole = fold()
    expected = said(apply(whole, log))
    subject, state = fold(), StateTopic()
    found = said(apply(subject, log[:committed]))
    state.write(subject)
    start = subject.resume_at
    found += said(apply(subject, log[committed:crashed], committed))
    if half:
        state.keep({key: value for key, value in subject.snapshot(0).items() if key != partition_key(0)})
    subject = fold()
    subject.restore(0, state.records)
    again = said(apply(subject, log[start:], start))
    assert all(alert in expected for alert in again), "whatever is said twice is the same"
    first = {alert[:2]: None for alert in [*found, *again]}
    assert list(first) == [alert[:2] for alert in expected], "nothing is lost"
    if half:
        assert [alert for alert in again if alert in found] == [], "what the snapshots hold is not folded again"
    assert lasting(subject.status()) == lasting(whole.status())


@settings(deadline=None, max_examples=40)
@given(commits, st.randoms(use_true_random=False))
def test_the_order_of_summaries_between_two_closed_ticks_does_not_matter(commits: list[Commit], random: Any) -> None:  # noqa: ANN401 — random.Random
    log = log_of(commits)
    shuffled: list[LogEntry] = []
    batch: list[LogEntry] = []
    for entry in log:
        if isinstance(entry, SummaryPart):
            batch.append(entry)
        else:
            random.shuffle(batch)
            shuffled += [*batch, entry]
            batch = []
    assert said(apply(fold(), shuffled)) == said(apply(fold(), log))


@settings(deadline=None, max_examples=25)
@given(commits)
def test_closing_tick_by_tick_equals_closing_many_at_once(commits: list[Commit]) -> None:
    """The ticks that are passed over are those in which nothing happens."""
    log: list[LogEntry] = [entry for entry in log_of(commits) if not isinstance(entry, Progress)]
    last = max(entry.key.tick for entry in log if isinstance(entry, SummaryPart)) + 200
    slow, fast = fold(), fold()
    one_by_one = said(apply(slow, [*log, *(progress(tick) for tick in range(T, last + 1))]))
    assert said(apply(fast, [*log, progress(last)])) == one_by_one
    assert lasting(fast.status()) == lasting(slow.status())


def test_a_summary_in_parts_is_the_whole() -> None:
    whole, parts = fold(), fold()
    grid = small_baseline().grid
    drawn = rows(np.random.default_rng(1), 4_000) | {"amount": np.full(4_000, 1e4)}
    key = SummaryKey(*MODEL, "", T)
    [one] = to_parts(key, T * TICK, grid, summary(grid, drawn))
    halves = [
        to_parts(key, T * TICK, grid, summary(grid, {name: values[half] for name, values in drawn.items()}))[0]
        for half in (slice(0, 1_500), slice(1_500, None))
    ]
    expected = said(apply(whole, [SET, one, progress(T + 20)]))
    assert said(apply(parts, [SET, *halves, progress(T + 20)])) == expected
    assert len(expected) == 3


def test_alerts_of_one_tick_come_in_the_order_of_models() -> None:
    models = [("shop", "10"), ("a", "1"), MODEL, ("z", "1"), ("shop", "2")]
    parts = [msgspec.structs.replace(part(T, "dump"), key=SummaryKey(*model, "", T)) for model in models]
    controls = [BaselineSet(*model, small_baseline().id) for model in models]
    found = said(apply(fold(), [*controls, *parts, progress(T)]))
    assert [(data["model_id"], data["model_version"]) for _, _, data in found] == sorted(models)
    assert len({incident for incident, _, _ in found}) == len(models)


# ---- what is read again, late, or of somebody else -------------------------------------------------------------------


def test_covered_ticks_that_are_read_again_change_nothing() -> None:
    log: list[LogEntry] = [SET, part(T, "dump"), progress(T), part(T + 1, "quiet"), progress(T + 1)]
    subject, state = fold(), StateTopic()
    apply(subject, log)
    state.write(subject)
    other = fold()
    other.restore(0, state.records)
    before = other.snapshot(0)
    assert apply(other, log) == []
    assert other.snapshot(0) == before
    assert (other.counts.replayed, other.counts.late) == (2, 0)


def test_open_ticks_are_read_again_and_counted_once() -> None:
    log: list[LogEntry] = [SET, part(T, "quiet"), part(T + 1, "quiet"), progress(T), part(T + 1, "few")]
    subject, state = fold(), StateTopic()
    apply(subject, log)
    state.write(subject)
    assert subject.resume_at == 2, "the first summary of the tick that is still open"
    other = fold()
    other.restore(0, state.records)
    apply(other, [*log[2:], progress(T + 1)], 2)
    assert other.status()[MODEL].events == 400 + 400 + 3


def test_a_baseline_that_is_read_again_does_not_start_its_model_anew() -> None:
    """A model may have had another baseline for a while before the restart, and the records of both are read again."""
    other = BaselineSet(*MODEL, recounted_baseline().id)
    log: list[LogEntry] = [SET, part(T + 1), other, SET, part(T, "dump"), progress(T)]
    subject, state = fold(), StateTopic()
    expected = said(apply(subject, [*log, progress(T + 1)]))
    subject = fold()
    found = said(apply(subject, log))
    state.write(subject)
    assert subject.resume_at == 1
    subject = fold()
    subject.restore(0, state.records)
    assert found + said(apply(subject, [*log[1:], progress(T + 1)], 1)) == expected
    assert subject.status()[MODEL].events == 4_400


def test_a_summary_of_a_closed_tick_is_late_and_counted() -> None:
    subject = fold()
    apply(subject, [SET, part(T), progress(T), part(T, "few"), part(T - 5, "few"), progress(T + 1)])
    assert subject.counts.late == 6
    assert subject.status()[MODEL].events == 400


def test_a_tick_closes_when_every_partition_has_passed_it() -> None:
    subject = fold()
    apply(subject, [SET, part(T), progress(T, T - 1)])
    assert subject.status()[MODEL].events == 0
    apply(subject, [progress(T, T)], 3)
    assert subject.status()[MODEL].events == 400


def test_a_partition_that_nobody_has_spoken_for_holds_time() -> None:
    subject = fold()
    apply(subject, [SET, part(T), progress(T, NEVER)])
    assert subject.watermark == NEVER
    assert subject.status()[MODEL].events == 0


def test_a_topic_of_which_nobody_has_spoken_holds_time_too() -> None:
    subject = fold(topics=(TOPIC, "features"))
    apply(subject, [SET, part(T), progress(T)])
    assert subject.watermark == NEVER
    assert subject.status()[MODEL].events == 0
    apply(subject, [progress(T + 1, topic="features")], 3)
    assert subject.status()[MODEL].events == 400


def test_a_topic_that_is_configured_no_more_is_not_waited_for() -> None:
    both, state = fold(topics=(TOPIC, "features")), StateTopic()
    apply(both, [SET, progress(T - 1, topic="features"), part(T), progress(T)])
    assert both.status()[MODEL].events == 0
    state.write(both)
    one = fold()
    one.restore(0, state.records)
    apply(one, [part(T), progress(T)], 2)
    assert one.status()[MODEL].events == 400


def test_no_tick_closes_before_the_reader_is_back_where_it_was() -> None:
    """Without the topic that held time, all that was open is complete at the first record that is read again."""
    both, state = fold(topics=(TOPIC, "features")), StateTopic()
    log: list[LogEntry] = [SET, progress(T - 1, topic="features"), part(T), progress(T), part(T), progress(T)]
    apply(both, log)
    state.write(both)
    one = fold()
    one.restore(0, state.records)
    apply(one, log[2:], 2)
    assert one.status()[MODEL].events == 800
    assert one.counts.late == one.counts.replayed == 0


def test_a_summary_on_a_grid_that_is_not_the_models_is_counted_and_left_out() -> None:
    subject = fold()
    apply(subject, [SET, part(T, "quiet/another"), msgspec.structs.replace(part(T), grid_id="0"), progress(T)])
    assert subject.counts.other_grid == 800
    assert subject.status()[MODEL].events == 0


def test_a_summary_in_ticks_of_another_length_is_counted_and_left_out() -> None:
    subject = fold()
    apply(subject, [SET, msgspec.structs.replace(part(T), start_us=T * 10_000_000), progress(T)])
    assert subject.counts.other_grid == 400


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_the_same_baseline_again_changes_nothing() -> None:
    log: list[LogEntry] = [SET, part(T, "dump"), progress(T + 7)]
    plain, repeated = fold(), fold()
    expected = said(apply(plain, [*log, part(T + 9), progress(T + 30)]))
    assert said(apply(repeated, [*log, SET, part(T + 9), SET, progress(T + 30)])) == expected
    assert lasting(plain.status()) == lasting(repeated.status())


@pytest.mark.parametrize("other", [another_baseline(), recounted_baseline()], ids=["another grid", "the same grid"])
def test_another_baseline_ends_what_is_open_and_starts_anew(other: Baseline) -> None:
    subject = fold()
    apply(subject, [SET, part(T, "dump"), progress(T)])
    [ended] = said(apply(subject, [BaselineSet(*MODEL, other.id)], 3))
    assert (ended[2]["phase"], ended[2]["resolution"]) == ("resolved", "rebaselined")
    assert ended[2]["baseline_id"] == small_baseline().id
    status = subject.status()[MODEL]
    assert (status.baseline_id, status.events) == (other.id, 0)
    assert [incident.phase for incident in status.incidents] == ["resolved"], "its end is still shown"
    kind = "dump/another" if other is another_baseline() else "dump"
    [started] = said(apply(subject, [part(T + 1, kind), progress(T + 1)], 4))
    assert (started[2]["phase"], started[2]["baseline_id"]) == ("started", other.id)
    assert started[0] != ended[0]


def test_what_was_counted_on_the_grid_before_is_left_out_and_counted() -> None:
    subject = fold()
    apply(subject, [SET, part(T), BaselineSet(*MODEL, another_baseline().id), part(T, "quiet/another"), progress(T)])
    assert subject.counts.other_grid == 400
    assert subject.status()[MODEL].events == 400


def test_a_new_baseline_on_the_same_grid_keeps_what_is_open() -> None:
    subject = fold()
    apply(subject, [SET, part(T), BaselineSet(*MODEL, recounted_baseline().id), part(T), progress(T)])
    assert subject.counts.other_grid == 0
    assert subject.status()[MODEL].events == 800


def test_a_baseline_that_comes_after_the_models_first_events_takes_effect_with_the_next() -> None:
    """Summaries were counted without a grid before it was known: they must not be taken for counts on it."""
    unknown = [
        msgspec.structs.replace(part(tick, "quiet", OTHER), key=SummaryKey(*MODEL, "", tick)) for tick in (T, T + 1)
    ]
    grid_id = blind_grid(*MODEL).id
    log: list[LogEntry] = [
        *(msgspec.structs.replace(entry, grid_id=grid_id) for entry in unknown),
        SET,
        part(T),
        part(T + 1),
        progress(T + 1),
    ]
    subject = fold()
    apply(subject, log)
    assert subject.counts.other_grid == 800
    assert subject.status()[MODEL].events == 800


def test_a_model_without_a_baseline_gets_one() -> None:
    blind = msgspec.structs.replace(part(T, "quiet", OTHER), key=SummaryKey(*MODEL, "", T))
    subject = fold()
    apply(subject, [blind, progress(T)])
    assert subject.status()[MODEL].state is ModelState.LEARNING
    apply(subject, [SET, part(T + 1), progress(T + 1)], 2)
    status = subject.status()[MODEL]
    assert (status.state, status.events) == (ModelState.CALIBRATING, 400)
    apply(subject, [part(T + 2), part(T + 3), progress(T + 3)], 5)
    status = subject.status()[MODEL]
    assert (status.state, status.events) == (ModelState.WATCHING, 1_200)


def test_a_promoted_baseline_stays_though_the_configured_one_is_said_again() -> None:
    promoted = BaselineSet(*MODEL, recounted_baseline().id, promoted=True)
    subject, state = fold(), StateTopic()
    apply(subject, [SET, part(T), progress(T), promoted, SET, part(T + 1), progress(T + 1)])
    assert subject.status()[MODEL].baseline_id == recounted_baseline().id
    state.write(subject)
    other = fold()
    other.restore(0, state.records)
    apply(other, [SET, part(T + 2), progress(T + 2)], other._position)
    assert other.status()[MODEL].baseline_id == recounted_baseline().id
    apply(other, [BaselineSet(*MODEL, another_baseline().id)], other._position)
    assert other.status()[MODEL].baseline_id == another_baseline().id


def test_a_baseline_that_is_configured_once_it_is_in_effect_gives_way_to_a_promoted_one() -> None:
    in_effect, promoted = (
        BaselineSet(*MODEL, baseline.id, promoted=True) for baseline in (small_baseline(), recounted_baseline())
    )
    subject = fold()
    apply(subject, [in_effect, SET, promoted, SET, part(T), progress(T)])
    assert subject.status()[MODEL].baseline_id == recounted_baseline().id


def test_a_baseline_that_is_not_known_stops_the_fold() -> None:
    with pytest.raises(StateError, match="not in the grids topic"):
        apply(fold(), [BaselineSet(*MODEL, "0123")])


# ---- models that nobody configured -----------------------------------------------------------------------------------


@given(st.permutations(range(8)), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_unknown_models_are_admitted_by_hash_whatever_their_order(order: list[int], room: int) -> None:
    subject = fold(max_models=room)
    apply(subject, [SET, *(part(T, "few", (f"m{i}", "1")) for i in order), part(T, "few"), progress(T)])
    ranked = sorted(((f"m{i}", "1") for i in range(8)), key=lambda key: admission_rank(*key))
    assert set(subject.status()) == {MODEL, *ranked[:room]}
    assert subject.counts.over_bound == 3 * max(0, 8 - room)


def test_who_was_admitted_stays_and_the_bound_holds_over_ticks() -> None:
    subject = fold(max_models=2)
    names = sorted(((f"m{i}", "1") for i in range(4)), key=lambda key: admission_rank(*key))
    apply(subject, [part(T, "few", key) for key in names[2:]] + [progress(T)])
    apply(subject, [part(T + 1, "few", key) for key in names] + [progress(T + 1)], 3)
    assert set(subject.status()) == set(names[2:])
    assert subject.counts.over_bound == 6


def test_a_configured_model_is_admitted_beyond_the_bound_and_takes_no_room() -> None:
    subject = fold(max_models=1)
    blind = msgspec.structs.replace(part(T, "few", OTHER), key=SummaryKey(*MODEL, "", T))
    apply(subject, [blind, progress(T), part(T + 1, "few", OTHER), progress(T + 1)])
    assert set(subject.status()) == {MODEL, OTHER}
    later = next(key for i in range(99) if admission_rank(*(key := (f"m{i}", "1"))) > admission_rank(*MODEL))
    subject = fold(max_models=1)
    apply(subject, [blind, part(T, "few", later), progress(T)])
    assert set(subject.status()) == {MODEL, later}, "nor in the tick in which both are new"


# ---- time ------------------------------------------------------------------------------------------------------------


def test_the_end_of_time_closes_everything_and_comes_to_an_end() -> None:
    subject = fold()
    log: list[LogEntry] = [
        SET,
        part(T, "dump"),
        part(T + 3),
        part(T + 3, "quiet", OTHER),
        progress(T),
        progress(END_OF_TIME),
    ]
    found = said(apply(subject, log))
    assert [data["severity"] for _, _, data in found] == ["info", "warning", "critical"]
    assert subject.resume_at == len(log)
    assert {key: status.events for key, status in subject.status().items()} == {MODEL: 4_400, OTHER: 400}
    late = apply(subject, [part(T + 10**6), progress(END_OF_TIME)], len(log))
    assert late == []
    assert subject.counts.late == 400


def test_a_year_without_events_costs_little() -> None:
    year = 365 * 24 * 60

    def cost(gap: int) -> float:
        subject = fold()
        apply(subject, [SET, part(T, "dump"), progress(T + 1)])
        started = time.process_time()
        found = apply(subject, [progress(T + gap), part(T + gap + 1), progress(T + gap + 1)], 3)
        took = time.process_time() - started
        meanwhile = ["updated", "updated", "resolved"]
        assert [str(each.alert.phase) for each in found] == meanwhile[: 3 if gap == year else 2]
        return took

    cost(20)
    assert min(cost(year) for _ in range(3)) <= 5 * max(cost(20) for _ in range(3))


# ---- provenance ------------------------------------------------------------------------------------------------------


def offsets_of(log: Sequence[LogEntry]) -> dict[int, tuple[int, int]]:
    [alert, *_] = apply(fold(), log)
    return dict(alert.offsets[TOPIC])


def test_offsets_enclose_the_evidence() -> None:
    """The window began with tick T + 1, whose first events were read with those of T: they lie behind offset 100."""
    log: list[LogEntry] = [
        SET,
        *[part(T - 5)] * 3,
        progress(T - 5, T - 5, offset=100),
        part(T, "few"),
        part(T + 1, "drift"),
        progress(T - 1, T - 1, offset=200),
        part(T + 1, "drift"),
        progress(T, T, offset=300),
        part(T + 2, "drift"),
        progress(T + 3, T + 3, offset=400),
    ]
    assert offsets_of(log) == {0: (100, 400), 1: (100, 400)}


def test_offsets_are_those_of_the_first_tick_of_the_window_however_often_progress_was_told() -> None:
    grid = small_baseline().grid
    quiet: list[LogEntry] = []
    for i in range(3 * CHECKPOINTS):
        drawn = summary(grid, rows(np.random.default_rng(i), 50))
        quiet += to_parts(SummaryKey(*MODEL, "", T + i), (T + i) * TICK, grid, drawn)
        quiet.append(progress(T + i, offset=10 * i))
    start = T + 3 * CHECKPOINTS
    chatter = [progress(start - 1, offset=10 * 3 * CHECKPOINTS)] * (2 * CHECKPOINTS)
    log: list[LogEntry] = [SET, *quiet, *chatter, part(start, "dump"), progress(start, offset=99_999)]
    first, last = offsets_of(log)[0]
    assert (first, last) == (10 * 3 * CHECKPOINTS, 99_999)


def test_offsets_of_long_ago_are_coarser_but_never_too_late() -> None:
    ticks, tp = 8 * CHECKPOINTS, TopicPartition(TOPIC, 0)
    subject = Provenance()
    for i in range(ticks):
        subject.keep(T + i, {tp: 10 * i})
    for back in (1, 100, CHECKPOINTS, 4 * CHECKPOINTS, ticks - 1):
        [(first, _)] = subject.since(T + ticks - back, {tp: 10 * ticks})[TOPIC].values()
        true = 10 * (ticks - back)
        assert true - 20 * back <= first <= true
    assert len(subject._read_from) <= CHECKPOINTS


def test_offsets_before_a_restart_are_not_known() -> None:
    subject, state = fold(), StateTopic()
    log: list[LogEntry] = [
        SET,
        part(T, "few"),
        part(T + 1, "few"),
        progress(T + 1, offset=70),
        part(T + 2, "dump"),
    ]
    apply(subject, log)
    state.write(subject)
    other = fold()
    other.restore(0, state.records)
    [alert] = apply(other, [*log[4:], progress(T + 2, offset=90)], 4)
    assert alert.offsets == {TOPIC: {0: (0, 90)}}


# ---- state -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def state() -> dict[bytes, bytes]:
    subject, topic = fold(), StateTopic()
    apply(subject, [SET, part(T, "dump"), part(T, "few", OTHER), progress(T), part(T + 1)])
    topic.write(subject)
    return topic.records


def test_state_is_one_record_a_model_and_one_of_the_partition_which_comes_last(state: dict[bytes, bytes]) -> None:
    assert set(state) == {model_key(MODEL), model_key(OTHER), partition_key(0)}
    subject = fold()
    apply(subject, [SET, part(T, "dump"), progress(T)])
    assert list(subject.snapshot(0))[-1] == partition_key(0)
    assert list(subject.snapshot(0)) == [partition_key(0)], "only what changed"


def test_nothing_is_known_without_state() -> None:
    subject = fold()
    subject.restore(0, {})
    assert subject.restored_at is None
    assert subject.resume_at == 0


def test_the_record_of_another_partition_is_left_alone(state: dict[bytes, bytes]) -> None:
    subject = fold()
    subject.restore(1, {partition_key(0): state[partition_key(0)]})
    assert subject.restored_at is None


def damaged(record: bytes, position: int, value: object) -> bytes:
    fields = msgspec.msgpack.decode(record)
    fields[position] = value
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize("position", [0, 1])
def test_state_of_another_version_or_of_other_ticks_is_refused(state: dict[bytes, bytes], position: int) -> None:
    key = partition_key(0)
    with pytest.raises(StateError, match=r"has version 7|ticks of 7e-06 s"):
        fold().restore(0, {**state, key: damaged(state[key], position, 7)})


def test_ticks_of_another_length_are_refused_with_what_to_do(state: dict[bytes, bytes]) -> None:
    with pytest.raises(StateError, match="ticks of 60 s, not of 10 s"):
        fold(tick_us=10_000_000).restore(0, state)
    del state[partition_key(0)]
    with pytest.raises(StateError, match="ticks of 60 s, not of 10 s"):
        fold(tick_us=10_000_000).restore(0, state)


@pytest.mark.parametrize(
    "key",
    [b"", b"\xff", b"x", b"3", b"[]", b"[1]", b'["partition"]', b'["model"]', b'["model","a"]', b'["join","a","b"]'],
)
def test_a_key_that_nobody_wrote_is_refused(state: dict[bytes, bytes], key: bytes) -> None:
    with pytest.raises(StateError, match="a key of the state topic"):
        fold().restore(0, {**state, key: state[model_key(OTHER)]})


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x91\x01", b"\x80"])
def test_garbage_is_refused(state: dict[bytes, bytes], garbage: bytes) -> None:
    for key in (partition_key(0), model_key(MODEL)):
        with pytest.raises(StateError):
            fold().restore(0, {**state, key: garbage})


def test_a_status_is_given_once_and_again_when_it_changed() -> None:
    subject = fold()
    apply(subject, [SET, part(T), progress(T)])
    assert set(subject.status()) == {MODEL}
    assert subject.status() == {}
    apply(subject, [part(T + 1), progress(T + 1)], 3)
    assert set(subject.status()) == {MODEL}
