"""Rows of an array on disk: mapped while it fits into memory, else read row by row, asked for some batches before.

Mapped, a row that is not in memory stops the process at each of its pages, and the system reads far more around it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceforge.io.portable import memory_bytes

SHARE = 0.5  # of the memory, up to which a file is mapped


class Rows:
    """The rows of a .npy file of uint8 (N, ...), read-only. Each process opens the file on first use.

    Raises OSError or ValueError if the file is not as long as its header says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, _, dtype = read(file)
            self._start = file.tell()
        self._row = int(np.prod(self.shape[1:], dtype=np.int64))
        if dtype != np.uint8 or path.stat().st_size < self._start + len(self) * self._row:
            raise ValueError(f"{path}: must hold {self.shape} bytes")
        self.mapped = not can_read_ahead() or len(self) * self._row <= SHARE * memory_bytes()
        self._array: np.ndarray | None = None
        self._file = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_array": None, "_file": -1}

    def __del__(self) -> None:
        if vars(self).get("_file", -1) >= 0:
            os.close(self._file)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def array(self) -> np.ndarray:
        """All rows, mapped."""
        array = self._array
        if array is None:
            array = self._array = np.load(self.path, mmap_mode="r")
        return array

    def __getitem__(self, part: slice) -> np.ndarray:
        """Consecutive rows."""
        return self.take(np.arange(*part.indices(len(self))))

    def take(self, rows: NDArray[np.integer]) -> np.ndarray:
        """A copy of rows, read in file order, which is faster on disks."""
        order = np.argsort(rows, kind="stable")
        gathered = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        if self.mapped:
            gathered[order] = self.array[rows[order]]
            return gathered
        file, flat = self._handle(), gathered.data.cast("B")
        for place, row in zip(order.tolist(), rows[order].tolist(), strict=True):
            start = place * self._row
            self._read(file, flat[start : start + self._row], self._start + row * self._row)
        return gathered

    def expect(self, rows: Sequence[int] | NDArray[np.integer]) -> None:
        """Ask the system to read rows that will be taken soon."""
        if not self.mapped:
            file = self._handle()
            for row in np.asarray(rows).tolist():
                os.posix_fadvise(file, self._start + row * self._row, self._row, os.POSIX_FADV_WILLNEED)

    def _handle(self) -> int:
        if self._file < 0:
            self._file = os.open(self.path, os.O_RDONLY)
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read around a row
        return self._file

    def _read(self, file: int, into: memoryview, start: int) -> None:
        while len(into):
            got = os.preadv(file, [into], start)
            if got == 0:
                raise OSError(f"{self.path}: ends early; it was changed while it was used")
            into, start = into[got:], start + got


def can_read_ahead() -> bool:
    """Whether the system can be asked to read parts of a file before they are needed."""
    return all(name in vars(os) for name in ("posix_fadvise", "preadv"))
