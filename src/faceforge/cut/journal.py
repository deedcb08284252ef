"""What a cut remembers of each photo, so that it goes on where it was killed and works only on what is new.

One line of JSON a photo in ``_review/photos.jsonl``, appended as photos are done and sorted at the end. Only names
and places of lines are held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from faceforge.cut.work import Photo
from faceforge.io.files import atomic_path


class Memory:
    """Photos by name. A line cut short by a kill is forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, str]] = {}
        path.touch()
        self._file = path.open("r+b")
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                plain = json.loads(line)
                self._places[plain["name"]] = (end, plain["stamp"])
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
        self._file.truncate(end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def names(self) -> list[str]:
        """The photos that are known."""
        return list(self._places)

    def stamp(self, name: str) -> str | None:
        """The state in which the photo's file was seen last; None where it never was."""
        place = self._places.get(name)
        return place[1] if place else None

    def photo(self, name: str) -> Photo:
        """What is known of a photo. Raises KeyError."""
        self._file.seek(self._places[name][0])
        return Photo.of(json.loads(self._file.readline()))

    def add(self, photo: Photo) -> None:
        """Remember a photo, in place of what was known of it."""
        end = self._file.seek(0, 2)
        self._file.write(json.dumps(photo.plain()).encode() + b"\n")
        self._file.flush()
        self._places[photo.name] = (end, photo.stamp)

    def keep(self, name: str, stamp: str) -> None:
        """The photo's file has another date, but the same bytes."""
        self.add(replace(self.photo(name), stamp=stamp))

    def forget(self, name: str) -> None:
        """Know nothing of a photo any more; the file knows it until settle(). Raises KeyError."""
        del self._places[name]

    def __iter__(self) -> Iterator[Photo]:
        """All photos, by name."""
        for name in sorted(self._places):
            yield self.photo(name)

    def settle(self) -> None:
        """Sort the file and drop lines that later ones replaced, in one step."""
        with atomic_path(self.path) as beside, beside.open("wb") as file:
            places = {}
            for photo in self:
                places[photo.name] = (file.tell(), photo.stamp)
                file.write(json.dumps(photo.plain()).encode() + b"\n")
        self._file.close()
        self._file, self._places = self.path.open("r+b"), places
