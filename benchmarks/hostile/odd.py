"""Odd files, tables and layouts: read right, refused rightly, read wrong, silently left out.

    python -m benchmarks.hostile.odd                      # all of them, from seed 0
    python -m benchmarks.hostile.odd --seed 3 --only tables
    python -m benchmarks.hostile.odd --record             # docs/results/records/hostile_odd.json

Everything is made of drawn faces in a temporary folder. What is right is known without faceforge: the drawn pixels,
profiles by lcms, tables written by hand. A picture goes through `decode` and stands in a set beside sound ones, which
is a folder, a zip and a tgz in turns. Tables and layouts go through the datamodule, layouts also through the command
that `faceforge data check` prints. A line names every case that is read wrong or silently left out.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import records
from benchmarks.command import run
from benchmarks.hostile import odd_layouts, odd_pictures, odd_tables
from benchmarks.hostile.odd_doors import READ, REFUSED, SILENT, WRONG, Case, Verdict

FAMILIES = {"pictures": odd_pictures.cases, "tables": odd_tables.cases, "layouts": odd_layouts.cases}
KINDS = {READ: "read_right", REFUSED: "refused_rightly", WRONG: "read_wrong", SILENT: "silently_left_out"}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def every(seed: int, only: str = "") -> list[Case]:
    """The cases of a seed, of one family or of all."""
    return [case for name, cases in FAMILIES.items() if only in ("", name) for case in cases(seed)]


def fed(cases: Iterable[Case], folder: Path) -> list[tuple[Case, Verdict]]:
    """What became of each case, in a folder of its own."""
    found = []
    for n, case in enumerate(cases):
        place = folder / f"{n:04d}"
        place.mkdir()
        with warnings.catch_warnings(), contextlib.redirect_stderr(open(os.devnull, "w")):
            warnings.simplefilter("ignore")
            found.append((case, case.feed(place)))
    return found


def counted(found: Iterable[tuple[Case, Verdict]]) -> dict[str, Any]:
    """The figures, by family and together, and the cases that are wrong."""
    found = list(found)
    families = {case.family for case, _ in found}
    rows = {family: Counter(v.kind for c, v in found if c.family == family) for family in sorted(families)}
    by_family = {family: {word: row[kind] for kind, word in KINDS.items()} for family, row in rows.items()}
    total = Counter(verdict.kind for _, verdict in found)
    wrong = [f"{case.family}: {case.name}: {v.kind}: {v.said}" for case, v in found if v.kind in (WRONG, SILENT)]
    return {
        "cases": len(found),
        **{word: total[kind] for kind, word in KINDS.items()},
        "families": by_family,
        "wrong": wrong,
    }


@app.command()
def main(
    seed: int = 0,
    only: Annotated[str, typer.Option(help="pictures, tables or layouts.")] = "",
    match: Annotated[str, typer.Option(help="Only cases whose name holds this.")] = "",
    verbose: Annotated[bool, typer.Option(help="A line for every case.")] = False,
    record: Annotated[bool, typer.Option(help="Write docs/results/records/hostile_odd.json.")] = False,
) -> None:
    """Feed every odd case to faceforge; exit code 1 where one is read wrong or silently left out."""
    cases = [case for case in every(seed, only) if match in case.name]
    with tempfile.TemporaryDirectory() as folder:
        found = fed(cases, Path(folder))
    told = counted(found)
    lines = [f"{c.family}: {c.name}: {v.kind}: {v.said}" for c, v in found] if verbose else told["wrong"]
    print(*lines, sep="\n")
    for family, row in {**told["families"], "all": {word: told[word] for word in KINDS.values()}}.items():
        print(f"{family}: {', '.join(f'{count} {word}' for word, count in row.items())}".replace("_", " "))
    if record:
        print(records.keep("hostile_odd", {"seed": seed, **told}))
    if told["wrong"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    run(app)
