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


def require_units(unit: Tensor) -> None:
    """Raises ValueError below three units, which have no interval."""
    found = int(unit.max()) + 1 if len(unit) else 0
    if found < 3:
        raise ValueError(f"KID and diversity need at least 3 independent images a side, found {found}")


@dataclass(frozen=True)
class Pairs:
    """Sums of a value over the ordered pairs of a set, by the unit of the first of the two (units,).

    ``sums`` are over all pairs, ``inside`` over those within the unit; ``sizes`` are the images of the units.
    """

    sums: Tensor
    inside: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, sums: Tensor, inside: Tensor, unit: Tensor) -> Pairs:
        """From the same sums of each image (N,)."""
        sizes = unit.bincount().double()
        empty = torch.zeros(len(sizes), dtype=sums.dtype)
        return cls(empty.index_add(0, unit, sums), empty.index_add(0, unit, inside), sizes)

    @property
    def mean(self) -> Tensor:
        """Over ordered pairs of different units."""
        return (self.sums - self.inside).sum() / (self.sizes.sum() ** 2 - (self.sizes**2).sum())

    @property
    def means_without(self) -> Tensor:
        """The same mean with each unit deleted in turn: (units,)."""
        apart = self.sums - self.inside
        pairs = (self.sizes.sum() - self.sizes) ** 2 - ((self.sizes**2).sum() - self.sizes**2)
        return (apart.sum() - 2 * apart) / pairs


def jackknife(values: Tensor) -> Tensor:
    """The variance of a score, from its values (units,) with each unit deleted in turn: Efron and Stein 1981."""
    n = len(values)
    return (n - 1) / n * ((values - values.mean()) ** 2).sum()
