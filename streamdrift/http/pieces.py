"""What tables and facts of the status page are made of: pieces of markup, words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from streamdrift.http.elements import Html, el
from streamdrift.http.values import rfc3339
from streamdrift.ticks import MICROSECONDS

MAX_ROWS: Final = 100
"""Rows of one table; what is beyond is counted, and stands in the document."""

UNKNOWN: Final = "–"  # noqa: RUF001 — a dash is what a table shows for nothing


def table(heads: Sequence[tuple[str, str | None, str | None]], rows: Sequence[Html]) -> Html:
    """A table; a head is its text, its class and its title."""
    head = [el("th", text, class_=class_, title=title, scope="col") for text, class_, title in heads]
    return el("table", el("thead", el("tr", head)), el("tbody", rows))


def facts(facts: Mapping[str, str | None]) -> Html:
    """Terms with their facts; one that is None is left out."""
    return el("dl", [el("div", el("dt", term), el("dd", fact[:100])) for term, fact in facts.items() if fact])


def chip(text: str, kind: str) -> Html:
    """A word in the colour of a state or a severity."""
    return el("span", text, class_=f"chip {kind}")


def beyond(count: int, what: str) -> Html | None:
    """That there is more than is shown."""
    if count <= 0:
        return None
    return el("p", f"and {count:,} more {what}: see ", el("a", "the JSON", href="api/v1/status"), class_="quiet")


# ---- words and numbers ---------------------------------------------------------------------------------------------


def words(identifier: str) -> str:
    """An identifier as words."""
    return identifier.replace("_", " ")


def count(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def optional_count(count: int | None) -> str:
    """A count, or that it is not known."""
    return UNKNOWN if count is None else f"{count:,}"


def number(value: float | None) -> str:
    """A number to two places, or that it is not known."""
    return UNKNOWN if value is None else f"{value:,.2f}"


_SMALLEST_SHARE: Final = 0.0005


def share(ratio: float | None) -> str:
    """A ratio in per cent, or that it is not known."""
    if ratio is None:
        return UNKNOWN
    return "< 0.1 %" if 0 < ratio < _SMALLEST_SHARE else f"{100 * ratio:.1f} %"


def clock(time_us: float | None) -> str:
    """A time to the second."""
    written = rfc3339(time_us)
    return UNKNOWN if written is None else f"{written[:10]} {written[11:19]} UTC"


_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def ago(time_us: float | None, now_us: float) -> str:
    """A time and how far it is from now: the reader's question is whether it is fresh."""
    if time_us is None or rfc3339(time_us) is None:
        return UNKNOWN
    seconds = round((now_us - time_us) / MICROSECONDS)
    if abs(seconds) < _MINUTE:
        return f"{seconds} s ago" if seconds >= 0 else f"in {-seconds} s"
    return f"{clock(time_us)}, {span(abs(seconds))} {'ago' if seconds > 0 else 'ahead'}"


def span(seconds: int) -> str:
    """A length of time in its two largest units."""
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"
