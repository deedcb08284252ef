"""The averaged copy of a network (Karras et al. 2018, arXiv 1710.10196, appendix A), with its half-life in images."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """A frozen copy in eval mode, to be moved by ``update``."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(images: int, seen: int, half_life: float, ramp: float | None) -> float:
    """What remains of the average after ``images`` more: 0.5 ** (images / half-life).

    With a ramp the half-life is at most ``ramp`` times the images ``seen``, so that a short run forgets its start.
    """
    if ramp is not None:
        half_life = min(half_life, ramp * seen)
    return 0.5 ** (images / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, keep: float) -> None:
    """average <- keep * average + (1 - keep) * network, for parameters and batch statistics alike; counters are copied.

    Statistics of the moving network do not fit averaged weights where the learning rate is high.
    """
    pairs = list(zip(_tensors(average), _tensors(network), strict=True))
    moving = [(mine, its) for mine, its in pairs if mine.is_floating_point()]
    mine, its = zip(*moving, strict=True)
    torch._foreach_lerp_(list(mine), list(its), 1.0 - keep)  # pyright: ignore[reportPrivateImportUsage]
    for counter, its in pairs:
        if not counter.is_floating_point():
            counter.copy_(its)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [t.detach() for t in (*network.parameters(), *network.buffers())]
