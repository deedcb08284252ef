"""An evaluation as tables: the scores, their direction and their format. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

BEST = "*"


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
    "kid": Measure("KID", "lower", 4),
    "swd": Measure("patch SWD", "lower", 1),
    "precision": Measure("precision", "higher", 3),
    "recall": Measure("recall", "higher", 3),
    "density": Measure("density", "higher", 3),
    "coverage": Measure("coverage", "higher", 3),
    "diversity": Measure("diversity", "one", 3),
    "flips": Measure("flips", "higher", 3),
    "leakage": Measure("leakage", "lower", 3),
    "identity": Measure("identity", "higher", 3),
    "change": Measure("pixel change", "lower", 4),
    "gain": Measure("PSNR gain", "higher", 2, "dB"),
}
TITLES = {
    "images": "Outputs compared with the true images",
    "generated": "Generated faces compared with real faces",
    "edits": "Edits of faces at equal cost, over all attributes",
}
WAYS = {"higher": "higher is better", "lower": "lower is better", "one": "closest to 1 is best"}


@dataclass(frozen=True)
class Table:
    """The rows of one kind, and all scores that they have."""

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
        return max(numbers, key=MEASURES[score].rank, default=None)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table per kind of score in an evaluation.json; none for other data."""
    listed = result.get("rows")
    rows = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
    found = []
    for kind, title in TITLES.items():
        here = [row for row in rows if row.get("table") == kind]
        scores = [name for name in MEASURES if any(name in _mapping(row.get("scores")) for row in here)]
        if here and scores:
            found.append(Table(title, scores, here))
    return found


def lines(table: Table) -> list[str]:
    """A table in aligned columns; the best scores are marked, and intervals follow models and real faces."""
    body = [["", *(MEASURES[name].label + " " for name in table.scores)]]
    for row in table.rows:
        body.append([str(row["name"]), *(_shown(table, row, name) for name in table.scores)])
        if row.get("kind") != "baseline":
            body.append(["  95 %", *(_interval(table, row, name) for name in table.scores)])
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    return [_aligned(cells, widths) for cells in body]


def interval(measure: Measure, cell: Mapping[str, Any]) -> str:
    """The interval from low to high; empty if there is none."""
    low, high = measure.text(cell.get("low")), measure.text(cell.get("high"))
    return f"{low}..{high}" if low and high else ""


def _shown(table: Table, row: Mapping[str, Any], score: str) -> str:
    value = table.cell(row, score).get("value")
    mark = BEST if value is not None and value == table.best(score) and row.get("kind") != "floor" else " "
    return MEASURES[score].text(value) + mark


def _interval(table: Table, row: Mapping[str, Any], score: str) -> str:
    return interval(MEASURES[score], table.cell(row, score)) + " "


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
