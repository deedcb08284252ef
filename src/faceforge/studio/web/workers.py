"""Who does the work of the app: the server's own process, or several worker processes.

The server hands over one job at a time and waits; it alone knows the limits. A worker process has the models open, gets
jobs through a pipe, and is told through it to stop. One that dies, or does not stop, is replaced. This module does not
import torch: a server with workers needs none.
"""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from faceforge.errors import BadInput
from faceforge.io.workers import cores, forked_with
from faceforge.types import Json

WORK = "faceforge.studio.web.work"
GRACE_SECONDS = 10.0  # until a worker that was told to stop is killed
GLANCE_SECONDS = 0.1  # between two calls of the watch
Watch = Callable[[], None]
Reply = tuple[int, bytes]  # an HTTP status, and the JSON of the answer


class Stopped(Exception):
    """The work took too long, or the client has disconnected."""


class Ended(Exception):
    """The worker process ended before its answer."""


@dataclass(frozen=True)
class Job:
    """A request: its function, its parameters, and the bytes of its photos."""

    name: str
    words: dict[str, str]
    uploads: list[bytes]


@dataclass(frozen=True)
class Offer:
    """What the opened models can do. ``mebibytes``: memory that the process shares with no other, None if unknown."""

    models: list[Json]
    functions: frozenset[str]
    limits: Json
    mebibytes: int | None


class Crew(Protocol):
    """Those who work."""

    offer: Offer

    @property
    def count(self) -> int:
        """How many jobs are done at once."""
        ...

    def do(self, job: Job, watch: Watch) -> Reply:
        """The reply to a job, in at most ``count`` threads. Calls ``watch`` often. Raises Ended or what that raises."""
        ...

    def close(self) -> None:
        """End all work."""
        ...


@dataclass(frozen=True)
class Setup:
    """What a worker process is started with."""

    runs: Sequence[Path]
    trusted: Sequence[str]
    number: int
    threads: int  # of torch, at most
    quiet: bool = False  # another has already printed what opening these models prints


class Worker:
    """A worker process from its start to its end. Its temporary files are in a folder that goes with it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.folder = Path(tempfile.mkdtemp(prefix="faceforge-"))
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = _process(theirs, setup, self.folder)
        self.process.start()
        theirs.close()
        self.offer: Offer | None = None

    def opened(self, watch: Watch = lambda: None) -> Offer:
        """Wait until the models are open. Raises BadInput, Ended or what ``watch`` raises."""
        if self.offer is None:
            said = self._received(watch)
            if not isinstance(said, Offer):
                raise BadInput(str(said))
            self.offer = said
        return self.offer

    def do(self, job: Job, watch: Watch) -> Reply:
        """The reply to a job. Raises Ended or what ``watch`` raises; the work has stopped then."""
        try:
            self.opened(watch)
            self.pipe.send(job)
        except BadInput as error:
            raise Ended(f"A new process could not open the models: {error}") from None
        except OSError:
            raise self._ended() from None
        try:
            reply = self._received(watch)
        except Stopped:
            self._stop()
            raise
        assert isinstance(reply, tuple)
        return reply

    def _received(self, watch: Watch) -> object:
        try:
            while not wait([self.pipe, self.process.sentinel], GLANCE_SECONDS):
                watch()
            return self.pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None

    def _stop(self) -> None:
        """Have the work stopped, whose reply nobody waits for; kill the process if it goes on."""
        with suppress(EOFError, OSError):
            self.pipe.send(None)
            if self.pipe.poll(GRACE_SECONDS):
                self.pipe.recv()
                return
        self.process.kill()
        self.process.join()

    def _ended(self) -> Ended:
        self.process.join(GRACE_SECONDS)
        return Ended(f"The process that worked on this ended unexpectedly ({self.fate}); another takes its place.")

    @property
    def fate(self) -> str:
        """How the process ended."""
        code = self.process.exitcode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"

    def close(self) -> None:
        """End the process, and remove its temporary files."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Workers:
    """Several worker processes with the same models. Raises BadInput if a run cannot be used."""

    def __init__(self, runs: Sequence[Path], trusted: Sequence[str], count: int) -> None:
        self.count = count
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.all: list[Worker] = []
        self.lock, self.closed = threading.Lock(), False
        setup = Setup(runs, trusted, 0, max(1, cores() // count))
        try:
            self.offer = self._start(setup).opened()  # alone: it may have to download the detector
            for number in range(1, count):
                self._start(replace(setup, number=number, quiet=True))
            for worker in self.all:
                worker.opened()
        except Ended:
            fates = ", ".join(worker.fate for worker in self.all if not worker.process.is_alive())
            raise BadInput(f"--workers {count}: a worker ended while it opened the models ({fates})") from None
        finally:
            if not all(worker.offer for worker in self.all):
                self.close()

    def do(self, job: Job, watch: Watch) -> Reply:
        """The reply of an idle worker. Raises Ended or what ``watch`` raises."""
        worker = self._kept(self.idle.get())  # it may have died since its last job
        try:
            return worker.do(job, watch)
        finally:
            self.idle.put(self._kept(worker))

    def _start(self, setup: Setup) -> Worker:
        self.all.append(Worker(setup))
        self.idle.put(self.all[-1])
        return self.all[-1]

    def _kept(self, worker: Worker) -> Worker:
        """The worker; another in its place if it has ended."""
        with self.lock:
            if self.closed or worker.process.is_alive():
                return worker
            number = worker.setup.number
            print(f"faceforge: worker {number} ended ({worker.fate}) and is replaced", file=sys.stderr)
            worker.close()
            self.all[number] = Worker(replace(worker.setup, quiet=True))
            return self.all[number]

    def close(self) -> None:
        """End all processes."""
        with self.lock:
            self.closed = True
            for worker in self.all:
                worker.close()


def _process(pipe: Connection, setup: Setup, folder: Path) -> BaseProcess:
    """A process to start. Where there is fork, its modules are those of a process that has loaded nothing else."""
    context = forked_with(WORK)
    return context.Process(target=_run, args=(pipe, setup, folder), daemon=True)  # type: ignore[attr-defined]


def _run(pipe: Connection, setup: Setup, folder: Path) -> None:
    from faceforge.studio.web import work

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C
    try:
        work.serve(pipe, setup, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a server that was killed cannot
