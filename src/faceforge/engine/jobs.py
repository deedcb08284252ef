"""One job of a sweep, trained in a process of its own, so that what ends it ends neither the launcher nor the sweep."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from faceforge.errors import BadInput, GuardStop
from faceforge.io import workers
from faceforge.io.portable import HOST, LISTENED, Held, is_alive, locked, own_session, send
from faceforge.types import JobRow, Json

RUNNING = "running"
PRUNED = "pruned"
STOPPED = 128  # exit codes above this: ended by a signal
SAVING = 60.0  # seconds that a job may take to end after a signal
TRIAL = "FACEFORGE_TRIAL"  # environment: the Optuna trial that a run belongs to, as JSON
LOST = "failed: its process was killed ({}), as the system does with what takes too much memory"


@dataclass(frozen=True)
class Record:
    """jobs.jsonl of a sweep's folder: a line whenever a job begins or ends, from whichever process it runs in."""

    path: Path

    def rows(self) -> list[JobRow]:
        """The last line of each job, by number."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        last: dict[str, JobRow] = {}
        for line in lines:
            with suppress(ValueError, TypeError):  # a line that a kill cut off
                row = JobRow(**json.loads(line))
                last[row.folder] = row
        return sorted(last.values(), key=lambda row: row.number)

    def of(self, folder: str) -> JobRow | None:
        """The last line of the job in a folder."""
        return next((row for row in self.rows() if row.folder == folder), None)

    def place(self, row: JobRow) -> Path:
        """The run folder of a job."""
        return self.path.parent / row.folder

    def keep(self, row: JobRow) -> None:
        """Add a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:  # one write, so that processes do not interleave
            file.write(f"{json.dumps(asdict(row))}\n")


@dataclass(frozen=True)
class Share:
    """What a job may use of this machine beside ``at_once - 1`` others: ``gpus`` are those there are."""

    at_once: int = 1
    gpus: int = 0

    def threads(self) -> int:
        """Its share of the cores."""
        return max(1, workers.cores() // self.at_once)

    def blocks(self, asked: int | None) -> list[range]:
        """The GPUs divided into blocks as large as a job asks for (None: an equal share)."""
        size = max(1, self.gpus // self.at_once) if asked is None else asked
        if not 0 < size <= self.gpus:
            return []
        return [range(first, first + size) for first in range(0, self.gpus - size + 1, size)]


@dataclass(frozen=True)
class Job:
    """A job to be trained: its row, how to make its configuration, its overrides, the command that trains it alone.

    ``watched`` are processes without which it ends itself, ``trial`` its trial for Optuna.
    """

    row: JobRow
    record: Record
    config: Callable[[], Mapping[str, Any]]  # called in the job's process: its types need torch
    overrides: Sequence[str]
    command: Sequence[str]
    share: Share = Share()
    watched: tuple[int, ...] = ()
    trial: Json | None = None
    path: Sequence[str] = field(default_factory=lambda: list(sys.path))
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    start: str = field(default_factory=os.getcwd)


def run(job: Job) -> JobRow:
    """Train a job in its own process and wait for its end; its row."""
    context = workers.forks("faceforge.engine.training")
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():  # a child knows no others
        multiprocessing.set_start_method(context.get_start_method(), force=True)
    process = context.Process(target=_train_here, args=(job,), daemon=False)  # type: ignore[attr-defined]
    found = {"PYTHONPATH": os.pathsep.join(filter(None, job.path))}  # the process that loads modules ignores sys.path
    threads = {} if job.share.at_once == 1 else {"OMP_NUM_THREADS": str(job.share.threads())}
    with _environment({**threads, **os.environ, **found}):  # what libraries read when they are loaded
        process.start()
    job.record.keep(replace(job.row, outcome=RUNNING, process=process.pid or 0, host=HOST))
    _wait(process, job.watched)
    row = _ended(job, process.pid or 0)
    if row is None or row.outcome == RUNNING:
        row = _lost(job.row, process.exitcode or 0)
        job.record.keep(row)
    return row


def _wait(process: BaseProcess, watched: Sequence[int]) -> None:
    while process.is_alive():
        process.join(1.0)
        if not all(map(is_alive, watched)):
            process.terminate()
            process.join(SAVING)


def _ended(job: Job, process: int) -> JobRow | None:
    """The last row of a job; it may still be saving where a signal has ended the process that would tell of its end."""
    end = time.monotonic() + SAVING
    while (row := job.record.of(job.row.folder)) and row.outcome == RUNNING and time.monotonic() < end:
        if not is_alive(process):
            return job.record.of(job.row.folder)
        time.sleep(0.1)
    return row


def _lost(row: JobRow, code: int) -> JobRow:
    """The row of a process that ended without writing one."""
    if -code in LISTENED:
        return replace(row, outcome=f"stopped by {signal.Signals(-code).name}", code=STOPPED - code)
    said = LOST.format(signal.Signals(-code).name) if code < 0 else f"failed: exit code {code}"
    return replace(row, outcome=said, code=1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# ------------------------------------------------------------------------------------------- in the job's own process


def _train_here(job: Job) -> None:
    own_session()
    threading.Thread(target=_end_without, args=((*job.watched, os.getppid()),), daemon=True).start()
    os.chdir(job.start)
    os.environ.clear()
    os.environ.update(job.environment)
    sys.path[:] = job.path
    sys.argv[:] = job.command
    with ExitStack() as stack:
        row = outcome(job.record, job.row, lambda: _train(job, stack))
        job.record.keep(row)
    sys.exit(row.code)


def _end_without(processes: Sequence[int]) -> None:
    """End as by SIGTERM, with a checkpoint, once one of the processes is gone."""
    while all(map(is_alive, processes)):
        time.sleep(0.5)
    send(os.getpid(), signal.SIGTERM)


def _train(job: Job, stack: ExitStack) -> int:
    from faceforge.engine import devices, training

    config = job.config()
    if job.share.at_once > 1:
        devices.show_only(_own_gpus(job, config["trainer"]["gpus"], stack))
        if "OMP_NUM_THREADS" not in job.environment:
            devices.use_threads(job.share.threads())
    if job.trial is not None:
        os.environ[TRIAL] = json.dumps(job.trial)
    _wait_for_lock(job.record.place(job.row))
    return training.train(config, list(job.overrides))


def _own_gpus(job: Job, asked: int | None, stack: ExitStack) -> range:
    """The first block of GPUs that no other job of the sweep holds, beginning at the job's number."""
    blocks = job.share.blocks(asked)
    first = job.row.number % max(1, len(blocks))
    for block in blocks[first:] + blocks[:first]:
        with suppress(Held):
            stack.enter_context(locked(job.record.path.with_name(f".gpus-{block.start}.lock")))
            return block
    return blocks[first] if blocks else range(0)


def _wait_for_lock(folder: Path) -> None:
    """A job of a sweep that was killed may still train there, for instance in a queue: wait for it."""
    lock = folder / ".lock"
    if not lock.exists():
        return
    try:
        with locked(lock):
            return
    except Held:
        print(f"faceforge: {folder}: waiting for the process that trains there", file=sys.stderr, flush=True)
    with locked(lock, wait=True):
        return


def outcome(record: Record, row: JobRow, train: Callable[[], int]) -> JobRow:
    """The row of a job after ``train``, whatever it returns or raises."""
    code, said = 0, "finished"
    try:
        code = train()
    except (BadInput, GuardStop) as error:
        code, said = error.exit_code, f"failed: {_one_line(error)}"
        tell(str(error))
    except KeyboardInterrupt:
        code = STOPPED + signal.SIGINT
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception as error:
        traceback.print_exc()
        code, said = 1, f"failed: {type(error).__name__}: {_one_line(error)}"
    if code > STOPPED:
        said = f"stopped by {signal.Signals(code - STOPPED).name}"
    elif code and said == "finished":
        said = f"failed: exit code {code}"
    elif not code and run_record(record.place(row)).get("pruned") is not None:
        said = PRUNED
    return replace(row, outcome=said, code=code)


def with_pruning(callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """The callbacks of a job with the one that reports its validations, right after they are taken."""
    pruning = ("pruning", {"_target_": "faceforge.engine.callbacks.pruning.Pruning"})
    pairs = [[pair, pruning] if pair[0] == "validation" else [pair] for pair in callbacks.items()]
    return dict(pair for group in pairs for pair in group)


def run_record(folder: Path) -> Json:
    """run.json of a job's folder; empty where there is none."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tell(message: str) -> None:
    """Print each line of an error on stderr."""
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
