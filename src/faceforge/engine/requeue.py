"""Puts a SLURM batch job that a signal has ended back into the queue; it starts again and continues its run."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from faceforge.io.portable import ancestors

_job: str | None = None  # the job of this process, if it may be requeued
_asked: list[int] = []  # codes for which it will be requeued when this process ends: one at most


def job() -> str | None:
    """The SLURM batch job that started this process; None in any other, where variables may have been left behind.

    SLURM_TASK_PID names a process of the job, which is this one or above it.
    """
    process, number = os.environ.get("SLURM_TASK_PID", ""), os.environ.get("SLURM_JOB_ID", "")
    if os.environ.get("ENVIRONMENT") != "BATCH" or not (process.isdecimal() and number.isdecimal()):
        return None
    if int(process) not in {above for above, _ in ancestors()}:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else number  # one task of an array has the number of them all


def prepare(config: Mapping[str, Any]) -> None:
    """Find the job to requeue if a signal ends this training; a line where it could not continue its run."""
    global _job
    _job = job() if config["trainer"]["requeue"] == "auto" else None
    if _job and not (config["run_dir"] or config["resume"]):
        print("trainer.requeue: a signal will end this job for good, because run_dir is not named; add run_dir=FOLDER")
        _job = None


def at_end(code: int) -> None:
    """Requeue the job if a signal ended the training, as the last thing that this process does: SLURM ends it at once.

    ``code`` is the exit code of the training. Ctrl-C comes from a person.
    """
    if _by_signal(code) and not _asked:
        _asked.append(code)
        atexit.register(now, code)


def now(code: int) -> None:
    """Requeue the job if a signal ended the training. One that is being cancelled, or that SLURM itself requeues, is
    left to it.
    """
    if not (_by_signal(code) and _job):
        return
    if not re.search(r"\bJobState=RUNNING\b", _scontrol("show", "job", "-o", _job).stdout):
        return
    print(f"SLURM job {_job} is requeued, and will continue this run.", flush=True)
    done = _scontrol("requeue", _job)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        print(f"trainer.requeue: scontrol requeue {_job} failed ({reason}); submit the job again", flush=True)


def _by_signal(code: int) -> bool:
    return code > 128 and code != 128 + signal.SIGINT


def _scontrol(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
