"""The configuration with which streamdrift watches the demo's traffic, and the baseline that it compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.generator import MODEL_ID, MODEL_VERSION, PREDICTIONS_TOPIC, training_table
from streamdrift.tables import baseline_from_columns

CONFIG_FILE: Final = "streamdrift.yaml"
BASELINE_FILE: Final = f"{MODEL_ID}-{MODEL_VERSION}.json"

# A tick of 5 minutes, since four days go by in a minute and a half: the log of summaries must fit into what an
# embedded broker keeps. Time stands still without traffic, because the events are days old.
_CONFIG: Final = """\
# Written by `streamdrift demo`: watches its traffic. Labels are on topic `labels`, which is not read yet.
kafka:
  bootstrap_servers: "{bootstrap_servers}"
  delivery: at_least_once
  start_from: earliest
sources:
  - {{topic: {topic}, kind: predictions, end_of_stream: true}}
time: {{tick: 5m, allowed_lateness: 1m, idle: hold}}
models:
  {model_id}:
    baselines: {{"{model_version}": {baseline}}}
http: {{host: "{host}", port: {port}}}
"""


def demo_baseline(seed: int) -> Baseline:
    """What the model of a seed was trained on."""
    return baseline_from_columns(training_table(seed), model_id=MODEL_ID, model_version=MODEL_VERSION)


def write_configuration(
    directory: Path,
    seed: int,
    *,
    bootstrap_servers: str,
    host: str = "0.0.0.0",  # noqa: S104 — see below
    port: int = 8080,
) -> Path:
    """Write the configuration and its baseline into ``directory``, which is made; the configuration's path.

    By default the page listens on all addresses, for it may run in a container. Raises ``ConfigurationError``.
    """
    config = _CONFIG.format(
        bootstrap_servers=bootstrap_servers,
        topic=PREDICTIONS_TOPIC,
        model_id=MODEL_ID,
        model_version=MODEL_VERSION,
        baseline=BASELINE_FILE,
        host=host,
        port=port,
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / BASELINE_FILE).write_bytes(demo_baseline(seed).to_json())
        (directory / CONFIG_FILE).write_text(config, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be written: {error.strerror}") from None
    return directory / CONFIG_FILE
