"""Seasons: learned where there is one, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from streamdrift.detectors.season import Season
from streamdrift.errors import StateError

HOUR = 3_600_000_000
EVENTS = 400
ROWS = 100


def follow(subject: Season, days: range, swing: float, seed: int = 1) -> Season:
    """Contrasts of independent events, 400 an hour; the first of the first row swings with the time of day."""
    rng = np.random.default_rng([seed, days.start])
    totals, usable = np.full(ROWS, EVENTS, np.float32), np.ones(ROWS, np.bool_)
    for hour in range(24 * days.start, 24 * days.stop):
        means = rng.normal(0, EVENTS**-0.5, (4, ROWS))
        means[0, 0] += swing * np.sin(2 * np.pi * hour / 24)
        subject.add(hour * HOUR, (means * EVENTS).astype(np.float32), totals, usable)
    return subject


def by_hour(subject: Season) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([subject.at(hour * HOUR) for hour in range(24)])


def test_what_swings_with_the_time_of_day_is_known_after_three_days_and_of_that_column_alone() -> None:
    subject = follow(Season(24, HOUR, ROWS), range(4), swing=0.3)
    assert subject.known
    learned = by_hour(subject)
    assert learned[:, 0, 0] == pytest.approx(0.3 * np.sin(2 * np.pi * np.arange(24) / 24), abs=0.1)
    learned[:, 0, 0] = 0.0
    assert not learned.any()


def test_before_the_third_day_nothing_is_believed() -> None:
    assert not follow(Season(24, HOUR, ROWS), range(2), swing=0.3).known


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_in_hundreds_of_series_of_pure_chance_no_season_is_seen(seed: int) -> None:
    subject = Season(24, HOUR, ROWS)
    for day in range(3, 10):
        assert not follow(subject, range(day, day + 1), swing=0.0, seed=seed).known


def test_a_season_that_ends_is_forgotten() -> None:
    subject = follow(Season(24, HOUR, ROWS), range(4), swing=0.3)
    assert not follow(subject, range(4, 40), swing=0.0).known


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    whole = follow(Season(24, HOUR, ROWS), range(4), swing=0.3)
    subject = Season(24, HOUR, ROWS)
    subject.restore(whole.state())
    assert subject.state() == whole.state()
    assert (by_hour(subject) == by_hour(whole)).all()


def test_the_state_of_others_is_refused() -> None:
    with pytest.raises(StateError, match="does not fit 3 rows"):
        Season(24, HOUR, 3).restore(follow(Season(24, HOUR, ROWS), range(1), swing=0.3).state())
