"""Preemptions on a real SLURM of one machine: signal, checkpoint, requeue, restart.

    python -m benchmarks.survival.requeue --count 20     # as root, with slurm-wlm and munge installed

A batch job trains a tiny GAN by srun. Again and again it gets SIGUSR1, SIGUSR2 or SIGTERM at a random moment, and must
be requeued exactly once each time, continue from the checkpoint that it saved, and end in the bits of a run that
nobody disturbed. Prints lines ``name value``.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import records
from benchmarks.command import ROOT, run
from benchmarks.runs import differences, last
from benchmarks.survival.child import contents, new_run
from benchmarks.survival.slurm import Slurm, missing, started
from benchmarks.survival.torchrun import count as rows
from faceforge.errors import BadInput
from faceforge.io.metrics_csv import read_rows

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SIGNALS = ("USR1", "USR2", "TERM")
PATIENCE = 600.0  # seconds for a start
SCRIPT = """#!/bin/bash
#SBATCH --nodes=1 --ntasks-per-node={tasks} --requeue --open-mode=append --output={place}/slurm-%j.out
export PYTHONPATH={source} OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 {python} {train} "$@"
"""


class Job:
    """A batch job that trains one run."""

    def __init__(self, slurm: Slurm, place: Path, folder: Path, images: int, tasks: int) -> None:
        self.slurm, self.folder, self.table = slurm, folder, folder / "metrics.csv"
        script = place / "train.sbatch"
        named = {"source": ROOT / "src", "python": sys.executable, "train": ROOT / "train.py"}
        script.write_text(SCRIPT.format(tasks=tasks, place=place, **named))
        self.number = slurm.submit(script, *new_run(folder, images), options=["--chdir", place])
        self.log = place / f"slurm-{self.number}.out"

    def over(self) -> bool:
        """Whether SLURM has no more to do for it."""
        return self.slurm.about(self.number)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED")

    def preempt(self, name: str, delay: float) -> dict[str, Any] | None:
        """A signal at a random moment of training; what came of it, or None if the run had ended."""
        before, restarts = self._trains(), self._restarts()
        if before is None:
            return None
        time.sleep(delay)
        self.slurm.run("scancel", f"--signal={name}", self.number)
        until = time.monotonic() + PATIENCE
        while self._restarts() == restarts and not self.over():
            if time.monotonic() > until:
                raise RuntimeError(f"not requeued: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        if self.over():
            return None
        saved, (made, _) = last(self.folder)["clock"]["images"], list(read_rows(self.table))[-1]
        again = self._restarts() - restarts
        return {"signal": name, "images": saved, "saved": saved == made, "restarts": again}

    def _restarts(self) -> int:
        return int(self.slurm.about(self.number)["Restarts"])

    def _trains(self) -> int | None:
        """Wait until rows are written; None if the run ends before."""
        first, until = rows(self.table), time.monotonic() + PATIENCE
        while rows(self.table) == first or rows(self.table) < 2:
            if self.over():
                return None
            if time.monotonic() > until:
                raise RuntimeError(f"no row was written: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)
        return rows(self.table)


def preempt_often(slurm: Slurm, place: Path, count: int, images: int, tasks: int, seed: int) -> dict[str, Any]:
    """Preempt ``count`` times; each outcome, and what differed in the end, run by run."""
    dice, found, different, number = random.Random(seed), list[dict[str, Any]](), list[list[str]](), 0
    slurm.wait(Job(slurm, place, place / "whole", images, tasks).number, PATIENCE)
    job = Job(slurm, place, place / "run0", images, tasks)
    while len(found) < count:
        outcome = job.preempt(SIGNALS[len(found) % 3], dice.uniform(0, 0.5))
        if outcome:
            found.append(outcome)
            print(f"preemption {len(found)}: {outcome}", flush=True)
            continue
        different.append(_compared(job, place))
        number += 1
        job = Job(slurm, place, place / f"run{number}", images, tasks)
    slurm.wait(job.number, PATIENCE)
    different.append(_compared(job, place))
    right = sum(outcome["restarts"] == 1 and outcome["saved"] for outcome in found)
    unlike = [names[:5] for names in different if names]
    return {"preemptions": found, "right": right, "runs": len(different), "different": unlike}


def _compared(job: Job, place: Path) -> list[str]:
    """What differs between a run that has ended and the undisturbed one."""
    if json.loads((job.folder / "run.json").read_text())["status"] != "finished":
        raise RuntimeError(f"the job ended without its run: {job.log.read_text()[-2000:]}")
    return differences(contents(place / "whole"), contents(job.folder))


@app.command()
def main(
    count: int = 20,
    images: int = 4000,
    tasks: Annotated[int, typer.Option(help="Tasks of srun.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Default: docs/results/records/survival_requeue.json")] = None,
) -> None:
    """Exit code 1 where a job was not requeued exactly once, or a run ends in other bits."""
    if reason := missing():
        raise BadInput(reason)
    with tempfile.TemporaryDirectory(prefix="survival-") as place, started() as slurm:
        found = preempt_often(slurm, Path(place), count, images, tasks, seed)
    identical = found["runs"] - len(found["different"])
    print(f"preemptions {count}\nright {found['right']}\nruns {found['runs']}\nidentical {identical}")
    about = {"images": images, "tasks": tasks, "seed": seed, "identical": identical}
    print(records.keep(out or "survival_requeue", {**found, **about}))
    raise typer.Exit(int(found["right"] != count or identical != found["runs"]))


if __name__ == "__main__":
    run(app)
