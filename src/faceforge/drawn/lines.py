"""Splines, strokes and outlines: points (..., 2) in unit coordinates."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.floating[Any]]  # float64: (..., 2)
Complex = NDArray[np.complex128]


@lru_cache
def _basis(count: int, closed: bool, steps: int) -> Points:
    """The matrix that takes control points to points of a Catmull-Rom spline."""
    p = np.eye(count)
    ends = [p[-1:], p, p[:2]] if closed else [2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]]
    p = np.concatenate(ends)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    rows = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    rows = rows.reshape(-1, count)
    return rows if closed else np.concatenate([rows, p[-2:-1]])


def curve(points: ArrayLike, closed: bool = False, steps: int = 6) -> Points:
    """Catmull-Rom spline through (..., n, 2) points: about n * steps points on a smooth line."""
    points = np.asarray(points, dtype=np.float64)
    return _basis(points.shape[-2], closed, steps) @ points


def segments(a: ArrayLike, b: ArrayLike, steps: int) -> Points:
    """Straight lines from a (n, 2) to b (n, 2): (n, steps, 2)."""
    share = np.linspace(0.0, 1.0, steps)[None, :, None]
    a, b = np.asarray(a)[:, None, :], np.asarray(b)[:, None, :]
    return a + share * (b - a)


def travelled(line: Points) -> Points:
    """The way along a line (n, 2) up to each of its points."""
    steps = line[1:] - line[:-1]
    return np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])


def resample(line: Points, count: int) -> Points:
    """count points at equal distances along a line (n, 2)."""
    way = travelled(line)
    at = np.linspace(0.0, way[-1], count)
    return np.stack([np.interp(at, way, line[:, 0]), np.interp(at, way, line[:, 1])], axis=1)


def as_complex(points: Points) -> Complex:
    """Points (..., 2) as complex numbers (...): twice as quick to calculate with as pairs are."""
    return np.ascontiguousarray(points, dtype=np.float64).view(np.complex128)[..., 0]


def as_points(numbers: Complex) -> Points:
    """The inverse of as_complex."""
    return np.ascontiguousarray(numbers).view(np.float64).reshape(*numbers.shape, 2)


def normals(line: Points) -> Points:
    """Unit vectors across lines (..., n, 2)."""
    z = as_complex(line)
    along = np.empty_like(z)
    along[..., 1:-1] = z[..., 2:] - z[..., :-2]
    along[..., 0] = z[..., 1] - z[..., 0]
    along[..., -1] = z[..., -1] - z[..., -2]
    return as_points(along * (1j / (np.abs(along) + 1e-9)))


def ribbon(line: Points, width: ArrayLike) -> Points:
    """The outlines of strokes: lines (..., n, 2) with a width, or one per point: (..., 2n, 2)."""
    width = np.asarray(width, dtype=np.float64)
    offset = normals(line) * (width[..., None] / 2 if width.ndim else width / 2)
    return np.concatenate([line + offset, (line - offset)[..., ::-1, :]], axis=-2)


def inset(outline: Points, by: float) -> Points:
    """Closed outlines (..., n, 2) with every point moved inwards; thin ones keep some of their thickness."""
    z = as_complex(outline)
    along = np.empty_like(z)
    along[..., 1:-1] = z[..., 2:] - z[..., :-2]
    along[..., 0] = z[..., 1] - z[..., -1]
    along[..., -1] = z[..., 0] - z[..., -2]
    length = np.abs(along) + 1e-9
    turn = (z.real * along.imag).sum(axis=-1)  # twice the area, signed by the sense of rotation
    half_width = np.abs(turn) / length.sum(axis=-1)
    move = np.sign(turn) * np.minimum(by, 0.7 * half_width)
    return as_points(z + along * (1j * move[..., None] / length))


def mirrored(right: Points) -> Points:
    """A right half from top to bottom, completed by its mirror image into a closed outline."""
    return np.concatenate([right, right[-2:0:-1] * (-1.0, 1.0)])


def moved(points: Points, x: float, y: float) -> Points:
    """Points shifted by (x, y)."""
    return points + np.array((x, y))


def both(right: ArrayLike) -> Points:
    """Left and right copies of points (n, 2) given for the right side: (2, n, 2)."""
    right = np.asarray(right, dtype=np.float64)
    return np.stack([right * (-1.0, 1.0), right])


@lru_cache
def circle(count: int) -> Points:
    """Points around the unit circle: (count, 2)."""
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ovals(centres: ArrayLike, rx: ArrayLike, ry: ArrayLike, count: int = 24) -> Points:
    """Ellipses around centres (..., 2) with radii that broadcast: (..., count, 2)."""
    radii = np.stack(np.broadcast_arrays(rx, ry), axis=-1)[..., None, :]
    return np.asarray(centres)[..., None, :] + circle(count) * radii


def between(a: Points, b: Points) -> Points:
    """The closed outline of the area between two lines (..., n, 2)."""
    return np.concatenate([a, b[..., ::-1, :]], axis=-2)


def hump(t: Points, power: float = 1.0) -> Points:
    """1 in the middle of t in [-1, 1], 0 at both ends."""
    return np.maximum(1.0 - t * t, 0.0) ** power
