"""A set of features with what several scores compute from it, computed once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from faceforge.metrics.units import Groups, Pairs, units

BLOCK = 512  # rows of a matrix of pairs at a time
CLOSE, NEAREST = 3, 5  # neighbours that balls reach to, as published; distances to so many are kept


@dataclass(frozen=True)
class Within:
    """Of all pairs within a set: kernels and distances, and each point's distance to its ``nearest`` others.

    ``nearest`` is (N, at most NEAREST), ascending.
    """

    kernels: Pairs
    distances: Pairs
    nearest: Tensor


@dataclass(frozen=True)
class Across:
    """Of all pairs across two sets: for each point, of the first set (N,) and of the second (M,), the sum of kernels.

    A ball around a point reaches to a neighbour in its own set. ``in_second`` (N,) and ``in_first`` (M,) count the
    balls around the third neighbour of the other set that a point lies in; ``crowd`` (M,) those around the fifth of the
    first set, and ``held`` (N,) the points in each of these. The counts are None where a set lacks five neighbours.
    """

    kernels: tuple[Tensor, Tensor]
    counts: Counts | None


@dataclass(frozen=True)
class Counts:
    """See Across."""

    in_first: Tensor
    in_second: Tensor
    crowd: Tensor
    held: Tensor


class FeatureSet:
    """Features (N, D), in float64 on the CPU, and the units that they come from (one ``group`` an image, or None).

    Scores take it in place of features, so that what they share is computed once: for all scores of two sets, and for
    real faces that many sets are compared with. The kernel is that of KID, (x.y / D + 1)^3.
    """

    def __init__(self, features: Tensor, groups: Groups | None = None) -> None:
        """Raises ValueError unless there are as many groups as features."""
        self.values, self.groups = features.detach().cpu().double(), groups
        self.unit = units(groups, len(self.values))
        self._last: tuple[FeatureSet, Across] | None = None

    @classmethod
    def of(cls, features: Tensor | FeatureSet, groups: Groups | None = None) -> FeatureSet:
        """The set itself, with its own groups, or that of features."""
        return features if isinstance(features, FeatureSet) else cls(features, groups)

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def mean(self) -> Tensor:
        """(D,)."""
        return self.values.mean(0)

    @cached_property
    def centred(self) -> Tensor:
        """(N, D)."""
        return self.values - self.mean

    @cached_property
    def root(self) -> Tensor:
        """(min(N, D), D): root^T root is the covariance, over n - 1."""
        return torch.linalg.qr(self.centred / (len(self) - 1) ** 0.5, mode="r")[1]

    @cached_property
    def within(self) -> Within:
        """What scores need of the pairs of this set."""
        sums: list[list[Tensor]] = [[], [], [], []]
        nearest = []
        for first in range(0, len(self), BLOCK):
            rows = slice(first, first + BLOCK)
            apart = self.unit[rows, None] != self.unit
            kernels, distances = self._pairs(self, rows)
            nearest.append(distances.topk(min(NEAREST + 1, len(self)), largest=False).values[:, 1:])
            for n, pairs in enumerate((kernels, distances)):
                sums[2 * n].append(pairs.sum(1))
                sums[2 * n + 1].append(pairs.masked_fill_(apart, 0).sum(1))
        kernel, own_kernel, distance, own_distance = (torch.cat(parts) for parts in sums)
        return Within(
            Pairs.of(kernel, own_kernel, self.unit), Pairs.of(distance, own_distance, self.unit), torch.cat(nearest)
        )

    def across(self, other: FeatureSet) -> Across:
        """What scores need of the pairs of this set and another; the last answer is kept."""
        if self._last is None or self._last[0] is not other:
            self._last = (other, self._across(other))
        return self._last[1]

    def _across(self, other: FeatureSet) -> Across:
        counted = min(len(self), len(other)) > NEAREST
        sums, over = torch.zeros(len(other), dtype=torch.float64), []
        in_first, crowd = torch.zeros(2, len(other), dtype=torch.int64)
        in_second, held = [], []
        for first in range(0, len(self), BLOCK):
            rows = slice(first, first + BLOCK)
            kernels, distances = self._pairs(other, rows)
            over.append(kernels.sum(1))
            sums += kernels.sum(0)
            if counted:
                close, wide = (self.within.nearest[rows, k - 1, None] for k in (CLOSE, NEAREST))
                in_first += (distances <= close).sum(0)
                in_second.append((distances <= other.within.nearest[:, CLOSE - 1]).sum(1))
                inside = distances <= wide
                crowd += inside.sum(0)
                held.append(inside.sum(1))
        counts = Counts(in_first, torch.cat(in_second), crowd, torch.cat(held)) if counted else None
        return Across((torch.cat(over), sums), counts)

    def _pairs(self, other: FeatureSet, rows: slice) -> tuple[Tensor, Tensor]:
        """Kernels and distances of some points of this set and all of the other."""
        some = self.values[rows]
        products = some @ other.values.T
        squares = (some**2).sum(1)[:, None] + (other.values**2).sum(1)
        distances = torch.add(squares, products, alpha=-2).clamp_(min=0).sqrt_()
        base = products.div_(some.shape[1]).add_(1)
        return base * base.square(), distances
