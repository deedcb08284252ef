"""What a network is made of: traced without touching it, and drawn."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from faceforge.report.markup import Html, join, tag, times

WEIGHTED = ("Conv", "Linear", "Embedding", "Attention", "LSTM", "GRU")
FOLDED_FROM = 24


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


# ----------------------------------------------------------------------------------------------------- draw


def draw(name: str, network: Mapping[str, Any]) -> Html:
    """One network as a row of boxes, a box for each weighted layer with what follows it."""
    blocks = group(network.get("layers") or [])
    largest = max((block["parameters"] for block in blocks), default=0)
    inputs = [_end("input", shape) for shape in network.get("inputs") or []]
    boxes = tag("ol", *inputs, *(_box(block, largest) for block in blocks), class_="layers")
    count = int(network.get("parameters") or 0)
    head = tag("h3", name.replace("_", " "), " ", tag("small", f"{network.get('class', '')}, {count:,} parameters"))
    if len(blocks) > FOLDED_FROM:
        boxes = tag("details", tag("summary", f"{len(blocks)} groups of layers"), boxes)
    return tag("section", head, boxes, class_="network")


def group(layers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Layers gathered into blocks: a weighted layer with the norm and activation after it, shape of the last."""
    blocks: list[dict[str, Any]] = []
    weighted = False
    for layer in layers:
        heavy = str(layer.get("type", "")).startswith(WEIGHTED) or "Conv" in str(layer.get("type", ""))
        shape = layer.get("shape")
        moves = not layer.get("parameters") and blocks and shape and shape != blocks[-1]["shape"]
        if not blocks or (weighted and (heavy or moves)):
            blocks.append({"layers": [], "shape": None, "parameters": 0})
            weighted = False
        weighted |= heavy
        block = blocks[-1]
        block["layers"].append(layer)
        block["shape"] = shape or block["shape"]
        block["parameters"] += int(layer.get("parameters") or 0)
    return blocks


def _end(word: str, shape: Sequence[int]) -> Html:
    return tag("li", _figure(shape), tag("b", word), tag("span", _times(shape), class_="shape"), class_="end")


def _box(block: Mapping[str, Any], largest: int) -> Html:
    names = ", ".join(str(layer.get("name")) for layer in block["layers"])
    lines = [tag("b" if n == 0 else "span", _kind(layer)) for n, layer in enumerate(_heavy_first(block["layers"]))]
    share = math.sqrt(block["parameters"] / largest) if largest else 0
    bar = tag("i", class_="weight", style=f"width:{100 * share:.0f}%")
    count = f"{block['parameters']:,}" if block["parameters"] else "no"
    foot = tag("span", f"{count} parameters", class_="count")
    shape = tag("span", _times(block["shape"]), class_="shape")
    return tag("li", _figure(block["shape"]), *lines, shape, bar, foot, title=names)


def _heavy_first(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(layers, key=lambda layer: not str(layer.get("type", "")).startswith(WEIGHTED))


def _kind(layer: Mapping[str, Any]) -> str:
    return str(layer.get("type", "?"))


def _times(shape: Sequence[int] | None) -> str:
    return times(shape) if shape else ("1" if shape == [] else "shape unknown")


def _figure(shape: Sequence[int] | None) -> Html:
    """The shape as a picture: a sheet as large as the image at that layer, deeper the more channels it has."""
    sizes = list(shape or [1])
    channels, height, width = (sizes[0], *sizes[-2:]) if len(sizes) >= 3 else (math.prod(sizes), 1, 1)
    tall, wide = (_reach(size) for size in (height, width))
    sheets = min(6, 1 + round(math.log2(max(channels, 1)) / 2))
    drawn = [
        f'<rect x="{1 + 3 * n}" y="{64 - 3 * n - tall:.1f}" width="{wide}" height="{tall}" rx="1.5"/>'
        for n in reversed(range(sheets))
    ]
    attributes = {"viewBox": "0 0 66 66", "width": 66, "height": 66, "aria_hidden": "true", "class_": "sheets"}
    return tag("svg", Html("".join(drawn)), **attributes)


def _reach(size: int) -> float:
    """Side in pixels of a picture side: by the logarithm, so that 4 and 256 both show."""
    return round(6 + 42 * min(1.0, math.log2(max(size, 1)) / 8), 1)


def draw_all(networks: Mapping[str, Any]) -> Html:
    """Every network of run.json's `networks`."""
    return join(draw(str(name), network) for name, network in networks.items() if isinstance(network, Mapping))
