"""Labeled Faces in the Wild (Huang et al. 2007, UMass TR 07-49), from a folder or its original archives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput
from faceforge.io.archives import find_tables, image_names, open_store

TABLE = "lfw_attributes.txt"


class Lfw(Files):
    """``Name/Name_0001.jpg`` at any depth, of a folder, lfw.tgz, lfw-deepfunneled.tgz or a zip of them.

    The identity is the person's name. Attributes come from ``lfw_attributes.txt`` (Kumar et al., ICCV 2009) if it is
    in the dataset or next to it. Raises BadInput if no file has this layout, or an image is present twice.
    """

    name = "lfw"

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        store = open_store(root, cache)
        listed = store.names()
        found = {name: face for name in image_names(store, listed) if (face := face_of(name))}
        if not found:
            raise BadInput(f"data.root={root}: no Name/Name_0001.jpg; use data=crops for other folders of images")
        twice = [face for face, count in Counter(face.id for face in found.values()).items() if count > 1]
        if twice:
            raise BadInput(f"data.root={root}: holds {twice[0]} more than once; name one copy of the dataset")
        names = sorted(found, key=lambda name: found[name].id)
        super().__init__(store, names, [found[name] for name in names])
        table = find_tables(root, store, listed, [TABLE]).get(TABLE)
        self._attributes = None if table is None else read_table(f"{root}: {TABLE}", table, self.faces)

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """The 73 names and (N, 73) values: 1 where the classifier's decision value is above 0, else 0; or None."""
        return self._attributes


def face_of(name: str) -> Face | None:
    """The face of a file with LFW's layout, ``.../Name/Name_0001.jpg``; else None."""
    path = PurePosixPath(name)
    person, _, number = path.stem.rpartition("_")
    if not person or not number.isdigit() or path.parent.name != person:
        return None
    return Face(f"{person}/{path.name}", person)


def read_table(where: str, data: bytes, faces: Sequence[Face]) -> tuple[list[str], np.ndarray]:
    """The attributes of ``faces`` as float32 (N, A), 0 or 1, nan if the file has no row for a face.

    Lines of tab-separated values: person, image number, decision values; a line starting with ``#`` names them. Names
    get underscores (``Black_Hair``), as in CelebA. Raises BadInput naming ``where``.
    """
    names: list[str] = []
    rows: dict[str, np.ndarray] = {}
    for line, text in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        cells = [cell.strip() for cell in text.strip("# \t").split("\t")]
        if text.startswith("#"):
            names = [name.replace(" ", "_") for name in cells[2:]] if cells[0] == "person" else names
        elif text.strip():
            picture, values = _row(cells)
            if not names or len(values) != len(names):
                right = f"must be person, imagenum and {len(names)} values" if names else "no line names the columns"
                raise BadInput(f"{where}: line {line}: {' '.join(cells)[:40]!r}: {right}; get a new copy")
            rows[picture] = values
    if not rows:
        raise BadInput(f"{where}: no rows; get a new copy")
    unknown = np.full(len(names), np.nan, dtype=np.float32)
    values = [rows.get(PurePosixPath(face.id).stem, unknown) for face in faces]
    return names, np.array(values, dtype=np.float32).reshape(len(faces), len(names))


def _row(cells: list[str]) -> tuple[str, np.ndarray]:
    """An image's name and its values; no values if the row is invalid."""
    try:
        values = np.array(cells[2:], dtype=np.float32)
        return f"{cells[0].replace(' ', '_')}_{int(cells[1]):04d}", np.where(np.isnan(values), values, values > 0)
    except (ValueError, IndexError):
        return "", np.zeros(0, dtype=np.float32)
