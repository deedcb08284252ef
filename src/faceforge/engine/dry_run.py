"""`dry_run=true`: the time, memory and disk that a training takes, from a quarter of a minute of it.

The training itself runs, in a folder that is removed: the pace of its steps, a validation, a grid and a checkpoint are
measured, and counted as often as the whole training has them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from faceforge.engine import cluster, devices
from faceforge.engine.plan import Plan, make_plan
from faceforge.engine.run import Run
from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes
from faceforge.io.metrics_csv import read_rows
from faceforge.io.portable import most_memory

MINUTES = 0.25
NEVER = 10**12  # images
RATE = "images_per_second"


@dataclass(frozen=True)
class Measured:
    """What a short run took: images a second; seconds of each validation, grid and checkpoint; bytes."""

    rate: float
    validate: float
    sample: float
    checkpoint: float
    checkpoint_bytes: int
    epoch: int  # images


@dataclass(frozen=True)
class Forecast:
    """What a whole training will take. ``seconds`` are those after the start."""

    images: int
    seconds: float
    parts: Mapping[str, float]
    disk: int

    @classmethod
    def of(cls, plan: Plan, found: Measured) -> Forecast:
        """Count what was measured as often as the training has it."""
        options = plan.options
        limit = plan.limit_images(found.epoch, plan.config["data"]["batch_size"])
        cap = NEVER if options.max_minutes is None else 60 * options.max_minutes
        images = min(limit or NEVER, round(found.rate * cap))
        events = -(-images // options.checkpoint_every)
        grids = 1 + -(-images // options.sample_every)
        parts = {
            "training": images / found.rate,
            "validations": events * found.validate,
            "grids": grids * found.sample,
            "checkpoints": events * found.checkpoint,
        }
        return cls(images, min(sum(parts.values()), cap), parts, 3 * found.checkpoint_bytes)  # last, previous, best


def dry_run(config: Mapping[str, Any], overrides: Iterable[str]) -> int:
    """Train for a moment, and print what all of it will take; an exit code. Raises BadInput.

    `python -m benchmarks.foretold` compares what was foretold with what it took.
    """
    _require_alone(config)
    plan = make_plan(config)
    with tempfile.TemporaryDirectory(prefix="faceforge-") as place:
        folder = Path(place) / "run"
        code = _train(shortened(config, folder), overrides)
        if code:
            return code
        found = measured(folder)
    print("\n".join(told(plan, found, Forecast.of(plan, found))))
    return 0


def shortened(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same training for a moment, with one validation, grid and checkpoint at its end."""
    trainer = dict(config["trainer"])
    minutes = min(trainer["max_minutes"] or MINUTES, MINUTES)
    trainer |= {"max_minutes": minutes, "sample_every": NEVER, "checkpoint_every": NEVER, "requeue": False}
    trainer["log_every"] = config["data"]["batch_size"]
    logger = {**config["logger"], "mode": "disabled", "also": {}}
    silent = {**config["callbacks"], "progress": None}
    changed = {"run_dir": str(folder), "trainer": trainer, "logger": logger, "callbacks": silent, "dry_run": False}
    return {**config, **changed}


def measured(folder: Path) -> Measured:
    """From the folder of the short run."""
    record = Run.reopen(folder).record
    rates = [row[RATE] for _, row in read_rows(folder / "metrics.csv") if RATE in row]
    usual = rates[len(rates) // 4 :] or [record[RATE]]  # the first steps are slower
    grids = max(1, len(list((folder / "samples").glob("*.png"))))
    spent, saved = record["timings"], (folder / "checkpoints" / "last.ckpt").stat().st_size
    return Measured(
        harmonic_mean(usual),
        spent["validate"],
        spent["sample"] / grids,
        spent["checkpoint"],
        saved,
        record["data"]["counts"]["train"],
    )


def told(plan: Plan, found: Measured, whole: Forecast) -> list[str]:
    """The lines to print."""
    inner = ", ".join(f"{name} {_time(seconds)}" for name, seconds in whole.parts.items() if seconds >= 1)
    time = f"{_time(whole.seconds)} ({inner}), {found.rate:.0f} images a second"
    lines = [
        f"Dry run: {whole.images:,} images take about {time}",
        f"  memory   {in_bytes(most_memory())}" + (" for each process" if plan.world > 1 else ""),
    ]
    if plan.gpus and (used := devices.most_memory()):
        lines.append(f"  device   {in_bytes(used)}")
    return [
        *lines,
        f"  disk     {in_bytes(whole.disk)} of checkpoints",
        "Nothing was kept; leave out dry_run to train.",
    ]


def _train(config: Mapping[str, Any], overrides: Iterable[str]) -> int:
    from faceforge.engine import training

    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        return training.train(config, overrides)


def _require_alone(config: Mapping[str, Any]) -> None:
    if config["resume"]:
        raise BadInput("dry_run: a run that is resumed has its pace in its report; dry_run is for a new run")
    if cluster.current().outside:
        raise BadInput(f"dry_run: {cluster.current().by} started this process; start a dry run with python")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
