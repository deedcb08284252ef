"""A run's curves: metrics.csv read, thinned to what a screen can show, and drawn as a PNG or as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from faceforge.io.files import replacing
from faceforge.io.metrics_csv import read_rows
from faceforge.report.diagnosis import FIGURES

BINS = 300
EDGE = 8  # beside the plot in an SVG, where the first and last dots still have room
WIDTH = 1000 + 2 * EDGE
WIDE, TALL = 5.6, 3.2  # of a panel of curves.png, inches
DOTTED = 30  # so few points are also drawn one by one
COLOURS = ("#0b6bcb", "#c4520a", "#0a7d5a", "#8a4fbf", "#8c6d00", "#b3316b")
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
    """Series that share one scale."""

    title: str
    series: tuple[Series, ...]

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
    known = {"loss": "Losses", "logit": "The discriminator's logits", "images_per_second": "Images a second"}
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


def write_curves(run: Path) -> Path | None:
    """Draw `curves.png` from `metrics.csv` of a run folder, in one step; None where there is nothing to draw."""
    run = Path(run)
    panels = read_panels(run / "metrics.csv")
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDE * columns, TALL * rows), dpi=110)
    figure.subplots_adjust(**_margins(columns, rows))
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        _draw(figure.add_subplot(rows, columns, number + 1), panel)
    with replacing(run / "curves.png", binary=True) as file:
        figure.savefig(file, format="png")
    return run / "curves.png"


def _margins(columns: int, rows: int) -> dict[str, float]:
    """Fixed ones: layouts that matplotlib finds by itself draw everything twice."""
    left, right, top, bottom = 0.7, 0.15, 0.4, 0.5
    return {
        "left": left / (WIDE * columns),
        "right": 1 - right / (WIDE * columns),
        "bottom": bottom / (TALL * rows),
        "top": 1 - top / (TALL * rows),
        "wspace": (left + right) / (WIDE - left - right),
        "hspace": (top + bottom) / (TALL - top - bottom),
    }


def _draw(axes: Axes, panel: Panel) -> None:
    for number, series in enumerate(panel.series):
        colour, marker = COLOURS[number % len(COLOURS)], "." if len(series.images) <= DOTTED else ""
        label = series.name if series.lost == 0 else f"{series.name} ({series.lost} not finite)"
        axes.plot(series.images, series.mean, color=colour, marker=marker, linewidth=1.3, label=label)
        if series.thinned:
            axes.fill_between(series.images, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_ylim(*panel.limits())
    axes.set_xlabel("images seen", fontsize=8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.tick_params(labelsize=8, length=0)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlim(left=0)
    axes.legend(fontsize=7.5, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderpad=0)


# ------------------------------------------------------------------------------------------------------ SVG


def draw_html(panel: Panel, end: float) -> str:
    """One chart of the report as HTML: curves in inline SVG, ticks beside it, a legend with the last values.

    The x-axis runs from 0 to `end` images. The drawing stretches with the page; colours come from the page.
    """
    low, high = panel.limits()
    end = max(end, 1.0)
    curves = "".join(_curve(series, number, end, low, high) for number, series in enumerate(panel.series))
    rows = [(f"{tick:g}", 100 * (high - tick) / (high - low)) for tick in _ticks(low, high, 5)]
    columns = [(short(tick), (EDGE + 1000 * tick / end) / WIDTH * 100) for tick in _ticks(0, end, 4)]
    lines = "".join(f'<line x1="{-EDGE}" x2="{1000 + EDGE}" y1="{10 * at:.1f}" y2="{10 * at:.1f}"/>' for _, at in rows)
    lefts = "".join(f'<span class="y" style="top:{at:.2f}%">{escape(text)}</span>' for text, at in rows)
    feet = "".join(f'<span class="x" style="left:{at:.2f}%">{escape(text)}</span>' for text, at in columns)
    told = "; ".join(f"{s.name} ends at {s.last:.4g}" for s in panel.series)
    label = escape(f"{panel.title} against images seen, up to {end:,.0f}: {told}.")
    return (
        f'<figure class="chart" data-end="{end:g}" data-low="{low:.8g}" data-high="{high:.8g}">'
        f"<figcaption>{escape(panel.title)}</figcaption><ul>{_legend(panel)}</ul>"
        f'<div class="plot">{lefts}{feet}<svg viewBox="{-EDGE} 0 {WIDTH} 1000" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><g class="grid">{lines}</g>{curves}</svg></div>{_remark(panel)}</figure>'
    )


def _curve(series: Series, number: int, end: float, low: float, high: float) -> str:
    def points(values: NDArray[np.float64], backwards: bool = False) -> str:
        x = 1000 * series.images / end
        y = np.clip(1000 * (high - values) / (high - low), -5000, 6000)
        pairs = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]
        return " ".join(reversed(pairs) if backwards else pairs)

    kind = f"c{number % len(COLOURS)}"
    band = f"{points(series.high)} {points(series.low, backwards=True)}"
    area = f'<polygon class="band {kind}" points="{band}"/>' if series.thinned else ""
    middle = points(series.mean)
    places = [pair.replace(",", " ") for pair in middle.split()]
    # the drawing is stretched, so a dot is a line without length and with round ends
    dots = "".join(f"M{place}h0" for place in places) if len(places) <= DOTTED else ""
    mark = f'<path class="dots {kind}" d="{dots}"/>' if dots else ""
    return f'{area}<polyline class="line {kind}" points="{middle}"/>{mark}'


def _legend(panel: Panel) -> str:
    items = []
    for number, series in enumerate(panel.series):
        name = escape(_label(series.name, panel))
        value = f'<span class="value">{series.last:.4g}</span>'
        items.append(f'<li><i class="key c{number % len(COLOURS)}"></i>{name} {value}</li>')
    return "".join(items)


def _label(name: str, panel: Panel) -> str:
    """What the panel's title does not say: of a quantity on both splits the split."""
    first, _, rest = name.partition("/")
    splits = {"train": "training", "loss": "training", "val": "validation"}
    if any(series.name.startswith("val/") for series in panel.series) and len(panel.series) > 1:
        return splits.get(first, first)
    return (rest or first).replace("_", " ")


def _remark(panel: Panel) -> str:
    """What the picture does not show by itself."""
    lost = [f"not finite: {s.lost:,} of {s.n:,} values of {s.name}" for s in panel.series if s.lost]
    band = ["shaded from the lowest to the highest value, the line is their mean"]
    said = (band if any(s.thinned for s in panel.series) else []) + lost
    said += ["a few extreme values lie outside"] if panel.cropped() else []
    text = "; ".join(said)
    return f'<p class="remark">{escape(text[:1].upper() + text[1:])}.</p>' if text else ""


def _ticks(low: float, high: float, count: int) -> list[float]:
    found = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [0.0 if abs(tick) < 1e-12 * (high - low) else float(tick) for tick in found if low <= tick <= high]


def short(number: float) -> str:
    """A count as on an axis: 950, 12k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
