"""The examples that act on retraining requests, held against requests as streamdrift writes them."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from streamdrift.assembly import topic_specs
from streamdrift.kafka.commit import publish
from streamdrift.records import OutputRecord
from streamdrift.settings import Settings
from tests.support.brokers import EmbeddedTestBroker
from tests.test_requests_topic import data, written

HERE = Path(__file__).parents[2] / "deploy/integrations"
TOPIC = "retraining-requests"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HERE / "argo" / name).read_text(encoding="utf-8"))
    return found


def at(path: str, event: object) -> Any:  # noqa: ANN401 — whatever stands there
    """What stands at a dotted path, as both the Sensor's ``dataKey`` and its ``path`` are read."""
    for key in path.split("."):
        event = event[int(key)] if isinstance(event, list) else event[key]  # type: ignore[index]  # what is not there fails
    return event


def put(path: str, where: object, value: str, *, append: bool) -> None:
    *above, last = path.split(".")
    holder = at(".".join(above), where)
    key: Any = int(last) if isinstance(holder, list) else last
    holder[key] = holder[key] + value if append else value


# ---- Argo


def triggered(record: OutputRecord) -> dict[str, Any] | None:
    """The Workflow that the Sensor makes of a record; None if its filter refuses it."""
    assert record.value is not None
    [dependency] = document("sensor.yaml")["spec"]["dependencies"]
    event = {"topic": record.topic, "body": json.loads(record.value)}
    for wanted in dependency["filters"]["data"]:
        if at(wanted["path"], event) not in wanted["value"]:
            return None
    [trigger] = document("sensor.yaml")["spec"]["triggers"]
    trigger = trigger["template"]["k8s"]
    workflow: dict[str, Any] = trigger["source"]["resource"]
    for parameter in trigger["parameters"]:
        assert parameter["src"]["dependencyName"] == dependency["name"]
        value = at(parameter["src"]["dataKey"], event)
        text = value if isinstance(value, str) else json.dumps(value)
        put(parameter["dest"], workflow, text, append=parameter.get("operation") == "append")
    return workflow


def test_the_sensor_makes_a_workflow_of_each_request_and_of_nothing_else() -> None:
    workflows = [triggered(record) for record in written()]
    assert [workflow is not None for workflow in workflows] == [True, False, False, True, False]
    request = data(written()[0])
    assert workflows[0] is not None
    assert workflows[0]["metadata"]["name"] == f"retrain-{request['request_id']}"
    arguments = {p["name"]: p["value"] for p in workflows[0]["spec"]["arguments"]["parameters"]}
    assert json.loads(arguments["request"]) == request
    assert arguments["requires-approval"] == "true"
    assert triggered(written()[0]) == workflows[0], "the same request has the same name, so it starts once"


def test_the_workflow_waits_for_a_person_where_the_request_wants_one() -> None:
    template = document("workflow-template.yaml")
    assert template["metadata"]["name"] == triggered_template()
    steps = {t["name"]: t for t in template["spec"]["templates"]}
    first, second = steps[template["spec"]["entrypoint"]]["steps"]
    assert first[0]["when"] == "{{workflow.parameters.requires-approval}} == true"
    assert steps[first[0]["template"]]["suspend"] == {}
    assert "container" in steps[second[0]["template"]]
    names = {parameter["name"] for parameter in template["spec"]["arguments"]["parameters"]}
    assert names == {"request", "requires-approval"}


def triggered_template() -> str:
    workflow = triggered(written()[0])
    assert workflow is not None
    return str(workflow["spec"]["workflowTemplateRef"]["name"])


def test_the_sensor_listens_to_the_event_source_and_that_to_the_topic() -> None:
    source, sensor = document("eventsource.yaml"), document("sensor.yaml")
    [dependency] = sensor["spec"]["dependencies"]
    assert dependency["eventSourceName"] == source["metadata"]["name"]
    kafka = source["spec"]["kafka"][dependency["eventName"]]
    assert kafka["topic"] == Settings.model_validate({
        "kafka": {"bootstrap_servers": "a:9092"}, "sources": [{"topic": "p", "kind": "predictions"}]
    }).topics.retraining_requests  # fmt: skip
    assert kafka["jsonBody"] is True, "without it the body is base64, and no path leads into it"
    assert kafka["consumerGroup"]["oldest"] is True


# ---- Airflow: what can be known without it


@dataclass
class Message:
    """As confluent-kafka gives it, as far as the triggerer looks."""

    content: bytes | None

    def value(self) -> bytes | None:
        return self.content


def test_the_triggerer_is_told_of_requests_and_of_nothing_else() -> None:
    requested = module(HERE / "airflow/streamdrift_requests.py").requested
    found = [requested(Message(record.value)) for record in written()]
    assert found == [data(record) if i in {0, 3} else None for i, record in enumerate(written())]
    assert requested(Message(None)) is None


def test_the_dags_name_what_is_there() -> None:
    path = HERE / "airflow/retraining.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    keywords = {k.arg: k.value for call in ast.walk(tree) if isinstance(call, ast.Call) for k in call.keywords}
    assert ast.literal_eval(keywords["topics"]) == [TOPIC]
    function = ast.literal_eval(keywords["apply_function"]).split(".")
    assert hasattr(module(HERE / f"airflow/{function[0]}.py"), function[1])
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert ast.literal_eval(keywords["trigger_dag_id"]) in functions
    assert ast.literal_eval(keywords["skip_when_already_exists"]) is True


# ---- the subscriber


def run(broker: EmbeddedTestBroker, done: Path, trained: Path, command: Sequence[str] = ()) -> None:
    train = command or [
        sys.executable,
        "-c",
        f"import sys; open({str(trained)!r}, 'a').write(sys.stdin.read() + '\\n')",
    ]
    subprocess.run(
        [
            *(sys.executable, str(HERE / "subscriber.py"), "--once"),
            *("--bootstrap", broker.cluster.bootstrap_servers, "--done", str(done), "--", *train),
        ],
        check=True,
        timeout=60,
    )


def lines(path: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.fixture
def broker() -> Any:  # noqa: ANN401 — a generator of brokers
    with EmbeddedTestBroker() as found:
        found.create_topic(TOPIC)
        yield found


def test_the_subscriber_trains_for_what_is_open_once_it_is_approved_and_only_once(
    broker: EmbeddedTestBroker, tmp_path: Path
) -> None:
    requested, fulfilled, *_ = written()
    other = OutputRecord(TOPIC, b"other", json.dumps({**data(requested), "request_id": "other"}).encode())
    publish(broker.cluster, [requested, other])
    done, trained = tmp_path / "done", tmp_path / "trained"
    run(broker, done, trained)
    assert lines(trained) == [], "it requires approval"
    request_id = data(requested)["request_id"]
    (done / f"approved-{request_id}").touch()
    run(broker, done, trained)
    run(broker, done, trained)
    assert [request["request_id"] for request in lines(trained)] == [request_id]
    assert lines(trained) == [data(requested)]
    (done / "approved-other").touch()
    publish(
        broker.cluster, [OutputRecord(TOPIC, b"other", json.dumps({**data(fulfilled), "request_id": "other"}).encode())]
    )
    run(broker, done, trained)
    assert len(lines(trained)) == 1, "somebody else has trained meanwhile"


def test_a_training_that_failed_is_tried_again_at_the_next_start(broker: EmbeddedTestBroker, tmp_path: Path) -> None:
    request = {**data(written()[0]), "requires_approval": False}
    publish(broker.cluster, [OutputRecord(TOPIC, b"id", json.dumps(request).encode())])
    done, trained = tmp_path / "done", tmp_path / "trained"
    run(broker, done, trained, [sys.executable, "-c", "raise SystemExit(3)"])
    assert not list(done.glob("done-*"))
    run(broker, done, trained)
    assert lines(trained) == [request]
    assert [path.name for path in done.glob("done-*")] == [f"done-{request['request_id']}"]


def test_a_request_whose_time_has_not_come_waits(tmp_path: Path) -> None:
    subscriber = module(HERE / "subscriber.py")
    trained: list[Mapping[str, Any]] = []

    def train(request: Mapping[str, Any]) -> bool:
        trained.append(request)
        return True

    trainings = subscriber.Trainings(train, tmp_path)
    request = {**data(written()[0]), "requires_approval": False, "not_before": "2126-01-01T00:00:00Z"}
    trainings.take(request)
    trainings.act()
    assert trained == []
    trainings.take({**request, "not_before": "2026-01-01T00:00:00Z"})
    trainings.act()
    trainings.act()
    assert len(trained) == 1


def test_the_examples_read_the_topic_that_the_service_makes(tmp_path: Path) -> None:
    path = tmp_path / "streamdrift.yaml"
    path.write_text(
        """kafka: {bootstrap_servers: "localhost:9092"}
sources: [{topic: predictions, kind: predictions}]
models: {fraud: {retraining: {policies: {weekly: {schedule: "0 3 * * 0"}}}}}
""",
        encoding="utf-8",
    )
    assert TOPIC in {spec.name for spec in topic_specs(Settings.load(path, environment={}))}
    assert f'default="{TOPIC}"' in (HERE / "subscriber.py").read_text(encoding="utf-8")
