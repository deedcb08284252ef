"""Lips, and what an open mouth shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from faceforge.drawn.canvas import Bump, clipped
from faceforge.drawn.colours import Array, hsv, mix, ramp, rgb
from faceforge.drawn.lines import Points, between, hump, moved, ovals, ribbon, segments
from faceforge.drawn.scene import Scene

TEETH = (250, 246, 238)
MOUTH_INSIDE = (92, 30, 34)
TONGUE = (206, 104, 104)


class Lips(NamedTuple):
    """Four lines over t in [-1, 1], in head coordinates (17, 2), from the upper to the lower edge."""

    top: Points
    upper: Points
    lower: Points
    bottom: Points


T17 = np.linspace(-1, 1, 17)


def lips(s: Scene) -> Lips:
    """Where the mouth lies: corners follow the smile, the gap follows the jaw."""
    f, t = s.factors, T17
    smile, cheer, opened, full = f["smile"], s.cheer, f["mouth_open"], f["lips"]
    x = t * 0.172 * f["mouth_width"] * (1 + 0.24 * cheer + 0.04 * smile - 0.12 * opened * (1 - cheer))
    line = s.head.mouth_y + 0.022 * smile - 0.082 * smile * np.abs(t) ** 1.7 + 0.004 * np.cos(3 * np.pi * t)
    gap = 0.125 * opened
    upper = line - 0.20 * gap * hump(t, 0.6) - 0.012 * opened
    lower = line + 0.95 * gap * hump(t, 0.62) * (1 - 0.15 * max(-smile, 0))
    bow = hump(t, 0.75) * (1 - 0.24 * np.exp(-((t / 0.17) ** 2))) * (1 + 0.10 * np.cos(np.pi * t * 2))
    top = upper - 0.048 * full * bow * (1 - 0.25 * cheer)
    bottom = lower + 0.068 * full * hump(t, 0.66) * (1 - 0.22 * cheer)
    return Lips(*(np.stack([x, y], axis=1) for y in (top, upper, lower, bottom)))


def mouth(s: Scene) -> None:
    """The open mouth, lips with their light and colour, the dark line and its corners."""
    f, h, c = s.factors, s.head, s.canvas
    shape, is_open = lips(s), f["mouth_open"] > 0.04
    if is_open:
        inside_mouth(s, shape)
    natural = mix(s.skin * rgb((0.90, 0.64, 0.62)), (196, 92, 92), 0.25)
    colours = lip_ramp(mix(natural, hsv(f["lipstick_hue"], 0.72, 0.74), 0.85 * f["lipstick"]))
    light = c.field(0.5)
    middle, edge = (shape.lower + shape.bottom) / 2, h.place(ribbon(shape.bottom, 0.018))
    middle = h.place(ribbon(middle[4:13], 0.022 * f["lips"]), 0.02)
    upper = h.place(between(shape.top, shape.upper))
    c.relief(light, 0.008, (upper, -0.13), (edge, -0.12), (middle, 0.24 + 0.12 * f["lipstick"]))
    halves = np.stack([between(shape.top, shape.upper), between(shape.lower, shape.bottom)])
    soft, strength = (0.004 + 0.006 * (1 - f["lipstick"]) * f["male"], 0.62 + 0.38 * max(f["lipstick"], 1 - f["male"]))
    c.shade(c.mask(h.place(halves, 0.01), blur=soft), light, colours, strength)
    dark = mix(s.skin_ramp[:, 12], (92, 28, 30), 0.35)
    edges = np.stack([shape.upper, shape.lower] if is_open else [shape.upper])
    c.paint(c.mask(h.place(ribbon(edges, 0.006 + 0.010 * hump(T17, 0.5))), blur=0.004), dark, 0.75)
    corners = h.place(shape.upper[[0, 16]] * (1.03, 1.0))
    c.paint(c.mask(ovals(corners, 0.016, 0.014), blur=0.010), s.skin_ramp[:, 30], 0.55)


def inside_mouth(s: Scene, shape: Lips) -> None:
    """Dark cavity, tongue, an upper row of teeth that follows the lip."""
    h, c = s.head, s.canvas
    hole = c.mask(h.place(between(shape.upper, shape.lower)))
    inside = lambda points, blur=0.0: clipped(c.mask(points, box=hole.box, blur=blur), hole)  # noqa: E731
    c.paint(hole, rgb(MOUTH_INSIDE))
    c.paint(
        inside(h.place(between(shape.upper, moved(shape.lower * (0.6, 1.0), 0, -0.04))), 0.02), rgb((44, 12, 16)), 0.7
    )
    c.paint(inside(ovals(h.place(moved(shape.lower[8], 0, 0.022)), 0.10, 0.05), 0.010), rgb(TONGUE), 0.9)
    depth = (0.020 + 0.052 * min(0.25 + 1.05 * s.cheer, 1.0)) * hump(T17, 0.35)
    teeth = between(moved(shape.upper, 0, -0.02), shape.upper + np.stack([0 * T17, depth], axis=1))
    light = c.field(0.92)
    s.soft(light, h.place(ribbon(shape.upper, 0.03)), -0.30, 0.010)
    c.bumps(light, [Bump(corner, (0.07, 0.09), -0.55) for corner in h.place(shape.upper[[0, 16]])])
    x = np.array([-0.115, -0.075, -0.038, 0.0, 0.038, 0.075, 0.115])[:, None] * (1, 0)
    gaps = ribbon(segments(moved(x, 0, h.mouth_y - 0.12), moved(x, 0, h.mouth_y + 0.16), 2), 0.004)
    s.soft(light, h.place(gaps), -0.25 * c.thin(0.004), 0.003)
    c.shade(inside(h.place(teeth)), light, ramp((70, 34, 36), (176, 150, 142), TEETH))


def lip_ramp(base: Array) -> Array:
    """Moist skin: dark red shadows, nearly white highlights."""
    dark, soft = base * rgb((0.42, 0.30, 0.32)), base * rgb((0.74, 0.66, 0.68))
    return ramp(dark, soft, base, mix(base, (255, 226, 220), 0.40), (255, 246, 242))
