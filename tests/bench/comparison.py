"""Runs the sides in turn, each in a process of its own, and keeps what they cost."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.tables import baseline_from_columns
from tests.bench.events import Message, messages, moved, training_table
from tests.bench.jobs import BASELINE, MODEL_ID, MODEL_VERSION, Job, Outcome
from tests.bench.topics import Place, Topic, fill, room_for

ROOT: Final = Path(__file__).parents[2]
TIMEOUT: Final = 600.0

NAMES: Final[Mapping[str, str]] = {
    "floor": "fetch + decode",
    "streamdrift": "streamdrift",
    "bad": "streamdrift, some messages bad",
    "mapped": "streamdrift, through a mapping",
    "river": "plain loop with River",
    "quix": "quixstreams with River",
}


class SideFailed(Exception):
    """A side ended without a result, or with one that cannot be compared."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, for one number of features."""

    features: int
    events: int
    pairs: int
    rate: float
    """Events a second of event time."""
    bad: float
    """Share of malformed messages in the second topic; 0: there is none."""
    mapped: bool = False
    """Whether the same events are also read from other places in their messages."""
    quix: Path | None = None
    """The Python of quixstreams' own environment."""


@dataclass(slots=True)
class Comparison:
    """What each side cost."""

    plan: Plan
    topic: Topic
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    """By side, in the order of the pairs."""

    def costs(self, side: str) -> list[float]:
        """CPU microseconds a message, pair by pair."""
        return [outcome.cost for outcome in self.outcomes[side]]

    def ratio(self, above: str, below: str) -> list[float]:
        """The cost of one side in that of the other, pair by pair."""
        return [a / b for a, b in zip(self.costs(above), self.costs(below), strict=True)]


class Runner:
    """Measures on one broker, with files in ``directory``."""

    def __init__(self, place: Place, directory: Path, tell: Callable[[str], None]) -> None:
        self._place = place
        self._directory = directory
        self._tell = tell

    def compare(self, plan: Plan) -> Comparison:
        """All sides in turn, ``plan.pairs`` times, every other time in reverse. Raises ``SideFailed``."""
        job, topic = self._prepare(plan)
        topics = dict.fromkeys(("floor", "streamdrift", "river"), topic)
        if plan.bad:
            topics["bad"] = self._fill(messages(plan.features, plan.events, plan.rate), plan.bad)
        if plan.mapped:
            events = messages(plan.features, plan.events, plan.rate)
            topics["mapped"] = self._fill((key, moved(value), time_us) for key, value, time_us in events)
        if plan.quix:
            topics["quix"] = topic
        comparison = Comparison(plan, topic, {side: [] for side in topics})
        for pair in range(plan.pairs):
            for side in list(topics)[:: -1 if pair % 2 else 1]:
                comparison.outcomes[side].append(self._measure(side, job, topics[side], plan.quix))
                cost = comparison.costs(side)[-1]
                self._tell(
                    f"{plan.features} features, pair {pair + 1} of {plan.pairs}: {NAMES[side]} {cost:.2f} µs an event"
                )
        return comparison

    def alone(self, baseline: Baseline, events: Iterable[Message]) -> tuple[Topic, Outcome]:
        """Let streamdrift read other events than those of a plan, with another baseline. Raises ``SideFailed``."""
        topic = self._fill(events)
        return topic, self._measure("streamdrift", self._job(baseline), topic)

    def profile(self, plan: Plan) -> str:
        """Where streamdrift spends its time: text of the profiler, whose own cost is in it."""
        job, topic = self._prepare(plan)
        self._tell(f"{plan.features} features: streamdrift under the profiler")
        return self._measure("streamdrift", msgspec.structs.replace(job, profile=True), topic).note

    def _prepare(self, plan: Plan) -> tuple[Job, Topic]:
        """What the sides have in common, and the topic of well-formed events."""
        self._tell(f"{plan.features} features: writing {plan.events:,} events, and a baseline")
        baseline = baseline_from_columns(training_table(plan.features), model_id=MODEL_ID, model_version=MODEL_VERSION)
        if baseline.grid.unmonitored:
            raise SideFailed(f"not all features are watched: {baseline.grid.unmonitored}")
        room_for(self._place, plan.features, plan.events)
        job = msgspec.structs.replace(self._job(baseline), features=plan.features)
        return job, self._fill(messages(plan.features, plan.events, plan.rate))

    def _job(self, baseline: Baseline) -> Job:
        directory = self._directory / uuid.uuid4().hex[:8]
        directory.mkdir()
        (directory / BASELINE).write_bytes(baseline.to_json())
        return Job(
            features=len(baseline.grid.columns),
            bootstrap_servers=self._place.broker.cluster.bootstrap_servers,
            embedded=self._place.embedded,
            directory=str(directory),
            model_id=baseline.grid.model_id,
            model_version=baseline.grid.model_version,
        )

    def _fill(self, events: Iterable[Message], bad: float = 0.0) -> Topic:
        return fill(self._place, f"bench-{uuid.uuid4().hex[:8]}", events, bad)

    def _measure(self, side: str, job: Job, topic: Topic, quix: Path | None = None) -> Outcome:
        """Run a side in a process of its own. Raises ``SideFailed`` unless it has read everything."""
        job = msgspec.structs.replace(
            job,
            side="streamdrift" if side in {"bad", "mapped"} else side,
            mapped=side == "mapped",
            run=f"run-{uuid.uuid4().hex[:8]}",
            topic=topic.name,
            messages=topic.messages,
            events=topic.events,
        )
        command = [sys.executable, "-m", "tests.bench.sides"]
        if side == "quix":
            command = [str(quix), str(Path(__file__).with_name("quix_loop.py"))]
        done = subprocess.run(
            command, input=msgspec.json.encode(job), stdout=subprocess.PIPE, cwd=ROOT, timeout=TIMEOUT, check=False
        )
        if done.returncode:
            raise SideFailed(f"{NAMES[side]} ended with exit code {done.returncode}")
        outcome = msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)
        if (outcome.messages, outcome.events) != (topic.messages, topic.events):
            raise SideFailed(f"{NAMES[side]} has read {outcome.messages} messages, {outcome.events} events of {topic}")
        return outcome
