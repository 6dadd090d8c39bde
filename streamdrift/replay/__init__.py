"""``streamdrift replay``: what a configuration would have told of a history, before it is switched on.

::

    file of events ─┐   look     ┌────────────────┐   alerts as they come
    table of rows  ─┼──────────► │ TopologyDriver │ ────────────────────────► summary, timeline
    topic:NAME     ─┘   plan     └───────┬────────┘
                                         └ the same events, to River's detectors

All stages run in memory, on event time alone. The alerts are those of a service on the same messages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from streamdrift import logs
from streamdrift.assembly import settle
from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.joining.store import RocksStores
from streamdrift.readers import open_table
from streamdrift.replay.files import Reading, open_file, stem
from streamdrift.replay.lines import EventFile
from streamdrift.replay.messages import History
from streamdrift.replay.plan import Plan, only_model, with_baseline, with_configuration, without_configuration
from streamdrift.replay.roles import Roles
from streamdrift.replay.rows import RowHistory
from streamdrift.replay.run import Replay, Told
from streamdrift.replay.timeline import timeline
from streamdrift.replay.topics import PREFIX, open_topic
from streamdrift.replay.view import Bars, Lines, Sheet, Teller
from streamdrift.settings import Settings
from streamdrift.tables import Fields, build

MANY_LATE: Final = 0.01
"""Share of late events that is worth a hint."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    input: str
    config: Path | None = None
    flags: Mapping[str, object] | None = None
    baseline: str | None = None
    """A baseline's file, a table to be counted, or how many events to learn from."""
    source: str | None = None
    reading: Reading = field(default_factory=Reading)
    river: bool = True
    timeline: Path | None = None
    as_json: bool = False


def replay(options: Options) -> int:
    """Replay a history and tell what came of it. Returns the exit code 0. Raises ``StreamdriftError``."""
    logs.set_up("error")
    output = options.timeline or Path(f"{_name(options.input)}.timeline.html")
    if not output.parent.is_dir():
        raise ConfigurationError(f"{output}: there is no directory {output.parent}")
    teller: Teller = Lines() if options.as_json else Sheet()
    try:
        with ExitStack() as stack:
            bars = stack.enter_context(Bars())
            history, plan = _prepare(options, bars, stack)
            settle()
            stores = _stores(plan, stack) if history.survey.labels else None
            run = Replay(history, plan, with_river=options.river, stores=stores)
            told = _run(run, history, teller, bars)
        _write(output, timeline(options.input, told))
        _advise(told, bars)
        incidents = list(told.chronicle.incidents.values())
        teller.summary({**told.summary(), "timeline": str(output)}, incidents)
    except BrokenPipeError:  # whoever read the lines has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _name(input_: str) -> str:
    return input_.removeprefix(PREFIX).split("@")[0] if input_.startswith(PREFIX) else stem(Path(input_))


def _stores(plan: Plan, stack: ExitStack) -> RocksStores:
    """Where predictions wait for their labels: on disk, as they do live, so that memory is bounded."""
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="streamdrift-replay-")))
    return RocksStores(directory, plan.settings.join.memory_bytes, time.time)


def _run(run: Replay, history: History, teller: Teller, bars: Bars) -> Told:
    with bars.phase("replaying", history.survey.messages or None) as progress:
        for done in run.steps(teller.alert, teller.retraining):
            progress(done)
    return run.told


# ---- what is replayed, and with what ---------------------------------------------------------------------------------


def _prepare(options: Options, bars: Bars, stack: ExitStack) -> tuple[History, Plan]:
    warm_up = int(options.baseline) if options.baseline and options.baseline.isdecimal() else None
    if options.input.startswith(PREFIX):
        if options.config is None:
            raise ConfigurationError(f"{options.input}: a topic is read as --config says; expected one")
        if options.reading.labels is not None:
            raise ConfigurationError(f"{options.input}: the configuration names the topic of labels, not --labels")
        history, plan = open_topic(Settings.load(options.config, options.flags), options.input, warm_up)
    else:
        history = _open(options, bars)
        plan = _plan(options, history, warm_up)
    with_file = options.baseline is not None and warm_up is None
    _introduce(history, replace(plan, warm_up=None) if with_file else plan, options.reading.labels, bars)
    if with_file:
        plan = _with_baseline(options, history, plan, bars, stack)
    return history, plan


def _open(options: Options, bars: Bars) -> History:
    """The file, read as its mapping says where the configuration has one."""
    reading = options.reading
    if options.config is not None:
        settings = Settings.load(options.config, options.flags)
        mapped = any(source.mapping.model_fields_set for source in settings.sources)
        reading = replace(reading, mapped=mapped and not reading.roles.parts)
    elif reading.model is None and options.baseline and options.baseline.endswith(".json"):
        grid = Baseline.read(Path(options.baseline)).grid  # a table that names no model is of the baseline's
        reading = replace(reading, model=grid.model_id, version=reading.version or grid.model_version)
    with bars.phase("reading") as progress:
        return open_file(Path(options.input), reading, progress)


def _plan(options: Options, history: History, warm_up: int | None) -> Plan:
    of_rows = isinstance(history, RowHistory)
    if options.config is not None:
        return with_configuration(
            options.config,
            history.survey,
            options.flags or {},
            source=options.source,
            warm_up=warm_up,
            as_contract=of_rows,
        )
    unnamed = isinstance(history, EventFile) and not history.survey.models and history.survey.unnamed
    model = options.reading.model or stem(Path(options.input)) if unnamed else None
    return without_configuration(
        history.survey, options.flags or {}, warm_up=warm_up, in_microseconds=of_rows, model=model
    )


def _introduce(history: History, plan: Plan, labels: Path | None, bars: Bars) -> None:
    """Say what was made of the input, where it was not asked for."""
    survey = history.survey
    if isinstance(history, RowHistory):
        roles = str(history.roles)
        bars.note(f"{history.name}: {survey.events:,} rows; {roles or 'all columns are features'}")
        if history.roles.timestamp is None:
            bars.note("no column holds times: rows are taken to come one after the other (--timestamp, --rate)")
        elif survey.disordered:
            bars.note(f"{survey.disordered:,} rows are earlier than the one before: all are read in order of time")
        if labels is not None:
            bars.note(f"{labels}: {survey.labels:,} of these rows have a label in it")
        if history.roles.target and not history.roles.parts:
            bars.note("no column holds predictions (--score, --label-prediction, --value): errors cannot be watched")
    if plan.warm_up is not None and survey.events:
        bars.note(f"without --baseline, the first {plan.warm_up:,} events of a model are taken as usual (--baseline N)")
    if not survey.messages and not isinstance(history, RowHistory):
        bars.note(f"{history.name}: is empty")


def _with_baseline(options: Options, history: History, plan: Plan, bars: Bars, stack: ExitStack) -> Plan:
    """The plan with the baseline that the user names: a file as it is, or a table that is counted now."""
    path = Path(options.baseline or "")
    if path.suffix.lower() == ".json":
        baseline = Baseline.read(path)
        key = baseline.grid.model_id, baseline.grid.model_version
        if history.survey.models and key not in history.survey.models:
            listed = ", ".join(" ".join(model).strip() for model in history.survey.models)
            raise ConfigurationError(f"{path}: is of model {' '.join(key).strip()}, the events are of {listed}")
    else:
        model_id, version = only_model(history.survey, options.reading.model)
        with bars.phase("counting the baseline") as progress:
            table = open_table(path, options.reading.missing, options.reading.delimiter)
            fields = _fields(history, table.names)
            if gone := sorted(set(fields.exclude) & _only_in(history, table.names)):
                bars.note(f"{path}: the replayed table has no {', '.join(gone)}: not compared")
            built = build(
                table, model_id=model_id, model_version=version, fields=fields, progress=lambda _, n: progress(n)
            )
        for warning in built.warnings:
            bars.note(f"{path}: {warning}")
        baseline = built.baseline
        path = Path(stack.enter_context(TemporaryDirectory(prefix="streamdrift-replay-"))) / "baseline.json"
        path.write_bytes(baseline.to_json())
    return replace(plan, settings=with_baseline(plan.settings, baseline, path))


def _fields(history: History, names: Sequence[str]) -> Fields:
    """What the columns of a baseline's table are: the same as in the table that is replayed."""
    roles = history.roles if isinstance(history, RowHistory) else Roles()
    there = Roles(**{role: column for role, column in roles.items() if column in names})
    others = [there.timestamp, there.prediction_id, there.model_id, there.model_version]
    left_out = {name for name in others if name is not None} | _only_in(history, names)
    return Fields(there.score, there.label, there.value, there.target, exclude=sorted(left_out))


def _only_in(history: History, names: Sequence[str]) -> set[str]:
    """Columns of a baseline's table that the replayed one lacks, as the true label often is."""
    return set(names) - set(history.names) if isinstance(history, RowHistory) else set()


# ---- at the end ------------------------------------------------------------------------------------------------------


def _advise(told: Told, bars: Bars) -> None:
    """What could not be read, and what may be done about it."""
    for example in told.refusals.examples:
        bars.note(example)
    refused = told.refusals.counts.total()
    if refused > len(told.refusals.examples):
        bars.note(f"… {refused:,} refused in all")
    if sum(told.late.values()) > MANY_LATE * max(told.events, 1):
        bars.note("many events came late: lines are read in the order in which they stand (time.allowed_lateness)")
    learning = [key for key, volume in told.chronicle.volumes.items() if volume.grid is None]
    for model_id, version in learning:
        bars.note(
            f"model {model_id} {version}".strip() + ": too few events to learn what is usual; nothing was watched"
        )


def _write(path: Path, document: str) -> None:
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
