"""``streamdrift check``: each kind of broken file, with the path of the key and the words that a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from streamdrift.baselines import Baseline
from streamdrift.check import MAX_SNAPSHOT_BYTES, Report, check, require
from streamdrift.errors import ConfigurationError
from streamdrift.tables import baseline_from_columns

SMALLEST = """\
kafka: {bootstrap_servers: "localhost:9092"}
sources: [{topic: predictions, kind: predictions}]
"""


def report_of(directory: Path, text: str, environment: dict[str, str] | None = None) -> Report:
    path = directory / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return check(path, environment=environment or {})


def said(directory: Path, text: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Messages by path, and the file under its name alone."""
    errors = report_of(directory, text, environment).errors
    return {e.path: f"{e.message} ({e.where})".replace(str(directory) + "/", "") for e in errors}


class Broken(NamedTuple):
    """A configuration, and one of the errors in it."""

    text: str
    path: str
    message: str


def keys(section: str, *lines: str) -> str:
    return SMALLEST + section + ":\n" + "".join(f"  {line}\n" for line in lines)


BROKEN = {
    # keys
    "unknown section": Broken(SMALLEST + "modles: {}\n", "modles", "unknown key; did you mean models? (c.yaml:3)"),
    "unknown key": Broken(keys("time", "tik: 10s"), "time.tik", "unknown key; did you mean tick? (c.yaml:4)"),
    "key of another section": Broken(
        SMALLEST + "tick: 10s\n", "tick", "unknown key; did you mean time.tick? (c.yaml:3)"
    ),
    "key like no other": Broken(
        keys("http", "zzz: 1"), "http.zzz", "unknown key; expected one of host, port (c.yaml:4)"
    ),
    "unknown key of a feature": Broken(
        keys("models", "m: {features: {amount: {wieght: 2}}}"),
        "models.m.features.amount.wieght",
        "unknown key; did you mean weight? (c.yaml:4)",
    ),
    "unknown key of a source": Broken(
        "kafka: {bootstrap_servers: a}\nsources:\n  - {topic: a, kind: predictions}\n  - {topic: b, knid: labels}\n",
        "sources[1].knid",
        "unknown key; did you mean kind? (c.yaml:4)",
    ),
    "mapping of a source": Broken(
        "kafka: {bootstrap_servers: a}\nsources:\n  - {topic: a, kind: predictions, explode: 'instances[*]'}\n",
        "sources[0].explode",
        "unknown key; expected one of topic, kind, predictions, rekey, mapping, start_from, event_time",
    ),
    "missing key": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: a}]\n",
        "sources[0].kind",
        "is missing; expected what its events are: predictions, features or labels (c.yaml:2)",
    ),
    "nothing at all": Broken("", "kafka.bootstrap_servers", "is missing; expected host:port of a broker"),
    "nothing but a section": Broken("kafka:\nsources:\n", "sources", "got nothing; expected a list (c.yaml:2)"),
    # kinds of values
    "a list for a mapping": Broken(SMALLEST + "time: [10s]\n", "time", "got a list; expected a mapping"),
    "a mapping for a list": Broken("sources: {topic: a}\n", "sources", "got a mapping; expected a list (c.yaml:1)"),
    "text for a mapping": Broken(SMALLEST + "models: fraud\n", "models", "got text; expected a mapping"),
    "a number for text": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: 7, kind: predictions}]\n",
        "sources[0].topic",
        "got 7; expected text (in quotes if it looks like a number)",
    ),
    "text for a number": Broken(keys("http", "port: many"), "http.port", 'got "many"; expected a whole number'),
    "a fraction for a whole number": Broken(
        keys("time", "max_ahead: 1.5"), "time.max_ahead", "got 1.5; expected a whole number"
    ),
    "true for a number": Broken(keys("http", "port: true"), "http.port", "got true; expected a number"),
    "true for a duration": Broken(keys("time", "tick: true"), "time.tick", "got true; expected a number with a unit"),
    "yes for true": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: a, kind: predictions, end_of_stream: maybe}]\n",
        "sources[0].end_of_stream",
        'got "maybe"; expected true or false',
    ),
    "text for a list of globs": Broken(
        keys("models", 'm: {features: {include: "*"}}'), "models.m.features.include", "got text; expected a list"
    ),
    "not a number": Broken(
        keys("defaults", "minimum_effect: nan"), "defaults.minimum_effect", 'got "nan"; expected a finite number'
    ),
    # ranges and names
    "a port that cannot be": Broken(keys("http", "port: 65536"), "http.port", "got 65536; expected at most 65535"),
    "no partitions": Broken(keys("topics", "partitions: 0"), "topics.partitions", "got 0; expected at least 1"),
    "no sources": Broken(
        "kafka: {bootstrap_servers: a}\nsources: []\n", "sources", "got a list; expected at least one"
    ),
    "a kind that is none": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: a, kind: prediction}]\n",
        "sources[0].kind",
        'got "prediction"; expected predictions, features or labels (c.yaml:2)',
    ),
    "a level that is none": Broken(
        keys("log", "level: verbose"), "log.level", 'got "verbose"; expected debug, info, warning or error'
    ),
    "a zone that is none": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: a, kind: predictions, zone: Berlin}]\n",
        "sources[0].zone",
        'got "Berlin"; expected a time zone\'s name, for example UTC or Europe/Berlin',
    ),
    "a zone outside of the zones": Broken(
        keys("time", "zone: ../../etc/passwd"), "time.zone", "expected a time zone's name"
    ),
    "a topic that cannot be": Broken(
        keys("topics", "alerts: drift alerts"), "topics.alerts", 'got "drift alerts"; expected a topic\'s name'
    ),
    "servers that cannot be": Broken(
        'kafka: {bootstrap_servers: "a b:9092"}\nsources: [{topic: a, kind: predictions}]\n',
        "kafka.bootstrap_servers",
        'got "a b:9092"; expected host:port, several separated by commas',
    ),
    # units
    "no unit": Broken(
        keys("time", "tick: 10"), "time.tick", "got 10; the unit is missing; expected a number with a unit"
    ),
    "a unit that is none": Broken(
        keys("defaults", "window: 1 hour"), "defaults.window", "hour is no unit; expected a number with a unit"
    ),
    "a duration that is too short": Broken(keys("time", "tick: 1ms"), "time.tick", "expected at least 100ms"),
    "a rate without per": Broken(
        keys("fleet", "false_alarms: 1 week"), "fleet.false_alarms", "for example 1 per week (c.yaml:4)"
    ),
    # not built, and dangerous to pass over
    "exactly once": Broken(
        "kafka: {bootstrap_servers: a, delivery: exactly_once}\nsources: [{topic: a, kind: predictions}]\n",
        "kafka.delivery",
        "exactly_once comes with transactions, in a later version; use at_least_once (c.yaml:1)",
    ),
    "privacy": Broken(
        keys("privacy", "drop: name"),
        "privacy.drop",
        "expected a list",
    ),
    # River
    "a River class that is none": Broken(
        keys("defaults", "river: [{class: drift.ADWINN}]"),
        "defaults.river[0]",
        "unknown River detector 'drift.ADWINN'; known are drift.ADWIN",
    ),
    "a River parameter that is none": Broken(
        keys("models", "m: {features: {a: {river: [{class: drift.ADWIN, dleta: 1}]}}}"),
        "models.m.features.a.river[0]",
        "drift.ADWIN has no parameter 'dleta'; it has delta",
    ),
    "a River parameter of a wrong value": Broken(
        keys("models", "m: {river: [{class: drift.ADWIN, delta: 2}]}"),
        "models.m.river[0]",
        "drift.ADWIN: delta must be a number between 0 and 1",
    ),
    "River without a class": Broken(
        keys("models", "m: {river: [{delta: 0.1}]}"), "models.m.river[0].class", "is missing; expected the class's name"
    ),
    # contradictions
    "a topic that is read twice": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: a, kind: predictions}, {topic: a, kind: labels}]\n",
        "sources[1].topic",
        'got "a"; that topic is sources[0].topic already (c.yaml:2)',
    ),
    "a topic that is read and written": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: drift-alerts, kind: predictions}]\n",
        "sources[0].topic",
        "that topic is topics.alerts already",
    ),
    "labels alone": Broken(
        "kafka: {bootstrap_servers: a}\nsources: [{topic: a, kind: labels}]\n",
        "sources",
        "expected a source of kind predictions or features",
    ),
    "a window shorter than a tick": Broken(
        keys("models", "m: {window: 5s}"), "models.m.window", 'got "5s"; expected at least time.tick, 10s'
    ),
    "snapshots more often than commits": Broken(
        SMALLEST + "snapshot_interval: 500ms\n", "snapshot_interval", "expected at least commit_interval, 1s (c.yaml:3)"
    ),
    # files
    "a baseline that is not there": Broken(
        keys("models", 'm: {baselines: {"7": none.json}}'),
        "models.m.baselines.7",
        "none.json: cannot be read: No such file or directory",
    ),
    "a baseline that is a directory": Broken(
        keys("models", 'm: {baselines: {"7": .}}'), "models.m.baselines.7", "cannot be read: Is a directory"
    ),
    "a baseline that is none": Broken(
        keys("models", 'm: {baselines: {"7": c.yaml}}'),
        "models.m.baselines.7",
        "c.yaml: not a baseline: JSON is malformed",
    ),
    "a secret that is not there": Broken(
        "kafka: {bootstrap_servers: a, client: {sasl.password: {file: none}}}\n",
        "kafka.client.sasl.password",
        "the file none: No such file or directory (c.yaml:1)",
    ),
    # Kafka clients
    "a property that librdkafka does not know": Broken(
        "kafka: {bootstrap_servers: a, client: {sasl.pasword: b}}\nsources: [{topic: a, kind: predictions}]\n",
        "kafka.client",
        'No such configuration property: "sasl.pasword"',
    ),
    "a property that is streamdrift's own": Broken(
        "kafka: {bootstrap_servers: a, client: {group.id: b}}\nsources: [{topic: a, kind: predictions}]\n",
        "kafka.client.group.id",
        "cannot be set: every stage has a group of its own",
    ),
    "a list for a property": Broken(
        "kafka: {bootstrap_servers: a, client: {sasl.password: [b]}}\n",
        "kafka.client.sasl.password",
        "expected text, a number, true, false or {file: path} (c.yaml:1)",
    ),
    # YAML
    "a bracket that stays open": Broken("sources: [{topic: a\nb: c\n", "", "not YAML: expected ',' or '}'"),
    "a tab": Broken("time:\n\ttick: 10s\n", "", "cannot start any token (c.yaml:2:1)"),
    "two colons": Broken("time: tick: 10s\n", "", "not YAML: mapping values are not allowed here (c.yaml:1:11)"),
    "a star without quotes": Broken(
        "models: {m: {features: {include: [*]}}}\n", "", "text that begins with * or & is written in quotes"
    ),
    "a key that stands twice": Broken(
        SMALLEST + "http: {port: 1}\nlog: {}\nhttp: {port: 2}\n", "http", "stands twice, first in line 3 (c.yaml:5:1)"
    ),
    "a key that stands twice below": Broken(
        keys("models", "m: {}", "m: {}"), "models.m", "stands twice, first in line 4 (c.yaml:5:3)"
    ),
    "an alias in itself": Broken(SMALLEST + "models: &m {a: *m}\n", "models.a", "an alias inside the value"),
    "a tag": Broken(SMALLEST + "http: {port: !secret x}\n", "http.port", "tags (!) are not understood (c.yaml:3:14)"),
    "a merge key": Broken(SMALLEST + "x: &x {}\nhttp: {<<: *x}\n", "http", "merge keys (<<) are not understood"),
    "a key that is a list": Broken(SMALLEST + "models: {[a]: {}}\n", "models", "a key that is no text (c.yaml:3:10)"),
    "two documents": Broken("a: 1\n---\nb: 2\n", "", "but found another document (c.yaml:2:1)"),
    "a list": Broken("- a\n", "", "c.yaml: holds a list; expected a mapping"),
    "a bomb of aliases": Broken(
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        "",
        "not a configuration: more than 100,000 values (c.yaml)",
    ),
    "brackets without end": Broken("a: " + "[" * 1_000, "", "not a configuration: nested too deeply (c.yaml)"),
    "a key without a name": Broken(SMALLEST + 'models: {"": {}}\n', "models.", "expected text that is not empty"),
    "a control character": Broken("a: \x00\n", "", "not YAML: unacceptable character #x0000"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_configuration_is_refused_with_path_and_reason(tmp_path: Path, name: str) -> None:
    text, path, message = BROKEN[name]
    assert message in said(tmp_path, text).get(path, f"no error at {path!r}, but {said(tmp_path, text)}")


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    text = """\
kafka: {bootstrap_servers: "localhost:9092", delivery: exactly_once}
sources: [{topic: a, kind: predictionss}, {topic: b}]
time: {tick: 10, tik: 10s}
time: {}
defaults: {window: 1 hour, river: [{class: drift.None}]}
privacy: {drop: x}
"""
    assert set(said(tmp_path, text)) == {
        "kafka.delivery",
        "sources[0].kind",
        "sources[1].kind",
        "time.tick",
        "time.tik",
        "time",
        "defaults.window",
        "defaults.river[0]",
        "privacy.drop",
    }


def test_a_problem_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    report = report_of(tmp_path, SMALLEST + '"a\\nb": 1\n', {"STREAMDRIFT__LOG__LEVEL": "\udcff\n"})
    assert [str(error).split(";")[0] for error in report.errors] == [
        'log.level: got "\\udcff\\n"',
        "a\\nb: unknown key",
    ]
    assert json.loads(report.to_json())["errors"]


def test_an_error_in_a_variable_names_the_variable(tmp_path: Path) -> None:
    environment = {"STREAMDRIFT__TIME__TICK": "10", "STREAMDRIFT__KAFAK__X": "1", "STREAMDRIFT__SOURCES": "[{"}
    assert {path: message.rsplit("(", 1)[1] for path, message in said(tmp_path, SMALLEST, environment).items()} == {
        "time.tick": "STREAMDRIFT__TIME__TICK)",
        "kafak": "STREAMDRIFT__KAFAK__X)",
        "sources": "STREAMDRIFT__SOURCES:1:3)",
    }


def test_a_file_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    report = check(tmp_path / "none.yaml", environment={})
    assert [str(error) for error in report.errors] == [
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    ]


# ---- baselines


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    rng = np.random.default_rng(1)
    columns = {
        "amount": rng.normal(size=500),
        "country": rng.choice(["DE", "FR", "US"], size=500).tolist(),
        "id": [f"{i:08x}" for i in rng.integers(0, 1 << 32, size=500).tolist()],
        "prediction.score": rng.random(500),
    }
    return baseline_from_columns(columns, model_id="fraud", model_version="7")


def with_baseline(directory: Path, baseline: Baseline, model: str) -> str:
    (directory / "fraud-7.json").write_bytes(baseline.to_json())
    return SMALLEST + f'models: {{fraud: {{baselines: {{"7": fraud-7.json}}, {model}}}}}\n'


def test_a_good_configuration_passes(tmp_path: Path, baseline: Baseline) -> None:
    report = report_of(tmp_path, with_baseline(tmp_path, baseline, "features: {amount: {}}"))
    assert str(report).endswith("the configuration is good")
    assert (report.errors, report.warnings) == ((), ())
    assert report.exit_code == 0


def test_a_baseline_of_another_model_is_refused(tmp_path: Path, baseline: Baseline) -> None:
    (tmp_path / "x.json").write_bytes(baseline.to_json())
    text = SMALLEST + 'models: {fraud: {baselines: {"8": x.json}}, churn: {baselines: {"7": x.json}}}\n'
    messages = said(tmp_path, text)
    assert messages["models.fraud.baselines.8"].startswith("x.json is of model fraud, version 7")
    assert messages["models.churn.baselines.7"].startswith("x.json is of model fraud, version 7")


def test_a_baseline_too_large_for_a_snapshot_is_refused_until_features_are_left_out(tmp_path: Path) -> None:
    columns = {f"f{i}": np.random.default_rng(i).normal(size=400) for i in range(400)}
    large = baseline_from_columns(columns, model_id="fraud", model_version="7")
    message = said(tmp_path, with_baseline(tmp_path, large, "features: {}"))["models.fraud.baselines.7"]
    assert f"at most {MAX_SNAPSHOT_BYTES // 1000} kB fit a record" in message
    assert "models.fraud.features.exclude" in message
    assert not said(tmp_path, with_baseline(tmp_path, large, 'features: {include: ["f1*"]}'))


WARNINGS = {
    "a feature that no baseline has": (
        "features: {amuont: {river: []}}",
        "models.fraud.features.amuont: no baseline has this feature; did you mean amount?",
    ),
    "a feature that was set aside": (
        "features: {id: {}}",
        "models.fraud.features.id: is not watched: the baseline set it aside as identifier",
    ),
    "a feature that is excluded": (
        "features: {exclude: [amount], amount: {}}",
        "models.fraud.features.amount: is not watched: include and exclude leave it out",
    ),
    "nothing left": ("features: {include: [x]}", "models.fraud.features: include and exclude leave no feature"),
    "River on categories": (
        "features: {country: {river: [{class: drift.ADWIN}]}}",
        "models.fraud.features.country.river[0]: the feature is categorical",
    ),
    "River of bits on numbers": (
        "features: {amount: {river: [{class: drift.binary.DDM}]}}",
        "models.fraud.features.amount.river[0]: takes 0 and 1 only",
    ),
    "River of bits on the score": (
        "river: [{class: drift.ADWIN}, {class: drift.binary.DDM}]",
        "models.fraud.river[1]: takes 0 and 1 only",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_probably_not_meant_is_a_warning(tmp_path: Path, baseline: Baseline, name: str) -> None:
    model, expected = WARNINGS[name]
    report = report_of(tmp_path, with_baseline(tmp_path, baseline, model))
    assert [str(warning)[: len(expected)] for warning in report.warnings] == [expected]
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("time: {idle: hold}", "time.idle: hold is for back-fills: time stops when traffic stops"),
        ("time: {allowed_lateness: 1h}", "time.allowed_lateness: alerts come 1h after the events, 360 ticks of 10s"),
        ("time: {idle_after: 100ms}", "time.idle_after: is looked at once a commit_interval only, 1s"),
        ("privacy: {hash: [email]}", "privacy.salt: is not set: whoever guesses a value can tell its hash"),
        ("defaults: {river: [{class: drift.KSWIN}]}", "defaults.river[0]: KSWIN takes about 0.3 ms a value"),
        ("models: {m: {river: [{class: drift.KSWIN}]}}", "models.m.river[0]: KSWIN takes about 0.3 ms a value"),
        ("models: {m: {features: {a: {river: [{class: drift.KSWIN}]}}}}", "models.m.features.a.river[0]: KSWIN takes"),
        ("models: {m: {segments: [a]}}", "models.m.segments: has no effect in this version"),
    ],
)
def test_settings_that_may_surprise_are_a_warning(tmp_path: Path, section: str, expected: str) -> None:
    report = report_of(tmp_path, SMALLEST + section + "\n")
    assert [str(warning)[: len(expected)] for warning in report.warnings] == [expected]


def test_a_model_without_a_baseline_is_a_note(tmp_path: Path) -> None:
    report = report_of(tmp_path, SMALLEST + "models: {m: {}}\n")
    assert [note.path for note in report.notes] == ["models.m"]
    assert "no baseline" in str(report)


# ---- what is made of it


def test_the_report_is_one_problem_a_line_and_a_verdict(tmp_path: Path) -> None:
    text = keys("models", 'm: {segments: [a], baselines: {"1": none.json}}')
    assert str(report_of(tmp_path, text)).splitlines() == [
        f"error models.m.baselines.1: {tmp_path}/none.json: cannot be read: No such file or directory",
        "warning models.m.segments: has no effect in this version",
        "1 error, 1 warning",
    ]


def test_the_report_is_json_for_programs(tmp_path: Path) -> None:
    assert json.loads(report_of(tmp_path, keys("http", "port: x")).to_json()) == {
        "ok": False,
        "errors": [
            {"path": "http.port", "message": 'got "x"; expected a whole number', "where": f"{tmp_path}/c.yaml:4"}
        ],
        "warnings": [],
        "notes": [],
    }


def test_what_is_required_is_refused_with_all_errors(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(keys("http", "port: x", "hots: y"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"2 problems\n  http\.port: .*\n  http\.hots: .*"):
        require(path, environment={})
    path.write_text(SMALLEST, encoding="utf-8")
    settings, report = require(path, environment={})
    assert report.settings is settings
