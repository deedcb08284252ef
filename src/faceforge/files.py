"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file or folder last through a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; synced, it becomes ``target`` at the end, or vanishes with an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield beside
        sync(beside)
        beside.replace(target)
        sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files of ``atomic_path`` that killed processes left in ``folder``."""
    for orphan in folder.glob(".*.tmp"):
        if not _is_alive(orphan.suffixes[-2:-1]):
            orphan.unlink(missing_ok=True)


def _is_alive(process: list[str]) -> bool:
    number = process[0][1:] if process else ""
    return number.isdecimal() and int(number) != os.getpid() and Path(f"/proc/{number}").exists()
