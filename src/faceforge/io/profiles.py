"""Colour profiles (ICC.1) of pictures to sRGB. A broken profile, or one of another colour space, counts as sRGB."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

LARGEST = 4 * 2**20  # bytes; profiles of presses have up to three million
SAME = 2  # levels: a profile that moves no colour further is sRGB, rounded by another program
_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}


def moves(profile: bytes | None, mode: str) -> bool:
    """Whether to_srgb changes the pixels of an image of mode L or RGB."""
    return _fitting(profile, mode) is not None


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode L, RGB, CMYK or LAB in sRGB: mode L stays L, all others become RGB.

    Rendered perceptually, as browsers do. Without a usable profile L and RGB are as they are.
    """
    made = _lab() if image.mode == "LAB" else _fitting(profile, image.mode)
    if made is None:
        return image if image.mode == "L" else image.convert("RGB")
    given = image.convert("RGB") if made.input_mode == "RGB" else image
    found = ImageCms.applyTransform(given, made) or given
    return found.getchannel("G") if image.mode == "L" else found


def _fitting(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of pixels of a mode; a grey picture may have a profile for colour."""
    if not profile or len(profile) > LARGEST:
        return None
    return _transform(profile, mode) or (_transform(profile, "RGB") if mode == "L" else None)


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of a mode's pixels to sRGB; None for a profile that does not fit or that is sRGB itself."""
    if profile[16:20] != _SPACES.get(mode):  # in its header
        return None
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        made = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")
        return made if mode == "CMYK" or _moves(made, mode) else None
    except (ImageCms.PyCMSError, OSError):
        return None


def _moves(made: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform changes any of some thousand colours visibly."""
    levels = np.arange(256) if mode == "L" else np.linspace(0, 255, 17).round()
    axes = np.meshgrid(*[levels] * len(mode), indexing="ij")
    colours = np.stack(axes, -1).astype(np.uint8).reshape(1, -1, len(mode))
    given = Image.fromarray(colours[..., 0] if mode == "L" else colours)
    found = np.asarray(ImageCms.applyTransform(given, made) or given, dtype=np.int16)
    return bool(np.abs(found - colours).max() > SAME)


@lru_cache(maxsize=1)
def _lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
