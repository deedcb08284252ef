"""What the discriminator of a GAN is shown: augmented faces, as many as its overfitting asks for.

Adaptive discriminator augmentation, Karras et al. 2020, arXiv 2006.06676.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from faceforge.diffaugment import augment, uniforms_needed
from faceforge.schedules import Amount, Moving, at


class Adaptive:
    """A share of images to augment that rises while the discriminator overfits and falls while it does not (section 3).

    It starts at 0 and moves at every validation, by the images since the last one over ``images``; it stays within
    [0, ``most``]. Up to 0.8 the generator does not learn the augmentation itself (section 2.3). The paper moves over
    500,000 images, in runs of 25 million.
    """

    def __init__(self, target: float = 0.6, images: int = 100_000, most: float = 0.8) -> None:
        if not (0 < target < 1 and images >= 1 and 0 <= most <= 1):
            found = f"target={target:g}, images={images}, most={most:g}"
            raise ValueError(f"{found}: target must lie between 0 and 1, images be at least 1, most from 0 to 1")
        self.target, self.images, self.most = target, images, most
        self.strength, self._moved = 0.0, 0

    def follow(self, overfitting: float, images: int) -> None:
        """Move by what a validation measured after so many images; nan moves nothing."""
        step = (images - self._moved) / self.images
        self._moved = images
        if not math.isnan(overfitting):
            way = step if overfitting > self.target else -step
            self.strength = min(max(self.strength + way, 0.0), self.most)

    def state_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"strength": self.strength, "moved": self._moved}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """As state_dict gave it."""
        self.strength, self._moved = state["strength"], int(state["moved"])


def overfitting(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """r_v of eq. 1, from logits: 0 if held-out faces look as real as training faces, 1 if as generated ones.

    An offset of all logits, which relativistic losses leave free, cancels. 0 if generated faces look as real as
    training faces.
    """
    seen, new, fake = (float(logits.double().mean()) for logits in (train, held_out, generated))
    return 0.0 if seen <= fake else (seen - new) / (seen - fake)  # nan if a logit is


class Augmentation:
    """A policy (`faceforge.diffaugment`) and the share of images that it changes, in [0, 1]."""

    def __init__(self, policy: list[str], strength: Amount | Adaptive | Literal["adaptive"]) -> None:
        self.policy = ",".join(policy)
        self._draws = uniforms_needed(self.policy)
        self._strength = Adaptive() if strength == "adaptive" else strength
        self.share = 1.0  # at present

    @property
    def active(self) -> bool:
        """Whether any image is changed at present."""
        return bool(self._draws and self.share)

    @property
    def adaptive(self) -> Adaptive | None:
        """What follows the overfitting, if that is used."""
        return self._strength if isinstance(self._strength, Adaptive) and self._draws else None

    def begin(self, images: int) -> None:
        """Set the share for so many images seen."""
        chosen = self._strength
        self.share = chosen.strength if isinstance(chosen, Adaptive) else at(chosen, images)

    def moving(self, images: int) -> dict[str, float]:
        """The share after so many images, if it can change."""
        self.begin(images)
        fixed = not self.adaptive and not isinstance(self._strength, Moving)
        return {} if fixed else {"augment_strength": self.share}

    def __call__(self, faces: Tensor, uniforms: Callable[[str, tuple[int, ...]], Tensor]) -> Tensor:
        """Faces (B, C, H, W) as the discriminator is shown them; ``uniforms(name, shape)`` draws (B, *shape)."""
        if not self.active:
            return faces
        augmented = augment(faces, self.policy, uniforms("", (self._draws,)))
        return (
            augmented if self.share >= 1 else torch.where(uniforms("/chosen", (1, 1, 1)) < self.share, augmented, faces)
        )
