"""The framing of a training set: where faces lie in its images, so that photos can be cropped alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from faceforge.cut.detect import Haar
from faceforge.cut.frame import GROWN_HEIGHT, Box, Frame
from faceforge.data.datamodule import FaceData
from faceforge.io.images import to_uint8

# Haar box in an image of h x w pixels: centre x / w, centre y / h, width / h
Framing = tuple[float, float, float]
AS_CUT: Framing = (0.5, 0.5, 1 / GROWN_HEIGHT)  # the framing of `faceforge cut`
MEASURED_FACES = 96  # training images from which the framing of a run is measured
MEASURED_HEIGHT = 192  # pixels: they are resized to this height first
MIN_WIDTH, MAX_WIDTH = 0.05, 2.0  # allowed widths in a file


def of_training_faces(data: FaceData) -> Framing:
    """The framing of a datamodule's training images; AS_CUT if the cascade detects too few faces in them."""
    count = data.counts["train"]
    return measure(data.images("train", range(0, count, max(1, count // MEASURED_FACES)))) or AS_CUT


def measure(images: Tensor) -> Framing | None:
    """The framing of images (N, C, H, W) in [-1, 1]; None if the cascade detects too few faces in them."""
    cascade, places = Haar(), []
    for picture in to_uint8(images).permute(0, 2, 3, 1).cpu().numpy():
        height, width = MEASURED_HEIGHT, round(MEASURED_HEIGHT * picture.shape[1] / picture.shape[0])
        large = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
        large = np.repeat(large[..., None], 3, axis=2) if large.ndim == 2 else large
        for face in cascade(large)[:1]:
            x, y, w, h = face.box
            places.append(((x + w / 2) / width, (y + h / 2) / height, w / height))
    if len(places) < max(3, len(images) // 5):
        return None
    x, y, w = np.median(places, axis=0)
    return float(x), float(y), float(w)


def framed(box: Box, place: Framing, size: tuple[int, int]) -> Frame:
    """The frame with the aspect of ``size`` (height, width) that places a Haar box as the framing ``place`` says."""
    left, top, width, height = box
    tall = width / place[2]
    wide = tall * size[1] / size[0]
    x, y = left + width / 2 + (0.5 - place[0]) * wide, top + height / 2 + (0.5 - place[1]) * tall
    return Frame(x, y, wide, tall)


def parse(framing: object) -> Framing | None:
    """The framing stored in a file; None if there is none, as in files of older runs. Raises ValueError."""
    if framing is None or (isinstance(framing, Sequence) and len(framing) == 0):
        return None
    if not isinstance(framing, list | tuple) or len(framing) != 3 or not all(map(_is_number, framing)):
        raise ValueError("its framing must be three numbers")
    x, y, width = map(float, framing)
    if not (0 <= x <= 1 and 0 <= y <= 1 and MIN_WIDTH <= width <= MAX_WIDTH):
        raise ValueError(f"its framing must be a centre in [0, 1] and a width in [{MIN_WIDTH}, {MAX_WIDTH}]")
    return x, y, width


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
