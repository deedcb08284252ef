"""What a model makes of the faces in photos and videos: coloured, sharpened, redrawn from lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from faceforge.data.tasks import dab_radius, luma
from faceforge.errors import BadInput
from faceforge.studio import photo as photos
from faceforge.studio.hints import Hint, painted
from faceforge.studio.model import Model, named
from faceforge.studio.panel import Result, captioned

MOST_COLOUR = 3.0  # times the predicted colours


def translate(
    model: Model,
    pixels: np.ndarray,
    whole: bool = False,
    strength: float = 1.0,
    hints: Sequence[Hint] = (),
    known: photos.Places = None,
) -> Result:
    """A photo, uint8 (H, W, 3), with its faces translated and pasted back; ``whole``: the image itself is one face.

    A grey model changes only the luma. Faces that get colours keep the lightness of the photo, at its resolution;
    ``strength`` multiplies the colours, and ``hints`` say which are meant where; where the faces lie may be ``known``.
    Each face has its network input, its output, and the original. Raises BadInput if no face is found, or for what the
    run does not take.
    """
    model.require("translate")
    check_strength(model, strength)
    check_hints(model, hints)
    spots, originals = photos.crops_of(pixels, model, whole, known)
    targets = photos.to_batch(originals, model)
    inputs = photos.to_batch(_hinted(model, pixels, spots, hints), model) if hints else model.task.input_for(targets)
    assert inputs is not None
    outputs = model.predict(inputs)
    if model.task.keeps_lightness:
        outputs = luma(outputs) + strength * (outputs - luma(outputs))
    made = photos.to_pictures(outputs)
    shown = photos.to_pictures(F.interpolate(inputs, model.size, mode="nearest"))
    faces = captioned(("input", model.task.name, "photo"), (shown, made, photos.to_pictures(targets)))
    coloured = model.task.keeps_lightness
    photo = _coloured(pixels, spots, outputs) if coloured else photos.laid_back(model, pixels, spots, made)
    return Result(photo, faces)


def check_strength(model: Model, strength: float) -> None:
    """Raise BadInput for a strength that no colours can have, or of colours that the model does not give."""
    if not 0 <= strength <= MOST_COLOUR:
        raise BadInput(f"--strength {strength:g}: must be from 0 to {MOST_COLOUR:g}")
    if strength != 1 and not model.task.keeps_lightness:
        found = "is that of colours which are added to a grey photo"
        raise BadInput(
            f"--strength {strength:g}: {found}; must be 1, or the run one of task=colorize that predicts chroma"
        )


def check_hints(model: Model, hints: Sequence[Hint]) -> None:
    """Raise BadInput for hints to a model that takes none."""
    if hints and not model.task.takes_hints:
        raise BadInput(f"{model.path}: takes no colour hints; must be a run of task=colorize with task.hints=8 or so")


def _hinted(model: Model, pixels: np.ndarray, spots: Sequence[photos.Spot], hints: Sequence[Hint]) -> list[np.ndarray]:
    """The crops of the photo in grey with the hints; a dab has the size on the face that it had in training."""
    height, width = model.size
    radius = dab_radius(height, width)
    if not spots:
        return [painted(pixels, hints, radius * max(pixels.shape[0] / height, pixels.shape[1] / width))]
    return [photos.cut(painted(pixels, hints, radius * spot.frame.h / height), spot, model.size) for spot in spots]


def _coloured(pixels: np.ndarray, spots: Sequence[photos.Spot], outputs: Tensor) -> np.ndarray:
    """The colours of outputs (N, 3, h, w) on the lightness of their faces, each at the resolution of the photo."""
    colours = outputs - luma(outputs)
    if not spots:
        return photos.changed(photos.grey(pixels), [], colours)
    photo = pixels
    for spot, colour in zip(spots, colours.split(1), strict=True):
        size = max(1, round(spot.frame.h)), max(1, round(spot.frame.w))
        face = photos.grey(photos.cut(pixels, spot, size))
        photo = photos.lay_back(photo, spot, photos.changed(face, [], colour))
    return photo


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
