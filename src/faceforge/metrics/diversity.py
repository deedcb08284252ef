"""Diversity: how much generated faces differ, relative to real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from faceforge.metrics.feature_set import FeatureSet
from faceforge.metrics.units import Groups, Score, jackknife, require_units


def diversity(
    real: Tensor | FeatureSet,
    fake: Tensor | FeatureSet,
    real_groups: Groups | None = None,
    fake_groups: Groups | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> Score:
    """Mean distance between fake features (M, D) over that between real ones (N, D) of different people.

    1 is ideal; towards 0 all faces are alike. The 95 % interval is +- 1.96 deviations by the jackknife (delete one
    fake face, or one person) and the delta method for a ratio. A FeatureSet has its own groups. Raises ValueError below
    three units per set.
    """
    (fakes, without_fake), (reals, without_real) = _spread(fake, fake_groups), _spread(real, real_groups)
    if reals == 0:
        raise ValueError("the real faces are all the same")
    value = fakes / reals
    fake_variance, real_variance = float(jackknife(without_fake)), float(jackknife(without_real))
    half = 1.96 * (fake_variance / reals**2 + value**2 * real_variance / reals**2) ** 0.5
    stamp = {"metric": "mean Euclidean distance of two, fake over real", "interval": "95 %, jackknife"}
    parts = {"without_real": fakes / without_real - value, "without_fake": without_fake / reals - value}
    return Score(value, value - half, value + half, {**stamp, **(protocol or {})}, parts)


def _spread(features: Tensor | FeatureSet, groups: Groups | None) -> tuple[float, Tensor]:
    """Mean distance between different units, and the same with each unit deleted in turn: (units,)."""
    found = FeatureSet.of(features, groups)
    require_units(found.unit)
    pairs = found.within.distances
    return float(pairs.mean), pairs.means_without
