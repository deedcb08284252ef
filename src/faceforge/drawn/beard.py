"""Stubble, beards and moustaches."""

from __future__ import annotations

import numpy as np

from faceforge.drawn.colours import Array, mix
from faceforge.drawn.lines import Points, both, curve, mirrored, moved, resample, segments
from faceforge.drawn.locks import streak
from faceforge.drawn.mouth import lips
from faceforge.drawn.scene import Scene

NO_BEARD, STUBBLE, MOUSTACHE, GOATEE, FULL_BEARD = range(5)


def beard_light(s: Scene) -> Array:
    """The form of the lower face."""
    return np.float32(0.42) + np.float32(0.42 * s.contrast) * s.form(s.head.width * 1.15, 0.95, 0.1)


def beard(s: Scene) -> None:
    """Stubble, goatee or full beard along the jaw."""
    f, c, kind = s.factors, s.canvas, int(s.factors["beard"])
    if kind in (NO_BEARD, MOUSTACHE):
        return
    area, strands = chin_beard(s) if kind == GOATEE else jaw_beard(s, kind)
    if kind == STUBBLE:
        c.paint(c.mask(area, blur=0.035), mix(s.hair * 0.60, s.skin * 0.55, 0.40), 0.28 + 0.22 * f["beard_length"])
        return
    light = beard_light(s)
    streak(s, light, strands, 0.010)
    c.paint(c.mask(area, blur=0.030), s.hair_ramp[:, 150], 0.30)
    c.shade(c.mask(area, blur=0.010), light, s.hair_ramp, 0.94)


def jaw_beard(s: Scene, kind: int) -> tuple[Points, Points]:
    """From the sideburns around the jaw; its upper edge runs down the cheeks to the moustache."""
    h, w = s.head, s.head.width
    grow = 0.0 if kind == STUBBLE else 0.012 + 0.05 * s.factors["beard_length"]
    outer = h.jaw()
    outer *= 1 + grow / w * np.clip(outer[:, 1:] / h.chin_y, 0, 1) * (0.7, 1.3)
    half = [(0.98, 0.02), (0.90, 0.20), (0.76, 0.33 * h.length), (0.50, h.mouth_y - 0.075), (0.22, h.mouth_y - 0.12)]
    right = np.array([*half, (0.0, h.nose_y + 0.045)]) * (w, 1)
    edge = curve(np.concatenate([right * (-1, 1), right[-2::-1]]))
    count = 46
    a, b = resample(edge, count), resample(outer[::-1], count)
    root = a + (b - a) * (0.15 + 0.15 * (np.arange(count) % 3))[:, None]
    strands = curve(np.stack([root, (root + b) / 2 + (0.01, 0), b], axis=1), steps=3)
    return np.concatenate([h.place(edge), h.place(outer, flat=True)]), h.place(strands, flat=True)


def chin_beard(s: Scene) -> tuple[Points, Points]:
    """A goatee: a tuft under the lip that covers the chin."""
    h, low = s.head, s.head.chin_y + 0.02 + 0.07 * s.factors["beard_length"]
    top = h.mouth_y + 0.10 + h.drop
    right = np.array(
        [(0.0, top - 0.005), (0.05, top), (0.13, top + 0.02), (0.15, h.chin_y - 0.05), (0.09, low - 0.01), (0.0, low)]
    )
    x = np.linspace(-0.13, 0.13, 18)
    roots, ends = (np.stack([0.6 * x, top + 0.02 + 0 * x], axis=1), np.stack([x, low - 0.2 * np.abs(x)], axis=1))
    return h.place(curve(mirrored(right), closed=True)), h.place(segments(roots, ends, 6))


def moustache(s: Scene) -> None:
    """Hair over the upper lip, combed to both sides."""
    h, kind = s.head, int(s.factors["beard"])
    if kind < MOUSTACHE:
        return
    top = lips(s).top
    (x, y), reach = top[16], 1.26 if kind == MOUSTACHE else 1.08
    half = [(0.0, h.nose_y + 0.060), (0.045, h.nose_y + 0.047), (0.72 * x, y - 0.060), (x * reach, y + 0.022)]
    half += [(0.95 * x, y + 0.012), (top[12, 0], top[12, 1] + 0.008), (0.0, top[8, 1] + 0.002)]
    ends = moved(top[8:], 0, 0.008)
    strands = segments(np.broadcast_to((0.02, h.nose_y + 0.07), ends.shape), ends, 6)
    light = beard_light(s) + np.float32(0.03)
    streak(s, light, h.place(np.concatenate([strands, strands * (-1, 1)]), 0.02), 0.010)
    s.canvas.shade(s.canvas.mask(h.place(both(curve(half, closed=True)), 0.02), blur=0.008), light, s.hair_ramp, 0.95)
