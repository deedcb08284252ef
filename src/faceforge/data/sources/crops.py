"""A folder (or archive) of face images, or the output of `faceforge cut`."""

from __future__ import annotations

import re
from io import BytesIO, TextIOWrapper
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput
from faceforge.io import manifest
from faceforge.io.archives import FileStore, Folder, image_names, open_store
from faceforge.io.images import ImageError

REVIEW = "_review"
PEOPLE_FROM = 8  # fewer sub-folders than this are labels (smile/, sad/), not people


class _Told(NamedTuple):
    verdict: str
    person: str
    same_as: str


class Crops(Files):
    """Images at any depth. Hidden files and ``_review`` folders are ignored.

    ``identity`` defines the person of an image: ``folder`` the first sub-folder, ``name`` the file name before a final
    ``_0001``, ``file`` each image its own person. ``auto`` is folder if there are at least eight sub-folders; fewer are
    labels, and each becomes an attribute. A ``manifest.csv`` of `faceforge cut` is followed: only accepted faces are
    used, also those still in ``_review``, and faces it marks as one person or as near duplicates share an identity.
    Raises BadInput if there are no images or the manifest is invalid.
    """

    name = "crops"

    def __init__(
        self,
        root: str | None,
        identity: Literal["auto", "folder", "name", "file"] = "auto",
        cache: str | None = None,
    ) -> None:
        store = open_store(root, cache)
        verdicts = _verdicts(store)
        names = {_face(name): name for name in image_names(store, _listed(store, verdicts))}
        dropped = {face for face, row in verdicts.items() if row.verdict != "accepted"}
        faces = sorted(face for face in names if face not in dropped)
        if not faces:
            raise BadInput(f"data.root={root}: its manifest accepts no face; change verdicts in manifest.csv")
        self.folders = [_first_folder(face) for face in faces]
        distinct = {folder for folder in self.folders if folder}
        if identity == "auto":
            identity = "folder" if len(distinct) >= PEOPLE_FROM else "file"
        self.sets = sorted(distinct) if identity != "folder" and 2 <= len(distinct) < PEOPLE_FROM else []
        same = {row.same_as for row in verdicts.values()}
        people = [_known_as(face, verdicts.get(face), same) or _person(face, identity) for face in faces]
        found = [Face(face, person) for face, person in zip(faces, people, strict=True)]
        super().__init__(store, [names[face] for face in faces], found)

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """One 0/1 column per sub-folder; None if sub-folders are people or there are none."""
        if not self.sets:
            return None
        member = [[folder == name for name in self.sets] for folder in self.folders]
        return self.sets, np.array(member, dtype=np.float32)


def _verdicts(store: FileStore) -> dict[str, _Told]:
    """The rows of a manifest at the top of the store."""
    if manifest.NAME not in store.names():
        return {}
    where = f"{store.root}/{manifest.NAME}"
    try:
        whole = isinstance(store, Folder)
        file = store.file(manifest.NAME).open("rb") if whole else BytesIO(store.read(manifest.NAME))
        with TextIOWrapper(file, "utf-8-sig", newline="") as text:
            if not manifest.is_one(text.readline()):
                return {}
            text.seek(0)
            return {r.face: _Told(r.verdict, r.person, r.same_as) for r in manifest.parse(text, where) if r.n}
    except (OSError, ImageError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: cannot be read as text ({error})") from error


def _listed(store: FileStore, verdicts: dict[str, _Told]) -> list[str]:
    """The images in place, and accepted ones whose crops are still in ``_review``."""
    listed = set(store.names())
    absent = [face for face, row in verdicts.items() if row.verdict == "accepted" and face not in listed]
    waiting = [f"{REVIEW}/{verdict}/{face}" for face in absent for verdict in manifest.VERDICTS]
    return [*listed, *(name for name in waiting if isinstance(store, Folder) and store.file(name).is_file())]


def _face(name: str) -> str:
    return name.split("/", 2)[2] if name.startswith(f"{REVIEW}/") else name


def _known_as(face: str, row: _Told | None, same: set[str]) -> str | None:
    """The identity in the manifest; near duplicates have that of the kept face."""
    if row is None:
        return None
    return row.person or row.same_as or (face if face in same else None)


def _first_folder(name: str) -> str | None:
    folder, slash, _ = name.partition("/")
    return folder if slash else None


def _person(name: str, identity: str) -> str | None:
    if identity == "folder":
        return _first_folder(name)
    numbered = re.fullmatch(r"(.+)_\d+", PurePosixPath(name).stem)
    return numbered[1] if identity == "name" and numbered else None
