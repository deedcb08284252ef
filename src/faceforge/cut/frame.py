"""The crop rectangle of a face, and cropping.

The published routine grows a Haar box of width w to 1.5 w x 2 w about its centre. The Haar box is predicted from the
landmarks, so that crops are framed alike whichever detector found the face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, width, height
FloatOrArray = TypeVar("FloatOrArray", float, np.ndarray)
Landmarks = tuple[Point, Point, Point, Point, Point]  # left eye, right eye, nose, mouth left, mouth right

# must change whenever cut() changes a pixel
RECIPE = "haar-1.5x2.0, whole pixels, enlarged by opencv-cubic, shrunk by pillow-bicubic-antialiased/2"

# Fitted to faces that the Haar cascade and YuNet both find and that are not at the edge of the photo, which would
# limit the box (python -m benchmarks.cut calibrate). The distance from eyes to mouth predicts the Haar box best, and it
# does not shrink with yaw.
HAAR_WIDTH = 2.67  # width of the Haar box, in distances from the eyes to the mouth
HAAR_CENTRE = 0.30  # its centre between the eyes (0) and the mouth (1)
MIN_HEIGHT = 0.7  # lower bound of the eye-to-mouth distance, in eye distances, for heads with a strong pitch

GROWN_HEIGHT = 2.0  # in widths of the Haar box, as published; the width follows from the aspect, 1.5 for 3:4
BAND = 2**20  # pixels that are copied at a time
LEAST_WIDTH = 1.0  # a frame narrower than the Haar box cuts into the face


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle in a photo: centre, size, and its rotation in degrees clockwise."""

    x: float
    y: float
    w: float
    h: float
    angle: float = 0.0
    moved: float = 0.0  # how far fit() moved it, in its own widths
    shrunk: float = 1.0  # the factor by which fit() scaled it


def haar_box(landmarks: Landmarks) -> Box:
    """The box of the published Haar cascade, predicted from landmarks: an axis-aligned square."""
    eyes, mouth = _middle(*landmarks[:2]), _middle(*landmarks[3:])
    down = math.dist(eyes, mouth)
    width = HAAR_WIDTH * max(down, MIN_HEIGHT * math.dist(*landmarks[:2]))
    x = eyes[0] + HAAR_CENTRE * (mouth[0] - eyes[0])
    y = eyes[1] + HAAR_CENTRE * (mouth[1] - eyes[1])
    return x - width / 2, y - width / 2, width, width


def roll(landmarks: Landmarks) -> float:
    """The in-plane rotation of the face in degrees clockwise, -180 to 180.

    The mean direction of the line through the eyes and of the perpendicular to the line from eyes to mouth.
    """
    (lx, ly), (rx, ry) = landmarks[:2]
    eyes, mouth = _middle(*landmarks[:2]), _middle(*landmarks[3:])
    across = _unit(rx - lx, ry - ly)
    down = _unit(mouth[0] - eyes[0], mouth[1] - eyes[1])
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))


def yaw(landmarks: Landmarks) -> float:
    """The position of the nose between the eyes: 0 in the middle, -1 at the left eye, 1 at the right eye or beyond."""
    (lx, ly), (rx, ry), (nx, ny) = landmarks[:3]
    length = math.dist((lx, ly), (rx, ry)) or 1.0
    along = ((nx - lx) * (rx - lx) + (ny - ly) * (ry - ly)) / length**2
    return min(1.0, max(-1.0, 2 * along - 1))


def grow(box: Box, size: tuple[int, int], zoom: float = 1.0, angle: float = 0.0) -> Frame:
    """The frame around a Haar box for crops of ``size`` (height, width).

    Its height is always that of the published frame, so wider crops show more at the sides. ``zoom`` above 1 gives
    tighter crops.
    """
    left, top, width, height = box
    tall = GROWN_HEIGHT * width / zoom
    return Frame(left + width / 2, top + height / 2, tall * size[1] / size[0], tall, angle)


def spread(frame: Frame) -> tuple[float, float]:
    """Width and height of the axis-aligned bounding box of a frame."""
    cos, sin = abs(math.cos(math.radians(frame.angle))), abs(math.sin(math.radians(frame.angle)))
    return frame.w * cos + frame.h * sin, frame.w * sin + frame.h * cos


def fit(frame: Frame, width: float, height: float) -> Frame:
    """The frame shrunk, then moved, as little as needed to lie inside a photo of width x height.

    Every pixel of a crop then comes from the photo.
    """
    spread_x, spread_y = spread(frame)
    share = min(1.0, width / spread_x, height / spread_y)
    half_x, half_y = spread_x * share / 2, spread_y * share / 2
    x = min(max(frame.x, half_x), width - half_x)
    y = min(max(frame.y, half_y), height - half_y)
    moved = math.dist((x, y), (frame.x, frame.y)) / (frame.w * share)
    return replace(frame, x=x, y=y, w=frame.w * share, h=frame.h * share, moved=moved, shrunk=share)


def padding(frame: Frame, width: float, height: float) -> float:
    """The share of a frame that lies outside a photo of width x height, to one in four thousand."""
    across, down = np.meshgrid(*[(np.arange(64) + 0.5) / 64 - 0.5] * 2)
    x, y = placed(across * frame.w, down * frame.h, frame)
    return float(((x < 0) | (x > width) | (y < 0) | (y > height)).mean())


def placed(x: FloatOrArray, y: FloatOrArray, frame: Frame) -> tuple[FloatOrArray, FloatOrArray]:
    """Where points of a frame, given from its centre, lie in the photo."""
    cos, sin = math.cos(math.radians(frame.angle)), math.sin(math.radians(frame.angle))
    return frame.x + x * cos - y * sin, frame.y + x * sin + y * cos


def cut(pixels: np.ndarray, frame: Frame, size: tuple[int, int], reflect: bool = False) -> np.ndarray:
    """The frame's pixels at ``size`` (height, width): uint8 (H, W, 3) from uint8 (h, w, 3).

    The frame is rounded to whole pixels of the photo and must lie inside it, unless it is filled up by reflection, as
    FFHQ's tool does (Karras et al. 2019). Enlargement uses OpenCV's cubic filter, as
    published; if a side shrinks, Pillow's antialiased bicubic filter is used. A rotated frame is first rectified by a
    cubic warp at the photo's own resolution.
    """
    height, width = size
    part = rectified(pixels, frame, reflect) if frame.angle else _slice(pixels, frame, reflect)
    if part.shape[0] <= height and part.shape[1] <= width:
        return cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(_image(part).resize((width, height), Image.Resampling.BICUBIC))


def _image(pixels: np.ndarray) -> Image.Image:
    """An array as an image, copied in bands: a large photo's frame takes much memory."""
    image, rows = Image.new("RGB", pixels.shape[1::-1]), max(1, BAND // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        image.paste(Image.fromarray(np.ascontiguousarray(pixels[top : top + rows])), (0, top))
    return image


def _slice(pixels: np.ndarray, frame: Frame, reflect: bool) -> np.ndarray:
    (top, bottom), (left, right) = (
        (round(middle - length / 2), round(middle + length / 2))
        for middle, length in ((frame.y, frame.h), (frame.x, frame.w))
    )
    height, width = pixels.shape[:2]
    if reflect and (min(top, left) < 0 or bottom > height or right > width):
        return pixels[np.ix_(_mirrored(top, bottom, height), _mirrored(left, right, width))]
    top, left = min(max(0, top), height - 1), min(max(0, left), width - 1)
    return pixels[top : max(min(bottom, height), top + 1), left : max(min(right, width), left + 1)]


def _mirrored(first: int, last: int, length: int) -> np.ndarray:
    """Indices of a row or column continued by reflection about its last pixels."""
    places = np.arange(first, max(last, first + 1)) % max(1, 2 * (length - 1))
    return np.minimum(places, max(0, 2 * (length - 1)) - places) if length > 1 else 0 * places


def rectified(pixels: np.ndarray, frame: Frame, reflect: bool = False) -> np.ndarray:
    """The frame's pixels at the photo's own resolution, turned level by a cubic warp."""
    width, height = max(1, round(frame.w)), max(1, round(frame.h))
    turn = cv2.getRotationMatrix2D((frame.x - 0.5, frame.y - 0.5), frame.angle, 1.0)
    turn[:, 2] += (width - 1) / 2 - (frame.x - 0.5), (height - 1) / 2 - (frame.y - 0.5)
    border = cv2.BORDER_REFLECT_101 if reflect else cv2.BORDER_REPLICATE
    return cv2.warpAffine(np.ascontiguousarray(pixels), turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=border)


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def _unit(x: float, y: float) -> Point:
    length = math.hypot(x, y) or 1.0
    return x / length, y / length
