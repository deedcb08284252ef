"""Pictures reduced to greys, levels, contours or edges: inputs from which a network learns to paint a face.

Every filter takes a uint8 picture, (H, W, 3) RGB or (H, W) grey of at least one pixel, and gives a new contiguous
uint8 (H, W, 3); anything else is a ValueError. The same picture gives the same bytes with any number of threads.

Three of them are the published routine as it computes, which is not always what it means to do: its loop over the
levels leaves only the last one, and its contours are not smooth and erase one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

LEVELS = (50, 100, 150, 200)
CANNY = (140.0, 255.0)

Filter = Callable[[np.ndarray], np.ndarray]


def grey(picture: np.ndarray) -> np.ndarray:
    """Rec. 601 luma in all three channels, rounded: (9798 R + 19235 G + 3735 B) / 2^15."""
    return cv2.cvtColor(cv2.cvtColor(_colour(picture), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def thresholds(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """Each channel two-valued, as published: the last level where the value lies above it, else 0."""
    return posterize(picture, levels[-1:])


def posterize(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """Each channel brought down to the highest level that its value lies above, 0 where there is none."""
    table = np.zeros(256, np.uint8)
    for level in _rising(levels):
        table[level + 1 :] = level
    return cv2.LUT(_colour(picture), table)


def contours(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """Where a channel crosses a level: smooth lines on black, in the channel itself, as bright as the level."""
    planes = []
    for plane in cv2.split(_colour(picture)):
        lines = np.zeros_like(plane)
        for level in _rising(levels):
            cv2.drawContours(lines, _outlines(plane, level), -1, level, 1, cv2.LINE_AA)
        planes.append(lines)
    return cv2.merge(planes)


def contours_published(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """The published contours: not smooth, and a line is black in the other two channels.

    The routine asks for anti-aliased lines, which OpenCV does not draw in the floats of its canvas, and gives
    them a full colour, so that green erases red where they meet, and blue both.
    """
    colour = _colour(picture)
    lines = np.zeros_like(colour)
    for channel, plane in enumerate(cv2.split(colour)):
        for level in _rising(levels):
            pen = [level if n == channel else 0 for n in range(3)]
            cv2.drawContours(lines, _outlines(plane, level), -1, pen, 1, cv2.LINE_8)
    return lines


def canny(picture: np.ndarray, low: float = CANNY[0], high: float = CANNY[1]) -> np.ndarray:
    """Edges (0 or 255) of each channel of the published thresholds: outlines of its bright areas and no more."""
    return canny_image(thresholds(picture), low, high)


def canny_image(picture: np.ndarray, low: float = CANNY[0], high: float = CANNY[1]) -> np.ndarray:
    """Edges (0 or 255) of each channel itself, by hysteresis between |dx| + |dy| of ``low`` and ``high``.

    Canny, "A computational approach to edge detection", 1986, with 3x3 Sobel derivatives: a step of n grey
    values has a gradient of 4 n.
    """
    return cv2.merge([cv2.Canny(plane, low, high) for plane in cv2.split(_colour(picture))])


FILTERS: dict[str, Filter] = {
    "grey": grey,
    "thresholds": thresholds,
    "posterize": posterize,
    "contours": contours,
    "contours_published": contours_published,
    "canny": canny,
    "canny_image": canny_image,
}


def _colour(picture: np.ndarray) -> np.ndarray:
    """The picture as contiguous RGB."""
    if picture.dtype != np.uint8 or 0 in picture.shape or picture.shape[2:] not in ((), (3,)) or picture.ndim < 2:
        raise ValueError(f"a {picture.dtype} array of shape {picture.shape}; must be uint8 (H, W, 3) or (H, W)")
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else np.ascontiguousarray(picture)


def _rising(levels: Sequence[int]) -> list[int]:
    found = [int(level) for level in levels]
    if not found or list(levels) != sorted(set(found)) or found[0] < 1 or found[-1] > 254:
        raise ValueError(f"levels {list(levels)}; must be whole numbers from 1 to 254 in rising order")
    return found


def _outlines(plane: np.ndarray, level: int) -> Sequence[np.ndarray]:
    """The borders of what lies above the level and of the holes in it, on its own outermost pixels."""
    mask = (plane > level).astype(np.uint8)
    return cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
