"""Image input and output: strict decoding, the only float <-> uint8 conversion, grids and PNG files.

Tensors are used only through their methods, so that processes that only decode images never import torch.
"""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image

from faceforge.io import jpeg
from faceforge.io.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS, MAX_SIDE = 50_000_000, 65_535  # read from the header, before memory is allocated
DECODE = "strict/1"  # part of the protocol of every packed cache: change it whenever decode() changes a pixel
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "AVIF")  # none that runs another program
MEMORY = 224 * 2**20  # bytes that decoding a small file may take, according to its header
SMALL = 4 * 2**20  # a larger file may take proportionally more
GRID_GAP = 2
_TILE = 2**20  # pixels converted at a time
_ORIENTATION = 0x0112
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"}
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # per pixel; 4 in other modes
_DECODER = {"WEBP": 12, "AVIF": 12, "TIFF": 8, "GIF": 4}  # additional bytes per pixel of a format's decoder
_TILE_TAGS = (322, 323)


class ImageError(Exception):
    """Why an image cannot be used, in a few words."""


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] to uint8 of the same shape. Clamps; rounds halves to even; nan becomes 0."""
    return ((x.float().nan_to_num(nan=-1.0).clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte()


def from_uint8(x: Tensor) -> Tensor:
    """Uint8 to float32 in [-1, 1], same shape."""
    return x.float() / 127.5 - 1.0


def make_grid(images: Tensor, columns: int | None = None) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1] as one uint8 RGB grid (H', W', 3), row by row on white.

    ``columns`` defaults to the squarest grid. Raises ValueError without images.
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
    """Write uint8 (H, W, 3) or (H, W) atomically as PNG without metadata."""
    with atomic_path(Path(path)) as beside:
        Image.fromarray(array).save(beside, format="PNG")


def decode(
    data: bytes,
    name: str = "picture",
    least: tuple[int, int] | None = None,
    most: int = MAX_PIXELS,
    sha256: str | None = None,
) -> np.ndarray:
    """A file's bytes as uint8 (H, W, 3) RGB, or (H, W) if the file is grey; the first frame of several.

    EXIF orientation is applied, transparency is composited on white, 16 bits become 8. Decoding is strict: damage
    anywhere raises ImageError with the reason; so do bytes that do not match a known ``sha256`` (hex), before they are
    decoded. ``name`` is used only in messages. With ``least`` (height, width, as in the file) a JPEG may be decoded at
    reduced size, not below ``least``, which is several times faster. More than ``most`` pixels, or too much memory for
    the file's size, is refused from the header, before memory is allocated.
    """
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ImageError("its hash is not the one that its manifest lists")
    try:
        return _decode_jpeg(data, least, most) if data[:3] == b"\xff\xd8\xff" else _decode_other(data, most)
    except ImageError:
        raise
    except Exception as error:  # hostile bytes make decoders raise anything; the image is unusable
        raise ImageError(f"cannot be decoded ({type(error).__name__} in {Path(name).name})") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence Pillow's warnings, which concern unused metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode_jpeg(data: bytes, least: tuple[int, int] | None, most: int) -> np.ndarray:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(int(width), int(height), most)
        header = jpeg.check(data)
        orientation = _jpeg_orientation(data)
        space = "GRAY" if colours.upper() == "GRAY" else "RGB"
        channels = {"GRAY": 1, "RGB": 3}[space]
        _check_memory(data, int(width) * int(height) * (header.buffered + channels * (1 + (orientation > 1))))
        if colours in ("CMYK", "YCCK"):
            return _to_array(_load(data, most))
        low, narrow = least or (0, 0)
        pixels = simplejpeg.decode_jpeg(data, space, min_height=low, min_width=narrow, strict=True)
    except ValueError as error:
        reason = str(error).strip().rstrip(".")
        kind = "truncated" if "remature end" in reason else "damaged"
        raise ImageError(f"{kind} JPEG: {reason}") from error
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return _orient(pixels, orientation)


def _jpeg_orientation(data: bytes) -> int:
    return _exif_orientation(data) if b"Exif\0\0" in data else 1


@_quietly()
def _exif_orientation(data: bytes) -> int:
    try:
        return int(Image.open(BytesIO(data), formats=("JPEG",)).getexif().get(_ORIENTATION, 1))
    except Exception:  # images with broken EXIF are common and their pixels are valid
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


@_quietly()
def _decode_other(data: bytes, most: int) -> np.ndarray:
    try:
        image = _load(data, most)
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image ({what_is(data)})") from error
    except (OSError, SyntaxError, EOFError) as error:
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(f"{kind} image: {error}") from error
    orientation = image.getexif().get(_ORIENTATION, 1)
    pixels = _to_array(image)
    del image
    return _orient(pixels, orientation)


@_quietly()
def _load(data: bytes, most: int) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {most} pixels") from error
    _check_pixels(*image.size, most)
    if image.mode == "F":
        raise ImageError("floating point pixels of unknown range")
    _check_memory(data, _memory(image))
    if image.format == "PNG":
        Image.open(BytesIO(data), formats=("PNG",)).verify()  # loading alone does not verify the checksums
    image.load()
    return image


def _memory(image: Image.Image) -> int:
    """Peak memory of decoding in bytes, from the header alone."""
    pixels, form, out = image.width * image.height, image.format or "", 1 if image.mode in _GREY else 3
    tags = getattr(image, "tag_v2", {}) if form == "TIFF" else {}
    wide, high = (int(tags.get(tag, 0)) for tag in _TILE_TAGS)  # one tile may be larger than the image
    return pixels * (_BYTES.get(image.mode, 4) + _DECODER.get(form, 0) + out) + wide * high * _DECODER["TIFF"]


def _check_memory(data: bytes, needed: int) -> None:
    needed += 2 * len(data)
    if needed <= MEMORY:
        return
    # Padding does not count: a compressible file counts by its compressed size.
    allowed = MEMORY * max(1, len(zlib.compress(data, 1)) / SMALL)
    if needed > allowed:
        found = f"{needed / 2**20:.0f} MiB of memory for {len(data):,} bytes"
        raise ImageError(f"needs {found}, more than {allowed / 2**20:.0f}")


def _check_pixels(width: int, height: int, most: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width}x{height} pixels, more than {MAX_SIDE:,} on a side")
    if width * height > most:
        raise ImageError(f"{width}x{height} pixels, more than {most}")


def _to_array(image: Image.Image) -> np.ndarray:
    """A loaded image's pixels, converted in bands to limit memory."""
    boxes = list(_boxes(*image.size))
    if len(boxes) == 1:
        return _tile(image)
    pixels = np.empty((image.height, image.width) if image.mode in _GREY else (image.height, image.width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = _tile(image.crop((left, top, right, bottom)))
    return pixels


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    across = min(width, _TILE)
    down = max(1, _TILE // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def _tile(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image).astype(np.int64))
    mode = "L" if image.mode in _GREY else "RGB"
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba)
    return np.array(image if image.mode == mode else image.convert(mode))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("32-bit pixels of unknown range")
    return ((values + 128) // 257).astype(np.uint8)


def what_is(data: bytes) -> str:
    """What bytes that are no image (or archive) seem to be, in a word or two."""
    head = data[:512].strip().lower()
    if not data:
        return "empty file"
    if head.startswith((b"<!doctype html", b"<html")):
        return "HTML page"
    if all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head):
        return "text"
    return "unknown format"
