"""docs/cost.md: what a training step of each model costs, on every machine that somebody measured.

    python -m benchmarks.cost measure NAME      # each model, sizes, batches and threads, on this machine: 3 minutes
    python -m benchmarks.cost page              # the page and its curves, from the records

NAME is that of the machine in the file names, such as xeon. One row alone: `faceforge bench model=M --record FILE`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from benchmarks.command import FACEFORGE, ROOT, run
from benchmarks.networks import MODELS
from benchmarks.records import RECORDS, table
from benchmarks.results.curves import svg
from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes

PAGE = ROOT / "docs" / "cost.md"
PLACE = RECORDS / "cost"
CURVES = ROOT / "docs" / "pictures"
GROWN = "dcgan_conventional"  # whose size, batch and threads vary
SIZES, BATCHES = (32, 64, 128), (4, 8, 16, 32, 64)
INTRO = """# What it costs

Images a second of the training step alone, without validations, measured by `faceforge bench --record`, and the most
memory that the process held. `python train.py dry_run=true ...` says what a training of yours takes, validations
included. How many images a model needs stands beside its scores in [results.md](results.md).

Nobody has measured a GPU yet. To add your machine: `python -m benchmarks.cost measure NAME`, and send the records."""
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
        (CURVES / f"{name}.svg").write_text(drawn, encoding="utf-8")


def text(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The page."""
    parts = [INTRO, "## Each model, with its defaults"]
    plain = {name: record for name, record in known.items() if "-" not in name.partition("-")[2]}
    parts.append(listed(plain.values()) if plain else "Not measured yet.")
    drawn = curves(known)
    if drawn:
        parts += ["## Growth", f"`{GROWN}` on one thread of a CPU, unless the curve says otherwise."]
    told = {"cost_size": "Images a second by the side of the image: four times the pixels take four times the time.",
            "cost_batch": "By the batch: small batches pay for each step, large ones are limited by arithmetic.",
            "cost_threads": "By threads."}  # fmt: skip
    for name in drawn:
        parts += [told[name], f"![{told[name]}](pictures/{name}.svg)"]
    links = [f"[{name}](results/records/cost/{name}.json)" for name in known]
    parts += ["## Records", ", ".join(links) or "None yet."]
    return "\n\n".join(parts) + "\n"


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
    """Curves of each machine: images a second against what grows."""
    found = {}
    for what, key in (("size", "height"), ("batch", "batch_size"), ("threads", "threads")):
        lines: dict[str, list[tuple[float, float]]] = {}
        for name, record in known.items():
            machine, _, label = name.partition("-")
            if label.startswith(f"{GROWN}-{what}"):
                at = record["size"][0] if key == "height" else record[key]
                lines.setdefault(machine, []).append((at, record["images_per_second"]))
        drawn = svg(f"images a second by {what}", [_line(machine, points) for machine, points in lines.items()])
        if drawn:
            found[f"cost_{what}"] = drawn.replace("against images seen", f"against {what}")
    return found


def _line(machine: str, points: Sequence[tuple[float, float]]) -> tuple[str, dict[str, list[float]]]:
    ordered = sorted(points)
    return machine, {"images": [x for x, _ in ordered], "mean": [y for _, y in ordered]}


if __name__ == "__main__":
    run(app)
