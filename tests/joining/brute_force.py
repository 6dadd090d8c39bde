"""The join once more, in the simplest way: everything is there at once, and nothing is ever removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from streamdrift.joining.join import LabelEvent, PredictionEvent, Result
from streamdrift.joining.matching import Bounds
from streamdrift.summaries.coverage import Fate


class Told(NamedTuple):
    """One outcome, in a form that compares."""

    model_id: str
    model_version: str
    prediction_time: int
    label_time: int
    predicted: object
    true: object


class Joined(NamedTuple):
    """Everything that came out: outcomes with their signs added up, and fates, both by model version."""

    outcomes: Counter[Told]
    fates: Counter[tuple[str, str, Fate]]


def brute_force(predictions: Sequence[PredictionEvent], labels: Sequence[LabelEvent], bounds: Bounds) -> Joined:
    """What must come out, once both clocks are past all bounds."""
    outcomes: Counter[Told] = Counter()
    fates: Counter[tuple[str, str, Fate]] = Counter()
    first: dict[tuple[str, str], tuple[PredictionEvent, int]] = {}
    clock = -(10**18)
    for event in predictions:
        clock = max(clock, event.time)
        name, identity = (event.model_id, event.model_version), (event.model_id, event.prediction_id)
        if clock > event.time + bounds.label_delay_us:
            fates[*name, Fate.PREDICTED] += 1
            fates[*name, Fate.EXPIRED] += 1
        elif identity in first:
            fates[*name, Fate.REPEATED] += 1
        else:
            fates[*name, Fate.PREDICTED] += 1
            first[identity] = event, clock
    heard: dict[tuple[str, str], LabelEvent] = {}
    clock = -(10**18)
    for label in labels:
        clock = max(clock, label.time)
        identity = label.model_id, label.prediction_id
        known, read_at = first.get(identity, (None, 0))
        if known is None or clock > known.time + bounds.label_delay_us or read_at > label.time + bounds.orphan_wait_us:
            fates[label.model_id, "", Fate.ORPHAN] += 1
            continue
        name, earlier = (known.model_id, known.model_version), heard.get(identity)
        if earlier is not None and label.revision <= earlier.revision:
            fates[*name, Fate.DUPLICATE] += 1
            continue
        fates[*name, Fate.LABELLED if earlier is None else Fate.REVISED] += 1
        if earlier is not None:
            outcomes[_told(known, earlier, label.time)] -= 1
        outcomes[_told(known, label, label.time)] += 1
        heard[identity] = label
    for identity, (event, _) in first.items():
        if identity not in heard:
            fates[event.model_id, event.model_version, Fate.EXPIRED] += 1
    return Joined(outcomes, fates)


def _told(event: PredictionEvent, label: LabelEvent, time: int) -> Told:
    predicted = event.prediction.label, event.prediction.score
    return Told(event.model_id, event.model_version, event.time, time, predicted, (label.label, label.value))


def joined(results: Sequence[Result]) -> Joined:
    """What came out of a join; orphans are their model's, whatever version it knew."""
    outcomes: Counter[Told] = Counter()
    fates: Counter[tuple[str, str, Fate]] = Counter()
    for result in results:
        for batch in result.outcomes:
            for i in range(len(batch)):
                score, value = float(batch.scores[i]), float(batch.true_values[i])
                told = Told(
                    *batch.version,
                    int(batch.prediction_times[i]),
                    int(batch.label_times[i]),
                    (batch.predicted_labels[i], None if score != score else score),  # noqa: PLR0124 — NaN
                    (batch.true_labels[i], None if value != value else value),  # noqa: PLR0124 — NaN
                )
                outcomes[told] += int(batch.signs[i])
        for fates_of in result.fates:
            for fate in map(Fate, fates_of.fates.tolist()):
                version = "" if fate is Fate.ORPHAN else fates_of.version.model_version
                fates[fates_of.version.model_id, version, fate] += 1
    return Joined(outcomes, fates)
