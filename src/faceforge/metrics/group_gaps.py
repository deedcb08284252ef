"""Differences of scores between faces with and without each of many attributes, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceforge.metrics.bootstrap import RESAMPLES, Resamples
from faceforge.metrics.units import Groups, units

FEWEST = 10  # people on each side of a comparison
LEVEL = 0.95
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """A score of faces with and without an attribute: means, and the interval of their difference (with - without).

    ``t`` is the difference in standard errors. The intervals of all gaps that were computed together hold together.
    """

    attribute: str
    score: str
    with_it: float
    without: float
    low: float
    high: float
    t: float

    @property
    def difference(self) -> float:
        """With - without."""
        return self.with_it - self.without


def sides(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """1 with, 0 without, nan unknown (N,): labels of 0 and 1 as they are, other numbers above their median or not."""
    known = ~np.isnan(values)
    if set(np.unique(values[known]).tolist()) <= {0.0, 1.0}:
        return values
    return np.where(known, values > np.median(values[known]), np.nan)


def people_on(side: NDArray[np.floating], groups: Groups) -> tuple[int, int]:
    """How many people have faces with an attribute, and without it."""
    unit = units(groups, len(groups)).numpy()
    return len(np.unique(unit[side == 1])), len(np.unique(unit[side == 0]))


def gaps(
    values: Mapping[str, NDArray[np.floating]],
    attributes: Mapping[str, NDArray[np.floating]],
    groups: Groups,
    seed: int,
) -> list[Gap]:
    """Every score (N,) of `values` by every attribute (N,), 1, 0 or nan: a bootstrap over people.

    Intervals are difference +- c standard errors, where c is the 95 % quantile of the largest deviation, in standard
    errors, over all attributes and scores in a resample (the single-step max-t method of Westfall and Young 1993). The
    chance that any of the intervals misses is about 5 %, however the attributes depend on one another.
    """
    if not values or not attributes:
        return []
    who = Resamples(groups, seed)
    found = [
        _resampled(who, np.asarray(score, np.float64), side)
        for score in values.values()
        for side in attributes.values()
    ]
    means, draws = np.array([mean for mean, _ in found]), np.stack([drawn for _, drawn in found], axis=1)
    differences = means[:, 0] - means[:, 1]
    errors = np.maximum(np.nanstd(draws, axis=0), 1e-12)
    largest = np.nanmax(np.abs(draws - differences) / errors, axis=1)
    c = float(np.quantile(largest, LEVEL))
    names = [(attribute, score) for score in values for attribute in attributes]
    return [
        Gap(*name, *mean.tolist(), float(d - c * e), float(d + c * e), float(d / e))
        for name, mean, d, e in zip(names, means, differences, errors, strict=True)
    ]


def _resampled(who: Resamples, values: Array, side: NDArray[np.floating]) -> tuple[tuple[float, float], Array]:
    """The means with and without, and their difference in each resample; nan where a side is empty."""
    means, draws = [], np.zeros(RESAMPLES)
    for sign, mask in ((1, side == 1), (-1, side == 0)):
        means.append(float(values[mask].mean()))
        with np.errstate(invalid="ignore"):
            draws += sign * who.means(values, mask)
    return (means[0], means[1]), draws
