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

from faceforge.cut import frame as framing
from faceforge.cut import measure
from faceforge.cut.detect import (
    MAX_INPUT_SIDE,
    SURE_SCORE,
    Detection,
    DetectorName,
    count_eyes,
    make_detector,
    scaled,
    yunet,
)
from faceforge.cut.frame import Frame
from faceforge.errors import BadInput
from faceforge.io.archives import FileStore
from faceforge.io.images import ImageError, decode, jpeg_size
from faceforge.io.manifest import COLUMNS, NO_FACE, NONE, Row, rounded

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
MAX_TILT = 3.0  # degrees left after turning
MAX_PADDED = 1 / 3
MAX_YAW = 1.0  # the nose is at one eye or beyond it


POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
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
    pad: bool = False  # whether frames may leave the photo and are filled up by reflection
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


def work(job: Job, tasks: Sequence[Task], reframe: bool = False) -> list[Photo]:
    """Process photos and write their crops; results in order, or none if the process that waits for them is gone."""
    cv2.setNumThreads(1)  # there is already one process per core
    done = []
    for task in tasks:
        if job.parent not in (None, os.getpid(), os.getppid()):
            return []
        done.append(_recut(job, task, reframe) if task.rows else _process(job, task))
    return done


def reframe(job: Job, tasks: Sequence[Task]) -> list[Photo]:
    """As work(): the rows of the tasks with the frames, crops and verdicts of the job's settings."""
    return work(job, tasks, reframe=True)


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
    small = _reduced(data, name) if job.settings.detector == "yunet" else None
    looked = _colour(decode(data, name)) if small is None else small
    detections = sorted(detect(looked), key=lambda face: -face.box[2] * face.box[3])
    size = jpeg_size(data) or looked.shape[:2]
    if not detections:
        return [replace(_row_without_face(name, NO_FACE, digest), photo_w=size[1], photo_h=size[0])]
    pixels = looked if small is None else _colour(decode(data, name))
    rows = []
    for n, face in enumerate(detections, start=1):
        upright = np.rot90(pixels, -face.quarter)
        row = _found(job, scaled(face, looked.shape, pixels.shape), upright, (pixels.shape, size))
        known = replace(row, face=face_name(name, n), source=escaped(name), n=n, source_sha256=digest)
        rows.append(_framed(job, known, upright))
    return rows


def _found(job: Job, face: Detection, upright: np.ndarray, sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> Row:
    """What is seen of a face, in pixels of the photo; ``sizes`` are those of its pixels here and of the photo."""
    settings, tilt = job.settings, None
    if face.landmarks and settings.align and job.weights:
        landmarks, tilt = yunet(job.weights).level(upright, face.landmarks)
        face = replace(face, landmarks=landmarks)
    eyes = None if settings.detector == "yunet" else count_eyes(measure.inside(upright, face.box))
    height, width = sizes[1] if face.quarter % 2 == 0 else sizes[1][::-1]
    return replace(
        EMPTY,
        detector=settings.detector,
        score=face.score,
        neighbours=face.neighbours,
        agreement=face.agreement,
        eyes=eyes,
        quarter=face.quarter,
        tilt=tilt,
        **_places(scaled(face, *sizes)),
        photo_w=width,
        photo_h=height,
    )


def frame_of(row: Row, settings: Settings) -> Frame:
    """The frame of a face that was found, in pixels of the photo."""
    points = [(getattr(row, f"{name}_x"), getattr(row, f"{name}_y")) for name in POINTS]
    x, y, w, h = (value or 0.0 for value in (row.box_x, row.box_y, row.box_w, row.box_h))
    known = row.roll is not None
    box = framing.haar_box(tuple(points)) if known and settings.detector == "yunet" else (x, y, w, h)  # type: ignore[arg-type]
    angle = row.roll if known and settings.align else 0.0
    grown = framing.grow(box, settings.size, settings.zoom, angle or 0.0)
    return grown if settings.pad else framing.fit(grown, row.photo_w or 1, row.photo_h or 1)


def _framed(job: Job, row: Row, upright: np.ndarray) -> Row:
    """Frame, crop, measure and judge one face; write its crop and thumbnail."""
    settings, frame = job.settings, frame_of(row, job.settings)
    row = replace(
        row,
        frame_x=frame.x,
        frame_y=frame.y,
        frame_w=frame.w,
        frame_h=frame.h,
        frame_angle=frame.angle,
        moved=frame.moved,
        shrunk=frame.shrunk,
        zoom=settings.zoom,
        padded=framing.padding(frame, row.photo_w or 1, row.photo_h or 1) if settings.pad else None,
        scale=settings.height / frame.h,
    )
    crop = cut_row(rounded(row), upright, settings)
    share = upright.shape[1] / (row.photo_w or 1)
    x, y, w, h = ((value or 0.0) * share for value in (row.box_x, row.box_y, row.box_w, row.box_h))
    measures = measure.measure(crop, measure.inside(upright, (x, y, w, h)))
    row = rounded(replace(row, **asdict(measures)))
    row.verdict, row.reason = judge(row, settings)
    write_crop(job.target, row, crop)
    return row


def _places(face: Detection) -> dict[str, Any]:
    places: dict[str, Any] = dict(zip(("box_x", "box_y", "box_w", "box_h"), face.box, strict=True))
    if face.landmarks:
        for name, (x, y) in zip(POINTS, face.landmarks, strict=True):
            places |= {f"{name}_x": x, f"{name}_y": y}
        places |= {"roll": framing.roll(face.landmarks), "yaw": framing.yaw(face.landmarks)}
    return places


def cut_row(row: Row, upright: np.ndarray, settings: Settings) -> np.ndarray:
    """The crop of a manifest row from the photo, rotated by the quarter turn of the row, whole or reduced."""
    share = upright.shape[1] / (row.photo_w or upright.shape[1])
    x, y, w, h = ((value or 0.0) * share for value in (row.frame_x, row.frame_y, row.frame_w, row.frame_h))
    return framing.cut(upright, Frame(x, y, w, h, row.frame_angle or 0.0), settings.size, settings.pad)


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
        (row.quarter == 2 and abs(row.roll or 0.0) < 90, "seems upside down"),
        ((row.moved or 0.0) > MAX_MOVED, "off centre, at the edge of the photo"),
        ((row.padded or 0.0) > MAX_PADDED, f"{row.padded or 0:.0%} of it is padding"),
        (settings.align and row.roll is not None and row.tilt is None, "lost when it was turned level"),
        (abs(row.tilt or 0.0) > MAX_TILT, f"tilted by {abs(row.tilt or 0):.0f} degrees after turning"),
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


def _recut(job: Job, task: Task, reframe: bool) -> Photo:
    """Cut only the rows of the task, whose frames may have been edited, or are to be chosen anew.

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
    rows = []
    for row in task.rows:
        upright = np.rot90(pixels, -(row.quarter or 0))
        if reframe:
            row = _framed(job, row, upright)
        else:
            write_crop(job.target, row, cut_row(row, upright, job.settings))
        rows.append(row)
    return Photo(task.name, task.stamp, digest, rows)


# ------------------------------------------------------------------------------------------------------------ reading


def _colour(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _reduced(data: bytes, name: str) -> np.ndarray | None:
    """A large JPEG decoded at 1/2, 1/4 or 1/8, still as large as the detector's input; None for other files.

    Most of the decoding is skipped, and photos without faces are never decoded in full.
    """
    size = jpeg_size(data)
    factor = next((f for f in (8, 4, 2) if max(size) // f >= MAX_INPUT_SIDE), 1) if size else 1
    if size is None or factor == 1:
        return None
    return _colour(decode(data, name, factor))


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
