"""Frechet inception distance with a jackknife interval, exact also with fewer images than features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faceforge.metrics.feature_set import FeatureSet
from faceforge.metrics.units import Groups, Score, jackknife, require_units

NODES = 96  # of the integral over deletions: exact to eleven digits
LEAST = 1e-30  # of a determinant, which is nothing where a deletion takes a dimension away
SMALL = 12  # images of a unit, up to which products of each two are faster than a matrix for each node
BLOCK = 2**24  # numbers in memory at a time


def fid(
    real: Tensor | FeatureSet,
    fake: Tensor | FeatureSet,
    real_groups: Groups | None = None,
    fake_groups: Groups | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> Score:
    """Frechet distance of normal densities fitted to features (N, D) and (M, D): Heusel et al. 2017, eq. 6, float64.

    |m - m'|^2 + tr C + tr C' - 2 tr (C C')^(1/2), covariances over n - 1. The last trace is the sum of the singular
    values of A B^T, where A^T A = C and B^T B = C', so there is no root of a matrix, nothing imaginary, and n < D is
    no special case. The value is biased upwards by a term that shrinks as 1/n (Chong and Forsyth 2020, arXiv
    1911.07023) and is large for n < D: compare only at equal set sizes.

    The 95 % interval is value +- 1.96 jackknife deviations, deleting one image (or all of a person, with groups: one
    label per image, None for its own) of either set at a time, each deletion computed exactly. It covers the value
    that other samples of these sizes would have, bias included; not other trainings, and not the value of endless
    samples. A FeatureSet has its own groups. Raises ValueError below three units per set.
    """
    x, y = FeatureSet.of(real, real_groups), FeatureSet.of(fake, fake_groups)
    for one in (x, y):
        require_units(one.unit)
    left, spectrum, right = torch.linalg.svd(x.root @ y.root.T, full_matrices=False)
    gap, roots = x.mean - y.mean, float(spectrum.sum())
    value = float(gap @ gap) + _trace(x) + _trace(y) - 2 * roots
    without_x = _without(x, y, gap, spectrum, right.T, roots)
    without_y = _without(y, x, -gap, spectrum, left, roots)
    half = 1.96 * float((jackknife(without_x) + jackknife(without_y)).sqrt())
    stamp: dict[str, Any] = {"metric": "fid, float64, covariances over n - 1", "interval": "95 %, jackknife, exact"}
    stamp |= {"real": len(x), "fake": len(y)}
    if min(len(x), len(y)) <= len(x.mean):
        stamp["caution"] = f"fewer images than the {len(x.mean)} features: biased upwards by much"
    if x.groups is not None or y.groups is not None:
        stamp["units"] = f"{len(without_x)} and {len(without_y)} groups"
    parts = {"without_real": without_x - value, "without_fake": without_y - value}
    return Score(value, value - half, value + half, {**stamp, **(protocol or {})}, parts)


def _trace(of: FeatureSet) -> float:
    """Of the covariance."""
    return float((of.root**2).sum())


def _without(one: FeatureSet, other: FeatureSet, gap: Tensor, spectrum: Tensor, basis: Tensor, roots: float) -> Tensor:
    """The distance with each unit of ``one`` deleted in turn: (units,). ``gap`` is the difference of the means.

    Deleting a unit takes a few outer products v v^T from the scatter of ``one``, so it takes w w^T, w = B v, from the
    matrix M whose root's trace is in the distance. As a root of t is an integral over s of t / (t + s^2),
    tr M^(1/2) changes by 1/pi times the integral over s > 0 of log det(1 - W^T (M + s^2)^-1 W).
    """
    n, found = len(one), one.mean.new_empty(int(one.unit.max()) + 1)
    own, others = _trace(one), _trace(other)
    rows = torch.argsort(one.unit, stable=True).split(one.unit.bincount().tolist())
    for size in sorted({len(members) for members in rows}):
        which = [u for u, members in enumerate(rows) if len(members) == size]
        left = n - size
        if left < 2:
            raise ValueError(f"{size} of {n} images are of one person: FID needs two others")
        for part in torch.tensor(which).split(max(1, BLOCK // (size**2 * max(one.centred.shape[1], NODES)))):
            v = one.centred[torch.stack([rows[u] for u in part])]  # (units, size, D)
            sums = v.sum(1)
            moved = gap - sums / left
            # the deleted unit's scatter around the mean of the others, in as many outer products as it has images
            v = v + (((n / left) ** 0.5 - 1) / size) * sums[:, None]
            trace = (own * (n - 1) - (v**2).sum((1, 2))) / (left - 1)
            w = v @ (other.root.T @ basis) / (n - 1) ** 0.5
            changed = (roots + _change(spectrum**2, w)) * ((n - 1) / (left - 1)) ** 0.5
            found[part] = (moved**2).sum(1) + trace + others - 2 * changed
    return found


def _change(eigenvalues: Tensor, w: Tensor) -> Tensor:
    """tr (M - W^T W)^(1/2) - tr M^(1/2), M diagonal with these eigenvalues (K,), for each W (size, K): (units,)."""
    top = float(eigenvalues.max())
    if top == 0:
        return w.new_zeros(len(w))
    ends = torch.tensor([1e-9, 1e7], dtype=w.dtype) * top**0.5
    logs = torch.linspace(float(ends[0].log()), float(ends[1].log()), NODES, dtype=w.dtype)
    s = logs.exp()
    inverse = 1 / (eigenvalues[:, None] + s**2)  # (K, nodes)
    if w.shape[1] == 1:
        rest = (1 - (w[:, 0] ** 2) @ inverse).clamp(min=LEAST).log()  # (units, nodes)
    else:
        rest = torch.linalg.eigvalsh(_ones_minus(w, inverse)).clamp(min=LEAST).log().sum(-1)
    tail = (w**2).sum((1, 2)) / s[-1]  # beyond the last node the logarithm is -|w|^2 / s^2
    return (torch.trapezoid(rest * s, logs) - tail) / torch.pi


def _ones_minus(w: Tensor, inverse: Tensor) -> Tensor:
    """1 - W (M + s^2)^-1 W^T of each unit at each node: (units, nodes, size, size)."""
    units, size, _ = w.shape
    one = torch.eye(size, dtype=w.dtype)
    if size > SMALL:
        return one - torch.stack([(w * column) @ w.transpose(1, 2) for column in inverse.T], 1)
    first, second = torch.triu_indices(size, size)
    whole = one.repeat(units, inverse.shape[1], 1, 1)
    whole[:, :, first, second] -= ((w[:, first] * w[:, second]) @ inverse).transpose(1, 2)
    whole[:, :, second, first] = whole[:, :, first, second]
    return whole
