"""Pictures of a folder, an archive or an .npz as one array: decoded strictly, resized on demand."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

import numpy as np

from faceforge import counter_rng
from faceforge.data.framing import crop_box, frame
from faceforge.data.listing import sha256
from faceforge.data.sources.base import Files
from faceforge.data.sources.crops import Crops
from faceforge.errors import BadInput
from faceforge.fetch.inspect import source_of
from faceforge.io.archives import IMAGES
from faceforge.io.images import ImageError, decode
from faceforge.io.kinds import kind_of
from faceforge.io.workers import in_order

MOST_BYTES = 2**33  # of the arrays in an .npz
ASPECT = 1.02  # how much a resize may change width over height

Size = tuple[int, int]  # height, width
Side = Literal["GENERATED", "REAL"]


class Opened(Protocol):
    """Pictures in a stable order."""

    @property
    def names(self) -> Sequence[str]:
        """Of each picture."""
        ...

    @property
    def people(self) -> Sequence[str | None]:
        """Of each picture, where names tell."""
        ...

    def read(self, index: int) -> tuple[np.ndarray, str]:
        """Uint8 (H, W, 3) or (H, W), and the kind of its file. Raises ImageError."""
        ...


@dataclass(frozen=True)
class InFiles:
    """The pictures of a data source."""

    source: Files

    @property
    def names(self) -> Sequence[str]:
        """The ids of the faces."""
        return [face.id for face in self.source.faces]

    @property
    def people(self) -> Sequence[str | None]:
        """As Opened.people."""
        return [face.identity for face in self.source.faces]

    def read(self, index: int) -> tuple[np.ndarray, str]:
        """As Opened.read; EXIF orientation is undone and colour profiles applied."""
        name = self.source.names[index]
        data = self.source.store.read(name)
        return decode(data, name, sha256=self.source.known.get(name)), kind_of(data[:4096], name) or "unknown"


@dataclass(frozen=True)
class InArray:
    """The pictures of an array (N, H, W, 3), (N, H, W, 1) or (N, H, W)."""

    array: np.ndarray

    @property
    def names(self) -> Sequence[str]:
        """Numbers."""
        return [f"{n:06d}" for n in range(len(self.array))]

    @property
    def people(self) -> Sequence[str | None]:
        """Unknown."""
        return [None] * len(self.array)

    def read(self, index: int) -> tuple[np.ndarray, str]:
        """As Opened.read."""
        picture = self.array[index]
        return (picture[..., 0] if picture.shape[2:] == (1,) else picture), "npz"


def open_pictures(path: Path, side: Side) -> Opened:
    """A folder, a zip or tar, or an .npz of uint8. People are looked for in the names of REAL. Raises BadInput."""
    if not path.exists():
        raise BadInput(f"{side} {path}: no such folder or file")
    if (path / "run.json").is_file() and (path / "checkpoints").is_dir():
        raise BadInput(f"{side} {path}: a run; write its faces first: faceforge generate {path} -n 1000 --out FOLDER")
    if path.suffix.lower() in (".npz", ".npy"):
        return InArray(_array(path, side))
    if path.is_file() and path.suffix.lower() in IMAGES:
        raise BadInput(f"{side} {path}: one picture; must be a folder, a zip or tar, or an .npz of many")
    try:
        return InFiles(source_of(path) if side == "REAL" else Crops(str(path)))
    except BadInput as error:
        raise BadInput(f"{side} {str(error).removeprefix('data.root=').removeprefix('data.root: ')}") from error


def _array(path: Path, side: Side) -> np.ndarray:
    """The first array of pictures in an .npz (as arr_0 of ADM's samples). Raises BadInput."""
    right = "must hold one array of uint8, (N, H, W, 3) or (N, H, W)"
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        raise BadInput(f"{side} {path}: not an .npz; {right}")
    try:
        with zipfile.ZipFile(path) as archive:
            heads = {name: _header(archive, name) for name in archive.namelist() if name.endswith(".npy")}
        name = next((name for name, (shape, _) in heads.items() if len(shape) in (3, 4)), "")
        shape, dtype = heads.get(name, ((), np.dtype(object)))
        if dtype != np.uint8 or 0 in shape or (len(shape) == 4 and shape[3] not in (1, 3)):
            found = ", ".join(f"{name.removesuffix('.npy')} {s} {t}" for name, (s, t) in heads.items()) or "nothing"
            raise BadInput(f"{side} {path}: holds {found}; {right}")
        if np.prod(shape, dtype=np.float64) > MOST_BYTES:
            raise BadInput(f"{side} {path}: {shape} is more than {MOST_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name.removesuffix(".npy")]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f"{side} {path}: a damaged .npz ({error}); {right}") from error


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype


# ------------------------------------------------------------------------------------------------- reading


@dataclass
class Pictures:
    """One side of `faceforge score`: pictures uint8 (N, 3, H, W), grey ones replicated, and what was found."""

    path: Path
    pixels: np.ndarray
    names: list[str]
    people: list[str | None]
    there: int  # before a part was chosen
    asked: int  # of the chosen ones
    sizes: Counter[Size]
    grey: int
    kinds: Counter[str]
    digests: list[tuple[str, str]]  # SHA-256 of each as decoded and as resized
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    enlarged: float = 1.0  # the most that a picture was enlarged
    stretched: float = 1.0  # the most that width over height changed

    @property
    def is_grey(self) -> bool:
        """Whether all are grey."""
        return self.grey == len(self.names)


@dataclass(frozen=True)
class _One:
    """One picture as read."""

    pixels: np.ndarray  # (3, H, W), resized
    size: Size
    box: Size  # of the crop
    kind: str
    grey: bool
    digests: tuple[str, str]


def read_pictures(
    path: Path, side: Side, crop: str, size: Size | None, count: int | None, seed: int, resize: bool
) -> Pictures:
    """Decode one side, at most ``count`` pictures of it (a keyed part), cropped, at ``size`` or that of the first.

    Pictures of another size are refused, unless ``resize``. Raises BadInput.
    """
    opened = open_pictures(path, side)
    there = len(opened.names)
    chosen = range(there) if count is None or count >= there else _part(there, count, seed)
    found: list[tuple[int, _One]] = []
    unreadable: list[tuple[str, str]] = []
    for n, one in zip(chosen, in_order(partial(_read, opened, crop, size), chosen), strict=True):
        if isinstance(one, str):
            unreadable.append((opened.names[n], one))
            continue
        first = size or (found[0][1].box if found else one.box)
        if one.box != first and not resize:
            raise BadInput(_other_size(path, side, opened.names[n], one.box, first, crop))
        found.append((n, one))
    if not found:
        raise BadInput(f"{side} {path}: none of {len(chosen):,} pictures can be read ({': '.join(unreadable[0])})")
    return _together(path, opened, found, unreadable, there)


def _part(there: int, count: int, seed: int) -> Sequence[int]:
    return np.sort(counter_rng.permutation(seed, "score/pictures", 0, there)[:count]).tolist()


def _read(opened: Opened, crop: str, size: Size | None, span: Sequence[int]) -> list[_One | str]:
    return [_read_one(opened, crop, size, index) for index in span]


def _read_one(opened: Opened, crop: str, size: Size | None, index: int) -> _One | str:
    """A picture, or why it cannot be used."""
    try:
        picture, kind = opened.read(index)
        whole = picture.shape[0], picture.shape[1]
        left, top, right, bottom = crop_box(crop, *whole, size or whole)
        box = (bottom - top, right - left)
        pixels = frame(picture, crop, size or box, 3)
    except ImageError as error:
        return str(error)
    grey = picture.ndim == 2 or bool((picture == picture[..., :1]).all())
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
    digests = (_hash(np.ascontiguousarray(colour.transpose(2, 0, 1))), _hash(pixels))
    return _One(pixels, whole, box, kind, grey, digests)


def _hash(pixels: np.ndarray) -> str:
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def _other_size(path: Path, side: Side, name: str, found: Size, wanted: Size, crop: str) -> str:
    after = "" if crop == "none" else f" after the crop {crop}"
    sizes = f"{found[1]}x{found[0]} pixels{after}, others {wanted[1]}x{wanted[0]} (width x height)"
    return f"{side} {path}: {name} has {sizes}; --size {min(wanted)} resizes all of both, antialiased"


def _together(
    path: Path, opened: Opened, found: Sequence[tuple[int, _One]], unreadable: list[tuple[str, str]], there: int
) -> Pictures:
    ones, people = [one for _, one in found], opened.people
    height, width = ones[0].pixels.shape[1:]
    aspects = [(width / height) / (one.box[1] / one.box[0]) for one in ones]
    return Pictures(
        path,
        np.stack([one.pixels for one in ones]),
        [opened.names[n] for n, _ in found],
        [people[n] for n, _ in found],
        there,
        len(found) + len(unreadable),
        Counter(one.size for one in ones),
        sum(one.grey for one in ones),
        Counter(one.kind for one in ones),
        [one.digests for one in ones],
        unreadable,
        max(max(height / one.box[0], width / one.box[1]) for one in ones),
        max(max(aspect, 1 / aspect) for aspect in aspects),
    )


# ------------------------------------------------------------------------------------------------- both sides


def manifest_of(pictures: Pictures) -> str:
    """One SHA-256 of the names and decoded pixels of all."""
    return sha256([[name, digest] for name, (digest, _) in zip(pictures.names, pictures.digests, strict=True)])


def copies(generated: Pictures, real: Pictures) -> list[tuple[str, str]]:
    """Names of pictures of both sides that are the same, as decoded or as resized."""
    known: dict[str, str] = {}
    for name, digests in zip(real.names, real.digests, strict=True):
        known |= {digest: name for digest in digests if digest not in known}
    named = zip(generated.names, generated.digests, strict=True)
    pairs = ((name, next((known[d] for d in digests if d in known), "")) for name, digests in named)
    return [(name, other) for name, other in pairs if other]


def repeated(pictures: Pictures) -> int:
    """How many pictures are the same as an earlier one of their side."""
    return len(pictures.digests) - len({digest for digest, _ in pictures.digests})


def matched(generated: Pictures, real: Pictures) -> list[tuple[int, int]]:
    """The places of pictures with the same name, endings aside. Raises BadInput if any has no partner."""
    ours, theirs = (
        {PurePosixPath(n).with_suffix("").as_posix(): i for i, n in enumerate(s.names)} for s in (generated, real)
    )
    alone = sorted(set(ours) ^ set(theirs))
    if alone or len(ours) != len(generated.names) or len(theirs) != len(real.names):
        example = f" ({alone[0]} is on one side only)" if alone else ""
        counts = f"{len(generated.names):,} generated and {len(real.names):,} real pictures"
        raise BadInput(f"--paired: {counts} do not have the same names{example}; each must have one of its name")
    return [(ours[name], theirs[name]) for name in sorted(ours)]
