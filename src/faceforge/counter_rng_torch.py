"""The streams of counter_rng.py on tensors, computed on the device that uses them.

The bits are the same; logarithm and cosine may differ in the last digit of a double and so, once rounded, in the last
digit of a float32. If a device cannot compute them (`exact`), the CPU does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from math import pi, prod

import numpy as np
import torch
from torch import Tensor

from faceforge import counter_rng


def _signed(x: int) -> int:
    """The int64 with the same 64 bits, the only 64-bit type that torch computes with."""
    return x - (1 << 64) if x >> 63 else x


_GOLDEN, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(x: Tensor) -> Tensor:
    """In place, since noise images are large."""
    x.bitwise_xor_(_shift(x, 30)).mul_(_FIRST)
    x.bitwise_xor_(_shift(x, 27)).mul_(_SECOND)
    return x.bitwise_xor_(_shift(x, 31))


def bits(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The 64 bits of ``counter_rng.bits`` as int64 (N, *shape), on the device of the counters."""
    rows = _mix((counters.reshape(-1).long() + 1) * _GOLDEN + _signed(counter_rng.key(seed, purpose)))
    columns = torch.arange(1, prod(shape) + 1, device=rows.device) * _GOLDEN
    return _mix(rows[:, None] + columns).reshape(len(rows), *shape)


def uniform(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """U[0, 1) as float64 (N, *shape), equal to ``counter_rng.uniform``."""
    return _shift(bits(seed, purpose, counters, shape), 11).double().mul_(2.0**-53)


def normal(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """N(0, 1) as float64 (N, *shape), equal to ``counter_rng.normal`` within rounding."""
    radius = uniform(seed, purpose + "/radius", counters, shape).neg_().log1p_().mul_(-2.0).sqrt_()
    return uniform(seed, purpose + "/angle", counters, shape).mul_(2.0 * pi).cos_().mul_(radius)


def counters(device: torch.device, starts: range, count: int) -> Tensor:
    """``count`` counters from each start, (starts * count,) int64, created on the device: a copy would synchronise."""
    first = torch.arange(starts.start, starts.stop, starts.step, device=device)
    return (first[:, None] + torch.arange(count, device=device)).reshape(-1)


@lru_cache(maxsize=16)
def exact(device: torch.device) -> bool:
    """Whether a device supports these streams: int64 with wrap-around, and float64 (Apple GPUs have none).

    Tested once on the device.
    """
    expected = counter_rng.bits(0, "exact", range(3), (2,)).view(np.int64)
    try:
        keys = torch.arange(3, device=device)
        return bool(normal(0, "exact", keys, (2,)).isfinite().all()) and np.array_equal(
            bits(0, "exact", keys, (2,)).cpu().numpy(), expected
        )
    except (RuntimeError, TypeError):
        return False


def computable(keys: Tensor) -> Tensor:
    """The counters on a device that can compute their streams: their own, or else the CPU."""
    return keys if exact(keys.device) else keys.cpu()


def seed(device: torch.device, value: int) -> None:
    """Seed torch's generators of the CPU and of ``device``.

    ``torch.manual_seed`` also records a stack trace for every unused kind of device: 0.7 ms per step.
    """
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """Restore the generators of the CPU and of ``device`` after the block."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device.index or 0], device_type=device.type)
