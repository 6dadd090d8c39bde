"""The command line: quick to answer, clear about errors, and an exit code for each kind of end."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamdrift import __version__, assembly, cli, demo, logs
from streamdrift.baselines import Baseline
from streamdrift.errors import BrokerUnreachable
from streamdrift.settings import Settings

SMALLEST = """\
kafka: {bootstrap_servers: "localhost:9092"}
sources: [{topic: predictions, kind: predictions}]
"""
HEAVY = ("river", "scipy", "numpy", "confluent_kafka", "pydantic")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "streamdrift.yaml"
    path.write_text(SMALLEST, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def log_set_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Leaves the logging of the tests alone, and remembers what it should have been."""
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(logs, "set_up", lambda level, form: calls.append((level, form)))
    return calls


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Run a command as the program does; its exit code."""
    monkeypatch.setattr(sys, "argv", ["streamdrift", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    return ending.value.code


def serving(monkeypatch: pytest.MonkeyPatch, result: int | BaseException = 0) -> list[Settings]:
    """Put a service in place that ends at once; the settings that it was given."""
    given: list[Settings] = []

    def serve(settings: Settings) -> int:
        given.append(settings)
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(assembly, "serve", serve)
    return given


# ---- start-up


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['streamdrift', '--help']\n"
        "from streamdrift.cli import main\n"
        "try: main()\n"
        f"except SystemExit: sys.exit(','.join(sorted(set(sys.modules) & set({HEAVY}))) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "baseline" in finished.stdout


def cpu_seconds(arguments: Sequence[str]) -> float:
    """User and system time of a program from its start to its end."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_help_costs_at_most_fifteen_times_an_empty_program() -> None:
    empty, asked = [sys.executable, "-c", "pass"], [sys.executable, "-m", "streamdrift", "--help"]
    cpu_seconds(asked)  # writes the bytecode
    pairs = [(cpu_seconds(asked), cpu_seconds(empty)) for _ in range(9)]
    ratio = statistics.median(a for a, _ in pairs) / statistics.median(e for _, e in pairs)
    assert ratio <= 15, f"{ratio:.1f} times"


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("run",),
        ("check",),
        ("demo",),
        ("version",),
        ("baseline",),
        ("baseline", "build"),
        ("baseline", "show"),
        ("baseline", "promote"),
    ],
)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert ended(monkeypatch, *command, "--help") == 0
    assert "Usage: streamdrift" in capsys.readouterr().out


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "version") == 0
    assert capsys.readouterr().out == f"streamdrift {__version__}\n"


# ---- check


def test_check_ends_with_0_for_a_good_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    assert ended(monkeypatch, "check", config) == 0
    assert capsys.readouterr().out == "the configuration is good\n"


def test_check_ends_with_2_for_a_broken_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    assert ended(monkeypatch, "check", config, "--set", "time.tick=10", "--set", "http.prot=1") == 2
    tick, *others = capsys.readouterr().out.splitlines()
    assert tick.startswith('error time.tick: got "10"; the unit is missing; expected a number with a unit')
    assert tick.endswith("for example 10s, 5m or 7d (--set time.tick)")
    assert others == [
        "error http.prot: unknown key; did you mean port? (--set http.prot)",
        "2 errors, 0 warnings",
    ]


def test_check_prints_json_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    assert ended(monkeypatch, "check", config, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "errors": [], "warnings": [], "notes": []}


def test_a_flag_without_a_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    assert ended(monkeypatch, "check", config, "--set", "time.tick") == 2
    assert "expected KEY=VALUE, for example time.tick=1m" in capsys.readouterr().err


# ---- run


def test_run_serves_the_settings_and_ends_as_the_service_does(
    monkeypatch: pytest.MonkeyPatch, config: Path, log_set_up: list[tuple[str, str]]
) -> None:
    given = serving(monkeypatch, 0)
    assert ended(monkeypatch, "run", "--config", config, "--set", "log.level=debug") == 0
    assert [settings.log.level for settings in given] == ["debug"]
    assert log_set_up == [("debug", "auto")]


def test_run_refuses_what_check_refuses_in_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    given = serving(monkeypatch)
    config.write_text(SMALLEST + 'models: {m: {baselines: {"1": none.json}}}\n', encoding="utf-8")
    assert ended(monkeypatch, "run", "-c", config) == 2
    assert capsys.readouterr().err == (
        f"streamdrift: models.m.baselines.1: {config.parent}/none.json: cannot be read: No such file or directory\n"
    )
    assert not given


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            BrokerUnreachable("no broker answered at localhost:9092"),
            3,
            "streamdrift: no broker answered at localhost:9092",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_on_purpose_end_with_their_code_and_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: Path,
    error: BaseException,
    code: int,
    line: str,
) -> None:
    serving(monkeypatch, error)
    assert ended(monkeypatch, "run", "-c", config) == code
    assert capsys.readouterr().err.strip() == line


def test_debug_shows_where_an_error_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    serving(monkeypatch, BrokerUnreachable("away"))
    assert ended(monkeypatch, "--debug", "run", "-c", config) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_ends_with_70_and_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    serving(monkeypatch, ZeroDivisionError("a bug"))
    assert ended(monkeypatch, "run", "-c", config) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert "ZeroDivisionError: a bug" in shown


def test_wrong_usage_ends_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "run") == 2
    assert ended(monkeypatch, "walk") == 2
    assert "--config" in capsys.readouterr().err


# ---- demo and baseline


def test_demo_is_given_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def run(**options: object) -> int:
        given.append(options)
        return 1

    monkeypatch.setattr(demo, "run", run)
    assert ended(monkeypatch, "demo", "--for", "2m", "--json", "--seed", "7", "--no-incidents") == 1
    defaults = {"seconds": 90.0, "as_json": False, "seed": 1, "incidents": True, "to": None, "write_config": None}
    assert given == [defaults | {"seconds": 120.0, "as_json": True, "seed": 7, "incidents": False}]
    assert ended(monkeypatch, "demo") == 1
    assert given[1] == defaults


def test_demo_refuses_a_time_without_a_unit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, "demo", "--for", "90") == 2
    assert "--for: the unit is missing" in capsys.readouterr().err


def test_an_interrupted_demo_has_ended_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert ended(monkeypatch, "demo") == 0


def test_a_baseline_is_built_that_check_accepts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    table, output = config.parent / "train.csv", config.parent / "fraud-7.json"
    rows = [f"{i * 7919 % 101},{'DE' if i % 3 else 'FR'}" for i in range(500)]
    table.write_text("\n".join(["amount,country", *rows]), encoding="utf-8")
    command = ("baseline", "build", table, "--model", "fraud", "--version", "7", "-o", output, "--exclude", "country")
    assert ended(monkeypatch, *command) == 0
    grid = Baseline.read(output).grid
    assert (grid.model_id, grid.model_version, grid.names) == ("fraud", "7", ("amount",))
    config.write_text(SMALLEST + 'models: {fraud: {baselines: {"7": fraud-7.json}}}\n', encoding="utf-8")
    capsys.readouterr()
    assert ended(monkeypatch, "check", config) == 0
    assert ended(monkeypatch, *command) == 2
    assert "--force overwrites it" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--from", "topic:x"), ("table.csv", "--from", "topic:x", "-c", "x.yaml")])
def test_a_baseline_is_built_either_from_a_table_or_from_a_topic(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> None:
    assert ended(monkeypatch, "baseline", "build", *arguments, "--model", "m", "--version", "1") == 2
    assert "either TABLE, or --from with --config" in capsys.readouterr().err
