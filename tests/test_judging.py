"""From settings and baselines to what is judged: what it comes to, what check says of it, and what is refused where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from streamdrift.baselines import Baseline
from streamdrift.benchmarks import Measured
from streamdrift.check import Report, check
from streamdrift.errors import ConfigurationError
from streamdrift.gridbook import ModelKey
from streamdrift.judging import performance_plan, retraining_policies
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.performance import Target
from streamdrift.policies import FreshLabels, Policy, Scheduled, Worse
from streamdrift.settings import Settings
from streamdrift.summaries.outcomes import LabelRows, Outcomes, ValueRows
from streamdrift.tables import baseline_from_columns

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
HEAD = """
kafka: {bootstrap_servers: "localhost:9092"}
sources: [{topic: predictions, kind: predictions}, {topic: labels, kind: labels}]
time: {zone: Europe/Berlin}
"""
FRAUD = "models:\n  fraud:\n    baselines: {'7': fraud-7.json}\n"


def plain() -> Baseline:
    columns = {"amount": np.arange(300.0) % 50, "prediction.score": (np.arange(300.0) % 97) / 97}
    return baseline_from_columns(columns, model_id="fraud", model_version="7")


def classified() -> Measured:
    grid = OutcomeGrid(Task.BINARY, ("legit", "fraud"))
    true = ["fraud"] * 100 + ["legit"] * 900
    return Measured.of(Outcomes.of(LabelRows.of(grid, true, ["fraud"] * 80 + ["legit"] * 920)))


def regressed() -> Measured:
    true = np.arange(100.0)
    return Measured.of(Outcomes.of(ValueRows(OutcomeGrid.regression(0, 100), true, true + 3)))


def settings_of(directory: Path, text: str) -> Settings:
    path = directory / "streamdrift.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return Settings.load(path, environment={})


def checked(directory: Path, text: str, measured: Measured | None) -> Report:
    (directory / "fraud-7.json").write_bytes(replace(plain(), measured=measured).to_json())
    path = directory / "streamdrift.yaml"
    path.write_text(HEAD + FRAUD + text, encoding="utf-8")
    return check(path, environment={})


def baselines(measured: Measured | None) -> Mapping[ModelKey, Baseline]:
    return {("fraud", "7"): replace(plain(), measured=measured)}


# ---- the plan


def test_the_plan_is_what_the_settings_and_the_baselines_say(tmp_path: Path) -> None:
    text = """    performance:
      {window: 12h, min_labels: 50, label_delay: 2d, windows: 3,
       metrics: {accuracy: {tolerance: 0.02}, recall: {benchmark: 0.7}}}
"""
    config = performance_plan(settings_of(tmp_path, FRAUD + text), baselines(classified()), "fraud").config(
        "7", Task.BINARY
    )
    assert config.targets == (Target("accuracy", 0.98, 0.02), Target("recall", 0.7, 0.0))
    assert (config.window_us, config.label_delay_us) == (12 * HOUR_US, 2 * DAY_US)
    assert (config.min_labels, config.in_a_row) == (50, 3)


def test_a_model_of_which_nothing_is_said_is_reported_and_not_judged(tmp_path: Path) -> None:
    plan = performance_plan(settings_of(tmp_path, ""), {}, "anything")
    assert plan.window_us == DAY_US
    assert all(target.benchmark is None for target in plan.config("1", Task.BINARY).targets)


def test_policies_are_as_they_are_written_and_schedules_run_in_the_zone(tmp_path: Path) -> None:
    text = """    performance: {metrics: {accuracy: {benchmark: 0.9}}}
    retraining:
      policies:
        decay: {when: accuracy below benchmark, windows: 2, cooldown: 2d, min_labels: 2000}
        weekly: {schedule: "0 3 * * 0", requires_approval: true}
        either: {when: 5000 fresh labels, schedule: "0 3 1 * *"}
"""
    decay, weekly, either = retraining_policies(settings_of(tmp_path, FRAUD + text), "fraud")
    assert decay == Policy("decay", (Worse("accuracy", 2),), 2 * DAY_US, 2_000)
    [scheduled] = weekly.conditions
    assert isinstance(scheduled, Scheduled)
    assert scheduled.schedule.zone == ZoneInfo("Europe/Berlin")
    assert weekly.requires_approval
    assert either.conditions[0] == FreshLabels(5_000)
    assert retraining_policies(settings_of(tmp_path, ""), "fraud") == ()


# ---- what is refused, with the path of its key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "performance: {metrics: {acuracy: {}}}",
            'models.fraud.performance.metrics.acuracy: got "acuracy"; is no metric; did you mean accuracy?',
        ),
        (
            "performance: {metrics: {accuracy: {benchmark: from_basline}}}",
            'models.fraud.performance.metrics.accuracy.benchmark: got "from_basline"; expected from_baseline, a number',
        ),
        (
            "performance: {metrics: {accuracy: {benchmark: .nan}}}",
            'metrics.accuracy.benchmark: got ".nan"; expected from_baseline, a number, or null',
        ),
        ("performance: {window: 1s}", 'models.fraud.performance.window: got "1s"; expected at least time.tick, 10s'),
        (
            "retraining: {policies: {p: {when: acuracy is bad}}}",
            'models.fraud.retraining.policies.p.when: got "acuracy is bad"; expected a condition such as',
        ),
        (
            "retraining: {policies: {p: {schedule: 0 3 * *}}}",
            "models.fraud.retraining.policies.p.schedule: got \"0 3 * *\"; '0 3 * *' has not 5 fields",
        ),
        ("retraining: {policies: {p: {cooldown: 1d}}}", "models.fraud.retraining.policies.p: expected when, schedule"),
        (
            "retraining: {policies: {p: {when: accuracy below benchmark}}}",
            "policies.p.when: accuracy is not judged; expected a benchmark in performance.metrics.accuracy",
        ),
        (
            """performance: {metrics: {accuracy: {benchmark: null}}}
    retraining: {policies: {p: {when: accuracy below benchmark}}}""",
            "policies.p.when: accuracy is not judged",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, f"{FRAUD}    {text}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        ("when: 5000 fresh labels", "when"),
        ("when: concept_drift critical", "when"),
        ('schedule: "0 3 * * 0", min_labels: 10', "min_labels"),
    ],
)
def test_a_policy_that_waits_for_labels_needs_a_source_of_them(tmp_path: Path, policy: str, key: str) -> None:
    text = f"{FRAUD}    retraining: {{policies: {{p: {{{policy}}}}}}}\n"
    assert settings_of(tmp_path, text).models["fraud"].retraining is not None
    path = tmp_path / "streamdrift.yaml"
    path.write_text((HEAD + text).replace(", {topic: labels, kind: labels}", ""), encoding="utf-8")
    with pytest.raises(
        ConfigurationError, match=rf"policies\.p\.{key}: needs labels; expected a source of kind labels"
    ):
        Settings.load(path, environment={})


# ---- what check says


def messages(problems: object) -> str:
    assert isinstance(problems, tuple)
    return "\n".join(map(str, problems))


def test_check_says_what_is_judged(tmp_path: Path) -> None:
    text = """    performance:
      metrics: {accuracy: {tolerance: 0.02}, precision: {benchmark: 0.8}, f1: {benchmark: null}}
    retraining:
      policies:
        weekly: {schedule: "0 3 * * 0", requires_approval: true}
        decay: {when: accuracy below benchmark, windows: 2}
"""
    report = checked(tmp_path, text, classified())
    assert not report.errors
    said = messages(report.notes)
    assert "metrics.accuracy: is judged a window of 1d: benchmark 0.98 in version 7, tolerance 0.02" in said
    assert "metrics.precision: is judged a window of 1d: benchmark 0.8, tolerance 0" in said
    assert "metrics.f1: is reported, and not judged" in said
    asks = "asks for a training: by schedule 0 3 * * 0 (Europe/Berlin), once a person approves"
    assert f"models.fraud.retraining.policies.weekly: {asks}" in said
    assert "policies.decay: asks for a training: accuracy below benchmark in 2 windows in a row" in said


def test_check_warns_of_a_benchmark_that_chance_alone_misses(tmp_path: Path) -> None:
    report = checked(tmp_path, "    performance: {metrics: {accuracy: {}}}\n", classified())
    assert "metrics.accuracy: has no tolerance" in messages(report.warnings)


@pytest.mark.parametrize(
    ("measured", "metric", "message"),
    [
        (
            classified(),
            "rmse",
            "metrics.rmse: is no metric of a binary task, as version 7 has it; expected one of ",
        ),
        (regressed(), "accuracy", "metrics.accuracy: is no metric of a regression task, as version 7 has it"),
        (
            classified(),
            "roc_auc",
            "metrics.roc_auc.benchmark: the baseline of version 7 has no roc_auc; expected a num",
        ),
        (None, "accuracy", "metrics.accuracy.benchmark: the baseline of version 7 was built without labels"),
    ],
)
def test_a_benchmark_that_no_baseline_has_is_an_error(
    tmp_path: Path, measured: Measured | None, metric: str, message: str
) -> None:
    text = f"    performance: {{metrics: {{{metric}: {{tolerance: 0.1}}}}}}\n"
    assert message in messages(checked(tmp_path, text, measured).errors)
    with pytest.raises(ConfigurationError, match=f"metrics.{metric}"):
        performance_plan(settings_of(tmp_path, FRAUD + text), baselines(measured), "fraud")


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ("{range: [0, 10]}", "is no metric of a regression task, as models.fraud.outcome has it; expected one of mae"),
        (
            "{positive: legit, negative: fraud}",
            "was measured with classes legit, fraud, and models.fraud.outcome has fraud, legit",
        ),
        (
            "{positive: fraud, negative: legit, threshold: 0.7}",
            "was measured with a threshold of 0.5, and models.fraud.outcome has 0.7",
        ),
        (
            "{classes: [legit, fraud, odd]}",
            "was measured with classes legit, fraud, and models.fraud.outcome has legit,",
        ),
        ("{positive: fraud, negative: legit}", None),
    ],
)
def test_a_benchmark_is_of_outcomes_that_are_counted_alike(tmp_path: Path, outcome: str, message: str | None) -> None:
    text = f"    outcome: {outcome}\n    performance: {{metrics: {{accuracy: {{tolerance: 0.1}}}}}}\n"
    said = messages(checked(tmp_path, text, classified()).errors)
    assert message in said if message else not said


def test_a_model_without_a_baseline_has_no_benchmark_from_one(tmp_path: Path) -> None:
    text = "models: {fraud: {performance: {metrics: {accuracy: {tolerance: 0.1}}}}}\n"
    with pytest.raises(ConfigurationError, match=r"accuracy\.benchmark: the model has no baseline"):
        performance_plan(settings_of(tmp_path, text), {}, "fraud")
