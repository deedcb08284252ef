"""Messages on the screen when a training starts, ends, is already finished or cannot continue."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceforge import words
from faceforge.engine import devices
from faceforge.engine.run import Run
from faceforge.io.kinds import told


def greeting(run: Run) -> str:
    """The lines before the first step: faces, device and folder; what tables matched, why scores may flatter."""
    record, data = run.record, run.record["data"]
    counts, skipped, folder = data["counts"], len(data["skipped"]), words.relative(run.folder)
    lines = [
        f"{data['source']}: {counts['train']:,} faces for training, {counts['val']:,} for validation, "
        f"{counts['test']:,} for testing; {record['device']}; {folder}"
    ]
    if skipped:
        lines.append(f"{skipped:,} images could not be used; see {folder}/skipped.csv")
    return "\n".join([*lines, *told(data.get("left_out", {})), *data.get("tables", []), *data.get("cautions", [])])


def left_idle(folder: Path, gpus: int) -> str | None:
    """The line for a notebook on a machine with more GPUs than the one that it trains on; None elsewhere."""
    if not devices.interactive() or gpus != 1 or devices.count() < 2:
        return None
    again = words.train(words.word("resume", words.relative(folder)))
    return f"This machine has {devices.count()} GPUs, a notebook trains on one; to use all, stop and type !{again}"


def farewell(run: Run, code: int, trusted: Sequence[str]) -> str:
    """The lines after the last step: paths, and the commands to continue or fine-tune."""
    own = _own_code(trusted)
    record, folder = run.record, words.relative(run.folder)
    images, best = record["images"], record["best"]
    longer = [] if code else [f"trainer.max_images={images * 2}"]
    lines = [
        f"{'Stopped' if code else 'Finished'} after {images:,} images.",
        f"  report       {folder}/report.html",
        f"  last grid    {folder}/samples/{max((p.name for p in (run.folder / 'samples').glob('*.png')), default='')}",
        f"  checkpoints  {folder}/checkpoints/"
        + (f"  (best: {best['metric']} {best['value']:.4g} at {best['images']:,})" if best else ""),
        f"To continue:   {words.train(words.word('resume', folder), *own, *longer)}",
        f"To fine-tune:  {words.train(words.word('init_from', folder), *own, 'data=crops', 'data.root=FOLDER')}",
    ]
    return "\n".join(lines)


def _own_code(trusted: Sequence[str]) -> list[str]:
    """What a command needs so that it finds code outside the package, which lies where it was imported from."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in trusted]
    folders = {Path(file).parents[Path(file).stem == "__init__"] for file in files if file}
    apart = sorted(words.relative(f) for f in folders if f != Path.cwd() and "site-packages" not in f.parts)
    search = [f"hydra.searchpath=[{','.join(map(words.quoted, apart))}]"] if apart else []
    return [*search, f"trusted_packages=[{','.join(trusted)}]"] if trusted else []


def going_on(run: Run, saved: Mapping[str, Any]) -> str:
    """The line for a run that continues."""
    return f"{words.relative(run.folder)} is unfinished: continuing at image {saved['clock']['images']:,}."


def finished(run: Run, saved: Mapping[str, Any]) -> str:
    """The line for a run that has nothing left to train."""
    folder, images, end = run.folder, saved["clock"]["images"], saved["end"]
    if end:
        return f"{folder} is finished: {end}. To start from its weights: {words.train(words.word('init_from', folder))}"
    again = words.train(words.word("resume", folder), f"trainer.max_images={images * 2}")
    return f"{folder} is finished: {images:,} images. To continue: {again}"


def stuck(folder: Path, error: Exception) -> str:
    """The line for a run that a system error has ended, and how to continue it."""
    again = words.train(words.word("resume", words.relative(folder)))
    if not any((folder / "checkpoints").glob("*.ckpt")):
        again = f"start again with {words.shown('run_dir', words.relative(folder))}; nothing was trained yet"
    return f"{folder}: cannot continue ({error}); the last checkpoint is valid. Fix the cause, then: {again}"


def filter_warnings() -> None:
    """Silence Lightning's warnings about deliberate choices; keep all others."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for expected in (
        ".*does not have many workers.*",
        ".*found .* module.* in eval mode at the start of training.*",
        ".*GPU available but not used.*",
        ".*IterableDataset.*__len__.*",
        ".*`max_epochs` was not set.*",
        ".*LeafSpec.*is deprecated.*",
        ".*`srun` command is available.*",  # who starts the ranks is decided in engine/cluster.py
    ):
        warnings.filterwarnings("ignore", message=expected)
