"""The moving average of a network (Karras et al. 2018, arXiv 1710.10196, appendix A), with a half-life in images."""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """A frozen copy in eval mode, moved by ``update``."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(images: int, seen: int, half_life: float, ramp: float | None) -> float:
    """The weight that the average keeps after ``images`` more: 0.5 ** (images / half-life).

    With a ramp the half-life is at most ``ramp`` times the images ``seen``, so that a short run forgets its start.
    """
    if ramp is not None:
        half_life = min(half_life, ramp * seen)
    return 0.5 ** (images / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, keep: float) -> None:
    """average <- keep * average + (1 - keep) * network, for parameters and batch statistics alike; counters are copied.

    At high learning rates, the training network's statistics do not fit averaged weights.
    """
    mine, its = _tensors(average), _tensors(network)
    for average_of, network_of, move in zip(mine, its, (_lerp, _copy), strict=True):
        if len(average_of) != len(network_of):
            raise ValueError("the average is not a copy of the network")
        if average_of:
            move(average_of, network_of, keep)


def _lerp(average: list[Tensor], network: list[Tensor], keep: float) -> None:
    torch._foreach_lerp_(average, network, 1.0 - keep)  # pyright: ignore[reportPrivateImportUsage]


def _copy(average: list[Tensor], network: list[Tensor], keep: float) -> None:
    torch._foreach_copy_(average, network)  # pyright: ignore[reportPrivateImportUsage]


Places = list[tuple[dict[str, Tensor | None], str]]
_places: WeakKeyDictionary[nn.Module, tuple[Places, Places]] = WeakKeyDictionary()


def _tensors(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Floating tensors and counters, in module order."""
    places = _places.get(network)
    if places is None:
        places = _places[network] = _look_up(network)
    return tuple([held[name] for held, name in kind] for kind in places)  # type: ignore[return-value]


def _look_up(network: nn.Module) -> tuple[Places, Places]:
    """The dicts that hold the tensors, cached: walking the modules at every step takes longer than averaging.

    Moving or loading a network replaces the tensors in the same dicts.
    """
    held = [held for module in network.modules() for held in (module._parameters, module._buffers)]
    places = {id(held[name]): (held, name) for held in held for name in held if held[name] is not None}
    floating = [(held, name) for held, name in places.values() if held[name].is_floating_point()]  # type: ignore[union-attr]
    counters = [(held, name) for held, name in places.values() if not held[name].is_floating_point()]  # type: ignore[union-attr]
    return floating, counters  # type: ignore[return-value]
