"""What a model makes of the faces in photos and films: coloured, sharpened, redrawn from lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch.nn.functional as F

from faceforge.errors import BadInput
from faceforge.studio import photo as photos
from faceforge.studio.model import Model, named
from faceforge.studio.panel import Result, captioned


def translate(model: Model, pixels: np.ndarray, whole: bool = False) -> Result:
    """What a model makes of the faces of a photo, uint8 (H, W, 3), laid back; or of the ``whole`` picture as one face.

    A grey model changes the lightness alone. Each face: what the network saw, what it made, and the face as it was.
    Raises BadInput where no face is found.
    """
    model.require("translate")
    spots, originals = photos.crops_of(pixels, model, whole)
    targets = photos.to_batch(originals, model)
    inputs = model.task.input_for(targets)
    assert inputs is not None
    made = photos.to_pictures(model.predict(inputs))
    shown = photos.to_pictures(F.interpolate(inputs, model.size, mode="nearest"))
    faces = captioned(("input", model.task.name, "photo"), (shown, made, photos.to_pictures(targets)))
    return Result(photos.laid_back(model, pixels, spots, made), faces)


def takes_lines(model: Model) -> bool:
    """Whether the model makes faces of lines, which a hand can draw as well."""
    return "translate" in model.abilities and model.task.by_hand


def from_lines(model: Model, lines: np.ndarray) -> np.ndarray:
    """The face, uint8 (H, W, 3), that a model makes of lines on black, uint8 (h, w, 3), drawn as its task draws them.

    Raises BadInput where the model does not know lines.
    """
    if not takes_lines(model):
        able = named("task", lambda task: task.by_hand)
        raise BadInput(f"{model.path}: makes nothing of drawn lines; a run of {able} does")
    return photos.to_pictures(model.predict(photos.to_batch([lines], model)))[0]


def frames_of(model: Model, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each frame of a film with its faces translated; a frame without a face stays as it is."""
    for frame in frames:
        try:
            yield translate(model, frame).photo
        except photos.NoFace:
            yield frame
