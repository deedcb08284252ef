"""Photos that were taken out of SRC: which they are, and how all that was kept of them is removed.

Nothing can be cut again from a photo that is gone, so a folder that could not be listed, or that is empty as an
unmounted disk is, counts as unread and never as gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from faceforge.cut import identity_clusters
from faceforge.cut.journal import Memory
from faceforge.cut.panel import HOME
from faceforge.cut.work import REVIEW, face_name, place, thumb
from faceforge.errors import BadInput
from faceforge.io import manifest
from faceforge.io.archives import FileStore, Folder
from faceforge.io.files import atomic_path
from faceforge.io.manifest import VERDICTS

KEPT = (identity_clusters.NAME, "photos.jsonl", "edits.json", "recut.json", manifest.NAME, f"next-{manifest.NAME}")


@dataclass(frozen=True, slots=True)
class Gone:
    """Known photos that SRC does not hold any more, and folders of known photos that could not be read."""

    names: list[str]
    unread: list[str]


def find(store: FileStore, names: Sequence[str], memory: Memory) -> Gone:
    """What is gone from ``store``, of which ``names`` were listed before."""
    candidates = set(memory.names()).difference(names)
    if not candidates:
        return Gone([], [])
    failed: list[OSError] = []
    present = store.names(failed.append) if isinstance(store, Folder) else store.names()
    missing = sorted(candidates.difference(present))
    unread = {_below(store.root, error.filename) for error in failed}
    if isinstance(store, Folder):
        unread |= {folder for folder in _folders(missing) if _is_empty(store.file(folder))}
    unread = {folder for folder in unread if any(_inside(name, folder) for name in missing)}
    return Gone([n for n in missing if not any(_inside(n, folder) for folder in unread)], sorted(unread))


def require_whole(store: FileStore, gone: Gone, memory: Memory) -> None:
    """Raise BadInput where photos may be missing only because SRC could not be read whole."""
    end = "nothing was removed"
    if gone.unread:
        folder = store.root / gone.unread[0]
        if isinstance(store, Folder) and _is_empty(folder):
            raise BadInput(f"--prune: {folder} is empty; mount its disk, or remove the empty folder; {end}")
        raise BadInput(f"--prune: {folder} cannot be listed; all of SRC must be readable; {end}")
    if gone.names and len(gone.names) == len(memory):
        known = f"none of the {len(memory)} photos cut before"
        raise BadInput(f"--prune: {store.root} holds {known}; mount its disk, or name another DST; {end}")


def count_faces(memory: Memory, names: Iterable[str]) -> int:
    """How many faces were found in some known photos."""
    return sum(row.n > 0 for name in names for row in memory.photo(name).rows)


def remove(target: Path, memory: Memory, names: Sequence[str]) -> None:
    """Remove all that was kept of some known photos; ``memory`` forgets them last, so a kill loses no track of any."""
    review = target / REVIEW
    paths = [path for name in names for row in memory.photo(name).rows if row.n for path in _files(target, row.face)]
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        _remove_empty(folder, target)
    known = {_without_number(face_name(name, 1)) for name in set(memory.names()).difference(names)}
    for path in (review / "edits.json", review / "recut.json"):
        if path.exists():
            _keep_faces(path, known)
    if (review / identity_clusters.NAME).exists():
        with closing(identity_clusters.Descriptions(review / identity_clusters.NAME)) as described:
            described.keep(lambda face: _without_number(face) in known)
    for name in names:
        memory.forget(name)
    memory.settle()


def sweep(target: Path) -> None:
    """Remove what kills left half written in ``target``: faces may be described in it. Only for who holds the lock."""
    for folder in (target, target / REVIEW):
        for name in KEPT:
            for path in folder.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)


def _files(target: Path, face: str) -> Iterator[Path]:
    """All places in which a face may lie: crops, thumbnail, panels of the filters."""
    yield thumb(target, face)
    yield target / HOME / face
    for verdict in VERDICTS:
        yield place(target, face, verdict)
        yield place(target / HOME, face, verdict)


def _remove_empty(folder: Path, target: Path) -> None:
    with suppress(OSError):
        while folder not in (target, target / REVIEW):
            folder.rmdir()
            folder = folder.parent


def _keep_faces(path: Path, known: set[str]) -> None:
    kept = {face: value for face, value in json.loads(path.read_text()).items() if _without_number(face) in known}
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(kept, indent=0, sort_keys=True))


def _without_number(face: str) -> str:
    """What the names of all faces of one photo have in common."""
    return face.rpartition("-")[0]


# ---------------------------------------------------------------------------------------------------- folders of SRC


def _below(root: Path, folder: str | None) -> str:
    """A folder by its name below ``root``, "" for ``root`` itself and where it is not known."""
    inside = os.path.relpath(folder, root) if folder else "."
    return "" if inside == "." else inside


def _inside(name: str, folder: str) -> bool:
    return not folder or name.startswith(f"{folder}/")


def _folders(names: Sequence[str]) -> set[str]:
    """All folders above some files, but for the root."""
    return {str(folder) for name in names for folder in PurePosixPath(name).parents} - {"."}


def _is_empty(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is None
    except OSError:
        return False
