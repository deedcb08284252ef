"""The work on one photo, run in every process: read it, detect its faces, measure, judge and crop them."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg

from faceforge.cut import frame as framing
from faceforge.cut import measure
from faceforge.cut.detect import MAX_INPUT_SIDE, SURE_SCORE, Detection, DetectorName, count_eyes, make_detector
from faceforge.cut.frame import Frame
from faceforge.errors import BadInput
from faceforge.io.archives import FileStore
from faceforge.io.images import ImageError, decode
from faceforge.io.manifest import COLUMNS, NONE, Row, rounded

REVIEW = "_review"
_ESCAPED_PARTS = {"": "%2F", ".": "%2E", "..": "%2E%2E"}  # parts of a name that are special in a path
LONGEST_NAME = 200  # bytes of a file name before "-1.png"; longer names are truncated and get a hash
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]

# beyond these limits a face is doubtful
MIN_SHARPNESS = 12.0
MIN_BRIGHTNESS, MAX_BRIGHTNESS, MIN_CONTRAST = 30.0, 225.0, 10.0
MAX_MOVED = 0.35  # in widths of the frame
TOO_TIGHT = "the photo is too tight: the frame cuts into the face"
MAX_YAW = 1.0  # the nose is at one eye or beyond it


EMPTY = Row(face="", source="", n=0, verdict="", reason="")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that determines the crops; stored beside them, since all crops of a folder must share it."""

    height: int
    width: int
    detector: DetectorName
    align: bool
    zoom: float
    min_face: int
    recipe: str = framing.RECIPE

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every crop."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker needs; it is sent to other machines, which must see the same folders."""

    store: FileStore
    target: Path
    settings: Settings
    weights: Path | None
    parent: int | None  # the process that waits for the results; None if it may be on another machine


@dataclass(frozen=True, slots=True)
class Photo:
    """The result for a photo: its name in the store, the stamp of its file, its SHA-256 and its rows."""

    name: str
    stamp: str
    sha256: str
    rows: list[Row]

    def plain(self) -> dict[str, Any]:
        """The photo as plain JSON values."""
        rows = [{k: v for k in COLUMNS if (v := getattr(row, k)) != getattr(EMPTY, k)} for row in self.rows]
        return {"name": self.name, "stamp": self.stamp, "sha256": self.sha256, "rows": rows}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Photo:
        """The photo from the result of plain()."""
        rows = [Row(**{"face": "", "n": 0, "reason": "", **row}) for row in plain["rows"]]
        return cls(plain["name"], plain["stamp"], plain["sha256"], rows)


@dataclass(frozen=True, slots=True)
class Task:
    """A photo to process. If its SHA-256 is ``known``, nothing is to be done, or only ``rows`` are to be cut again."""

    name: str
    stamp: str
    known: str = ""
    rows: tuple[Row, ...] = ()


def work(job: Job, tasks: Sequence[Task]) -> list[Photo]:
    """Process photos and write their crops; results in order, or none if the process that waits for them is gone."""
    cv2.setNumThreads(1)  # there is already one process per core
    done = []
    for task in tasks:
        if job.parent not in (None, os.getpid(), os.getppid()):
            return []
        done.append(_recut(job, task) if task.rows else _process(job, task))
    return done


def _process(job: Job, task: Task) -> Photo:
    digest = ""
    try:
        data = job.store.read(task.name)
        digest = hashlib.sha256(data).hexdigest()
        if digest == task.known:
            return Photo(task.name, task.stamp, digest, [])
        rows = _faces(job, task.name, data, digest)
    except (ImageError, MemoryError, cv2.error) as error:
        rows = [_row_without_face(task.name, " ".join(str(error).split()) or "out of memory", digest)]
    return Photo(task.name, task.stamp, digest, rows)


def _row_without_face(name: str, reason: str, digest: str) -> Row:
    return Row(face="", source=escaped(name), n=0, verdict=NONE, reason=escaped(reason), source_sha256=digest)


def _faces(job: Job, name: str, data: bytes, digest: str) -> list[Row]:
    detect = make_detector(job.settings.detector, job.weights)
    small, size = _reduced(data, name) if job.settings.detector == "yunet" else (None, None)
    pixels = _colour(decode(data, name)) if small is None else small
    detections = sorted(detect(pixels), key=lambda face: -face.box[2] * face.box[3])
    if not detections:
        height, width = size or pixels.shape[:2]
        return [replace(_row_without_face(name, "no face found", digest), photo_w=width, photo_h=height)]
    if small is not None:
        pixels = _colour(decode(data, name))
        detections = [_enlarged(face, small, pixels) for face in detections]
    rows = []
    for n, face in enumerate(detections, start=1):
        rows.append(_face(job, name, digest, n, face, np.ascontiguousarray(np.rot90(pixels, -face.quarter))))
    return rows


def _face(job: Job, name: str, digest: str, n: int, face: Detection, upright: np.ndarray) -> Row:
    """Frame, crop, measure and judge one face; write its crop and thumbnail."""
    settings = job.settings
    angle = framing.roll(face.landmarks) if face.landmarks and settings.align else 0.0
    box = framing.haar_box(face.landmarks) if face.landmarks and settings.detector == "yunet" else face.box
    height, width = upright.shape[:2]
    frame = framing.fit(framing.grow(box, settings.size, settings.zoom, angle), width, height)
    row = Row(
        face=face_name(name, n),
        source=escaped(name),
        n=n,
        verdict="",
        reason="",
        detector=settings.detector,
        score=face.score,
        neighbours=face.neighbours,
        agreement=face.agreement,
        eyes=None if settings.detector == "yunet" else count_eyes(measure.inside(upright, face.box)),
        quarter=face.quarter,
        **_places(face),
        frame_x=frame.x,
        frame_y=frame.y,
        frame_w=frame.w,
        frame_h=frame.h,
        frame_angle=frame.angle,
        moved=frame.moved,
        shrunk=frame.shrunk,
        scale=settings.height / frame.h,
        photo_w=width,
        photo_h=height,
        source_sha256=digest,
    )
    crop = cut_row(rounded(row), upright, settings)
    measures = measure.measure(crop, measure.inside(upright, face.box))
    row = rounded(replace(row, **asdict(measures)))
    row.verdict, row.reason = judge(row, settings)
    write_crop(job.target, row, crop)
    return row


def _places(face: Detection) -> dict[str, Any]:
    places: dict[str, Any] = dict(zip(("box_x", "box_y", "box_w", "box_h"), face.box, strict=True))
    if face.landmarks:
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        for name, (x, y) in zip(names, face.landmarks, strict=True):
            places |= {f"{name}_x": x, f"{name}_y": y}
        places |= {"roll": framing.roll(face.landmarks), "yaw": framing.yaw(face.landmarks)}
    return places


def cut_row(row: Row, upright: np.ndarray, settings: Settings) -> np.ndarray:
    """The crop of a manifest row from the photo, rotated by the quarter turn of the row."""
    x, y, w, h = (value or 0.0 for value in (row.frame_x, row.frame_y, row.frame_w, row.frame_h))
    return framing.cut(upright, Frame(x, y, w, h, row.frame_angle or 0.0), settings.size)


def judge(row: Row, settings: Settings) -> tuple[Literal["accepted", "doubtful", "rejected"], str]:
    """The verdict on a face and its reason, from its measures; near duplicates are judged later, among all faces."""
    side = min(row.box_w or 0.0, row.box_h or 0.0)
    if row.agreement == 0.0:
        return "rejected", "YuNet finds no face here"
    if side < settings.min_face:
        return "rejected", f"a face of {side:.0f} pixels, must be at least {settings.min_face}"
    doubts = (
        (row.score is not None and row.score < SURE_SCORE, f"score {row.score or 0:.2f}, below {SURE_SCORE}"),
        (_cuts_into(row, settings), TOO_TIGHT),
        (row.quarter == 2, "seems upside down"),
        ((row.moved or 0.0) > MAX_MOVED, "off centre, at the edge of the photo"),
        (abs(row.yaw or 0.0) >= MAX_YAW, "seen from the side"),
        ((row.sharpness or 0.0) < MIN_SHARPNESS, "blurred"),
        ((row.brightness or 0.0) < MIN_BRIGHTNESS, "very dark"),
        ((row.brightness or 0.0) > MAX_BRIGHTNESS, "very bright"),
        ((row.contrast or 0.0) < MIN_CONTRAST, "very low contrast"),
    )
    reasons = [reason for holds, reason in doubts if holds]
    return ("doubtful", "; ".join(reasons)) if reasons else ("accepted", "")


def _cuts_into(row: Row, settings: Settings) -> bool:
    """Whether a frame that had to shrink is narrower or shorter than the Haar box."""
    width, height, shrunk = row.frame_w or 0.0, row.frame_h or 0.0, row.shrunk or 1.0
    face = height * settings.zoom / (framing.GROWN_HEIGHT * shrunk)
    return shrunk < 1.0 and min(width, height) < framing.LEAST_WIDTH * face


def _recut(job: Job, task: Task) -> Photo:
    """Cut only the rows of the task, whose frames may have been edited.

    The result has no rows if the photo is gone or has changed in the meantime.
    """
    try:
        data = job.store.read(task.name)
        digest = hashlib.sha256(data).hexdigest()
        pixels = _colour(decode(data, task.name)) if digest == task.known else None
    except (ImageError, MemoryError):
        digest, pixels = "", None
    if pixels is None:
        return Photo(task.name, task.stamp, digest, [])
    for row in task.rows:
        upright = np.ascontiguousarray(np.rot90(pixels, -(row.quarter or 0)))
        write_crop(job.target, row, cut_row(row, upright, job.settings))
    return Photo(task.name, task.stamp, digest, list(task.rows))


# ------------------------------------------------------------------------------------------------------------ reading


def _colour(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _reduced(data: bytes, name: str) -> tuple[np.ndarray | None, tuple[int, int] | None]:
    """A large JPEG decoded at 1/2, 1/4 or 1/8, still as large as the detector's input, and its full (height, width).

    (None, None) for other files. Most of the decoding is skipped, and photos without faces are never decoded in full.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None, None
    try:
        height, width = (int(v) for v in simplejpeg.decode_jpeg_header(data)[:2])
    except ValueError:
        return None, None
    factor = next((f for f in (8, 4, 2) if max(height, width) // f >= MAX_INPUT_SIDE), 1)
    if factor == 1:
        return None, None
    pixels = _colour(decode(data, name, (-(-height // factor), -(-width // factor))))
    lies_as_stored = (pixels.shape[0] >= pixels.shape[1]) == (height >= width)  # otherwise EXIF rotates it
    return pixels, (height, width) if lies_as_stored else (width, height)


def _enlarged(face: Detection, small: np.ndarray, full: np.ndarray) -> Detection:
    """Coordinates in the reduced image scaled to the full image (both in the quarter turn of the face)."""
    sides = full.shape[1] / small.shape[1], full.shape[0] / small.shape[0]
    x, y = sides if face.quarter % 2 == 0 else sides[::-1]
    box = (face.box[0] * x, face.box[1] * y, face.box[2] * x, face.box[3] * y)
    if face.landmarks is None:
        return replace(face, box=box)
    a, b, c, d, e = ((px * x, py * y) for px, py in face.landmarks)
    return replace(face, box=box, landmarks=(a, b, c, d, e))


# ------------------------------------------------------------------------------------------------- names and writing


def escaped(name: str) -> str:
    """A file name as printable text: control characters and undecodable bytes as %XX."""
    raw = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    safe = re.sub("%(?=[0-9A-F]{2})", "%25", raw)
    marks = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda m: _percent(m[0].encode()), safe)
    return re.sub("[\ud800-\udfff]", lambda m: _percent(m[0].encode("utf-8", "surrogateescape")), marks)


def _percent(raw: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in raw)


def face_name(photo: str, n: int) -> str:
    """The path of a crop in its folder: the full name of the photo and the number of the face.

    It never leaves the folder, although names in a zip may be absolute or contain "..".
    """
    parts = [_ESCAPED_PARTS.get(part) or _short(part) for part in escaped(photo).split("/")]
    return "/".join([*parts[:-1], f"{parts[-1]}-{n}.png"])


def _short(part: str) -> str:
    raw = part.encode()
    if len(raw) <= LONGEST_NAME:
        return part
    return raw[: LONGEST_NAME - 17].decode("utf-8", "ignore") + "-" + hashlib.sha256(raw).hexdigest()[:16]


def place(target: Path, face: str, verdict: str) -> Path:
    """The path of the crop of a face with a verdict."""
    return target / face if verdict == "accepted" else target / REVIEW / verdict / face


def thumb(target: Path, face: str) -> Path:
    """The path of the thumbnail of a face."""
    return target / REVIEW / "thumbs" / Path(face).with_suffix(".jpg")


def write_crop(target: Path, row: Row, crop: np.ndarray) -> None:
    """Write crop and thumbnail, without any metadata. Raises BadInput if they cannot be written."""
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    small = cv2.cvtColor(measure.thumbnail(crop), cv2.COLOR_RGB2BGR)
    try:
        _put(target, place(target, row.face, row.verdict), cv2.imencode(".png", bgr, PNG)[1].tobytes())
        _put(target, thumb(target, row.face), cv2.imencode(".jpg", small, JPEG)[1].tobytes())
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror}); nothing is lost, run it again") from error


def _put(target: Path, path: Path, data: bytes) -> None:
    """Write a file atomically for other processes; a power failure may still damage it."""
    beside = target / REVIEW / ".tmp" / uuid.uuid4().hex
    try:
        beside.write_bytes(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
