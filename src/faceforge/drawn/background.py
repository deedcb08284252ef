"""What lies behind the person."""

from __future__ import annotations

import numpy as np

from faceforge.drawn.canvas import Bump
from faceforge.drawn.colours import hsv, rgb
from faceforge.drawn.lines import ovals
from faceforge.drawn.scene import Scene


def background(s: Scene) -> None:
    """Two related hues along a diagonal, a pool of light behind the head, a few large soft discs."""
    f, c = s.factors, s.canvas
    first = hsv(f["back_hue"], f["back_saturation"], f["back_value"])
    second = hsv(f["back_hue"] + f["back_shift"], f["back_saturation"] * 1.15, f["back_value"] * 0.60)
    angle = 2 * np.pi * f["back_angle"]
    along = c.x * np.float32(0.42 * np.cos(angle)) + (c.y * np.float32(0.42 * np.sin(angle)) + np.float32(0.5))[:, None]
    share = np.clip(along, 0, 1)
    share = share * share * (3 - 2 * share)
    pool = c.field(0.0)
    c.bumps(pool, [Bump(np.array([0.5 * f["light_x"], -0.35]), (0.95, 0.95), 0.28)])
    discs = s.noise("discs", 3, 3)
    radii = 0.26 + 0.12 * discs[:, 2]
    s.soft(pool, ovals(discs[:, :2] * (1.1, 1.0), radii, radii), 0.09, 0.035)
    warm = rgb((255, 250, 242))
    for i in range(3):
        c.pixels[i] = first[i] + share * (second[i] - first[i])
        c.pixels[i] += pool * (warm[i] - c.pixels[i])
