"""Sources that misbehave while they are packed; apart from other helpers, so that workers import little."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np

from faceforge.data.sources.crops import Crops


class SlowCrops(Crops):
    """Crops that take a while to read, so that a test can act while they are packed."""

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        time.sleep(0.02)
        return super().read(index, size)


class SharedCrops(Crops):
    """Crops of which other processes read some: the first is slow until ``seen``, a file that they leave, is there."""

    def __init__(self, root: str, seen: Path) -> None:
        super().__init__(root)
        self.seen = seen

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        if multiprocessing.parent_process() is not None:
            self.seen.touch()
        elif not self.seen.exists():
            time.sleep(0.3)
        return super().read(index, size)


class FragileCrops(SharedCrops):
    """Crops whose reading ends every process but the first, as the system does when memory runs out."""

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        pixels = super().read(index, size)
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        return pixels
