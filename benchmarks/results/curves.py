"""Curves of several records in one SVG, by hand, so that the same records give the same bytes on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 760, 300
LEFT, TOP, BOTTOM = 62, 30, 34
COLOURS = ("#0b6bcb", "#c4520a", "#0a7d5a", "#8a4fbf", "#8c6d00", "#b3316b")
Line = tuple[str, Mapping[str, Sequence[float]]]


def svg(title: str, lines: Sequence[Line], log: bool = False, until: float | None = None) -> str | None:
    """Lines (label, {"images", "mean"}) of the same label have the same colour; None where there is nothing to draw."""
    drawn = [(label, _points(curve, log, until)) for label, curve in lines]
    drawn = [(label, points) for label, points in drawn if points]
    if not drawn:
        return None
    labels = list(dict.fromkeys(label for label, _ in drawn))
    end = max(x for _, points in drawn for x, _ in points)
    low, high = _limits([y for _, points in drawn for _, y in points])
    height = TOP + 18 * len(labels) + HEIGHT
    top = TOP + 18 * len(labels)

    def at(x: float, y: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - 20) * x / end:.1f},{top + (HEIGHT - BOTTOM) * (high - y) / (high - low):.1f}"

    parts = [f'<text x="12" y="20" class="t">{escape(title)}</text>']
    for number, label in enumerate(labels):
        colour = COLOURS[number % len(COLOURS)]
        y = TOP + 18 * number + 6
        parts.append(f'<rect x="14" y="{y - 4}" width="22" height="4" fill="{colour}"/>')
        parts.append(f'<text x="44" y="{y + 2}">{escape(label)}</text>')
    parts += _axes(low, high, end, at, log)
    for label, points in drawn:
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        path = " ".join(at(x, y) for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{path}"/>')
    style = "text{font:12px sans-serif;fill:#333}.t{font-size:14px;fill:#111}line{stroke:#ddd}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([f"{head}<style>{style}</style>{ground}", *parts, "</svg>"]) + "\n"


def _points(curve: Mapping[str, Sequence[float]], log: bool, until: float | None) -> list[tuple[float, float]]:
    pairs = zip(curve["images"], curve["mean"], strict=True)
    kept = [(x, y) for x, y in pairs if y is not None and (until is None or x <= until) and (y > 0 or not log)]
    return [(x, math.log10(y) if log else y) for x, y in kept]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    reach = max(0.04 * (high - low), 1e-3 * max(abs(low), abs(high)), 1e-9)
    return low - reach, high + reach


def _axes(low: float, high: float, end: float, at: Any, log: bool) -> list[str]:
    parts = []
    for tick in ticks(low, high, 5):
        x, y = at(0, tick).split(",")
        told = f"{10**tick:.3g}" if log else f"{tick:g}"
        parts.append(f'<line x1="{x}" x2="{WIDTH - 20}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{told}</text>')
    whole = "{:,.0f}".format if end > 10 else "{:g}".format
    for tick in ticks(0, end, 6):
        x, y = map(float, at(tick, low).split(","))
        inside = min(x, WIDTH - 3.5 * len(whole(tick)))  # half of its letters
        parts.append(f'<text x="{inside:.1f}" y="{y + 18:.1f}" text-anchor="middle">{whole(tick)}</text>')
    return [*parts, f'<text x="{WIDTH - 20}" y="{TOP - 10}" text-anchor="end">against images seen</text>']


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers from low to high."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * nice for nice in (1, 2, 2.5, 5, 10) if size * nice >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    found = [round(step * n, 12) for n in range(first, first + 2 * count + 2)]
    return [tick for tick in found if tick <= high + 1e-9 * step]
