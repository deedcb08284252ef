"""Images reduced to grey, thresholds, contours or edges: the inputs of image-to-image tasks.

Every filter takes a uint8 image, (H, W, 3) RGB or (H, W) grey, of at least one pixel, and returns a new contiguous
uint8 (H, W, 3); other arrays raise ValueError. The result does not depend on the number of threads.

Three of them reproduce the published routine, bugs included: its loop over the levels keeps only the last one, and its
contours are not anti-aliased and erase one another.
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
    """Each channel binarised, as published: the last level where the value is above it, else 0."""
    return posterize(picture, levels[-1:])


def posterize(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """Each channel quantised to the highest level below its value, 0 if there is none."""
    table = np.zeros(256, np.uint8)
    for level in _rising(levels):
        table[level + 1 :] = level
    return cv2.LUT(_colour(picture), table)


def contours(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """Contours of each channel at each level: anti-aliased lines on black, in that channel, as bright as the level."""
    planes = []
    for plane in cv2.split(_colour(picture)):
        lines = np.zeros_like(plane)
        for level in _rising(levels):
            cv2.drawContours(lines, _outlines(plane, level), -1, level, 1, cv2.LINE_AA)
        planes.append(lines)
    return cv2.merge(planes)


def contours_published(picture: np.ndarray, levels: Sequence[int] = LEVELS) -> np.ndarray:
    """The published contours: not anti-aliased, and a line is black in the other two channels.

    The routine requests anti-aliased lines, which OpenCV does not draw on its float canvas, and draws them in a full
    colour, so that green erases red where they meet, and blue erases both.
    """
    colour = _colour(picture)
    lines = np.zeros_like(colour)
    for channel, plane in enumerate(cv2.split(colour)):
        for level in _rising(levels):
            pen = [level if n == channel else 0 for n in range(3)]
            cv2.drawContours(lines, _outlines(plane, level), -1, pen, 1, cv2.LINE_8)
    return lines


def canny(picture: np.ndarray, low: float = CANNY[0], high: float = CANNY[1]) -> np.ndarray:
    """Edges (0 or 255) of each channel of the published thresholds: only the outlines of bright areas."""
    return canny_image(thresholds(picture), low, high)


def canny_image(picture: np.ndarray, low: float = CANNY[0], high: float = CANNY[1]) -> np.ndarray:
    """Edges (0 or 255) of each channel, with hysteresis thresholds ``low`` and ``high`` on |dx| + |dy|.

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
    """The image as contiguous RGB."""
    if picture.dtype != np.uint8 or 0 in picture.shape or picture.shape[2:] not in ((), (3,)) or picture.ndim < 2:
        raise ValueError(f"a {picture.dtype} array of shape {picture.shape}; must be uint8 (H, W, 3) or (H, W)")
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else np.ascontiguousarray(picture)


def _rising(levels: Sequence[int]) -> list[int]:
    found = [int(level) for level in levels]
    if not found or list(levels) != sorted(set(found)) or found[0] < 1 or found[-1] > 254:
        raise ValueError(f"levels {list(levels)}; must be integers from 1 to 254 in increasing order")
    return found


def _outlines(plane: np.ndarray, level: int) -> Sequence[np.ndarray]:
    """The outlines of the areas above a level and of their holes, on the areas' outermost pixels."""
    mask = (plane > level).astype(np.uint8)
    return cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
