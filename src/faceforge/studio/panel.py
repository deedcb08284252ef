"""What became of a photo: the photo, and its faces step by step in captioned pictures beside one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from faceforge.io.images import from_uint8, make_grid


@dataclass(frozen=True)
class Result:
    """The result for a photo: the whole photo, uint8 (H, W, 3), and named images for each face."""

    photo: np.ndarray
    faces: list[dict[str, np.ndarray]]
    scores: dict[str, float] = field(default_factory=dict)

    def panel(self) -> np.ndarray:
        """The named images side by side, one row per face."""
        return make_panel(self.faces)


def captioned(names: Sequence[str], pictures: Iterable[Sequence[np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """For each face its images by name, from a list of faces for each name."""
    return [dict(zip(names, face, strict=True)) for face in zip(*pictures, strict=True)]


def make_panel(faces: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Images uint8 (h, w, 3) of each face side by side at the size of the largest, on white."""
    tiles = [tile for face in faces for tile in face.values()]
    height, width = (max(tile.shape[n] for tile in tiles) for n in (0, 1))
    large = [_enlarged(tile, height, width) for tile in tiles]
    return make_grid(from_uint8(torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)), columns=len(faces[0]))


def _enlarged(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge by nearest neighbour: a panel must not smooth a small image."""
    return cv2.resize(tile, (width, height), interpolation=cv2.INTER_NEAREST)
