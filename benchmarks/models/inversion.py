"""How well a GAN gives back faces that it never saw, by encoder and by optimisation, and what is left of their attributes.

    python -m benchmarks.models.inversion RUN     # after `faceforge directions RUN`

Held-out faces go through the GAN and are compared with themselves, beside the mean face and principal components of the
training faces. A predictor that nothing else uses is asked for their attributes: in the faces themselves, and in what came
back. Prints a table and writes a record; --picture also writes the faces, which must be drawn ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks import command, records, runs
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.evaluation import labelled, predictors
from faceforge.evaluation.predictors import Predictor, balanced_accuracy
from faceforge.io.images import make_grid, write_png
from faceforge.metrics.linear import Pca
from faceforge.metrics.pairs import psnr, ssim
from faceforge.schemes import directions
from faceforge.schemes.abilities import Samples
from faceforge.schemes.inversion import GanCodes

FACES = 200  # held-out ones
TRAINING = 4000  # of which principal components are computed
STEPS = (0, 100, 500)
JUDGE = 1000  # seed of the predictor, apart from those of `faceforge directions`
TRUSTED = 0.8
SHOWN = 8
PICTURE = records.ROOT / "docs" / "pictures" / "inversion.png"
Back = Callable[[Tensor], Tensor]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument()],
    count: Annotated[int, typer.Option("-n", help="Held-out faces.")] = FACES,
    picture: Annotated[bool, typer.Option("--picture")] = False,
) -> None:
    """Print and record."""
    codes, data = opened(run)
    split = "test" if data.counts["test"] else "val"
    rows = data.rows[split][: min(count, data.counts[split])]
    faces, judge = data.pictures(rows), Judge.of(data, rows)
    found, shown = {}, [faces[:SHOWN]]
    for name, back in ways(codes, data).items():
        made = back(faces)
        found[name] = {
            "psnr": float(psnr((made + 1) / 2, (faces + 1) / 2).mean()),
            "ssim": float(ssim((made + 1) / 2, (faces + 1) / 2).mean()),
            "attributes": judge(made),
        }
        shown += [made[:SHOWN]] if name.startswith("GAN") else []
        print(f"{name:28s}", " ".join(f"{score} {value:.3f}" for score, value in found[name].items()), flush=True)
    print(f"{'the faces themselves':28s} attributes {judge(faces):.3f} ({len(judge.names)}: {', '.join(judge.names)})")
    if picture:
        write_png(make_grid(torch.cat(shown), columns=SHOWN), PICTURE)
    about = {"run": records.portable([str(run)])[0], "images": codes.clock.images, "manifest": data.manifest}
    about |= {"split": split, "faces": len(rows), "numbers of z": codes.latent_size}
    about |= {"attributes": list(judge.names), "attributes of the faces themselves": judge(faces)}
    print(records.keep("inversion", {**about, "ways": found}))


def opened(run: Path) -> tuple[GanCodes, FaceData]:
    """A GAN with its encoder, and its faces. Raises BadInput."""
    path = checkpoint.find(run, "best")
    gan = checkpoint.load(path)
    if not isinstance(gan, Samples):
        raise BadInput(f"{run}: must be a run of a GAN, after `faceforge directions {run}`")
    data = runs.faces(gan.config["data"])
    file = path.parent.parent / directions.NAME
    size = data.height, data.width
    return GanCodes(gan, directions.Directions.load(file, size, data.channels, checkpoint.digest(path)).encoder), data


def ways(codes: GanCodes, data: FaceData) -> dict[str, Back]:
    """Each way there and back, by name."""
    known = data.images("train", range(min(TRAINING, data.counts["train"])))

    def components(count: int) -> Back:
        pca = Pca(known, count)
        return lambda faces: pca.decode(pca.encode(faces)).clamp(-1, 1)

    def through(steps: int) -> Back:
        return lambda faces: torch.cat([codes.decode(codes.invert(part, steps)) for part in faces.split(50)])

    return {
        "mean face": lambda faces: known.mean(0, keepdim=True).expand_as(faces),
        **{f"{count} principal components": components(count) for count in (32, codes.latent_size)},
        **{f"GAN, {f'{steps} steps' if steps else 'encoder'}": through(steps) for steps in STEPS},
    }


class Judge:
    """The mean balanced accuracy of the attributes that a predictor knows, on what came back of some faces."""

    def __init__(self, predictor: Predictor, labels: dict[str, np.ndarray]) -> None:
        self.predictor, self.labels, self.names = predictor, labels, predictor.names

    @classmethod
    def of(cls, data: FaceData, rows: np.ndarray) -> Judge:
        """Taught by the training faces, of the attributes that it sees in 80 % of the faces of ``rows``."""
        labels, _ = labelled.teachable(data)
        predictor, found = predictors.of_faces(data, labels, data.rows["train"], rows, JUDGE, torch.device("cpu"))
        kept = [name for name, accuracy in found.items() if accuracy >= TRUSTED]
        return cls(predictor.only(kept), {name: labels[name][rows] for name in kept})

    def __call__(self, faces: Tensor) -> float:
        seen: Any = self.predictor(faces)
        return float(np.mean([balanced_accuracy(seen[:, n], self.labels[name]) for n, name in enumerate(self.names)]))


if __name__ == "__main__":
    command.run(app)
