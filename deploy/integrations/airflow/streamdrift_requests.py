"""What Airflow's triggerer does with a message of the topic ``retraining-requests``.

Belongs where the triggerer can import it, for example into ``$AIRFLOW_HOME/plugins``: the folder of DAGs is not on its
path.
"""

from __future__ import annotations

import json
from typing import Any, Protocol


class Message(Protocol):
    """A message as confluent-kafka gives it."""

    def value(self) -> bytes | None:
        """The record's value."""


def requested(message: Message) -> dict[str, Any] | None:
    """The request if a training is asked for; None lets the message pass: it tells how a request ended."""
    value = message.value()
    if value is None:
        return None
    data: dict[str, Any] = json.loads(value)
    return data if data.get("phase") == "requested" else None
