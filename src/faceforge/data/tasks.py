"""What a model is given and what it shall make of it: a task makes the input from the face, its target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """A small callable, applied to whole batches after augmentation."""

    name: str

    def __call__(self, target: Tensor) -> Tensor | None:
        """The input for a target (B, C, H, W) in [-1, 1], in the same range; None where there is none."""
        ...


class NoInput:
    """The task of generators that start from noise: the batch holds the target only."""

    name = "none"

    def __call__(self, target: Tensor) -> Tensor | None:
        """Nothing."""
        return None
