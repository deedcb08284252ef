"""A folder (or archive) of face images, or the output of `faceforge cut`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from faceforge.data.layout import PEOPLE_FROM, Layout, understand
from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput
from faceforge.io import manifest, tables
from faceforge.io.archives import FileStore, Folder, image_names, open_store
from faceforge.io.attributes import Attributes, merge, read_dataset_json
from faceforge.io.images import ImageError
from faceforge.io.kinds import what_is

__all__ = ["PEOPLE_FROM", "REVIEW", "Crops"]

REVIEW = "_review"
DATASET_JSON = "dataset.json"
TOLD = ("face", "source", "n", "verdict", "reason", "person", "same_as")  # columns of a manifest


class _Told(NamedTuple):
    folder: str  # of the manifest
    face: str
    verdict: str
    person: str
    same_as: str


class Crops(Files):
    """Images at any depth. Hidden files, folders of systems and ``_review`` folders are ignored.

    Folders that hold everything and numbered shards are looked through; ``train``, ``val`` and ``test`` are an official
    split. ``identity`` defines the person of an image: ``folder`` the first sub-folder below these, ``name`` the file
    name before a final ``_0001``, ``file`` each image its own person. ``auto`` is folder if there are at least eight
    sub-folders; fewer are labels, and each becomes an attribute. A ``dataset.json`` of StyleGAN2-ADA gives labels too.
    A ``manifest.csv`` of `faceforge cut` is followed: only accepted faces are used, also those still in ``_review``,
    and faces it marks as one person or as near duplicates share an identity. Raises BadInput if there are no images or
    a manifest is invalid.
    """

    name = "crops"
    remembered = True

    def __init__(
        self,
        root: str | None,
        identity: Literal["auto", "folder", "name", "file"] = "auto",
        cache: str | None = None,
    ) -> None:
        store = open_store(root, cache)
        listed = store.names()
        manifests = _manifests(store, listed)
        told = _Verdicts({folder + face: row for folder, rows in manifests.items() for face, row in rows.items()})
        reviewed = told.reviewed(store)
        names = {_face(name): name for name in image_names(store, [*listed, *told.waiting(reviewed, listed)])}
        _require_faces(store.root, manifests, names, reviewed)
        kept = [face for face in names if told.accept(face)]
        self.verdicts = Counter(row.verdict for rows in manifests.values() for row in rows.values())
        if not kept:
            raise BadInput(f"data.root={root}: its manifest accepts no face; change verdicts in manifest.csv")
        self.layout = layout = understand(kept, manifests)
        people = [told.person(face, layout.outer) for face in kept]
        people = [one or other for one, other in zip(people, _people(layout, identity), strict=True)]
        order = sorted(range(len(kept)), key=layout.ids.__getitem__)
        self.folders = [layout.folders[n] for n in order]
        self.sets = layout.sets if identity != "folder" else []
        faces = [Face(layout.ids[n], people[n], layout.splits[n]) for n in order]
        super().__init__(store, [names[kept[n]] for n in order], faces)
        self._labels = self._labelled(listed)

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """One 0/1 column per set, and the labels of a ``dataset.json``; None if there are neither."""
        if not self.sets:
            return self._labels
        member = [[folder == name for name in self.sets] for folder in self.folders]
        return merge((self.sets, np.array(member, dtype=np.float32)), self._labels)

    def _labelled(self, listed: Sequence[str]) -> Attributes | None:
        """The labels of the outermost ``dataset.json``, as StyleGAN2-ADA writes it. Raises BadInput."""
        tables = [name for name in listed if name.rpartition("/")[2] == DATASET_JSON]
        if not tables:
            return None
        table = min(tables, key=lambda name: name.count("/"))
        above, where = table[: -len(DATASET_JSON)], f"{self.store.root}/{table}"
        try:
            labels = read_dataset_json(self.store.read(table), [n.removeprefix(above) for n in self.names], where)
        except ImageError as error:
            raise BadInput(f"{where}: {error}") from error
        if labels:
            known = int((~np.isnan(labels[1])).any(1).sum())
            self.told.append(f"{where}: {known:,} of {len(self.names):,} images have labels")
        return labels


def _people(layout: Layout, identity: str) -> list[str | None]:
    if identity == "auto":
        return layout.people
    if identity == "folder":
        return layout.folders
    numbered = [re.fullmatch(r"(.+)_\d+", PurePosixPath(face).stem) for face in layout.ids]
    return [found[1] if identity == "name" and found else None for found in numbered]


# -------------------------------------------------------------------------------------------------- manifests


class _Verdicts:
    """The faces of manifests by name; a name is also found in another Unicode form, case or format."""

    def __init__(self, rows: dict[str, _Told]) -> None:
        self._rows = rows
        self._plain = {tables.plain(face): row for face, row in rows.items()}
        self._same = {row.same_as for row in rows.values()}

    def _row(self, face: str) -> _Told | None:
        return (self._rows.get(face) or self._plain.get(tables.plain(face))) if self._rows else None

    def accept(self, face: str) -> bool:
        """Whether a face is used: one that is in no manifest is."""
        row = self._row(face)
        return row is None or row.verdict == "accepted"

    def person(self, face: str, outer: str) -> str | None:
        """The identity in the manifest; near duplicates have that of the kept face."""
        row = self._row(face)
        name = row and (row.person or row.same_as or (face if face in self._same else None))
        return name.removeprefix(outer) if name else None

    def reviewed(self, store: FileStore) -> list[str]:
        """The files in the ``_review`` folders of the manifests."""
        if not isinstance(store, Folder) or not self._rows:
            return []
        places = [f"{f}{REVIEW}/{v}" for f in {row.folder for row in self._rows.values()} for v in manifest.VERDICTS]
        return [f"{place}/{name}" for place in places for name in Folder(store.file(place)).names()]

    def waiting(self, reviewed: Sequence[str], listed: Sequence[str]) -> list[str]:
        """Accepted faces whose crops are still in ``_review``."""
        present = {tables.plain(name) for name in listed} if reviewed else set()
        return [n for n in reviewed if self._accepted(_face(n)) and tables.plain(_face(n)) not in present]

    def _accepted(self, face: str) -> bool:
        row = self._row(face)
        return row is not None and row.verdict == "accepted"


def _manifests(store: FileStore, listed: Sequence[str]) -> dict[str, dict[str, _Told]]:
    """The faces of every manifest in the store, by its folder, which ends in a slash."""
    files = [name for name in listed if name.rpartition("/")[2].lower() == manifest.NAME]
    rows = {name[: -len(manifest.NAME)]: _read_manifest(store, name) for name in files}
    return {folder: found for folder, found in rows.items() if found is not None}


def _read_manifest(store: FileStore, name: str) -> dict[str, _Told] | None:
    """The faces of a manifest, None if the file is a table of another program. Raises BadInput if it is no table."""
    where, folder = f"{store.root}/{name}", name[: -len(manifest.NAME)]
    try:
        with store.file(name).open("rb") if isinstance(store, Folder) else BytesIO(store.read(name)) as file:
            rows = tables.first_rows(file)
            if not manifest.is_one(rows):
                return _require_another(rows, where, file.read(512))
            found: dict[str, _Told] = {}
            for row in manifest.parse(file, where, TOLD):
                if row.face in found and row.n:
                    raise BadInput(f"{where}: {row.face} has two rows; keep one of them")
                if row.n:
                    found[row.face] = _told(folder, row)
            return found
    except (OSError, ImageError) as error:
        raise BadInput(f"{where}: cannot be read as text ({error})") from error


def _require_another(rows: Sequence[Sequence[str]], where: str, head: bytes) -> None:
    """Raises BadInput if a file with the name of a manifest is no table of any program: it may have been a manifest."""
    if not manifest.is_another(rows):
        raise BadInput(f"{where}: no table of faces ({what_is(head)}); must be as `faceforge cut` wrote it, or renamed")


def _require_faces(
    root: Path, manifests: Mapping[str, Collection[str]], names: Collection[str], reviewed: Sequence[str]
) -> None:
    """Raises BadInput if a manifest names no image of its folder, since its verdicts would be lost."""
    present = {tables.plain(name) for name in [*names, *map(_face, reviewed)]} if manifests else set()
    for folder, faces in manifests.items():
        beside = next((name.removeprefix(folder) for name in names if name.startswith(folder)), None)
        if faces and beside and present.isdisjoint(tables.plain(folder + face) for face in faces):
            where, example = f"{root}/{folder}{manifest.NAME}", f"{tables.shown(next(iter(faces)))}, {beside}"
            raise BadInput(f"{where}: no row names an image of its folder ({example}); correct or remove the manifest")


def _told(folder: str, row: manifest.Row) -> _Told:
    below = [folder + name if name else "" for name in (row.person, row.same_as)]
    return _Told(folder, row.face, row.verdict, *below)


def _face(name: str) -> str:
    """The name of a crop without ``_review`` and the verdict."""
    before, review, after = f"/{name}".partition(f"/{REVIEW}/")
    return f"{before}/{after.partition('/')[2]}".removeprefix("/") if review else name
