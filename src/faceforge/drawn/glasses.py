"""Spectacles and sunglasses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from faceforge.drawn.canvas import clipped
from faceforge.drawn.colours import hsv, mix, palette, rgb
from faceforge.drawn.lines import Points, between, both, circle, curve, moved, ribbon
from faceforge.drawn.scene import Scene

FRAMES = [(28, 26, 28), (92, 54, 34), (146, 34, 44), (36, 58, 104), (196, 160, 96), (176, 178, 184)]
LENS_DARK = (26, 24, 30)


class Frame(NamedTuple):
    """A lens: how square it is, its radii, how far it hangs at the outer bottom, rises at the outer top."""

    power: float
    rx: float
    ry: float
    hang: float
    wing: float


FRAME_STYLES = (
    Frame(2.0, 0.152, 0.145, 0.0, 0.0),  # round
    Frame(4.5, 0.168, 0.115, 0.0, 0.0),  # rectangular
    Frame(2.6, 0.168, 0.150, 0.16, 0.0),  # aviator
    Frame(3.0, 0.168, 0.125, 0.0, 0.30),  # cat eye
)


def lenses(s: Scene, grow: float = 0.0) -> Points:
    """Both lens outlines, superellipses of the frame's style: (2, 40, 2)."""
    h, style = (s.head, FRAME_STYLES[min(int(s.factors["frame_style"] * len(FRAME_STYLES)), len(FRAME_STYLES) - 1)])
    cos, sin = circle(40).T
    x, y = (np.sign(v) * np.abs(v) ** (2 / style.power) for v in (cos, sin))
    below = np.maximum(y, 0)
    y = y + style.hang * (x * below + 0.6) - style.wing * np.maximum(x, 0) * np.maximum(-y, 0)
    x = x * (1 - style.hang * below)
    reach = max(h.spacing, style.rx + 0.035)
    return h.place(both(np.stack([reach + (style.rx + grow) * x, 0.012 + (style.ry + grow) * y], axis=1)), 0.05)


def glasses(s: Scene) -> None:
    """Temples to the ears, lenses, rims with a light upper edge, bridge."""
    f, h, c = s.factors, s.head, s.canvas
    if f["eyeglasses"] < 0.5:
        return
    thick, ink = 0.012 + 0.026 * f["frame_weight"], palette(FRAMES, f["frame_colour"])
    hinges = h.place(both([(h.spacing + 0.17, -0.045)]), 0.04)
    temples = h.place(both([(h.width * 1.04, -0.05)]), flat=True)
    arms = np.concatenate([hinges, temples], axis=1)
    c.paint(c.mask(ribbon(arms, [thick * 1.1, thick * 0.9])), ink * 0.8)
    outer, inner = lenses(s, thick / 2), lenses(s, -thick / 2)
    ring = np.concatenate([outer, outer[:, :1], inner, inner[:, :1]], axis=1)
    c.tint(c.mask(moved(ring, 0, 0.028), blur=0.012), (150, 112, 106), 0.6)
    glass(s, inner)
    c.paint(c.mask(ring), ink)
    c.paint(c.mask(between(outer[:, 21:40], inner[:, 21:40]), blur=0.004), mix(ink, (255, 255, 255), 0.45), 0.28)
    bridge = h.place(curve([(-0.085, -0.012), (-0.03, -0.045), (0.03, -0.045), (0.085, -0.012)]), 0.09)
    c.paint(c.mask(ribbon(bridge, thick * 1.05)), ink)


def glass(s: Scene, outlines: Points) -> None:
    """Clear or dark lenses with a slanting reflection."""
    f, c = s.factors, s.canvas
    mask, middle = c.mask(outlines), outlines.mean(axis=1)
    if f["sunglasses"] > 0.5:
        tone = mix(LENS_DARK, hsv(f["lens_hue"], 0.6, 0.5), 0.35)
        fade = np.clip((c.y[mask.box[0]] - np.float32(middle[0, 1])) * np.float32(1 / 0.3), -0.5, 0.5)[None, :, None]
        c.paint(mask, tone[:, None, None] + fade * (mix(tone, (190, 170, 160), 0.42) - tone)[:, None, None], 0.94)
    else:
        c.paint(mask, rgb((226, 238, 246)), 0.07)
    shine = np.array([(-0.10, 0.12), (-0.02, -0.20), (0.035, -0.20), (-0.045, 0.12)]) + middle[:, None, :]
    c.paint(clipped(c.mask(shine, box=mask.box, blur=0.008), mask), rgb((255, 255, 255)), 0.18)
