"""Messages for the topics ``predictions`` and ``labels``, and the table that the model was trained on.

::

    traffic = Traffic(seed=1, start=datetime(2026, 1, 1, tzinfo=UTC), events_per_second=5)
    for chunk in traffic.chunks(until=datetime(2026, 1, 3, tzinfo=UTC)):
        for message in chunk.predictions: ...

Events are made a chunk at a time, and each chunk has its own random numbers: incidents change nothing outside
their span, and event 10**9 costs no more than event 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from streamdrift.generator.classifier import FLAG_FROM, Classifier
from streamdrift.generator.effects import Effect, Rows
from streamdrift.generator.pace import HOUR_US, Pace, to_us
from streamdrift.generator.script import Rollout, ScriptedIncident
from streamdrift.generator.world import BOOLEANS, CATEGORIES, DECIMALS, INTEGERS, REGIONS, Columns, draw, lose, sigmoid

MODEL_ID: Final = "fraud"
MODEL_VERSION: Final = "7"
PREDICTIONS_TOPIC: Final = "predictions"
LABELS_TOPIC: Final = "labels"

CHUNK: Final = 2048
"""Events made at once. Part of what a seed means: with another size the same seed gives other events."""

CONTROLS: Final = ("transaction_id", "sequence", "received_at", "note", "schema_version")
"""Features that never drift and that must not alarm: an id, a counter, a timestamp, a free text, a constant."""

TRAINED_ON: Final = 20_000
"""Payments that the classifier is trained on."""
TRAINING_START: Final = datetime(2025, 6, 2, tzinfo=UTC)
TRAINING_SPAN: Final = timedelta(days=28)

NEVER_LABELLED: Final = 0.03
"""Share of payments whose outcome nobody ever reports."""
REPEATED: Final = 0.01
"""Share of labels that are sent twice."""
FIRST_WRONG: Final = (0.002, 0.1)
"""Share of labels that say the opposite at first, of payments that were legitimate and of those that were fraud: a
dispute withdrawn, a fraud that is noticed on the next statement. A revision puts them right."""
_LABEL_DELAY_HOURS: Final = (2.0, 0.6)
"""Median of the delay, and standard deviation of its logarithm; revisions take as long again, after the label."""
_LABEL_DELAY_LIMITS_HOURS: Final = (0.5, 48.0)
_HUMAN_SHARE: Final = 0.1

# Every use of random numbers has its own stream, so that none can move another.
_WORLD, _EXTRA, _LABELS, _NOTES, _EFFECTS, _TRAINING, _DISORDER = range(7)

_SCORE_DECIMALS: Final = 6
_UINT64: Final = (1 << 64) - 1
_WORDS: Final = (
    "gift", "for", "order", "please", "deliver", "leave", "with", "neighbour", "ring", "twice", "before", "noon",
    "after", "work", "wrap", "blue", "ribbon", "urgent", "birthday", "call", "me", "invoice", "attached", "fragile",
    "thanks", "see", "you", "soon", "second", "floor", "back", "door",
)  # fmt: skip
_NOTE_WORDS: Final = 6


class Message(NamedTuple):
    """One message of a topic. Messages come in the order of ``time_us``, which never exceeds ``until``."""

    key: bytes
    """The prediction id, for predictions and labels alike."""
    value: bytes
    """JSON, as the contract says."""
    time_us: int
    """Event time of a prediction, the time at which a label is sent; microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Predictions, and the labels that became known by the time of the last of them; each in time order."""

    predictions: Sequence[Message]
    labels: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Endless events of the fraud model. Equal arguments give equal bytes.

    ``incidents`` go wrong on the way; ``rollout`` puts another version of the model in service; ``extra_features`` adds
    so many numbers ``extra.f000``, ``extra.f001``, … of plain noise, for benchmarks; ``labels`` False spares the work
    for them.
    """

    seed: int
    start: datetime
    """Time of the first event, with a zone; a midnight (UTC) for the hours of the day to be true."""
    events_per_second: float
    """Mean over the day."""
    incidents: tuple[ScriptedIncident, ...] = ()
    extra_features: int = 0
    labels: bool = True
    rollout: Rollout | None = None

    @property
    def pace(self) -> Pace:
        return Pace(to_us(self.start), self.events_per_second)

    def chunks(self, *, until: datetime | None = None, count: int | None = None) -> Iterator[Chunk]:
        """All events before ``until``, and at most ``count`` predictions; without either, endless."""
        until_us = np.iinfo(np.int64).max if until is None else to_us(until)
        left = float("inf") if count is None else count
        writer, pending, number = _Writer(self), _PendingLabels(), 0
        while left > 0:
            events = self._events(number)
            size = int(min(left, np.searchsorted(events.times_us, until_us)))
            if size:
                last_us = int(events.times_us[size - 1])
                if self.labels:
                    pending.add(label for label in self._labels(events, size) if label.time_us < until_us)
                yield Chunk(writer.predictions(events, size), pending.due(last_us))
            if size < CHUNK:
                break
            number, left = number + 1, left - size
        if until is not None and (rest := pending.due(until_us)):
            yield Chunk((), rest)

    def messages(self, *, until: datetime | None = None, count: int | None = None) -> Iterator[Message]:
        """The predictions alone, one by one."""
        for chunk in self.chunks(until=until, count=count):
            yield from chunk.predictions

    def _rng(self, stream: int, *numbers: int) -> Generator:
        return default_rng([self.seed, stream, *numbers])

    def _events(self, number: int) -> _Events:
        rng = self._rng(_WORLD, number)
        positions = number * CHUNK + np.arange(CHUNK)
        payments = draw(rng, self.pace.times(positions + rng.random(CHUNK)))
        columns = {name: values.copy() for name, values in payments.columns.items()}
        lose(rng, columns)
        active = list(self._active(payments.times_us, payments.region))
        for i, incident, rows, elapsed_us in active:
            incident.effect.on_features(columns, rows, elapsed_us, self._rng(_EFFECTS, number, i))
        columns = {name: _published(name, values) for name, values in columns.items()}
        newer = self._newer(payments.times_us)
        logits, truth = self._logits(columns, newer), payments.fraud_logits.copy()
        for _, incident, rows, _ in active:
            incident.effect.on_score(logits, rows)
            incident.effect.on_truth(payments, truth, rows)
        scores, fraud = _scores(logits), sigmoid(truth)
        return _Events(number, positions, payments.times_us, columns, payments.region, newer, scores, fraud)

    def _newer(self, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which payments the version of the rollout scores. Shape (n,)."""
        if self.rollout is None:
            return np.zeros(len(times_us), dtype=np.bool_)
        return times_us >= to_us(self.rollout.at)

    def _logits(self, columns: Columns, newer: NDArray[np.bool_]) -> NDArray[np.float64]:
        logits = trained(self.seed).logits(columns)
        if self.rollout is None or not newer.any():
            return logits
        return np.where(newer, trained(self.seed, self.rollout.concept).logits(columns), logits)

    def _active(
        self, times_us: NDArray[np.int64], region: NDArray[np.int64]
    ) -> Iterator[tuple[int, ScriptedIncident, Rows, NDArray[np.int64]]]:
        """(number, incident, rows that it concerns, time since its onset of each) of this chunk."""
        for i, incident in enumerate(self.incidents):
            onset_us = to_us(incident.onset)
            concerned = (times_us >= onset_us) & (times_us < to_us(incident.end))
            if incident.region is not None:
                concerned &= region == REGIONS.index(incident.region)
            rows = np.flatnonzero(concerned)
            if len(rows):
                yield i, incident, rows, times_us[rows] - onset_us

    def _labels(self, events: _Events, size: int) -> Iterator[Message]:
        """Labels of the first ``size`` events, those that ever come, in no order."""
        rng = self._rng(_LABELS, events.number)
        outcomes_us = events.times_us + _delays_us(rng)
        labelled = rng.random(CHUNK) >= NEVER_LABELLED
        fraud = rng.random(CHUNK) < events.fraud_probability
        human = rng.random(CHUNK) < _HUMAN_SHARE
        disorder = self._rng(_DISORDER, events.number)
        wrong = disorder.random(CHUNK) < np.where(fraud, FIRST_WRONG[1], FIRST_WRONG[0])
        revised_us, repeated_us = outcomes_us + _delays_us(disorder), outcomes_us + _delays_us(disorder)
        repeated = disorder.random(CHUNK) < REPEATED
        labelled[size:] = False
        yield from self._written(events, labelled, fraud ^ wrong, human, outcomes_us, outcomes_us)
        yield from self._written(events, labelled & repeated, fraud ^ wrong, human, outcomes_us, repeated_us)
        yield from self._written(events, labelled & wrong, fraud, np.ones_like(human), revised_us, revised_us, 1)

    def _written(
        self,
        events: _Events,
        which: NDArray[np.bool_],
        fraud: NDArray[np.bool_],
        human: NDArray[np.bool_],
        outcomes_us: NDArray[np.int64],
        sent_us: NDArray[np.int64],
        revision: int = 0,
    ) -> Iterator[Message]:
        """Messages that say of some events what became of them."""
        rows = np.flatnonzero(which)
        columns = (
            _ids(self.seed, events.positions[rows]),
            _OUTCOMES[fraud[rows].astype(np.int64)].tolist(),
            _rfc3339(outcomes_us[rows]),
            _LABEL_SOURCES[human[rows].astype(np.int64)].tolist(),
            sent_us[rows].tolist(),
        )
        for id_, name, moment, source, time_us in zip(*columns, strict=True):
            yield Message(id_.encode(), _encode(_Label(id_, MODEL_ID, name, moment, source, revision)), time_us)


def training_table(
    seed: int, rows: int = 50_000, *, extra_features: int = 0, concept: Effect | None = None
) -> Mapping[str, NDArray[Any]]:
    """The model's training data in time order, a column a feature, ``prediction.score`` and ``prediction.label``.

    Numbers are float64 with NaN for null; texts and booleans are objects with None for null. Shapes (rows,). What
    became of the payments, which is no feature, is in ``training_outcomes``. ``concept`` is what fraud had become by
    the time of the training.
    """
    rng = default_rng([seed, _TRAINING, 1])
    columns, times_us, _ = _training_payments(rng, rows, None)
    logits = trained(seed, concept).logits(columns)
    table: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        table[name] = values if _is_number(name) else _objects(_named(name, values, {}))
    for i in range(extra_features):
        table[f"extra.f{i:03}"] = np.round(rng.standard_normal(rows), DECIMALS)
    controls = _controls(seed, rng, -rows + np.arange(rows), times_us)
    for name, control in zip(CONTROLS, controls, strict=True):
        table[name] = np.array(control) if name in ("sequence", "schema_version") else _objects(control)
    scores = _scores(logits)
    table["prediction.score"] = scores
    table["prediction.label"] = _objects(_OUTCOMES[(scores >= FLAG_FROM).astype(np.int64)].tolist())
    return table


def training_outcomes(seed: int, rows: int = 50_000, *, concept: Effect | None = None) -> NDArray[Any]:
    """What became of the payments of ``training_table``: ``fraud`` or ``legit``, as objects. Shape (rows,)."""
    _, _, fraud_logits = _training_payments(default_rng([seed, _TRAINING, 1]), rows, concept)
    fraud = default_rng([seed, _TRAINING, 2]).random(rows) < sigmoid(fraud_logits)
    return _objects(_OUTCOMES[fraud.astype(np.int64)].tolist())


@lru_cache(maxsize=8)
def trained(seed: int, concept: Effect | None = None) -> Classifier:
    """The classifier of a seed, trained on payments and outcomes of its own, which are of a concept."""
    rng = default_rng([seed, _TRAINING, 0])
    columns, _, fraud_logits = _training_payments(rng, TRAINED_ON, concept)
    return Classifier.train(columns, rng.random(TRAINED_ON) < sigmoid(fraud_logits))


def _training_payments(
    rng: Generator, rows: int, concept: Effect | None
) -> tuple[Columns, NDArray[np.int64], NDArray[np.float64]]:
    """Published columns, times, and true log odds of fraud of payments spread evenly over whole days."""
    pace = Pace(to_us(TRAINING_START), rows / TRAINING_SPAN.total_seconds())
    payments = draw(rng, pace.times(np.arange(rows) + rng.random(rows)))
    columns = {name: values.copy() for name, values in payments.columns.items()}
    lose(rng, columns)
    truth = payments.fraud_logits.copy()
    if concept is not None:
        concept.on_truth(payments, truth, np.arange(rows))
    return {name: _published(name, v) for name, v in columns.items()}, payments.times_us, truth


def _delays_us(rng: Generator) -> NDArray[np.int64]:
    """How long labels take, in whole milliseconds. Shape (CHUNK,)."""
    median, spread = _LABEL_DELAY_HOURS
    hours = np.clip(median * np.exp(spread * rng.standard_normal(CHUNK)), *_LABEL_DELAY_LIMITS_HOURS)
    delays: NDArray[np.int64] = (hours * HOUR_US).astype(np.int64) // 1000 * 1000
    return delays


@dataclass(frozen=True, slots=True)
class _Events:
    """One chunk as columns. Shapes (CHUNK,)."""

    number: int
    positions: NDArray[np.int64]
    times_us: NDArray[np.int64]
    columns: Columns
    region: NDArray[np.int64]
    newer: NDArray[np.bool_]
    """Whether the version of the rollout scored it."""
    scores: NDArray[np.float64]
    fraud_probability: NDArray[np.float64]


@dataclass(slots=True)
class _PendingLabels:
    """Labels whose time has not come."""

    labels: list[Message] = field(default_factory=list)

    def add(self, labels: Iterable[Message]) -> None:
        self.labels.extend(labels)
        self.labels.sort(key=lambda label: label.time_us)

    def due(self, time_us: int) -> list[Message]:
        """Those up to ``time_us``; they are pending no longer."""
        size = sum(1 for _ in _while_due(self.labels, time_us))
        due, self.labels = self.labels[:size], self.labels[size:]
        return due


def _while_due(labels: Sequence[Message], time_us: int) -> Iterator[Message]:
    for label in labels:
        if label.time_us > time_us:
            return
        yield label


# ---- the columns of an event, and their JSON -----------------------------------------------------------------------

_OUTCOMES: Final = np.array(["legit", "fraud"], dtype=object)
_LABEL_SOURCES: Final = np.array(["system", "human"], dtype=object)
_encode: Final = msgspec.json.Encoder().encode


class _Label(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    prediction_id: str
    model_id: str
    label: str
    outcome_timestamp: str
    source: str
    revision: int = 0


class _Prediction(msgspec.Struct, frozen=True, gc=False):
    label: str
    score: float


class _Segments(msgspec.Struct, frozen=True, gc=False):
    region: str


class _Event(msgspec.Struct, frozen=True, gc=False):
    prediction_id: str
    model_id: str
    model_version: str
    timestamp: str
    features: Any
    prediction: _Prediction
    segments: _Segments


class _Writer:
    """Turns columns into JSON. Dotted names become nested objects."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._segments = [_Segments(region) for region in REGIONS]
        self._new = dict(
            incident.effect.new_category for incident in traffic.incidents if incident.effect.new_category is not None
        )

    def predictions(self, events: _Events, size: int) -> list[Message]:
        """The first ``size`` events of a chunk."""
        seed = self._traffic.seed
        ids = _ids(seed, events.positions[:size])
        labels = _OUTCOMES[(events.scores >= FLAG_FROM).astype(np.int64)].tolist()
        rows = map(
            _Event,
            ids,
            [MODEL_ID] * size,
            self._versions(events.newer[:size]),
            _rfc3339(events.times_us[:size]),
            _objects_of(self._features(events)),
            map(_Prediction, labels, events.scores.tolist()),
            [self._segments[i] for i in events.region.tolist()],
        )
        values = islice(map(_encode, rows), size)
        keys = [id_.encode() for id_ in ids]
        return list(map(Message, keys, values, events.times_us[:size].tolist()))

    def _versions(self, newer: NDArray[np.bool_]) -> list[str]:
        rollout = self._traffic.rollout
        return [MODEL_VERSION if rollout is None or not new else rollout.version for new in newer.tolist()]

    def _features(self, events: _Events) -> dict[str, list[Any]]:
        traffic = self._traffic
        lists = {name: _named(name, values, self._new) for name, values in events.columns.items()}
        notes = traffic._rng(_NOTES, events.number)  # noqa: SLF001 — one module, two halves of one thing
        lists.update(zip(CONTROLS, _controls(traffic.seed, notes, events.positions, events.times_us), strict=True))
        if traffic.extra_features:
            rng = traffic._rng(_EXTRA, events.number)  # noqa: SLF001
            extra = np.round(rng.standard_normal((traffic.extra_features, CHUNK)), DECIMALS)
            lists.update((f"extra.f{i:03}", values.tolist()) for i, values in enumerate(extra))
        return lists


def _objects_of(lists: Mapping[str, list[Any]]) -> Iterator[Any]:
    """One object a row; the names in front of a dot become objects of their own."""
    flat: dict[str, Iterable[Any]] = {}
    groups: dict[str, dict[str, list[Any]]] = {}
    for name, values in lists.items():
        group, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(group, {})[rest] = values
            flat.setdefault(group, ())
        else:
            flat[name] = values
    for group, members in groups.items():
        flat[group] = map(_struct(group, tuple(members)), *members.values())
    return map(_struct("features", tuple(flat)), *flat.values())


@lru_cache(maxsize=64)
def _struct(name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
    """A class for rows of these fields: encoding one costs a fraction of encoding a dict."""
    return msgspec.defstruct(name, fields, frozen=True, gc=False)


def _is_number(name: str) -> bool:
    return name not in CATEGORIES and name not in BOOLEANS


def _published(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values with the digits that events carry: whoever scores them sees no others."""
    if name in CATEGORIES or name in BOOLEANS:
        return values
    return np.floor(values) if name in INTEGERS else np.round(values, DECIMALS)


def _named(name: str, values: NDArray[np.float64], new: Mapping[str, str]) -> list[Any]:
    """Python values of a column: text, booleans, integers or floats, and None."""
    if name in CATEGORIES:
        names = [*CATEGORIES[name], *((new[name],) if name in new else ())]
        return [names[i] for i in values.astype(np.int64).tolist()]
    missing = np.isnan(values)
    if name in BOOLEANS:
        present: NDArray[Any] = values == 1
    elif name in INTEGERS:
        present = np.where(missing, 0, values).astype(np.int64)
    else:
        present = values
    if missing.any():
        present = present.astype(object)
        present[missing] = None
    values_or_none: list[Any] = present.tolist()
    return values_or_none


def _controls(seed: int, rng: Generator, positions: NDArray[np.int64], times_us: NDArray[np.int64]) -> list[list[Any]]:
    """The columns of ``CONTROLS``. An event arrives up to 50 ms before the model's answer is stamped."""
    n = len(positions)
    words = rng.integers(0, len(_WORDS), (_NOTE_WORDS, n))
    texts = [[_WORDS[i] for i in row] for row in words.tolist()]
    return [
        [f"tx-{id_}" for id_ in _ids(seed + 1, positions)],
        (10_000_000 + positions).tolist(),
        _rfc3339(times_us - rng.integers(1, 50, n) * 1000),
        list(map(" ".join, zip(*texts, strict=True))),
        [4] * n,
    ]


def _scores(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities as published: inside (0, 1), six digits."""
    least = 10.0**-_SCORE_DECIMALS
    return np.clip(np.round(sigmoid(logits), _SCORE_DECIMALS), least, 1 - least)


def _ids(seed: int, positions: NDArray[np.int64]) -> list[str]:
    """Sixteen hexadecimal digits each, different for different positions: SplitMix64, a bijection."""
    x = positions.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 & _UINT64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return [f"{number:016x}" for number in x.tolist()]


def _rfc3339(times_us: NDArray[np.int64]) -> list[str]:
    """``2026-11-22T10:00:00.123Z``; finer digits are cut off."""
    moments = (times_us // 1000).astype("datetime64[ms]")
    texts: list[str] = np.datetime_as_string(moments, timezone="UTC").tolist()
    return texts


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
