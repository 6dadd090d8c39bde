"""Events to join, as short as tests want them."""

from __future__ import annotations

from streamdrift.joining.join import Join, LabelEvent, PredictionEvent, Result
from streamdrift.joining.matching import Bounds
from streamdrift.joining.memory import MemoryStore
from streamdrift.joining.rows import Prediction

BOUNDS = Bounds(label_delay_us=1_000, orphan_wait_us=400, max_rows=1_000_000)


def prediction(offset: int, name: str = "a", time: int = 100, *, version: str = "7") -> PredictionEvent:
    return PredictionEvent(offset, "fraud", version, name, time, Prediction("legit", 0.25))


def label(
    offset: int,
    name: str = "a",
    time: int = 200,
    *,
    says: str = "fraud",
    revision: int = 0,
    own: Prediction | None = None,
) -> LabelEvent:
    return LabelEvent(offset, "fraud", name, time, says, None, revision, own)


def many(count: int) -> list[PredictionEvent]:
    return [prediction(i, f"id-{i}", 100 + i) for i in range(count)]


def new_join(bounds: Bounds = BOUNDS) -> Join:
    return Join(MemoryStore(), bounds)


def result_of(join: Join) -> Result:
    """What came out, committed."""
    result = join.result()
    join.commit(0)
    return result
