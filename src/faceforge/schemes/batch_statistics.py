"""Batch norm, and the discriminator's measure of variety, over the images of all ranks, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from faceforge.networks.dcgan import Variety


def synchronise(networks: Iterable[nn.Module]) -> None:
    """Let networks in training use the statistics of all ranks' images. Weights and their names stay as they are.

    torch's SyncBatchNorm needs CUDA and cannot be differentiated twice, as gradient penalties are.
    """
    for module in _modules(networks):
        if isinstance(module, _BatchNorm):
            module.forward = partial(_normalised, module)
        elif isinstance(module, Variety):
            module.variance = partial(_variance, module)


def release(networks: Iterable[nn.Module]) -> None:
    """Undo ``synchronise``."""
    for module in _modules(networks):
        if isinstance(module, _BatchNorm):
            module.__dict__.pop("forward", None)
        elif isinstance(module, Variety):
            module.__dict__.pop("variance", None)


def _modules(networks: Iterable[nn.Module]) -> list[nn.Module]:
    return [module for network in networks for module in network.modules()]


def _normalised(norm: _BatchNorm, input: Tensor) -> Tensor:
    """(N, C, ...) normalised over the rows and places of all ranks (Ioffe and Szegedy 2015, arXiv 1502.03167).

    In eval mode, ``norm`` itself. Each rank has as many rows as the others. Computed in at least single precision.
    """
    if not norm.training:
        return type(norm).forward(norm, input)
    exact = input if input.dtype == torch.float64 else input.float()
    near = exact.new_zeros(()) if norm.running_mean is None else norm.running_mean.to(exact.dtype)
    mean, variance = _moments(exact, [d for d in range(input.dim()) if d != 1], near)
    _track(norm, mean.detach(), variance.detach(), input.numel() // input.shape[1] * distributed.get_world_size())
    scale = (variance + norm.eps).rsqrt()
    shift = -mean * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    shape = [-1 if d == 1 else 1 for d in range(input.dim())]
    return torch.addcmul(shift.view(shape), exact, scale.view(shape)).to(input.dtype)


def _variance(variety: Variety, features: Tensor) -> Tensor:
    """As Variety.variance, over the batches of all ranks; in eval mode, itself."""
    if not variety.training:
        return Variety.variance(variety, features)
    return _moments(features, [0], features.new_zeros(()))[1]


@torch.compiler.disable()
def _moments(x: Tensor, places: Sequence[int], near: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over some dimensions and all ranks. Squares lose fewer digits the nearer the mean is to
    ``near``, which must be the same on all ranks.
    """
    variance, mean = torch.var_mean(x, list(places), correction=0)
    offset = mean - near
    offset, square = _MeanOverRanks.apply(torch.stack([offset, variance + offset.square()]))
    return near + offset, square - offset.square()


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics, with the unbiased variance of ``count`` values, as torch does."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_((variance * count / max(1, count - 1)).to(norm.running_var.dtype), share)


class _MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over all ranks. It is its own derivative: what a rank gave is in the mean of each."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:  # type: ignore[override]
        total = values.clone()
        distributed.all_reduce(total)
        return total.div_(distributed.get_world_size())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _MeanOverRanks.apply(gradient)
