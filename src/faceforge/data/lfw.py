"""Labeled Faces in the Wild (Huang et al. 2007, UMass TR 07-49), from a folder or its original archives."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from faceforge.data.archives import image_names, open_store
from faceforge.data.sources import Face, Files
from faceforge.errors import BadInput


class Lfw(Files):
    """``Name/Name_0001.jpg`` at any depth, of a folder, lfw.tgz, lfw-deepfunneled.tgz or a zip of them.

    The identity is the person's name. Raises BadInput where nothing is laid out so, or a picture lies there
    twice.
    """

    name = "lfw"

    def __init__(self, root: str | None, cache: str | None = None) -> None:
        store = open_store(root, cache)
        found = {name: face for name in image_names(store.names(), store.root) if (face := _face(name))}
        if not found:
            raise BadInput(f"data.root={root}: no Name/Name_0001.jpg; any folder of pictures is data=crops")
        twice = [face for face, count in Counter(face.id for face in found.values()).items() if count > 1]
        if twice:
            raise BadInput(f"data.root={root}: holds {twice[0]} more than once; name one copy of the set")
        names = sorted(found, key=lambda name: found[name].id)
        super().__init__(store, names, [found[name] for name in names])


def _face(name: str) -> Face | None:
    path = PurePosixPath(name)
    person, _, number = path.stem.rpartition("_")
    if not person or not number.isdigit() or path.parent.name != person:
        return None
    return Face(f"{person}/{path.name}", person)
