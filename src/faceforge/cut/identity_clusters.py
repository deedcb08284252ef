"""Identity clusters: crops embedded by dlib's face recognition network, and faces grouped by embedding distance.

It separates most of the people in one folder; it is not proof of identity.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from faceforge.cut import frame as framing
from faceforge.cut.edits import FRAME
from faceforge.cut.frame import Landmarks
from faceforge.cut.work import REVIEW, Job, place
from faceforge.errors import BadInput
from faceforge.fetch.download import file_hash
from faceforge.io import dlib_models
from faceforge.io.dlib_models import NETWORK, POINTS
from faceforge.io.files import atomic_path
from faceforge.io.images import ImageError, decode
from faceforge.io.manifest import Row

NAME = "people.jsonl"
RECIPE = "dlib resnet v1, 5 points/1"  # must change whenever descriptions change

# dlib predicts its points in a box as its own detector draws it: 2.25 eye-to-mouth distances wide, its centre at 0.494
# between eyes and mouth (medians of 543 faces). In widths of the Haar box: the side of that box, and its shift down.
DLIB_SIDE, DLIB_SHIFT = 2.25 / framing.HAAR_WIDTH, (0.494 - framing.HAAR_CENTRE) / framing.HAAR_WIDTH

# Two groups are one person if the mean squared distance of their faces is below MAX_DISTANCE, or, for groups of at
# least MIN_GROUP_FOR_MEANS faces, if that of their means is below MAX_DISTANCE_OF_MEANS. The network separates some
# kinds of people far less well than others, so each face with description d adds LOOKALIKE_BIAS - d @ LOOKALIKE_WEIGHTS
# (bytes in 1/2048), if positive: how much closer strangers come to it than to other faces. All constants are measured
# by python -m benchmarks.cut.people.
MAX_DISTANCE, MAX_DISTANCE_OF_MEANS, MIN_GROUP_FOR_MEANS = 0.10, 0.06, 3
LOOKALIKE_BIAS = -0.0433
LOOKALIKE_WEIGHTS = (
    "6dwH/P4eHxwCIg0BAxD2pF8J8/DiIOPiCxDx3QPRGxIG5wL26OTg4zPmAvnoD+X74CUAEQcOART/1BQI2yoVEu"
    "31Byfu6P8A9fsx/vEPCfC9BfTj7uAI9xQL5/f8+fj9BOMe6gEiBCYI5x8RIvUU5fkK4tv5BxbvD+gWAutA4vY="
)
LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
MIN_SIDE = 32.0  # pixels of the face, both in the photo and in the crop; at 16 strangers begin to look alike
MIN_SHARPNESS = 12.0  # faces below it are hardly ever matched
DESCRIPTION_SIZE, UNIT = 128, 1024  # values, and their scale: with integers, distances and ties are exact
BLOCK = 64  # faces compared with all others at once

Place = tuple[float, float, float]  # centre (x, y) and width of a Haar box in a crop


class Face(NamedTuple):
    """A crop to describe; ``key`` is a hash of everything that determines its pixels."""

    name: str
    key: str
    crop: Path
    at: Place


class Description(NamedTuple):
    """The embedding of a face: 128 numbers of norm 1 as int16 in 1/1024, and the key of its crop."""

    name: str
    key: str
    numbers: bytes


def wanted(target: Path, requested: bool) -> bool:
    """Whether to cluster identities: if requested, or if an earlier cut of this folder did.

    Raises BadInput if the packages are missing or their weights differ from the known files.
    """
    kept = target / REVIEW / NAME
    if not requested and not kept.exists():
        return False
    where = "--people" if requested else f"{kept}: an earlier cut used --people; remove this file to stop; --people"
    for name, path in _weights(where).items():
        if file_hash(path) != dlib_models.SHA256[name]:
            raise dlib_models.changed(where, path)
    return True


# -------------------------------------------------------------------------------------------------------- describing


def describe(job: Job, faces: Sequence[Face]) -> list[Description]:
    """Descriptions of crops, in order. Raises BadInput if a crop is gone or the packages are missing."""
    network = _network()
    descriptions = []
    for face in faces:
        try:
            pixels = decode(face.crop.read_bytes(), face.name)
        except (OSError, ImageError) as error:
            raise BadInput(f"{face.crop}: can no longer be read ({error}); run the same command again") from error
        colour = np.ascontiguousarray(np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)))
        numbers = np.asarray(network(colour, face.at))
        numbers = np.rint(numbers * (UNIT / np.linalg.norm(numbers)))
        descriptions.append(Description(face.name, face.key, numbers.astype("<i2").tobytes()))
    return descriptions


@lru_cache(maxsize=1)
def _network() -> Callable[[np.ndarray, Place], Any]:
    """A function from uint8 RGB (H, W, 3) and the place of the face to 128 numbers, not normalised."""
    weights = _weights("--people")
    import _dlib_pybind11 as dlib  # pyright: ignore[reportMissingImports]

    points, network = dlib.shape_predictor(str(weights[POINTS])), dlib.face_recognition_model_v1(str(weights[NETWORK]))

    def numbers(pixels: np.ndarray, at: Place) -> Any:
        x, y, half = at[0], at[1] + DLIB_SHIFT * at[2], DLIB_SIDE * at[2] / 2
        box = dlib.rectangle(*(round(edge) for edge in (x - half, y - half, x + half, y + half)))
        return network.compute_face_descriptor(pixels, points(pixels, box))

    return numbers


def _weights(where: str) -> dict[str, Path]:
    """The weights files by name, if dlib is installed too."""
    try:
        import _dlib_pybind11  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BadInput(f"{where}: {dlib_models.INSTALL}") from error
    return dlib_models.find(where)


def _face(job: Job, row: Row) -> Face | None:
    """The face to describe; None if it is rejected, or too small or too blurred to be recognised."""
    side = min(row.box_w or 0.0, row.box_h or 0.0) * min(1.0, row.scale or 0.0)
    if row.verdict not in ("accepted", "doubtful") or side < MIN_SIDE or (row.sharpness or 0.0) < MIN_SHARPNESS:
        return None
    at = _place(row, job.settings.size)
    decides = (RECIPE, row.source_sha256, row.quarter, [getattr(row, name) for name in FRAME], job.settings.size, at)
    key = hashlib.sha256(repr(decides).encode()).hexdigest()[:16]
    return Face(row.face, key, place(job.target, row.face, row.verdict), at)


def _place(row: Row, size: tuple[int, int]) -> Place:
    """The place of a face in its crop of ``size`` (height, width)."""
    marks = tuple((getattr(row, f"{name}_x"), getattr(row, f"{name}_y")) for name in LANDMARK_NAMES)
    box = (row.box_x or 0.0, row.box_y or 0.0, row.box_w or 0.0, row.box_h or 0.0)
    left, top, w, h = box if row.left_eye_x is None else framing.haar_box(cast(Landmarks, marks))
    across, down = left + w / 2 - (row.frame_x or 0.0), top + h / 2 - (row.frame_y or 0.0)
    cos, sin = math.cos(math.radians(row.frame_angle or 0.0)), math.sin(math.radians(row.frame_angle or 0.0))
    height, width = size
    share = height / (row.frame_h or 1.0)
    x, y = cos * across + sin * down, cos * down - sin * across
    return round(x * share + width / 2, 2), round(y * share + height / 2, 2), round(w * share, 2)


class Descriptions:
    """Descriptions of faces by name, stored as one line of JSON each: appended as computed, sorted at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Description] = {}
        path.touch()
        self._file = path.open("r+b")
        end = 0
        for line in self._file:
            try:
                name, key, numbers = json.loads(line)
                known = Description(name, key, base64.b64decode(numbers))
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n") or len(known.numbers) != 2 * DESCRIPTION_SIZE:
                break
            self._known[name] = known
            end += len(line)
        self._file.truncate(end)
        self._file.seek(end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def missing(self, job: Job, rows: Iterable[Row]) -> list[Face]:
        """The faces among ``rows`` that still need a description; descriptions of other faces are dropped."""
        faces = [face for row in rows if (face := _face(job, row))]
        earlier = self._known
        self._known = {name: earlier[name] for name, key, *_ in faces if name in earlier and earlier[name].key == key}
        return [face for face in faces if face.name not in self._known]

    def add(self, descriptions: Sequence[Description]) -> None:
        """Append descriptions."""
        self._file.write(b"".join(map(_line, descriptions)))
        self._file.flush()
        self._known.update((known.name, known) for known in descriptions)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Drop the faces whose names are not wanted, also from the file. Nothing can be added afterwards."""
        self._known = {name: known for name, known in self._known.items() if wanted(name)}
        self._write()

    def settle(self) -> dict[str, str]:
        """Sort the file, and map each face of a person who appears more than once to the first face of that person."""
        names = self._write()
        numbers = b"".join(self._known[name].numbers for name in names)
        first = groups(np.frombuffer(numbers, "<i2").reshape(-1, DESCRIPTION_SIZE))
        several = np.bincount(first, minlength=1) > 1
        return {names[n]: names[leader] for n, leader in enumerate(first) if several[leader]}

    def _write(self) -> list[str]:
        names = sorted(self._known)
        with atomic_path(self.path) as beside, beside.open("wb") as file:
            file.writelines(_line(self._known[name]) for name in names)
        return names


def _line(known: Description) -> bytes:
    return json.dumps([known.name, known.key, base64.b64encode(known.numbers).decode()]).encode() + b"\n"


# ---------------------------------------------------------------------------------------------------------- grouping


def groups(numbers: np.ndarray) -> np.ndarray:
    """For each of N descriptions, integers (N, 128), the index of the first in its group, int64 (N,).

    Groups grow by average linkage of squared distances, so a chain of look-alikes does not merge two people.
    """
    extra = look_alikes(numbers)
    first = joined(numbers, extra, MAX_DISTANCE)
    sizes = np.bincount(first, minlength=len(first))
    several = np.flatnonzero(sizes >= MIN_GROUP_FOR_MEANS)
    means = [(numbers[first == n].mean(axis=0), extra[first == n].mean()) for n in several]
    if means:
        vectors, more = zip(*means, strict=True)
        again = np.arange(len(first))
        again[several] = several[joined(np.array(vectors), np.array(more), MAX_DISTANCE_OF_MEANS)]
        first = again[first]
    return first


def look_alikes(numbers: np.ndarray) -> np.ndarray:
    """How much closer strangers are to each face than to other faces, at least 0, (N,), in squared units."""
    lean = np.frombuffer(base64.b64decode(LOOKALIKE_WEIGHTS), np.int8).astype(np.float32) / 2048
    return np.maximum(0.0, LOOKALIKE_BIAS - numbers.astype(np.float32) @ lean / UNIT) * UNIT**2


def joined(numbers: np.ndarray, extra: np.ndarray, limit: float) -> np.ndarray:
    """For each of N points (N, D) the index of the first in its group, int64 (N,), by average linkage.

    The distance of two points is the squared distance plus the ``extra`` (N,) of both. Two groups are joined while the
    mean distance over all pairs between them is below ``limit``. All mutual nearest neighbours are joined in one
    step, which gives the same result as one pair at a time (Murtagh 1983: the linkage is reducible).
    """
    leader, linkage = np.arange(len(numbers)), _Linkage(numbers.astype(np.float32), extra, limit * UNIT**2)
    todo = leader.copy()
    while len(todo):
        linkage.find_nearest(todo)
        a, b = linkage.join()
        leader[linkage.first[b]] = linkage.first[a]
        todo = linkage.next(np.concatenate([a, linkage.nearest[todo]]))
    for n, before in enumerate(leader):
        leader[n] = leader[before]
    return leader


class _Linkage:
    """Groups that may still grow. Only their means are kept: the mean squared distance of two groups is the sum of
    their mean squares minus twice the product of their means."""

    def __init__(self, numbers: np.ndarray, extra: np.ndarray, limit: float) -> None:
        self.limit = limit
        self.means, self.squares = numbers, (numbers**2).sum(axis=1) + extra.astype(np.float32)
        self.sizes = np.ones(len(numbers), np.float32)
        self.first = np.arange(len(numbers))  # the first face of each group
        self.nearest = np.arange(len(numbers))  # the nearest other group, and its mean squared distance
        self.nearest_distance = np.zeros(len(numbers), np.float32)
        self.outdated = np.ones(len(numbers), bool)  # another group may be nearest, none below nearest_distance

    def find_nearest(self, todo: np.ndarray) -> None:
        """Find the nearest neighbours of some groups."""
        for start in range(0, len(todo), BLOCK):
            rows = todo[start : start + BLOCK]
            line = np.arange(len(rows))
            distances = self.means[rows] @ self.means.T
            distances *= -2
            distances += self.squares
            distances[line, rows] = np.inf
            self.nearest[rows] = distances.argmin(axis=1)
            self.nearest_distance[rows] = distances[line, self.nearest[rows]] + self.squares[rows]
        self.outdated[todo] = False

    def join(self) -> tuple[np.ndarray, np.ndarray]:
        """Join mutual nearest neighbours: the groups that grew (M,), and the groups that they absorbed (M,)."""
        here, fresh = np.arange(len(self.first)), ~self.outdated
        mutual = (self.nearest[self.nearest] == here) & (here < self.nearest) & fresh & fresh[self.nearest]
        a = here[mutual & (self.nearest_distance < self.limit)]
        b = self.nearest[a]
        share = self.sizes[b] / (self.sizes[a] + self.sizes[b])
        self.means[a] += share[:, None] * (self.means[b] - self.means[a])
        self.squares[a] += share * (self.squares[b] - self.squares[a])
        self.sizes[a] += self.sizes[b]
        self.squares[b] = self.nearest_distance[b] = np.inf
        joined = np.zeros(len(here), bool)
        joined[a] = joined[b] = True
        self.outdated |= joined[self.nearest]
        return a, b

    def next(self, ends: np.ndarray) -> np.ndarray:
        """The groups to update next: the ends of the nearest-neighbour chains, then all the others.

        Groups without a neighbour within the limit are dropped, since joining others brings none closer.
        """
        alive = self.nearest_distance < self.limit
        open_ = self.outdated & alive
        todo = np.unique(ends[open_[ends]])
        todo = todo if len(todo) else np.flatnonzero(open_)
        if alive.sum() > 0.7 * len(alive):
            return todo
        place_of = np.cumsum(alive) - 1
        self.nearest = place_of[self.nearest]
        for name in ("means", "squares", "sizes", "first", "nearest", "nearest_distance", "outdated"):
            setattr(self, name, getattr(self, name)[alive])
        return place_of[todo]
