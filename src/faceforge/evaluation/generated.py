"""Scores of generated faces against real ones, for each density of codes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from faceforge.data.datamodule import FaceData
from faceforge.evaluation import baselines, comparison
from faceforge.evaluation.baselines import Fitting, Sampler
from faceforge.evaluation.judged import Judged, Part, Tick, about
from faceforge.evaluation.kept import Key
from faceforge.evaluation.real_features import RealFaces, RealFeatures, pixel_hash
from faceforge.metrics.diversity import diversity
from faceforge.metrics.feature_set import FeatureSet
from faceforge.metrics.features import Extractor
from faceforge.metrics.fid import fid
from faceforge.metrics.kid import halves, kid
from faceforge.metrics.precision_recall import precision_recall
from faceforge.metrics.swd import PatchSwd
from faceforge.metrics.table import find, full_name
from faceforge.metrics.units import Groups, Score
from faceforge.schemes.abilities import Encodes, Generates, Samples
from faceforge.schemes.base import Scheme
from faceforge.schemes.latent_space import Density, LatentSpace, offered
from faceforge.types import Json

OTHER_PEOPLE, FROM_TRAINING = "real faces of other people", "the run's own training faces"
HALVES = "real faces, half against half"
AT_ONCE = 64  # codes decoded at a time
DISTANCES = (fid, kid, diversity)
METRICS = ("fid", "kid", "diversity", "precision", "recall", "density", "coverage")  # of an extractor's features
DENSITIES: dict[Density, str] = {
    "prior": "codes from N(0, 1), towards which training draws them",
    "uniform": "codes from U[0, 1), as published",
    "gaussian": "codes from a normal density, fitted to those of training faces",
    "mixture": "codes from a mixture of normal densities, fitted to those of training faces",
}


def score_generated(
    module: Generates,
    judged: Judged,
    others: Judged,
    fitting: Fitting,
    seed: int,
    tick: Tick,
    extractors: Sequence[Extractor],
) -> Part:
    """Scores of generated against real faces by each extractor, for each density of codes.

    The verdict is on the density with the lowest KID by the first extractor. Where the run learned from another set
    (``fitting.data``), its faces are a row as well, and half of the real faces against the other half is the floor.
    """
    against = Reals(judged, extractors, module.device, seed, tick)
    part = Part()
    kinds = {"model": _samplers(module, fitting.data, seed), "baseline": baselines.samplers(fitting, seed)}
    for kind, rows in kinds.items():
        part.rows += [against.row(row.name, kind, row.sample(len(judged.places))) for row in rows]
        part.how |= {row.name: row.how for row in rows}
    if others.data is not judged.data:
        part.rows += [against.floor(others, FROM_TRAINING), against.halves()]
        part.notes.append(
            f"{HALVES.capitalize()} are half as many: compare only their KID and diversity with other rows."
        )
    elif len(others.places):
        part.rows.append(against.floor(others))
    part.protocols, part.kept, part.faces = against.protocols, against.kept, {"generated": judged}
    part.reasons = {name: why for name, why in against.reasons.items() if name not in part.protocols}
    models = [row for row in part.rows if row["kind"] == "model"]
    model = min(models, key=_kid_of)  # of densities the best
    part.beats = _flags(part.rows, model)
    said = comparison.sentences(part.rows, model, part.beats)
    part.verdict = [f"{model['name']}: {line}" if len(models) > 1 else line for line in said]
    return part


def _kid_of(row: comparison.Row) -> float:
    """The first KID, or infinity if it is missing or not finite."""
    name = find(row["scores"], "kid")
    value = row["scores"][name]["value"] if name else None
    return math.inf if value is None else value


def row_count(module: Scheme) -> int:
    """The number of rows of generated faces: one from the module's noise, one per density of codes, or none."""
    return len(densities(module)) if isinstance(module, Encodes) else int(isinstance(module, Samples))


def densities(module: Encodes) -> dict[Density, str]:
    """What the codes of generated faces are drawn from, in words."""
    own = offered(module.has_prior, module.code_range)
    return {density: how for density, how in DENSITIES.items() if density in own}


def _samplers(module: Generates, data: FaceData, seed: int) -> list[Sampler]:
    if isinstance(module, Samples):
        return [Sampler("model", "its own noise", lambda count: module.sample(count, seed=seed))]
    assert isinstance(module, Encodes)
    space = LatentSpace.fit(module, data, seed=seed)

    def of(density: Density) -> Callable[[int], Tensor]:
        def sample(count: int) -> Tensor:
            return decoded(module, space.sample(density, count, seed))

        return sample

    return [Sampler(f"model, {density}", how, of(density)) for density, how in densities(module).items()]


def decoded(module: Encodes, codes: Tensor) -> Tensor:
    """Faces (N, C, H, W) in [-1, 1] on the CPU from codes (N, Z)."""
    return torch.cat([module.decode(part.to(module.device)).cpu() for part in codes.split(AT_ONCE)])


def _flags(rows: Sequence[comparison.Row], model: comparison.Row) -> dict[str, comparison.Flag]:
    flags: dict[str, comparison.Flag] = {}
    for score, found in model["scores"].items():
        other = comparison.best_baseline(rows, score)
        if other is not None:
            flags[score] = comparison.of_intervals(score, found, other["scores"][score])
    return flags


class Reals:
    """Real faces with their features by each extractor, the reference of all rows."""

    def __init__(
        self, faces: RealFaces, extractors: Sequence[Extractor], device: torch.device, seed: int, tick: Tick
    ) -> None:
        self.groups, self.device, self.seed, self.tick = faces.groups, device, seed, tick
        self.extractors = {extractor.key: extractor for extractor in extractors}
        self.images = faces.images()
        self._pixels = pixel_hash(self.images)
        self.features = self._of_faces(faces, self.images, self._pixels)
        self._sets: dict[str, FeatureSet] = {}  # of these features, with what scores compute from them alone
        self.faces: RealFaces | None = faces
        self._shares: Tensor | None = None  # of their patches, for patch SWD
        self.protocols: dict[str, Json] = {}
        self.reasons: dict[str, str] = {}
        self.kept: dict[Key, np.ndarray] = {}

    def _of_faces(self, faces: RealFaces, images: Tensor, pixels: str) -> dict[str, Tensor]:
        """The features of real faces, from their file where there is one."""
        found = {}
        for key, extractor in self.extractors.items():
            kept = RealFeatures(faces, images, extractor, self.device.type, pixels)
            values = kept.read()
            if values is None:
                values = self._features(extractor, images)
                kept.write(values)
            else:
                self.tick(len(images))
            found[key] = values
        return found

    def _features(self, extractor: Extractor, images: Tensor) -> Tensor:
        """(N, D) on the CPU; an expanded face is computed once."""
        if images.stride(0) == 0:
            self.tick(len(images))
            return extractor(images[:1].to(self.device)).cpu().expand(len(images), -1)
        parts = []
        for part in images.split(64):
            parts.append(extractor(part.to(self.device)).cpu())
            self.tick(len(part))
        return torch.cat(parts)

    def row(self, name: str, kind: str, images: Tensor) -> Json:
        """All scores of images (M, C, H, W) in [-1, 1]."""
        features = {key: self._features(extractor, images) for key, extractor in self.extractors.items()}
        return self._row(name, kind, images, features, None)

    def floor(self, others: RealFaces, name: str = OTHER_PEOPLE) -> Json:
        """The row of real faces of other people: what a perfect model would reach at equal counts."""
        images = others.images()
        features = self._of_faces(others, images, pixel_hash(images))
        return self._row(name, "floor", images, features, others.groups)

    def halves(self) -> Json:
        """The row of one half of these faces against the other, without common people: the floor of any model.

        Its counts are half as large, which matters to all scores but KID and diversity.
        """
        first, second = halves(self.groups, self.seed)
        half, groups = copy.copy(self), [self.groups[n] for n in second]
        half.images, half.groups = self.images[first], [self.groups[n] for n in first]
        half.faces, half._shares, half._sets = None, None, {}
        half.features = {key: features[first] for key, features in self.features.items()}
        features = {key: features[second] for key, features in self.features.items()}
        return half._row(HALVES, "floor", self.images[second], features, groups)

    def _row(self, name: str, kind: str, images: Tensor, features: Mapping[str, Tensor], groups: Groups | None) -> Json:
        cells: dict[str, Json] = {}
        kept = name if kind != "floor" else None  # its faces are other and more than those that are generated
        for key, fakes in features.items():
            names = [full_name(metric, key) for metric in METRICS]
            cells |= self._scored(kept, names, partial(self._by, key, fakes, groups))
        cells |= self._scored(kept, ["swd"], lambda: _tried(1, lambda: [self._swd(images)]))
        return {"name": name, "kind": kind, "table": "generated", "faces": len(images), "scores": cells}

    def _scored(
        self, row: str | None, names: Sequence[str], scores: Callable[[], Iterable[Score | str]]
    ) -> dict[str, Json]:
        """The cells of some scores; a text in place of one is why it is left out. What single faces contributed to a
        named row is kept.
        """
        cells = {}
        for name, score in zip(names, scores(), strict=True):
            if isinstance(score, Score):
                cells[name] = self._cell(name, score)
                parts = score.parts.items() if row else ()
                self.kept |= {("generated", row or "", name, of): part.numpy() for of, part in parts}
            else:
                self.reasons[name] = score
        return cells

    def _by(self, key: str, fakes: Tensor, groups: Groups | None) -> list[Score | str]:
        """The METRICS of one extractor's features."""
        reals = self._sets.setdefault(key, FeatureSet(self.features[key], self.groups))
        made, stamp = FeatureSet(fakes, groups), self.extractors[key].protocol
        found = [_tried(1, lambda score=score: [score(reals, made, protocol=stamp)]) for score in DISTANCES]
        found.append(_tried(4, lambda: precision_recall(reals, made, seed=self.seed, protocol=stamp).values()))
        return list(chain.from_iterable(found))

    def _swd(self, images: Tensor) -> Score:
        """The mean over levels, without an interval."""
        swd = PatchSwd(self.images.shape[1:], seed=self.seed)
        if self._shares is None:
            kept = RealFeatures(self.faces, self.images, swd, "cpu", self._pixels) if self.faces else None
            compute = partial(swd.shares, self.images)
            self._shares = kept.read_or(compute) if kept else compute()
        levels = swd(self._shares, images)
        stamp = {"metric": "sliced Wasserstein distance x 1000 of 7x7 patches (Karras et al. 2018), mean over levels"}
        stamp |= {
            "normalised": "by channel, sums in float64",
            "levels": list(levels),
            "real": len(self.images),
            "fake": len(images),
            "interval": "none",
        }
        return Score(sum(levels.values()) / len(levels), math.nan, math.nan, stamp)

    def _cell(self, name: str, score: Score) -> dict[str, float | None]:
        self.protocols.setdefault(name, {**about(name), **score.protocol, "seed": self.seed})
        values = (("value", score.value), ("low", score.low), ("high", score.high))
        return {key: value if math.isfinite(value) else None for key, value in values}


def _tried(count: int, scores: Callable[[], Iterable[Score]]) -> list[Score | str]:
    """The scores, or ``count`` times why these faces do not allow them."""
    try:
        return list(scores())
    except ValueError as error:
        return [str(error)] * count
