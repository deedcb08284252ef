"""Pictures in and out: strict decoding, the only float <-> uint8 code, grids and PNG files.

Tensors are used by their methods only, so that processes which merely decode pictures never import torch.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from faceforge.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 50_000_000  # read from the header, before any memory is taken
DECODE = "strict/1"  # goes into the protocol of every packed set: change it whenever decode() changes a pixel
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "AVIF")  # none that runs another program
GRID_GAP = 2
_ORIENTATION = 0x0112
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_GREY = {"1", "L", "LA", "La"}


class ImageError(Exception):
    """Why a picture cannot be used, in a few plain words."""


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] to uint8 of the same shape. Clamps, never wraps; halves round to even; nan becomes 0."""
    return ((x.float().nan_to_num(nan=-1.0).clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte()


def from_uint8(x: Tensor) -> Tensor:
    """Uint8 to float32 in [-1, 1], same shape."""
    return x.float() / 127.5 - 1.0


def make_grid(images: Tensor, columns: int | None = None) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1] as one uint8 RGB picture (H', W', 3), row by row on white.

    ``columns`` defaults to the squarest grid. Raises ValueError for no images.
    """
    if len(images) == 0:
        raise ValueError("a grid needs at least one image")
    tiles = to_uint8(images.detach()).permute(0, 2, 3, 1).cpu().numpy()
    columns = min(columns or ceil(sqrt(len(tiles))), len(tiles))
    height, width = tiles.shape[1] + GRID_GAP, tiles.shape[2] + GRID_GAP
    rows = ceil(len(tiles) / columns)
    grid = np.full((rows * height - GRID_GAP, columns * width - GRID_GAP, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        top, left = n // columns * height, n % columns * width
        grid[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return grid


def write_png(array: np.ndarray, path: str | Path) -> None:
    """Write uint8 (H, W, 3) or (H, W) as PNG without metadata; the file appears whole or not at all."""
    with atomic_path(Path(path)) as beside:
        Image.fromarray(array).save(beside, format="PNG")


def decode(
    data: bytes, name: str = "picture", least: tuple[int, int] | None = None, most: int = MAX_PIXELS
) -> np.ndarray:
    """A file's bytes as uint8 (H, W, 3) RGB, or (H, W) where the file is grey; the first frame of several.

    EXIF orientation is applied, transparency lies on white, 16 bits become 8. Nothing is guessed: what is
    damaged anywhere raises ImageError with the reason. ``name`` only serves the message. With ``least`` (height,
    width, as the file has them) a JPEG may come reduced, to no less than that, which is several times faster.
    More than ``most`` pixels are refused by what the header says, before any memory is taken.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about metadata that is not used
            return _decode_jpeg(data, least, most) if data[:3] == b"\xff\xd8\xff" else _decode_other(data, most)
    except ImageError:
        raise
    except Exception as error:  # whatever a decoder throws over hostile bytes, the picture is unusable
        raise ImageError(f"cannot be decoded ({type(error).__name__} in {Path(name).name})") from error


def _decode_jpeg(data: bytes, least: tuple[int, int] | None, most: int) -> np.ndarray:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(int(width), int(height), most)
        if colours in ("CMYK", "YCCK"):
            return _to_array(_load(data, most))
        space = "GRAY" if colours.upper() == "GRAY" else "RGB"
        low, narrow = least or (0, 0)
        pixels = simplejpeg.decode_jpeg(data, space, min_height=low, min_width=narrow, strict=True)
    except ValueError as error:
        reason = str(error).strip().rstrip(".")
        kind = "truncated" if "remature end" in reason else "damaged"
        raise ImageError(f"{kind} JPEG: {reason}") from error
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return _orient(pixels, _jpeg_orientation(data))


def _jpeg_orientation(data: bytes) -> int:
    if b"Exif\0\0" not in data:
        return 1
    try:
        return int(Image.open(BytesIO(data), formats=("JPEG",)).getexif().get(_ORIENTATION, 1))
    except Exception:  # pictures with mangled EXIF are common and their pixels are sound
        return 1


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation (TIFF 6.0 / EXIF 2.3, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_other(data: bytes, most: int) -> np.ndarray:
    try:
        image = _load(data, most)
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image ({what_is(data)})") from error
    except (OSError, SyntaxError, EOFError) as error:
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(f"{kind} picture: {error}") from error
    return _to_array(ImageOps.exif_transpose(image))


def _load(data: bytes, most: int) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {most} pixels") from error
    _check_pixels(*image.size, most)
    if image.format == "PNG":
        Image.open(BytesIO(data), formats=("PNG",)).verify()  # loading alone does not look at the checksums
    image.load()
    return image


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise ImageError(f"{width}x{height} pixels, more than {most}")


def _to_array(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image).astype(np.int64))
    if image.mode == "F":
        raise ImageError("floating point pixels of unknown range")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        on_white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba)
        return np.array(on_white.convert("L" if image.mode in _GREY else "RGB"))
    return np.array(image.convert("L" if image.mode in _GREY else "RGB"))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("32-bit pixels of unknown range")
    return ((values + 128) // 257).astype(np.uint8)


def what_is(data: bytes) -> str:
    """What bytes that are no picture (or archive) seem to be, in a word or two."""
    head = data[:512].strip().lower()
    if not data:
        return "empty file"
    if head.startswith((b"<!doctype html", b"<html")):
        return "HTML page"
    if all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head):
        return "text"
    return "unknown format"
