"""What all parts of one drawing share: canvas, head, light, the colours of skin and hair, and chance.

Palettes run from the first to the last value of their factor; RGB, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from faceforge import counter_rng
from faceforge.drawn.canvas import Bump, Canvas
from faceforge.drawn.colours import Array, mix, palette, ramp, rgb
from faceforge.drawn.head import Head
from faceforge.drawn.lines import Points

SKIN = [(247, 218, 200), (242, 205, 178), (231, 183, 148), (205, 148, 106), (167, 110, 72), (122, 77, 50), (82, 52, 38)]
HAIR = [(236, 214, 162), (214, 174, 108), (158, 112, 66), (108, 70, 42), (66, 43, 30), (34, 27, 26)]
RED_HAIR = (170, 74, 34)
GRAY_HAIR = (205, 203, 202)


class Scene:
    """What every part of the drawing needs: canvas, head, factors, light and the colours that follow from them."""

    def __init__(self, factors: Mapping[str, float], size: tuple[int, int]) -> None:
        self.factors = factors
        self.canvas = Canvas(*size)
        self.head = Head(factors)
        self.u, self.v = self.head.local(self.canvas)
        direction = np.array([factors["light_x"], -factors["light_y"], 0.95])
        self.light = (direction / np.linalg.norm(direction)).astype(np.float32)
        self.contrast = factors["contrast"]
        self.texture = int(factors["texture"] * 2**40)
        self.skin = skin_colour(factors)
        self.skin_ramp = skin_ramp(self.skin)
        self.hair = hair_colour(factors)
        self.hair_ramp = hair_ramp(self.hair)
        self.old = min(max((factors["age"] - 38) / 40, 0.0), 1.0)
        self.cheer = max(factors["smile"], 0.0)

    def noise(self, purpose: str, count: int, columns: int = 1) -> Points:
        """Uniform numbers in [-1, 1) that belong to the person: (count, columns)."""
        return counter_rng.uniform(self.texture, purpose, np.arange(count), (columns,)) * 2 - 1

    def form(self, rx: float, ry: float, y: float = 0.0, lowest: float = 9.0) -> Array:
        """Light on an ellipsoid around the head's axis, 0 where it is lit as its front is.

        Below `lowest` it goes on as a cylinder, as hanging hair does.
        """
        nx = np.clip(self.u * np.float32(1 / rx), -1, 1)
        ny = np.clip((np.minimum(self.v, np.float32(lowest)) - np.float32(y)) * np.float32(1 / ry), -1, 1)
        nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
        lx, ly, lz = self.light
        return nx * lx + ny * ly + (nz - 1) * lz

    def soft(self, light: Array, points: Points, amount: float, blur: float) -> None:
        """Adds softened shapes (unit coordinates) to a light field."""
        self.canvas.relief(light, blur, (points, amount))

    def bump(self, x: float, y: float, radii: tuple[float, float], amount: float, lift: float = 0.0) -> Bump:
        """A bump of light at a place on the face."""
        return Bump(self.head.spot(x, y, lift), radii, amount)


def skin_colour(f: Mapping[str, float]) -> Array:
    """The skin's middle tone."""
    base = palette(SKIN, f["skin"])
    return np.clip(base * (1 + 0.05 * f["undertone"] * rgb((0.6, 0.1, -1.0))), 0, 255)


def skin_ramp(base: Array) -> Array:
    """Shadows turn to red, highlights to the light's warm white, less so on dark skin."""
    shine = 0.22 + 0.26 * float(base.mean()) / 255
    return ramp(
        base * rgb((0.38, 0.25, 0.25)),
        base * rgb((0.73, 0.58, 0.55)),
        base,
        mix(base, (255, 246, 232), shine * 0.80),
        mix(base, (255, 252, 246), shine * 1.7),
    )


def hair_colour(f: Mapping[str, float]) -> Array:
    """Melanin and red pigment, bleached by age."""
    base = mix(palette(HAIR, f["hair_melanin"]), RED_HAIR, f["hair_red"])
    return mix(base, GRAY_HAIR, f["hair_gray"])


def hair_ramp(base: Array) -> Array:
    """Deep shadows, warm sheen."""
    sheen = mix(base, (255, 238, 210), 0.26)
    return ramp(base * 0.26, base * 0.58, base, sheen, mix(sheen, (255, 250, 240), 0.42))
