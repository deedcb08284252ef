"""What a sweep survives: 12 jobs, 2 at a time, 2 made to fail; all its processes killed twice, the command typed again.

    python -m benchmarks.survival.sweeps                    # joblib, submitit_local, and Optuna over SQLite
    python -m benchmarks.survival.sweeps --way joblib --no-record

Prints lines ``name value`` and writes a record. A job counts as finished once if its only folder is finished and was
not written to after the command under which it finished.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import typer

from benchmarks import records
from benchmarks.command import ROOT, run
from benchmarks.survival.child import new_run
from faceforge.engine.jobs import RUNNING, Record

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Way = Literal["joblib", "submitit_local", "optuna"]
FAILING = ("-1", "1e30")  # refused by torch; NaN at once
RATES = (*(f"{n}e-4" for n in range(1, 11)), *FAILING)
IMAGES = 600
KEY = "model.optimizer_g.lr"
WAYS: dict[Way, list[str]] = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"],
    "optuna": [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra/sweeper=optuna",
        "hydra.sweeper.sampler=grid",
    ],
}


def command(way: Way, folder: Path) -> list[str]:
    """What is typed each time."""
    tiny = [word for word in new_run(folder, IMAGES) if not word.startswith("run_dir=")]
    trials = [f"hydra.sweeper.n_trials={len(RATES)}", "hydra.sweeper.pruner=null"] if way == "optuna" else []
    swept = f"{KEY}={','.join(RATES)}"
    return [sys.executable, str(ROOT / "train.py"), "-m", *tiny, *WAYS[way], *trials, "guard.every=1", swept]


def ended(folder: Path) -> list[Path]:
    """The folders of the jobs that have ended by themselves."""
    record = Record(folder / "jobs.jsonl")
    return [record.place(row) for row in record.rows() if row.outcome != RUNNING and "killed" not in row.outcome]


def kill_after(words: list[str], folder: Path, jobs: int, wait: float) -> float:
    """Start the sweep and kill every process of it ``wait`` seconds after so many jobs have ended; seconds it ran."""
    begun = time.monotonic()
    with (folder.parent / "log").open("a") as log:
        sweep = psutil.Popen(words, stdout=log, stderr=log, cwd=folder.parent)
        while len(ended(folder)) < jobs and sweep.poll() is None:
            time.sleep(0.1)
        time.sleep(wait)
        for process in [sweep, *sweep.children(recursive=True)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        sweep.wait()
    return time.monotonic() - begun


def stamps(folder: Path) -> dict[str, int]:
    """When the last checkpoint of each finished job was written, in nanoseconds."""
    found = {}
    for path in folder.glob("*/run.json"):
        if json.loads(path.read_text())["status"] == "finished":
            found[path.parent.name] = (path.parent / "checkpoints/last.ckpt").stat().st_mtime_ns
    return found


def found_in(folder: Path, before: list[dict[str, int]]) -> dict[str, Any]:
    """What the folder of the sweep holds at the end."""
    rows = Record(folder / "jobs.jsonl").rows()
    runs = Counter(path.parent.name.rpartition("-")[0] for path in folder.glob("*/run.json"))
    last = stamps(folder)
    again = {name for earlier in before for name, at in earlier.items() if last.get(name) != at}
    return {
        "jobs": len(rows),
        "finished": sum(row.outcome == "finished" for row in rows),
        "finished_once": len(last.keys() - again),
        "failed_by_name": sorted(row.swept[KEY] for row in rows if row.outcome.startswith("failed: ")),
        "folders_twice": sum(count > 1 for count in runs.values()),
        "finished_before_the_kills": [len(earlier) for earlier in before],
        "reports": [(folder / name).is_file() for name in ("sweep.csv", "sweep.html")],
    }


def measure(way: Way, folder: Path, dice: random.Random) -> dict[str, Any]:
    """Kill a sweep twice, type it a third time, and count."""
    words = [*command(way, folder), f"run_dir={folder}"]
    before, seconds = [], []
    for jobs in (3, 7):
        seconds.append(kill_after(words, folder, jobs, dice.uniform(0, 2)))
        before.append(stamps(folder))
    begun = time.monotonic()
    with (folder.parent / "log").open("a") as log:
        code = subprocess.run(words, stdout=log, stderr=log, cwd=folder.parent, check=False).returncode
    return {**found_in(folder, before), "code": code, "seconds": [*seconds, time.monotonic() - begun]}


@app.command()
def sweeps(
    way: Annotated[Way | None, typer.Option(help="One of them; all by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    record: Annotated[bool, typer.Option(help="Write docs/results/records/survival_sweeps.json.")] = True,
) -> None:
    """Kill a sweep of 12 jobs twice in each way to run it."""
    os.environ["WANDB_MODE"] = "disabled"
    dice, results = random.Random(seed), {}
    ways: list[Way] = [way] if way else [*WAYS]
    for name in ways:
        with tempfile.TemporaryDirectory() as folder:
            found = results[name] = measure(name, Path(folder, "sweep"), dice)
            holds = found["finished_once"] == len(RATES) - len(FAILING) and not found["folders_twice"]
            found["holds"] = holds and found["failed_by_name"] == ["-1", "1e+30"]
            for key in ("finished_once", "failed_by_name", "folders_twice", "holds"):
                print(f"{name}.{key} {found[key]}", flush=True)
            if not found["holds"]:
                print(Path(folder, "log").read_text()[-4000:])
    if record:
        print(records.keep("survival_sweeps", {"ways": results}))
    if not all(found["holds"] for found in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    run(app)
