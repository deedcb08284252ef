"""How the faces of a set lie in their pictures, so that photos can be cut in the same way."""

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

Framing = tuple[float, float, float]  # centre x, y and width of the Haar box: shares of the picture's w, h and h
AS_CUT: Framing = (0.5, 0.5, 1 / GROWN_HEIGHT)  # of `faceforge cut`
MEASURED = 96  # training faces from which a run's framing is measured
LOOKED_AT = 192  # pixels of height to which they are brought for it
SMALLEST, LARGEST = 0.05, 2.0  # widths that a file may claim


def of_training_faces(data: FaceData) -> Framing:
    """The framing of a datamodule's training faces; that of `faceforge cut` where the cascade sees hardly any face."""
    count = data.counts["train"]
    return measure(data.images("train", range(0, count, max(1, count // MEASURED)))) or AS_CUT


def measure(images: Tensor) -> Framing | None:
    """The framing of faces (N, C, H, W) in [-1, 1]; None where the cascade sees hardly any face in them."""
    cascade, places = Haar(), []
    for picture in to_uint8(images).permute(0, 2, 3, 1).cpu().numpy():
        height, width = LOOKED_AT, round(LOOKED_AT * picture.shape[1] / picture.shape[0])
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
    """The frame of the aspect of ``size`` (height, width) in which a Haar box has its place."""
    left, top, width, height = box
    tall = width / place[2]
    wide = tall * size[1] / size[0]
    x, y = left + width / 2 + (0.5 - place[0]) * wide, top + height / 2 + (0.5 - place[1]) * tall
    return Frame(x, y, wide, tall)


def told(framing: object) -> Framing | None:
    """The framing that a file names; None where it names none, as files of older runs do. Raises ValueError."""
    if framing is None or (isinstance(framing, Sequence) and len(framing) == 0):
        return None
    if not isinstance(framing, list | tuple) or len(framing) != 3 or not all(map(_is_number, framing)):
        raise ValueError("its framing must be three numbers")
    x, y, width = map(float, framing)
    if not (0 <= x <= 1 and 0 <= y <= 1 and SMALLEST <= width <= LARGEST):
        raise ValueError(f"its framing must be a centre in [0, 1] and a width in [{SMALLEST}, {LARGEST}]")
    return x, y, width


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
