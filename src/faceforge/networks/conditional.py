"""Networks that are told labels: a generator what a face must show, a discriminator what it is said to show.

Labels are (B, K): 1 where a face has an attribute, -1 where it lacks it, 0 where that is not known; numbers between
are degrees. Mirza and Osindero 2014 (arXiv 1411.1784); the discriminator's projection is that of Miyato and Koyama 2018
(arXiv 1802.05637), eq. 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

EXAMPLES = 512  # rows of labels that a generator carries, to draw labels as often as training faces have them


class TakesLabels(nn.Module):
    """A network that can be told labels; it takes none until ``take_labels``."""

    label_features: int  # numbers to which the labels add, or with which they are multiplied
    told: nn.Linear | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("told", None)

    def take_labels(self, count: int) -> None:
        """Make room for ``count`` labels."""
        self.told = nn.Linear(count, self.label_features, bias=False)
        nn.init.normal_(self.told.weight, 0.0, count**-0.5)

    def of_labels(self, labels: Tensor | None) -> Tensor | float:
        """What labels (B, K) add to the features of a generator, (B, ``label_features``); 0 without labels."""
        return 0.0 if self.told is None or labels is None else self.told(labels)

    def projected(self, features: Tensor, labels: Tensor | None) -> Tensor | float:
        """What labels (B, K) add to logits (B,): the inner product of their embedding with the mean features, over
        the square root of their number. ``features`` are (B, ``label_features``, h, w).
        """
        if self.told is None or labels is None:
            return 0.0
        return (features.mean((2, 3)) * self.told(labels)).sum(1) * self.label_features**-0.5


class ConditionalGenerator(nn.Module):
    """A generator whose z ends in labels: (B, N + K), the N numbers of the network's own z, then K labels.

    So whatever uses a z can choose what the face shows. ``examples`` are labels of training faces, int8
    (``EXAMPLES``, K), from which labels are drawn where nobody chose them. Raises ValueError for a network that cannot
    be told labels.
    """

    examples: Tensor

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        take_labels(network, len(names))
        self.network, self.names = network, tuple(names)
        self.shape: tuple[int, ...] = tuple(network.latent_shape)  # type: ignore[arg-type]
        self.latent_shape = (prod(self.shape) + len(names),)
        self.latent, self.output_range = network.latent, network.output_range
        self.register_buffer("examples", torch.zeros(EXAMPLES, len(names), dtype=torch.int8))

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) from z (B, N + K)."""
        noise, labels = z.split([z.shape[1] - len(self.names), len(self.names)], 1)
        return self.network(noise.unflatten(1, self.shape), labels)


def with_labels(noise: Tensor, labels: Tensor) -> Tensor:
    """z (B, N + K) of noise (B, ...) with N numbers and labels (B, K)."""
    return torch.cat([noise.flatten(1), labels.to(noise)], 1)


def take_labels(network: nn.Module, count: int) -> None:
    """Make room for ``count`` labels in a network. Raises ValueError if it cannot be told any."""
    if not isinstance(network, TakesLabels):
        raise ValueError(f"{type(network).__name__} takes no labels; must be a network that has take_labels")
    network.take_labels(count)
