"""A folder (or archive) of pictures of faces, as a person keeps them or `faceforge cut` leaves them."""

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
PEOPLE_FROM = 8  # fewer sub-folders than this are sets (smile/, sad/), not people


class _Told(NamedTuple):
    verdict: str
    person: str
    same_as: str


class Crops(Files):
    """Pictures at any depth. Hidden files and ``_review`` folders do not count.

    ``identity`` says whose face a picture is: ``folder`` the first sub-folder, ``name`` what stands before a
    last ``_0001``, ``file`` nobody's but its own. ``auto`` takes folders where there are at least eight; fewer
    are sets of pictures, and each becomes an attribute. A ``manifest.csv`` of `faceforge cut` is obeyed: only
    accepted faces count, also those that still lie in ``_review``, and whom it names as one person or as near
    duplicates is one identity. Raises BadInput where there are no pictures, or the manifest makes no sense.
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
        names = {_face(name): name for name in image_names(_listed(store, verdicts), store.root)}
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
        """One 0/1 column a set; None where folders are people or there are none."""
        if not self.sets:
            return None
        member = [[folder == name for name in self.sets] for folder in self.folders]
        return self.sets, np.array(member, dtype=np.float32)


def _verdicts(store: FileStore) -> dict[str, _Told]:
    """What a manifest at the top of the store says of each face."""
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
    """The pictures in place, and accepted ones whose crops have not been moved there yet."""
    listed = set(store.names())
    absent = [face for face, row in verdicts.items() if row.verdict == "accepted" and face not in listed]
    waiting = [f"{REVIEW}/{verdict}/{face}" for face in absent for verdict in manifest.VERDICTS]
    return [*listed, *(name for name in waiting if isinstance(store, Folder) and store.file(name).is_file())]


def _face(name: str) -> str:
    return name.split("/", 2)[2] if name.startswith(f"{REVIEW}/") else name


def _known_as(face: str, row: _Told | None, same: set[str]) -> str | None:
    """Whose face the manifest says it is; near duplicates go by the name of the one that is kept."""
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
