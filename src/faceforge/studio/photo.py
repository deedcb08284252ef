"""Photos: detects faces, crops them as in the training set of a model, and pastes results back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faceforge.cut import frame as frames
from faceforge.cut.detect import SURE_SCORE, Detection, Detector, find_yunet, make_detector, scaled
from faceforge.cut.frame import Frame
from faceforge.cut.framing import framed
from faceforge.data.framing import crop_box
from faceforge.data.framing import frame as whole
from faceforge.errors import BadInput
from faceforge.io.archives import Folder, pictures
from faceforge.io.images import ImageError, decode, from_uint8, to_uint8
from faceforge.io.kinds import told
from faceforge.studio.model import WATCH, Model

SEARCHED = 2048  # pixels: faces are found in a reduced photo with at least such a long side
FEATHER = 0.12  # fraction of the frame at each edge over which a face is blended into the photo


# --------------------------------------------------------------------------------------------------------------- files


def read_photo(path: Path) -> np.ndarray:
    """Read an image file as uint8 RGB (H, W, 3). Raises BadInput."""
    try:
        return in_colour(decode(path.read_bytes(), path.name))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except ImageError as error:
        raise BadInput(f"{path}: {error}") from None


def in_colour(pixels: np.ndarray) -> np.ndarray:
    """Uint8 (H, W) or (H, W, 3) as (H, W, 3)."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def grey(pixels: np.ndarray) -> np.ndarray:
    """The Rec. 601 luma of uint8 (H, W, 3), repeated three times."""
    return in_colour(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def read_photos(folder: Path) -> Iterator[np.ndarray]:
    """Yield the images of a folder, uint8 RGB (H, W, 3). What cannot be read is named on stderr and left out.

    Raises BadInput if none can be read.
    """
    files, read = photo_files(folder), 0
    for file in files:
        try:
            pixels = read_photo(file)
        except BadInput as error:
            print(f"faceforge: skipped {error}", file=sys.stderr)
        else:
            read += 1
            yield pixels
    if not read:
        raise BadInput(f"{folder}: none of its {len(files)} images can be read")


def photo_files(path: Path) -> list[Path]:
    """The image files of a folder at any depth, or the one file; others are told. Raises BadInput if there are none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"{path}: no such image or folder")
    folder = Folder(path)
    found, left_out = pictures(folder, folder.names())
    if not found:
        raise BadInput("; ".join([f"{path}: holds no images", *told(left_out)]))
    for line in told(left_out):
        print(f"faceforge: {line}", file=sys.stderr)
    return sorted(path / name for name in found)


# --------------------------------------------------------------------------------------------------------------- faces


@dataclass(frozen=True)
class Spot:
    """The frame of a face in a photo rotated by ``quarter`` quarter turns clockwise."""

    frame: Frame
    quarter: int


Places = Sequence[Spot] | None  # of the faces in a photo; None: they are looked for


@lru_cache(maxsize=1)
def finder() -> Detector:
    """The face detector: YuNet if its weights are available, otherwise the published Haar cascade."""
    try:
        return make_detector("yunet", find_yunet())
    except BadInput as error:
        print(f"using the published Haar cascade, which finds fewer faces: {error}", file=sys.stderr)
        return make_detector("haar", None)


def find_faces(pixels: np.ndarray, model: Model, most: int | None = None) -> list[Spot]:
    """The frames of the faces in a photo, uint8 (H, W, 3), as in the training set of the model; best first.

    Empty if no face is detected with confidence.
    """
    WATCH.get()()
    height, width = pixels.shape[:2]
    share = 1 / max(1, max(height, width) // SEARCHED)
    size = max(1, round(width * share)), max(1, round(height * share))
    seen = pixels if share == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    found = [face for face in finder()(seen) if face.score is None or face.score >= SURE_SCORE]
    return [_spot(scaled(face, seen.shape, pixels.shape), pixels.shape[:2], model) for face in found[:most]]


def _spot(face: Detection, size: tuple[int, int], model: Model) -> Spot:
    box = frames.haar_box(face.landmarks) if face.landmarks else face.box
    height, width = size if face.quarter % 2 == 0 else size[::-1]
    return Spot(frames.fit(framed(box, model.framing, model.size), width, height), face.quarter)


def cut(pixels: np.ndarray, spot: Spot, size: tuple[int, int]) -> np.ndarray:
    """The upright face, uint8 (H, W, 3), of ``size``."""
    return frames.cut(np.ascontiguousarray(np.rot90(pixels, -spot.quarter)), spot.frame, size)


def lay_back(pixels: np.ndarray, spot: Spot, face: np.ndarray) -> np.ndarray:
    """The photo with a face (uint8, any size) pasted back, blended at the edges."""
    upright = np.rot90(pixels, -spot.quarter).copy()
    f = spot.frame
    top, left = max(0, round(f.y - f.h / 2)), max(0, round(f.x - f.w / 2))
    bottom, right = min(upright.shape[0], round(f.y + f.h / 2)), min(upright.shape[1], round(f.x + f.w / 2))
    size = (max(1, right - left), max(1, bottom - top))
    laid = np.asarray(Image.fromarray(face).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    place = upright[top : top + size[1], left : left + size[0]]
    weight = _feather(size[1], size[0])[: len(place), : place.shape[1], None]
    mixed = weight * laid[: len(place), : place.shape[1]] + (1 - weight) * place
    upright[top : top + size[1], left : left + size[0]] = mixed.round().astype(np.uint8)
    return np.ascontiguousarray(np.rot90(upright, spot.quarter))


def changed(pixels: np.ndarray, spots: Sequence[Spot], changes: Tensor) -> np.ndarray:
    """A photo, uint8 (H, W, 3), with a change added to each of its faces, at the photo's resolution.

    ``changes`` are differences (N, C, h, w) of images in [-1, 1]; a single channel changes lightness alone. They fade
    at the edges of their frames. Without places the first is that of the photo's centre, as ``to_batch`` frames it.
    """
    deltas = (127.5 * changes.expand(-1, 3, -1, -1)).permute(0, 2, 3, 1).float().cpu().numpy()
    if not spots:
        height, width = pixels.shape[:2]
        left, top, right, bottom = crop_box("center", height, width, deltas.shape[1:3])
        return _added(pixels, deltas[0], (top, left, bottom, right), np.float32(1))
    photo = pixels
    for spot, delta in zip(spots, deltas, strict=True):
        upright, f = np.rot90(photo, -spot.quarter), spot.frame
        place = round(f.y - f.h / 2), round(f.x - f.w / 2), round(f.y + f.h / 2), round(f.x + f.w / 2)
        weight = _feather(place[2] - place[0], place[3] - place[1])[..., None]
        photo = np.rot90(_added(upright, delta, place, weight), spot.quarter)
    return np.ascontiguousarray(photo)


def _added(
    pixels: np.ndarray, delta: np.ndarray, place: tuple[int, int, int, int], weight: np.ndarray | np.float32
) -> np.ndarray:
    """A photo plus a difference in levels, (h, w, 3), resized to a place (top, left, bottom, right) and weighted."""
    top, left, bottom, right = place
    size = max(1, right - left), max(1, bottom - top)
    shrinks = size[0] < delta.shape[1] or size[1] < delta.shape[0]
    grown = weight * cv2.resize(delta, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    height, width = pixels.shape[:2]
    seen = grown[max(0, -top) : height - top, max(0, -left) : width - left]
    made = pixels.copy()
    part = made[max(0, top) : bottom, max(0, left) : right]
    part[...] = (part + seen).round().clip(0, 255).astype(np.uint8)
    return made


def _feather(height: int, width: int) -> np.ndarray:
    """Blending weights, float32 (H, W): 1 inside, falling to 0 at the edges along half a cosine."""
    lines = []
    for length in (height, width):
        away = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5) / (FEATHER * length)
        lines.append(0.5 - 0.5 * np.cos(np.pi * np.minimum(away, 1.0)))
    return np.outer(*lines).astype(np.float32)


class NoFace(BadInput):
    """No face was found in a photo."""


def faces_of(pixels: np.ndarray, model: Model) -> list[Spot]:
    """The frames of the faces. Raises NoFace if there are none."""
    spots = find_faces(pixels, model)
    if not spots:
        raise NoFace("no face was found; use a larger, brighter or more frontal one, or pass --no-detect")
    return spots


def crops_of(
    pixels: np.ndarray, model: Model, whole: bool, known: Places = None
) -> tuple[Sequence[Spot], list[np.ndarray]]:
    """The faces of a photo, and where they lie; the ``whole`` photo as one face, which lies nowhere.

    Their places are looked for unless they are ``known``. Raises NoFace.
    """
    spots = [] if whole else known or faces_of(pixels, model)
    return spots, [cut(pixels, spot, model.size) for spot in spots] or [pixels]


def laid_back(model: Model, pixels: np.ndarray, spots: Sequence[Spot], faces: Sequence[np.ndarray]) -> np.ndarray:
    """A photo, uint8 (H, W, 3), with what a model made of its faces in their places; without places the first face.

    A grey model knows no colours, so the photo's stay; pictures like those of one's own pairs have none.
    """
    photo = pixels if spots else faces[0]
    for spot, face in zip(spots, faces, strict=bool(spots)):
        photo = lay_back(photo, spot, face)
    if model.channels == 3 or model.task.from_pairs:
        return photo
    return in_colours_of(photo, pixels if spots else fitted(pixels, model.size))


def in_colours_of(grey: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The Rec. 601 luma of one image (h, w, 3) with the colours of another of any size, uint8 RGB.

    The same value is added to the three channels of a pixel, which preserves its chroma, and clipped to [0, 255].
    """
    size = grey.shape[1::-1]
    same = other.shape == grey.shape
    colours = other if same else np.asarray(Image.fromarray(other).resize(size, Image.Resampling.BICUBIC))
    before, after = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.int16) for picture in (colours, grey))
    return (colours + (after - before)[..., None]).clip(0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------- tensors


def to_batch(pictures: Iterable[np.ndarray], model: Model) -> Tensor:
    """Crops uint8 (h, w, 3), converted as the model's training pictures were: float32 (N, C, H, W) in [-1, 1]."""
    channels = model.task.packs(model.channels)
    made = [whole(picture, "center", model.size, channels) for picture in pictures]
    return from_uint8(torch.from_numpy(np.stack(made)))


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image, uint8 (h, w, 3), resized as by ``to_batch``, in colour: uint8 (H, W, 3)."""
    return np.ascontiguousarray(whole(picture, "center", size, 3).transpose(1, 2, 0))


def to_pictures(images: Tensor) -> list[np.ndarray]:
    """Images (N, C, H, W) in [-1, 1] as uint8 RGB (H, W, 3)."""
    return list(to_uint8(images.expand(-1, 3, -1, -1)).permute(0, 2, 3, 1).cpu().numpy())
