"""Colours, and ramps that turn light into paint: from deep shadow to highlight."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]  # float32: pixels, light fields, colours
LEVELS = 512  # steps of a colour ramp


def rgb(colour: ArrayLike) -> Array:
    """A colour as float32."""
    return np.asarray(colour, dtype=np.float32)


def mix(a: ArrayLike, b: ArrayLike, share: float) -> Array:
    """share = 0 is a, share = 1 is b."""
    a = rgb(a)
    return a + np.float32(share) * (rgb(b) - a)


def palette(colours: Sequence[tuple[int, int, int]], place: float) -> Array:
    """A colour between neighbours of a palette; place in [0, 1]."""
    at = min(max(place, 0.0), 1.0) * (len(colours) - 1)
    first = min(int(at), len(colours) - 2)
    return mix(colours[first], colours[first + 1], at - first)


def hsv(hue: float, saturation: float, value: float) -> Array:
    """All in [0, 1]; hue is cyclic."""
    return rgb(colorsys.hsv_to_rgb(hue % 1.0, saturation, value)) * np.float32(255)


def ramp(*colours: ArrayLike) -> Array:
    """Evenly spaced colours from shadow to highlight: (3, LEVELS)."""
    return rgb(np.stack([rgb(c) for c in colours], axis=1)) @ _tents(len(colours))


@lru_cache
def _tents(stops: int) -> Array:
    """The weight of each stop at each level: (stops, LEVELS)."""
    levels = np.linspace(0.0, stops - 1.0, LEVELS)
    return np.clip(1 - np.abs(levels[None, :] - np.arange(stops)[:, None]), 0, 1).astype(np.float32)


def cloth_ramp(base: Array) -> Array:
    """Colours of a matt fabric."""
    return ramp(base * 0.30, base * 0.62, base, mix(base, (255, 250, 244), 0.22), mix(base, (255, 255, 255), 0.45))
