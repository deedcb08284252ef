"""Neck, shoulders and what covers them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from faceforge.drawn.canvas import Bump, clipped
from faceforge.drawn.colours import Array, cloth_ramp, hsv
from faceforge.drawn.lines import Points, both, curve, moved, ribbon
from faceforge.drawn.scene import Scene


def body(s: Scene) -> None:
    """Neck, shoulders and clothes, with the shadow that the head casts on them."""
    f, c = s.factors, s.canvas
    x0, chin = s.head.centre[0] * 0.6, s.head.spot(0.0, s.head.chin_y, flat=True)[1]
    neck, wide = 0.265 + 0.085 * f["male"] * f["build"], 0.92 + 0.18 * f["male"] + 0.12 * (f["build"] - 1)
    half = [(neck, chin - 0.5), (neck, chin + 0.06), (neck * 1.25, chin + 0.15), (wide * 0.62, chin + 0.27)]
    half += [(wide, chin + 0.43), (wide * 1.12, chin + 1.0)]
    right = np.concatenate([curve(half), [(wide * 1.12, 12.0)]])
    torso = moved(np.concatenate([right, right[::-1] * (-1, 1)]), x0, 0)
    light = c.field(0.43) + np.clip(s.light[0] * (c.x - np.float32(x0)), -0.35, 0.35) * np.float32(0.35)
    tendons = moved(curve(both([(0.24, chin - 0.1), (0.06, chin + 0.34)])), x0, 0)
    s.soft(light, ribbon(tendons, 0.06), 0.05, 0.03)
    c.bumps(light, [Bump(np.array([x0 - 0.16 * f["light_x"], chin - 0.05]), (0.44, 0.22), -0.30)])
    c.shade(c.mask(torso), light, s.skin_ramp)
    clothes(s, torso, x0, chin)


class Neckline(NamedTuple):
    """Half width, height at the sides and at the middle (below the chin), sharpness of the bend, width of the hem."""

    side: float
    rise: float
    drop: float
    bend: float
    hem: float


NECKLINES = {
    "crew": Neckline(0.36, 0.11, 0.21, 2.4, 0.032),
    "v": Neckline(0.37, 0.10, 0.40, 1.0, 0.030),
    "collar": Neckline(0.35, 0.08, 0.30, 1.0, 0.0),
    "turtle": Neckline(0.345, -0.06, 0.02, 2.4, 0.05),
    "wide": Neckline(0.64, 0.20, 0.36, 2.4, 0.018),
}


def clothes(s: Scene, torso: Points, x0: float, chin: float) -> None:
    """A garment over the torso: its neckline is a curve cut out of the shoulders."""
    f, c = s.factors, s.canvas
    kind = list(NECKLINES)[min(int(f["clothes_style"] * len(NECKLINES)), len(NECKLINES) - 1)]
    cut, t = NECKLINES[kind], np.linspace(-1, 1, 25)
    edge = np.stack([x0 + cut.side * t, chin + cut.rise + (cut.drop - cut.rise) * (1 - np.abs(t) ** cut.bend)], axis=1)
    below = np.array([(9.0, chin + cut.rise), (9.0, 14.0), (-9.0, 14.0), (-9.0, chin + cut.rise)])
    grown = c.mask(moved(moved(torso, -x0, 0) * (1.03, 1.0), x0, -0.012))
    light = c.field(0.50) + np.clip(s.light[0] * (c.x - np.float32(x0)), -0.5, 0.5) * np.float32(0.25)
    c.bumps(light, [Bump(np.array([x0, chin + 0.02]), (0.5, 0.16), -0.20)])
    folds(s, light, x0, chin)
    colours = cloth_ramp(hsv(f["clothes_hue"], f["clothes_saturation"], f["clothes_value"]))
    inside = lambda *shapes, blur=0.0: clipped(c.mask(*shapes, box=grown.box, blur=blur), grown)  # noqa: E731
    c.tint(inside(ribbon(edge, 0.05), blur=0.02), (120, 84, 84), 0.5)
    c.shade(inside(np.concatenate([edge, below])), light, colours)
    if cut.hem:
        c.shade(inside(ribbon(moved(edge, 0, cut.hem / 2), cut.hem)), light + np.float32(0.10), colours)
    else:
        collar(s, x0, chin, light, colours)


def folds(s: Scene, light: Array, x0: float, chin: float) -> None:
    """Soft lines down the garment."""
    x, bow = s.noise("folds", 6, 2).T
    top, low = np.stack([x, 0 * x + 0.30], axis=1), np.stack([0.9 * x, 0 * x + 1.2], axis=1)
    middle = np.stack([x + 0.12 * bow, 0 * x + 0.55], axis=1)
    lines = moved(ribbon(curve(np.stack([top, middle, low], axis=1)), 0.05), x0, chin)
    s.canvas.relief(light, 0.025, (lines[:3], 0.07), (lines[3:], -0.09))


def collar(s: Scene, x0: float, chin: float, light: Array, colours: Array) -> None:
    """Two flaps of a shirt."""
    flaps = moved(both([(0.02, 0.30), (0.28, 0.05), (0.37, 0.09), (0.34, 0.29), (0.19, 0.41)]), x0, chin)
    s.canvas.tint(s.canvas.mask(moved(flaps, 0, 0.03), blur=0.025), (90, 80, 90), 0.55)
    s.canvas.shade(s.canvas.mask(flaps), light + np.float32(0.13), colours)
