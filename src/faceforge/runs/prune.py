"""Free the space of checkpoints that a rule does not keep. A run that a process has locked is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faceforge.errors import BadInput
from faceforge.io.files import sync
from faceforge.io.portable import Held, locked
from faceforge.runs.found import LOCK, Entry
from faceforge.runs.table import amount, duration

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
REMOVED: dict[str, tuple[str, ...]] = {"best": (LAST, PREVIOUS), "last": (PREVIOUS,)}
STATES = ("finished", "interrupted", "failed", "stopped")
Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Rule:
    """``keep`` best: only ``best.ckpt`` stays, and the run cannot be continued; last: ``previous.ckpt`` goes.

    ``older`` is an age such as 30d, or None.
    """

    keep: Keep
    states: tuple[str, ...]
    older: str | None

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise BadInput(f"--state {state}: must be among {', '.join(STATES)}; a running run is never pruned")
        if self.older is not None and (amount(self.older, "age") or -1) < 0:
            raise BadInput(f"--older {self.older}: must be an age with s, m, h, d, w or y, such as 30d")

    @property
    def seconds(self) -> float:
        """The least age."""
        return 0.0 if self.older is None else amount(self.older, "age") or 0.0

    def applies(self, entry: Entry) -> bool:
        """Whether a run is of the right state and age."""
        old = self.older is None or (entry.age is not None and entry.age >= self.seconds)
        return entry.state in self.states and old

    def __str__(self) -> str:
        old = "" if self.older is None else f" and at least {duration(self.seconds)} old"
        goes, stays = " and ".join(REMOVED[self.keep]), BEST if self.keep == "best" else f"{BEST} and {LAST}"
        return f"Rule: of runs that are {' or '.join(self.states)}{old}, remove {goes}, keep {stays}."


@dataclass(frozen=True)
class Step:
    """What the rule removes of one run: files in its folder ``checkpoints``, or why nothing."""

    entry: Entry
    files: tuple[Path, ...]
    why: str | None = None

    @property
    def size(self) -> int:
        """Bytes that are freed. A file with another name that stays is not freed."""
        status = [file.lstat() for file in self.files]
        names = {s.st_ino: sum(other.st_ino == s.st_ino for other in status) for s in status}
        return sum({s.st_ino: s.st_size for s in status if s.st_nlink <= names[s.st_ino]}.values())


def steps(entries: Iterable[Entry], rule: Rule) -> list[Step]:
    """What the rule removes, run by run; runs to which it does not apply are left out."""
    found = [_step(entry, rule) for entry in entries if rule.applies(entry) or entry.is_held]
    return [step for step in found if step.files or step.why]


def _step(entry: Entry, rule: Rule) -> Step:
    if entry.is_held:
        return Step(entry, (), "a process holds its lock")
    folder = entry.path / "checkpoints"
    if entry.path.is_symlink() or folder.is_symlink():
        return Step(entry, (), "its checkpoints are a link to another place")
    files = tuple(file for name in REMOVED[rule.keep] if _is_own(file := folder / name))
    kept = folder / (BEST if rule.keep == "best" else LAST)
    if files and not _is_own(kept):
        return Step(entry, (), f"it has no {kept.name}")
    return Step(entry, files)


def _is_own(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def carry_out(step: Step, rule: Rule) -> tuple[Sequence[Path], str | None]:
    """Remove the files of a step; those that were removed, and why others were not.

    The run is locked meanwhile and looked at again: another process may have trained since. A kill leaves some files,
    which the same command removes.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(step.entry.path / LOCK))
        except Held:
            return (), "a process holds its lock"
        except OSError as error:
            return (), f"it cannot be locked ({error.strerror})"
        now = Entry(step.entry.path, step.entry.name, step.entry.now)
        if now.record != step.entry.record:
            return (), "it has changed meanwhile"
        kept = now.path / "checkpoints" / (BEST if rule.keep == "best" else LAST)
        if not _is_sound(kept):
            return (), f"{kept.name} is damaged"
        removed = []
        try:
            for file in step.files:
                file.unlink(missing_ok=True)
                removed.append(file)
            sync(kept.parent)
        except OSError as error:
            return removed, f"{error.filename or kept.parent} cannot be removed ({error.strerror})"
        return removed, None


def _is_sound(file: Path) -> bool:
    """Whether a checkpoint has one of the hashes that were recorded when it was written."""
    if not _is_own(file):
        return False
    hashes = file.with_name("hashes.txt")
    if not hashes.is_file():
        return file.stat().st_size > 0
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(2**20):
            found.update(block)
    return found.hexdigest() in hashes.read_text(encoding="utf-8", errors="replace").split()
