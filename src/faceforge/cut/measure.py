"""Quality measures of a crop."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from faceforge.cut.frame import Box

SHARPNESS_SIDE = 128  # faces are compared at one size, since larger ones always look softer
THUMB_SIDE = 120
_CELL = 64  # side of a cell of the colour cube


@dataclass(frozen=True, slots=True)
class Measures:
    """The values of the manifest columns of the same names."""

    sharpness: float
    brightness: float
    contrast: float
    mean_colour: str
    dominant_colour: str
    fingerprint: str


def measure(crop: np.ndarray, face: np.ndarray) -> Measures:
    """The measures of a crop, uint8 RGB (H, W, 3), and of the face in it, uint8 RGB of any size."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)  # several times faster than NumPy's
    return Measures(
        sharpness=sharpness(face),
        brightness=float(mean[0, 0]),
        contrast=float(deviation[0, 0]),
        mean_colour=_hex(np.array(cv2.mean(crop)[:3])),
        dominant_colour=_hex(dominant(crop)),
        fingerprint=f"{fingerprint(luma):016x}",
    )


def sharpness(face: np.ndarray) -> float:
    """Variance of the Laplacian of the luma at 128 x 128 (Pech-Pacheco et al. 2000); below about 30 is soft."""
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    shrink = min(luma.shape) >= SHARPNESS_SIDE
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    same = cv2.resize(luma, (SHARPNESS_SIDE, SHARPNESS_SIDE), interpolation=method)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(same, cv2.CV_64F))
    return float(deviation[0, 0]) ** 2


def dominant(pixels: np.ndarray) -> np.ndarray:
    """The mean colour (3,) in the most populated of the 4 x 4 x 4 cells of the colour cube."""
    colours = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    cells = (colours // _CELL).astype(np.int64) @ np.array((16, 4, 1))
    fullest = np.bincount(cells, minlength=64).argmax()
    return colours[cells == fullest].mean(axis=0)


def fingerprint(luma: np.ndarray) -> int:
    """A perceptual hash of 64 bits (pHash, Zauner 2010): similar images differ in few bits."""
    small = cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = np.asarray(cv2.dct(small)[:8, :8].ravel(), dtype=np.float32)
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def inside(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The part of an image inside a box, at least one pixel."""
    height, width = pixels.shape[:2]
    left, top = (int(min(max(0.0, at), end - 1)) for at, end in ((box[0], width), (box[1], height)))
    part = pixels[top : max(top + 1, round(box[1] + box[3])), left : max(left + 1, round(box[0] + box[2]))]
    return np.ascontiguousarray(part)


def thumbnail(crop: np.ndarray) -> np.ndarray:
    """The crop resized to 120 pixels on its long side, uint8 RGB."""
    share = THUMB_SIDE / max(crop.shape[:2])
    size = max(1, round(crop.shape[1] * share)), max(1, round(crop.shape[0] * share))
    return cv2.resize(crop, size, interpolation=cv2.INTER_AREA)


def _hex(colour: np.ndarray) -> str:
    red, green, blue = (int(value) for value in np.rint(colour))
    return f"#{red:02x}{green:02x}{blue:02x}"
