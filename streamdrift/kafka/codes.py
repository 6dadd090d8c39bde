"""librdkafka's own error codes under public names; the library marks them by a leading underscore."""
# ruff: noqa: SLF001 - the one place that reads them

from __future__ import annotations

from confluent_kafka import KafkaError

PARTITION_EOF = KafkaError._PARTITION_EOF
NO_POSITION = KafkaError._AUTO_OFFSET_RESET
"""The position to read from does not exist, and ``auto.offset.reset=error`` says to stop there."""

ALL_BROKERS_DOWN = KafkaError._ALL_BROKERS_DOWN
CREDENTIALS_REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})

NOT_PERMITTED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
"""The user may not do that."""

MEMBERSHIP_LOST = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)
"""The group went on without this member."""

PASSING = frozenset(
    {
        ALL_BROKERS_DOWN,
        # The first connection is given up for a named one, with the requests that wait there.
        KafkaError._DESTROY_BROKER,
        KafkaError._NOENT,  # of a partition just made: its leader is not known yet
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # likewise, and by another broker
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)
"""The same request may succeed a moment later."""
