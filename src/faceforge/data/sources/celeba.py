"""CelebA (Liu et al. 2015, arXiv 1411.7766), in every layout in which it is distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput
from faceforge.io.archives import IMAGES, FileStore, Folder, find_tables, image_names, open_store

ZIPS = ("img_align_celeba.zip", "img_celeba_dataset.zip")  # the official one, and the published GAN's
ENDINGS = ("txt", "csv")
FOLDERS = {"img_align_celeba", "img_celeba_dataset"}
SPLITS = {"0": "train", "1": "val", "2": "test"}
VALUES = {"1": 1.0, "-1": 0.0, "0": 0.0}


class Celeba(Files):
    """The official folder or zip, the published project's zip, or any folder of CelebA's jpgs.

    The tables ``list_attr_celeba``, ``identity_CelebA`` and ``list_eval_partition`` (.txt, or .csv as Kaggle
    has them) are read from the same folder or its parent. Without them faces have no attributes, identity
    or official split. Raises BadInput for a table that cannot be read.
    """

    name = "celeba"

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        place = open_store(root, cache)
        listed = place.names()
        store = _pictures(place, listed)
        names = _aligned(image_names(store, listed if store is place else store.names()))
        ids = _ids(names)
        tables = _tables(root, place, listed)
        people, partition = tables.get("identity_CelebA", {}), tables.get("list_eval_partition", {})
        faces = [Face(i, people.get(i), SPLITS.get(partition.get(i, ""))) for i in ids]
        self._attributes = _in_order(tables["list_attr_celeba"], ids) if "list_attr_celeba" in tables else None
        super().__init__(store, names, faces)

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """CelebA's 40 names and (N, 40) values 0 or 1, nan for images that are not in the table."""
        return self._attributes


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _pictures(place: FileStore, listed: list[str]) -> FileStore:
    zips = [name for name in listed if _base(name) in ZIPS]
    if isinstance(place, Folder) and zips and not any(name.lower().endswith(IMAGES) for name in listed):
        return open_store(place.file(zips[0]), None)
    return place


def _aligned(names: list[str]) -> list[str]:
    official = [name for name in names if not FOLDERS.isdisjoint(name.split("/")[:-1])]
    return official or names


def _ids(names: list[str]) -> list[str]:
    """The file name without folders, as in the tables, if all file names are different."""
    short = [_base(name) for name in names]
    return short if max(Counter(short).values()) == 1 else names


# ---------------------------------------------------------------------------------------------------- tables

Rows = Iterator[list[str]]


def _tables(root: str | None, place: FileStore, listed: list[str]) -> dict[str, dict[str, Any]]:
    """The tables found, by image: in the dataset itself, or in its parent folder."""
    files = find_tables(root, place, listed, [f"{stem}.{ending}" for ending in ENDINGS for stem in _PARSERS])
    found: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        stem = name.rpartition(".")[0]
        if stem not in found:
            found[stem] = _parse(f"{root}: {name}", data, _PARSERS[stem])
    return found


def _parse(where: str, data: bytes, parser: Callable[[Rows], dict[str, Any]]) -> dict[str, Any]:
    """Parse a table with CelebA's spaces or Kaggle's commas."""
    lines = data.decode("utf-8", "replace").splitlines()
    try:
        return parser(row for line in lines if (row := line.replace(",", " ").split()))
    except ValueError as error:
        raise BadInput(f"{where}: {error}; get a new copy of the file") from error


def _parse_attributes(rows: Rows) -> dict[str, Any]:
    """Each image's values as float32 (40,); the names are under the empty key."""
    header = next(rows, [])
    header = next(rows, []) if len(header) == 1 else header  # the official file starts with a count
    names = [name for name in header if name != "image_id"]
    table: dict[str, Any] = {"": names}
    for picture, *values in rows:
        if len(values) != len(names):
            raise ValueError(f"{len(values)} values for {picture}, must be {len(names)} per image")
        table[picture] = np.array([VALUES.get(value, np.nan) for value in values], dtype=np.float32)
    return table


def _parse_single(rows: Rows) -> dict[str, Any]:
    """Each image's single value."""
    table = {}
    for picture, *values in rows:
        if len(values) != 1:
            raise ValueError(f"{len(values)} values for {picture}, must be 1 per image")
        table[picture] = values[0]
    return table


_PARSERS = {
    "list_attr_celeba": _parse_attributes,
    "identity_CelebA": _parse_single,
    "list_eval_partition": _parse_single,
}


def _in_order(table: dict[str, Any], ids: list[str]) -> tuple[list[str], np.ndarray]:
    unknown = np.full(len(table[""]), np.nan, dtype=np.float32)
    return table[""], np.stack([table.get(i, unknown) for i in ids])
