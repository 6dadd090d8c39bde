"""Mergeable summaries: a commutative monoid of what happened in one model, segment and tick.

``empty + s == s``, ``a + b == b + a``, ``(a + b) + c == a + (b + c)``, bit for bit, and the summary of a
batch equals the sum of the summaries of its parts. Everything is an integer count, or bounded by the k
smallest hashes: the k smallest of a union are the k smallest of the parts' k smallest.
"""

from streamdrift.summaries.moments import Moments
from streamdrift.summaries.names import Names
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.raw_rows import RawRows, Row
from streamdrift.summaries.summary import Summary, SummaryKey, summarise

__all__ = ["Moments", "Names", "Pairs", "RawRows", "Row", "Summary", "SummaryKey", "summarise"]
