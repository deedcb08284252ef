"""docs/results.md: train rows, turn runs into records, and records into the page.

    python -m benchmarks.results train ROW --lfw FACES
    python -m benchmarks.results record ROW RUN
    python -m benchmarks.results page

``train`` trains a row of rows.yaml with each of its seeds and records it. ``record`` records an existing run.
``page`` generates docs/results.md, its curves and the results block in README.md from the records alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import ROOT
from benchmarks.results import page as pages
from benchmarks.results.rows import FLAGS, Row, Size, Table, load, placed
from faceforge.errors import BadInput

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Place = Annotated[Path | None, typer.Option(help="The folder or archive of these faces.")]


@app.command()
def train(
    row: Annotated[str, typer.Argument(help="A row of rows.yaml.")],
    seed: Annotated[int | None, typer.Option(help="One seed; default: all seeds of the row.")] = None,
    size: Annotated[Size, typer.Option(envvar="SIZE", help="cpu: one thread of a CPU. full: a GPU.")] = "cpu",
    lfw: Annotated[Path | None, typer.Option(envvar="LFW", help="LFW, tightly cropped, one folder per person.")] = None,
    lfw_color: Annotated[
        Path | None, typer.Option(envvar="LFW_COLOR", help="LFW's 250x250 originals in colour.")
    ] = None,
    crops: Annotated[Path | None, typer.Option(envvar="CROPS", help="The output of faceforge cut.")] = None,
    celeba: Annotated[Path | None, typer.Option(envvar="CELEBA", help="CelebA.")] = None,
    runs: Annotated[Path, typer.Option(envvar="RUNS", help="The folder of runs.")] = Path("runs/results"),
    threads: Annotated[int, typer.Option(help="Torch threads, at size cpu.")] = 1,
) -> None:
    """Train a row, resuming an unfinished run; record it; update the page."""
    table = load()
    chosen = table.row(row)
    places = dict(zip(FLAGS, (lfw, lfw_color, crops, celeba), strict=True))
    given = {name: str(place) if place else None for name, place in places.items()}
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if size == "cpu" else {})}
    for number in chosen.seeds if seed is None else [seed]:
        run = runs / chosen.record(number, size)
        words = placed(table.words(chosen, size, number), given)
        (_steps if chosen.kind == "step" else _whole)(run, words, environment)
        _record(table, chosen, run, size, None)
    _page(table)


def _whole(run: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
    if _status(run) != "finished":
        begun = (run / "checkpoints" / "last.ckpt").exists()
        _python([f"resume={run}"] if begun else [*words, f"run_dir={run}", "logger.mode=disabled"], environment)


def _steps(run: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """One step and another after a resume, and in a second run both without interruption."""
    from benchmarks.results.record import straight

    for folder, count in ((run, 1), (straight(run), 2)):
        if _status(folder) != "finished":
            _python([*words, f"run_dir={folder}", "logger.mode=disabled", f"trainer.max_steps={count}"], environment)
    _python([f"resume={run}", "trainer.max_steps=2"], environment)


def _status(run: Path) -> str | None:
    try:
        return json.loads((run / "run.json").read_text())["status"]
    except (OSError, ValueError, KeyError):
        return None


def _python(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """`python train.py`. Raises BadInput if it fails; it has printed the reason itself."""
    code = subprocess.run([sys.executable, str(ROOT / "train.py"), *words], env=environment, check=False).returncode
    if code:
        raise BadInput(f"python train.py {' '.join(words)}: exit code {code}")


@app.command()
def record(
    row: Annotated[str, typer.Argument(help="A row of rows.yaml.")],
    run: Annotated[Path, typer.Argument(help="A finished run of it.")],
    size: Annotated[Size, typer.Option(help="The size that the run was trained at.")] = "cpu",
    data_root: Annotated[Path | None, typer.Option(help="Where the run's faces are now, if they moved.")] = None,
) -> None:
    """Evaluate a run and write its record: docs/results/records/results/ROW-sSEED.json."""
    table = load()
    _record(table, table.row(row), run, size, data_root)
    _page(table)


def _record(table: Table, row: Row, run: Path, size: Size, data_root: Path | None) -> None:
    from benchmarks.results.record import make

    path = make(table, row, run, size, data_root)
    print(path)
    for key, (wanted, found) in json.loads(path.read_text())["unlike_row"].items():
        print(f"  differs from the row: {key} is {found}, not {wanted}; noted on the page")


@app.command()
def page(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 2 if the files differ.")] = False,
) -> None:
    """Generate docs/results.md, its curves and the results block in README.md from the records."""
    if not check:
        _page(load())
        return
    wrong = [str(path.relative_to(ROOT)) for path in pages.stale(load(), ROOT)]
    if wrong:
        raise BadInput(f"{', '.join(wrong)}: differs from the records; run `python -m benchmarks.results page`")


def _page(table: Table) -> None:
    for path in pages.write(table, ROOT):
        print(path.relative_to(ROOT))
