"""Paints one portrait from a row of factors.

Points on the head are given in *head* coordinates: the eye line at y = 0, x and y about as large as in the picture, z
towards the viewer. The pose rotates and shifts them so that the eyes are always at the same place, as in aligned
photographs. Each feature is one function that paints over the earlier ones; `paint` at the end defines their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceforge import counter_rng
from faceforge.drawn.canvas import (
    Array,
    Bump,
    Canvas,
    Mask,
    Points,
    between,
    both,
    circle,
    clipped,
    cloth_ramp,
    curve,
    hsv,
    hump,
    mirrored,
    mix,
    moved,
    normals,
    ovals,
    palette,
    ramp,
    resample,
    rgb,
    ribbon,
    segments,
    travelled,
)

# Palettes run from the first to the last value of their factor; RGB, 0 to 255.
SKIN = [
    (247, 218, 200),
    (242, 205, 178),
    (231, 183, 148),
    (205, 148, 106),
    (167, 110, 72),
    (122, 77, 50),
    (82, 52, 38),
]
HAIR = [(236, 214, 162), (214, 174, 108), (158, 112, 66), (108, 70, 42), (66, 43, 30), (34, 27, 26)]
RED_HAIR = (170, 74, 34)
GRAY_HAIR = (205, 203, 202)
IRIS = [(116, 158, 196), (120, 160, 140), (128, 132, 80), (134, 94, 48), (84, 54, 34), (50, 34, 26)]
SCLERA = (246, 243, 240)
TEETH = (250, 246, 238)
MOUTH_INSIDE = (92, 30, 34)
TONGUE = (206, 104, 104)
GOLD = (214, 176, 92)
LASH = (38, 26, 24)
BLUSH = (232, 96, 92)
FRAMES = [(28, 26, 28), (92, 54, 34), (146, 34, 44), (36, 58, 104), (196, 160, 96), (176, 178, 184)]
LENS_DARK = (26, 24, 30)

EYE_HEIGHT = -0.05  # of the eye line in the image
HEAD_SCALE = 1.06


# ------------------------------------------------------------------------------------------------------- head


class Head:
    """Proportions and pose of one face; maps head coordinates to unit coordinates."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        f = self.factors = factors
        self.width = 0.512 * f["head_width"]
        self.length = f["head_length"]
        self.spacing = 0.238 * f["eye_spacing"]
        self.nose_y = 0.300 * f["nose_length"] * self.length
        self.mouth_y = 0.478 * self.length
        self.drop = 0.05 * f["mouth_open"]  # how far the jaw falls
        self.chin_y = 0.715 * self.length + self.drop
        self.scale = HEAD_SCALE * f["zoom"]
        self._turn()
        self.shift = np.zeros(2)
        eyes = self.place([[-self.spacing, 0.0], [self.spacing, 0.0]]).mean(axis=0)
        self.shift = np.array([0.0, EYE_HEIGHT]) - eyes
        self.centre = self.shift  # of the skull

    def _turn(self) -> None:
        """Yaw, pitch and roll as the projections of the three axes."""
        f = self.factors
        sy, sp, self.sin = (math.sin(math.radians(f[name])) for name in ("yaw", "pitch", "roll"))
        cy, cp, self.cos = (math.cos(math.radians(f[name])) for name in ("yaw", "pitch", "roll"))
        tilt = np.array([[self.cos, self.sin], [-self.sin, self.cos]]) * self.scale
        axes = np.array([[cy, sy * sp], [0.0, cp], [sy, -cy * sp]]) @ tilt
        self.plane, self.depth = axes[:2], axes[2]

    def place(self, points: ArrayLike, lift: float = 0.0, flat: bool = False) -> Points:
        """Head coordinates (..., 2) on the face (or lifted above it, or flat at z = 0) to unit coordinates."""
        points = np.asarray(points, dtype=np.float64)
        placed = (points.reshape(-1, 2) @ self.plane + self.shift).reshape(points.shape)
        if flat:
            return placed
        x, y = points[..., 0] * (1 / (self.width * 1.05)), points[..., 1] * (1 / 0.84)
        z = 0.42 * np.sqrt(np.maximum(1.0 - x * x - y * y, 0.0)) + lift
        return placed + z[..., None] * self.depth

    def spot(self, x: float, y: float, lift: float = 0.0, flat: bool = False) -> Points:
        """One point."""
        return self.place((x, y), lift, flat)

    def local(self, canvas: Canvas) -> tuple[Array, Array]:
        """Head coordinates of every pixel, without perspective: two (H, W) arrays."""
        x = (canvas.x - np.float32(self.centre[0])) / np.float32(self.scale)
        y = (canvas.y - np.float32(self.centre[1])) / np.float32(self.scale)
        cos, sin = np.float32(self.cos), np.float32(self.sin)
        return x[None, :] * cos + y[:, None] * sin, y[:, None] * cos - x[None, :] * sin

    def half_outline(self, grow: float = 0.0) -> Points:
        """The right contour from crown to chin, as control points, moved outwards by `grow`."""
        f, w, chin = self.factors, self.width, self.chin_y
        jaw, cheek, point = f["jaw"], f["cheek"], f["chin"]
        half = [
            (0.0, -0.700),
            (0.37 * w, -0.668),
            (0.70 * w, -0.555),
            (0.91 * w, -0.370),
            (0.995 * w, -0.140),
            (w * 0.985, 0.08),
            (w * (0.905 + 0.045 * cheek), 0.45 * chin),
            (w * (0.73 + 0.125 * jaw + 0.03 * cheek), 0.70 * chin),
            (w * (0.43 + 0.14 * jaw + 0.04 * point), 0.900 * chin),
            (w * (0.20 + 0.07 * point), 0.985 * chin),
            (0.0, chin),
        ]
        return np.array(half) * (1 + grow / w, 1 + grow / 0.71)

    def outline(self, grow: float = 0.0) -> Points:
        """The closed contour of the head."""
        return curve(mirrored(self.half_outline(grow)), closed=True)

    def jaw(self) -> Points:
        """The contour below the temples, from the right ear around the chin to the left one."""
        right = curve(self.half_outline())
        right = right[right[:, 1] > 0.05]
        return np.concatenate([right, right[-2::-1] * (-1.0, 1.0)])


class Scene:
    """The state of a drawing: canvas, head, factors, light, and the colours derived from them."""

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
        """Uniform numbers in [-1, 1), constant for the person: (count, columns)."""
        return counter_rng.uniform(self.texture, purpose, np.arange(count), (columns,)) * 2 - 1

    def form(self, rx: float, ry: float, y: float = 0.0, lowest: float = 9.0) -> Array:
        """Light on an ellipsoid around the head's axis, relative to its front.

        Below `lowest` it continues as a cylinder, like hanging hair.
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


# ------------------------------------------------------------------------------------------ background and body


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


# ------------------------------------------------------------------------------------------------ ears and face


def ears(s: Scene) -> None:
    """Both ears with their hollow, and earrings."""
    f, h, c = s.factors, s.head, s.canvas
    size, w = f["ear_size"], h.width
    shape = [
        (0.90, -0.10),
        (1.05, -0.13),
        (1.16, -0.07),
        (1.16, 0.05),
        (1.09, 0.17),
        (1.00, 0.23),
        (0.92, 0.20),
    ]
    outer = np.array(shape) * (w, size)
    inner = (outer - (w * 1.05, 0.02)) * (0.55, 0.62) + (w * 1.055, 0.02)
    light = c.field(0.46) + np.clip(s.u, -0.6, 0.6) * np.float32(0.45 * s.contrast * s.light[0])
    s.soft(light, h.place(curve(both(inner), closed=True), flat=True), -0.17, 0.016)
    c.shade(c.mask(h.place(curve(both(outer), closed=True), flat=True)), light, s.skin_ramp)
    if f["earrings"] > 0.5:
        lobes = h.place(both([(1.06 * w, 0.235 * size)])[:, 0], flat=True)
        c.paint(c.mask(ovals(lobes, 0.028, 0.033)), rgb(GOLD))
        c.paint(c.mask(ovals(lobes - 0.008, 0.010, 0.010)), rgb((255, 246, 214)))


def face(s: Scene, shadows: Sequence[tuple[Points, float]]) -> None:
    """The skin of the head with all its forms; shadows are shapes above it (hair, hat) that darken it."""
    f, h, c = s.factors, s.head, s.canvas
    light = np.float32(0.525) + np.float32(0.44 * s.contrast) * s.form(h.width * 1.10, 0.88)
    for outlines, amount in shadows:
        s.soft(light, moved(outlines, -0.03 * f["light_x"], 0.045), amount, 0.035)
    c.bumps(light, [*sockets(s), *nose_bumps(s), *cheeks(s)])
    nose(s, light)
    wrinkles(s, light)
    skin = c.mask(h.place(h.outline(), flat=True))
    c.shade(skin, light, s.skin_ramp)
    flush(s, skin)


def sockets(s: Scene) -> list[Bump]:
    """Soft hollows around the eyes, the lit forehead, the temples."""
    x, temple = s.head.spacing, 0.98 * s.head.width
    rows = [s.bump(0.10 * s.factors["light_x"], -0.34, (0.24, 0.13), 0.07)]
    for side in (-1, 1):
        rows.append(s.bump(side * 0.86 * x, -0.07, (0.15, 0.075), -0.09))
        rows.append(s.bump(side * 0.52 * x, -0.01, (0.05, 0.08), -0.07))
        rows.append(s.bump(side * 0.95 * x, 0.11, (0.10, 0.035), -0.04 - 0.07 * s.old))
        rows.append(Bump(s.head.spot(side * temple, -0.22, flat=True), (0.07, 0.20), -0.06))
    return rows


def cheeks(s: Scene) -> list[Bump]:
    """Cheek apples that rise with a smile, the hollows under the cheekbones and the lip, the chin."""
    f, h, cheer = s.factors, s.head, s.cheer
    rows = [
        s.bump(0.0, h.mouth_y + 0.105 + h.drop, (0.085, 0.028), -0.12),
        s.bump(0.0, 0.9 * h.chin_y, (0.09, 0.05), 0.06),
        Bump(h.spot(0.0, h.chin_y + 0.02, flat=True), (0.30, 0.06), -0.12),
    ]
    for side in (-1, 1):
        lit = (0.04 + 0.07 * cheer) * (1 + 0.8 * side * f["light_x"])
        rows.append(s.bump(side * (0.285 + 0.01 * cheer), 0.225 - 0.03 * cheer, (0.11, 0.085), lit))
        rows.append(s.bump(side * 0.36, 0.43 * h.length, (0.09, 0.13), -0.07 * (1.2 - f["cheek"])))
    return rows


def nose_bumps(s: Scene) -> list[Bump]:
    """The ball of the tip and its wings."""
    wide, base, tip = 0.098 * s.factors["nose_width"], s.head.nose_y, s.factors["nose_tip"]
    rows = [s.bump(0.0, base - 0.065, (0.058 - 0.02 * tip, 0.05 - 0.014 * tip), 0.16, lift=0.16)]
    return rows + [s.bump(side * wide * 0.80, base - 0.045, (0.032, 0.032), 0.06, lift=0.07) for side in (-1, 1)]


def nose(s: Scene, light: Array) -> None:
    """Shading only: flanks, a lit ridge, the creases of the wings, the underside, the folds down to the mouth."""
    f, h = s.factors, s.head
    wide, base, tip, bridge = 0.098 * f["nose_width"], h.nose_y, f["nose_tip"], 0.034 * f["nose_bridge"]
    flanks = curve(both([(bridge + 0.045, -0.09), (bridge + 0.018, 0.06), (wide * 0.72, base - 0.04)]))
    flanks = h.place(ribbon(flanks, np.linspace(0.035, 0.075, 13)), 0.04)
    left, right = (-0.085 - 0.05 * s.contrast * side * f["light_x"] for side in (1, -1))
    s.canvas.relief(light, 0.020, (flanks[0], left), (flanks[1], right))
    wings = [(wide * 0.86, base - 0.085), (wide * 1.16, base - 0.035), (wide * 0.95, base + 0.008)]
    wings = h.place(ribbon(curve(both(wings)), 0.022), 0.02)
    ridge = ribbon(
        curve([(0.0, -0.10), (0.004, 0.05), (0.0, base - 0.08)]),
        np.linspace(0.022, 0.05, 13) * f["nose_bridge"],
    )
    dip = base - 0.028 + 0.02 * tip
    under = [(-wide, base - 0.01), (-wide * 0.4, dip), (0, dip + 0.014 + 0.012 * tip), (wide * 0.4, dip)]
    under = h.place(curve([*under, (wide, base - 0.01), (0, base + 0.045)], closed=True), 0.06)
    folds = curve(both([(0.125, base - 0.02), (0.20, h.mouth_y - 0.07), (0.225, h.mouth_y + 0.01)]))
    folds = h.place(ribbon(folds, [*np.linspace(0.012, 0.03, 12), 0.005]))
    depth = -0.02 - 0.11 * s.cheer - 0.10 * s.old
    under = (moved(under, -0.012 * f["light_x"], 0.0), -0.22)
    s.canvas.relief(light, 0.013, (folds, depth), (h.place(ridge, 0.13), 0.13), under, (wings, -0.20))


def nostrils(s: Scene) -> None:
    """Two dark openings, seen from slightly below."""
    wide = 0.098 * s.factors["nose_width"]
    hole = np.array([(0.30, 0.0), (0.52, -0.017), (0.74, -0.006), (0.55, 0.010)])
    holes = s.head.place(curve(both(moved(hole * (wide, 1.0), 0, s.head.nose_y - 0.004)), closed=True), 0.07)
    s.canvas.paint(s.canvas.mask(holes, blur=0.005), s.skin_ramp[:, 20], 0.70)


def wrinkles(s: Scene, light: Array) -> None:
    """Lines across the forehead and beside the eyes come with age; a frown folds the glabella at any age."""
    f, h, shapes = s.factors, s.head, []
    crease = both([(0.038, -0.19), (0.030, -0.14), (0.036, -0.10)])
    if max(f["frown"], s.old) > 0.05:
        shapes.append((h.place(ribbon(crease, [0.006, 0.018, 0.006])), -0.20 * max(f["frown"], 0.4 * s.old)))
    if s.old > 0.15:
        depth = -s.old * (0.6 + 0.4 * f["male"])
        heights = np.array([-0.30, -0.355, -0.41])[:, None, None] * (0, 1)
        lines = curve(np.array([(-0.22, 0.015), (-0.08, -0.006), (0.09, -0.004), (0.22, 0.018)]) + heights)
        lines = ribbon(lines, 0.013 * hump(np.linspace(-1, 1, lines.shape[1])))
        x, turns = h.spacing + 0.155, (-0.05, 0.0, 0.05)
        feet = [both([(x, 0.005 + t * 0.4), (x + 0.035, 0.005 + t), (x + 0.06, 0.005 + 2 * t)]) for t in turns]
        feet = h.place(ribbon(np.concatenate(feet), [0.010, 0.012, 0.004]))
        depth *= 1.3 * s.canvas.thin(0.012)
        shapes += [(h.place(lines), 0.15 * depth), (feet, (0.07 + 0.1 * s.cheer) * depth)]
    if shapes:
        s.canvas.relief(light, 0.007, *shapes)


def flush(s: Scene, skin: Mask) -> None:
    """Red where blood is near (cheeks, nose tip), make-up blush, freckles; clipped to the face."""
    f, h, c = s.factors, s.head, s.canvas
    red, strength = c.field(0.0), 0.08 + 0.40 * f["blush"]
    spots = [s.bump(side * 0.315, 0.215, (0.125, 0.085), strength) for side in (-1, 1)]
    c.bumps(red, [*spots, s.bump(0.0, h.nose_y - 0.06, (0.07, 0.05), 0.12, lift=0.14)])
    c.paint(Mask(skin.alpha * red[skin.box], skin.box), mix(s.skin * 0.9, BLUSH, 0.62))
    if f["freckles"] > 0.5:
        x, y, size = (s.noise("freckles", 46, 3) * (0.40, 0.09, 0.004)).T
        spots = ovals(h.place(np.stack([x, 0.16 + y + 0.25 * x * x], axis=1)), 0.009 + size, 0.008 + size, 8)
        c.paint(c.mask(spots), s.skin * rgb((0.72, 0.58, 0.50)), 0.5)


# --------------------------------------------------------------------------------------------- eyes and brows


class Eyes:
    """The lid lines over t in [-1 inner corner, 1 outer corner], in half eye widths, and their positions."""

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
    """Dark rim, coloured ring (brighter below), pupil and catchlight."""
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
    """Eye shadow on the lid, and the fold above it."""
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


# ------------------------------------------------------------------------------------------------------ mouth


class Lips(NamedTuple):
    """Four lines over t in [-1, 1], in head coordinates (17, 2), from the upper to the lower edge."""

    top: Points
    upper: Points
    lower: Points
    bottom: Points


T17 = np.linspace(-1, 1, 17)


def lips(s: Scene) -> Lips:
    """The position of the mouth: its corners follow the smile, its gap follows the jaw."""
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
    soft, strength = (
        0.004 + 0.006 * (1 - f["lipstick"]) * f["male"],
        0.62 + 0.38 * max(f["lipstick"], 1 - f["male"]),
    )
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
        inside(h.place(between(shape.upper, moved(shape.lower * (0.6, 1.0), 0, -0.04))), 0.02),
        rgb((44, 12, 16)),
        0.7,
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


# ------------------------------------------------------------------------------------------------------- hair


class Lock(NamedTuple):
    """A mass of hair in unit coordinates: stacks of outlines to fill, and lines (n, p, 2) along which it is combed."""

    outlines: list[Points]
    strands: Points


Locks = tuple[list[Lock], list[Lock]]  # behind the neck, in front of the face


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
    """Random light and dark lines on a light field."""
    tones = s.noise("streaks", len(strands))[:, 0]
    strokes = ribbon(strands, width * hump(np.linspace(-0.9, 1, strands.shape[1]), 0.5))
    share = s.canvas.thin(width)
    s.canvas.relief(light, 0.005, (strokes[tones > 0], 0.17 * share), (strokes[tones <= 0], -0.20 * share))


def paint_hair(s: Scene, locks: Sequence[Lock], dim: float = 0.0) -> None:
    """Fills locks in order, each with streaks along its strands and a darker rim for contrast."""
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
    """Removes the hair under a hat."""
    if s.factors["hat"] < 0.5:
        return mask
    return Mask(mask.alpha * np.clip((s.v[mask.box] + np.float32(0.36)) * np.float32(20), 0, 1), mask.box)


def bald(s: Scene) -> Locks:
    """A wreath above the ears, or nothing."""
    if s.factors["hair_length"] < 0.45:
        return [], []
    patch = [(1.0, 0.03), (0.93, -0.02), (0.905, -0.14), (0.93, -0.27), (0.975, -0.33), (1.03, -0.23)]
    patch += [(1.055, -0.10), (1.04, 0.01)]
    sides = s.head.place(curve(both(np.array(patch) * (s.head.width, 1)), closed=True), flat=True)
    roots = sides.reshape(-1, 2)[::4]
    return [], [Lock([sides], segments(roots, moved(roots, 0.0, 0.08), 4))]


def crop(s: Scene) -> Locks:
    """Cropped hair that follows the skull."""
    return [], [cap(s, 0.012 + 0.05 * s.factors["hair_length"], hairline(s))]


def side_part(s: Scene) -> Locks:
    """Short hair from a parting, the longer side lifted."""
    side = 1 if s.factors["part_side"] > 0 else -1
    volume = 0.05 + 0.06 * s.factors["hair_length"]
    return [], [cap(s, volume, hairline(s, -0.01, side * -0.45), part=(side * 0.26, -0.55))]


def quiff(s: Scene) -> Locks:
    """Cropped sides and a swept-up front of overlapping tufts."""
    w, tall = s.head.width, 0.10 + 0.13 * s.factors["hair_length"]
    lean = 0.12 if s.factors["part_side"] > 0 else -0.12
    locks = []
    for x, chance in zip((-0.74, 0.74, -0.5, 0.5, -0.25, 0.25, 0.0), s.noise("tufts", 7)[:, 0], strict=True):
        high, base = -0.70 - tall * (1.0 - 0.55 * x * x) + 0.02 * chance, -0.50 + 0.14 * x * x
        tip = (x * w * 0.95 + lean, high)
        left = [(x * w - 0.11, base), (x * w - 0.13 + 0.5 * lean, base - 0.17), tip]
        right = [(x * w + 0.11, base), (x * w + 0.13 + 0.6 * lean, base - 0.15), tip]
        locks.append(combed(s, curve(left), curve(right), 6))
    return [], [cap(s, 0.025, hairline(s)), tufts(locks[:4]), tufts(locks[4:])]


def curtains(s: Scene, bottom: float, volume: float, tuck: float) -> Locks:
    """Hair parted on top that falls beside the face to `bottom`; tuck < 0 turns the ends in."""
    w, shift = s.head.width, 0.12 * s.factors["part_side"]
    half = crown(s, volume, 0.0)
    half = half[half[:, 0] >= 0]
    fall = [(w + volume + 0.04, 0.30), (w + volume + 0.04 + tuck, bottom - 0.08), (w * 0.86 + tuck, bottom)]
    right = np.concatenate([half, curve([half[-1], *fall])[1:]])
    back = combed(s, right, right * (0.15, 1.0), 10)
    left = combed(s, right * (-1, 1), right * (-0.15, 1.0), 10)
    front = []
    for side in (-1, 1):
        inner = [
            (shift, -0.60),
            (side * 0.60 * w + shift * 0.3, -0.40),
            (side * 0.90 * w, -0.12),
            (side * 0.94 * w, 0.14),
        ]
        inner += [(side * 0.96 * w, min(0.36, bottom - 0.12)), (side * (0.90 * w + tuck * 0.8), bottom)]
        outer = [(shift, -0.70 - 1.32 * volume), (side * 0.40 * (w + volume), -0.675 - 1.2 * volume)]
        outer += [(side * 0.78 * (w + volume), -0.50 - 0.9 * volume), (side * (w + volume), -0.20)]
        outer += [(side * (w + volume + 0.04), 0.16), (side * (w + volume + 0.04), min(0.40, bottom - 0.1))]
        outer += [(side * (w + volume * 0.9 + 0.05 + tuck), bottom)]
        front.append(combed(s, curve(inner), curve(outer), 20))
    whole = s.head.place(np.concatenate([right, right[::-1] * (-1, 1)]), flat=True)
    return [Lock([whole], np.concatenate([back.strands, left.strands]))], [tufts(front)]


def bob(s: Scene) -> Locks:
    """Down to the jaw or a little below."""
    return curtains(s, 0.42 + 0.22 * s.factors["hair_length"], 0.09, -0.06)


def long_hair(s: Scene) -> Locks:
    """Over the shoulders."""
    return curtains(s, 1.25 + 0.5 * s.factors["hair_length"], 0.085, 0.06)


def bun(s: Scene) -> Locks:
    """Hair pulled back into a knot above the crown."""
    centre = np.array([0.10 * s.factors["part_side"], -0.78 - 0.05 * s.factors["hair_length"]])
    size = 0.17 + 0.05 * s.factors["hair_length"]
    knot = s.head.place(ovals(centre, size * 1.15, size), flat=True)
    turns = np.linspace(0.25, 0.95, 8) * size
    coils = s.head.place(ovals(np.repeat([moved(centre, 0.02, 0)], 8, axis=0), turns * 1.15, turns)[:, 2:19], flat=True)
    return [Lock([knot], coils)], [cap(s, 0.045, hairline(s))]


def curls(s: Scene) -> Locks:
    """A cloud of round tufts around the skull, smaller ones along the hairline."""
    length, chance = s.factors["hair_length"], s.noise("curls", 150, 3)
    rim = resample(crown(s, 0.05 + 0.16 * length, 0.06 + 0.3 * length), 22)
    edge = resample(hairline(s, -0.005), 18)
    big, small = 0.085 + 0.02 * chance[:22, 2], 0.045 + 0.012 * chance[22:40, 2]
    outlines = [
        s.head.place(between(edge, rim), flat=True),
        s.head.place(ovals(rim + 0.02 * chance[:22, :2], big, big, 16), flat=True),
        s.head.place(ovals(moved(edge, 0, -0.015), small, small, 12)),
    ]
    i = np.arange(100)
    at = edge[i % 18] + (rim[(i * 7) % 22] - edge[i % 18]) * (0.5 + 0.5 * chance[50:, :1])
    turn = 2 * np.pi * chance[50:, 1:2] + np.linspace(0, 3.4, 7)
    arcs = at[:, None, :] + np.stack([0.036 * np.cos(turn), 0.031 * np.sin(turn)], axis=-1)
    return [], [Lock(outlines, s.head.place(arcs, flat=True))]


HAIR_STYLES: dict[str, Callable[[Scene], Locks]] = {
    "bald": bald,
    "crop": crop,
    "part": side_part,
    "quiff": quiff,
    "curls": curls,
    "bob": bob,
    "long": long_hair,
    "bun": bun,
}


def fringe(s: Scene) -> list[Lock]:
    """Bangs: tufts that fall from the crown over the forehead."""
    w, low = s.head.width, -0.215 + 0.03 * s.factors["hair_length"]
    sweep = 0.10 * s.factors["part_side"]
    locks = []
    for x, chance in zip(np.linspace(-0.80, 0.80, 7), s.noise("bangs", 7)[:, 0], strict=True):
        end, top = low + 0.07 * x * x + 0.018 * chance, -0.665 + 0.12 * x * x
        left = [
            (x * w * 0.62 - 0.06, top),
            (x * w * 0.95 - 0.085, -0.42),
            (x * w + sweep - 0.075, end - 0.02),
        ]
        right = [(x * w * 0.62 + 0.06, top), (x * w * 0.95 + 0.085, -0.42), (x * w + sweep + 0.065, end)]
        locks.append(combed(s, curve(left), curve(right), 7, flat=False))
    return [tufts(locks[::2]), tufts(locks[1::2])]


def hair(s: Scene) -> Locks:
    """The locks behind the neck and those in front of the face."""
    behind, front = list(HAIR_STYLES.values())[int(s.factors["hair_style"])](s)
    return behind, front + fringe(s) if s.factors["fringe"] > 0.5 else front


# ------------------------------------------------------------------------------------------------------ beard

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
    half = [
        (0.98, 0.02),
        (0.90, 0.20),
        (0.76, 0.33 * h.length),
        (0.50, h.mouth_y - 0.075),
        (0.22, h.mouth_y - 0.12),
    ]
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
        [
            (0.0, top - 0.005),
            (0.05, top),
            (0.13, top + 0.02),
            (0.15, h.chin_y - 0.05),
            (0.09, low - 0.01),
            (0.0, low),
        ]
    )
    x = np.linspace(-0.13, 0.13, 18)
    roots, ends = (
        np.stack([0.6 * x, top + 0.02 + 0 * x], axis=1),
        np.stack([x, low - 0.2 * np.abs(x)], axis=1),
    )
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


# --------------------------------------------------------------------------------------------- glasses and hat


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
    h, style = (
        s.head,
        FRAME_STYLES[min(int(s.factors["frame_style"] * len(FRAME_STYLES)), len(FRAME_STYLES) - 1)],
    )
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


def rim(s: Scene, drop: float, wide: float = 1.08, ends: float = -0.20) -> Points:
    """The lower edge of a hat around the head, from left to right (unit coordinates)."""
    w = s.head.width * wide
    points = [
        (-w, ends),
        (-w * 0.62, -0.335 + drop),
        (0.0, -0.375 + drop),
        (w * 0.62, -0.335 + drop),
        (w, ends),
    ]
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


# ---------------------------------------------------------------------------------------------------- portrait


def overhangs(s: Scene, front: Sequence[Lock]) -> list[tuple[Points, float]]:
    """The shapes that cast a shadow on the face."""
    shadows = [(lock.outlines[0], -0.10) for lock in front[-1:]]
    if s.factors["hat"] > 0.5:
        shadows.append((between(rim(s, 0.03), dome(s, -0.9)), -0.22))
    return shadows


def paint(factors: Mapping[str, float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The portrait that a row of factors describes: uint8 (height, width, 3), RGB."""
    s = Scene(factors, size)
    behind, front = hair(s)
    background(s)
    paint_hair(s, behind, dim=0.14)
    body(s)
    ears(s)
    face(s, overhangs(s, front))
    nostrils(s)
    eyes(s)
    brows(s)
    beard(s)
    mouth(s)
    moustache(s)
    glasses(s)
    paint_hair(s, front)
    hat(s)
    return s.canvas.finish()
