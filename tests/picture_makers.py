"""Small drawn pictures in every layout that data sources read; no photograph is ever part of the repository."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from faceforge.data.sources.base import Source
from faceforge.data.sources.crops import Crops
from faceforge.data.tasks import NoInput

if TYPE_CHECKING:
    from faceforge.data.datamodule import FaceData

CELEBA_ATTRIBUTES = ["5_o_Clock_Shadow", *(f"Attribute_{n}" for n in range(38)), "Young"]


def picture(n: int, height: int = 40, width: int = 40) -> np.ndarray:
    """A smooth colour picture (H, W, 3) that differs from every other n."""
    y, x = np.mgrid[0:height, 0:width]
    phase = np.array([0.0, 2.0, 4.0]) + n * 0.7
    waves = np.sin((x[..., None] / (5 + n % 7) + y[..., None] / (4 + n % 5)) + phase)
    return (127.5 + 120 * waves).astype(np.uint8)


def encode(array: np.ndarray | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def make_crops(folder: Path, count: int = 12, height: int = 40, width: int = 40) -> Path:
    for n in range(count):
        write(folder / f"{n:03d}.jpg", encode(picture(n, height, width)))
    return folder


def lfw_files(people: int = 6, size: int = 50) -> dict[str, bytes]:
    """Person_p has p % 3 + 1 pictures."""
    names = [(f"Person_{p}", k) for p in range(people) for k in range(1, p % 3 + 2)]
    return {f"{p}/{p}_{k:04d}.jpg": encode(picture(n, size, size)) for n, (p, k) in enumerate(names)}


def celeba_files(count: int = 12) -> dict[str, bytes]:
    return {f"{n:06d}.jpg": encode(picture(n, 218, 178)) for n in range(1, count + 1)}


def celeba_tables(count: int = 12, kaggle: bool = False) -> dict[str, bytes]:
    """The nth picture belongs to person n // 2, has Young where n is odd, and the official split of its third."""
    names = [f"{n:06d}.jpg" for n in range(1, count + 1)]
    flags = {name: ["-1"] * 39 + ["1" if n % 2 else "-1"] for n, name in enumerate(names)}
    people = {name: [str(n // 2)] for n, name in enumerate(names)}
    parts = {name: [str(n * 3 // count)] for n, name in enumerate(names)}
    if kaggle:
        return {
            "list_attr_celeba.csv": _table(flags, ",", f"image_id,{','.join(CELEBA_ATTRIBUTES)}\n"),
            "list_eval_partition.csv": _table(parts, ",", "image_id,partition\n"),
        }
    return {
        "list_attr_celeba.txt": _table(flags, " ", f"{count}\n{' '.join(CELEBA_ATTRIBUTES)} \n", "  "),
        "identity_CelebA.txt": _table(people, " "),
        "list_eval_partition.txt": _table(parts, " "),
    }


def _table(rows: dict[str, list[str]], comma: str, head: str = "", first: str | None = None) -> bytes:
    lines = [name + (first or comma) + comma.join(values) for name, values in rows.items()]
    return (head + "\n".join(lines) + "\n").encode()


def put(files: dict[str, bytes], folder: Path, inside: str = "") -> Path:
    for name, data in files.items():
        write(folder / inside / name, data)
    return folder


def put_zip(files: dict[str, bytes], path: Path, inside: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(inside + name, data)
    return path


def put_tgz(files: dict[str, bytes], path: Path, inside: str = "", extra: tuple[Any, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(inside + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def face_data(root: str | Path | None, source: Callable[..., Source] = Crops, **changes: Any) -> FaceData:
    """A FaceData with the values of conf/data/base.yaml but 16x16 and batches of 4; ``cache`` must be named."""
    from faceforge.data.datamodule import FaceData

    own = {"cache": changes["cache"]} if getattr(source, "name", "") != "drawn" else {}
    values: dict[str, Any] = {
        "source": partial(source, **own),
        "root": None if root is None else str(root),
        "attributes": None,
        "size": 16,
        "channels": 3,
        "batch_size": 4,
        "crop": "center",
        "fraction": 1.0,
        "split": "identity",
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "flip": True,
        "augment": None,
        "workers": 0,
        "max_corrupt_fraction": 0.25,
        "cache": None,
        "seed": 0,
        "task": NoInput(),
    }
    return FaceData(**(values | changes))


def on_pairs(overrides: list[str], place: Path, count: int = 40) -> list[str]:
    """The overrides with pairs instead of drawn faces: pictures and their negatives, in two folders."""
    for n in range(count):
        face = picture(n, 16, 16)
        for folder, image in (("input", 255 - face), ("target", face)):
            write(place / "pairs" / folder / f"{n}.png", encode(image, "PNG"))
    kept = [word for word in overrides if not word.startswith(("data=", "data.source."))]
    return ["data=pairs", f"data.root={place / 'pairs'}", *kept]
