"""Reads metrics.csv: a row per report, first column `images`, blank cells for missing values."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """(images, {name: value}) for each complete row of a metrics.csv; nothing if it is missing or empty."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = csv.reader(line.replace("\0", "") for line in file if line.endswith("\n"))
        header = next(lines, [])
        for cells in lines:
            if len(cells) == len(header) and cells[0].isdecimal():
                values = zip(header[1:], map(_parse, cells[1:]), strict=True)
                yield int(cells[0]), {name: value for name, value in values if value is not None}


def _parse(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def header(path: Path) -> list[str]:
    """The names after `images`; none if the file is missing, empty or starts with something else."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        first = file.readline()
    names = next(csv.reader([first]), [])
    return names[1:] if first.endswith("\n") and names[:1] == ["images"] else []
