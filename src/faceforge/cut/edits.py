"""Edits to the manifest: the differences between the file and what the command last wrote."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceforge.cut.frame import Frame, padding, spread
from faceforge.cut.work import REVIEW, Settings
from faceforge.errors import BadInput
from faceforge.fetch.download import file_hash
from faceforge.io import manifest
from faceforge.io.files import atomic_path
from faceforge.io.manifest import Row

FRAME = ("frame_x", "frame_y", "frame_w", "frame_h", "frame_angle")
EDITABLE = ("verdict", "reason", "person", *FRAME)
ASPECT_TOLERANCE = 0.02  # relative difference allowed between the aspect of a frame and that of the crops
EDGE_TOLERANCE = 0.5  # pixels by which a frame may leave the photo, since its numbers are rounded

Edits = dict[str, dict[str, Any]]  # by face: the edited columns, and the SHA-256 of the photo as "of"


@dataclass(frozen=True, slots=True)
class _Written:
    """The row of a face as the command wrote it: its editable columns, and the data that checks an edit."""

    codes: tuple[Any, ...]
    of: str
    photo: tuple[int, int]  # width, height


class Ledger:
    """The manifest, a copy of it as last written, and all earlier edits."""

    def __init__(self, target: Path) -> None:
        self.manifest = target / manifest.NAME
        self._written = target / REVIEW / manifest.NAME
        self._next = target / REVIEW / f"next-{manifest.NAME}"
        self._edits = target / REVIEW / "edits.json"
        self._collected: str | None = None

    def collect(self, settings: Settings) -> Edits:
        """All edits so far, saved to disk. Raises BadInput, changing nothing, if one is invalid."""
        self._collected = _state(self.manifest)
        self._finish()
        edits: Edits = json.loads(self._edits.read_text()) if self._edits.exists() else {}
        copies = [path for path in (self._next, self._written) if path.exists()]
        if not self.manifest.exists() or not copies or _same_bytes(self.manifest, copies[-1]):
            self._next.unlink(missing_ok=True)
            return edits
        for face, changes in self._changes([_faces(path) for path in copies], settings):
            earlier = edits.get(face, {})
            edits[face] = {**(earlier if earlier.get("of") == changes["of"] else {}), **changes}
        with atomic_path(self._edits) as beside:
            beside.write_text(json.dumps(edits, indent=0, sort_keys=True))
        with atomic_path(self._written) as beside:  # all its edits are saved now
            shutil.copyfile(self.manifest, beside)
            self._check_unedited(beside)
        self._next.unlink(missing_ok=True)
        return edits

    def _changes(
        self, copies: Sequence[dict[str, _Written]], settings: Settings
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The edits of rows that differ from every copy."""
        seen: set[str] = set()
        for number, row in enumerate(manifest.read(self.manifest), start=2):
            if not row.n:
                continue
            where = f"{self.manifest}: row {number}"
            written = [copy[row.face] for copy in copies if row.face in copy]
            if row.face in seen:
                raise BadInput(f"{where}: {row.face} has another row; keep one of them")
            if not written:
                raise BadInput(f"{where}: no such face: {row.face}; rows can be edited, not added")
            seen.add(row.face)
            if _code(row) not in [old.codes for old in written]:
                changes = [_change(where, old, row, settings) for old in written]
                yield row.face, min(changes, key=len)

    def write(self, rows: Iterator[Row]) -> int:
        """Write the manifest and return its number of rows; the next collect() recovers from an interrupted write.

        Raises BadInput, leaving the manifest as it is, if it was edited since collect().
        """
        count = manifest.write(self._next, rows)
        self._check_unedited(self.manifest)
        with atomic_path(self.manifest) as beside:
            shutil.copyfile(self._next, beside)
        self._finish()
        return count

    def _check_unedited(self, path: Path) -> None:
        """Raise BadInput if ``path`` is not the manifest that collect() read."""
        if self._collected not in (None, _state(path)):
            raise BadInput(f"{self.manifest}: was edited during the cut; the edit is kept, run the same command again")

    def _finish(self) -> None:
        """Complete an interrupted write(): the manifest is in place, but its copy is not yet updated.

        If the manifest was edited in between, it is unknown which of the two versions was edited, so both copies are
        kept, and a row equal to either counts as unedited.
        """
        if self._next.exists() and self.manifest.exists() and _same_bytes(self.manifest, self._next):
            self._next.replace(self._written)


def _faces(path: Path) -> dict[str, _Written]:
    rows = (row for row in manifest.read(path) if row.n)
    return {row.face: _Written(_code(row), row.source_sha256, (row.photo_w or 0, row.photo_h or 0)) for row in rows}


def _code(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in EDITABLE)


def _same_bytes(a: Path, b: Path) -> bool:
    return filecmp.cmp(a, b, shallow=False)


def _state(path: Path) -> str:
    return file_hash(path) if path.exists() else "absent"


def _change(where: str, old: _Written, new: Row, settings: Settings) -> dict[str, Any]:
    before = dict(zip(EDITABLE, old.codes, strict=True))
    changes = {name: getattr(new, name) for name in EDITABLE if getattr(new, name) != before[name]}
    if any(name in changes for name in FRAME):
        _check_frame(where, new, old.photo, settings)
        changes |= {name: getattr(new, name) for name in FRAME}
    if "verdict" in changes and "reason" not in changes:
        changes["reason"] = "by hand"
    return {**changes, "of": old.of}


def _check_frame(where: str, row: Row, photo: tuple[int, int], settings: Settings) -> None:
    places = [getattr(row, name) for name in FRAME]
    if any(place is None for place in places):
        raise BadInput(f"{where}: the frame has an empty column; {', '.join(FRAME)} must all be set")
    x, y, w, h, angle = places
    if w < 1 or h < 1 or abs(w * settings.height / (h * settings.width) - 1) > ASPECT_TOLERANCE:
        expected = f"{w:.6g} x {w * settings.height / settings.width:.6g}" if w >= 1 else "at least 1 x 1"
        crops = f"crops of {settings.width}x{settings.height}"
        raise BadInput(f"{where}: a frame of {w:g} x {h:g} for {crops}; must be {expected}")
    if settings.pad:
        return
    spread_x, spread_y = spread(Frame(x, y, w, h, angle))
    beyond = max(spread_x / 2 - x, x + spread_x / 2 - photo[0], spread_y / 2 - y, y + spread_y / 2 - photo[1])
    if beyond > EDGE_TOLERANCE:
        size = f"{photo[0]} x {photo[1]}"
        raise BadInput(f"{where}: the frame leaves the photo of {size} by {beyond:.6g} pixels; move or shrink it")


def applied(row: Row, edits: Edits, settings: Settings) -> Row:
    """The row with its edits; edits of a photo that has changed since are ignored."""
    mine = edits.get(row.face) if row.n else None
    if not mine or mine["of"] != row.source_sha256:
        return row
    row = replace(row, **{name: value for name, value in mine.items() if name != "of"})
    if "frame_h" in mine:
        padded = padding(_frame(row), row.photo_w or 1, row.photo_h or 1) if settings.pad else None
        scale = settings.height / (row.frame_h or 1.0)
        row = manifest.rounded(replace(row, scale=scale, moved=0.0, shrunk=1.0, padded=padded))
    return row


def _frame(row: Row) -> Frame:
    return Frame(*(getattr(row, name) or 0.0 for name in FRAME))
