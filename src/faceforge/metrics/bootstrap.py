"""Bootstrap intervals of means over images, resampled by person, since images of a person are not independent.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceforge import counter_rng

Groups = Sequence[str | int | None]
RESAMPLES = 1000
BLOCK = 1 << 20  # resamples at a time


def unit_numbers(groups: Groups | None, n: int) -> NDArray[np.int64]:
    """The unit number of each image, (n,), counted in the order in which units appear. None is its own unit."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} group labels for {n} images")
    keys = range(n) if groups is None else [(i,) if g is None else g for i, g in enumerate(groups)]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


class Resamples:
    """The cluster bootstrap: people drawn with replacement, each with all their images, the same for every score.

    Percentile intervals (Efron 1979) of the mean over images. One object serves all rows, so the interval of a
    difference between two rows is paired.
    """

    def __init__(self, groups: Groups, seed: int) -> None:
        """``groups``: the person of each image; None counts as its own person."""
        self.unit = unit_numbers(groups, len(groups))
        self.images = np.bincount(self.unit).astype(np.float64)
        self._weights = self._draw(len(self.images), seed)

    @property
    def people(self) -> int:
        """The number of people."""
        return len(self.images)

    @property
    def protocol(self) -> str:
        """A description for a score's protocol."""
        return f"95 %, percentile bootstrap of {self.people} people, {RESAMPLES} resamples"

    def interval(self, values: NDArray[np.floating]) -> tuple[float, float]:
        """The interval of the mean of one value per image (N,)."""
        sums = np.bincount(self.unit, np.asarray(values, np.float64), minlength=self.people)
        means = (self._weights @ sums) / (self._weights @ self.images)
        low, high = np.quantile(means, [0.025, 0.975])
        return float(low), float(high)

    def means(self, values: NDArray[np.floating], among: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The mean of values (N,) over the images ``among`` (N,), in each resample (RESAMPLES,); nan where none is."""
        sums = np.bincount(self.unit, np.where(among, values, 0.0), minlength=self.people)
        return (self._weights @ sums) / (self._weights @ np.bincount(self.unit, among, minlength=self.people))

    @staticmethod
    def _draw(people: int, seed: int) -> NDArray[np.float32]:
        """The count of each person in each resample: (RESAMPLES, people)."""
        weights = np.empty((RESAMPLES, people), np.float32)
        block = max(1, BLOCK // people)
        for first in range(0, RESAMPLES, block):
            some = np.arange(first, min(first + block, RESAMPLES))
            drawn = (counter_rng.uniform(seed, "evaluate/bootstrap", some, (people,)) * people).astype(np.int64)
            places = drawn + people * (some - first)[:, None]
            weights[some] = np.bincount(places.ravel(), minlength=len(some) * people).reshape(len(some), people)
        return weights
