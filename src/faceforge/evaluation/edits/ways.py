"""The ways of editing: each kind of direction of a latent space, and directions of labels that mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceforge import counter_rng
from faceforge.evaluation.generated import decoded
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.latent_space import Kind, LatentSpace, Range, mean_difference, moved
from faceforge.schemes.masks import EXAMPLES, limited, place_of

SHUFFLED = "shuffled labels"
HOW: dict[str, str] = {
    "mean difference": "mean code of faces with the attribute minus mean code of those without, as published",
    "logistic": "normal of a logistic regression between the codes, as long as the mean difference along it",
    "orthogonalised": "mean difference without the directions of the other attributes (Shen et al. 2020)",
    SHUFFLED: "mean difference of faces whose labels were exchanged at random, as long as the true one",
}
AT_ONCE = 64  # faces coded or decoded at a time


@dataclass(frozen=True)
class Way:
    """Directions (Z,) by attribute, as of ``LatentSpace.directions``; ``control`` if they know of no attribute.

    ``examples`` are codes (N, Z) of random faces that show where an attribute lives; without them it may be anywhere.
    """

    name: str
    directions: Mapping[str, Tensor]
    code_range: Range
    control: bool = False
    examples: Tensor | None = None

    def edit(self, z: Tensor, attribute: str, strength: float) -> Tensor:
        """Codes (N, Z) moved along an attribute, as by ``LatentSpace.edit``, which finds all directions anew."""
        return moved(z, strength * self.directions[attribute].to(z), self.code_range)

    def mask(self, editor: Editor, attribute: str) -> Tensor | float:
        """Where the attribute shows, as by ``LatentSpace.mask``."""
        if self.examples is None or not editor.details:
            return 1.0
        return place_of(editor.decoded, self.examples, self.edit(self.examples, attribute, 1.0))


def ways_of(
    codes: NDArray[np.floating[Any]],
    code_range: Range,
    names: tuple[str, ...],
    labels: NDArray[np.floating[Any]],
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Way]:
    """All kinds of ``LatentSpace.edit`` from codes (N, Z) and labels (N, A) of 0, 1 and nan; then shuffled labels.

    Shuffling exchanges the labels of whole faces, so that attributes stay as frequent and as correlated as they are.
    """
    space = LatentSpace.of_codes(codes, code_range, (names, labels), {"seed": seed}, say)
    mixed = labels[counter_rng.permutation(seed, "edits/shuffled", 0, len(labels))]
    control = {}
    for name, true in space.directions("mean_difference").items():
        column = mixed[:, names.index(name)]
        random = torch.from_numpy(mean_difference(codes[column == 1], codes[column == 0])).float()
        control[name] = random * true.norm() / random.norm().clamp(min=1e-12)
    examples = space.sample("gaussian", EXAMPLES)
    kinds = {kind.replace("_", " "): _own(space, kind) for kind in get_args(Kind)}
    real = [Way(name, directions, code_range, examples=examples) for name, directions in kinds.items()]
    return [*real, Way(SHUFFLED, control, code_range, control=True, examples=examples)]


def _own(space: LatentSpace, kind: Kind) -> dict[str, Tensor]:
    """The directions of a kind without those that are of another one, because none of this kind was found."""
    missing = space.without_logistic if kind == "logistic" else []
    return {name: direction for name, direction in space.directions(kind).items() if name not in missing}


class Editor:
    """A module whose faces are edited: reconstructions, or faces that keep the details which their codes lack."""

    def __init__(self, module: Encodes, details: bool = True) -> None:
        self.module, self.details = module, details

    def codes(self, images: Tensor) -> Tensor:
        """Codes (N, Z), on the CPU, of images (N, C, H, W) in [-1, 1]."""
        parts = images.split(AT_ONCE)
        return torch.cat([self.module.encode(part.to(self.module.device)).cpu() for part in parts])

    def decoded(self, z: Tensor) -> Tensor:
        """What codes (N, Z) show, (N, C, H, W) in [-1, 1] on the CPU."""
        return decoded(self.module, z)

    def before(self, images: Tensor, plain: Tensor) -> Tensor:
        """The faces that edits start from: the images, or their reconstructions."""
        return images if self.details else plain

    def after(self, images: Tensor, plain: Tensor, edited: Tensor, mask: Tensor | float = 1.0) -> Tensor:
        """The edited faces, from images, their reconstructions and what the edited codes (N, Z) show."""
        shown = self.decoded(edited)
        return limited(images, plain, shown, mask) if self.details else shown
