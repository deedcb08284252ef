"""Colour hints: dabs that a person puts on a photo, as a run of task=colorize with task.hints has seen them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, to_uint8
from faceforge.networks.blocks import chroma_of, coloured

FORM = re.compile(r"(\d+),(\d+),#([0-9a-fA-F]{6})")


@dataclass(frozen=True)
class Hint:
    """A colour, red, green and blue in bytes, at a pixel of the photo, counted from the upper left corner."""

    x: int
    y: int
    colour: tuple[int, int, int]


def parse(words: Sequence[str]) -> list[Hint]:
    """The hints of words such as 120,80,#c08060. Raises BadInput."""
    found = []
    for word in words:
        match = FORM.fullmatch(word.strip())
        if match is None:
            raise BadInput(f"--hint {word}: must be X,Y,#COLOUR in pixels of the photo, such as 120,80,#c08060")
        red, green, blue = bytes.fromhex(match[3])
        found.append(Hint(int(match[1]), int(match[2]), (red, green, blue)))
    return found


def painted(pixels: np.ndarray, hints: Sequence[Hint], radius: float) -> np.ndarray:
    """The photo, uint8 (H, W, 3), in grey, with the chroma of each hint on a disc of ``radius`` pixels.

    Raises BadInput for a hint outside the photo.
    """
    height, width = pixels.shape[:2]
    chroma = np.zeros((height, width, 2), np.float32)
    rows, columns = np.ogrid[:height, :width]
    for hint in hints:
        if hint.x >= width or hint.y >= height:
            raise BadInput(f"--hint {hint.x},{hint.y}: must lie in the photo of {width}x{height} pixels")
        inside = (rows - hint.y) ** 2 + (columns - hint.x) ** 2 <= max(radius, 1.0) ** 2
        chroma[inside] = chroma_of(_batch(np.array(hint.colour, np.uint8)[None, None])).flatten().numpy()
    made = coloured(_batch(pixels), torch.from_numpy(chroma).permute(2, 0, 1)[None])
    return np.ascontiguousarray(to_uint8(made)[0].permute(1, 2, 0).numpy())


def _batch(pixels: np.ndarray) -> torch.Tensor:
    return from_uint8(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])))
