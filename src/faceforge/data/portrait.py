"""Paints one portrait from a row of factors: filled splines, soft light fields and colour ramps.

Everything is drawn in *unit* coordinates: the picture's shorter side spans [-1, 1], x to the right, y down, so that the
same face appears at every size. Points on the head are given in *head* coordinates (eye line at y = 0, x and y about as
large as in the picture, z towards the viewer), turned by the pose and moved so that the eyes always stand at one place,
as in aligned photographs. Skin, hair and cloth are scalar light fields (0 deep shadow, 1 highlight) sent through a
colour ramp, which keeps shadows coloured instead of grey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceforge import streams

Array = NDArray[np.float32]
Points = NDArray[np.float64]

# Palettes run from the first to the last value of their factor; RGB, 0 to 255.
SKIN = [
    (252, 228, 214),
    (245, 209, 184),
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
LASH = (38, 26, 24)
BLUSH = (232, 96, 92)
FRAMES = [(28, 26, 28), (92, 54, 34), (146, 34, 44), (36, 58, 104), (196, 160, 96), (176, 178, 184)]
LENS_DARK = (26, 24, 30)

EYE_HEIGHT = -0.06  # where the eye line stands in the picture
LEVELS = 512  # steps of a colour ramp


Placer = Callable[..., "Points"]


class Mask(NamedTuple):
    """Coverage in [0, 1] of a rectangle of the canvas."""

    alpha: Array
    box: tuple[slice, slice]


# ---------------------------------------------------------------------------------------------------- colours


def rgb(colour: ArrayLike) -> Array:
    return np.asarray(colour, dtype=np.float32)


def mix(a: ArrayLike, b: ArrayLike, share: float) -> Array:
    """share = 0 is a, share = 1 is b."""
    return rgb(a) + np.float32(share) * (rgb(b) - rgb(a))


def palette(colours: Sequence[tuple[int, int, int]], place: float) -> Array:
    """A colour between neighbours of a palette; place in [0, 1]."""
    stops = np.linspace(0.0, 1.0, len(colours))
    return rgb([np.interp(place, stops, channel) for channel in zip(*colours, strict=True)])


def hsv(hue: float, saturation: float, value: float) -> Array:
    """All in [0, 1]; hue is cyclic."""
    wheel = np.abs(((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1.0) * 6.0 - 3.0) - 1.0
    return rgb(255.0 * value * (1.0 - saturation * (1.0 - np.clip(wheel, 0.0, 1.0))))


def ramp(*colours: ArrayLike) -> Array:
    """Evenly spaced colours from shadow to highlight: (3, LEVELS)."""
    stops = np.linspace(0.0, 1.0, len(colours))
    levels = np.linspace(0.0, 1.0, LEVELS)
    return rgb([np.interp(levels, stops, channel) for channel in np.stack([rgb(c) for c in colours], axis=1)])


def cloth_ramp(colour: ArrayLike) -> Array:
    base = rgb(colour)
    return ramp(base * 0.30, base * 0.62, base, mix(base, (255, 250, 244), 0.25), mix(base, (255, 255, 255), 0.5))


# --------------------------------------------------------------------------------------------------- geometry


def curve(points: ArrayLike, closed: bool = False, steps: int = 6) -> Points:
    """Catmull-Rom spline through (n, d) points: about n * steps points on a smooth line."""
    p = np.asarray(points, dtype=np.float64)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    line = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    line = line.reshape(-1, p.shape[1])
    return line if closed else np.concatenate([line, p[-2:-1]])


def resample(line: Points, count: int) -> Points:
    """count points at equal distances along a line."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line[:, :2], axis=0).T))])
    at = np.linspace(0.0, length[-1], count)
    return np.stack([np.interp(at, length, column) for column in line.T], axis=1)


def mirrored(points: ArrayLike) -> Points:
    """A right half from top to bottom, completed by its mirror image into a closed outline."""
    right = np.asarray(points, dtype=np.float64)
    left = right[::-1] * (-1.0, 1.0)
    return np.concatenate([right, left[left[:, 0] < -1e-6]])


def ribbon(line: Points, width: ArrayLike) -> Points:
    """The outline of a stroke: a line (n, 2) with a width per point."""
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.hypot(*along.T)[:, None] + 1e-9)
    offset = normal * (np.broadcast_to(np.asarray(width, dtype=np.float64), len(line))[:, None] / 2)
    return np.concatenate([line + offset, (line - offset)[::-1]])


def oval(x: float, y: float, rx: float, ry: float, count: int = 28) -> Points:
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def hump(t: NDArray[np.float64], power: float = 1.0) -> NDArray[np.float64]:
    """1 in the middle of t in [-1, 1], 0 at both ends."""
    return np.clip(1.0 - t * t, 0.0, 1.0) ** power


# ----------------------------------------------------------------------------------------------------- canvas


class Canvas:
    """Float pixels (3, H, W) at `factor` times the final size, painted through masks given in unit coordinates."""

    def __init__(self, height: int, width: int) -> None:
        short = min(height, width)
        self.size = (height, width)
        self.factor = max(2, -(-64 // short))
        self.height, self.width = height * self.factor, width * self.factor
        self.scale = short * self.factor / 2.0
        self.pixels = np.zeros((3, self.height, self.width), np.float32)
        self.x = ((np.arange(self.width) + 0.5 - self.width / 2) / self.scale).astype(np.float32)
        self.y = ((np.arange(self.height) + 0.5 - self.height / 2) / self.scale).astype(np.float32)

    def field(self, value: float) -> Array:
        return np.full((self.height, self.width), value, np.float32)

    def to_pixels(self, points: Points) -> Points:
        return points * self.scale + (self.width / 2 - 0.5, self.height / 2 - 0.5)

    def box(self, points: Points, margin: float = 0.0) -> tuple[slice, slice]:
        """The part of the canvas around points, perhaps empty."""
        pixels = self.to_pixels(points)
        grow = margin * self.scale + 2
        x0, y0 = np.floor(pixels.min(axis=0) - grow).astype(int)
        x1, y1 = np.ceil(pixels.max(axis=0) + grow).astype(int)
        rows = slice(min(max(y0, 0), self.height), min(max(y1, 0), self.height))
        return rows, slice(min(max(x0, 0), self.width), min(max(x1, 0), self.width))

    def mask(self, *outlines: Points, blur: float = 0.0, box: tuple[slice, slice] | None = None) -> Mask:
        """Coverage of closed outlines (n, 2), softened by a Gaussian of `blur` units."""
        rows, columns = box or self.box(np.concatenate(outlines), 3 * blur)
        shape = (max(rows.stop - rows.start, 0), max(columns.stop - columns.start, 0))
        cover = np.zeros(shape, np.uint8)
        if not cover.size:
            return Mask(cover.astype(np.float32), (rows, columns))
        for outline in outlines:
            pixels = (self.to_pixels(outline) - (columns.start, rows.start)) * 16
            cv2.fillPoly(cover, [np.clip(np.round(pixels), -200000, 200000).astype(np.int32)], 255, cv2.LINE_AA, 4)
        alpha = cover.astype(np.float32)
        alpha *= np.float32(1 / 255)
        return Mask(blurred(alpha, blur * self.scale), (rows, columns))

    def paint(self, mask: Mask, colour: Array, alpha: float = 1.0) -> None:
        """Lays a colour (3,) or a picture (3, h, w) of the mask's box over the pixels."""
        target = self.pixels[:, mask.box[0], mask.box[1]]
        source = colour[:, None, None] if colour.ndim == 1 else colour
        target += (mask.alpha * np.float32(alpha)) * (source - target)

    def tint(self, mask: Mask, colour: ArrayLike, alpha: float = 1.0) -> None:
        """Multiplies the pixels by colour / 255: shadows and glazes."""
        target = self.pixels[:, mask.box[0], mask.box[1]]
        glaze = rgb(colour)[:, None, None] / 255 - 1
        target *= 1 + (mask.alpha * np.float32(alpha)) * glaze

    def shade(self, mask: Mask, light: Array, colours: Array, alpha: float = 1.0) -> None:
        """Paints a full-size light field through a colour ramp inside a mask."""
        part = light[mask.box]
        levels = np.clip(part * (LEVELS - 1), 0, LEVELS - 1).astype(np.int32)
        self.paint(mask, np.stack([channel.take(levels) for channel in colours]), alpha)

    def glow(self, light: Array, point: Points, radii: tuple[float, float], amount: float) -> None:
        """Adds a Gaussian bump to a light field."""
        rows, columns = self.box(point.reshape(1, 2) + np.array([[-1, -1], [1, 1]]) * radii, max(radii) * 1.6)
        x = np.exp(-(((self.x[columns] - np.float32(point[0])) / np.float32(radii[0])) ** 2))
        y = np.exp(-(((self.y[rows] - np.float32(point[1])) / np.float32(radii[1])) ** 2))
        light[rows, columns] += np.float32(amount) * y[:, None] * x[None, :]

    def finish(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) at the final size; averaging over the finer pixels is the antialiasing."""
        fine = np.ascontiguousarray(self.pixels.transpose(1, 2, 0))
        small = cv2.resize(fine, (self.size[1], self.size[0]), interpolation=cv2.INTER_AREA)
        return np.clip(np.rint(small), 0, 255).astype(np.uint8).reshape(*self.size, 3)


def blurred(alpha: Array, sigma: float) -> Array:
    """Gaussian blur; wide ones run on a coarser grid, which the eye cannot tell."""
    if sigma < 0.3:
        return alpha
    if sigma > 6 and min(alpha.shape) > 16:
        height, width = alpha.shape
        small = cv2.resize(alpha, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        return cv2.resize(blurred(small, sigma / 2), (width, height), interpolation=cv2.INTER_LINEAR)
    window = 2 * int(np.ceil(2.6 * sigma)) + 1
    return cv2.GaussianBlur(alpha, (window, window), sigma, borderType=cv2.BORDER_REPLICATE)


# ------------------------------------------------------------------------------------------------------- head


class Head:
    """Proportions and pose of one face: turns head coordinates into unit coordinates."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        f = self.factors = factors
        self.width = 0.53 * f["head_width"]
        self.length = f["head_length"]
        self.spacing = 0.236 * f["eye_spacing"]
        self.nose_y = 0.305 * f["nose_length"] * self.length
        self.mouth_y = 0.485 * self.length
        self.drop = 0.05 * f["mouth_open"]  # how far the jaw falls
        self.chin_y = 0.715 * self.length + self.drop
        self.scale = 0.93 * f["zoom"]
        angles = np.radians([f["yaw"], f["pitch"], f["roll"]])
        (self.sy, self.sp, self.sr), (self.cy, self.cp, self.cr) = np.sin(angles), np.cos(angles)
        self.shift = np.zeros(2)
        eyes = self.place([[-self.spacing, 0.0], [self.spacing, 0.0]]).mean(axis=0)
        self.shift = np.array([0.0, EYE_HEIGHT]) - eyes
        self.centre = self.place([[0.0, 0.0]], flat=True)[0]

    def place(self, points: ArrayLike, lift: float = 0.0, flat: bool = False) -> Points:
        """Head coordinates (n, 2) on the surface of the face (lift above it, or flat at z = 0) to unit ones."""
        x, y = np.asarray(points, dtype=np.float64).T
        dome = np.clip(1.0 - (x / (self.width * 1.05)) ** 2 - (y / 0.84) ** 2, 0.0, 1.0)
        z = np.zeros_like(x) if flat else 0.42 * np.sqrt(dome) + lift
        x, z = x * self.cy + z * self.sy, z * self.cy - x * self.sy
        y = y * self.cp - z * self.sp
        x, y = x * self.cr - y * self.sr, x * self.sr + y * self.cr
        return np.stack([x, y], axis=1) * self.scale + self.shift

    def local(self, canvas: Canvas) -> tuple[Array, Array]:
        """Head coordinates of every pixel, without perspective: two (H, W) arrays."""
        x = (canvas.x - np.float32(self.centre[0])) / np.float32(self.scale)
        y = (canvas.y - np.float32(self.centre[1])) / np.float32(self.scale)
        cos, sin = np.float32(self.cr), np.float32(self.sr)
        return x[None, :] * cos + y[:, None] * sin, y[:, None] * cos - x[None, :] * sin

    def half_outline(self, grow: float = 0.0) -> Points:
        """The right contour from crown to chin."""
        f, w, chin = self.factors, self.width, self.chin_y
        jaw, cheek, point = f["jaw"], f["cheek"], f["chin"]
        half = np.array(
            [
                (0.0, -0.70),
                (0.30 * w / 0.53, -0.645),
                (0.465 * w / 0.53, -0.44),
                (w, -0.16),
                (w * 0.985, 0.08),
                (w * (0.90 + 0.05 * cheek), 0.45 * chin),
                (w * (0.74 + 0.13 * jaw + 0.03 * cheek), 0.70 * chin),
                (w * (0.43 + 0.15 * jaw + 0.04 * point), 0.905 * chin),
                (w * (0.20 + 0.07 * point), 0.985 * chin),
                (0.0, chin),
            ]
        )
        half[:, 0] += grow * np.sign(half[:, 0])
        half[0, 1] -= grow
        half[-1, 1] += grow
        return half

    def outline(self, grow: float = 0.0) -> Points:
        return curve(mirrored(self.half_outline(grow)), closed=True)

    def jaw(self, grow: float = 0.0) -> Points:
        """The contour below the temples, from the right ear around the chin to the left one."""
        right = curve(self.half_outline(grow))
        right = right[right[:, 1] > 0.05]
        return np.concatenate([right, right[::-1] * (-1.0, 1.0)])


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
        self.skin = skin_colour(factors)
        self.skin_ramp = skin_ramp(self.skin)
        self.hair = hair_colour(factors)
        self.hair_ramp = hair_ramp(self.hair)

    def noise(self, purpose: str, count: int, columns: int = 1) -> Points:
        """Uniform numbers in [-1, 1) that belong to the person: (count, columns)."""
        seed = int(self.factors["texture"] * 2**40)
        return streams.uniform(seed, purpose, np.arange(count), (columns,)) * 2 - 1

    def form(self, rx: float, ry: float, y: float = 0.0) -> Array:
        """Light on an ellipsoid around the head's axis, 0 where it is lit as the front is."""
        nx, ny = self.u / np.float32(rx), (self.v - np.float32(y)) / np.float32(ry)
        nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0, 1))
        lx, ly, lz = self.light
        return np.clip(nx, -1, 1) * lx + np.clip(ny, -1, 1) * ly + (nz - 1) * lz

    def soft(self, light: Array, points: Points, amount: float, blur: float) -> None:
        """Adds a softened shape (unit coordinates) to a light field."""
        mask = self.canvas.mask(points, blur=blur)
        light[mask.box] += np.float32(amount) * mask.alpha


def skin_colour(f: Mapping[str, float]) -> Array:
    base = palette(SKIN, f["skin"])
    return np.clip(base * (1 + 0.05 * f["undertone"] * rgb((0.6, 0.1, -1.0))), 0, 255)


def skin_ramp(base: Array) -> Array:
    """Shadows turn to red, highlights to the light's warm white, less so on dark skin."""
    shine = 0.30 + 0.25 * float(base.mean()) / 255
    return ramp(
        base * rgb((0.36, 0.24, 0.25)),
        base * rgb((0.70, 0.55, 0.53)),
        base,
        mix(base, (255, 246, 234), shine * 0.75),
        mix(base, (255, 252, 246), shine * 1.5),
    )


def hair_colour(f: Mapping[str, float]) -> Array:
    base = mix(palette(HAIR, f["hair_melanin"]), RED_HAIR, f["hair_red"])
    return mix(base, GRAY_HAIR, f["hair_gray"])


def hair_ramp(base: Array) -> Array:
    sheen = mix(base, (255, 240, 214), 0.30)
    return ramp(base * 0.28, base * 0.60, base, sheen, mix(sheen, (255, 250, 240), 0.42))


# ------------------------------------------------------------------------------------------ background and body


def background(s: Scene) -> None:
    """Two related hues along a diagonal, a pool of light behind the head, a few large soft discs."""
    f, c = s.factors, s.canvas
    first = hsv(f["back_hue"], f["back_saturation"], f["back_value"])
    second = hsv(f["back_hue"] + f["back_shift"], f["back_saturation"] * 1.1, f["back_value"] * 0.62)
    angle = 2 * np.pi * f["back_angle"]
    along = c.x[None, :] * np.float32(np.cos(angle)) + c.y[:, None] * np.float32(np.sin(angle))
    share = np.clip(0.5 + 0.42 * along, 0, 1)
    share = share * share * (3 - 2 * share)
    c.pixels[:] = first[:, None, None] + share * (second - first)[:, None, None]
    pool = c.field(0.0)
    c.glow(pool, np.array([0.5 * f["light_x"], -0.35]), (0.95, 0.95), 0.30)
    for x, y, size in s.noise("discs", 3, 3) * (1.1, 1.0, 0.12):
        s.soft(pool, oval(x, y, 0.26 + size, 0.26 + size), 0.10, 0.035)
    c.pixels += pool * (rgb((255, 250, 242))[:, None, None] - c.pixels)


def body(s: Scene) -> None:
    """Neck, shoulders and clothes, with the shadow that the head casts on them."""
    f, c = s.factors, s.canvas
    x0, chin = s.head.centre[0] * 0.6, s.head.place([[0.0, s.head.chin_y]], flat=True)[0, 1]
    neck, wide = 0.225 + 0.085 * f["male"] * f["build"], 0.86 + 0.18 * f["male"] + 0.12 * (f["build"] - 1)
    slope = [(neck, chin - 0.5), (neck, chin + 0.06), (neck * 1.25, chin + 0.16), (wide * 0.6, chin + 0.30)]
    half = np.array([*slope, (wide, chin + 0.48), (wide * 1.12, chin + 1.0), (wide * 1.12, 12.0)])
    right = curve(half[:-1])
    torso = np.concatenate([right, half[-1:], half[-1:] * (-1, 1), right[::-1] * (-1, 1)]) + (x0, 0)
    light = c.field(0.36) + np.clip(s.light[0] * (c.x - x0)[None, :], -0.35, 0.35) * np.float32(0.3)
    for side in (-1, 1):
        s.soft(
            light, ribbon(curve([(side * 0.22 + x0, chin - 0.1), (side * 0.05 + x0, chin + 0.34)]), 0.06), 0.07, 0.03
        )
    c.glow(light, np.array([x0 - 0.25 * f["light_x"], chin - 0.02]), (0.42, 0.22), -0.30)
    c.shade(c.mask(torso), light, s.skin_ramp)
    clothes(s, torso, x0, chin)


NECKLINES = ("crew", "v", "collar", "turtle", "wide")


def clothes(s: Scene, torso: Points, x0: float, chin: float) -> None:
    """A garment over the torso: its neckline is a curve cut out of the shoulders."""
    f, c = s.factors, s.canvas
    kind = NECKLINES[min(int(f["clothes_style"] * len(NECKLINES)), len(NECKLINES) - 1)]
    drop = {"crew": 0.24, "v": 0.42, "collar": 0.30, "turtle": 0.03, "wide": 0.40}[kind]
    side = {"crew": 0.33, "v": 0.36, "collar": 0.33, "turtle": 0.30, "wide": 0.60}[kind]
    rise = {"crew": 0.12, "v": 0.10, "collar": 0.08, "turtle": -0.04, "wide": 0.22}[kind]
    bend = 1.0 if kind in ("v", "collar") else 2.4
    t = np.linspace(-1, 1, 25)
    edge = np.stack([x0 + side * t, chin + rise + (drop - rise) * (1 - np.abs(t) ** bend)], axis=1)
    below = np.array([(9.0, chin + rise), (9.0, 14.0), (-9.0, 14.0), (-9.0, chin + rise)])
    garment = c.mask(np.concatenate([edge, below]), box=c.box(torso))
    grown = (torso - (x0, 0)) * (1.03, 1.0) + (x0, -0.012)
    garment = Mask(garment.alpha * c.mask(grown, box=garment.box).alpha, garment.box)
    light = c.field(0.50) + np.clip(s.light[0] * (c.x - x0)[None, :], -0.5, 0.5) * np.float32(0.25)
    c.glow(light, np.array([x0, chin + 0.02]), (0.5, 0.16), -0.22)
    for x, bow, amount in s.noise("folds", 5, 3):
        fold = curve([(x0 + x, chin + 0.30), (x0 + x + 0.12 * bow, chin + 0.55), (x0 + 0.9 * x, chin + 1.2)])
        s.soft(light, ribbon(fold, 0.05), 0.09 * amount, 0.025)
    colours = cloth_ramp(hsv(f["clothes_hue"], f["clothes_saturation"], f["clothes_value"]))
    c.tint(c.mask(ribbon(edge, 0.05), blur=0.02), (120, 84, 84), 0.5)
    c.shade(garment, light, colours)
    band = {"crew": 0.030, "turtle": 0.05, "v": 0.028, "wide": 0.018}.get(kind, 0.0)
    if band:
        c.shade(c.mask(ribbon(edge + (0, band / 2), band)), light + np.float32(0.10), colours)
    else:
        collar(s, x0, chin, light, colours)


def collar(s: Scene, x0: float, chin: float, light: Array, colours: Array) -> None:
    """Two flaps of a shirt."""
    for side in (-1, 1):
        flap = np.array([(0.02, 0.31), (0.27, 0.06), (0.36, 0.10), (0.33, 0.30), (0.19, 0.43)])
        points = flap * (side, 1) + (x0, chin)
        s.canvas.tint(s.canvas.mask(points + (0, 0.03), blur=0.025), (90, 80, 90), 0.55)
        s.canvas.shade(s.canvas.mask(points), light + np.float32(0.13), colours)


# ------------------------------------------------------------------------------------------------ ears and face


def ears(s: Scene) -> None:
    f, h, c = s.factors, s.head, s.canvas
    size = f["ear_size"]
    for side in (-1, 1):
        lit = 0.42 + 0.14 * s.contrast * side * s.light[0] * 2
        shape = [(0.90, -0.10), (1.05, -0.13), (1.16, -0.07), (1.16, 0.05), (1.09, 0.17), (1.00, 0.23), (0.92, 0.20)]
        outer = np.array(shape) * (h.width, size)
        inner = (outer - (h.width * 1.05, 0.02)) * (0.55, 0.62) + (h.width * 1.055, 0.02)
        light = c.field(lit)
        place = lambda points: h.place(points * (side, 1), flat=True)  # noqa: E731
        s.soft(light, place(curve(inner, closed=True)), -0.20, 0.016)
        c.shade(c.mask(place(curve(outer, closed=True))), light, s.skin_ramp)
        if f["earrings"] > 0.5:
            spot = place(np.array([(1.06 * h.width, 0.235 * size)]))[0]
            c.paint(c.mask(oval(*spot, 0.026, 0.03)), rgb((214, 176, 92)))
            c.paint(c.mask(oval(spot[0] - 0.006, spot[1] - 0.008, 0.008, 0.008)), rgb((255, 246, 214)))


def face(s: Scene, shadows: Sequence[tuple[Points, float]]) -> None:
    """The skin of the head with all its forms; shadows are shapes above it (hair, hat) that darken it."""
    f, h, c = s.factors, s.head, s.canvas
    light = np.float32(0.535) + np.float32(0.46 * s.contrast) * s.form(h.width * 1.10, 0.86)
    for outline, amount in shadows:
        s.soft(light, outline + (-0.03 * f["light_x"], 0.045), amount, 0.035)
    sockets(s, light)
    nose(s, light)
    cheeks(s, light)
    wrinkles(s, light)
    skin = c.mask(h.place(h.outline(), flat=True))
    c.shade(skin, light, s.skin_ramp)
    colour(s, skin)


def sockets(s: Scene, light: Array) -> None:
    """Soft hollows around the eyes, the light brow bone and the forehead."""
    f, h, c = s.factors, s.head, s.canvas
    for side in (-1, 1):
        x = side * h.spacing
        c.glow(light, h.place([[x * 0.86, -0.07]])[0], (0.15, 0.075), -0.11)
        c.glow(light, h.place([[x * 0.55, -0.01]])[0], (0.05, 0.07), -0.07)
        c.glow(light, h.place([[x * 0.95, 0.105]])[0], (0.10, 0.035), -0.05 - 0.07 * old(f))
    c.glow(light, h.place([[0.05 * np.sign(f["light_x"]), -0.36]])[0], (0.22, 0.12), 0.09)
    for side in (-1, 1):
        c.glow(light, h.place([[side * 0.98 * h.width, -0.22]], flat=True)[0], (0.07, 0.20), -0.07)


def cheeks(s: Scene, light: Array) -> None:
    """Cheek apples that rise with a smile, the fold beside them, the hollow under the lip, the chin."""
    f, h, c = s.factors, s.head, s.canvas
    smile = max(f["smile"], 0.0)
    for side in (-1, 1):
        toward = 1 + 0.8 * side * float(np.sign(f["light_x"])) * min(abs(f["light_x"]), 1)
        apple = [side * (0.285 + 0.01 * smile), 0.225 - 0.03 * smile]
        c.glow(light, h.place([apple])[0], (0.11, 0.085), (0.05 + 0.07 * smile) * toward)
        c.glow(light, h.place([[side * 0.36, 0.43 * h.length]])[0], (0.09, 0.13), -0.07 * (1.2 - f["cheek"]))
        fold = [(side * 0.125, h.nose_y - 0.02), (side * 0.20, h.mouth_y - 0.07), (side * 0.225, h.mouth_y + 0.01)]
        depth = 0.03 + 0.11 * smile + 0.10 * old(f)
        s.soft(light, h.place(ribbon(curve(fold), [*np.linspace(0.012, 0.03, 12), 0.005])), -depth, 0.014)
    c.glow(light, h.place([[0.0, h.mouth_y + 0.105 + h.drop]])[0], (0.085, 0.028), -0.13)
    c.glow(light, h.place([[0.0, 0.9 * h.chin_y]])[0], (0.09, 0.05), 0.07)
    c.glow(light, h.place([[0.0, h.chin_y + 0.02]], flat=True)[0], (0.30, 0.06), -0.13)


def nose(s: Scene, light: Array) -> None:
    """Only shading: a lit bridge and tip, a shadowed flank, the underside and the creases of the wings."""
    f, h, c = s.factors, s.head, s.canvas
    wide, base, tip = 0.098 * f["nose_width"], h.nose_y, f["nose_tip"]
    away = -1.0 if f["light_x"] > 0 else 1.0
    bridge = 0.034 * f["nose_bridge"]
    for side in (-1, 1):
        flank = [(side * (bridge + 0.045), -0.09), (side * (bridge + 0.018), 0.06), (side * (wide * 0.72), base - 0.04)]
        depth = (0.13 if side == away else 0.055) * (0.7 + 0.6 * s.contrast)
        s.soft(light, h.place(ribbon(curve(flank), np.linspace(0.035, 0.075, 13)), 0.04), -depth, 0.020)
        wing = [
            (side * wide * 0.86, base - 0.085),
            (side * wide * 1.16, base - 0.035),
            (side * wide * 0.95, base + 0.008),
        ]
        s.soft(light, h.place(ribbon(curve(wing), 0.020), 0.02), -0.20, 0.010)
        c.glow(light, h.place([[side * wide * 0.80, base - 0.045]], 0.07)[0], (0.032, 0.032), 0.06)
    ridge = curve([(0.0, -0.10), (0.004, 0.05), (0.0, base - 0.08)])
    s.soft(light, h.place(ribbon(ridge, np.linspace(0.022, 0.05, len(ridge)) * f["nose_bridge"]), 0.13), 0.15, 0.014)
    c.glow(light, h.place([[0.0, base - 0.065]], 0.16)[0], (0.058 - 0.02 * tip, 0.05 - 0.014 * tip), 0.17)
    under = [(-wide, base - 0.01), (-wide * 0.4, base - 0.028 + 0.02 * tip), (0, base - 0.014 + 0.03 * tip)]
    under = curve([*under, (wide * 0.4, under[1][1]), (wide, base - 0.01), (0, base + 0.045)], closed=True)
    s.soft(light, h.place(under, 0.06) + (-0.012 * f["light_x"], 0.0), -0.24, 0.014)


def nostrils(s: Scene) -> None:
    f, h, c = s.factors, s.head, s.canvas
    wide = 0.098 * f["nose_width"]
    for side in (-1, 1):
        hole = [(0.30, 0.0), (0.52, -0.017), (0.74, -0.006), (0.55, 0.010)]
        points = h.place(curve(np.array(hole) * (side * wide, 1.0) + (0, h.nose_y - 0.004), closed=True), 0.07)
        c.paint(c.mask(points, blur=0.005), s.skin_ramp[:, 20], 0.72)


def wrinkles(s: Scene, light: Array) -> None:
    """Lines across the forehead and beside the eyes come with age; a frown folds the glabella at any age."""
    f, h = s.factors, s.head
    age, smile = old(f), max(f["smile"], 0.0)
    for y in (-0.30, -0.355, -0.41) if age > 0.25 else ():
        line = curve([(-0.22, y + 0.015), (-0.08, y - 0.006), (0.09, y - 0.004), (0.22, y + 0.018)])
        s.soft(light, h.place(ribbon(line, 0.012 * hump(np.linspace(-1, 1, len(line))))), -0.16 * age, 0.006)
    for side in (-1, 1):
        for turn in (-0.05, 0.0, 0.05) if age > 0.2 else ():
            start = (side * (h.spacing + 0.145), 0.005 + turn * 0.4)
            line = np.array(
                [start, (start[0] + side * 0.035, start[1] + turn), (start[0] + side * 0.06, start[1] + turn * 2)]
            )
            s.soft(light, h.place(ribbon(line, [0.010, 0.012, 0.004])), -(0.10 + 0.1 * smile) * age, 0.006)
        crease = np.array([(side * 0.038, -0.19), (side * 0.030, -0.14), (side * 0.036, -0.10)])
        s.soft(light, h.place(ribbon(crease, [0.006, 0.018, 0.006])), -0.20 * max(f["frown"], 0.4 * age), 0.008)


def colour(s: Scene, skin: Mask) -> None:
    """Red where blood is near (cheeks, nose tip), make-up blush, freckles; clipped to the face."""
    f, h, c = s.factors, s.head, s.canvas
    red = c.field(0.0)
    strength = 0.10 + 0.42 * f["blush"]
    for side in (-1, 1):
        c.glow(red, h.place([[side * 0.315, 0.215]])[0], (0.125, 0.085), strength)
    c.glow(red, h.place([[0.0, h.nose_y - 0.06]], 0.14)[0], (0.07, 0.05), 0.12)
    c.paint(Mask(skin.alpha * red[skin.box], skin.box), mix(s.skin * 0.9, BLUSH, 0.62))
    if f["freckles"] > 0.5:
        spots = s.noise("freckles", 46, 3)
        for x, y, size in spots * (0.40, 0.09, 0.004):
            point = h.place([[x, 0.16 + y + 0.25 * x * x]], 0.08 * (abs(x) < 0.1))[0]
            c.paint(c.mask(oval(*point, 0.009 + size, 0.008 + size, 8)), s.skin * rgb((0.72, 0.58, 0.50)), 0.5)


def old(f: Mapping[str, float]) -> float:
    """0 up to 35 years, 1 from 75."""
    return float(np.clip((f["age"] - 35) / 40, 0, 1))


# --------------------------------------------------------------------------------------------- eyes and brows


def eyes(s: Scene) -> None:
    for side in (-1, 1):
        eye(s, side)


def eye(s: Scene, side: int) -> None:
    f, h, c = s.factors, s.head, s.canvas
    t, upper, lower = lids(f)
    wide = 0.122 * f["eye_size"]

    def place(x: ArrayLike, y: ArrayLike, lift: float = 0.0) -> Points:
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        return h.place(np.stack([side * (h.spacing + wide * x), wide * y], axis=1), lift)

    opening = np.concatenate([place(t, upper), place(t[::-1], lower[::-1])])
    white = c.mask(opening)
    light = c.field(0.86)
    s.soft(light, ribbon(place(t, upper), 0.07), -0.34, 0.014)
    c.glow(light, place([1.0], [0.0])[0], (0.05, 0.08), -0.12)
    c.shade(white, light, ramp((96, 70, 72), (186, 168, 166), SCLERA))
    c.paint(c.mask(oval(*place([-0.93], [0.03])[0], 0.016, 0.014), blur=0.006), rgb((222, 132, 124)), 0.7)
    iris(s, white, place([side * 0.30 * f["gaze_x"]], [-0.07 + 0.15 * f["gaze_y"]])[0], wide)
    lashes(s, place, t, upper, lower)


def lids(f: Mapping[str, float]) -> tuple[Points, Points, Points]:
    """Upper and lower lid over t in [-1 inner, 1 outer], in half eye widths."""
    t = np.linspace(-1, 1, 17)
    tilt = -0.16 * f["eye_tilt"] * t
    smile = max(f["smile"], 0.0)
    height = f["eye_open"] * (1 - 0.12 * smile)
    upper = -0.60 * height * hump(t * 0.98 + 0.02, 0.62) * (1 - 0.10 * t) + tilt
    lower = 0.40 * (0.45 + 0.55 * height) * (1 - 0.38 * smile) * hump(t, 0.72) * (1 + 0.18 * t) + tilt
    return t, upper, np.maximum(lower, upper)


def iris(s: Scene, white: Mask, at: Points, wide: float) -> None:
    """Dark rim, coloured ring brighter below, pupil, and the catchlight that makes it alive."""
    f, c = s.factors, s.canvas
    radius = 0.50 * wide * s.head.scale
    base = palette(IRIS, f["iris"])
    inside = lambda mask: Mask(mask.alpha * white.alpha, mask.box)  # noqa: E731
    disc = lambda r, dx=0.0, dy=0.0, blur=0.0: inside(  # noqa: E731
        c.mask(oval(at[0] + dx, at[1] + dy, r, r), box=white.box, blur=blur)
    )
    c.paint(disc(radius), base * 0.42)
    c.paint(disc(radius * 0.86, blur=radius * 0.08), base * 0.95)
    c.paint(disc(radius * 0.55, 0.0, radius * 0.38, radius * 0.22), mix(base, (255, 244, 214), 0.42), 0.8)
    c.paint(disc(radius * 0.44, blur=radius * 0.05), rgb((18, 14, 16)))
    top = c.mask(oval(at[0], at[1] - radius * 1.0, radius * 1.2, radius * 0.62), box=white.box, blur=radius * 0.25)
    c.paint(inside(top), rgb((22, 14, 16)), 0.50)
    x = radius * (0.36 if f["light_x"] > 0 else -0.36)
    c.paint(disc(radius * 0.27, x, -radius * 0.34), rgb((255, 255, 255)), 0.95)
    c.paint(disc(radius * 0.14, -x, radius * 0.42), rgb((255, 255, 255)), 0.45)


def lashes(s: Scene, place: Placer, t: Points, upper: Points, lower: Points) -> None:
    """Lid lines and lashes; make-up thickens the line, lengthens the lashes and colours the lid."""
    f, c = s.factors, s.canvas
    makeup, ink = f["makeup"], mix(LASH, s.hair * 0.4, 0.35)
    fold = upper - 0.17 - 0.10 * hump(t, 0.5) * f["eyelid"]
    if makeup > 0.05:
        lid = np.concatenate([place(t, upper), place(t[::-1], fold[::-1] - 0.06)])
        shadow = mix(hsv(f["shadow_hue"], 0.45, 0.55), s.skin * 0.6, 0.35)
        c.paint(c.mask(lid, blur=0.012), shadow, 0.60 * makeup)
    c.paint(c.mask(ribbon(place(t, fold), 0.016 * hump(t, 0.4)), blur=0.006), s.skin_ramp[:, 60], 0.62)
    thick = (0.019 + 0.011 * (1 - f["male"]) + 0.010 * makeup) * (0.55 + 0.45 * np.linspace(0, 1, 17))
    c.paint(c.mask(ribbon(place(t, upper - 0.03), thick)), ink, 0.95)
    c.paint(c.mask(ribbon(place(t, lower + 0.03), 0.010), blur=0.004), mix(ink, s.skin_ramp[:, 90], 0.5), 0.6)
    reach = 0.10 + 0.30 * (1 - f["male"]) * (0.5 + 0.5 * makeup)
    tips = []
    for i, out in zip((9, 11, 13, 15, 16), (0.25, 0.45, 0.7, 0.95, 1.0), strict=True):
        root, tip = (t[i], upper[i]), (t[i] + reach * 0.75 * out, upper[i] - reach * (1.1 - 0.45 * out))
        bend = ((root[0] + tip[0]) / 2 + 0.05, (root[1] + tip[1]) / 2 + 0.03)
        stroke = curve([root, bend, tip], steps=3)
        tips.append(ribbon(place(stroke[:, 0], stroke[:, 1], 0.02), np.linspace(0.017, 0.003, len(stroke))))
    for tip in tips:
        c.paint(c.mask(tip), ink, 0.9 - 0.5 * f["male"])


def brow_line(s: Scene, side: int) -> Points:
    """The middle of a brow in head coordinates, from the nose outwards."""
    f = s.factors
    arch, frown = 0.052 * f["brow_arch"], 0.035 * f["frown"]
    y = -0.165 - 0.035 * f["brow_raise"] - 0.01 * (f["eye_size"] - 1)
    inner, outer = 0.080 * (1 - 0.25 * f["frown"]), s.head.spacing + 0.165
    points = [
        (inner, y + 0.022 + frown),
        (inner + 0.10, y - 0.005 + frown * 0.4),
        (outer - 0.09, y - arch),
        (outer, y + 0.032),
    ]
    return curve(np.array(points) * (side, 1))


def brows(s: Scene) -> None:
    """A soft tapering base with hairs combed outwards."""
    f, h, c = s.factors, s.head, s.canvas
    ink = mix(s.hair * 0.62, (52, 36, 30), 0.45 * (1 - 0.6 * f["hair_gray"]))
    for side in (-1, 1):
        line = brow_line(s, side)
        t = np.linspace(0, 1, len(line))
        thick = 0.052 * f["brow_thickness"] * (0.62 + 0.55 * t) * (1 - t**3) ** 0.8 + 0.006
        c.paint(c.mask(h.place(ribbon(line, thick), 0.01), blur=0.007), ink, 0.78)
        count = 13
        for i in range(count):
            at = int(i / count * (len(line) - 2))
            x, y = line[at]
            rise = thick[at] * 0.75 * (1.0 - 1.3 * t[at])
            hair = np.array(
                [(x, y + thick[at] * 0.36), (x + side * 0.022, y - rise * 0.3), (x + side * 0.048, y - rise)]
            )
            c.paint(c.mask(h.place(ribbon(hair, [0.011, 0.009, 0.003]), 0.012)), ink * 0.8, 0.5)


# ------------------------------------------------------------------------------------------------------ mouth


class Lips(NamedTuple):
    """Four curves over t in [-1, 1], in head coordinates (17, 2), from the upper to the lower edge."""

    top: Points
    upper: Points
    lower: Points
    bottom: Points


def lips(s: Scene) -> Lips:
    f, h = s.factors, s.head
    t = np.linspace(-1, 1, 17)
    smile, opened, full = f["smile"], f["mouth_open"], f["lips"]
    x = t * 0.172 * f["mouth_width"] * (1 + 0.24 * max(smile, 0) + 0.04 * smile - 0.12 * opened * (1 - max(smile, 0)))
    line = h.mouth_y + 0.022 * smile - 0.082 * smile * np.abs(t) ** 1.7 + 0.004 * np.cos(3 * np.pi * t)
    gap = 0.125 * opened
    upper = line - 0.20 * gap * hump(t, 0.6) - 0.012 * opened
    lower = line + 0.95 * gap * hump(t, 0.62) * (1 - 0.15 * max(-smile, 0))
    bow = hump(t, 0.75) * (1 - 0.24 * np.exp(-((t / 0.17) ** 2))) * (1 + 0.10 * np.cos(np.pi * t * 2))
    top = upper - 0.048 * full * bow * (1 - 0.25 * max(smile, 0))
    bottom = lower + 0.068 * full * hump(t, 0.66) * (1 - 0.22 * max(smile, 0))
    return Lips(*(np.stack([x, y], axis=1) for y in (top, upper, lower, bottom)))


def between(a: Points, b: Points) -> Points:
    return np.concatenate([a, b[::-1]])


def mouth(s: Scene) -> None:
    f, h, c = s.factors, s.head, s.canvas
    shape = lips(s)
    if f["mouth_open"] > 0.04:
        inside_mouth(s, shape)
    lipstick = hsv(f["lipstick_hue"], 0.72, 0.74)
    natural = mix(s.skin * rgb((0.90, 0.64, 0.62)), (196, 92, 92), 0.25)
    colours = lip_ramp(mix(natural, lipstick, 0.85 * f["lipstick"]))
    soft = 0.004 + 0.006 * (1 - f["lipstick"]) * f["male"]
    strength = 0.62 + 0.38 * max(f["lipstick"], 1 - f["male"])
    light = c.field(0.5)
    s.soft(light, h.place(between(shape.top, shape.upper)), -0.13, 0.006)
    middle = (shape.lower + shape.bottom) / 2
    s.soft(light, h.place(ribbon(middle[4:13], 0.022 * f["lips"]), 0.02), 0.24 + 0.12 * f["lipstick"], 0.010)
    s.soft(light, h.place(ribbon(shape.bottom, 0.018)), -0.12, 0.008)
    for edge in (between(shape.top, shape.upper), between(shape.lower, shape.bottom)):
        c.shade(c.mask(h.place(edge, 0.01), blur=soft), light, colours, strength)
    dark = mix(s.skin_ramp[:, 12], (92, 28, 30), 0.35)
    t = np.linspace(-1, 1, 17)
    for edge in (shape.upper, shape.lower) if f["mouth_open"] > 0.04 else (shape.upper,):
        c.paint(c.mask(h.place(ribbon(edge, 0.006 + 0.010 * hump(t, 0.5))), blur=0.004), dark, 0.75)
    for side, i in ((-1, 0), (1, 16)):
        corner = h.place(shape.upper[i : i + 1] + (side * 0.006, 0.0))[0]
        c.paint(c.mask(oval(*corner, 0.016, 0.014), blur=0.010), s.skin_ramp[:, 30], 0.55)


def inside_mouth(s: Scene, shape: Lips) -> None:
    """Dark cavity, tongue, an upper row of teeth that follows the lip."""
    f, h, c = s.factors, s.head, s.canvas
    hole = c.mask(h.place(between(shape.upper, shape.lower)))
    inside = lambda mask, amount=1.0: Mask(mask.alpha * hole.alpha * np.float32(amount), mask.box)  # noqa: E731
    c.paint(hole, rgb(MOUTH_INSIDE))
    c.paint(
        inside(c.mask(h.place(between(shape.upper, shape.lower * (0.6, 1.0) + (0, -0.04))), box=hole.box, blur=0.02)),
        rgb((44, 12, 16)),
        0.7,
    )
    floor = h.place([(shape.lower[8][0], shape.lower[8][1] + 0.022)])[0]
    c.paint(inside(c.mask(oval(*floor, 0.10, 0.05), box=hole.box, blur=0.010)), rgb(TONGUE), 0.9)
    show = np.clip(0.25 + 0.75 * max(f["smile"], 0) * 1.4, 0, 1)
    t = np.linspace(-1, 1, 17)
    depth = (0.020 + 0.052 * show) * hump(t, 0.35)
    teeth = between(shape.upper + (0, -0.02), shape.upper + np.stack([0 * t, depth], axis=1))
    row = inside(c.mask(h.place(teeth), box=hole.box))
    light = c.field(0.92)
    s.soft(light, h.place(ribbon(shape.upper, 0.03)), -0.30, 0.010)
    for i in (0, 16):
        c.glow(light, h.place(shape.upper[i : i + 1])[0], (0.07, 0.09), -0.55)
    for x in (-0.115, -0.075, -0.038, 0.0, 0.038, 0.075, 0.115):
        tooth = np.array([(x, h.mouth_y - 0.12), (x, h.mouth_y + 0.16)])
        s.soft(light, h.place(ribbon(tooth, 0.004)), -0.16, 0.003)
    c.shade(row, light, ramp((70, 34, 36), (176, 150, 142), TEETH))


def lip_ramp(base: Array) -> Array:
    return ramp(
        base * rgb((0.42, 0.30, 0.32)),
        base * rgb((0.74, 0.66, 0.68)),
        base,
        mix(base, (255, 226, 220), 0.40),
        rgb((255, 246, 242)),
    )


# ------------------------------------------------------------------------------------------------------- hair


class Lock(NamedTuple):
    """A mass of hair in unit coordinates: outlines to fill and lines along which it is combed."""

    outlines: list[Points]
    strands: list[Points]


def waved(line: Points, amount: float, phase: float = 0.0) -> Points:
    """Pushes a line sideways in waves that begin some way from its root."""
    line = resample(line, 40)
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    push = 0.045 * amount * np.sin(length * (11 + 5 * amount) + phase) * np.clip(length / 0.5 - 0.3, 0, 1)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.hypot(*along.T)[:, None] + 1e-9)
    return line + push[:, None] * normal


def combed(s: Scene, a: Points, b: Points, count: int = 16, flat: bool = True) -> Lock:
    """A ribbon between two guide lines in head coordinates, with strands running between them."""
    wave = s.factors["hair_wave"]
    a, b = waved(a, wave), waved(b, wave, 0.6)
    shares = (np.arange(count) + 0.5 + 0.35 * s.noise("comb", count)[:, 0]) / count
    lines = [s.head.place(a + share * (b - a), flat=flat) for share in shares]
    return Lock([s.head.place(between(a, b), flat=flat)], lines)


def crown(s: Scene, volume: float, low: float = 0.0) -> Points:
    """The head's contour above `low`, grown by a volume of hair, from left to right (head coordinates)."""
    right = curve(s.head.half_outline(volume))
    right[:, 1] -= 0.35 * volume * np.clip(-right[:, 1] / 0.7, 0, 1)
    right = right[right[:, 1] < low]
    return np.concatenate([right[::-1] * (-1, 1), right[1:]])


def hairline(s: Scene, lower: float = 0.0, skew: float = 0.0) -> Points:
    """Where hair begins above the face, from left to right; age and sex move the temples back."""
    f, w = s.factors, s.head.width
    back = 0.07 * f["recession"]
    half = [
        (1.01, 0.02),
        (0.90, -0.05),
        (0.87, -0.18),
        (0.80 - back, -0.33),
        (0.52, -0.445 - back),
        (0.22, -0.475 - back * 0.6),
    ]
    points = [(-x * w, y + lower) for x, y in half] + [(x * w, y + lower) for x, y in half[::-1]]
    points = np.array(points)
    points[:, 1] += skew * points[:, 0] * np.clip(-points[:, 1] - 0.1, 0, 0.4) * 2.2
    return curve(points)


def cap(s: Scene, volume: float, line: Points, low: float = 0.0, part: tuple[float, float] | None = None) -> Lock:
    """Hair lying over the skull; strands run from the hairline back, or from a parting to both sides."""
    over = crown(s, volume, low)
    edge, top = s.head.place(line), s.head.place(over, flat=True)
    outline = between(edge, top)
    count = 34
    ends, roots = resample(top, count), resample(edge, count)
    if part is None:
        strands = [np.linspace(a, b, 6) for a, b in zip(roots, ends, strict=True)]
    else:
        strands = swept(s, part, ends, roots)
    return Lock([outline], strands)


def swept(s: Scene, part: tuple[float, float], ends: Points, roots: Points) -> list[Points]:
    """Strands from a parting on top of the head, bowed upwards, to the hairline and to the contour."""
    start = s.head.place([part])[0]
    lines = []
    for end in np.concatenate([ends, roots]):
        middle = (start + end) / 2 + (0.10 * (end[0] - start[0]), -0.07)
        lines.append(curve([start + 0.1 * (end - start), middle, end]))
    return lines


def hair_light(s: Scene) -> Array:
    """The head's form, and a bright band bent around the skull where smooth hair mirrors the light."""
    light = np.float32(0.40) + np.float32(0.55 * s.contrast) * s.form(0.74, 0.98, -0.05)
    band = (
        s.v + np.float32(0.56) - np.float32(0.45) * (s.u - np.float32(0.10 * s.factors["light_x"])) ** 2
    ) / np.float32(0.085)
    gloss = 0.20 * (1 - 0.7 * s.factors["hair_curl"])
    return light + np.float32(gloss) * np.exp(-band * band)


def paint_hair(s: Scene, locks: Sequence[Lock], dim: float = 0.0, soft: float = 0.004) -> None:
    """Fills locks in order, each with streaks of light and dark along its strands."""
    c = s.canvas
    base = hair_light(s) - np.float32(dim)
    curl = s.factors["hair_curl"]
    for lock in locks:
        light = base.copy()
        tones = s.noise("streaks", len(lock.strands), 2)
        for sign, amount in ((1, 0.13), (-1, -0.17)):
            chosen = [line for line, tone in zip(lock.strands, tones, strict=True) if tone[0] * sign > 0]
            streaks = [
                ribbon(line, (0.012 + 0.010 * curl) * hump(np.linspace(-0.9, 1, len(line)), 0.5)) for line in chosen
            ]
            if streaks:
                mask = c.mask(*streaks, blur=0.005)
                light[mask.box] += np.float32(amount) * mask.alpha
        mask = c.mask(*lock.outlines, blur=soft)
        rim = c.mask(*[ribbon(np.concatenate([line, line[:1]]), 0.03) for line in lock.outlines], blur=0.014)
        light[rim.box] -= np.float32(0.10) * rim.alpha
        c.shade(under_hat(s, mask), light, s.hair_ramp)


def under_hat(s: Scene, mask: Mask) -> Mask:
    """Removes what a hat presses down."""
    if s.factors["hat"] < 0.5:
        return mask
    below = np.clip((s.v[mask.box] + np.float32(0.36)) * np.float32(20), 0, 1)
    return Mask(mask.alpha * below, mask.box)


Locks = tuple[list[Lock], list[Lock]]  # behind the neck, in front of the face


def bald(s: Scene) -> Locks:
    """A wreath above the ears that fades with the baldness of the factor hair_length."""
    if s.factors["hair_length"] < 0.45:
        return [], []
    w, sides = s.head.width, []
    for side in (-1, 1):
        patch = [(1.0, 0.03), (0.93, -0.02), (0.90, -0.16), (0.95, -0.30), (1.02, -0.28), (1.09, -0.14), (1.07, 0.0)]
        points = s.head.place(curve(np.array(patch) * (side * w, 1), closed=True), flat=True)
        lines = [np.array([p, p + (0.0, 0.08)]) for p in resample(points, 10)]
        sides.append(Lock([points], lines))
    return [], sides


def crop(s: Scene) -> Locks:
    return [], [cap(s, 0.012 + 0.05 * s.factors["hair_length"], hairline(s))]


def side_part(s: Scene) -> Locks:
    """Short hair from a parting, the longer side lifted."""
    side = 1 if s.factors["part_side"] > 0 else -1
    volume = 0.05 + 0.06 * s.factors["hair_length"]
    part = (side * 0.26, -0.55)
    return [], [cap(s, volume, hairline(s, -0.01, side * -0.45), part=part)]


def quiff(s: Scene) -> Locks:
    """Cropped sides and a swept-up front of overlapping tufts."""
    w, tall = s.head.width, 0.10 + 0.13 * s.factors["hair_length"]
    lean = 0.12 if s.factors["part_side"] > 0 else -0.12
    locks = [cap(s, 0.025, hairline(s))]
    for i, x in enumerate(np.linspace(-0.74, 0.74, 7)[[0, 6, 1, 5, 2, 4, 3]]):
        high = -0.70 - tall * (1.0 - 0.55 * x * x) + 0.02 * s.noise("tufts", 7)[i, 0]
        base = -0.47 + 0.16 * x * x
        left = [(x * w - 0.11, base), (x * w - 0.13 + 0.5 * lean, base - 0.17), (x * w * 0.95 + lean, high)]
        right = [(x * w + 0.11, base), (x * w + 0.13 + 0.6 * lean, base - 0.15), (x * w * 0.95 + lean, high)]
        locks.append(combed(s, curve(left), curve(right), 7))
    return [], locks


def curtains(s: Scene, bottom: float, volume: float, tuck: float) -> Locks:
    """Hair parted on top that falls beside the face to `bottom`; tuck < 0 turns the ends in."""
    w, shift = s.head.width, 0.12 * s.factors["part_side"]
    over = crown(s, volume, 0.0)
    half = over[over[:, 0] >= 0]
    fall = [(w + volume + 0.05, 0.30), (w + volume + 0.04 + tuck, bottom - 0.08), (w * 0.86 + tuck, bottom)]
    right = np.concatenate([half, curve([half[-1], *fall])[1:]])
    behind = np.concatenate([right, right[::-1] * (-1, 1)])
    front = []
    for side in (-1, 1):
        inner = [
            (shift, -0.60),
            (side * 0.60 * w + shift * 0.3, -0.40),
            (side * 0.90 * w, -0.12),
            (side * 0.94 * w, 0.14),
        ]
        inner += [(side * 0.96 * w, min(0.36, bottom - 0.12)), (side * (0.90 * w + tuck * 0.8), bottom)]
        outer = [(shift, -0.70 - 1.35 * volume), (side * 0.66 * (w + volume), -0.66 - 0.9 * volume)]
        outer += [(side * (w + volume), -0.24), (side * (w + volume + 0.05), 0.16)]
        outer += [
            (side * (w + volume + 0.05), min(0.40, bottom - 0.1)),
            (side * (w + volume * 0.9 + 0.05 + tuck), bottom),
        ]
        front.append(combed(s, curve(inner), curve(outer), 20))
    strands = (
        combed(s, right, right * (0.2, 1.0), 8).strands + combed(s, right * (-1, 1), right * (-0.2, 1.0), 8).strands
    )
    return [Lock([s.head.place(behind, flat=True)], strands)], front


def bob(s: Scene) -> Locks:
    return curtains(s, 0.42 + 0.22 * s.factors["hair_length"], 0.09, -0.06)


def long_hair(s: Scene) -> Locks:
    return curtains(s, 1.25 + 0.5 * s.factors["hair_length"], 0.085, 0.06)


def bun(s: Scene) -> Locks:
    """Hair pulled back into a knot above or behind the crown."""
    x, y = 0.10 * s.factors["part_side"], -0.80 - 0.05 * s.factors["hair_length"]
    size = 0.19 + 0.05 * s.factors["hair_length"]
    knot = s.head.place(oval(x, y, size * 1.1, size), flat=True)
    coils = [
        s.head.place(oval(x + 0.02, y, size * r * 1.1, size * r)[3:22], flat=True) for r in np.linspace(0.25, 0.95, 8)
    ]
    return [Lock([knot], coils)], [cap(s, 0.045, hairline(s))]


def curls(s: Scene) -> Locks:
    """A cloud of round tufts around the skull, smaller ones along the hairline."""
    volume = 0.05 + 0.16 * s.factors["hair_length"]
    rim = resample(crown(s, volume, 0.06 + 0.3 * s.factors["hair_length"]), 22)
    edge = resample(hairline(s, -0.005), 18)
    jitter = s.noise("curls", 400, 3)
    big = [
        oval(x, y, r, r, 16)
        for (x, y), r in zip(rim + 0.02 * jitter[:22, :2], 0.085 + 0.02 * jitter[:22, 2], strict=True)
    ]
    small = [
        oval(x, y, r, r, 12) for (x, y), r in zip(edge + (0, -0.015), 0.045 + 0.012 * jitter[22:40, 2], strict=True)
    ]
    outlines = [s.head.place(between(edge, rim), flat=True)]
    outlines += [s.head.place(circle, flat=True) for circle in big] + [s.head.place(circle) for circle in small]
    inner = [edge[i % 18] + (rim[(i * 7) % 22] - edge[i % 18]) * (0.5 + 0.5 * jitter[i, 0]) for i in range(110)]
    arcs = [
        s.head.place(oval(x, y, 0.035, 0.03, 12)[int(6 + 6 * j) :][:7], flat=True)
        for (x, y), j in zip(inner, jitter[:, 1])
    ]
    return [], [Lock(outlines, [arc for arc in arcs if len(arc) > 2])]


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
    for i, x in enumerate(np.linspace(-0.80, 0.80, 7)):
        end = low + 0.07 * x * x + 0.018 * s.noise("bangs", 7)[i, 0]
        tip = (x * w + sweep, end)
        left = curve(
            [(x * w * 0.62 - 0.06, -0.66 + 0.10 * x * x), (x * w * 0.95 - 0.085, -0.42), (tip[0] - 0.075, end - 0.02)]
        )
        right = curve(
            [(x * w * 0.62 + 0.06, -0.66 + 0.10 * x * x), (x * w * 0.95 + 0.085, -0.42), (tip[0] + 0.065, end)]
        )
        locks.append(combed(s, left, right, 8, flat=False))
    return locks


def hair(s: Scene) -> Locks:
    names = list(HAIR_STYLES)
    behind, front = HAIR_STYLES[names[int(s.factors["hair_style"])]](s)
    if s.factors["fringe"] > 0.5:
        front = front + fringe(s)
    return behind, front


# ------------------------------------------------------------------------------------------------------ beard


def beard(s: Scene) -> None:
    """Stubble, goatee or full beard along the jaw (0 none, 1 stubble, 2 moustache, 3 goatee, 4 full)."""
    f, h, c = s.factors, s.head, s.canvas
    kind = int(f["beard"])
    if kind in (0, 2):
        return
    light = np.float32(0.40) + np.float32(0.45 * s.contrast) * s.form(h.width * 1.15, 0.95, 0.1)
    area, strands = chin_beard(s) if kind == 3 else jaw_beard(s, 0.0 if kind == 1 else 0.015 + 0.05 * f["beard_length"])
    if kind == 1:
        tone = mix(s.hair * 0.55, s.skin * 0.5, 0.35)
        c.paint(c.mask(area, blur=0.035), tone, 0.30 + 0.22 * f["beard_length"])
        return
    streak(s, light, strands, 0.010)
    c.paint(c.mask(area, blur=0.030), s.hair_ramp[:, 150], 0.30)
    c.shade(c.mask(area, blur=0.010), light, s.hair_ramp, 0.94)


def streak(s: Scene, light: Array, strands: Sequence[Points], width: float) -> None:
    """Alternating light and dark lines on a light field."""
    tones = s.noise("beard", len(strands))[:, 0]
    for sign, amount in ((1, 0.13), (-1, -0.15)):
        lines = [
            ribbon(line, width * hump(np.linspace(-0.8, 1, len(line)), 0.5))
            for line, tone in zip(strands, tones, strict=True)
            if tone * sign > 0
        ]
        mask = s.canvas.mask(*lines, blur=0.004)
        light[mask.box] += np.float32(amount) * mask.alpha


def jaw_beard(s: Scene, grow: float) -> tuple[Points, list[Points]]:
    """From the sideburns around the jaw; its upper edge runs down the cheeks to the moustache."""
    h, w = s.head, s.head.width
    outer = h.jaw(grow) - (0, 0.0)
    outer[:, 1] += grow * np.clip(outer[:, 1] / h.chin_y, 0, 1) ** 2
    half = [
        (0.98, 0.02),
        (0.90, 0.20),
        (0.76, 0.33 * h.length),
        (0.50, h.mouth_y - 0.075),
        (0.22, h.mouth_y - 0.12),
        (0.0, h.nose_y + 0.045),
    ]
    edge = curve([(-x * w, y) for x, y in half] + [(x * w, y) for x, y in half[-2::-1]])
    count = 46
    a, b = resample(edge, count), resample(outer[::-1], count)
    strands = []
    for i in range(count):
        root = a[i] + (b[i] - a[i]) * (0.15 + 0.3 * (i % 3) / 2)
        strands.append(h.place(curve([root, (root + b[i]) / 2 + (0.01, 0), b[i]], steps=3), flat=True))
    return np.concatenate([h.place(edge), h.place(outer, flat=True)]), strands


def chin_beard(s: Scene) -> tuple[Points, list[Points]]:
    """A goatee: a tuft under the lip that covers the chin."""
    h, low = s.head, s.head.chin_y + 0.02 + 0.07 * s.factors["beard_length"]
    top = h.mouth_y + 0.10 + h.drop
    half = [(0.05, top), (0.13, top + 0.02), (0.15, h.chin_y - 0.05), (0.09, low - 0.01), (0.0, low)]
    points = [(x, y) for x, y in half] + [(-x, y) for x, y in half[-2::-1]]
    area = h.place(curve(points, closed=True))
    strands = [
        h.place(np.linspace((0.6 * x, top + 0.02), (x, low - 0.2 * abs(x)), 6)) for x in np.linspace(-0.13, 0.13, 18)
    ]
    return area, strands


def moustache(s: Scene) -> None:
    f, h, c = s.factors, s.head, s.canvas
    kind = int(f["beard"])
    if kind < 2:
        return
    top = lips(s).top
    reach = 1.02 if kind == 2 else 1.08
    half = [(0.0, h.nose_y + 0.045), (0.07, h.nose_y + 0.052), (abs(top[16, 0]) * reach, top[16, 1] - 0.005)]
    half += [(abs(top[14, 0]), top[14, 1] + 0.004), (abs(top[11, 0]), top[11, 1] + 0.012), (0.0, top[8, 1] - 0.002)]
    light = np.float32(0.44) + np.float32(0.4 * s.contrast) * s.form(h.width * 1.15, 0.95, 0.1)
    sides = []
    for side in (-1, 1):
        points = curve(np.array(half) * (side, 1), closed=True)
        sides.append(h.place(points, 0.02))
        start = np.array((side * 0.02, h.nose_y + 0.07))
        ends = [(side * abs(top[i, 0]), top[i, 1] + 0.008) for i in range(9, 17)]
        streak(s, light, [h.place(np.linspace(start, end, 6), 0.02) for end in ends], 0.010)
    c.shade(c.mask(*sides, blur=0.008), light, s.hair_ramp, 0.95)


# --------------------------------------------------------------------------------------------- glasses and hat


def lens(s: Scene, side: int, grow: float = 0.0) -> Points:
    """One lens outline: a superellipse, round to rectangular, or drawn down (aviator) or up (cat eye)."""
    f, h = s.factors, s.head
    kind = min(int(f["frame_style"] * 4), 3)
    power = (2.0, 4.5, 2.6, 3.0)[kind]
    rx, ry = ((0.150, 0.142), (0.168, 0.112), (0.168, 0.150), (0.168, 0.125))[kind]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power)
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power)
    droop = 0.16 * (kind == 2) * x * np.clip(y, 0, 1) - 0.30 * (kind == 3) * np.clip(x, 0, 1) * np.clip(-y, 0, 1)
    y = y + droop + 0.10 * (kind == 2)
    x = x * (1 - 0.16 * (kind == 2) * np.clip(y, 0, 1))
    reach = max(h.spacing, rx + 0.035)
    return h.place(np.stack([side * (reach + (rx + grow) * x), 0.015 + (ry + grow) * y], axis=1), 0.05)


def glasses(s: Scene) -> None:
    f, h, c = s.factors, s.head, s.canvas
    if f["eyeglasses"] < 0.5:
        return
    thick = 0.012 + 0.026 * f["frame_weight"]
    ink = palette(FRAMES, f["frame_colour"])
    reach = abs(h.spacing) + 0.17
    for side in (-1, 1):
        hinge, ear = h.place([(side * reach, -0.045)], 0.04)[0], h.place([(side * h.width * 1.04, -0.05)], flat=True)[0]
        c.paint(c.mask(ribbon(np.array([hinge, ear]), [thick * 1.1, thick * 0.9])), ink * 0.8)
    for side in (-1, 1):
        one_lens(s, side, thick, ink)
    bridge = h.place(curve([(-0.085, -0.012), (-0.03, -0.045), (0.03, -0.045), (0.085, -0.012)]), 0.09)
    c.paint(c.mask(ribbon(bridge, thick * 1.05)), ink)
    c.paint(c.mask(ribbon(bridge - (0, thick * 0.2), thick * 0.3), blur=0.003), mix(ink, (255, 255, 255), 0.6), 0.6)


def one_lens(s: Scene, side: int, thick: float, ink: Array) -> None:
    f, c = s.factors, s.canvas
    outer, inner = lens(s, side, thick / 2), lens(s, side, -thick / 2)
    glass = c.mask(inner)
    c.tint(c.mask(outer + (0.0, 0.022), blur=0.016), (150, 118, 112), 0.42 * (f["sunglasses"] < 0.5))
    middle = inner.mean(axis=0)
    if f["sunglasses"] > 0.5:
        tone = mix(LENS_DARK, hsv(f["lens_hue"], 0.6, 0.5), 0.35)
        fade = np.clip((c.y[glass.box[0]] - np.float32(middle[1])) / np.float32(0.30), -0.5, 0.5)[None, :, None]
        c.paint(glass, tone[:, None, None] + fade * (mix(tone, (190, 170, 160), 0.42) - tone)[:, None, None], 0.94)
    else:
        c.paint(glass, rgb((226, 238, 246)), 0.08)
    glare = np.array([(-0.10, 0.12), (-0.02, -0.20), (0.035, -0.20), (-0.045, 0.12)]) + middle
    shine = c.mask(glare, box=glass.box, blur=0.008)
    c.paint(Mask(shine.alpha * glass.alpha, glass.box), rgb((255, 255, 255)), 0.20)
    ring = np.concatenate([outer, outer[:1], inner, inner[:1]])
    c.paint(c.mask(ring), ink)
    upper = c.mask(np.concatenate([outer[21:40], inner[39:20:-1]]), blur=0.004)
    c.paint(upper, mix(ink, (255, 255, 255), 0.45), 0.28)


def rim(s: Scene, drop: float, wide: float = 1.08, ends: float = -0.20) -> Points:
    """The lower edge of a hat around the head, from left to right (unit coordinates)."""
    w = s.head.width * wide
    points = curve([(-w, ends), (-w * 0.62, -0.335 + drop), (0.0, -0.375 + drop), (w * 0.62, -0.335 + drop), (w, ends)])
    return s.head.place(points, 0.02)


def dome(s: Scene, high: float, wide: float = 1.08, ends: float = -0.20) -> Points:
    """The upper contour of a hat, from left to right (unit coordinates)."""
    w = s.head.width * wide
    half = [(1.0, ends), (1.02, -0.42), (0.88, high * 0.80), (0.52, high * 0.965)]
    points = [(-x * w, y) for x, y in half] + [(0.0, high)] + [(x * w, y) for x, y in half[::-1]]
    return s.head.place(curve(points), flat=True)


def hat_light(s: Scene) -> Array:
    return np.float32(0.50) + np.float32(0.50 * s.contrast) * s.form(0.70, 0.95, -0.1)


def beanie(s: Scene, colours: Array, second: Array) -> None:
    """A knitted hat with ribs and a folded cuff, sometimes with a pompom."""
    c, light = s.canvas, hat_light(s)
    top, low = dome(s, -0.93), rim(s, 0.02)
    if s.factors["hat_detail"] > 0.5:
        ball = s.head.place([(0.0, -0.98)], flat=True)[0]
        tufts = [oval(*(ball + 0.05 * d), 0.07, 0.07, 12) for d in s.noise("pompom", 12, 2)]
        c.shade(c.mask(oval(*ball, 0.10, 0.10), *tufts, blur=0.008), light + np.float32(0.12), second)
    a, b = resample(low, 24), resample(top, 24) * (0.72, 1.0) + (0.28 * top[:, 0].mean(), 0.0)
    for i in range(1, 23):
        s.soft(light, ribbon(np.linspace(a[i], b[i], 6), 0.014), -0.13, 0.008)
    c.shade(c.mask(between(low, top)), light, colours)
    cuff(s, low, colours, second)


def cuff(s: Scene, low: Points, colours: Array, second: Array) -> None:
    c, light = s.canvas, hat_light(s) + np.float32(0.06)
    upper = low * (0.995, 1.0) - (0.0, 0.155)
    c.tint(c.mask(upper * (1, 1) - (0, 0.012), low, blur=0.01), (120, 110, 120), 0.0)
    a, b = resample(low, 30), resample(upper, 30)
    for i in range(30):
        s.soft(light, ribbon(np.stack([a[i], b[i]]), 0.012), -0.15, 0.007)
    s.soft(light, ribbon(low, 0.03), -0.12, 0.014)
    band = between(resample(low, 40) * (1.015, 1) + (0, 0.0), resample(upper, 40) * (1.015, 1))
    c.tint(c.mask(band - (0, 0.02), blur=0.014), (110, 100, 110), 0.6)
    c.shade(c.mask(band), light, second if s.factors["hat_detail"] > 0.5 else colours)


def baseball_cap(s: Scene, colours: Array, second: Array) -> None:
    """Six panels, a button and a curved visor that stands out towards the viewer."""
    c, h, light = s.canvas, s.head, hat_light(s)
    top, low = dome(s, -0.86), rim(s, -0.03)
    button = h.place([(0.0, -0.85)], flat=True)[0]
    for x in (-0.60, 0.0, 0.60):
        seam = h.place(curve([(x * h.width, -0.40), (x * h.width * 0.9, -0.62), (0.0, -0.85)]), 0.0)
        s.soft(light, ribbon(seam, 0.010), -0.16, 0.004)
    c.shade(c.mask(between(low, top)), light, colours)
    c.shade(c.mask(oval(*button, 0.035, 0.02)), light + np.float32(0.1), second)
    w = h.width
    back = [(-0.86 * w, -0.335), (-0.45 * w, -0.415), (0.0, -0.435), (0.45 * w, -0.415), (0.86 * w, -0.335)]
    front = [(0.93 * w, -0.235), (0.55 * w, -0.225), (0.0, -0.215), (-0.55 * w, -0.225), (-0.93 * w, -0.235)]
    visor = np.concatenate([h.place(curve(back), 0.03), h.place(curve(front), 0.20)])
    gradient = hat_light(s) + np.float32(0.02)
    s.soft(gradient, h.place(ribbon(curve(front), 0.05), 0.20), -0.16, 0.02)
    s.soft(gradient, h.place(ribbon(curve(back), 0.05), 0.03), -0.22, 0.02)
    c.tint(c.mask(h.place(ribbon(curve(back), 0.05), 0.03), blur=0.02), (90, 80, 90), 0.5)
    c.shade(c.mask(visor), gradient, second if s.factors["hat_detail"] > 0.6 else colours)


def brimmed_hat(s: Scene, colours: Array, second: Array) -> None:
    """A crown with a band over a wide oval brim."""
    c, h, light = s.canvas, s.head, hat_light(s)
    at = h.place([(0.0, -0.36)], 0.0)[0]
    tilt = np.array([[h.cr, h.sr], [-h.sr, h.cr]])
    brim = oval(0, 0, 0.90, 0.155, 60) @ tilt + at
    under = light - np.float32(0.04)
    s.soft(under, brim + (0, -0.06), 0.12, 0.03)
    s.soft(under, oval(0, 0, 0.56, 0.10) @ tilt + at + (0, -0.015), -0.26, 0.03)
    c.shade(c.mask(brim), under, colours)
    low, top = rim(s, -0.05, 1.02, -0.31), dome(s, -0.93, 0.98, -0.31)
    s.soft(light, h.place(ribbon(curve([(-0.10, -0.92), (0.0, -0.80), (0.06, -0.66)]), 0.06), flat=True), -0.12, 0.03)
    c.shade(c.mask(between(low, top)), light, colours)
    upper = low - (0.0, 0.115)
    c.shade(c.mask(between(low, upper)), light - np.float32(0.03), second)


HATS = (baseball_cap, beanie, brimmed_hat)


def hat(s: Scene) -> None:
    f = s.factors
    if f["hat"] < 0.5:
        return
    colours = cloth_ramp(hsv(f["hat_hue"], f["hat_saturation"], f["hat_value"]))
    second = cloth_ramp(hsv(f["hat_hue"] + 0.45, f["hat_saturation"] * 0.8, 0.92 - 0.5 * f["hat_value"]))
    HATS[min(int(f["hat_style"] * 3), 2)](s, colours, second)


# ---------------------------------------------------------------------------------------------------- portrait


def overhangs(s: Scene, front: Sequence[Lock]) -> list[tuple[Points, float]]:
    """What throws a shadow on the face."""
    shadows = [(lock.outlines[0], -0.10) for lock in front]
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
