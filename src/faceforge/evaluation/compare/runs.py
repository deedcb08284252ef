"""The runs of a comparison, read from their folders; whatever is wrong with one is a line."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from faceforge import words
from faceforge.errors import BadInput
from faceforge.evaluation import kept
from faceforge.evaluation.kept import Kept
from faceforge.io.metrics_csv import read_rows
from faceforge.io.record import Record
from faceforge.metrics import table
from faceforge.runs.found import Entry
from faceforge.runs.table import printable

EVALUATION = "evaluation.json"
AGAIN = "damaged, or not written by faceforge evaluate; type:"


@dataclass(frozen=True)
class Run:
    """A run of a comparison: its name in the tables, what its folder says, the file and contents of its evaluation, and
    the values of single faces by table. An evaluation or values that are missing are empty.
    """

    name: str
    entry: Entry
    file: Path
    result: Record
    kept: Mapping[str, Kept]

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return self.entry.path

    @cached_property
    def seed(self) -> object:
        """The seed of the configuration."""
        return self.entry.config.get("seed")

    @cached_property
    def task(self) -> str:
        """The name of its task."""
        named = self.entry.choice("task") or self.result.part("task").get("name")
        return printable(str(named)) if named else "unknown"

    @cached_property
    def curves(self) -> dict[str, tuple[list[float], list[float]]]:
        """Images seen and finite values of each column of metrics.csv."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for images, values in read_rows(self.folder / "metrics.csv"):
            for name, value in values.items():
                if math.isfinite(value):
                    x, y = found.setdefault(name, ([], []))
                    x.append(float(images))
                    y.append(value)
        return found

    @property
    def images(self) -> int | None:
        """Images seen by the scored checkpoint, or else by the run."""
        seen = self.result.part("checkpoint").number("images") or self.entry.record.number("images")
        return None if seen is None else int(seen)

    def command(self, *options: str) -> str:
        """What to type to evaluate it; what was typed for a file with a name of its own."""
        typed = self.result.get("command")
        if self.file.name != EVALUATION and not options and isinstance(typed, str):
            return printable(typed)
        return words.faceforge("evaluate", Path(words.relative(self.folder)), *options)


def read(paths: Sequence[Path], split: str | None = None) -> list[Run]:
    """The runs at some paths: run folders, or files that `faceforge evaluate --out` wrote into one. Raises BadInput.

    ``split``: what their evaluations must be of.
    """
    places = [_place(path.expanduser()) for path in paths]
    seen: set[Path] = set()
    for folder, file in places:
        where = (folder / file).resolve()
        if where in seen:
            raise BadInput(f"{words.relative(folder)}: named twice; each run must be another")
        seen.add(where)
    if len(places) < 2:
        raise BadInput(f"{paths[0] if paths else 'RUN'}: one run alone cannot be compared; name at least two")
    runs = [_read(folder, file, name) for (folder, file), name in zip(places, _names(places), strict=True)]
    if split:
        _require_split(runs, split)
    return runs


def _place(path: Path) -> tuple[Path, str]:
    """The run folder and the name of its evaluation file."""
    if not path.exists():
        raise BadInput(f"{path}: no such run folder")
    folder, file = (path, EVALUATION) if path.is_dir() else (path.parent, path.name)
    if not Record.read(folder / "run.json") or (path.is_file() and path.suffix != ".json") or file == "run.json":
        raise BadInput(
            f"{path}: not a run; name a run folder (with run.json), or a file that faceforge evaluate wrote there"
        )
    return folder, file


def _names(places: Sequence[tuple[Path, str]]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart; another evaluation file is named as well."""
    whole = [[*folder.resolve().parts, *([] if file == EVALUATION else [Path(file).stem])] for folder, file in places]
    least = [1 if file == EVALUATION else 2 for _, file in places]
    lengths = range(max(map(len, whole)))
    tried = (["/".join(parts[-(more + n) :]) for parts, n in zip(whole, least, strict=True)] for more in lengths)
    names = next((names for names in tried if max(Counter(names).values()) == 1), ["/".join(parts) for parts in whole])
    return [printable(name) for name in names]


def _read(folder: Path, file: str, name: str) -> Run:
    entry, path = Entry(folder, name, time.time()), folder / file
    if not path.exists():
        return Run(name, entry, path, Record(), {})
    run = Run(name, entry, path, _evaluation(path), {})
    if not run.result:
        raise BadInput(f"{words.relative(path)}: {AGAIN} {run.command()}")
    digest, beside = run.result.get("kept"), kept.path_of(path)
    if not isinstance(digest, str) or not beside.exists():
        return run
    try:
        return Run(name, entry, path, run.result, kept.read(beside, digest))
    except BadInput as error:
        raise BadInput(f"{error}; type: {run.command()}") from None


def _evaluation(path: Path) -> Record:
    """An evaluation with sound rows; empty if the file holds none."""
    try:
        found = Record.of(json.loads(path.read_text(encoding="utf-8")))
        rows = found.listed("rows")
        whole = found.part("data").get("split") and found.part("checkpoint") and rows and all(map(_is_row, rows))
    except (OSError, ValueError, RecursionError, OverflowError):
        return Record()
    return Record(table.current(found)) if whole else Record()


def _is_row(row: object) -> bool:
    parts = Record.of(row)
    cells = parts.part("scores").values()
    numbers = [cell.get(key) for cell in cells if isinstance(cell, dict) for key in ("value", "low", "high")]
    named = all(isinstance(parts.get(key), str) for key in ("name", "kind", "table"))
    known = all(n is None or (isinstance(n, int | float) and math.isfinite(n)) for n in numbers)
    return named and known and len(numbers) == 3 * len(cells)


def _require_split(runs: Sequence[Run], split: str) -> None:
    others = [run for run in runs if run.result and run.result.part("data").get("split") != split]
    if others:
        found = [(run, run.result.part("data").get("split")) for run in others]
        told = [f"{words.relative(run.file)}: of the {other} split, must be {split}" for run, other in found]
        typed = [f"type: {run.command('--split', split)}" for run in others]
        raise BadInput("\n".join(map("; ".join, zip(told, typed, strict=True))))
