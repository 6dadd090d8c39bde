"""Who meets whom: the rules of the join on one row.

Two clocks, each the latest event time in the prefix of one log: that of predictions-p and that of labels-p. Which of
the two logs is read first, or how far, is chance; so no rule looks at the other log's clock. A prediction of time t
that was read at clock P, and a label of time τ that was read at clock L, meet if and only if

    L ≤ t + label_delay        the label came before the prediction expired, by the labels' own clock
    P ≤ τ + orphan_wait        the prediction came before the label was given up, by the predictions' own clock

Both sides of both are known from each side's own log, and a row keeps what the other side needs. A row is removed once
no clock can fulfil its rule any more, so removing it, early or late, changes no result.

Which tick folds an outcome follows from the same prefixes. It is the label's own, unless that tick was over by the
watermark (clock less allowed lateness) of either log when its half of the pair was read: then it is the first tick
that was not. Whichever half was read last, what is published of this partition was not beyond it.

Of the labels that a prediction meets, in the order of their log, the first counts; one of a higher revision replaces
it, and any other is a duplicate. The first prediction of an id counts, and the same event again does not, except
one that is read later than ``label_delay`` by its own log's clock: that one has expired, be it the first or not. An id
must not name two predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from streamdrift.joining.outcomes import Collected
from streamdrift.joining.rows import Label, Predicted, Row, Waiting
from streamdrift.summaries.coverage import Fate

MAX_WAITING: Final = 64
"""Most labels that wait for one prediction; more are orphans at once."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how many predictions and labels are kept, of one input partition."""

    label_delay_us: int
    """A prediction without a label is given up after it, with the allowed lateness in it."""
    orphan_wait_us: int
    """Likewise a label without a prediction."""
    max_rows: int
    """Beyond it, rows are left out by the hashes of their ids."""
    predictions_lateness_us: int = 0
    """How far the watermark of the predictions' log is behind its clock."""
    labels_lateness_us: int = 0

    def __post_init__(self) -> None:
        lateness = min(self.predictions_lateness_us, self.labels_lateness_us)
        if min(self.label_delay_us, self.orphan_wait_us, lateness) < 0 or self.max_rows < 1:
            raise ValueError("the bounds of a join must not be negative, and one row must fit")

    def predicted_at(self, predicted: Predicted) -> int:
        """The time whose tick counts a prediction: its own, or that of the watermark at which it was read."""
        return max(predicted.time, predicted.clock - self.predictions_lateness_us)

    def labelled_at(self, label: Label, predicted: Predicted | None = None) -> int:
        """The time whose tick counts a label, and the outcome of a prediction that it meets."""
        read = label.clock - self.labels_lateness_us
        if predicted is not None:
            read = max(read, predicted.clock - self.predictions_lateness_us)
        return max(label.time, read)

    def meet(self, predicted: Predicted, label: Label) -> bool:
        return (
            label.clock <= predicted.time + self.label_delay_us and predicted.clock <= label.time + self.orphan_wait_us
        )


def take_prediction(
    key: bytes, row: Row | None, predicted: Predicted, decided: int, bounds: Bounds, out: Collected
) -> Row | None:
    """The row after a prediction was read; ``row`` is what was there before, ``decided`` when it counts."""
    if predicted.behind > bounds.label_delay_us:
        # Whether it came before nobody can say any more; so it must not matter whether its row is still there.
        out.fate(Fate.PREDICTED, predicted.version, predicted.time, decided)
        out.fate(Fate.EXPIRED, predicted.version, predicted.time, max(predicted.time + bounds.label_delay_us, decided))
        return row
    if isinstance(row, Predicted):
        out.fate(Fate.REPEATED, predicted.version, predicted.time, decided)
        return row
    out.fate(Fate.PREDICTED, predicted.version, predicted.time, decided)
    for label in row.labels if row else ():
        predicted = _hear(key, predicted, label, bounds, out)
    return predicted


def take_label(key: bytes, row: Row | None, model: int, label: Label, bounds: Bounds, out: Collected) -> Row:
    """The row after a label was read. ``model`` is the number of the model's name."""
    if isinstance(row, Predicted):
        return _hear(key, row, label, bounds, out)
    waiting = row.labels if row else ()
    if len(waiting) >= MAX_WAITING:
        decided = max(label.time + bounds.orphan_wait_us, bounds.labelled_at(label))
        out.fate(Fate.ORPHAN, model, label.time, decided)
        return Waiting(model, waiting)
    return Waiting(model, (*waiting, label))


def expire(
    row: Row, labels_clock: int, predictions_clock: int, published: int, bounds: Bounds, out: Collected
) -> Row | None:
    """What is left of a row at these clocks; nothing is decided before ``published``."""
    if isinstance(row, Predicted):
        end = row.time + bounds.label_delay_us
        if min(labels_clock, predictions_clock) <= end:
            return row
        if row.label is None:
            out.fate(Fate.EXPIRED, row.version, row.time, max(end, published))
        return None
    kept = tuple(label for label in row.labels if predictions_clock <= label.time + bounds.orphan_wait_us)
    for label in row.labels:
        if predictions_clock > label.time + bounds.orphan_wait_us:
            out.fate(Fate.ORPHAN, row.model, label.time, max(label.time + bounds.orphan_wait_us, published))
    return msgspec.structs.replace(row, labels=kept) if kept else None


def leave_out(row: Row, published: int, out: Collected) -> None:
    """Count a row for which there is no room any more. An outcome that is known stays."""
    if isinstance(row, Waiting):
        for label in row.labels:
            out.fate(Fate.UNHEARD, row.model, label.time, max(label.time, published))
    elif row.label is None:
        out.fate(Fate.SAMPLED_OUT, row.version, row.time, max(row.time, published))


def _hear(key: bytes, row: Predicted, label: Label, bounds: Bounds, out: Collected) -> Predicted:
    """The prediction after a label of its id."""
    known, decided = row.label, bounds.labelled_at(label, row)
    if not bounds.meet(row, label):
        out.fate(Fate.ORPHAN, row.version, label.time, max(label.time + bounds.orphan_wait_us, decided))
        return row
    if known is not None and label.revision <= known.revision:
        out.fate(Fate.DUPLICATE, row.version, row.time, decided)
        return row
    if known is None:
        out.fate(Fate.LABELLED, row.version, row.time, decided, label.time - row.time)
    else:
        out.fate(Fate.REVISED, row.version, row.time, decided)
        out.outcome(-1, key, row, msgspec.structs.replace(known, time=label.time), decided, revised=True)
    out.outcome(+1, key, row, label, decided, revised=known is not None)
    return msgspec.structs.replace(row, label=label)
