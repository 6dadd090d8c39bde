"""The deployment files are held by the programs that will read them.

Every gate below is shown a file that it must refuse, beside the one that is shipped: a gate that lets everything
through would look the same otherwise.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from streamdrift.prometheus_metrics import METRICS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
REFUSED = Path(__file__).parent / "refused"

FIRST_UNPRIVILEGED_UID = 10_000
"""Below, a number may mean a user of the node."""

RATE_INTERVAL = re.compile(r"\b(?:rate|increase|irate)\([^\[]*\[(?!\$__rate_interval\])")
METRIC = re.compile(r"[\w:]*streamdrift_[\w:]+")
RULES = DEPLOY / "prometheus/rules.yml"


# ---- the gates: a file goes in, complaints come out ----------------------------------------------------------------


def complaints_of(
    *command: str | Path,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What the program says against the file, empty when it accepts it."""
    variables = os.environ | (environment or {})
    done = subprocess.run(command, input=text, env=variables, capture_output=True, text=True, check=False, cwd=ROOT)
    return (done.stdout + done.stderr or f"exit code {done.returncode}") if done.returncode else ""


def installed(name: str) -> Path:
    """A program that the locked dependencies bring along."""
    return Path(sys.executable).parent / name


def from_system(name: str, package: str) -> str:
    """A program that only a system package brings: without it the test is skipped, but never where CI=true."""
    found = shutil.which(name)
    if found is None:
        message = f"{name} is missing: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def promtool(*arguments: str | Path) -> str:
    return complaints_of(from_system("promtool", "prometheus"), *arguments)


def rendered(base: Path) -> str:
    kubectl = from_system("kubectl", "kubernetes-client")
    return subprocess.run([kubectl, "kustomize", base], capture_output=True, text=True, check=True).stdout


def compose(file: Path) -> str:
    return complaints_of(installed("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file)


def dockerfile(file: Path) -> str:
    return complaints_of(installed("hadolint"), "--no-color", file)


def kubernetes_schema(base: Path) -> str:
    return complaints_of(installed("kubernetes-validate"), "--strict", "-", text=rendered(base))


def kubernetes_rights(base: Path) -> str:
    pods = [document for document in yaml.safe_load_all(rendered(base)) if document["kind"] == "StatefulSet"]
    return "\n".join(fault for pod in pods for fault in excessive_rights(pod["spec"]["template"]["spec"]))


def excessive_rights(pod: dict[str, Any]) -> Iterator[str]:
    """What a container may do beyond what it needs, in a pod's specification."""
    context = pod.get("securityContext", {})
    if pod.get("automountServiceAccountToken") is not False:
        yield "holds a service account's token"
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < FIRST_UNPRIVILEGED_UID:
        yield "may run as root, or as a user of the node"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "may make any system call"
    for container in pod["containers"]:
        context = container.get("securityContext", {})
        if not context.get("readOnlyRootFilesystem"):
            yield "may write to its root file system"
        if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
            yield "holds or may gain privileges"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield "may take all memory of the node"


def prometheus_config(file: Path) -> str:
    return promtool("check", "config", file)


def prometheus_rules(file: Path) -> str:
    return promtool("check", "rules", file)


def prometheus_rule_tests(file: Path) -> str:
    return promtool("test", "rules", file)


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def expressions(file: Path) -> list[str]:
    return [rule["expr"] for rule in rules(file)]


def rules_of_models_only(file: Path) -> str:
    of_features = {metric.name for metric in METRICS if "feature" in metric.labels}
    return "\n".join(sorted(of_features.intersection(METRIC.findall(" ".join(expressions(file))))))


def queries(file: Path) -> list[str]:
    return [target["expr"] for panel in json.loads(file.read_text())["panels"] for target in panel["targets"]]


def metrics_exist(file: Path) -> str:
    """A query of what streamdrift does not export and no rule records would be empty for ever."""
    recorded = {rule["record"] for rule in rules(RULES) if "record" in rule}
    wanted = METRIC.findall(" ".join(expressions(file) if file.suffix == ".yml" else queries(file)))
    return "\n".join(sorted(set(wanted) - recorded - {metric.name for metric in METRICS}))


def dashboard(file: Path) -> str:
    return "\n".join(dashboard_faults(json.loads(file.read_text())))


def dashboard_faults(board: dict[str, Any]) -> Iterator[str]:
    """What would leave the reader of a dashboard with a question."""
    panels = board["panels"]
    for panel in panels:
        defaults = panel["fieldConfig"]["defaults"]
        lacking = [key for key in ("unit", "noValue") if key not in defaults]
        lacking += [key for key in ("title", "description") if not panel.get(key)]
        if lacking:
            yield f"panel {panel['id']} lacks {', '.join(lacking)}"
        if any(part["datasource"]["uid"] != "${datasource}" for part in (panel, *panel["targets"])):
            yield f"panel {panel['id']} reads a fixed data source"
        for target in panel["targets"]:
            if RATE_INTERVAL.search(target["expr"]):
                yield f"panel {panel['id']} has a fixed rate interval"
    for variable in board["templating"]["list"]:
        if f"${variable['name']}" not in json.dumps(board).replace("${", "$"):
            yield f"variable {variable['name']} is not used"


def dashboard_queries(file: Path) -> str:
    """Whether Prometheus can parse the queries, asked of promtool by way of a file of rules."""
    as_rules = [
        {"record": f"panel:query{number}:parsed", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries(file))
    ]
    return complaints_of(
        from_system("promtool", "prometheus"),
        "check",
        "rules",
        "/dev/stdin",
        text=yaml.safe_dump({"groups": [{"name": file.stem, "rules": as_rules}]}),
    )


class Gate(NamedTuple):
    check: Callable[[Path], str]
    shipped: Path
    refused: Path
    because: str
    """What its complaint about the refused file must name."""


FLEET = DEPLOY / "grafana/dashboards/fleet.json"
GATES = [
    Gate(compose, ROOT / "docker-compose.yml", REFUSED / "docker-compose.yml", "prots"),
    Gate(compose, DEPLOY / "docker/demo.yml", REFUSED / "docker-compose.yml", "prots"),
    Gate(dockerfile, DEPLOY / "docker/Dockerfile", REFUSED / "Dockerfile", "DL3007"),
    Gate(kubernetes_schema, DEPLOY / "kubernetes/base", REFUSED / "kubernetes", "replica"),
    Gate(kubernetes_rights, DEPLOY / "kubernetes/base", REFUSED / "kubernetes", "may run as root"),
    Gate(prometheus_config, DEPLOY / "prometheus/prometheus.yml", REFUSED / "prometheus.yml", "static_config"),
    Gate(prometheus_rules, RULES, REFUSED / "rules.yml", "unclosed"),
    Gate(
        prometheus_rule_tests, Path(__file__).parent / "rules.test.yml", REFUSED / "rules.test.yml", "StreamdriftDown"
    ),
    Gate(rules_of_models_only, RULES, REFUSED / "rules-of-features.yml", "drift_effect"),
    Gate(metrics_exist, RULES, REFUSED / "rules-of-features.yml", "streamdrift_draft_effect"),
    Gate(metrics_exist, FLEET, REFUSED / "dashboard.json", "streamdrift_records_read_total"),
    Gate(dashboard, FLEET, REFUSED / "dashboard.json", "lacks unit, noValue, description"),
    Gate(dashboard, FLEET, REFUSED / "dashboard.json", "reads a fixed data source"),
    Gate(dashboard, FLEET, REFUSED / "dashboard.json", "fixed rate interval"),
    Gate(dashboard, FLEET, REFUSED / "dashboard.json", "variable model is not used"),
    Gate(dashboard_queries, FLEET, REFUSED / "dashboard.json", "unclosed"),
]
each_gate = pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.check.__name__}: {gate.because}")


@each_gate
def test_what_is_shipped_passes(gate: Gate) -> None:
    assert not gate.check(gate.shipped)


@each_gate
def test_what_is_wrong_is_refused(gate: Gate) -> None:
    assert gate.because in gate.check(gate.refused)


# ---- what no program checks: that the files agree with each other --------------------------------------------------


COMPOSE_FILES = (ROOT / "docker-compose.yml", DEPLOY / "docker/demo.yml")


def compose_services(file: Path = COMPOSE_FILES[0]) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    return services


def all_compose_services() -> list[dict[str, Any]]:
    return [service for file in COMPOSE_FILES for service in compose_services(file).values()]


def test_every_shipped_manifest_and_dashboard_is_one_that_a_gate_saw() -> None:
    base = DEPLOY / "kubernetes/base"
    assert set(yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]) == {
        file.name for file in base.glob("*.yaml") if file.name not in {"kustomization.yaml", "streamdrift.yaml"}
    }
    assert {gate.shipped for gate in GATES} >= set((DEPLOY / "grafana/dashboards").iterdir())


def test_streamdrift_accepts_the_configuration_and_the_environment_that_kubernetes_gives_it() -> None:
    base = DEPLOY / "kubernetes/base"
    generated = yaml.safe_load((base / "kustomization.yaml").read_text())["configMapGenerator"]
    variables = dict(literal.split("=", 1) for source in generated for literal in source.get("literals", []))
    check = (installed("streamdrift"), "check", base / "streamdrift.yaml")
    assert not complaints_of(*check, environment=variables)
    # The variables are what makes it complete: had they been misspelt, it would have been refused.
    assert "bootstrap_servers" in complaints_of(*check)


def test_streamdrift_accepts_the_configuration_and_the_environment_that_compose_gives_it() -> None:
    service = compose_services()["streamdrift"]
    check = (installed("streamdrift"), "check", ROOT / "config/streamdrift.yaml")
    assert "./config:/etc/streamdrift:ro" in service["volumes"]
    assert not complaints_of(*check, environment=service["environment"])


def test_streamdrift_knows_every_command_and_option_that_compose_and_kubernetes_call_it_with() -> None:
    stateful_set = yaml.safe_load((DEPLOY / "kubernetes/base/stateful-set.yaml").read_text())
    calls = [container["args"] for container in stateful_set["spec"]["template"]["spec"]["containers"]]
    calls += [s["command"] for s in all_compose_services() if "command" in s and "entrypoint" not in s]
    assert calls
    for command, *arguments in calls:
        explained = subprocess.run([installed("streamdrift"), command, "--help"], capture_output=True, check=False)
        options = {argument for argument in arguments if argument.startswith("--")}
        assert options <= set(re.findall(r"--[a-z-]+", explained.stdout.decode())), command


def test_what_the_image_copies_exists_and_is_let_through_by_dockerignore() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "docker/Dockerfile").read_text(), flags=re.MULTILINE)
    sources = [source for copy in copies for source in copy.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == path or source.startswith(f"{path}/") for path in let_through), source


def test_every_file_that_compose_mounts_exists() -> None:
    mounts = [mount.split(":")[0] for service in all_compose_services() for mount in service.get("volumes", [])]
    here = [mount for mount in mounts if mount.startswith("./")]
    assert here
    assert [mount for mount in here if not (ROOT / mount).exists()] == []


def test_compose_publishes_ports_to_this_machine_only() -> None:
    ports = [port for service in all_compose_services() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
