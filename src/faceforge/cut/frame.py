"""The rectangle that becomes a crop, and the crop.

The published routine grows a Haar box of width w to 1.5 w x 2 w about its centre. From landmarks the same box is
foretold, so that crops are framed alike whichever detector found the face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, width, height
Landmarks = tuple[Point, Point, Point, Point, Point]  # left eye, right eye, nose, mouth left, mouth right

# change it whenever cut() changes a pixel
RECIPE = "haar-1.5x2.0, whole pixels, enlarged by opencv-cubic, shrunk by pillow-bicubic-antialiased/2"

# Fitted to faces that the Haar cascade and YuNet both find and round which the photo goes on (its edge would bound
# the box; python -m benchmarks.cut calibrate): the distance from eyes to mouth foretells the Haar box best, and it does
# not shrink when a head turns.
HAAR_WIDTH = 2.67  # widths of the Haar box, in distances from the eyes to the mouth
HAAR_CENTRE = 0.30  # its centre on the way from the eyes to the mouth
FLATTEST = 0.7  # a head bent far down still counts as this much of its distance between the eyes

GROWN_HEIGHT = 2.0  # of the Haar box's width, as published; the width follows the aspect, 1.5 for 3:4
LEAST_WIDTH = 1.0  # a frame narrower than the Haar box cuts into the face


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle in a photo: centre, size, and by how many degrees it is turned clockwise."""

    x: float
    y: float
    w: float
    h: float
    angle: float = 0.0
    moved: float = 0.0  # how far fit() moved it, in its own widths
    shrunk: float = 1.0  # what share of its size fit() left


def haar_box(landmarks: Landmarks) -> Box:
    """The box that the published Haar cascade would most likely draw round a face: a square, never turned."""
    eyes, mouth = _middle(*landmarks[:2]), _middle(*landmarks[3:])
    down = math.dist(eyes, mouth)
    width = HAAR_WIDTH * max(down, FLATTEST * math.dist(*landmarks[:2]))
    x = eyes[0] + HAAR_CENTRE * (mouth[0] - eyes[0])
    y = eyes[1] + HAAR_CENTRE * (mouth[1] - eyes[1])
    return x - width / 2, y - width / 2, width, width


def roll(landmarks: Landmarks) -> float:
    """By how many degrees, -180 to 180, the face is turned clockwise in its picture.

    The line through the eyes, and the one from eyes to mouth turned by a right angle, count alike.
    """
    (lx, ly), (rx, ry) = landmarks[:2]
    eyes, mouth = _middle(*landmarks[:2]), _middle(*landmarks[3:])
    across = _unit(rx - lx, ry - ly)
    down = _unit(mouth[0] - eyes[0], mouth[1] - eyes[1])
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))


def yaw(landmarks: Landmarks) -> float:
    """Where the nose stands between the eyes: 0 in the middle, -1 at the left one, 1 at the right one or beyond."""
    (lx, ly), (rx, ry), (nx, ny) = landmarks[:3]
    length = math.dist((lx, ly), (rx, ry)) or 1.0
    along = ((nx - lx) * (rx - lx) + (ny - ly) * (ry - ly)) / length**2
    return min(1.0, max(-1.0, 2 * along - 1))


def grow(box: Box, size: tuple[int, int], zoom: float = 1.0, angle: float = 0.0) -> Frame:
    """The frame about a Haar box for crops of ``size`` (height, width).

    Its height is always that of the published frame, so wider crops show more to the sides; ``zoom`` above 1
    comes closer.
    """
    left, top, width, height = box
    tall = GROWN_HEIGHT * width / zoom
    return Frame(left + width / 2, top + height / 2, tall * size[1] / size[0], tall, angle)


def spread(frame: Frame) -> tuple[float, float]:
    """Width and height of the upright rectangle round a frame."""
    cos, sin = abs(math.cos(math.radians(frame.angle))), abs(math.sin(math.radians(frame.angle)))
    return frame.w * cos + frame.h * sin, frame.w * sin + frame.h * cos


def fit(frame: Frame, width: float, height: float) -> Frame:
    """The frame shrunk, then moved as little as needed to lie wholly inside a photo of width x height.

    So no crop holds a pixel that the photo does not have.
    """
    spread_x, spread_y = spread(frame)
    share = min(1.0, width / spread_x, height / spread_y)
    half_x, half_y = spread_x * share / 2, spread_y * share / 2
    x = min(max(frame.x, half_x), width - half_x)
    y = min(max(frame.y, half_y), height - half_y)
    moved = math.dist((x, y), (frame.x, frame.y)) / (frame.w * share)
    return replace(frame, x=x, y=y, w=frame.w * share, h=frame.h * share, moved=moved, shrunk=share)


def cut(pixels: np.ndarray, frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """The frame's pixels at ``size`` (height, width): uint8 (H, W, 3) from uint8 (h, w, 3).

    The frame is rounded to whole pixels of the photo. OpenCV's cubic filter enlarges, as published; where a side
    shrinks it is Pillow's bicubic filter, widened to the scale. A turned frame is first laid straight by a cubic warp
    in the photo's own resolution. The frame must lie inside the picture.
    """
    height, width = size
    part = _straight(pixels, frame) if frame.angle else _slice(pixels, frame)
    if part.shape[0] <= height and part.shape[1] <= width:
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _slice(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    (top, bottom), (left, right) = (
        (max(0, round(middle - length / 2)), min(end, round(middle + length / 2)))
        for middle, length, end in ((frame.y, frame.h, pixels.shape[0]), (frame.x, frame.w, pixels.shape[1]))
    )
    top, left = min(top, pixels.shape[0] - 1), min(left, pixels.shape[1] - 1)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def _straight(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    width, height = max(1, round(frame.w)), max(1, round(frame.h))
    turn = cv2.getRotationMatrix2D((frame.x - 0.5, frame.y - 0.5), frame.angle, 1.0)
    turn[:, 2] += (width - 1) / 2 - (frame.x - 0.5), (height - 1) / 2 - (frame.y - 0.5)
    return cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def _unit(x: float, y: float) -> Point:
    length = math.hypot(x, y) or 1.0
    return x / length, y / length
