"""A folder (or archive) of pictures of faces, as a person keeps them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from faceforge.data.archives import image_names, open_store
from faceforge.data.sources import Face, Files

PEOPLE_FROM = 8  # fewer sub-folders than this are sets (smile/, sad/), not people


class Crops(Files):
    """Pictures at any depth. Hidden files and ``_review`` folders do not count.

    ``identity`` says whose face a picture is: ``folder`` the first sub-folder, ``name`` what stands before a
    last ``_0001``, ``file`` nobody's but its own. ``auto`` takes folders where there are at least eight; fewer
    are sets of pictures, and each becomes an attribute. Raises BadInput where there are no pictures.
    """

    name = "crops"

    def __init__(
        self,
        root: str | None,
        identity: Literal["auto", "folder", "name", "file"] = "auto",
        cache: str | None = None,
    ) -> None:
        store = open_store(root, cache)
        names = image_names(store.names(), store.root)
        self.folders = [_first_folder(name) for name in names]
        distinct = {folder for folder in self.folders if folder}
        if identity == "auto":
            identity = "folder" if len(distinct) >= PEOPLE_FROM else "file"
        self.sets = sorted(distinct) if identity != "folder" and 2 <= len(distinct) < PEOPLE_FROM else []
        super().__init__(store, names, [Face(name, _person(name, identity)) for name in names])

    def attributes(self) -> tuple[list[str], np.ndarray] | None:
        """One 0/1 column a set; None where folders are people or there are none."""
        if not self.sets:
            return None
        member = [[folder == name for name in self.sets] for folder in self.folders]
        return self.sets, np.array(member, dtype=np.float32)


def _first_folder(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    return parts[0] if len(parts) > 1 else None


def _person(name: str, identity: str) -> str | None:
    if identity == "folder":
        return _first_folder(name)
    numbered = re.fullmatch(r"(.+)_\d+", PurePosixPath(name).stem)
    return numbered[1] if identity == "name" and numbered else None
