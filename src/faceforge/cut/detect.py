"""Where the faces of a photo are: the published Haar cascade, YuNet, and YuNet as judge of the Haar boxes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from faceforge.cut.frame import Box, Landmarks, Point, roll
from faceforge.errors import BadInput
from faceforge.fetch.download import DownloadError, fetch, file_hash
from faceforge.io.storage import cache_root

DetectorName = Literal["yunet", "haar", "verified"]

# the published routine's settings
HAAR = {"scaleFactor": 1.2, "minNeighbors": 5, "minSize": (60, 60)}
EYES_SIDE, EYES_LARGEST = 96, 38  # pixels to which a box is brought for the eye cascade, and the largest eye in it
EYES_PART = 0.15, 0.6  # from where to where eyes are looked for, in heights of the box
CASCADES = Path(cv2.data.haarcascades)  # pyright: ignore[reportAttributeAccessIssue]

TURN_GAIN = 0.01  # by which a turned photo must be better than the photo as it stands
LEAST_SCORE = 0.6  # of YuNet: below it nothing is reported at all
SURE_SCORE = 0.75  # from here on a face counts as found (measured: docs/results/cut_faces.md)
UPRIGHT_SCORE = 0.92  # most upright faces reach it, hardly one that stands on its head or lies on its side does
OVERLAP = 0.3  # of two boxes of one face (intersection over union)
AGREEMENT = 0.4  # of a Haar box and YuNet's for the same face
LEAST_SIDE = 33  # OpenCV pads sides to multiples of 32; where one is 32, its net reads memory that nobody has written
CLOSE_SIDE = 200  # pixels to which a face of less than CLOSE_BELOW is brought for a second look at its landmarks
CLOSE_BELOW = 140
LARGEST_SIDE = 1024  # a photo's long side when small faces are looked for
SIDES = (320, LARGEST_SIDE)  # YuNet knows faces of some 10 to 300 pixels: large ones are found in the small picture


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights: where it is fetched from, and what it must be."""

    name: str
    url: str
    size: int
    sha256: str


_ZOO = "https://huggingface.co/opencv/face_detection_yunet/resolve/main/"
YUNET = (
    Weights(
        "face_detection_yunet_2026may.onnx",
        _ZOO + "face_detection_yunet_2026may.onnx",
        229_738,
        "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    ),
    Weights(
        "face_detection_yunet_2023mar.onnx",
        _ZOO + "face_detection_yunet_2023mar.onnx",
        232_589,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A face in a photo that was turned by ``quarter`` quarters clockwise; places in pixels of the turned photo."""

    box: Box
    score: float | None = None
    landmarks: Landmarks | None = None
    neighbours: int | None = None
    agreement: float | None = None
    quarter: int = 0


Detector = Callable[[np.ndarray], list[Found]]


@lru_cache(maxsize=4)
def make_detector(name: DetectorName, weights: Path | None) -> Detector:
    """A detector of faces in uint8 RGB (H, W, 3); one for each process is enough."""
    if name == "haar":
        return Haar()
    assert weights is not None
    return YuNet(weights) if name == "yunet" else Verified(weights)


# ------------------------------------------------------------------------------------------------------------- YuNet


class YuNet:
    """YuNet (Wu et al. 2023, Machine Intelligence Research 20), five landmarks a face, at up to two scales.

    Where no face surely stands upright, the photo is looked at lying on its sides and on its head, too, and the way
    with a clearly better score counts; every face is reported in the quarter turn in which it stands upright.
    """

    def __init__(self, weights: Path) -> None:
        try:
            self._net = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), LEAST_SCORE, OVERLAP, 5000)
        except cv2.error as error:
            raise BadInput(f"{weights}: not the weights of YuNet; remove the file and let it be fetched") from error

    def __call__(self, pixels: np.ndarray) -> list[Found]:
        """Faces by falling score."""
        quarter, picture, found = 0, pixels, self.upright(pixels)
        if _best(found) < UPRIGHT_SCORE:
            lying = [np.ascontiguousarray(np.rot90(pixels, -q)) for q in (1, 2, 3)]
            turned = [(q, turn, self.upright(turn)) for q, turn in enumerate(lying, start=1)]
            best = max(turned, key=lambda turn: _best(turn[2]))
            quarter, picture, found = best if _best(best[2]) >= _best(found) + TURN_GAIN else (0, pixels, found)
        closer = [self._closer(picture, face) for face in found]
        return [_stand_up(face, pixels.shape[:2]) for face in _turned(closer, -quarter, pixels.shape[:2])]

    def upright(self, pixels: np.ndarray) -> list[Found]:
        """Faces as the photo stands, by falling score; places in its own pixels."""
        longest = max(pixels.shape[:2])
        shrunk = {min(1.0, side / longest) for side in SIDES} if longest > 1.5 * SIDES[0] else {1.0}
        return _distinct([face for share in sorted(shrunk) for face in self._at(pixels, share)])

    def _closer(self, pixels: np.ndarray, face: Found) -> Found:
        """A small face with its landmarks from a second look, enlarged.

        The net hardly sees the roll of faces below some 120 pixels: turned by 25 degrees they look turned by 5.
        """
        x, y, w, h = face.box
        if not 0 < max(w, h) < CLOSE_BELOW:
            return face
        height, width = pixels.shape[:2]
        left, top = (int(min(max(0.0, at), end - 1)) for at, end in ((x - w / 2, width), (y - h / 2, height)))
        part = pixels[top : max(top + 1, round(y + 1.5 * h)), left : max(left + 1, round(x + 1.5 * w))]
        seen = [_moved(other, left, top) for other in self._at(part, CLOSE_SIDE / max(w, h))]
        best = max(seen, key=lambda other: overlap(other.box, face.box), default=face)
        return replace(face, landmarks=best.landmarks) if overlap(best.box, face.box) >= AGREEMENT else face

    def _at(self, pixels: np.ndarray, share: float) -> list[Found]:
        height, width = (max(1, round(length * share)) for length in pixels.shape[:2])
        method = cv2.INTER_AREA if share < 1.0 else cv2.INTER_CUBIC
        picture = pixels if share == 1.0 else cv2.resize(pixels, (width, height), interpolation=method)
        below, beside = max(0, LEAST_SIDE - height), max(0, LEAST_SIDE - width)
        picture = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_CONSTANT) if below or beside else picture
        self._net.setInputSize(picture.shape[1::-1])
        _, rows = self._net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        back = np.tile([pixels.shape[1] / width, pixels.shape[0] / height], 7)
        return [] if rows is None else [_from_row(row[:14] * back, row[14]) for row in rows.astype(float)]


def _from_row(places: np.ndarray, score: float) -> Found:
    left_eye, right_eye, nose, mouth_left, mouth_right = ((float(x), float(y)) for x, y in places[4:].reshape(5, 2))
    x, y, w, h = places[:4].tolist()
    return Found((x, y, w, h), float(score), (left_eye, right_eye, nose, mouth_left, mouth_right))


def _moved(face: Found, x: float, y: float) -> Found:
    a, b, c, d, e = ((px + x, py + y) for px, py in face.landmarks or ())
    box = (face.box[0] + x, face.box[1] + y, face.box[2], face.box[3])
    return replace(face, box=box, landmarks=(a, b, c, d, e))


def _best(found: Sequence[Found]) -> float:
    return max((face.score or 0.0 for face in found), default=0.0)


def _distinct(found: list[Found]) -> list[Found]:
    """The best scored of those that overlap."""
    kept: list[Found] = []
    for face in sorted(found, key=lambda face: -(face.score or 0.0)):
        if all(overlap(face.box, other.box) <= OVERLAP for other in kept):
            kept.append(face)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (a[2] * a[3] + b[2] * b[3] - common) if common else 0.0


# ----------------------------------------------------------------------------------------------------- quarter turns


def _stand_up(face: Found, size: tuple[int, int]) -> Found:
    """The face in the quarter turn that sets it upright; ``size`` is that of the photo as it lies."""
    quarter = -round(roll(face.landmarks) / 90) % 4 if face.landmarks else 0
    return replace(_turned([face], quarter, size)[0], quarter=quarter)


def _turned(found: Sequence[Found], quarter: int, size: tuple[int, int]) -> list[Found]:
    """Places after turning a photo clockwise by ``quarter`` quarters; a negative number turns them back.

    ``size`` is the (height, width) of the photo as it lies, which is the target where turning back.
    """
    quarters, height, width = quarter % 4, *size
    if quarter < 0 and quarter % 2:
        height, width = width, height
    for _ in range(quarters):
        found = [_quarter(face, height) for face in found]
        height, width = width, height
    return list(found)


def _quarter(face: Found, height: float) -> Found:
    def turn(x: float, y: float) -> Point:
        return height - y, x

    x, y, w, h = face.box
    box = (height - y - h, x, h, w)
    if face.landmarks is None:
        return replace(face, box=box)
    a, b, c, d, e = (turn(*point) for point in face.landmarks)
    return replace(face, box=box, landmarks=(a, b, c, d, e))


# --------------------------------------------------------------------------------------------------------------- Haar


class Haar:
    """The cascade of Viola and Jones (2001) as OpenCV ships it, with the published settings."""

    def __init__(self) -> None:
        self._faces = cv2.CascadeClassifier(str(CASCADES / "haarcascade_frontalface_default.xml"))

    def __call__(self, pixels: np.ndarray) -> list[Found]:
        """Boxes by falling number of neighbours."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        boxes, counts = self._faces.detectMultiScale2(grey, **HAAR)
        found = [
            Found((float(x), float(y), float(w), float(h)), neighbours=int(count))
            for (x, y, w, h), count in zip(boxes, counts, strict=True)
        ]
        return sorted(found, key=lambda face: -(face.neighbours or 0))


def count_eyes(face: np.ndarray) -> int:
    """How many eyes the eye cascade finds in a Haar box, uint8 RGB (H, W, 3): evidence that decides nothing.

    It finds them on nostrils and misses them behind glasses. All boxes are brought to one size and only the upper
    part is searched, for nothing too large to be an eye: as they are, it would take longer than the cascade for faces.
    """
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    first, last = (round(len(grey) * part) for part in EYES_PART)
    part = grey[first : max(first + 1, last)]
    small = cv2.resize(part, (EYES_SIDE, round(EYES_SIDE * (EYES_PART[1] - EYES_PART[0]))))
    return len(_eye_cascade().detectMultiScale(small, 1.1, 2, maxSize=(EYES_LARGEST, EYES_LARGEST)))


@lru_cache(maxsize=1)
def _eye_cascade() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(CASCADES / "haarcascade_eye.xml"))


class Verified:
    """Haar boxes, each with YuNet's opinion: its score and landmarks, and how far the two boxes agree (else 0)."""

    def __init__(self, weights: Path) -> None:
        self._haar, self._yunet = Haar(), YuNet(weights)

    def __call__(self, pixels: np.ndarray) -> list[Found]:
        """Boxes by falling number of neighbours."""
        faces = self._haar(pixels)
        seconds = self._yunet.upright(pixels) if faces else []
        return [_judged(face, seconds) for face in faces]


def _judged(face: Found, seconds: Sequence[Found]) -> Found:
    agreeing = [(overlap(face.box, other.box), other) for other in seconds if agree(face.box, other.box)]
    if not agreeing:
        return replace(face, agreement=0.0)
    share, second = max(agreeing, key=lambda pair: pair[0])
    return replace(face, agreement=share, score=second.score, landmarks=second.landmarks)


def agree(a: Box, b: Box) -> bool:
    """Whether two boxes mean the same face: they overlap by 0.4, or each holds the other's centre."""
    return overlap(a, b) >= AGREEMENT or (_holds(a, b) and _holds(b, a))


def _holds(a: Box, b: Box) -> bool:
    x, y = b[0] + b[2] / 2, b[1] + b[3] / 2
    return a[0] <= x <= a[0] + a[2] and a[1] <= y <= a[1] + a[3]


# ------------------------------------------------------------------------------------------------------------ weights


def find_yunet() -> Path:
    """YuNet's weights: from the folder $FACEFORGE_WEIGHTS, from the cache, or fetched into it at first use.

    Raises BadInput, one line, where they cannot be had.
    """
    own = os.environ.get("FACEFORGE_WEIGHTS")
    cache = cache_root() / "weights"
    for folder in (Path(own).expanduser() if own else None, cache):
        for weights in YUNET if folder else ():
            if folder and (folder / weights.name).is_file():
                return _checked(folder / weights.name, weights)
    reason: object = ""
    instead = "put the file into a folder named by FACEFORGE_WEIGHTS, or take the published --detector haar"
    for weights in YUNET:
        try:
            return fetch(
                weights.url, cache / weights.name, size=weights.size, sha256=weights.sha256, what="weights of YuNet"
            )
        except DownloadError as error:
            reason = error
    raise BadInput(f"{reason}; {instead}")


def _checked(path: Path, weights: Weights) -> Path:
    found = file_hash(path)
    if found != weights.sha256:
        raise BadInput(f"{path}: its SHA-256 is {found[:12]}..., must be {weights.sha256[:12]}...; remove the file")
    return path
