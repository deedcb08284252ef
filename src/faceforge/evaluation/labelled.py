"""Faces that a GAN generates, with the attributes that a predictor taught by the training faces sees in them.

Their z and labels give directions, as the codes of real faces do for an autoencoder (Shen et al. 2020, InterFaceGAN,
arXiv 1907.10786).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import predictors
from faceforge.evaluation.predictors import Predictor
from faceforge.schemes.abilities import Samples
from faceforge.schemes.inversion import size_of
from faceforge.schemes.latent_space import binary

COUNT = 8000  # generated faces
FEWEST = 20  # with and without an attribute, each, among training faces and among generated ones
TRUSTED = 0.7  # balanced accuracy on real faces below which a predictor labels nothing
SURE = 1.0  # size of a logit below which a face has no label
SMALL = 32  # pixels of the longer side of the kept faces
AT_ONCE = 64
Labels = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Labelled:
    """Codes (N, Z) of generated faces, labels (N, A) of 0, 1 and nan where the predictor is not sure, and the faces
    themselves, small, (N, C, h, w) in [-1, 1].
    """

    codes: NDArray[np.float64]
    names: tuple[str, ...]
    labels: Labels
    faces: Tensor


def teachable(data: FaceData) -> tuple[dict[str, Labels], dict[str, str]]:
    """Labels (faces,) of 0, 1 and nan by attribute, and why other attributes cannot be learned."""
    names, values = data.attributes or ((), np.zeros((0, 0)))
    labels, reasons = {}, {}
    for name, column in zip(names, np.asarray(values).T, strict=True):
        found = binary(column, data.rows["train"])
        having, lacking = (int((found[data.rows["train"]] == value).sum()) for value in (1, 0))
        if min(having, lacking) < FEWEST:
            reasons[name] = f"{having:,} training faces have it and {lacking:,} lack it; must be {FEWEST} of each"
        else:
            labels[name] = found
    return labels, reasons


def taught(
    data: FaceData, seed: int, device: torch.device, say: predictors.Say
) -> tuple[Predictor | None, dict[str, float], dict[str, str]]:
    """A predictor of what the training faces teach, the balanced accuracy of each attribute on held-out faces, and why
    attributes are left out. None if nothing can be learned.
    """
    labels, reasons = teachable(data)
    if not labels:
        return None, {}, reasons
    held_out = np.concatenate([data.rows["val"], data.rows["test"]])
    predictor, found = predictors.of_faces(data, labels, data.rows["train"], held_out, seed, device, say)
    kept = [name for name, accuracy in found.items() if accuracy >= TRUSTED]
    reasons |= {name: _distrusted(found[name]) for name in labels if name not in kept}
    return predictor.only(kept) if kept else None, {name: found[name] for name in kept}, reasons


def _distrusted(accuracy: float) -> str:
    if np.isnan(accuracy):
        return "no held-out faces with and without it, to try its predictor on"
    return f"its predictor is correct on {accuracy:.0%} of held-out faces; must be {TRUSTED:.0%}"


def label(
    gan: Samples, predictor: Predictor | None, count: int, seed: int, tick: Callable[[int], None] = lambda count: None
) -> Labelled:
    """``count`` faces that a GAN generates from its own noise, with their labels. Raises BadInput if z is too long."""
    width, names = size_of(gan), predictor.names if predictor else ()
    stream, codes, labels, faces = counter_rng.key(seed, "directions/faces") >> 1, [], [], []
    for first in range(0, count, AT_ONCE):
        z = gan.draw(min(AT_ONCE, count - first), stream, first)
        made = gan.decode(z.to(gan.device)).cpu()
        logits = predictor.logits(made) if predictor else np.zeros((len(made), 0), np.float32)
        codes.append(z.reshape(len(z), width).cpu().double().numpy())
        labels.append(np.where(np.abs(logits) < SURE, np.nan, logits > 0))
        faces.append(reduced(made))
        tick(len(made))
    return Labelled(np.concatenate(codes), names, np.concatenate(labels), torch.cat(faces))


def reduced(images: Tensor) -> Tensor:
    """Images (N, C, H, W) with a longer side of at most 32 pixels."""
    share = SMALL / max(images.shape[2:])
    size = [max(1, round(side * share)) for side in images.shape[2:]]
    return images if share >= 1 else functional.interpolate(images, size, mode="area")
