"""Scores whose units are people instead of images, with jackknife intervals over units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from faceforge.metrics.bootstrap import Groups, unit_numbers


@dataclass(frozen=True, slots=True)
class Score:
    """A value with its 95 % interval and its protocol.

    ``parts`` are what single faces contributed: ``fake`` or ``real`` (N,), of which the score is the mean, or
    ``without_fake`` and ``without_real`` (units,), by how much it changes if one unit is left out.
    """

    value: float
    low: float
    high: float
    protocol: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def units(groups: Groups | None, n: int) -> Tensor:
    """As unit_numbers(), as a tensor (n,) int64."""
    return torch.from_numpy(unit_numbers(groups, n))


def enough_units(groups: Groups | None, n: int) -> Tensor:
    """As units(). Raises ValueError below three units, which have no interval."""
    found = units(groups, n)
    if len(found.unique()) < 3:
        raise ValueError(f"KID and diversity need at least 3 independent images a side, found {len(found.unique())}")
    return found


def between_units(pairs: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Sums of a matrix over pairs of images, grouped by pairs of units."""
    rows = pairs.new_zeros(int(a.max()) + 1, pairs.shape[1]).index_add_(0, a, pairs)
    return pairs.new_zeros(len(rows), int(b.max()) + 1).index_add_(1, b, rows)


def mean_between(sums: Tensor, sizes: Tensor) -> Tensor:
    """Mean kernel over ordered pairs of different units."""
    return (sums.sum() - sums.trace()) / (sizes.sum() ** 2 - (sizes**2).sum())


def means_without(sums: Tensor, sizes: Tensor) -> Tensor:
    """The same mean with each unit deleted in turn: (units,)."""
    kept = sums.sum() - sums.trace() - 2 * (sums.sum(1) - sums.diagonal())
    pairs = (sizes.sum() - sizes) ** 2 - ((sizes**2).sum() - sizes**2)
    return kept / pairs


def jackknife(values: Tensor) -> Tensor:
    """The variance of a score, from its values (units,) with each unit deleted in turn: Efron and Stein 1981."""
    n = len(values)
    return (n - 1) / n * ((values - values.mean()) ** 2).sum()
