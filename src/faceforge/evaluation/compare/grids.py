"""The last grids of samples beside one another: of the same faces row by row, or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceforge.evaluation.compare.runs import Run
from faceforge.evaluation.compare.settings import Setting, leaves, paired
from faceforge.report import pictures
from faceforge.report.html import grouped
from faceforge.report.pictures import Picture

COLUMNS = 8  # of a grid
FACES = 3  # rows of a grid of faces: inputs, outputs, targets or new faces
NOISE = ("latent", "latent_size", "size", "channels")  # ends of keys on which the noise of a sample depends
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """A row of faces, or a whole grid, with what it is."""

    label: str
    picture: Picture


@dataclass(frozen=True)
class Grids:
    """What is shown, whether as rows one below the other, and in words how far it can be compared."""

    shown: Sequence[Shown]
    as_rows: bool
    remark: str


@dataclass(frozen=True)
class _Grid:
    run: Run
    name: str
    images: int
    pixels: Pixels
    rows: Sequence[Pixels]  # empty where its tiles are not known


def grids(settings: Sequence[Setting]) -> Grids | None:
    """The last grid of one run of each setting, of the same seed where there is one; None without any."""
    chosen = [settings[0].runs[0], *(paired(settings[0], other)[0][1] for other in settings[1:])]
    found = [grid for setting, run in zip(settings, chosen, strict=True) if (grid := _read(setting, run))]
    if not found:
        return None
    if all(len(grid.rows) == FACES for grid in found):
        if all(_same(grid.rows[0], found[0].rows[0]) for grid in found):
            return Grids(_in_rows(found), True, "The same faces in every row, the inputs of all runs being equal.")
        return Grids(_whole(found), False, "Not of the same faces: the inputs of these runs differ.")
    return Grids(_whole(found), False, _of_noise([grid.run for grid in found]))


def _read(setting: Setting, run: Run) -> _Grid | None:
    last = pictures.last(run.folder)
    if last is None:
        return None
    images, picture = last
    name = setting.name if len(setting.runs) == 1 else f"{setting.name}, seed {run.seed}"
    pixels = np.asarray(picture)
    return _Grid(run, name, images, pixels, rows_of(pixels, run.entry.record.part("data").get("size")))


def rows_of(pixels: Pixels, size: object) -> list[Pixels]:
    """The rows of a grid (H, W, 3) of eight tiles of a ``size`` (height, width); none if they cannot be told."""
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return []
    height, width = size
    gap, rest = divmod(pixels.shape[1] - COLUMNS * width, COLUMNS - 1)
    count, more = divmod(pixels.shape[0] + gap, height + gap)
    if rest or more or gap < 0:
        return []
    return [pixels[n * (height + gap) : n * (height + gap) + height] for n in range(count)]


def _same(one: Pixels, other: Pixels) -> bool:
    return one.shape == other.shape and np.array_equal(one, other)


def _in_rows(found: Sequence[_Grid]) -> list[Shown]:
    """Inputs once, the outputs of each run, and the last row once if it is the same for all."""
    first = found[0]
    shared = all(_same(grid.rows[2], first.rows[2]) for grid in found)
    said = [_shown("input", first, first.rows[0])]
    said += [_shown(f"{grid.name}, {grouped(grid.images)} images", grid, grid.rows[1]) for grid in found]
    if shared:
        return [*said, _shown("target", first, first.rows[2])]
    return [*said, *(_shown(f"{grid.name}, new faces", grid, grid.rows[2]) for grid in found)]


def _whole(found: Sequence[_Grid]) -> list[Shown]:
    return [_shown(f"{grid.name}, {grouped(grid.images)} images", grid, grid.pixels) for grid in found]


def _shown(label: str, grid: _Grid, pixels: Pixels) -> Shown:
    return Shown(label, pictures.small(grid.images, Image.fromarray(np.ascontiguousarray(pixels))))


def _of_noise(runs: Sequence[Run]) -> str:
    """Whether generated faces come from the same noise, by the configurations."""
    known = [{key: repr(value) for key, value in leaves(run.entry.config.part("model")) if _draws(key)} for run in runs]
    known = [{**own, "size": repr(run.entry.record.at("data.size"))} for own, run in zip(known, runs, strict=True)]
    unlike = [
        key for key in dict.fromkeys(key for own in known for key in own) if len({own.get(key) for own in known}) > 1
    ]
    if unlike or any("seed" not in own for own in known):
        why = ", ".join(key if key == "size" else f"model.{key}" for key in unlike) or "model.seed is not known"
        return f"Not from the same noise ({why}): compare the grids as wholes, not face by face."
    return "From the same noise, place by place; what a network makes of it is its own."


def _draws(key: str) -> bool:
    return key == "seed" or (key.startswith("generator.") and key.rpartition(".")[2] in NOISE)
