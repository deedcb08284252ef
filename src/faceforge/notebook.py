"""Helpers for notebooks: train a run once, show images, plot metrics, compare runs."""

from __future__ import annotations

import csv
import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from faceforge import words
from faceforge.errors import BadInput

if TYPE_CHECKING:
    from faceforge.evaluation.compare.comparison import Comparison, Reference


def train(folder: str | Path, *overrides: str) -> Path:
    """Run ``python train.py OVERRIDES run_dir=FOLDER``; a cell run again continues the run or finds it finished.

    Returns the folder. Raises BadInput.
    """
    from faceforge import config
    from faceforge.engine import training

    folder = Path(folder)
    typed = [*overrides, words.word("run_dir", folder)]
    code = training.train(config.compose(typed), typed)
    if code:
        raise BadInput(f"{folder}: the run ended with {code}; run the cell again to continue")
    return folder


def row(*pictures: np.ndarray, height: int = 192) -> Image.Image:
    """Images, uint8 (H, W, 3) or (H, W), side by side at one height, for display."""
    images = [Image.fromarray(picture).convert("RGB") for picture in pictures]
    sizes = [(round(image.width * height / image.height), height) for image in images]
    scaled = [image.resize(size, Image.Resampling.NEAREST) for image, size in zip(images, sizes, strict=True)]
    return Image.fromarray(np.concatenate([np.asarray(image) for image in scaled], axis=1))


def metrics(run: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images drawn and values of each metric in a run's metrics.csv."""
    with (Path(run) / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name != "images"]
    found = {name: [(float(r["images"]), float(r[name])) for r in rows if r[name]] for name in names}
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in found.items() if pairs}


def directions(run: str | Path, steps: int | None = None, count: int | None = None, seed: int = 0) -> Image.Image:
    """What each direction of a GAN does, as `faceforge directions` found them; the first time they are found now, with
    these options or those of the command. Raises BadInput.
    """
    from faceforge.schemes.directions import NAME
    from faceforge.studio import directions as found

    folder = Path(run)
    if not (folder / NAME).exists():
        own = found.Options(folder, seed=seed)
        print("\n".join(found.make(replace(own, steps=steps or own.steps, count=count or own.count)).said))
    return Image.open(folder / found.PICTURE)


class Compared:
    """A comparison: a notebook shows its page, ``print`` its tables and verdict."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __str__(self) -> str:
        from faceforge.evaluation.compare import text

        return "\n".join(text.lines(self.comparison))

    def _repr_html_(self) -> str:
        from faceforge.evaluation.compare import page

        return f'<iframe srcdoc="{html.escape(page.render(self.comparison))}" width="100%" height="800"></iframe>'


def compare(
    *runs: str | Path,
    scores: Sequence[str] = (),
    sort: str | None = None,
    reference: Reference = "first",
    force: bool = False,
) -> Compared:
    """Evaluated runs beside one another, as `faceforge compare` shows them. Raises BadInput."""
    from faceforge.evaluation.compare import making
    from faceforge.evaluation.compare.comparison import Options
    from faceforge.evaluation.compare.runs import read

    options = Options(tuple(scores), sort, reference, force)
    return Compared(making.compare(read([Path(run) for run in runs]), options))


def plot(runs: Mapping[str, str | Path], names: Sequence[str]) -> Image.Image:
    """A plot of metrics: one panel per metric, one line per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names), 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    known = {label: metrics(run) for label, run in runs.items()}
    for panel, name in zip(panels, names, strict=True):
        for label, found in known.items():
            if name in found:
                panel.plot(*found[name], label=label)
        panel.set(title=name, xlabel="images drawn")
        panel.legend()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer)
