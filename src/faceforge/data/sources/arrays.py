"""Arrays of images that NumPy saved: a .npy, or a .npz with people and labels beside them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceforge.data.sources.base import Face
from faceforge.data.sources.columns import people_and_labels
from faceforge.errors import BadInput
from faceforge.io.attributes import MAX_TEXTS, Attributes

ENDINGS = (".npy", ".npz")
CLASSES = ("label", "labels", "y", "class", "classes", "target", "targets")
Array = NDArray[Any]


class Arrays:
    """Faces of a .npy or .npz at ``root``: (N, H, W), or with 1, 3 or 4 channels (N, H, W, C) or (N, C, H, W).

    Values are whole numbers from 0 to 255, or floats in [0, 1] or [-1, 1]. ``images`` names the array in a .npz; by
    default it is the only one of such a shape. Of the other arrays of N rows, ``person`` names that of people (by
    default as in shards); those of 0 and 1, of few classes, or (N, K) of 0 and 1 are labels. Raises BadInput.
    """

    name = "arrays"

    def __init__(self, root: str | None, images: str | None = None, person: str | None = None) -> None:
        if root is None or not root.strip():
            raise BadInput("data.root: must be a .npy or .npz of images, such as data.root=faces.npz")
        self.root, self._key = Path(root).expanduser(), images
        found, others = _read(self.root, images)
        self._images: Array | None = found
        self._low, self._high = _range(self.root, found)
        rows = [dict(zip(others, row, strict=True)) for row in zip(*others.values(), strict=True)] or [{}] * len(found)
        classes = next((name for name in CLASSES if name in others), None)
        people, self._attributes = people_and_labels(str(root), rows, person, classes)
        self.faces: Sequence[Face] = [Face(f"{n:07d}", one) for n, one in enumerate(people)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}  # read again in each process

    def read(self, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Image ``index`` in its own size: uint8 (H, W, 3), or (H, W) if it is grey; transparency lies on white."""
        pixels = np.asarray(self._array()[index])
        if pixels.ndim == 3 and _channels_first(self._array()):
            pixels = pixels.transpose(1, 2, 0)
        if pixels.dtype != np.uint8:
            scaled = (pixels.astype(np.float64) - self._low) / (self._high - self._low)
            pixels = np.round(scaled * 255).clip(0, 255).astype(np.uint8)
        if pixels.ndim == 2 or pixels.shape[2] == 1:
            return np.ascontiguousarray(pixels.reshape(pixels.shape[:2]))
        if pixels.shape[2] == 4:
            alpha = pixels[..., 3:].astype(np.float64) / 255
            pixels = np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        return np.ascontiguousarray(pixels)

    def digest(self, index: int) -> str:
        """SHA-256 (hex) of the image's values, their type and shape."""
        values = np.ascontiguousarray(self._array()[index])
        return hashlib.sha256(f"{values.dtype.str}{values.shape}".encode() + values.tobytes()).hexdigest()

    def attributes(self) -> Attributes | None:
        """The labels in the other arrays: names and (N, A) values."""
        return self._attributes

    def _array(self) -> Array:
        if self._images is None:
            self._images = _read(self.root, self._key)[0]
        return self._images


def _read(path: Path, wanted: str | None) -> tuple[Array, dict[str, list[str]]]:
    """The images, and the values of the other arrays as texts, by column. Raises BadInput."""
    try:
        file = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {"": file} if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        why = str(error).splitlines()[0][:120]
        raise BadInput(f"data.root={path}: no .npy or .npz that can be read ({why})") from error
    fitting = [name for name, array in arrays.items() if _is_images(array)]
    fitting = [name for name in fitting if arrays[name].ndim == 4] or fitting  # of three axes are landmarks, too
    if wanted is not None and wanted not in fitting:
        raise BadInput(
            f"data.source.images={wanted}: no images in {path}; must be one of {', '.join(fitting) or 'none'}"
        )
    if wanted is None and len(fitting) != 1:
        shapes = ", ".join(f"{name or 'it'} {array.dtype}{list(array.shape)}" for name, array in arrays.items())
        right = "data.source.images must name one" if fitting else "must have (N, H, W), (N, H, W, C) or (N, C, H, W)"
        raise BadInput(f"data.root={path}: {len(fitting)} arrays of images among {shapes}; {right}")
    images = arrays[wanted or fitting[0]]
    rest = {
        name: array for name, array in arrays.items() if array is not images and array.shape[:1] == images.shape[:1]
    }
    return images, _columns(rest)


def _is_images(array: Array) -> bool:
    if array.ndim not in (3, 4) or array.dtype.kind not in "uif" or 0 in array.shape:
        return False
    return array.ndim == 3 or array.shape[-1] in (1, 3, 4) or array.shape[1] in (1, 3, 4)


def _channels_first(images: Array) -> bool:
    return images.ndim == 4 and images.shape[-1] not in (1, 3, 4)


def _range(path: Path, images: Array) -> tuple[float, float]:
    """The values of black and white. Raises BadInput."""
    if images.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind == "f" and low >= -1 and high <= 1:
        return (-1.0, 1.0) if low < 0 else (0.0, 1.0)
    if low >= 0 and high <= 255:
        return 0.0, 255.0
    raise BadInput(f"data.root={path}: values from {low:g} to {high:g}; must be 0 to 255, or in [0, 1] or [-1, 1]")


def _columns(arrays: Mapping[str, Array]) -> dict[str, list[str]]:
    """Columns of texts: of (N, K) one for each K."""
    found: dict[str, list[str]] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            found[name] = _texts(array)
        elif array.ndim == 2 and array.shape[1] <= MAX_TEXTS:
            found |= {f"{name}_{k}": _texts(array[:, k]) for k in range(array.shape[1])}
    return found


def _texts(values: Array) -> list[str]:
    """Values as they would stand in a table; few whole numbers other than 0 and 1 are classes."""
    if values.dtype.kind in "iu" and 2 < len(np.unique(values)) <= MAX_TEXTS:
        return [f"class {value}" for value in values.tolist()]
    if values.dtype.kind == "b":
        return [str(int(value)) for value in values.tolist()]
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]
