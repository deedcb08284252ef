"""Photos made larger, whole or face by face; and the same of photos made smaller first, to see what it is worth."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from faceforge.data.tasks import SuperResolution, luma
from faceforge.errors import BadInput
from faceforge.io.images import from_uint8
from faceforge.metrics.pairs import psnr
from faceforge.studio import photo as photos
from faceforge.studio.model import MULTIPLE, Model
from faceforge.studio.panel import Result, make_panel
from faceforge.studio.photo import Places, Spot

TILE, MARGIN = 160, 16  # pixels of the network input: side of a tile, and its overlap on each side
LEAST = 8  # pixels a side that must remain after downscaling
LARGEST = 12_000_000  # pixels of a result; a 4K screen has 8.3 million


def upscale(model: Model, pixels: np.ndarray, known: Places = None) -> Result:
    """A photo, uint8 (H, W, 3), enlarged by ``task.factor``.

    A network that accepts any size enlarges the whole photo, in tiles. A network of fixed size enlarges the faces, and
    Pillow's bicubic filter the rest; where the faces lie may be ``known``. Raises BadInput if such a network finds no
    face, or the result would have more than 12 million pixels.
    """
    model.require("upscale")
    task = _task(model)
    height, width = (task.factor * side for side in pixels.shape[:2])
    if height * width > LARGEST:
        raise BadInput(f"the result would have {width}x{height} pixels, must be at most {LARGEST:,} pixels")
    if model.takes_any_size:
        large = _network_at_any_size(model, task, pixels)
        return Result(large, [{"photo": pixels, "upscaled": large}])
    spots = photos.faces_of(pixels, model) if known is None else known
    large = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    if not spots:
        return Result(large, [])
    faces = []
    for spot in spots:
        small = photos.cut(pixels, spot, (model.size[0] // task.factor, model.size[1] // task.factor))
        faces.append({"photo": small, "upscaled": _restored(model, task, small)})
    scaled = [_scaled(spot, task.factor) for spot in spots]
    return Result(photos.laid_back(model, large, scaled, [face["upscaled"] for face in faces]), faces)


def simulate(model: Model, pixels: np.ndarray) -> Result:
    """The published comparison: a photo, or its faces, downscaled by the task, restored, and the original.

    ``scores`` are the PSNR in dB (mean over the faces) of the restored image and of a bicubic enlargement.
    """
    model.require("upscale")
    task = _task(model)
    if model.takes_any_size:
        height, width = (side // task.factor * task.factor for side in pixels.shape[:2])
        if min(height, width) < task.factor * LEAST:
            raise BadInput(f"{pixels.shape[1]}x{pixels.shape[0]} pixels are too few to downscale")
        originals = [pixels[:height, :width]]
    else:
        originals = [photos.cut(pixels, spot, model.size) for spot in photos.faces_of(pixels, model)]
    faces, scores = [], []
    for original in originals:
        small = photos.to_pictures(task.reduce(_tensor(original)))[0]
        restored = (_network_at_any_size if model.takes_any_size else _restored)(model, task, small)
        size = original.shape[1], original.shape[0]
        bicubic = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        faces.append({"downscaled": small, "bicubic": bicubic, "restored": restored, "original": original})
        scores.append([_psnr(restored, original), _psnr(bicubic, original)])
    restored, bicubic = np.mean(scores, axis=0)
    return Result(make_panel(faces), faces, {"restored": float(restored), "bicubic": float(bicubic)})


def _task(model: Model) -> SuperResolution:
    task = model.task.upscaling
    assert task is not None
    return task


def _network_at_any_size(model: Model, task: SuperResolution, small: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), enlarged by the network in overlapping tiles: (factor h, factor w, 3)."""
    inputs = task.enlarge(_channels(_tensor(small), model))
    return _coloured(tiled(model, inputs, scale=task.input_factor), small, model)


def tiled(model: Model, inputs: Tensor, scale: int) -> Tensor:
    """Outputs (1, C, scale H, scale W) for one input (1, C', H, W) of any size, in overlapping windows.

    The input is padded by reflection to a multiple of MULTIPLE; the overlap covers the receptive field.
    """
    height, width = inputs.shape[2:]
    padded = _padded(inputs)
    whole: Tensor | None = None
    for top, above, high in _windows(padded.shape[2]):
        for left, beside, wide in _windows(padded.shape[3]):
            made = model.predict(padded[..., above : above + high, beside : beside + wide])
            if whole is None:
                whole = made.new_empty(1, made.shape[1], *(scale * side for side in padded.shape[2:]))
            y, x = scale * (top - above), scale * (left - beside)
            kept = made[..., y : y + scale * TILE, x : x + scale * TILE]
            whole[..., scale * top : scale * (top + TILE), scale * left : scale * (left + TILE)] = kept
    assert whole is not None
    return whole[..., : scale * height, : scale * width]


def _windows(length: int) -> list[tuple[int, int, int]]:
    """For each tile its start, and the start and length of its window; all windows have one length."""
    window = min(length, TILE + 2 * MARGIN)
    return [(first, min(max(0, first - MARGIN), length - window), window) for first in range(0, length, TILE)]


def _padded(images: Tensor) -> Tensor:
    below, beside = (-side % MULTIPLE for side in images.shape[2:])
    reflects = below < images.shape[2] and beside < images.shape[3]
    return F.pad(images, (0, beside, 0, below), mode="reflect" if reflects else "replicate")


def _restored(model: Model, task: SuperResolution, small: np.ndarray) -> np.ndarray:
    inputs = task.enlarge(_channels(_tensor(small), model))
    return _coloured(model.predict(inputs), small, model)


def _scaled(spot: Spot, factor: int) -> Spot:
    f = spot.frame
    return Spot(photos.Frame(f.x * factor, f.y * factor, f.w * factor, f.h * factor), spot.quarter)


def _tensor(pixels: np.ndarray) -> Tensor:
    return from_uint8(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])


def _channels(images: Tensor, model: Model) -> Tensor:
    return luma(images) if model.channels == 1 else images


def _coloured(images: Tensor, small: np.ndarray, model: Model) -> np.ndarray:
    """One image as uint8 RGB; from a grey model with the colours of the small image."""
    picture = photos.to_pictures(images)[0]
    return picture if model.channels == 3 else photos.in_colours_of(picture, small)


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(psnr((_tensor(one) + 1) / 2, (_tensor(other) + 1) / 2))
