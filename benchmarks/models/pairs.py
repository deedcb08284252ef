"""pix2pix on pairs of one's own: pencil drawings to faces.

    python -m benchmarks.models.pairs drawn                 # drawn faces and pencil drawings of them
    python -m benchmarks.models.pairs public FOLDER         # a set with the folders sketches and photos

Each trains, scores the run on pairs that it never saw, and adds to one record; ``drawn`` also makes the picture of
docs/translation.md.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer

from benchmarks import command, records, runs
from benchmarks.models.directions import sheet
from benchmarks.pictures import PICTURES, Pixels
from benchmarks.speed.pace import run_quietly
from faceforge.data.sources.drawn import Drawn
from faceforge.io.images import write_png
from faceforge.studio.model import open_model

PAIRS, SIDE = 1500, 96  # and pixels of their sides
IMAGES = 20_000  # drawn in training
SHOWN = 8
NAME = "pairs"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


def pencil(face: Pixels) -> Pixels:
    """A pencil drawing of a face, uint8 (H, W, 3) to (H, W): grey divided by blurred grey, which leaves edges."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(grey, (0, 0), 3)
    return np.asarray(cv2.divide(grey, blurred, scale=245), dtype=np.uint8)


@app.command()
def drawn(count: int = PAIRS, images: int = IMAGES) -> None:
    """Train on drawn faces, and make the picture."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "my_pairs"
        for name in ("pencil", "faces"):
            (folder / name).mkdir(parents=True)
        source = Drawn(count=count, seed=2026)
        people = ["input,target,person"]
        for n in range(count):
            face = source.read(n, (SIDE, SIDE))
            write_png(face, folder / "faces" / f"{n}.png")
            write_png(pencil(face), folder / "pencil" / f"{n}.png")
            people.append(f"pencil/{n}.png,faces/{n}.png,{n // 4}")  # four pictures of each person
        (folder / "my_pairs.csv").write_text("\n".join(people) + "\n")
        run = _trained(folder / "my_pairs.csv", [], images, Path(place) / "run")
        record("drawn", run)
        model, data = open_model(run), runs.faces(open_model(run).module.config["data"])
        pairs = data.pairs("test", range(SHOWN))
        rows = {"pencil": pairs["input"], "made of it": model.predict(pairs["input"]), "the face": pairs["target"]}
        write_png(sheet(rows), PICTURES / "pairs.png")


@app.command()
def public(folder: Annotated[Path, typer.Argument()], images: int = IMAGES) -> None:
    """Train on a set with the folders sketches and photos."""
    with tempfile.TemporaryDirectory() as place:
        record(folder.name, _trained(folder, ["data.source.input=sketches"], images, Path(place) / "run"))


def _trained(root: Path, words: list[str], images: int, run: Path) -> Path:
    own = [f"data.root={root}", f"data.size={SIDE if root.suffix else 64}", f"trainer.max_images={images}"]
    where = ["trainer.gpus=0", "logger.mode=disabled", "seed=1", f"run_dir={run}"]
    run_quietly(["model=pix2pix", "task=pairs", "data=pairs", *own, *words, *where])
    subprocess.run([*command.FACEFORGE, "evaluate", str(run)], check=True)
    return run


def record(name: str, run: Path) -> None:
    """Add the scores of a run to the record."""
    about, scored = (json.loads((run / f"{file}.json").read_text()) for file in ("run", "evaluation"))
    found: dict[str, Any] = records.read(NAME).get("sets", {})
    found[name] = {
        **{key: about[key] for key in ("images", "seconds", "device", "seed")},
        "command": records.portable(about["command"].split()),
        "pairs": about["data"]["counts"],
        "manifest": about["data"]["manifest"],
        "rows": {row["name"]: row["scores"] for row in scored["rows"]},
        "verdict": scored["verdict"],
        **{"threads": torch.get_num_threads()},
    }
    print(records.keep(NAME, {"sets": found}))


if __name__ == "__main__":
    command.run(app)
