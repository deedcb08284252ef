"""What a model makes of the faces in photos and videos: coloured, sharpened, redrawn from lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch.nn.functional as F

from faceforge.errors import BadInput
from faceforge.studio import photo as photos
from faceforge.studio.model import Model, named
from faceforge.studio.panel import Result, captioned


def translate(model: Model, pixels: np.ndarray, whole: bool = False) -> Result:
    """A photo, uint8 (H, W, 3), with its faces translated and pasted back; ``whole``: the image itself is one face.

    A grey model changes only the luma. Each face has its network input, its output, and the original.
    Raises BadInput if no face is found.
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
    """Whether the model makes faces from lines, which can also be drawn by hand."""
    return "translate" in model.abilities and model.task.by_hand


def from_lines(model: Model, lines: np.ndarray) -> np.ndarray:
    """The face, uint8 (H, W, 3), for lines on black, uint8 (h, w, 3), in the style of the task of the model.

    Raises BadInput if the model was not trained on lines.
    """
    if not takes_lines(model):
        able = named("task", lambda task: task.by_hand)
        raise BadInput(f"{model.path}: makes nothing of drawn lines; a run of {able} does")
    return photos.to_pictures(model.predict(photos.to_batch([lines], model)))[0]


def frames_of(model: Model, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each frame of a video with its faces translated; frames without a face are unchanged."""
    for frame in frames:
        try:
            yield translate(model, frame).photo
        except photos.NoFace:
            yield frame
