"""A model decays: from late labels to one request for a training, the same however the labels were read."""

from __future__ import annotations

from collections import defaultdict
from functools import reduce
from operator import add

import numpy as np
import pytest

from streamdrift.outcome_entries import from_part, to_parts
from streamdrift.performance import Performance, PerformanceConfig, Target, Verdict
from streamdrift.policies import Policy, parse
from streamdrift.retraining import Ended, News, Request, Retraining
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcome_summary import OutcomeKey, OutcomeSummary, WindowKey
from streamdrift.summaries.outcomes import LabelRows, Outcomes, errors
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.spreads import Spreads
from tests.support.outcomes import BINARY, taken

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
TICK_US = 6 * HOUR_US
DAYS, A_DAY, DECAYS_ON = 12, 300, 5
CONFIG = PerformanceConfig(DAY_US, 3 * DAY_US, 100, (Target("accuracy", 0.9, 0.05), Target("roc_auc", 0.9, 0.2)))


class World:
    """Predictions of twelve days, a tenth of them wrong at first and a third from the sixth day on."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        n = DAYS * A_DAY
        self.predicted_us = rng.integers(0, DAYS * DAY_US, n)
        self.labelled_us = self.predicted_us + rng.integers(0, 3 * DAY_US, n)
        self.hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
        true = rng.integers(0, 2, n)
        wrong = rng.random(n) < np.where(self.predicted_us < DECAYS_ON * DAY_US, 0.1, 0.33)
        score = np.where(true ^ wrong, rng.uniform(0.5, 1, n), rng.uniform(0, 0.5, n))
        self.rows = LabelRows(BINARY, BINARY.classes, true, np.full(n, -1), score[:, None])

    def summaries(self, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> dict[OutcomeKey, OutcomeSummary]:
        """What a join that read the labels at these places would write."""
        by_key: dict[OutcomeKey, list[int]] = defaultdict(list)
        for i in places.tolist():
            tick, window = int(self.labelled_us[i] // TICK_US), int(self.predicted_us[i] // DAY_US)
            by_key[OutcomeKey("fraud", "7", "", tick, window)].append(i)
        return {key: self._summary(np.array(rows)) for key, rows in by_key.items()}

    def _summary(self, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> OutcomeSummary:
        rows = taken(self.rows, places)
        delays = (self.labelled_us - self.predicted_us)[places]
        coverage = Coverage.of({Fate.PREDICTED: len(rows), Fate.LABELLED: len(rows)}, delays)
        pairs = Pairs.of(self.hashes[places], self.labelled_us[places], errors(rows))
        return OutcomeSummary(Outcomes.of(rows), coverage, pairs, Spreads.of(rows))


def lived(world: World, partitions: int, seed: int) -> tuple[list[Verdict], list[Request | Ended], dict[int, Pairs]]:
    """What becomes of the world's labels if they are spread over partitions and read in any order within a tick."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, partitions, len(world.rows))
    ticks: dict[int, list[tuple[WindowKey, OutcomeSummary]]] = defaultdict(list)
    for partition in range(partitions):
        places = rng.permutation(np.flatnonzero(owner == partition))
        for key, summary in world.summaries(places).items():
            for part in to_parts(key, key.tick * TICK_US, summary):
                read = from_part(part)
                assert isinstance(read, OutcomeSummary)
                ticks[key.of_tick.tick].append((key.of_window, read))

    performance = Performance(CONFIG, BINARY)
    retraining = Retraining("fraud", [Policy("decay", (parse("accuracy below benchmark", 2),), DAY_US, 1_000)])
    verdicts, messages, heard = list[Verdict](), list[Request | Ended](), dict[int, Pairs]()
    for tick in range((DAYS + 4) * 4):
        found = ticks.get(tick, [])
        for i in rng.permutation(len(found)):
            window, summary = found[i]
            performance.take(window.window, summary.outcomes, summary.coverage)
        closed = performance.close((tick + 1) * TICK_US)
        labels = sum(summary.coverage[Fate.LABELLED] for _, summary in found)
        messages += retraining.step(News((tick + 1) * TICK_US, "7", verdicts=closed, labels=labels))
        verdicts += closed
        if found:
            heard[tick] = reduce(add, (summary.errors for _, summary in found))
    return verdicts, messages, heard


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_a_model_that_decays_is_told_of_once_its_labels_are_there(world: World) -> None:
    verdicts, messages, _ = lived(world, partitions=1, seed=0)
    accuracy = [verdict for verdict in verdicts if verdict.target.metric == "accuracy"]
    assert [verdict.window for verdict in accuracy] == list(range(DAYS))
    assert [verdict.below for verdict in accuracy] == [window >= DECAYS_ON for window in range(DAYS)]
    [request] = messages
    assert isinstance(request, Request)
    second_bad_window = DECAYS_ON + 1
    assert request.now_us == CONFIG.closes_us(second_bad_window)
    assert request.fresh_labels == (world.labelled_us < request.now_us).sum()


@pytest.mark.parametrize("partitions", [2, 7])
def test_partitions_and_order_change_nothing(world: World, partitions: int) -> None:
    assert lived(world, partitions, seed=partitions) == lived(world, 1, seed=0)


def test_every_label_is_in_one_window_and_every_error_is_heard_once(world: World) -> None:
    _, _, heard = lived(world, partitions=3, seed=3)
    assert sum(pairs.total for pairs in heard.values()) == len(world.rows)
    series = np.concatenate([heard[tick].series() for tick in sorted(heard)])
    order = np.lexsort((world.hashes, world.labelled_us))
    assert np.array_equal(series, errors(world.rows)[order])
