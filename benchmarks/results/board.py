"""docs/board.md, from the records of rows: how soon a generator's faces come near to those of LFW in colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.records import table
from benchmarks.results.book import Book, Record, value_of
from benchmarks.results.rows import Table

PROTOCOL = "lfw-c150-64x64x3"
SCORE = "kid@lite0-57934424-bicubic224"
MARKS = (0.10, 0.05)
FACES = 1000
INTRO = f"""# A board to beat

How many minutes of one CPU thread does a generator need until its faces have a KID of at most {MARKS[0]:.2f}, or
{MARKS[1]:.2f}? Faces are those of LFW in colour at 64x64 (`data=lfw data.crop=c150`). KID is measured by
EfficientNet-lite0 (`{SCORE}`), on {FACES:,} generated faces against people who are not in the
training set. Real faces of other people have {{floor}}, a Gaussian of 128 principal components {{gaussian}}."""
RULES = """## Rules

- An entry is one row of `benchmarks/results/rows.yaml`, with a command that anybody can type, and one record of it,
  made on a clean commit.
- Minutes are those of the training, from the first image to the last, validations included. The score is that of
  `faceforge evaluate` on the checkpoint at its end.
- One thread of a CPU (`OMP_NUM_THREADS=1`), or one GPU, which has a table of its own as soon as there is a record.
- Nothing but the training split is trained on. A network that was trained on other images may take part, if another one
  than that of the score.

## Submit an entry

1. Put the recipe into a yaml under `conf/experiment/`, and a row that names it, with `data: lfw`, into
   `benchmarks/results/rows.yaml`.
2. Commit, then train and record it: `make results ROW=name LFW_COLOR=lfw.tgz` writes the record, its grid of faces, and
   this page.
3. Send the yaml, the row, the record, the grid and the page. A test computes every figure of this page again from the
   records.
"""


@dataclass(frozen=True)
class Entry:
    """A recorded run that reached a score."""

    name: str
    title: str
    kid: float
    minutes: float
    images: int
    device: str
    command: str


def entries(table: Table, book: Book) -> list[Entry]:
    """Every recorded run on these faces that generates, the fastest first."""
    found = []
    for row, records in book.rows.items():
        for seed, record in records.items():
            kid = score(record, "model")
            if kid is not None:
                minutes, title = record["seconds"] / 60, table.rows[row].title
                about = (record["images"], record["device"], record["command"])
                found.append(Entry(f"{row}-s{seed}", f"{title}, seed {seed}", kid, minutes, *about))
    return sorted(found, key=lambda entry: entry.minutes)


def score(record: Record, name: str) -> float | None:
    """KID of the best of a record's rows whose names begin so; None where it is not of these faces."""
    if record["kind"] != "train" or record["data"]["protocol"]["name"] != PROTOCOL:
        return None
    rows = [row for row in record["evaluation"]["rows"] if row["table"] == "generated" and row["name"].startswith(name)]
    values = [value_of(row, SCORE) for row in rows]
    return min((value for value in values if value is not None), default=None)


def page(table: Table, book: Book) -> str:
    """The whole page."""
    parts = [INTRO.format(floor=_one(book, "real faces"), gaussian=_one(book, "PCA 128 Gaussian"))]
    known = entries(table, book)
    for kind, told in (("CPU", "One thread of a CPU"), ("GPU", "One GPU")):
        here = [entry for entry in known if entry.device.startswith("CPU") == (kind == "CPU")]
        if here or kind == "CPU":
            parts += [f"## {told}", *_tables(here)]
    return "\n\n".join([*parts, RULES])


def _tables(here: list[Entry]) -> Iterator[str]:
    for mark in MARKS:
        reached = [entry for entry in here if entry.kid <= mark]
        yield f"### KID of at most {mark:.2f}"
        yield _listed(reached) if reached else "No entry yet."
    short = [entry for entry in here if entry.kid > max(MARKS)]
    if short:
        yield from ("### Not there yet", _listed(short))


def _listed(found: list[Entry]) -> str:
    head = ["entry", "record", "minutes", "KID", "images", "processor"]
    return table(head, [_cells(entry) for entry in found], left=2)


def _cells(entry: Entry) -> list[str]:
    record = f"[{entry.name}](results/records/results/{entry.name}.json)"
    figures = [f"{entry.minutes:.1f}", f"{entry.kid:.4f}", f"{entry.images:,}"]
    return [f"{entry.title}: `{entry.command}`", record, *figures, entry.device.removeprefix("CPU, ")]


def _one(book: Book, name: str) -> str:
    values = [score(record, name) for records in book.rows.values() for record in records.values()]
    known = [value for value in values if value is not None]
    return f"{min(known):.4f}" if known else "not been measured"
