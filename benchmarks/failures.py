"""The failure gallery, docs/failures.md: trainings made to fail on drawn faces, each beside one that was mended.

python -m benchmarks.failures run collapse        # two runs of a few minutes: a record and two grids
python -m benchmarks.failures page                # the page, from the records
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from benchmarks import records
from benchmarks.command import FACEFORGE, ROOT, place_of, run
from benchmarks.results.curves import svg
from faceforge import notebook
from faceforge.errors import BadInput
from faceforge.report.diagnosis import FIGURES

PAGE = ROOT / "docs" / "failures.md"
PICTURES = ROOT / "docs" / "pictures" / "failures"
COMMON = ["data=drawn", "data.source.count=2000", "trainer.gpus=0", "logger.mode=disabled", "seed=1"]
WAYS = ("failed", "mended")
SAID = "faceforge: "  # how a run's last words begin
POINTS, COLUMNS = 20, 8  # of a curve, of a grid
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Failure:
    """A failure, how it is provoked and mended, the figure that shows it, and what to say of it."""

    name: str
    title: str
    figure: str
    common: Sequence[str]  # overrides of both runs
    failing: Sequence[str]
    mending: Sequence[str]
    happens: str
    remedy: str
    rows: int = 2  # of the last grid that are kept


GAN = ("model=dcgan_conventional", "data.size=32", "trainer.max_images=8000", "trainer.checkpoint_every=1000")
SLOW_JUDGE = ("model.optimizer_g.lr=2e-3", "model.optimizer_d.lr=1e-4")
CODE = ("model=latent_editor", "model/encoder=conv", "model/decoder=conv", "data.size=32")
FAILURES = (
    Failure(
        "collapse",
        "Mode collapse",
        "val/diversity",
        GAN,
        ("model.objective=non_saturating", "model.r1_gamma=0", "model.r2_gamma=0", *SLOW_JUDGE),
        (),
        "The generator has found a picture that the discriminator takes for real, and makes it whatever the noise is. "
        "The discriminator learns this picture, and the generator moves on to the next. Here it learns twenty times "
        "as fast as the discriminator.",
        "Penalties on the gradient of the discriminator, a relativistic loss and equal learning rates: the defaults.",
    ),
    Failure(
        "checkerboard",
        "Checkerboard",
        "val/checkerboard",
        ("model=dcgan_conventional", "trainer.max_images=8000", "trainer.checkpoint_every=1000"),
        ("model/generator=published_conventional",),
        (),
        "Transposed convolutions whose kernel is no multiple of their stride write some pixels more often than "
        "others, in a grid (Odena et al. 2016, doi 10.23915/distill.00003). Here kernel 3 with stride 3 and kernel 3 "
        "with stride 2.",
        "Kernel 4 with stride 2, a pixel shuffle that starts with equal phases, or resampling and a convolution.",
    ),
    Failure(
        "posterior",
        "Posterior collapse",
        "val/active_units",
        (*CODE, "model/code=gaussian", "trainer.max_images=12000", "trainer.checkpoint_every=1000"),
        ("model.kl_weight=300", "model.kl_anneal=0"),
        (),
        "The divergence from N(0, 1) outweighs the pictures. The cheapest code says nothing about a face, and the "
        "decoder shows the mean face for all.",
        "A smaller `model.kl_weight`, raised over the first images (`model.kl_anneal`), or some nats for free "
        "(`model.free_nats`).",
    ),
    Failure(
        "regression",
        "Regression to the mean",
        "val/variance_ratio",
        ("model=pix2pix", "data.size=64", "trainer.max_images=4000", "trainer.sample_every=1000"),
        ("task=noise",),
        ("task=canny",),
        "The input says nothing about the face: here it is noise. The prediction with the least error is then the "
        "mean of all faces, and that is what a loss per pixel teaches.",
        "An input that says more, here the edges. If several pictures are possible, a loss that judges whole pictures"
        " instead of pixels (`model.adversarial_weight`), or a model that draws one of them.",
    ),
    Failure(
        "overfitting",
        "Overfitting",
        "val/gap",
        (*CODE, "model/code=relu", "trainer.max_images=30000", "trainer.sample_every=5000"),
        ("data.source.count=100", "data.flip=false"),
        (),
        "80 faces are learned by heart: the error on them falls and the error on other people does not follow.",
        "More faces, here 2,000; mirrored faces and `data.augment=light`; the best checkpoint by validation is kept "
        "anyway, and `model/stop=early` ends the run there.",
    ),
    Failure(
        "nan",
        "Not a number",
        "loss/generator",
        ("model=dcgan_conventional", "trainer.max_images=2000", "trainer.sample_every=1000", "trainer.log_every=64"),
        ("model.optimizer_g.lr=1e30",),
        (),
        "A step so large that weights overflow. All that is computed from them is infinite or not a number, and so is"
        " every later step.",
        "A smaller rate, or `model.clip_norm=1`. `guard.action=rollback` returns to the last checkpoint by itself; "
        "every checkpoint is from before the damage.",
    ),
)


@app.command(name="run")
def make(
    name: Annotated[str, typer.Argument(help="A failure, or all.")],
    place: Annotated[Path | None, typer.Option(help="A folder for the runs.")] = None,
) -> None:
    """Train both runs of a failure and keep their curves, grids and last words."""
    chosen = [failure for failure in FAILURES if name in (failure.name, "all")]
    if not chosen:
        raise BadInput(f"{name}: no such failure; must be all or {', '.join(each.name for each in FAILURES)}")
    for failure in chosen:
        with place_of(place) as folder:
            found = {way: trained(failure, way, folder / f"{failure.name}-{way}") for way in WAYS}
        records.keep(f"failures/{failure.name}", {"figure": failure.figure, "runs": found})


def trained(failure: Failure, way: str, folder: Path) -> dict[str, Any]:
    """What is kept of one run: its command, its curve, its last words, its last grid."""
    words = [*COMMON, *failure.common, *(failure.failing if way == "failed" else failure.mending)]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*FACEFORGE, "train", *words, f"run_dir={folder}"], capture_output=True, text=True, env=threads, check=False
    )
    if not (folder / "run.json").is_file():
        raise BadInput(f"{failure.name}: the run did not begin: {done.stderr.strip()}")
    about = json.loads((folder / "run.json").read_text())
    known = notebook.metrics(folder) if (folder / "metrics.csv").is_file() else {}
    images, values = known.get(failure.figure, ([], []))
    grids = sorted((folder / "samples").glob("*.png"))
    if grids:
        keep_rows(grids[-1], failure.rows, PICTURES / f"{failure.name}-{way}.png")
    return {
        "command": shlex.join(["python", "train.py", *words]),
        "images": about["images"],
        "seconds": about["seconds"],
        "status": about["status"],
        "code": done.returncode,
        "said": [line.replace(f"{folder.parent}/", "runs/") for line in done.stderr.splitlines() if SAID in line][-1:],
        "curve": thinned(list(map(int, images)), [float(f"{value:.5g}") for value in values]),
        "grid": f"{failure.name}-{way}.png" if grids else None,
    }


def thinned(images: Sequence[int], values: Sequence[float]) -> dict[str, list[Any]]:
    """Every so many points of a curve, and the last."""
    kept = sorted({*range(0, len(images), max(1, len(images) // POINTS)), len(images) - 1} - {-1})
    return {"images": [images[n] for n in kept], "mean": [values[n] for n in kept]}


def keep_rows(grid: Path, rows: int, kept: Path) -> None:
    """The uppermost rows of a grid of eight faces a row."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(grid) as picture:
        side = picture.width // COLUMNS
        picture.crop((0, 0, picture.width, min(picture.height, rows * side + 2))).save(kept, optimize=True)


@app.command()
def page() -> None:
    """Write docs/failures.md and its curves from the records."""
    PAGE.write_text(text(), encoding="utf-8")
    for failure in FAILURES:
        drawn = curve(failure)
        if drawn:
            (PICTURES / f"{failure.name}.svg").write_text(drawn, encoding="utf-8")


def record(failure: Failure) -> dict[str, Any]:
    return records.read(f"failures/{failure.name}")


def curve(failure: Failure) -> str | None:
    """The figure of both runs over the images they have seen."""
    runs = record(failure).get("runs", {})
    return svg(
        failure.figure, [(way, runs[way]["curve"]) for way in WAYS if way in runs and runs[way]["curve"]["images"]]
    )


def text() -> str:
    """The page."""
    lines = ["# Failures, and how to see them", ""]
    lines += [
        "Six ways in which a training fails, each provoked on drawn faces and shown beside the same training mended."
    ]
    lines += [
        "`report.html` of every run shows these figures. `python -m benchmarks.failures run NAME` makes the two runs of"
    ]
    lines += ["a failure again, in a few minutes.", ""]
    for failure in FAILURES:
        lines += list(section(failure, record(failure)))
    return "\n".join(lines)


def section(failure: Failure, kept: Mapping[str, Any]) -> Iterator[str]:
    """One failure."""
    yield from (f"## {failure.title}", "", failure.happens, "")
    if not kept:
        yield from ("Not run yet.", "")
        return
    for way in WAYS:
        found = kept["runs"][way]
        told = f"{way}, {found['images']:,} images, {found['seconds'] / 60:.1f} minutes"
        yield from (f"`{found['command']}`", "")
        if found["grid"]:
            yield from (f"![{failure.title}: {told}](pictures/failures/{found['grid']})", "", f"*{told}*", "")
        if found["said"]:
            yield from ("```", *found["said"], "```", "")
    if curve(failure):
        yield from (f"![{failure.figure} of both runs](pictures/failures/{failure.name}.svg)", "")
    if failure.figure in FIGURES:
        yield from (f"**What the report says of `{failure.figure}`.** {FIGURES[failure.figure][1]}", "")
    source = f"results/records/failures/{failure.name}.json"
    yield from (f"**Remedy.** {failure.remedy}", "", f"[Record]({source}).", "")


if __name__ == "__main__":
    run(app)
