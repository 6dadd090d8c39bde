"""CloudEvents 1.0 in Kafka's binary mode: attributes are headers, and the value is the data as it is."""

from __future__ import annotations

from streamdrift.evidence import rfc3339
from streamdrift.records import Headers


def attributes(kind: str, event_id: str, source: str, subject: str, time_us: int) -> Headers:
    """The headers of an event of type ``kind`` whose data is JSON. ``time_us`` in microseconds since the epoch."""
    found = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": kind,
        "ce_subject": subject,
        "ce_time": rfc3339(time_us),
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in found.items()]
