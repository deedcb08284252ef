"""Scores of pictures against the pictures of the same names, for `faceforge score --paired`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faceforge.evaluation.judged import MOST, PIXELS, Part, about
from faceforge.metrics import identity
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
    cells = {}
    for name, parts in found.items():
        values = torch.cat(parts).numpy()
        low, high = who.interval(values) if who.people > 1 else (None, None)
        cells[name] = {"value": float(values.mean()), "low": low, "high": high}
        stamp = {"interval": who.protocol, "images": len(values), "people": who.people, "seed": seed}
        part.protocols[name] = {**about(name), **scores.protocol(name), **stamp}
    for name in identity.HOW.keys() & cells.keys():
        part.protocols[name]["between_people"] = scores.between_people(groups)
    part.rows.insert(0, {"name": "generated", "kind": "model", "table": "images", "scores": cells})
    part.reasons |= scores.reasons
    return part
