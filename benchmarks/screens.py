"""More pictures of the documentation: TensorBoard, a model's card, a photo as phones save it, sets of other programs.

    python -m benchmarks.screens              # four minutes

All faces are drawn. Chromium takes the pictures of pages (FACEFORGE_CHROMIUM names it where it is not in the path).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import lmdb
import markdown
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from benchmarks import command, runs
from benchmarks.hostile.profiles import profile, tagged
from benchmarks.models.directions import sheet
from benchmarks.models.pairs import pencil
from benchmarks.pictures import PICTURES, Pixels
from benchmarks.speed.pace import run_quietly
from faceforge import config
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io.images import decode
from faceforge.studio import export
from faceforge.studio.model import open_model
from faceforge.studio.output import to_png
from faceforge.studio.photo import in_colour

FACE, LABEL = 224, 26  # pixels
FORMED, SHOWN = 40, 8  # faces packed for other programs, and how many are shown
STYLE = """<style>body {font: 15px/1.5 sans-serif; margin: 24px; max-width: 760px} td, th {padding: 2px 10px;
border-bottom: 1px solid #ddd; text-align: left} code {background: #f2f2f2} h1, h2 {font-weight: 600}</style>"""


def phone() -> Pixels:
    """A photo as phones save it, on its side and in wide colours: its bare pixels, and as it is read here."""
    soft = Drawn(count=6, seed=2026).read(5, (FACE, FACE))
    wide, file = tagged(soft, "Display P3"), BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    turned = Image.fromarray(np.rot90(np.asarray(wide)))
    turned.save(file, "JPEG", quality=97, exif=exif, icc_profile=profile("Display P3"))
    bare, read = np.asarray(Image.open(BytesIO(file.getvalue()))), decode(file.getvalue())
    sheet = Image.new("RGB", (3 * FACE + 2 * 8, FACE + LABEL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for n, (name, pixels) in enumerate({"bare pixels": bare, "as read here": read, "as it was": soft}.items()):
        left = n * (FACE + 8)
        draw.text((left + FACE / 2, LABEL / 2), name, "black", font, anchor="mm")
        sheet.paste(Image.fromarray(pixels), (left, LABEL))
    return np.asarray(sheet)


def forms(place: Path) -> Pixels:
    """The same faces packed for eight other programs, each read by the command that `faceforge data check` names."""
    source = Drawn(count=FORMED, seed=2026)
    faces = [source.read(n, (64, 64)) for n in range(FORMED)]
    rows = {}
    for name, path in packed(faces, place).items():
        words = [word for word in shlex.split(check(path).command)[2:] if word.startswith("data")]
        composed = config.compose([*words, "data.size=64", "data.batch_size=2"])
        rows[name] = runs.faces(composed["data"]).pictures(np.arange(SHOWN))
    return sheet(rows)


def packed(faces: Sequence[Pixels], place: Path) -> dict[str, Path]:
    """Faces as other programs want them, by the name of the program."""
    coded = [to_png(face, None) for face in faces]
    folders = {
        "StyleGAN2-ADA": {f"00000/img{n:08d}.png": data for n, data in enumerate(coded)},
        "FFHQ": {f"{n // 10:05d}/{n:05d}.png": data for n, data in enumerate(coded)},
        "ImageFolder": {f"{'ab'[2 * n // len(coded)]}/{n:03d}.png": data for n, data in enumerate(coded)},
        "Hugging Face": {f"{n:03d}.png": data for n, data in enumerate(coded)},
        "pix2pix": {
            f"{n:03d}.png": to_png(np.hstack([in_colour(pencil(face)), face]), None) for n, face in enumerate(faces)
        },
    }
    folders["StyleGAN2-ADA"]["dataset.json"] = b'{"labels": null}'
    listed = "".join(f"{n:03d}.png,{n % 2}\n" for n in range(len(coded)))
    folders["Hugging Face"]["metadata.csv"] = f"file_name,Smiling\n{listed}".encode()
    for name, files in folders.items():
        for file, data in files.items():
            path = place / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    np.savez(place / "faces.npz", images=np.stack(faces))
    with lmdb.open(str(place / "faces.lmdb"), map_size=2**24) as opened, opened.begin(write=True) as entries:
        for n, data in enumerate(coded):
            entries.put(f"{n:05d}".encode(), data)
    with tarfile.open(place / "faces-000000.tar", "w") as tar:
        for n, data in enumerate(coded):
            entry = tarfile.TarInfo(f"{n:05d}.png")
            entry.size = len(data)
            tar.addfile(entry, BytesIO(data))
    others = {"NumPy": "faces.npz", "LMDB": "faces.lmdb", "WebDataset": "faces-000000.tar"}
    return {name: place / name for name in folders} | {name: place / file for name, file in others.items()}


def beside(face: Pixels) -> Pixels:
    """A pencil drawing, and the face on its right."""
    return np.hstack([in_colour(pencil(face)), face])


@contextmanager
def browser(width: int, height: int) -> Iterator[Page]:
    """A page of a real browser."""
    path = os.environ.get("FACEFORGE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        raise BadInput("there is no Chromium here; must be in the path, or named by FACEFORGE_CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened.new_page(viewport={"width": width, "height": height})
        opened.close()


def trained(folder: Path) -> Path:
    """A GAN of drawn faces, with its scores."""
    run = folder / "runs" / "gan"
    few = ["data.source.count=2000", "trainer.max_images=12000", "trainer.sample_every=3000", "trainer.log_every=500"]
    where = [f"run_dir={run}", "trainer.gpus=0", "logger.mode=disabled", "logger=tensorboard"]
    run_quietly(["model=dcgan_conventional", *few, *where])
    subprocess.run([*command.FACEFORGE, "evaluate", str(run), "-n", "500"], check=True, stdout=subprocess.DEVNULL)
    return run


def card(run: Path, folder: Path) -> None:
    """The card that an export of a model carries."""
    export.write_folder(open_model(run), folder / "exported", "drawn by faceforge, free to use")
    text = (folder / "exported" / "README.md").read_text().split("---\n", 2)[-1]
    page = folder / "card.html"
    page.write_text(STYLE + markdown.markdown(text, extensions=["tables", "fenced_code"]), encoding="utf-8")
    with browser(820, 640) as shown:
        shown.goto(page.as_uri())
        shown.screenshot(path=PICTURES / "card.png", full_page=True)


def tensorboard(runs: Path) -> None:
    """The pictures of runs in TensorBoard."""
    words = ["--logdir", runs, "--port", "6399", "--samples_per_plugin", "images=50"]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *map(str, words)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                urllib.request.urlopen("http://127.0.0.1:6399", timeout=1)
                break
            except OSError:
                continue
        with browser(1000, 760) as shown:
            shown.goto("http://127.0.0.1:6399/#images", timeout=60_000)
            shown.wait_for_timeout(8000)
            shown.screenshot(path=PICTURES / "tensorboard.png", clip={"x": 270, "y": 80, "width": 400, "height": 600})
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Make all of them."""
    torch.set_num_threads(1)
    Image.fromarray(phone()).save(PICTURES / "phone.png", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(forms(Path(folder))).save(PICTURES / "forms.png")
        run = trained(Path(folder))
        card(run, Path(folder))
        tensorboard(run.parent)
    for name in ("card", "forms", "tensorboard"):
        Image.open(PICTURES / f"{name}.png").convert("P", palette=Image.Palette.ADAPTIVE, colors=255).save(
            PICTURES / f"{name}.png", optimize=True
        )


if __name__ == "__main__":
    command.run(main)
