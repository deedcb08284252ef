"""An evaluation as tables: the names of scores, their direction and their format. Needs no torch.

A score that a network computes is named ``metric@extractor-weights-resize``, for example
``kid@lite0-57934424-bicubic224``: two scores are of one kind only if their names are equal. Others have plain names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

BEST = "*"
WIDTH = 100  # columns of a terminal
OLDER = {  # the full names of what was once written plainly, when all features were EfficientNet-lite0's
    **{
        name: f"{name}@lite0-57934424-bicubic224"
        for name in ("kid", "precision", "recall", "density", "coverage", "diversity")
    },
    "perceptual": "perceptual@lite0-57934424-own64",
}


@dataclass(frozen=True)
class Measure:
    """How a score is shown. ``better`` is higher, lower, or one (closest to 1)."""

    label: str
    better: str
    digits: int
    unit: str = ""

    def text(self, value: object) -> str:
        """A value with its digits; empty if there is none."""
        return f"{value:.{self.digits}f}" if isinstance(value, (int, float)) else ""

    def rank(self, value: float) -> float:
        """Larger is better."""
        return {"higher": value, "lower": -value}.get(self.better, -abs(value - 1))


MEASURES = {
    "psnr": Measure("PSNR", "higher", 2, "dB"),
    "ssim": Measure("SSIM", "higher", 4),
    "mae": Measure("MAE", "lower", 4),
    "mse": Measure("MSE", "lower", 5),
    "ciede2000": Measure("CIEDE2000", "lower", 2),
    "perceptual": Measure("perceptual", "lower", 4),
    "identity": Measure("identity", "higher", 3),
    "same_person": Measure("same person", "higher", 3),
    "fid": Measure("FID", "lower", 2),
    "kid": Measure("KID", "lower", 4),
    "swd": Measure("patch SWD", "lower", 1),
    "precision": Measure("precision", "higher", 3),
    "recall": Measure("recall", "higher", 3),
    "density": Measure("density", "higher", 3),
    "coverage": Measure("coverage", "higher", 3),
    "diversity": Measure("diversity", "one", 3),
    "flips": Measure("flips", "higher", 3),
    "leakage": Measure("leakage", "lower", 3),
    "change": Measure("pixel change", "lower", 4),
    "gain": Measure("PSNR gain", "higher", 2, "dB"),
    "agreement": Measure("agreement", "higher", 3),
}
TITLES = {
    "images": "Outputs compared with the true images",
    "generated": "Generated faces compared with real faces",
    "edits": "Edits of faces at equal cost, over all attributes",
    "told": "Attributes that generated faces were told, as a predictor sees them",
}
WAYS = {"higher": "higher is better", "lower": "lower is better", "one": "closest to 1 is best"}


# ---------------------------------------------------------------------------------------------------------- names


def full_name(metric: str, extractor: str) -> str:
    """The name of a score that an extractor's features give: its key comes after the ``@``."""
    return f"{metric}@{extractor}" if extractor else metric


def metric_of(score: str) -> str:
    """The metric of a score, by which MEASURES knows it."""
    return score.partition("@")[0]


def extractor_of(score: str) -> str:
    """The key of a score's extractor; empty if it has none."""
    return score.partition("@")[2]


def measure(score: str) -> Measure:
    """How a score is shown."""
    return MEASURES[metric_of(score)]


def label(score: str) -> str:
    """A score in a sentence: its metric, and whose features it is on."""
    extractor = extractor_of(score).partition("-")[0]
    return f"{measure(score).label} by {extractor}" if extractor else measure(score).label


def in_words(extractor: str) -> str:
    """An extractor's key, read: its name, its weights and its resize."""
    name, _, rest = extractor.partition("-")
    weights, _, resize = rest.partition("-")
    return f"{name} (weights {weights}, {resize})"


def find(scores: Mapping[str, Any], wanted: str) -> str | None:
    """The name in ``scores`` of the wanted one: itself, or the first of that metric if no extractor is named."""
    if wanted in scores or "@" in wanted:
        return wanted if wanted in scores else None
    return next((score for score in scores if metric_of(score) == wanted), None)


def current(result: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation.json of any version with the names of today. Damaged parts stay as they are."""
    renamed = {part: _renamed(result[part]) for part in ("protocols", "beats", "reasons") if part in result}
    rows = result.get("rows")
    if isinstance(rows, list):
        renamed["rows"] = [{**row, "scores": _renamed(row.get("scores"))} if isinstance(row, Mapping) else row
                           for row in rows]  # fmt: skip
    return {**result, **renamed}


def _renamed(named: object) -> object:
    return {OLDER.get(str(name), name): value for name, value in named.items()} if isinstance(named, Mapping) else named


# --------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """The rows of one kind, and all scores that they have of one extractor."""

    title: str
    scores: Sequence[str]
    rows: Sequence[Mapping[str, Any]]

    def cell(self, row: Mapping[str, Any], score: str) -> Mapping[str, Any]:
        """Value, low and high, if present."""
        found = _mapping(row.get("scores")).get(score)
        return _mapping(found)

    def best(self, score: str) -> float | None:
        """The best value of any model or baseline, without real faces."""
        values = [self.cell(row, score).get("value") for row in self.rows if row.get("kind") != "floor"]
        numbers = [value for value in values if isinstance(value, (int, float)) and isfinite(value)]
        return max(numbers, key=measure(score).rank, default=None)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table per kind of score and extractor in an evaluation.json; none for other data.

    Images have one table. Of generated faces each extractor has its own, and what needs none stands in the first.
    Forced scores are called so.
    """
    listed = current(result).get("rows")
    rows = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
    found, forced = [], ", forced: comparable with no others" if result.get("forced") else ""
    for kind, title in TITLES.items():
        here = [row for row in rows if row.get("table") == kind]
        known = {str(name): None for row in here for name in _mapping(row.get("scores"))}
        parts = _by_extractor([name for name in known if metric_of(name) in MEASURES], kind == "generated")
        found += [Table(_titled(title, key, scores) + forced, scores, here) for key, scores in parts.items()]
    return found


def _titled(title: str, extractor: str, scores: Sequence[str]) -> str:
    """The title with the extractors of the scores."""
    if extractor:
        return f"{title}, features of {in_words(extractor)}"
    own = [f"{measure(score).label} by {in_words(extractor_of(score))}" for score in scores if extractor_of(score)]
    return ", ".join([title, *own])


def _by_extractor(scores: Sequence[str], apart: bool) -> dict[str, list[str]]:
    """Scores in the order of MEASURES; if ``apart``, by extractor in the order of the scores."""
    order = {metric: n for n, metric in enumerate(MEASURES)}
    extractors = list(dict.fromkeys(filter(None, map(extractor_of, scores)))) if apart else []
    parts = {extractor: [] for extractor in extractors or [""]}
    for score in sorted(scores, key=lambda score: order[metric_of(score)]):
        own = extractor_of(score) if apart else ""
        parts[own or next(iter(parts))].append(score)
    return {extractor: names for extractor, names in parts.items() if names}


def lines(table: Table, width: int = WIDTH) -> list[str]:
    """A table in aligned columns; the best scores are marked, and intervals follow models and real faces.

    Scores that do not fit into ``width`` columns stand below, each row again beside them.
    """
    body = [["", *(measure(name).label + " " for name in table.scores)]]
    for row in table.rows:
        body.append([str(row["name"]), *(_shown(table, row, name) for name in table.scores)])
        if row.get("kind") != "baseline":
            body.append(["  95 %", *(_interval(table, row, name) for name in table.scores)])
    return aligned(body, width)


def _fitting(widths: Sequence[int], width: int) -> list[list[int]]:
    """Columns in parts that fit, each with the first column, of about equal numbers."""
    rest = list(range(1, len(widths)))
    parts = 1
    while True:
        size = -(-len(rest) // parts)
        found = [[0, *rest[first : first + size]] for first in range(0, len(rest), size)]
        if size <= 1 or all(sum(widths[n] + 2 for n in part) - 2 <= width for part in found):
            return found
        parts += 1


def interval(shown: Measure, cell: Mapping[str, Any]) -> str:
    """The interval from low to high; empty if there is none."""
    low, high = shown.text(cell.get("low")), shown.text(cell.get("high"))
    return f"{low}..{high}" if low and high else ""


def _shown(table: Table, row: Mapping[str, Any], score: str) -> str:
    value = table.cell(row, score).get("value")
    mark = BEST if value is not None and value == table.best(score) and row.get("kind") != "floor" else " "
    return measure(score).text(value) + mark


def _interval(table: Table, row: Mapping[str, Any], score: str) -> str:
    return interval(measure(score), table.cell(row, score)) + " "


def aligned(body: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Rows of as many cells as lines of aligned columns, the first to the left and all others to the right.

    Columns that do not fit into ``width`` stand below, each row again beside them.
    """
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    said: list[str] = []
    for part in _fitting(widths, width):
        said += [""] * bool(said) + [_aligned([cells[n] for n in part], [widths[n] for n in part]) for cells in body]
    return said


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
