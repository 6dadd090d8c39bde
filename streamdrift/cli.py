"""The command line. Whatever a command needs is imported by the command: ``streamdrift --help`` answers at once.

Errors that streamdrift raises on purpose end with their own exit code and say in a line what is wrong; anything
else is a bug, and ends with 70 and a traceback.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from streamdrift import __version__
from streamdrift.errors import StreamdriftError

_BUG: Final = 70

app = typer.Typer(
    name="streamdrift",
    help="Online drift detection for the models behind Kafka topics.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Plain text, and never the local variables of a traceback: some of them hold passwords.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
baseline_app = typer.Typer(help="Baselines: what a model's training data looked like.", no_args_is_help=True)
app.add_typer(baseline_app, name="baseline")

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key over file and environment: --set time.tick=1m"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(slots=True)
class _Invocation:
    debug: bool = False


def main() -> None:
    """Entry point: run the command and end the process with its exit code."""
    invocation = _Invocation()
    try:
        app(obj=invocation, prog_name="streamdrift")
    except StreamdriftError as error:
        if invocation.debug:
            traceback.print_exc()
        sys.stderr.write(f"streamdrift: {error}\n")
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 — the outermost place: what arrives here is a bug, and is shown as one
        traceback.print_exc()
        sys.exit(_BUG)


@app.callback()
def _options(
    context: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for every error.")] = False,
) -> None:
    context.obj.debug = debug


@app.command()
def run(
    config: Config,
    overrides: Overrides = None,
) -> None:
    """Run all stages: events in, drift alerts out."""
    import structlog

    from streamdrift import logs
    from streamdrift.assembly import serve
    from streamdrift.check import require

    settings, report = require(config, _flags(overrides))
    logs.set_up(settings.log.level, settings.log.format)
    for problem in set(report.warnings) - set(settings.without_effect()):  # which serve logs itself
        structlog.get_logger().warning("setting", message=str(problem))
    raise typer.Exit(serve(settings))


@app.command()
def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration file (YAML).")],
    *,
    overrides: Overrides = None,
    sample: Annotated[
        int,
        typer.Option(min=0, max=1_000, metavar="N", help="Read the newest N messages of each source, and show how."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Say everything that is wrong with a configuration, without starting. Exit code 2 if run would refuse it."""
    from streamdrift.check import check as examine

    report = examine(config, _flags(overrides))
    if not sample or report.settings is None or report.errors:
        typer.echo(report.to_json() if as_json else str(report))
        raise typer.Exit(report.exit_code)
    from streamdrift import sample as sampling

    samples = sampling.sample(report.settings, sample)
    if as_json:
        typer.echo(json.dumps({**json.loads(report.to_json()), "sources": sampling.to_json(samples)}))
    else:
        typer.echo(str(report))
        sampling.show(samples)


@baseline_app.command("build")
def baseline_build(  # noqa: PLR0913 — one parameter an option
    table: Annotated[
        Path | None, typer.Argument(metavar="[TABLE]", help="CSV, TSV (also .gz) or Parquet, a training row a line.")
    ] = None,
    *,
    model: Annotated[str, typer.Option(help="The model_id of its events.")],
    version: Annotated[str, typer.Option(help="The model_version of its events.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.  [MODEL-VERSION.json]")
    ] = None,
    score: Annotated[str | None, typer.Option(help="Column with the predicted probability.")] = None,
    label: Annotated[
        str | None, typer.Option("--label-prediction", "--label", help="Column with the predicted label.")
    ] = None,
    value: Annotated[str | None, typer.Option(help="Column with the predicted value of a regression.")] = None,
    target: Annotated[str | None, typer.Option(help="Column with the true label, for benchmarks.")] = None,
    positive: Annotated[str | None, typer.Option(help="The positive class.  [that of high scores, 1, true]")] = None,
    threshold: Annotated[float, typer.Option(help="Score that predicts it where no label does.", min=0, max=1)] = 0.5,
    include: Annotated[list[str] | None, typer.Option(help="Glob of features to watch.  [all]")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Glob of features not to watch.")] = None,
    numeric: Annotated[list[str] | None, typer.Option(help="Column to count as numbers.")] = None,
    categorical: Annotated[list[str] | None, typer.Option(help="Column to count as categories.")] = None,
    missing: Annotated[list[str] | None, typer.Option(help="A cell that means: no value.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Delimiter of CSV, if not the comma.")] = None,
    origin: Annotated[
        str | None, typer.Option("--from", metavar="topic:NAME", help="Take the events of a source instead of a table.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="With --from: the configuration file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
) -> None:
    """Make a baseline from a model version's training table, or from the events of a topic."""
    file = output or Path(f"{model}-{version}.json".replace("/", "_"))
    if origin is not None and config is not None and table is None:
        from streamdrift.settings import Settings
        from streamdrift.topic_baseline import build_from_topic

        settings = Settings.load(config)
        raise typer.Exit(build_from_topic(settings, origin, (model, version), file, force=force, as_json=as_json))
    if table is None or origin is not None:
        raise typer.BadParameter("expected either TABLE, or --from with --config")
    from streamdrift.baseline_command import build_command

    code = build_command(
        table,
        model=model,
        version=version,
        output=file,
        score=score,
        label_prediction=label,
        value=value,
        target=target,
        include=include or (),
        exclude=exclude or (),
        numeric=numeric or (),
        categorical=categorical or (),
        positive=positive,
        threshold=threshold,
        missing=missing or (),
        delimiter=delimiter,
        force=force,
        as_json=as_json,
    )
    raise typer.Exit(code)


@baseline_app.command("show")
def baseline_show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model_id of its events.")],
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="The model_version.  [all]")] = None,
    *,
    config: Config,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say which grid and baseline are in effect for a model, column by column."""
    from streamdrift.inspection import show
    from streamdrift.settings import Settings

    typer.echo(show(Settings.load(config, _flags(overrides)), model, version, as_json=as_json))


@baseline_app.command("promote")
def baseline_promote(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model_id of its events.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The model_version of its events.")],
    *,
    window: Annotated[bool, typer.Option("--window", help="Take the published window: recent traffic.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write a baseline file; change nothing else.")
    ] = None,
    config: Config,
    overrides: Overrides = None,
) -> None:
    """Make what was learned so far, or recent traffic, the baseline. Its bins stay; open incidents end."""
    from streamdrift.inspection import promote
    from streamdrift.settings import Settings

    typer.echo(promote(Settings.load(config, _flags(overrides)), (model, version), window=window, to=to))


@app.command()
def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model_id of its events.")],
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help="A flattened name, or prediction.score.")],
    *,
    version: Annotated[str | None, typer.Option(help="One model_version.  [all]")] = None,
    traffic: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Explain the configured baseline at '100 per second', without a broker."),
    ] = None,
    config: Config,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say the smallest change of a feature that would be seen within a day, in its own unit."""
    from streamdrift.explain_command import explain as explain_feature
    from streamdrift.quantities import Rate
    from streamdrift.settings import Settings

    try:
        rate = None if traffic is None else Rate.parse(traffic)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--traffic") from None
    settings = Settings.load(config, _flags(overrides))
    typer.echo(explain_feature(settings, model, feature, version, traffic=rate, as_json=as_json))


@app.command()
def demo(
    *,
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long the script takes.")] = "90s",
    as_json: Json = False,
    seed: Annotated[int, typer.Option(help="Another seed, another traffic.", min=0)] = 1,
    incidents: Annotated[bool, typer.Option("--incidents/--no-incidents", help="Whether anything drifts.")] = True,
    to: Annotated[
        str | None, typer.Option(metavar="BOOTSTRAP", help="Send the traffic to this cluster instead of an own broker.")
    ] = None,
    write_config: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the demo's configuration and baseline, and end.")
    ] = None,
) -> None:
    """Watch a fraud model's traffic drift, on an embedded broker. Ctrl-C ends it."""
    from streamdrift.demo import run as run_demo
    from streamdrift.quantities import Duration

    try:
        seconds = Duration.parse(duration).seconds
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    try:
        code = run_demo(
            seconds=seconds, as_json=as_json, seed=seed, incidents=incidents, to=to, write_config=write_config
        )
    except KeyboardInterrupt:
        code = 0  # how a demo is meant to end
    raise typer.Exit(code)


@app.command("replay")
def replay_(  # noqa: PLR0913 — one parameter an option
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE|topic:NAME[@FROM..TO]",
            help="Events (.jsonl), or a table (.csv, .tsv, .parquet); .gz too; or a range of a topic.",
        ),
    ],
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The configuration file.  [defaults]")
    ] = None,
    overrides: Overrides = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|N", help="A baseline, a table to count, or how many first events to learn from.  [learned]"
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Which source of the configuration the file is.  [the only one]")
    ] = None,
    timeline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML file to write.  [INPUT.timeline.html]")
    ] = None,
    river: Annotated[bool, typer.Option("--river/--no-river", help="Whether River's detectors are compared.")] = True,
    model: Annotated[str | None, typer.Option(help="The model of events that name none.  [the file's name]")] = None,
    version: Annotated[str | None, typer.Option(help="Its version.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Column with the time.  [timestamp, time, ts …]")] = None,
    prediction_id: Annotated[str | None, typer.Option(help="Column with the prediction's id.")] = None,
    score: Annotated[str | None, typer.Option(help="Column with the predicted probability.  [score …]")] = None,
    label: Annotated[
        str | None,
        typer.Option("--label-prediction", "--label", help="Column with the predicted label.  [prediction …]"),
    ] = None,
    value: Annotated[str | None, typer.Option(help="Column with the predicted value of a regression.")] = None,
    target: Annotated[str | None, typer.Option(help="Column with the true label.  [target, label …]")] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table with the true labels, by the prediction's id.")
    ] = None,
    rate: Annotated[str, typer.Option(help="How often rows come in a table without times.")] = "1 per second",
    missing: Annotated[list[str] | None, typer.Option(help="A cell that means: no value.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Delimiter of CSV, if not the comma.")] = None,
    as_json: Json = False,
) -> None:
    """Run a history through all stages in memory: what would have been told, and when. Reads only."""
    from streamdrift.replay import Options, replay
    from streamdrift.replay.files import Reading
    from streamdrift.replay.roles import Roles, interval_us

    try:
        interval = interval_us(rate)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from None
    roles = Roles(timestamp, prediction_id, score=score, label=label, value=value, target=target)
    reading = Reading(roles, model, version, interval, missing or (), delimiter, labels)
    flags = _flags(overrides)
    options = Options(input_, config, flags, baseline, source, reading, river, timeline, as_json)
    raise typer.Exit(replay(options))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"streamdrift {__version__}")


def _flags(overrides: Iterable[str] | None) -> dict[str, object]:
    """``--set`` options as values by dotted key."""
    flags: dict[str, object] = {}
    for override in overrides or ():
        key, equals, value = override.partition("=")
        if not (key and equals):
            raise typer.BadParameter("expected KEY=VALUE, for example time.tick=1m", param_hint="--set")
        flags[key] = value
    return flags
