"""Photos through a model of pictures: made larger, coloured, redrawn from their lines."""

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

TILE, MARGIN = 160, 16  # pixels of a network's input at a time, and how far tiles overlap on each side
LEAST = 8  # pixels a side that are left of a photo at least
LARGEST = 12_000_000  # pixels of a result; a 4K screen has 8.3 million


@dataclass(frozen=True)
class Result:
    """What became of a photo: the whole photo, uint8 (H, W, 3), and for each face a few captioned pictures."""

    photo: np.ndarray
    faces: list[dict[str, np.ndarray]]
    scores: dict[str, float] = field(default_factory=dict)

    def panel(self) -> np.ndarray:
        """The captioned pictures side by side, a row for each face."""
        return make_panel(self.faces)


def captioned(names: Sequence[str], pictures: Iterable[Sequence[np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """For each face its pictures by name, from a list of faces for each name."""
    return [dict(zip(names, face, strict=True)) for face in zip(*pictures, strict=True)]


def make_panel(faces: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Pictures uint8 (h, w, 3) of each face side by side at the size of the largest, on white."""
    tiles = [tile for face in faces for tile in face.values()]
    height, width = (max(tile.shape[n] for tile in tiles) for n in (0, 1))
    large = [_enlarged(tile, height, width) for tile in tiles]
    return make_grid(from_uint8(torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)), columns=len(faces[0]))


def _enlarged(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    """At a size, pixels repeated as pixels: a panel shall not flatter a small picture."""
    return cv2.resize(tile, (width, height), interpolation=cv2.INTER_NEAREST)


# ---------------------------------------------------------------------------------------------------- super-resolution


def upscale(model: Model, pixels: np.ndarray) -> Result:
    """A photo, uint8 (H, W, 3), ``task.factor`` times as large.

    A network that takes any size does the whole photo, in tiles; one that is made for a size does the faces,
    and the rest is enlarged by Pillow's bicubic filter. Raises BadInput where there is no face for such a network,
    or the result would have more than 12 million pixels.
    """
    model.require("upscale")
    task = _super_resolution(model)
    height, width = (task.factor * side for side in pixels.shape[:2])
    if height * width > LARGEST:
        raise BadInput(f"a picture of {width}x{height} pixels would result; at most {LARGEST:,} pixels are made")
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
    """The published before and after: a photo, or its faces, lowered by the task, restored, and as it was.

    ``scores`` are PSNR in dB (mean over the faces) of the restored and of a bicubic enlargement.
    """
    model.require("upscale")
    task = _super_resolution(model)
    if model.takes_any_size:
        height, width = (side // task.factor * task.factor for side in pixels.shape[:2])
        if min(height, width) < task.factor * LEAST:
            raise BadInput(f"{pixels.shape[1]}x{pixels.shape[0]} pixels are too few to be made smaller still")
        originals = [pixels[:height, :width]]
    else:
        originals = [photos.cut(pixels, spot, model.size) for spot in faces_of(pixels, model)]
    faces, scores = [], []
    for original in originals:
        small = _pictures(task.reduce(_tensor(original)))[0]
        restored = (_network_at_any_size if model.takes_any_size else _restored)(model, task, small)
        size = original.shape[1], original.shape[0]
        bicubic = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        faces.append({"lowered": small, "bicubic": bicubic, "restored": restored, "original": original})
        scores.append([_psnr(restored, original), _psnr(bicubic, original)])
    restored, bicubic = np.mean(scores, axis=0)
    return Result(make_panel(faces), faces, {"restored": float(restored), "bicubic": float(bicubic)})


def _super_resolution(model: Model) -> SuperResolution:
    assert isinstance(model.task, SuperResolution)
    return model.task


def _network_at_any_size(model: Model, task: SuperResolution, small: np.ndarray) -> np.ndarray:
    """A picture, uint8 (h, w, 3), through the network in overlapping tiles: (factor h, factor w, 3)."""
    inputs = task.enlarge(_channels(_tensor(small), model))
    return _coloured(tiled(model, inputs, scale=task.input_factor), small, model)


def tiled(model: Model, inputs: Tensor, scale: int) -> Tensor:
    """Outputs (1, C, scale H, scale W) for one input (1, C', H, W) of any size, in windows that overlap.

    The input is padded by reflection to what networks divide; the overlap is what their convolutions see.
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
    """Of each tile its first place, and first place and length of the window it is cut from, the same for all."""
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
    """What a model makes of the faces of a photo, uint8 (H, W, 3), laid back; or of the ``whole`` picture as one face.

    A grey model changes the lightness alone. Each face: what the network saw, what it made, and the face as it was.
    Raises BadInput where no face is found.
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
    """Whether the model makes faces of lines, which a hand can draw as well."""
    return "translate" in model.abilities and isinstance(model.task, (Contours, Canny))


def from_lines(model: Model, lines: np.ndarray) -> np.ndarray:
    """The face, uint8 (H, W, 3), that a model makes of lines on black, uint8 (h, w, 3), drawn as its task draws them.

    Raises BadInput where the model does not know lines.
    """
    if not takes_lines(model):
        raise BadInput(f"{model.path}: makes nothing of drawn lines; a run of task=contours or task=canny does")
    return _pictures(model.predict(photos.to_batch([lines], model)))[0]


def frames_of(model: Model, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each frame of a film with its faces translated; a frame without a face stays as it is."""
    for frame in frames:
        try:
            yield translate(model, frame).photo
        except NoFace:
            yield frame


# --------------------------------------------------------------------------------------------------------------- faces


class NoFace(BadInput):
    """There is no face in a photo."""


def faces_of(pixels: np.ndarray, model: Model) -> list[Spot]:
    """Where the faces are. Raises NoFace where there is none."""
    spots = photos.find_faces(pixels, model)
    if not spots:
        raise NoFace("no face was found; a larger, lighter or more frontal one would be, --whole takes it as a face")
    return spots


def laid_back(model: Model, pixels: np.ndarray, spots: Sequence[Spot], faces: Sequence[np.ndarray]) -> np.ndarray:
    """A photo with what a model made of its faces in their places; a grey one knows no colours, so the photo's stay."""
    photo = pixels
    for spot, face in zip(spots, faces, strict=True):
        photo = photos.lay_back(photo, spot, face)
    return photo if model.channels == 3 else in_colours_of(photo, pixels)


def whole_face(model: Model, pixels: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The face, uint8 (H, W, 3), that a model made of a whole picture; a grey one leaves its colours too."""
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
    """One image as uint8 RGB; from a grey model it has the colours of the small picture."""
    picture = _pictures(images)[0]
    return picture if model.channels == 3 else in_colours_of(picture, small)


def in_colours_of(grey: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The lightness (Rec. 601 luma) of one picture (h, w, 3) with the colours of another of any size, uint8 RGB.

    What is added to a pixel is the same for its three channels, so its colour differences stay; only where a channel
    would leave [0, 255] is it cut off.
    """
    size = grey.shape[1::-1]
    same = other.shape == grey.shape
    colours = other if same else np.asarray(Image.fromarray(other).resize(size, Image.Resampling.BICUBIC))
    before, after = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.int16) for picture in (colours, grey))
    return (colours + (after - before)[..., None]).clip(0, 255).astype(np.uint8)


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(psnr((_tensor(one) + 1) / 2, (_tensor(other) + 1) / 2))
