"""The direction of imports: the domain knows nothing of Kafka, HTTP, Prometheus, settings, logs or the clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamdrift"

DOMAIN = (
    "admission",
    "baselines",
    "benchmarks",
    "changes",
    "cloud_events",
    "codecs",
    "comparison",
    "derived",
    "detectors",
    "entries",
    "errors",
    "events",
    "evidence",
    "explanation",
    "facts",
    "fold",
    "fold_state",
    "gridbook",
    "grids",
    "incident_history",
    "incidents",
    "joining",
    "layout",
    "learning",
    "merging",
    "metrics",
    "monitor",
    "muting",
    "outcome_columns",
    "outcome_drift",
    "outcome_entries",
    "outcome_evidence",
    "outcome_fold",
    "outcome_grids",
    "outcome_learning",
    "outcome_rows",
    "outcome_status",
    "outcome_waiting",
    "outcome_watch",
    "packing",
    "partition",
    "performance",
    "plans",
    "policies",
    "privacy",
    "provenance",
    "published",
    "records",
    "reshaping",
    "requests_topic",
    "retraining",
    "retraining_desk",
    "rows",
    "schedules",
    "sensitivity",
    "stages",
    "status",
    "streams",
    "summaries",
    "tick_fold",
    "ticks",
    "topology",
    "watch",
    "windows",
)
"""Modules and packages whose results depend on their arguments alone."""

FOREIGN_TO_DOMAIN = {
    *("streamdrift.kafka", "streamdrift.http", "streamdrift.telemetry", "streamdrift.settings", "streamdrift.layers"),
    *("streamdrift.assembly", "streamdrift.cli", "streamdrift.logs", "streamdrift.demo", "streamdrift.generator"),
    *("confluent_kafka", "prometheus_client", "pydantic", "pydantic_settings", "structlog", "logging", "yaml"),
    *("os", "time", "socket", "threading", "subprocess"),
}

ONLY_IN = {
    "confluent_kafka": ("kafka/",),
    "cronsim": ("schedules.py",),
    "prometheus_client": ("telemetry.py", "http/"),
    "river": ("detectors/river.py",),
    "pydantic": (
        "settings.py",
        "source_settings.py",
        "model_settings.py",
        "performance_settings.py",
        "sensitivity_settings.py",
        "values.py",
        "layers.py",
        "problems.py",
        "schemas.py",
    ),
    "yaml": ("layers.py",),
    "pyarrow": ("readers.py",),
    "rocksdict": ("joining/store.py",),
    "typer": ("cli.py",),
}
"""Libraries, and the only places that may import them."""


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the statement stands; ``from a import b`` counts as a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_or_below(module: str, parent: str) -> bool:
    return module == parent or module.startswith(parent + ".")


def domain_files() -> list[Path]:
    found = [path for path in files() if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in DOMAIN]
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in found} == set(DOMAIN)
    return found


@pytest.mark.parametrize("path", domain_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_domain_imports_nothing_of_the_outside(path: Path) -> None:
    foreign = {module for module in imports(path) for parent in FOREIGN_TO_DOMAIN if is_or_below(module, parent)}
    assert foreign == set()


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {
        str(path.relative_to(PACKAGE)) for path in files() if any(is_or_below(name, library) for name in imports(path))
    }
    assert users, f"nothing imports {library}: take it out of this table"
    assert {user for user in users if not user.startswith(ONLY_IN[library])} == set()


def test_the_rules_see_an_import_that_breaks_them(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from streamdrift.kafka import loop\n    import time\n", encoding="utf-8")
    assert {"streamdrift.kafka", "time"} <= set(imports(bad))
