"""Editing faces through their codes: attributes and inversion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faceforge.errors import BadInput
from faceforge.schemes.latent_space import Kind, LatentSpace
from faceforge.studio import photo as photos
from faceforge.studio.model import Model
from faceforge.studio.panel import Result, captioned
from faceforge.studio.photo import to_pictures

Taught = tuple[str, Path, Path]  # an attribute, and the folders of pictures that have it and lack it


def parse_strengths(words: Sequence[str]) -> dict[str, float]:
    """Strengths by attribute, from words such as ``Smiling=1.5``. Raises BadInput."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name or not np.isfinite(found.get(name, np.nan)):
            raise BadInput(f"{word}: must be NAME=NUMBER, for example Smiling=1.5")
    return found


def edit(
    model: Model,
    pixels: np.ndarray,
    strengths: Mapping[str, float],
    kind: Kind | None = None,
    whole: bool = False,
    space: LatentSpace | None = None,
    known: photos.Places = None,
) -> Result:
    """A photo, uint8 (H, W, 3), with edited faces; strength 1.0 is the step from the mean face without the attribute
    to the mean face with it.

    The photo keeps its resolution and all details that the code does not capture: the difference between the edited
    and the plain reconstruction is added to it, where the attributes show. The result also has the three published
    panels: photo, reconstruction, edited. Where the faces lie may be ``known``. Raises BadInput if an attribute is
    unknown or no face is found.
    """
    model.require("edit")
    space = space or model.space
    kind = kind or space.kind
    spots, crops = photos.crops_of(pixels, model, whole, known)
    images = photos.to_batch(crops, model)
    z = model.encode(images)
    plain, changed = model.decode(z), model.decode(model.edited(z, strengths, kind, space))
    change = where(model, space, strengths, kind) * (changed - plain)
    names = ("photo", "reconstruction", "edited")
    faces = captioned(names, map(to_pictures, (images, plain, changed)))
    return Result(photos.changed(pixels, spots, change), faces)


def where(model: Model, space: LatentSpace, strengths: Mapping[str, float], kind: Kind) -> Tensor | float:
    """Where any of the attributes shows, (1, 1, H, W) from 0 to 1; each is found once."""
    shown = []
    for name, strength in strengths.items():
        if strength:
            key = (space, name, kind)
            if key not in model.masks:
                model.masks[key] = space.mask(model.decode, name, kind)
            shown.append(model.masks[key])
    return torch.stack(shown).amax(0) if shown else 1.0


def teach(model: Model, name: str, having: Path, lacking: Path) -> LatentSpace:
    """The latent space of the model with one more attribute, learned from two folders. Raises BadInput."""
    model.require("edit")
    sets = (
        model.encode(best_faces(model, photos.read_photos(folder))).double().numpy() for folder in (having, lacking)
    )
    return model.space.with_attribute(name, *sets)


def best_faces(model: Model, pictures: Iterable[np.ndarray]) -> Tensor:
    """The best face of each image, (N, C, H, W) in [-1, 1]; an image without a face is used whole."""
    crops = []
    for pixels in pictures:
        spots = photos.find_faces(pixels, model, most=1)
        crops.append(photos.cut(pixels, spots[0], model.size) if spots else pixels)
    return photos.to_batch(crops, model)


def invert(model: Model, pixels: np.ndarray, steps: int, whole: bool = False) -> tuple[Tensor, Result]:
    """Codes (N, Z) of the faces in a photo, from the encoder and ``steps`` of optimisation, with reconstructions.

    ``scores`` are the mean absolute errors before and after the optimisation, in [0, 1] units.
    """
    model.require("invert")
    _, crops = photos.crops_of(pixels, model, whole)
    images = photos.to_batch(crops, model)
    z = model.invert(images, steps)
    first, better = model.decode(model.encode(images)), model.decode(z)
    names = ("photo", "encoder", f"{steps} steps")
    faces = captioned(names, map(to_pictures, (images, first, better)))
    scores = {name: float((made - images).abs().mean() / 2) for name, made in (("encoder", first), ("after", better))}
    result = Result(np.zeros((1, 1, 3), np.uint8), faces, scores)
    return z, replace(result, photo=result.panel())
