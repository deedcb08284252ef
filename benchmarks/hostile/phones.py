"""Photos of the kinds that phones and programs make, from ordinary ones: none may be lost or change its colours.

python -m benchmarks.hostile.phones PHOTOS /tmp/phones --count 2000

Every photo gets an orientation, a colour profile, a trailer and an ending by turns; some are as large as phones make
them. They are decoded and compared with their originals, cut, trained on, and sent to the page. Nothing is kept.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.hostile.profiles import profile, tagged
from faceforge.io.images import decode

PROFILES = ("", "sRGB", "Display P3", "Adobe RGB", "junk")
ENDINGS = (".jpg", ".JPG", ".jpeg", ".jpe", ".jfif", ".jpg_large", "", ".jpg~orig", ".png", ".webp", ".tif")
TRAILERS = ("none", "zeros", "sector", "second", "gain map", "film")
SIZES = ((5712, 4284), (8160, 6144), (12000, 9000))  # an iPhone's, and two of Android
TURNED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that stores an upright photo so, by orientation
LEVELS = 1.5  # of 255: allowed mean difference of a photo from its original


@dataclass(frozen=True)
class Made:
    """A photo as a phone would have written it, and what it must be read as, uint8 (H, W, 3)."""

    name: str
    data: bytes
    original: np.ndarray


def trailer(kind: str, data: bytes) -> bytes:
    """What follows the end of a picture."""
    small = io.BytesIO()
    Image.new("RGB", (64, 48), "grey").save(small, "JPEG")
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\1\0mdat" + random.Random(len(data)).randbytes(9000)
    return {
        "none": b"",
        "zeros": bytes(8),
        "sector": bytes(-len(data) % 512 or 512),
        "second": small.getvalue() + bytes(30) + small.getvalue(),
        "gain map": small.getvalue().replace(b"JFIF\0", b"Exif\0", 1) + b"hdrgm:Version",
        "film": bytes(16) + film,
    }[kind]


def phone_photo(pixels: np.ndarray, n: int, size: tuple[int, int] | None = None) -> Made:
    """The nth photo of ``pixels``, uint8 (H, W, 3); all kinds of each property come by turns. ``size`` is w x h."""
    draw = random.Random(n)
    ending, name = ENDINGS[n % len(ENDINGS)], PROFILES[n // 2 % len(PROFILES)]
    upright = Image.fromarray(pixels)
    if size:
        ending, upright = ".jpg", upright.resize(size, Image.Resampling.BICUBIC)
    known = name if name in PROFILES[1:-1] else ""
    given = np.asarray(upright)
    image = tagged(given, known) if known else upright
    orientation = 1 + draw.randrange(8)
    stored = image if orientation == 1 else image.transpose(Image.Transpose(TURNED[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    kind = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF"}.get(ending, "JPEG")
    quality = {
        "JPEG": {"quality": 97, "subsampling": 0, "progressive": n % 5 == 4 and not size},
        "WEBP": {"lossless": True},
    }
    written = io.BytesIO()
    icc = profile(known) if known else b"junk" if name else None
    stored.save(written, kind, exif=exif, icc_profile=icc, **quality.get(kind, {}))
    data = written.getvalue()
    return Made(f"IMG_{n:04d}{ending}", data + trailer(TRAILERS[n // 3 % len(TRAILERS)], data), given)


def phone_photos(sources: Sequence[Path], count: int, large: int) -> Iterator[Made]:
    """``count`` photos of which the first ``large`` have the sizes of phones; every source is used by turns."""
    for n in range(count):
        pixels = decode(sources[n % len(sources)].read_bytes())
        pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        yield phone_photo(pixels, n, SIZES[n % len(SIZES)] if n < large else None)


def difference(made: Made) -> float:
    """The mean difference of a photo, as it is read, from its original, in levels of 255."""
    found = decode(made.data, made.name)
    wanted = Image.fromarray(made.original)
    if found.shape != made.original.shape:
        factor = round(made.original.shape[0] / found.shape[0])
        wanted = wanted.reduce(factor)
    return float(np.abs(found.astype(np.int16) - np.asarray(wanted)).mean())


# ------------------------------------------------------------------------------------------------------ what is found


def decoded(sources: Sequence[Path], folder: Path, count: int, large: int) -> dict[str, float]:
    """Write the photos and compare each with its original."""
    differences = []
    for made in phone_photos(sources, count, large):
        (folder / made.name).write_bytes(made.data)
        differences.append(difference(made))
    found = np.array(differences)
    off = int((found > LEVELS).sum())
    return {"photos": count, "worst": float(found.max()), "median": float(np.median(found)), "off": off}


def faceforge(*words: str) -> str:
    """The output of the command."""
    command = [sys.executable, "-c", "from faceforge.cli import run; run()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit(f"faceforge {' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def cut(folder: Path, target: Path) -> dict[str, int]:
    """Cut the photos; how many have a row, and how many were not read."""
    faceforge("cut", str(folder), str(target))
    with (target / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    unread = [row for row in rows if row["verdict"] == "none" and row["reason"] != "no face found"]
    verdicts = Counter(row["verdict"] for row in rows)
    return {"cut_photos": len({row["source"] for row in rows}), "cut_unread": len(unread), **verdicts}


def trained(folder: Path, run: Path) -> dict[str, int]:
    """Train two steps on the photos; how many were packed and how many could not be used."""
    words = f"run_dir={run} data=crops data.size=16 data.batch_size=4 trainer.max_steps=2 trainer.gpus=0"
    faceforge(
        "train", *words.split(), f"data.root={folder}", f"data.cache={run.parent / 'cache'}", "logger.mode=disabled"
    )
    data = json.loads((run / "run.json").read_text())["data"]
    return {"trained": sum(data["counts"].values()), "train_skipped": len(data["skipped"])}


def on_the_page(folder: Path) -> dict[str, int]:
    """Ask the page for the faces of every photo: how many it answered, found without a face, or refused."""
    from faceforge.errors import BadInput
    from faceforge.studio.model import open_model
    from faceforge.studio.web.handlers import NO_FACE, Ask, answer

    model, told = open_model("drawn:latent_editor"), Counter[str](page_faces=0, page_no_face=0, page_refused=0)
    for path in sorted(folder.iterdir()):
        try:
            answer("faces", model, Ask({}, [path.read_bytes()]))
            told["page_faces"] += 1
        except BadInput as error:
            told["page_no_face" if str(error).startswith(NO_FACE) else "page_refused"] += 1
    return dict(told)


def main(
    photos: Annotated[Path, typer.Argument(help="A folder of ordinary photos.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the made photos and what becomes of them.")],
    count: Annotated[int, typer.Option(help="How many are made.")] = 2000,
    large: Annotated[int, typer.Option(help="How many of them have the size of a phone's photos.")] = 9,
) -> None:
    """Make the photos and print the figures as JSON."""
    sources = sorted(p for p in photos.iterdir() if re.fullmatch(r"\.(jpe?g|png)", p.suffix.lower()))
    (out / "photos").mkdir(parents=True)
    figures = decoded(sources, out / "photos", count, large)
    for step in (lambda: cut(out / "photos", out / "faces"), lambda: trained(out / "photos", out / "run")):
        figures |= step()
        print(json.dumps(figures), flush=True)
    print(json.dumps({**figures, **on_the_page(out / "photos")}))


if __name__ == "__main__":
    typer.run(main)
