"""``streamdrift baseline show`` and ``promote``: what detect has of a model version, and what a person makes of it.

Both read the state and grids topics as detect wrote them, so they see what was there at its last snapshot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from streamdrift.assembly import cluster_of, topology
from streamdrift.baselines import Baseline
from streamdrift.entries import BaselineSet, encode, partition_of
from streamdrift.errors import ConfigurationError
from streamdrift.fold_state import read_records
from streamdrift.gridbook import GridBook, ModelKey, baseline_record
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.commit import publish
from streamdrift.kafka.compacted import read_compacted
from streamdrift.records import OutputRecord
from streamdrift.settings import Settings
from streamdrift.status import ModelStatus
from streamdrift.table_report import benchmark_reports, column_reports, outcome_line
from streamdrift.watch import Watch


def watches(settings: Settings, cluster: Cluster, model_id: str, version: str | None = None) -> dict[ModelKey, Watch]:
    """The watches over a model's versions, or over one of them. Raises ``ConfigurationError`` if there is none."""
    book = GridBook(lambda: read_compacted(cluster, settings.topics.grids).items())
    found = read_records(read_compacted(cluster, settings.topics.state))
    config = topology(settings).detect.fold.watch(model_id)
    chosen = {
        key: Watch.restored(config, key, snapshot, found.chunks.get(key, {}), book)
        for key, snapshot in sorted(found.watches.items())
        if key[0] == model_id and version in {None, key[1]}
    }
    if not chosen:
        known = ", ".join(f"{model} {of}" for model, of in sorted(found.watches)[:20]) or "none"
        raise ConfigurationError(f"detect has no model {model_id}{f' {version}' if version else ''}; it has {known}")
    return chosen


# ---- show ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """What is in effect for one model version."""

    status: ModelStatus
    grid_id: str
    baseline: Baseline | None
    """The one in effect, or what is learned so far; None while there is no grid."""

    @classmethod
    def of(cls, watch: Watch) -> Shown:
        return cls(watch.status(), watch.grid.id, _baseline_of(watch))

    def document(self) -> dict[str, Any]:
        """For programs."""
        status, baseline = self.status, self.baseline
        return {
            "model_id": status.model_id,
            "model_version": status.model_version,
            "state": status.state,
            "baseline_id": status.baseline_id,
            "grid_id": self.grid_id or None,
            "learning": asdict(status.learning) if status.learning else None,
            "events": baseline.summary.events if baseline else 0,
            "columns": [report._asdict() for report in column_reports(baseline)] if baseline else [],
            "outcome": msgspec.to_builtins(baseline.outcome) if baseline else None,
            "benchmarks": [report._asdict() for report in benchmark_reports(baseline)] if baseline else [],
            "labels": msgspec.to_builtins(baseline.labels) if baseline else None,
            "unmonitored": dict(status.unmonitored),
        }

    def __str__(self) -> str:
        status = self.status
        head = f"{status.model_id} {status.model_version}: {status.state}"
        if status.learning:
            head += f", {status.learning.events:,} of {status.learning.needed:,} events"
        lines = [head, f"  grid {self.grid_id or 'none yet'}, baseline {status.baseline_id or 'none yet'}"]
        for r in column_reports(self.baseline) if self.baseline else ():
            what = f"{r.bins} bins" if r.kind == "numeric" else f"{r.bins} categories"
            odd = {"missing": r.missing, "unseen": r.unseen, "type errors": r.type_errors}
            rest = "".join(f", {n:,} {name}" for name, n in odd.items() if n)
            mean = "" if r.mean is None else f", mean {r.mean:.4g}"
            lines.append(f"  {r.name}: {r.kind}, {what}, {r.counted:,} values{mean}{rest}")
        if self.baseline and (outcomes := outcome_line(self.baseline)):
            lines += [
                f"  outcomes: {outcomes}",
                *(f"    {benchmark}" for benchmark in benchmark_reports(self.baseline)),
            ]
        lines += [f"  {name}: not monitored, {reason}" for name, reason in status.unmonitored.items()]
        return "\n".join(lines)


def show(
    settings: Settings, model_id: str, version: str | None, *, as_json: bool, cluster: Cluster | None = None
) -> str:
    """What ``baseline show`` prints."""
    found = watches(settings, cluster or cluster_of(settings), model_id, version)
    shown = [Shown.of(watch) for watch in found.values()]
    if as_json:
        return json.dumps([s.document() for s in shown], indent=2)
    return "\n\n".join(map(str, shown))


# ---- promote ---------------------------------------------------------------------------------------------------------


def promote(
    settings: Settings,
    key: ModelKey,
    *,
    window: bool = False,
    to: Path | None = None,
    cluster: Cluster | None = None,
) -> str:
    """Make a baseline of what detect has, and put it into effect, or into a file; what ``baseline promote`` prints.

    It is the published window, or what is learned so far, else the one in effect: other counts on the same grid.
    """
    cluster = cluster or cluster_of(settings)
    watch = watches(settings, cluster, *key)[key]
    baseline = watch.monitor.recent() if window else _baseline_of(watch)
    name = f"{key[0]} {key[1]}"
    if baseline is None:
        missing = "published window" if window else "grid yet"
        raise ConfigurationError(f"{name} has no {missing} that could become a baseline")
    if to is not None:
        to.write_bytes(baseline.to_json())
        return f"{to}: baseline {baseline.id} of {name}, {baseline.summary.events:,} events"
    if watch.monitor.baseline and watch.monitor.baseline.id == baseline.id:
        raise ConfigurationError(f"baseline {baseline.id} of {name} is in effect; --window takes the recent traffic")
    topics = settings.topics
    publish(cluster, [baseline_record(topics.grids, baseline)])
    publish(cluster, [_control(topics.summaries, topics.partitions, key, baseline)])
    return f"baseline {baseline.id} of {name}, {baseline.summary.events:,} events, takes effect; incidents end"


def _control(topic: str, partitions: int, key: ModelKey, baseline: Baseline) -> OutputRecord:
    value = encode(BaselineSet(*key, baseline.id, promoted=True))
    return OutputRecord(topic, key[0].encode(), value, (), partition_of(key[0], partitions))


def _baseline_of(watch: Watch) -> Baseline | None:
    return watch.learner.so_far() if watch.learner else watch.monitor.baseline
