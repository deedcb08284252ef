"""Seconds of `faceforge compare` over six runs, its page included.

    python -m benchmarks.scores compare
    python -m benchmarks.scores compare runs/a runs/b runs/c runs/d runs/e runs/f

Without runs, six are trained first: two widths of a small super-resolution network, three seeds each, on drawn faces,
with a row of metrics every batch; each is evaluated on its test faces.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import records
from benchmarks.command import FACEFORGE, place_of
from faceforge.errors import BadInput

LIMIT = 20.0  # seconds
WIDTHS, SEEDS = (8, 24), (0, 1, 2)
TRAINED = [
    *("model=conv_superres", "data.size=32", "trainer.gpus=0", "logger.mode=disabled", "data.source.count=1200"),
    *("data.test_fraction=0.4", "trainer.max_images=3200", "trainer.log_every=16", "trainer.sample_every=320"),
    *("trainer.checkpoint_every=320", "model.network.blocks=2"),
]


def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Evaluated runs; default: six that are trained first.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often it is timed, each time in a new process.")] = 5,
    place: Annotated[Path | None, typer.Option(help="Where runs are trained; those that are there are used.")] = None,
) -> None:
    """Time `faceforge compare` with its page, and record the seconds beside their limit."""
    with place_of(place) as folder:
        chosen = runs or trained(folder)
        page = folder / "compared.html"
        seconds = [timed(chosen, page) for _ in range(rounds)]
        size = page.stat().st_size
    found = {"runs": len(chosen), "rounds": rounds, "seconds": max(seconds), "least": min(seconds), "limit": LIMIT}
    found |= {"page_bytes": size, "held": max(seconds) < LIMIT}
    print(f"compare_seconds {max(seconds):.2f}  ({len(chosen)} runs, the longest of {rounds}; at most {LIMIT:g})")
    print(records.keep("compare", found))
    if not found["held"]:
        raise BadInput(f"{max(seconds):.1f} s; must be below {LIMIT:g} s")


def trained(folder: Path) -> list[Path]:
    """Six evaluated runs; those that are there already are not trained again."""
    runs = []
    for width in WIDTHS:
        for seed in SEEDS:
            run = folder / f"width{width}-s{seed}"
            if not (run / "evaluation.json").exists():
                faceforge("train", *TRAINED, f"model.network.width={width}", f"seed={seed}", f"run_dir={run}")
                faceforge("evaluate", str(run))
            runs.append(run)
    return runs


def timed(runs: Sequence[Path], page: Path) -> float:
    """Wall seconds of one comparison in a process of its own."""
    begin = time.perf_counter()
    faceforge("compare", *map(str, runs), "--html", str(page), "--overwrite")
    return time.perf_counter() - begin


def faceforge(*arguments: str) -> None:
    """Run a command. Raises BadInput with its last line if it fails."""
    done = subprocess.run(
        [*FACEFORGE, *arguments], capture_output=True, text=True, env={**os.environ, "WANDB_MODE": "disabled"}
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise BadInput(f"faceforge {arguments[0]}: {lines[-1]}")
