"""`faceforge cut --prune`: finds photos that are gone from SRC and removes everything kept of them.

A photo that is gone cannot be cut again. A folder that cannot be listed, or that is empty like the mount point of an
unmounted disk, therefore counts as unread, never as gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from faceforge.cut import identity_clusters
from faceforge.cut.journal import Journal
from faceforge.cut.panel import DEFAULT_FOLDER
from faceforge.cut.work import REVIEW, face_name, place, thumb
from faceforge.errors import BadInput
from faceforge.io import manifest
from faceforge.io.archives import FileStore, Folder
from faceforge.io.files import atomic_path
from faceforge.io.manifest import VERDICTS

JSON_FILES = identity_clusters.NAME, "photos.jsonl", "edits.json", "recut.json"
ATOMIC_FILES = (*JSON_FILES, manifest.NAME, f"next-{manifest.NAME}")


@dataclass(frozen=True, slots=True)
class Gone:
    """Recorded photos that are no longer in SRC, and folders of recorded photos that could not be read."""

    names: list[str]
    unread: list[str]


def find(store: FileStore, names: Sequence[str], journal: Journal) -> Gone:
    """The recorded photos that are gone from ``store``; ``names`` is its earlier listing."""
    candidates = set(journal.names()).difference(names)
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


def require_whole(store: FileStore, gone: Gone, journal: Journal) -> None:
    """Raise BadInput if photos may be missing only because part of SRC could not be read."""
    end = "nothing was removed"
    if gone.unread:
        folder = store.root / gone.unread[0]
        if isinstance(store, Folder) and _is_empty(folder):
            raise BadInput(f"--prune: {folder} is empty; mount its disk or remove the folder; {end}")
        raise BadInput(f"--prune: {folder} cannot be listed; all of SRC must be readable; {end}")
    if gone.names and len(gone.names) == len(journal):
        known = f"none of the {len(journal)} photos cut before"
        raise BadInput(f"--prune: {store.root} holds {known}; mount its disk or choose another DST; {end}")


def count_faces(journal: Journal, names: Iterable[str]) -> int:
    """The number of faces in some recorded photos."""
    return sum(row.n > 0 for name in names for row in journal.photo(name).rows)


def remove(target: Path, journal: Journal, names: Sequence[str]) -> None:
    """Remove everything kept of some recorded photos; the journal drops them last, so that a kill loses none."""
    review = target / REVIEW
    paths = [path for name in names for row in journal.photo(name).rows if row.n for path in _files(target, row.face)]
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        _remove_empty(folder, target)
    known = {_without_number(face_name(name, 1)) for name in set(journal.names()).difference(names)}
    for path in (review / "edits.json", review / "recut.json"):
        if path.exists():
            _keep_faces(path, known)
    if (review / identity_clusters.NAME).exists():
        with closing(identity_clusters.Descriptions(review / identity_clusters.NAME)) as described:
            described.keep(lambda face: _without_number(face) in known)
    for name in names:
        journal.forget(name)
    journal.settle()


def sweep(target: Path) -> None:
    """Remove the temporary files of killed cuts in ``target``. The caller must hold the lock."""
    for folder in (target, target / REVIEW):
        for name in ATOMIC_FILES:
            for path in folder.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)


def _files(target: Path, face: str) -> Iterator[Path]:
    """All files of a face: crops, thumbnail, panels of the filters."""
    yield thumb(target, face)
    yield target / DEFAULT_FOLDER / face
    for verdict in VERDICTS:
        yield place(target, face, verdict)
        yield place(target / DEFAULT_FOLDER, face, verdict)


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
    """The common part of the names of all faces of a photo."""
    return face.rpartition("-")[0]


# ---------------------------------------------------------------------------------------------------- folders of SRC


def _below(root: Path, folder: str | None) -> str:
    """The path of a folder relative to ``root``; "" for ``root`` itself and for None."""
    inside = os.path.relpath(folder, root) if folder else "."
    return "" if inside == "." else inside


def _inside(name: str, folder: str) -> bool:
    return not folder or name.startswith(f"{folder}/")


def _folders(names: Sequence[str]) -> set[str]:
    """All parent folders of some files, except the root."""
    return {str(folder) for name in names for folder in PurePosixPath(name).parents} - {"."}


def _is_empty(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is None
    except OSError:
        return False
