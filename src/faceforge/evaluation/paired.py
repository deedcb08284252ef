"""Scores of pictures against the pictures of the same names, for `faceforge score --paired`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faceforge.evaluation.images import image_protocols, image_row
from faceforge.evaluation.judged import MOST, PIXELS, Part
from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.image_scores import ImageScores
from faceforge.metrics.units import Groups


def score_paired(
    part: Part,
    made: Tensor,
    real: Tensor,
    pairs: Sequence[tuple[int, int]],
    people: Groups,
    seed: int,
    device: torch.device,
) -> Part:
    """``part`` with a row of image scores, with intervals over people: pictures ``made`` (N, C, H, W) in [-1, 1]
    against ``real`` ones, at the places of ``pairs``.
    """
    channels, height, width = real.shape[1:]
    scores = ImageScores(channels, height, width, device)
    places = torch.tensor(pairs)
    found: dict[str, list[Tensor]] = {name: [] for name in scores.names}
    for some in places.split(max(1, min(MOST, PIXELS // real[0, 0].numel()))):
        for name, values in scores({"generated": made[some[:, 0]]}, real[some[:, 1]])["generated"].items():
            found[name].append(values)
    groups = [people[n] for n in places[:, 1].tolist()]
    who = Resamples(groups, seed)
    values = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    part.protocols |= image_protocols(scores, who, scores.between_people(groups), seed)
    part.rows.insert(0, image_row("generated", "model", values, who))
    part.reasons |= scores.reasons
    return part
