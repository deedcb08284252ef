"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): activations computed twice instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Buffers = list[tuple[dict[str, Tensor | None], str, Tensor]]  # the dict of a module, a name in it, and its tensor


class Recomputing(nn.Module):
    """Base of networks with ``gradient_checkpointing``: less memory in training, a second pass through each block."""

    gradient_checkpointing = False

    def run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """The output of a block."""
        return recomputed(block, *inputs) if self.gradient_checkpointing and self.training else block(*inputs)


@torch.compiler.disable(recursive=False)
def recomputed(block: nn.Module, *inputs: Tensor) -> Tensor:
    """``block(*inputs)``, keeping only the inputs; the backward pass computes the rest again.

    Values and gradients are those of ``block(*inputs)``: the second time, dropout draws the same masks, and buffers
    (statistics of batch norm, vectors of spectral norm) begin as they were and stay as they are.
    """
    if not torch.is_grad_enabled():
        return block(*inputs)
    before = snapshot(block)

    def passes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _with(before)

    return checkpoint(block, *inputs, use_reentrant=False, context_fn=passes)  # type: ignore[return-value]


def snapshot(*networks: nn.Module, but: tuple[type[nn.Module], ...] = ()) -> Buffers:
    """Copies of all buffers of networks, except those of some kinds of modules."""
    modules = (module for network in networks for module in network.modules() if not isinstance(module, but))
    held = ((module._buffers, name, buffer) for module in modules for name, buffer in module._buffers.items())
    return [(buffers, name, buffer.clone()) for buffers, name, buffer in held if buffer is not None]


def rewind(before: Buffers) -> None:
    """Put the buffers of a snapshot back: new tensors, since a backward pass may need the present ones."""
    for buffers, name, values in before:
        buffers[name] = values.clone()


@contextmanager
def _with(before: Buffers) -> Iterator[None]:
    now = [(buffers, name, buffers[name]) for buffers, name, _ in before]
    rewind(before)
    try:
        yield
    finally:
        for buffers, name, buffer in now:
            buffers[name] = buffer
