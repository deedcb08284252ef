"""Locks of hair: outlines that are filled, and strands along which they are combed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from faceforge.drawn.canvas import Mask
from faceforge.drawn.colours import Array
from faceforge.drawn.lines import Points, between, curve, hump, moved, normals, resample, ribbon, segments, travelled
from faceforge.drawn.scene import Scene


class Lock(NamedTuple):
    """A mass of hair in unit coordinates: stacks of outlines to fill, and lines (n, p, 2) along which it is combed."""

    outlines: list[Points]
    strands: Points


def waved(line: Points, amount: float, phase: float = 0.0) -> Points:
    """Pushes a line sideways in waves that begin some way from its root: (24, 2)."""
    line = resample(line, 24)
    way = travelled(line)
    push = 0.045 * amount * np.sin(way * (11 + 5 * amount) + phase) * np.clip(way / 0.5 - 0.3, 0, 1)
    return line + push[:, None] * normals(line)


def combed(s: Scene, a: Points, b: Points, count: int = 16, flat: bool = True) -> Lock:
    """A ribbon between two guide lines in head coordinates, with strands running between them."""
    wave = s.factors["hair_wave"]
    a, b = waved(a, wave), waved(b, wave, 0.6)
    shares = (np.arange(count) + 0.5 + 0.35 * s.noise("comb", count)[:, 0]) / count
    strands = a + shares[:, None, None] * (b - a)
    return Lock([s.head.place(between(a, b), flat=flat)], s.head.place(strands, flat=flat))


def tufts(locks: Sequence[Lock]) -> Lock:
    """Several locks of hair as one, painted at once."""
    return Lock([o for lock in locks for o in lock.outlines], np.concatenate([lock.strands for lock in locks]))


def crown(s: Scene, volume: float, low: float = 0.0) -> Points:
    """The head's contour above `low`, grown by a volume of hair, from left to right (head coordinates)."""
    right = curve(s.head.half_outline(volume))
    right[:, 1] -= 0.30 * volume * np.clip(-right[:, 1] / 0.7, 0, 1)
    right = right[right[:, 1] < low]
    return np.concatenate([right[::-1] * (-1, 1), right[1:]])


def hairline(s: Scene, lower: float = 0.0, skew: float = 0.0) -> Points:
    """Where hair begins above the face, from left to right; age and sex move the temples back."""
    f, w = s.factors, s.head.width
    back = 0.07 * f["recession"]
    half = [(1.01, 0.02), (0.90, -0.05), (0.875, -0.18), (0.81 - back, -0.33)]
    half = np.array([*half, (0.54, -0.445 - back), (0.22, -0.475 - back * 0.6)])
    half = moved(half * (w, 1), 0, lower)
    points = np.concatenate([half * (-1, 1), half[::-1]])
    points[:, 1] += skew * points[:, 0] * np.clip(-points[:, 1] - 0.1, 0, 0.4) * 2.2
    return curve(points)


def cap(s: Scene, volume: float, line: Points, low: float = 0.0, part: tuple[float, float] | None = None) -> Lock:
    """Hair lying over the skull; strands run from the hairline back, or from a parting to both sides."""
    edge, top = s.head.place(line), s.head.place(crown(s, volume, low), flat=True)
    count = 30
    ends, roots = resample(top, count), resample(edge, count)
    if part is None:
        return Lock([between(edge, top)], segments(roots, ends, 6))
    start, ends = s.head.place(part), np.concatenate([ends, roots])
    middle = (start + ends) / 2 + np.stack([0.10 * (ends[:, 0] - start[0]), np.full(len(ends), -0.07)], axis=1)
    return Lock([between(edge, top)], curve(np.stack([start + 0.1 * (ends - start), middle, ends], axis=1)))


def hair_light(s: Scene) -> Array:
    """The head's form, and a bright band bent around the skull where smooth hair mirrors the light."""
    light = np.float32(0.42) + np.float32(0.50 * s.contrast) * s.form(0.78, 0.98, -0.05, lowest=0.15)
    aside = s.u - np.float32(0.10 * s.factors["light_x"])
    band = (s.v + np.float32(0.57) - np.float32(0.45) * aside * aside) * np.float32(1 / 0.085)
    gloss = 0.19 * (1 - 0.7 * s.factors["hair_curl"])
    return light + np.float32(gloss) * np.exp(-band * band)


def streak(s: Scene, light: Array, strands: Points, width: float) -> None:
    """Light and dark lines, by chance, on a light field."""
    tones = s.noise("streaks", len(strands))[:, 0]
    strokes = ribbon(strands, width * hump(np.linspace(-0.9, 1, strands.shape[1]), 0.5))
    share = s.canvas.thin(width)
    s.canvas.relief(light, 0.005, (strokes[tones > 0], 0.17 * share), (strokes[tones <= 0], -0.20 * share))


def paint_hair(s: Scene, locks: Sequence[Lock], dim: float = 0.0) -> None:
    """Fills locks in order, each with streaks along its strands and a darker rim that sets it off."""
    c = s.canvas
    if not locks:
        return
    base = hair_light(s) - np.float32(dim)
    for lock in locks:
        light = base.copy()
        streak(s, light, lock.strands, 0.012 + 0.010 * s.factors["hair_curl"])
        mask = c.mask(*lock.outlines, blur=0.004)
        rims = [ribbon(np.concatenate([line, line[..., :1, :]], axis=-2), 0.03) for line in lock.outlines]
        edge = c.mask(*rims, blur=0.014)
        light[edge.box] -= np.float32(0.10) * edge.alpha
        c.shade(under_hat(s, mask), light, s.hair_ramp)


def under_hat(s: Scene, mask: Mask) -> Mask:
    """Removes what a hat presses down."""
    if s.factors["hat"] < 0.5:
        return mask
    return Mask(mask.alpha * np.clip((s.v[mask.box] + np.float32(0.36)) * np.float32(20), 0, 1), mask.box)
