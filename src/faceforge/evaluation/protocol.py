"""All scores of a run: which faces, which rows, and how each number came about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceforge import counter_rng
from faceforge.evaluation import baselines, comparison
from faceforge.evaluation.baselines import Fitting, Sampler
from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.diversity import diversity
from faceforge.metrics.features import Features
from faceforge.metrics.image_scores import ImageScores
from faceforge.metrics.kid import kid
from faceforge.metrics.precision_recall import precision_recall
from faceforge.metrics.swd import patch_swd
from faceforge.metrics.table import MEASURES
from faceforge.metrics.units import Groups, Score
from faceforge.schemes.latent_space import Density, LatentSpace
from faceforge.schemes.supervised import PairedScheme

GENERATED = 1000  # faces, where nothing else is asked for
PIXELS = 1 << 20  # of targets looked at together
MOST = 256  # faces looked at together
AT_ONCE = 64  # codes decoded together
NEIGHBOURS = ["precision", "recall", "density", "coverage"]
DENSITIES: dict[Density, str] = {
    "prior": "codes from N(0, 1), brought into their range",
    "uniform": "codes from U[0, 1), as published",
    "gaussian": "codes from a normal density, fitted to those of training faces",
    "mixture": "codes from a mixture of normal densities, fitted to those of training faces",
}
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Judged:
    """The faces that scores are of: places within a split, and whose faces they are (None: nobody known)."""

    data: Any
    split: str
    places: np.ndarray
    groups: Groups

    @property
    def people(self) -> int:
        """How many different people, faces of nobody known counting each as one."""
        return len({group for group in self.groups if group}) + sum(group is None for group in self.groups)

    def some(self, count: int, seed: int) -> Judged:
        """At most so many of them, by a keyed choice."""
        if count >= len(self.places):
            return self
        chosen = np.sort(counter_rng.permutation(seed, "evaluate/faces", 0, len(self.places))[:count])
        return Judged(self.data, self.split, self.places[chosen], [self.groups[n] for n in chosen])

    def chunks(self, size: int) -> list[np.ndarray]:
        """Their places, ``size`` at a time."""
        return [self.places[first : first + size] for first in range(0, len(self.places), size)]


@dataclass
class Part:
    """What one kind of scores adds to evaluation.json."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    beats: dict[str, comparison.Flag] = field(default_factory=dict)
    verdict: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def all_faces(data: Any, split: str) -> Judged:
    """The faces of a split."""
    rows = data.rows[split]
    return Judged(data, split, np.arange(len(rows)), [data.people[row] for row in rows])


def other_people(judged: Judged) -> Judged:
    """Faces of people who are not among the judged: of the largest other split, which mostly is the training one."""
    split = max((name for name in judged.data.counts if name != judged.split), key=judged.data.counts.__getitem__)
    pool, known = all_faces(judged.data, split), {group for group in judged.groups if group is not None}
    apart = np.array([n for n, group in enumerate(pool.groups) if group not in known], dtype=np.int64)
    return Judged(pool.data, split, pool.places[apart], [pool.groups[n] for n in apart])


def chunk_size(data: Any) -> int:
    """Faces looked at together: as many as memory takes lightly, whatever their size."""
    return max(1, min(MOST, PIXELS // (data.height * data.width)))


def evaluate(module: Any, judged: Judged, others: Judged, count: int | None, seed: int, tick: Tick) -> Part:
    """Every score that a module can be given.

    ``others`` are faces of other people, for the floor of generated faces. ``tick`` is told of each face that is done.
    """
    fitting = Fitting(judged.data, seed, max(1, chunk_size(judged.data) // 4))
    whole = Part()
    if isinstance(module, PairedScheme):
        _join(whole, score_images(module, judged, fitting, seed, tick))
    if generates(module):
        count = min(count or GENERATED, len(judged.places))
        _join(whole, score_generated(module, judged.some(count, seed), others.some(count, seed), fitting, seed, tick))
    return whole


def work(module: Any, judged: Judged, count: int | None) -> int:
    """How many faces will be ticked off."""
    images = len(judged.places) if isinstance(module, PairedScheme) else 0
    made = generates(module)
    rows = made + 4 if made else 0  # two baselines, real faces, those of other people
    return images + rows * min(count or GENERATED, len(judged.places))


def _join(whole: Part, part: Part) -> None:
    for name, value in vars(part).items():
        if isinstance(value, list):
            getattr(whole, name).extend(value)
        else:
            getattr(whole, name).update(value)


# ------------------------------------------------------------------------------------------ images with a right answer


def score_images(
    module: PairedScheme, judged: Judged, fitting: Fitting, seed: int, tick: Tick, chunk: int | None = None
) -> Part:
    """Errors of a module's outputs and of the baselines', with intervals over people."""
    data = judged.data
    rows, notes = baselines.for_task(data.task, fitting, getattr(module, "latent_size", None))
    scores = ImageScores(data.channels, data.height, data.width, module.device)
    found: dict[str, dict[str, list[Tensor]]] = {}
    for places in judged.chunks(chunk or chunk_size(data)):
        batch = data.pairs(judged.split, places)
        outputs = {"model": predict(module, batch["input"]), **{row.name: row.outputs(batch) for row in rows}}
        for name, values in scores(outputs, batch["target"]).items():
            for score, value in values.items():
                found.setdefault(name, {}).setdefault(score, []).append(value)
        tick(len(places))
    joined = {name: {s: torch.cat(found[name][s]).numpy() for s in scores.names} for name in found}
    who = Resamples(judged.groups, seed)
    part = Part(reasons=dict(scores.reasons), how={row.name: row.how for row in rows}, notes=notes)
    part.rows = [_image_row(name, values, who) for name, values in joined.items()]
    stamp = {"interval": who.protocol, "images": len(judged.places), "people": who.people, "seed": seed}
    part.protocols = {name: {**_about(name), **scores.protocol(name), **stamp} for name in scores.names}
    part.beats = {
        name: flag for name in scores.names if (flag := _paired_flag(part.rows, joined, name, who)) is not None
    }
    part.verdict = comparison.sentences(part.rows, part.rows[0], part.beats)
    return part


def predict(module: PairedScheme, inputs: Tensor) -> Tensor:
    """Outputs (N, C, H, W) on the CPU; one by one where images of a batch would have a say in one another."""
    alone = getattr(module, "test_batch_statistics", False) or getattr(module, "test_dropout", False)
    parts = inputs.split(1 if alone else len(inputs))
    return torch.cat([module.predict(part.to(module.device)).cpu() for part in parts])


def _image_row(name: str, values: Mapping[str, np.ndarray], who: Resamples) -> dict[str, Any]:
    scores = {}
    for score, of_images in values.items():
        low, high = who.interval(of_images) if who.people > 1 else (None, None)
        scores[score] = {"value": float(of_images.mean()), "low": low, "high": high}
    return {"name": name, "kind": "model" if name == "model" else "baseline", "table": "images", "scores": scores}


def _paired_flag(
    rows: Sequence[Mapping[str, Any]], values: Mapping[str, Mapping[str, np.ndarray]], score: str, who: Resamples
) -> comparison.Flag | None:
    other = comparison.best_baseline(rows, score)
    if other is None:
        return None
    gain = values["model"][score] - values[other["name"]][score]
    low, high = who.interval(gain if MEASURES[score].better == "higher" else -gain)
    return comparison.of_gain(low, high) if who.people > 1 else "unclear"


def _about(score: str) -> dict[str, Any]:
    measure = MEASURES[score]
    return {"better": measure.better, **({"unit": measure.unit} if measure.unit else {})}


# --------------------------------------------------------------------------------------------------- generated faces


def score_generated(module: Any, judged: Judged, others: Judged, fitting: Fitting, seed: int, tick: Tick) -> Part:
    """Distances between generated and real faces, for each density that codes can be drawn from.

    The verdict is on the density with the least KID.
    """
    against = Reals(judged, module.device, seed, tick)
    part = Part()
    kinds = {"model": _samplers(module, judged.data, seed), "baseline": baselines.samplers(fitting, seed)}
    for kind, rows in kinds.items():
        part.rows += [against.row(row.name, kind, row.sample(len(judged.places))) for row in rows]
        part.how |= {row.name: row.how for row in rows}
    if len(others.places):
        part.rows.append(against.floor(others))
    part.protocols = against.protocols
    part.reasons = {name: why for name, why in against.reasons.items() if name not in part.protocols}
    models = [row for row in part.rows if row["kind"] == "model"]
    model = min(models, key=_kid_of)  # of densities the best
    part.beats = _flags(part.rows, model)
    said = comparison.sentences(part.rows, model, part.beats)
    part.verdict = [f"{model['name']}: {line}" if len(models) > 1 else line for line in said]
    return part


def _kid_of(row: Mapping[str, Any]) -> float:
    """Infinite where there is none, or none that is a finite number."""
    value = row["scores"].get("kid", {}).get("value")
    return math.inf if value is None else value


def generates(module: Any) -> int:
    """How many rows of faces a module makes: one from its own noise, one for each density of codes, or none."""
    if hasattr(module, "encode"):
        return len(DENSITIES)
    return int(hasattr(module, "sample"))


def _samplers(module: Any, data: Any, seed: int) -> list[Sampler]:
    if not hasattr(module, "encode"):
        return [Sampler("model", "its own noise", lambda count: module.sample(count, seed=seed))]
    space = LatentSpace.fit(module, data, seed=seed)

    def of(density: Density) -> Callable[[int], Tensor]:
        return lambda count: _decoded(module, space.sample(density, count, seed))

    return [Sampler(f"model, {density}", how, of(density)) for density, how in DENSITIES.items()]


def _decoded(module: Any, codes: Tensor) -> Tensor:
    return torch.cat([module.decode(part.to(module.device)).cpu() for part in codes.split(AT_ONCE)])


def _flags(rows: Sequence[Mapping[str, Any]], model: Mapping[str, Any]) -> dict[str, comparison.Flag]:
    flags: dict[str, comparison.Flag] = {}
    for score, found in model["scores"].items():
        other = comparison.best_baseline(rows, score)
        if other is not None:
            flags[score] = comparison.of_intervals(score, found, other["scores"][score])
    return flags


class Reals:
    """Real faces with their features, against which rows of other faces are scored."""

    def __init__(self, judged: Judged, device: torch.device, seed: int, tick: Tick) -> None:
        self.judged, self.device, self.seed, self.tick = judged, device, seed, tick
        self.extractor = Features().to(device)
        self.images = judged.data.images(judged.split, judged.places)
        self.features = self._features(self.images)
        self.protocols: dict[str, dict[str, Any]] = {}
        self.reasons: dict[str, str] = {}

    def _features(self, images: Tensor) -> Tensor:
        """(N, 1280) on the CPU; of one face repeated without a copy only one is computed."""
        if images.stride(0) == 0:
            self.tick(len(images))
            return self.extractor(images[:1].to(self.device)).cpu().expand(len(images), -1)
        parts = []
        for part in images.split(64):
            parts.append(self.extractor(part.to(self.device)).cpu())
            self.tick(len(part))
        return torch.cat(parts)

    def row(self, name: str, kind: str, images: Tensor, groups: Groups | None = None) -> dict[str, Any]:
        """All scores of images (M, C, H, W) in [-1, 1]."""
        features, who, stamp = self._features(images), self.judged.groups, self.extractor.protocol
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
        """The mean over levels; how far other draws of these sizes would lie is not known."""
        levels = patch_swd(self.images, images, seed=self.seed)
        stamp = {"metric": "sliced Wasserstein distance x 1000 of 7x7 patches (Karras et al. 2018), mean over levels"}
        stamp |= {"levels": list(levels), "real": len(self.images), "fake": len(images), "interval": "none"}
        return Score(sum(levels.values()) / len(levels), math.nan, math.nan, stamp)

    def _cell(self, name: str, score: Score) -> dict[str, float | None]:
        self.protocols.setdefault(name, {**_about(name), **score.protocol, "seed": self.seed})
        values = (("value", score.value), ("low", score.low), ("high", score.high))
        return {key: value if math.isfinite(value) else None for key, value in values}

    def floor(self, others: Judged) -> dict[str, Any]:
        """The row of real faces of other people: what a perfect model would reach at the same counts."""
        images = others.data.images(others.split, others.places)
        return self.row("real faces of other people", "floor", images, others.groups)
