"""docs/results.md, its curves and the block in README.md: a pure function of the records."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import table as table_of
from benchmarks.results.book import Book, Record, score_of, spread
from benchmarks.results.claims import SECTIONS, Claim
from benchmarks.results.curves import svg
from benchmarks.results.rows import Row, Size, Table
from faceforge.errors import BadInput
from faceforge.metrics.table import MEASURES

MARKS = ("<!-- results: made by python -m benchmarks.results page -->", "<!-- end of results -->")
TASKS = {"super_resolution": "super-resolution", "none": "generated faces"}
GRIDS = {  # of records that other benchmarks make
    "latent_edits_glasses": {"latent_edits_glasses.png": "drawn faces, reconstructed, edited, and drawn with glasses"},
    "average_noise": {"average.png": "means of answers of growing numbers, the mean face, answers given back",
                      "noise.png": "made of noise by a generator trained on noise, and by one trained on faces"},
}  # fmt: skip
INTRO = """# Results

Made by `python -m benchmarks.results page` from the records in [docs/results/records](results/records): every number
stands in the record that is named beside its table, with the command, commit, machine, packages, data and curves.
`make results ROW=name` trains a row again. Scores are of faces of people never trained on. Over several seeds a cell is
the mean ± the standard deviation of runs that also split the people anew; confidence intervals over people stand in the
records. Published figures come from other faces and other splits: orders can be compared with them, numbers cannot."""


def write(table: Table, root: Path) -> list[Path]:
    """Write what differs from what the records give; the paths of everything."""
    made = files(table, root)
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in _left_over(root, made):
        path.unlink()
    return list(made)


def stale(table: Table, root: Path) -> list[Path]:
    """The files that are not what the records give, or that they do not give at all."""
    made = files(table, root)
    wrong = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    return [*wrong, *_left_over(root, made)]


def _left_over(root: Path, made: Mapping[Path, str]) -> list[Path]:
    return [path for path in sorted((root / "docs/results/curves").glob("*.svg")) if path not in made]


def files(table: Table, root: Path) -> dict[Path, str]:
    """Everything that the records give, by path."""
    results = root / "docs" / "results"
    book = Book.read(results, table)
    drawn = {plot["name"]: text for plot in table.plots if (text := _plot(plot, table, book))}
    claims = {name: make(book) for name, make in SECTIONS.items()}
    made = {results / "curves" / f"{name}.svg": text for name, text in drawn.items()}
    made[root / "docs" / "results.md"] = page(table, book, claims, list(drawn))
    made[root / "README.md"] = in_readme((root / "README.md").read_text(), claims)
    return made


def page(table: Table, book: Book, claims: Mapping[str, Sequence[Claim]], drawn: Sequence[str]) -> str:
    """The whole page."""
    parts = [INTRO, *_contradicted(claims)]
    for name, about in table.sections.items():
        rows = [row for row in table.rows.values() if row.section == name]
        parts += [f"## {about['title']}", about["text"].strip(), _claims(claims[name])]
        parts += list(_scores(rows, book))
        if name == "GANs":
            parts += list(_equal_time(book))
        parts += list(_steps(rows, book))
        parts += [f"![{plot['title']}](results/curves/{plot['name']}.svg)" for plot in table.plots
                  if plot["section"] == name and plot["name"] in drawn]  # fmt: skip
        parts += [*_published(rows), *_grids(name, rows, book), *_made(rows, book), *_missing(rows, book)]
    return "\n\n".join(parts) + "\n"


# -------------------------------------------------------------------------------------------------------------- claims

WHO = {"published": "published", "aim": "aimed at", "check": "checked"}


def _claims(claims: Sequence[Claim]) -> str:
    rows = [[c.said, WHO[c.source], f"**{c.verdict}**" if c.records else c.verdict, c.figures, _links(c.records)]
            for c in claims]  # fmt: skip
    return table_of(["claim", "by whom", "", "figures", "records"], rows, left=5)


def _contradicted(claims: Mapping[str, Sequence[Claim]]) -> list[str]:
    """What a record says against a published claim, first of all."""
    published = [c for found in claims.values() for c in found if c.source == "published"]
    against = [c for c in published if c.verdict == "does not hold"]
    if not against:
        return []
    told = "\n".join(f"- {c.section}: {c.said}: does not hold here ({c.figures})." for c in against)
    return [f"**Against published claims:**\n\n{told}"]


def _links(records: Sequence[str]) -> str:
    return ", ".join(f"[{name}](results/records/{folder(name)}{name}.json)" for name in records)


def folder(name: str) -> str:
    """Where a record lies under records/: those of rows end in their seed."""
    return "results/" if name.rpartition("-s")[2].isdigit() else ""


def in_readme(text: str, claims: Mapping[str, Sequence[Claim]]) -> str:
    """README.md with the block between its marks made anew. Raises BadInput where the marks are not there."""
    before, mark, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (mark and end):
        raise BadInput(f"README.md: the lines {MARKS[0]} and {MARKS[1]} are needed, results go between them")
    head = [c for found in claims.values() for c in found if c.headline and c.records]
    shown = table_of(["", "", "figures"], [[c.said, c.verdict, c.figures] for c in head], left=3)
    return f"{before}{mark}\n{shown if head else 'No row has a record yet.'}\n{end}{after}"


# -------------------------------------------------------------------------------------------------------------- scores


def _scores(rows: Sequence[Row], book: Book) -> Iterator[str]:
    """For each problem, one or two tables: images that have a right answer, and generated faces."""
    problems: dict[str, list[tuple[Row, Size, Mapping[int, Record]]]] = {}
    for row in rows:
        sizes: list[tuple[Size, Mapping[str, Mapping[int, Record]]]] = [("cpu", book.rows), ("full", book.full)]
        for size, found in sizes:
            records = {seed: record for seed, record in found.get(row.name, {}).items() if "evaluation" in record}
            if records:
                problems.setdefault(problem(next(iter(records.values()))), []).append((row, size, records))
    for name, entries in problems.items():
        for kind in ("images", "generated"):
            if table := _table(entries, kind):
                yield f"### {name}{', generated faces' * (kind == 'generated' and 'generated' not in name.lower())}"
                yield table
                yield _caption(entries, kind)


def problem(record: Record) -> str:
    """Task, size and faces of a record in words: what has the same can stand in one table."""
    data, task = record["evaluation"]["data"], record["evaluation"]["task"]
    told = {key: value for key, value in task.items() if key in ("factor", "kernel", "variant", "source")}
    options = f" ({', '.join(f'{key} {value}' for key, value in told.items())})" if told else ""
    height, width = data["size"]
    colour = "grey" if data["channels"] == 1 else "colour"
    name = str(TASKS.get(task["name"], task["name"]))
    return f"{name[0].upper()}{name[1:]}{options} at {height}x{width}, {colour}, {data['source']}"


def _table(entries: Sequence[tuple[Row, Size, Mapping[int, Record]]], kind: str) -> str:
    cells = [row for _, _, records in entries for r in records.values() for row in r["evaluation"]["rows"]]
    scores = [name for name in MEASURES if any(c["table"] == kind and name in c["scores"] for c in cells)]
    if not scores:
        return ""
    gap = kind == "images" and any("evaluation_train" in r for _, _, records in entries for r in records.values())
    head = ["", *(_heading(name) for name in scores), *(["PSNR, training faces"] if gap else []), "images", "minutes",
            "parameters", "seeds"]  # fmt: skip
    body = [line for entry in entries for line in _models(entry, kind, scores, gap)]
    body += _others(entries, kind, scores, len(head))
    return table_of(head, body)


def _heading(name: str) -> str:
    measure = MEASURES[name]
    arrow = {"higher": "↑", "lower": "↓"}.get(measure.better, "→ 1")
    return f"{measure.label}{f', {measure.unit}' * bool(measure.unit)} {arrow}"


def _models(
    entry: tuple[Row, Size, Mapping[int, Record]], kind: str, scores: Sequence[str], gap: bool
) -> Iterator[list[str]]:
    """A line for each way in which the row's runs were scored: mostly one, of a latent model one for each density."""
    row, size, records = entry
    found = [r for record in records.values() for r in record["evaluation"]["rows"] if r["kind"] == "model"]
    for name in dict.fromkeys(r["name"] for r in found if r["table"] == kind):
        title = f"**{row.title}**{name.removeprefix('model')}{', full size' * (size == 'full')}"
        cells = [_mean([score_of(r["evaluation"], score, name) for r in records.values()], score) for score in scores]
        seen = [score_of(r.get("evaluation_train", {}), "psnr", "model") for r in records.values()]
        yield [title, *cells, *([_mean(seen, "psnr")] if gap else []), *_cost(records)]


def _mean(values: Sequence[float | None], score: str) -> str:
    known = [value for value in values if value is not None]
    return spread(known, MEASURES[score].digits)


def _cost(records: Mapping[int, Record]) -> list[str]:
    """Images, minutes, parameters, seeds."""
    found = list(records.values())
    images = statistics.fmean(r["images"] for r in found)
    minutes = statistics.fmean(r["seconds"] for r in found) / 60
    parameters = " + ".join(f"{net['parameters']:,}" for net in found[0]["networks"].values())
    return [f"{images:,.0f}", f"{minutes:.1f}", parameters, str(len(found))]


def _others(
    entries: Sequence[tuple[Row, Size, Mapping[int, Record]]], kind: str, scores: Sequence[str], width: int
) -> list[list[str]]:
    """Baselines and real faces, once each; of runs with the same seed, and so the same people, the first counts."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for _, _, records in entries:
        for seed, record in records.items():
            for row in record["evaluation"]["rows"]:
                if row["table"] == kind and row["kind"] != "model":
                    found.setdefault(row["name"], {}).setdefault(seed, row)
    body = []
    for name, by_seed in found.items():
        cells = [_mean([row["scores"].get(s, {}).get("value") for row in by_seed.values()], s) for s in scores]
        line = [name, *cells]
        body.append([*line, *[""] * (width - len(line) - 1), str(len(by_seed))])
    return body


def _caption(entries: Sequence[tuple[Row, Size, Mapping[int, Record]]], kind: str) -> str:
    records = [record for _, _, found in entries for record in found.values()]
    data = [record["evaluation"]["data"] for record in records]
    faces = sorted({f"{d['faces']:,} faces of {d['people']:,} people" for d in data})
    stamps = sorted({d["manifest"][:12] for d in data})
    which = sorted({record["evaluation"]["checkpoint"]["name"] for record in records})
    said = f"Test split: {'; '.join(faces)}; data manifest {', '.join(stamps)}; checkpoint {', '.join(which)}."
    if kind == "generated":
        said += " Against real faces of the test split; the row of real faces is what a perfect model reaches."
    links = _links([name for row, size, found in entries for name in (row.record(seed, size) for seed in found)])
    return f"{said} Records: {links}."


def _equal_time(book: Book) -> Iterator[str]:
    """The comparison of models/gans.py, which has a page of its own."""
    if not (record := book.others.get("gan_faces")):
        return
    yield "### The same minutes: today's, the published and the taught DCGAN"
    rows = []
    for name, row in record["rows"].items():
        value, low, high = (f"{1e3 * row['kid'][key]:.1f}" for key in ("value", "low", "high"))
        rows.append([name, value, f"{low} to {high}", f"{row['run']['images']:,}" if "run" in row else ""])
    yield table_of(["", "KID x 1000 ↓", "95 %", "images drawn"], rows)
    if "caveat" in record:
        yield f"**{record['caveat']}**"
    yield f"More of it in [gan_faces.md](results/gan_faces.md). Record: {_links(['gan_faces'])}."


# --------------------------------------------------------------------------------------------------- steps and twins


def _steps(rows: Sequence[Row], book: Book) -> Iterator[str]:
    """Networks too heavy for a CPU: parameters, one real step, sampling, resume; and their twins."""
    body, used = [], []
    for row in rows:
        if row.kind != "step":
            continue
        twins = ", ".join(other.title for other in rows if other.twin_of == row.name)
        for seed, record in book.rows.get(row.name, {}).items():
            found, size = record["steps"], record["data"]["size"]
            networks = ", ".join(f"{name} {net['parameters']:,}" for name, net in record["networks"].items())
            body.append([row.title, networks, f"{size[0]}x{size[1]}", str(record["batch_size"]),
                         f"{found['seconds_of_training']:.0f}", str(len(found["samples"])),
                         "same bits" if found["same"] else "**differs**", twins])  # fmt: skip
            used.append(row.record(seed, "cpu"))
    if body:
        head = ["too heavy for this machine", "parameters", "size", "batch", "seconds of 2 steps", "grids",
                "second step after a resume", "twin in the tables above"]  # fmt: skip
        yield table_of(head, body)
        yield f"Records: {_links(used)}."


def _published(rows: Sequence[Row]) -> Iterator[str]:
    told = [f"- {row.title}: {row.published}" for row in rows if row.published]
    if told:
        yield "As published (other faces, other splits: not comparable in numbers):\n\n" + "\n".join(told)


def _plot(plot: Mapping[str, Any], table: Table, book: Book) -> str | None:
    lines = [(table.rows[name].title, record["curves"][plot["metric"]])
             for name in plot["rows"] for record in book.rows.get(name, {}).values()
             if plot["metric"] in record["curves"]]  # fmt: skip
    return svg(plot["title"], lines, plot.get("log", False), plot.get("until"))


def _grids(section: str, rows: Sequence[Row], book: Book) -> Iterator[str]:
    """One grid of each row, of its first seed."""
    for row in rows:
        for records in (book.rows.get(row.name, {}), book.full.get(row.name, {})):
            if found := next((record["grid"] for record in records.values() if record["grid"]), None):
                yield f"{row.title}, {found['what']}:\n\n![{row.title}](results/grids/{found['file']})"
    here = {"latent editor": ["latent_edits_glasses"], "average and noise": ["average_noise"]}.get(section, [])
    for name in here:
        for file, what in GRIDS[name].items() if name in book.others else ():
            yield f"{what[0].upper()}{what[1:]}:\n\n![{what}](results/grids/{file})"


# ------------------------------------------------------------------------------------------------------ how it was made


def _made(rows: Sequence[Row], book: Book) -> Iterator[str]:
    """Commands, commits, machines, ends and diagnoses, folded away."""
    told = []
    for row in rows:
        for records in (book.rows.get(row.name, {}), book.full.get(row.name, {})):
            told += [_about(row, record) for record in records.values()]
    if told:
        yield "<details><summary>The runs</summary>\n\n" + "\n".join(told) + "\n\n</details>"


def _about(row: Row, record: Record) -> str:
    commit = f"{str(record['commit'])[:12]}{', changed' * bool(record['dirty'])}"
    name, took = row.record(record["seed"], record["size"]), f"{record['seconds'] / 60:.1f} minutes"
    lines = [f"- {name}: {row.what} `{record['command']}`; {record['device']}; commit {commit}; {record['images']:,} "
             f"images in {took}; {record['end']}"]  # fmt: skip
    for key, (wanted, had) in record["unlike_row"].items():
        lines.append(f"  - unlike the row: {key} is {had}, not {wanted}")
    lines += [f"  - at {note['images']:,} images: {note['text']}" for note in record["notes"] or []]
    return "\n".join(lines)


def _missing(rows: Sequence[Row], book: Book) -> Iterator[str]:
    told = []
    for row in rows:
        if seeds := [str(seed) for seed in row.seeds if seed not in book.rows.get(row.name, {})]:
            told.append(f"- {row.title} (seed {', '.join(seeds)}): `make results ROW={row.name}`")
    if told:
        yield "Not run yet:\n\n" + "\n".join(told)
