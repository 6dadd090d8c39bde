"""Settings: the contract's configuration is read, layers win in their order, and secrets stay secret."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import ErrorDetails

from streamdrift.codecs.source import EventTime
from streamdrift.errors import ConfigurationError
from streamdrift.muting import Mute
from streamdrift.problems import explain
from streamdrift.quantities import Duration
from streamdrift.sensitivity import DAY_US, Sensitivity, Tolerance
from streamdrift.settings import Settings

SMALLEST = """
kafka: {bootstrap_servers: "localhost:9092"}
sources: [{topic: predictions, kind: predictions}]
"""

# As the contract has it, but for `delivery`.
CONTRACT = """
kafka: {bootstrap_servers: "localhost:9092", delivery: at_least_once, start_from: latest, client: {}}
sources:
  - {topic: predictions, kind: predictions}
  - {topic: labels, kind: labels, event_time: record, allowed_lateness: 1m}
time: {tick: 10s, allowed_lateness: 30s, idle_after: 1m, idle: advance, zone: UTC}
fleet: {false_alarms: 1 per week}
defaults:
  false_alarms: 1 per month
  minimum_effect: 0.02
  warm_up: {events: 20000, at_most: 7d, at_least: 200}
  window: 1h
models:
  fraud:
    baselines: {"7": baselines/fraud-7.json}
    features:
      include: ["*"]
      exclude: ["debug.*"]
      amount: {weight: 2}
      country: {river: [{class: drift.ADWIN, delta: 0.002}]}
    segments: [region, [region, device]]
    performance:
      window: 1d
      min_labels: 500
      label_delay: 7d
      metrics: {accuracy: {benchmark: from_baseline, tolerance: 0.02}, precision: {benchmark: 0.81, tolerance: 0.03}}
    retraining:
      policies:
        decay: {when: accuracy below benchmark, windows: 2, cooldown: 1d, min_labels: 2000}
        weekly: {schedule: "0 3 * * 0"}
    review: {per_day: 50, strategies: [uncertain, drifted, random]}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def load(
    directory: Path, text: str, flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    path = directory / "streamdrift.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, flags, environment or {})


def refused(
    directory: Path, text: str, flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(directory, text, flags, environment)
    return str(caught.value)


def test_a_warm_up_that_cannot_be_enough_is_refused(directory: Path) -> None:
    message = refused(directory, SMALLEST + "defaults: {warm_up: {events: 100}}\n")
    assert "defaults.warm_up: at_least is 200, more than the 100 events of the whole warm-up" in message


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "mute: [{model: m, from: 2026-01-02T00:00:00Z, to: 2026-01-02T01:00:00+01:00, reason: r}]",
            "mute[0]: ends at 2026-01-02T01:00:00+01:00, which is not after 2026-01-02T00:00:00+00:00",
        ),
        ("defaults: {false_alarms: 0 per month}", 'defaults.false_alarms: got "0 per month"; the number must be more'),
        ("defaults: {minimum_effect: -0.1}", "defaults.minimum_effect: got -0.1; expected at least 0"),
        ("models: {m: {minimum_effect: 11}}", "models.m.minimum_effect: got 11; expected at most 10"),
        ("defaults: {tolerance: {missing: 1}}", "defaults.tolerance.missing: got 1; expected less than 1"),
        ("defaults: {tolerance: {mising: 0.1}}", "defaults.tolerance.mising: unknown key; did you mean missing?"),
        ("models: {m: {features: {a: {weight: 0}}}}", "models.m.features.a.weight: got 0; expected more than 0"),
        ("defaults: {memories: {shortest: 10}}", "defaults.memories.shortest: got 10; the unit is missing"),
        (
            "models: {m: {memories: {shortest: 8d}}}",
            "models.m.memories.longest: got 7d; expected more than the shortest memory and time.tick, 8d",
        ),
        (
            "defaults: {memories: {longest: 10s}}",
            "defaults.memories.longest: got 10s; expected more than the shortest memory and time.tick, 10s",
        ),
    ],
)
def test_a_sensitivity_that_cannot_be_is_refused(directory: Path, section: str, expected: str) -> None:
    assert expected in refused(directory, SMALLEST + section + "\n").replace('"7d"', "7d").replace('"10s"', "10s")


# ---- what is read


def test_the_smallest_configuration_takes_the_defaults_of_the_contract(directory: Path) -> None:
    settings = load(directory, SMALLEST)
    assert str(settings.time.tick) == "10s"
    assert settings.time.tick.microseconds == 10_000_000
    assert settings.kafka.delivery == "at_least_once"
    assert settings.window("anything") == Duration.parse("1h")
    assert [river.spec.class_name for river in settings.score_river("anything")] == ["drift.ADWIN"]
    assert settings.score_river("anything")[0].spec.parameters == {"delta": 0.002}
    assert settings.topics.partitions == 4
    assert settings.warnings() == []


def test_everything_of_the_contract_is_read(directory: Path) -> None:
    settings = load(directory, CONTRACT)
    fraud = settings.model("fraud")
    assert fraud.baselines == {"7": directory / "baselines/fraud-7.json"}
    assert fraud.segments == (("region",), ("region", "device"))
    assert fraud.features.named["country"].river[0].spec.parameters == {"delta": 0.002}
    assert fraud.features.watches("amount")
    assert not fraud.features.watches("debug.id")
    assert fraud.performance is not None
    assert fraud.performance.metrics["precision"].benchmark == 0.81
    assert settings.sources[1].time_of() is EventTime.RECORD
    assert str(settings.lateness(settings.sources[1])) == "1m"
    assert str(settings.lateness(settings.sources[0])) == "30s"


def test_what_has_no_effect_yet_is_said_of_the_keys_that_were_set_and_of_no_others(directory: Path) -> None:
    assert load(directory, CONTRACT).warnings() == [
        "models.fraud.review: has no effect in this version",
        "models.fraud.segments: has no effect in this version",
    ]


def test_what_the_contract_says_of_sensitivity_is_what_detectors_are_given(directory: Path) -> None:
    found = load(directory, CONTRACT).sensitivity("fraud")
    assert found == replace(Sensitivity(), weights={"amount": 2.0})
    assert found.shares(["age", "amount", "country"]).tolist() == [0.25, 0.5, 0.25]


def test_the_budget_of_the_fleet_is_shared_by_the_models_that_are_listed_and_no_model_has_more_than_its_own(
    directory: Path,
) -> None:
    week = 7 * DAY_US
    text = SMALLEST + "models: {a: {false_alarms: 1 per day}, b: {false_alarms: 1 per year}}\n"
    settings = load(directory, text)
    assert [settings.sensitivity(model).warnings * week for model in ("a", "b", "c")] == [
        pytest.approx(share) for share in (0.5, 7 / 365, 7 / 30)
    ]
    assert settings.sensitivity("a").false_alarms * DAY_US == pytest.approx(1)
    assert load(directory, SMALLEST).sensitivity("c").warnings * week == pytest.approx(7 / 30)


def test_a_mute_is_of_its_model_and_its_times_have_zones(directory: Path) -> None:
    text = """
mute:
  - {model: a, from: 2026-01-02T00:00:00+01:00, to: 2026-01-03T00:00:00Z, reason: new tariff}
  - {model: b, features: [fee, "basket.*"], from: 1970-01-01T00:00:00Z, to: 1970-01-01T00:00:01.5Z, reason: test}
"""
    settings = load(directory, SMALLEST + text)
    [mute] = settings.mutes("a")
    assert (mute.features, mute.reason) == (("*",), "new tariff")
    assert (mute.to_us - mute.from_us) / 3_600_000_000 == 25
    assert settings.mutes("b") == (Mute(("fee", "basket.*"), 0, 1_500_000, "test"),)
    assert settings.mutes("c") == ()


def test_a_model_changes_the_tolerances_and_memories_that_it_names_and_no_others(directory: Path) -> None:
    text = """
defaults: {tolerance: {unseen: 0.02}, memories: {longest: 30d}, minimum_effect: 0.05}
models: {a: {tolerance: {missing: 0.1}, memories: {shortest: 1m}, minimum_effect: 0}, b: {}}
"""
    settings = load(directory, SMALLEST + text)
    a, b = settings.sensitivity("a"), settings.sensitivity("b")
    assert a.tolerance == Tolerance(missing=0.1, unseen=0.02)
    assert b.tolerance == Tolerance(unseen=0.02)
    assert (a.shortest_us, a.longest_us, b.shortest_us) == (60_000_000, 30 * DAY_US, Sensitivity().shortest_us)
    assert (a.minimum_effect, b.minimum_effect) == (0, 0.05)


def test_what_is_not_set_for_a_model_comes_from_the_defaults(directory: Path) -> None:
    text = SMALLEST + "defaults: {window: 2h}\nmodels: {a: {window: 30m, river: []}, b: {}}\n"
    settings = load(directory, text)
    assert [str(settings.window(model)) for model in ("a", "b", "c")] == ["30m", "2h", "2h"]
    assert [len(settings.score_river(model)) for model in ("a", "b", "c")] == [0, 1, 1]


def test_keys_are_text_as_it_was_written(directory: Path) -> None:
    models = "models: {no: {}, 2024-01-01: {}, 007: {baselines: {1.10: a.json, 1e3: b.json}}, true: {}}\n"
    settings = load(directory, SMALLEST + models)
    assert list(settings.models) == ["no", "2024-01-01", "007", "true"]
    assert list(settings.models["007"].baselines) == ["1.10", "1e3"]


def test_words_and_times_of_day_are_text_too(directory: Path) -> None:
    features = "models: {m: {features: {include: [no, on, 10:30, 2024-01-01]}}}\n"
    settings = load(directory, SMALLEST + features)
    assert settings.models["m"].features.include == ("no", "on", "10:30", "2024-01-01")


def test_an_alias_repeats_a_value(directory: Path) -> None:
    models = "models: {a: {features: &shared {exclude: [x]}}, b: {features: *shared}}\n"
    settings = load(directory, SMALLEST + models)
    assert settings.models["b"].features == settings.models["a"].features


def test_settings_do_not_change(directory: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(directory, SMALLEST).http.port = 1  # type: ignore[misc]


# ---- layers


def test_variables_win_over_the_file_and_flags_over_both(directory: Path) -> None:
    text = SMALLEST + "time: {tick: 1s, idle_after: 2m}\n"
    environment = {"STREAMDRIFT__TIME__TICK": "2s", "STREAMDRIFT__HTTP__PORT": "9"}
    assert str(load(directory, text).time.tick) == "1s"
    assert str(load(directory, text, environment=environment).time.tick) == "2s"
    settings = load(directory, text, {"time.tick": "3s"}, environment)
    assert (str(settings.time.tick), str(settings.time.idle_after), settings.http.port) == ("3s", "2m", 9)


def test_variables_alone_make_a_configuration() -> None:
    environment = {
        "STREAMDRIFT__KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
        "STREAMDRIFT__SOURCES": "[{topic: predictions, kind: predictions}]",
        "PATH": "/bin",
        "STREAMDRIFT_SERVICE_HOST": "10.0.0.1",
    }
    settings = Settings.load(None, environment=environment)
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.sources[0].topic == "predictions"


def test_capitals_mean_the_model_of_the_file_in_whatever_case(directory: Path) -> None:
    text = SMALLEST + "models: {Fraud: {window: 1h}}\n"
    environment = {"STREAMDRIFT__MODELS__FRAUD__WINDOW": "2h", "STREAMDRIFT__MODELS__CHURN__WINDOW": "3h"}
    settings = load(directory, text, environment=environment)
    assert {model: str(settings.window(model)) for model in settings.models} == {"Fraud": "2h", "churn": "3h"}


def test_librdkafka_properties_are_named_with_underscores_in_variables(directory: Path) -> None:
    environment = {"STREAMDRIFT__KAFKA__CLIENT__SASL_USERNAME": "me", "STREAMDRIFT__KAFKA__CLIENT__SASL_PASSWORD": "{["}
    settings = load(directory, SMALLEST, {"kafka.client.client.rack": "a"}, environment)
    assert settings.kafka.properties() == {"sasl.username": "me", "sasl.password": "{[", "client.rack": "a"}


def test_flags_may_be_values_and_not_only_text(directory: Path) -> None:
    settings = load(directory, SMALLEST, {"http.port": 0, "models": {"m": {"window": "2h"}}})
    assert settings.http.port == 0
    assert str(settings.window("m")) == "2h"


def test_the_variables_of_the_process_are_read_by_default(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "streamdrift.yaml"
    path.write_text(SMALLEST, encoding="utf-8")
    monkeypatch.setenv("STREAMDRIFT__LOG__LEVEL", "debug")
    assert Settings.load(path).log.level == "debug"


# ---- secrets

CANARY = "hunter2-canary"


@pytest.fixture
def with_secret(directory: Path) -> Settings:
    (directory / "password").write_text(CANARY + "\n", encoding="utf-8")
    client = f"client: {{sasl.password: {{file: password}}, ssl.key.password: {CANARY}, socket.timeout.ms: 1000}}"
    return load(directory, SMALLEST.replace('9092"}', '9092", ' + client + "}"))


def test_a_secret_comes_from_its_file_without_the_line_break(with_secret: Settings) -> None:
    assert with_secret.kafka.properties() == {
        "sasl.password": CANARY,
        "ssl.key.password": CANARY,
        "socket.timeout.ms": "1000",
    }


def test_secrets_are_in_no_text_that_settings_make(with_secret: Settings) -> None:
    texts = [repr(with_secret), str(with_secret), with_secret.model_dump_json(), str(with_secret.model_dump())]
    texts += [json.dumps(with_secret.model_dump(mode="json")), repr(with_secret.kafka.client)]
    assert not [text for text in texts if CANARY in text]
    assert "sasl.password" in texts[0]


def test_secrets_are_not_logged_where_pydantic_settings_logs_its_sources(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    with caplog.at_level(logging.DEBUG):
        load(directory, SMALLEST, {"kafka.client.sasl.password": CANARY})
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: [CANARY]}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: {fil: CANARY}}}'),
        SMALLEST.replace('9092"}', '9092", client: CANARY}'),
        SMALLEST.replace('9092"}', '9092", client: [CANARY]}'),
        SMALLEST.replace('9092"}', '9092", sasl.password: CANARY}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: CANARY, sasl.password: CANARY}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: *CANARY}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: &CANARY a, x: &CANARY b}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: !CANARY a}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: !CANARY! a}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: "CANARY}}'),
        SMALLEST.replace('9092"}', '9092", client: {sasl.password: @CANARY}}'),
        SMALLEST + "sasl.password: CANARY\n",
        "kafka: CANARY\n",
    ],
)
def test_secrets_are_in_no_error(directory: Path, text: str) -> None:
    assert CANARY not in refused(directory, text.replace("CANARY", CANARY))


def test_a_value_below_the_client_is_not_repeated_whatever_is_wrong_with_it() -> None:
    error = ErrorDetails(type="string_type", loc=("kafka", "client", "sasl.password"), msg="", input=CANARY)
    assert CANARY not in str(explain(error, Settings, {}))


def test_the_cause_of_an_error_is_not_kept(directory: Path) -> None:
    """A traceback would show pydantic's own words, with values in them."""
    with pytest.raises(ConfigurationError) as caught:
        load(directory, SMALLEST + f"sasl.password: {CANARY}\n")
    assert caught.value.__cause__ is None
    assert CANARY not in str(caught.value.__context__)


# ---- what nobody thought of


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["kafka", "sources", "models", "time", "client", "tick", "x"]), inner, max_size=3
            )
        ),
        max_leaves=12,
    )
)
def test_any_yaml_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("any") / "streamdrift.yaml"
    path.write_text(json.dumps(value), encoding="utf-8")
    with suppress(ConfigurationError):
        Settings.load(path, environment={})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "streamdrift.yaml"
    path.write_bytes(value)
    with pytest.raises(ConfigurationError):
        Settings.load(path, environment={})


def test_settings_can_be_sent_to_another_process(with_secret: Settings) -> None:
    assert pickle.loads(pickle.dumps(with_secret)) == with_secret  # noqa: S301 — its own
