"""docs/cost.md: what a training step of each model costs, on every machine that somebody measured.

    python -m benchmarks.cost measure NAME      # each model, sizes, batches and threads, on this machine: 3 minutes
    python -m benchmarks.cost page              # the page and its curves, from the records

NAME is that of the machine in the file names, such as xeon. One row alone: `faceforge bench model=M --record FILE`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.command import FACEFORGE, ROOT, run
from benchmarks.networks import MODELS
from benchmarks.records import RECORDS, RESULTS, read, table
from benchmarks.results.book import Book, score_of
from benchmarks.results.curves import Line, svg
from benchmarks.results.page import problem
from benchmarks.results.rows import load
from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes
from faceforge.metrics import table as scores

PAGE = ROOT / "docs" / "cost.md"
PLACE = RECORDS / "cost"
CURVES = ROOT / "docs" / "pictures"
GROWN = "dcgan_conventional"  # whose size, batch and threads vary
SIZES, BATCHES = (32, 64, 128), (4, 8, 16, 32, 64)
INTRO = """# What it costs

Images a second of the training step alone, without validations, measured by `faceforge bench --record`, and the most
memory that the process held. `python train.py dry_run=true ...` says what a training of yours takes, validations
included. How many images a model needs stands beside its scores in [results.md](results.md).

Nobody has measured a GPU yet, nor electricity: the machines were virtual, and show no meter. To add your machine:
`python -m benchmarks.cost measure NAME`, and send the records."""
MOVED = 40  # bytes of each weight and step: Adam reads and writes it, its gradient and two moments, and the average
TOLD = {  # what is drawn, and what the curves say
    "size": "By the side of the image: four times the pixels take four times the time.",
    "batch": "By the batch: small batches pay for each step, large ones are limited by arithmetic.",
    "threads": "By threads of one process.",
    "processes": "By processes of one thread each, on two cores; the limit is two runs that share nothing.",
    "pictures": "Seconds from the command to the first batch, by pictures of the set, packed before.",
}
TITLES = {"pictures": "seconds to the first batch by pictures"}
FIRST = """A model is worth looking at from the first validation that was better than the best baseline; where
validations are not scored like the results (KID), from the end of the run at the latest. Minutes of training on one
thread, from the runs of [results.md](results.md)."""
LIMITS = """The limit of
arithmetic is the speed of a large matrix product over the multiplications and additions of a training step; that of
bytes adds the time in which weights, gradients, moments and averages move through memory."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def measure(
    name: Annotated[str, typer.Argument(help="Of the machine, for the names of the records.")],
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 6.0,
    threads: Annotated[int, typer.Option(help="Of a CPU.")] = 1,
) -> None:
    """Measure this machine, which nothing else must use."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for label, overrides, number in settings(threads):
        path = PLACE / f"{name}-{label}.json"
        path.unlink(missing_ok=True)
        command = [*FACEFORGE, "bench", *overrides, "--seconds", str(seconds), "--record", str(path)]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(number)}, check=False)
        if done.returncode:
            raise BadInput(f"{label}: faceforge bench ended with {done.returncode}")


def settings(threads: int) -> Iterator[tuple[str, list[str], int]]:
    """A label, overrides and threads of each measurement."""
    for model in MODELS:
        yield model, [f"model={model}"], threads
    for size in SIZES:
        yield f"{GROWN}-size{size}", [f"model={GROWN}", f"data.size={size}"], threads
    for batch in BATCHES:
        yield f"{GROWN}-batch{batch}", [f"model={GROWN}", f"data.batch_size={batch}"], threads
    for number in sorted({1, threads, os.cpu_count() or 1}):
        yield f"{GROWN}-threads{number}", [f"model={GROWN}"], number


def records() -> dict[str, dict[str, Any]]:
    """The records by file name, without its ending."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}


@app.command()
def page() -> None:
    """Write the page and its curves."""
    PAGE.write_text(text(records()), encoding="utf-8")
    for name, drawn in curves(records()).items():
        (CURVES / f"cost_{name}.svg").write_text(drawn, encoding="utf-8")


def text(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The page."""
    parts = [INTRO, "## Each model, with its defaults"]
    plain = {name: record for name, record in known.items() if "-" not in name.partition("-")[2]}
    parts.append(listed(plain.values()) if plain else "Not measured yet.")
    parts += ["## Until it is useful", FIRST, useful()]
    drawn = curves(known)
    if drawn:
        parts += ["## Growth", f"`{GROWN}` on one thread of a CPU, unless the curve says otherwise. {LIMITS}"]
    for what in drawn:
        parts += [TOLD[what], f"![{TOLD[what]}](pictures/cost_{what}.svg)"]
    links = [f"[{name}](results/records/cost/{name}.json)" for name in known]
    parts += ["## Records", ", ".join(links) or "None yet."]
    return "\n\n".join(parts) + "\n"


def useful() -> str:
    """A row for each model: minutes until a validation was better than the best baseline of its results."""
    rows = load()
    book = Book.read(RESULTS, rows)
    head = ["model", "what it does, on which faces", "score", "minutes", "images", "device"]
    return table(head, [_useful(node, book) for node in rows.readme if book.rows.get(node["row"])], left=3)


def _useful(node: Mapping[str, str], book: Book) -> list[str]:
    record, score = next(iter(book.rows[node["row"]].values())), node["score"]
    best = score_of(record["evaluation"], score, "best baseline")
    own, rank = score_of(record["evaluation"], score, "model"), scores.measure(score).rank
    curve = (
        record["curves"][f"val/{score}"] if score != "kid" else {"images": [], "mean": []}
    )  # val/kid is of few faces
    seen = [*zip(curve["images"], curve["mean"], strict=True), (record["images"], own)]
    assert best is not None
    first = next((n for n, value in seen if value is not None and rank(value) > rank(best)), None)
    spent = ["never", "-"] if first is None else [f"{first / record['images_per_second'] / 60:.1f}", f"{first:,}"]
    spent = [f"at most {figure}" for figure in spent] if first == record["images"] else spent
    return [f"`{node['model']}`", problem(record), scores.measure(score).label, *spent, record["device"]]


def listed(rows: Iterable[Mapping[str, Any]]) -> str:
    """A row for each record, by device and model."""
    head = ["model", "size", "batch", "device", "precision", "images a second", "minutes for 10,000 images", "memory"]
    ordered = sorted(rows, key=lambda row: (row["device"], list(MODELS).index(row["model"])))
    return table(head, [_cells(row) for row in ordered], left=5)


def _cells(row: Mapping[str, Any]) -> list[str]:
    size = f"{row['size'][0]}x{row['size'][1]}, {'colour' if row['channels'] == 3 else 'grey'}"
    minutes = 10_000 / row["images_per_second"] / 60
    memory = in_bytes(row["device_bytes"] or row["host_bytes"])
    figures = [f"{row['images_per_second']:.1f}", f"{minutes:.1f}", memory]
    return [f"`{row['model']}`", size, str(row["batch_size"]), row["device"], row["precision"], *figures]


def curves(known: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A drawing of each thing that grows: a line for each machine, and one for its limit."""
    lines: dict[str, list[Line]] = {
        "size": grown(known, "size", lambda record: record["size"][0]),
        "batch": grown(known, "batch", lambda record: record["batch_size"]),
        "threads": grown(known, "threads", lambda record: record["threads"]),
        "processes": processes(read("speed").get("figures", {})),
        "pictures": pictures(read("large_sets").get("figures", {})),
    }
    drawn = {what: svg(TITLES.get(what, f"images a second by {what}"), found) for what, found in lines.items()}
    return {what: found.replace("against images seen", f"against {what}") for what, found in drawn.items() if found}


def grown(known: Mapping[str, Mapping[str, Any]], what: str, at: Callable[[Any], float]) -> list[Line]:
    """Images a second of each machine, and at most as many by arithmetic and by memory."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, record in known.items():
        machine, _, label = name.partition("-")
        if label.startswith(f"{GROWN}-{what}"):
            found.setdefault(machine, []).append((at(record), record["images_per_second"]))
            for limit, rate in most(record).items():
                found.setdefault(f"{machine}, {limit}", []).append((at(record), rate))
    return [_line(label, points) for label, points in found.items()]


def most(record: Mapping[str, Any]) -> dict[str, float]:
    """Images a second that arithmetic allows, and with the weights moved at each step as well."""
    if "operations_per_image" not in record:
        return {}
    arithmetic = record["operations_per_image"] / record["operations_a_second"]
    moved = MOVED * record["weights"] / record["bytes_a_second"] / record["batch_size"]
    return {"limit of arithmetic": 1 / arithmetic, "limit of arithmetic and bytes": 1 / (arithmetic + moved)}


def processes(figures: Mapping[str, Any]) -> list[Line]:
    """One and two processes, and two runs at the same time, of the record of `benchmarks.speed ranks`."""
    record = figures.get("ranks2_over_1")
    if record is None:
        return []
    rates = {name: median(rate for rate, _ in of) for name, of in record["images_per_second_and_others"].items()}
    machine, one = record["made"]["machine"]["processor"], (1.0, rates["one"])
    ways = {"": "two", ", torchrun": "two by torchrun", ", limit": "two runs on halves"}
    return [_line(f"{machine}{told}", [one, (2.0, rates[name])]) for told, name in ways.items()]


def pictures(figures: Mapping[str, Any]) -> list[Line]:
    """Seconds to the first batch of the record of `benchmarks.speed.large_sets start`."""
    record = figures.get("start_200000_over_2000")
    if record is None:
        return []
    points = [(float(count), min(spent["wall"])) for count, spent in record["seconds"].items()]
    return [_line(record["made"]["machine"]["processor"], points)]


def _line(label: str, points: Sequence[tuple[float, float]]) -> Line:
    ordered = sorted(points)
    return label, {"images": [x for x, _ in ordered], "mean": [y for _, y in ordered]}


if __name__ == "__main__":
    run(app)
