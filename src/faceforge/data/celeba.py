"""CelebA (Liu et al. 2015, arXiv 1411.7766), in every layout in which it is handed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from faceforge.data.archives import Folder, Store, Zip, image_names, open_store
from faceforge.data.sources import Face, Files
from faceforge.errors import BadInput
from faceforge.images import ImageError

ZIPS = ("img_align_celeba.zip", "img_celeba_dataset.zip")  # the official one, and the published GAN's
FOLDERS = ("img_align_celeba", "img_celeba_dataset")
SPLITS = {"0": "train", "1": "val", "2": "test"}


class Celeba(Files):
    """The official folder or zip, the published project's zip, or any folder of CelebA's jpgs.

    The tables ``list_attr_celeba``, ``identity_CelebA`` and ``list_eval_partition`` (.txt, or .csv as Kaggle
    has them) are taken from the same place or beside the zip. Without them faces have no attributes, identity
    or official split. Raises BadInput for a table that cannot be read.
    """

    name = "celeba"

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        place = open_store(root, cache)
        store = _pictures(place)
        names = _aligned(image_names(store.names(), store.root))
        ids = _ids(names)
        tables = _tables([place, store])
        people, partition = tables.get("identity_CelebA"), tables.get("list_eval_partition")
        faces = [Face(i, _value(people, i), SPLITS.get(_value(partition, i) or "")) for i in ids]
        self._attributes = tables.get("list_attr_celeba")
        super().__init__(store, names, faces)

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """CelebA's 40 names and (N, 40) values 0 or 1, nan for a picture that the table lacks."""
        if self._attributes is None:
            return None
        columns, rows = self._attributes
        values = np.full((len(self.faces), len(columns)), np.nan, dtype=np.float32)
        for n, face in enumerate(self.faces):
            if face.id in rows:
                values[n] = [_ATTRIBUTE_VALUES.get(text, np.nan) for text in rows[face.id]]
        return columns, values


_ATTRIBUTE_VALUES = {"1": 1.0, "-1": 0.0, "0": 0.0}
Table = tuple[list[str], dict[str, list[str]]]


def _pictures(place: Store) -> Store:
    if not isinstance(place, Folder):
        return place
    names = place.names()
    zips = [name for name in names if PurePosixPath(name).name in ZIPS]
    if zips and not any(name.lower().endswith(".jpg") for name in names):
        return open_store(place.root / zips[0], None)
    return place


def _aligned(names: list[str]) -> list[str]:
    official = [name for name in names if set(FOLDERS) & set(PurePosixPath(name).parts[:-1])]
    return official or names


def _ids(names: list[str]) -> list[str]:
    """The file's name alone, by which the tables know it, where that tells all pictures apart."""
    short = [PurePosixPath(name).name for name in names]
    return short if max(Counter(short).values()) == 1 else names


def _tables(stores: Sequence[Store]) -> dict[str, Table]:
    """Every table found: in the stores, or in the folder that holds a zip."""
    beside = [Folder(store.root.parent) for store in stores if isinstance(store, Zip)]
    found: dict[str, Table] = {}
    for store, names in [(s, s.names()) for s in stores] + [(s, _top_files(s.root)) for s in beside]:
        for name in names:
            stem, ending = PurePosixPath(name).stem, PurePosixPath(name).suffix
            if stem in _PARSERS and ending in (".txt", ".csv") and stem not in found:
                found[stem] = _parse(store, name, stem)
    return found


def _top_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _parse(store: Store, name: str, stem: str) -> Table:
    """Column names and the row of each picture, from CelebA's spaces or Kaggle's commas."""
    where = f"{store.root}/{name}"
    try:
        data = store.read(name)
    except ImageError as error:
        raise BadInput(f"{where}: {error}") from error
    lines = [line.replace(",", " ").split() for line in data.decode("utf-8", "replace").splitlines()]
    columns, rows = _PARSERS[stem]([line for line in lines if line])
    wrong = [picture for picture, row in rows.items() if len(row) != len(columns)]
    if not rows or wrong:
        found = f"{len(rows[wrong[0]])} values for {wrong[0]}" if wrong else "no rows"
        raise BadInput(f"{where}: {found}, {len(columns)} a picture are right; take a fresh copy of the file")
    return columns, rows


def _attribute_rows(lines: list[list[str]]) -> Table:
    lines = lines[1:] if lines and len(lines[0]) == 1 else lines  # the official file begins with a count
    header = [name for name in lines[0] if name != "image_id"] if lines else []
    return header, {line[0]: line[1:] for line in lines[1:]}


def _single_rows(lines: list[list[str]]) -> Table:
    return ["value"], {line[0]: line[1:] for line in lines if line[0] != "image_id"}


_PARSERS = {
    "list_attr_celeba": _attribute_rows,
    "identity_CelebA": _single_rows,
    "list_eval_partition": _single_rows,
}


def _value(table: Table | None, name: str) -> str | None:
    row = table[1].get(name) if table else None
    return row[0] if row else None
