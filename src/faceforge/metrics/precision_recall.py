"""Precision, recall, density and coverage from nearest neighbours of features.

Each set is modelled as the union of balls around its points; a ball's radius is the distance of its centre to its k-th
neighbour in the same set (the point itself not counted).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.feature_set import CLOSE, NEAREST, FeatureSet
from faceforge.metrics.units import Groups, Score

K = CLOSE  # of precision and recall, as published
K_DENSITY = NEAREST  # of density and coverage, as published


def precision_recall(
    real: Tensor | FeatureSet,
    fake: Tensor | FeatureSet,
    real_groups: Groups | None = None,
    seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> dict[str, Score]:
    """Precision, recall, density and coverage of features (N, D) and (M, D).

    Kynkaanniemi et al. 2019 (arXiv 1904.06991), eq. 2: precision is the share of fake points in a ball of the real
    set, recall the share of real points in a ball of the fake set. Naeem et al. 2020 (arXiv 2002.09797), eq. 3 and 4:
    density is the number of real balls that contain a fake point, over k (above 1 where fakes cluster); coverage is
    the share of real balls with a fake point inside. All depend on the set sizes: compare only at equal sizes. The
    95 % intervals resample the counted points (real ones by person), not the balls; if all n fall on one side, the
    other end is 3/n away (Hanley and Lippman-Hand 1983). Raises ValueError if a set has no k-th neighbour.
    """
    x, y = FeatureSet.of(real, real_groups), FeatureSet.of(fake)
    counts = x.across(y).counts
    if counts is None:
        raise ValueError(f"{min(len(x), len(y))} faces: each must have {K_DENSITY} neighbours")
    who = {"fake": Resamples([None] * len(y), seed), "real": Resamples(x.groups or [None] * len(x), seed)}
    parts = {
        "precision": (counts.in_first > 0, "fake", K),
        "recall": (counts.in_second > 0, "real", K),
        "density": (counts.crowd / K_DENSITY, "fake", K_DENSITY),
        "coverage": (counts.held > 0, "real", K_DENSITY),
    }
    stamp = {"interval": "95 %, bootstrap, balls as they are", "real": len(x), "fake": len(y), **(protocol or {})}
    return {name: _score(values.double(), of, who[of], {"k": k, **stamp}) for name, (values, of, k) in parts.items()}


def _score(values: Tensor, of: str, who: Resamples, protocol: Mapping[str, Any]) -> Score:
    low, high = who.interval(values.numpy())
    if values.max() == 0:
        high = min(1.0, 3 / who.people)
    elif values.min() == values.max() == 1:
        low = max(0.0, 1 - 3 / who.people)
    return Score(float(values.mean()), low, high, protocol, {of: values})
