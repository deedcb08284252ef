"""The rows of docs/results.md: what is trained, read from rows.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from faceforge.errors import BadInput

Size = Literal["cpu", "full"]
ROWS = Path(__file__).with_name("rows.yaml")
FLAGS = {"$LFW": "--lfw", "$LFW_COLOR": "--lfw-color", "$CROPS": "--crops", "$CELEBA": "--celeba"}


@dataclass(frozen=True)
class Row:
    """One training: ``overrides`` at both sizes, ``cpu`` and ``full`` at one; ``data`` names the faces.

    ``kind`` step is a network too heavy for a CPU: two steps. ``gap`` also scores as many training faces.
    """

    name: str
    section: str
    title: str
    what: str
    data: str
    overrides: Sequence[str]
    cpu: Sequence[str] = ()
    full: Sequence[str] = ()
    full_data: str = ""
    seeds: Sequence[int] = (1, 2, 3)
    checkpoint: Literal["best", "last"] = "best"
    kind: Literal["train", "step"] = "train"
    gap: bool = False
    published: str = ""
    twin_of: str = ""

    def faces(self, size: Size) -> str:
        """The name of its faces at a size."""
        return self.full_data or self.data if size == "full" else self.data

    def record(self, seed: int, size: Size) -> str:
        """The name of a record, and of a run's folder."""
        return f"{self.name}{'-full' * (size == 'full')}-s{seed}"


@dataclass(frozen=True)
class Table:
    """All of rows.yaml."""

    data: Mapping[str, Sequence[str]]
    sections: Mapping[str, Mapping[str, str]]
    plots: Sequence[Mapping[str, Any]]
    readme: Sequence[Mapping[str, str]]
    rows: Mapping[str, Row]

    def row(self, name: str) -> Row:
        """A row by its name. Raises BadInput."""
        if name not in self.rows:
            near = difflib.get_close_matches(name, self.rows, 3, 0.4)
            raise BadInput(f"row {name}: not in {ROWS.name}; near it: {', '.join(near) or ', '.join(self.rows)}")
        return self.rows[name]

    def words(self, row: Row, size: Size, seed: int) -> list[str]:
        """Its overrides, places of data as $NAME; what comes later wins."""
        own = row.cpu if size == "cpu" else row.full
        here = ["trainer.gpus=0"] if size == "cpu" else []
        return [*row.overrides, *self.data[row.faces(size)], *own, f"seed={seed}", *here]


def load(path: Path = ROWS) -> Table:
    """rows.yaml. Raises BadInput where a row has an unknown key or none of a needed one."""
    found = yaml.safe_load(path.read_text())
    known = {field.name for field in fields(Row)}
    rows: dict[str, Row] = {}
    for node in found["rows"]:
        if unknown := set(node) - known:
            raise BadInput(f"{path.name}: {node.get('name')}: unknown {', '.join(sorted(unknown))}")
        row = Row(**node)
        if row.name in rows or row.section not in found["sections"]:
            raise BadInput(f"{path.name}: {row.name}: named twice, or in no section ({row.section})")
        rows[row.name] = row
    return Table(found["data"], found["sections"], found["plots"], found["readme"], rows)


def placed(words: Sequence[str], places: Mapping[str, str | None]) -> list[str]:
    """Overrides with the places of data filled in. Raises BadInput for one that nobody named."""
    filled = []
    for word in words:
        key, equals, value = word.partition("=")
        if value.startswith("$"):
            place = places.get(value)
            if not place:
                raise BadInput(f"{value}: where are these faces? {FLAGS[value]} PATH or {value[1:]}=PATH says it")
            if not Path(place).expanduser().exists():
                raise BadInput(f"{FLAGS[value]} {place}: there is nothing")
            value = str(Path(place).expanduser().resolve())
        filled.append(f"{key}{equals}{value}")
    return filled
