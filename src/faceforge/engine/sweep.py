"""A sweep: its folder, which one sweep owns at a time, the names of its jobs, and what it leaves when it ends."""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

from faceforge import report, words
from faceforge.engine.jobs import PRUNED, RUNNING, STOPPED, Record, run_record
from faceforge.errors import BadInput
from faceforge.io.files import short_name
from faceforge.io.portable import HOST, LISTENED, Handler, Held, is_alive, locked, send
from faceforge.types import JobRow

# An unswept override of these keys does not make another job: a resumed run may change them too.
SAME_JOB = ("run_dir", "resume", "logger", "guard", "callbacks", "hydra", "data.cache", "data.workers")
SAME_JOB += ("trainer.gpus", "trainer.processes", "trainer.nodes", "trainer.max_", "trainer.requeue")
LOCK = ".sweep.lock"
NAME = 120  # most characters of a job's words
SETTLE = 120.0  # seconds that jobs may take to save and end after a signal


def swept(overrides: Iterable[str], constant: Iterable[str]) -> dict[str, str]:
    """The swept keys of a job with their values."""
    kept = set(constant)
    pairs = (text.lstrip("+").partition("=") for text in overrides)
    return {key: value for key, _, value in pairs if _key(key) not in kept}


def job_name(overrides: Iterable[str], constant: Iterable[str]) -> str:
    """The name of a job's folder: its swept overrides, and eight characters of a hash of all that make it another job.

    It depends on neither the order of the overrides nor the other jobs.
    """
    overrides, kept = list(overrides), set(constant)
    said = "-".join(f"{key}={value}" for key, value in swept(overrides, kept).items())
    last = {_key(text): text.lstrip("+") for text in overrides}
    made = sorted(text for key, text in last.items() if key not in kept or not key.startswith(SAME_JOB))
    ending = hashlib.sha256("\n".join(made).encode()).hexdigest()[:8]
    return f"{short_name(said.replace('/', '-') or 'job', most=NAME)}-{ending}"


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~").split("@")[0]


class Sweep:
    """The folder of a sweep, held while the context is open. Raises BadInput if another sweep holds it.

    ``jobs`` are the folders of the jobs in order with their swept overrides, None if a sweeper chooses them one by
    one. ``local``: jobs run on this machine, and a signal that ends the sweep ends them too, each with a checkpoint.
    """

    def __init__(self, folder: Path, jobs: Mapping[str, dict[str, str]] | None, local: bool = True) -> None:
        self.folder, self.jobs, self.local = folder, jobs, local
        self.record = Record(folder.absolute() / "jobs.jsonl")
        self._held = ExitStack()
        self._before: dict[int, Handler] = {}
        self._ending = False

    def __enter__(self) -> Sweep:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locked(self.folder / LOCK))
        except Held as held:
            raise BadInput(
                f"run_dir: another sweep runs in {self.folder}; wait for it or name another{held.hint}"
            ) from None
        except OSError as error:
            raise BadInput(f"run_dir: {self.folder} cannot be written ({error.strerror})") from None
        stop_file(self.record).unlink(missing_ok=True)
        for row in self.record.rows():
            if row.outcome == RUNNING:
                self.record.keep(replace(row, outcome="killed with the sweep", code=1, process=0))
        for number in LISTENED:
            self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._held.close()
        if [path.name for path in self.folder.iterdir()] == [LOCK]:  # refused before its first job
            (self.folder / LOCK).unlink()
            self.folder.rmdir()

    def _end(self, number: int, frame: FrameType | None) -> None:
        """End the local jobs, wait until each has saved its checkpoint, and leave; a second signal does not wait."""
        first, self._ending = not self._ending, True
        if self.local:
            stop_file(self.record).touch()
            for row in self._running():
                send(row.process, number)
            end = time.monotonic() + SETTLE
            while first and self._running() and time.monotonic() < end:
                time.sleep(0.1)
        raise SystemExit(STOPPED + number)

    def close(self) -> None:
        """Wait for local jobs that a launcher left behind; whatever still runs without an end has been lost."""
        end = time.monotonic() + SETTLE
        while self.local and any(is_alive(row.process) for row in self._running()) and time.monotonic() < end:
            time.sleep(0.1)
        for row in self._running():
            self.record.keep(
                replace(row, outcome="failed: its process or that of its launcher was killed", code=1, process=0)
            )

    def _running(self) -> list[JobRow]:
        return [row for row in self.record.rows() if row.outcome == RUNNING and row.host == HOST and row.process > 0]

    @property
    def rows(self) -> list[JobRow]:
        """The jobs of the folder, by number; those that another command added come last."""
        rows, jobs = self.record.rows(), self.jobs
        return rows if jobs is None else sorted(rows, key=lambda row: row.folder not in jobs)

    @property
    def code(self) -> int:
        """0 if every job of this command finished; else the exit code of the failed jobs, 1 if they differ."""
        codes = {row.code for row in self.record.rows() if row.code and (self.jobs is None or row.folder in self.jobs)}
        return codes.pop() if len(codes) == 1 else int(bool(codes))

    def table(self) -> str:
        """A line per job; jobs that were not started come last."""
        rows = self.rows
        begun = {row.folder for row in rows}
        named = (self.jobs or {}).items()
        late = [JobRow(n, job, keys, "not started") for n, (job, keys) in enumerate(named) if job not in begun]
        cells = [(str(row.number), row.words or "-", self._shown(row), row.outcome) for row in [*rows, *late]]
        cells.insert(0, ("job", "overrides", "run folder", "outcome"))
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        lines = ["  ".join([*map(str.ljust, line, widths), line[3]]) for line in cells]
        finished = sum(row.outcome in ("finished", PRUNED) for row in rows)
        return "\n".join(["", *lines, f"{finished} of {len(cells) - 1} jobs finished."])

    def _shown(self, row: JobRow) -> str:
        place = self.record.place(row)
        return words.relative(place) if place.is_dir() else "-"

    def write(self) -> None:
        """Write sweep.csv and sweep.html. Raises BadInput."""
        try:
            page = report.write_sweep(self.folder, self.rows)
        except OSError as error:
            raise BadInput(
                f"{self.folder}: sweep.html cannot be written ({error.strerror}); the jobs are whole"
            ) from None
        print(f"The jobs beside one another: {words.relative(page)}")
        print(f"To see the best first:  {words.faceforge('runs', Path(words.relative(self.folder)), '--sort', 'best')}")


def stop_file(record: Record) -> Path:
    """A file that keeps the jobs of a sweep that is ending from beginning in other processes."""
    return record.path.with_name(".stop")


def score(record: Record, row: JobRow) -> float | None:
    """The best score of a job as sweepers expect it; NaN if it failed, None if it has none."""
    if row.code:
        return math.nan
    best = run_record(record.place(row)).get("best")
    return best["value"] if best else None
