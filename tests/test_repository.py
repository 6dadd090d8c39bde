"""What a fresh clone promises: one command sets everything up, the same way tomorrow as today."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import streamdrift

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


PART_OF = {"pydantic-core": "pydantic"}
"""Distributions that another one pins exactly and documents as its own interface."""


# ---- dependencies and their locks ----------------------------------------------------------------------------------


class Pin(NamedTuple):
    requirement: Requirement
    hashes: int

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")


def pins(lock: Path) -> dict[str, list[Pin]]:
    """The pins of a lock by name: several where versions differ between Pythons."""
    found: dict[str, list[Pin]] = {}
    entries = re.split(r"\n(?=\w)", re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE))
    for entry in entries:
        requirement = Requirement(entry.split("\\")[0])
        pin = Pin(requirement, entry.count("--hash=sha256:"))
        found.setdefault(canonicalize_name(requirement.name), []).append(pin)
    return found


def group(name: str) -> Iterator[str]:
    """The requirements of a dependency group, with those of the groups that it includes."""
    for entry in PYPROJECT["dependency-groups"][name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from group(entry["include-group"])


def declared(*requirements: Iterable[str]) -> list[Requirement]:
    return [Requirement(text) for texts in requirements for text in texts]


RUNTIME = declared(PROJECT["dependencies"])
SHIPPED = declared(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
EVERYTHING = SHIPPED + declared(group("dev"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_with_hashes_and_names_no_place_to_download_from(lock: Path) -> None:
    assert not re.search(r"://|--index|--extra-index|--find-links|--trusted-host|@ ", lock.read_text())
    every_pin = [pin for found in pins(lock).values() for pin in found]
    assert every_pin
    for pin in every_pin:
        assert re.fullmatch(r"==[^,*]+", str(pin.requirement.specifier)), pin
        assert pin.hashes, pin


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [("runtime.lock", RUNTIME), ("build.lock", declared(group("build"))), ("dev.lock", EVERYTHING)],
)
def test_a_lock_holds_every_declared_dependency_at_a_version_that_is_allowed(
    lock: str,
    requirements: list[Requirement],
) -> None:
    locked = pins(ROOT / "requirements" / lock)
    for requirement in requirements:
        for pin in locked[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(pin.version), pin


@pytest.mark.parametrize("lock", ["runtime.lock", "build.lock"])
def test_the_tests_run_on_the_versions_that_users_get(lock: str) -> None:
    tested = pins(ROOT / "requirements/dev.lock")
    for name, used in pins(ROOT / "requirements" / lock).items():
        assert {pin.version for pin in tested[name]} == {pin.version for pin in used}


@pytest.mark.parametrize(("folder", "allowed"), [("streamdrift", SHIPPED), ("tests", EVERYTHING)])
def test_every_import_is_declared(folder: str, allowed: list[Requirement]) -> None:
    names = {canonicalize_name(requirement.name) for requirement in allowed}
    distributions = importlib.metadata.packages_distributions()
    own = {"streamdrift", "tests", *sys.stdlib_module_names}
    for file in sorted((ROOT / folder).rglob("*.py")):
        for module in imported_by(file) - own:
            providers = {canonicalize_name(name) for name in distributions.get(module, [])}
            assert {PART_OF.get(name, name) for name in providers} & names, (
                f"{file.relative_to(ROOT)} imports {module}, which pyproject.toml does not declare"
            )


def imported_by(file: Path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


# ---- the package ---------------------------------------------------------------------------------------------------


def test_the_version_is_the_same_wherever_it_is_said() -> None:
    kustomization = yaml.safe_load((ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text())
    assert importlib.metadata.version("streamdrift") == streamdrift.__version__
    assert [image["newTag"] for image in kustomization["images"]] == [streamdrift.__version__]


def test_the_wheel_holds_every_file_of_the_package_and_the_schemas(tmp_path: Path) -> None:
    subprocess.run(
        [Path(sys.executable).parent / "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    ours = [path for path in (ROOT / "streamdrift").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    schemas = {f"streamdrift/config/schemas/{file.name}" for file in (ROOT / "config/schemas").iterdir()}
    assert schemas
    assert {path.relative_to(ROOT).as_posix() for path in ours} | schemas <= set(zipfile.ZipFile(wheel).namelist())


# ---- make ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with what the Makefile's recipes call, on a Linux machine, by a person who is not root."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("awk", "sed", "head", "rm"):
        (folder / name).symlink_to(str(shutil.which(name)))
    script(folder / "uname", "echo Linux")
    script(folder / "id", "echo 1000")
    return folder


def script(file: Path, *lines: str) -> None:
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(0o755)


def make(*arguments: str, path: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run make with nothing on PATH but ``path``, and without what a surrounding make left in the environment."""
    return subprocess.run(
        [str(shutil.which("make")), *arguments],
        cwd=ROOT,
        env={"PATH": str(path), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_alone_explains_every_target(tools: Path) -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    shown = re.findall(r"^  make ([a-z-]+) +\S", make(path=tools).stdout, flags=re.MULTILINE)
    assert shown == targets[0].split()


THIS_PYTHON = "python{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("pretence", "packages"),
    [
        (None, "python3 python3-venv"),
        ("sys.version_info = (3, 10, 12, 'final', 0)", "python3.11 python3.11-venv"),
        ("sys.modules['ensurepip'] = None", f"{THIS_PYTHON}-venv"),
    ],
    ids=["no Python", "an old Python", "a Python without venv"],
)
def test_make_says_in_one_line_how_to_get(tools: Path, tmp_path: Path, pretence: str | None, packages: str) -> None:
    if pretence:
        script(tools / "python3", f'exec {sys.executable} -c "import sys; {pretence}; $2"')
    done = make("setup", f"VENV={tmp_path}/venv", path=tools)
    assert done.returncode
    assert f"\n  sudo apt-get install -y {packages}\n" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A virtual environment that is up to date in make's eyes."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    script(venv / "bin/python", f'exec {sys.executable} "$@"')
    (venv / ".dev").touch()
    return venv


@pytest.mark.parametrize(("ci", "succeeds"), [("false", True), ("true", False)])
def test_tests_on_apache_kafka_are_skipped_with_a_reason_but_never_where_ci_is_true(
    tools: Path,
    ready: Path,
    ci: str,
    *,
    succeeds: bool,
) -> None:
    done = make("test", f"VENV={ready}", "ARGS=--version", path=tools, environment={"CI": ci})
    assert "Apache Kafka needs Java 17 or newer and Maven: the tests that run on it are skipped." in done.stderr
    assert (done.returncode == 0) is succeeds
    assert (f"pytest {pytest.__version__}" in done.stdout) is succeeds


def test_ci_is_run_by_a_file_that_can_be_executed() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
