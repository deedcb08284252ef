"""What `dry_run=true` foretells, over what the training then took.

python -m benchmarks.foretold        # two short trainings on drawn faces, three minutes, nothing else running
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import records
from benchmarks.command import FACEFORGE, run
from faceforge import config
from faceforge.engine import dry_run
from faceforge.engine.plan import make_plan
from faceforge.errors import BadInput

COMMON = ("data.source.count=1000", "trainer.gpus=0", "logger.mode=disabled")
EVERY = ("trainer.sample_every=2000", "trainer.checkpoint_every=2000")
TRAININGS: dict[str, tuple[str, ...]] = {
    "gan": ("model=dcgan_conventional", "trainer.max_images=7000", *EVERY),
    "colour": ("model=pix2pix", "data.size=64", "trainer.max_images=3000", *EVERY),
}
LIMIT = 0.25  # either way


def main() -> None:
    """Foretell, train, print and record the ratios."""
    found = {name: compared([*COMMON, *words]) for name, words in TRAININGS.items()}
    for name, figures in found.items():
        for figure in ("time", "memory"):
            ratio = figures[figure]
            print(f"foretold_{figure}.{name} {ratio:.3f}" + ("" if abs(ratio - 1) <= LIMIT else "  (does not hold)"))
    records.keep("foretold", {"trainings": found, "limit": LIMIT})


def compared(words: Sequence[str]) -> dict[str, float]:
    """Seconds and bytes foretold, over those of the whole training."""
    with tempfile.TemporaryDirectory() as place:
        guess, held = foretold(words, Path(place))
        seconds, memory = trained(words, Path(place) / "run")
    return {"time": guess / seconds, "memory": held / memory, "seconds": seconds, "bytes": memory}


def foretold(words: Sequence[str], place: Path) -> tuple[float, int]:
    """Seconds and bytes, from a process of its own, as a user's is."""
    plan = make_plan(config.compose(list(words)))
    folder = place / "short"
    short = dry_run.shortened(plan.config, folder)
    cadence = {key: short["trainer"][key] for key in ("max_minutes", "sample_every", "checkpoint_every", "log_every")}
    changed = [*(f"trainer.{key}={value}" for key, value in cadence.items()), "callbacks.progress=null"]
    _, memory = trained([*words, *changed], folder)
    return dry_run.Forecast.of(plan, dry_run.measured(folder)).seconds, memory


def trained(words: Sequence[str], folder: Path) -> tuple[float, int]:
    """Seconds after the start, and the most bytes held."""
    command = [*FACEFORGE, "train", *words, f"run_dir={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = code
    if code:
        raise BadInput(f"the training ended with {code}")
    spent = json.loads((folder / "run.json").read_text())["timings"]
    return sum(spent.values()), used.ru_maxrss * 1024


if __name__ == "__main__":
    run(main)
