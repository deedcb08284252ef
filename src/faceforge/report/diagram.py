"""What a network is made of: traced without touching it, and drawn."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

WEIGHTED = ("Conv", "Linear", "Embedding", "Attention", "LSTM", "GRU")


# ---------------------------------------------------------------------------------------------------- trace


def describe(network: nn.Module, *example: Tensor) -> dict[str, Any]:
    """Class, parameter count, input shapes and layers (name, type, output shape, parameters) of a network.

    The layers are those that run on `example`, in order; shapes are without the batch. Everything happens on a
    copy in eval mode whose weights have shapes but no numbers (the meta device), so the network, its statistics
    and every random generator stay as they are. Where that cannot run, layers are listed without shapes.
    """
    about: dict[str, Any] = {
        "class": type(network).__name__,
        "parameters": sum(p.numel() for p in network.parameters()),
        "inputs": [list(tensor.shape[1:]) for tensor in example],
    }
    shell = _shell(network)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            layers = _trace(shell, [torch.empty_like(tensor, device="meta") for tensor in example])
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
        layers = [_layer(name, module, None) for name, module in _own_weights(shell)]
    return {**about, "layers": layers}


def _shell(network: nn.Module) -> nn.Module:
    """A copy in eval mode on the meta device; the tensors are never copied."""
    tensors = {id(p): nn.Parameter(_hollow(p), requires_grad=False) for p in network.parameters()}
    tensors |= {id(b): _hollow(b) for b in network.buffers()}
    return copy.deepcopy(network, tensors).eval()


def _hollow(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _trace(shell: nn.Module, inputs: Sequence[Tensor]) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    counted: set[str] = set()
    handles = []
    for name, module in _own_weights(shell):

        def record(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            layer = _layer(name, module, _shape(output))
            layer["parameters"] *= name not in counted  # a layer that runs twice has its weights once
            counted.add(name)
            layers.append(layer)

        handles.append(module.register_forward_hook(record))
    shell(*inputs)
    return layers


def _own_weights(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that do something themselves: leaves, and those that own parameters beside their children."""
    found = []
    for name, module in network.named_modules():
        inner = {key for key, _ in module.named_children()} - {"parametrizations"}
        inside = "parametrizations" in name.split(".")
        if not inside and (not inner or next(module.parameters(recurse=False), None) is not None):
            found.append((name, module))
    return found


def _layer(name: str, module: nn.Module, shape: list[int] | None) -> dict[str, Any]:
    own = [p.numel() for p in module.parameters(recurse=False)]
    kind = type(module).__name__
    if parametrize.is_parametrized(module):
        inner: Any = module.parametrizations
        own += [p.numel() for p in inner.parameters()]
        ways = sorted({type(way).__name__.strip("_") for ways in inner.values() for way in ways})
        kind = f"{kind.removeprefix('Parametrized')} + {', '.join(ways)}"
    return {"name": name or "(itself)", "type": kind, "shape": shape, "parameters": sum(own)}


def _shape(output: Any) -> list[int] | None:
    """Of the first tensor in what a layer returned, without the batch."""
    if isinstance(output, Tensor):
        return list(output.shape[1:])
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return next((shape for part in parts if (shape := _shape(part)) is not None), None)


# ------------------------------------------------------------------------------------------------- diagram


def group(layers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Layers gathered into blocks: a weighted layer with the norm and activation after it, shape of the last.

    A block has `layers`, their `types` (that with the weights first), `shape` and `parameters`.
    """
    blocks: list[dict[str, Any]] = []
    weighted = False
    for layer in layers:
        kind = str(layer.get("type", "?"))
        heavy = kind.startswith(WEIGHTED) or "Conv" in kind
        shape = layer.get("shape")
        moves = not layer.get("parameters") and blocks and shape and shape != blocks[-1]["shape"]
        if not blocks or (weighted and (heavy or moves)):
            blocks.append({"layers": [], "types": [], "shape": None, "parameters": 0})
            weighted = False
        weighted |= heavy
        block = blocks[-1]
        block["layers"].append(layer)
        block["types"].insert(0 if heavy else len(block["types"]), kind)
        block["shape"] = shape or block["shape"]
        block["parameters"] += int(layer.get("parameters") or 0)
    return blocks


def sheets(shape: Sequence[int] | None) -> list[tuple[int, float, float, float]]:
    """The shape as a picture: x, y, width, height of sheets as large as the image at that layer, from the hindmost.

    Sides grow by the logarithm, so that 4 and 256 both show; the more channels, the more sheets.
    """
    sizes = list(shape or [1])
    channels, height, width = (sizes[0], *sizes[-2:]) if len(sizes) >= 3 else (math.prod(sizes), 1, 1)
    tall, wide = (round(6 + 42 * min(1.0, math.log2(max(size, 1)) / 8), 1) for size in (height, width))
    count = min(6, 1 + round(math.log2(max(channels, 1)) / 2))
    return [(1 + 3 * n, round(64 - 3 * n - tall, 1), wide, tall) for n in reversed(range(count))]
