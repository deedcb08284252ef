"""Scores of generated faces against real ones, for each density of codes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from faceforge.data.datamodule import FaceData
from faceforge.evaluation import baselines, comparison
from faceforge.evaluation.baselines import Fitting, Sampler
from faceforge.evaluation.judged import Judged, Part, Tick, about
from faceforge.metrics.diversity import diversity
from faceforge.metrics.features import Features
from faceforge.metrics.kid import halves, kid
from faceforge.metrics.precision_recall import precision_recall
from faceforge.metrics.swd import patch_swd
from faceforge.metrics.units import Groups, Score
from faceforge.schemes.abilities import Encodes, Generates, Samples
from faceforge.schemes.base import Scheme
from faceforge.schemes.latent_space import Density, LatentSpace
from faceforge.types import Json

AT_ONCE = 64  # codes decoded at a time
OTHER_PEOPLE, FROM_TRAINING = "real faces of other people", "the run's own training faces"
HALVES = "real faces, half against half"
NEIGHBOURS = ["precision", "recall", "density", "coverage"]
DENSITIES: dict[Density, str] = {
    "prior": "codes from N(0, 1), brought into their range",
    "uniform": "codes from U[0, 1), as published",
    "gaussian": "codes from a normal density, fitted to those of training faces",
    "mixture": "codes from a mixture of normal densities, fitted to those of training faces",
}


def score_generated(module: Generates, judged: Judged, others: Judged, fitting: Fitting, seed: int, tick: Tick) -> Part:
    """Scores of generated against real faces, for each density of codes.

    The verdict is on the density with the lowest KID. Where the run learned from another set (``fitting.data``), its
    faces are a row as well, and half of the real faces against the other half is the floor.
    """
    against = Reals(judged.images(), judged.groups, module.device, seed, tick)
    part = Part()
    kinds = {"model": _samplers(module, fitting.data, seed), "baseline": baselines.samplers(fitting, seed)}
    for kind, rows in kinds.items():
        part.rows += [against.row(row.name, kind, row.sample(len(judged.places))) for row in rows]
        part.how |= {row.name: row.how for row in rows}
    if others.data is not judged.data:
        part.rows += [against.row(FROM_TRAINING, "floor", others.images(), others.groups), against.halves()]
    elif len(others.places):
        part.rows.append(against.row(OTHER_PEOPLE, "floor", others.images(), others.groups))
    part.protocols = against.protocols
    part.reasons = {name: why for name, why in against.reasons.items() if name not in part.protocols}
    models = [row for row in part.rows if row["kind"] == "model"]
    model = min(models, key=_kid_of)  # of densities the best
    part.beats = _flags(part.rows, model)
    said = comparison.sentences(part.rows, model, part.beats)
    part.verdict = [f"{model['name']}: {line}" if len(models) > 1 else line for line in said]
    return part


def _kid_of(row: comparison.Row) -> float:
    """The KID, or infinity if it is missing or not finite."""
    value = row["scores"].get("kid", {}).get("value")
    return math.inf if value is None else value


def row_count(module: Scheme) -> int:
    """The number of rows of generated faces: one from the module's noise, one per density of codes, or none."""
    return len(DENSITIES) if isinstance(module, Encodes) else int(isinstance(module, Samples))


def _samplers(module: Generates, data: FaceData, seed: int) -> list[Sampler]:
    if isinstance(module, Samples):
        return [Sampler("model", "its own noise", lambda count: module.sample(count, seed=seed))]
    assert isinstance(module, Encodes)
    space = LatentSpace.fit(module, data, seed=seed)

    def of(density: Density) -> Callable[[int], Tensor]:
        def sample(count: int) -> Tensor:
            parts = space.sample(density, count, seed).split(AT_ONCE)
            return torch.cat([module.decode(part.to(module.device)).cpu() for part in parts])

        return sample

    return [Sampler(f"model, {density}", how, of(density)) for density, how in DENSITIES.items()]


def _flags(rows: Sequence[comparison.Row], model: comparison.Row) -> dict[str, comparison.Flag]:
    flags: dict[str, comparison.Flag] = {}
    for score, found in model["scores"].items():
        other = comparison.best_baseline(rows, score)
        if other is not None:
            flags[score] = comparison.of_intervals(score, found, other["scores"][score])
    return flags


class Reals:
    """Real faces (N, C, H, W) in [-1, 1] with their features, the reference of all rows; ``groups`` are people."""

    def __init__(
        self,
        images: Tensor,
        groups: Groups,
        device: torch.device,
        seed: int,
        tick: Tick,
        extractor: Features | None = None,
    ) -> None:
        self.images, self.groups, self.device, self.seed, self.tick = images, groups, device, seed, tick
        self.extractor = extractor or Features().to(device)
        self.features = self._features(self.images)
        self.protocols: dict[str, Json] = {}
        self.reasons: dict[str, str] = {}

    def _features(self, images: Tensor) -> Tensor:
        """(N, 1280) on the CPU; an expanded face is computed once."""
        if images.stride(0) == 0:
            self.tick(len(images))
            return self.extractor(images[:1].to(self.device)).cpu().expand(len(images), -1)
        parts = []
        for part in images.split(64):
            parts.append(self.extractor(part.to(self.device)).cpu())
            self.tick(len(part))
        return torch.cat(parts)

    def row(self, name: str, kind: str, images: Tensor, groups: Groups | None = None) -> Json:
        """All scores of images (M, C, H, W) in [-1, 1]."""
        return self._scored(name, kind, images, self._features(images), groups)

    def halves(self) -> Json:
        """The row of one half of these faces against the other, without common people: the floor of any model.

        Its counts are half as large, which matters to all scores but KID and diversity.
        """
        first, second = halves(self.groups, self.seed)
        half = copy.copy(self)
        half.images, half.features, half.groups = self.images[first], self.features[first], self._of(first)
        return half._scored(HALVES, "floor", self.images[second], self.features[second], self._of(second))

    def _of(self, places: Sequence[int]) -> Groups:
        return [self.groups[n] for n in places]

    def _scored(self, name: str, kind: str, images: Tensor, features: Tensor, groups: Groups | None) -> Json:
        who, stamp = self.groups, self.extractor.protocol
        cells = {}
        for names, score in (
            (["kid"], lambda: [kid(self.features, features, who, groups, stamp)]),
            (["diversity"], lambda: [diversity(self.features, features, who, groups, stamp)]),
            (NEIGHBOURS, lambda: precision_recall(self.features, features, who, self.seed, stamp).values()),
            (["swd"], lambda: [self._swd(images)]),
        ):
            try:
                cells.update(zip(names, map(self._cell, names, score()), strict=True))
            except ValueError as error:
                self.reasons.update(dict.fromkeys(names, str(error)))
        return {"name": name, "kind": kind, "table": "generated", "faces": len(images), "scores": cells}

    def _swd(self, images: Tensor) -> Score:
        """The mean over levels, without an interval."""
        levels = patch_swd(self.images, images, seed=self.seed)
        stamp = {"metric": "sliced Wasserstein distance x 1000 of 7x7 patches (Karras et al. 2018), mean over levels"}
        stamp |= {"levels": list(levels), "real": len(self.images), "fake": len(images), "interval": "none"}
        return Score(sum(levels.values()) / len(levels), math.nan, math.nan, stamp)

    def _cell(self, name: str, score: Score) -> dict[str, float | None]:
        self.protocols.setdefault(name, {**about(name), **score.protocol, "seed": self.seed})
        values = (("value", score.value), ("low", score.low), ("high", score.high))
        return {key: value if math.isfinite(value) else None for key, value in values}
