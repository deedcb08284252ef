"""The minutes of a stranger's first hour: a bare clone, then only what README.md says; and a wheel alone.

python -m benchmarks.first_hour                  # half an hour on two cores, nothing else running
PHOTOS=folder python -m benchmarks.first_hour    # the photos of which faces are cut; default: 200 drawn portraits
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.command import ROOT, run
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.io.images import write_png

BELOW = {"python": ".venv/bin/python", "faceforge": ".venv/bin/faceforge"}  # as README.md says
ENDS = "trainer.max_minutes=5"  # the training on photos would go on for 60,000 images
SHORT = "trainer.max_minutes=2"  # the wheel is the same program: its trainings need not be long


def main() -> None:
    """Do all of it, print the minutes, and record them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        photos = Path(os.environ["PHOTOS"]) if "PHOTOS" in os.environ else portraits(folder / "photos")
        clone, apart = folder / "faceforge", folder / "apart"
        apart.mkdir()
        step(["git", "clone", "-q", str(ROOT), str(clone)], folder)
        found = {"clone": told("clone", from_clone(clone, photos))}
        found["wheel"] = told("wheel", from_wheel(clone, apart, photos))
        count = len(list(photos.iterdir()))
    records.keep("first_hour", {"minutes": found, "photos": count})


def told(way: str, minutes: dict[str, float]) -> dict[str, float]:
    """The minutes, which are printed."""
    print(*(f"first_hour.{way}.{name} {spent:.1f}" for name, spent in minutes.items()), sep="\n", flush=True)
    return minutes


def from_clone(clone: Path, photos: Path) -> dict[str, float]:
    """Minutes of each step after `git clone`."""
    (clone / "photos").symlink_to(photos)
    return {
        "demo": page_of(["make", "demo"], clone),
        "cut": step([BELOW["faceforge"], "cut", "photos/", "my_faces"], clone)[0],
        "train": page_of([BELOW["python"], "train.py", "data=crops", "data.root=my_faces", ENDS], clone),
        "app": opened([BELOW["faceforge"], "app"], clone),
    }


def from_wheel(clone: Path, apart: Path, photos: Path) -> dict[str, float]:
    """Minutes of the same with a wheel in an environment that holds nothing else."""
    (apart / "photos").symlink_to(photos)
    step([str(clone / BELOW["python"]), "-m", "build", "--wheel", "--outdir", str(apart)], clone)
    step([os.environ.get("PYTHON", sys.executable), "-m", "venv", ".venv"], apart)
    install, _ = step([BELOW["python"], "-m", "pip", "install", "-q", *map(str, apart.glob("*.whl"))], apart)
    train = [BELOW["faceforge"], "train", SHORT]
    return {
        "install": install,
        "demo": page_of([*train, "experiment=demo"], apart),
        "cut": step([BELOW["faceforge"], "cut", "photos/", "my_faces"], apart)[0],
        "train": page_of([*train, "data=crops", "data.root=my_faces"], apart),
        "app": opened([BELOW["faceforge"], "app"], apart),
    }


def portraits(folder: Path, count: int = 200) -> Path:
    """A folder of drawn photos: a face with background around it."""
    folder.mkdir()
    faces = Drawn(count=count, seed=11)
    for n in range(count):
        face = np.pad(faces.read(n, (320, 240)), ((80, 80), (120, 120), (0, 0)), mode="edge")
        write_png(face, folder / f"{n:04d}.png")
    return folder


def step(command: Sequence[str], folder: Path) -> tuple[float, str]:
    """Run a command; its minutes, and what it printed."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise BadInput(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-500:]}")
    return (time.monotonic() - begun) / 60, done.stdout


def page_of(command: Sequence[str], folder: Path) -> float:
    """Minutes until a training has printed the path of its report page, which must be there."""
    minutes, said = step(command, folder)
    named = re.findall(r"\S+report\.html", said)
    if not named or not (folder / named[-1]).is_file():
        raise BadInput(f"{' '.join(command)}: no report page; its last words: {said[-500:]}")
    return minutes


def opened(command: Sequence[str], folder: Path) -> float:
    """Minutes until the page of the app has come."""
    begun = time.monotonic()
    with subprocess.Popen([*command, "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        page: Any = next((found[1] for line in app.stdout if (found := re.search(r"listening on (\S+)", line))), None)
        try:
            urllib.request.urlopen(f"{page}/", timeout=60).close()
        finally:
            app.send_signal(signal.SIGINT)
    return (time.monotonic() - begun) / 60


if __name__ == "__main__":
    run(main)
