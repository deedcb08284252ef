"""The annotated photos, what is found in them and what it means, and how records of them were made."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.command import ROOT
from faceforge.cut.detect import Detection, overlap
from faceforge.cut.frame import Box
from faceforge.errors import BadInput
from faceforge.fetch.download import file_hash
from faceforge.io.images import decode

BOXES = Path(__file__).with_name("boxes.csv")
PHOTOS = ROOT.parent / "shared" / "data" / "photos_color"
PACKAGES = ("opencv-python-headless", "numpy", "pillow", "simplejpeg", "joblib")
SMALLEST = 40  # pixels of the shorter side: faces below it are neither missed nor false
MATCH = 0.4  # IoU from which a box means a face, wherever its centre lies


@dataclass
class Scene:
    """A picture (uint8 RGB) and what is known to be in it; ``planted`` are things that are no faces."""

    name: str
    pixels: np.ndarray
    faces: list[Box] = field(default_factory=list)
    ignored: list[Box] = field(default_factory=list)
    planted: list[tuple[str, Box]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Annotated:
    """A photo of the table of boxes: the start of its SHA-256, (width, height), and boxes by annotator."""

    name: str
    sha256: str
    size: tuple[int, int]
    boxes: Mapping[int, Sequence[tuple[str, Box]]]

    def split(self, least: float = SMALLEST) -> tuple[list[Box], list[Box]]:
        """The first annotator's faces, and what is ignored: small faces and unsure ones."""
        counted = [box for kind, box in self.boxes[1] if kind == "face" and min(box[2:]) >= least]
        return counted, [box for _, box in self.boxes[1] if box not in counted]


def annotated(path: Path = BOXES) -> list[Annotated]:
    """The annotated photos, by name."""
    photos: dict[str, Annotated] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            size = int(row["width"]), int(row["height"])
            photo = photos.setdefault(row["photo"], Annotated(row["photo"], row["sha256"], size, {1: [], 2: []}))
            if row["kind"] != "nothing":
                x, y, w, h = (float(row[key]) for key in ("x", "y", "w", "h"))
                boxes: Any = photo.boxes[int(row["annotation"])]
                boxes.append((row["kind"], (x, y, w, h)))
    return [photos[name] for name in sorted(photos)]


def twice(path: Path = BOXES) -> set[str]:
    """The photos that were annotated a second time."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["photo"] for row in csv.DictReader(file) if row["annotation"] == "2"}


def read_photo(folder: Path, name: str) -> np.ndarray:
    """A photo as `faceforge cut` reads it: uint8 RGB (H, W, 3)."""
    pixels = decode((folder / name).read_bytes(), name)
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def scenes(folder: Path, photos: Iterable[Annotated]) -> list[Scene]:
    """The annotated photos with their pixels. Raises BadInput where one is not the photo that was annotated."""
    made = []
    for photo in photos:
        try:
            digest = file_hash(folder / photo.name)
        except OSError as error:
            raise BadInput(f"{folder / photo.name}: cannot be read; the annotated photos are wanted") from error
        if not digest.startswith(photo.sha256):
            raise BadInput(f"{folder / photo.name}: SHA-256 {digest[:16]}, {photo.sha256} was annotated")
        made.append(Scene(photo.name, read_photo(folder, photo.name), *photo.split()))
    return made


# ---------------------------------------------------------------------------------------------------------- matching


def as_it_lies(face: Detection, size: tuple[int, int]) -> Box:
    """The box in the photo of ``size`` (height, width) as it lies, from that in the face's quarter turn."""
    x, y, w, h = face.box
    heights = [size[n % 2] for n in range(face.quarter)]  # before each turn
    for height in reversed(heights):
        x, y, w, h = y, height - x - w, h, w
    return x, y, w, h


def means(found: Box, box: Box) -> bool:
    """Whether a found box means what lies in ``box``: its centre lies there, or they overlap enough."""
    x, y = found[0] + found[2] / 2, found[1] + found[3] / 2
    inside = box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]
    return inside or overlap(found, box) >= MATCH


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of the boxes found in one scene; numbers are places in the given lists."""

    hits: list[tuple[int, int]]  # found, face
    missed: list[int]
    false: list[tuple[int, str]]  # found, and what it is: beside, doubled, or the kind of the planted thing


def judge(found: Sequence[Box], scene: Scene) -> Verdicts:
    """Match one to one, the best overlap first. What only meets an ignored box counts neither way."""
    pairs = [(overlap(a, b), i, j) for i, a in enumerate(found) for j, b in enumerate(scene.faces) if means(a, b)]
    of_found: dict[int, int] = {}
    for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if i not in of_found and j not in of_found.values():
            of_found[i] = j
    false = []
    for i, box in enumerate(found):
        if i in of_found:
            continue
        planted = [kind for kind, thing in scene.planted if means(box, thing)]
        if any(means(box, face) for face in scene.faces):
            false.append((i, "doubled"))
        elif not any(means(box, other) for other in scene.ignored):
            false.append((i, planted[0] if planted else "beside"))
    missed = [j for j in range(len(scene.faces)) if j not in of_found.values()]
    return Verdicts(sorted(of_found.items()), missed, false)


# ----------------------------------------------------------------------------------------------------------- records


def manifest_hash(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 over the names and hashes of photos, in order of names."""
    lines = (f"{name} {file_hash(folder / name)}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def provenance(weights: Path | None = None) -> dict[str, Any]:
    """How and where a record was made, and with which weights of a detector."""
    told = {"name": weights.name, "sha256": file_hash(weights)} if weights else None
    return {**records.provenance(PACKAGES), "weights": told}
