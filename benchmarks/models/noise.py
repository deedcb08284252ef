"""The average face, and what a trained generator makes of noise.

    python -m benchmarks.models.noise RUN_OF_TASK_AVERAGE RUN_OF_TASK_NOISE RUN_OF_ANOTHER_TASK

The first run's generator was asked for "another face" and can only answer with their mean: how fast does it settle as
faces are added, and as its answer is given back to it? The others are fed noise. Writes a record and grids of means and
of generated faces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional

from benchmarks import command, records, runs
from benchmarks.records import GRIDS
from faceforge.data.tasks import Noise
from faceforge.engine import checkpoint
from faceforge.io.images import make_grid, write_png
from faceforge.metrics.health import diversity, mean_face_distance, variance_ratio

ROUNDS = 8  # times an answer is given back
SHOWN = 8
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def load(run: Path) -> tuple[Any, Any]:
    """A translation run's module and its data, prepared."""
    module = checkpoint.load(run)
    return module, runs.faces(module.config["data"])


def predict(module: Any, inputs: Tensor) -> Tensor:
    """Outputs (N, C, H, W) in [-1, 1]."""
    return torch.cat([module.predict(part) for part in inputs.split(32)])


def counts_up_to(n: int) -> list[int]:
    """1, 2, 4 ... and n."""
    return [*(2**k for k in range(n.bit_length()) if 2**k < n), n]


def settling(outputs: Tensor, limit: Tensor) -> list[dict[str, float]]:
    """RMS distance, range 1, of the mean of the first n outputs to the mean of all of another set (C, H, W)."""
    return [
        {"faces": n, "distance": float((outputs[:n].mean(0) - limit).square().mean().sqrt()) / 2}
        for n in counts_up_to(len(outputs))
    ]


def given_back(module: Any, faces: Tensor, mean_face: Tensor) -> tuple[list[dict[str, float]], Tensor]:
    """Answers to answers: how much a round changes, how different they still are, how far from the mean face."""
    rows, current = [], faces
    for number in range(1, ROUNDS + 1):
        answer = predict(module, current)
        rows.append(
            {
                "round": number,
                "change": float((answer - current).square().mean().sqrt()) / 2,
                "variance_ratio": variance_ratio(answer, faces),
                "mean_face_distance": mean_face_distance(answer, faces, mean_face),
            }
        )
        current = answer
    return rows, current


def average(run: Path) -> dict[str, Any]:
    """The run of task=average on people never trained on."""
    module, data = load(run)
    faces, training = data.images("test"), data.images("train")
    mean_face = training.mean(0)
    outputs = predict(module, faces)
    rounds, last = given_back(module, faces, mean_face)
    shown = torch.stack([outputs[:n].mean(0) for n in (16, 32, 64)] + [outputs.mean(0), mean_face, *last[:3]])
    write_png(make_grid(shown, SHOWN), GRIDS / "average.png")
    return {
        "faces": {"train": len(training), "test": len(faces)},
        "distance of the mean output to the mean face": float((outputs.mean(0) - mean_face).square().mean().sqrt()) / 2,
        "outputs": {
            "variance_ratio": variance_ratio(outputs, faces),
            "mean_face_distance": mean_face_distance(outputs, faces, mean_face),
        },
        "means of outputs": settling(outputs, mean_face),
        "means of photographs": settling(faces, mean_face),
        "given back": rounds,
    }


def of_noise(run: Path) -> tuple[dict[str, float], Tensor]:
    """What a run makes of N(0, 1) noise of its input's shape, as the published projects fed it."""
    module, data = load(run)
    faces = data.images("test")
    channels = data.pairs("test", [0])["input"].shape[1]
    inputs = Noise("normal", seed=0).input_for(faces[:, :1].expand(-1, channels, -1, -1))
    outputs = predict(module, inputs)
    figures = {
        "variance_ratio": variance_ratio(outputs, faces),
        "mean_face_distance": mean_face_distance(outputs, faces, data.images("train").mean(0)),
        "diversity": diversity(outputs, faces),
    }
    return figures, outputs[:SHOWN]


@app.command()
def main(
    average_run: Annotated[Path, typer.Argument()],
    noise_run: Annotated[Path, typer.Argument()],
    other_run: Annotated[Path, typer.Argument(help="Trained on another task, such as colorize, and fed noise.")],
) -> None:
    """Write the record and the grids."""
    GRIDS.mkdir(parents=True, exist_ok=True)
    trained, first = of_noise(noise_run)
    other, second = of_noise(other_run)
    second = functional.interpolate(second, first.shape[2:], mode="bicubic", antialias=True).clamp(-1, 1)
    write_png(make_grid(torch.cat([first, second]), SHOWN), GRIDS / "noise.png")
    record = {"average": average(average_run), "noise": {"trained on noise": trained, "trained on faces": other}}
    print(records.keep("average_noise", {**record}))


if __name__ == "__main__":
    command.run(app)
