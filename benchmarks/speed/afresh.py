"""A whole training over the bare loop, in fresh processes: of these files and of an earlier commit, in turns.

Where the memory of a process happens to lie moves the figure by a hundredth, for as long as the process lives; more
steps in one process do not average that out, more processes do.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.command import ROOT
from faceforge.errors import BadInput

CHILD = """
import json, sys
from pathlib import Path
import torch
from benchmarks.speed.measure import measure_training
torch.set_num_threads(1)
name, folder, steps, lean = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "lean"
measure_training(name, folder, steps // 2, lean)  # the first training of a process is slower by a hundredth
print(json.dumps(measure_training(name, folder, steps, lean)))
"""  # an earlier commit has the same function


def unpacked(commit: str, folder: Path) -> Path:
    """The files of a commit, in ``folder``.

    Raises:
        BadInput: where there is no such commit.
    """
    found = subprocess.run(["git", "archive", commit, "--"], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        raise BadInput(f"--beside {commit}: {found.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def once(tree: Path, name: str, folder: Path, steps: int, loop: str) -> tuple[float, dict[str, Any]]:
    """The figure of one fresh process that runs the files of ``tree``, and what it was made of."""
    paths = os.pathsep.join(str(path) for path in (tree / "src", tree))
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-c", CHILD, name, str(folder), str(steps), loop]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(f"measuring {name} in {tree} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    ratio, about = json.loads(done.stdout.splitlines()[-1])
    return ratio, about


Found = dict[str, list[tuple[float, dict[str, Any]]]]


def measured(name: str, folder: Path, steps: int, processes: int, before: str | None) -> Found:
    """Figures of ``ours``, of ``lightnings_loop`` and, where a commit is named, of ``before``: a process of each in
    turns.
    """
    sides = {"ours": (ROOT, "lean"), "lightnings_loop": (ROOT, "stock")}
    if before:
        sides["before"] = unpacked(before, folder / "before"), "lean"
    found: Found = {side: [] for side in sides}
    for _ in range(processes):
        for side, (tree, loop) in sides.items():
            found[side].append(once(tree, name, folder / side / "runs", steps, loop))
            print(f"{name}, {side}: {found[side][-1][0]:.3f}", file=sys.stderr, flush=True)
    return found


def usual(found: list[tuple[float, dict[str, Any]]]) -> tuple[float, dict[str, Any]]:
    """The median over the processes, and for the record each of them and what the median one was made of."""
    middle = median(ratio for ratio, _ in found)
    nearest = min(found, key=lambda each: abs(each[0] - middle))
    return middle, {"processes": [round(ratio, 4) for ratio, _ in found], **nearest[1]}
