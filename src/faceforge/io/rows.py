"""Rows of an array on disk: mapped while it fits into memory, else read by threads some batches before they are needed.

Mapped, a row that is not in memory stops the process at each of its pages, and the system reads far more around it.
Many reads at a time are what a disk needs to be fast.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceforge.io.portable import address_room, memory_bytes

SHARE = 0.5  # of the memory, up to which a file is mapped
THREADS, THREAD_BYTES = 16, 2**28  # threads, and the addresses that one may reserve
MOST_AHEAD = 256  # batches


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
        self.bytes = int(np.prod(self.shape[1:], dtype=np.int64))
        if dtype != np.uint8 or path.stat().st_size < self._start + len(self) * self.bytes:
            raise ValueError(f"{path}: must hold {self.shape} bytes")
        self.mapped = not can_read_ahead() or len(self) * self.bytes <= SHARE * memory_bytes()
        self._array: np.ndarray | None = None
        self._file = -1
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: OrderedDict[bytes, Future[np.ndarray]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_array": None, "_file": -1, "_threads": None, "_ahead": OrderedDict()}

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
        """A copy of rows."""
        if not self.mapped:
            expected = self._ahead.pop(rows.tobytes(), None)
            return self._read(rows) if expected is None else expected.result()
        order = np.argsort(rows, kind="stable")  # in file order, which is faster on disks
        gathered = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        gathered[order] = self.array[rows[order]]
        return gathered

    def expect(self, rows: NDArray[np.integer]) -> None:
        """Begin to read rows that will be taken soon."""
        if self.mapped:
            return
        if self._threads is None:
            self._handle()
            count = int(max(1, min(THREADS, address_room() // THREAD_BYTES)))
            self._threads = ThreadPoolExecutor(count, "read-ahead")
        self._ahead[rows.tobytes()] = self._threads.submit(self._read, rows)
        while len(self._ahead) > MOST_AHEAD:  # a clock that was set anew never takes them
            self._ahead.popitem(last=False)

    def _read(self, rows: NDArray[np.integer]) -> np.ndarray:
        gathered = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        file, flat = self._handle(), gathered.reshape(len(rows), -1).data.cast("B")
        for place, start in enumerate((self._start + rows.astype(np.int64) * self.bytes).tolist()):
            into = flat[place * self.bytes : (place + 1) * self.bytes]
            while got := os.preadv(file, [into], start):
                into, start = into[got:], start + got
                if not len(into):
                    break
            if len(into):
                raise OSError(f"{self.path}: ends early; it was changed while it was used")
        return gathered

    def _handle(self) -> int:
        if self._file < 0:
            self._file = os.open(self.path, os.O_RDONLY)
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read around a row
        return self._file


def can_read_ahead() -> bool:
    """Whether the system can be asked to read parts of a file before they are needed."""
    return all(name in vars(os) for name in ("posix_fadvise", "preadv"))
