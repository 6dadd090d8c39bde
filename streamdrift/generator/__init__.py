"""Seeded traffic of a fraud model, for the demo, the tests and the benchmarks.

::

    pace        which event happens when
    world       who pays whom, and whether it is fraud
    classifier  the model under watch: a logistic regression, trained on what the world produced
    effects     what can go wrong
    script      when it goes wrong, and what streamdrift has to say about it
    traffic     all of it together: messages for the topics `predictions` and `labels`, and a training table

The same seed gives the same bytes (with one version of numpy), however the events are asked for.
"""

from streamdrift.generator.script import MOVED, NEXT_VERSION, Rollout, ScriptedIncident, fixed_rollout, fixed_script
from streamdrift.generator.traffic import (
    LABELS_TOPIC,
    MODEL_ID,
    MODEL_VERSION,
    PREDICTIONS_TOPIC,
    Chunk,
    Message,
    Traffic,
    training_outcomes,
    training_table,
)

__all__ = [
    "LABELS_TOPIC",
    "MODEL_ID",
    "MODEL_VERSION",
    "MOVED",
    "NEXT_VERSION",
    "PREDICTIONS_TOPIC",
    "Chunk",
    "Message",
    "Rollout",
    "ScriptedIncident",
    "Traffic",
    "fixed_rollout",
    "fixed_script",
    "training_outcomes",
    "training_table",
]
