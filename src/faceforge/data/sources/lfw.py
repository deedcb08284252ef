"""Labeled Faces in the Wild (Huang et al. 2007, UMass TR 07-49), from a folder or its original archives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput
from faceforge.io import tables
from faceforge.io.archives import find_tables, image_names, open_store

WANTED = ("lfw_attributes.txt", "lfw_attributes.csv")


class Lfw(Files):
    """``Name/Name_0001.jpg`` at any depth, of a folder, lfw.tgz, lfw-deepfunneled.tgz or a zip of them.

    The identity is the person's name. Attributes come from ``lfw_attributes.txt`` (Kumar et al., ICCV 2009) if it is
    in the dataset or next to it. Raises BadInput if no file has this layout, or an image is present twice.
    """

    name = "lfw"
    remembered = True
    tables = WANTED

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
        self._attributes = None
        for table, data in list(find_tables(root, store, listed, WANTED).items())[:1]:
            self._attributes = read_table(f"{root}: {table}", data, self.faces, self.told)

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


def read_table(
    where: str, data: bytes, faces: Sequence[Face], told: list[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """The attributes of ``faces`` as float32 (N, A), 0 or 1, nan if the file has no row for a face.

    Each row has a person, an image number and decision values; the line that starts with ``person``, after an optional
    ``#``, names them. Names get underscores (``Black_Hair``), as in CelebA. ``told`` receives how many faces were
    matched. Raises BadInput naming ``where``.
    """
    names: list[str] = []
    rows: list[tuple[str, np.ndarray]] = []
    for line, row in tables.read(data, where):
        cells = [cell.strip("# ") for cell in row[not row[0].strip("# ") and len(row) > 1 :]]
        if cells[0].lower() == "person":
            names = [name.replace(" ", "_") for name in cells[2:]]
        elif not row[0].startswith("#"):
            picture, values = _row(cells)
            if not names or len(values) != len(names):
                right = f"must be person, imagenum and {len(names)} values" if names else "no line names the columns"
                raise BadInput(f"{where}: line {line}: {' '.join(cells)[:40]!r}: {right}; get a new copy")
            rows.append((picture, values))
    if not rows:
        raise BadInput(f"{where}: no rows; get a new copy")
    match = tables.Images([face.id for face in faces]).match([name for name, _ in rows], where)
    values = np.full((len(faces), len(names)), np.nan, dtype=np.float32)
    for (_, found), place in zip(rows, match.places, strict=True):
        if place >= 0:
            values[place] = found
    if told is not None:
        told.append(match.told(where.rpartition(": ")[2]))
    return names, values


def _row(cells: list[str]) -> tuple[str, np.ndarray]:
    """An image's name and its values; no values if the row is invalid."""
    try:
        picture = f"{cells[0].replace(' ', '_')}_{int(cells[1]):04d}"
    except (ValueError, IndexError):
        return "", np.zeros(0, dtype=np.float32)
    numbers = [value for cell in cells[2:] if (value := tables.decimal(cell)) is not None]
    values = np.array(numbers, dtype=np.float32)
    return picture, np.where(np.isnan(values), values, values > 0)
