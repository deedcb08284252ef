"""What is known of a source's files: their digests by time stamps, and the whole source while no file has changed.

Both are notes beside the packed caches. Without them only time is lost: files are listed, understood and read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from faceforge.data.sources.base import Face, Files, Source
from faceforge.errors import BadInput
from faceforge.io.archives import FileStore, around, known_hashes
from faceforge.io.attributes import Attributes
from faceforge.io.files import atomic_path
from faceforge.io.images import ImageError
from faceforge.io.storage import cache_root, places_for_notes
from faceforge.io.workers import in_order, warm

MANY = 8192  # faces from which a second process pays off
FRESH_SECONDS = 2.0  # a file changed this recently may change again within its timestamp's resolution
CODE = Path(__file__).parents[1]  # what files mean may change with it
NOTHING = "\x01"  # in place of None
HANDLES = os.scandir in os.supports_fd


@dataclass(frozen=True)
class Listing:
    """A source, the digest of each face, and one for all."""

    source: Source
    digests: Sequence[str]
    manifest: str


def sha256(value: object) -> str:
    """SHA-256 (hex) of plain data written as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def manifest_of(source: Source, digests: Sequence[str]) -> str:
    """One SHA-256 for all faces: their ids, bytes, people and official splits."""
    total = hashlib.sha256()
    for face, digest in zip(source.faces, digests, strict=True):
        total.update("\x1f".join([face.id, digest, face.identity or "", face.split or ""]).encode() + b"\n")
    return total.hexdigest()


def listing_of(make: Callable[..., Source], root: str | None, cache: str | None, progress: bool) -> Listing:
    """The source ``make(root=root)`` with its digests; remembered while no file below or around it has changed.

    ``cache`` is data.cache. Raises BadInput.
    """
    state = _state(make, root)
    for place in _places(state, cache) if state else ():
        if state and (remembered := _recalled(place, state, cache)):
            return remembered
    source = make(root=root)
    digests = digests_of(source, cache_root(cache), progress)
    listing = Listing(source, digests, manifest_of(source, digests))
    if state and isinstance(source, Files) and state == _state(make, root):
        _remember(_places(state, cache), state, source, listing)
    return listing


def _places(state: _State, cache: str | None) -> list[Path]:
    return [place / "digests" / f"{state.name}.npz" for place in places_for_notes(cache_root(cache))]


# ----------------------------------------------------------------------------------- the state of all files


@dataclass(frozen=True)
class _State:
    kind: type[Files]
    name: str  # of the source: its class, its parameters and where it lies
    stamps: str  # a hash of all files' names and stamps


def _state(make: Callable[..., Source], root: str | None) -> _State | None:
    """The state of everything the source depends on; None if that is not known, or changed a moment ago."""
    kind = make.func if isinstance(make, partial) else make
    if root is None or not (isinstance(kind, type) and issubclass(kind, Files) and kind.remembered):
        return None
    given = make.keywords if isinstance(make, partial) else {}
    places = kind.places(root)
    files, total = _Stamps(), hashlib.sha256(_code())
    try:
        for place in places:
            files.add_all(place) if place.is_dir() else files.add(str(place), place.stat())
        for path in (path for name in kind.tables for path in around(root, name) if path.is_file()):
            files.add(str(path), path.stat())
    except (OSError, _LinkedFolder):
        return None
    if files.newest() > time.time() - FRESH_SECONDS:
        return None
    total.update("\0".join(files.names).encode("utf-8", "surrogateescape"))
    total.update(files.numbers)
    about = [kind.__module__, kind.__qualname__, *(str(place.resolve()) for place in places)]
    key = sha256([*about, {name: value for name, value in given.items() if name != "cache"}])
    return _State(kind, f"{kind.name}-{key[:16]}", total.hexdigest())


class _LinkedFolder(Exception):
    """A link to a folder: what is behind it may change without a trace here."""


class _Stamps:
    """Names and stamps of files, in the order in which they were found."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers = array("q")  # bytes, modified, changed

    def add(self, name: str, status: os.stat_result) -> None:
        self.names.append(name)
        self.numbers.extend((status.st_size, status.st_mtime_ns, status.st_ctime_ns))

    def newest(self) -> float:
        """When the last of them changed, in seconds."""
        return float(np.frombuffer(self.numbers, np.int64).reshape(-1, 3)[:, 1:].max(initial=0)) / 1e9

    def add_all(self, folder: Path) -> None:
        """Every file below a folder, hidden ones too: one call of the system for each, and one for each folder."""
        waiting, root, names, numbers = [""], f"{folder}/", self.names, self.numbers
        while waiting:
            above = waiting.pop()
            # by a handle, from which the system finds each file faster than by its whole path
            opened = os.open(root + above, os.O_RDONLY) if HANDLES else -1
            try:
                with os.scandir(opened if HANDLES else root + above) as entries:
                    for entry in entries:
                        if not entry.is_dir():  # as add(), whose call would take as long as the system's
                            status = entry.stat()
                            names.append(above + entry.name)
                            numbers.extend((status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                        elif entry.is_symlink():
                            raise _LinkedFolder
                        else:
                            waiting.append(f"{above}{entry.name}/")
            finally:
                if HANDLES:
                    os.close(opened)


def _code() -> bytes:
    """The code that decides what files mean."""
    files = sorted(path for part in ("data", "io") for path in (CODE / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()


# --------------------------------------------------------------------------------------- the whole source


class Remembered(Files):
    """A source as it was understood before; its files are read as before."""

    def __init__(self, notes: _Notes, store: FileStore) -> None:
        plain = notes.plain
        self.name, self.told, self.store = plain["name"], plain["told"], store
        self.names: Sequence[str] = notes.text("names")
        self.faces = list(map(Face, notes.text("ids"), notes.known("people"), notes.known("splits")))
        self._left_out = Counter(plain["left_out"])
        self._attributes = None if plain["columns"] is None else (plain["columns"], notes.attributes)

    @cached_property
    def known(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The hashes of the store, read when they are needed."""
        return known_hashes(self.store)

    def left_out(self) -> Counter[str]:
        """As Files.left_out."""
        return self._left_out

    def attributes(self) -> Attributes | None:
        """As Source.attributes."""
        return self._attributes


class _Notes:
    """A source on disk, as arrays without objects: texts one after the other, numbers, and the rest as JSON."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.plain: dict[str, Any] = json.loads(arrays["plain"].tobytes())
        self.attributes = arrays["attributes"]

    def text(self, name: str) -> list[str]:
        """A column of texts."""
        whole = self._arrays[name].tobytes().decode("utf-8", "surrogateescape")
        return whole.split("\0")

    def known(self, name: str) -> list[str | None]:
        """A column of texts, None where there is none."""
        if not np.any(self._arrays[name] == ord(NOTHING)):
            return [*self.text(name)]
        return [None if text == NOTHING else text for text in self.text(name)]


def _column(texts: Iterator[str | None]) -> np.ndarray:
    found = [NOTHING if text is None else text for text in texts]
    whole = "\0".join(found)
    if whole.count("\0") != len(found) - 1:
        raise ValueError("a text holds what lies between texts")
    return np.frombuffer(whole.encode("utf-8", "surrogateescape"), dtype=np.uint8)


def _remember(places: Sequence[Path], state: _State, source: Files, listing: Listing) -> None:
    """Write the notes into the first place that can be written."""
    attributes = source.attributes()
    plain = {
        "state": state.stamps,
        "name": source.name,
        "store": str(source.store.root),
        "told": source.told,
        "left_out": source.left_out(),
        "columns": attributes and attributes[0],
        "manifest": listing.manifest,
    }
    try:
        arrays = {
            "plain": np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8),
            "names": _column(iter(source.names)),
            "ids": _column(face.id for face in source.faces),
            "people": _column(face.identity for face in source.faces),
            "splits": _column(face.split for face in source.faces),
            "digests": _column(iter(listing.digests)),
            "attributes": np.zeros(0, np.float32) if attributes is None else attributes[1],
        }
    except ValueError:
        return
    for place in places:
        with suppress(OSError), atomic_path(place) as beside, beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            return


def _recalled(place: Path, state: _State, cache: str | None) -> Listing | None:
    """The listing from its notes; None if there are none, of another state, or damaged."""
    try:
        with np.load(place, allow_pickle=False) as file:
            notes = _Notes({name: file[name] for name in file.files})
            if notes.plain["state"] != state.stamps:
                return None
            source = Remembered(notes, state.kind.reopened(Path(notes.plain["store"]), cache))
            digests = notes.text("digests")
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, BadInput):
        return None
    return Listing(source, digests, notes.plain["manifest"])


# ---------------------------------------------------------------------- digests, remembered by time stamps


def digests_of(source: Source, root: Path, progress: bool) -> list[str]:
    """The digest of every face; files unchanged since the last read are not read again."""
    if not isinstance(source, Files):
        return [source.digest(n) for n in range(len(source.faces))]
    name = f"{source.name}-{sha256(str(source.store.root.resolve()))[:16]}.json"
    places = [place / "digests" / name for place in places_for_notes(root)]
    known = next((notes for notes in map(_read_notes, places) if notes), {})
    stamps = [_stamp(source.store, name) for name in source.names]
    keys = [f"{name}:{stamp}" for name, (stamp, _) in zip(source.names, stamps, strict=True)]
    missing = [n for n, key in enumerate(keys) if key not in known]
    now = time.time()
    if len(missing) >= MANY:
        warm()
    found = in_order(partial(_digests, source), missing)
    silent = None if progress else True
    bar = tqdm(found, "checking files", len(missing), unit=" files", delay=2, disable=silent)
    fresh = dict(zip(missing, bar, strict=True))
    digests = [fresh[n] if n in fresh else known[key] for n, key in enumerate(keys)]
    if missing:
        settled = [n for n, (_, changed) in enumerate(stamps) if changed < now - FRESH_SECONDS]
        _write_notes(places, {keys[n]: digests[n] for n in settled})
    return digests


def _stamp(store: FileStore, name: str) -> tuple[str, float]:
    try:
        status = store.status(name)
    except OSError:
        return "gone", time.time()
    changed = max(status.st_mtime, status.st_ctime)
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}", changed


def _digests(source: Source, span: Sequence[int]) -> list[str]:
    return [_digest(source, index) for index in span]


def _digest(source: Source, index: int) -> str:
    try:
        return source.digest(index)
    except ImageError as error:  # packing lists it with the same reason
        return f"unreadable: {error}"


def _read_notes(path: Path) -> dict[str, str]:
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write_notes(places: Sequence[Path], notes: dict[str, str]) -> None:
    """Write into the first place that can be written."""
    for place in places:
        with suppress(OSError), atomic_path(place) as beside:
            beside.write_text(json.dumps(notes), encoding="utf-8")
            return
