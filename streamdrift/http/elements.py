"""HTML that cannot be built unescaped: whatever is not ``Html`` already is text, and is escaped.

>>> el("td", "<script>", class_="name")
'<td class="name">&lt;script&gt;</td>'
>>> el("p", "a ", el("b", "&"), None)
'<p>a <b>&amp;</b></p>'
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias

MAX_NAME: Final = 80
"""Longer names are cut on the page; the document has them whole."""

_VOID: Final = frozenset({"br", "link", "meta", "rect"})


class Html(str):
    """Markup that this package wrote."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def _text(child: Child) -> str:
    match child:
        case None:
            return ""
        case Html():
            return child
        case str():
            return escape(child)
        case _:
            return "".join(map(_text, child))


def el(tag: str, *children: Child, **attributes: str | None) -> Html:
    """One element. ``class_`` and ``http_equiv`` mean class and http-equiv; None leaves an attribute out."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}/>")
    return Html(f"<{tag}{written}>{_text(children)}</{tag}>")


def name(value: str) -> Html:
    """A name from a user's events: as long as a page can bear, its writing direction kept to itself."""
    if len(value) <= MAX_NAME:
        return el("bdi", _breakable(value))
    return el("bdi", _breakable(f"{value[: MAX_NAME - 1]}…"), title=value[: 5 * MAX_NAME])


def _breakable(value: str) -> Html:
    # Browsers break `avg_amount_30d` anywhere or nowhere; after a joint is where a reader would.
    return Html(escape(value).replace("_", "_<wbr>").replace(".", ".<wbr>"))
