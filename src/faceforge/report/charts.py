"""A run's curves: metrics.csv read, thinned to what a screen can show, and drawn as curves.png or for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from faceforge.io.files import replacing
from faceforge.io.metrics_csv import read_rows
from faceforge.report import svg
from faceforge.report.diagnosis import FIGURES
from faceforge.report.html import short

BINS = 300
PLOT = (460, 240)  # of a chart of the report
WIDE, TALL = 5.6, 3.2  # of a panel of curves.png, inches
DOTTED = 30  # so few points are also drawn one by one
OUTSIDE = 0.01  # share of the values that one panel's scale may leave out, at each end


@dataclass(frozen=True)
class Series:
    """One metric against images seen: points, then the last of all images and values, the number of values
    measured and how many of them were not finite.
    """

    name: str
    images: NDArray[np.float64]
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]
    end: float
    last: float
    n: int
    lost: int

    @property
    def thinned(self) -> bool:
        """Whether points stand for several values each."""
        return len(self.images) < self.n - self.lost


@dataclass(frozen=True)
class Panel:
    """Series that share one scale; ``named``: by words, not by columns of metrics.csv."""

    title: str
    series: tuple[Series, ...]
    named: bool = False

    def limits(self) -> tuple[float, float]:
        """A scale that shows nearly everything: a few early spikes must not flatten all the rest."""
        values = np.concatenate([np.concatenate([s.low, s.high]) for s in self.series])
        low, high = float(values.min()), float(values.max())
        inner_low, inner_high = np.quantile(values, [OUTSIDE, 1 - OUTSIDE])
        if len(values) > 50 and high - low > 1.6 * (inner_high - inner_low) > 0:
            low, high = float(inner_low), float(inner_high)
        reach = 0.56 * max(high - low, 0.02 * max(abs(high), abs(low)), 1e-9)
        return (low + high) / 2 - reach, (low + high) / 2 + reach

    def cropped(self) -> bool:
        """Whether some values lie outside the scale."""
        low, high = self.limits()
        return any(s.low.min() < low or s.high.max() > high for s in self.series)


def read_panels(path: Path) -> list[Panel]:
    """The curves of a metrics.csv: losses and logits together, each score alone, on training and validation faces
    where both are known, the rest by prefix.
    """
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for images, values in read_rows(path):
        for name, value in values.items():
            x, y = columns.setdefault(name, ([], []))
            x.append(images)
            y.append(value)
    groups: dict[str, list[Series]] = {}
    for name, (x, y) in columns.items():
        if np.isfinite(y).any():
            group = _group(name, "loss/train" in columns)
            groups.setdefault(group, []).append(thin(name, np.array(x, float), np.array(y, float)))
    return [Panel(_title(group, groups[group]), tuple(groups[group])) for group in sorted(groups, key=_place)]


def _group(name: str, one_loss: bool) -> str:
    """``one_loss``: that of training and val/loss are the same quantity. A divergence is on a scale of its own."""
    prefix, _, rest = name.partition("/")
    if name == "val/loss" and one_loss:
        return "loss"
    if name == "loss/kl":
        return "val/kl"
    return f"val/{rest}" if prefix in ("train", "val") and rest else prefix


def _place(group: str) -> tuple[int, str]:
    """Losses, then scores, then what tells of health."""
    first = {"loss": 0, "logit": 1, "discriminator": 2, "val/mae": 3}
    return first.get(group, 6 if not group.startswith("val/") else 5 if group in FIGURES else 4), group


def _title(group: str, series: Sequence[Series]) -> str:
    known = {
        "learning_rate": "Learning rates",
        "loss": "Losses",
        "logit": "Discriminator logits",
        "images_per_second": "Images per second",
    }
    where = "Training and validation: " if any(not s.name.startswith("val/") for s in series) else "Validation: "
    return known.get(group, group.replace("val/", where).replace("_", " "))


def thin(name: str, images: NDArray[np.float64], values: NDArray[np.float64], bins: int = BINS) -> Series:
    """At most `bins` points with lowest, mean and highest value, evenly over the images; not-finite ones left out."""
    good = np.isfinite(values)
    x, y = images[good], values[good]
    y = np.clip(y, -1e100, 1e100)  # room for sums and margins
    end, last, n, lost = float(x.max()), float(y[-1]), len(values), int((~good).sum())
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if len(x) <= bins:
        return Series(name, x, y, y, y, end, last, n, lost)
    place = np.minimum(((x - x[0]) / max(x[-1] - x[0], 1) * bins).astype(int), bins - 1)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    counts = np.diff(np.append(starts, len(x)))
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    mean = np.clip(np.add.reduceat(y / counts.repeat(counts), starts), low, high)
    return Series(name, np.add.reduceat(x, starts) / counts, low, mean, high, end, last, n, lost)


# ------------------------------------------------------------------------------------------------------ PNG


@style.context("default")  # and not the user's own
def write_curves(run: Path) -> Path | None:
    """Draw `curves.png` from `metrics.csv` of a run folder, in one step; None where there is nothing to draw."""
    run = Path(run)
    panels = read_panels(run / "metrics.csv")
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDE * columns, TALL * rows), dpi=110)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        axes = figure.add_axes(((column + 0.125) / columns, (rows - row - 0.84) / rows, 0.84 / columns, 0.72 / rows))
        _draw(axes, panel)
        axes.set_xlim(left=0)
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.set_xlabel("images seen", fontsize=8)
        axes.legend(fontsize=7.5, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderpad=0)
    with replacing(run / "curves.png", binary=True) as file:
        figure.savefig(file, format="png")
    return run / "curves.png"


def _draw(axes: Axes, panel: Panel) -> None:
    """The curves alone, on the panel's scale."""
    (low, high), cut = panel.limits(), panel.cropped()
    for number, series in enumerate(panel.series):
        colour, marker = svg.COLOURS[number % len(svg.COLOURS)], "." if len(series.images) <= DOTTED else ""
        label = series.name if series.lost == 0 else f"{series.name} ({series.lost} not finite)"
        # values far outside would be coordinates of a hundred digits
        values = np.clip([series.mean, series.low, series.high], 6 * low - 5 * high, 6 * high - 5 * low)
        axes.plot(
            series.images, values[0], color=colour, marker=marker, markersize=7, linewidth=1.5, label=label, clip_on=cut
        )
        if series.thinned:
            around, band = (np.concatenate([there, back[::-1]]) for there, back in ((series.images,) * 2, values[1:]))
            axes.fill(around, band, color=colour, alpha=0.16, linewidth=0, clip_on=cut)
    axes.set_ylim(low, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=svg.STEPS))
    axes.tick_params(labelsize=8, length=0)
    axes.grid(color=svg.RULE, linewidth=0.8)
    axes.spines[:].set_visible(False)


# ---------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Chart:
    """A panel as a page shows it: labels with last values, the drawing from 0 to `end` of its axis, what it hides.

    `axis` is what is counted along it: images, or another quantity. `points` is JSON of [images, means] of each series,
    for the values under the pointer.
    """

    title: str
    axis: str
    end: float
    legend: list[tuple[str, str]]
    drawing: Markup
    remark: str
    points: str


@style.context("default")
def chart(panel: Panel, end: float, axis: str = "images") -> Chart:
    """One chart of a page, its axis from 0 to `end`: images, seconds of training, or another quantity."""
    end = max(end, 1.0)
    along = {"images": "images seen", "seconds": "seconds of training"}.get(axis, axis)
    figure = svg.figure(*PLOT)
    axes = figure.add_axes((0.095, 0.11, 0.86, 0.86))
    _draw(axes, panel)
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=svg.STEPS))
    axes.tick_params(labelsize=11, left=False, bottom=False)
    axes.patch.set(gid="area", facecolor="none")
    ends = "; ".join(f"{series.name} ends at {series.last:.4g}" for series in panel.series)
    drawing = svg.inline(figure, f"{panel.title} against {along}", f"Up to {end:,.0f} {axis}: {ends}.")
    legend = [(_label(series.name, panel), f"{series.last:.4g}") for series in panel.series]
    points = ",".join(f"[{_json(series.images, 8)},{_json(series.mean, 4)}]" for series in panel.series)
    return Chart(panel.title, axis, end, legend, drawing, _remark(panel), f"[{points}]")


def _json(values: NDArray[np.float64], digits: int) -> str:
    return f"[{','.join(f'{value:.{digits}g}' for value in values)}]"


def _label(name: str, panel: Panel) -> str:
    """What the panel's title does not say: of a quantity on both splits the split."""
    if panel.named:
        return name
    first, _, rest = name.partition("/")
    splits = {"train": "training", "loss": "training", "val": "validation"}
    if any(series.name.startswith("val/") for series in panel.series) and len(panel.series) > 1:
        return splits.get(first, first)
    return (rest or first).replace("_", " ")


def _remark(panel: Panel) -> str:
    """What the picture does not show by itself."""
    thinned = any(series.thinned for series in panel.series)
    said = ["The band spans the lowest to the highest value; the line is the mean."] if thinned else []
    said += [f"Not finite: {s.lost:,} of {s.n:,} values of {s.name}." for s in panel.series if s.lost]
    return " ".join(said + (["A few extreme values lie outside."] if panel.cropped() else []))
