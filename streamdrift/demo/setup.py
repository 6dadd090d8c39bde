"""The configuration with which streamdrift watches the demo's traffic, and the baselines that it compares with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.generator import (
    LABELS_TOPIC,
    MODEL_ID,
    MODEL_VERSION,
    MOVED,
    NEXT_VERSION,
    PREDICTIONS_TOPIC,
    training_outcomes,
    training_table,
)
from streamdrift.generator.effects import Effect
from streamdrift.tables import Fields, baseline_from_columns

CONFIG_FILE: Final = "streamdrift.yaml"
OUTCOME: Final = "fraud"
CONCEPTS: Final[Mapping[str, Effect | None]] = MappingProxyType({MODEL_VERSION: None, NEXT_VERSION: MOVED})
"""What fraud was like when a version was trained."""

# A tick of 5 minutes, since four days go by in a minute and a half: the log of summaries must fit into what an
# embedded broker keeps. Time stands still without traffic, because the events are days old.
_CONFIG: Final = """\
# Written by `streamdrift demo`: watches its traffic, and the labels that come hours after it.
kafka:
  bootstrap_servers: "{bootstrap_servers}"
  delivery: at_least_once
  start_from: earliest
sources:
  - {{topic: {predictions}, kind: predictions, end_of_stream: true}}
  - {{topic: {labels}, kind: labels, end_of_stream: true}}
time: {{tick: 5m, allowed_lateness: 1m, idle: hold}}
models:
  {model_id}:
    baselines: {{{baselines}}}
    performance:
      # How many frauds are flagged. A version that misses many more than in training is asked to be trained anew.
      window: 4h
      label_delay: 6h
      min_labels: 1000
      metrics:
        recall: {{benchmark: from_baseline, tolerance: 0.2}}
    retraining:
      policies:
        fraud_gets_through: {{when: recall below benchmark, windows: 2, cooldown: 1d, min_labels: 2000}}
http: {{host: "{host}", port: {port}}}
"""


def demo_baseline(seed: int, version: str = MODEL_VERSION) -> Baseline:
    """What a version of the model of a seed was trained on, and what it achieved there."""
    concept = CONCEPTS[version]
    table = {**training_table(seed, concept=concept), OUTCOME: training_outcomes(seed, concept=concept)}
    fields = Fields(target=OUTCOME, positive="fraud")
    return baseline_from_columns(table, model_id=MODEL_ID, model_version=version, fields=fields)


def baseline_file(version: str) -> str:
    """The name of a version's baseline."""
    return f"{MODEL_ID}-{version}.json"


def write_configuration(
    directory: Path,
    seed: int,
    *,
    bootstrap_servers: str,
    host: str = "0.0.0.0",  # noqa: S104 — see below
    port: int = 8080,
) -> Path:
    """Write the configuration and its baselines into ``directory``, which is made; the configuration's path.

    By default the page listens on all addresses, for it may run in a container. Raises ``ConfigurationError``.
    """
    config = _CONFIG.format(
        bootstrap_servers=bootstrap_servers,
        predictions=PREDICTIONS_TOPIC,
        labels=LABELS_TOPIC,
        model_id=MODEL_ID,
        baselines=", ".join(f'"{version}": {baseline_file(version)}' for version in CONCEPTS),
        host=host,
        port=port,
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for version in CONCEPTS:
            (directory / baseline_file(version)).write_bytes(demo_baseline(seed, version).to_json())
        (directory / CONFIG_FILE).write_text(config, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be written: {error.strerror}") from None
    return directory / CONFIG_FILE
