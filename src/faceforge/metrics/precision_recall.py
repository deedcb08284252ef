"""Precision, recall, density and coverage from nearest neighbours of features.

Each set is modelled as the union of balls around its points; a ball's radius is the distance of its centre to its k-th
neighbour in the same set (the point itself not counted).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.units import Groups, Score

K = 3  # of precision and recall, as published
K_DENSITY = 5  # of density and coverage, as published
BLOCK = 1024


def precision_recall(
    real: Tensor,
    fake: Tensor,
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
    x, y = real.detach().cpu().double(), fake.detach().cpu().double()
    if min(len(x), len(y)) <= K_DENSITY:
        raise ValueError(f"{min(len(x), len(y))} faces: each must have {K_DENSITY} neighbours")
    (close, wide), (around_fake,) = radii(x, K, K_DENSITY), radii(y, K)
    in_real, in_fake, crowd, held = hits(x, y, close, around_fake, wide)
    who = {"fake": Resamples([None] * len(y), seed), "real": Resamples(real_groups or [None] * len(x), seed)}
    parts = {
        "precision": (in_real > 0, "fake", K),
        "recall": (in_fake > 0, "real", K),
        "density": (crowd / K_DENSITY, "fake", K_DENSITY),
        "coverage": (held > 0, "real", K_DENSITY),
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


def radii(points: Tensor, *ks: int) -> list[Tensor]:
    """Distance of each point (N, D) to its k-th neighbour among the others, for each k: (N,) each."""
    parts = [torch.cdist(part, points).topk(max(ks) + 1, largest=False).values for part in points.split(BLOCK)]
    return [torch.cat([part[:, k] for part in parts]) for k in ks]


def hits(
    real: Tensor, fake: Tensor, close: Tensor, around_fake: Tensor, wide: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """In how many balls each point (M, D) or (N, D) lies, and how many fake points each wide ball holds.

    In order: fake points in real balls of radius ``close`` (M,), real points in fake balls (N,), fake points in real
    balls of radius ``wide`` (M,), and what the wide balls hold (N,).
    """
    in_real, crowd = [], []
    in_fake, held = (torch.zeros(len(real), dtype=torch.int64) for _ in range(2))
    for part, radius in zip(fake.split(BLOCK), around_fake.split(BLOCK), strict=True):
        distances = torch.cdist(part, real)
        in_real.append((distances <= close).sum(1))
        in_fake += (distances <= radius[:, None]).sum(0)
        inside = distances <= wide
        crowd.append(inside.sum(1))
        held += inside.sum(0)
    return torch.cat(in_real), in_fake, torch.cat(crowd), held
