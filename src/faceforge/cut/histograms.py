"""Measures of the faces as histograms, by verdict."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from faceforge.cut.summary import Measure
from faceforge.report import svg

COLOURED = {"accepted": 2, "doubtful": 4, "rejected": 5, "photos": 0}  # in the order of VERDICTS


@dataclass(frozen=True)
class Histogram:
    """A drawing with its title and a sentence that says what it shows."""

    title: str
    said: str
    drawing: Markup


def edges(values: np.ndarray, measure: Measure) -> np.ndarray:
    """The edges of about 20 bars of a round width over the measure's scale, or over what nearly all values span."""
    first, last = np.percentile(values, [1, 99])
    first = first if measure.low is None else measure.low
    last = values.max() + 1 if measure.whole else last if measure.high is None else measure.high
    if last - first < (room := 0.1 * max(1.0, abs(last))):  # all alike: one bar, with room beside it
        first, last = (first, first + room) if measure.high is None else (last - room, last)
    return np.asarray(MaxNLocator(20, integer=measure.whole, steps=svg.STEPS).tick_values(first, last))


def histogram(measure: Measure, values: np.ndarray, verdict: np.ndarray) -> Histogram | None:
    """Values as bars, stacked by verdict, the outermost with all that lies beyond; None where nothing is known.

    ``verdict`` is each value's place in VERDICTS, or one more for what has none, like photos.
    """
    known = ~np.isnan(values)
    values, verdict = values[known].astype(float), verdict[known]
    if not len(values):
        return None
    at = edges(values, measure)
    inside = np.clip(values, at[0], at[-1])
    counts = np.stack([np.histogram(inside[verdict == n], at)[0] for n in range(len(COLOURED))])
    middle = values[verdict == 0] if (verdict == 0).any() else values
    digits = 0 if measure.whole else max(0, -int(np.floor(np.log10((at[1] - at[0]) / 5))))
    low, half, high = (f"{round(value, digits) + 0.0:.{digits}f}" for value in np.percentile(middle, [25, 50, 75]))
    note = measure.note[:1].upper() + measure.note[1:]
    said = f"{note}. Half of the values lie between {low} and {high}; the median is {half}."
    return Histogram(measure.title, said, _draw(at, counts, measure, said))


@style.context("default")
def _draw(at: np.ndarray, counts: np.ndarray, measure: Measure, said: str) -> Markup:
    figure = svg.figure(320, 150)
    axes = figure.add_axes((0.04, 0.12, 0.92, 0.86))
    titles = _bars(axes, at - measure.whole / 2, counts, at)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(svg.RULE)
    axes.patch.set_visible(False)
    axes.tick_params(labelsize=11, left=False, labelleft=False, bottom=False)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=measure.whole, steps=svg.STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return svg.inline(figure, measure.title, said, titles)


def _bars(axes: Axes, left: np.ndarray, counts: np.ndarray, at: np.ndarray) -> dict[str, str]:
    """Draw stacked bars and over each stack a clear one for its words; returns the words by its gid."""
    bar = partial(axes.bar, align="edge", clip_on=False)
    width, below, titles = left[1] - left[0], np.zeros(len(left) - 1), {}
    for row, colour in zip(counts, COLOURED.values(), strict=True):
        shown = row > 0
        bar(left[:-1][shown], row[shown], 0.94 * width, below[shown], color=svg.COLOURS[colour])
        below += row
    clear = bar(left[:-1], below.max(), width, color="none")
    for n, (patch, column) in enumerate(zip(clear, counts.T.tolist(), strict=True)):
        words = ", ".join(f"{count:,} {name}" for name, count in zip(COLOURED, column, strict=True) if count)
        patch.set(gid=f"column{n}", visible=bool(words))
        titles[f"column{n}"] = f"{at[n]:g} to {at[n + 1]:g}: {words}"
    axes.set(xlim=(left[0], left[-1]), ylim=(0, 1.15 * below.max()))
    most = int(below.argmax())
    axes.text(left[most] + width / 2, below[most], f"{below[most]:,.0f}", ha="center", va="bottom", fontsize=11)
    return titles
