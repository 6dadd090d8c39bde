from __future__ import annotations

import pytest

from streamdrift.joining.matching import expire
from streamdrift.joining.outcomes import Collected
from streamdrift.joining.rows import Label, Predicted, Prediction, Waiting
from streamdrift.summaries.coverage import Fate
from streamdrift.ticks import NEVER
from tests.joining.events import BOUNDS

ROW = Predicted(0, 100, 0, Prediction("legit"))


@pytest.mark.parametrize(
    ("labels_clock", "predictions_clock", "stays"),
    [(1_100, 9_999, True), (9_999, 1_100, True), (1_101, 1_101, False)],
)
def test_a_prediction_stays_until_neither_a_label_nor_a_repetition_can_come(
    labels_clock: int, predictions_clock: int, *, stays: bool
) -> None:
    out = Collected()
    assert (expire(ROW, labels_clock, predictions_clock, NEVER, BOUNDS, out) is ROW) is stays
    assert out.counts[Fate.EXPIRED] == (not stays)


def test_of_waiting_labels_those_go_whose_time_is_over() -> None:
    out = Collected()
    early, late = Label("yes", None, 100), Label("no", None, 200)
    assert expire(Waiting(0, (early, late)), 0, 550, NEVER, BOUNDS, out) == Waiting(0, (late,))
    assert out.counts[Fate.ORPHAN] == 1
