"""Codecs turn bytes into columns: one file a format.

A codec reads a ``RecordBatch`` and gives a ``Decoded``: the events as one ``Batch`` a model version, and a
dead letter for every message that is not an event. A wrong value in one feature costs that feature only.
"""

from streamdrift.codecs.mapping import At, Const, Header, Key, Mapping, Place, PredictionParts
from streamdrift.codecs.source import Decoded, DecodedBatch, EventTime, Source, TimestampUnit

__all__ = [
    "At",
    "Const",
    "Decoded",
    "DecodedBatch",
    "EventTime",
    "Header",
    "Key",
    "Mapping",
    "Place",
    "PredictionParts",
    "Source",
    "TimestampUnit",
]
