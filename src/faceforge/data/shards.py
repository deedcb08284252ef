"""Packing in shards: each is written by itself, then joined to the array in order and recorded.

What a killed packing has recorded or written is not read again. The array holds the usable faces alone and does not
depend on who packed which shard.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from faceforge.data.framing import Recipe, frame
from faceforge.data.sources.base import Source
from faceforge.errors import BadInput
from faceforge.io.engines import EngineName, spread
from faceforge.io.files import temporary
from faceforge.io.images import ImageError
from faceforge.io.portable import warn_once
from faceforge.io.workers import cores, in_order

Packer = Literal["auto"] | EngineName

ARRAY, RECORDS, SHARDS, SOURCE = "faces.npy", "shards.jsonl", "shards", "source.pickle"
SHARD_BYTES, FEWEST, MOST = 2**21, 64, 1024  # of one shard; its least and most faces


def header(count: int, recipe: Recipe) -> bytes:
    """The header of a .npy file; its length does not depend on ``count``: numpy reserves room for a larger one."""
    shape = (count, recipe.channels, *recipe.size)
    written = BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return written.getvalue()


class Shard(NamedTuple):
    """A record: the faces of a shard, why some of them cannot be used, and a checksum of the pixels of the others."""

    faces: int
    reasons: dict[str, str]  # by place in the shard
    checksum: int

    @property
    def kept(self) -> int:
        """How many faces it holds."""
        return self.faces - len(self.reasons)


@dataclass(frozen=True)
class Packing:
    """Packs the faces of ``source``, ``size`` consecutive ones in a shard, into files below ``folder``."""

    source: Source
    recipe: Recipe
    folder: Path
    size: int

    @classmethod
    def of(cls, source: Source, recipe: Recipe, folder: Path) -> Packing:
        """Shards of about two megabytes."""
        return cls(source, recipe, folder, min(MOST, max(FEWEST, SHARD_BYTES // recipe.bytes)))

    def span(self, shard: int) -> range:
        """The faces of a shard."""
        return range(len(self.source.faces))[shard * self.size : (shard + 1) * self.size]

    def shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.source.faces) // self.size)

    def place(self, shard: int) -> Path:
        """The file of a shard until it is joined."""
        return self.folder / SHARDS / f"{shard:06d}"

    def pack(self, shards: Sequence[int]) -> list[int]:
        """Write shards, each under its name when it is complete; their numbers."""
        for shard in shards:
            faces = [self._face(n) for n in self.span(shard)]
            reasons = {str(n): face for n, face in enumerate(faces) if isinstance(face, str)}
            pixels = b"".join(face.tobytes() for face in faces if not isinstance(face, str))
            record = json.dumps(Shard(len(faces), reasons, zlib.crc32(pixels)))
            beside = temporary(self.place(shard))
            beside.write_bytes(record.encode() + b"\n" + pixels)
            beside.replace(self.place(shard))
        return list(shards)

    def _face(self, n: int) -> np.ndarray | str:
        """A face, or the reason why it is unusable."""
        try:
            pixels = self.source.read(n, self.recipe.size)
            return frame(pixels, self.recipe.crop, self.recipe.size, self.recipe.channels)
        except ImageError as error:
            return str(error)

    def read(self, shard: int) -> tuple[Shard, bytes] | None:
        """A written shard; None if it is missing or damaged."""
        try:
            line, _, pixels = self.place(shard).read_bytes().partition(b"\n")
        except OSError:
            return None
        record = _record(line, len(self.span(shard)))
        return (record, pixels) if record and self.holds(record, pixels) else None

    def holds(self, record: Shard, pixels: bytes) -> bool:
        """Whether pixels are those of a record."""
        return len(pixels) == record.kept * self.recipe.bytes and zlib.crc32(pixels) == record.checksum


def _record(line: bytes, faces: int) -> Shard | None:
    try:
        record = Shard(*json.loads(line))
        return record if record.faces == faces else None
    except (ValueError, TypeError):
        return None


def packed(packing: Packing, engine: Packer, progress: bool) -> list[str | None]:
    """Fill ``faces.npy`` below the folder of ``packing``, going on where a killed packing stopped.

    Why each face of the source cannot be used; None for those in the array, in order. Raises BadInput and OSError.
    """
    (packing.folder / SHARDS).mkdir(parents=True, exist_ok=True)
    with _opened(packing.folder / ARRAY) as array, _opened(packing.folder / RECORDS) as records:
        done = list(_resumed(packing, array, records))
        before, everyone = len(done) * packing.size, len(packing.source.faces)
        todo = [n for n in range(len(done), packing.shards()) if not packing.place(n).exists()]
        if len(todo) < packing.shards():
            warn_once(packing.folder, f"{packing.folder}: goes on, {len(todo):,} of {packing.shards():,} shards left")
        silent = None if progress else True
        with tqdm(desc="packing faces", total=everyone, initial=before, unit=" faces", disable=silent) as bar:
            for shard in _in_order(packing, range(len(done), packing.shards()), todo, engine):
                done.append(_join(packing, shard, array, records))
                bar.update(done[-1].faces)
        array.seek(0)
        array.write(header(sum(record.kept for record in done), packing.recipe))
    return [record.reasons.get(str(n)) for record in done for n in range(record.faces)]


def _opened(path: Path) -> IO[bytes]:
    path.touch()
    return path.open("r+b")


def _resumed(packing: Packing, array: IO[bytes], records: IO[bytes]) -> Iterator[Shard]:
    """The shards that are recorded and in the array; both files end after them."""
    array.write(header(0, packing.recipe))
    start, end = array.tell(), 0
    for shard, line in enumerate(iter(records.readline, b"")):
        record = _record(line, len(packing.span(shard))) if line.endswith(b"\n") else None
        if record is None or not packing.holds(record, array.read(record.kept * packing.recipe.bytes)):
            break
        start, end = array.tell(), records.tell()
        yield record
    for file, length in ((array, start), (records, end)):
        file.seek(length)
        file.truncate()


def _in_order(packing: Packing, shards: Sequence[int], todo: Sequence[int], engine: Packer) -> Iterator[int]:
    """The numbers of shards as they are complete, in order."""
    outcomes, missing = _outcomes(packing, todo, engine), set(todo)
    for shard in shards:
        if shard in missing:
            next(outcomes)
        yield shard
    for _ in outcomes:  # ends the processes
        pass


def _outcomes(packing: Packing, todo: Sequence[int], engine: Packer) -> Iterator[int]:
    if engine == "auto":
        return in_order(packing.pack, todo, chunk=1)
    sent = Sent.of(packing) if todo else packing
    chunks = spread(sent.pack, todo, engine, cores(), 1, asked="data.engine=", fewer="data.engine=auto")
    return chain.from_iterable(chunks)


def _join(packing: Packing, shard: int, array: IO[bytes], records: IO[bytes]) -> Shard:
    """Append a shard to the array and record it. One that was damaged by a power failure is packed again."""
    found = packing.read(shard)
    if found is None:
        packing.pack([shard])
        found = packing.read(shard)
    if found is None:
        raise BadInput(f"{packing.place(shard)}: cannot be read back; data.cache must be on a sound disk")
    record, pixels = found
    array.write(pixels)
    array.flush()
    records.write(json.dumps(record).encode() + b"\n")
    records.flush()
    packing.place(shard).unlink(missing_ok=True)
    return record


@dataclass(frozen=True)
class Sent:
    """A packing that each worker reads once, not with each task: a source lists all of its faces."""

    path: Path
    digest: str

    @classmethod
    def of(cls, packing: Packing) -> Sent:
        """Written into its folder."""
        path, data = packing.folder.resolve() / SOURCE, pickle.dumps(packing)
        path.write_bytes(data)
        return cls(path, hashlib.sha256(data).hexdigest())

    def pack(self, shards: Sequence[int]) -> list[int]:
        """As Packing.pack."""
        return _loaded(self.path, self.digest).pack(shards)


@lru_cache(maxsize=1)
def _loaded(path: Path, digest: str) -> Packing:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"data.cache={path.parent.parent}: a worker cannot see it; all machines of data.engine must see this disk"
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BadInput(f"{path}: was changed while faces were packed")
    return pickle.loads(data)  # what this packing itself has written, as its hash proves
