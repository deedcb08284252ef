"""How well a GAN gives back faces that it never saw, by encoder and by optimisation, and what is left of them.

    python -m benchmarks.models.directions RUN     # after `faceforge directions RUN`

Held-out faces go through the GAN and are compared with themselves, beside the mean face and principal components of
the training faces. A predictor that nothing else uses is asked for their attributes: in the faces themselves, and in
what came back. Prints a table and writes a record, which also holds what `faceforge evaluate RUN --edits NAMES` found;
--pictures also writes those of docs/directions.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks import command, records, runs
from benchmarks.pictures import PICTURES, Pixels
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import labelled, predictors
from faceforge.evaluation.predictors import Predictor, balanced_accuracy
from faceforge.io.images import write_png
from faceforge.metrics.linear import Pca
from faceforge.metrics.pairs import psnr, ssim
from faceforge.studio.model import Model, open_model
from faceforge.studio.photo import to_pictures

FACES = 200  # held-out ones
TRAINING = 4000  # of which principal components are computed
STEPS = (0, 100, 500)
JUDGE = 1000  # seed of the predictor, apart from that of `faceforge directions`
TRUSTED = 0.8
SHOWN = 8  # held-out faces in a picture
ATTRIBUTES = ("Smiling", "Eyeglasses", "Wearing_Hat")  # in a picture, above the principal directions
STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
SEEDS = (3, 8)  # of the faces that directions change
ROOM = 190  # pixels beside faces, for names
Back = Callable[[Tensor], Tensor]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument()],
    count: Annotated[int, typer.Option("-n", help="Held-out faces.")] = FACES,
    pictures: Annotated[bool, typer.Option("--pictures")] = False,
    name: Annotated[str, typer.Option(help="Of the record.")] = "directions",
) -> None:
    """Print and record."""
    model = open_model(run, "invert")
    data = runs.faces(model.module.config["data"])
    split = "test" if data.counts["test"] else "val"
    rows = data.rows[split][: min(count, data.counts[split])]
    faces, judge = data.pictures(rows), Judge.of(data, rows)
    some = np.linspace(0, len(faces) - 1, SHOWN).astype(int)  # of different people, whose pictures are together
    found, shown = {}, {"held-out faces": faces[some]}
    for way, back in ways(model, data).items():
        made = back(faces)
        shown[way] = made[some]
        pairs = (made + 1) / 2, (faces + 1) / 2
        found[way] = {
            "psnr": float(psnr(*pairs).mean()),
            "ssim": float(ssim(*pairs).mean()),
            "attributes": judge(made),
        }
        print(f"{way:28s}", " ".join(f"{score} {value:.3f}" for score, value in found[way].items()), flush=True)
    print(f"{'the faces themselves':28s} attributes {judge(faces):.3f} ({len(judge.names)}: {', '.join(judge.names)})")
    if pictures:
        write_png(sheet(shown), PICTURES / "inversion.png")
        write_png(sheet(effects(model)), PICTURES / "directions.png")
    about = {"run": records.portable([str(run)])[0], "images": model.module.clock.images, "manifest": data.manifest}
    about |= {"split": split, "faces": len(rows), "numbers of z": model.coder.latent_size}
    about |= {"attributes": list(judge.names), "attributes of the faces themselves": judge(faces)}
    about |= {"space": dict(model.space.made), "edits": edits_of(run)}
    print(records.keep(name, {**about, "ways": found}))


def edits_of(run: Path) -> dict[str, Any] | None:
    """What `faceforge evaluate RUN --edits NAMES` found, where it was typed: rows at equal cost, and the verdict."""
    file = run / "evaluation.json"
    found = json.loads(file.read_text()).get("edits") if file.exists() else None
    return found and {
        "attributes": [one["attribute"] for one in found["attributes"]],
        "rows": {row["name"]: row["scores"] for row in found["rows"]},
        "verdict": found["verdict"],
        "reasons": found["reasons"],
    }


def ways(model: Model, data: FaceData) -> dict[str, Back]:
    """Each way there and back, by name."""
    known = data.images("train", range(min(TRAINING, data.counts["train"])))

    def components(count: int) -> Back:
        pca = Pca(known, count)
        return lambda faces: pca.decode(pca.encode(faces)).clamp(-1, 1)

    def through(steps: int) -> Back:
        return lambda faces: model.decode(model.invert(faces, steps))

    return {
        "mean face": lambda faces: known.mean(0, keepdim=True).expand_as(faces),
        **{f"{count} principal components": components(count) for count in (32, model.coder.latent_size)},
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


# ------------------------------------------------------------------------------------------------------------ pictures


def effects(model: Model) -> dict[str, Tensor]:
    """What attributes and principal directions do to two random faces, at strengths from -2 to 2, by name."""
    z = torch.cat([model.codes(1, seed).flatten(1) for seed in SEEDS])

    def row(name: str) -> Tensor:
        moved = torch.stack([model.space.edit(z, {name: strength}) for strength in STRENGTHS], 1)
        return model.decode(moved.flatten(0, 1))

    names: Sequence[str] = [*(name for name in ATTRIBUTES if name in model.space.names), *model.space.principal]
    return {name: row(name) for name in names}


def sheet(rows: dict[str, Tensor]) -> Pixels:
    """Rows of faces with their names on the left, uint8 (H, W, 3)."""
    pictures = {name: to_pictures(faces) for name, faces in rows.items()}
    height, width = next(iter(pictures.values()))[0].shape[:2]
    longest = max(map(len, pictures.values()))
    made = Image.new("RGB", (ROOM + longest * (width + 2), len(rows) * (height + 2)), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(14)
    for n, (name, faces) in enumerate(pictures.items()):
        top = n * (height + 2)
        draw.text((ROOM - 8, top + height / 2), name, "black", font, anchor="rm")
        for m, face in enumerate(faces):
            made.paste(Image.fromarray(face), (ROOM + m * (width + 2), top))
    return np.asarray(made)


if __name__ == "__main__":
    command.run(app)
