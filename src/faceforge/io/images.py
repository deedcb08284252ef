"""Image input and output: strict decoding, the only float <-> uint8 conversion, grids and PNG files.

Tensors are used only through their methods, so that processes that only decode images never import torch.
"""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image, JpegImagePlugin

from faceforge.io import jpeg, kinds
from faceforge.io.files import atomic_path
from faceforge.io.profiles import moves, to_srgb

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS, MAX_SIDE = 2**28, 65_535  # read from the header, before memory is allocated
WHOLE = 65_000_000  # pixels; a JPEG of more is decoded at half the size, or less
DECODE = "strict/2, profiles to sRGB"  # part of every cache's protocol: change it whenever decode() changes a pixel
FORMATS = ("PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "AVIF")  # none that runs another program
MEMORY = 224 * 2**20  # bytes that decoding a small file may take, according to its header
SMALL = 4 * 2**20  # a larger file may take proportionally more
GRID_GAP = 2
_TILE = 2**20  # pixels converted at a time
_ORIENTATION = 0x0112
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"}
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # per pixel; 4 in other modes
_DECODER = {"WEBP": 12, "AVIF": 12, "HEIF": 12, "TIFF": 8, "GIF": 4}  # additional bytes per pixel of a format's decoder
_BITS, _TILE_TAGS = 258, (322, 323)


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


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Uint8 (H, W, 1|3) written as JPEG by Pillow, colour at half the resolution, and read."""
    file = BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(pixels.shape)


def decode(data: bytes, name: str = "picture", factor: int = 1, sha256: str | None = None) -> np.ndarray:
    """A file's bytes as uint8 (H, W, 3) RGB, or (H, W) if the file is grey; the first frame of several.

    Whatever the format: 16 bits become 8, the colour profile is applied (a broken or absent one is sRGB), transparency
    is composited on white, EXIF orientation is undone. Decoding is strict: damage anywhere in the picture raises
    ImageError with the reason, bytes after its end never matter; bytes that do not match a known ``sha256`` (hex) are
    refused undecoded. ``name`` is used only in messages. A JPEG is decoded at 1 / ``factor`` (1, 2, 4 or 8) of its
    size, which is several times faster, and always at a size of at most 65 million pixels. What needs too much memory
    for the file's size is refused from the header, before it is allocated.
    """
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ImageError("its hash is not the one that its manifest lists")
    try:
        is_jpeg = data[:3] == b"\xff\xd8\xff"
        pixels, orientation = _decode_jpeg(data, factor) if is_jpeg else _decode_other(data, name)
        return _orient(pixels, orientation)
    except ImageError:
        raise
    except Exception as error:  # hostile bytes make decoders raise anything; the image is unusable
        raise ImageError(f"cannot be decoded ({type(error).__name__} in {Path(name).name})") from error


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG after its orientation, from the header; None for other files and broken headers."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    try:
        header = jpeg.read(data)
        orientation, profile = _jpeg_tags(data, header)
        given = data if profile else jpeg.without_profile(data, header)
        height, width = (int(side) for side in simplejpeg.decode_jpeg_header(given)[:2])
    except ValueError:
        return None
    return (width, height) if orientation >= 5 else (height, width)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence Pillow's warnings, which concern unused metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ------------------------------------------------------------------------------------------------------------ decoders


def _decode_jpeg(data: bytes, factor: int) -> tuple[np.ndarray, int]:
    """The pixels in sRGB, and the orientation that is still to be undone."""
    try:
        header = jpeg.check(data)
        orientation, profile = _jpeg_tags(data, header)
        data = data if profile else jpeg.without_profile(data, header)  # a broken one would be damage to the decoder
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(int(width), int(height))
        space = {"GRAY": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours.upper(), "RGB")
        channels = {"GRAY": 1, "RGB": 3, "CMYK": 7}[space] + (1 if space == "GRAY" else 3) * (orientation > 1)
        low, narrow = _least(data, header, (int(height), int(width)), channels, factor)
        pixels = simplejpeg.decode_jpeg(data, space, min_height=low, min_width=narrow, strict=True)
    except ValueError as error:
        reason = str(error).strip().rstrip(".")
        kind = "truncated" if "remature end" in reason else "damaged"
        raise ImageError(f"{kind} JPEG: {reason}") from error
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return _in_srgb(pixels, profile), orientation


def _least(data: bytes, header: jpeg.Header, size: tuple[int, int], channels: int, most: int) -> tuple[int, int]:
    """The height and width at which a JPEG is decoded, at most at 1 / ``most``; 0 is its own. Raises ImageError."""
    factor, room, needed = 1, 0, 0
    for factor in (factor for factor in (1, 2, 4, 8) if factor >= most):
        pixels = -(-size[0] // factor) * -(-size[1] // factor)
        needed = size[0] * size[1] * header.buffered + pixels * channels
        if pixels <= WHOLE:
            room = room or _room(data, needed, partial(jpeg.end, data, header))
            if needed <= room:
                break
    _check_memory(data, needed, room, size)
    return (0, 0) if factor == 1 else (-(-size[0] // factor), -(-size[1] // factor))


def _in_srgb(pixels: np.ndarray, profile: bytes | None) -> np.ndarray:
    """An array of a JPEG's grey, RGB or CMYK pixels (as Adobe stores them: inverted) in sRGB, converted in bands."""
    if pixels.shape[2:] != (4,) and not moves(profile, "L" if pixels.ndim == 2 else "RGB"):
        return pixels
    found = np.empty((*pixels.shape[:2], 3), np.uint8) if pixels.shape[2:] == (4,) else pixels
    for left, top, right, bottom in _boxes(pixels.shape[1], pixels.shape[0]):
        band = np.ascontiguousarray(pixels[top:bottom, left:right])
        if found is pixels:
            image = Image.fromarray(band)
        else:
            image = Image.frombytes("CMYK", (right - left, bottom - top), band.tobytes(), "raw", "CMYK;I")
        found[top:bottom, left:right] = np.asarray(to_srgb(image, profile))
    return found


@_quietly()
def _jpeg_tags(data: bytes, header: jpeg.Header) -> tuple[int, bytes | None]:
    """The orientation and the colour profile of a JPEG's header."""
    head = data[: header.start]
    if b"Exif\0\0" not in head and b"ICC_PROFILE\0" not in head:
        return 1, None
    try:
        image = JpegImagePlugin.JpegImageFile(BytesIO(head))
    except Exception:  # the decoder needs none of what Pillow reads here
        return 1, None
    return _orientation(image), image.info.get("icc_profile")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # images with broken EXIF are common and their pixels are valid
        return 1


@_quietly()
def _decode_other(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """The pixels in sRGB, and the orientation that is still to be undone."""
    kind = kinds.kind_of(data, name if data[:2] in (b"II", b"MM") else "")
    if kind is not None and not kinds.readable(kind):
        raise ImageError(f"its format is {kind}, which is not read: {kinds.way_out(kind)}")
    try:
        image = _load(data[: kinds.end_of(data, kind)], ("HEIF",) if kind == "HEIC" else FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"damaged {kind}" if kind else f"not an image ({kinds.what_is(data)})") from error
    except (OSError, SyntaxError, EOFError) as error:
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(f"{kind} image: {error}") from error
    return _to_array(image, image.info.get("icc_profile")), _orientation(image)


def _load(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS} pixels") from error
    _check_pixels(*image.size)
    if image.mode == "F":
        raise ImageError("floating point pixels of unknown range")
    if image.format == "TIFF" and image.mode == "I" and getattr(image, "tag_v2", {}).get(_BITS) == (32,):
        raise ImageError("32-bit pixels of unknown range")
    needed = _memory(image)
    _check_memory(data, needed, _room(data, needed, data.__len__), (image.height, image.width))
    if image.format == "PNG":
        Image.open(BytesIO(data), formats=("PNG",)).verify()  # loading alone does not verify the checksums
    image.load()
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2 ** min(data[24], 8) - 1)  # which is unscaled, at 2 and 4 bits
    return image


# -------------------------------------------------------------------------------------------------------------- limits


def _memory(image: Image.Image) -> int:
    """Peak memory of decoding in bytes, from the header alone."""
    pixels, form, out = image.width * image.height, image.format or "", 1 if image.mode in _GREY else 3
    tags = getattr(image, "tag_v2", {}) if form == "TIFF" else {}
    wide, high = (int(tags.get(tag, 0)) for tag in _TILE_TAGS)  # one tile may be larger than the image
    return pixels * (_BYTES.get(image.mode, 4) + _DECODER.get(form, 0) + out) + wide * high * _DECODER["TIFF"]


def _room(data: bytes, needed: int, end: Callable[[], int]) -> int:
    """Bytes of memory that decoding may take. Padding does not count: a file counts by its compressed size."""
    if needed + 2 * len(data) <= MEMORY:
        return MEMORY - 2 * len(data)
    picture = data[: end()]
    room = MEMORY if needed + 2 * len(picture) <= MEMORY else MEMORY * max(1, len(zlib.compress(picture, 1)) / SMALL)
    return int(room) - 2 * len(picture)


def _check_memory(data: bytes, needed: int, room: int, size: tuple[int, int]) -> None:
    if needed > room:
        found = f"{needed / 2**20:.0f} MiB of memory for {len(data):,} bytes"
        raise ImageError(f"{size[1]}x{size[0]} pixels: needs {found}, more than {room / 2**20:.0f}")


def _check_pixels(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width}x{height} pixels, more than {MAX_SIDE:,} on a side")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels, more than {MAX_PIXELS}")


# -------------------------------------------------------------------------------------------------------------- pixels


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation (TIFF 6.0 / EXIF 2.3, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_array(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """A loaded image's pixels in sRGB, converted in bands to limit memory."""
    boxes = list(_boxes(*image.size))
    if len(boxes) == 1:
        return _tile(image, profile)
    pixels = np.empty((image.height, image.width) if image.mode in _GREY else (image.height, image.width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = _tile(image.crop((left, top, right, bottom)), profile)
    return pixels


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    across = min(width, _TILE)
    down = max(1, _TILE // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def _tile(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """Fewer bits, then the profile, then the ground."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        pixels = np.array(to_srgb(Image.fromarray(_from_16_bits(values)), profile))
        return np.where(values == transparent, 255, pixels).astype(np.uint8) if transparent is not None else pixels
    mode = "L" if image.mode in _GREY else "RGB"
    if image.mode not in _WITH_ALPHA and transparent is None:
        keeps = image.mode in ("CMYK", "LAB") or image.mode == mode
        return np.array(to_srgb(image if keeps else image.convert(mode), profile))
    rgba = image.convert("RGBA")
    if moves(profile, mode):
        alpha = rgba.getchannel("A")
        rgba = to_srgb(rgba.convert("RGB").convert(mode), profile).convert("RGB")
        rgba.putalpha(alpha)
    return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert(mode))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("32-bit pixels of unknown range")
    return ((values + 128) // 257).astype(np.uint8)
