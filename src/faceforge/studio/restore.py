"""Applies an image-to-image model to photos: enlarges, colorizes, redraws from lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from faceforge.data.tasks import Canny, Contours, SuperResolution, luma
from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, make_grid
from faceforge.metrics.pairs import psnr
from faceforge.studio import photo as photos
from faceforge.studio.model import MULTIPLE, Model
from faceforge.studio.photo import Spot

TILE, MARGIN = 160, 16  # pixels of the network input: side of a tile, and its overlap on each side
LEAST = 8  # pixels a side that must remain after downscaling
LARGEST = 12_000_000  # pixels of a result; a 4K screen has 8.3 million


@dataclass(frozen=True)
class Result:
    """The result for a photo: the whole photo, uint8 (H, W, 3), and named images for each face."""

    photo: np.ndarray
    faces: list[dict[str, np.ndarray]]
    scores: dict[str, float] = field(default_factory=dict)

    def panel(self) -> np.ndarray:
        """The named images side by side, one row per face."""
        return make_panel(self.faces)


def captioned(names: Sequence[str], pictures: Iterable[Sequence[np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """For each face its images by name, from a list of faces for each name."""
    return [dict(zip(names, face, strict=True)) for face in zip(*pictures, strict=True)]


def make_panel(faces: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Images uint8 (h, w, 3) of each face side by side at the size of the largest, on white."""
    tiles = [tile for face in faces for tile in face.values()]
    height, width = (max(tile.shape[n] for tile in tiles) for n in (0, 1))
    large = [_enlarged(tile, height, width) for tile in tiles]
    return make_grid(from_uint8(torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)), columns=len(faces[0]))


def _enlarged(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge by nearest neighbour: a panel must not smooth a small image."""
    return cv2.resize(tile, (width, height), interpolation=cv2.INTER_NEAREST)


# ---------------------------------------------------------------------------------------------------- super-resolution


def upscale(model: Model, pixels: np.ndarray) -> Result:
    """A photo, uint8 (H, W, 3), enlarged by ``task.factor``.

    A network that accepts any size enlarges the whole photo, in tiles. A network of fixed size enlarges the faces, and
    Pillow's bicubic filter the rest. Raises BadInput if such a network finds no face, or the result would have more
    than 12 million pixels.
    """
    model.require("upscale")
    task = _super_resolution(model)
    height, width = (task.factor * side for side in pixels.shape[:2])
    if height * width > LARGEST:
        raise BadInput(f"the result would have {width}x{height} pixels, must be at most {LARGEST:,} pixels")
    if model.takes_any_size:
        large = _network_at_any_size(model, task, pixels)
        return Result(large, [{"photo": pixels, "upscaled": large}])
    spots = faces_of(pixels, model)
    large = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    faces = []
    for spot in spots:
        small = photos.cut(pixels, spot, (model.size[0] // task.factor, model.size[1] // task.factor))
        faces.append({"photo": small, "upscaled": _restored(model, task, small)})
    scaled = [_scaled(spot, task.factor) for spot in spots]
    return Result(laid_back(model, large, scaled, [face["upscaled"] for face in faces]), faces)


def simulate(model: Model, pixels: np.ndarray) -> Result:
    """The published comparison: a photo, or its faces, downscaled by the task, restored, and the original.

    ``scores`` are the PSNR in dB (mean over the faces) of the restored image and of a bicubic enlargement.
    """
    model.require("upscale")
    task = _super_resolution(model)
    if model.takes_any_size:
        height, width = (side // task.factor * task.factor for side in pixels.shape[:2])
        if min(height, width) < task.factor * LEAST:
            raise BadInput(f"{pixels.shape[1]}x{pixels.shape[0]} pixels are too few to downscale")
        originals = [pixels[:height, :width]]
    else:
        originals = [photos.cut(pixels, spot, model.size) for spot in faces_of(pixels, model)]
    faces, scores = [], []
    for original in originals:
        small = _pictures(task.reduce(_tensor(original)))[0]
        restored = (_network_at_any_size if model.takes_any_size else _restored)(model, task, small)
        size = original.shape[1], original.shape[0]
        bicubic = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        faces.append({"downscaled": small, "bicubic": bicubic, "restored": restored, "original": original})
        scores.append([_psnr(restored, original), _psnr(bicubic, original)])
    restored, bicubic = np.mean(scores, axis=0)
    return Result(make_panel(faces), faces, {"restored": float(restored), "bicubic": float(bicubic)})


def _super_resolution(model: Model) -> SuperResolution:
    assert isinstance(model.task, SuperResolution)
    return model.task


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


# --------------------------------------------------------------------------------------------------------- translation


def translate(model: Model, pixels: np.ndarray, whole: bool = False) -> Result:
    """A photo, uint8 (H, W, 3), with its faces translated and pasted back; ``whole``: the image itself is one face.

    A grey model changes only the luma. Each face has its network input, its output, and the original.
    Raises BadInput if no face is found.
    """
    model.require("translate")
    spots = [] if whole else faces_of(pixels, model)
    originals = [photos.cut(pixels, spot, model.size) for spot in spots] or [pixels]
    targets = photos.to_batch(originals, model)
    inputs = model.task.input_for(targets)
    assert inputs is not None
    made = _pictures(model.predict(inputs))
    shown = _pictures(F.interpolate(inputs, model.size, mode="nearest"))
    faces = captioned(("input", model.task.name, "photo"), (shown, made, _pictures(targets)))
    return Result(whole_face(model, pixels, made[0]) if whole else laid_back(model, pixels, spots, made), faces)


def takes_lines(model: Model) -> bool:
    """Whether the model makes faces from lines, which can also be drawn by hand."""
    return "translate" in model.abilities and isinstance(model.task, (Contours, Canny))


def from_lines(model: Model, lines: np.ndarray) -> np.ndarray:
    """The face, uint8 (H, W, 3), for lines on black, uint8 (h, w, 3), in the style of the task of the model.

    Raises BadInput if the model was not trained on lines.
    """
    if not takes_lines(model):
        raise BadInput(f"{model.path}: does not accept drawn lines; must be a run of task=contours or task=canny")
    return _pictures(model.predict(photos.to_batch([lines], model)))[0]


def frames_of(model: Model, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each frame of a video with its faces translated; frames without a face are unchanged."""
    for frame in frames:
        try:
            yield translate(model, frame).photo
        except NoFace:
            yield frame


# --------------------------------------------------------------------------------------------------------------- faces


class NoFace(BadInput):
    """No face was found in a photo."""


def faces_of(pixels: np.ndarray, model: Model) -> list[Spot]:
    """The frames of the faces. Raises NoFace if there are none."""
    spots = photos.find_faces(pixels, model)
    if not spots:
        raise NoFace("no face was found; use a larger, brighter or more frontal one, or --whole for the whole image")
    return spots


def laid_back(model: Model, pixels: np.ndarray, spots: Sequence[Spot], faces: Sequence[np.ndarray]) -> np.ndarray:
    """A photo with processed faces pasted back; results of a grey model keep the colours of the photo."""
    photo = pixels
    for spot, face in zip(spots, faces, strict=True):
        photo = photos.lay_back(photo, spot, face)
    return photo if model.channels == 3 else in_colours_of(photo, pixels)


def whole_face(model: Model, pixels: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The result, uint8 (H, W, 3), for a whole image; that of a grey model keeps the colours of the image."""
    return face if model.channels == 3 else in_colours_of(face, photos.fitted(pixels, model.size))


def _scaled(spot: Spot, factor: int) -> Spot:
    f = spot.frame
    return Spot(photos.Frame(f.x * factor, f.y * factor, f.w * factor, f.h * factor), spot.quarter)


def _tensor(pixels: np.ndarray) -> Tensor:
    return from_uint8(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])


def _channels(images: Tensor, model: Model) -> Tensor:
    return luma(images) if model.channels == 1 else images


def _pictures(images: Tensor) -> list[np.ndarray]:
    return photos.to_pictures(images)


def _coloured(images: Tensor, small: np.ndarray, model: Model) -> np.ndarray:
    """One image as uint8 RGB; from a grey model with the colours of the small image."""
    picture = _pictures(images)[0]
    return picture if model.channels == 3 else in_colours_of(picture, small)


def in_colours_of(grey: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The Rec. 601 luma of one image (h, w, 3) with the colours of another of any size, uint8 RGB.

    The same value is added to the three channels of a pixel, which preserves its chroma, and clipped to [0, 255].
    """
    size = grey.shape[1::-1]
    same = other.shape == grey.shape
    colours = other if same else np.asarray(Image.fromarray(other).resize(size, Image.Resampling.BICUBIC))
    before, after = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.int16) for picture in (colours, grey))
    return (colours + (after - before)[..., None]).clip(0, 255).astype(np.uint8)


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(psnr((_tensor(one) + 1) / 2, (_tensor(other) + 1) / 2))
