"""From a decoded image to the pixels of a face: a named crop, then one antialiased resize.

"CelebA at 64x64" is at least seven different datasets, so every crop has a name and the protocol is hashed; scores of
different protocols are not comparable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from PIL import Image

from faceforge.errors import BadInput
from faceforge.io.images import DECODE, ImageError

RESIZE = "torch-bicubic-antialiased/1"  # part of the protocol: change it whenever frame() changes a pixel
PUBLISHED_BOX = (20, 45, 150, 185)  # left, top, right, bottom in a 178x218 CelebA image: 130x140
BAND = 2**20  # pixels processed at a time
CROPS = ("none", "center", "published", "c140")
BOX = re.compile(r"box-(\d+)-(\d+)-(\d+)-(\d+)")  # left, top, right, bottom of any fixed box
PROTOCOLS = {  # users of each crop of CelebA's aligned 178x218 images, according to their code or threads
    "c108": "early DCGAN code (pytorch/vision#3708)",
    "c128": "TwoStageVAE (daib13/TwoStageVAE#3)",
    "c140": "score-SDE and what follows it (INDM#1); the default of data=celeba",
    "c148": "PyTorch-VAE",
    "c160": "compare_gan, the large study of arXiv 1711.10337",
    "c178": "mimicry: the SNGAN, SSGAN and InfoMax-GAN tables",
    "none": "DDPM-IP (#31): the whole picture, squeezed into a square",
    "published": f"the first GAN published here: the box {PUBLISHED_BOX}, 130x140",
}

Box = tuple[int, int, int, int]


def protocol_name(source: str, crop: str, size: tuple[int, int], channels: int) -> str:
    """The name of a protocol, height before width: celeba-c140-64x64x3."""
    return f"{source}-{crop}-{size[0]}x{size[1]}x{channels}"


def check_crop(crop: str) -> None:
    """Raise BadInput for an unknown crop; c<N> is a centred square of N pixels, box-L-T-R-B a fixed box."""
    if crop in CROPS or re.fullmatch(r"c[1-9]\d*", crop):
        return
    if box := BOX.fullmatch(crop):
        left, top, right, bottom = map(int, box.groups())
        if left < right and top < bottom:
            return
        raise BadInput(f"data.crop={crop}: an empty box; must be box-LEFT-TOP-RIGHT-BOTTOM in pixels")
    nearest = get_close_matches(crop, CROPS, n=1, cutoff=0.0)[0]
    choices = "none, center, published, c<N> (a centred square of N pixels, such as c140) or box-LEFT-TOP-RIGHT-BOTTOM"
    raise BadInput(f"data.crop={crop}: no such crop, the nearest is {nearest}; choose {choices}")


def crop_box(crop: str, height: int, width: int, size: tuple[int, int]) -> Box:
    """(left, top, right, bottom) of ``crop`` in an image of height x width for a target ``size``.

    none is the whole image; center the largest centred box with the target's aspect; published a fixed box; c<N> a
    centred square; box-L-T-R-B that box. Raises ImageError if the box is not inside the image.
    """
    if crop == "none":
        return 0, 0, width, height
    if crop == "center":
        box = _centred(height, width, *_largest(height, width, size))
    elif crop == "published":
        box = PUBLISHED_BOX
    elif fixed := BOX.fullmatch(crop):
        left, top, right, bottom = map(int, fixed.groups())
        box = left, top, right, bottom
    else:
        box = _centred(height, width, int(crop[1:]), int(crop[1:]))
    if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
        raise ImageError(f"{width}x{height} pixels, too small for the crop {crop}")
    return box


def _largest(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the largest box with the target's aspect, in whole pixels, at least one."""
    target_height, target_width = size
    if width * target_height > height * target_width:
        return height, max(1, round(height * target_width / target_height))
    return max(1, round(width * target_height / target_width)), width


def _centred(height: int, width: int, box_height: int, box_width: int) -> Box:
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return left, top, left + box_width, top + box_height


def frame(pixels: np.ndarray, crop: str, size: tuple[int, int], channels: int) -> np.ndarray:
    """Crop, resize and set the channels: uint8 (H, W, 3) or (H, W) to contiguous uint8 (C, *size).

    Pillow's bicubic filter (a = -1/2), antialiased when downscaling (as clean-fid recommends, arXiv 2104.11222),
    computed by torch's uint8 kernel: four times as fast, identical on any processor, and within two levels of Pillow,
    because its weights are rounded to 16 bits. Grey is repeated for three channels, colour becomes Rec. 601 luma
    for one. Raises ImageError as crop_box.
    """
    left, top, right, bottom = crop_box(crop, pixels.shape[0], pixels.shape[1], size)
    cut = pixels[top:bottom, left:right]
    face = _resized(cut if cut.ndim == 3 else cut[..., None], size)
    if face.shape[2] == channels:
        return np.ascontiguousarray(face.transpose(2, 0, 1))
    if channels == 3:
        return np.repeat(face.transpose(2, 0, 1), 3, 0)
    return grey(face)[None]


def grey(face: np.ndarray) -> np.ndarray:
    """The Rec. 601 luma of uint8 (H, W, 3), (H, W)."""
    return np.asarray(Image.fromarray(face).convert("L"))


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, C) to (*size, C): along the rows, in bands, then along the columns."""
    height, width = pixels.shape[:2]
    rows = max(1, BAND // width)
    if height <= rows:
        return _interpolated(pixels, size)
    bands = [pixels[top : top + rows] for top in range(0, height, rows)]
    return _interpolated(np.concatenate([_interpolated(band, (len(band), size[1])) for band in bands]), size)


def _interpolated(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch  # imported here: names and boxes of crops are needed without torch

    if size[1] == 1:  # without AVX2 torch's kernel confuses the byte order of a one-column image
        shape = pixels.shape[2:] if pixels.shape[2] == 3 else ()
        picture = Image.fromarray(pixels.reshape(*pixels.shape[:2], *shape))
        narrow = picture.resize((1, picture.height), Image.Resampling.BICUBIC)
        return np.asarray(narrow.resize((1, size[0]), Image.Resampling.BICUBIC)).reshape(*size, -1)
    planes = torch.from_numpy(np.require(pixels, requirements="W")).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, size=size, mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


@dataclass(frozen=True)
class Recipe:
    """The processing of an image on its way into the packed cache."""

    crop: str
    size: tuple[int, int]
    channels: int

    @property
    def bytes(self) -> int:
        """The shape of one face."""
        return self.channels * self.size[0] * self.size[1]

    def protocol(self, source: str) -> dict[str, Any]:
        """Its name (celeba-c140-64x64x3) and steps as plain data; caches with equal protocols are comparable."""
        name = protocol_name(source, self.crop, self.size, self.channels)
        steps = {"name": name, "source": source, "decode": DECODE, "crop": self.crop, "resize": RESIZE}
        return {**steps, "size": list(self.size), "channels": self.channels}
