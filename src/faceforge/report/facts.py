"""What a run folder says about itself, read so that any part of it may be missing or strange."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from faceforge.report import pictures
from faceforge.report.charts import Panel, read_panels

SKIPPED_SHOWN = 50


class Record(dict[str, Any]):
    """A mapping of a file; what is missing or of another kind is empty."""

    @classmethod
    def read(cls, path: Path) -> Record:
        """From JSON."""
        try:
            return cls.of(json.loads(_text(path)))
        except ValueError:
            return cls()

    @classmethod
    def of(cls, value: object) -> Record:
        """The value, if it is a mapping."""
        return cls(value) if isinstance(value, dict) else cls()

    def at(self, dotted: str) -> Any:
        """The value at a dotted key, None where it is missing."""
        value: Any = self
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def part(self, dotted: str) -> Record:
        """The mapping at a dotted key."""
        return Record.of(self.at(dotted))

    def listed(self, key: str) -> list[Any]:
        """The list at a key."""
        return value if isinstance(value := self.get(key), list) else []

    def number(self, key: str) -> float | None:
        """The finite number at a key, None where there is none."""
        value = self.get(key)
        return value if isinstance(value, (int, float)) and math.isfinite(value) else None

    def numbers(self) -> dict[str, float]:
        """All finite numbers from 0, largest first."""
        found = {name: value for name in self if (value := self.number(name)) is not None and value >= 0}
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


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
        """evaluation.json."""
        return Record.read(self.folder / "evaluation.json")

    @cached_property
    def config_text(self) -> str:
        """config.yaml as it stands there."""
        return _text(self.folder / "config.yaml")

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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _rows(path: Path) -> Iterator[list[str]]:
    """The rows below the header of a CSV file; none where it is missing, as far as it can be read."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.reader(line.replace("\0", "") for line in file)
            next(rows, None)
            yield from (row for row in rows if row)
    except (OSError, csv.Error):
        return
