"""The head's proportions and pose: from head coordinates to the picture.

Points on the head are given in *head* coordinates: the eye line at y = 0, x and y about as large as in the picture, z
towards the viewer. The pose turns them and moves them so that the eyes always stand at one place, as in aligned
photographs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from faceforge.drawn.canvas import Canvas
from faceforge.drawn.colours import Array
from faceforge.drawn.lines import Points, curve, mirrored

EYE_HEIGHT = -0.05  # where the eye line stands in the picture
HEAD_SCALE = 1.06


class Head:
    """Proportions and pose of one face: turns head coordinates into unit coordinates."""

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
        """Yaw, pitch and roll as the picture of the three axes."""
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
