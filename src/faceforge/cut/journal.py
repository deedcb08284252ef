"""The journal of a cut: one record per photo, so that a cut resumes after a kill and skips unchanged photos.

One line of JSON per photo in ``_review/photos.jsonl``, appended as photos are done and sorted at the end. Only names,
stamps and line offsets are held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from faceforge.cut.work import Photo
from faceforge.io.files import atomic_path


class Journal:
    """Photos by name. A line truncated by a kill is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, tuple[int, str]] = {}
        path.touch()
        self._file = path.open("r+b")
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                plain = json.loads(line)
                self._lines[plain["name"]] = (end, plain["stamp"])
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
        self._file.truncate(end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._lines)

    def names(self) -> list[str]:
        """The names of the recorded photos."""
        return list(self._lines)

    def stamp(self, name: str) -> str | None:
        """The recorded state of the photo's file; None for an unknown photo."""
        place = self._lines.get(name)
        return place[1] if place else None

    def photo(self, name: str) -> Photo:
        """The record of a photo. Raises KeyError."""
        self._file.seek(self._lines[name][0])
        return Photo.of(json.loads(self._file.readline()))

    def add(self, photo: Photo) -> None:
        """Record a photo, replacing its earlier record."""
        end = self._file.seek(0, 2)
        self._file.write(json.dumps(photo.plain()).encode() + b"\n")
        self._file.flush()
        self._lines[photo.name] = (end, photo.stamp)

    def keep(self, name: str, stamp: str) -> None:
        """Record a new stamp for a photo whose bytes are unchanged."""
        self.add(replace(self.photo(name), stamp=stamp))

    def forget(self, name: str) -> None:
        """Drop a photo; its line remains in the file until settle(). Raises KeyError."""
        del self._lines[name]

    def __iter__(self) -> Iterator[Photo]:
        """All photos, by name."""
        for name in sorted(self._lines):
            yield self.photo(name)

    def settle(self) -> None:
        """Sort the file and drop replaced lines, atomically."""
        with atomic_path(self.path) as beside, beside.open("wb") as file:
            places = {}
            for photo in self:
                places[photo.name] = (file.tell(), photo.stamp)
                file.write(json.dumps(photo.plain()).encode() + b"\n")
        self._file.close()
        self._file, self._lines = self.path.open("r+b"), places
