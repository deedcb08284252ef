"""CelebA (Liu et al. 2015, arXiv 1411.7766), in every layout in which it is distributed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from faceforge.data.layout import SPLITS
from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput
from faceforge.io import tables
from faceforge.io.archives import IMAGES, FileStore, Folder, find_tables, image_names, open_store
from faceforge.io.attributes import Attributes
from faceforge.io.tables import Images, Line

ZIPS = ("img_align_celeba.zip", "img_celeba_dataset.zip")  # the official one, and the published GAN's
TABLES = ("list_attr_celeba", "identity_CelebA", "list_eval_partition")
WANTED = tuple(f"{stem}.{ending}" for ending in ("txt", "csv") for stem in TABLES)
FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba_dataset")  # the first that is there is read
PARTITION = {"0": "train", "1": "val", "2": "test", **SPLITS}
NUMBERED = re.compile(r"(.*/)?\d{6}\.(jpg|png)", re.IGNORECASE)


class Celeba(Files):
    """The official folder or zip, the published project's zip, or any folder of CelebA's images.

    The tables ``list_attr_celeba``, ``identity_CelebA`` and ``list_eval_partition`` (.txt, or .csv as Kaggle has them)
    are read from the same folder or from those around it. Without them faces have no attributes, identity or official
    split. ``told`` says how many images each table matched. Raises BadInput for a table that cannot be read or that
    names none of the images.
    """

    name = "celeba"
    remembered = True
    tables = WANTED

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        place = open_store(root, cache)
        listed = place.names()
        store = _pictures(place, listed)
        names = _aligned(image_names(store, listed if store is place else store.names()))
        images = Images(_ids(names))
        found = _tables(root, place, listed)
        people = _read(found.get("identity_CelebA"), _single, images)
        splits = _read(found.get("list_eval_partition"), _partition, images)
        flags = _read(found.get("list_attr_celeba"), _flags, images)
        faces = [Face(*face) for face in zip(images.ids, people.of_images, splits.of_images, strict=True)]
        super().__init__(store, names, faces)
        self.told = [told for table in (people, splits, flags) for told in table.told]
        self._attributes = None
        if flags.told:
            unknown = np.full(len(flags.names), np.nan, dtype=np.float32)
            self._attributes = flags.names, np.stack([unknown if row is None else row for row in flags.of_images])

    def attributes(self) -> Attributes | None:
        """CelebA's 40 names and (N, 40) values 0 or 1, nan for images that are not in the table."""
        return self._attributes


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _pictures(place: FileStore, listed: list[str]) -> FileStore:
    """The official zip within a folder, unless its images lie there too."""
    zips = [name for name in listed if _base(name).lower() in ZIPS]
    images = [name for name in listed if name.lower().endswith(IMAGES)]
    unpacked = _aligned(images) != images or sum(map(bool, map(NUMBERED.fullmatch, images))) > len(images) / 2
    if isinstance(place, Folder) and zips and not unpacked:
        return open_store(place.file(zips[0]), None)
    return place


def _aligned(names: list[str]) -> list[str]:
    inside = {folder: [n for n in names if folder in n.lower().split("/")[:-1]] for folder in FOLDERS}
    return next((official for official in inside.values() if official), names)


def _ids(names: list[str]) -> list[str]:
    """The file name without folders, as in the tables, if all file names are different."""
    short = [_base(name) for name in names]
    return short if max(Counter(short).values()) == 1 else names


# ---------------------------------------------------------------------------------------------------- tables

T = TypeVar("T")
Parse = Callable[[list[Line]], tuple[list[str], Sequence[T | None]]]  # the names of columns, and a value for each row
Table = tuple[str, list[Line]]  # how it is called in messages, and its rows


@dataclass(frozen=True)
class _Read(Generic[T]):
    """What a table says of each image; None for an image that is not in it."""

    of_images: Sequence[T | None]
    names: list[str] = field(default_factory=list)  # of the columns
    told: list[str] = field(default_factory=list)  # how many images were matched; empty without the table


def _tables(root: str | None, place: FileStore, listed: list[str]) -> dict[str, Table]:
    """The tables found, in the dataset itself or around it."""
    files = find_tables(root, place, listed, WANTED)
    found: dict[str, Table] = {}
    for name, data in files.items():
        stem = name.rpartition(".")[0]
        if stem not in found:
            where = f"{root}: {name}"
            found[stem] = where, tables.read(data, where)
    return found


def _read(
    table: Table | None, parse: Callable[[list[Line]], tuple[list[str], Sequence[T]]], images: Images
) -> _Read[T]:
    """Parse a table and give each image its row. Raises BadInput."""
    if table is None:
        return _Read([None] * len(images.ids))
    where, lines = table
    try:
        names, values = parse(lines)
    except ValueError as error:
        raise BadInput(f"{where}: {error}; get a new copy of the file") from error
    rows = lines[len(lines) - len(values) :]
    match = images.match([cells[0] for _, cells in rows], where, [cells for _, cells in rows])
    of_images: list[T | None] = [None] * len(images.ids)
    for value, place in zip(values, match.places, strict=True):
        if place >= 0:
            of_images[place] = value
    return _Read(of_images, names, [match.told(where.rpartition(": ")[2])])


def _flags(lines: list[Line]) -> tuple[list[str], list[np.ndarray]]:
    """The names of the attributes and each row's values as float32 (40,)."""
    if len(lines) < 2:
        raise ValueError("must have a line of names and one per image")
    (_, header), *rows = lines
    names = header[1:] if len(header) == len(rows[0][1]) else header
    values = []
    for line, (picture, *cells) in rows:
        if len(cells) != len(names):
            raise ValueError(
                f"{len(cells)} values for {tables.shown(picture)}, must be {len(names)} per image (line {line})"
            )
        try:
            values.append(np.array([_flag(cell) for cell in cells], dtype=np.float32))
        except ValueError:
            column = next(n for n, cell in enumerate(cells) if not _is_flag(cell))
            right = "must be 1, -1, 0, true or false"
            raise ValueError(f"line {line}: {names[column]} is {cells[column]!r}; {right}") from None
    return names, values


@lru_cache(maxsize=1024)
def _flag(text: str) -> float:
    value = tables.number(text)
    if value is None or (value not in (-1, 0, 1) and not np.isnan(value)):
        raise ValueError
    return max(value, 0.0) if value == value else value


def _is_flag(text: str) -> bool:
    try:
        return _flag(text) is not None
    except ValueError:
        return False


def _single(lines: list[Line]) -> tuple[list[str], list[str | None]]:
    """Each image's person; a first row whose second cell is no number is a header."""
    rows = lines[1:] if lines and not lines[0][1][-1].replace(".", "").isdigit() else lines
    for line, (picture, *cells) in rows:
        if len(cells) != 1:
            raise ValueError(f"{len(cells)} values for {tables.shown(picture)}, must be 1 per image (line {line})")
    return [], [re.sub(r"\.0+$", "", cells[1]) or None for _, cells in rows]


def _partition(lines: list[Line]) -> tuple[list[str], list[str | None]]:
    """Each image's official split."""
    rows = lines[1:] if lines and lines[0][1][-1].lower() not in PARTITION else lines
    _, values = _single([(0, ["", "0"]), *rows])
    for (line, _), value in zip(rows, values[1:], strict=True):
        if value is not None and value.lower() not in PARTITION:
            raise ValueError(f"line {line}: the partition is {value!r}; must be 0, 1 or 2")
    return [], [value and PARTITION[value.lower()] for value in values[1:]]
