"""The packed cache: every face once, as uint8 (N, C, H, W) in one file, keyed by protocol and source files.

A cache is written into a folder next to its final path, synced and renamed, under a lock: other processes see all of
it or nothing. Its bytes do not depend on the number of processes that packed it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from faceforge.data.framing import RESIZE, frame, protocol_name
from faceforge.data.sources.base import Files, Source
from faceforge.errors import BadInput
from faceforge.io.archives import FileStore
from faceforge.io.files import atomic_path, sync
from faceforge.io.images import DECODE, ImageError
from faceforge.io.portable import Held, locked
from faceforge.io.workers import in_order, warm

BUFFER = 2**20  # bytes per write: processes wait for each other at the file
MANY = 8192  # faces from which a second process pays off
FRESH_SECONDS = 2.0  # a file changed this recently may change again within its timestamp's resolution


@dataclass(frozen=True)
class Recipe:
    """The processing of an image on its way into the packed cache."""

    crop: str
    size: tuple[int, int]
    channels: int

    @property
    def bytes(self) -> int:
        """The shape of one face."""
        return self.channels * self.size[0] * self.size[1]

    def protocol(self, source: str) -> dict[str, Any]:
        """Its name (celeba-c140-64x64x3) and steps as plain data; caches with equal protocols are comparable."""
        name = protocol_name(source, self.crop, self.size, self.channels)
        steps = {"name": name, "source": source, "decode": DECODE, "crop": self.crop, "resize": RESIZE}
        return {**steps, "size": list(self.size), "channels": self.channels}


class Packed:
    """A packed cache on disk. Each process maps the array on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._array: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_array": None}

    @property
    def array(self) -> np.ndarray:
        """Read-only uint8 (N, C, H, W)."""
        array = self._array
        if array is None:
            array = self._array = np.load(self.folder / "faces.npy", mmap_mode="r")
        return array

    def skipped(self) -> list[tuple[str, str]]:
        """Id and reason of every face that could not be read."""
        with (self.folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
            return [(row[0], row[1]) for row in islice(csv.reader(file), 1, None)]


def sha256(value: object) -> str:
    """SHA-256 (hex) of plain data written as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def manifest_of(source: Source, digests: Sequence[str]) -> str:
    """One SHA-256 for all faces: their ids, bytes, people and official splits."""
    total = hashlib.sha256()
    for face, digest in zip(source.faces, digests, strict=True):
        total.update("\x1f".join([face.id, digest, face.identity or "", face.split or ""]).encode() + b"\n")
    return total.hexdigest()


def pack(source: Source, recipe: Recipe, root: Path, digests: Sequence[str], progress: bool) -> Packed:
    """The packed cache of ``source`` below ``root``, packed now if missing. Raises BadInput."""
    protocol = recipe.protocol(source.name)
    target = root / f"{protocol['name']}-{sha256([protocol, manifest_of(source, digests)])[:16]}"
    if not _sound(target):
        with _locked(target):
            if not _sound(target):
                _write(source, recipe, target, digests, progress)
    return Packed(target)


def _sound(folder: Path) -> bool:
    try:
        return len(Packed(folder).array) > 0 and (folder / "skipped.csv").is_file()
    except (OSError, ValueError, EOFError):
        return False


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / f".{target.name}.lock", wait=True):
        _sweep(target.parent)
        yield


def _sweep(root: Path) -> None:
    """Remove unfinished folders of killed processes: those whose locks are free."""
    for left_over in root.glob(".*.tmp"):
        with suppress(Held), locked(left_over.with_suffix(".lock")):
            shutil.rmtree(left_over, ignore_errors=True)


def _write(source: Source, recipe: Recipe, target: Path, digests: Sequence[str], progress: bool) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    for damaged in (temporary, target):
        shutil.rmtree(damaged, ignore_errors=True)
    needed = len(source.faces) * recipe.bytes
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise BadInput(f"data.cache={target.parent}: {needed:,} bytes are needed, {free:,} are free")
    try:
        temporary.mkdir()
        _fill(temporary, source, recipe, digests, progress)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise BadInput(f"data.cache={target.parent}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: Path, source: Source, recipe: Recipe, digests: Sequence[str], progress: bool) -> None:
    """Write and sync faces.npy, manifest.csv, skipped.csv and protocol.json."""
    faces = folder / "faces.npy"
    faces.write_bytes(_header(0, recipe))
    reasons = list(_packed(Packing(source, recipe, faces), progress))
    skipped = [(face.id, reason) for face, reason in zip(source.faces, reasons, strict=True) if reason]
    if len(skipped) == len(reasons):
        raise BadInput(f"data.root: {refusal(skipped, len(skipped))}")
    kept = [n for n, reason in enumerate(reasons) if not reason]
    _close_gaps(faces, kept, recipe)
    rows = [(f.id, digests[n], f.identity or "", f.split or "") for n in kept for f in [source.faces[n]]]
    _write_csv(folder / "manifest.csv", ("id", "sha256", "identity", "split"), rows)
    _write_csv(folder / "skipped.csv", ("id", "reason"), skipped)
    (folder / "protocol.json").write_text(json.dumps(recipe.protocol(source.name), indent=1) + "\n")
    for path in [*folder.iterdir(), folder]:
        sync(path)


def _close_gaps(faces: Path, kept: Sequence[int], recipe: Recipe) -> None:
    """Move the existing faces to the front and write their number into the header."""
    with faces.open("r+b") as file:
        start = file.write(_header(len(kept), recipe))
        for place, n in enumerate(kept):
            if place < n:
                file.seek(start + n * recipe.bytes)
                face = file.read(recipe.bytes)
                file.seek(start + place * recipe.bytes)
                file.write(face)
        file.truncate(start + len(kept) * recipe.bytes)


def refusal(skipped: Sequence[tuple[str, str]], total: int) -> str:
    """A sentence: how many images could not be used, and the first few with reasons."""
    first = "; ".join(f"{face}: {reason}" for face, reason in skipped[:3])
    return f"{len(skipped)} of {total} images ({len(skipped) / total:.0%}) cannot be used ({first})"


def _header(count: int, recipe: Recipe) -> bytes:
    """The header of a .npy file; its length does not depend on ``count``: numpy reserves room for a larger one."""
    shape = (count, recipe.channels, *recipe.size)
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])


# ------------------------------------------------------------------------------------------ packing, in order


@dataclass(frozen=True)
class Packing:
    """Packs faces into the file ``faces``, which starts with its header; each face has a fixed offset."""

    source: Source
    recipe: Recipe
    faces: Path

    def pack(self, span: Sequence[int]) -> list[str | None]:
        """Write consecutive faces; zeros, and the reason, for each unreadable one."""
        reasons = []
        with self.faces.open("r+b", buffering=BUFFER) as file:
            file.seek(len(_header(0, self.recipe)) + span[0] * self.recipe.bytes)
            for n in span:
                face = self._face(n)
                file.write(bytes(self.recipe.bytes) if isinstance(face, str) else face.data)
                reasons.append(face if isinstance(face, str) else None)
        return reasons

    def _face(self, n: int) -> np.ndarray | str:
        """A face, or the reason why it is unusable."""
        try:
            pixels = self.source.read(n, self.recipe.size)
            return frame(pixels, self.recipe.crop, self.recipe.size, self.recipe.channels)
        except ImageError as error:
            return str(error)


def _packed(packing: Packing, progress: bool) -> Iterator[str | None]:
    """The outcome for every face in order."""
    everyone = range(len(packing.source.faces))
    outcomes = in_order(packing.pack, everyone)
    yield from tqdm(outcomes, "packing faces", len(everyone), unit=" faces", disable=None if progress else True)


# ---------------------------------------------------------------------- digests, remembered by time stamps


def digests_of(source: Source, root: Path, progress: bool) -> list[str]:
    """The digest of every face; files unchanged since the last read are not read again."""
    if not isinstance(source, Files):
        return [source.digest(n) for n in range(len(source.faces))]
    notes = root / "digests" / f"{source.name}-{sha256(str(source.store.root.resolve()))[:16]}.json"
    known = _read_notes(notes)
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
        _write_notes(notes, {keys[n]: digests[n] for n in settled})
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


def _write_notes(path: Path, notes: dict[str, str]) -> None:
    with suppress(OSError), atomic_path(path) as beside:  # without these notes only speed is lost
        beside.write_text(json.dumps(notes), encoding="utf-8")
