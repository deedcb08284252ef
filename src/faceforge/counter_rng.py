"""Randomness as a function: every draw is computed from (seed, purpose, counter), never from a generator's past.

Batches, ranks, workers and interruptions therefore cannot change what is drawn. The bits come from the finaliser of
SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", fig. 16), applied to counters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

AHEAD, NUMBERS = 16, 2**16  # maximum of steps, and of numbers, drawn at a time
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE, _UNUSED = np.uint64(1), np.uint64(11)


@lru_cache(maxsize=64)
def _start(seed: int, purpose: str) -> np.uint64:
    return np.uint64(key(seed, purpose))


@lru_cache(maxsize=16)
def _columns(count: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        columns = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
    columns.setflags(write=False)
    return columns


def key(seed: int, *purpose: str | int) -> int:
    """A 64-bit key for (seed, purpose): the first 8 bytes of a SHA-256; similar purposes give unrelated keys."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


_MIXING = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST = np.uint64(31)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """In place."""
    for shift, factor in _MIXING:
        x ^= x >> shift
        x *= factor
    x ^= x >> _LAST
    return x


def bits(seed: int, purpose: str, counters: ArrayLike, shape: tuple[int, ...] = ()) -> NDArray[np.uint64]:
    """64 random bits per counter and element: (N, *shape)."""
    rows = np.asarray(counters, dtype=np.int64).reshape(-1).astype(np.uint64)  # a copy; arrays overflow silently
    rows += _ONE
    rows *= _GOLDEN
    rows += _start(seed, purpose)
    return _mix(_mix(rows)[:, None] + _columns(prod(shape))).reshape(len(rows), *shape)


def uniform(seed: int, purpose: str, counters: ArrayLike, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """U[0, 1) with 53 bits for each counter: (N, *shape)."""
    drawn = bits(seed, purpose, counters, shape)
    drawn >>= _UNUSED
    values = drawn.astype(np.float64)
    values *= 2.0**-53
    return values


def normal(seed: int, purpose: str, counters: ArrayLike, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """N(0, 1) by Box and Muller (1958) for each counter: (N, *shape)."""
    radius = uniform(seed, purpose + "/radius", counters, shape)
    angle = uniform(seed, purpose + "/angle", counters, shape)
    np.log1p(np.negative(radius, out=radius), out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2.0 * np.pi
    radius *= np.cos(angle, out=angle)
    return radius


@lru_cache(maxsize=8)
def permutation(seed: int, purpose: str, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n items in one epoch: (n,) int64."""
    order = np.random.Generator(np.random.Philox(key=key(seed, purpose, epoch))).permutation(n)
    order.setflags(write=False)
    return order


def order(seed: int, n: int, positions: ArrayLike) -> NDArray[np.int64]:
    """The item (of n) at each clock position: position p is entry p % n of the permutation of epoch p // n."""
    epochs, places = np.divmod(np.asarray(positions, dtype=np.int64).reshape(-1), n)
    found = set(epochs.tolist())
    if len(found) == 1:
        return permutation(seed, "order", *found, n)[places]
    items = np.empty_like(places)
    for epoch in found:
        here = epochs == epoch
        items[here] = permutation(seed, "order", epoch, n)[places[here]]
    return items


def counters(starts: range, count: int) -> NDArray[np.int64]:
    """``count`` counters from each start: (starts * count,)."""
    return (np.asarray(starts)[:, None] + np.arange(count)).reshape(-1)


class BatchedDraws:
    """``draw(counters)`` (N, ...) for equally spaced ranges of counters, computed for several steps at a time.

    A call costs more than its numbers. The numbers are unchanged, since each is a function of its own counter.
    ``counters`` builds the argument of ``draw``: arrays here, tensors for draws on a device.
    """

    def __init__(self, draw: Callable[[Any], Any], counters: Callable[[range, int], Any] = counters) -> None:
        self.draw, self.counters = draw, counters
        self._starts = range(0)
        self._drawn: Any = np.empty((0, 0))

    def __call__(self, counters: range) -> Any:
        """The draws for ``counters``."""
        first, count = counters.start, len(counters)
        if first not in self._starts or self._drawn.shape[1] != count:
            stride = first - self._starts[-1] if self._starts else 0
            steps = min(AHEAD, max(1, NUMBERS // max(1, prod(self._drawn.shape[1:])))) if stride > 0 else 1
            self._starts = range(first, first + steps * max(1, stride), max(1, stride))
            drawn = self.draw(self.counters(self._starts, count))
            self._drawn = drawn.reshape(steps, count, *drawn.shape[1:])
        return self._drawn[self._starts.index(first)]
