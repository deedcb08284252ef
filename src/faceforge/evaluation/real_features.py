"""Features of real faces, computed once for each protocol and kept beside the packed faces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceforge.io.files import atomic_path
from faceforge.io.images import to_uint8
from faceforge.metrics.units import Groups

FOLDER = "features"  # in the folder of the packed faces
KEPT = 32  # files a folder; the oldest go
NAME = "features"  # of the tensor
AT_ONCE = 64  # images hashed together: their bytes fit a CPU's cache


class RealFaces(Protocol):
    """Real faces that are scored against."""

    @property
    def groups(self) -> Groups:
        """The person of each; None if unknown."""
        ...

    @property
    def key(self) -> Mapping[str, str]:
        """What tells these faces from others."""
        ...

    @property
    def folder(self) -> Path:
        """Where what is computed from them is kept; it may be read-only."""
        ...

    def images(self) -> Tensor:
        """The faces (N, C, H, W) in [-1, 1]."""
        ...


class Computes(Protocol):
    """What numbers are computed by: an extractor, or patch SWD."""

    @property
    def key(self) -> str:
        """A short name for files."""
        ...

    @property
    def protocol(self) -> dict[str, str]:
        """What tells these numbers from others."""
        ...

    def numbers(self, images: int) -> tuple[int, ...]:
        """The shape of the numbers of so many images."""
        ...


@dataclass(frozen=True)
class RealFeatures:
    """The file of numbers of real faces, such as an extractor's features; ``images`` (N, C, H, W) are the faces.

    A file counts only if its key, which holds a hash of all pixels, and its checksum are right.
    """

    faces: RealFaces
    images: Tensor
    computes: Computes
    device: str  # the kind that computes; others round differently
    pixels: str | None = None  # their hash, where it is known

    def read(self) -> Tensor | None:
        """The numbers; None if there is no whole file of this key."""
        try:
            with safe_open(self._path, "pt") as file:
                metadata, values = file.metadata() or {}, file.get_tensor(NAME)
        except (OSError, SafetensorError):
            return None
        right = metadata == {**self._key, "sha256": _digest(values)}
        return values if right and values.shape == self.computes.numbers(len(self.images)) else None

    def read_or(self, compute: Callable[[], Tensor]) -> Tensor:
        """The numbers from their file, else computed and kept."""
        values = self.read()
        if values is None:
            values = compute()
            self.write(values)
        return values

    def write(self, values: Tensor) -> None:
        """Keep the features; where nothing can be written they are computed each time."""
        values = values.contiguous()
        with suppress(OSError), atomic_path(self._path) as beside:
            save_file({NAME: values}, beside, {**self._key, "sha256": _digest(values)})
            files = sorted(self._path.parent.glob("*.safetensors"), key=lambda one: one.stat().st_mtime)
            for old in files[: max(0, len(files) + 1 - KEPT)]:
                old.unlink(missing_ok=True)

    @cached_property
    def _key(self) -> dict[str, str]:
        """All that another value of would give other features."""
        return {**self.faces.key, "pixels": self.pixels or pixel_hash(self.images)} | {
            **self.computes.protocol, "key": self.computes.key, "device": self.device, "torch": torch.__version__,
        }  # fmt: skip

    @cached_property
    def _path(self) -> Path:
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        return self.faces.folder / FOLDER / f"{self.computes.key}-{digest[:24]}.safetensors"


def pixel_hash(images: Tensor) -> str:
    """Of images (N, C, H, W) in [-1, 1], rounded to 8 bits."""
    return _digest_of(map(to_uint8, images.split(AT_ONCE)), torch.uint8, images.shape)


def _digest(values: Tensor) -> str:
    return _digest_of([values], values.dtype, values.shape)


def _digest_of(parts: Iterable[Tensor], dtype: torch.dtype, shape: torch.Size) -> str:
    found = hashlib.sha256(f"{dtype} {tuple(shape)} ".encode())
    for part in parts:
        found.update(part.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
