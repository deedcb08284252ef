"""What a training says on the screen when it begins, ends, is finished already or cannot go on."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceforge.engine.run import Run


def greeting(run: Run) -> str:
    """Before the first step: the faces, the device and the folder."""
    record, data = run.record, run.record["data"]
    counts, skipped, folder = data["counts"], len(data["skipped"]), os.path.relpath(run.folder)
    lines = [
        f"{data['source']}: {counts['train']:,} faces to train on, {counts['val']:,} to judge by, {counts['test']:,} "
        f"kept for the end; {record['device']}; {folder}"
    ]
    if skipped:
        lines.append(f"{skipped:,} pictures could not be used: {folder}/skipped.csv says why")
    return "\n".join(lines)


def farewell(run: Run, code: int) -> str:
    """After the last step: where everything lies, and the commands that go on from here."""
    record, folder = run.record, os.path.relpath(run.folder)
    images, best = record["images"], record["best"]
    lines = [
        f"{'Stopped' if code else 'Finished'} after {images:,} images.",
        f"  report       {folder}/report.html",
        f"  last grid    {folder}/samples/{max((p.name for p in (run.folder / 'samples').glob('*.png')), default='')}",
        f"  checkpoints  {folder}/checkpoints/"
        + (f"  (best: {best['metric']} {best['value']:.4g} at {best['images']:,})" if best else ""),
        f"To go on:      python train.py {shlex.quote(f'resume={folder}')}"
        + ("" if code else f" trainer.max_images={images * 2}"),
        f"To fine-tune:  python train.py {shlex.quote(f'init_from={folder}')} data=crops data.root=FOLDER",
    ]
    return "\n".join(lines)


def finished(run: Run, saved: Mapping[str, Any]) -> str:
    """For a run of which nothing is left to train, by its last checkpoint."""
    folder, images, end = run.folder, saved["clock"]["images"], saved["end"]
    if end:
        return f"{folder} is finished: {end}. To train on from its weights: init_from={folder}"
    return f"{folder} is finished: {images:,} images. To go on: resume={folder} trainer.max_images={images * 2}"


def stuck(folder: Path, error: Exception) -> str:
    """For a run that an error of the system has ended, and how to go on when that is mended."""
    again = f"python train.py {shlex.quote(f'resume={os.path.relpath(folder)}')}"
    if not any((folder / "checkpoints").glob("*.ckpt")):
        again = f"start again with run_dir={os.path.relpath(folder)}; nothing was trained yet"
    return f"{folder}: cannot go on ({error}); the last checkpoint is whole, to go on when this is mended: {again}"


def filter_warnings() -> None:
    """Silence what Lightning says about choices made here on purpose; every other warning stays."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for expected in (
        ".*does not have many workers.*",
        ".*found .* module.* in eval mode at the start of training.*",
        ".*GPU available but not used.*",
        ".*IterableDataset.*__len__.*",
        ".*`max_epochs` was not set.*",
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=expected)
