"""`sweep.csv` and `sweep.html`: the jobs of a sweep beside one another, failures included."""

from __future__ import annotations

import csv
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from numpy.typing import NDArray

from faceforge import words
from faceforge.io.files import replacing
from faceforge.report import pictures, svg
from faceforge.report.facts import Facts
from faceforge.report.html import SHARED, Pages, Share, duration, grouped
from faceforge.types import JobRow

PAGES = Pages(SHARED, "page.js", "data:", "faceforge")
PLOT = (1000, 360)  # of the parallel coordinates
BEST = 6  # jobs whose grids are shown
LEAST = 5  # scored jobs below which no importance is told
WIDE = 20  # ratio of the largest to the smallest value from which an axis is logarithmic
TREES = 200
DIGITS = 8  # characters of a number that are shown as typed
HEAD = ("job", "folder", "outcome", "code")
TAIL = ("metric", "score", "score_images", "images", "seconds")
Numbers = NDArray[np.float64]


def write_sweep(folder: Path, rows: Sequence[JobRow]) -> Path:
    """Write both files into a sweep's folder from what its jobs have left there; the path of the page."""
    report = SweepReport(folder, [Job(row, Facts(folder / row.folder)) for row in rows])
    with replacing(folder / "sweep.csv") as file:
        csv.writer(file).writerows([[*HEAD, *report.keys, *TAIL], *map(report.cells, report.jobs)])
    page = PAGES.render("sweep.html.j2", report)
    with replacing(folder / "sweep.html") as file:
        file.write(page)
    return folder / "sweep.html"


@dataclass(frozen=True)
class Job:
    """A job and what its run folder contains."""

    row: JobRow
    facts: Facts

    @property
    def score(self) -> float | None:
        """The best score of the run, if it ended well."""
        return None if self.row.code else self.facts.record.part("best").number("value")

    @property
    def metric(self) -> tuple[str, str]:
        """What the score is, and its mode: min or max."""
        best = self.facts.record.part("best")
        return str(best.get("metric", "")), str(best.get("mode", "min"))

    @property
    def images(self) -> int:
        """Images seen."""
        seen = self.facts.record.get("images")
        return seen if isinstance(seen, int) else 0

    @property
    def link(self) -> str | None:
        """Its report, as an address inside the sweep's folder; None without one."""
        there = (self.facts.folder / "report.html").is_file() and not Path(self.row.folder).is_absolute()
        return f"{quote(self.row.folder)}/report.html" if there else None

    @cached_property
    def grid(self) -> pictures.Picture | None:
        """Its last grid of samples, small."""
        line = pictures.time_line(self.facts.folder, count=2, budget=800_000)
        return line[-1] if line else None


class SweepReport:
    """A sweep as the parts of its page."""

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self.folder, self.jobs = folder, jobs

    @property
    def keys(self) -> list[str]:
        """The swept keys."""
        return list(dict.fromkeys(key for job in self.jobs for key in job.row.swept))

    @cached_property
    def metric(self) -> tuple[str, str]:
        """The score that most jobs have, and its mode; jobs with another one are in the table alone."""
        known = Counter(job.metric for job in self.jobs if job.score is not None)
        return known.most_common(1)[0][0] if known else ("", "min")

    @cached_property
    def ranked(self) -> list[Job]:
        """The jobs with that score, best first."""
        sign = 1 if self.metric[1] == "min" else -1
        scored = [(sign * job.score, job) for job in self.jobs if job.score is not None and job.metric == self.metric]
        return [job for _, job in sorted(scored, key=lambda pair: pair[0])]

    def cells(self, job: Job) -> list[object]:
        """A line of sweep.csv."""
        row, best, record = job.row, job.facts.record.part("best"), job.facts.record
        head = [row.number, row.folder, row.outcome, row.code]
        tail = [best.get("metric"), best.get("value"), best.get("images"), record.get("images"), record.get("seconds")]
        return [*head, *(row.swept.get(key, "") for key in self.keys), *tail]

    @property
    def title(self) -> str:
        """The folder's name."""
        return f"Sweep {self.folder.resolve().name}"

    @property
    def status(self) -> tuple[str, str]:
        """How the jobs ended, in a word and in a sentence."""
        failed = sum(bool(job.row.code) for job in self.jobs)
        pruned = sum(job.row.outcome == "pruned" for job in self.jobs)
        done = len(self.jobs) - failed
        said = f"{done} of {len(self.jobs)} jobs finished"
        said += f", {pruned} of them pruned" if pruned else ""
        return ("failed" if failed else "finished", f"{said}{f', {failed} did not' if failed else ''}.")

    @property
    def best(self) -> list[Job]:
        """The best jobs that have a grid."""
        return [job for job in self.ranked[:BEST] if job.grid is not None]

    @property
    def failures(self) -> list[Job]:
        """The jobs that did not finish."""
        return [job for job in self.jobs if job.row.code]

    @property
    def table(self) -> list[tuple[str, Job]]:
        """All jobs, best first, each with its rank."""
        ranks = {job.row.folder: str(n) for n, job in enumerate(self.ranked, 1)}
        rest = [job for job in self.jobs if job.row.folder not in ranks]
        return [(ranks.get(job.row.folder, ""), job) for job in [*self.ranked, *rest]]

    @cached_property
    def varied(self) -> list[str]:
        """Swept keys with more than one value among the scored jobs."""
        return [key for key in self.keys if len({job.row.swept.get(key) for job in self.ranked}) > 1]

    @property
    def coordinates(self) -> Markup | None:
        """The scored jobs as lines through the values of each key to the score."""
        return _drawn(self) if len(self.ranked) > 1 and self.varied else None

    @property
    def importance(self) -> list[Share]:
        """How much of the score each key explains; empty if there are too few jobs to tell."""
        if len(self.ranked) < LEAST or not self.varied:
            return []
        shares = importance({key: self.values(key) for key in self.varied}, self.scores)
        return [Share(key, f"{share:.0%}", share) for key, share in shares.items()]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """(why, what to type) for what can follow."""
        if not self.ranked:
            return []
        best = words.relative(self.ranked[0].facts.folder)
        resumed, score = words.word("resume", best), shlex.quote(best)
        longer = f"trainer.max_images={2 * max(1, self.ranked[0].images)}"
        return [
            ("Train the best one longer", words.train(resumed, longer)),
            ("Score it", f"faceforge evaluate {score}"),
        ]

    @property
    def scores(self) -> Numbers:
        """Of the ranked jobs."""
        return np.array([job.score for job in self.ranked], float)

    def values(self, key: str) -> list[str]:
        """Of the ranked jobs, as typed."""
        return [job.row.swept.get(key, "") for job in self.ranked]

    def value(self, job: Job, key: str) -> str:
        """As typed, but a number of many digits with four."""
        text = job.row.swept.get(key, "")
        found = numbers([text]) if len(text) > DIGITS else None
        return text if found is None else f"{found[0]:.4g}"

    def words(self, job: Job) -> str:
        """What was swept, else the folder's name."""
        return " ".join(f"{key}={self.value(job, key)}" for key in job.row.swept) or job.row.folder

    def score(self, job: Job) -> str:
        """In words, with its metric where that is not everyone's."""
        if job.score is None:
            return ""
        return f"{job.score:.4g}" + ("" if job.metric == self.metric else f" ({job.metric[0]})")

    def time(self, job: Job) -> str:
        """Seconds of training, in words."""
        seconds = job.facts.record.number("seconds")
        return duration(seconds) if seconds else ""

    def seen(self, job: Job) -> str:
        """Images seen, in words."""
        return grouped(job.images) if job.images else ""


# ------------------------------------------------------------------------------------------------------- importance


def numbers(values: Sequence[str]) -> Numbers | None:
    """Typed values as numbers; None unless all are finite numbers."""
    try:
        found = np.array([float(value) for value in values])
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def importance(values: Mapping[str, Sequence[str]], scores: Numbers) -> dict[str, float]:
    """The share of each key in what a forest of regression trees explains of the scores, largest first; sum 1.

    Permutation importance (Breiman 2001) on the jobs themselves: how much worse the forest's fit becomes when one
    key's values are shuffled. Words count as one column for each. Scores are ranked first, so outliers weigh no more.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    columns = {key: _columns(texts) for key, texts in values.items()}
    ranks = np.argsort(np.argsort(scores)).astype(float)
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
    forest.fit(np.hstack(list(columns.values())), ranks)
    draws, losses = np.random.default_rng(0), dict.fromkeys(columns, 0.0)
    for key in columns:
        for _ in range(20):
            order = draws.permutation(len(ranks))
            mixed = [found[order] if name == key else found for name, found in columns.items()]
            losses[key] += float(np.mean((forest.predict(np.hstack(mixed)) - ranks) ** 2))
    fit = 20 * float(np.mean((forest.predict(np.hstack(list(columns.values()))) - ranks) ** 2))
    more = {key: max(loss - fit, 0.0) for key, loss in losses.items()}
    whole = sum(more.values()) or 1.0
    return dict(sorted(((key, part / whole) for key, part in more.items()), key=lambda pair: -pair[1]))


def _columns(texts: Sequence[str]) -> Numbers:
    found = numbers(texts)
    if found is not None:
        return found[:, None]
    names = sorted(set(texts))
    return np.array([[float(text == name) for name in names] for text in texts])


# ----------------------------------------------------------------------------------------------- parallel coordinates


@dataclass(frozen=True)
class Axis:
    """An axis of the parallel coordinates: the height of each job from 0 to 1, and labels at some heights."""

    heights: Numbers
    labels: list[tuple[float, str]]


def axis(values: Sequence[str]) -> Axis:
    """Numbers on a linear or logarithmic scale, words at equal distances."""
    found = numbers(values)
    if found is None:
        names = sorted(set(values))
        places = {name: n / max(1, len(names) - 1) for n, name in enumerate(names)}
        return Axis(np.array([places[value] for value in values]), [(place, name) for name, place in places.items()])
    low, high = float(found.min()), float(found.max())
    is_log = low > 0 and high / low >= WIDE
    scaled = np.log(found) if is_log else found
    heights = (scaled - scaled.min()) / ((scaled.max() - scaled.min()) or 1.0)
    middle = math.sqrt(low * high) if is_log else (low + high) / 2
    ends = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    return Axis(heights, [ends[0], (0.5, f"{middle:.3g}"), ends[1]])


@style.context("default")
def _drawn(report: SweepReport) -> Markup:
    figure = svg.figure(*PLOT)
    axes = figure.add_axes((0.04, 0.1, 0.9, 0.78))
    columns = {key.removeprefix("model."): axis(report.values(key)) for key in report.varied}
    columns[report.metric[0]] = axis([str(score) for score in report.scores])
    heights = np.array([found.heights for found in columns.values()])
    titles = {}
    for n in reversed(range(len(report.ranked))):  # the best on top
        job = report.ranked[n]
        share = 1 - n / len(report.ranked)
        titles[f"job{n}"] = f"{report.score(job)}: {report.words(job)}"
        colour, wide, strength = (svg.COLOURS[1], 2.6, 1.0) if n == 0 else (svg.COLOURS[0], 1.4, 0.15 + 0.7 * share)
        axes.plot(heights[:, n], color=colour, linewidth=wide, alpha=strength, gid=f"job{n}", clip_on=False)
    for at, (name, found) in enumerate(columns.items()):
        _draw_axis(axes, at, name, found)
    axes.set(xlim=(0, len(columns) - 1), ylim=(0, 1))
    axes.axis("off")
    told = f"{len(report.ranked)} jobs; the best has {report.metric[0]} {report.score(report.ranked[0])}."
    return svg.inline(figure, "Values of each job and its score", told, titles)


def _draw_axis(axes: Axes, at: int, name: str, found: Axis) -> None:
    axes.axvline(at, color=svg.RULE, linewidth=1, zorder=0)
    axes.text(at, 1.09, name, ha="center", va="bottom", fontsize=11)
    for height, label in found.labels:
        axes.text(at + 0.02, height, label, ha="left", va="center", fontsize=11)
