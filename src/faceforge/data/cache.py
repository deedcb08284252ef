"""The packed cache: every face once, as uint8 (N, C, H, W) in one file, keyed by protocol and source files.

A cache is written into a folder next to its final path, synced and renamed, under a lock: other processes see all of
it or nothing. Its bytes do not depend on who packed it. A complete one is only read, and may lie on a disk that cannot
be written.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np

from faceforge.data import shards
from faceforge.data.framing import Recipe
from faceforge.data.listing import manifest_of, sha256
from faceforge.data.shards import Packer, Packing
from faceforge.data.sources.base import Source
from faceforge.errors import BadInput
from faceforge.io.files import sync
from faceforge.io.portable import Held, locked, warn_once
from faceforge.io.rows import Rows
from faceforge.io.storage import is_writable

KEEP_SECONDS = 7 * 86_400  # after which what a killed packing left is removed
DONE = "done"  # the folder that becomes the cache


class Packed:
    """A packed cache on disk. Each process opens the array on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = Rows(folder / shards.ARRAY)

    @property
    def array(self) -> np.ndarray:
        """Read-only uint8 (N, C, H, W), mapped."""
        return self.rows.array

    def digests(self) -> list[str]:
        """SHA-256 (hex) of the file of each face, or of the definition of a drawn one, in the order of the array."""
        with (self.folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            return [row[1] for row in islice(csv.reader(file), 1, None)]

    def skipped(self) -> list[tuple[str, str]]:
        """Id and reason of every face that could not be read."""
        with (self.folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
            return [(row[0], row[1]) for row in islice(csv.reader(file), 1, None)]


def pack(
    source: Source,
    recipe: Recipe,
    root: Path,
    digests: Sequence[str],
    progress: bool,
    manifest: str | None = None,
    engine: Packer = "auto",
) -> Packed:
    """The packed cache of ``source`` below ``root``, packed now if missing. Raises BadInput."""
    protocol = recipe.protocol(source.name)
    target = root / f"{protocol['name']}-{sha256([protocol, manifest or manifest_of(source, digests)])[:16]}"
    if not _is_sound(target):
        if not is_writable(root):
            raise BadInput(
                f"data.cache={root}: can only be read and has no complete {target.name}; "
                f"pack these faces where it can be written, or name another folder"
            )
        with _locked(target):
            if not _is_sound(target):
                _write(source, recipe, target, digests, progress, engine)
    return Packed(target)


def _is_sound(folder: Path) -> bool:
    try:
        return len(Rows(folder / shards.ARRAY)) > 0 and (folder / "skipped.csv").is_file()
    except (OSError, ValueError, EOFError):
        return False


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.parent / f".{target.name}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock))
        except Held as held:
            warn_once(lock, f"{target}: another process packs these faces; waiting for it{held.hint}")
            stack.enter_context(locked(lock, wait=True))
        _sweep(target)
        yield


def _sweep(target: Path) -> None:
    """Remove what other killed packings left long ago: their locks are free."""
    for left_over in set(target.parent.glob(".*.tmp")) - {_unfinished(target)}:
        with suppress(Held, OSError), locked(left_over.with_suffix(".lock")):
            records = left_over / shards.RECORDS
            if not records.exists() or records.stat().st_mtime < time.time() - KEEP_SECONDS:
                shutil.rmtree(left_over, ignore_errors=True)


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}.tmp")


def _write(
    source: Source, recipe: Recipe, target: Path, digests: Sequence[str], progress: bool, engine: Packer
) -> None:
    temporary = _unfinished(target)
    shutil.rmtree(target, ignore_errors=True)  # a damaged one
    try:
        temporary.mkdir(exist_ok=True)
        _require_space(temporary, len(source.faces) * recipe.bytes)
        _fill(
            temporary, source, recipe, digests, shards.packed(Packing.of(source, recipe, temporary), engine, progress)
        )
        (temporary / DONE).replace(target)
        sync(target.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise BadInput(f"data.cache={target.parent}: cannot be written ({error.strerror or error})") from error
    shutil.rmtree(temporary, ignore_errors=True)


def _require_space(temporary: Path, needed: int) -> None:
    array = temporary / shards.ARRAY
    needed -= array.stat().st_size if array.exists() else 0
    free = shutil.disk_usage(temporary).free
    if needed > free:
        raise BadInput(f"data.cache={temporary.parent}: {needed:,} bytes are needed, {free:,} are free")


def _fill(
    temporary: Path, source: Source, recipe: Recipe, digests: Sequence[str], reasons: Sequence[str | None]
) -> None:
    """Complete and sync the folder that becomes the cache."""
    skipped = [(face.id, reason) for face, reason in zip(source.faces, reasons, strict=True) if reason]
    if len(skipped) == len(reasons):
        shutil.rmtree(temporary, ignore_errors=True)
        raise BadInput(f"data.root: {refusal(skipped, len(skipped))}")
    kept = [n for n, reason in enumerate(reasons) if not reason]
    rows = [(f.id, digests[n], f.identity or "", f.split or "") for n in kept for f in [source.faces[n]]]
    folder = temporary / DONE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _write_csv(folder / "manifest.csv", ("id", "sha256", "identity", "split"), rows)
    _write_csv(folder / "skipped.csv", ("id", "reason"), skipped)
    (folder / "protocol.json").write_text(json.dumps(recipe.protocol(source.name), indent=1) + "\n")
    (temporary / shards.ARRAY).replace(folder / shards.ARRAY)
    for path in [*folder.iterdir(), folder]:
        sync(path)


def refusal(skipped: Sequence[tuple[str, str]], total: int) -> str:
    """A sentence: how many images could not be used, and the first few with reasons."""
    first = "; ".join(f"{face}: {reason}" for face, reason in skipped[:3])
    return f"{len(skipped)} of {total} images ({len(skipped) / total:.0%}) cannot be used ({first})"


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])
