"""The sheet of the nearest pairs: pictures of real people, which stay in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from faceforge.io.images import to_uint8

TILE = 112  # pixels of a face's long side
GAP, LINE, ACROSS = 6, 14, 2
WHITE, INK, FAINT, RED = (255, 255, 255), (20, 20, 20), (110, 110, 110), (190, 20, 20)
HEADS = ("generated", "nearest in training", "nearest held out")


@dataclass(frozen=True)
class Trio:
    """A generated face and its nearest training and held-out face, each (C, H, W) in [-1, 1], and two captions."""

    faces: Sequence[Tensor]
    distances: str
    verdict: str
    copy: bool


def draw_sheet(trios: Sequence[Trio], title: str) -> np.ndarray:
    """All trios, two side by side, uint8 (H, W, 3). Raises ValueError without any."""
    if not trios:
        raise ValueError("a sheet needs at least one face")
    tiles = [[_tile(face) for face in trio.faces] for trio in trios]
    wide, high = tiles[0][0].size
    cell = (3 * (wide + GAP) + 3 * GAP, high + 2 * LINE + 2 * GAP)
    across, top = min(ACROSS, len(trios)), 3 * LINE + GAP
    rows = -(-len(trios) // across)
    sheet = Image.new("RGB", (max(across * cell[0], 7 * len(title)) + GAP, top + rows * cell[1]), WHITE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    pen.text((GAP, GAP // 2), title, INK, font)
    for n in range(3 * across):
        left = GAP + n // 3 * cell[0] + n % 3 * (wide + GAP)
        pen.text((left, 2 * LINE), HEADS[n % 3], FAINT, font)
    for n, (trio, faces) in enumerate(zip(trios, tiles, strict=True)):
        left, down = GAP + n % across * cell[0], top + n // across * cell[1]
        for place, face in enumerate(faces):
            sheet.paste(face, (left + place * (wide + GAP), down))
        pen.text((left, down + high), trio.distances, INK, font)
        pen.text((left, down + high + LINE), trio.verdict, RED if trio.copy else FAINT, font)
    return np.asarray(sheet)


def _tile(face: Tensor) -> Image.Image:
    pixels = to_uint8(face).permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)
