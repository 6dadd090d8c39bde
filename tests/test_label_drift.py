"""Labels that come in another mix than they did."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.incidents import Sighting
from streamdrift.label_drift import FIRST_LABELS, LabelDrift
from streamdrift.summaries.confusion import Confusion
from streamdrift.summaries.outcomes import Outcomes
from tests.support.outcomes import BINARY
from tests.support.windows import through_msgpack

HOUR_US = 3_600_000_000
NOTHING = Outcomes.empty(BINARY)
USUAL = {"fraud": 1_000, "legit": 9_000}


def labels(fraud: int, legit: int, **others: int) -> Outcomes:
    """So many labels of a tick, half of them predicted right."""
    counts = {"fraud": fraud, "legit": legit, **others}
    cells = {
        (name, guess): n // 2 for name, n in counts.items() for guess in (name, "fraud" if name != "fraud" else "legit")
    }
    return replace(NOTHING, confusion=Confusion.of(BINARY.classes, cells))


def drift(usual: dict[str, int] | None = None, delay_hours: int = 0) -> LabelDrift:
    return LabelDrift(("fraud", "7"), Ticks(HOUR_US), delay_hours * HOUR_US, usual)


def lived(subject: LabelDrift, ticks: list[Outcomes], start: int = 0) -> dict[int, list[Sighting]]:
    return {tick: subject.close(tick, confusion) for tick, confusion in enumerate(ticks, start)}


def alarms(found: dict[int, list[Sighting]]) -> list[int]:
    return [tick for tick, seen in found.items() if any(each.contribution for each in seen)]


def test_labels_in_the_mix_of_the_training_table_are_no_drift() -> None:
    assert alarms(lived(drift(USUAL), [labels(100, 900)] * 20)) == []


def test_four_times_as_many_frauds_are_told_of_with_their_shares() -> None:
    found = lived(drift(USUAL), [labels(100, 900)] * 5 + [labels(400, 600)] * 5)
    assert alarms(found) == [7, 8, 9], "windows of a thousand, three of which must agree"
    [seen] = found[7]
    assert seen.kind == "label_drift"
    assert seen.contribution is not None
    assert seen.contribution.feature == "label"
    assert seen.contribution.psi > 0.25
    assert seen.contribution.phrase == "label has another mix of categories: “fraud” went from 10 % to 40 %"
    assert seen.contribution.onset == 5


def test_a_class_that_the_table_does_not_know_is_named() -> None:
    found = lived(drift(USUAL), [labels(80, 720, disputed=200)] * 4)
    assert "disputed" in str(found[3][0].contribution)


def test_without_a_table_the_first_labels_are_compared_with() -> None:
    usual = [labels(100, 900)] * (FIRST_LABELS // 1_000)
    assert alarms(lived(drift(), usual + [labels(100, 900)] * 5)) == []
    assert alarms(lived(drift(), usual + [labels(400, 600)] * 5)) == [3, 4, 5]


def test_labels_that_come_early_are_not_looked_at() -> None:
    """Frauds are reported at once, and that a payment was fine is known after days: at first there are frauds only."""
    early = [labels(400, 100)] * 10
    assert alarms(lived(drift(USUAL, delay_hours=10), early + [labels(100, 900)] * 10)) == []
    assert alarms(lived(drift(delay_hours=10), early + [labels(100, 900)] * 10)) == []
    assert alarms(lived(drift(USUAL), early)) != []


def test_what_is_taken_back_makes_no_negative_count() -> None:
    subject = drift(USUAL)
    lived(subject, [labels(100, 900)] * 2)
    assert subject.close(2, -labels(10, 0)) == []
    assert alarms(lived(subject, [labels(100, 900)] * 3, 3)) == []


def test_few_labels_wait_for_a_day() -> None:
    subject = drift(USUAL)
    subject.close(0, labels(150, 150))
    assert subject.due() == 23
    [seen] = subject.close(23, NOTHING)
    assert seen.contribution is None, "one window of few labels is no reason yet"


ticks = st.lists(
    st.sampled_from([labels(100, 900), labels(400, 600), labels(3, 20), NOTHING, labels(0, 300, odd=40)]),
    max_size=16,
)


@settings(deadline=None)
@given(ticks, st.integers(0, 16), st.sampled_from([None, USUAL]), st.integers(0, 3))
def test_a_snapshot_at_any_tick_changes_nothing(
    log: list[Outcomes], cut: int, usual: dict[str, int] | None, delay: int
) -> None:
    whole, first, second = drift(usual, delay), drift(usual, delay), drift(usual, delay)
    expected = lived(whole, log)
    found = lived(first, log[:cut])
    assert second.restore(through_msgpack(first.state()))
    found |= lived(second, log[cut:], min(cut, len(log)))
    assert found == expected
    assert msgspec.msgpack.encode(second.state()) == msgspec.msgpack.encode(whole.state())


def test_another_training_table_begins_anew() -> None:
    first, second = drift(USUAL), drift({"fraud": 400, "legit": 600})
    lived(first, [labels(400, 600)] * 5)
    assert not second.restore(first.state())
    assert alarms(lived(second, [labels(400, 600)] * 5, 5)) == []


@pytest.mark.parametrize("state", [None, [], [1, None], ["x", None, {}, None], [None, None, {"a": "b"}, None]])
def test_damaged_state_is_refused(state: object) -> None:
    with pytest.raises(StateError):
        drift().restore(state)


def test_the_state_of_many_classes_is_bounded() -> None:
    subject = drift()
    rng = np.random.default_rng(1)
    for tick in range(50):
        names = {f"class {i}": 2 for i in rng.integers(0, 10_000, 400).tolist()}
        confusion = Confusion.of(BINARY.classes, {(name, name): n for name, n in names.items()})
        subject.close(tick, replace(NOTHING, confusion=confusion))
    assert len(msgspec.msgpack.encode(subject.state())) < 32 * 1024
