"""Faults of the disk under a tiny run: where they fall, what they do, and what has to be left afterwards.

Every opening, write, fsync, rename, link, removal and new folder inside the run's folder is an operation with two
instants, before and after it; a write has a third, half way. A fault happens at one of them. Afterwards at least one
checkpoint has to load and to hash as listed, at most two intervals old; an error has to end the run with exit code 2
and one line; and the run, resumed, has to end in the same bits as one that nothing happened to.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runs import differences
from benchmarks.survival.child import EVERY, Child, contents, new_run, newest_valid, start, to_the_end, without_curves

IMAGES = 60
SMALL = 4  # MiB of the file system that is filled
SHARES = {  # of the faults
    "kill": 0.36,
    "kill_with_foreign_tmp": 0.06,
    "disk_full": 0.13,
    "disk_full_at_start": 0.015,
    "read_only": 0.06,
    "read_only_at_start": 0.015,
    "no_permission": 0.05,
    "io_error": 0.08,
    "foreign_tmp_full": 0.02,
    "flipped_bit": 0.08,
    "cut_file": 0.07,
    "two_trainers": 0.06,
}

Act = Callable[[], None]


# ------------------------------------------------------------------------------------------- operations of one process


class Watched:
    """Counts the instants of a process's operations inside a folder and, at the ``at``-th, acts."""

    def __init__(self, folder: Path, at: int, act: Act, count_to: int | None = None) -> None:
        self.folder, self.at, self.act, self.count_to = folder.absolute(), at, act, count_to
        self.seen = 0

    def inside(self, path: Any) -> bool:
        """Whether a path, or an open file's number, lies in the folder."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        return Path(path).absolute().is_relative_to(self.folder)

    def instant(self) -> None:
        """One more. An error that the act raises is what the operation ends with."""
        self.seen += 1
        if self.count_to is not None:
            os.pwrite(self.count_to, f"{self.seen:8d}".encode(), 0)
        if self.seen == self.at:
            self.act()

    def wrap(self, name: str) -> None:
        """Watch a function of os whose last path says where it works."""
        real = getattr(os, name)

        def watched(*args: Any, **words: Any) -> Any:
            if not self.inside(args[-1] if name in ("replace", "rename", "link") else args[0]):
                return real(*args, **words)
            self.instant()
            result = real(*args, **words)
            self.instant()
            return result

        setattr(os, name, watched)
        _also_in_pathlib(name, watched)

    def install(self) -> None:
        """Watch this process from now on."""
        for name in ("replace", "rename", "link", "unlink", "fsync", "mkdir"):
            self.wrap(name)
        real = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **words: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int) or not self.inside(file):
                return real(file, mode, *args, **words)
            self.instant()
            return _layered(_Raw(self, file, mode.replace("b", "").replace("t", "")), mode, args, words)

        io.open = builtins.open = opened
        _also_in_pathlib("open", opened)


def _also_in_pathlib(name: str, function: Any) -> None:
    """pathlib of Python 3.10 keeps the functions of os under names of its own."""
    accessor = getattr(pathlib, "_NormalAccessor", None)
    if accessor is not None and hasattr(accessor, name):
        setattr(accessor, name, staticmethod(function))


class _Raw(io.FileIO):
    """A file whose every write is three instants."""

    def __init__(self, watched: Watched, path: Any, mode: str) -> None:
        super().__init__(path, mode)
        self._watched = watched

    def write(self, data: Any) -> int:
        """All of it, in two halves."""
        view = memoryview(data).cast("B")
        self._watched.instant()
        done = super().write(view[: len(view) // 2]) or 0
        self._watched.instant()
        done += super().write(view[done:]) or 0
        self._watched.instant()
        return done


def _layered(raw: io.FileIO, mode: str, args: tuple[Any, ...], words: dict[str, Any]) -> Any:
    both = "+" in mode
    buffered: Any = io.BufferedRandom(raw) if both else io.BufferedWriter(raw)
    if "b" in mode:
        return buffered
    named = dict(zip(("buffering", "encoding", "errors", "newline"), args, strict=False)) | words
    named = {name: named[name] for name in ("encoding", "errors", "newline") if named.get(name) is not None}
    return io.TextIOWrapper(buffered, **named)


# ----------------------------------------------------------------------------------------------------------- the acts


def die() -> None:
    """As kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with(number: int) -> Act:
    """An error at one operation."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


def fail_for_good(watched: list[Watched], number: int) -> Act:
    """An error at this operation and every one after it."""

    def act() -> None:
        watched[0].at += 1
        raise OSError(number, os.strerror(number))

    return act


def fill(folder: Path) -> None:
    """Write into a file beside the runs until nothing more fits."""
    with open(folder / "filler", "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


# ------------------------------------------------------------------------------------------------------- file systems


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of ``size`` MiB."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """ro or rw."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount anything: root may."""
    try:
        with mounted(folder / "probe", 1):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


# ------------------------------------------------------------------------------------------------------------- the test


class Injector:
    """Breaks tiny runs and says what was wrong afterwards: an empty list where nothing was."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.dice, self.log = folder, random.Random(seed), folder / "log"
        self.whole = folder / "whole"
        to_the_end(new_run(self.whole, IMAGES), self.log)
        self.expected = contents(self.whole)
        self.begun = folder / "begun"  # stopped at 40, which faults of resting files start from
        to_the_end(new_run(self.begun, IMAGES - EVERY), self.log)
        self.instants = self._count()
        self.number = 0

    def _count(self) -> int:
        counter, target = self.folder / "instants", self.folder / "counted"
        file = os.open(counter, os.O_RDWR | os.O_CREAT)
        watched = Watched(target, 0, die, file)
        child = start(new_run(target, IMAGES), self.log, lambda: (without_curves(), watched.install()))
        assert child.wait() == 0, child.said
        return int(counter.read_text())

    def fresh(self, place: Path | None = None) -> Path:
        """A folder that no run has used."""
        self.number += 1
        return (place or self.folder) / f"run{self.number}"

    def words(self, run: Path) -> list[str]:
        """`faceforge train` for a run, its data packed elsewhere."""
        return [*new_run(run, IMAGES), f"data.cache={self.folder / 'cache'}"]

    def broken(self, run: Path, at: int, act: Act, watched: list[Watched] | None = None) -> Child:
        """A run to which something happens at an instant; it has ended."""
        watch = Watched(run, at, act)
        if watched is not None:
            watched.append(watch)
        child = start(self.words(run), self.log, lambda: (without_curves(), watch.install()))
        child.wait()
        return child

    def judge(self, run: Path, child: Child, killed: bool = False) -> list[str]:
        """What is wrong after a fault: checkpoints, words, and how the run ends once it is resumed."""
        wrong = self.kept(run, child.images)
        if killed and child.code != -signal.SIGKILL:
            wrong.append(f"not killed: it ended with {child.code}: {child.said[-300:]}")
        if not killed:
            wrong += told(child)
        return wrong + self.goes_on(run)

    def kept(self, run: Path, reached: int) -> list[str]:
        """Whether a valid checkpoint is left, at most two intervals old; a run that has drawn nothing needs none."""
        newest = newest_valid(run)
        if newest is None:
            return [f"no valid checkpoint at {reached}"] if reached else []
        return [f"the newest valid checkpoint is of {newest}, at {reached}"] if reached - newest > 2 * EVERY else []

    def goes_on(self, run: Path) -> list[str]:
        """Resumed, or begun again where it had no checkpoint, it ends as a run that nothing happened to."""
        begun = any((run / "checkpoints").glob("*.ckpt"))
        words = [f"resume={run}", f"trainer.max_images={IMAGES}"] if begun else self.words(run)
        child = start(words, self.log, without_curves)
        if child.wait():
            return [f"does not go on ({child.code}): {child.said[-300:]}"]
        different = differences(self.expected, contents(run))
        left = [str(path.name) for path in run.rglob(".*.tmp")]
        return ([f"other bits: {different[:3]}"] if different else []) + ([f"left behind: {left}"] if left else [])

    # ------------------------------------------------------------------------------------------------ the classes

    def at(self, n: int, total: int) -> int:
        """The instant of the n-th of ``total`` faults: spread over all of them, at random within its part."""
        return 1 + int((n + self.dice.random()) * self.instants / total)

    def kill(self, n: int, total: int) -> list[str]:
        """kill -9."""
        run = self.fresh()
        return self.judge(run, self.broken(run, self.at(n, total), die), killed=True)

    def kill_with_foreign_tmp(self, n: int, total: int) -> list[str]:
        """kill -9 where temporary files belong to another file system; nothing may be left there."""
        with mounted(self.folder / "small", SMALL) as small, environment("TMPDIR", small):
            return self.kill(n, total) + [f"in TMPDIR: {path.name}" for path in small.iterdir()]

    def foreign_tmp_full(self, n: int, total: int) -> list[str]:
        """A full folder of temporary files, on another file system."""
        with mounted(self.folder / "small", SMALL) as small, environment("TMPDIR", small):
            fill(small)
            return self.goes_on(self.fresh())

    def disk_full(self, n: int, total: int) -> list[str]:
        """A small file system fills up at an instant, and is emptied before the run goes on."""
        with mounted(self.folder / "small", SMALL) as small:
            run = self.fresh(small)
            child = self.broken(run, self.at(n, total), partial(fill, small))
            wrong = self.kept(run, child.images) + told(child)
            (small / "filler").unlink(missing_ok=True)
            return wrong + self.goes_on(run)

    def starts(self, small: Path) -> list[list[str]]:
        """A new run on the small file system, one resumed there, and one whose packed data shall lie there."""
        return [
            self.words(small / "run"),
            [f"resume={shutil.copytree(self.begun, small / 'begun')}", f"trainer.max_images={IMAGES}"],
            [*self.words(self.fresh()), f"data.cache={small / 'cache'}"],
        ]

    def disk_full_at_start(self, n: int, total: int) -> list[str]:
        """No room from the start: for the run, for a resumed one, for the packed data."""
        with mounted(self.folder / "small", SMALL) as small:
            words = self.starts(small)[n % 3]
            fill(small)
            child = start(words, self.log, without_curves)
            child.wait()
            (small / "filler").unlink()
            return told(child) + self.kept(small / "begun", IMAGES - EVERY) + self.goes_on(small / "begun")

    def read_only(self, n: int, total: int) -> list[str]:
        """The file system turns read-only at an instant, as it does after an error of the disk."""
        run, watched = self.fresh(), list[Watched]()
        return self.judge(run, self.broken(run, self.at(n, total), fail_for_good(watched, errno.EROFS), watched))

    def read_only_at_start(self, n: int, total: int) -> list[str]:
        """A read-only mount: for the run, for a resumed one, for the packed data."""
        with mounted(self.folder / "small", SMALL) as small:
            words = self.starts(small)[n % 3]
            remount(small, "ro")
            child = start(words, self.log, without_curves)
            child.wait()
            remount(small, "rw")
            return told(child) + self.kept(small / "begun", IMAGES - EVERY) + self.goes_on(small / "begun")

    def no_permission(self, n: int, total: int) -> list[str]:
        """One operation is refused."""
        run = self.fresh()
        return self.judge(run, self.broken(run, self.at(n, total), fail_with(errno.EACCES)))

    def io_error(self, n: int, total: int) -> list[str]:
        """One operation fails."""
        run = self.fresh()
        return self.judge(run, self.broken(run, self.at(n, total), fail_with(errno.EIO)))

    def damaged(self, damage: Callable[[bytearray], bytearray], n: int) -> list[str]:
        """A checkpoint at rest is damaged; where it is `last`, the run says so and goes on from another."""
        run = Path(shutil.copytree(self.begun, self.fresh()))
        name = ("best", "last", "previous")[n % 3]
        path = run / "checkpoints" / f"{name}.ckpt"
        content = damage(bytearray(path.read_bytes()))
        path.unlink()  # one file may have two names
        path.write_bytes(content)
        wrong = self.kept(run, IMAGES - EVERY) + self.goes_on(run)
        said = "damaged file" in self.log.read_text()
        return wrong + ([] if said == (name == "last") else [f"{name} was damaged, and the warning was {said}"])

    def flipped_bit(self, n: int, total: int) -> list[str]:
        """One bit of a checkpoint."""

        def damage(content: bytearray) -> bytearray:
            content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
            return content

        return self.damaged(damage, n)

    def cut_file(self, n: int, total: int) -> list[str]:
        """A checkpoint that ends too early."""
        return self.damaged(lambda content: content[: self.dice.randrange(len(content))], n)

    def two_trainers(self, n: int, total: int) -> list[str]:
        """Two in one folder, at once or one a moment later: one trains, the other is told so and changes nothing."""
        for delay in (self.dice.uniform(0, 0.6), 0.05, 0.0):
            run = self.fresh() if n % 2 else Path(shutil.copytree(self.begun, self.fresh()))
            words = self.words(run) if n % 2 else [f"resume={run}", f"trainer.max_images={IMAGES}"]
            first = start(words, self.folder / "log1", without_curves)
            first.rest(delay)
            second = start(words, self.folder / "log2", without_curves)
            codes = sorted([first.wait(), second.wait()])
            if codes != [0, 0] or " is finished: " not in second.said:
                break  # else the first had ended before the second came, which is no fault
        wrong = [] if codes == [0, 2] else [f"exit codes {codes}: {first.said[-200:]} {second.said[-200:]}"]
        loser = first if first.code == 2 else second
        wrong += told(loser) if 2 in codes else []
        different = differences(self.expected, contents(run))
        return wrong + ([f"other bits: {different[:3]}"] if different else [])


def told(child: Child) -> list[str]:
    """What is wrong with the way a run ended after an error: exit code 2 and one line, or no harm at all."""
    lines = [line for line in child.said.splitlines() if line.startswith("faceforge: ")]
    if child.code == 0 and not lines:
        return []
    if child.code == 2 and len(lines) == 1 and "Traceback" not in child.said:
        return []
    return [f"exit code {child.code}, {len(lines)} lines: {child.said[-600:]}"]


@contextmanager
def environment(name: str, value: Path) -> Iterator[None]:
    """A variable, for the children."""
    before = os.environ.get(name)
    os.environ[name] = str(value)
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


NEEDS_MOUNT = {name for name in SHARES if "tmp" in name or name.startswith("disk_full") or name == "read_only_at_start"}


def plan(count: int, mounts: bool) -> dict[str, int]:
    """How many faults of each class; kills take what rounding, or a machine without mounts, leaves."""
    numbers = {n: max(1, round(count * share)) for n, share in SHARES.items() if mounts or n not in NEEDS_MOUNT}
    numbers["kill"] += count - sum(numbers.values())
    return numbers


def inject(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """All faults; by class how many, how many violated anything, and the first words of what was wrong."""
    injector, classes = Injector(folder, seed), dict[str, dict[str, Any]]()
    for name, number in plan(count, can_mount(folder)).items():
        wrong = [found for n in range(number) if (found := getattr(injector, name)(n, number))]
        classes[name] = {"faults": number, "violations": len(wrong), "examples": wrong[:3]}
        for example in wrong[:3]:
            print(f"{name}: {'; '.join(example)}")
    totals = {key: sum(row[key] for row in classes.values()) for key in ("faults", "violations")}
    return {**totals, "instants": injector.instants, "images": IMAGES, "every": EVERY, "seed": seed, "classes": classes}
