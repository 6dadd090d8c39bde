"""The topics that a service makes for itself: which, and what a broker must permit for them."""

from __future__ import annotations

import csv
from pathlib import Path

from streamdrift.assembly import topic_specs
from streamdrift.kafka.permissions import Access
from streamdrift.settings import Settings

ACLS = Path(__file__).parents[1] / "deploy/kafka/acls.csv"
SMALLEST = 'kafka: {bootstrap_servers: "localhost:9092"}\nsources: [{topic: predictions, kind: predictions}]\n'
POLICY = 'models: {fraud: {retraining: {policies: {weekly: {schedule: "0 3 * * 0"}}}}}\n'


def settings(directory: Path, text: str) -> Settings:
    path = directory / "streamdrift.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, environment={})


def test_retraining_requests_have_a_topic_where_a_model_has_policies(tmp_path: Path) -> None:
    without = {spec.name for spec in topic_specs(settings(tmp_path, SMALLEST))}
    specs = {spec.name: spec for spec in topic_specs(settings(tmp_path, SMALLEST + POLICY))}
    assert specs.keys() - without == {"retraining-requests"}
    requests = specs["retraining-requests"]
    assert requests.create
    assert requests.access == (Access.WRITE,)
    assert requests.config["cleanup.policy"] == "compact,delete"


def test_every_topic_of_the_service_is_in_the_list_of_permissions(tmp_path: Path) -> None:
    with ACLS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    everything = SMALLEST.replace("}]", ", rekey: true}, {topic: labels, kind: labels}]") + POLICY
    specs = topic_specs(settings(tmp_path, everything))
    permitted = {(row["name"], row["operation"]) for row in rows if row["who"] == "service"}
    for spec in specs:
        assert {(spec.name, access.name.title()) for access in spec.access} <= permitted
    created = {row["name"] for row in rows if row["who"] == "creator"}
    assert created == {spec.name for spec in specs if spec.create}
