"""The counter streams of streams.py on tensors, on any device: noise of whole pictures is much for a processor.

The bits are the same; what logarithm and cosine make of them may differ in the last digit of a double.
"""

from __future__ import annotations

from math import pi, prod

import torch
from torch import Tensor

from faceforge import streams


def _signed(x: int) -> int:
    """The int64 of the same 64 bits, for torch computes with no other."""
    return x - (1 << 64) if x >> 63 else x


_GOLDEN, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(x: Tensor) -> Tensor:
    """In place: pictures of noise are large."""
    x.bitwise_xor_(_shift(x, 30)).mul_(_FIRST)
    x.bitwise_xor_(_shift(x, 27)).mul_(_SECOND)
    return x.bitwise_xor_(_shift(x, 31))


def bits(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The 64 bits of ``streams.bits`` as int64 (N, *shape), on the device of the counters."""
    rows = _mix((counters.reshape(-1).long() + 1) * _GOLDEN + _signed(streams.key(seed, purpose)))
    columns = torch.arange(1, prod(shape) + 1, device=rows.device) * _GOLDEN
    return _mix(rows[:, None] + columns).reshape(len(rows), *shape)


def uniform(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """U[0, 1) as float64 (N, *shape), those of ``streams.uniform``."""
    return _shift(bits(seed, purpose, counters, shape), 11).double().mul_(2.0**-53)


def normal(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """N(0, 1) as float64 (N, *shape), those of ``streams.normal``."""
    radius = uniform(seed, purpose + "/radius", counters, shape).neg_().log1p_().mul_(-2.0).sqrt_()
    return uniform(seed, purpose + "/angle", counters, shape).mul_(2.0 * pi).cos_().mul_(radius)
