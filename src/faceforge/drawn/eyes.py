"""Eyes, lashes and brows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from faceforge.drawn.canvas import Bump, Mask, clipped
from faceforge.drawn.colours import hsv, mix, palette, ramp, rgb
from faceforge.drawn.lines import Points, between, both, curve, hump, moved, ovals, ribbon
from faceforge.drawn.scene import Scene

IRIS = [(116, 158, 196), (120, 160, 140), (128, 132, 80), (134, 94, 48), (84, 54, 34), (50, 34, 26)]
SCLERA = (246, 243, 240)
LASH = (38, 26, 24)


class Eyes:
    """The lids' lines over t in [-1 inner corner, 1 outer corner], in half eye widths, and where they lie."""

    def __init__(self, s: Scene) -> None:
        f, self.head = s.factors, s.head
        self.wide = 0.131 * f["eye_size"]
        t = self.t = np.linspace(-1, 1, 17)
        height, tilt = f["eye_open"] * (1 - 0.12 * s.cheer), -0.16 * f["eye_tilt"] * t
        self.upper = -0.60 * height * hump(t * 0.98 + 0.02, 0.62) * (1 - 0.10 * t) + tilt
        lower = 0.41 * (0.45 + 0.55 * height) * (1 - 0.36 * s.cheer) * hump(t, 0.72) * (1 + 0.18 * t) + tilt
        self.lower = np.maximum(lower, self.upper)

    def place(self, x: ArrayLike, y: ArrayLike, lift: float = 0.0) -> Points:
        """Both eyes' points: (2, ..., 2) unit coordinates of eye coordinates (...)."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        line = np.stack([self.head.spacing + self.wide * x, self.wide * y], axis=-1)
        return self.head.place(np.stack([line * (-1.0, 1.0), line]), lift)


def eyes(s: Scene) -> None:
    """Both eyes: white with the lid's shadow, iris, lid lines and lashes."""
    f, c, e = s.factors, s.canvas, Eyes(s)
    makeup(s, e)
    white = c.mask(between(e.place(e.t, e.upper), e.place(e.t, e.lower)))
    light = c.field(0.86)
    s.soft(light, ribbon(e.place(e.t, e.upper), 0.07), -0.34, 0.014)
    c.bumps(light, [Bump(corner, (0.05, 0.08), -0.12) for corner in e.place(1.0, 0.0)])
    c.shade(white, light, ramp((96, 70, 72), (186, 168, 166), SCLERA))
    c.paint(c.mask(ovals(e.place(-0.93, 0.03), 0.016, 0.014), blur=0.006), rgb((222, 132, 124)), 0.7)
    look = np.array([-1.0, 1.0]) * 0.24 * f["gaze_x"]
    at = np.stack([e.place(x, -0.07 + 0.15 * f["gaze_y"])[i] for i, x in enumerate(look)])
    iris(s, white, at, e.wide)
    lashes(s, e)


def iris(s: Scene, white: Mask, at: Points, wide: float) -> None:
    """Dark rim, coloured ring brighter below, pupil, and the catchlight that makes it alive."""
    f, c = s.factors, s.canvas
    r = 0.49 * wide * s.head.scale
    base = palette(IRIS, f["iris"])

    def disc(size: float, x: float = 0.0, y: float = 0.0, blur: float = 0.0, flat: float = 1.0) -> Mask:
        shapes = ovals(moved(at, x * r, y * r), size * r, size * r * flat)
        return clipped(c.mask(shapes, box=white.box, blur=blur * r), white)

    c.paint(disc(1.0), base * 0.42)
    c.paint(disc(0.86, blur=0.08), base)
    c.paint(disc(0.55, 0.0, 0.38, 0.22), mix(base, (255, 244, 214), 0.42), 0.85)
    c.paint(disc(0.42, blur=0.05), rgb((18, 14, 16)))
    c.paint(disc(1.2, 0.0, -1.0, 0.25, 0.52), rgb((22, 14, 16)), 0.50)
    x = 0.36 if f["light_x"] > 0 else -0.36
    c.paint(disc(0.28, x, -0.34), rgb((255, 255, 255)), 0.95)
    c.paint(disc(0.14, -x, 0.42), rgb((255, 255, 255)), 0.45)


def makeup(s: Scene, e: Eyes) -> None:
    """Colour on the lid, and the fold above it that everybody has."""
    f, c = s.factors, s.canvas
    fold = e.upper - 0.17 - 0.10 * hump(e.t, 0.5) * f["eyelid"]
    if f["makeup"] > 0.05:
        shadow = mix(hsv(f["shadow_hue"], 0.45, 0.55), s.skin * 0.6, 0.35)
        lid = between(e.place(e.t, e.upper), e.place(e.t, fold - 0.06))
        c.paint(c.mask(lid, blur=0.012), shadow, 0.60 * f["makeup"])
    c.paint(c.mask(ribbon(e.place(e.t, fold), 0.016 * hump(e.t, 0.4)), blur=0.006), s.skin_ramp[:, 60], 0.62)


def lashes(s: Scene, e: Eyes) -> None:
    """Lid lines and lashes; make-up thickens the line and lengthens the lashes."""
    f, c, t = s.factors, s.canvas, e.t
    woman, ink = 1 - f["male"], mix(LASH, s.hair * 0.4, 0.35)
    thick = (0.019 + 0.011 * woman + 0.010 * f["makeup"]) * (0.55 + 0.45 * np.linspace(0, 1, 17))
    c.paint(c.mask(ribbon(e.place(t, e.upper - 0.03), thick)), ink, 0.95)
    c.paint(c.mask(ribbon(e.place(t, e.lower + 0.03), 0.010), blur=0.004), mix(ink, s.skin_ramp[:, 90], 0.5), 0.6)
    reach = 0.10 + 0.30 * woman * (0.5 + 0.5 * f["makeup"])
    at, out = np.array([9, 11, 13, 15, 16]), np.array([0.25, 0.45, 0.7, 0.95, 1.0])
    root = np.stack([t[at], e.upper[at]], axis=1)
    tip = root + np.stack([reach * 0.75 * out, -reach * (1.1 - 0.45 * out)], axis=1)
    hairs = curve(np.stack([root, (root + tip) / 2 + (0.05, 0.03), tip], axis=1), steps=3)
    hairs = e.place(hairs[..., 0], hairs[..., 1], 0.02)
    c.paint(c.mask(ribbon(hairs, np.linspace(0.017, 0.003, 7)).reshape(10, 14, 2)), ink, 0.9 - 0.5 * f["male"])


def brows(s: Scene) -> None:
    """A soft tapering base with hairs combed outwards."""
    f, h, c = s.factors, s.head, s.canvas
    ink = mix(s.hair * 0.62, (52, 36, 30), 0.45 * (1 - 0.6 * f["hair_gray"]))
    frown, y = (
        0.035 * f["frown"] + 0.05 * min(f["smile"], 0.0),
        -0.170 - 0.035 * f["brow_raise"] - 0.01 * (f["eye_size"] - 1),
    )
    inner, outer = 0.080 * (1 - 0.25 * f["frown"]), h.spacing + 0.165
    points = [(inner, y + 0.012 + frown), (inner + 0.10, y - 0.006 + frown * 0.4)]
    line = curve([*points, (outer - 0.10, y - 0.004 - 0.036 * f["brow_arch"]), (outer, y + 0.036)])
    t = np.linspace(0, 1, len(line))
    thick = 0.052 * f["brow_thickness"] * (0.62 + 0.55 * t) * (1 - t**3) ** 0.8 + 0.006
    c.paint(c.mask(h.place(both(ribbon(line, thick)), 0.01), blur=0.007), ink, 0.78)
    at = np.arange(0, len(line) - 2)
    root, size = line[at] + np.stack([0 * at, thick[at] * 0.36], axis=1), thick[at]
    rise = size * 0.70 * (1.0 - 1.5 * t[at])
    middle = line[at] + np.stack([0.022 + 0 * at, -rise * 0.3], axis=1)
    tip = line[at] + np.stack([0.046 - 0.012 * t[at], -rise], axis=1)
    hairs = ribbon(np.stack([root, middle, tip], axis=1).astype(np.float64), [0.010, 0.008, 0.003])
    c.paint(c.mask(h.place(np.concatenate([hairs, hairs * (-1, 1)]), 0.012)), ink * 0.8, 0.5)
