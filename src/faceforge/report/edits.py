"""The scoreboard of edits in the report: rows at equal cost, each attribute, and curves over strength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from faceforge.io.record import Record
from faceforge.metrics.table import MEASURES, Table, measure, metric_of, tables
from faceforge.report.charts import Chart, Panel, chart, thin

CURVES = {
    "flips": "On-target flips",
    "leakage": "Leakage into other attributes",
    "identity": "Similarity to the face before",
    "change": "Mean change of a pixel",
    "kid": "KID from real faces that have the attribute",
    "gain": "PSNR gained towards the painted face, dB",
}
Cells = list[list[str]]


@dataclass(frozen=True)
class Edits:
    """The entry ``edits`` of an evaluation.json, read so that any part of it may be missing or strange."""

    found: Record

    @property
    def head(self) -> list[str]:
        """The columns of ``rows``."""
        return ["", *(_headed(score) for table in self._tables for score in table.scores)]

    @property
    def rows(self) -> Cells:
        """Each way over all attributes, with intervals."""
        return [[str(row.get("name")), *(_cell(Record(table.cell(row, score)), score) for score in table.scores)]
                for table in self._tables for row in table.rows]  # fmt: skip

    @property
    def _tables(self) -> list[Table]:
        return tables(self.found)

    @property
    def attributes(self) -> tuple[list[str], Cells]:
        """Head and rows: each attribute and way at the attribute's common cost."""
        parts = [Record.of(part) for part in self.found.listed("attributes")]
        used = {
            score for part in parts for way in part.part("ways").values() for score in Record.of(way).part("scores")
        }
        order = list(MEASURES)
        scores = sorted(
            (name for name in used if metric_of(name) in order), key=lambda name: order.index(metric_of(name))
        )
        body = [cells for part in parts for cells in _of_attribute(part, scores)]
        return ["Attribute", "Way", "Strength", *(measure(score).label for score in scores), "Leaks most into"], body

    @property
    def charts(self) -> list[Chart]:
        """Curves over strength, the mean over attributes."""
        panels = [panel for name, title in CURVES.items() if (panel := self._panel(name, title))]
        end = max((series.end for panel in panels for series in panel.series), default=0.0)
        return [chart(panel, end, "strength") for panel in panels]

    def _panel(self, name: str, title: str) -> Panel | None:
        curves = self.found.part("curves")
        ways = dict.fromkeys(way for part in curves.values() for way in Record.of(part))
        series = []
        for way in ways:
            points = [Record.of(Record.of(part).get(way)) for part in curves.values()]
            x, y = _averaged(points, name)
            if len(x):
                series.append(thin(way, x, y))
        return Panel(title, tuple(series)) if series else None

    @property
    def predictors(self) -> list[list[str]]:
        """Attributes, the balanced accuracy of their predictors, and why those are left out that are."""
        reasons = self.found.part("reasons")
        names = dict.fromkeys([*self.found.part("predictors"), *reasons])
        accuracy = self.found.part("predictors").numbers()
        return [
            [name, f"{accuracy[name]:.1%}" if name in accuracy else "", str(reasons.get(name, ""))] for name in names
        ]


def _averaged(points: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Strengths and the mean of a measure over attributes, where all that have it have both."""
    columns = [(part.listed("strength"), part.listed(name)) for part in points if part.listed(name)]
    whole = [(x, y) for x, y in columns if len(x) == len(y) == len(columns[0][0]) and _numbers([*x, *y])]
    if not whole:
        return np.zeros(0), np.zeros(0)
    return np.array(whole[0][0], float), np.mean([y for _, y in whole], axis=0)


def _numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _headed(score: str) -> str:
    shown = measure(score)
    return f"{shown.label}, {shown.unit}" if shown.unit else shown.label


def _cell(cell: Record, score: str) -> str:
    value, low, high = (measure(score).text(cell.get(key)) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})" if low and high else value


def _of_attribute(part: Record, scores: Sequence[str]) -> Iterator[list[str]]:
    for way, value in part.part("ways").items():
        found = Record.of(value)
        strength, most = found.number("strength"), found.part("most leakage")
        other = f"{most.get('attribute')} {most.number('share') or 0:.0%}" if most else ""
        cells = [measure(score).text(found.part("scores").part(score).get("value")) for score in scores]
        yield [str(part.get("attribute")), way, "" if strength is None else f"{strength:.2f}", *cells, other]
