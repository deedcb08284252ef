"""Runs of a tiny GAN as children of a process that has loaded everything, so that hundreds can be killed.

A child is forked, so it is killed as any process is, but starts in a fraction of a second. It announces what it is
doing through a pipe: one line ``<phase> <images>`` whenever that changes. Nothing of this is known to faceforge itself.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, runs
from benchmarks.tiny import TINY
from faceforge import main
from faceforge.engine import checkpoint, training
from faceforge.engine.callbacks import checkpointing
from faceforge.engine.callbacks.clock import Clock
from faceforge.engine.callbacks.session import Session
from faceforge.io.metrics_csv import read_rows

EVERY = 20  # images between checkpoints, as TINY says
BATCH = 4
MORE = ["model.val_samples=8", "trainer.sample_every=10"]  # validates, and samples between checkpoints
PHASES = ("starting", "training", "sampling", "validating", "saving", "ending")


def new_run(folder: Path, images: int) -> list[str]:
    """The words of `faceforge train` for a tiny run of ``images``."""
    cache = f"data.cache={folder.parent / 'cache'}"
    return [*TINY, *MORE, cache, f"trainer.max_images={images}", f"run_dir={folder}"]


# --------------------------------------------------------------------------------------------------------- the child


def announce(pipe: int) -> None:
    """Patch this process so that it says what it does."""

    def say(phase: str, images: int) -> None:
        os.write(pipe, f"{phase} {images}\n".encode())

    timed, step, end = Session.timed, Clock.on_train_batch_end, Clock.on_fit_end
    phases = {"sample": "sampling", "validate": "validating", "checkpoint": "saving"}

    @contextmanager
    def told(self: Session, module: Any, name: str) -> Iterator[None]:
        say(phases[name], module.clock.images)
        with timed(self, module, name):
            yield
        say("training", module.clock.images)

    def counted(self: Clock, trainer: Any, module: Any, *rest: Any) -> None:
        say("training", module.clock.images)
        step(self, trainer, module, *rest)

    def ended(self: Clock, trainer: Any, module: Any) -> None:
        say("ending", module.clock.images)
        end(self, trainer, module)

    Session.timed, Clock.on_train_batch_end, Clock.on_fit_end = told, counted, ended  # type: ignore[method-assign]


def _become(words: list[str], log: Path, prepare: Callable[[], object]) -> int:
    """`faceforge train` in this process; its exit code."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.argv = ["train.py", *words]
    torch.set_num_threads(1)
    warnings.showwarning = _print_warning  # a test that forks this may keep warnings to itself
    try:
        prepare()
        main.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _print_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    print(f"{category.__name__}: {message}", file=sys.stderr)


@dataclass
class Child:
    """A running child: what it announced, with the time this process read it, when it was asked to stop, and at
    its end the CPU seconds it took in all.
    """

    pid: int
    pipe: int
    log: Path
    begun: float = field(default_factory=time.monotonic)
    told: list[tuple[float, str, int]] = field(default_factory=list)
    code: int | None = None
    asked: float = 0.0
    cpu: float = 0.0
    _rest: bytes = b""

    @property
    def phase(self) -> str:
        """What it was last known to do."""
        return self.told[-1][1] if self.told else "starting"

    @property
    def images(self) -> int:
        """The furthest its clock was known to stand."""
        return max((images for _, _, images in self.told), default=0)

    @property
    def said(self) -> str:
        """stdout and stderr together."""
        return self.log.read_text(errors="replace")

    def listen(self, seconds: float) -> bool:
        """Take up what it announced, waiting at most ``seconds`` for it; False once it has ended."""
        if not select.select([self.pipe], [], [], max(0.0, seconds))[0]:
            return True
        data = os.read(self.pipe, 1 << 16)
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            phase, images = line.decode().split()
            self.told.append((now, phase, int(images)))
        return bool(data)

    def wait_for(self, phase: str, count: int, limit: float = 120.0) -> bool:
        """Until it has begun ``phase`` ``count`` times; False where it ended before."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if sum(told == phase for _, told, _ in self.told) >= count:
                return True
            if not self.listen(end - time.monotonic()):
                return False
        raise TimeoutError(self.said)

    def rest(self, seconds: float) -> bool:
        """Let it go on for a while; False where it ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self.listen(left):
                return False
        return True

    def send(self, number: int) -> None:
        """A signal."""
        os.kill(self.pid, number)

    def cpu_now(self) -> float:
        """CPU seconds it has taken so far, in steps of 10 ms; it must not have been waited for."""
        return machine.worked(self.pid)

    def wait(self, limit: float = 120.0) -> int:
        """Its exit code, negative where a signal ended it; killed after ``limit`` seconds."""
        end = time.monotonic() + limit
        while self.listen(end - time.monotonic()):
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
        if self.code is None:
            _, status, usage = os.wait4(self.pid, 0)
            self.code, self.cpu = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
            os.close(self.pipe)
        return self.code


def start(words: list[str], log: Path, prepare: Callable[[], object] = lambda: None) -> Child:
    """`faceforge train` with some words in a child; ``prepare`` runs in it first."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(reading)
            announce(writing)
            code = _become(words, log, prepare)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(writing)
    return Child(pid, reading, log)


def to_the_end(words: list[str], log: Path) -> Child:
    """The same, until it has ended well; curves, which cost half a second, are left out."""
    child = start(words, log, without_curves)
    if child.wait():
        raise RuntimeError(f"{' '.join(words)} ended with {child.code}: {child.said}")
    return child


def without_curves() -> None:
    """No curves.png from this process."""
    checkpointing.write_curves = lambda run: Path(run)


# ------------------------------------------------------------------------------------------------------- what is left


def contents(folder: Path) -> dict[str, Any]:
    """Every bit of a run that has to be the same: weights, averages, optimisers, clock, scores, rows, grids."""
    kept = runs.last(folder)
    parts = {name: kept[name] for name in ("state_dict", "optimizers", "callbacks", "means")}
    parts["clock"] = {name: kept["clock"][name] for name in ("images", "generator_steps")}
    found = {k: v for k, v in runs.flat(parts).items() if "timings" not in k}
    rows = read_rows(folder / "metrics.csv")
    found["rows"] = [(i, {k: v for k, v in row.items() if k != "images_per_second"}) for i, row in rows]
    found["grids"] = {path.name: path.read_bytes() for path in (folder / "samples").glob("*.png")}
    return found


def newest_valid(folder: Path) -> int | None:
    """The clock of the newest checkpoint that loads as a module and whose bytes hash as listed; None without one."""
    listed = folder / "checkpoints" / checkpoint.HASHES
    hashes = listed.read_text().split() if listed.exists() else []
    clocks = []
    for path in (folder / "checkpoints").glob("*.ckpt"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if checkpoint.digest(path) in hashes:
                    clocks.append(checkpoint.load(path).clock.images)
            except (training.BadInput, OSError):
                continue
    return max(clocks, default=None)
