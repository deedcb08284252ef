"""Directions of z that no label gives: along which generated faces differ most, named by what changes along them.

For each principal component of generated faces, the direction is the mean z of the faces above its median minus that of
the faces below. Normal z are uncorrelated, so this is, up to its length, the regression of the component on z, the
mean of its gradient (Stein's lemma). Härkönen et al. 2020 (GANSpace, arXiv 2004.02546) take components of features
inside a generator; those of the faces need nothing of the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceforge.cut.framing import AS_CUT, Framing
from faceforge.data.tasks import luma
from faceforge.evaluation.labelled import Labelled
from faceforge.evaluation.predictors import Predictor
from faceforge.metrics.linear import Pca
from faceforge.schemes.latent_space import mean_difference

COUNT = 8
EXAMPLES = 128  # faces on which the effect of a direction is measured
CLEAR = 0.5  # standard deviations by which a measure must move to give its name
MIXED = "mixed"
Decode = Callable[[Tensor], Tensor]
# Parts of a face in units of its Haar box, from its middle: |x| from, |x| to, y from, y to.
PLACES = {
    "hair": (0.0, 0.28, -0.75, -0.45),
    "eyes": (0.05, 0.4, -0.22, 0.0),
    "cheeks": (0.1, 0.35, 0.03, 0.2),
    "mouth": (0.0, 0.25, 0.22, 0.42),
    "clothes": (0.25, 3.0, 0.58, 3.0),
    "background": (0.52, 3.0, -2.0, -0.2),
}
FEWEST = 8  # pixels of a place


@dataclass(frozen=True)
class Principal:
    """A direction (Z,): strength 1.0 is the step from the mean of the lower half to that of the upper half.

    ``share`` is the part of the variance of pixels that its component holds, ``effect`` how many standard deviations a
    step moves what it is named after.
    """

    name: str
    direction: NDArray[np.floating[Any]]
    share: float
    effect: float


def directions(
    labelled: Labelled, decode: Decode, predictor: Predictor | None, framing: Framing | None, count: int = COUNT
) -> list[Principal]:
    """The first ``count`` of them, the largest share first. ``decode`` makes images (N, C, H, W) of codes (N, Z)."""
    pca = Pca(labelled.faces, count)
    shares = (pca.deviations**2 / labelled.faces.flatten(1).double().var(0).sum()).tolist()
    places = pca.encode(labelled.faces).numpy()
    start = torch.from_numpy(labelled.codes[:EXAMPLES]).float()
    before = decode(start)
    known = Measures(before, predictor, framing or AS_CUT)
    found: list[Principal] = []
    for n, column in enumerate(places.T):
        high = column > np.median(column)
        step = mean_difference(labelled.codes[high], labelled.codes[~high])
        effects = known.effects(decode(start + torch.from_numpy(step).float()))
        name, effect = _named(known.names, effects, [one.name.split("-", 1)[1] for one in found])
        sign = -1.0 if effect < 0 else 1.0
        found.append(Principal(f"pc{n + 1}-{name}", sign * step, shares[n], abs(effect)))
    return found


def _named(names: Sequence[str], effects: NDArray[np.floating], taken: Sequence[str]) -> tuple[str, float]:
    """What a direction moves most, unless an earlier one is named so, and by how much."""
    clear = {name: float(effect) for name, effect in zip(names, effects, strict=True) if abs(effect) >= CLEAR}
    left = [name for name in clear if name not in taken]
    most = max(left, key=lambda name: abs(clear[name]), default=MIXED)
    return most, clear.get(most, 0.0)


class Measures:
    """What can be said of faces (N, C, H, W) in [-1, 1]: how light and warm their parts are, from where they are lit,
    and what a predictor sees in them; effects are in standard deviations of the faces it was made with.
    """

    def __init__(self, images: Tensor, predictor: Predictor | None, framing: Framing) -> None:
        self.predictor = predictor
        height, width = images.shape[2:]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        side = framing[2] * height
        self.x, y = (x - framing[0] * width) / side, (y - framing[1] * height) / side
        masks = {
            name: (self.x.abs() >= a) & (self.x.abs() < b) & (y >= c) & (y < d) for name, (a, b, c, d) in PLACES.items()
        }
        self.masks = {name: mask for name, mask in masks.items() if int(mask.sum()) >= FEWEST}
        self.names, self.values = self._of(images)

    def effects(self, images: Tensor) -> NDArray[np.floating]:
        """The mean change of each measure, from the faces it was made with to the same faces after a step."""
        change = (self._of(images)[1] - self.values).mean(0)
        return change / np.maximum(self.values.std(0), 1e-6)

    def _of(self, images: Tensor) -> tuple[list[str], NDArray[np.floating]]:
        colour = images.expand(-1, 3, -1, -1)
        light = luma(colour)[:, 0]
        found = {f"light-{name}": light[:, mask].mean(1) for name, mask in self.masks.items()}
        if images.shape[1] == 3:
            warmth = colour[:, 0] - colour[:, 2]
            found |= {f"warm-{name}": warmth[:, mask].mean(1) for name, mask in self.masks.items()}
        if "cheeks" in self.masks:
            left, right = (self.masks["cheeks"] & side for side in (self.x < 0, self.x >= 0))
            found["lit-from-left"] = light[:, left].mean(1) - light[:, right].mean(1)
        columns = [torch.stack(list(found.values()), 1).numpy()] if found else []
        if self.predictor:
            columns.append(self.predictor.logits(images))
        names = [*found, *(self.predictor.names if self.predictor else ())]
        return names, np.concatenate(columns, 1) if columns else np.zeros((len(images), 0))
