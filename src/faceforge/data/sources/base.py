"""The interface of data sources: a list of faces with pixels, identities and attributes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol
from unicodedata import normalize

import numpy as np

from faceforge.io.archives import known_hashes, open_store, pictures
from faceforge.io.images import decode

if TYPE_CHECKING:
    from faceforge.io.archives import FileStore


@dataclass(frozen=True, slots=True)
class Face:
    """One image: its id in the source, its identity, and its official split if the dataset has one."""

    id: str
    identity: str | None = None
    split: str | None = None  # "train", "val" or "test"


class Source(Protocol):
    """Faces in a stable order. A constructor takes ``root`` and its own explicit parameters."""

    name: str

    @property
    def faces(self) -> Sequence[Face]:
        """Every face of the dataset, sorted by id."""
        ...

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Face ``index`` as uint8 (H, W, 3) RGB or (H, W) grey.

        ``size`` (height, width) is used by drawn faces and ignored by files. Raises ImageError if a file
        cannot be decoded correctly.
        """
        ...

    def digest(self, index: int) -> str:
        """SHA-256 (hex) of the file's bytes, or of the definition of a drawn face."""
        ...

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """Names and float32 (N, A) values, 0 or 1, nan if unknown; None if the dataset has no attributes."""
        ...


class Painted:
    """A source that paints its faces, and can paint one again with one attribute more and all else the same."""

    changes: ClassVar[tuple[str, ...]] = ()  # the attributes of which it knows what causes them

    def changed(self, index: int, attribute: str, size: tuple[int, int]) -> np.ndarray:
        """Face ``index`` as it would be with an attribute of ``changes``: uint8 (height, width, 3) RGB."""
        raise NotImplementedError


class Paired:
    """A source in which some faces are the inputs of others: they are never targets, nor counted."""

    @property
    def inputs(self) -> np.ndarray:
        """The index of each face's input, int64 (N,); -1 for faces that are inputs."""
        raise NotImplementedError


class Files:
    """A source whose faces are image files: face i is the file ``names[i]``.

    ``told`` says how many images each table of the dataset matched. If the store has a ``SHA256SUMS``, the files
    that it lists are verified when read. A class whose faces depend on nothing but its parameters, the files below
    ``root`` and the ``tables`` around it may set ``remembered``: it is then not built again while these are unchanged.
    """

    name = "files"
    remembered: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ()

    def __init__(self, store: FileStore, names: Sequence[str], faces: Sequence[Face]) -> None:
        self.store = store
        self.names = names
        self.known = known_hashes(store)
        self.told: list[str] = []
        self.faces = [_readable(face) for face in faces]

    @classmethod
    def places(cls, root: str) -> list[Path]:
        """The files and folders that ``root`` names."""
        return [Path(root).expanduser()]

    @classmethod
    def reopened(cls, root: Path, cache: str | None) -> FileStore:
        """The store whose root is ``root``. Raises BadInput."""
        return open_store(root, cache)

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The decoded image in its own size: uint8 (H, W, 3) or (H, W). Raises ImageError."""
        name = self.names[index]
        return decode(self.store.read(name), name, sha256=self.known.get(name))

    def digest(self, index: int) -> str:
        """SHA-256 of the file's bytes. Raises ImageError if it cannot be read."""
        return hashlib.sha256(self.store.read(self.names[index])).hexdigest()

    def left_out(self) -> Counter[str]:
        """How many pictures of each kind are in the store but cannot be read here."""
        return pictures(self.store, self.store.names())[1]

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """None: an image file has no attributes."""
        return None


def _readable(face: Face) -> Face:
    """The face with valid UTF-8 names in composed form: names on disk may have any encoding and form."""
    if face.id.isascii() and (face.identity or "").isascii():
        return face
    return replace(face, id=_text(face.id), identity=face.identity and _text(face.identity))


def _text(name: str) -> str:
    return normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
