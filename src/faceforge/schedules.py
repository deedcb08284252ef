"""Values that change during a run, as functions of the images seen: a resumed run goes on exactly as it would have.

A schedule keeps the length it was given: in a run whose limit is raised later, the last value holds from there on.
"""

from __future__ import annotations

from math import cos, pi
from typing import Literal

Shape = Literal["cosine", "linear"]


class RateSchedule:
    """Base of schedules of learning rates: the factor of every optimiser's own rate, which is the highest."""

    def factor(self, images: int) -> float:
        """The factor after so many images, from 0 to 1."""
        raise NotImplementedError


class Decay(RateSchedule):
    """Up from 0 over ``warmup`` images, 1 until a share ``hold`` of ``images``, then down to ``end`` at ``images``.

    ``cosine`` falls along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5), ``linear`` evenly.
    pix2pix (Isola et al. 2017) decays linearly with ``hold`` 0.5.
    """

    def __init__(self, shape: Shape, images: int | None, warmup: int, hold: float, end: float) -> None:
        self.images = _length(images)
        if not (0 <= warmup < self.images and 0 <= hold < 1 and 0 <= end <= 1):
            raise ValueError(
                f"warmup={warmup}, hold={hold:g}, end={end:g}: warmup must be from 0 to less than the {self.images} "
                "images of the schedule, hold from 0 to less than 1, end from 0 to 1"
            )
        self.shape: Shape = shape
        self.warmup, self.hold, self.end = warmup, hold, end

    def factor(self, images: int) -> float:
        """As RateSchedule.factor."""
        if images < self.warmup:
            return images / self.warmup
        top = max(self.warmup, self.hold * self.images)
        return between(1.0, self.end, (images - top) / (self.images - top), self.shape)


class OneCycle(RateSchedule):
    """Up from ``start`` to 1 over a share ``rise`` of ``images``, then down to ``end``, both along half a cosine.

    Smith and Topin 2017 (arXiv 1708.07120), as torch's OneCycleLR, whose defaults are ``rise`` 0.3, ``start`` 1/25 and
    ``end`` 4e-6.
    """

    def __init__(self, images: int | None, rise: float, start: float, end: float) -> None:
        self.images = _length(images)
        if not (0 < rise < 1 and 0 <= start <= 1 and 0 <= end <= 1):
            found = f"rise={rise:g}, start={start:g}, end={end:g}"
            raise ValueError(f"{found}: rise must lie between 0 and 1, start and end from 0 to 1")
        self.rise, self.start, self.end = rise, start, end

    def factor(self, images: int) -> float:
        """As RateSchedule.factor."""
        top = self.rise * self.images
        if images < top:
            return between(self.start, 1.0, images / top, "cosine")
        return between(1.0, self.end, (images - top) / (self.images - top), "cosine")


class Moving:
    """A number that moves from ``start`` to ``end`` over ``images`` and then stays.

    R3GAN (Huang et al. 2024, arXiv 2501.05441) moves penalties, beta2, EMA length and augmentation strength like this.
    """

    def __init__(self, start: float, end: float, images: int, shape: Shape = "cosine") -> None:
        if min(start, end) < 0 or images < 1:
            found = f"start={start:g}, end={end:g}, images={images}"
            raise ValueError(f"{found}: start and end must be at least 0, images at least 1")
        self.start, self.end, self.images = start, end, images
        self.shape: Shape = shape

    def at(self, images: int) -> float:
        """The value after so many images."""
        return between(self.start, self.end, images / self.images, self.shape)


Amount = float | Moving  # of a setting that may move


def at(amount: Amount, images: int) -> float:
    """The value of a setting after so many images."""
    return amount.at(images) if isinstance(amount, Moving) else amount


def by_clock(schedule: object) -> RateSchedule | None:
    """A schedule of learning rates, for schemes that have no validation loss. Raises ValueError for torch's own."""
    if schedule is None or isinstance(schedule, RateSchedule):
        return schedule
    raise ValueError("model.schedule: must be cosine, linear or one_cycle, or another that follows the clock")


def between(start: float, end: float, share: float, shape: Shape) -> float:
    """The value at a share of the way from ``start`` to ``end``; outside [0, 1] it is the nearer end."""
    share = min(max(share, 0.0), 1.0)
    left = (1 + cos(pi * share)) / 2 if shape == "cosine" else 1 - share
    return end + (start - end) * left


def _length(images: int | None) -> int:
    if images is None or images < 1:
        found = "null" if images is None else images
        raise ValueError(
            f"images={found}: must be the length of the schedule, which trainer.max_images gives by default"
        )
    return images
