"""Every error that streamdrift raises on purpose.

::

    StreamdriftError
    ├── ConfigurationError    a setting, a file, a topic, credentials or          exit code 2
    │                         permissions are not as they must be
    ├── BrokerUnreachable     no broker answered at start                         exit code 3
    └── FatalError            the process cannot go on and should be restarted    exit code 70
        ├── StateError        stored state cannot be continued from
        └── DeliveryError     a record could not be produced
"""

from __future__ import annotations


class StreamdriftError(Exception):
    """Root of the tree; ``exit_code`` is what the command line ends with."""

    exit_code = 70


class ConfigurationError(StreamdriftError):
    """The configuration, a file that it names, or the cluster that it points to is wrong, or refuses the user."""

    exit_code = 2


class BrokerUnreachable(StreamdriftError):
    """No broker answered while starting."""

    exit_code = 3


class FatalError(StreamdriftError):
    """Going on could lose or repeat something: end the process and let it be restarted."""


class StateError(FatalError):
    """Stored state is damaged or was written by a newer version."""


class DeliveryError(FatalError):
    """A record was not acknowledged by the broker."""
