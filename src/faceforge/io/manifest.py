"""`manifest.csv`: one row per face and one per photo without a face; users may edit it.

It is read and written as a stream, so that memory does not grow with the number of photos.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from io import TextIOWrapper
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_type_hints

from faceforge.errors import BadInput
from faceforge.io import tables
from faceforge.io.files import atomic_path

NAME = "manifest.csv"
VERDICTS = ("accepted", "doubtful", "rejected")
NONE = "none"  # the verdict of a photo without a face
NO_FACE = "no face found"  # the reason of a photo that was read; any other is why it could not be read


@dataclass(slots=True)
class Row:
    """A face, or a photo without one (``n`` 0, verdict ``none``, all measurements empty).

    Coordinates are pixels of the photo after its EXIF orientation and ``quarter``, x to the right and y down. Left and
    right are the viewer's. ``frame_*`` is the crop rectangle: its centre, its size and its clockwise rotation in
    degrees relative to the photo.
    """

    face: str  # the crop's file below DST or _review/<verdict>/; "" without a face
    source: str  # the photo below SRC; control characters and undecodable bytes as %XX
    n: int  # 1, 2, ... from the largest face of the photo; 0 without a face
    verdict: str  # accepted | doubtful | rejected | none
    reason: str  # why it is not accepted, or "by hand"; may be ""
    detector: str = ""  # yunet | haar | verified
    score: float | None = None  # YuNet's, 0-1
    neighbours: int | None = None  # Haar: number of overlapping detections
    agreement: float | None = None  # verified: overlap (IoU, 0-1) of the Haar box with YuNet's
    eyes: int | None = None  # Haar: eyes found by the eye cascade in the box; informative only
    quarter: int | None = None  # clockwise quarter turns (0-3) that make this face upright
    box_x: float | None = None  # the detected box: left, top, width, height
    box_y: float | None = None
    box_w: float | None = None
    box_h: float | None = None
    left_eye_x: float | None = None
    left_eye_y: float | None = None
    right_eye_x: float | None = None
    right_eye_y: float | None = None
    nose_x: float | None = None
    nose_y: float | None = None
    mouth_left_x: float | None = None
    mouth_left_y: float | None = None
    mouth_right_x: float | None = None
    mouth_right_y: float | None = None
    roll: float | None = None  # rotation of the eyes, degrees clockwise
    yaw: float | None = None  # -1 to 1: horizontal offset of the nose between the eyes, 0 frontal
    tilt: float | None = None  # with --align: the roll that is left, found after turning the face level
    frame_x: float | None = None
    frame_y: float | None = None
    frame_w: float | None = None
    frame_h: float | None = None
    frame_angle: float | None = None
    moved: float | None = None  # shift of the frame to stay inside the photo, in frame widths
    shrunk: float | None = None  # scale of the frame to fit into the photo, at most 1
    zoom: float | None = None  # of the frame: 1 is the published one, larger is closer
    padded: float | None = None  # share of the crop's pixels outside the photo, filled by reflection
    scale: float | None = None  # crop pixels per photo pixel; above 1 is upscaled
    sharpness: float | None = None  # variance of the Laplacian of the face's luma at 128 pixels
    brightness: float | None = None  # mean luma of the crop, 0-255
    contrast: float | None = None  # standard deviation of the crop's luma, 0-127.5
    mean_colour: str = ""  # #rrggbb
    dominant_colour: str = ""  # #rrggbb, mean of the most frequent of 4x4x4 colour cells
    fingerprint: str = ""  # perceptual hash, 64 bits in hex: similar images differ in few bits
    same_as: str = ""  # the first face of which this is a near duplicate
    person: str = ""  # with --people: the first face of the same person
    photo_w: int | None = None  # after EXIF orientation and quarter
    photo_h: int | None = None
    source_sha256: str = ""

    @property
    def unread(self) -> bool:
        """Whether the photo could not be read, so that nobody knows whether it shows a face."""
        return self.verdict == NONE and self.reason != NO_FACE


COLUMNS = tuple(field.name for field in fields(Row))
EDITED = {"n", *(name for name in COLUMNS if name.startswith("frame_"))}  # numbers that must be read
_TYPES = get_type_hints(Row)
_ADDED = {"tilt", "zoom", "padded"}  # manifests of earlier versions do not have them


def rounded(row: Row) -> Row:
    """The row as it will be read back."""
    given = {name: getattr(row, name) for name in COLUMNS}
    floats = {name: float(_text(value)) for name, value in given.items() if isinstance(value, float)}
    return replace(row, **floats, **{name: _text(value) for name, value in given.items() if isinstance(value, str)})


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write a manifest atomically; returns the number of rows."""
    count = 0
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_text(getattr(row, name)) for name in COLUMNS])
            count += 1
    return count


def read(path: Path) -> Iterator[Row]:
    """The rows of a manifest, one by one.

    The file may come from a spreadsheet: another encoding, separator or decimal comma, reordered or additional columns.
    A number that is no edit and cannot be read is None. Raises BadInput naming row and column of an invalid value.
    """
    try:
        with path.open("rb") as file:
            yield from parse(file, str(path))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def parse(file: BinaryIO, where: str, columns: Sequence[str] = COLUMNS) -> Iterator[Row]:
    """As read(), from a binary file, of some columns; ``where`` names it in messages."""
    number = 1
    try:
        lines = tables.lines_of(TextIOWrapper(file, tables.encoding_of(file), errors="replace", newline=""))
        names = _header(next(lines, (1, []))[1])
        wrong = next((name for name in columns if names.count(name) > 1 or name not in {*names, *_ADDED}), None)
        if wrong:
            count = "two columns" if wrong in names else "no column"
            raise BadInput(f"{where}: {count} {wrong}; keep the original header line")
        for number, (_, values) in enumerate(lines, start=2):
            yield _row(f"{where}: row {number}", names, values, columns)
    except tables.NoText as error:
        raise BadInput(f"{where}: {error}") from error
    except (csv.Error, UnicodeError) as error:
        raise BadInput(f"{where}: cannot be read as CSV after row {number} ({error})") from error


def is_one(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first rows of a table are those of a manifest: its header, whole or in part, or a verdict."""
    for cells in rows:
        names = set(_header(cells))
        if len(names.intersection(COLUMNS)) > len(COLUMNS) // 2 or {"face", "verdict"} <= names:
            return True
        if not names.isdisjoint(VERDICTS) or (len(cells) >= len(COLUMNS) - 1 and NONE in names):
            return True
    return False


def is_another(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first rows of a table are those of another program, which only has the name of a manifest."""
    filled = [cells for cells in rows if any(cells)]
    widths = {len(cells) for cells in filled}
    return len(filled) > 1 and len(widths) == 1 and 1 not in widths and not filled[0][0].startswith(("{", "[", "<"))


def _header(cells: Sequence[str]) -> list[str]:
    return [cell.strip().removeprefix("\ufeff").lower() for cell in cells]


def _row(where: str, names: list[str], values: list[str], columns: Sequence[str]) -> Row:
    if len(values) != len(names):
        raise BadInput(f"{where}: {len(values)} values, the header has {len(names)}")
    given = dict(zip(names, values, strict=True))
    row = Row(**{name: _value(where, name, given.get(name, "")) for name in columns})
    verdicts = VERDICTS if row.n else (NONE,)
    if row.verdict not in verdicts:
        raise BadInput(f"{where}: verdict {row.verdict!r}; must be {' or '.join(verdicts)}")
    return row


def _value(where: str, name: str, text: str) -> Any:
    kind = _TYPES[name]
    if kind is str:
        return _text(text).strip() if name == "verdict" else _text(text)
    if not text and isinstance(kind, UnionType):
        return None
    kind = get_args(kind)[0] if isinstance(kind, UnionType) else kind
    try:
        value = int(text) if kind is int else tables.decimal(text)
    except ValueError:
        value = None
    if value is not None and abs(value) <= 1e9:
        return value
    if name not in EDITED:
        return None
    right = "a whole number" if kind is int else "a number"
    raise BadInput(f"{where}: {name} is {text!r}; must be {right}")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):  # spreadsheets use different line ends within a cell; csv.writer fails on one
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
