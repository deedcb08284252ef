"""Hats, each over a rim around the head and a dome above it."""

from __future__ import annotations

import numpy as np

from faceforge.drawn.canvas import clipped
from faceforge.drawn.colours import Array, cloth_ramp, hsv
from faceforge.drawn.lines import Points, between, curve, moved, ovals, resample, ribbon, segments
from faceforge.drawn.scene import Scene


def rim(s: Scene, drop: float, wide: float = 1.08, ends: float = -0.20) -> Points:
    """The lower edge of a hat around the head, from left to right (unit coordinates)."""
    w = s.head.width * wide
    points = [(-w, ends), (-w * 0.62, -0.335 + drop), (0.0, -0.375 + drop), (w * 0.62, -0.335 + drop), (w, ends)]
    return s.head.place(curve(points), 0.02)


def dome(s: Scene, high: float, wide: float = 1.08, ends: float = -0.20) -> Points:
    """The upper contour of a hat, from left to right (unit coordinates)."""
    half = [(1.0, ends), (1.02, -0.42), (0.88, high * 0.80), (0.52, high * 0.965), (0.0, high)]
    right = np.array(half) * (s.head.width * wide, 1)
    return s.head.place(curve(np.concatenate([right * (-1, 1), right[-2::-1]])), flat=True)


def hat_light(s: Scene) -> Array:
    """The form of a hat."""
    return np.float32(0.50) + np.float32(0.50 * s.contrast) * s.form(0.72, 0.95, -0.1)


def beanie(s: Scene, colours: Array, second: Array) -> None:
    """A knitted hat with ribs and a folded cuff, sometimes with a pompom."""
    c, light = s.canvas, hat_light(s)
    top, low = dome(s, -0.90), rim(s, 0.02)
    if s.factors["hat_detail"] > 0.5:
        ball = s.head.spot(0.0, -0.93, flat=True)
        puffs = ovals(ball + 0.05 * s.noise("pompom", 12, 2), 0.07, 0.07, 12)
        c.shade(c.mask(ovals(ball, 0.10, 0.10), puffs, blur=0.008), light + np.float32(0.12), second)
    foot, ends = resample(low, 24)[1:-1], resample(top, 38)[8:30]
    s.soft(light, ribbon(segments(foot, ends, 3), 0.014), -0.13, 0.008)
    c.shade(c.mask(between(low, top)), light, colours)
    upper = moved(low, 0, -0.155)
    light = hat_light(s) + np.float32(0.06)
    s.soft(light, ribbon(segments(resample(low, 30), resample(upper, 30), 2), 0.012), -0.15, 0.007)
    s.soft(light, ribbon(low, 0.03), -0.12, 0.014)
    band = between(low * (1.015, 1), upper * (1.015, 1))
    c.tint(c.mask(moved(band, 0, -0.02), blur=0.014), (110, 100, 110), 0.6)
    c.shade(c.mask(band), light, second if s.factors["hat_detail"] > 0.5 else colours)


def baseball_cap(s: Scene, colours: Array, second: Array) -> None:
    """Six panels, a button and a curved visor that stands out towards the viewer."""
    c, h, w, light = s.canvas, s.head, s.head.width, hat_light(s)
    sides = np.array([-0.60, 0.0, 0.60])[:, None, None] * (w, 0)
    seams = curve(
        np.array([(1.0, -0.40), (0.9, -0.62), (0.0, -0.85)]) * (0, 1) + sides * np.array([[1.0], [0.9], [0.0]])
    )
    s.soft(light, h.place(ribbon(seams, 0.010)), -0.16, 0.004)
    c.shade(c.mask(between(rim(s, -0.03), dome(s, -0.86))), light, colours)
    c.shade(c.mask(ovals(h.spot(0.0, -0.85, flat=True), 0.035, 0.02)), light + np.float32(0.1), second)
    back = curve([(-0.88 * w, -0.325), (-0.45 * w, -0.415), (0.0, -0.440), (0.45 * w, -0.415), (0.88 * w, -0.325)])
    front = curve([(0.95 * w, -0.240), (0.55 * w, -0.205), (0.0, -0.190), (-0.55 * w, -0.205), (-0.95 * w, -0.240)])
    crease, lip = h.place(ribbon(back, 0.05), 0.03), h.place(front, 0.20)
    light = hat_light(s) + np.float32(0.02)
    s.soft(light, ribbon(moved(lip, 0, -0.055), 0.04), 0.16, 0.02)
    s.soft(light, ribbon(lip, 0.025), -0.20, 0.008)
    s.soft(light, crease, -0.24, 0.02)
    c.tint(c.mask(crease, blur=0.02), (90, 80, 90), 0.5)
    visor = np.concatenate([h.place(back, 0.03), lip])
    c.shade(c.mask(visor), light, second if s.factors["hat_detail"] > 0.6 else colours)


def brimmed_hat(s: Scene, colours: Array, second: Array) -> None:
    """A crown with a band over a wide oval brim."""
    c, h, light = s.canvas, s.head, hat_light(s)
    tilt, at = np.array([[h.cos, h.sin], [-h.sin, h.cos]]), h.spot(0.0, -0.36)
    brim = ovals((0, 0), 0.92, 0.160, 60) @ tilt + at
    under = np.float32(0.48) + np.float32(0.40 * s.contrast) * s.form(1.25, 0.95, -0.1)
    s.soft(under, moved(brim, 0, -0.06), 0.12, 0.03)
    s.soft(under, ovals((0, -0.015), 0.58, 0.10) @ tilt + at, -0.26, 0.03)
    c.shade(c.mask(brim), under, colours)
    low, top = rim(s, -0.05, 1.02, -0.31), dome(s, -0.90, 1.02, -0.31)
    dent = curve([(-0.10, -0.90), (0.0, -0.78), (0.06, -0.64)])
    s.soft(light, h.place(ribbon(dent, 0.06), flat=True), -0.12, 0.03)
    felt = c.mask(between(low, top))
    band = c.mask(between(low, moved(low, 0, -0.115)), box=felt.box)
    c.shade(felt, light, colours)
    c.shade(clipped(band, felt), light - np.float32(0.03), second)


HATS = (baseball_cap, beanie, brimmed_hat)


def hat(s: Scene) -> None:
    """The picture's hat, if it has one."""
    f = s.factors
    if f["hat"] < 0.5:
        return
    colours = cloth_ramp(hsv(f["hat_hue"], f["hat_saturation"], f["hat_value"]))
    second = cloth_ramp(hsv(f["hat_hue"] + 0.45, f["hat_saturation"] * 0.8, 0.92 - 0.5 * f["hat_value"]))
    HATS[min(int(f["hat_style"] * len(HATS)), len(HATS) - 1)](s, colours, second)
