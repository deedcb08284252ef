"""`faceforge filters`: all filters of a crop in one labelled image."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from faceforge.data import filters
from faceforge.data.sources.crops import Crops
from faceforge.errors import BadInput
from faceforge.io.archives import Folder
from faceforge.io.files import short_name
from faceforge.io.images import ImageError, decode, write_png

TILES: tuple[tuple[str, filters.Filter], ...] = (
    ("original", lambda picture: picture),
    ("grey", filters.grey),
    ("thresholds, as published", filters.thresholds),
    ("thresholds, all levels", filters.posterize),
    ("contours", filters.contours),
    ("contours, as published", filters.contours_published),
    ("canny, as published", filters.canny),
    ("canny of the picture", filters.canny_image),
)
COLUMNS = 4
MIN_TILE_WIDTH, MAX_TILE_SIDE = 200, 720  # pixels: labels need this width; the longest side of a tile
GAP, TEXT = 8, 16  # pixels
PAPER, INK = (255, 255, 255), (22, 25, 29)
DEFAULT_FOLDER = Path("_review", "filters")  # data sources skip this folder


def draw(picture: np.ndarray) -> np.ndarray:
    """All filters of a uint8 (H, W, 3) or (H, W) image in one uint8 (H', W', 3), each below its name.

    A small image is enlarged by an integer factor (nearest neighbour); a very large one is shrunk after filtering.
    """
    height, width = picture.shape[:2]
    room = MAX_TILE_SIDE / max(height, width)
    scale = max(1, min(int(room), -(-MIN_TILE_WIDTH // width))) if room >= 1 else room
    tile = max(1, round(height * scale)), max(1, round(width * scale))
    cell = tile[0] + TEXT + 2 * GAP, max(tile[1], MIN_TILE_WIDTH) + GAP
    rows = -(-len(TILES) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell[1] + GAP, rows * cell[0] + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    how = cv2.INTER_NEAREST if scale >= 1 else cv2.INTER_AREA
    for n, (name, function) in enumerate(TILES):
        left, top = GAP + n % COLUMNS * cell[1], n // COLUMNS * cell[0]
        pen.text((left, top + TEXT + GAP // 2), name, INK, font, anchor="ls")
        shown = cv2.resize(function(picture), (tile[1], tile[0]), interpolation=how)
        sheet.paste(Image.fromarray(shown), (left, top + TEXT + GAP + GAP // 2))
    return np.asarray(sheet)


def write_panels(source: Path, out: Path | None, overwrite: bool) -> tuple[int, Path]:
    """Write a panel of an image, or of each crop in a folder; returns the number written, and the file or folder.

    The default for ``out`` is ``_review/filters/`` in the folder of the image or of the crops. Unreadable images are
    reported on stderr and skipped. Raises BadInput if nothing can be written.
    """
    if source.is_dir():
        return _write_folder(source, out or source / DEFAULT_FOLDER, overwrite)
    if not source.is_file():
        raise BadInput(f"{source}: no such image or folder")
    target = out or source.parent / DEFAULT_FOLDER
    target = target if target.suffix.lower() == ".png" else target / _png(source.name)
    _refuse(source, [target], overwrite)
    try:
        _write(draw(decode(Folder(source.parent).read(source.name), source.name)), target)
    except ImageError as error:
        raise BadInput(f"{source}: {error}") from error
    return 1, target


def _write_folder(folder: Path, out: Path, overwrite: bool) -> tuple[int, Path]:
    inside = out.resolve().relative_to(folder.resolve()) if _within(out, folder) else None
    if inside is not None and "_review" not in inside.parts:
        raise BadInput(f"--out {out}: is among the crops, where panels would be read as faces; choose another folder")
    try:
        crops = Crops(str(folder))
    except BadInput as error:
        raise BadInput(str(error).removeprefix("data.root=")) from error
    names = [_png(name) for name in crops.names]
    if len(set(names)) < len(names):  # a.jpg beside a.jpg.png
        names = [_png(name, always=True) for name in crops.names]
    targets = [out / name for name in names]
    _refuse(folder, targets, overwrite)
    written = 0
    for n, target in enumerate(tqdm(targets, unit="panel", disable=None)):
        try:
            _write(draw(crops.read(n, (0, 0))), target)
            written += 1
        except ImageError as error:
            print(f"faceforge: {folder / crops.names[n]}: {error}", file=sys.stderr)
    if not written:
        raise BadInput(f"{folder}: none of its {len(targets)} images can be read")
    return written, out


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _png(name: str, always: bool = False) -> str:
    """The panel's name: that of the image, plus .png unless it is one."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (short_name(last, ".png") if always or not last.lower().endswith(".png") else last)


def _refuse(source: Path, targets: list[Path], overwrite: bool) -> None:
    """Raise BadInput if a target exists; an image is never replaced by its own panel."""
    for target in targets:
        if target.exists() and (not overwrite or target.resolve() == source.resolve()):
            remedy = "choose another --out" if overwrite else "use --overwrite to replace it, or choose another --out"
            raise BadInput(f"{target}: already exists; {remedy}")


def _write(panel: np.ndarray, target: Path) -> None:
    try:
        write_png(panel, target)
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror})") from error
