"""The benchmark at its smallest: it runs to its end, every side reads everything, and programs can read the result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamdrift.kafka.embedded import EMBEDDED_PARTITIONS
from tests.bench import hour, topics
from tests.bench.comparison import Plan, Runner
from tests.bench.detect import Plan as FleetPlan
from tests.bench.detect import measure
from tests.bench.report import quartiles, result, table
from tests.support.brokers import EmbeddedTestBroker

ROOT = Path(__file__).parents[1]
EVENTS = 2_000


@pytest.fixture
def place(embedded_broker: EmbeddedTestBroker) -> topics.Place:
    return topics.Place(embedded_broker, "embedded broker", embedded=True)


def test_every_side_reads_every_message_and_streamdrift_counts_every_event(place: topics.Place, tmp_path: Path) -> None:
    plan = Plan(features=20, events=EVENTS, pairs=1, rate=100.0, bad=0.01, mapped=True)
    compared = Runner(place, tmp_path, print).compare(plan)
    assert compared.outcomes.keys() == {"floor", "streamdrift", "river", "bad", "mapped"}
    read = {side: (outcome.messages, outcome.events) for side, [outcome] in compared.outcomes.items()}
    assert read.pop("bad") == (EVENTS, EVENTS - EVENTS // 100), "dead letters are no events"
    assert set(read.values()) == {(EVENTS, EVENTS)}
    assert all(outcome.cost > 0 for [outcome] in compared.outcomes.values())
    assert "ratio_vs_river" in "\n".join(table(compared, "a broker"))
    assert result([compared])["cost_of_bad_messages"]["20"] == pytest.approx(
        compared.ratio("bad", "streamdrift")[0], abs=1e-3
    )


def test_the_command_ends_with_a_line_of_json() -> None:
    options = [
        "--broker",
        "embedded",
        "--features",
        "4",
        "--events",
        "500",
        "--pairs",
        "1",
        "--bad",
        "0",
        "--no-mapped",
        "--models",
        "2",
        "--pending",
        "1000",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench", *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found.pop("detect_cores_at_2x100") > 0
    assert found.pop("join")["rows"] == 1_000
    assert found.keys() == {"ratio_vs_river", "share_of_floor", "events_per_cpu_second"}
    assert all(by_features.keys() == {"4"} for by_features in found.values())
    assert found["ratio_vs_river"]["4"] > 0
    assert found["share_of_floor"]["4"] > 0
    assert found["events_per_cpu_second"]["4"].keys() == {"floor", "streamdrift", "river"}
    assert "pair 1 of 1" in ended.stderr


def test_events_in_which_nothing_changes_are_read_and_nothing_is_reported(place: topics.Place, tmp_path: Path) -> None:
    quiet = hour.measure(Runner(place, tmp_path, print), print, seconds=60)
    assert quiet.events == 60 * hour.RATE
    assert quiet.incidents == 0
    assert quiet.cost > 0
    assert "incidents" in "\n".join(hour.table_of(quiet))
    assert hour.result_of(quiet)["hour"]["incidents"] == 0


def test_a_fleet_is_folded_tick_by_tick_with_a_full_window_and_snapshots() -> None:
    cost = measure(FleetPlan(models=2, features=4, rate=20.0, ticks=7))
    assert min(cost.seconds[part] for part in ("fold", "collect", "snapshot")) > 0
    assert cost.state_bytes > 2 * 1_000
    assert cost.cores == pytest.approx(sum(cost.seconds.values()) / 70)


def test_more_events_than_the_embedded_broker_keeps_are_refused(place: topics.Place) -> None:
    assert topics.PARTITIONS == EMBEDDED_PARTITIONS
    with pytest.raises(topics.DoesNotFit, match="5 MiB"):
        topics.room_for(place, features=200, count=100_000)


def test_quartiles_are_those_of_the_values_between() -> None:
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
