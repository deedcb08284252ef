"""The sample grids of a run, small enough to lie inside one page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

GRIDS = 40
STRIP_BYTES = 4_000_000  # of all grids together, before base64 adds a third
LARGE_BYTES = 1_200_000


@dataclass(frozen=True)
class Picture:
    """An encoded picture and the clock's position it belongs to."""

    images: int
    width: int
    height: int
    uri: str


def time_line(folder: Path, count: int = GRIDS, budget: int = STRIP_BYTES) -> list[Picture]:
    """At most `count` grids evenly through `samples/`, first and last among them, in at most about `budget` bytes.

    Files that cannot be read are left out.
    """
    names = [path for path in sorted((folder / "samples").glob("*.png")) if path.stem.isdecimal()]
    grids = [grid for path in _evenly(names, count) if (grid := _open(path)) is not None]
    side = min(880, max((max(grid.size) for _, grid in grids), default=0))
    encoded = [_webp(grid, side, quality=82) for _, grid in grids]
    while side > 100 and (total := sum(len(data) for data, _ in encoded)) > budget:
        side = int(side * min(0.85, 0.95 * (budget / total) ** 0.5))
        encoded = [_webp(grid, side, quality=82) for _, grid in grids]
    return [Picture(at, *size, _uri(data, "webp")) for (at, _), (data, size) in zip(grids, encoded, strict=True)]


def large(folder: Path, images: int) -> Picture | None:
    """The grid at `images` as it is, or re-encoded where its file is too heavy for a page."""
    return named(folder / "samples" / f"{images:09d}.png", images)


def named(path: Path, images: int) -> Picture | None:
    """A grid as it is, or re-encoded where its file is too heavy for a page; None if it cannot be read."""
    picture = _picture(path)
    if picture is None:
        return None
    if path.stat().st_size <= LARGE_BYTES:
        return Picture(images, *picture.size, _uri(path.read_bytes(), "png"))
    return small(images, picture)


def last(folder: Path) -> tuple[int, Image.Image] | None:
    """The last grid of `samples/` that can be read, and the images seen there."""
    names = sorted((path for path in (folder / "samples").glob("*.png") if path.stem.isdecimal()), reverse=True)
    return next((grid for path in names if (grid := _open(path)) is not None), None)


def small(images: int, picture: Image.Image, side: int = 1600) -> Picture:
    """A picture as WebP, at most ``side`` pixels long."""
    data, size = _webp(picture, side, quality=90)
    return Picture(images, *size, _uri(data, "webp"))


def _evenly(paths: Sequence[Path], count: int) -> list[Path]:
    if len(paths) <= count:
        return list(paths)
    return [paths[round(n * (len(paths) - 1) / (count - 1))] for n in range(count)]


def _open(path: Path) -> tuple[int, Image.Image] | None:
    picture = _picture(path)
    return None if picture is None else (int(path.stem), picture)


def _picture(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _webp(picture: Image.Image, side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    picture.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue(), picture.size


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
