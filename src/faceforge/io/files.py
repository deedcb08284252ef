"""Atomic file writes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from faceforge.io.portable import HOST, NO_SYNC, is_alive, warn_once

TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)\.tmp")
HOST_KEY = hashlib.sha256(HOST.encode()).hexdigest()[:8]  # short, because file names have a maximum length
MOST_BYTES = 255  # of a file name, on nearly every file system
UNKNOWN_SECONDS = 86_400  # age at which other machines' temporary files are removed


def sync(path: Path) -> None:
    """Sync a file or folder to disk. A file system that cannot is named once on stderr; other errors name the path."""
    folder = path.is_dir()
    try:
        _sync(path, os.O_RDWR if os.name == "nt" and not folder else os.O_RDONLY)  # Windows syncs only writable files
    except OSError as error:
        if error.errno not in NO_SYNC | ({errno.EACCES} if folder else set()):
            raise OSError(error.errno, error.strerror, str(path)) from error
        if os.name != "nt":
            inside = [path, *path.parents] if folder else path.parents
            place = next(p for p in inside if p.suffix != ".tmp")
            warn_once(
                ("sync", path.stat().st_dev),
                f"{place}: this file system cannot sync to disk; a power failure may lose what was written last",
            )


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary(target: Path) -> Path:
    """A hidden name next to ``target`` that contains the writing process and machine."""
    ending = f".{HOST_KEY}-{os.getpid()}.tmp"
    return target.with_name("." + short_name(target.name, most=MOST_BYTES - 1 - len(ending)) + ending)


def short_name(name: str, suffix: str = "", most: int = MOST_BYTES) -> str:
    """The name plus a suffix; if that is longer than file systems allow, its end becomes a hash, so names differ."""
    whole = os.fsencode(name)
    if len(whole) + len(os.fsencode(suffix)) <= most:
        return name + suffix
    kept = whole[: most - len(os.fsencode(suffix)) - 9].decode("utf-8", "ignore")
    return f"{kept}~{hashlib.sha256(whole).hexdigest()[:8]}{suffix}"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path next to ``target`` to write to; at the end it is synced and renamed, on an error removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary(target)
    try:
        yield beside
        sync(beside)
        beside.replace(target)
        sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove files of ``temporary`` left in ``folder`` by killed processes, and old ones of other machines."""
    for orphan in folder.glob(".*.tmp"):
        if not _may_be_written(orphan):
            orphan.unlink(missing_ok=True)


def _may_be_written(path: Path) -> bool:
    known = TEMPORARY.fullmatch(path.name)
    if known and known[1] == HOST_KEY:
        return int(known[2]) != os.getpid() and is_alive(int(known[2]))
    try:
        return time.time() - path.stat().st_mtime < UNKNOWN_SECONDS
    except FileNotFoundError:
        return False


@contextmanager
def replacing(path: Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A file that replaces `path` when the block succeeds, and leaves no trace otherwise."""
    how: dict[str, Any] = {} if binary else {"newline": "", "encoding": "utf-8", "errors": "replace"}
    with atomic_path(path) as beside, open(beside, "wb" if binary else "w", **how) as file:
        yield file
