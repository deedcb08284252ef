"""What a data source is: a list of faces, each of which can be read, told apart and described."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from faceforge.io.archives import known_hashes
from faceforge.io.images import decode

if TYPE_CHECKING:
    from faceforge.io.archives import FileStore


@dataclass(frozen=True, slots=True)
class Face:
    """One picture: its id in the source, whose face it is, and its official split where the set has one."""

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
        """Face ``index`` as uint8 (H, W, 3) RGB or (H, W) grey.

        ``size`` is (height, width), a wish that drawn faces fulfil and files ignore. Raises ImageError where
        a file cannot be read rightly.
        """
        ...

    def digest(self, index: int) -> str:
        """SHA-256 (hex) of the file's bytes, or of what defines a drawn face."""
        ...

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """Names and float32 (N, A) values, 0 or 1, nan where unknown; None where the set has none."""
        ...


class Files:
    """A source whose faces are picture files: each face is the file of the same place in ``names``.

    Where the store holds a ``SHA256SUMS``, a file that it lists is read only with the bytes that it names.
    """

    name = "files"

    def __init__(self, store: FileStore, names: Sequence[str], faces: Sequence[Face]) -> None:
        self.store = store
        self.names = names
        self.known = known_hashes(store)
        self.faces = [_readable(face) for face in faces]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The decoded picture in its own size: uint8 (H, W, 3) or (H, W). Raises ImageError."""
        name = self.names[index]
        return decode(self.store.read(name), name, sha256=self.known.get(name))

    def digest(self, index: int) -> str:
        """SHA-256 of the file's bytes. Raises ImageError where there are none."""
        return hashlib.sha256(self.store.read(self.names[index])).hexdigest()

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """None: a picture file has no attributes of its own."""
        return None


def _readable(face: Face) -> Face:
    """The face with names that can be written down: a disk may hold file names in any old encoding."""
    if face.id.isascii() and (face.identity or "").isascii():
        return face
    return replace(face, id=_text(face.id), identity=face.identity and _text(face.identity))


def _text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
