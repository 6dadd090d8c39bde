"""The same as a picture: a page that stands alone, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from tests.quality.budgets import Exposure
from tests.quality.delays import Runs
from tests.quality.report import Results
from tests.quality.targets import RATIO

_LEFT, _WIDTH, _ROW = 360, 620, 20
_COLOURS: Final = ("#0b6e4f", "#d1495b", "#edae49", "#8d96a3", "#30638e", "#7a9cc6", "#b388eb", "#222222")
_MOST_EVENTS: Final = 20_000
_MOST_RATIO: Final = 2.0


def page(results: Results) -> str:
    """HTML with a chart of the budgets and one of the delays."""
    body = [*_budgets([*results.budgets, *results.weekly]), *_delays(results)]
    return "\n".join(
        [
            "<!doctype html><meta charset=utf-8><title>streamdrift: quality</title>",
            "<style>body{font:14px system-ui;margin:2em}svg{font:12px system-ui;display:block}</style>",
            *body,
        ]
    )


def _budgets(exposures: Sequence[Exposure]) -> Iterator[str]:
    """A dot and its interval for each cell, beside the budget (1) and what must not be exceeded."""
    if not exposures:
        return
    yield "<h2>False incidents over budget, while nothing changes</h2>"
    yield _opened(len(exposures))
    for at, colour in ((0.0, "#ddd"), (1.0, "#999"), (RATIO, "#d1495b")):
        yield _vertical(_of_ratio(at), len(exposures), colour, f"{at:g}")
    for row, exposure in enumerate(exposures):
        low, high = (_of_ratio(bound) for bound in exposure.interval)
        y = _y(row)
        yield _label(row, f"{exposure.plan.name}, {exposure.plan.per_day:.2g} a day")
        yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{_COLOURS[0]}"/>'
        yield f'<circle cx="{_of_ratio(exposure.ratio):.1f}" cy="{y}" r="4" fill="{_COLOURS[0]}"/>'
    yield "</svg>"


def _delays(results: Results) -> Iterator[str]:
    """A dot for each detector that finds a change; hollow where it finds fewer than nine of ten."""
    if not results.sides:
        return
    names = list(next(iter(results.sides.values())))
    yield "<h2>Median delay in events (hollow: fewer than 90 % found without an alarm before)</h2>"
    keys = zip(names, _COLOURS, strict=False)
    yield "<p>" + " ".join(f'<span style="color:{colour}">● {escape(name)}</span>' for name, colour in keys) + "</p>"
    yield _opened(len(results.sides))
    for events in (10, 100, 1_000, 10_000):
        yield _vertical(_of_events(events), len(results.sides), "#ddd", f"{events:,}")
    for row, (change, sides) in enumerate(results.sides.items()):
        yield _label(row, change)
        for name, colour in zip(names, _COLOURS, strict=False):
            yield from _dot(sides[name], row, colour)
    yield "</svg>"


def _dot(runs: Runs, row: int, colour: str) -> Iterator[str]:
    if runs.median is not None:
        fill = colour if len(runs.delays) >= 0.9 * runs.count else "white"
        x = _of_events(runs.median)
        yield f'<circle cx="{x:.1f}" cy="{_y(row)}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def _opened(rows: int) -> str:
    return f'<svg width="{_LEFT + _WIDTH + 40}" height="{_y(rows) + 20}">'


def _y(row: int) -> int:
    return 30 + _ROW * row


def _label(row: int, name: str) -> str:
    return f'<text x="{_LEFT - 20}" y="{_y(row) + 4}" text-anchor="end">{escape(name)}</text>'


def _vertical(x: float, rows: int, colour: str, name: str) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="18" y2="{_y(rows)}" stroke="{colour}"/>'
    return f'{line}<text x="{x:.1f}" y="12" text-anchor="middle">{name}</text>'


def _of_ratio(ratio: float) -> float:
    return _LEFT + _WIDTH * min(ratio, _MOST_RATIO) / _MOST_RATIO


def _of_events(events: float) -> float:
    return _LEFT + _WIDTH * math.log10(max(events, 1.0)) / math.log10(_MOST_EVENTS)
