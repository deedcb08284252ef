"""Validation scores of settings against images seen and seconds of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceforge.evaluation.compare.runs import Run
from faceforge.evaluation.compare.settings import Setting
from faceforge.report.charts import BINS, Chart, Panel, Series, chart

CURVES = {
    "val/mae": "MAE",
    "val/psnr": "PSNR",
    "val/ssim": "SSIM",
    "val/kid": "KID",
    "val/diversity": "diversity of generated faces",
    "val/gap": "gap to training faces",
}
RATE = "images_per_second"
Unit = Literal["images", "seconds"]
Numbers = NDArray[np.float64]


def charts(settings: Sequence[Setting]) -> list[Chart]:
    """Two charts for each score that at least two settings have: over images, and over seconds where they are known."""
    units: tuple[Unit, ...] = ("images", "seconds")
    return [made for column in CURVES for unit in units if (made := _chart(settings, column, unit))]


def _chart(settings: Sequence[Setting], column: str, unit: Unit) -> Chart | None:
    found = [series for setting in settings if (series := _series(setting, column, unit))]
    if len(found) < min(2, len(settings)):
        return None
    panel = Panel(f"{CURVES[column]} in validation, over {unit}", tuple(found), named=True)
    return chart(panel, max(series.end for series in found), unit)


def _series(setting: Setting, column: str, unit: Unit) -> Series | None:
    """The mean of the seeds as far as all of them reach, between their least and greatest value."""
    lines = [line for run in setting.runs if (line := line_of(run, column, unit))]
    if not lines:
        return None
    end, start = min(x[-1] for x, _ in lines), max(x[0] for x, _ in lines)
    x = np.unique(np.concatenate([x[(x >= start) & (x <= end)] for x, _ in lines]))
    if not len(x):
        return None
    x = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), BINS)).round().astype(int))]
    values = np.array([np.interp(x, *line) for line in lines])
    low, mean, high = values.min(0), values.mean(0), values.max(0)
    count = len(x) if len(lines) == 1 else values.size  # more values than points: a band is drawn
    return Series(setting.name, x, low, mean, high, float(x[-1]), float(mean[-1]), count, 0)


def line_of(run: Run, column: str, unit: Unit) -> tuple[Numbers, Numbers] | None:
    """The places and values of a column of metrics.csv; None where it or the clock is missing."""
    if column not in run.curves:
        return None
    images, values = (np.array(part) for part in run.curves[column])
    if unit == "images":
        return images, values
    clock = seconds(run)
    if clock is None:
        return None
    known = images <= clock[0][-1]
    return (np.interp(images[known], *clock), values[known]) if known.any() else None


def seconds(run: Run) -> tuple[Numbers, Numbers] | None:
    """Images seen, and the seconds of training up to there, without validating, drawing grids and saving."""
    if RATE not in run.curves:
        return None
    images, rates = (np.array(part) for part in run.curves[RATE])
    if (rates <= 0).any() or (np.diff(images) <= 0).any():
        return None
    spent = np.cumsum(np.diff(images, prepend=0.0) / rates)
    return np.concatenate([[0.0], images]), np.concatenate([[0.0], spent])
