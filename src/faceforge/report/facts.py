"""What a run folder says about itself, read so that any part of it may be missing or strange."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from faceforge.io.record import Record, text_of
from faceforge.metrics.table import current
from faceforge.report import pictures
from faceforge.report.charts import Panel, read_panels

SKIPPED_SHOWN = 50


@dataclass(frozen=True)
class Facts:
    """A run folder; a run can end at any moment."""

    folder: Path

    @cached_property
    def record(self) -> Record:
        """run.json."""
        return Record.read(self.folder / "run.json")

    @cached_property
    def evaluation(self) -> Record:
        """evaluation.json, of any version, with the names of scores of today."""
        return Record(current(Record.read(self.folder / "evaluation.json")))

    @cached_property
    def other_evaluations(self) -> list[Record]:
        """evaluation-<data>.json of other sets, by name."""
        return [Record.read(path) for path in sorted(self.folder.glob("evaluation-*.json"))]

    @cached_property
    def audit(self) -> Record:
        """audit/audit.json. The sheet beside it shows real people, and no page takes it."""
        return Record.read(self.folder / "audit" / "audit.json")

    @cached_property
    def config_text(self) -> str:
        """config.yaml as it stands there."""
        return text_of(self.folder / "config.yaml")

    @cached_property
    def config(self) -> Record:
        """config.yaml read."""
        try:
            return Record.of(yaml.safe_load(self.config_text))
        except yaml.YAMLError:
            return Record()

    @cached_property
    def panels(self) -> list[Panel]:
        """The curves of metrics.csv."""
        return read_panels(self.folder / "metrics.csv")

    @cached_property
    def time_line(self) -> list[pictures.Picture]:
        """The grids of samples/."""
        return pictures.time_line(self.folder)

    @cached_property
    def skipped(self) -> tuple[list[list[str]], int]:
        """The first rows of skipped.csv and how many there are."""
        rows = [[*row, "", ""][:2] for row in _rows(self.folder / "skipped.csv")]
        return rows[:SKIPPED_SHOWN], len(rows)

    @cached_property
    def images(self) -> int:
        """Images seen, by run.json or whatever else is there."""
        ends = [series.end for panel in self.panels for series in panel.series]
        grids = [picture.images for picture in self.time_line]
        return int(self.record.number("images") or max([*ends, *grids, 0]))


def _rows(path: Path) -> Iterator[list[str]]:
    """The rows below the header of a CSV file; none where it is missing, as far as it can be read."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.reader(line.replace("\0", "") for line in file)
            next(rows, None)
            yield from (row for row in rows if row)
    except (OSError, csv.Error):
        return
