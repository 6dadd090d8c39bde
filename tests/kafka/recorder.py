"""A stage that writes down what a loop does with it, and the thread that the loop runs in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread

from streamdrift.kafka.loop import StageLoop
from streamdrift.records import Commit, OutputRecord, Position, RecordBatch, TopicPartition

PATIENCE = 20.0
"""Seconds within which everything that a test awaits has to happen."""


@dataclass(frozen=True)
class Assigned:
    """One hand-over as the stage was told of it."""

    tp: TopicPartition
    start: Position
    state: Mapping[bytes, bytes]


class Recorder:
    """Commits everything at once, with the number of records as metadata; optionally echoes each record."""

    name = "recorder"
    together = False

    def __init__(self, *inputs: str, state_topic: str | None = None, echo: str | None = None) -> None:
        self.inputs: Collection[str] = inputs
        self.state_topic = state_topic
        self.echo = echo
        self.hold = False
        """Nothing is committed but with a final take."""
        self.pausing: set[TopicPartition] = set()
        self.slowly = False
        """Whether records are wanted one by one."""
        self.fails: Callable[[str], None] = lambda _: None
        """Called with the name of each call; may raise."""
        self.counts: Mapping[str, int] = {}
        self.told: list[Assigned] = []
        self.values: dict[TopicPartition, list[bytes | None]] = defaultdict(list)
        self.batches: list[RecordBatch] = []
        self.ends: Counter[TopicPartition] = Counter()
        self.calls: list[str] = []
        self.carried: list[dict[TopicPartition, int]] = []
        self.owned: dict[TopicPartition, Position] = {}
        self.ended = False
        self._fresh = False
        self.needless: dict[TopicPartition, int] = {}
        self._outputs: list[OutputRecord] = []
        self._changed = Condition()

    # ---- the stage -------------------------------------------------------------------------------------------------

    def topology(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self._note("topology")

    def assigned(self, tp: TopicPartition, start: Position, state: Mapping[bytes, bytes]) -> int:
        self.told.append(Assigned(tp, start, dict(state)))
        self.owned[tp] = start
        self._fresh = True
        self._note("assigned")
        return start.offset

    def begin(self, tp: TopicPartition) -> None:
        assert tp in self.owned
        self._note("begin")

    def careful(self, tp: TopicPartition) -> bool:
        assert tp in self.owned
        return self.slowly

    def process(self, batch: RecordBatch, now: float) -> None:
        assert now > 0
        assert batch.source in self.owned
        self.batches.append(batch)
        self.values[batch.source] += batch.values
        total = int(self.owned[batch.source].metadata or 0) + len(batch)
        self.owned[batch.source] = Position(batch.offsets[-1] + 1, str(total))
        self._fresh = True
        if self.echo is not None:
            self._outputs += [OutputRecord(self.echo, record.key, record.value, record.headers) for record in batch]
        self._note("process")

    def expendable(self, now: float) -> Mapping[TopicPartition, int]:
        assert now > 0
        return self.needless

    def reached_end(self, tp: TopicPartition, now: float) -> None:
        assert now > 0
        self.ends[tp] += 1
        self._note("reached_end")

    def paused(self) -> Collection[TopicPartition]:
        return self.pausing

    def carried_out(self, ends: Mapping[TopicPartition, int]) -> None:
        self.carried.append(dict(ends))

    def take(self, now: float, *, final: bool = False) -> Commit:
        assert now > 0
        self._note("take final" if final else "take")
        if not self._fresh or (self.hold and not final):
            return Commit()
        commit = Commit(tuple(self._outputs), dict(self.owned))
        self._fresh = False
        self._outputs.clear()
        return commit

    def revoked(self, tp: TopicPartition) -> None:
        del self.owned[tp]
        self._note("revoked")

    # ---- the test --------------------------------------------------------------------------------------------------

    @property
    def all_values(self) -> list[bytes | None]:
        return [value for values in self.values.values() for value in values]

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Return once ``holds``, looked at after each call of the loop."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or holds(), PATIENCE)
        assert holds(), f"not seen within {PATIENCE:g} s, or until the loop ended; last {self.calls[-5:]}"

    def end(self) -> None:
        """The loop runs no longer: nothing more will be seen."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _note(self, call: str) -> None:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
        self.fails(call)


class Running:
    """A loop in a thread of its own."""

    def __init__(self, loop: StageLoop, stage: Recorder) -> None:
        self.loop = loop
        self._stage = stage
        self.failure: Exception | None = None
        self._thread = Thread(target=self._run, name="stage loop")
        self._thread.start()

    def stop(self) -> None:
        """End it cleanly, and raise what it raised."""
        self.loop.stop()
        self.join()

    def join(self) -> None:
        """Wait for its end, and raise what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the loop did not end"
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            self.loop.run()
        except Exception as failure:  # noqa: BLE001 - raised again where the test waits
            self.failure = failure
        finally:
            self._stage.end()


@contextmanager
def running(loop: StageLoop, stage: Recorder) -> Iterator[Running]:
    """Run ``loop`` meanwhile; raises what it raised, which explains more than what was not seen because of it."""
    thread = Running(loop, stage)
    try:
        yield thread
    finally:
        thread.stop()
