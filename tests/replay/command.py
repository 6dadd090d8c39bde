"""``streamdrift replay`` as a user runs it, and what it says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from streamdrift import logs, replay
from streamdrift.cli import app


@dataclass(frozen=True)
class Said:
    """What a run of the command said."""

    code: int
    out: str
    err: str
    error: BaseException | None

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return self.documents[:-1]

    @property
    def summary(self) -> dict[str, Any]:
        return self.documents[-1]


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: object) -> Said:
    """Run the command in a directory, without what it does to its process."""
    monkeypatch.chdir(directory)
    monkeypatch.setattr(logs, "set_up", lambda *_: None)
    monkeypatch.setattr(replay, "settle", lambda: None)
    result = CliRunner().invoke(app, ["replay", *map(str, arguments)], obj=SimpleNamespace())
    error = None if isinstance(result.exception, SystemExit) else result.exception
    return Said(result.exit_code, result.stdout, result.stderr, error)


def replayed(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: object) -> Said:
    """Likewise with ``--json``, and without River; it must end well."""
    said = run(monkeypatch, directory, "--json", "--no-river", *arguments)
    if said.error is not None:
        raise said.error
    assert said.code == 0, said.err
    return said


def refusal(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: object) -> str:
    """What the command says when it refuses."""
    said = run(monkeypatch, directory, *arguments)
    assert said.code != 0
    return str(said.error or said.err)
