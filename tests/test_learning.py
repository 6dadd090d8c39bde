"""Learning without a baseline: the same events give the same grid, the same baseline and the same alerts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift import learning, rows
from streamdrift.baselines import Baseline
from streamdrift.detectors.river import RiverSpec
from streamdrift.entries import BaselineSet, LogEntry, PartitionProgress, Progress, decode, encode, to_parts
from streamdrift.errors import StateError
from streamdrift.events import Batch
from streamdrift.fold import FoldConfig, News, PartitionFold
from streamdrift.fold_state import chunk_key, model_key
from streamdrift.gridbook import baseline_record, grid_records
from streamdrift.gridding import Reason
from streamdrift.grids import SCORE, Grid, Kind, blind_grid
from streamdrift.learning import LearningConfig, counted_on, grid_of
from streamdrift.monitor import MonitorConfig
from streamdrift.records import OutputRecord
from streamdrift.sensitivity import Sensitivity, WarmUp
from streamdrift.status import FeatureState, ModelState, ModelStatus
from streamdrift.streams import RiverStream
from streamdrift.summaries import Row, Summary, SummaryKey
from streamdrift.tick_fold import PublishedAlert
from streamdrift.ticks import END_OF_TIME
from streamdrift.watch import WatchConfig
from tests.support.books import book_of

MINUTE: Final = 60_000_000
DAY: Final = 24 * 60 * MINUTE
TICK: Final = MINUTE
T: Final = 29_000_000
TOPIC: Final = "predictions"
MODEL: Final = ("shop", "3")
RIVER: Final = (RiverStream(SCORE, RiverSpec("drift.ADWIN", {"delta": 0.002})),)
WARM_UP: Final = WarmUp(events=6_000, at_most_us=7 * DAY, at_least=200)

unhurried = settings(deadline=None, max_examples=15)


# ---- events and logs -------------------------------------------------------------------------------------------------


@functools.cache
def events_of(tick: int, n: int, kind: str = "usual") -> tuple[Row, ...]:
    """Events of a tick, the same for every caller."""
    rng = np.random.default_rng((tick, n, len(kind)))
    amounts = rng.normal(40, 12, n) * (100 if kind == "drift" else 1)
    found = []
    for i in range(n):
        features = {
            "amount": float(amounts[i]),
            "country": str(rng.choice(["DE", "FR", "IT"], p=[0.5, 0.3, 0.2])),
            "row": tick * 10_000 + i,
            "basket": {"items": int(rng.integers(1, 40))},
            "note": None,
        }
        payload = rows.encode_row(features, {"score": float(rng.beta(2, 8))})
        found.append(Row(int(rng.integers(0, 2**63)), tick * TICK + int(rng.integers(0, TICK)), payload))
    return tuple(found)


def blind(events: Sequence[Row], model: tuple[str, str] = MODEL) -> Summary:
    """What a writer that knows no grid makes of events."""
    grid = blind_grid(*model)
    scores = [rows.decode_row(row.payload)[1] for row in events]
    values = np.full((len(events), len(grid.columns)), np.nan)
    values[:, grid.names.index(SCORE)] = [(score or {}).get(SCORE, np.nan) for score in scores]
    batch = Batch(
        grid,
        np.array([row.time for row in events], np.int64),
        np.array([row.hash for row in events], np.uint64),
        values,
        np.empty((0, 2), np.int64),
        rows=tuple(row.payload for row in events),
    )
    return Summary.of(batch, {SCORE})


def written(
    tick: int, events: Sequence[Row], grid: Grid | None = None, model: tuple[str, str] = MODEL
) -> list[LogEntry]:
    """The records of a writer that counts on ``grid``, or knows none."""
    if not events:
        return []
    summary = blind(events, model) if grid is None else counted_on(grid, events, {SCORE})
    return [*to_parts(SummaryKey(*model, "", tick), tick * TICK, grid or blind_grid(*model), summary)]


def closing(tick: int) -> Progress:
    """Everything up to the end of the tick was read."""
    return Progress({TOPIC: 1}, (PartitionProgress(TOPIC, 0, tick, (tick + 1) * TICK),))


@dataclass
class World:
    """A fold, the topics that it writes to, and where its reader stands."""

    warm_up: WarmUp = WARM_UP
    watched: Callable[[str], bool] = lambda _: True
    grids: list[OutputRecord] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)
    news: list[News] = field(default_factory=list)
    said: list[tuple[str, int, Any]] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)
    configured: Sequence[tuple[str, str]] = ()
    listed: Sequence[str] = ()
    max_models: int = 1_000
    longest_us: int = 7 * DAY

    def __post_init__(self) -> None:
        self.fold = self.new_fold()

    def new_fold(self) -> PartitionFold:
        watch = WatchConfig(
            MonitorConfig(TICK, 60 * MINUTE, RIVER, Sensitivity(warm_up=self.warm_up, longest_us=self.longest_us)),
            LearningConfig(self.warm_up, self.watched, frozenset({SCORE})),
        )
        config = FoldConfig(TICK, lambda _: watch, self.configured, {TOPIC}, self.max_models, self.listed)
        return PartitionFold(config, book_of(self.grids))

    def apply(self, *entries: LogEntry) -> list[PublishedAlert]:
        found = []
        for entry in entries:
            self.log.append(entry)
            found += self.fold.apply(len(self.log) - 1, decode(encode(entry)))
        self._told(found)
        return found

    def _told(self, alerts: Iterable[PublishedAlert]) -> None:
        self.said += [(a.alert.incident_id, a.alert.sequence, json.loads(json.dumps(a.alert.data))) for a in alerts]
        for news in self.fold.news():
            self.news.append(news)
            if news.baseline:
                self.grids.append(baseline_record("", news.baseline))
            if news.grid:
                self.grids += grid_records("", news.grid)

    def save(self) -> None:
        for key, value in self.fold.snapshot(0).items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value

    def restart(self) -> None:
        """Start anew from what was saved."""
        self.fold = self.new_fold()
        self.fold.restore(0, self.state)
        start = self.fold.restored_at or 0
        found = []
        for offset, entry in enumerate(self.log[start:], start):
            found += self.fold.apply(offset, decode(encode(entry)))
        told = {alert[:2] for alert in self.said}
        before, self.said = self.said, []
        self._told(found)
        again, self.said = self.said, before
        assert all(alert in before for alert in again if alert[:2] in told)
        self.said += [alert for alert in again if alert[:2] not in told]

    def tick(self, tick: int, n: int = 500, kind: str = "usual", grid: Grid | None = None) -> None:
        self.apply(*written(tick, events_of(tick, n, kind), grid), closing(tick))

    @property
    def status(self) -> ModelStatus:
        return self.fold._watches[MODEL].status()

    @property
    def baseline(self) -> Baseline:
        [baseline] = {news.baseline.id: news.baseline for news in self.news if news.baseline}.values()
        return baseline


def learned(ticks: int = 12, **settings_: Any) -> World:  # noqa: ANN401 — fields of World
    """A world in which a model has just learned its baseline: 500 events a tick."""
    world = World(**settings_)
    for i in range(ticks):
        world.tick(T + i)
    return world


# ---- from the first event to the baseline ----------------------------------------------------------------------------


def test_a_model_learns_calibrates_and_is_watched() -> None:
    world, states = World(), []
    for i in range(25):
        world.tick(T + i)
        learning_ = world.status.learning
        states.append((world.status.state, (learning_.events, learning_.needed) if learning_ else None))
    assert states == [
        (ModelState.LEARNING, (500, 2_000)),
        (ModelState.LEARNING, (1_000, 2_000)),
        (ModelState.LEARNING, (1_500, 2_000)),
        *((ModelState.CALIBRATING, (n, 6_000)) for n in range(2_000, 6_000, 500)),
        *[(ModelState.CALIBRATING, None)] * 12,
        (ModelState.WATCHING, None),
        (ModelState.WATCHING, None),
    ]
    assert world.status.baseline_id == world.baseline.id
    assert world.status.events == 12_500
    assert world.said == []


def test_the_learned_grid_says_what_is_watched_and_why_the_rest_is_not() -> None:
    grid = learned().baseline.grid
    assert {column.name: column.kind for column in grid.columns} == {
        "amount": Kind.NUMERIC,
        "basket.items": Kind.NUMERIC,
        "country": Kind.CATEGORICAL,
        SCORE: Kind.NUMERIC,
    }
    assert {field.name: field.reason for field in grid.unmonitored} == {
        "note": Reason.FEW_VALUES,
        "row": Reason.IDENTIFIER,
    }


def test_the_learned_baseline_counts_every_event_of_the_warm_up_once() -> None:
    baseline = learned().baseline
    events = [row for i in range(12) for row in events_of(T + i, 500)]
    assert baseline.summary.events == 6_000
    assert baseline == Baseline(baseline.grid, replace(counted_on(baseline.grid, events), names=baseline.summary.names))
    assert baseline.grid == grid_of(*MODEL, sorted(events[:2_000], key=lambda row: row.time), lambda _: True)


def test_drift_is_found_once_the_model_is_watched_and_not_before() -> None:
    world = learned(ticks=6)
    for i in range(6, 12):
        world.tick(T + i, kind="drift")
    assert world.said == []
    world = learned(ticks=24)
    for i in range(24, 36):
        world.tick(T + i, kind="drift")
    [started, *_] = [data for _, _, data in world.said]
    assert (started["phase"], started["features"][0]["feature"]) == ("started", "amount")
    assert (started["model_state"], started["baseline_id"]) == ("watching", world.baseline.id)


def test_usual_traffic_is_not_alarmed_at() -> None:
    world = learned(ticks=300)
    assert world.said == []
    assert {feature.state for feature in world.status.features} == {FeatureState.OK}


def test_features_that_are_excluded_are_not_learned() -> None:
    grid = learned(watched=lambda name: name != "amount").baseline.grid
    assert "amount" not in grid.names
    assert {f.name: f.reason for f in grid.unmonitored}["amount"] == Reason.EXCLUDED


def test_little_traffic_is_learned_in_the_longest_time() -> None:
    world, day = World(), DAY // TICK
    for i in range(7 * 25):  # 50 events a day
        world.tick(T + i * day // 25, n=2)
        assert world.status.state is ModelState.LEARNING
    states = []
    for tick in (T + 7 * day - 2, T + 7 * day - 1):
        world.apply(closing(tick))
        states.append(world.status.state)
    assert states == [ModelState.LEARNING, ModelState.CALIBRATING]
    assert world.baseline.summary.events == 350
    for i in range(7 * 25):
        assert world.status.state is ModelState.CALIBRATING
        world.tick(T + 7 * day + i * day // 25, n=2)
    world.tick(T + 14 * day, n=2)
    assert world.status.state is ModelState.WATCHING


def test_too_little_traffic_is_learned_once_there_is_enough() -> None:
    world, day = World(), DAY // TICK
    for i in range(19):
        world.tick(T + i * day, n=10)
        assert world.status.state is ModelState.LEARNING
    world.tick(T + 19 * day, n=10)
    assert world.status.state is ModelState.CALIBRATING
    assert world.baseline.summary.events == 200


def test_a_warm_up_of_few_events_cuts_the_grid_from_these() -> None:
    world = learned(ticks=1, warm_up=WarmUp(300, DAY, 200))
    assert world.baseline.summary.events == 500
    states = [world.status.state]
    world.tick(T + 1)
    states.append(world.status.state)
    assert states == [ModelState.CALIBRATING, ModelState.WATCHING]


def test_large_rows_make_a_grid_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "BYTES_FOR_GRID", 100_000)
    world = learned(ticks=2)
    assert world.status.state is ModelState.CALIBRATING


def test_a_grid_has_so_many_columns_at_most_those_with_the_most_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MAX_COLUMNS", 3)
    cells = [{name: i * 7 % 50 for name in "abcd" if name != "b" or i % 2} for i in range(400)]
    events = [Row(i, i, rows.encode_row(features, {"score": 0.01 * (i % 90)})) for i, features in enumerate(cells)]
    grid = grid_of(*MODEL, events, lambda _: True)
    assert grid.names == ("a", "c", SCORE)
    assert {field.name: field.reason for field in grid.unmonitored} == {"b": Reason.TOO_MANY, "d": Reason.TOO_MANY}


# ---- the same, however it is read ------------------------------------------------------------------------------------


@functools.cache
def reference_run() -> tuple[str, list[Any]]:
    world = learned()
    for i in range(12, 30):
        world.tick(T + i, kind="drift")
    assert world.said
    return world.baseline.id, world.said


@unhurried
@given(
    writers=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    picks=st.lists(st.integers(0, 30), min_size=4, max_size=4),
)
def test_when_each_writer_picks_up_the_grid_changes_nothing(writers: int, seed: int, picks: list[int]) -> None:
    """Each writer has a random share of every tick, and counts on the grid from some tick after the cut on."""
    rng = np.random.default_rng(seed)
    world = World()
    for i in range(30):
        events = events_of(T + i, 500, "usual" if i < 12 else "drift")
        owner = rng.integers(0, writers, len(events))
        entries: list[LogEntry] = []
        for writer in range(writers):
            share = [row for row, w in zip(events, owner, strict=True) if w == writer]
            known = world.news[0].grid if world.news and i >= picks[writer] else None
            half = int(rng.integers(0, len(share) + 1))
            entries += [*written(T + i, share[:half], known), *written(T + i, share[half:], known)]
        rng.shuffle(entries)
        world.apply(*entries, closing(T + i))
    assert (world.baseline.id, world.said) == reference_run()
    assert world.fold.counts.other_grid == 0


@unhurried
@given(saves=st.sets(st.integers(0, 29)), crashes=st.sets(st.integers(0, 29)), at_once=st.integers(1, 9))
def test_restarts_and_crashes_change_nothing(saves: set[int], crashes: set[int], at_once: int) -> None:
    """Snapshots after some ticks, crashes after others; ticks close one by one, or many at once."""
    world = World()
    for i in range(30):
        world.apply(*written(T + i, events_of(T + i, 500, "usual" if i < 12 else "drift")))
        if i % at_once == 0 or i == 29:
            world.apply(closing(T + i))
        if i in saves:
            world.save()
        if i in crashes:
            world.restart()
    assert (world.baseline.id, world.said) == reference_run()


@pytest.mark.parametrize("ticks", [1, 3, 4, 7, 12, 20])
def test_a_snapshot_of_every_state_is_gone_on_from(ticks: int) -> None:
    world = learned(ticks)
    before = world.status
    world.save()
    world.restart()
    after = world.status
    assert replace(after, state_bytes=0, alerts={}) == replace(before, state_bytes=0, alerts={})
    assert world.fold._kept_bytes == sum(watch.size for watch in world.fold._watches.values())


# ---- what lies in the state topic ------------------------------------------------------------------------------------


def test_rows_are_written_once_and_deleted_when_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "CHUNK_BYTES", 40_000)
    world = World()
    seen: set[bytes] = set()
    for i in range(3):
        world.tick(T + i)
        records = world.fold.snapshot(0)
        chunks = {key: value for key, value in records.items() if key.startswith(b'["learning"')}
        assert chunks
        assert not chunks.keys() & seen
        assert all(value is not None and len(value) < 41_000 for value in chunks.values())
        assert [*records][-2] == model_key(MODEL)
        seen |= chunks.keys()
    assert seen == {chunk_key(MODEL, number) for number in range(len(seen))}
    world.tick(T + 3)
    records = world.fold.snapshot(0)
    assert {key for key, value in records.items() if value is None} == seen
    assert not {key for key, value in world.fold.snapshot(0).items() if value is None}


def test_rows_without_the_record_that_counts_on_them_are_deleted() -> None:
    world = learned(2)
    world.save()
    del world.state[model_key(MODEL)]
    world.fold = world.new_fold()
    world.fold.restore(0, world.state)
    assert world.fold.snapshot(0)[chunk_key(MODEL, 0)] is None


def test_learning_begins_anew_where_rows_were_overwritten() -> None:
    world = learned(2)
    world.save()
    del world.state[chunk_key(MODEL, 0)]
    world.fold = world.new_fold()
    world.fold.restore(0, world.state)
    assert world.status.learning is not None
    assert world.status.learning.events == 0


def test_a_learned_grid_that_is_not_in_the_topic_stops_the_fold() -> None:
    world = learned(5)
    world.save()
    world.grids.clear()
    with pytest.raises(StateError, match="is not in the grids topic"):
        world.restart()


@pytest.mark.parametrize("version", [1, 3])
def test_a_snapshot_of_another_version_is_refused(version: int) -> None:
    world = learned()
    world.save()
    state = {**world.state, model_key(MODEL): msgspec.msgpack.encode({"version": version})}
    with pytest.raises(StateError, match=f"has version {version}, this program reads 2"):
        world.new_fold().restore(0, state)


# ---- bounds ----------------------------------------------------------------------------------------------------------


def test_models_wait_while_there_is_no_room_and_learn_when_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdrift.fold.LEARNING_BYTES", 40_000)
    world = World()
    other = ("shop", "4")
    states = []
    for i in range(13):
        events = events_of(T + i, 50)
        entries = [*written(T + i, events), *written(T + i, events, model=other)]
        world.apply(*entries, closing(T + i))
        states.append(tuple(str(world.fold._watches[key].status().state) for key in (MODEL, other)))
        assert world.fold._kept_bytes <= 40_000
        world.save()
        world.restart()
    assert states[0] == ("learning", "waiting")
    assert states[6] == ("calibrating", "learning")  # without room for 2,000 events, with enough for a baseline
    assert states[-1] == ("calibrating", "calibrating")
    assert world.fold._kept_bytes == 0


# ---- baselines and grids from elsewhere ------------------------------------------------------------------------------


def test_a_configured_baseline_takes_the_place_of_learning() -> None:
    world, given_ = World(), learned().baseline
    world.grids.append(baseline_record("", given_))
    world.tick(T)
    world.save()
    world.apply(BaselineSet(*MODEL, given_.id))
    assert (world.status.state, world.status.baseline_id) == (ModelState.CALIBRATING, given_.id)
    assert world.fold._kept_bytes == 0
    assert world.fold.snapshot(0)[chunk_key(MODEL, 0)] is None


def test_open_events_are_counted_on_the_grid_that_is_set_meanwhile() -> None:
    world, given_ = World(), learned().baseline
    world.grids.append(baseline_record("", given_))
    world.apply(*written(T, events_of(T, 500)), BaselineSet(*MODEL, given_.id), closing(T))
    assert world.status.events == 500
    assert world.fold.counts.other_grid == 0


def test_a_grid_whose_state_was_lost_is_used_again() -> None:
    before = learned()
    grid = before.baseline.grid
    world = World(grids=before.grids)
    world.tick(T + 40, grid=grid)
    assert (world.status.state, world.status.learning and world.status.learning.events) == (ModelState.CALIBRATING, 500)
    for i in range(1, 12):
        world.tick(T + 40 + i, grid=grid if i % 2 else None)
    assert world.baseline.grid.id == grid.id
    assert world.baseline.summary.events == 6_000


def test_events_on_a_grid_that_is_nowhere_are_counted_as_such() -> None:
    grid = learned().baseline.grid
    world = World()
    world.tick(T, grid=grid)
    assert world.fold.counts.other_grid == 500


# ---- versions --------------------------------------------------------------------------------------------------------


def test_a_new_version_learns_for_itself_and_is_compared_with_the_one_before() -> None:
    world = learned()
    new = (MODEL[0], "4")
    for i in range(12, 36):
        events = events_of(T + i, 500, "drift")
        world.apply(*written(T + i, events_of(T + i, 500)), *written(T + i, events, model=new), closing(T + i))
    status = world.fold._watches[new].status()
    assert status.state is ModelState.WATCHING
    assert status.compared_with is not None
    assert (status.compared_with.model_version, status.compared_with.events) == ("3", 2_000)
    assert status.compared_with.features[0].name == "amount"
    assert status.compared_with.features[0].effects["psi"] > 1 > status.compared_with.features[1].effects["psi"]
    assert world.said == []
    world.save()
    world.restart()
    assert world.fold._watches[new].status().compared_with == status.compared_with


@pytest.mark.parametrize(("days", "ended"), [(7, "no_data"), (60, "version_retired")])
def test_a_version_without_events_is_retired(days: int, ended: str) -> None:
    """Its incidents end with it, or before: when the longest memory has passed in silence."""
    world = learned(longest_us=days * DAY)
    for i in range(12, 20):
        world.tick(T + i, kind="drift")
    world.save()
    month = 30 * DAY // TICK
    world.apply(closing(T + 19 + month - 1))
    assert MODEL in world.fold.models
    world.apply(closing(T + 19 + month))
    assert MODEL not in world.fold.models
    assert world.said[-1][2]["resolution"] == ended
    assert world.news[-1] == News(MODEL)
    world.save()
    assert not [key for key in world.state if b"shop" in key]
    world.tick(T + 20 + month)
    assert world.status.state is ModelState.LEARNING
    world.save()
    assert model_key(MODEL) in world.state


def test_the_end_of_all_streams_retires_nobody() -> None:
    world = learned()
    world.apply(Progress({TOPIC: 1}, (PartitionProgress(TOPIC, 0, 1, END_OF_TIME),)))
    assert MODEL in world.fold.models


def test_a_retired_version_leaves_its_place_to_another() -> None:
    world = World(max_models=1)
    world.tick(T)
    other, month = ("other", "1"), 31 * DAY // TICK
    world.apply(*written(T + 1, events_of(T + 1, 5), model=other), closing(T + 1))
    assert other not in world.fold.models
    world.apply(closing(T + month), *written(T + month + 1, events_of(T + 1, 5), model=other))
    tick = T + month + 1
    moved = [row._replace(time=tick * TICK) for row in events_of(T + 1, 5)]
    world.apply(*written(tick, moved, model=other), closing(tick))
    assert other in world.fold.models


def test_a_listed_model_is_admitted_beyond_the_bound_but_not_any_number_of_its_versions() -> None:
    world = World(max_models=0, listed=["shop"])
    models = [("shop", str(i)) for i in range(30)] + [("other", "1")]
    world.apply(*(e for model in models for e in written(T, events_of(T, 3), model=model)), closing(T))
    assert len(world.fold.models) == 16
    assert world.fold.counts.over_bound == 15 * 3


def test_further_versions_of_a_listed_model_take_the_places_that_are_bounded() -> None:
    world = World(max_models=3, listed=["shop"])
    for tick in (T, T + 1):
        models = [("shop", f"{tick}/{i}") for i in range(30)]
        world.apply(*(e for model in models for e in written(tick, events_of(tick, 3), model=model)), closing(tick))
    assert len(world.fold.models) == 16 + 3
    assert world.fold.counts.over_bound == (60 - 19) * 3
