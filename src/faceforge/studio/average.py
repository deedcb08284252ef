"""The mean face of a set of photos: by landmarks, by codes, or by repeated translation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import cv2
import numpy as np
from torch import Tensor

from faceforge.cut.frame import Landmarks
from faceforge.errors import BadInput
from faceforge.schemes.abilities import Encodes
from faceforge.studio import photo as photos
from faceforge.studio.edit import best_faces
from faceforge.studio.model import WATCH, Model, named
from faceforge.studio.photo import to_pictures

SIZE = (320, 240)  # of a mean face by landmarks without a run
STEADY = 1 / 255  # of the range: an average that changes by less than one grey level has converged
ROUNDS = 100  # maximum number of translations
EYES, MOUTH = 0.40, 0.68  # rows of the eyes and the mouth in a mean face, as fractions of its height
GAP = 0.115  # horizontal distance from the middle to each eye, as a fraction of the height
Way = Literal["landmarks", "latent", "translation"]


def ways_of(model: Model | None) -> list[Way]:
    """The available methods for a mean; the one the model was trained for comes first."""
    if model is None:
        return ["landmarks"]
    own: dict[Way, bool] = {"translation": _paints_others(model), "latent": model.has_codes}
    return [*(way for way, can in own.items() if can), "landmarks"]


def by_way(way: Way, model: Model | None, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Means of the images as they converge, uint8 (H, W, 3); the last one is the result. Raises BadInput."""
    if model is None or way == "landmarks":
        return by_landmarks(pictures, model.size if model else SIZE)
    return (by_translation if way == "translation" else by_codes)(model, pictures)


def _paints_others(model: Model) -> bool:
    return model.task.serves == "average"


# ------------------------------------------------------------------------------------------------------ by landmarks


def by_landmarks(pictures: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The mean of the first 1, 2, ... faces, uint8 (H, W, 3), each warped to the mean landmarks.

    The warp is affine in each Delaunay triangle of the eyes, nose and mouth corners (YuNet) and eight border points
    (Galton's composite portraits of 1878, with the shapes aligned first). Photos without a face are skipped; raises
    BadInput if none is left.
    """
    shapes, faces = [], []
    for pixels in pictures:
        WATCH.get()()
        found = [face for face in photos.finder()(pixels) if face.landmarks]
        if found:
            turned = np.ascontiguousarray(np.rot90(pixels, -found[0].quarter))
            face, shape = _laid(turned, found[0].landmarks or (), size)
            faces.append(face)
            shapes.append(shape)
    if not faces:
        raise BadInput("no face with landmarks was found in any image; landmarks need YuNet (see FACEFORGE_WEIGHTS)")
    mean = np.mean(shapes, axis=0)
    total = np.zeros((*size, 3))
    for count, (face, shape) in enumerate(zip(faces, shapes, strict=True), start=1):
        WATCH.get()()
        total += warp(face, shape, mean)
        yield (total / count).round().clip(0, 255).astype(np.uint8)


def _laid(pixels: np.ndarray, landmarks: Landmarks | tuple[()], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A face aligned by a similarity so that eyes and mouth are in their rows, and its aligned landmarks (5, 2)."""
    points = np.array(landmarks, dtype=np.float32)
    height, width = size
    middle = width / 2
    wanted = np.array(
        [[middle - GAP * height, EYES * height], [middle + GAP * height, EYES * height], [middle, MOUTH * height]],
        dtype=np.float32,
    )
    seen = np.stack([points[0], points[1], points[3:].mean(0)])
    move, _ = cv2.estimateAffinePartial2D(seen, wanted, method=cv2.LMEDS)
    if move is None:
        raise BadInput("the landmarks of a face coincide")
    shrinks = np.sqrt(abs(np.linalg.det(np.asarray(move[:, :2], dtype=np.float64)))) < 1
    laid = cv2.warpAffine(
        pixels,
        move,
        (width, height),
        flags=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return laid, points @ move[:, :2].T + move[:, 2]


def warp(face: np.ndarray, shape: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A face (H, W, 3), warped so that its points ``shape`` (N, 2; x, y) move to ``wanted``. Float64."""
    from scipy.interpolate import LinearNDInterpolator  # linear in each Delaunay triangle

    height, width = face.shape[:2]
    x, y = (np.array([0, 0.5, 1]) * (length - 1) for length in (width, height))
    border = np.array([(a, b) for a in x for b in y if (a, b) != (x[1], y[1])])
    to_source = LinearNDInterpolator(np.concatenate([wanted, border]), np.concatenate([shape, border]))
    places = to_source(*np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    return cv2.remap(face, places, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float64)


# ----------------------------------------------------------------------------------------------------------- by codes


def by_codes(model: Model, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The face of the mean code of the first 1, 2, ... faces, uint8 (H, W, 3)."""
    if not model.has_codes:
        able = named("model", lambda scheme: issubclass(scheme, Encodes))
        raise BadInput(f"{model.path}: has no codes; --method latent needs a run of {able}")
    z = model.encode(best_faces(model, pictures))
    sums = z.cumsum(0)
    for count in range(1, len(z) + 1):
        yield to_pictures(model.decode(sums[count - 1 : count] / count))[0]


# ------------------------------------------------------------------------------------------------------ by translation


def by_translation(model: Model, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The published method: the mean output of a model trained to predict another face, applied to its own output
    until it converges. Yields uint8 (H, W, 3) after each round.

    Raises BadInput if the run was trained for another task.
    """
    if not _paints_others(model):
        able = named("task", lambda task: task.serves == "average")
        raise BadInput(f"{model.path}: was trained for {model.task.name}; --method translation needs a run of {able}")
    faces = best_faces(model, pictures)
    before = model.predict(faces).mean(0, keepdim=True)
    yield to_pictures(before)[0]
    for _ in range(ROUNDS):
        after = model.predict(before)
        yield to_pictures(after)[0]
        if _change(before, after) < STEADY:
            return
        before = after


def _change(before: Tensor, after: Tensor) -> float:
    """Mean absolute difference in [0, 1] units."""
    return float((after - before).abs().mean()) / 2
