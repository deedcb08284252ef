"""What a data source is: a list of faces, each of which can be read, told apart and described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Face:
    """One picture: its id within the source, whose face it is, and its split where the set has an official one."""

    id: str
    identity: str | None = None
    split: str | None = None  # "train", "val" or "test"


class Source(Protocol):
    """Faces in a stable order. A constructor takes ``root`` and its own explicit parameters."""

    name: str

    @property
    def faces(self) -> Sequence[Face]:
        """Every face of the set, sorted by id."""
        ...

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Face ``index`` as uint8 (H, W, 3) RGB or (H, W) grey; ``size`` is (height, width), a wish that drawn
        faces fulfil and files ignore. Raises ImageError where a file cannot be read rightly.
        """
        ...

    def digest(self, index: int) -> str:
        """SHA-256 (hex) of the file's bytes, or of what defines a drawn face."""
        ...

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """Names and float32 (N, A) values, 0 or 1, nan where unknown; None where the set has none."""
        ...
