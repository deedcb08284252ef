"""The streams of counter_rng.py on tensors, on the device that uses them: a host is slow at pictures of noise.

The bits are the same; what logarithm and cosine make of them may differ in the last digit of a double, and so, once
rounded, by one digit of a float32. Where a device cannot compute them (`exact`), the CPU does.
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
    """The 64 bits of ``counter_rng.bits`` as int64 (N, *shape), on the device of the counters."""
    rows = _mix((counters.reshape(-1).long() + 1) * _GOLDEN + _signed(counter_rng.key(seed, purpose)))
    columns = torch.arange(1, prod(shape) + 1, device=rows.device) * _GOLDEN
    return _mix(rows[:, None] + columns).reshape(len(rows), *shape)


def uniform(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """U[0, 1) as float64 (N, *shape), those of ``counter_rng.uniform``."""
    return _shift(bits(seed, purpose, counters, shape), 11).double().mul_(2.0**-53)


def normal(seed: int, purpose: str, counters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """N(0, 1) as float64 (N, *shape), those of ``counter_rng.normal``."""
    radius = uniform(seed, purpose + "/radius", counters, shape).neg_().log1p_().mul_(-2.0).sqrt_()
    return uniform(seed, purpose + "/angle", counters, shape).mul_(2.0 * pi).cos_().mul_(radius)


def counters(device: torch.device, starts: range, count: int) -> Tensor:
    """``count`` counters from each start, (starts * count,) int64, made on the device: copying would wait for it."""
    first = torch.arange(starts.start, starts.stop, starts.step, device=device)
    return (first[:, None] + torch.arange(count, device=device)).reshape(-1)


@lru_cache(maxsize=16)
def exact(device: torch.device) -> bool:
    """Whether a device computes these streams: int64 that wraps around, and float64 (Apple's GPUs have none).

    Asked of the device itself, once.
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
    """The counters where their streams can be computed: on their own device, or else on the CPU."""
    return keys if exact(keys.device) else keys.cpu()


def seed(device: torch.device, value: int) -> None:
    """Key torch's generators of the CPU and of ``device``.

    ``torch.manual_seed`` also notes, for every kind of device that is not in use, who called: 0.7 ms a step.
    """
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """Draws within leave no trace in the generators of the CPU and of ``device``."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device.index or 0], device_type=device.type)
