"""Image sizes, [height, width] or one int, and which of them a network supports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor

Size = int | Sequence[int]
Pair = tuple[int, int]


def as_pair(size: Size) -> Pair:
    """(height, width) of a size given as one int or two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def seed_of(size: Size) -> tuple[int, Pair]:
    """The number n of doublings and the seed (height, width) / 2**n, whose shorter side is 4 to 7.

    Both sides must be multiples of 2**n, where n is the largest that leaves at least 4 in the shorter side:
    64 is 4x4 doubled four times, [160, 128] is 5x4 doubled five times. Raises ValueError naming the nearest
    valid sizes.
    """
    height, width = as_pair(size)
    doublings = _doublings(min(height, width))
    unit = 2**doublings
    if doublings < 1 or height % unit or width % unit:
        near = " or ".join(text(pair) for pair in nearest_seeds((height, width)))
        raise ValueError(f"cannot upsample a small seed to {text((height, width))}; the nearest sizes are {near}")
    return doublings, (height // unit, width // unit)


def nearest_seeds(size: Pair) -> list[Pair]:
    """The nearest sizes below and above that ``seed_of`` supports; one if both are the same."""
    unit = 2 ** max(_doublings(min(size)), 1)
    below = _multiples(size, unit, floor, least=4)
    if ceil(min(size) / unit) == 8:  # the shorter side grows into the next doubling
        unit *= 2
    return list(dict.fromkeys([below, _multiples(size, unit, ceil, least=4)]))


def halvings_of(size: Size) -> int:
    """The number of halvings down to a few positions: as many as both sides allow, to no less than 4.

    At most two fewer than the shorter side alone would allow, so that 4 to 31 positions remain there: 64 and 72 are
    halved four and three times, [160, 128] five times. Both sides must be multiples of 2 (up to 63), 4 (to 127), 8
    (to 255) and so on. Raises ValueError naming the nearest valid sizes.
    """
    height, width = as_pair(size)
    most = _doublings(min(height, width))
    for halvings in range(most, max(most - 3, 0), -1):
        if height % 2**halvings == 0 == width % 2**halvings:
            return halvings
    unit = _least_unit((height, width))
    wrong = f"both sides must be multiples of {unit}" if most else "both sides must be at least 8"
    raise refusal((height, width), wrong, _nearest_halvings((height, width)))


def _least_unit(size: Pair) -> int:
    """The unit of which both sides must be multiples to be halved often enough."""
    return 2 ** max(_doublings(min(size)) - 2, 1)


def _nearest_halvings(size: Pair) -> list[Pair]:
    unit = _least_unit(size)
    below, above = (_multiples(size, unit, to_whole, least=max(1, 8 // unit)) for to_whole in (floor, ceil))
    if (larger := _least_unit(above)) > unit:  # the shorter side grows into the next halving
        above = _multiples(size, larger, ceil, least=1)
    return list(dict.fromkeys([below, above]))


def multiple_of(size: Size, unit: int, why: str, least: int = 1) -> Pair:
    """(height, width) if both are multiples of ``unit``, at least ``least`` units.

    Otherwise raises ValueError with ``why`` and the nearest valid sizes.
    """
    height, width = as_pair(size)
    if height % unit or width % unit or min(height, width) < least * unit:
        raise refusal((height, width), why, nearest_multiples((height, width), unit, least))
    return height, width


def nearest_multiples(size: Pair, unit: int, least: int = 1) -> list[Pair]:
    """The nearest sizes below and above of at least ``least`` units; one if both are the same."""
    return list(dict.fromkeys(_multiples(size, unit, to_whole, least) for to_whole in (floor, ceil)))


def refusal(size: Pair, why: str, legal: Sequence[Pair]) -> ValueError:
    """The error ``data.size=[300,300]: <why>; try [288,288] or [304,304]``."""
    named = " or ".join(f"[{height},{width}]" for height, width in legal)
    return ValueError(f"data.size=[{size[0]},{size[1]}]: {why}; try {named}")


def text(size: Pair) -> str:
    """``64x64``."""
    return f"{size[0]}x{size[1]}"


def _doublings(side: int) -> int:
    return max(side // 4, 1).bit_length() - 1


def _multiples(size: Pair, unit: int, to_whole: Callable[[float], int], least: int) -> Pair:
    height, width = (max(least, to_whole(side / unit)) * unit for side in size)
    return height, width
