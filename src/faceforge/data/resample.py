"""Pillow's antialiased bicubic resize as products of matrices: the same bytes in little more than half the time.

Pillow (Resample.c) resizes along one axis, then along the other, by weights of 22 bits, and rounds after each. A sum is
a whole number of 2^-22 far below 2^53 of them: exact in double precision, in whatever order BLAS adds it up. Which axis
is the first is Pillow's choice since its version 13; here it does not depend on the version that is installed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BITS = 22  # of Pillow's fixed-point weights
BAND = 8  # outputs made by one product, from the inputs that any of them needs
CHUNK = 2**18  # values held in double precision at a time

Bands = tuple[tuple[slice, slice, np.ndarray, np.ndarray], ...]


def bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, C) to contiguous uint8 (C, *size), as Pillow's resize with Resampling.BICUBIC."""
    (height, width), (high, wide) = pixels.shape[:2], size
    if (height, width) == size:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if high < height and height - high > 2 * (width - wide):
        return np.ascontiguousarray(_resized(pixels.swapaxes(0, 1), wide, high).swapaxes(1, 2))
    return _resized(pixels, high, wide)


def _resized(pixels: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Along the rows, some of them at a time, then along the columns: uint8 (H, W, C) to (C, high, wide)."""
    height, width, channels = pixels.shape
    narrow = np.empty((wide, channels, height), np.uint8)
    rows = max(1, CHUNK // (width * channels))
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height))
        values = pixels[part].transpose(1, 2, 0).astype(np.float64, order="C").reshape(width, -1)
        sums = np.empty((wide, values.shape[1]))
        for inputs, outputs, weights, _ in _bands(width, wide):
            np.matmul(weights, values[inputs], out=sums[outputs])
        narrow[:, :, part] = _rounded(sums).reshape(wide, channels, -1)
    values = narrow.reshape(-1, height).astype(np.float64)
    sums = np.empty((len(values), high))
    for inputs, outputs, _, weights in _bands(height, high):
        np.matmul(values[:, inputs], weights, out=sums[:, outputs])
    return np.ascontiguousarray(_rounded(sums).reshape(wide, channels, high).transpose(1, 2, 0))


def _rounded(sums: np.ndarray) -> np.ndarray:
    """Halves up, as by adding half a unit and cutting bits off, to uint8. Works in place."""
    sums += 0.5
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


@lru_cache(maxsize=64)
def _bands(source: int, target: int) -> Bands:
    """Which inputs make which outputs of an axis, and the weights: float64 (outputs, inputs) and (inputs, outputs)."""
    weights = _weights(source, target)
    bands = []
    for first in range(0, target, BAND):
        part = weights[first : first + BAND]
        low, high = min(low for low, _ in part), max(low + len(taps) for low, taps in part)
        matrix = np.zeros((len(part), high - low))
        for row, (start, taps) in zip(matrix, part, strict=True):
            row[start - low : start - low + len(taps)] = taps
        matrix *= 2.0**-BITS
        bands.append((slice(low, high), slice(first, first + len(part)), matrix, np.ascontiguousarray(matrix.T)))
    return tuple(bands)


def _weights(source: int, target: int) -> list[tuple[int, list[int]]]:
    """For each output its first input, and the weights from there on in units of 2^-22 (Resample.c, precompute)."""
    scale = source / target
    wider = max(scale, 1.0)
    inverse, support = 1.0 / wider, 2.0 * wider
    weights = []
    for output in range(target):
        center = (output + 0.5) * scale
        low, high = max(0, int(center - support + 0.5)), min(source, int(center + support + 0.5))
        taps = [_cubic((n - center + 0.5) * inverse) for n in range(low, high)]
        total = 0.0
        for tap in taps:  # in this order: sum() adds more exactly than C does
            total += tap
        shares = [tap / total for tap in taps]
        weights.append((low, [int(share * 2**BITS + (0.5 if share >= 0 else -0.5)) for share in shares]))
    return weights


def _cubic(x: float) -> float:
    """Keys 1981 (IEEE ASSP 29), eq. 4, with a = -1/2, in Pillow's order of operations."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0
