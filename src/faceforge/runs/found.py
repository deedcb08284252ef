"""The runs below a folder, read so that any part of them may be missing or strange. Nothing is written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import yaml

from faceforge.errors import BadInput
from faceforge.io.portable import is_held
from faceforge.io.record import Record, text_of

LOCK = ".lock"
BROKEN = "no readable run.json"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML has it
Value = str | float | None


@dataclass(frozen=True)
class Entry:
    """One run folder. ``name`` is its path below the folder that was searched."""

    path: Path
    name: str
    now: float  # seconds since 1970, to which ages are counted

    @cached_property
    def record(self) -> Record:
        """run.json."""
        return Record.read(self.path / "run.json")

    @cached_property
    def config(self) -> Record:
        """config.yaml."""
        try:
            return Record.of(yaml.load(text_of(self.path / "config.yaml"), Loader))
        except (yaml.YAMLError, ValueError, RecursionError):
            return Record()

    @cached_property
    def state(self) -> str:
        """The status of run.json; ``stopped`` if it says running and no process holds the lock."""
        status = self.record.get("status")
        if status == "running":
            return "running" if self.is_held else "stopped"
        return status if isinstance(status, str) else "unknown"

    @property
    def is_held(self) -> bool:
        """Whether a process holds the run's lock."""
        return is_held(self.path / LOCK)

    @property
    def best(self) -> Record:
        """The best validation: metric, mode, value and images; empty if there is none."""
        best = self.record.part("best")
        return best if best.number("value") is not None and isinstance(best.get("metric"), str) else Record()

    @cached_property
    def age(self) -> float | None:
        """Seconds since the run was created."""
        try:
            created = datetime.fromisoformat(str(self.record.get("created")))
            return self.now - created.astimezone(timezone.utc).timestamp()
        except (ValueError, OverflowError, OSError):
            return None

    @cached_property
    def size(self) -> int:
        """Bytes of the folder's files on disk; a file with two names counts once."""
        return sum({(file.st_dev, file.st_ino): file.st_size for file in _files(self.path)}.values())

    def choice(self, group: str) -> str | None:
        """The chosen model, task or data."""
        choice = self.config.part("choices").get(group)
        return choice if isinstance(choice, str) else None

    def value(self, key: str) -> Value:
        """The value in a column, or at a dotted key of the configuration."""
        columns = {"name": self.name, "state": self.state, "images": self.record.number("images"), "age": self.age}
        if key in ("model", "data", "task"):
            return self.choice(key)
        if key in ("best", "size"):
            return self.best.number("value") if key == "best" else self.size
        if key in columns:
            return columns[key]
        found = self.config.at(key)
        return found if isinstance(found, float | int | str) or found is None else str(found)


@dataclass
class Found:
    """What was found: runs, folders that look like runs but cannot be read, with reasons, and folders without any."""

    entries: list[Entry] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)


def find(folder: Path) -> Found:
    """All runs in and below a folder. Raises BadInput if there is no such folder."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; name one that holds runs, by default runs/")
    found, now = Found(), time.time()
    if _looks_like_run(folder):
        _add(found, folder, folder.resolve().name, now)
        return found
    for child in _children(folder, found, folder):
        before = len(found.entries) + len(found.broken)
        _search(found, child, folder, now)
        if len(found.entries) + len(found.broken) == before:
            found.foreign.append(child.name)
    return found


def _search(found: Found, folder: Path, top: Path, now: float) -> None:
    if _looks_like_run(folder):
        _add(found, folder, folder.relative_to(top).as_posix(), now)
    elif not folder.is_symlink():  # which may lead back here
        for child in _children(folder, found, top):
            _search(found, child, top, now)


def _children(folder: Path, found: Found, top: Path) -> list[Path]:
    """The folders in a folder, in order; not the hidden ones, in which tools keep their own."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        found.broken[folder.relative_to(top).as_posix()] = str(error.strerror).lower()
        return []


def _looks_like_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").exists() or (
            (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()
        )
    except OSError:  # a folder that may not be entered
        return False


def _add(found: Found, folder: Path, name: str, now: float) -> None:
    entry = Entry(folder, name, now)
    if entry.record:
        found.entries.append(entry)
    else:
        found.broken[name] = BROKEN


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(place, name))  # noqa: PTH118  (Path is half as fast here)
            except OSError:  # removed meanwhile
                continue
