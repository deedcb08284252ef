"""Face detectors: the published Haar cascade, YuNet, and Haar boxes verified by YuNet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from faceforge.cut.frame import Box, Frame, Landmarks, Point, cut, haar_box, placed, roll
from faceforge.errors import BadInput
from faceforge.fetch.download import DownloadError, fetch, file_hash
from faceforge.io.storage import cache_root

DetectorName = Literal["yunet", "haar", "verified"]

# the published routine's settings
HAAR = {"scaleFactor": 1.2, "minNeighbors": 5, "minSize": (60, 60)}
EYE_SEARCH_WIDTH, MAX_EYE_WIDTH = 96, 38  # pixels: a box is resized to this width for the eye cascade
EYE_SEARCH_ROWS = 0.15, 0.6  # rows of the box in which eyes are searched, as fractions of its height
CASCADES = Path(cv2.data.haarcascades)  # pyright: ignore[reportAttributeAccessIssue]

TURN_GAIN = 0.01  # score by which a rotated photo must beat the unrotated one
MIN_SCORE = 0.6  # of YuNet; lower detections are discarded
SURE_SCORE = 0.75  # from here on a face counts as detected (measured: docs/results/cut_faces.md)
UPRIGHT_SCORE = 0.92  # most upright faces reach it, hardly any upside-down or sideways face does
NMS_IOU = 0.3  # boxes that overlap more are detections of one face
MATCH_IOU = 0.4  # of a Haar box and a YuNet box of the same face
MIN_INPUT_SIDE = 33  # OpenCV pads sides to multiples of 32; at exactly 32 its network reads uninitialised memory
REFINED_FACE_SIDE = 200  # pixels: faces smaller than REFINE_BELOW are enlarged to this to refine their landmarks
REFINE_BELOW = 140
LEVEL, LEVEL_TURNS = 1.0, 5  # degrees of roll at which a turned face is level; how often it is turned until then
LEVEL_SIDE, LEVEL_WIDTHS = 320, (1.6, 2.0, 2.5)  # pixels of the squares in which it is found again; in Haar boxes
MAX_INPUT_SIDE = 1024  # the long side at which small faces are detected
INPUT_SIDES = 320, MAX_INPUT_SIDE  # YuNet detects faces of about 10 to 300 pixels; larger ones need the small side


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file: its name, source, size in bytes and SHA-256."""

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
class Detection:
    """A face in a photo rotated by ``quarter`` quarter turns clockwise; coordinates in pixels of the rotated photo."""

    box: Box
    score: float | None = None
    landmarks: Landmarks | None = None
    neighbours: int | None = None
    agreement: float | None = None
    quarter: int = 0


Detector = Callable[[np.ndarray], list[Detection]]


@lru_cache(maxsize=4)
def make_detector(name: DetectorName, weights: Path | None) -> Detector:
    """A face detector for uint8 RGB (H, W, 3), cached per process."""
    if name == "haar":
        return Haar()
    assert weights is not None
    return yunet(weights) if name == "yunet" else Verified(weights)


@lru_cache(maxsize=2)
def yunet(weights: Path) -> YuNet:
    """YuNet itself, cached per process."""
    return YuNet(weights)


# ------------------------------------------------------------------------------------------------------------- YuNet


class YuNet:
    """YuNet (Wu et al. 2023, Machine Intelligence Research 20), five landmarks a face, at up to two scales.

    Unless a face is clearly upright, the photo is also searched at the three other quarter turns, and one of these
    is used if its score is clearly better. Each face is reported in the quarter turn in which it is upright.
    """

    def __init__(self, weights: Path) -> None:
        try:
            self._net = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), MIN_SCORE, NMS_IOU, 5000)
        except cv2.error as error:
            raise BadInput(f"{weights}: not the weights of YuNet; remove the file to download it again") from error

    def __call__(self, pixels: np.ndarray) -> list[Detection]:
        """Faces by descending score."""
        quarter, picture, detections = 0, pixels, self.upright(pixels)
        if _best(detections) < UPRIGHT_SCORE:
            lying = [np.ascontiguousarray(np.rot90(pixels, -q)) for q in (1, 2, 3)]
            turned = [(q, turn, self.upright(turn)) for q, turn in enumerate(lying, start=1)]
            best = max(turned, key=lambda turn: _best(turn[2]))
            if _best(best[2]) >= _best(detections) + TURN_GAIN:
                quarter, picture, detections = best
        refined = [self._refined(picture, face) for face in detections]
        return [_stand_up(face, pixels.shape[:2]) for face in _turned(refined, -quarter, pixels.shape[:2])]

    def upright(self, pixels: np.ndarray) -> list[Detection]:
        """Upright faces of the unrotated photo, by descending score."""
        longest = max(pixels.shape[:2])
        shrunk = {min(1.0, side / longest) for side in INPUT_SIDES} if longest > 1.5 * INPUT_SIDES[0] else {1.0}
        return _distinct([face for share in sorted(shrunk) for face in self._at(pixels, share)])

    def level(self, pixels: np.ndarray, landmarks: Landmarks) -> tuple[Landmarks, float | None]:
        """The landmarks of a face, found again in the photo turned level by them until it is, and the roll then left.

        The network underestimates the roll of a tilted face, by a third and more, and may see it upside down. None if
        it loses the face.
        """
        ways = [way for turn in (0.0, 180.0) if (way := self._again(pixels, landmarks, LEVEL_WIDTHS[1], turn))]
        landmarks = max(ways, key=lambda way: way[0])[2] if ways else landmarks
        left: float | None = None
        for _ in range(LEVEL_TURNS):
            seen = [look for wide in LEVEL_WIDTHS if (look := self._again(pixels, landmarks, wide))]
            if not seen:
                return landmarks, None
            left = float(np.mean([look[1] for look in seen]))
            a, b, c, d, e = ((float(x), float(y)) for x, y in np.mean([look[2] for look in seen], axis=0))
            landmarks = (a, b, c, d, e)
            if abs(left) <= LEVEL:
                break
        return landmarks, left

    def _again(
        self, pixels: np.ndarray, landmarks: Landmarks, wide: float, turn: float = 0.0
    ) -> tuple[float, float, Landmarks] | None:
        """Score, roll and landmarks of a face in a square around it, ``wide`` Haar boxes large and turned level."""
        x, y, w, h = haar_box(landmarks)
        frame = Frame(x + w / 2, y + h / 2, wide * w, wide * w, roll(landmarks) + turn or 1e-6)
        side, half = LEVEL_SIDE / wide, LEVEL_SIDE / 2
        box = (half - side / 2, half - side / 2, side, side)
        seen = self.upright(cut(pixels, frame, (LEVEL_SIDE, LEVEL_SIDE)))
        best = max(seen, key=lambda face: overlap(face.box, box), default=None)
        if best is None or best.landmarks is None or overlap(best.box, box) < NMS_IOU:
            return None
        share = frame.w / LEVEL_SIDE
        a, b, c, d, e = (placed((px - half) * share, (py - half) * share, frame) for px, py in best.landmarks)
        return best.score or 0.0, roll(best.landmarks), (a, b, c, d, e)

    def _refined(self, pixels: np.ndarray, face: Detection) -> Detection:
        """The face with its landmarks detected again at a larger scale if it is small.

        For faces below about 120 pixels the network underestimates the roll: 25 degrees come out as 5.
        """
        x, y, w, h = face.box
        if not 0 < max(w, h) < REFINE_BELOW:
            return face
        height, width = pixels.shape[:2]
        left, top = (int(min(max(0.0, at), end - 1)) for at, end in ((x - w / 2, width), (y - h / 2, height)))
        part = pixels[top : max(top + 1, round(y + 1.5 * h)), left : max(left + 1, round(x + 1.5 * w))]
        seen = [_moved(other, left, top) for other in self._at(part, REFINED_FACE_SIDE / max(w, h))]
        best = max(seen, key=lambda other: overlap(other.box, face.box), default=face)
        return replace(face, landmarks=best.landmarks) if overlap(best.box, face.box) >= MATCH_IOU else face

    def _at(self, pixels: np.ndarray, share: float) -> list[Detection]:
        height, width = (max(1, round(length * share)) for length in pixels.shape[:2])
        method = cv2.INTER_AREA if share < 1.0 else cv2.INTER_CUBIC
        picture = pixels if share == 1.0 else cv2.resize(pixels, (width, height), interpolation=method)
        below, beside = max(0, MIN_INPUT_SIDE - height), max(0, MIN_INPUT_SIDE - width)
        picture = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_CONSTANT) if below or beside else picture
        self._net.setInputSize(picture.shape[1::-1])
        _, rows = self._net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        back = np.tile([pixels.shape[1] / width, pixels.shape[0] / height], 7)
        return [] if rows is None else [_from_row(row[:14] * back, row[14]) for row in rows.astype(float)]


def _from_row(places: np.ndarray, score: float) -> Detection:
    left_eye, right_eye, nose, mouth_left, mouth_right = ((float(x), float(y)) for x, y in places[4:].reshape(5, 2))
    x, y, w, h = places[:4].tolist()
    return Detection((x, y, w, h), float(score), (left_eye, right_eye, nose, mouth_left, mouth_right))


def _moved(face: Detection, x: float, y: float) -> Detection:
    a, b, c, d, e = ((px + x, py + y) for px, py in face.landmarks or ())
    box = (face.box[0] + x, face.box[1] + y, face.box[2], face.box[3])
    return replace(face, box=box, landmarks=(a, b, c, d, e))


def _best(detections: Sequence[Detection]) -> float:
    return max((face.score or 0.0 for face in detections), default=0.0)


def _distinct(detections: list[Detection]) -> list[Detection]:
    """The highest-scoring of each set of overlapping faces (non-maximum suppression)."""
    kept: list[Detection] = []
    for face in sorted(detections, key=lambda face: -(face.score or 0.0)):
        if all(overlap(face.box, other.box) <= NMS_IOU for other in kept):
            kept.append(face)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (a[2] * a[3] + b[2] * b[3] - common) if common else 0.0


def scaled(face: Detection, small: tuple[int, ...], full: tuple[int, ...]) -> Detection:
    """Coordinates in an image of the shape ``small`` scaled to that of ``full``, in the quarter turn of the face."""
    sides = full[1] / small[1], full[0] / small[0]
    x, y = sides if face.quarter % 2 == 0 else sides[::-1]
    box = (face.box[0] * x, face.box[1] * y, face.box[2] * x, face.box[3] * y)
    if face.landmarks is None:
        return replace(face, box=box)
    a, b, c, d, e = ((px * x, py * y) for px, py in face.landmarks)
    return replace(face, box=box, landmarks=(a, b, c, d, e))


# ----------------------------------------------------------------------------------------------------- quarter turns


def _stand_up(face: Detection, size: tuple[int, int]) -> Detection:
    """The face in the quarter turn that makes it upright; ``size`` is the (height, width) of the unrotated photo."""
    quarter = -round(roll(face.landmarks) / 90) % 4 if face.landmarks else 0
    return replace(_turned([face], quarter, size)[0], quarter=quarter)


def _turned(detections: Sequence[Detection], quarter: int, size: tuple[int, int]) -> list[Detection]:
    """Coordinates after rotating a photo by ``quarter`` quarter turns clockwise; a negative number rotates back.

    ``size`` is the (height, width) of the unrotated photo.
    """
    quarters, height, width = quarter % 4, *size
    if quarter < 0 and quarter % 2:
        height, width = width, height
    for _ in range(quarters):
        detections = [_quarter(face, height) for face in detections]
        height, width = width, height
    return list(detections)


def _quarter(face: Detection, height: float) -> Detection:
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
    """OpenCV's frontal face cascade (Viola and Jones 2001) with the published settings."""

    def __init__(self) -> None:
        self._faces = cv2.CascadeClassifier(str(CASCADES / "haarcascade_frontalface_default.xml"))

    def __call__(self, pixels: np.ndarray) -> list[Detection]:
        """Boxes by falling number of neighbours."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        boxes, counts = self._faces.detectMultiScale2(grey, **HAAR)
        detections = [
            Detection((float(x), float(y), float(w), float(h)), neighbours=int(count))
            for (x, y, w, h), count in zip(boxes, counts, strict=True)
        ]
        return sorted(detections, key=lambda face: -(face.neighbours or 0))


def count_eyes(face: np.ndarray) -> int:
    """How many eyes the eye cascade finds in a Haar box, uint8 RGB (H, W, 3); recorded, but never decisive.

    The cascade reports nostrils as eyes and misses eyes behind glasses. Each box is resized to one width and only its
    upper part is searched, up to the size of an eye; at full size this would take longer than detecting the faces.
    """
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    first, last = (round(len(grey) * part) for part in EYE_SEARCH_ROWS)
    part = grey[first : max(first + 1, last)]
    small = cv2.resize(part, (EYE_SEARCH_WIDTH, round(EYE_SEARCH_WIDTH * (EYE_SEARCH_ROWS[1] - EYE_SEARCH_ROWS[0]))))
    return len(_eye_cascade().detectMultiScale(small, 1.1, 2, maxSize=(MAX_EYE_WIDTH, MAX_EYE_WIDTH)))


@lru_cache(maxsize=1)
def _eye_cascade() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(CASCADES / "haarcascade_eye.xml"))


class Verified:
    """Haar boxes verified by YuNet: its score and landmarks, and the overlap with its box (0 without a match)."""

    def __init__(self, weights: Path) -> None:
        self._haar, self._yunet = Haar(), yunet(weights)

    def __call__(self, pixels: np.ndarray) -> list[Detection]:
        """Boxes by falling number of neighbours."""
        faces = self._haar(pixels)
        seconds = self._yunet.upright(pixels) if faces else []
        return [_verified(face, seconds) for face in faces]


def _verified(face: Detection, seconds: Sequence[Detection]) -> Detection:
    agreeing = [(overlap(face.box, other.box), other) for other in seconds if agree(face.box, other.box)]
    if not agreeing:
        return replace(face, agreement=0.0)
    share, second = max(agreeing, key=lambda pair: pair[0])
    return replace(face, agreement=share, score=second.score, landmarks=second.landmarks)


def agree(a: Box, b: Box) -> bool:
    """Whether two boxes are of the same face: their IoU is at least 0.4, or each contains the centre of the other."""
    return overlap(a, b) >= MATCH_IOU or (_contains_centre(a, b) and _contains_centre(b, a))


def _contains_centre(a: Box, b: Box) -> bool:
    x, y = b[0] + b[2] / 2, b[1] + b[3] / 2
    return a[0] <= x <= a[0] + a[2] and a[1] <= y <= a[1] + a[3]


# ------------------------------------------------------------------------------------------------------------ weights


def find_yunet() -> Path:
    """The path of YuNet's weights: in $FACEFORGE_WEIGHTS or in the cache, downloaded to the cache at first use.

    Raises BadInput, one line, if they are neither there nor can be downloaded.
    """
    own = os.environ.get("FACEFORGE_WEIGHTS")
    cache = cache_root() / "weights"
    for folder in (Path(own).expanduser() if own else None, cache):
        for weights in YUNET if folder else ():
            if folder and (folder / weights.name).is_file():
                return checked(folder / weights.name, weights)
    reason: object = ""
    instead = "put the file into a folder and set FACEFORGE_WEIGHTS to it, or use the published --detector haar"
    for weights in YUNET:
        try:
            return fetch(
                weights.url, cache / weights.name, size=weights.size, sha256=weights.sha256, what="weights of YuNet"
            )
        except DownloadError as error:
            reason = error
    raise BadInput(f"{reason}; {instead}")


def checked(path: Path, weights: Weights) -> Path:
    """The path, if the file there is what the weights' hash says. Raises BadInput."""
    digest = file_hash(path)
    if digest != weights.sha256:
        raise BadInput(f"{path}: its SHA-256 is {digest[:12]}..., must be {weights.sha256[:12]}...; remove it")
    return path
