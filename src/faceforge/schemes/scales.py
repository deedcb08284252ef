"""Between the scale of images, [-1, 1] wherever they are handed on, and those that networks and losses have."""

from __future__ import annotations

import math

from torch import Tensor, nn

Span = tuple[float, float]
SIGNED: Span = (-1.0, 1.0)
UNIT: Span = (0.0, 1.0)  # where losses see images


def rescale(images: Tensor, source: Span, target: Span) -> Tensor:
    """Map one value range linearly to another; an unbounded range counts as [low, low + 1]."""
    if source == target:
        return images
    (a, b), (c, d) = _bounded(source), _bounded(target)
    return (images - a) * ((d - c) / (b - a)) + c


def _bounded(span: Span) -> Span:
    return span if math.isfinite(span[1]) else (span[0], span[0] + 1.0)


def input_range(network: nn.Module) -> Span:
    """The range of a network's inputs."""
    return network.input_range  # type: ignore[return-value]


def output_range(network: nn.Module) -> Span:
    """The range of its outputs; the upper end may be infinite."""
    return network.output_range  # type: ignore[return-value]


def into(network: nn.Module, images: Tensor) -> Tensor:
    """Images in [-1, 1] converted to a network's input range."""
    return rescale(images, SIGNED, input_range(network))


def out_of(network: nn.Module, outputs: Tensor, span: Span = SIGNED) -> Tensor:
    """Outputs of a network converted to another range; unbounded outputs may leave it."""
    return rescale(outputs, output_range(network), span)
