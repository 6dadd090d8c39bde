"""Our side: the service as ``streamdrift run`` starts it, until every event lies in a closed tick."""

from __future__ import annotations

import cProfile
import importlib
import io
import pstats
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from streamdrift import logs
from streamdrift.assembly import Service, settle
from streamdrift.codecs import mapping as places
from streamdrift.codecs.mapping import At, Const, PredictionParts
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.loop import StageLoop
from streamdrift.settings import Settings
from tests.bench.jobs import BASELINE, PATIENCE, Job, Outcome

TOPICS: Final = ("summaries", "state", "grids", "alerts", "dead_letters")


class _Mark(NamedTuple):
    """The CPU time of the process when so many messages had been read."""

    cpu_seconds: float
    messages: int


class _Stalled(Exception):
    """Nothing has happened for long."""


def streamdrift(job: Job) -> Outcome:
    """Measured from the moment on at which both stages are at work: the model's detectors are made once a start.

    What was read before that is left out of the time and of the count.
    """
    logs.set_up("warning", "console")
    importlib.import_module("river.drift")  # the first detector would import it, with scipy: a second of the start
    service = _service(job)
    service.start()
    settle()
    try:
        _await(service, lambda: all(loop.assigned for loop in service.status().loops), 0.001)
        first = _mark(service)
        _await(service, lambda: service.status().models, 0.001)
        begun = _mark(service)
        if begun.messages > job.messages / 2:
            begun = first  # a handful of events, read before anybody could look: better than nothing
        _await(service, lambda: _events(service) >= job.events, 0.05)
        ended = _mark(service)
        (source,), events = service.status().sources, _events(service)
        incidents = sum(len(model.incidents) for model in service.status().models)
    finally:
        service.stop()
    if source.late:
        raise SystemExit(f"{source.late} events were late: not the comparison that is meant")
    note = _hottest(service.profiles) if isinstance(service, _ProfiledService) else ""
    read = source.consumed - source.control
    return Outcome(ended.cpu_seconds - begun.cpu_seconds, read - begun.messages, read, events, incidents, note)


def _service(job: Job) -> Service:
    settings, cluster = _settings(job), _cluster(job)
    if job.mapped:
        return _MappedService(settings, job, cluster)
    return (_ProfiledService if job.profile else Service)(settings, cluster=cluster)


def _settings(job: Job) -> Settings:
    """The default configuration, as a user would write it."""
    document = {
        "kafka": {
            "bootstrap_servers": job.bootstrap_servers,
            "start_from": "earliest",
            "application": job.run,
        },
        "sources": [{"topic": job.topic, "kind": "predictions", "end_of_stream": True}],
        "topics": {key: f"{job.run}-{key}" for key in TOPICS},
        # The events are of the past: time ends with the marker that ends the topic, not with today's clock.
        "time": {"idle": "hold"},
        "models": {job.model_id: {"baselines": {job.model_version: BASELINE}}},
        "http": {"host": "127.0.0.1", "port": 0},
    }
    path = Path(job.directory) / f"{job.run}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return Settings.load(path, {}, {})


def _cluster(job: Job) -> Cluster | None:
    return Cluster(job.bootstrap_servers, group_protocol="consumer", embedded=True) if job.embedded else None


def _events(service: Service) -> int:
    """Events in closed ticks."""
    return sum(model.events for model in service.status().models)


def _mark(service: Service) -> _Mark:
    # Counted before they are folded: a batch that is being folded right now is not ours to count, but ours to pay.
    return _Mark(time.process_time(), sum(source.consumed - source.control for source in service.status().sources))


def _await(service: Service, happened: Callable[[], object], pause: float) -> None:
    seen, since = (0, 0), time.monotonic()
    while not happened():
        if service.failed is not None:
            raise service.failed
        now = _mark(service).messages, _events(service)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise _Stalled(str(service.status()))
        time.sleep(pause)


class _MappedService(Service):
    """A service whose events stand where ``events.moved`` puts their parts."""

    def __init__(self, settings: Settings, job: Job, cluster: Cluster | None) -> None:
        super().__init__(settings, cluster=cluster)
        mapping = places.Mapping(
            model_id=Const(job.model_id),
            model_version=Const(job.model_version),
            timestamp=At.parse("meta.ts"),
            prediction_id=At.parse("meta.id"),
            features=At.parse("request.inputs"),
            prediction=PredictionParts(label=At.parse("response.label"), score=At.parse("response.score")),
        )
        sources = [replace(source, mapping=mapping) for source in self._topology.sources]
        self._topology = replace(self._topology, sources=sources)


class _ProfiledService(Service):
    """A service whose stages run under a profiler each."""

    profiles: Mapping[str, cProfile.Profile] = {}

    def _run(self, loop: StageLoop, name: str) -> None:
        profile = cProfile.Profile()
        self.profiles = {**self.profiles, name: profile}
        profile.runcall(super()._run, loop, name)


def _hottest(profiles: Mapping[str, cProfile.Profile]) -> str:
    return "\n".join(line for name, profile in profiles.items() for line in _lines(name, profile))


def _lines(name: str, profile: cProfile.Profile) -> Iterator[str]:
    out = io.StringIO()
    stats = pstats.Stats(profile, stream=out)
    stats.strip_dirs().sort_stats("tottime").print_stats(25)
    yield f"---- thread of {name}"
    yield from (line for line in out.getvalue().splitlines() if line.strip())
