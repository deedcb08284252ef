"""What using a run costs over the bare network, and ONNX against torch.

    python -m benchmarks.studio.use generate RUN --count 5000
    python -m benchmarks.studio.use onnx RUN RUN ...

``generate`` draws faces as `faceforge generate` does, encoding of files left out, beside the generator alone on z that
lies ready. ``onnx`` times each exported graph beside eager torch. Both in turns, CPU time, the least of the rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import command, records
from benchmarks.speed.pace import alternate
from faceforge.studio import export, onnx_use, photo
from faceforge.studio.model import AT_ONCE, Model, open_model

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Rounds = Annotated[int, typer.Option(help="Of each, in turns.")]


def least(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """CPU seconds of each work, the least of its rounds, in turns after one to warm up."""
    turns = alternate(works, rounds)
    return {name: turns.least(name) for name in works}


def bare(model: Model, count: int) -> Callable[[], None]:
    """The network alone, on z that lies ready, in the same batches."""
    graph = (export.graphs(model).get("-decoder") or export.graphs(model)[""]).network.eval()
    parts = model.codes(count).split(AT_ONCE)

    @torch.no_grad()
    def run() -> None:
        for part in parts:
            graph(part)

    return run


def drawn(model: Model, count: int) -> Callable[[], None]:
    """As `faceforge generate` draws faces, up to the bytes of the pictures."""

    def run() -> None:
        for part in model.faces(count):
            photo.to_pictures(part)

    return run


def generate_ratio(model: Model, count: int, rounds: int) -> dict[str, float]:
    """CPU seconds of both, and their ratio."""
    seconds = least({"generate": drawn(model, count), "bare": bare(model, count)}, rounds)
    return {**seconds, "ratio": seconds["generate"] / seconds["bare"]}


def onnx_ratios(model: Model, rounds: int) -> dict[str, dict[str, float]]:
    """By graph and batch: CPU seconds of torch and onnxruntime, their ratio, and the largest difference."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        differences = export.write_onnx(model, Path(folder) / "model.onnx")
        for suffix, graph in export.graphs(model).items():
            name = f"model{suffix}.onnx"
            session, _ = onnx_use.open_model(Path(folder) / name, torch.get_num_threads())
            for batch in (1, 16):
                x = export.inputs(graph, batch, 0)
                with torch.no_grad():
                    works = {"torch": partial(graph.network, x), "onnx": partial(onnx_use.run, session, x.numpy())}
                    seconds = least(works, rounds)
                ratio = seconds["torch"] / seconds["onnx"]
                found[f"{name}, batch {batch}"] = {**seconds, "speed-up": ratio, "difference": differences[name]}
    return found


@app.command()
def generate(run: Path, count: int = 5000, rounds: Rounds = 3, threads: int = 1) -> None:
    """`generate` over the bare network."""
    torch.set_num_threads(threads)
    model = open_model(run, "generate")
    row = generate_ratio(model, count, rounds)
    print(
        f"generate_over_bare {row['ratio']:.3f}  ({count} faces, {row['generate']:.2f} s against {row['bare']:.2f} s)"
    )
    print(records.keep("use_generate", {"run": model.name, "count": count, "threads": threads, **row}))


@app.command()
def onnx(runs: list[Path], rounds: Rounds = 20, threads: int = 1) -> None:
    """ONNX over eager torch."""
    torch.set_num_threads(threads)
    found = {}
    for run in runs:
        model = open_model(run)
        found[model.name] = onnx_ratios(model, rounds)
        for name, row in found[model.name].items():
            print(f"{model.name}, {name}: {row['speed-up']:.2f} times as fast, differs by {row['difference']:.1g}")
    print(records.keep("use_onnx", {"threads": threads, "runs": found}))


if __name__ == "__main__":
    command.run(app)
