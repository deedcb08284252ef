"""What a person changed in the manifest, told from what the command wrote there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceforge.cut import manifest
from faceforge.cut.manifest import Row
from faceforge.cut.work import REVIEW, Settings
from faceforge.errors import BadInput
from faceforge.files import atomic_path

FRAME = ("frame_x", "frame_y", "frame_w", "frame_h", "frame_angle")
EDITABLE = ("verdict", "reason", "person", *FRAME)
ASPECT = 0.02  # by how much a frame may be wider or narrower than the crops

Edits = dict[str, dict[str, Any]]  # by face: the edited columns, and the photo's hash as "of"


class Ledger:
    """The manifest, the copy of it as it was written, and the edits of earlier times."""

    def __init__(self, target: Path) -> None:
        self.manifest = target / manifest.NAME
        self._written = target / REVIEW / manifest.NAME
        self._next = target / REVIEW / f"next-{manifest.NAME}"
        self._edits = target / REVIEW / "edits.json"

    def collect(self, settings: Settings) -> Edits:
        """All edits up to now, made durable. Raises BadInput, having changed nothing, where one makes no sense."""
        self._finish()
        edits: Edits = json.loads(self._edits.read_text()) if self._edits.exists() else {}
        if self.manifest.exists() and self._written.exists() and not _same_bytes(self.manifest, self._written):
            before = {row.face: (_code(row), row) for row in manifest.read(self._written) if row.n}
            for face, changes in self._changes(before, settings):
                edits[face] = {**edits.get(face, {}), **changes}
            with atomic_path(self._edits) as beside:
                beside.write_text(json.dumps(edits, indent=0, sort_keys=True))
        return edits

    def _changes(self, before: dict[str, Any], settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
        seen: set[str] = set()
        for number, row in enumerate(manifest.read(self.manifest), start=2):
            if not row.n:
                continue
            where = f"{self.manifest}: row {number}"
            if row.face in seen:
                raise BadInput(f"{where}: {row.face} has a row already; keep one of them")
            if row.face not in before:
                raise BadInput(f"{where}: there is no face {row.face}; rows can be changed, not added")
            seen.add(row.face)
            code, old = before[row.face]
            if _code(row) != code:
                yield row.face, _change(where, old, row, settings)

    def write(self, rows: Iterator[Row]) -> int:
        """Write the manifest; a kill in between is made good at the next collect(). The number of rows."""
        count = manifest.write(self._next, rows)
        with atomic_path(self.manifest) as beside:
            beside.write_bytes(self._next.read_bytes())
        self._finish()
        return count

    def _finish(self) -> None:
        if self._next.exists():
            if self.manifest.exists() and _same_bytes(self.manifest, self._next):
                self._next.replace(self._written)
            else:
                self._next.unlink()


def _code(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in EDITABLE)


def _same_bytes(a: Path, b: Path) -> bool:
    return a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes()


def _change(where: str, old: Row, new: Row, settings: Settings) -> dict[str, Any]:
    changes = {name: getattr(new, name) for name in EDITABLE if getattr(new, name) != getattr(old, name)}
    if any(name in changes for name in FRAME):
        _check_frame(where, new, settings)
        changes |= {name: getattr(new, name) for name in FRAME}
    if "verdict" in changes and "reason" not in changes:
        changes["reason"] = "by hand"
    return {**changes, "of": old.source_sha256}


def _check_frame(where: str, row: Row, settings: Settings) -> None:
    places = [getattr(row, name) for name in FRAME]
    if any(place is None for place in places):
        raise BadInput(f"{where}: the frame has an empty column; all of {', '.join(FRAME)} are needed")
    _, _, w, h, angle = places
    if w < 1 or h < 1 or abs(w * settings.height / (h * settings.width) - 1) > ASPECT:
        right = f"{w:.6g} x {w * settings.height / settings.width:.6g} would be right" if w >= 1 else "at least 1 x 1"
        raise BadInput(f"{where}: a frame of {w:g} x {h:g} for crops of {settings.width}x{settings.height}; {right}")
    if not angle and not _inside(row):
        raise BadInput(f"{where}: the frame leaves the photo of {row.photo_w} x {row.photo_h}; move or shrink it")


def _inside(row: Row) -> bool:
    x, y, half_w, half_h = row.frame_x or 0.0, row.frame_y or 0.0, (row.frame_w or 0) / 2, (row.frame_h or 0) / 2
    across = half_w - 1 <= x <= (row.photo_w or 0) - half_w + 1
    return across and half_h - 1 <= y <= (row.photo_h or 0) - half_h + 1


def applied(row: Row, edits: Edits, settings: Settings) -> Row:
    """The row as a person wants it; edits of a photo that has changed since are void."""
    mine = edits.get(row.face) if row.n else None
    if not mine or mine["of"] != row.source_sha256:
        return row
    row = replace(row, **{name: value for name, value in mine.items() if name != "of"})
    if "frame_h" in mine:
        row = manifest.rounded(replace(row, scale=settings.height / (row.frame_h or 1.0), moved=0.0, shrunk=1.0))
    return row
