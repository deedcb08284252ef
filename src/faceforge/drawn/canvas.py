"""The canvas of the drawn faces, painted through soft masks.

Everything is given in *unit* coordinates: the picture's shorter side spans [-1, 1], x to the right, y down, so that a
drawing is the same at every size. A light field is a float picture, 0 deep shadow and 1 highlight, that a colour ramp
turns into paint; this keeps shadows coloured instead of grey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceforge.drawn.colours import LEVELS, Array, rgb
from faceforge.drawn.lines import Points, inset

Box = tuple[slice, slice]  # rows, columns of the canvas
SWELL = 0.6  # pixels that an antialiased fill adds around an outline
DEEP = 0.4  # the strongest light or shadow that a relief adds


class Mask(NamedTuple):
    """Coverage in [0, 1] of a rectangle of the canvas."""

    alpha: Array
    box: Box


class Bump(NamedTuple):
    """A Gaussian hill of light: where, how wide, how high."""

    at: Points
    radii: tuple[float, float]
    amount: float


class Canvas:
    """Float pixels (3, H, W), finer than the picture, painted through masks given in unit coordinates."""

    def __init__(self, height: int, width: int) -> None:
        short = min(height, width)
        self.size = (height, width)
        self.factor = max(2, -(-64 // short))
        self.height, self.width = height * self.factor, width * self.factor
        self.scale = short * self.factor / 2.0
        self.origin = np.array([self.width / 2 - 0.5, self.height / 2 - 0.5])
        self.pixels = np.empty((3, self.height, self.width), np.float32)
        self.x = ((np.arange(self.width) - self.origin[0]) / self.scale).astype(np.float32)
        self.y = ((np.arange(self.height) - self.origin[1]) / self.scale).astype(np.float32)

    def field(self, value: float) -> Array:
        """A light field of one value."""
        return np.full((self.height, self.width), value, np.float32)

    def thin(self, width: float) -> float:
        """The strength in [0, 1] of a line that comes out wider than asked because it is thinner than a pixel."""
        return width * self.scale / (width * self.scale + 0.9)

    def fixed(self, outline: Points) -> NDArray[np.int32]:
        """Outlines as whole sixteenths of a pixel, (n, p, 2), drawn in by what OpenCV's soft edges add to them."""
        pixels = outline * self.scale + self.origin
        return (16 * inset(pixels, SWELL) + 0.5).astype(np.int32).reshape(-1, *outline.shape[-2:])

    def box(self, polygons: Sequence[NDArray[np.int32]], margin: float) -> Box:
        """The part of the canvas around polygons in sixteenths of a pixel, perhaps empty."""
        rectangles = [cv2.boundingRect(stack.reshape(-1, 2)) for stack in polygons]
        grow = int(margin * self.scale) + 2
        x0, y0 = min(r[0] for r in rectangles) // 16 - grow, min(r[1] for r in rectangles) // 16 - grow
        x1, y1 = (max(r[i] + r[i + 2] for r in rectangles) // 16 + grow + 1 for i in (0, 1))
        rows = slice(min(max(y0, 0), self.height), min(max(y1, 0), self.height))
        return rows, slice(min(max(x0, 0), self.width), min(max(x1, 0), self.width))

    def mask(self, *outlines: Points, blur: float = 0.0, box: Box | None = None) -> Mask:
        """Coverage of closed outlines, (n, 2) or stacks of them, softened by a Gaussian of `blur` units."""
        polygons = [self.fixed(outline) for outline in outlines]
        rows, columns = box or self.box(polygons, 3 * blur)
        cover = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        if cover.size:
            corner = np.array([16 * columns.start, 16 * rows.start], np.int32)
            for stack in polygons:
                for polygon in stack - corner:
                    cv2.fillPoly(cover, [polygon], 255, cv2.LINE_AA, 4)
        return Mask(blurred(cover * np.float32(1 / 255), blur * self.scale), (rows, columns))

    def paint(self, mask: Mask, colour: Array, alpha: float = 1.0) -> None:
        """Lays a colour (3,) or a picture (3, h, w) of the mask's box over the pixels."""
        target = self.pixels[:, mask.box[0], mask.box[1]]
        source = colour[:, None, None] if colour.ndim == 1 else colour
        target += (mask.alpha * np.float32(alpha)) * (source - target)

    def tint(self, mask: Mask, colour: ArrayLike, alpha: float = 1.0) -> None:
        """Multiplies the pixels by colour / 255: shadows and glazes."""
        target = self.pixels[:, mask.box[0], mask.box[1]]
        target *= 1 + (mask.alpha * np.float32(alpha)) * (rgb(colour)[:, None, None] / 255 - 1)

    def shade(self, mask: Mask, light: Array, colours: Array, alpha: float = 1.0) -> None:
        """Paints a full-size light field through a colour ramp inside a mask."""
        levels = (light[mask.box] * np.float32(LEVELS - 1)).astype(np.int32)
        shaded = np.empty((3, *levels.shape), np.float32)
        for i in range(3):
            np.take(colours[i], levels, out=shaded[i], mode="clip")
        self.paint(mask, shaded, alpha)

    def relief(self, light: Array, blur: float, *shapes: tuple[Points, float]) -> None:
        """Adds softened shapes to a field, each with its light in [-DEEP, DEEP]; later ones cover earlier ones."""
        polygons = [self.fixed(outline) for outline, _ in shapes]
        rows, columns = box = self.box(polygons, 3 * blur)
        cover = np.full((rows.stop - rows.start, columns.stop - columns.start), 128, np.uint8)
        if not cover.size:
            return
        corner = np.array([16 * columns.start, 16 * rows.start], np.int32)
        for stack, (_, amount) in zip(polygons, shapes, strict=True):
            tone = 128 + round(127 * min(max(amount / DEEP, -1.0), 1.0))
            for polygon in stack - corner:
                cv2.fillPoly(cover, [polygon], tone, cv2.LINE_AA, 4)
        light[box] += blurred((cover - np.float32(128)) * np.float32(DEEP / 127), blur * self.scale)

    def bumps(self, light: Array, rows: Sequence[Bump]) -> None:
        """Adds Gaussian bumps (unit coordinates) to a light field."""
        at = np.array([bump.at for bump in rows], np.float32)
        radii = np.array([bump.radii for bump in rows], np.float32)
        x = np.exp(-(((self.x - at[:, :1]) / radii[:, :1]) ** 2))
        y = np.exp(-(((self.y - at[:, 1:]) / radii[:, 1:]) ** 2))
        y *= np.array([[bump.amount] for bump in rows], np.float32)
        low = np.clip((at - 2.4 * radii) * self.scale + self.origin, 0, None).astype(int)
        high = np.clip((at + 2.4 * radii) * self.scale + self.origin + 1, 0, None).astype(int)
        for across, down, (x0, y0), (x1, y1) in zip(x, y, low.tolist(), high.tolist(), strict=True):
            light[y0:y1, x0:x1] += down[y0:y1, None] * across[x0:x1]

    def finish(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) at the final size; averaging over the finer pixels is the antialiasing."""
        fine = np.ascontiguousarray(self.pixels.transpose(1, 2, 0))
        small = cv2.resize(fine, (self.size[1], self.size[0]), interpolation=cv2.INTER_AREA)
        return np.clip(np.rint(small), 0, 255).astype(np.uint8).reshape(*self.size, 3)


def blurred(alpha: Array, sigma: float) -> Array:
    """Gaussian blur by sigma pixels; wide ones run on a coarser grid, which the eye cannot tell."""
    if sigma < 0.3 or not alpha.size:
        return alpha
    if sigma > 6 and min(alpha.shape) > 16:
        height, width = alpha.shape
        small = rgb(cv2.resize(alpha, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA))
        return rgb(cv2.resize(blurred(small, sigma / 2), (width, height), interpolation=cv2.INTER_LINEAR))
    window = 2 * math.ceil(2.6 * sigma) + 1
    return rgb(cv2.GaussianBlur(alpha, (window, window), sigma, borderType=cv2.BORDER_REPLICATE))


def clipped(mask: Mask, by: Mask) -> Mask:
    """A mask inside another one of the same box."""
    return Mask(mask.alpha * by.alpha, mask.box)
